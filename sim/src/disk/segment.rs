//! Segments: a file mapped by one writer and many readers.
//!
//! A store into a mapping has no error to return: without a block for its page, with an unreadable sector under it, or on a
//! read-only file system the process gets SIGBUS. A death inside an append leaves a random subset of its 8-byte words in the
//! cache, which outlives the process.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotfire_core::runtime::{Backing, Runtime, SegmentReader, SegmentWriter};

use super::file::{flush, read, redirty};
use super::page_cache::pages_of;
use super::storage::{Cost, Handle};
use super::view::{Mapping, SimView};
use crate::cluster::{StepCut, StepDeath};
use crate::seed::hash_bytes;

/// How often a truncation looks whether the views are gone.
const VIEW_CHECK: Duration = Duration::from_millis(1);

/// The one writer of a segment.
pub struct SimSegmentWriter {
    handle: Arc<Handle>,
    read_only: bool,
    mapping: Arc<Mapping>,
    written: usize,
    /// With [`Backing::Pooled`]: what was appended and not committed, starting at the published position.
    pool: Option<Vec<u8>>,
    scratch: Vec<u8>,
}

/// While it lives, a call into the runtime is an assertion.
struct Filling<'a>(&'a crate::world::World);

impl<'a> Filling<'a> {
    fn begin(world: &'a crate::world::World) -> Filling<'a> {
        world.0.filling.store(true, Ordering::Relaxed);
        Filling(world)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.0.filling.store(false, Ordering::Relaxed);
    }
}

impl SimSegmentWriter {
    pub(super) fn new(
        handle: Arc<Handle>,
        capacity: usize,
        written: usize,
        backing: Backing,
    ) -> SimSegmentWriter {
        let pool = (backing == Backing::Pooled).then(Vec::new);
        SimSegmentWriter {
            handle,
            read_only: backing == Backing::ReadOnly,
            mapping: Mapping::new(capacity, written),
            written,
            pool,
            scratch: Vec::new(),
        }
    }

    /// Stores bytes at `offset` of the mapping, or only some words of them when the process ends in the middle.
    fn store(&self, offset: u64, bytes: &[u8], death: Option<StepDeath>) {
        let runtime = &self.handle.runtime;
        let inside = death.filter(|death| death.cut == StepCut::Inside);
        let stored = {
            let mut inner = runtime.world().lock();
            match inside {
                None => inner.store_bytes(runtime.node(), self.handle.inode, offset, bytes),
                Some(mut death) => {
                    // Half of the time the stores that were made are the first ones, else any.
                    let (in_order, words) = (death.draws.chance(0.5), bytes.len().div_ceil(8) as u64);
                    let done = death.draws.below(words + 1);
                    let mut result = Ok(());
                    for (index, word) in bytes.chunks(8).enumerate() {
                        let index = index as u64;
                        if if in_order { index < done } else { death.draws.chance(0.5) } {
                            let at = offset + index * 8;
                            result =
                                result.and(inner.store_bytes(runtime.node(), self.handle.inode, at, word));
                        }
                    }
                    result
                }
            }
        };
        if let Some(death) = death {
            runtime.die_in_step(death);
        }
        if stored.is_err() {
            runtime.bus_error();
        }
    }

    /// Bytes of the mapping, for the writer itself.
    fn load(&mut self, offset: usize, len: usize) {
        self.scratch.clear();
        self.scratch.resize(len, 0);
        if read(&self.handle, offset as u64, &mut self.scratch).is_err() && self.handle.runtime.is_alive() {
            self.handle.runtime.bus_error();
        }
    }

    fn step(&self, kind: &'static str, content: u64) -> Option<Option<StepDeath>> {
        match self.handle.runtime.step(kind, content)? {
            Ok(()) => Some(None),
            Err(death) if death.cut == StepCut::Before => self.handle.runtime.die_in_step(death),
            Err(death) => Some(Some(death)),
        }
    }
}

impl Drop for SimSegmentWriter {
    fn drop(&mut self) {
        let runtime = &self.handle.runtime;
        let Some(mut inner) = runtime.world().lock_in_drop() else { return };
        if inner.alive(runtime.node(), runtime.incarnation()) {
            inner.disk(runtime.node()).inode(self.handle.inode).has_writer = false;
        }
    }
}

impl SegmentWriter for SimSegmentWriter {
    type Reader = SimSegmentReader;

    fn reader(&self) -> SimSegmentReader {
        SimSegmentReader { handle: self.handle.clone(), mapping: self.mapping.clone() }
    }

    fn capacity(&self) -> usize {
        self.mapping.capacity
    }

    fn written(&self) -> usize {
        self.written
    }

    fn append<T>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let room = if self.read_only { 0 } else { self.mapping.capacity - self.written };
        if len > room || !self.handle.runtime.is_alive() {
            return None;
        }
        if let Some(pool) = &mut self.pool {
            let start = pool.len();
            pool.resize(start + len, 0);
            let filling = Filling::begin(self.handle.runtime.world());
            let result = fill(&mut pool[start..]);
            drop(filling);
            self.written += len;
            return Some(result);
        }
        self.load(self.written, len);
        let mut scratch = std::mem::take(&mut self.scratch);
        let filling = Filling::begin(self.handle.runtime.world());
        let result = fill(&mut scratch);
        drop(filling);
        let death = self.step("disk.append", hash_bytes(self.written as u64, &scratch))?;
        self.store(self.written as u64, &scratch, death);
        self.scratch = scratch;
        self.written += len;
        self.mapping.publish(self.written);
        Some(result)
    }

    fn advance(&mut self, len: usize) {
        assert!(
            len <= self.mapping.capacity - self.written,
            "{len} bytes past {} of {}",
            self.written,
            self.mapping.capacity
        );
        if self.pool.is_some() {
            self.load(self.written, len);
            let bytes = std::mem::take(&mut self.scratch);
            if let Some(pool) = &mut self.pool {
                pool.extend_from_slice(&bytes);
            }
            self.scratch = bytes;
            self.written += len;
        } else {
            self.written += len;
            self.mapping.publish(self.written);
        }
    }

    fn commit(&mut self, upto: usize) -> io::Result<()> {
        let Some(pool) = &mut self.pool else { return Ok(()) };
        let from = self.mapping.published();
        let upto = upto.min(self.written);
        if upto <= from {
            return Ok(());
        }
        let runtime = self.handle.runtime.clone();
        let bytes = &pool[..upto - from];
        let death = match runtime.step("disk.commit", hash_bytes(from as u64, bytes)) {
            None => return Ok(()),
            Some(Ok(())) => None,
            Some(Err(death)) if death.cut == StepCut::Before => runtime.die_in_step(death),
            Some(Err(death)) => Some(death),
        };
        let part = match death {
            Some(mut death) if death.cut == StepCut::Inside => {
                death.draws.below(bytes.len() as u64 + 1) as usize
            }
            _ => bytes.len(),
        };
        let stored = runtime.world().lock().store_bytes(
            runtime.node(),
            self.handle.inode,
            from as u64,
            &bytes[..part],
        );
        if let Some(death) = death {
            runtime.die_in_step(death);
        }
        stored.map_err(io::Error::from)?;
        pool.drain(..upto - from);
        self.mapping.publish(upto);
        Ok(())
    }

    fn redirty(&mut self, range: Range<usize>) {
        assert!(!self.read_only, "nobody makes pages dirty that are only read");
        let result = redirty(&self.handle, range.start as u64..range.end as u64);
        if result.is_err() && self.handle.runtime.is_alive() {
            self.handle.runtime.bus_error();
        }
    }

    async fn truncate(&mut self, to: usize, patience: Duration) -> io::Result<()> {
        if to > self.written {
            let text = format!("truncate to {to} of {}", self.written);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let runtime = self.handle.runtime.clone();
        let deadline = runtime.now().after(patience);
        while self.mapping.is_viewed_beyond(to as u64) {
            if runtime.now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            runtime.sleep(VIEW_CHECK).await;
        }
        let Some(death) = self.step("disk.truncate", to as u64) else { return std::future::pending().await };
        let end = self.mapping.capacity as u64;
        let zeroed = {
            let mut inner = runtime.world().lock();
            let disk = runtime.writable_disk(&mut inner)?;
            // A death in the middle leaves some pages as they were.
            let kept = match death {
                Some(mut death) if death.cut == StepCut::Inside => death.draws.u64(),
                _ => 0,
            };
            let zeroed = disk.with_blocks(self.handle.inode, |file, _| {
                file.zero(to as u64, end, |page| kept & 1 << (page % 64) != 0)
            });
            inner.arm_writeback(runtime.node());
            zeroed
        };
        if let Some(death) = death {
            runtime.die_in_step(death);
        }
        if zeroed.is_err() {
            runtime.bus_error();
        }
        if let Some(pool) = &mut self.pool {
            pool.truncate(to.saturating_sub(self.mapping.published()));
        }
        self.written = to;
        if to < self.mapping.published() {
            self.mapping.cut(to as u64);
        }
        flush(&self.handle, "disk.flush_segment", to as u64..end).await
    }
}

/// Reads and flushes a segment.
#[derive(Clone)]
pub struct SimSegmentReader {
    handle: Arc<Handle>,
    mapping: Arc<Mapping>,
}

impl SegmentReader for SimSegmentReader {
    type View = SimView;

    fn written(&self) -> usize {
        self.mapping.published()
    }

    fn capacity(&self) -> usize {
        self.mapping.capacity
    }

    fn view(&self, offset: usize, len: usize) -> io::Result<SimView> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        if end > self.mapping.published() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = vec![0; len];
        read(&self.handle, offset as u64, &mut bytes)?;
        Ok(SimView::new(&self.mapping, offset as u64, bytes))
    }

    async fn flush(&self, range: Range<usize>) -> io::Result<()> {
        let end = range.end.min(self.mapping.capacity);
        let range = range.start.min(end) as u64..end as u64;
        flush(&self.handle, "disk.flush_segment", range).await
    }

    async fn prefault(&self, range: Range<usize>) -> io::Result<()> {
        let runtime = &self.handle.runtime;
        let end = range.end.min(self.mapping.capacity);
        let pages = pages_of(range.start.min(end) as u64..end as u64);
        runtime
            .slow_step("disk.prefault", pages.len() as u64, Cost::Lookup, |inner| {
                let disk = runtime.writable_disk(inner)?;
                disk.with_blocks(self.handle.inode, |file, free| {
                    pages.clone().try_for_each(|page| file.allocate(page, free))
                })
                .map_err(io::Error::from)
            })
            .await
    }

    async fn read_ahead(&self, range: Range<usize>) -> io::Result<()> {
        let end = range.end.min(self.mapping.capacity);
        let mut bytes = vec![0; end.saturating_sub(range.start)];
        read(&self.handle, range.start as u64, &mut bytes)
    }

    fn live_views(&self) -> usize {
        self.mapping.live_views()
    }
}

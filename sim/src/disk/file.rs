//! A file read and written at any place, through the page cache.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use hotfire_core::runtime::{Allocation, File};

use super::storage::{Cost, Handle};
use crate::cluster::StepCut;
use crate::runtime::SimRuntime;
use crate::seed::hash_bytes;

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

/// Waits for a flush of the file; shared with segments.
pub(super) async fn flush(handle: &Handle, kind: &'static str, range: Range<u64>) -> io::Result<()> {
    let runtime = &handle.runtime;
    let death = match runtime.step(kind, hash_bytes(range.start, &range.end.to_le_bytes())) {
        None => return std::future::pending().await,
        Some(Ok(())) => None,
        Some(Err(death)) if death.cut == StepCut::Before => runtime.die_in_step(death),
        Some(Err(death)) => Some(death),
    };
    let number = runtime.world().lock().begin_flush(runtime.node(), handle.inode, range)?;
    if let Some(death) = death
        && death.cut == StepCut::Inside
    {
        // The kernel goes on with it, unless it is the host that dies.
        runtime.die_in_step(death);
    }
    let waiting = Waiting { runtime, number };
    let result = poll_fn(|context| {
        let mut inner = runtime.world().lock();
        if !inner.alive(runtime.node(), runtime.incarnation()) {
            return Poll::Pending;
        }
        match inner.poll_flush(runtime.node(), waiting.number, context.waker()) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    })
    .await;
    if let Some(death) = death {
        runtime.die_in_step(death);
    }
    result
}

/// A flush somebody waits for; when dropped, the flush goes on and its result is kept for the next one.
struct Waiting<'a> {
    runtime: &'a SimRuntime,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut inner) = self.runtime.world().lock_in_drop() else { return };
        if !inner.alive(self.runtime.node(), self.runtime.incarnation()) {
            return;
        }
        let disk = inner.disk(self.runtime.node());
        if let Some(flight) = disk.flights.get_mut(&self.number) {
            flight.waited_for = false;
            flight.waker = None;
        }
        disk.landed.remove(&self.number);
    }
}

/// Reads through the cache; shared with segments.
pub(super) fn read(handle: &Handle, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let runtime = &handle.runtime;
    let mut inner = runtime.world().lock();
    if !inner.alive(runtime.node(), runtime.incarnation()) {
        return Err(dead());
    }
    let result = inner.disk(runtime.node()).inode(handle.inode).read(offset, into);
    if result.is_err() {
        inner.trace("disk.unreadable", runtime.node(), handle.inode, offset);
        inner.count("disk.unreadable");
    }
    result.map_err(io::Error::from)
}

/// Marks pages dirty; shared with segments.
pub(super) fn redirty(handle: &Handle, range: Range<u64>) -> io::Result<()> {
    let runtime = &handle.runtime;
    match runtime.step("disk.redirty", hash_bytes(range.start, &range.end.to_le_bytes())) {
        None => return Err(dead()),
        Some(Ok(())) => {}
        Some(Err(death)) => runtime.die_in_step(death),
    }
    let mut inner = runtime.world().lock();
    let disk = runtime.writable_disk(&mut inner)?;
    let len = disk.inode(handle.inode).len;
    let range = range.start.min(len)..range.end.min(len);
    let result = disk.with_blocks(handle.inode, |file, free| file.redirty(range, free));
    inner.arm_writeback(runtime.node());
    result.map_err(io::Error::from)
}

/// An open file.
#[derive(Clone)]
pub struct SimFile {
    handle: Arc<Handle>,
    read_only: bool,
}

impl SimFile {
    pub(super) fn new(handle: Arc<Handle>, read_only: bool) -> SimFile {
        SimFile { handle, read_only }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let runtime = &self.handle.runtime;
        let mut inner = runtime.world().lock();
        if !inner.alive(runtime.node(), runtime.incarnation()) {
            return Err(dead());
        }
        Ok(inner.disk(runtime.node()).inode(self.handle.inode).len)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(into.len() as u64);
        if end > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let runtime = &self.handle.runtime;
        let mut inner = runtime.world().lock();
        if inner.disk(runtime.node()).read_fails(self.handle.inode, offset..end) {
            inner.trace("disk.read_failed", runtime.node(), self.handle.inode, offset);
            inner.count("disk.read_failed");
            return Err(io::Error::other("input/output error"));
        }
        drop(inner);
        read(&self.handle, offset, into)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        let runtime = &self.handle.runtime;
        let death = match runtime.step("disk.write", hash_bytes(offset, from)) {
            None => return Err(dead()),
            Some(Ok(())) => None,
            Some(Err(death)) if death.cut == StepCut::Before => runtime.die_in_step(death),
            Some(Err(death)) => Some(death),
        };
        // Inside: a first part of the bytes got into the cache.
        let part = match death {
            Some(mut death) if death.cut == StepCut::Inside => {
                death.draws.below(from.len() as u64 + 1) as usize
            }
            _ => from.len(),
        };
        let result = {
            let mut inner = runtime.world().lock();
            let stored = inner.store_bytes(runtime.node(), self.handle.inode, offset, &from[..part]);
            let file = inner.disk(runtime.node()).inode(self.handle.inode);
            let end = offset + part as u64;
            if stored.is_ok() && part > 0 && end > file.len {
                file.set_len(end).expect("a file that grows reads nothing");
            }
            stored
        };
        if let Some(death) = death {
            runtime.die_in_step(death);
        }
        result.map_err(io::Error::from)
    }

    async fn set_len(&self, len: u64, allocation: Allocation) -> io::Result<()> {
        self.check_writable()?;
        let runtime = &self.handle.runtime;
        let content = hash_bytes(self.handle.inode, &len.to_le_bytes());
        runtime
            .slow_step("disk.set_len", content, Cost::Change, |inner| {
                let wall_ms = inner.wall_ms(runtime.node());
                let disk = runtime.writable_disk(inner)?;
                disk.with_blocks(self.handle.inode, |file, free| {
                    file.grow(len, allocation, free)?;
                    file.modified_ms = wall_ms;
                    Ok(())
                })
                .map_err(io::Error::from)
            })
            .await
    }

    async fn flush(&self, range: Range<u64>) -> io::Result<()> {
        flush(&self.handle, "disk.flush_file", range).await
    }

    fn redirty(&self, range: Range<u64>) -> io::Result<()> {
        self.check_writable()?;
        redirty(&self.handle, range)
    }
}

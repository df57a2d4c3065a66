//! Writers and readers of segments: the pool, flush, truncate.
//!
//! # What a flush does
//! `msync(MS_SYNC)` of the pages in the range. On Linux that is the kernel's `vfs_fsync_range` with `datasync`: it writes
//! and awaits the dirty pages of this range only, then commits what the file system needs to find them, the length
//! included, and flushes the disk's cache. `fdatasync` does the same for the whole file, so it would also write all the
//! zeros that `prefault` made dirty ahead of the tail. POSIX does not promise the length, so the first flush of each
//! opened segment is followed by one `fdatasync`; before `prefault` makes pages dirty for the first time, it does that
//! instead, when there is little to write.
//!
//! # Errors of a flush
//! The kernel reports a page that could not be written once per open file, whichever range was asked for, and then holds
//! the page as clean. So flushes of one segment run one after the other, and the first error makes all later ones fail:
//! of two at the same time, one could otherwise consume the error of the other's pages.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hotfire_core::runtime::storage;

use crate::blocking;
use crate::mmap::{Map, PAGE, Tail, View};

/// Between two looks at the views that a truncation waits for. Views live for microseconds and truncations are rare, so
/// the drop of a view stays one subtraction and wakes nobody.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Default)]
struct FlushState {
    length_is_durable: bool,
    has_failed: bool,
}

#[derive(Default)]
struct Flusher(Mutex<FlushState>);

impl Flusher {
    fn flush(&self, map: &Map, range: Range<usize>) -> io::Result<()> {
        self.run(|state| {
            map.flush(range)?;
            // On macOS msync does not reach the disk; `sync_data` does.
            if !state.length_is_durable || cfg!(target_os = "macos") {
                map.file().sync_data()?;
                state.length_is_durable = true;
            }
            Ok(())
        })
    }

    fn make_length_durable(&self, map: &Map) -> io::Result<()> {
        self.run(|state| {
            if !state.length_is_durable {
                map.file().sync_data()?;
                state.length_is_durable = true;
            }
            Ok(())
        })
    }

    fn run(&self, work: impl FnOnce(&mut FlushState) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_failed {
            return Err(io::Error::other("an earlier flush of this file has failed"));
        }
        let result = work(&mut state);
        state.has_failed = result.is_err();
        result
    }
}

/// The range, cut to `end`.
fn clip(range: Range<usize>, end: usize) -> Range<usize> {
    let end = range.end.min(end);
    range.start.min(end)..end
}

/// Zeros written into the holes ahead of a pooled segment's commits.
///
/// A reserved block that was never written has to be marked as written when it is, which makes the flush of a group wait for
/// the file system's journal. Blocks that hold zeros already are overwritten in place, at about half the cost.
struct Ahead {
    /// Its own open file: the kernel tells a lost page once to each, and the log's flushes must all be told.
    file: std::fs::File,
    /// Held while a commit writes, and while a hole is looked for and filled.
    writing: Mutex<()>,
}

/// Holes are filled by so many bytes at once, which is how long a commit may have to wait.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];

impl Ahead {
    fn writing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the holes of the range, changing no byte, and makes that durable.
    fn fill(&self, range: Range<usize>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let _writing = self.writing();
            let data = next_data(&self.file, at..range.end)?.unwrap_or(range.end..range.end);
            if at < data.start {
                let upto = data.start.min(at + ZEROS.len());
                self.file.write_all_at(&ZEROS[..upto - at], at as u64)?;
                at = upto;
            } else {
                at = data.end;
            }
        }
        self.file.sync_data()
    }
}

#[derive(Clone)]
pub struct SegmentReader {
    map: Arc<Map>,
    flusher: Arc<Flusher>,
    ahead: Option<Arc<Ahead>>,
}

impl storage::SegmentReader for SegmentReader {
    type View = View;

    #[inline]
    fn written(&self) -> usize {
        self.map.published()
    }

    fn capacity(&self) -> usize {
        self.map.capacity()
    }

    #[inline]
    fn view(&self, offset: usize, len: usize) -> io::Result<View> {
        self.map.view(offset, len).ok_or_else(|| ErrorKind::InvalidInput.into())
    }

    async fn flush(&self, range: Range<usize>) -> io::Result<()> {
        let Self { map, flusher, .. } = self.clone();
        blocking(move || flusher.flush(&map, clip(range, map.capacity()))).await
    }

    async fn prefault(&self, range: Range<usize>) -> io::Result<()> {
        let Self { map, flusher, ahead } = self.clone();
        blocking(move || {
            flusher.make_length_durable(&map)?;
            let range = clip(range, map.capacity());
            match ahead {
                Some(ahead) => ahead.fill(range),
                None => map.populate(range),
            }
        })
        .await
    }

    async fn read_ahead(&self, range: Range<usize>) -> io::Result<()> {
        let map = self.map.clone();
        blocking(move || map.read_ahead(clip(range, map.capacity()))).await
    }

    fn live_views(&self) -> usize {
        self.map.live_views()
    }
}

pub struct SegmentWriter {
    reader: SegmentReader,
    /// None while a truncation zeroes on another thread, and for good when its future was dropped meanwhile, or when the file
    /// is only read.
    tail: Option<Tail>,
    written: usize,
    /// Appends end here: the capacity, or `written` from a truncation's start until the cut bytes are gone.
    limit: usize,
    /// With [`core Backing::Pooled`], what was appended and is not yet in the file.
    ///
    /// [`core Backing::Pooled`]: hotfire_core::runtime::Backing::Pooled
    pool: Option<Vec<u8>>,
}

impl SegmentWriter {
    /// Pooled when there is a second open file, to write ahead of the commits with.
    pub(crate) fn open(
        file: std::fs::File,
        written: usize,
        ahead: Option<std::fs::File>,
    ) -> io::Result<SegmentWriter> {
        let tail = Tail::open(file, written)?;
        let pool = ahead.is_some().then(Vec::new);
        let ahead = ahead.map(|file| Arc::new(Ahead { file, writing: Mutex::default() }));
        let reader = SegmentReader { map: tail.map().clone(), flusher: Arc::default(), ahead };
        let limit = reader.map.capacity();
        Ok(SegmentWriter { reader, tail: Some(tail), written, limit, pool })
    }

    /// One that takes no appends.
    pub(crate) fn open_read_only(file: std::fs::File, written: usize) -> io::Result<SegmentWriter> {
        let map = Map::open_read_only(file, written)?;
        let reader = SegmentReader { map, flusher: Arc::default(), ahead: None };
        Ok(SegmentWriter { reader, tail: None, written, limit: written, pool: None })
    }
}

impl storage::SegmentWriter for SegmentWriter {
    type Reader = SegmentReader;

    fn reader(&self) -> SegmentReader {
        self.reader.clone()
    }

    fn capacity(&self) -> usize {
        self.reader.map.capacity()
    }

    #[inline]
    fn written(&self) -> usize {
        self.written
    }

    #[inline]
    fn append<T>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        if len > self.limit - self.written {
            return None;
        }
        let tail = self.tail.as_mut()?;
        let end = self.written + len;
        let output = match &mut self.pool {
            None => {
                let output = fill(tail.unpublished(self.written..end));
                tail.publish(end);
                output
            }
            Some(pool) => {
                // A `fill` that panicked has left its bytes there.
                let at = self.written - tail.position();
                pool.truncate(at);
                pool.resize(at + len, 0);
                fill(&mut pool[at..])
            }
        };
        self.written = end;
        Some(output)
    }

    fn advance(&mut self, len: usize) {
        let left = self.limit - self.written;
        assert!(len <= left, "advance by {len} with {left} left");
        let Some(tail) = &mut self.tail else {
            assert_eq!(len, 0, "advance after a truncation was given up");
            return;
        };
        let range = self.written..self.written + len;
        self.written = range.end;
        match &mut self.pool {
            None => tail.publish(range.end),
            Some(pool) => {
                // They are in the file already; written once more they stay what they are.
                pool.truncate(range.start - tail.position());
                pool.extend_from_slice(tail.unpublished(range));
            }
        }
    }

    fn commit(&mut self, upto: usize) -> io::Result<()> {
        let (Some(pool), Some(tail)) = (&mut self.pool, &mut self.tail) else {
            return Ok(());
        };
        let start = tail.position();
        let end = upto.min(self.written);
        if start >= end {
            return Ok(());
        }
        let _writing = self.reader.ahead.as_deref().map(Ahead::writing);
        let mut result = Ok(());
        while tail.position() < end {
            let at = tail.position();
            match tail.map().file().write_at(&pool[at - start..end - start], at as u64) {
                Ok(0) => result = Err(ErrorKind::WriteZero.into()),
                Ok(count) => tail.publish(at + count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                break;
            }
        }
        pool.drain(..tail.position() - start);
        result
    }

    fn redirty(&mut self, range: Range<usize>) {
        let map = &self.reader.map;
        assert!(!map.is_read_only(), "nobody makes pages dirty that are only read");
        // An error is a page that cannot be brought in: touching it would end the process, and so will reading it.
        if let Err(error) = map.populate(clip(range.clone(), map.capacity())) {
            tracing::error!(?range, %error, "cannot mark pages dirty");
        }
    }

    /// Dropped before it is done, it may leave the writer without its tail: appends are refused from then on.
    async fn truncate(&mut self, to: usize, patience: Duration) -> io::Result<()> {
        if to > self.written {
            let text = format!("truncate to {to} of {}", self.written);
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        if self.reader.map.is_read_only() {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let start = Instant::now();
        let tail = loop {
            let Some(tail) = &mut self.tail else {
                return Err(io::Error::other("an earlier truncation was given up"));
            };
            if tail.retract(to.min(tail.position())) {
                break self.tail.take();
            }
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(io::Error::new(ErrorKind::TimedOut, "views beyond the new tail are alive"));
            }
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
        };
        let mut tail = tail.expect("taken above");
        if let Some(pool) = &mut self.pool {
            pool.truncate(to - tail.position());
        }
        (self.written, self.limit) = (to, to);
        let flusher = self.reader.flusher.clone();
        let (tail, result) = blocking(move || {
            let rest = to..tail.map().capacity();
            let result = zero(&mut tail, rest.clone()).and_then(|()| flusher.flush(tail.map(), rest));
            Ok((tail, result))
        })
        .await?;
        self.tail = Some(tail);
        result?;
        self.limit = self.reader.map.capacity();
        Ok(())
    }
}

/// Sets the range to zero. Pages that are zero already stay clean, and holes stay holes.
fn zero(tail: &mut Tail, range: Range<usize>) -> io::Result<()> {
    // All stretches are found before the first is read: reading ahead, the kernel brings pages of the hole behind a stretch
    // into memory and then counts them as data, so that a search in between would walk through the whole file.
    let mut stretches = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let Some(data) = next_data(tail.map().file(), at..range.end)? else {
            break;
        };
        at = data.end;
        stretches.push(data);
    }
    for data in stretches {
        for page in tail.unpublished(data).chunks_mut(PAGE) {
            if page != &[0; PAGE][..page.len()] {
                page.fill(0);
            }
        }
    }
    Ok(())
}

/// The first stretch of the range that may hold something else than zeros. The kernel counts pages in memory as data, so
/// bytes stored into the mapping are found before they are written.
#[cfg(target_os = "linux")]
fn next_data(file: &std::fs::File, range: Range<usize>) -> io::Result<Option<Range<usize>>> {
    use nix::errno::Errno;
    use nix::unistd::{Whence, lseek};
    // The file's own position is used by nobody.
    let seek = |from: usize, whence| lseek(file, from as i64, whence).map(|at| at as usize);
    let start = match seek(range.start, Whence::SeekData) {
        Ok(start) => start.max(range.start),
        Err(Errno::ENXIO) => return Ok(None),
        Err(Errno::EINVAL | Errno::ENOTSUP) => return Ok(Some(range)),
        Err(errno) => return Err(errno.into()),
    };
    if start >= range.end {
        return Ok(None);
    }
    let end = seek(start, Whence::SeekHole)?.min(range.end);
    Ok(Some(start..end.max(start + 1)))
}

#[cfg(not(target_os = "linux"))]
fn next_data(_file: &std::fs::File, range: Range<usize>) -> io::Result<Option<Range<usize>>> {
    Ok(Some(range))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::os::unix::fs::MetadataExt;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use hotfire_core::runtime::storage::{SegmentReader as _, SegmentWriter as _};

    use super::*;

    const LEN: usize = 1 << 20;

    const BACKINGS: [bool; 2] = [false, true];

    fn open(file: std::fs::File, written: usize, pooled: bool) -> SegmentWriter {
        let ahead = pooled.then(|| {
            // A clone has one position with its origin, which `Ahead` does not use.
            file.try_clone().expect("clone")
        });
        SegmentWriter::open(file, written, ahead).expect("open")
    }

    fn sparse(folder: &tempfile::TempDir) -> std::fs::File {
        let path = folder.path().join("segment");
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.expect("a file");
        file.set_len(LEN as u64).expect("a length");
        file
    }

    fn tokio() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_truncation_leaves_holes_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = sparse(&folder);
        file.write_all_at(&[1; 100], 500_000).expect("bytes of an earlier process");
        file.write_all_at(&[1; 100], LEN as u64 - 100).expect("bytes of an earlier process");
        file.sync_all().expect("sync");
        let blocks = file.metadata().expect("metadata").blocks();
        let mut writer = open(file.try_clone().expect("clone"), 10, false);
        tokio().block_on(writer.truncate(3, Duration::ZERO)).expect("truncate");
        assert!(file.metadata().expect("metadata").blocks() <= blocks, "a truncation gave a hole blocks");
        let mut bytes = vec![1; LEN];
        file.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(bytes.iter().position(|b| *b != 0), None);
    }

    #[test]
    fn holes_are_filled_ahead_and_bytes_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = sparse(&folder);
        file.write_all_at(&[1; 100], 500_000).expect("bytes of an earlier process");
        let mut writer = open(file.try_clone().expect("clone"), 10, true);
        writer.append(1000, |into| into.fill(2)).expect("append");
        writer.commit(1010).expect("commit");
        tokio().block_on(writer.reader().prefault(0..LEN)).expect("prefault");
        assert_eq!(next_data(&file, 0..LEN).expect("seek"), Some(0..LEN), "a hole is left");
        let mut bytes = vec![9; LEN];
        file.read_exact_at(&mut bytes, 0).expect("read");
        let mut expected = vec![0; LEN];
        expected[10..1010].fill(2);
        expected[500_000..500_100].fill(1);
        assert!(bytes == expected, "prefault has changed bytes");
    }

    #[test]
    fn a_truncation_given_up_halfway_closes_the_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = open(sparse(&folder), LEN, false);
        let tokio = tokio();
        {
            let _inside = tokio.enter();
            let mut truncation = pin!(writer.truncate(10, Duration::ZERO));
            assert!(truncation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!((writer.written(), writer.reader().written()), (10, 10));
        assert!(writer.append(1, |_| ()).is_none(), "an append beside a thread that zeroes");
        assert!(writer.append(0, |_| ()).is_none());
        writer.advance(0);
        writer.commit(10).expect("nothing to commit");
        assert!(tokio.block_on(writer.truncate(5, Duration::ZERO)).is_err());
        assert_eq!(writer.reader().view(0, 10).expect("view").as_ref(), [0; 10]);
    }

    #[test]
    fn a_truncation_that_waits_can_be_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = open(sparse(&folder), 1000, false);
        let view = writer.reader().view(0, 1000).expect("view");
        let tokio = tokio();
        {
            let _inside = tokio.enter();
            let mut truncation = pin!(writer.truncate(10, Duration::from_secs(60)));
            assert!(truncation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!((writer.written(), writer.reader().written()), (1000, 1000));
        assert_eq!(writer.append(1, |_| ()), Some(()));
        drop(view);
        tokio.block_on(writer.truncate(10, Duration::ZERO)).expect("truncate");
    }

    #[test]
    fn after_a_failed_flush_none_succeeds() {
        let flusher = Flusher::default();
        assert!(flusher.run(|_| Ok(())).is_ok());
        assert!(flusher.run(|_| Err(ErrorKind::Other.into())).is_err());
        assert!(flusher.run(|_| panic!("a failed flush was tried again")).is_err());
    }

    #[test]
    fn a_closure_that_panics_appends_nothing() {
        for pooled in BACKINGS {
            let folder = tempfile::tempdir().expect("a folder");
            let mut writer = open(sparse(&folder), 0, pooled);
            writer.append(3, |into| into.fill(1)).expect("append");
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                writer.append(5, |into| {
                    into.fill(9);
                    panic!("as this test wants")
                })
            }));
            assert!(panicked.is_err());
            assert_eq!(writer.written(), 3);
            writer.append(2, |into| into.fill(2)).expect("append");
            writer.commit(5).expect("commit");
            assert_eq!(
                writer.reader().view(0, 5).expect("view").as_ref(),
                [1, 1, 1, 2, 2],
                "pooled: {pooled}"
            );
        }
    }
}

//! One mapped file, and the rules that make its bytes safe to share. The workspace's only unsafe code.
//!
//! Bytes below `published` are read through [`View`]s and do not change; bytes at and above it are stored into by the one
//! [`Tail`]. `published` moves up when bytes are done ([`Tail::publish`]) and down only when no view reaches beyond the new
//! place ([`Tail::retract`]); between the two kinds of bytes lies a release store and an acquire load.
//!
//! Invariant: one [`Tail`] per file in this process, by device and inode ([`MAPPED`]).
//! Invariant: while a file is mapped here, nobody here makes it shorter ([`cut_unless_mapped`]); other processes are kept
//! out by the lock on the data folder ([`crate::lock`]), which a node takes before it opens its first segment. So a load
//! or a store never meets the end of the file. It does meet a broken sector (or, in a sparse file, a full disk) as SIGBUS,
//! which ends the process.
//! Invariant: a view counts in the region of its creation for all its life, and so do its clones and parts. Counting by
//! regions lets a truncation ignore views far below it, and keeps the count one addition.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use hotfire_core::runtime::storage;
use memmap2::{MmapOptions, MmapRaw};

/// Device and inode.
type FileKey = (u64, u64);

#[derive(Default)]
struct Mapped {
    maps: usize,
    has_tail: bool,
}

/// The files mapped by this process. A mapping keeps its inode, so a key is not used again while it is here.
static MAPPED: Mutex<BTreeMap<FileKey, Mapped>> = Mutex::new(BTreeMap::new());

fn mapped() -> MutexGuard<'static, BTreeMap<FileKey, Mapped>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(file: &File) -> io::Result<(FileKey, u64)> {
    let metadata = file.metadata()?;
    Ok(((metadata.dev(), metadata.ino()), metadata.len()))
}

/// The file's key and length, for a mapping with `published` bytes.
fn measured(file: &File, published: usize) -> io::Result<(FileKey, usize)> {
    let (key, len) = key(file)?;
    let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    if len == 0 || published > len {
        let text = format!("{published} bytes written of a segment of {len}");
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    Ok((key, len))
}

/// Sets the length of a file that may get shorter.
///
/// # Errors
/// `ResourceBusy` when it would get shorter while it is mapped.
pub(crate) fn cut_unless_mapped(file: &File, len: u64) -> io::Result<()> {
    let mapped = mapped();
    let (key, now) = key(file)?;
    if len < now && mapped.contains_key(&key) {
        return Err(io::Error::new(ErrorKind::ResourceBusy, "a mapped file cannot be cut"));
    }
    file.set_len(len)
}

const REGIONS: usize = 64;

/// The smallest page of any system we run on; where pages are larger, some work is done twice.
pub(crate) const PAGE: usize = 4096;

pub(crate) struct Map {
    raw: MmapRaw,
    /// A store would end the process: no [`Tail`] is made of it, and nobody touches its pages.
    read_only: bool,
    file: File,
    key: FileKey,
    published: AtomicUsize,
    /// Live views, by where the one they come from ended: the last byte's offset, shifted.
    views: [AtomicUsize; REGIONS],
    region_shift: u32,
}

impl Map {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Maps the whole file for reading and publishes its first `published` bytes.
    ///
    /// # Errors
    /// `InvalidInput` for an empty file or one shorter than `published`.
    pub(crate) fn open_read_only(file: File, published: usize) -> io::Result<Arc<Map>> {
        let mut mapped = mapped();
        let (key, len) = measured(&file, published)?;
        let raw = MmapOptions::new().len(len).map_raw_read_only(&file)?;
        mapped.entry(key).or_default().maps += 1;
        Ok(Arc::new(Map::new(raw, true, file, key, published)))
    }

    fn new(raw: MmapRaw, read_only: bool, file: File, key: FileKey, published: usize) -> Map {
        let bits = usize::BITS - (raw.len() - 1).leading_zeros();
        Map {
            raw,
            read_only,
            file,
            key,
            published: AtomicUsize::new(published),
            views: [const { AtomicUsize::new(0) }; REGIONS],
            region_shift: bits.saturating_sub(REGIONS.ilog2()),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn capacity(&self) -> usize {
        self.raw.len()
    }

    #[inline]
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn live_views(&self) -> usize {
        self.views.iter().map(|count| count.load(Ordering::Acquire)).sum()
    }

    fn region(&self, last_byte: usize) -> usize {
        last_byte >> self.region_shift
    }

    /// A view of published bytes, `None` when the range is not published.
    #[inline]
    pub(crate) fn view(self: &Arc<Self>, offset: usize, len: usize) -> Option<View> {
        self.view_interrupted(offset, len, || {})
    }

    /// As `view`. `interrupt` runs where a thread that loses its processor would make a race.
    #[inline]
    fn view_interrupted(
        self: &Arc<Self>,
        offset: usize,
        len: usize,
        interrupt: impl FnOnce(),
    ) -> Option<View> {
        let end = offset.checked_add(len)?;
        if end > self.published() {
            return None;
        }
        interrupt();
        let region = self.region(end.saturating_sub(1));
        self.views[region].fetch_add(1, Ordering::SeqCst);
        // Built before the second look, so that its drop takes the count back.
        let view = View { map: self.clone(), offset, len, region };
        // `retract` lowers `published`, then counts; this counts, then looks again: one of the two sees the other.
        if end > self.published.load(Ordering::SeqCst) {
            return None;
        }
        Some(view)
    }

    /// Writes the dirty pages of the range, and what the file system needs to find them again.
    pub(crate) fn flush(&self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() { Ok(()) } else { self.raw.flush_range(range.start, range.len()) }
    }

    /// Brings the pages of the range into memory as writable and dirty, without changing a byte.
    ///
    /// # Errors
    /// EFAULT where a store would be SIGBUS (a broken sector, a full disk under a sparse file).
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.capacity(), "{range:?}");
        assert!(!self.read_only, "a page that is only read does not become dirty");
        if range.is_empty() {
            return Ok(());
        }
        #[cfg(target_os = "linux")]
        {
            let populated = self.raw.advise_range(memmap2::Advice::PopulateWrite, range.start, range.len());
            match populated {
                // Linux before 5.14 does not know the advice.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        self.touch(range);
        Ok(())
    }

    /// Brings the pages of the range into memory, clean. Does nothing where the system does not know how.
    ///
    /// # Errors
    /// EFAULT where a load would be SIGBUS (a broken sector).
    pub(crate) fn read_ahead(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.capacity(), "{range:?}");
        #[cfg(target_os = "linux")]
        if !range.is_empty() {
            let read = self.raw.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
            // Linux before 5.14 does not know the advice.
            return read
                .or_else(|error| if error.kind() == ErrorKind::InvalidInput { Ok(()) } else { Err(error) });
        }
        Ok(())
    }

    /// As `populate`, by storing one byte of each page over itself.
    fn touch(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.capacity(), "{range:?}");
        let mut at = range.start;
        while at < range.end {
            // SAFETY: the mapping may be written (`populate`, the only caller, asserts it).
            // `at` is inside the mapping (asserted), which lives as long as `self` and whose file nobody cuts (the
            // module's invariants). The tail may store into this byte and views may read it at the same time: the exchange
            // is one atomic instruction that stores only what it has just found, so neither can see or lose anything by it.
            // It is an exchange, not `fetch_or(0)`, because the compiler may turn that into a load, and the page must
            // become dirty.
            let byte = unsafe { AtomicU8::from_ptr(self.raw.as_mut_ptr().add(at)) };
            let mut seen = byte.load(Ordering::Relaxed);
            while let Err(now) = byte.compare_exchange(seen, seen, Ordering::Relaxed, Ordering::Relaxed) {
                seen = now;
            }
            at = (at / PAGE + 1) * PAGE;
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // The mapping itself goes after this, but nothing reads or stores through it any more.
        let mut mapped = mapped();
        if let Some(entry) = mapped.get_mut(&self.key) {
            entry.maps -= 1;
            if entry.maps == 0 {
                mapped.remove(&self.key);
            }
        }
    }
}

/// The right to store at and above `published`, and to move it.
pub(crate) struct Tail(Arc<Map>);

impl Tail {
    /// Maps the whole file and publishes its first `published` bytes.
    ///
    /// # Errors
    /// `InvalidInput` for an empty file or one shorter than `published`; `ResourceBusy` when it has a tail already.
    pub(crate) fn open(file: File, published: usize) -> io::Result<Tail> {
        // Kept to the end: nobody cuts the file between the look at its length and the entry.
        let mut mapped = mapped();
        let (key, len) = measured(&file, published)?;
        if mapped.get(&key).is_some_and(|entry| entry.has_tail) {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "the segment has a writer"));
        }
        let raw = MmapOptions::new().len(len).map_raw(&file)?;
        let entry = mapped.entry(key).or_default();
        entry.maps += 1;
        entry.has_tail = true;
        Ok(Tail(Arc::new(Map::new(raw, false, file, key, published))))
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.0
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        // Only this tail changes it.
        self.0.published.load(Ordering::Relaxed)
    }

    /// Unpublished bytes, to store into.
    #[inline]
    pub(crate) fn unpublished(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(
            self.position() <= range.start && range.start <= range.end && range.end <= self.0.capacity(),
            "{range:?} is not unpublished"
        );
        // SAFETY: the range is inside the mapping and at or above `published` (asserted), so no view reads it: views are
        // made below `published`, and it went down only past ends that no view reaches. `&mut self` of the file's only
        // tail (MAPPED) is the only way to store. `Map::touch` stores back what it finds, atomically. The mapping lives as
        // long as `self.0`; nobody cuts the file (MAPPED), the folder's lock keeps other processes out. Any byte is a
        // valid u8.
        unsafe { std::slice::from_raw_parts_mut(self.0.raw.as_mut_ptr().add(range.start), range.len()) }
    }

    /// Publishes everything below `to`; their bytes do not change from here on.
    #[inline]
    pub(crate) fn publish(&mut self, to: usize) {
        assert!(self.position() <= to && to <= self.0.capacity(), "publish goes forward");
        self.0.published.store(to, Ordering::Release);
    }

    /// Takes everything from `to` on back, unless a view may reach beyond it. Views of the same 64th of the file count
    /// although they may end before `to`.
    pub(crate) fn retract(&mut self, to: usize) -> bool {
        let from = self.position();
        assert!(to <= from, "retract goes back: {to} from {from}");
        let map = &self.0;
        let seen = || {
            let regions = map.region(to.min(map.capacity() - 1))..REGIONS;
            to < from && regions.into_iter().any(|region| map.views[region].load(Ordering::SeqCst) != 0)
        };
        if seen() {
            return false;
        }
        // See `Map::view`. A view that slipped in between keeps its bytes, and the tail its place.
        map.published.store(to, Ordering::SeqCst);
        if seen() {
            map.published.store(from, Ordering::SeqCst);
            return false;
        }
        true
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(entry) = mapped().get_mut(&self.0.key) {
            entry.has_tail = false;
        }
    }
}

/// A range of published bytes in the mapping.
pub struct View {
    map: Arc<Map>,
    offset: usize,
    len: usize,
    region: usize,
}

impl View {
    #[inline]
    fn part(&self, offset: usize, len: usize) -> View {
        // Relaxed: `self` is counted in the same place, so the count is not zero before or after.
        self.map.views[self.region].fetch_add(1, Ordering::Relaxed);
        View { map: self.map.clone(), offset, len, region: self.region }
    }
}

impl Drop for View {
    #[inline]
    fn drop(&mut self) {
        // Release: the last read comes before the zeros that `retract` allows.
        self.map.views[self.region].fetch_sub(1, Ordering::Release);
    }
}

impl Clone for View {
    #[inline]
    fn clone(&self) -> View {
        self.part(self.offset, self.len)
    }
}

impl AsRef<[u8]> for View {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was below `published` when the view was made (`Map::view`; parts lie inside), and `published`
        // does not go below its end while it is counted, so the tail cannot store into it; `Map::touch` stores back what it
        // finds. The mapping lives as long as `self.map`; nobody cuts the file (MAPPED), the folder's lock keeps other
        // processes out.
        unsafe { std::slice::from_raw_parts(self.map.raw.as_ptr().add(self.offset), self.len) }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes at {})", self.len, self.offset)
    }
}

impl Buf for View {
    #[inline]
    fn remaining(&self) -> usize {
        self.len
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.as_ref()
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "advance by {count} of {}", self.len);
        self.offset += count;
        self.len -= count;
    }
}

impl storage::View for View {
    fn to_bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    #[inline]
    fn slice(&self, range: Range<usize>) -> View {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        self.part(self.offset + range.start, range.len())
    }
}

#[cfg(test)]
mod tests;

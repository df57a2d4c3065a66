//! One file: its pages in the kernel's cache, its pages on the platter, and which of the former are dirty.
//!
//! Pages are shared (`Arc`) between cache, platter and the snapshots of flushes in flight; a store into a shared page copies it
//! first. A flush thus costs no copy, and a file costs what was touched of it.
//!
//! Invariant: a page that is neither cached nor dirty reads as the platter's; a dirty page is cached.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use hotfire_core::runtime::Allocation;

/// Bytes of a page, the unit of the cache.
pub const PAGE: usize = 4_096;
/// Bytes of a sector, the unit that the platter writes whole.
pub const SECTOR: usize = 512;

const _: () = assert!(PAGE.is_multiple_of(SECTOR));

pub(super) type Page = Arc<[u8; PAGE]>;

/// Undurable lengths kept of a file: any of them may be found after a power loss.
const LENGTHS_MAX: usize = 8;

/// A set of page numbers.
#[derive(Default, Clone)]
pub(super) struct PageSet {
    words: Vec<u64>,
    count: usize,
}

impl PageSet {
    pub(super) fn insert(&mut self, page: usize) -> bool {
        let (word, bit) = (page / 64, 1u64 << (page % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += usize::from(new);
        new
    }

    pub(super) fn remove(&mut self, page: usize) -> bool {
        let bit = 1u64 << (page % 64);
        let Some(word) = self.words.get_mut(page / 64) else { return false };
        let old = *word & bit != 0;
        *word &= !bit;
        self.count -= usize::from(old);
        old
    }

    pub(super) fn contains(&self, page: usize) -> bool {
        self.words.get(page / 64).is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Members in `pages`, ascending.
    pub(super) fn in_range(&self, pages: Range<usize>) -> Vec<usize> {
        let end = pages.end.min(self.words.len() * 64);
        let mut found = Vec::new();
        let mut page = pages.start;
        while page < end {
            let word = self.words[page / 64] >> (page % 64);
            if word == 0 {
                page = (page / 64 + 1) * 64;
                continue;
            }
            page += word.trailing_zeros() as usize;
            if page < end {
                found.push(page);
            }
            page += 1;
        }
        found
    }
}

/// A length a file had.
#[derive(Clone, Copy)]
pub(super) struct LenSnapshot {
    version: u64,
    len: u64,
}

/// Why bytes could not be brought into memory or stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PageFault {
    /// The sector cannot be read.
    Unreadable,
    /// No block is left for the page.
    NoSpace,
}

impl From<PageFault> for io::Error {
    fn from(fault: PageFault) -> io::Error {
        match fault {
            PageFault::Unreadable => io::Error::other("input/output error"),
            PageFault::NoSpace => io::ErrorKind::StorageFull.into(),
        }
    }
}

pub(super) struct Inode {
    pub(super) len: u64,
    pub(super) durable_len: u64,
    /// Changes of the length so far, and the one that `durable_len` belongs to.
    len_version: u64,
    durable_version: u64,
    /// Lengths it has had since `durable_len`, with their versions, oldest first.
    lengths: Vec<(u64, u64)>,
    cache: Vec<Option<Page>>,
    platter: Vec<Option<Page>>,
    pub(super) dirty: PageSet,
    /// Pages that have a block, or a reservation for one.
    allocated: PageSet,
    /// Pages whose sector cannot be read until it is written again.
    unreadable: BTreeSet<usize>,
    pub(super) modified_ms: i64,
    /// It has a name in the kernel.
    pub(super) linked: bool,
    /// Handles of the living process.
    pub(super) handles: u32,
    /// A segment writer is open.
    pub(super) has_writer: bool,
    /// Background writeback has failed and nobody has been told.
    pub(super) writeback_failed: bool,
}

fn zeros() -> Page {
    Arc::new([0; PAGE])
}

pub(super) fn pages_of(range: Range<u64>) -> Range<usize> {
    (range.start as usize / PAGE)..(range.end as usize).div_ceil(PAGE)
}

fn slot(pages: &mut Vec<Option<Page>>, page: usize) -> &mut Option<Page> {
    if page >= pages.len() {
        pages.resize(page + 1, None);
    }
    &mut pages[page]
}

impl Inode {
    pub(super) fn new(modified_ms: i64) -> Inode {
        Inode {
            len: 0,
            durable_len: 0,
            len_version: 0,
            durable_version: 0,
            lengths: Vec::new(),
            cache: Vec::new(),
            platter: Vec::new(),
            dirty: PageSet::default(),
            allocated: PageSet::default(),
            unreadable: BTreeSet::new(),
            modified_ms,
            linked: true,
            handles: 0,
            has_writer: false,
            writeback_failed: false,
        }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.allocated.len() as u64
    }

    fn cached(&self, page: usize) -> Option<&Page> {
        self.cache.get(page)?.as_ref()
    }

    fn on_platter(&self, page: usize) -> Option<&Page> {
        self.platter.get(page)?.as_ref()
    }

    /// Brings a page into the cache.
    fn load(&mut self, page: usize) -> Result<(), PageFault> {
        if self.cached(page).is_some() {
            return Ok(());
        }
        if self.unreadable.contains(&page) {
            return Err(PageFault::Unreadable);
        }
        if let Some(stored) = self.on_platter(page).cloned() {
            *slot(&mut self.cache, page) = Some(stored);
        }
        Ok(())
    }

    /// Reads through the cache; bytes past the length are the caller's mistake.
    pub(super) fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), PageFault> {
        for page in pages_of(offset..offset + into.len() as u64) {
            self.load(page)?;
        }
        self.peek(offset, into, Inode::cached);
        Ok(())
    }

    /// Reads without touching anything.
    fn peek(
        &self,
        offset: u64,
        into: &mut [u8],
        source: impl for<'a> Fn(&'a Inode, usize) -> Option<&'a Page>,
    ) {
        let mut done = 0;
        while done < into.len() {
            let at = offset as usize + done;
            let (page, within) = (at / PAGE, at % PAGE);
            let len = (PAGE - within).min(into.len() - done);
            let target = &mut into[done..done + len];
            match source(self, page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + len]),
                None => target.fill(0),
            }
            done += len;
        }
    }

    pub(super) fn peek_cache(&self, range: Range<u64>) -> Vec<u8> {
        let end = range.end.min(self.len);
        let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
        self.peek(range.start, &mut bytes, |inode, page| {
            inode.cached(page).or_else(|| inode.on_platter(page))
        });
        bytes
    }

    pub(super) fn peek_platter(&self, range: Range<u64>) -> Vec<u8> {
        let end = range.end.min(self.durable_len);
        let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
        self.peek(range.start, &mut bytes, Inode::on_platter);
        bytes
    }

    /// Stores bytes, page by page; `free` is the number of blocks left, counted down. On a fault the pages before it are stored.
    pub(super) fn store(&mut self, offset: u64, bytes: &[u8], free: &mut u64) -> Result<(), PageFault> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset as usize + done;
            let (page, within) = (at / PAGE, at % PAGE);
            let len = (PAGE - within).min(bytes.len() - done);
            self.make_writable(page, free)?;
            if len == PAGE {
                let whole: [u8; PAGE] = bytes[done..done + PAGE].try_into().expect("a page's length");
                *slot(&mut self.cache, page) = Some(Arc::new(whole));
            } else {
                let target = slot(&mut self.cache, page).get_or_insert_with(zeros);
                Arc::make_mut(target)[within..within + len].copy_from_slice(&bytes[done..done + len]);
            }
            done += len;
        }
        Ok(())
    }

    /// Loads the page, gives it a block and marks it dirty.
    fn make_writable(&mut self, page: usize, free: &mut u64) -> Result<(), PageFault> {
        self.load(page)?;
        self.allocate(page, free)?;
        self.dirty.insert(page);
        Ok(())
    }

    pub(super) fn allocate(&mut self, page: usize, free: &mut u64) -> Result<(), PageFault> {
        if self.allocated.contains(page) {
            return Ok(());
        }
        *free = free.checked_sub(1).ok_or(PageFault::NoSpace)?;
        self.allocated.insert(page);
        Ok(())
    }

    /// Sets the length, with blocks for all of it when they are to be reserved.
    pub(super) fn grow(&mut self, len: u64, allocation: Allocation, free: &mut u64) -> Result<(), PageFault> {
        if allocation == Allocation::Reserve {
            let pages = pages_of(0..len);
            if self.missing_blocks(pages.clone()) > *free {
                return Err(PageFault::NoSpace);
            }
            for page in pages {
                self.allocate(page, free)?;
            }
        }
        self.set_len(len)
    }

    fn missing_blocks(&self, pages: Range<usize>) -> u64 {
        pages.filter(|page| !self.allocated.contains(*page)).count() as u64
    }

    /// Marks pages dirty without changing a byte.
    pub(super) fn redirty(&mut self, range: Range<u64>, free: &mut u64) -> Result<(), PageFault> {
        for page in pages_of(range) {
            self.make_writable(page, free)?;
            slot(&mut self.cache, page).get_or_insert_with(zeros);
        }
        Ok(())
    }

    /// Whether these bytes of the page read as zeros.
    fn is_zero(&self, page: usize, bytes: Range<usize>) -> bool {
        let content = self.cached(page).or_else(|| self.on_platter(page));
        content.is_none_or(|content| content[bytes].iter().all(|byte| *byte == 0))
    }

    /// Zeroes `[from, to)`, but for the pages to `keep`. Pages that read as zeros already stay as they are, holes and clean ones.
    pub(super) fn zero(&mut self, from: u64, to: u64, keep: impl Fn(usize) -> bool) -> Result<(), PageFault> {
        let known = self.cache.len().max(self.platter.len());
        let pages = pages_of(from..to);
        for page in pages.start..pages.end.min(known) {
            let base = page as u64 * PAGE as u64;
            let first = from.saturating_sub(base).min(PAGE as u64) as usize;
            let last = to.saturating_sub(base).min(PAGE as u64) as usize;
            if keep(page) || self.is_zero(page, first..last) {
                continue;
            }
            if first == 0 && last == PAGE {
                *slot(&mut self.cache, page) = Some(zeros());
            } else {
                self.load(page)?;
                Arc::make_mut(slot(&mut self.cache, page).get_or_insert_with(zeros))[first..last].fill(0);
            }
            self.dirty.insert(page);
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> Result<(), PageFault> {
        if len == self.len {
            return Ok(());
        }
        if len < self.len {
            // What is cut off must not come back when the file grows again.
            self.zero(len, (self.len as usize).next_multiple_of(PAGE) as u64, |_| false)?;
            for page in self.allocated.in_range((len as usize).div_ceil(PAGE)..usize::MAX) {
                self.allocated.remove(page);
            }
        }
        self.len = len;
        self.len_version += 1;
        if self.lengths.len() == LENGTHS_MAX {
            self.lengths.remove(LENGTHS_MAX / 2);
        }
        self.lengths.push((self.len_version, len));
        Ok(())
    }

    /// Takes the dirty pages among `pages` (at most those that `pick` wants) and marks them clean.
    pub(super) fn take_dirty(
        &mut self,
        pages: Range<usize>,
        mut pick: impl FnMut(usize) -> bool,
    ) -> Vec<(usize, Page)> {
        let mut taken = Vec::new();
        for page in self.dirty.in_range(pages) {
            if !pick(page) {
                continue;
            }
            self.dirty.remove(page);
            let content = self.cached(page).cloned().expect("a dirty page is cached");
            taken.push((page, content));
        }
        taken
    }

    pub(super) fn land(&mut self, page: usize, content: Page) {
        self.unreadable.remove(&page);
        *slot(&mut self.platter, page) = Some(content);
    }

    /// Only some sectors of the page reach the platter.
    pub(super) fn land_torn(&mut self, page: usize, content: &Page, mut sector: impl FnMut(usize) -> bool) {
        let stored = slot(&mut self.platter, page).get_or_insert_with(zeros);
        let stored = Arc::make_mut(stored);
        for number in 0..PAGE / SECTOR {
            if sector(number) {
                let bytes = number * SECTOR..(number + 1) * SECTOR;
                stored[bytes.clone()].copy_from_slice(&content[bytes]);
            }
        }
    }

    /// The length now, for a flush that begins.
    pub(super) fn len_snapshot(&self) -> LenSnapshot {
        LenSnapshot { version: self.len_version, len: self.len }
    }

    /// Flushes of different pages may overtake each other; the inode is written in order.
    pub(super) fn land_len(&mut self, snapshot: LenSnapshot) {
        if snapshot.version > self.durable_version {
            self.durable_version = snapshot.version;
            self.durable_len = snapshot.len;
            self.lengths.retain(|(version, _)| *version > snapshot.version);
        }
    }

    pub(super) fn undurable_lengths(&self) -> Vec<u64> {
        self.lengths.iter().map(|(_, len)| *len).collect()
    }

    /// The kernel is gone: what the platter holds, under the length that was found, is the file now.
    pub(super) fn forget_cache(&mut self, len: u64) {
        self.cache.clear();
        self.dirty = PageSet::default();
        self.lengths.clear();
        self.len = len;
        self.durable_len = len;
        self.durable_version = self.len_version;
        self.handles = 0;
        self.has_writer = false;
        self.writeback_failed = false;
        let kept = (len as usize).div_ceil(PAGE);
        self.platter.truncate(kept);
        if !(len as usize).is_multiple_of(PAGE)
            && let Some(Some(last)) = self.platter.get_mut(kept - 1)
        {
            Arc::make_mut(last)[len as usize % PAGE..].fill(0);
        }
        for page in self.allocated.in_range(kept..usize::MAX) {
            self.allocated.remove(page);
        }
    }

    /// Clean pages leave the memory.
    pub(super) fn drop_clean(&mut self) {
        for (page, cached) in self.cache.iter_mut().enumerate() {
            if !self.dirty.contains(page) {
                *cached = None;
            }
        }
    }

    /// Flips one bit on the platter; a cached page does not show it.
    pub(super) fn rot(&mut self, offset: u64, bit: u8) {
        let page = offset as usize / PAGE;
        let stored = slot(&mut self.platter, page).get_or_insert_with(zeros);
        Arc::make_mut(stored)[offset as usize % PAGE] ^= 1 << (bit % 8);
    }

    pub(super) fn spoil(&mut self, page: usize) {
        self.unreadable.insert(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: &[u8]) -> Inode {
        let mut inode = Inode::new(0);
        inode.set_len(3 * PAGE as u64).expect("sets the length");
        inode.store(0, bytes, &mut 100).expect("stores");
        inode
    }

    #[test]
    fn a_snapshot_keeps_the_bytes_of_its_moment() {
        let mut inode = filled(b"old");
        let snapshot = inode.take_dirty(0..1, |_| true);
        inode.store(0, b"new", &mut 100).expect("stores");
        for (page, content) in snapshot {
            inode.land(page, content);
        }
        inode.land_len(inode.len_snapshot());
        assert_eq!(inode.peek_platter(0..3), b"old");
        assert_eq!(inode.peek_cache(0..3), b"new");
        assert!(inode.dirty.contains(0));
    }

    #[test]
    fn a_cut_file_that_grows_again_shows_zeros() {
        let mut inode = filled(&[7; 2 * PAGE]);
        for (page, content) in inode.take_dirty(0..3, |_| true) {
            inode.land(page, content);
        }
        inode.set_len(10).expect("cuts");
        inode.set_len(2 * PAGE as u64).expect("grows");
        let bytes = inode.peek_cache(0..2 * PAGE as u64);
        assert!(bytes[..10].iter().all(|byte| *byte == 7));
        assert!(bytes[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_store_into_a_sparse_file_takes_a_block_and_fails_without_one() {
        let mut inode = Inode::new(0);
        inode.set_len(PAGE as u64).expect("sets the length");
        assert_eq!(inode.store(0, b"x", &mut 0), Err(PageFault::NoSpace));
        let mut free = 1;
        inode.store(0, b"x", &mut free).expect("stores");
        assert_eq!(free, 0);
        inode.store(1, b"y", &mut free).expect("the page has its block");
    }

    #[test]
    fn an_unreadable_sector_is_met_only_when_the_page_is_cold() {
        let mut inode = filled(b"warm");
        inode.spoil(0);
        inode.read(0, &mut [0; 4]).expect("the page is cached");
        for (page, content) in inode.take_dirty(0..3, |_| true) {
            inode.land(page, content);
        }
        inode.spoil(0);
        inode.drop_clean();
        assert_eq!(inode.read(0, &mut [0; 4]), Err(PageFault::Unreadable));
    }

    #[test]
    fn an_older_length_that_lands_late_changes_nothing() {
        let mut inode = Inode::new(0);
        inode.set_len(10).expect("grows");
        let older = inode.len_snapshot();
        inode.set_len(20).expect("grows");
        inode.land_len(inode.len_snapshot());
        inode.land_len(older);
        assert_eq!((inode.durable_len, inode.undurable_lengths()), (20, vec![]));
    }

    #[test]
    fn sets_of_pages_are_walked_in_order() {
        let mut set = PageSet::default();
        for page in [200, 3, 64, 63] {
            assert!(set.insert(page));
        }
        assert!(!set.insert(3));
        assert_eq!(set.in_range(0..usize::MAX), [3, 63, 64, 200]);
        assert_eq!(set.in_range(4..200), [63, 64]);
        assert!(set.remove(63));
        assert_eq!(set.len(), 3);
    }
}

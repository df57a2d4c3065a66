//! Views of a segment: a copy that behaves like the mapping.
//!
//! A mapped view shows what the file shows. Without unsafe code we cannot hand out a reference into pages that may change, so a
//! view keeps the bytes it was made from and looks, at every access, whether the segment was cut since: what was cut off reads as
//! zeros. Bytes below the cut do not change, that is the contract of segments.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Buf, Bytes};
use hotfire_core::runtime::View;

/// What writer, readers and views of one opened segment share.
pub(super) struct Mapping {
    pub(super) capacity: usize,
    published: AtomicUsize,
    /// Number of cuts so far.
    cuts_made: AtomicU64,
    cuts: Mutex<Vec<u64>>,
    /// Ends of living views, with how many end there.
    live: Mutex<BTreeMap<u64, usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mapping {
    pub(super) fn new(capacity: usize, published: usize) -> Arc<Mapping> {
        Arc::new(Mapping {
            capacity,
            published: AtomicUsize::new(published),
            cuts_made: AtomicU64::new(0),
            cuts: Mutex::default(),
            live: Mutex::default(),
        })
    }

    pub(super) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, upto: usize) {
        self.published.store(upto, Ordering::Release);
    }

    /// Everything from `to` on is gone.
    pub(super) fn cut(&self, to: u64) {
        lock(&self.cuts).push(to);
        self.cuts_made.fetch_add(1, Ordering::Release);
        self.publish(to as usize);
    }

    /// Where the segment was cut since cut number `since`, at the lowest.
    fn lowest_cut(&self, since: u64) -> Option<u64> {
        lock(&self.cuts).iter().skip(since as usize).min().copied()
    }

    pub(super) fn live_views(&self) -> usize {
        lock(&self.live).values().sum()
    }

    /// A living view reaches beyond `to`.
    pub(super) fn is_viewed_beyond(&self, to: u64) -> bool {
        lock(&self.live).last_key_value().is_some_and(|(end, _)| *end > to)
    }

    fn enter(&self, end: u64) {
        *lock(&self.live).entry(end).or_insert(0) += 1;
    }

    fn leave(&self, end: u64) {
        let mut live = lock(&self.live);
        let count = live.get_mut(&end).expect("a view leaves once");
        *count -= 1;
        if *count == 0 {
            live.remove(&end);
        }
    }
}

/// A range of a segment's published bytes.
pub struct SimView {
    mapping: Arc<Mapping>,
    /// The bytes as they were when it was made.
    bytes: Bytes,
    start: u64,
    /// Cuts made before it was.
    born: u64,
    /// Counted as a living view that ends here.
    counted_end: u64,
    /// The bytes with what was cut off zeroed, once that was seen.
    zeroed: OnceLock<Bytes>,
}

impl SimView {
    pub(super) fn new(mapping: &Arc<Mapping>, start: u64, bytes: Vec<u8>) -> SimView {
        let end = start + bytes.len() as u64;
        mapping.enter(end);
        SimView {
            mapping: mapping.clone(),
            bytes: bytes.into(),
            start,
            born: mapping.cuts_made.load(Ordering::Acquire),
            counted_end: end,
            zeroed: OnceLock::new(),
        }
    }

    fn part(&self, range: Range<usize>) -> SimView {
        let bytes = self.bytes.slice(range.clone());
        let start = self.start + range.start as u64;
        let end = start + bytes.len() as u64;
        self.mapping.enter(end);
        SimView {
            mapping: self.mapping.clone(),
            bytes,
            start,
            born: self.born,
            counted_end: end,
            zeroed: OnceLock::new(),
        }
    }

    fn current(&self) -> &Bytes {
        if self.mapping.cuts_made.load(Ordering::Acquire) == self.born {
            return &self.bytes;
        }
        let end = self.start + self.bytes.len() as u64;
        let Some(cut) = self.mapping.lowest_cut(self.born).filter(|cut| *cut < end) else {
            return &self.bytes;
        };
        self.zeroed.get_or_init(|| {
            let mut bytes = self.bytes.to_vec();
            bytes[cut.saturating_sub(self.start) as usize..].fill(0);
            bytes.into()
        })
    }
}

impl Clone for SimView {
    fn clone(&self) -> SimView {
        self.part(0..self.bytes.len())
    }
}

impl Drop for SimView {
    fn drop(&mut self) {
        self.mapping.leave(self.counted_end);
    }
}

impl AsRef<[u8]> for SimView {
    fn as_ref(&self) -> &[u8] {
        self.current()
    }
}

impl fmt::Debug for SimView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimView({}..{})", self.start, self.start + self.bytes.len() as u64)
    }
}

impl Buf for SimView {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        self.current()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.start += count as u64;
        self.zeroed = OnceLock::new();
    }
}

impl View for SimView {
    fn to_bytes(&self) -> Bytes {
        // It keeps a view alive: a cut waits for it. What it shows is fixed here, which only a cut without waiting could tell.
        Bytes::from_owner(self.clone())
    }

    fn slice(&self, range: Range<usize>) -> SimView {
        self.part(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_shows_zeros_where_the_segment_was_cut_since() {
        let mapping = Mapping::new(100, 10);
        let view = SimView::new(&mapping, 0, b"0123456789".to_vec());
        let tail = view.slice(6..10);
        mapping.cut(8);
        assert_eq!(view.as_ref(), b"01234567\0\0");
        assert_eq!(tail.as_ref(), b"67\0\0");
        assert_eq!(view.slice(0..8).as_ref(), b"01234567");
        let later = SimView::new(&mapping, 8, b"new".to_vec());
        assert_eq!(later.as_ref(), b"new");
        let mut advanced = view.clone();
        advanced.advance(7);
        assert_eq!(advanced.chunk(), b"7\0\0");
    }

    #[test]
    fn views_are_counted_until_the_last_clone_is_dropped() {
        let mapping = Mapping::new(100, 10);
        let view = SimView::new(&mapping, 0, vec![1; 10]);
        let bytes = view.to_bytes();
        assert_eq!(mapping.live_views(), 2);
        drop(view);
        assert!(mapping.is_viewed_beyond(9));
        assert!(!mapping.is_viewed_beyond(10));
        drop(bytes);
        assert_eq!(mapping.live_views(), 0);
    }
}

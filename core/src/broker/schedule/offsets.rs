//! How far each delay level has been delivered, in memory.
//!
//! Invariant: an offset passes a message only after its copy is stored, and `copies_end` lies behind every such copy: a file
//! that says these offsets is true once the log is durable up to there (D-09).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// By level, from 1: the next offset of its queue to deliver.
    pub offsets: BTreeMap<i32, i64>,
    /// First byte of the log behind every copy that the offsets count.
    pub copies_end: u64,
    /// Rises with every change.
    pub changes: u64,
}

#[derive(Default)]
pub(crate) struct DelayOffsets(Mutex<Snapshot>);

impl DelayOffsets {
    fn state(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a file holds, each offset cut to the bounds of its queue: beyond the end it would pass over what comes
    /// next (D-01). A cut counts as a change.
    pub fn load(&self, file: BTreeMap<i32, i64>, bounds: impl Fn(i32) -> (i64, i64)) {
        let mut state = self.state();
        for (level, offset) in file {
            let (min, max) = bounds(level);
            let within = offset.max(min).min(max);
            state.changes += u64::from(within != offset);
            state.offsets.insert(level, within);
        }
    }

    /// Takes over what a master's table has, cut to the bounds of the own queues, and only where it is beyond the own. True
    /// when something has changed.
    pub fn merge(&self, of_master: BTreeMap<i32, i64>, bounds: impl Fn(i32) -> (i64, i64)) -> bool {
        let mut state = self.state();
        let before = state.changes;
        for (level, offset) in of_master {
            let (min, max) = bounds(level);
            let within = offset.max(min).min(max);
            if state.offsets.get(&level).is_none_or(|own| *own < within) {
                state.offsets.insert(level, within);
                state.changes += 1;
            }
        }
        state.changes != before
    }

    /// 0 for a level that has delivered nothing.
    pub fn next(&self, level: i32) -> i64 {
        self.state().offsets.get(&level).copied().unwrap_or(0)
    }

    /// Nothing below `next` is to be delivered; the copies that were made end at `copies_end` or before.
    pub fn pass(&self, level: i32, next: i64, copies_end: u64) {
        let mut state = self.state();
        let before = state.offsets.insert(level, next).unwrap_or(0);
        assert!(before <= next, "level {level} goes back from {before} to {next}");
        state.copies_end = state.copies_end.max(copies_end);
        state.changes += 1;
    }

    pub fn snapshot(&self) -> Snapshot {
        self.state().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_cut_to_their_queues_and_a_cut_is_a_change() {
        let offsets = DelayOffsets::default();
        let bounds = |level| if level == 1 { (2, 5) } else { (0, 9) };
        offsets.load(BTreeMap::from([(1, 7), (2, 4), (3, -1)]), bounds);
        assert_eq!(offsets.snapshot().offsets, BTreeMap::from([(1, 5), (2, 4), (3, 0)]));
        assert_eq!(offsets.snapshot().changes, 2);
        let offsets = DelayOffsets::default();
        offsets.load(BTreeMap::from([(1, 0)]), bounds);
        assert_eq!(offsets.next(1), 2, "what was deleted is passed");
    }

    #[test]
    fn a_masters_older_offset_does_not_replace_a_newer_one_and_none_is_beyond_its_queue() {
        let offsets = DelayOffsets::default();
        offsets.pass(1, 4, 100);
        assert!(offsets.merge(BTreeMap::from([(1, 3), (2, 9), (3, -1)]), |_| (0, 6)));
        assert_eq!(offsets.snapshot().offsets, BTreeMap::from([(1, 4), (2, 6), (3, 0)]));
        assert!(!offsets.merge(BTreeMap::from([(1, 2), (2, 6)]), |_| (0, 6)));
        assert!(offsets.merge(BTreeMap::from([(1, 5)]), |_| (0, 6)));
        assert_eq!(offsets.next(1), 5);
    }

    #[test]
    fn a_snapshot_ends_behind_every_copy_that_it_counts() {
        let offsets = DelayOffsets::default();
        offsets.pass(1, 1, 300);
        offsets.pass(2, 1, 200);
        offsets.pass(2, 2, 0);
        let Snapshot { offsets, copies_end, changes } = offsets.snapshot();
        assert_eq!((copies_end, changes), (300, 3));
        assert_eq!(offsets, BTreeMap::from([(1, 1), (2, 2)]));
    }
}

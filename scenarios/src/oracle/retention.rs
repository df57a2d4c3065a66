//! I13: nothing young is deleted unless the disk has no room, nothing from the middle, and what is deleted stays deleted in
//! order: log files from the oldest on, never the last, each gone from the disk's surface before the next; queue entries
//! durable before their records go, and queue files only after them. Minimum offsets point at data that is there. On the
//! healed cluster what is to go has gone in time (I19).
//!
//! Judged on names and bytes as the kernel and the disk's surface show them when a file is chosen (no look-up of the broker
//! finds it any more) and when its name is to be removed, by the clock and by how full the disk is. That a file was chosen
//! earlier is the broker's word: it is judged then, by what its disk and its clock showed then.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/store.md`, section 15; `spec/known-bugs.md`, S-03, S-17, S-21, S-44.

use std::collections::BTreeSet;

use super::{Broken, Verdict};
use crate::platter::queue::Entry;
use crate::platter::record::Record;

/// Above it old files go at any hour.
const HIGH_PERCENT: u64 = 75;
/// Above it files of any age go.
const FORCIBLE_PERCENT: u64 = 85;

/// What may go, by the disk and the hour.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Need {
    Nothing,
    Old,
    Any,
}

/// What may go when so many of the partition's `blocks` are used. At a level itself either side is right.
#[must_use]
pub fn need(used: u64, blocks: u64, forcibly: bool, hour_is_set: bool) -> Need {
    let above = |percent: u64| used * 100 >= blocks * percent;
    match () {
        () if above(FORCIBLE_PERCENT) && forcibly => Need::Any,
        () if above(HIGH_PERCENT) || hour_is_set => Need::Old,
        () => Need::Nothing,
    }
}

/// Whether files of any age must go: the disk is above the level, not at it.
#[must_use]
pub fn has_no_room(used: u64, blocks: u64) -> bool {
    used * 100 > blocks * FORCIBLE_PERCENT
}

/// A record in a file that is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aged {
    pub at: u64,
    pub store_ms: i64,
    /// How long ago its client began to send it, by no node's clock; only of a record that the present process has
    /// appended, since the next one has nothing but store times to go by.
    pub age_ms: Option<u64>,
}

/// A broker's disk and clock at the moment when a log file is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// First bytes of the log files that have a name, in order.
    pub names: &'a [u64],
    pub records: &'a [Aged],
    /// The disk's surface has a record right behind the file.
    pub goes_on: bool,
    pub need: Need,
    pub reserved_ms: u64,
    /// The wall clock as it was when the process began, carried on since at its own pace; the wall clock when that is less.
    pub clock_ms: i64,
}

fn broken(broker: &str, base: u64, why: &str) -> Verdict {
    Err(Broken::new("I13", format!("{broker} deletes the log file at {base}, {why}")))
}

/// The log file at `base` is chosen to be deleted.
///
/// # Errors
/// When it may not go, or not now.
pub fn chosen(broker: &str, base: u64, look: &Look<'_>) -> Verdict {
    if look.names.first() != Some(&base) {
        return broken(broker, base, &format!("and the first one is at {:?}", look.names.first()));
    }
    if look.names.len() < 2 || !look.goes_on {
        return broken(broker, base, "and no durable record is behind it");
    }
    match look.need {
        Need::Nothing => broken(broker, base, "and neither the hour nor the disk asks for it"),
        Need::Any => Ok(()),
        Need::Old => match look.records.iter().find(|record| is_young(record, look)) {
            Some(Aged { at, store_ms, age_ms }) => {
                let (clock_ms, reserved_ms) = (look.clock_ms, look.reserved_ms);
                let why = format!(
                    "too young: the record at {at} of {store_ms} ms (sent {age_ms:?} ms ago) is kept for {reserved_ms} ms, the \
                     clock says {clock_ms}"
                );
                broken(broker, base, &why)
            }
            None => Ok(()),
        },
    }
}

fn is_young(record: &Aged, look: &Look<'_>) -> bool {
    let until_ms = record.store_ms.saturating_add_unsigned(look.reserved_ms);
    until_ms > look.clock_ms || record.age_ms.is_some_and(|age_ms| age_ms < look.reserved_ms)
}

/// The name of the log file at `base`, chosen before, is to be removed. `left` is an earlier file whose name a loss of power
/// would bring back, `alone` a record of this one whose queue entry it would take.
///
/// # Errors
/// When a loss of power after it could leave a hole in the log, or give a queue offset again.
pub fn removed(broker: &str, base: u64, names: &[u64], left: Option<u64>, alone: Option<&Record>) -> Verdict {
    if names.first() != Some(&base) || names.len() < 2 {
        return broken(broker, base, &format!("out of turn: the files are {names:?}"));
    }
    if let Some(left) = left {
        return broken(broker, base, &format!("and the one at {left} would come back without it"));
    }
    match alone {
        Some(Record { at, topic, queue, queue_offset, .. }) => {
            let why = format!(
                "and the entry of its record at {at}, {topic} queue {queue} offset {queue_offset}, is not durable"
            );
            broken(broker, base, &why)
        }
        None => Ok(()),
    }
}

/// The name of a queue's file is to be removed, which begins at byte `base` of the queue; `names` are the queue's files.
/// `kept` is where a record of one of its entries is whose log file has a name on the disk's surface.
///
/// # Errors
/// When it is not the first of several, or a record would lose its entry.
pub fn queue_removed(broker: &str, path: &str, base: u64, names: &[u64], kept: Option<u64>) -> Verdict {
    let why = match kept {
        _ if names.first() != Some(&base) || names.len() < 2 => format!("out of turn: {names:?}"),
        Some(at) => format!("and the record at {at} of one of its entries is there"),
        None => return Ok(()),
    };
    Err(Broken::new("I13", format!("{broker} deletes {path}, {why}")))
}

/// A process is about to begin; the kernel shows log files at `names`, and those at `removed` were deleted before.
///
/// # Errors
/// When a deleted file lies between files that are there.
pub fn no_hole(broker: &str, names: &[u64], removed: &BTreeSet<u64>) -> Verdict {
    let Some(first) = names.first() else { return Ok(()) };
    match removed.range(first..).find(|base| !names.contains(base)) {
        Some(hole) => {
            let detail =
                format!("{broker}: deletion has left a hole at {hole}, the log's files are {names:?}");
            Err(Broken::new("I13", detail))
        }
        None => Ok(()),
    }
}

/// What a broker that is well keeps, in order.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// First bytes of the log files that have a name.
    pub names: &'a [u64],
    /// Store times of the records of the first of them, and of the first record of the second; `None` where it has none.
    pub first_ms: &'a [i64],
    pub next_ms: Option<i64>,
    /// Of each queue with more than one file: its path, and where the record is of the first entry of its second file.
    pub queues: &'a [(String, u64)],
    /// Where each index file's last entry leads, of those that are full and not the last.
    pub index: &'a [(u64, u64)],
    pub need: Need,
    pub reserved_ms: u64,
    /// As in [`Look`].
    pub clock_ms: i64,
}

/// What is still there and should be gone, since the hour, an operator or the disk asks for it: a log file that may go,
/// however young where the disk has no room; queue files before one that begins with a deleted record, and index files
/// that lead to deleted records alone.
#[must_use]
pub fn overdue(broker: &str, kept: &Kept<'_>) -> Option<String> {
    let first = *kept.names.first()?;
    let is_old = |ms: i64| ms.saturating_add_unsigned(kept.reserved_ms) <= kept.clock_ms;
    let may_go = match (kept.need, kept.next_ms) {
        (Need::Nothing, _) | (_, None) => false,
        (Need::Any, Some(_)) => true,
        (Need::Old, Some(next_ms)) => kept.first_ms.iter().all(|ms| is_old(*ms)) && is_old(next_ms),
    };
    if may_go {
        return Some(format!("{broker} still has the log file at {first}"));
    }
    if let Some((path, at)) = kept.queues.iter().find(|(_, at)| *at < first) {
        return Some(format!(
            "{broker} still has the first file of {path}, the log begins at {first}, and the second at {at}"
        ));
    }
    let (name, _) = kept.index.iter().find(|(_, last)| *last < first)?;
    Some(format!("{broker} still has the index file {name:017}, and the log begins at {first}"))
}

/// A queue's extent as a reader is told it, while nothing is deleted. `entry` is what stands at the minimum, `log_min` where
/// the log begins.
///
/// # Errors
/// When the minimum points at nothing.
pub fn min_told(
    broker: &str,
    (topic, queue): (&str, i32),
    (min, max): (i64, i64),
    entry: Option<Entry>,
    log_min: u64,
) -> Verdict {
    let instead = match entry {
        _ if min == max => return Ok(()),
        Some(entry) if entry.at >= log_min => return Ok(()),
        Some(entry) => format!("whose record was at {}, and the log begins at {log_min}", entry.at),
        None => "where no entry is".to_owned(),
    };
    Err(Broken::new("I13", format!("{broker}: {topic} queue {queue} begins at {min}, {instead}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Aged = Aged { at: 0, store_ms: 1_000, age_ms: None };

    fn look<'a>(names: &'a [u64], records: &'a [Aged], need: Need) -> Look<'a> {
        Look { names, records, goes_on: true, need, reserved_ms: 500, clock_ms: 1_500 }
    }

    #[test]
    fn the_oldest_file_may_go_when_it_is_old_and_the_hour_has_come() {
        assert_eq!(chosen("broker-a", 0, &look(&[0, 64], &[OLD], Need::Old)), Ok(()));
        assert!(chosen("broker-a", 0, &look(&[0, 64], &[OLD], Need::Nothing)).is_err());
    }

    #[test]
    fn a_file_from_the_middle_and_the_last_one_are_rejected_however_full_the_disk_is() {
        let judge = |base, names: &[u64]| chosen("broker-a", base, &look(names, &[OLD], Need::Any));
        assert_eq!(judge(0, &[0, 64, 128]), Ok(()));
        assert!(judge(64, &[0, 64, 128]).is_err());
        assert!(judge(0, &[0]).is_err());
        let ends = Look { goes_on: false, ..look(&[0, 64], &[OLD], Need::Any) };
        assert!(chosen("broker-a", 0, &ends).is_err());
    }

    #[test]
    fn a_young_file_is_rejected_unless_the_disk_is_full() {
        let judge = |young: Aged, need| chosen("broker-a", 0, &look(&[0, 64], &[OLD, young], need));
        let young = Aged { store_ms: 1_001, ..OLD };
        assert!(judge(young, Need::Old).is_err());
        assert_eq!(judge(young, Need::Any), Ok(()));
        // The clock was set back when it was stored.
        let young = Aged { store_ms: 3, age_ms: Some(499), ..OLD };
        assert!(judge(young, Need::Old).is_err());
        assert_eq!(judge(Aged { age_ms: Some(500), ..young }, Need::Old), Ok(()));
    }

    #[test]
    fn the_disk_asks_above_its_levels_only() {
        assert_eq!(need(74, 100, true, false), Need::Nothing);
        assert_eq!(need(74, 100, true, true), Need::Old);
        assert_eq!(need(76, 100, true, false), Need::Old);
        assert_eq!(need(86, 100, true, false), Need::Any);
        assert_eq!(need(86, 100, false, false), Need::Old);
        assert_eq!((need(85, 100, true, false), has_no_room(85, 100)), (Need::Any, false));
        assert!(has_no_room(86, 100));
    }

    #[test]
    fn a_name_removed_out_of_turn_or_before_the_one_before_it_is_gone_for_good_is_rejected() {
        assert_eq!(removed("broker-a", 64, &[64, 128], None, None), Ok(()));
        assert!(removed("broker-a", 128, &[64, 128], None, None).is_err());
        assert!(removed("broker-a", 64, &[64], None, None).is_err());
        assert!(removed("broker-a", 64, &[64, 128], Some(0), None).is_err());
    }

    #[test]
    fn a_record_that_goes_before_its_entry_is_durable_is_rejected() {
        let disk = crate::oracle::queue_matches_log::tests::disk(&[(1_000_000, 0)]);
        assert!(removed("broker-a", 64, &[64, 128], None, disk.log.records.first()).is_err());
    }

    #[test]
    fn a_queue_file_that_goes_before_its_records_or_out_of_turn_is_rejected() {
        let judge = |base, names: &[u64], kept| queue_removed("broker-a", "topic-0/0", base, names, kept);
        assert_eq!(judge(100, &[100, 200], None), Ok(()));
        assert!(judge(100, &[100, 200], Some(64)).is_err());
        assert!(judge(200, &[100, 200], None).is_err());
        assert!(judge(100, &[100], None).is_err());
    }

    #[test]
    fn a_hole_that_deletion_has_left_is_rejected() {
        let removed = BTreeSet::from([0, 64]);
        assert_eq!(no_hole("broker-a", &[128, 192], &removed), Ok(()));
        assert_eq!(no_hole("broker-a", &[64, 128], &removed), Ok(()));
        assert_eq!(no_hole("broker-a", &[0, 64, 128], &removed), Ok(()));
        assert!(no_hole("broker-a", &[0, 128], &removed).is_err());
    }

    #[test]
    fn what_may_go_and_stays_is_found() {
        let names = [64, 128];
        let kept = Kept {
            names: &names,
            first_ms: &[900, 1_000],
            next_ms: Some(1_000),
            queues: &[],
            index: &[],
            need: Need::Old,
            reserved_ms: 500,
            clock_ms: 1_500,
        };
        let is_overdue = |kept: Kept<'_>| overdue("broker-a", &kept).is_some();
        assert!(is_overdue(kept));
        assert!(!is_overdue(Kept { next_ms: None, ..kept }), "the last one");
        assert!(!is_overdue(Kept { next_ms: Some(1_001), ..kept }), "a young one");
        assert!(is_overdue(Kept { next_ms: Some(1_001), need: Need::Any, ..kept }), "the disk has no room");
        let kept = Kept { next_ms: None, ..kept };
        let queue = |at| [("topic-0/0".to_owned(), at)];
        assert!(is_overdue(Kept { queues: &queue(63), ..kept }));
        assert!(!is_overdue(Kept { queues: &queue(64), ..kept }));
        assert!(is_overdue(Kept { index: &[(1, 63)], ..kept }));
        assert!(!is_overdue(Kept { index: &[(1, 64)], ..kept }));
    }

    #[test]
    fn a_minimum_that_points_at_nothing_is_rejected() {
        let entry = |at| Some(Entry { at, bytes: 100, tags_code: 0 });
        let judge = |min, entry| min_told("broker-a", ("topic-0", 0), (min, 5), entry, 64);
        assert_eq!(judge(2, entry(64)), Ok(()));
        assert!(judge(2, entry(63)).is_err());
        assert!(judge(2, None).is_err());
        assert_eq!(judge(5, None), Ok(()));
    }
}

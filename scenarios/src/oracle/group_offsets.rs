//! MOVED: what a broker says of a group's offset on a queue is what was told to it last. A commit is cut to the queue's end; a
//! group that an operator moves, to an offset or to a time, is told so by its next pull, once; and one that has committed nothing
//! begins at 0 where the queue does, and elsewhere by its own choice.
//!
//! Members keep what they were told and seldom ask again: brokers are asked by hand, by a group that nobody else is in.
//!
//! # Source
//! `spec/broker-semantics.md`, sections 10.1 and 16.

use super::search::{ByTime, End, by_time, records};
use super::{Broken, Verdict};
use crate::platter::BrokerDisk;

/// PULL_OFFSET_MOVED.
pub const MOVED: i32 = 21;

/// Where an operator moves a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Offset(i64),
    /// To the first message that is not older.
    Time(i64),
    End,
}

/// What is done with one queue, and what was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfGroup {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    pub target: Target,
    /// Committed before; it may lie beyond the queue's end.
    pub committed: i64,
    pub told: Told,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Told {
    /// The offset of a group that has committed nothing.
    pub fresh: Option<i64>,
    /// Of the group, once it has committed.
    pub committed: Option<i64>,
    /// Once it was moved.
    pub moved: Option<i64>,
    /// The codes of its next two pulls from the same offset, and where the first leads.
    pub pulls: (i32, i32),
    pub next: i64,
    /// Where these pulls asked.
    pub asked: i64,
}

/// Judges what was told by the broker's own disk, where nothing was added or deleted meanwhile.
///
/// # Errors
/// The first thing that is not so.
pub fn judge(asked: &OfGroup, disk: &BrokerDisk) -> Verdict {
    let OfGroup { broker, topic, queue, target, committed, told } = asked;
    let records = records(disk, topic, *queue);
    let (Some((min, _)), Some((last, _))) = (records.first(), records.last()) else { return Ok(()) };
    let (min, end) = (*min, last + 1);
    let wrong = |what: String| {
        let detail = format!("{broker}: {topic} queue {queue} from {min} to {end}: {what}");
        Err(Broken::new("MOVED", detail))
    };
    let begins = (min == 0).then_some(0);
    if told.fresh != begins {
        return wrong(format!("a new group is told {:?} instead of {begins:?}", told.fresh));
    }
    let within = Some((*committed).clamp(0, end));
    if told.committed != within {
        return wrong(format!(
            "a group commits {committed} and then is at {:?}, not {within:?}",
            told.committed
        ));
    }
    let moved = told.moved.unwrap_or(-1);
    let is_there = match *target {
        Target::Offset(offset) => moved == offset,
        Target::End => moved == end,
        Target::Time(time_ms) => {
            let (broker, topic, queue) = (broker.clone(), topic.clone(), *queue);
            let found = ByTime { broker, topic, queue, time_ms, end: End::First, found: moved };
            by_time(&found, disk).is_ok()
        }
    };
    if !is_there {
        return wrong(format!("a group is moved to {target:?} and then is at {:?}", told.moved));
    }
    let tells = told.asked != moved;
    if tells != (told.pulls.0 == MOVED && told.next == moved) || told.pulls.1 == MOVED {
        return wrong(format!(
            "a group was moved to {moved}; its pulls from {} are answered {:?}, and sent to {}",
            told.asked, told.pulls, told.next
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;

    fn good() -> OfGroup {
        OfGroup {
            broker: "broker-a".into(),
            topic: "topic-0".into(),
            queue: 0,
            target: Target::Offset(1),
            committed: 9,
            told: Told {
                fresh: Some(0),
                committed: Some(2),
                moved: Some(1),
                pulls: (MOVED, 0),
                next: 1,
                asked: 0,
            },
        }
    }

    fn judged(change: impl FnOnce(&mut OfGroup)) -> bool {
        let mut asked = good();
        change(&mut asked);
        judge(&asked, &disk(&[(1_000_000, 0), (1_000_001, 1)])).is_ok()
    }

    #[test]
    fn a_group_that_is_not_where_it_was_moved_is_found() {
        assert!(judged(|_| {}));
        assert!(!judged(|asked| asked.told.fresh = None));
        assert!(!judged(|asked| asked.told.committed = Some(9)), "beyond the end");
        assert!(!judged(|asked| asked.told.moved = Some(0)));
        assert!(!judged(|asked| asked.target = Target::End));
        assert!(judged(|asked| {
            (asked.target, asked.told.moved, asked.told.next) = (Target::End, Some(2), 2);
        }));
    }

    #[test]
    fn a_group_that_is_not_told_or_told_twice_is_found() {
        assert!(!judged(|asked| asked.told.pulls = (0, 0)));
        assert!(!judged(|asked| asked.told.pulls = (MOVED, MOVED)));
        assert!(!judged(|asked| asked.told.next = 0));
        assert!(judged(|asked| (asked.told.asked, asked.told.pulls) = (1, (0, 0))), "it is there already");
    }
}

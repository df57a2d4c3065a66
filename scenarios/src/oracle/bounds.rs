//! BOUNDS: what a broker tells of a queue and of its records is what its disk holds: where the queue begins and ends, when its
//! first and last message were stored, the first few messages from an offset on and no more of them than were asked for; and at
//! its end nothing, at once or when the time is over, as it was asked.
//!
//! Clients ask for most of this seldom or never; operators, consoles and clients that begin anew live by it.
//!
//! # Source
//! `spec/broker-semantics.md`, sections 10, 11 and 16; `spec/remoting.md`, section 7.

use std::ops::RangeInclusive;

use super::search::records;
use super::{Broken, Verdict};
use crate::platter::BrokerDisk;

/// PULL_NOT_FOUND.
pub const NOTHING_THERE: i32 = 19;

/// What is asked of one queue, and what was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfQueue {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    /// The first messages from there on are asked for, so many at most.
    pub from: i64,
    pub count: usize,
    /// How long a pull at the end may be held; 0: it is not to be.
    pub held_ms: u64,
    pub told: Told,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Told {
    pub min: i64,
    pub max: i64,
    /// When the first message was stored.
    pub earliest_ms: i64,
    /// Of the topic's statistics: begin, end, and when the last message was stored.
    pub stats: (i64, i64, i64),
    pub few: Few,
    /// The code of a pull at the end, and after how many ms it came.
    pub end: (i32, u64),
}

/// What a pull was given.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Few {
    /// Where the records are.
    pub found: Vec<u64>,
    pub next: i64,
    pub min: i64,
    pub max: i64,
}

/// A broker looks every 5 s which held pulls are over their time.
const HELD_LOOK_MS: u64 = 6_000;
/// A pull that is not held is answered within a few round trips, and the pauses that befall a process.
const AT_ONCE_MS: u64 = 1_500;

fn due(held_ms: u64) -> RangeInclusive<u64> {
    match held_ms {
        0 => 0..=AT_ONCE_MS,
        held_ms => held_ms..=held_ms + HELD_LOOK_MS,
    }
}

/// Judges what was told by the broker's own disk, where nothing was added meanwhile. `begins`: nothing was deleted either.
///
/// # Errors
/// The first thing that is not so.
pub fn judge(asked: &OfQueue, disk: &BrokerDisk, begins: bool) -> Verdict {
    let OfQueue { broker, topic, queue, from, count, held_ms, told } = asked;
    let records = records(disk, topic, *queue);
    let (Some((min, first)), Some((last, newest))) = (records.first(), records.last()) else { return Ok(()) };
    let (min, end) = (*min, last + 1);
    let mut wrong = Vec::new();
    let mut is = |what: &str, told: i64, is: i64| {
        if told != is {
            wrong.push(format!("{what} is told to be {told}, and is {is}"));
        }
    };
    is("its end", told.max, end);
    is("its end by statistics", told.stats.1, end);
    is("its end by a pull", told.few.max, end);
    is("its last time", told.stats.2, newest.store_ms);
    if begins {
        is("its beginning", told.min, min);
        is("its beginning by statistics", told.stats.0, min);
        is("its beginning by a pull", told.few.min, min);
        is("its first time", told.earliest_ms, first.store_ms);
    }
    let passed = records.iter().filter(|(n, _)| (*from..told.few.next).contains(n));
    let expected: Vec<u64> = passed.map(|(_, record)| record.at).collect();
    let few = &told.few.found;
    if begins && (few.is_empty() || few.len() > *count || *few != expected) {
        wrong.push(format!(
            "{count} messages from {from} to {} are {few:?}, and should be {expected:?}",
            told.few.next
        ));
    }
    let (code, after_ms) = told.end;
    if code != NOTHING_THERE || !due(*held_ms).contains(&after_ms) {
        wrong.push(format!(
            "a pull at its end that may be held for {held_ms} ms is answered {code} after {after_ms} ms"
        ));
    }
    match wrong.first() {
        None => Ok(()),
        Some(wrong) => Err(Broken::new("BOUNDS", format!("{broker}: {topic} queue {queue}: {wrong}"))),
    }
}

/// A message that is asked for by its place, and where what was given says that it lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByPlace {
    pub broker: String,
    pub at: u64,
    pub found: Vec<u64>,
}

/// # Errors
/// When it is not the one at that place.
pub fn by_place(asked: &ByPlace, disk: &BrokerDisk) -> Verdict {
    let ByPlace { broker, at, found } = asked;
    let is_there = *at >= disk.log.min && disk.log.at(*at).is_some();
    if !is_there || *found == [*at] {
        return Ok(());
    }
    Err(Broken::new("BOUNDS", format!("{broker}: the message at {at} is asked for, and {found:?} are given")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;

    #[test]
    fn whatever_is_told_wrong_is_rejected() {
        let mut disk = disk(&[(1_000_000, 0), (1_000_001, 1), (1_000_002, 2)]);
        for (record, store_ms) in disk.log.records.iter_mut().zip([10, 20, 30]) {
            record.store_ms = store_ms;
        }
        let at = |n: usize| disk.log.records[n].at;
        let right = OfQueue {
            broker: "broker-a".to_owned(),
            topic: "topic-0".to_owned(),
            queue: 0,
            from: 1,
            count: 1,
            held_ms: 0,
            told: Told {
                min: 0,
                max: 3,
                earliest_ms: 10,
                stats: (0, 3, 30),
                few: Few { found: vec![at(1)], next: 2, min: 0, max: 3 },
                end: (NOTHING_THERE, 3),
            },
        };
        let is_right = |asked: &OfQueue| judge(asked, &disk, true).is_ok();
        assert!(is_right(&right));
        let changes: [fn(&mut OfQueue); 11] = [
            |asked| asked.told.min = 1,
            |asked| asked.told.max = 2,
            |asked| asked.told.earliest_ms = -1,
            |asked| asked.told.stats = (0, 3, 10),
            |asked| asked.told.stats = (3, 3, 30),
            |asked| asked.told.few.min = 1,
            |asked| asked.told.few.max = asked.told.few.next,
            |asked| asked.told.few.found.clear(),
            |asked| asked.told.end.0 = 21,
            |asked| asked.told.end.1 = 15_000,
            |asked| asked.held_ms = 2_000,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut wrong = right.clone();
            change(&mut wrong);
            assert!(!is_right(&wrong), "change {number}");
        }
        let mut more = right.clone();
        more.told.few = Few { found: vec![at(1), at(2)], next: 3, ..more.told.few };
        assert!(!is_right(&more), "more than were asked for");
        assert!(is_right(&OfQueue { count: 2, ..more }));
        let held = Told { end: (NOTHING_THERE, 4_500), ..right.told.clone() };
        assert!(is_right(&OfQueue { held_ms: 2_000, told: held, ..right }));
        let asked = ByPlace { broker: "broker-a".to_owned(), at: at(1), found: vec![at(1)] };
        assert!(by_place(&asked, &disk).is_ok());
        for found in [vec![], vec![at(2)]] {
            assert!(by_place(&ByPlace { found, ..asked.clone() }, &disk).is_err());
        }
    }
}

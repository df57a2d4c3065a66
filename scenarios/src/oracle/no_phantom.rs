//! I7 and I20: only what was sent is read, whole, where it was sent to; what was cut off stays gone; what was refused
//! never appears.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/known-bugs.md`, S-01, S-04, S-09.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::ops::Range;

use super::{Broken, Final, Verdict};
use crate::cluster::address;
use crate::history::{History, Outcome};
use crate::platter::BrokerDisk;
use crate::platter::delayed::{is_sent, origin_topic};
use crate::platter::properties::find;
use crate::platter::record::Record;
use crate::workload::{FILLER, Identity, Kind, MessageId, filler, flag_of, identify};

/// Attempts that a client may make for one send.
const ATTEMPTS_MAX: usize = 3;

/// A message as somebody read it.
#[derive(Clone, Copy)]
pub struct Read<'a> {
    pub topic: &'a str,
    pub body: &'a [u8],
    pub flag: i32,
    pub born_ms: i64,
    /// Who has sent it, and which broker has taken it.
    pub hosts: (Option<SocketAddrV4>, Option<SocketAddrV4>),
    /// Values by name.
    pub property: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Which message it is, having checked every byte of it that the sender chose.
///
/// # Errors
/// When nobody sent this.
pub fn read(history: &History, read: &Read<'_>, from: &str) -> Result<MessageId, Broken> {
    let phantom = |why: String| Broken::new("I7/I20", format!("{from}: {why}"));
    let id = match identify(read.body) {
        Identity::Whole(id) => id,
        Identity::Damaged(id) => return Err(phantom(format!("message {} has a changed body", id.0))),
        Identity::Foreign => return Err(phantom("a body that nobody sent".to_owned())),
    };
    let Some(sent) = history.sends.get(&id) else {
        return Err(phantom(format!("message {} was never sent", id.0)));
    };
    if let Outcome::Refused { code } = sent.outcome {
        return Err(phantom(format!("message {} was refused with code {code}, and is there", id.0)));
    }
    if read.topic != sent.topic || read.body.len() != sent.body_bytes {
        return Err(phantom(format!(
            "message {} is in topic {} with {} bytes",
            id.0,
            read.topic,
            read.body.len()
        )));
    }
    if read.flag != flag_of(id) {
        return Err(phantom(format!("message {} has the flag {}, not {}", id.0, read.flag, flag_of(id))));
    }
    if read.born_ms < EARLIEST_MS {
        return Err(phantom(format!("message {} was born at {} ms", id.0, read.born_ms)));
    }
    let (born, stored) = (read.hosts.0.map(Side::of), read.hosts.1.map(Side::of));
    if born != Some(Side::Sender) || stored != Some(Side::Broker) {
        return Err(phantom(format!("message {} names as sender and broker {:?}", id.0, read.hosts)));
    }
    let padding = filler(id, sent.filler_bytes);
    let expected = [
        ("KEYS", Some(format!("k{}", id.0))),
        ("TAGS", Some(format!("t{}", id.0 % 4))),
        (FILLER, (sent.filler_bytes > 0).then_some(padding)),
    ];
    for (name, value) in expected {
        let found = (read.property)(name);
        if found != value.as_deref() {
            return Err(phantom(format!("message {} has property {name} = {found:?}", id.0)));
        }
    }
    Ok(id)
}

/// No clock of a run is set back before this.
const EARLIEST_MS: i64 = 1_000_000_000_000;

/// What a node is, by its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Sender,
    Broker,
    Other,
}

impl Side {
    fn of(host: SocketAddrV4) -> Side {
        let is = |node: &str| host.ip().octets()[..3] == address(node).octets()[..3];
        if is("producer-0") || is("operator-0") {
            Side::Sender
        } else if is("broker-a") || ["slave-a", "slave-a2"].into_iter().any(is) {
            Side::Broker
        } else {
            Side::Other
        }
    }
}

/// # Errors
/// The first record in the log that nobody sent so.
pub fn log(history: &History, broker: &str, disk: &BrokerDisk) -> Verdict {
    for record in disk.log.records.iter().filter(|record| is_ours(origin_topic(record))) {
        let from = format!("the record at {} of {broker}", record.at);
        let property = |name: &str| find(&record.properties, name);
        let sent = Read {
            topic: origin_topic(record),
            body: &record.body,
            flag: record.flag,
            born_ms: record.born_ms,
            hosts: (record.born_host, record.store_host),
            property: &property,
        };
        read(history, &sent, &from)?;
    }
    Ok(())
}

/// # Errors
/// The first message that is stored more often than it may have been sent.
pub fn copies(end: Final<'_>) -> Verdict {
    let mut copies: BTreeMap<MessageId, usize> = BTreeMap::new();
    let records = end.brokers.values().flat_map(|disk| &disk.log.records);
    for record in records.filter(|record| is_sent(record) && is_ours(origin_topic(record))) {
        if let Identity::Whole(id) = identify(&record.body) {
            *copies.entry(id).or_default() += 1;
        }
    }
    for (id, count) in copies {
        let limit = match end.history.sends.get(&id).map(|sent| sent.kind) {
            Some(Kind::OneWay) => 1,
            // Once for each time that it is committed: I14.
            Some(Kind::Transaction) => continue,
            _ => ATTEMPTS_MAX,
        };
        if count > limit {
            return Err(Broken::new("I7/I20", format!("message {} is stored {count} times", id.0)));
        }
    }
    Ok(())
}

/// Topics of the brokers' own are not the workload's.
pub(super) fn is_ours(topic: &str) -> bool {
    ["topic-", "late-", crate::workload::SLOW_TOPIC, crate::workload::PASSING]
        .iter()
        .any(|prefix| topic.starts_with(prefix))
}

/// A record's identity: the same message at the same place, stored at the same moment.
type Stored = (u64, i64, Vec<u8>);

fn stored(record: &Record) -> Stored {
    (record.at, record.store_ms, record.body.get(..17).unwrap_or(&record.body).to_vec())
}

/// What can be told apart from what is stored again: a copy of a half message that is put again after a cut may be the same to
/// the last byte, where a clock stands.
fn all_stored(disk: &BrokerDisk) -> BTreeSet<Stored> {
    disk.log.records.iter().filter(|record| !record.is_of_transaction()).map(stored).collect()
}

/// What one broker's log has held, and what of it a recovery has cut off.
#[derive(Clone, Default, Debug)]
pub struct Cuts {
    seen: BTreeSet<Stored>,
    cut: BTreeSet<Stored>,
}

impl Cuts {
    /// The log as it stood when the process died or before it starts.
    pub fn saw(&mut self, disk: &BrokerDisk) {
        self.seen.extend(all_stored(disk));
    }

    /// The log after a recovery, which may begin at `deleted`: what it no longer holds behind that is cut, and must not be there later. Nor may anything else stand
    /// behind its end, where new records of the right length would lead the next recovery into it (S-04).
    ///
    /// # Errors
    /// The first cut record that is back, or byte that was left.
    pub fn recovered(&mut self, broker: &str, disk: &BrokerDisk, deleted: u64) -> Verdict {
        if let Some(leftover) = disk.log.leftover {
            let end = disk.log.end;
            let detail = format!(
                "{broker}: the recovered log ends at {end}, and from {leftover} on old bytes are left"
            );
            return Err(Broken::new("I7/I20", detail));
        }
        let now = all_stored(disk);
        if let Some((at, store_ms, _)) = now.intersection(&self.cut).next() {
            return Err(Broken::new(
                "I7/I20",
                format!(
                    "{broker}: the record at {at}, stored at {store_ms}, was cut off by a recovery and is back"
                ),
            ));
        }
        let kept_from = deleted.min(disk.log.min);
        self.cut.extend(self.seen.difference(&now).filter(|(at, ..)| *at >= kept_from).cloned());
        self.seen.extend(now);
        Ok(())
    }

    /// The broker has appended these bytes of its log, at so many ms by its clock. Where that was set back the store time stands
    /// still, and the same message may be stored once more just as it was: what no longer can be told apart is not asked for,
    /// until a recovery cuts it off again.
    pub fn appended(&mut self, range: &Range<u64>, wall_ms: i64) {
        self.cut.retain(|(at, store_ms, _)| !range.contains(at) || *store_ms < wall_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::sent;
    use crate::history::{History, Outcome};
    use crate::oracle::queue_matches_log::tests::disk;

    fn history(outcome: Outcome) -> History {
        let mut history = History::default();
        history.started(MessageId(1_000_000), sent(0));
        history.ended(MessageId(1_000_000), 5, outcome);
        history
    }

    #[test]
    fn a_message_of_unknown_outcome_may_be_there_and_a_refused_one_may_not() {
        let disk = disk(&[(1_000_000, 0)]);
        assert_eq!(log(&history(Outcome::Unknown), "broker-a", &disk), Ok(()));
        assert!(log(&history(Outcome::Refused { code: 2 }), "broker-a", &disk).is_err());
        assert!(log(&History::default(), "broker-a", &disk).is_err());
    }

    #[test]
    fn a_changed_property_is_rejected() {
        let mut disk = disk(&[(1_000_000, 0)]);
        disk.log.records[0].properties = "KEYS\u{1}k1000000\u{2}TAGS\u{1}t1\u{2}".into();
        assert!(log(&history(Outcome::Unknown), "broker-a", &disk).is_err());
    }

    #[test]
    fn a_record_that_says_something_else_of_its_sender_is_rejected() {
        let changes: [fn(&mut Record); 5] = [
            |record| record.flag = 0,
            |record| record.born_ms = 0,
            |record| record.born_host = record.store_host,
            |record| record.store_host = record.born_host,
            |record| record.store_host = None,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut disk = disk(&[(1_000_000, 0)]);
            change(&mut disk.log.records[0]);
            assert!(log(&history(Outcome::Unknown), "broker-a", &disk).is_err(), "change {number}");
        }
    }

    #[test]
    fn more_copies_than_attempts_are_rejected() {
        let history = history(Outcome::Unknown);
        let judge = |copies: usize| {
            let messages: Vec<_> = (0..copies as i64).map(|offset| (1_000_000, offset)).collect();
            let brokers = [("broker-a".to_owned(), disk(&messages))].into();
            super::copies(Final {
                history: &history,
                sync_flush: true,
                committed_within_ms: None,
                flushed_within_ms: 0,
                brokers: &brokers,
            })
        };
        assert_eq!(judge(ATTEMPTS_MAX), Ok(()));
        assert!(judge(ATTEMPTS_MAX + 1).is_err());
    }

    #[test]
    fn a_cut_record_that_comes_back_is_rejected() {
        let long = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let short = disk(&[(1_000_000, 0)]);
        let mut cuts = Cuts::default();
        cuts.saw(&long);
        assert_eq!(cuts.recovered("broker-a", &short, 0), Ok(()));
        assert_eq!(cuts.recovered("broker-a", &short, 0), Ok(()));
        assert!(cuts.recovered("broker-a", &long, 0).is_err());
    }

    #[test]
    fn a_cut_record_is_appended_just_as_it_was_while_the_store_time_stands_still() {
        let (long, short) = (disk(&[(1_000_000, 0), (1_000_001, 1)]), disk(&[(1_000_000, 0)]));
        let (again, store_ms) = (long.log.records[1].at..long.log.end, long.log.records[1].store_ms);
        let judge = |range: Range<u64>, wall_ms: i64| {
            let mut cuts = Cuts::default();
            cuts.saw(&long);
            assert_eq!(cuts.recovered("broker-a", &short, 0), Ok(()));
            cuts.appended(&range, wall_ms);
            let there = cuts.recovered("broker-a", &long, 0);
            // Whatever a recovery cuts off again must stay gone again.
            assert_eq!(cuts.recovered("broker-a", &short, 0), Ok(()));
            assert!(cuts.recovered("broker-a", &long, 0).is_err());
            there
        };
        assert_eq!(judge(again.clone(), store_ms - 5_000), Ok(()));
        assert!(judge(again.clone(), store_ms + 1).is_err(), "what was appended then has a later store time");
        assert!(judge(0..again.start, store_ms - 5_000).is_err());
    }

    #[test]
    fn bytes_left_behind_a_recovered_log_are_rejected() {
        let mut disk = disk(&[(1_000_000, 0)]);
        assert_eq!(Cuts::default().recovered("broker-a", &disk, 0), Ok(()));
        disk.log.leftover = Some(disk.log.end + 300);
        assert!(Cuts::default().recovered("broker-a", &disk, 0).is_err());
    }
}

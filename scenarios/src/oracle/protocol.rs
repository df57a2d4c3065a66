//! PROTOCOL: what is asked of a node by bytes is answered as the specification says, what is answered as stored stands in the
//! log as it was sent, and what is refused does not.
//!
//! # Source
//! `spec/remoting.md`; `spec/broker-semantics.md`, sections 9, 10, 20 and 25; README.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use super::{Broken, Verdict};
use crate::platter::BrokerDisk;
use crate::platter::properties::pairs;
use crate::platter::record::Record;
use crate::wire::Frame;

/// The property by which a record is checked as a whole: no sender's.
const RECORD_CRC: &str = "__CRC32#";

/// A message as its record must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    pub topic: String,
    pub queue: i32,
    pub queue_offset: i64,
    /// Where the record begins.
    pub at: u64,
    pub flag: i32,
    pub system_flag: i32,
    pub born_ms: i64,
    pub born_host: SocketAddrV4,
    pub store_host: SocketAddrV4,
    pub reconsume_times: i32,
    pub properties: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What became of the messages that were sent to one broker by bytes.
#[derive(Clone, Default, Debug)]
pub struct Post {
    /// Answered as stored, and as durable as it gets.
    pub letters: Vec<Letter>,
    /// The bodies of those that were answered with a refusal.
    pub refused: BTreeSet<Vec<u8>>,
}

/// # Errors
/// When the answer to `what` has another code, or other values of those fields.
pub fn answer(what: &str, found: &Frame, code: i32, fields: &[(&str, String)]) -> Verdict {
    if found.code != code {
        let Frame { code: other, remark, .. } = found;
        return Err(Broken::new(
            "PROTOCOL",
            format!("{what}: the answer is {other} ({remark}), and not {code}"),
        ));
    }
    for (name, value) in fields {
        equal(&format!("{what}: the field {name}"), &found.field(name), &value.as_str())?;
    }
    Ok(())
}

/// # Errors
/// When they differ.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(Broken::new("PROTOCOL", format!("{what} is {found:?}, and not {expected:?}")))
}

/// # Errors
/// What of the record is not as it was sent.
pub fn record(what: &str, letter: &Letter, record: &Record) -> Verdict {
    let properties: Vec<(String, String)> = pairs(&record.properties)
        .filter(|(name, _)| *name != RECORD_CRC)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let found = Letter {
        topic: record.topic.clone(),
        queue: record.queue,
        queue_offset: record.queue_offset,
        at: record.at,
        flag: record.flag,
        system_flag: record.system_flag,
        born_ms: record.born_ms,
        born_host: record.born_host.unwrap_or(letter.store_host),
        store_host: record.store_host.unwrap_or(letter.born_host),
        reconsume_times: record.reconsume_times,
        properties,
        body: record.body.clone(),
    };
    equal(what, &found, letter)
}

/// At the end, on the raw disk of one broker.
///
/// # Errors
/// A letter that is not there, or not as it was sent; a refused one that is.
pub fn at_end(broker: &str, post: &Post, disk: &BrokerDisk) -> Verdict {
    let records: BTreeMap<u64, &Record> = disk.log.records.iter().map(|record| (record.at, record)).collect();
    for letter in &post.letters {
        let what = format!("the record at {} of {broker}", letter.at);
        match records.get(&letter.at) {
            Some(found) => record(&what, letter, found)?,
            None => return Err(Broken::new("PROTOCOL", format!("{what} is not there: {letter:?}"))),
        }
    }
    match records.values().find(|record| post.refused.contains(&record.body)) {
        Some(record) => Err(Broken::new(
            "PROTOCOL",
            format!("{broker} has refused what stands at {} of its log, in {}", record.at, record.topic),
        )),
        None => Ok(()),
    }
}

/// A value that requests change of which some have no answer: what it may be.
#[derive(Clone, Debug)]
pub struct Known<T> {
    may_be: BTreeSet<T>,
    /// What a request without an answer may still make of it, until when.
    lingers: Vec<(T, u64)>,
}

/// A request without an answer arrives within this, or never.
const LINGERS_MS: u64 = 60_000;

impl<T: Ord + Clone + std::fmt::Debug> Known<T> {
    pub fn new(value: T) -> Known<T> {
        Known { may_be: [value].into(), lingers: Vec::new() }
    }

    /// A change was answered.
    pub fn is(&mut self, value: T) {
        self.may_be = [value].into();
    }

    /// A change was not answered.
    pub fn may_become(&mut self, value: T, now_ms: u64) {
        self.may_be.insert(value.clone());
        self.lingers.push((value, now_ms + LINGERS_MS));
    }

    /// # Errors
    /// When it can not be what was read.
    pub fn read(&mut self, what: &str, value: T, now_ms: u64) -> Verdict {
        self.lingers.retain(|(_, until_ms)| *until_ms >= now_ms);
        if !self.may_be.contains(&value) && self.lingers.iter().all(|(lingering, _)| *lingering != value) {
            let detail = format!("{what} is {value:?}, and not one of {:?}", self.may_be);
            return Err(Broken::new("PROTOCOL", detail));
        }
        self.may_be = [value].into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;
    use crate::wire::{Fields, Form};

    fn letter(record: &Record) -> Letter {
        let host = SocketAddrV4::new([10, 0, 0, 1].into(), 1);
        Letter {
            topic: record.topic.clone(),
            queue: record.queue,
            queue_offset: record.queue_offset,
            at: record.at,
            flag: record.flag,
            system_flag: record.system_flag,
            born_ms: record.born_ms,
            born_host: record.born_host.unwrap_or(host),
            store_host: record.store_host.unwrap_or(host),
            reconsume_times: record.reconsume_times,
            properties: pairs(&record.properties).map(|(name, value)| (name.into(), value.into())).collect(),
            body: record.body.clone(),
        }
    }

    #[test]
    fn an_answer_with_another_code_or_field_is_rejected() {
        let fields: Fields = [("queueId".to_owned(), "1".to_owned())].into();
        let found = Frame::request(Form::Json, 0, fields, Vec::new());
        let one = |value: &str| [("queueId", value.to_owned())];
        assert_eq!(answer("it", &found, 0, &one("1")), Ok(()));
        assert!(answer("it", &found, 13, &one("1")).is_err());
        assert!(answer("it", &found, 0, &one("2")).is_err());
        assert!(answer("it", &found, 0, &[("msgId", "1".to_owned())]).is_err());
    }

    #[test]
    fn a_letter_that_is_changed_or_gone_is_rejected_and_so_is_a_refused_one_that_is_there() {
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let (one, other) = (&disk.log.records[0], &disk.log.records[1]);
        let judge = |letters: &[Letter], refused: &[Vec<u8>]| {
            let post = Post { letters: letters.to_vec(), refused: refused.iter().cloned().collect() };
            at_end("broker-a", &post, &disk)
        };
        assert_eq!(judge(&[letter(one), letter(other)], &[b"none".to_vec()]), Ok(()));
        assert!(judge(&[Letter { flag: one.flag + 1, ..letter(one) }], &[]).is_err());
        assert!(judge(&[Letter { at: one.at + 1, ..letter(one) }], &[]).is_err());
        assert!(judge(&[], std::slice::from_ref(&other.body)).is_err());
    }

    #[test]
    fn what_a_value_can_not_be_is_rejected() {
        let mut known = Known::new(0);
        known.is(1);
        known.may_become(2, 100);
        assert!(known.clone().read("it", 0, 100).is_err());
        assert_eq!(known.read("it", 1, 100), Ok(()));
        assert_eq!(known.clone().read("it", 2, 100), Ok(()), "it may come late");
        assert!(known.read("it", 2, 100 + LINGERS_MS + 1).is_err());
    }
}

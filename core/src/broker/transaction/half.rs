//! What a half message is on disk, and what is made of it: pure functions.
//!
//! A half record is an ordinary one, of type none, in queue 0 of the half topic, so that it has a queue offset there. The
//! real topic and queue are in the properties `REAL_TOPIC` and `REAL_QID`.
//!
//! # Source
//! apache/rocketmq 4.9.7, `TransactionalMessageBridge` and `EndTransactionProcessor#endMessageTransaction`.

use std::net::SocketAddr;

use crate::message::properties::{self, Properties};
use crate::message::{MessageToStore, StoredMessage, sys_flag};

use super::super::names;

/// Properties that are the broker's to set.
const OURS: [&str; 4] = [
    properties::REAL_TOPIC,
    properties::REAL_QID,
    properties::TRANSACTION_CHECK_TIMES,
    properties::TRAN_PREPARED_QUEUE_OFFSET,
];

/// Whether a send is a half message. The copy that a consumer hands back may still carry the mark of the transaction it came
/// from; as a half message nobody would ever see it (T-04).
pub(in super::super) fn is_half(
    marked: bool,
    topic: &str,
    reconsume_times: Option<i32>,
    delay_level: i32,
) -> bool {
    marked && !is_retry(topic, reconsume_times, delay_level)
}

/// Whether a send is such a copy.
fn is_retry(topic: &str, reconsume_times: Option<i32>, delay_level: i32) -> bool {
    topic.starts_with(names::RETRY_PREFIX) || (reconsume_times.unwrap_or(0) > 0 && delay_level > 0)
}

/// The property string of the half record for a message with these stored properties; `raw` are those that came, whose
/// `WAIT` half messages keep.
pub(in super::super) fn properties_of(stored: &str, raw: &str, topic: &str, queue_id: i32) -> String {
    let mut properties = properties::decode(stored);
    for name in OURS {
        properties.remove(name);
    }
    if let Some(wait) = properties::find(raw, properties::WAIT) {
        properties.set(properties::WAIT, wait);
    }
    properties.set(properties::REAL_TOPIC, topic);
    properties.set(properties::REAL_QID, queue_id.to_string());
    properties.encode(false)
}

/// The half record of `message`.
pub(in super::super) fn record<'a>(message: MessageToStore<'a>, properties: &'a str) -> MessageToStore<'a> {
    MessageToStore {
        topic: names::HALF_TOPIC,
        queue_id: 0,
        sys_flag: sys_flag::with_transaction_type(message.sys_flag, sys_flag::TRANSACTION_NONE),
        properties,
        ..message
    }
}

/// A half record read back.
pub(in super::super) struct Half {
    pub message: StoredMessage,
    pub properties: Properties,
}

impl Half {
    pub fn new(message: StoredMessage) -> Half {
        let properties = properties::decode(&message.properties);
        Half { message, properties }
    }

    /// Where its message is to go; `None` when the record does not say.
    pub fn real_queue(&self) -> Option<(&str, i32)> {
        let topic = self.properties.get(properties::REAL_TOPIC)?;
        Some((topic, self.properties.get(properties::REAL_QID)?.parse().ok()?))
    }

    /// The group that its producer is in.
    pub fn group(&self) -> Option<&str> {
        self.properties.get(properties::PGROUP)
    }

    pub fn unique_key(&self) -> Option<&str> {
        self.properties.get(properties::UNIQ_KEY)
    }

    /// How often producers were asked; a number that is none counts as never.
    pub fn check_times(&self) -> u32 {
        let times = self.properties.get(properties::TRANSACTION_CHECK_TIMES);
        times.and_then(|times| times.parse().ok()).unwrap_or(0)
    }

    /// How long it wants not to be asked about, in ms; the usual time when what it says is no number or -1.
    pub fn immunity_ms(&self, usual_ms: u64) -> Option<u64> {
        let text = self.properties.get(properties::CHECK_IMMUNITY_TIME_IN_SECONDS)?;
        let seconds = text.parse::<i64>().ok().and_then(|seconds| u64::try_from(seconds).ok());
        Some(seconds.map_or(usual_ms, |seconds| seconds.saturating_mul(1_000)))
    }

    /// The queue offset of the half message that this is a copy of, if it was put again and nobody was asked.
    pub fn prepared_offset(&self) -> Option<i64> {
        self.properties.get(properties::TRAN_PREPARED_QUEUE_OFFSET)?.parse().ok()
    }

    /// The properties of its copy once it has been asked for.
    pub fn asked_properties(&self) -> String {
        let mut properties = self.copy_properties();
        properties
            .set(properties::TRANSACTION_CHECK_TIMES, (self.check_times().saturating_add(1)).to_string());
        properties.encode(false)
    }

    /// The properties of its copy when nobody was asked.
    pub fn uncounted_properties(&self) -> String {
        let mut properties = self.copy_properties();
        let prepared = self.prepared_offset().unwrap_or(self.message.queue_offset);
        properties.set(properties::TRAN_PREPARED_QUEUE_OFFSET, prepared.to_string());
        properties.encode(false)
    }

    fn copy_properties(&self) -> Properties {
        let mut properties = self.properties.clone();
        properties.remove(properties::CRC32);
        properties.set(properties::WAIT, "false");
        properties
    }

    /// Its copy at the end of the half topic.
    pub fn copy<'a>(&'a self, properties: &'a str, store_host: SocketAddr) -> MessageToStore<'a> {
        MessageToStore {
            properties,
            ..self.stored_again(&self.message.topic, self.message.queue_id, store_host)
        }
    }

    /// The final message.
    pub fn committed<'a>(
        &'a self,
        topic: &'a str,
        queue_id: i32,
        store_host: SocketAddr,
    ) -> MessageToStore<'a> {
        let half = &self.message;
        MessageToStore {
            sys_flag: sys_flag::with_transaction_type(half.sys_flag, sys_flag::TRANSACTION_COMMIT),
            prepared_transaction_offset: i64::try_from(half.physical_offset).unwrap_or(i64::MAX),
            ..self.stored_again(topic, queue_id, store_host)
        }
    }

    /// The same message in that queue.
    pub fn stored_again<'a>(
        &'a self,
        topic: &'a str,
        queue_id: i32,
        store_host: SocketAddr,
    ) -> MessageToStore<'a> {
        let half = &self.message;
        MessageToStore {
            topic,
            queue_id,
            flag: half.flag,
            sys_flag: half.sys_flag,
            born_timestamp: half.born_timestamp,
            born_host: half.born_host,
            store_host,
            reconsume_times: half.reconsume_times,
            prepared_transaction_offset: 0,
            body: &half.body,
            properties: &half.properties,
            wait_for_flush: false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;

    pub fn half(properties: &str) -> Half {
        let host = "127.0.0.1:10911".parse().expect("an address");
        Half::new(StoredMessage {
            topic: names::HALF_TOPIC.to_owned(),
            queue_id: 0,
            flag: 3,
            queue_offset: 7,
            physical_offset: 4_096,
            sys_flag: sys_flag::COMPRESSED,
            born_timestamp: 1_000,
            born_host: host,
            store_timestamp: 1_001,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: Bytes::from_static(b"body"),
            body_crc: 0,
            properties: properties.to_owned(),
            store_size: 200,
        })
    }

    #[test]
    fn the_copy_that_a_consumer_hands_back_is_no_half_message() {
        assert!(is_half(true, "T", Some(0), 0));
        assert!(is_half(true, "T", None, 3));
        assert!(is_half(true, "T", Some(2), 0));
        assert!(!is_half(false, "T", Some(0), 0));
        assert!(!is_half(true, "T", Some(1), 3));
        assert!(!is_half(true, "%RETRY%G", Some(1), 0));
    }

    #[test]
    fn a_half_record_names_its_real_queue_and_keeps_what_came() {
        let raw = "TRAN_MSG\u{1}true\u{2}WAIT\u{1}true\u{2}REAL_TOPIC\u{1}forged\u{2}TRANSACTION_CHECK_TIMES\u{1}99";
        let stored = "TRAN_MSG\u{1}true\u{2}REAL_TOPIC\u{1}forged\u{2}TRANSACTION_CHECK_TIMES\u{1}99\u{2}CLUSTER\u{1}C";
        let made = properties::decode(&properties_of(stored, raw, "T", 3));
        let expect = [
            ("TRAN_MSG", "true"),
            ("CLUSTER", "C"),
            ("WAIT", "true"),
            ("REAL_TOPIC", "T"),
            ("REAL_QID", "3"),
        ];
        assert_eq!(made.iter().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn copies_count_checks_or_remember_the_first_place() {
        let first = half("PGROUP\u{1}g\u{2}WAIT\u{1}true");
        assert_eq!(
            first.asked_properties(),
            "PGROUP\u{1}g\u{2}WAIT\u{1}false\u{2}TRANSACTION_CHECK_TIMES\u{1}1"
        );
        let again = half(&first.asked_properties());
        assert_eq!(half(&again.asked_properties()).check_times(), 2);
        let immune = half(&first.uncounted_properties());
        assert_eq!((immune.prepared_offset(), immune.check_times()), (Some(7), 0));
        let mut later = half(&immune.uncounted_properties());
        later.message.queue_offset = 50;
        assert_eq!(half(&later.uncounted_properties()).prepared_offset(), Some(7));
    }

    #[test]
    fn immunity_is_in_seconds_and_the_usual_time_where_it_is_none() {
        for (text, expect) in [("20", 20_000), ("0", 0), ("-1", 6_000), ("x", 6_000)] {
            let half = half(&format!("CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}{text}"));
            assert_eq!(half.immunity_ms(6_000), Some(expect), "{text}");
        }
        assert_eq!(half("").immunity_ms(6_000), None);
    }

    #[test]
    fn the_final_message_is_the_half_in_its_real_queue() {
        let half = half("REAL_TOPIC\u{1}T\u{2}REAL_QID\u{1}2\u{2}TRAN_MSG\u{1}true");
        let (topic, queue_id) = half.real_queue().expect("both are there");
        let made = half.committed(topic, queue_id, "10.0.0.1:1".parse().expect("an address"));
        assert_eq!((made.topic, made.queue_id, made.flag, made.born_timestamp), ("T", 2, 3, 1_000));
        assert_eq!(made.sys_flag, sys_flag::COMPRESSED | sys_flag::TRANSACTION_COMMIT);
        assert_eq!(
            (made.prepared_transaction_offset, made.properties),
            (4_096, half.message.properties.as_str())
        );
    }
}

//! A message on its way into the delay topic and out of it.
//!
//! In: topic and queue become those of its level, and where it really goes is kept in two properties. Out: it goes there. The
//! delivered copy keeps all properties, `DELAY` among them, which act on a send and not on what is stored.

use crate::broker::names;
use crate::message::{MessageToStore, StoredMessage, properties};

/// The queue of the delay topic that a level has.
pub(crate) fn queue_of(level: i32) -> i32 {
    level - 1
}

/// What of a message is another while it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delayed {
    queue_id: i32,
    properties: String,
}

impl Delayed {
    /// What `message` asks for by its property `DELAY`, where there are so many levels; `None` when it is not to wait. A level
    /// above the last is the last.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `CommitLog#asyncPutMessage`.
    pub fn by_property(message: &MessageToStore<'_>, level_count: usize) -> Option<Delayed> {
        let asked = properties::find(message.properties, properties::DELAY)?.parse().ok();
        let last = i32::try_from(level_count).unwrap_or(i32::MAX);
        let level = asked.filter(|level: &i32| *level > 0)?.min(last);
        let mut kept = properties::decode(message.properties);
        kept.set(properties::DELAY, level.to_string());
        kept.set(properties::REAL_TOPIC, message.topic);
        kept.set(properties::REAL_QID, message.queue_id.to_string());
        Some(Delayed { queue_id: queue_of(level), properties: kept.encode(false) })
    }

    /// `message` as it is stored until it is due.
    pub fn message<'a>(&'a self, message: &MessageToStore<'a>) -> MessageToStore<'a> {
        MessageToStore {
            topic: names::SCHEDULE_TOPIC,
            queue_id: self.queue_id,
            properties: &self.properties,
            ..*message
        }
    }
}

/// Where a message that waits really goes: its topic and its queue. `None` when it does not say.
pub(crate) fn destination(waiting: &StoredMessage) -> Option<(&str, i32)> {
    let topic = properties::find(&waiting.properties, properties::REAL_TOPIC)?;
    let queue_id = properties::find(&waiting.properties, properties::REAL_QID)?.parse().ok()?;
    Some((topic, queue_id))
}

/// What is stored at `(topic, queue_id)` when `waiting` is due.
///
/// # Source
/// apache/rocketmq 4.9.7, `ScheduleMessageService.DeliverDelayedMessageTimerTask#messageTimeup`.
pub(crate) fn due<'a>(waiting: &'a StoredMessage, (topic, queue_id): (&'a str, i32)) -> MessageToStore<'a> {
    MessageToStore {
        topic,
        queue_id,
        flag: waiting.flag,
        sys_flag: waiting.sys_flag,
        born_timestamp: waiting.born_timestamp,
        born_host: waiting.born_host,
        store_host: waiting.store_host,
        reconsume_times: waiting.reconsume_times,
        prepared_transaction_offset: waiting.prepared_transaction_offset,
        body: &waiting.body,
        properties: &waiting.properties,
        wait_for_flush: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn message(properties: &str) -> MessageToStore<'_> {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        MessageToStore {
            topic: "T",
            queue_id: 3,
            flag: 7,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"x",
            properties,
            wait_for_flush: true,
        }
    }

    #[test]
    fn a_level_names_its_queue_and_one_above_the_last_is_the_last() {
        for (asked, queue) in [("1", 0), ("18", 17), ("25", 17)] {
            let text = format!("KEYS\u{1}k\u{2}DELAY\u{1}{asked}\u{2}REAL_TOPIC\u{1}elsewhere");
            let message = message(&text);
            let delayed = Delayed::by_property(&message, 18).expect("a level");
            let stored = delayed.message(&message);
            assert_eq!((stored.topic, stored.queue_id, stored.flag), ("SCHEDULE_TOPIC_XXXX", queue, 7));
            let kept = properties::decode(stored.properties);
            let level = (queue + 1).to_string();
            assert_eq!(kept.get("DELAY"), Some(level.as_str()), "as Java corrects it");
            assert_eq!((kept.get("REAL_TOPIC"), kept.get("REAL_QID")), (Some("T"), Some("3")));
            assert_eq!(kept.get("KEYS"), Some("k"));
        }
        for not_delayed in ["", "DELAY\u{1}0", "DELAY\u{1}-1", "DELAY\u{1}x"] {
            assert_eq!(Delayed::by_property(&message(not_delayed), 18), None, "{not_delayed:?}");
        }
    }
}

//! What records say about being delivered later: who waits, which copy is whose, and when it was due.

use std::collections::BTreeMap;

use super::properties::find;
use super::record::Record;
use crate::workload::{Identity, MessageId, identify};

pub const DELAY_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DLQ_PREFIX: &str = "%DLQ%";

/// One waiting message and its copies: the message, where it goes, and how often it was tried.
pub type Key = (MessageId, String, i32, i32);

/// What a record is to the delivery of its message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// It waits in the queue of its level.
    Waits(Key),
    /// It was delivered when its time had come.
    Copy(Key),
    /// Neither.
    Neither,
}

/// Which part a record plays; `Neither` also for bodies that are not the workload's.
#[must_use]
pub fn part(record: &Record) -> Part {
    // Half messages name their real queue in the same properties, and so do those made of them.
    if record.is_of_transaction() {
        return Part::Neither;
    }
    let real = |name| find(&record.properties, name);
    let (Some(topic), Some(queue)) =
        (real("REAL_TOPIC"), real("REAL_QID").and_then(|queue| queue.parse().ok()))
    else {
        return Part::Neither;
    };
    let Identity::Whole(id) = identify(&record.body) else { return Part::Neither };
    let key = (id, topic.to_owned(), queue, record.reconsume_times);
    if record.topic == DELAY_TOPIC {
        return Part::Waits(key);
    }
    // A dead letter keeps the properties of its last try.
    if record.topic == topic && record.queue == queue { Part::Copy(key) } else { Part::Neither }
}

/// Whether it was a client that sent this record, and not the broker that put it again.
#[must_use]
pub fn is_sent(record: &Record) -> bool {
    let put_again = |topic: &str| topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX);
    match find(&record.properties, "REAL_TOPIC") {
        Some(real) => record.topic == DELAY_TOPIC && !put_again(real),
        None => !put_again(&record.topic),
    }
}

/// The topic that the message of a record was sent to.
#[must_use]
pub fn origin_topic(record: &Record) -> &str {
    let property = |name| find(&record.properties, name);
    property("RETRY_TOPIC").or_else(|| property("REAL_TOPIC")).unwrap_or(&record.topic)
}

/// The delays of a setting, in ms.
#[must_use]
pub fn levels_ms(text: &str) -> Vec<u64> {
    let seconds = text.split(' ').filter_map(|level| level.strip_suffix('s')?.parse::<u64>().ok());
    seconds.map(|seconds| seconds * 1_000).collect()
}

/// The delay of a level, counted from 1; those above the last are the last, and 0 is none.
#[must_use]
pub fn delay_ms(level: u32, levels_ms: &[u64]) -> u64 {
    let index = (level as usize).min(levels_ms.len()).checked_sub(1);
    index.and_then(|index| levels_ms.get(index)).copied().unwrap_or(0)
}

/// When a waiting record is due, by its broker's wall clock; `None` when it does not wait.
#[must_use]
pub fn due_ms(record: &Record, levels_ms: &[u64]) -> Option<i64> {
    let level = find(&record.properties, "DELAY")?.parse().ok().filter(|level| *level > 0)?;
    Some(record.store_ms + delay_ms(level, levels_ms) as i64)
}

/// How often each key is among `parts`.
#[must_use]
pub fn count<'a>(parts: impl Iterator<Item = &'a Key>) -> BTreeMap<&'a Key, usize> {
    let mut counts = BTreeMap::new();
    for key in parts {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

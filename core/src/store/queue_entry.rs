//! One ConsumeQueue entry: 20 bytes, big-endian.
//!   0..8    physical offset of the record, in bytes
//!   8..12   size of the whole record, in bytes
//!   12..20  hash of the tag; in the delay topic, the due time in ms
//! A pre-blank entry (0, 0x7FFFFFFF, 0) fills a file's beginning when the queue starts in its middle. Zero bytes end a queue.
//!
//! Invariant: entries are dense, so entry n of a queue is queue offset n.

use super::filing::Filing;
use crate::message::codec::Record;
use crate::message::{hash, properties, sys_flag};

pub(crate) const ENTRY_BYTES: usize = 20;
const PRE_BLANK_SIZE: u32 = 0x7FFF_FFFF;

/// The topic whose queues carry due times.
pub(super) const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Addresses of the extension are below all hashes.
const EXTENSION_ADDRESS_MAX: i64 = i32::MIN as i64 - 1;
/// What Java adds for a level its table does not know, in ms.
const UNKNOWN_LEVEL_MS: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub physical_offset: u64,
    pub size: u32,
    pub tags_code: i64,
}

/// What 20 bytes of a queue file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Entry(Entry),
    PreBlank,
    /// Zeros, or bytes that no entry has: the queue ends here.
    Nothing,
}

impl Entry {
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let (offset, rest) = bytes.split_at_mut(8);
        let (size, tags) = rest.split_at_mut(4);
        offset.copy_from_slice(&self.physical_offset.to_be_bytes());
        size.copy_from_slice(&self.size.to_be_bytes());
        tags.copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// First byte of the log behind the record.
    pub fn end(&self) -> u64 {
        self.physical_offset.saturating_add(u64::from(self.size))
    }

    /// In the place of the tag's hash stands the address of a unit of the queue's extension.
    pub fn is_extended(&self) -> bool {
        self.tags_code <= EXTENSION_ADDRESS_MAX
    }

    /// The entry of `record`; `None` for prepared and rolled back messages, which no consumer sees.
    pub fn of(record: &Record<'_>, delay_levels_ms: &[i64]) -> Option<Entry> {
        Entry::filed(record, &Filing::of(record), delay_levels_ms)
    }

    /// As [`Self::of`], of a record whose `filing` has been read.
    pub fn filed(record: &Record<'_>, filing: &Filing<'_>, delay_levels_ms: &[i64]) -> Option<Entry> {
        let seen = matches!(
            sys_flag::transaction_type(record.sys_flag),
            sys_flag::TRANSACTION_NONE | sys_flag::TRANSACTION_COMMIT
        );
        if !seen {
            return None;
        }
        Some(Entry {
            physical_offset: record.physical_offset,
            size: record.size,
            tags_code: tags_code(record, filing, delay_levels_ms),
        })
    }
}

/// The queues besides its own that Java has put `record` into, and its offset in each.
pub(crate) fn light_queues<'a>(record: &'a Record<'_>) -> impl Iterator<Item = (&'a str, i32, i64)> {
    let (properties, queue_id) = (record.properties.as_ref(), record.queue_id);
    // Most records are spared the look at each property.
    let find = |name| if properties.contains(name) { properties::find(properties, name) } else { None };
    let offsets = find(properties::INNER_MULTI_QUEUE_OFFSET).unwrap_or_default();
    let queues = if offsets.is_empty() { None } else { find(properties::INNER_MULTI_DISPATCH) };
    let queues = queues.unwrap_or_default();
    let same_count = queues.split(',').count() == offsets.split(',').count();
    let pairs = queues.split(',').zip(offsets.split(',')).filter(move |_| same_count);
    pairs.filter_map(move |(queue, offset)| {
        let queue_id = if queue.starts_with("%LMQ%") { 0 } else { queue_id };
        let offset = offset.parse().ok().filter(|offset| *offset >= 0)?;
        let plain = !queue.is_empty() && !queue.contains(['/', '\0']) && queue != "." && queue != "..";
        plain.then_some((queue, queue_id, offset))
    })
}

fn tags_code(record: &Record<'_>, filing: &Filing<'_>, delay_levels_ms: &[i64]) -> i64 {
    if record.topic == SCHEDULE_TOPIC
        && let Some(level) = filing.delay.and_then(|level| level.parse().ok())
        && let Some(due) = due_time(level, record.store_timestamp, delay_levels_ms)
    {
        return due;
    }
    hash::tags_code(filing.tags)
}

/// When a delayed message is due: levels count from 1, those above the last are the last.
fn due_time(level: i64, store_timestamp: i64, delay_levels_ms: &[i64]) -> Option<i64> {
    if level <= 0 {
        return None;
    }
    let last = delay_levels_ms.len();
    let index = usize::try_from(level).unwrap_or(last).min(last).checked_sub(1);
    let delay = index.and_then(|index| delay_levels_ms.get(index)).copied().unwrap_or(UNKNOWN_LEVEL_MS);
    Some(store_timestamp.saturating_add(delay))
}

impl Unit {
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Unit {
        let [a, b, c, d, e, f, g, h, i, j, k, l, tags @ ..] = *bytes;
        let physical_offset = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let size = u32::from_be_bytes([i, j, k, l]);
        let tags_code = i64::from_be_bytes(tags);
        let entry = Entry { physical_offset, size, tags_code };
        let valid = i64::try_from(physical_offset).is_ok() && size > 0 && i32::try_from(size).is_ok();
        match entry {
            Entry { physical_offset: 0, size: PRE_BLANK_SIZE, tags_code: 0 } => Unit::PreBlank,
            entry if valid => Unit::Entry(entry),
            _ => Unit::Nothing,
        }
    }

    pub fn entry(self) -> Option<Entry> {
        match self {
            Unit::Entry(entry) => Some(entry),
            _ => None,
        }
    }
}

/// `count` pre-blank entries.
pub(crate) fn pre_blank(count: usize) -> Vec<u8> {
    Entry { physical_offset: 0, size: PRE_BLANK_SIZE, tags_code: 0 }.encode().repeat(count)
}

/// The units in `bytes`; what is less than a unit at the end is left out.
pub(crate) fn units(bytes: &[u8]) -> impl Iterator<Item = Unit> + '_ {
    bytes.as_chunks::<ENTRY_BYTES>().0.iter().map(Unit::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_those_that_java_writes() {
        let bytes = b"\0\0\0\0\0\0\0\xb7\0\0\0\xbe\0\0\0\0\0\x27\xa8\x08";
        let entry = Entry { physical_offset: 183, size: 190, tags_code: 2_598_920 };
        assert_eq!(Unit::decode(bytes), Unit::Entry(entry));
        assert_eq!(&entry.encode(), bytes);
        assert_eq!(entry.end(), 373);
    }

    #[test]
    fn zeros_end_a_queue_and_pre_blanks_are_no_entries() {
        assert_eq!(Unit::decode(&[0; ENTRY_BYTES]), Unit::Nothing);
        assert_eq!(Unit::decode(&[0xFF; ENTRY_BYTES]), Unit::Nothing);
        assert_eq!(units(&pre_blank(3)).collect::<Vec<_>>(), [Unit::PreBlank; 3]);
    }

    #[test]
    fn a_delayed_message_is_due_after_its_level() {
        let levels = [1_000, 5_000];
        assert_eq!(due_time(1, 10, &levels), Some(1_010));
        assert_eq!(due_time(25, 10, &levels), Some(5_010));
        assert_eq!(due_time(0, 10, &levels), None);
        assert_eq!(due_time(1, 10, &[]), Some(1_010));
    }
}

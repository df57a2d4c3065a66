//! Reading: by queue offset, by time, by place in the log.

use std::io;

use bytes::Bytes;

use super::MessageStore;
use super::answer::{Boundary, GetStatus, Read};
use super::config::ReadLimits;
use super::consume_queue::{ConsumeQueue, READ_ENTRIES_MAX};
use super::index::{By, Found, Wanted};
use super::mapped_file_queue::shared;
use super::queue_entry::Entry;
use crate::message::codec::{self, Check, Head};
use crate::runtime::{Mark, Mutant, Runtime};

/// Entries one read looks at when fewer messages are asked for: Java's 16,000 bytes of queue.
const LOOK_ENTRIES: usize = READ_ENTRIES_MAX;
/// Bytes of one answer, whatever the caller asks.
const ANSWER_BYTES_MAX: u64 = 128 << 20;
/// Of a look-up by key: with its header it fits the frames of Java's clients, which take 16 MiB.
const QUERY_BYTES_MAX: usize = 15 << 20;

/// Which messages a read gives.
#[derive(Clone, Copy)]
pub struct ReadFilter<'a> {
    /// By the hash in the queue entry.
    pub by_tag: &'a (dyn Fn(i64) -> bool + Sync),
    /// By the property string of the record; asked only where the hash passes.
    pub by_properties: Option<&'a (dyn Fn(&str) -> bool + Sync)>,
}

/// What a read has collected: places of whole records, as runs without gaps.
#[derive(Default)]
struct Collected {
    /// Start, end and number of records.
    runs: Vec<(u64, u64, usize)>,
    bytes: u64,
    count: usize,
    /// The last entry looked at points here.
    last_offset: u64,
    /// Queue offset behind it.
    next_begin: i64,
    /// The last record that was to be given is deleted.
    removed: bool,
}

impl Collected {
    fn push(&mut self, entry: &Entry, file_bytes: u64) {
        let (start, end) = (entry.physical_offset, entry.end());
        match self.runs.last_mut() {
            // A view does not cross a file.
            Some((_, run_end, records)) if *run_end == start && start % file_bytes != 0 => {
                *run_end = end;
                *records += 1;
            }
            _ => self.runs.push((start, end, 1)),
        }
        self.bytes += u64::from(entry.size);
        self.count += 1;
    }

    /// Whether Java would stop before `next`, wanted or not. The first message is given whatever its size.
    fn is_full(&self, next: &Entry, max_count: usize, hot: bool, limits: &ReadLimits) -> bool {
        if self.count == 0 {
            return false;
        }
        let bytes = self.bytes.saturating_add(u64::from(next.size));
        let (bytes_max, count_max) = match hot {
            true => (limits.hot_bytes, limits.hot_count),
            false => (limits.cold_bytes, limits.cold_count),
        };
        self.count >= max_count || bytes > ANSWER_BYTES_MAX || bytes > bytes_max || self.count >= count_max
    }
}

impl<R: Runtime> MessageStore<R> {
    /// Reads messages of a queue from `offset` on whose tag hash passes `filter`; `max_count` and Java's limits bound them.
    pub async fn get(
        &self,
        topic: &str,
        queue: i32,
        offset: i64,
        max_count: usize,
        filter: &(dyn Fn(i64) -> bool + Sync),
    ) -> Read {
        self.get_filtered(topic, queue, offset, max_count, ReadFilter { by_tag: filter, by_properties: None })
            .await
    }

    /// As [`Self::get`], with a filter that may also ask the records for their properties.
    pub async fn get_filtered(
        &self,
        topic: &str,
        queue: i32,
        offset: i64,
        max_count: usize,
        filter: ReadFilter<'_>,
    ) -> Read {
        let Some(queue) = self.queues.find(topic, queue) else {
            return empty(GetStatus::NoMatchedLogicQueue, 0, 0, 0);
        };
        let (min, max) = (queue.min(), queue.max());
        if max == 0 {
            return empty(GetStatus::NoMessageInQueue, 0, min, max);
        }
        if offset < min {
            return empty(GetStatus::OffsetTooSmall, min, min, max);
        }
        if offset == max {
            return empty(GetStatus::OffsetOverflowOne, offset, min, max);
        }
        if offset > max {
            return empty(GetStatus::OffsetOverflowBadly, max, min, max);
        }
        let look_max = max_count.max(LOOK_ENTRIES);
        let mut collected = Collected { next_begin: offset, ..Collected::default() };
        let end = queue.next_file_offset(offset).min(offset.saturating_add_unsigned(look_max as u64));
        // What a filter leaves out of a log that is no longer in memory is not worth its record's page.
        let log_max = self.log.written().get();
        let is_checked = |entry: &Entry| {
            log_max.saturating_sub(entry.physical_offset) <= self.config.hot_bytes
                || (filter.by_tag)(self.tags_code(entry))
        };
        // Each entry costs a look at its record: no more than can be given are read, where all pass.
        let mut step = max_count.clamp(1, look_max);
        while collected.next_begin < end && collected.count < max_count.max(1) {
            let from = collected.next_begin;
            let count = usize::try_from(end - from).map_or(step, |left| left.min(step));
            step = step.saturating_mul(2);
            let entries = match self.entries_of(&queue, from, count, &is_checked).await {
                Ok(entries) if !entries.is_empty() => entries,
                // What was found stands.
                _ if from > offset => break,
                Err(error)
                    if error.kind() != io::ErrorKind::NotFound
                        && !self.rt.mutant(Mutant::UnreadableIsHole) =>
                {
                    self.rt.mark(Mark::QueueUnreadable);
                    tracing::error!(topic, queue = queue.queue_id, offset, %error, "read queue entries");
                    return empty(GetStatus::Unreadable, offset, min, max);
                }
                _ => return empty(GetStatus::OffsetFoundNull, queue.next_file_offset(offset), min, max),
            };
            if !self.collect(&mut collected, &entries, max_count, filter) {
                break;
            }
        }
        self.give(&queue, collected).await
    }

    /// Takes what is wanted of `entries`; false when no more may be taken.
    ///
    /// # Source
    /// Store format, section 13: limits are looked at before the filter, so that an answer ends at the same entry as Java's.
    fn collect(
        &self,
        collected: &mut Collected,
        entries: &[Entry],
        max_count: usize,
        filter: ReadFilter<'_>,
    ) -> bool {
        let (log_min, log_max) = (self.log.min(), self.log.written().get());
        for entry in entries {
            let hot = log_max.saturating_sub(entry.physical_offset) <= self.config.hot_bytes;
            if collected.is_full(entry, max_count, hot, &self.config.read_limits) {
                return false;
            }
            collected.next_begin += 1;
            collected.last_offset = entry.physical_offset;
            let mut wanted = (filter.by_tag)(self.tags_code(entry));
            if let Some(by_properties) = filter.by_properties.filter(|_| wanted) {
                wanted = self.has_properties(entry, by_properties);
            }
            if wanted && entry.physical_offset >= log_min {
                collected.push(entry, self.log.file_bytes());
            } else {
                collected.removed = wanted;
            }
        }
        true
    }

    /// The records at the places that were collected.
    async fn give(&self, queue: &ConsumeQueue, collected: Collected) -> Read {
        let Collected { runs, last_offset, next_begin, mut removed, .. } = collected;
        let (mut messages, mut count) = (Vec::with_capacity(runs.len()), 0);
        for (start, end, records) in runs {
            match self.run(start, end) {
                Some(Ok(run)) => {
                    messages.push(run);
                    count += records;
                }
                // On a mapping this is the end of the process, and no other answer would be true.
                Some(Err(_)) => match self.rt.fatal("a CommitLog page cannot be read").await {},
                None => removed = true,
            }
        }
        let status = match (messages.is_empty(), removed) {
            (false, _) => GetStatus::Found,
            (true, true) => GetStatus::MessageWasRemoving,
            (true, false) => GetStatus::NoMatchedMessage,
        };
        let behind = self.log.written().get().saturating_sub(last_offset);
        let suggest_slave = behind > self.config.hot_bytes;
        let (min, max) = (queue.min(), queue.max());
        Read { status, next_begin, min, max, messages, count, suggest_slave }
    }

    /// The hash of the entry's tag. Where Java keeps it in the queue's extension the record itself has it too.
    fn tags_code(&self, entry: &Entry) -> i64 {
        if !entry.is_extended() {
            return entry.tags_code;
        }
        let view = self.log.files().view(entry.physical_offset, entry.size as usize);
        let Some(Ok(view)) = view else { return entry.tags_code };
        let record = codec::decode(view.as_ref(), Check::Lengths).ok();
        let entry = record.and_then(|record| Entry::of(&record, &self.config.delay_levels_ms));
        entry.map_or(0, |entry| entry.tags_code)
    }

    /// Whether the record of an entry passes; one that cannot be read does, and is met again when it is to be given.
    fn has_properties(&self, entry: &Entry, passes: &(dyn Fn(&str) -> bool + Sync)) -> bool {
        let view = self.log.files().view(entry.physical_offset, entry.size as usize);
        let Some(Ok(view)) = view else { return true };
        codec::decode(view.as_ref(), Check::Lengths).map_or(true, |record| passes(&record.properties))
    }

    /// Whole records from `start` to `end`, checked to begin with one.
    fn run(&self, start: u64, end: u64) -> Option<io::Result<Bytes>> {
        let view = match self.log.files().view(start, usize::try_from(end - start).ok()?)? {
            Ok(view) => view,
            Err(error) => return Some(Err(error)),
        };
        let whole =
            matches!(codec::head(view.as_ref()), Head::Record { size } if u64::from(size) <= end - start);
        if !whole {
            tracing::error!(start, end, "a queue entry points at no record");
            return None;
        }
        Some(Ok(shared(&view)))
    }

    /// First queue offset that can be read; 0 for an unknown queue.
    #[must_use]
    pub fn min_offset(&self, topic: &str, queue: i32) -> i64 {
        self.queues.find(topic, queue).map_or(0, |queue| queue.min())
    }

    /// One past the last queue offset that can be read; 0 for an unknown queue.
    #[must_use]
    pub fn max_offset(&self, topic: &str, queue: i32) -> i64 {
        self.queues.find(topic, queue).map_or(0, |queue| queue.max())
    }

    /// Beyond what nobody can have consumed: [`Self::max_offset`], where it is known.
    #[must_use]
    pub fn committable(&self, topic: &str, queue: i32) -> i64 {
        if self.is_of_batches(topic) { i64::MAX } else { self.max_offset(topic, queue) }
    }

    /// Whether messages were ever put into the queue.
    #[must_use]
    pub fn has_queue(&self, topic: &str, queue: i32) -> bool {
        self.queues.find(topic, queue).is_some()
    }

    /// When the first message that is kept was stored, in ms since 1970.
    #[must_use]
    pub fn earliest_time(&self) -> Option<i64> {
        let min = self.log.min();
        (min < self.log.visible().get()).then(|| self.message_at(min)).flatten().and_then(|record| {
            codec::decode(&record, Check::Lengths).ok().map(|record| record.store_timestamp)
        })
    }

    /// The queues that have, or had, messages, sorted.
    #[must_use]
    pub fn queues(&self) -> Vec<(String, i32)> {
        let queues = self.queues.all();
        queues.iter().map(|queue| (queue.topic.clone(), queue.queue_id)).collect()
    }

    /// The visible record that begins at `physical_offset`; `None` when none does.
    #[must_use]
    pub fn message_at(&self, physical_offset: u64) -> Option<Bytes> {
        let limit = self.log.visible().get();
        let file = self.log.files().find(physical_offset)?;
        let head = file.view(physical_offset, codec::BLANK_BYTES).ok()?;
        let Head::Record { size } = codec::head(head.as_ref()) else { return None };
        if physical_offset.checked_add(u64::from(size))? > limit {
            return None;
        }
        let view = file.view(physical_offset, size as usize).ok()?;
        let record = codec::decode(view.as_ref(), Check::Lengths).ok()?;
        // Bytes inside another record can look like one, but not with this position in them.
        (record.physical_offset == physical_offset).then(|| shared(&view))
    }

    /// The newest messages of `topic` that have `key` and were stored from `begin_ms` to `end_ms`, at most `count_max` of them.
    ///
    /// # Errors
    /// Of reading the index: there may be messages that were not found.
    pub async fn query(
        &self,
        by: By,
        topic: &str,
        key: &str,
        (begin_ms, end_ms): (i64, i64),
        count_max: usize,
    ) -> io::Result<Found> {
        let wanted = Wanted {
            by,
            topic,
            key,
            times: if self.rt.mutant(Mutant::QueryOfAnyTime) { (0, i64::MAX) } else { (begin_ms, end_ms) },
            count_max: count_max.min(self.config.query_count_max),
            bytes_max: QUERY_BYTES_MAX,
        };
        self.index.query(&wanted, |at| self.message_at(at)).await
    }

    /// Up to `count` entries of a queue from `offset` on, out of one file, with the hash of each tag, or the due time, in it.
    ///
    /// # Errors
    /// Of opening or reading the queue's file; `NotFound` also when no file holds `offset`.
    pub(crate) async fn entries(
        &self,
        topic: &str,
        queue: i32,
        offset: i64,
        count: usize,
    ) -> io::Result<Vec<Entry>> {
        let Some(queue) = self.queues.find(topic, queue) else { return Ok(Vec::new()) };
        let mut entries = self.entries_of(&queue, offset, count, &|_| true).await?;
        for entry in &mut entries {
            entry.tags_code = self.tags_code(entry);
        }
        Ok(entries)
    }

    /// When the message at `offset` was stored; `None` when it cannot be read.
    pub async fn store_time(&self, topic: &str, queue: i32, offset: i64) -> Option<i64> {
        let queue = self.queues.find(topic, queue)?;
        self.entry_time(&queue, offset).await.ok().flatten()
    }

    /// `None` when the message is deleted.
    async fn entry_time(&self, queue: &ConsumeQueue, offset: i64) -> io::Result<Option<i64>> {
        let entries = match self.entries_of(queue, offset, 1, &|_| true).await {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return Ok(None);
            }
            entries => entries?,
        };
        let Some(entry) = entries.first() else { return Ok(None) };
        let view = self.log.files().view(entry.physical_offset, entry.size as usize).transpose()?;
        let record = view.as_ref().and_then(|view| codec::decode(view.as_ref(), Check::Lengths).ok());
        Ok(record.map(|record| record.store_timestamp))
    }

    /// The queue offset that answers for a time, see [`Boundary`]; 0 for an empty queue.
    ///
    /// # Errors
    /// Of reading: whoever goes on at another offset misses messages, or is given them again.
    pub async fn offset_by_time(
        &self,
        topic: &str,
        queue: i32,
        ms: i64,
        boundary: Boundary,
    ) -> io::Result<i64> {
        let Some(queue) = self.queues.find(topic, queue) else { return Ok(0) };
        let (min, max) = (queue.min(), queue.max());
        // The first message that is later than what the boundary asks for.
        let (mut low, mut high) = (min, max);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(time) = self.entry_time(&queue, middle).await? else {
                // Deleted meanwhile: what can be read lies behind.
                low = middle + 1;
                continue;
            };
            let later = match boundary {
                Boundary::Lower if self.rt.mutant(Mutant::TimeLowerIsBehind) => time > ms,
                Boundary::Lower => time >= ms,
                Boundary::Upper => time > ms,
            };
            if later {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(match boundary {
            Boundary::Lower => low,
            Boundary::Upper if low == min => 0,
            Boundary::Upper => low - 1,
        })
    }
}

fn empty(status: GetStatus, next_begin: i64, min: i64, max: i64) -> Read {
    Read { status, next_begin, min, max, messages: Vec::new(), count: 0, suggest_slave: false }
}

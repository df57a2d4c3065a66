//! Queue entries that the disk has not kept: found when they are read, and made again from the log.
//!
//! An entry carries no checksum; what it says of its record, place, size and the hash of its tag, is compared with the record.
//! One that does not fit is replaced by that of the record that states its queue and offset, which the log has between the
//! records of the entries before and behind it.
//!
//! Invariant: an entry is written over only by that of a record that states the same queue and the same offset in it.
//! What it cannot see: a tag that looks like an address of Java's extension, for which the record is asked anyway; the due time
//! of a delayed record, which follows from delays that may have been others; an entry whose record is deleted; an entry of
//! another queue's record in light queues; and what the caller leaves unchecked.

use std::io;
use std::ops::Range;

use super::MessageStore;
use super::consume_queue::ConsumeQueue;
use super::queue_entry::{Entry, SCHEDULE_TOPIC, Unit, light_queues};
use crate::message::codec::{self, BLANK_BYTES, Check, Head, Record};
use crate::runtime::{Mark, Mutant, Runtime};

/// Between two rests of a search.
const SEARCH_BYTES: u64 = 1 << 20;

/// How an entry stands to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// It is its record's, which states an offset that is so much higher than its place: 0 but in a queue that a broker of
    /// Java's has shifted.
    Fits {
        shift: i64,
    },
    /// Nothing is known against it: its record is gone, or cannot be read, or is in the queue besides its own.
    Unknown,
    Wrong,
}

/// What is known of the entry before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Before {
    /// Where its record ends.
    end: u64,
    shift: i64,
}

impl<R: Runtime> MessageStore<R> {
    /// Up to `count` entries of `queue` from `first` on, out of one file, each that is `checked` held against its record.
    ///
    /// # Errors
    /// Of opening or reading the file; `NotFound` also when no file holds `first`; `InvalidData` when the first one is damaged
    /// and the log does not tell what it was.
    pub(super) async fn entries_of(
        &self,
        queue: &ConsumeQueue,
        first: i64,
        count: usize,
        checked: &(dyn Fn(&Entry) -> bool + Sync),
    ) -> io::Result<Vec<Entry>> {
        let units = queue.read(&self.queues.files, first, count).await?;
        let mut entries: Vec<Entry> = Vec::with_capacity(units.len());
        let mut before: Option<Before> = None;
        for (index, unit) in units.iter().enumerate() {
            let n = first + index as i64;
            let next = units.get(index + 1).copied();
            let fit = match unit.entry() {
                Some(entry) if !checked(&entry) || self.rt.mutant(Mutant::EntryUnhealed) => Fit::Unknown,
                _ => self.fit(queue, n, *unit),
            };
            let entry = match (fit, unit.entry()) {
                (Fit::Fits { shift }, Some(entry))
                    if self.is_in_line(queue, n, &entry, shift, before, next).await =>
                {
                    Some(entry)
                }
                // It may be what a broker of Java's has left; where the log knows nothing better it stands.
                (Fit::Fits { .. }, Some(entry)) => self.heal(queue, n, before, next).await.or(Some(entry)),
                (Fit::Unknown, Some(entry)) => Some(entry),
                _ => self.heal(queue, n, before, next).await,
            };
            let Some(entry) = entry else {
                if !entries.is_empty() {
                    break;
                }
                let text = format!("entry {n} is damaged, and the log has no record for it");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            };
            let shift = if let Fit::Fits { shift } = fit { shift } else { before.unwrap_or_default().shift };
            before = Some(Before { end: entry.end(), shift });
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Whether an entry that fits its record stands in its own place: behind the one before, and as far from what its record
    /// states as one beside it.
    async fn is_in_line(
        &self,
        queue: &ConsumeQueue,
        n: i64,
        entry: &Entry,
        shift: i64,
        before: Option<Before>,
        next: Option<Unit>,
    ) -> bool {
        if shift == 0 {
            return before.is_none_or(|before| before.end <= entry.physical_offset);
        }
        let before = match before {
            Some(before) => before,
            None => self.before(queue, n).await,
        };
        let beside = next.map(|next| self.fit(queue, n + 1, next));
        before.end <= entry.physical_offset && (before.shift == shift || beside == Some(Fit::Fits { shift }))
    }

    fn fit(&self, queue: &ConsumeQueue, n: i64, unit: Unit) -> Fit {
        let Some(entry) = unit.entry() else { return Fit::Wrong };
        if entry.physical_offset < self.log.min() {
            return Fit::Unknown;
        }
        match self.log.files().view(entry.physical_offset, entry.size as usize) {
            // It may have been deleted in between.
            None if entry.physical_offset < self.log.min() => Fit::Unknown,
            None => Fit::Wrong,
            // The disk gives no answer: that is met where the record is read.
            Some(Err(_)) => Fit::Unknown,
            Some(Ok(view)) => match codec::decode(view.as_ref(), Check::Lengths) {
                Ok(record) => self.fit_of(queue, n, &entry, &record),
                Err(_) => Fit::Wrong,
            },
        }
    }

    fn fit_of(&self, queue: &ConsumeQueue, n: i64, entry: &Entry, record: &Record<'_>) -> Fit {
        if (record.physical_offset, record.size) != (entry.physical_offset, entry.size) {
            return Fit::Wrong;
        }
        let own = record.topic == queue.topic && record.queue_id == queue.queue_id;
        let light =
            || light_queues(record).any(|(topic, id, _)| topic == queue.topic && id == queue.queue_id);
        let tag = || {
            entry.is_extended()
                || queue.topic == SCHEDULE_TOPIC
                || Entry::of(record, &self.config.delay_levels_ms)
                    .is_some_and(|known| known.tags_code == entry.tags_code)
        };
        match own {
            true if tag() => Fit::Fits { shift: record.queue_offset - n },
            false if light() => Fit::Unknown,
            _ => Fit::Wrong,
        }
    }

    /// The entry `n`, made again; `None` when the log has no record for it.
    async fn heal(
        &self,
        queue: &ConsumeQueue,
        n: i64,
        before: Option<Before>,
        next: Option<Unit>,
    ) -> Option<Entry> {
        let before = match before {
            Some(before) => before,
            None => self.before(queue, n).await,
        };
        let until = match next.map(|next| (next, self.fit(queue, n + 1, next))) {
            Some((Unit::Entry(next), Fit::Fits { shift })) if shift == before.shift => next.physical_offset,
            _ => u64::MAX,
        };
        let dropped = self.dispatch.dropped().before(&queue.topic);
        let from = before.end.max(self.log.min()).max(dropped.min(self.log.visible().get()));
        let entry = self.search(queue, n + before.shift, from..until, before.end > 0).await?;
        let (topic, queue_id) = (queue.topic.as_str(), queue.queue_id);
        self.rt.mark(Mark::EntryHealed);
        tracing::warn!(topic, queue_id, n, "a queue entry was damaged: made again from the log");
        self.rt.probe("store.entry_healed", entry.physical_offset, n as u64);
        if let Err(error) = queue.rewrite(&self.queues.files, n, &entry).await {
            tracing::warn!(topic, queue_id, n, %error, "write a queue entry again");
        }
        Some(entry)
    }

    /// What is known of the entry before `n`. Where it does not fit the log is searched from its beginning.
    async fn before(&self, queue: &ConsumeQueue, n: i64) -> Before {
        if n <= queue.min() {
            return Before::default();
        }
        let Ok(unit) = queue.read_unit(&self.queues.files, n - 1).await else { return Before::default() };
        match (unit, self.fit(queue, n - 1, unit)) {
            (Unit::Entry(entry), Fit::Fits { shift }) => Before { end: entry.end(), shift },
            _ => Before::default(),
        }
    }

    /// The entry of the last record in `range`, or of the first when that will do, that states offset `n` of `queue`: a topic
    /// that a broker of Java's has deleted and made again has several. At the beginning of `range` a record or a file begins.
    async fn search(&self, queue: &ConsumeQueue, n: i64, range: Range<u64>, first: bool) -> Option<Entry> {
        let mut found = None;
        let limit = self.log.visible().get().min(range.end);
        let (mut at, mut rest_at) = (range.start, range.start.saturating_add(SEARCH_BYTES));
        while at < limit {
            if at >= rest_at {
                rest_at = at.saturating_add(SEARCH_BYTES);
                self.rt.yield_now().await;
            }
            let Some(file) = self.log.files().find(at) else { break };
            let head =
                if file.end() - at < BLANK_BYTES as u64 { None } else { file.view(at, BLANK_BYTES).ok() };
            let Some(Head::Record { size }) = head.map(|head| codec::head(head.as_ref())) else {
                at = file.end();
                continue;
            };
            let Ok(view) = file.view(at, size as usize) else { break };
            let Ok(record) = codec::decode(view.as_ref(), Check::Lengths) else { break };
            let is_it =
                record.topic == queue.topic && record.queue_id == queue.queue_id && record.queue_offset == n;
            if is_it && let Some(entry) = Entry::of(&record, &self.config.delay_levels_ms) {
                found = Some(entry);
                if first {
                    break;
                }
            }
            at += u64::from(size);
        }
        found
    }
}

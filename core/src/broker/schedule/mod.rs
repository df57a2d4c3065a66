//! Messages that are delivered later: each waits in the queue of its delay level and is put into its real topic when due.
//!
//! The queues of `SCHEDULE_TOPIC_XXXX` are in the order of their due times, since each has one delay: one task per level
//! sleeps until its first message is due, and looks each [`LOOK`] whether others have come. So a message is seen in time
//! though it became visible late, and waits no longer than its delay though the clock was set back.
//!
//! How far each level is stands in `config/delayOffset.json`, Java's file, saved at intervals and at the stop.
//!
//! Guarantees: a message is never delivered before its time, and at least once: after the death of the process what was
//! delivered since the last save comes again. A stop in order repeats nothing.
//! Invariant: the file never counts a message whose copy is not durable, with either flush (D-09).
//! Invariant: a message is passed over only when it can never be delivered: its record is deleted, or says no destination.
//! What cannot be read or put now is tried again, and those behind it wait (D-06, D-10).
//!
//! Left to others: `delayed` says what is stored on the way in and out; queue entries hold due times by the store.

mod delayed;
mod offsets;
mod seen;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::message::StoredMessage;
use crate::remoting::RemotingCommand;
use crate::remoting::body::DelayOffsetWrapper;
use crate::remoting::codes::response;
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mutant, Runtime};
use crate::store::{ConfigFile, Entry, MessageStore};

use super::counts::Counts;
use super::names;
use super::offset_requests::table_version;
use super::refusal::answer;
pub(crate) use delayed::Delayed;
use delayed::{destination, due, queue_of};
use offsets::{DelayOffsets, Snapshot};
use seen::{Seen, left};

/// Entries of a queue that are read at once.
const ENTRIES_MAX: usize = 64;
/// Between two looks at a level, at most; one whose delay is shorter looks after that. No level has a shorter delay than
/// Java's least, a second: what comes to an idle level is seen before it is due.
const LOOK: Duration = Duration::from_secs(1);
/// Before a message that could not be put is tried again.
const PUT_AGAIN: Duration = Duration::from_millis(100);
/// Before what could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(10);

pub(crate) struct Schedule<R: Runtime> {
    rt: R,
    store: Arc<MessageStore<R>>,
    counts: Arc<Counts>,
    offsets: DelayOffsets,
    path: String,
    /// The count of changes that the file holds.
    written: AtomicU64,
    writing: tokio::sync::Mutex<()>,
}

/// What became of the first message of a level.
enum Delivery {
    /// Its copy ends there in the log.
    Stored(u64),
    /// It can never be delivered.
    Impossible,
    /// It is to be tried again after so long.
    NotNow(Duration),
}

/// First and last offset of a level's queue.
fn bounds<R: Runtime>(store: &MessageStore<R>, level: i32) -> (i64, i64) {
    let (topic, queue) = (names::SCHEDULE_TOPIC, queue_of(level));
    (store.min_offset(topic, queue), store.max_offset(topic, queue))
}

impl<R: Runtime> Schedule<R> {
    /// Reads the file at `path`. What it says beyond the queues, which must stand where the log ends, is cut and written so
    /// before this returns.
    ///
    /// # Errors
    /// Of reading or writing; `InvalidData` when neither the file nor its backup can be decoded.
    pub async fn open(
        rt: R,
        path: String,
        store: Arc<MessageStore<R>>,
        counts: Arc<Counts>,
    ) -> io::Result<Schedule<R>> {
        let offsets = DelayOffsets::default();
        let good = |bytes: &[u8]| DelayOffsetWrapper::parse(bytes).is_ok();
        if let Some((bytes, _)) = ConfigFile::load_checked(&rt, &path, good).await? {
            let file = DelayOffsetWrapper::parse(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if rt.mutant(Mutant::DelayTableEmptied) {
                let empty = DelayOffsetWrapper { data_version: None, offset_table: BTreeMap::new() };
                ConfigFile::save(&rt, &path, &empty.to_java_json()).await?;
            }
            let anything = rt.mutant(Mutant::DelayOffsetBeyond);
            let bounds = |level| if anything { (0, i64::MAX) } else { bounds(&store, level) };
            offsets.load(file.offset_table, bounds);
        }
        let schedule = Schedule {
            rt,
            store,
            counts,
            offsets,
            path,
            written: AtomicU64::new(0),
            writing: tokio::sync::Mutex::new(()),
        };
        schedule.write(schedule.offsets.snapshot()).await?;
        Ok(schedule)
    }

    /// Starts to deliver, and to save the offsets at intervals, until `stop` is true.
    pub fn start(self: &Arc<Self>, save_interval: Duration, stop: &Receiver<bool>) -> Vec<R::Task<()>> {
        let mut tasks = Vec::new();
        for (index, delay_ms) in self.store.config().delay_levels_ms.iter().enumerate() {
            let Ok(level) = i32::try_from(index + 1) else { break };
            let delay = Duration::from_millis(delay_ms.unsigned_abs());
            let running = self.clone().run_level(level, delay, stop.clone());
            tasks.push(self.rt.spawn("deliver delayed messages", running));
        }
        let saving = self.clone().run_saves(save_interval, stop.clone());
        tasks.push(self.rt.spawn("write delay offsets", saving));
        tasks
    }

    /// By level, from 1: the next offset to deliver.
    pub fn delivered(&self) -> std::collections::BTreeMap<i32, i64> {
        self.offsets.snapshot().offsets
    }

    /// The offsets as slaves ask for them. Code 45.
    pub fn all(&self) -> RemotingCommand {
        let Snapshot { offsets, changes, .. } = self.offsets.snapshot();
        let version = table_version(changes, self.rt.wall_ms());
        let body = DelayOffsetWrapper { data_version: Some(version), offset_table: offsets };
        answer(response::SUCCESS).with_body(body.to_json())
    }

    /// Takes over the offsets of this slave's master where they are beyond the own ones, cut to what the queues here have,
    /// and writes them. Every copy that they count must be durable here.
    ///
    /// # Errors
    /// Of writing.
    pub async fn merge(&self, of_master: BTreeMap<i32, i64>) -> io::Result<()> {
        if !self.offsets.merge(of_master, |level| bounds(&self.store, level)) {
            return Ok(());
        }
        self.write(self.offsets.snapshot()).await
    }

    /// Writes the offsets of `snapshot`, whose copies are durable, unless the file holds them.
    ///
    /// # Errors
    /// Of writing.
    async fn write(&self, snapshot: Snapshot) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        if self.written.load(Ordering::Relaxed) >= snapshot.changes {
            return Ok(());
        }
        let mut offset_table = snapshot.offsets;
        if self.rt.mutant(Mutant::DelayOffsetOneFurther) {
            offset_table.values_mut().for_each(|offset| *offset += 1);
        }
        if self.rt.mutant(Mutant::DelayOffsetOneBehind) {
            offset_table.values_mut().for_each(|offset| *offset = (*offset - 1).max(0));
        }
        let file = DelayOffsetWrapper { data_version: None, offset_table };
        ConfigFile::save(&self.rt, &self.path, &file.to_java_json()).await?;
        self.written.store(snapshot.changes, Ordering::Relaxed);
        self.rt.probe("schedule.offsets_written", snapshot.changes, 0);
        Ok(())
    }

    /// Returns once the copies that `snapshot` counts are durable; an error when they will not be.
    async fn durable(&self, snapshot: &Snapshot) -> io::Result<()> {
        if self.rt.mutant(Mutant::DelayOffsetAhead) {
            return Ok(());
        }
        self.store.durable().reached(snapshot.copies_end).await.map_err(io::Error::other)
    }

    /// Saves the offsets, when nothing is delivered any more and the log has been flushed.
    pub async fn save_at_stop(&self) {
        if self.rt.mutant(Mutant::DelayOffsetUnsaved) {
            return;
        }
        let snapshot = self.offsets.snapshot();
        let saved = match self.durable(&snapshot).await {
            Ok(()) => self.write(snapshot).await,
            failed => failed,
        };
        if let Err(error) = saved {
            tracing::error!(path = %self.path, %error, "write the delay offsets");
        }
    }

    async fn run_saves(self: Arc<Self>, interval: Duration, mut stop: Receiver<bool>) {
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(interval) => {}
            }
            let snapshot = self.offsets.snapshot();
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                durable = self.durable(&snapshot) => {
                    // Nothing will be durable any more.
                    if durable.is_err() {
                        return;
                    }
                }
            }
            if let Err(error) = self.write(snapshot).await {
                tracing::error!(path = %self.path, %error, "write the delay offsets");
            }
        }
    }

    async fn run_level(self: Arc<Self>, level: i32, delay: Duration, mut stop: Receiver<bool>) {
        let mut seen = Seen::new(delay);
        while !stop.get() {
            let pause = self.deliver_due(level, delay, &mut seen).await;
            if pause.is_zero() {
                self.rt.yield_now().await;
                continue;
            }
            // A put is never cut off: it would be in the log and not be counted.
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(pause) => {}
            }
        }
    }

    /// Delivers what is due of the level's next entries, and answers how long to wait before the next look.
    async fn deliver_due(&self, level: i32, delay: Duration, seen: &mut Seen) -> Duration {
        let (topic, queue) = (names::SCHEDULE_TOPIC, queue_of(level));
        let (mut next, min) = (self.offsets.next(level), self.store.min_offset(topic, queue));
        if next < min {
            self.rt.mark(Mark::DelayedGone);
            tracing::error!(level, next, min, "delayed messages were deleted before they were due");
            self.offsets.pass(level, min, 0);
            next = min;
        }
        let max = self.store.max_offset(topic, queue);
        seen.note(next, max, self.rt.now());
        if next >= max {
            return if self.rt.mutant(Mutant::DelayLevelDozes) { READ_AGAIN } else { delay.min(LOOK) };
        }
        let entries = match self.store.entries(topic, queue, next, ENTRIES_MAX).await {
            Ok(entries) if !entries.is_empty() => entries,
            Ok(_) => return READ_AGAIN,
            Err(error) => {
                self.rt.mark(Mark::DelayUnreadable);
                tracing::error!(level, next, %error, "read the queue of a delay level");
                if self.rt.mutant(Mutant::UnreadableLevelPassed) {
                    self.offsets.pass(level, max, 0);
                }
                return READ_AGAIN;
            }
        };
        for entry in entries {
            let pause = self.due_in(&entry, delay, seen.waited(self.rt.now()));
            if !pause.is_zero() {
                return pause.min(LOOK);
            }
            match self.deliver(level, &entry).await {
                Delivery::Stored(end) => self.offsets.pass(level, next + 1, end),
                Delivery::Impossible => self.offsets.pass(level, next + 1, 0),
                Delivery::NotNow(pause) => return pause,
            }
            next += 1;
            seen.reached(next);
        }
        Duration::ZERO
    }

    /// How long until the message of `entry` is due, which is known to have waited so long.
    fn due_in(&self, entry: &Entry, delay: Duration, waited: Duration) -> Duration {
        let by_wall = entry.tags_code.saturating_sub(self.rt.wall_ms());
        let by_wall = Duration::from_millis(u64::try_from(by_wall).unwrap_or(0));
        left(by_wall, waited, delay, || {
            let stored = self.store.message_at(entry.physical_offset);
            let stored = stored.and_then(|record| StoredMessage::decode(&record).ok());
            let own = stored.map_or(0, |message| entry.tags_code.saturating_sub(message.store_timestamp));
            Duration::from_millis(u64::try_from(own).unwrap_or(0))
        })
    }

    async fn deliver(&self, level: i32, entry: &Entry) -> Delivery {
        let at = entry.physical_offset;
        let message = match self.store.message_at(at).map(|record| StoredMessage::decode(&record)) {
            Some(Ok(message)) => message,
            None if at < self.store.commit_log_min() => {
                tracing::error!(level, at, "a delayed message was deleted before it was due");
                return Delivery::Impossible;
            }
            damaged => {
                let why = damaged.and_then(Result::err).map(|error| error.to_string());
                self.rt.mark(Mark::DelayedUnreadable);
                tracing::error!(level, at, why, "a delayed message cannot be read; those behind it wait");
                return Delivery::NotNow(READ_AGAIN);
            }
        };
        let destination = destination(&message).filter(|(topic, _)| *topic != names::HALF_TOPIC);
        let Some(destination) = destination else {
            tracing::error!(level, at, "a delayed message does not say where it goes; it is left out");
            return Delivery::Impossible;
        };
        match self.store.put_again(&due(&message, destination)).await {
            Ok(put) => {
                self.rt.probe("schedule.delivered", at, put.physical_offset);
                self.counts.put(destination.0, 1, put.bytes());
                Delivery::Stored(put.end)
            }
            Err(error) if error.is_for_good() => {
                tracing::error!(level, at, %error, "a delayed message can never be stored; it is left out");
                Delivery::Impossible
            }
            Err(error) => {
                self.rt.mark(Mark::DelayedLater);
                tracing::warn!(level, at, %error, "a delayed message cannot be stored now");
                match self.rt.mutant(Mutant::DelayPutDropped) {
                    true => Delivery::Impossible,
                    false => Delivery::NotNow(PUT_AGAIN),
                }
            }
        }
    }
}

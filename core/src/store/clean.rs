//! Deletes what is kept long enough, or what a full disk has no room for, and says when the disk takes no more.
//!
//! CommitLog files go first, one after the other from the oldest on; then the minimum of each queue is moved to its first
//! entry that still has a record, and queue files without such entries go. One deletion is: no look-up finds the file any
//! more; wait for those who read it; remove the name; flush the folder. Only then comes the next one, and the queue files, so
//! that whatever a crash or a power loss undoes, the files that are left have no hole, and each record left has its entry.
//!
//! Readers that have bytes of a file keep its mapping alive, so no deletion can harm them. It waits for them all the same:
//! their blocks are not free before, and a disk that is nearly full would lose file after file for nothing.
//!
//! Invariant: never the last file, never one in the middle (S-17), never one that is young (S-21), unless the disk is full.
//! Invariant: a deleted file lies below a checkpoint on disk: its queue entries are durable, so that no queue offset that
//! was shown is given again, and behind it lies a durable record, so that the log never begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::commit_log::Log;
use super::consume_queues::ConsumeQueues;
use super::dispatch::Dispatch;
use super::error::WhyNot;
use super::index::Index;
use super::mapped_file::MappedFile;
use super::queue_flush::QueueFlush;
use super::recovery::Paths;
use super::retention::{AgeClock, Fill, Retention, local_hour};
use crate::message::codec::{self, BLANK_BYTES, Check, Head};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mono, Mutant, Runtime, SegmentReader};

/// Looks that an operator's request lasts.
const ASKED_LOOKS: u32 = 20;
/// How long a deletion waits for the checkpoint that has to cover the file.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Clean<R: Runtime> {
    rt: R,
    retention: RwLock<Retention>,
    /// Of the log and of the queues: they may lie on different disks.
    log_folders: Vec<String>,
    /// Of the log, in which no file is made.
    read_only_folders: Vec<String>,
    queue_folder: String,
    log: Log<R>,
    queues: Arc<ConsumeQueues<R>>,
    dispatch: Arc<Dispatch<R>>,
    queue_flush: Arc<QueueFlush<R>>,
    index: Arc<Index<R>>,
    asked: AtomicU32,
    wake: Notify,
}

/// Used fractions of disks, 0.0 to 1.0.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreUsage {
    /// Of the log: the emptiest of its folders, as Java counts.
    pub log: f64,
    pub queues: f64,
    pub log_folders: Vec<(String, f64)>,
}

/// What one run of the task remembers from look to look.
struct State<R: Runtime> {
    clock: AgeClock,
    /// End of the log when the process began: files below were full before.
    began_at: u64,
    /// Since when other files are known to be full. A wall clock that was set back has given their records times of long ago.
    full_since: BTreeMap<u64, Mono>,
    /// Taken out of the list, its name still there.
    held: Option<Held<R>>,
    /// The name of a deleted file may still be on the disk.
    unsynced: bool,
    /// The log's minimum that the queues know of, and whether their files have gone as well.
    queues_know: Option<(u64, bool)>,
}

struct Held<R: Runtime> {
    file: Arc<MappedFile<R>>,
    since: Mono,
    looked_at: Option<Mono>,
}

/// Why files go at this look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trigger {
    Nothing,
    /// Expired ones.
    Age,
    /// The oldest, until the disk is no longer so full.
    Space,
}

impl<R: Runtime> Clean<R> {
    pub fn new(
        rt: R,
        retention: Retention,
        paths: Paths,
        log: Log<R>,
        queues: Arc<ConsumeQueues<R>>,
        dispatch: Arc<Dispatch<R>>,
        (queue_flush, index): (Arc<QueueFlush<R>>, Arc<Index<R>>),
    ) -> Clean<R> {
        let (asked, wake) = (AtomicU32::new(0), Notify::new());
        Clean {
            rt,
            retention: RwLock::new(retention),
            log_folders: paths.commit_logs,
            read_only_folders: paths.read_only,
            queue_folder: paths.consume_queue,
            log,
            queues,
            dispatch,
            queue_flush,
            index,
            asked,
            wake,
        }
    }

    fn retention(&self) -> Retention {
        self.retention.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_retention(&self, retention: Retention) {
        *self.retention.write().unwrap_or_else(PoisonError::into_inner) = retention;
        self.look_soon();
    }

    pub fn look_soon(&self) {
        self.wake.notify_one();
    }

    /// How full the disks are; a folder that cannot be looked at counts as empty.
    pub async fn usage(&self) -> StoreUsage {
        let mut log_folders = Vec::with_capacity(self.log_folders.len());
        for folder in &self.log_folders {
            log_folders.push((folder.clone(), self.used_ratio(folder).await));
        }
        let log = log_folders.iter().map(|(_, ratio)| *ratio).fold(f64::INFINITY, f64::min);
        StoreUsage { log, queues: self.used_ratio(&self.queue_folder).await, log_folders }
    }

    async fn used_ratio(&self, folder: &str) -> f64 {
        self.rt.disk_usage(folder).await.map_or(0.0, |usage| usage.used_ratio())
    }

    /// An operator wants expired files deleted now, whatever the hour: this look and some of the next.
    pub fn ask(&self) {
        self.asked.store(ASKED_LOOKS, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// The task: runs until `stop` is true.
    pub async fn run(&self, mut stop: Receiver<bool>) {
        let mut state = State {
            clock: AgeClock::new(self.rt.wall_ms(), self.rt.now()),
            began_at: self.log.written().get(),
            full_since: BTreeMap::new(),
            held: None,
            unsynced: false,
            queues_know: None,
        };
        let mut wait_ms = self.retention().first_ms;
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.wake.notified() => {}
                () = self.rt.sleep(Duration::from_millis(wait_ms)) => {}
            }
            wait_ms = self.retention().interval_ms.max(1);
            self.look(&mut state, &mut stop).await;
        }
    }

    async fn look(&self, state: &mut State<R>, stop: &mut Receiver<bool>) {
        self.note_full(state);
        let fill = self.fill().await;
        let broken = matches!(
            self.log.refusal(),
            Some(WhyNot::FlushFailed | WhyNot::Inconsistent | WhyNot::Unreadable)
        );
        if broken || self.log.is_refused_because(WhyNot::ReadOnly) {
            // The next start needs what is there; and nothing can be made durable, a deletion either.
            return;
        }
        let asked = self.take_asked();
        if let Err(error) = self.delete_log_files(state, (fill, asked), stop).await {
            self.rt.mark(Mark::LogFileUndeleted);
            tracing::error!(%error, "delete CommitLog files");
        }
        let log_min = self.log.min();
        // A crash would bring back a file whose name is still there; its records must then have their entries.
        let files_too = state.held.is_none() && !state.unsynced;
        if state.queues_know != Some((log_min, files_too)) {
            match self.clean_queues(log_min, files_too, stop).await {
                Ok(true) => state.queues_know = Some((log_min, files_too)),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "delete queue files"),
            }
            if files_too && let Err(error) = self.index.delete_below(log_min).await {
                tracing::error!(%error, "delete index files");
            }
        }
    }

    fn note_full(&self, state: &mut State<R>) {
        let (written, now) = (self.log.written().get(), self.rt.now());
        let bases = self.log.files().bases();
        let min = bases.first().copied().unwrap_or(0);
        state.full_since.retain(|base, _| *base >= min);
        for base in bases {
            let end = base + self.log.file_bytes();
            if end > state.began_at && end < written {
                state.full_since.entry(base).or_insert(now);
            }
        }
    }

    /// How full the fuller of the disks is; puts are refused, or taken again, accordingly.
    async fn fill(&self) -> Fill {
        let (mut fill, mut read_only) = (Fill::Normal, false);
        let mut passed_over = BTreeSet::new();
        for folders in [self.log_folders.as_slice(), std::slice::from_ref(&self.queue_folder)] {
            let (mut emptiest, mut writable) = (None, false);
            for folder in folders {
                match self.rt.disk_usage(folder).await {
                    Ok(usage) => {
                        let fill = self.retention().fill(usage);
                        // Java counts the emptiest of several folders of the log.
                        emptiest = Some(emptiest.map_or(fill, |other: Fill| other.min(fill)));
                        writable |= !usage.read_only;
                        // A file of several is made elsewhere; that which takes the appends is where it is.
                        read_only |= usage.read_only && self.log.appends_in(folder);
                        if usage.read_only || fill >= Fill::Forcible {
                            passed_over.insert(folder.clone());
                        }
                    }
                    Err(error) => {
                        writable = true;
                        tracing::warn!(folder, %error, "look how full the disk is");
                    }
                }
            }
            read_only |= !writable;
            fill = fill.max(emptiest.unwrap_or(Fill::Normal));
        }
        self.log.pass_over(passed_over);
        let change = |why: WhyNot, begins: bool, ends: bool| {
            let refused = self.log.is_refused_because(why);
            if begins && !refused {
                self.rt.mark(Mark::WritesRefused);
                tracing::error!("no more messages are taken: {why}");
                self.log.refuse_because(why);
            } else if ends && refused {
                self.rt.mark(Mark::WritesAgain);
                tracing::info!("the reason to take no messages has passed: {why}");
                self.log.recover_from(why);
            }
        };
        change(WhyNot::DiskFull, fill == Fill::Warning, fill < Fill::Forcible);
        change(WhyNot::ReadOnly, read_only, !read_only);
        fill
    }

    /// Whether an operator's request covers this look.
    fn take_asked(&self) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        self.asked.store(asked.saturating_sub(1), Ordering::Relaxed);
        asked > 0
    }

    fn trigger(&self, fill: Fill, asked: bool) -> Trigger {
        let wall_ms = self.rt.wall_ms();
        let hour = local_hour(wall_ms, self.rt.utc_offset_s(wall_ms));
        if fill >= Fill::Forcible && self.retention().forcibly {
            Trigger::Space
        } else if asked
            || fill > Fill::Normal
            || (self.retention().delete_hours.contains(hour) && !self.rt.mutant(Mutant::HourNeverComes))
        {
            Trigger::Age
        } else {
            Trigger::Nothing
        }
    }

    async fn delete_log_files(
        &self,
        state: &mut State<R>,
        (fill, asked): (Fill, bool),
        stop: &mut Receiver<bool>,
    ) -> io::Result<()> {
        let mut trigger = self.trigger(fill, asked);
        if !self.delete_held(state, trigger).await? || trigger == Trigger::Nothing {
            return Ok(());
        }
        for deleted in 0..self.retention().batch_max {
            if deleted > 0 && !self.pause(self.retention().log_file_pause_ms, stop).await {
                return Ok(());
            }
            let Some([file, next]) = self.log.files().first_two() else { return Ok(()) };
            if !self.may_go(&file).await {
                return Ok(());
            }
            // As little as will do: what was just deleted may have been enough, or the hour or the need has passed while the
            // checkpoint was waited for.
            if !self.rt.mutant(Mutant::DeleteForPastNeed) {
                trigger = self.trigger(self.fill().await, asked);
            }
            match trigger {
                Trigger::Nothing => return Ok(()),
                Trigger::Age if !self.is_expired(state, &file, &next).await? => return Ok(()),
                Trigger::Age | Trigger::Space => {}
            }
            drop((file, next));
            self.take_out(state, trigger);
            if !self.delete_held(state, trigger).await? {
                if self.rt.mutant(Mutant::DeleteGoesOn) {
                    state.held = None;
                    continue;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether a checkpoint vouches for what is behind the file, and for the queue entries of what is in it.
    async fn may_go(&self, file: &MappedFile<R>) -> bool {
        let complete = self.log.written().get().min(self.log.durable().get());
        let complete = complete.min(self.dispatch.dispatched().get());
        if file.end() >= complete {
            return false;
        }
        if file.end() < self.queue_flush.claimed().get() || self.rt.mutant(Mutant::DeleteBeforeQueues) {
            return true;
        }
        self.queue_flush.ask();
        let covered = self.queue_flush.claimed().reached(file.end() + 1);
        matches!(self.rt.timeout(CHECKPOINT_PATIENCE, covered).await, Ok(Ok(())))
    }

    async fn is_expired(
        &self,
        state: &State<R>,
        file: &MappedFile<R>,
        next: &MappedFile<R>,
    ) -> io::Result<bool> {
        let reserved_ms = i64::try_from(self.retention().reserved_ms).unwrap_or(i64::MAX);
        if self.rt.mutant(Mutant::AgeByFileTime) {
            let modified_ms = self.rt.stat(&file.path).await?.modified_ms;
            return Ok(modified_ms.saturating_add(reserved_ms) <= self.rt.wall_ms());
        }
        // No record of a file is newer than the first one behind it. Java's times may go back: the later of two is taken.
        let (Some(first), Some(behind)) = (first_time(file), first_time(next)) else { return Ok(false) };
        let (wall_ms, now) = (self.rt.wall_ms(), self.rt.now());
        if first.max(behind).saturating_add(reserved_ms) > state.clock.now_ms(wall_ms, now) {
            return Ok(false);
        }
        Ok(match state.full_since.get(&file.base) {
            Some(since) => now.since(*since) >= Duration::from_millis(self.retention().reserved_ms),
            None => file.end() <= state.began_at,
        })
    }

    fn take_out(&self, state: &mut State<R>, trigger: Trigger) {
        assert!(state.held.is_none(), "one file is deleted at a time");
        let base = self.log.min();
        self.rt.probe("store.taken_out", base, u64::from(trigger == Trigger::Space));
        let file = self.log.files().take_first(base);
        if self.rt.mutant(Mutant::StaleFirstFile) {
            self.log.files().keeps_base(base);
        }
        tracing::info!(path = %file.path, ?trigger, "delete a CommitLog file");
        let now = self.rt.now();
        state.held = Some(Held { file, since: now, looked_at: None });
    }

    async fn sync_log_folders(&self) -> io::Result<()> {
        for folder in self.log_folders.iter().chain(&self.read_only_folders) {
            match self.rt.sync_dir(folder).await {
                // One that was taken away when its last file had gone.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && self.read_only_folders.contains(folder) => {
                }
                synced => synced?,
            }
        }
        Ok(())
    }

    /// Deletes the file that was taken out, unless somebody holds it; true when there is none any more.
    async fn delete_held(&self, state: &mut State<R>, trigger: Trigger) -> io::Result<bool> {
        if state.unsynced {
            self.sync_log_folders().await?;
            state.unsynced = false;
        }
        let now = self.rt.now();
        let Some(held) = &mut state.held else { return Ok(true) };
        let ms = Duration::from_millis;
        let looked_long_ago =
            held.looked_at.is_none_or(|at| now.since(at) >= ms(self.retention().held_retry_ms));
        if trigger == Trigger::Nothing && !looked_long_ago {
            return Ok(false);
        }
        held.looked_at = Some(now);
        let in_use = Arc::strong_count(&held.file) > 1 || held.file.reader.live_views() > 0;
        if in_use && now.since(held.since) < ms(self.retention().held_max_ms) {
            return Ok(false);
        }
        let file = held.file.clone();
        match self.rt.remove(&file.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        state.held = None;
        state.unsynced = !self.rt.mutant(Mutant::DeleteUnsynced);
        self.rt.probe("store.deleted", file.base, file.end());
        if state.unsynced {
            self.sync_log_folders().await?;
            state.unsynced = false;
        }
        if self.rt.mutant(Mutant::StaleFirstFile) {
            self.log.files().first_was_taken();
        }
        Ok(true)
    }

    /// Moves the minimum of each queue behind what the log has lost, and with `files_too` deletes files that lie below. True
    /// when all is done.
    async fn clean_queues(
        &self,
        log_min: u64,
        files_too: bool,
        stop: &mut Receiver<bool>,
    ) -> io::Result<bool> {
        let (rt, files) = (&self.rt, &self.queues.files);
        let mut looked_at = rt.now();
        for queue in self.queues.all() {
            if stop.get() {
                return Ok(false);
            }
            if !rt.mutant(Mutant::MinimumStays) {
                let min = queue.first_kept(files, log_min).await?;
                queue.raise_min(min);
            }
            let claimed = self.queue_flush.claimed().get();
            self.fill_again(&mut looked_at).await;
            let files_too = files_too && !rt.mutant(Mutant::QueueFilesStay);
            while files_too && queue.delete_first_file(rt, files, claimed).await? {
                rt.probe("store.queue_file_deleted", queue.number(), log_min);
                self.fill_again(&mut looked_at).await;
                if !self.pause(self.retention().queue_file_pause_ms, stop).await {
                    return Ok(false);
                }
            }
            rt.yield_now().await;
        }
        rt.probe("store.queues_cleaned", log_min, 0);
        Ok(true)
    }

    /// Thousands of queue files take minutes: meanwhile puts are refused and taken again at the usual interval.
    async fn fill_again(&self, looked_at: &mut Mono) {
        let now = self.rt.now();
        if now.since(*looked_at) >= Duration::from_millis(self.retention().interval_ms) {
            *looked_at = now;
            self.fill().await;
        }
    }

    /// False when the store stops.
    async fn pause(&self, ms: u64, stop: &mut Receiver<bool>) -> bool {
        crate::select! {
            _ = stop.wait_for(|stop| *stop) => false,
            () = self.rt.sleep(Duration::from_millis(ms)) => true,
        }
    }
}

/// Store time of the first record of a file; `None` when there is none that can be read.
fn first_time<R: Runtime>(file: &MappedFile<R>) -> Option<i64> {
    let head = file.view(file.base, BLANK_BYTES).ok()?;
    let Head::Record { size } = codec::head(head.as_ref()) else { return None };
    let view = file.view(file.base, usize::try_from(size).ok()?).ok()?;
    codec::decode(view.as_ref(), Check::Lengths).ok().map(|record| record.store_timestamp)
}

//! Opening a directory: one scan of the log, with two starting points.
//!
//! After a clean stop, and after any other, the scan begins where the checkpoint says that log and queues are complete; it
//! verifies whole records, stops at the first that is not, and gives each to its queue again. Then log and queues are cut
//! behind the end, on disk. When a queue does not continue where the log says, the scan begins again at the log's start.
//!
//! Order: everything is looked at before anything is changed; the abort marker is durable before the first change, so that a
//! crash in the middle of a recovery is followed by another one, which goes as far back, and makes durable what the first one
//! meant to change; the checkpoint moves last.
//!
//! The kernel keeps the error of pages that it could not write until somebody flushes their file: that may be this process,
//! and the pages the last one's. So a flush of recovery that fails is tried once more, after everything that it covers was
//! marked dirty again; a second error is this process's own. Else a start would fail once for each file of the queues.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::abort_marker::{self, InDoubt, LastEnd, Unfinished};
use super::batch_topics::BatchTopics;
use super::check;
use super::checkpoint::{self, Checkpoint, NO_RECORD_CRC, NOT_STOPPED, Own, Positions};
use super::commit_log::Recovered;
use super::config::StoreConfig;
use super::consume_queues::ConsumeQueues;
use super::dropped::{Dropped, DroppedTopics};
use super::error::{LogTrace, RecoverError, ScanEnd};
use super::filing::Filing;
use super::index::{self, Known};
use super::mapped_file::MappedFile;
use super::queue_entry::{Entry, light_queues};
use super::queue_files::QueueFiles;
use super::recover_log::{LogFiles, Scan, Trust, list};
use super::recover_queues::{LookBehind, QueueGap, RecoveringQueues};
use crate::message::codec::{self, BLANK_BYTES, Check, Head, Record};
use crate::message::hash;
use crate::runtime::storage::Backing;
use crate::runtime::{Mark, Mutant, Runtime};

/// What is told of a timer log.
pub(crate) const TIMER_LOG_NOTE: &str = "timerlog: a broker of 5.x has kept messages there for a time; what is pending is not delivered by this one";

/// The files and folders of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    pub root: String,
    /// A file is in one of them, or of those that are only read; Java spreads the files over several.
    pub commit_logs: Vec<String>,
    /// More folders with files of the log, in which none is made or changed.
    pub read_only: Vec<String>,
    pub consume_queue: String,
    pub batch_consume_queue: String,
    pub index: String,
    pub checkpoint: String,
    pub abort: String,
    pub lock: String,
    pub dropped: String,
}

impl Paths {
    /// All folders with files of the log.
    pub fn log_folders(&self) -> impl Iterator<Item = &String> {
        self.commit_logs.iter().chain(&self.read_only)
    }

    pub fn new(root: &str, commit_logs: &[String], read_only: &[String]) -> Paths {
        let mut commit_logs =
            if commit_logs.is_empty() { vec![format!("{root}/commitlog")] } else { commit_logs.to_vec() };
        commit_logs.retain(|dir| !read_only.contains(dir));
        Paths {
            root: root.to_owned(),
            commit_logs,
            read_only: read_only.to_vec(),
            consume_queue: format!("{root}/consumequeue"),
            batch_consume_queue: format!("{root}/batchconsumequeue"),
            index: format!("{root}/index"),
            checkpoint: format!("{root}/checkpoint"),
            abort: format!("{root}/abort"),
            lock: format!("{root}/lock"),
            dropped: format!("{root}/config/droppedTopics.json"),
        }
    }
}

/// A directory that is ready for appends.
pub(crate) struct Opened<R: Runtime> {
    pub log: Recovered<R>,
    pub queues: ConsumeQueues<R>,
    pub index: index::Recovered<R>,
    pub checkpoint: Checkpoint,
    pub dropped: DroppedTopics,
    pub batch_topics: Arc<BatchTopics>,
}

/// What a look at a directory found, before anything is changed.
pub(crate) struct Survey<R: Runtime> {
    pub files: LogFiles<R>,
    pub queues: RecoveringQueues,
    pub checkpoint: Checkpoint,
    pub dropped: DroppedTopics,
    pub batch_topics: BatchTopics,
    pub clean: bool,
    /// What the last process was about to change when it died.
    pub unfinished: Option<Unfinished>,
    /// Where the scan began.
    pub from: u64,
    pub scan: Scan,
    /// What recovery cannot repair.
    pub refusals: Vec<RecoverError>,
}

/// Looks at everything and decides what recovery has to do.
///
/// # Errors
/// What the directory is not. Nothing was changed.
pub(crate) async fn survey<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    paths: &Paths,
    how: Look,
) -> Result<Survey<R>, RecoverError> {
    let mut survey = look(rt, config, paths, (how, Backing::Mapped), |_| {}).await?;
    if survey.refusals.is_empty() { Ok(survey) } else { Err(survey.refusals.swap_remove(0)) }
}

/// How much of a directory is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    AsRecovery,
    /// All of the log.
    Whole,
}

/// The look itself, which goes as far as it can where recovery would refuse. `observe` is shown each record of the scan,
/// and some of them twice when the scan has to begin again further back.
///
/// # Errors
/// Of the system. Nothing was changed.
pub(crate) async fn look<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    paths: &Paths,
    (look, backing): (Look, Backing),
    mut observe: impl FnMut(&Record<'_>),
) -> Result<Survey<R>, RecoverError> {
    let whole = look == Look::Whole;
    let last_end = LastEnd::look(rt, &paths.abort).await?;
    let clean = last_end == LastEnd::InOrder;
    let unfinished = match last_end {
        LastEnd::InRecovery(unfinished) => Some(unfinished),
        LastEnd::InOrder | LastEnd::Died => None,
    };
    let mut files = LogFiles::open(rt, paths, config.commit_log_file_bytes, backing).await?;
    let read = checkpoint::load(rt, &paths.checkpoint).await;
    let checkpoint = read.map_err(RecoverError::io("read", &paths.checkpoint))?;
    let mut dropped = DroppedTopics::load(rt, &paths.dropped).await?;
    let own = checkpoint.positions();
    if let Some(own) = own {
        files.begin_at(own.queues_durable);
    }
    let java_topics = if clean && own.is_none() { java_topics(rt, paths).await? } else { None };
    let batch_topics = BatchTopics::load(rt, paths).await?;
    let trust = Trust::new(&checkpoint, clean);
    let start = if whole { files.min() } else { files.scan_start(&checkpoint, clean) };
    // Java's times may be ahead of its queues, and of one that has got nothing since nothing else would tell.
    let is_javas_word = checkpoint.own == Own::Absent && !clean;
    let (mut from, mut pass) =
        if is_javas_word { (files.min(), Pass::Precaution) } else { (start, Pass::First) };
    if let Some(unfinished) = &unfinished {
        from = from.min(unfinished.from.max(files.min()));
    }
    loop {
        let from_min = from <= files.min();
        let look_behind = match own {
            // Java leaves what it cut.
            None => LookBehind::Whole,
            Some(_) if clean && !whole => LookBehind::Nothing,
            Some(_) => LookBehind::Near,
        };
        let mut queues = RecoveringQueues::load(
            rt,
            &paths.consume_queue,
            config.consume_queue_file_bytes,
            (from, from_min, files.names_end()),
            look_behind,
            &dropped,
        )
        .await?;
        if queues.is_empty() && !from_min {
            (from, pass) = (files.min(), Pass::Again);
            continue;
        }
        if let Some((topic, queue)) = queues.torn_apart().filter(|_| !from_min) {
            rt.mark(Mark::QueueTornApart);
            tracing::warn!(
                topic,
                queue,
                from,
                "a queue has lost entries before others: the whole log is read"
            );
            rt.probe("store.rescan", from, files.min());
            (from, pass) = (files.min(), Pass::Again);
            continue;
        }
        let mut gap: Option<QueueGap> = None;
        let mut deleted = BTreeSet::new();
        let scan = files
            .scan(rt, from, trust, |record| {
                observe(record);
                let in_queue = record.physical_offset >= dropped.before(record.topic);
                if !in_queue && !rt.mutant(Mutant::DroppedRefiled) {
                    return ControlFlow::Continue(());
                }
                if java_topics.as_ref().is_some_and(|topics| !topics.contains(record.topic)) {
                    deleted.insert(record.topic.to_owned());
                    return ControlFlow::Continue(());
                }
                let Some(mut entry) = Entry::of(record, &config.delay_levels_ms) else {
                    return ControlFlow::Continue(());
                };
                if rt.mutant(Mutant::RecoverForgetsDueTime) {
                    entry.tags_code = hash::tags_code(Filing::of(record).tags);
                }
                for (topic, queue_id, n) in light_queues(record) {
                    queues.take_light(topic, queue_id, n, (&entry, record.store_timestamp));
                }
                // Offsets of these are no entry numbers.
                if batch_topics.has(record) {
                    return ControlFlow::Continue(());
                }
                let stored = (&entry, record.store_timestamp);
                gap = queues.take(record.topic, record.queue_id, record.queue_offset, stored).err();
                if gap.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        let unexplained =
            queues.unexplained(scan.end).filter(|_| own.is_some() && !from_min && gap.is_none());
        if let Some((topic, queue)) = unexplained {
            rt.mark(Mark::QueueTornApart);
            tracing::warn!(
                topic,
                queue,
                from,
                "a queue ends with an entry of no record: the whole log is read"
            );
            rt.probe("store.rescan", from, files.min());
            (from, pass) = (files.min(), Pass::Again);
            continue;
        }
        let damaged_before = |at, found| {
            let file = files.file_at(at).map(|file| file.path.clone()).unwrap_or_default();
            RecoverError::Damaged { file, at, durable: start, found }
        };
        let gap = match (gap, pass) {
            (None, Pass::Precaution) if scan.end < start => {
                rt.mark(Mark::DamagedBeforeStart);
                tracing::warn!(end = scan.end, why = %scan.why, start, "the log is damaged long before its end");
                (from, pass) = (start, Pass::Behind(scan.end, scan.why));
                continue;
            }
            // Where the queues begin anew only the whole log could tell what they held.
            (Some(_), Pass::Behind(at, found)) => {
                let refusal = damaged_before(at, found);
                files.refusals.push(refusal);
                None
            }
            // Of ours the checkpoint says what was durable.
            (None, Pass::Again) if scan.end < start && own.is_none() => {
                let refusal = damaged_before(scan.end, scan.why);
                files.refusals.push(refusal);
                None
            }
            (gap, _) => gap,
        };
        let Some(gap) = gap else {
            let mut refusals = std::mem::take(&mut files.refusals);
            refusals.extend(files.check_gap(&scan).err());
            refusals.extend(files.check_read_only(&scan).err());
            let durable = own.map_or(0, |own| own.queues_durable);
            if scan.end < durable && refusals.is_empty() && !rt.mutant(Mutant::DamageIsTheEnd) {
                match files.file_at(scan.end) {
                    Some(file) => {
                        let (file, at, found) = (file.path.clone(), scan.end, scan.why);
                        refusals.push(RecoverError::Damaged { file, at, durable, found });
                    }
                    // The log of a slave may have only begun there.
                    None if !files.is_made_at(durable) => {
                        let folder = paths.commit_logs.first().cloned().unwrap_or_default();
                        refusals.push(RecoverError::LogMissing { folder, known: LogTrace::Durable(durable) });
                    }
                    None => {}
                }
            }
            // A disk that is not mounted: what lies on it is all that can be missing.
            let java_end = own.is_none() && files.has_records(&scan);
            if let Some(folder) = files.missing_folder.clone()
                && (java_end || refusals.iter().any(RecoverError::is_for_want_of_files))
            {
                refusals.retain(|refusal| !refusal.is_for_want_of_files());
                refusals.insert(0, RecoverError::FolderMissing { folder, at: scan.end });
            }
            refusals.extend(refuse_other_forms(rt, paths).await?);
            if refusals.is_empty()
                && scan.records == 0
                && scan.end == files.min()
                && let Some(known) = log_trace(rt, paths, &files, (&checkpoint, clean), &queues).await?
            {
                let folder = paths.commit_logs.first().cloned().unwrap_or_default();
                refusals.push(RecoverError::LogMissing { folder, known });
            }
            refusals.extend(queues.take_refusals());
            for topic in deleted {
                dropped.add(&topic, Dropped { before: scan.end, next: BTreeMap::new() });
            }
            return Ok(Survey {
                files,
                queues,
                checkpoint,
                dropped,
                batch_topics,
                clean,
                unfinished,
                from,
                scan,
                refusals,
            });
        };
        assert!(!from_min, "a scan from the start of the log finds no gap: {gap:?}");
        rt.mark(Mark::QueueIncomplete);
        tracing::warn!(?gap, from, "a queue is not complete: the whole log is read");
        rt.probe("store.rescan", from, files.min());
        (from, pass) = (files.min(), Pass::Again);
    }
}

/// Why a scan begins where it does. Below its start the log was whole and durable for who wrote last; what is damaged there is
/// no crash's, and the log does not end at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// At the start.
    First,
    /// At the first byte, though the start is known.
    Precaution,
    /// At the start, since the log is damaged before it: at this place, and so.
    Behind(u64, ScanEnd),
    /// At the first byte, since the queues need it.
    Again,
}

/// The topics that Java's broker had when it stopped in order: those that it has queues of, and those in its table. Of any
/// other one that has records it was deleted, since it keeps the queues of all the rest. `None` where that is not known: there
/// is no table, or the queues were taken away.
async fn java_topics<R: Runtime>(rt: &R, paths: &Paths) -> Result<Option<BTreeSet<String>>, RecoverError> {
    let mut topics = BTreeSet::new();
    for folder in [&paths.consume_queue, &paths.batch_consume_queue] {
        topics
            .extend(list(rt, folder).await?.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name));
    }
    let Some(table) = topic_table(rt, paths).await else { return Ok(None) };
    if topics.is_empty() || table.is_empty() {
        return Ok(None);
    }
    topics.extend(table.keys().cloned());
    Ok(Some(topics))
}

/// The table of topics, from its file or the one before it; `None` where neither has one.
pub(crate) async fn topic_table<R: Runtime>(
    rt: &R,
    paths: &Paths,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    let path = format!("{}/config/topics.json", paths.root);
    let mut found = check::config_files::look(rt, &path).await;
    if !matches!(found, check::config_files::Bytes::Good(_)) {
        found = check::config_files::look(rt, &format!("{path}.bak")).await;
    }
    let check::config_files::Bytes::Good(table) = found else { return None };
    table.get("topicConfigTable").and_then(|table| table.as_object()).cloned()
}

/// Names what other brokers write and this one does not read: with it the start would begin anew beside it.
async fn refuse_other_forms<R: Runtime>(rt: &R, paths: &Paths) -> Result<Option<RecoverError>, RecoverError> {
    let queues = list(rt, &paths.consume_queue).await?;
    let is_rocksdb = queues.iter().any(|entry| !entry.is_dir && entry.name == "CURRENT");
    let path = paths.consume_queue.clone();
    Ok(is_rocksdb
        .then_some(RecoverError::OtherForm { path, what: "queues in RocksDB (storeType=defaultRocksDB)" }))
}

/// Whether Java's broker has left messages that it would deliver at a time.
pub(crate) async fn has_timer_log<R: Runtime>(rt: &R, paths: &Paths) -> Result<bool, RecoverError> {
    Ok(!list(rt, &format!("{}/timerlog", paths.root)).await?.is_empty())
}

/// What tells that there must be records where none was found. A power loss in a broker's first seconds takes all records and
/// may leave entries of them, but not their file, whose name was durable before the first of them.
async fn log_trace<R: Runtime>(
    rt: &R,
    paths: &Paths,
    files: &LogFiles<R>,
    (checkpoint, clean): (&Checkpoint, bool),
    queues: &RecoveringQueues,
) -> Result<Option<LogTrace>, RecoverError> {
    if checkpoint.positions().is_none() && checkpoint.physic_ms > 0 {
        return Ok(Some(LogTrace::StoreTime(checkpoint.physic_ms)));
    }
    if !clean && !files.is_empty() {
        return Ok(None);
    }
    if checkpoint.positions().is_some_and(|own| files.begins_at_its_end(own.queues_durable)) {
        return Ok(None);
    }
    if let Some((topic, queue)) = queues.with_entries() {
        return Ok(Some(LogTrace::QueueEntries { topic: topic.to_owned(), queue }));
    }
    for entry in list(rt, &paths.index).await? {
        let path = format!("{}/{}", paths.index, entry.name);
        if entry.is_dir {
            continue;
        }
        let file = rt.open_file(&path, true).await.map_err(RecoverError::io("open", &path))?;
        // One that is too short says nothing.
        if check::index::Header::read(&file).is_ok_and(|header| header.next > 1) {
            return Ok(Some(LogTrace::IndexEntries { file: path }));
        }
    }
    Ok(None)
}

/// Opens the directory: recovers it and makes the abort marker durable.
///
/// # Errors
/// [`RecoverError`]; nothing was changed unless it is `Repair`.
pub(crate) async fn open<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    paths: &Paths,
    how: Look,
) -> Result<Opened<R>, RecoverError> {
    let survey = survey(rt, config, paths, how).await.inspect_err(|_| rt.mark(Mark::StartRefused))?;
    if has_timer_log(rt, paths).await? {
        tracing::warn!("{TIMER_LOG_NOTE}");
    }
    make_folders(rt, paths).await?;
    if let Some(note) = survey.batch_topics.note() {
        tracing::warn!("{note}");
    }
    let Survey {
        files,
        queues: recovering,
        checkpoint,
        mut dropped,
        batch_topics,
        clean,
        unfinished,
        from,
        scan,
        ..
    } = survey;
    if scan.why != ScanEnd::Clean {
        rt.mark(Mark::LogCut);
        tracing::warn!(end = scan.end, why = %scan.why, "the log ends at a record that is not whole");
        rt.probe("store.damaged", scan.end, 0);
    }
    if !clean {
        rt.mark(Mark::RecoveredAfterCrash);
    }
    tracing::info!(clean, from, end = scan.end, records = scan.records, "recovered the log");
    let known_end = checkpoint.positions().map(|own| own.queues_durable);
    // We stopped it in order, and nothing has touched it since: what lies behind the end is zero, what lies before is durable.
    let untouched =
        how == Look::AsRecovery && clean && scan.why == ScanEnd::Clean && known_end == Some(scan.end);
    let in_doubt = match unfinished.map(|unfinished| unfinished.queues) {
        None => BTreeSet::new(),
        Some(InDoubt::These(queues)) => queues,
        Some(InDoubt::All) => recovering.names().collect(),
    };
    let changing: BTreeSet<_> = recovering.changing().chain(in_doubt.iter().cloned()).collect();
    let as_it_is = untouched && changing.is_empty();
    let marked = match as_it_is {
        true => abort_marker::mark_serving(rt, &paths.abort).await,
        false => abort_marker::mark_recovering(rt, &paths.abort, (from, &changing)).await,
    };
    marked.map_err(RecoverError::repair(&paths.abort))?;
    if !dropped.is_empty() {
        // Also when nothing changes: the process that wrote it may have died before it was durable.
        if !rt.mutant(Mutant::DroppedUncut) {
            dropped.cut(scan.end);
        }
        dropped.save(rt, &paths.dropped).await.map_err(RecoverError::repair(&paths.dropped))?;
    }
    let log_min = files.min();
    // Below it the last life's flushes vouch for log and queues; what lies above may be in memory only.
    let durable_below = known_end.unwrap_or(from).clamp(from, scan.end);
    let log = files.finish(rt, durable_below, &scan, untouched, config.backing()).await?;
    let open_files = QueueFiles::new(rt.clone(), config.open_queue_files_max);
    let queues = ConsumeQueues::new(paths.consume_queue.clone(), open_files, config.consume_queue_file_bytes);
    let flush_from = (!untouched).then_some(durable_below);
    recovering.finish(rt, &queues, (log_min, config.slave), (flush_from, &in_doubt)).await?;
    if !clean && rt.mutant(Mutant::CutQueueUnflushed) {
        queues.all().iter().for_each(|queue| queue.counts_as_flushed());
    }
    let index = open_index(rt, config, paths, &checkpoint, clean, &log).await?;
    // One that has stopped below the end was followed by another broker.
    let last_life = checkpoint.positions().filter(|own| own.stopped_at >= scan.end);
    let ours_from = last_life.map_or(scan.end, |own| own.ours_from.min(scan.end));
    let record_crc_from = match last_life {
        _ if !config.record_crc => NO_RECORD_CRC,
        Some(own) => own.record_crc_from.min(scan.end),
        None => scan.end,
    };
    // The records that the scan has not seen are no newer than what was known to be durable.
    let newest = scan.last_timestamp.max(checkpoint.physic_ms);
    let last_timestamp = if untouched { newest } else { scan.last_timestamp };
    let own = Positions {
        scan_from: scan.mark,
        queues_durable: scan.end,
        record_crc_from,
        stopped_at: NOT_STOPPED,
        ours_from,
    };
    let checkpoint = Checkpoint {
        physic_ms: last_timestamp,
        logic_ms: last_timestamp,
        own: Own::Valid(own),
        index: index.claim,
        index_ms: index.end_ms,
        ..checkpoint
    };
    let save = || checkpoint::save(rt, &paths.root, &paths.checkpoint, &checkpoint);
    if save().await.is_err() {
        save().await.map_err(RecoverError::repair(&paths.checkpoint))?;
    }
    if !as_it_is {
        abort_marker::mark_serving(rt, &paths.abort).await.map_err(RecoverError::repair(&paths.abort))?;
    }
    let log = Recovered { last_timestamp: newest, ..log };
    Ok(Opened { log, queues, index, checkpoint, dropped, batch_topics: Arc::new(batch_topics) })
}

/// Before the checkpoint moves, since its claim about the index must hold for the log as it is now.
async fn open_index<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    paths: &Paths,
    checkpoint: &Checkpoint,
    clean: bool,
    log: &Recovered<R>,
) -> Result<index::Recovered<R>, RecoverError> {
    let known = match (checkpoint.own, checkpoint.index) {
        (Own::Valid(_), Some(claim)) => Known::Claim(claim),
        (Own::Valid(_), None) => Known::Nothing,
        (Own::Absent | Own::Stale, _) => Known::Java { index_ms: checkpoint.index_ms },
    };
    if !config.index {
        return Ok(index::Recovered::disabled(known, log.end, checkpoint.index_ms));
    }
    let is_record = |at: u64| {
        let file = log.files.iter().find(|file| (file.base..file.end()).contains(&at));
        file.is_some_and(|file| is_record(file, at))
    };
    let min = log.files.first().map_or(0, |file| file.base);
    let range = index::LogRange { min, end: log.end, clean, is_record };
    index::recover(rt, &paths.index, config.index_geometry, known, &range).await
}

/// Whether a record begins at `at`.
fn is_record<R: Runtime>(file: &MappedFile<R>, at: u64) -> bool {
    let Ok(head) = file.view(at, BLANK_BYTES) else { return false };
    let Head::Record { size } = codec::head(head.as_ref()) else { return false };
    let Ok(view) = file.view(at, size as usize) else { return false };
    codec::decode(view.as_ref(), Check::Lengths).is_ok_and(|record| record.physical_offset == at)
}

/// Makes the folders of log and queues, with durable names. That of the data folder is durable.
async fn make_folders<R: Runtime>(rt: &R, paths: &Paths) -> Result<(), RecoverError> {
    let mut above = BTreeSet::new();
    for dir in paths.commit_logs.iter().chain([&paths.consume_queue]) {
        if rt.stat(dir).await.is_err() {
            rt.create_dir_all(dir).await.map_err(RecoverError::io("create", dir))?;
        }
        above.extend(folders_above(dir, &paths.root));
    }
    // Also when they were there: the process that made them may have died before this.
    sync_names(rt, above).await
}

/// The folders above `path`, the nearest first, up to and with `top` or the root of all.
pub(crate) fn folders_above<'a>(path: &'a str, top: &'a str) -> impl Iterator<Item = &'a str> {
    let is_last = move |dir: &str| dir == top || matches!(dir, "." | "/");
    std::iter::successors(Some(parent(path)), move |dir| (!is_last(dir)).then(|| parent(dir)))
}

/// Makes the names in each of `folders` durable. One that may not be opened is none that this process has put a name into.
///
/// # Errors
/// Of the flush.
pub(crate) async fn sync_names<R: Runtime>(
    rt: &R,
    folders: impl IntoIterator<Item = &str>,
) -> Result<(), RecoverError> {
    for dir in folders {
        match rt.sync_dir(dir).await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(RecoverError::io("flush", dir))?,
        }
    }
    Ok(())
}

/// The folder that holds `path`.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_folders_above_are_named_up_to_the_top() {
        let above = |path, top| folders_above(path, top).collect::<Vec<_>>();
        assert_eq!(above("data/a/commitlog", "data/a"), ["data/a"]);
        assert_eq!(above("data/a", "/"), ["data", "."]);
        assert_eq!(above("/var/data", "/"), ["/var", "/"]);
        assert_eq!(above("store", "/"), ["."]);
        assert_eq!(above("/elsewhere/log", "data"), ["/elsewhere", "/"]);
    }
}

//! A look at a data directory of Java's broker or of ours, offline and without changing a byte of it; and its [`repair`].
//!
//! It runs the survey that recovery begins with, once from where recovery would begin and once from the first byte, and
//! says what recovery would do and what is damaged. What a recovery cannot restore, because the damage lies where nothing
//! was being written, makes the verdict `damaged`.

pub(crate) mod config_files;
mod geometry;
pub(crate) mod index;
mod repair;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

pub use repair::{RepairError, Repaired, repair};

use serde::Serialize;

use super::checkpoint::CHECKPOINT_BYTES;
use super::config::StoreConfig;
use super::error::{RecoverError, ScanEnd};
use super::mapped_file::parse_file_name;
use super::recover_log::Trust;
use super::recovery::{Look, Paths, Survey, TIMER_LOG_NOTE, has_timer_log, look};
use super::resync::Seen;
use crate::runtime::{Backing, Runtime};
use repair::Resize;

/// So many damaged places are told one by one.
const DAMAGE_MAX: usize = 1_000;

/// What `hotfire store check --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub clean_shutdown: bool,
    pub commit_log: CommitLogReport,
    pub queues: Vec<QueueReport>,
    pub index: IndexReport,
    pub checkpoint: CheckpointReport,
    /// By name of the file: `ok`, or why it is not.
    pub config: BTreeMap<String, String>,
    /// What is there besides, and is neither read nor changed.
    pub notes: Vec<String>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommitLogReport {
    pub min: u64,
    /// What recovery would leave.
    pub max: u64,
    /// Whole records from `min` on, up to the first damaged place.
    pub records: u64,
    pub damaged: Vec<Damage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Offset in the log, in bytes.
    pub at: u64,
    pub why: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QueueReport {
    pub topic: String,
    pub queue: i32,
    pub min: i64,
    pub max: i64,
    pub entries: i64,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IndexReport {
    pub files: u64,
    pub entries: u64,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointReport {
    pub physic_ms: i64,
    pub logic_ms: i64,
    pub index_ms: i64,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Stopped in order, nothing to do.
    Clean,
    /// The next start makes it whole.
    Recoverable,
    /// The next start refuses it, or would lose what no crash explains.
    Damaged,
}

/// Looks at the directory `root`. File lengths are taken from the files; the rest of `base` is used as it is.
///
/// # Errors
/// `InUse` while a broker runs on it, `Io` when the directory itself cannot be read. Damage is no error: it is reported.
pub async fn check<R: Runtime>(rt: &R, root: &str, base: &StoreConfig) -> Result<CheckReport, RecoverError> {
    let _lock = lock_if_there(rt, root).await?;
    Ok(check_all(rt, root, base).await?.report)
}

/// What was found, and what a repair makes of it.
struct Checked {
    report: CheckReport,
    /// Why a repair would lose whole records, or must not guess.
    refused: Vec<String>,
    /// Files that a repair gives their length.
    resizes: Vec<Resize>,
}

/// Keeps brokers out of the directory `root`, which must be there. Taking a lock that is not there would write it.
///
/// # Errors
/// `InUse` while a broker runs on it, `Io` when the directory itself cannot be read.
pub(crate) async fn lock_if_there<R: Runtime>(rt: &R, root: &str) -> Result<Option<R::Lock>, RecoverError> {
    rt.list(root).await.map_err(RecoverError::io("list", root))?;
    let path = Paths::new(root, &[], &[]).lock;
    if rt.stat(&path).await.is_err() {
        return Ok(None);
    }
    let lock = rt.lock_file(&path).await.map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => RecoverError::InUse { dir: root.to_owned(), source },
        _ => RecoverError::Io { action: "lock", path, source },
    });
    lock.map(Some)
}

/// The settings with which the files below `root` can be read.
pub(crate) async fn config_for<R: Runtime>(rt: &R, root: &str, base: &StoreConfig) -> (StoreConfig, Paths) {
    let paths = Paths::new(root, &base.commit_log_dirs, &base.read_only_commit_log_dirs);
    let base = StoreConfig { root: root.to_owned(), ..base.clone() };
    (geometry::with_lengths_of_files(rt, &paths, &base).await, paths)
}

async fn check_all<R: Runtime>(rt: &R, root: &str, base: &StoreConfig) -> Result<Checked, RecoverError> {
    let (config, paths) = config_for(rt, root, base).await;
    let mut judged = Verdict::Clean;
    let mut refused = Vec::new();
    let config_states = config_files::states(rt, &format!("{root}/config")).await;
    for (name, state) in &config_states {
        judged = judged.max(match state {
            config_files::State::Good => Verdict::Clean,
            config_files::State::Undecodable { .. } => {
                refused.push(format!("config/{name}: {}", state.text()));
                Verdict::Damaged
            }
            _ => Verdict::Recoverable,
        });
    }
    // One after the other: both map the files.
    let mut recovered =
        Looked::at(look(rt, &config, &paths, (Look::AsRecovery, Backing::ReadOnly), |_| {}).await?);
    let survey = look(rt, &config, &paths, (Look::Whole, Backing::ReadOnly), |_| {}).await?;
    let times = survey.checkpoint;
    let timers = has_timer_log(rt, &paths).await?.then(|| TIMER_LOG_NOTE.to_owned());
    let notes = timers.into_iter().chain(survey.batch_topics.note()).collect();
    let clean_shutdown = survey.clean;
    let holes = holes_between(rt, &survey, recovered.end).await?;
    let behind = Behind::look(rt, &survey).await?;
    let whole = Looked::at(survey);
    let commit_log = CommitLogReport {
        min: whole.min,
        max: recovered.end,
        records: whole.records,
        damaged: damages(&mut recovered, &whole, holes),
    };
    let same_end = whole.end == recovered.end;
    if !same_end {
        refused.push(format!(
            "the log is damaged at {}, long before its end at {}: a start serves what lies behind",
            whole.end, recovered.end
        ));
    }
    let lost = recovered.queues.iter().any(|queue| queue.lost > 0);
    let was_durable = behind.records > 0 && behind.first_ms <= times.physic_ms;
    let unexplained = was_durable || (clean_shutdown && lost);
    if unexplained {
        refused.push(format!(
            "the log ends at {}, where it was whole: {} whole records lie behind, {}",
            recovered.end,
            behind.records,
            if lost { "queues point there" } else { "the checkpoint says they were durable" }
        ));
    }
    let resizes = recovered.take_resizes(&mut refused);
    let queues: Vec<QueueReport> = if same_end { whole.queues } else { recovered.queues }
        .into_iter()
        .map(|queue| queue.report)
        .collect();
    let index = index::report(rt, &paths.index, commit_log.max, config.index_geometry).await;
    let checkpoint = CheckpointReport {
        physic_ms: times.physic_ms,
        logic_ms: times.logic_ms,
        index_ms: times.index_ms,
        problems: checkpoint_problems(rt, &paths, commit_log.max > 0).await,
    };
    let problems = queues.iter().any(|queue| !queue.problems.is_empty())
        || !index.problems.is_empty()
        || !checkpoint.problems.is_empty();
    judged = judged.max(if recovered.refused || !same_end || unexplained {
        Verdict::Damaged
    } else if !clean_shutdown || problems || !commit_log.damaged.is_empty() {
        Verdict::Recoverable
    } else {
        Verdict::Clean
    });
    let report = CheckReport {
        clean_shutdown,
        commit_log,
        queues,
        index,
        checkpoint,
        config: config_states.iter().map(|(name, state)| (name.clone(), state.text())).collect(),
        notes,
        verdict: judged,
    };
    Ok(Checked { report, refused, resizes })
}

/// Whole records behind the place where the log stops being whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Behind {
    records: u64,
    /// Store time of the first.
    first_ms: i64,
}

impl Behind {
    /// Those that are older than the log's last whole record are left from an earlier life of the file.
    async fn look<R: Runtime>(rt: &R, whole: &Survey<R>) -> Result<Behind, RecoverError> {
        let mut behind = Behind::default();
        if whole.scan.why == ScanEnd::Clean && whole.refusals.is_empty() {
            // Where nothing is written Java finds nothing either, unless a queue knows better.
            if whole.queues.report().iter().all(|queue| queue.lost == 0) {
                return Ok(behind);
            }
        }
        let walk = whole.files.walk(rt, whole.scan.end, u64::MAX, Trust::unknown(), |seen| {
            if let Seen::Record(record) = seen
                && record.store_timestamp >= whole.scan.last_timestamp
            {
                if behind.records == 0 {
                    behind.first_ms = record.store_timestamp;
                }
                behind.records += 1;
            }
            ControlFlow::Continue(())
        });
        walk.await?;
        Ok(behind)
    }
}

/// A queue, and how many of its entries point behind the log.
pub(crate) struct LookedQueue {
    pub report: QueueReport,
    pub lost: u64,
}

/// What is kept of a survey.
struct Looked {
    min: u64,
    end: u64,
    why: ScanEnd,
    records: u64,
    queues: Vec<LookedQueue>,
    refused: bool,
    /// Of the log's files only: what is wrong with a queue's stands with the queue.
    refusals: Vec<Damage>,
    /// What a repair gives its length.
    resizes: Vec<Resize>,
    /// What it does not repair.
    unrepairable: Vec<String>,
}

impl Looked {
    fn at<R: Runtime>(survey: Survey<R>) -> Looked {
        let Survey { files, queues, scan, refusals, .. } = survey;
        let refused = !refusals.is_empty();
        let (mut resizes, mut unrepairable) = (Vec::new(), Vec::new());
        for refusal in &refusals {
            match refusal {
                // What is missing at the end of the last file cannot be read anyway; queues follow from the log.
                RecoverError::FileLength { file, expected, found }
                    if found < expected && (is_of_queue(file) || files.ends_in(file, &scan)) =>
                {
                    resizes.push(Resize { file: file.clone(), expected: *expected, found: *found });
                }
                refusal => unrepairable.push(refusal.to_string()),
            }
        }
        let refusals = refusals.iter().filter_map(Damage::of).collect();
        let (min, end, why, records) = (files.min(), scan.end, scan.why, scan.records);
        let queues = queues.report();
        Looked { min, end, why, records, queues, refused, refusals, resizes, unrepairable }
    }

    fn take_resizes(&mut self, refused: &mut Vec<String>) -> Vec<Resize> {
        refused.append(&mut self.unrepairable);
        std::mem::take(&mut self.resizes)
    }
}

fn is_of_queue(file: &str) -> bool {
    file.contains("/consumequeue/")
}

impl Damage {
    /// `None` when it is not the log's.
    fn of(refusal: &RecoverError) -> Option<Damage> {
        let (file, inside) = match refusal {
            RecoverError::FileLength { file, expected, found } => (file, (*found).min(*expected)),
            RecoverError::FileName { file } | RecoverError::FileBase { file, .. } => (file, 0),
            RecoverError::FileMissing { file, .. } => (file, 0),
            RecoverError::Damaged { at, .. } => return Some(Damage { at: *at, why: refusal.to_string() }),
            RecoverError::FolderMissing { at, .. } => {
                return Some(Damage { at: *at, why: refusal.to_string() });
            }
            RecoverError::LogMissing { .. } | RecoverError::OtherForm { .. } => {
                return Some(Damage { at: 0, why: refusal.to_string() });
            }
            _ => return None,
        };
        if is_of_queue(file) {
            return None;
        }
        let at = match refusal {
            RecoverError::FileMissing { expected, .. } => *expected,
            _ => {
                let name = file.rsplit('/').next().unwrap_or_default();
                parse_file_name(name).unwrap_or(0).saturating_add(inside)
            }
        };
        Some(Damage { at, why: refusal.to_string() })
    }
}

/// The damaged places from where the whole log stops being whole up to where recovery would end it.
async fn holes_between<R: Runtime>(
    rt: &R,
    whole: &Survey<R>,
    recovered_end: u64,
) -> Result<Vec<Damage>, RecoverError> {
    let mut holes = Vec::new();
    if whole.scan.end >= recovered_end {
        return Ok(holes);
    }
    let trust = Trust::new(&whole.checkpoint, whole.clean);
    let walk = whole.files.walk(rt, whole.scan.end, recovered_end, trust, |seen| {
        if let Seen::Hole(hole) = seen {
            holes.push(Damage { at: hole.at, why: format!("{}; damaged up to {}", hole.why, hole.end) });
        }
        if holes.len() < DAMAGE_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    walk.await?;
    Ok(holes)
}

fn damages(recovered: &mut Looked, whole: &Looked, mut holes: Vec<Damage>) -> Vec<Damage> {
    for looked in [whole, &*recovered] {
        let told = holes.iter().any(|hole| hole.at == looked.end);
        if looked.why != ScanEnd::Clean && !told {
            holes.push(Damage { at: looked.end, why: looked.why.to_string() });
        }
    }
    for refusal in recovered.refusals.drain(..) {
        match holes.iter_mut().find(|hole| hole.at == refusal.at) {
            Some(hole) => *hole = refusal,
            None => holes.push(refusal),
        }
    }
    holes.sort_by_key(|hole| hole.at);
    holes
}

async fn checkpoint_problems<R: Runtime>(rt: &R, paths: &Paths, used: bool) -> Vec<String> {
    match rt.stat(&paths.checkpoint).await {
        Ok(stat) if stat.len == CHECKPOINT_BYTES => Vec::new(),
        Ok(stat) => vec![format!("expected {CHECKPOINT_BYTES} bytes, found {}", stat.len)],
        // A store that was never used has none.
        Err(_) if !used => Vec::new(),
        Err(error) => vec![error.to_string()],
    }
}

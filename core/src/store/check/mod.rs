//! A look at a data directory of Java's broker or of ours, offline and without changing a byte of it.
//!
//! It runs the survey that recovery begins with, once from where recovery would begin and once from the first byte, and
//! says what recovery would do and what is damaged. What a recovery cannot restore, because the damage lies where nothing
//! was being written, makes the verdict `damaged`.

pub(crate) mod config_files;
mod geometry;
pub(crate) mod index;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use serde::Serialize;

use super::checkpoint::{CHECKPOINT_BYTES, NO_RECORD_CRC};
use super::config::StoreConfig;
use super::error::{RecoverError, ScanEnd};
use super::mapped_file::parse_file_name;
use super::recovery::{Look, Paths, Survey, look};
use super::resync::Seen;
use crate::runtime::Runtime;

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
    check_locked(rt, root, base).await
}

/// Keeps brokers out of the directory `root`, which must be there. Taking a lock that is not there would write it.
///
/// # Errors
/// `InUse` while a broker runs on it, `Io` when the directory itself cannot be read.
pub(crate) async fn lock_if_there<R: Runtime>(rt: &R, root: &str) -> Result<Option<R::Lock>, RecoverError> {
    rt.list(root).await.map_err(RecoverError::io("list", root))?;
    let path = Paths::new(root, &[]).lock;
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
    let paths = Paths::new(root, &base.commit_log_dirs);
    let base = StoreConfig { root: root.to_owned(), ..base.clone() };
    (geometry::with_lengths_of_files(rt, &paths, &base).await, paths)
}

pub(crate) async fn check_locked<R: Runtime>(
    rt: &R,
    root: &str,
    base: &StoreConfig,
) -> Result<CheckReport, RecoverError> {
    let (config, paths) = config_for(rt, root, base).await;
    let mut judged = Verdict::Clean;
    let config_states = config_files::states(rt, &format!("{root}/config")).await;
    for state in config_states.values() {
        judged = judged.max(match state {
            config_files::State::Good => Verdict::Clean,
            config_files::State::Undecodable { .. } => Verdict::Damaged,
            _ => Verdict::Recoverable,
        });
    }
    // One after the other: both map the files.
    let mut recovered = Looked::at(look(rt, &config, &paths, Look::AsRecovery, |_| {}).await?);
    let survey = look(rt, &config, &paths, Look::Whole, |_| {}).await?;
    let times = survey.checkpoint;
    let clean_shutdown = survey.clean;
    let holes = holes_between(rt, &survey, recovered.end).await?;
    let whole = Looked::at(survey);
    let commit_log = CommitLogReport {
        min: whole.min,
        max: recovered.end,
        records: whole.records,
        damaged: damages(&mut recovered, &whole, holes),
    };
    let same_end = whole.end == recovered.end;
    let lost = recovered.queues.iter().any(|queue| queue.lost > 0);
    let queues: Vec<QueueReport> = if same_end { whole.queues } else { recovered.queues }
        .into_iter()
        .map(|queue| queue.report)
        .collect();
    let index = index::report(rt, &format!("{root}/index"), commit_log.max).await;
    let checkpoint = CheckpointReport {
        physic_ms: times.physic_ms,
        logic_ms: times.logic_ms,
        index_ms: times.index_ms,
        problems: checkpoint_problems(rt, &paths, commit_log.max > 0).await,
    };
    let problems = queues.iter().any(|queue| !queue.problems.is_empty())
        || !index.problems.is_empty()
        || !checkpoint.problems.is_empty();
    judged = judged.max(if recovered.refused || !same_end || (clean_shutdown && lost) {
        Verdict::Damaged
    } else if !clean_shutdown || problems || !commit_log.damaged.is_empty() {
        Verdict::Recoverable
    } else {
        Verdict::Clean
    });
    Ok(CheckReport {
        clean_shutdown,
        commit_log,
        queues,
        index,
        checkpoint,
        config: config_states.iter().map(|(name, state)| (name.clone(), state.text())).collect(),
        verdict: judged,
    })
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
}

impl Looked {
    fn at<R: Runtime>(survey: Survey<R>) -> Looked {
        let Survey { files, queues, scan, refusals, .. } = survey;
        let refused = !refusals.is_empty();
        let refusals = refusals.iter().filter_map(Damage::of).collect();
        let (min, end, why, records) = (files.min(), scan.end, scan.why, scan.records);
        Looked { min, end, why, records, queues: queues.report(), refused, refusals }
    }
}

impl Damage {
    /// `None` when it is not the log's.
    fn of(refusal: &RecoverError) -> Option<Damage> {
        let (file, inside) = match refusal {
            RecoverError::FileLength { file, expected, found } => (file, (*found).min(*expected)),
            RecoverError::FileName { file } | RecoverError::FileBase { file, .. } => (file, 0),
            RecoverError::FileMissing { file, .. } => (file, 0),
            RecoverError::Damaged { at, .. } => return Some(Damage { at: *at, why: refusal.to_string() }),
            _ => return None,
        };
        if file.contains("/consumequeue/") {
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
    let record_crc_from = whole.checkpoint.positions().map_or(NO_RECORD_CRC, |own| own.record_crc_from);
    let walk = whole.files.walk(rt, whole.scan.end, recovered_end, record_crc_from, |seen| {
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

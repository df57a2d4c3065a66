//! A look at a data directory of Java's broker or of ours, offline and without changing a byte of it.
//!
//! It runs the survey that recovery begins with, once from where recovery would begin and once from the first byte, and
//! says what recovery would do and what is damaged. What a recovery cannot restore, because the damage lies where nothing
//! was being written, makes the verdict `damaged`.

use std::io;

use serde::Serialize;

use super::checkpoint;
use super::config::StoreConfig;
use super::error::{RecoverError, ScanEnd};
use super::mapped_file::parse_file_name;
use super::recovery::{Paths, Survey, survey, survey_from_start};
use crate::remoting::json;
use crate::runtime::Runtime;
use crate::runtime::storage::File;

/// The header of an index file: 40 bytes; bytes 36..40 are the number of the next entry, counted from 1.
const INDEX_HEADER_BYTES: usize = 40;
/// A configuration file beyond this is not read.
const CONFIG_BYTES_MAX: u64 = 64 << 20;

/// What `hotfire store check --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub clean_shutdown: bool,
    pub commit_log: CommitLogReport,
    pub queues: Vec<QueueReport>,
    pub index: IndexReport,
    pub checkpoint: CheckpointReport,
    /// By name of the file: `ok`, or why it is not.
    pub config: std::collections::BTreeMap<String, String>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CommitLogReport {
    pub min: u64,
    /// What recovery would leave.
    pub max: u64,
    /// Whole records from `min` on.
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    let paths = Paths::new(root);
    rt.list(root).await.map_err(RecoverError::io("list", root))?;
    // Taking a lock that is not there would write it.
    let lock = match rt.stat(&paths.lock).await {
        Ok(_) => {
            let lock = rt.lock_file(&paths.lock).await;
            Some(lock.map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock => RecoverError::InUse { dir: root.to_owned(), source },
                _ => RecoverError::Io { action: "lock", path: paths.lock.clone(), source },
            })?)
        }
        Err(_) => None,
    };
    let config = with_lengths_of_files(rt, &paths, base).await;
    let read = checkpoint::load(rt, &paths.checkpoint).await;
    let times = read.map_err(RecoverError::io("read", &paths.checkpoint))?;
    let mut report = CheckReport {
        clean_shutdown: super::recovery::was_clean(rt, &paths).await?,
        commit_log: CommitLogReport::default(),
        queues: Vec::new(),
        index: index(rt, &format!("{root}/index")).await,
        checkpoint: CheckpointReport {
            physic_ms: times.physic_ms,
            logic_ms: times.logic_ms,
            index_ms: times.index_ms,
        },
        config: config_files(rt, &format!("{root}/config")).await,
        verdict: Verdict::Damaged,
    };
    // One after the other: both map the files.
    let recovered = look(survey::<R>(rt, &config, &paths).await);
    let whole = look(survey_from_start::<R>(rt, &config, &paths).await);
    drop(lock);
    match (recovered, whole) {
        (Ok(recovered), Ok(whole)) => judge(&mut report, recovered, whole),
        (Err(why), _) | (_, Err(why)) => {
            report.commit_log.damaged.push(Damage { at: 0, why: why.to_string() });
        }
    }
    Ok(report)
}

/// What is kept of a survey.
struct Looked {
    min: u64,
    end: u64,
    why: ScanEnd,
    records: u64,
    queues: Vec<QueueReport>,
}

fn look<R: Runtime>(survey: Result<Survey<R>, RecoverError>) -> Result<Looked, RecoverError> {
    let Survey { files, queues, scan, .. } = survey?;
    let queues = queues.report();
    Ok(Looked { min: files.min(), end: scan.end, why: scan.why, records: scan.records, queues })
}

fn judge(report: &mut CheckReport, recovered: Looked, whole: Looked) {
    let log = &mut report.commit_log;
    (log.min, log.max, log.records) = (whole.min, recovered.end, whole.records);
    for looked in [&whole, &recovered] {
        let damage = Damage { at: looked.end, why: looked.why.to_string() };
        if looked.why != ScanEnd::Clean && !log.damaged.contains(&damage) {
            log.damaged.push(damage);
        }
    }
    if whole.end < recovered.end && whole.why == ScanEnd::Clean {
        log.damaged.push(Damage { at: whole.end, why: "no record is written here".to_owned() });
    }
    let same_end = whole.end == recovered.end;
    report.queues = if same_end { whole.queues } else { recovered.queues };
    let damaged = !log.damaged.is_empty();
    let queue_problems = report.queues.iter().any(|queue| !queue.problems.is_empty());
    let other_problems =
        !report.index.problems.is_empty() || report.config.values().any(|state| state != "ok");
    report.verdict = if !same_end || (report.clean_shutdown && damaged) {
        Verdict::Damaged
    } else if !report.clean_shutdown || damaged || queue_problems || other_problems {
        Verdict::Recoverable
    } else {
        Verdict::Clean
    };
}

async fn with_lengths_of_files<R: Runtime>(rt: &R, paths: &Paths, base: &StoreConfig) -> StoreConfig {
    let mut config = StoreConfig { root: paths.root.clone(), ..base.clone() };
    if let Some(len) = first_len(rt, &paths.commit_log).await {
        config.commit_log_file_bytes = len;
    }
    for topic in rt.list(&paths.consume_queue).await.unwrap_or_default() {
        let topic_dir = format!("{}/{}", paths.consume_queue, topic.name);
        for queue in rt.list(&topic_dir).await.unwrap_or_default() {
            if let Some(len) = first_len(rt, &format!("{topic_dir}/{}", queue.name)).await {
                config.consume_queue_file_bytes = len;
                return config;
            }
        }
    }
    config
}

/// The length of the first file of `dir` that is named as one of a queue of files and is not empty.
async fn first_len<R: Runtime>(rt: &R, dir: &str) -> Option<u64> {
    for entry in rt.list(dir).await.ok()? {
        if parse_file_name(&entry.name).is_none() {
            continue;
        }
        match rt.stat(&format!("{dir}/{}", entry.name)).await {
            Ok(stat) if stat.len > 0 => return Some(stat.len),
            _ => {}
        }
    }
    None
}

async fn index<R: Runtime>(rt: &R, dir: &str) -> IndexReport {
    let mut report = IndexReport::default();
    for entry in rt.list(dir).await.unwrap_or_default() {
        if entry.is_dir {
            continue;
        }
        report.files += 1;
        match index_entries(rt, &format!("{dir}/{}", entry.name)).await {
            Ok(entries) => report.entries += entries,
            Err(why) => report.problems.push(format!("{}: {why}", entry.name)),
        }
    }
    report
}

async fn index_entries<R: Runtime>(rt: &R, path: &str) -> io::Result<u64> {
    let file = rt.open_file(path, true).await?;
    let mut header = [0; INDEX_HEADER_BYTES];
    file.read_at(0, &mut header)?;
    let [.., a, b, c, d] = header;
    // A count of 0 or less is read as 1: the file is new.
    let next = i32::from_be_bytes([a, b, c, d]).max(1);
    let entries = u64::try_from(next - 1).unwrap_or(0);
    if entries.saturating_mul(20) > file.len()?.saturating_sub(INDEX_HEADER_BYTES as u64) {
        return Err(io::Error::other(format!("it says {entries} entries and is too short for them")));
    }
    Ok(entries)
}

async fn config_files<R: Runtime>(rt: &R, dir: &str) -> std::collections::BTreeMap<String, String> {
    let mut states = std::collections::BTreeMap::new();
    for entry in rt.list(dir).await.unwrap_or_default() {
        if entry.is_dir || !entry.name.ends_with(".json") {
            continue;
        }
        let state = match config_file(rt, &format!("{dir}/{}", entry.name)).await {
            Ok(()) => "ok".to_owned(),
            Err(why) => why.to_string(),
        };
        states.insert(entry.name, state);
    }
    states
}

async fn config_file<R: Runtime>(rt: &R, path: &str) -> io::Result<()> {
    let file = rt.open_file(path, true).await?;
    let len = file.len()?;
    if len == 0 {
        return Err(io::Error::other("it is empty"));
    }
    let len = Some(len).filter(|len| *len <= CONFIG_BYTES_MAX).and_then(|len| usize::try_from(len).ok());
    let mut bytes = vec![0; len.ok_or_else(|| io::Error::other("it is too long"))?];
    file.read_at(0, &mut bytes)?;
    json::parse(&bytes).map(|_| ()).map_err(io::Error::other)
}

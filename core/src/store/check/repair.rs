//! The repair of a directory: what a start would make of it, and what no start does but costs no record.
//!
//! Guarantees: nothing at all is changed, and the reasons are told, where the log lost what no crash takes, where whole
//! records that were durable lie behind damage, and where it is not known what a file is. What follows from the log, queues and
//! index, is made again from it. A second repair finds nothing to do.
//!
//! Order: everything is looked at, then small files and lengths, each durable by itself, then the recovery, which is safe to
//! be cut off at any step. The lock is held from the first look to the last.

use super::config_files::{self, Bytes, State};
use super::index::{self, LookedFile};
use super::{CheckReport, Checked, Verdict, check_all, config_for};
use crate::runtime::Runtime;
use crate::runtime::storage::{Allocation, File};
use crate::store::config::StoreConfig;
use crate::store::config_file::ConfigFile;
use crate::store::error::{RecoverError, StopError};
use crate::store::index::Geometry;
use crate::store::recovery::{Look, Paths};
use crate::store::{MessageStore, take_lock};

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// A line for each change; nothing when there was none to make.
    pub done: Vec<String>,
    /// Why nothing was changed, when that is so although something is damaged.
    pub refused: Vec<String>,
    /// The directory as it is now.
    pub report: CheckReport,
}

#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("end the recovery: {0}")]
    Stop(#[from] StopError),
}

/// A length that a file must be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resize {
    pub file: String,
    pub expected: u64,
    pub found: u64,
}

/// Repairs the directory `root`, which must be there. Lengths of files are taken from the files, the rest from `base`; so
/// is the form of index files, when there are none that tell it and `index_form_is_known`.
///
/// # Errors
/// `InUse` while a broker runs on it; of reading and writing: another repair, or a start, goes on from there.
pub async fn repair<R: Runtime>(
    rt: &R,
    root: &str,
    base: &StoreConfig,
    index_form_is_known: bool,
) -> Result<Repaired, RepairError> {
    rt.list(root).await.map_err(RecoverError::io("list", root))?;
    let (config, paths) = config_for(rt, root, base).await;
    let _lock = take_lock(rt, &paths).await?;
    let Checked { report, refused, resizes } = check_all(rt, root, base).await?;
    if report.verdict == Verdict::Clean || !refused.is_empty() {
        return Ok(Repaired { done: Vec::new(), refused, report });
    }
    let mut done = changes(&report);
    restore_config_files(rt, &format!("{root}/config"), &mut done).await?;
    for resize in &resizes {
        set_length(rt, resize).await?;
        done.push(format!("{}: given its {} bytes, found {}", resize.file, resize.expected, resize.found));
    }
    let index = index::look(rt, &paths.index, report.commit_log.max, base.index_geometry).await;
    remove_damaged_index(rt, &paths, &index, &mut done).await?;
    let geometry = index.iter().find_map(|file| file.layout).and_then(|layout| layout.geometry());
    let config = StoreConfig {
        index: base.index && (geometry.is_some() || index_form_is_known),
        index_geometry: geometry.unwrap_or(base.index_geometry),
        ..config
    };
    let store = MessageStore::open_locked(rt.clone(), config, paths, Look::Whole).await?;
    store.stop().await?;
    drop(store);
    let report = check_all(rt, root, base).await?.report;
    Ok(Repaired { done, refused: Vec::new(), report })
}

/// What the recovery is going to change, by what the check has found.
fn changes(report: &CheckReport) -> Vec<String> {
    let mut done = Vec::new();
    if !report.clean_shutdown {
        done.push("abort: removed, after all that follows".to_owned());
    }
    done.extend(
        report.commit_log.damaged.iter().map(|damage| format!("log at {}: {}", damage.at, damage.why)),
    );
    if !report.commit_log.damaged.is_empty() {
        done.push(format!("log: ends at {}, zero behind", report.commit_log.max));
    }
    for queue in &report.queues {
        let problems = queue.problems.iter();
        done.extend(
            problems.map(|why| format!("queue {} of {}: made to fit: {why}", queue.queue, queue.topic)),
        );
    }
    done.extend(report.checkpoint.problems.iter().map(|why| format!("checkpoint: written anew: {why}")));
    done
}

async fn set_length<R: Runtime>(rt: &R, resize: &Resize) -> Result<(), RecoverError> {
    let Resize { file: path, expected, .. } = resize;
    let file = rt.open_file(path, false).await.map_err(RecoverError::repair(path))?;
    file.set_len(*expected, Allocation::Reserve).await.map_err(RecoverError::repair(path))?;
    file.flush(0..*expected).await.map_err(RecoverError::repair(path))
}

/// Gives files whose backup is good their contents back, and removes empty ones.
async fn restore_config_files<R: Runtime>(
    rt: &R,
    dir: &str,
    done: &mut Vec<String>,
) -> Result<(), RecoverError> {
    let mut removed = false;
    for (name, state) in config_files::states(rt, dir).await {
        let path = format!("{dir}/{name}");
        let restored = matches!(state, State::Backup { .. });
        if !restored && !matches!(state, State::Nothing { .. }) {
            continue;
        }
        for path in [path.clone(), format!("{path}.bak")] {
            if matches!(config_files::look(rt, &path).await, Bytes::Empty) {
                rt.remove(&path).await.map_err(RecoverError::repair(&path))?;
                removed = true;
            }
        }
        if restored {
            let is_good =
                |bytes: &[u8]| crate::remoting::json::parse(bytes).is_ok_and(|value| value.is_object());
            let loaded = ConfigFile::load_checked(rt, &path, is_good).await;
            if let Some((bytes, _)) = loaded.map_err(RecoverError::repair(&path))? {
                ConfigFile::save(rt, &path, &bytes).await.map_err(RecoverError::repair(&path))?;
            }
        }
        let what = if restored { "taken from its backup" } else { "removed" };
        done.push(format!("config/{name}: {what}: {}", state.text()));
    }
    if removed {
        rt.sync_dir(dir).await.map_err(RecoverError::repair(dir))?;
    }
    Ok(())
}

/// A damaged file goes with all behind it: the index is made again from there on.
async fn remove_damaged_index<R: Runtime>(
    rt: &R,
    paths: &Paths,
    files: &[LookedFile],
    done: &mut Vec<String>,
) -> Result<(), RecoverError> {
    let Some(first) = files.iter().position(|file| file.problem.is_some()) else { return Ok(()) };
    let behind = files.get(first..).unwrap_or(&[]);
    for file in behind {
        let path = format!("{}/{}", paths.index, file.name);
        rt.remove(&path).await.map_err(RecoverError::repair(&path))?;
        let why = file.problem.as_deref().unwrap_or("the file before it is damaged");
        done.push(format!("index/{}: removed: {why}", file.name));
    }
    rt.sync_dir(&paths.index).await.map_err(RecoverError::repair(&paths.index))
}

impl index::Layout {
    fn geometry(self) -> Option<Geometry> {
        let count = |count: u64| u32::try_from(count).ok();
        Some(Geometry { slots: count(self.slots)?, entries: count(self.entries)? })
    }
}

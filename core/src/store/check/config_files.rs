//! The JSON files of a store: whether a start can read them, or their backups.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use crate::remoting::json;
use crate::runtime::Runtime;
use crate::runtime::storage::File;

/// A configuration file beyond this is not read.
const BYTES_MAX: u64 = 64 << 20;
/// JSON files whose name does not say so.
const PLAIN_NAMES: [&str; 2] = ["timermetrics", "transactionMetrics"];
/// What the good state is called.
pub(crate) const OK: &str = "ok";

/// What a start finds of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Good,
    /// The file is missing or cannot be read, its backup can.
    Backup {
        why: String,
    },
    /// There is nothing to read: a start begins without it.
    Nothing {
        why: String,
    },
    /// A start refuses.
    Undecodable {
        why: String,
    },
}

impl State {
    pub fn text(&self) -> String {
        match self {
            State::Good => OK.to_owned(),
            State::Backup { why } => format!("{why}: its backup is good"),
            State::Nothing { why } => format!("{why}, and there is no backup: a start begins without it"),
            State::Undecodable { why } => format!("{why}, and there is no good backup"),
        }
    }
}

/// What one file holds.
pub(crate) enum Bytes {
    Missing,
    Empty,
    Bad(String),
    Good(Value),
}

/// Whether a broker reads the file of this name.
pub(crate) fn is_read(name: &str) -> bool {
    let name = name.strip_suffix(".bak").unwrap_or(name);
    name.ends_with(".json") || PLAIN_NAMES.contains(&name)
}

/// The files below `dir` that a broker reads, by name, also those of which only the backup is left.
pub(crate) async fn states<R: Runtime>(rt: &R, dir: &str) -> BTreeMap<String, State> {
    let mut states = BTreeMap::new();
    for entry in rt.list(dir).await.unwrap_or_default() {
        let name = entry.name.strip_suffix(".bak").unwrap_or(&entry.name);
        if entry.is_dir || !is_read(name) || states.contains_key(name) {
            continue;
        }
        let path = format!("{dir}/{name}");
        let state = match look(rt, &path).await {
            Bytes::Good(_) => State::Good,
            found => beside_backup(found, look(rt, &format!("{path}.bak")).await),
        };
        states.insert(name.to_owned(), state);
    }
    states
}

fn beside_backup(file: Bytes, backup: Bytes) -> State {
    let (why, bad) = match file {
        Bytes::Missing => ("it is missing".to_owned(), false),
        Bytes::Empty => ("it is empty".to_owned(), false),
        Bytes::Bad(why) => (why, true),
        Bytes::Good(_) => return State::Good,
    };
    match backup {
        Bytes::Good(_) => State::Backup { why },
        Bytes::Bad(_) => State::Undecodable { why },
        Bytes::Missing | Bytes::Empty if bad => State::Undecodable { why },
        Bytes::Missing | Bytes::Empty => State::Nothing { why },
    }
}

pub(crate) async fn look<R: Runtime>(rt: &R, path: &str) -> Bytes {
    match read(rt, path).await {
        Ok(bytes) if bytes.is_empty() => Bytes::Empty,
        Ok(bytes) => match json::parse(&bytes) {
            Ok(value) if value.is_object() => Bytes::Good(value),
            Ok(_) => Bytes::Bad("it is no JSON object".to_owned()),
            Err(why) => Bytes::Bad(why.to_string()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::Missing,
        Err(error) => Bytes::Bad(error.to_string()),
    }
}

async fn read<R: Runtime>(rt: &R, path: &str) -> io::Result<Vec<u8>> {
    let file = rt.open_file(path, true).await?;
    let len = file.len()?;
    let len = Some(len).filter(|len| *len <= BYTES_MAX).and_then(|len| usize::try_from(len).ok());
    let mut bytes = vec![0; len.ok_or_else(|| io::Error::other("it is too long"))?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_reads_the_file_or_its_backup_or_nothing_or_refuses() {
        let bad = || Bytes::Bad("x".to_owned());
        let good = || Bytes::Good(Value::Null);
        assert!(matches!(beside_backup(Bytes::Missing, good()), State::Backup { .. }));
        assert!(matches!(beside_backup(bad(), good()), State::Backup { .. }));
        assert!(matches!(beside_backup(Bytes::Empty, Bytes::Missing), State::Nothing { .. }));
        assert!(matches!(beside_backup(bad(), Bytes::Missing), State::Undecodable { .. }));
        assert!(matches!(beside_backup(Bytes::Empty, bad()), State::Undecodable { .. }));
    }
}

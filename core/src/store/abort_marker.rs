//! The abort marker: it is there while a process runs, so that a crash is known as one.
//!
//!   "0"                                               the store serves
//!   "recovering from POSITION" LF (TOPIC "/" QUEUE LF)*   it is being recovered
//!
//! A recovery that dies leaves in the kernel's memory what it has written, cut and removed, and the next one finds nothing to do
//! there: it would take for durable what a loss of power undoes. So the marker says from where on the queues are made to fit
//! the log, and which of them are changed, before the first is.
//!
//! Java writes its process id, and for it only the presence counts.

use std::collections::BTreeSet;
use std::io;

use super::error::RecoverError;
use super::recovery::parent;
use crate::runtime::storage::{Allocation, File};
use crate::runtime::{Mutant, Runtime};

const RECOVERING: &str = "recovering";
/// As long, so that it overwrites it within one sector.
const SERVING: &[u8; RECOVERING.len()] = b"0         ";
/// A file beyond this is not one of ours.
const BYTES_MAX: u64 = 64 << 20;

/// How the last process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LastEnd {
    InOrder,
    Died,
    InRecovery(Unfinished),
}

/// What a recovery does before it is known to be durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unfinished {
    /// Queues are made to fit the log from this position on.
    pub from: u64,
    /// The names of the queues that are changed.
    pub queues: BTreeSet<String>,
}

impl Unfinished {
    /// The name of a queue here and below the folder of all queues.
    pub fn name(topic: &str, queue_id: i32) -> String {
        format!("{topic}/{queue_id}")
    }

    fn to_text(&self) -> String {
        let mut text = format!("{RECOVERING} from {}\n", self.from);
        for queue in &self.queues {
            text.push_str(queue);
            text.push('\n');
        }
        text
    }

    fn parse(bytes: &[u8]) -> Option<Unfinished> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        let from = lines.next()?.strip_prefix(RECOVERING)?.strip_prefix(" from ")?.parse().ok()?;
        Some(Unfinished { from, queues: lines.map(str::to_owned).collect() })
    }
}

impl LastEnd {
    /// # Errors
    /// Of reading.
    pub async fn look<R: Runtime>(rt: &R, path: &str) -> Result<LastEnd, RecoverError> {
        let file = match rt.open_file(path, true).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LastEnd::InOrder),
            opened => opened.map_err(RecoverError::io("open", path))?,
        };
        let len = file.len().map_err(RecoverError::io("look at", path))?;
        let len = usize::try_from(len.min(BYTES_MAX)).unwrap_or(0);
        let mut bytes = vec![0; len];
        file.read_at(0, &mut bytes).map_err(RecoverError::io("read", path))?;
        // One that is not whole was not durable: nothing had been changed.
        let unfinished = Unfinished::parse(&bytes).filter(|_| !rt.mutant(Mutant::DeathInRecoveryForgotten));
        Ok(unfinished.map_or(LastEnd::Died, LastEnd::InRecovery))
    }
}

/// From here on a crash is known as one (S-22), and as one in this recovery.
///
/// # Errors
/// Of any step.
pub(super) async fn mark_recovering<R: Runtime>(
    rt: &R,
    path: &str,
    unfinished: &Unfinished,
) -> io::Result<()> {
    // Renamed, since one that is half of an older recovery would lack queues.
    let new = format!("{path}.tmp");
    let file = open_or_create(rt, &new).await?;
    file.set_len(0, Allocation::Sparse).await?;
    let text = unfinished.to_text();
    write(rt, &file, text.as_bytes()).await?;
    rt.rename(&new, path).await?;
    sync_name(rt, path).await
}

/// All that the recovery has changed is durable; or there was nothing to recover, and from here on a crash is known as one.
///
/// # Errors
/// Of any step.
pub(super) async fn mark_serving<R: Runtime>(rt: &R, path: &str) -> io::Result<()> {
    let file = open_or_create(rt, path).await?;
    write(rt, &file, SERVING).await?;
    sync_name(rt, path).await
}

async fn open_or_create<R: Runtime>(rt: &R, path: &str) -> io::Result<R::File> {
    match rt.create_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => rt.open_file(path, false).await,
        created => created,
    }
}

async fn write<R: Runtime>(rt: &R, file: &R::File, bytes: &[u8]) -> io::Result<()> {
    file.write_at(0, bytes)?;
    let whole = 0..bytes.len() as u64;
    if !rt.mutant(Mutant::AbortNotSynced) && file.flush(whole.clone()).await.is_err() {
        // See `recovery`: it may be what the process before has lost.
        file.redirty(whole.clone())?;
        file.flush(whole).await?;
    }
    Ok(())
}

async fn sync_name<R: Runtime>(rt: &R, path: &str) -> io::Result<()> {
    if rt.mutant(Mutant::AbortNotSynced) { Ok(()) } else { rt.sync_dir(parent(path)).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_says_what_a_recovery_changes_until_the_store_serves() {
        let queues = ["T/0", "%RETRY%g/0"].map(str::to_owned).into();
        let unfinished = Unfinished { from: 4_711, queues };
        let mut marker = unfinished.to_text().into_bytes();
        assert_eq!(Unfinished::parse(&marker), Some(unfinished));
        marker[..SERVING.len()].copy_from_slice(SERVING);
        assert_eq!(Unfinished::parse(&marker), None);
        for other in [&b"4711\n"[..], b"", SERVING, b"recovering fr"] {
            assert_eq!(Unfinished::parse(other), None);
        }
    }
}

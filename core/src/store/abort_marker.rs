//! The abort marker: it is there while a process runs, so that a crash is known as one.
//!
//!   "0"                                                                the store serves
//!   "recovering from POSITION" LF (TOPIC "/" QUEUE LF)* "crc " CRC-32 LF   it is being recovered; of all before, in hex
//!
//! A recovery that dies leaves in the kernel's memory what it has written, cut and removed, and the next one finds nothing to do
//! there: it would take for durable what a loss of power undoes. So the marker says from where on the queues are made to fit
//! the log, and which of them are changed, before the first is.
//!
//! Java writes its process id, and for it only the presence counts.
//!
//! Invariant: a marker that is none of these, or longer than one is read, stands for a recovery that changed everything: a queue
//! that is missing from it would never be looked at again.

use std::collections::BTreeSet;
use std::io;

use super::error::RecoverError;
use super::recovery::parent;
use crate::runtime::storage::{Allocation, File};
use crate::runtime::{Mutant, Runtime};

const RECOVERING: &str = "recovering";
/// As long, so that it overwrites it within one sector.
const SERVING: &[u8; RECOVERING.len()] = b"0         ";
const CRC: &str = "crc ";
/// No more is read of it.
const BYTES_MAX: u64 = 64 << 20;

/// How the last process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LastEnd {
    InOrder,
    Died,
    InRecovery(Unfinished),
}

/// What a recovery does before it is known to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// Queues are made to fit the log from this position on.
    pub from: u64,
    pub queues: InDoubt,
}

/// The queues that are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InDoubt {
    /// By their names.
    These(BTreeSet<String>),
    All,
}

impl Unfinished {
    /// The name of a queue here and below the folder of all queues.
    pub fn name(topic: &str, queue_id: i32) -> String {
        format!("{topic}/{queue_id}")
    }

    fn everything() -> Unfinished {
        Unfinished { from: 0, queues: InDoubt::All }
    }

    fn parse(bytes: &[u8]) -> Option<Unfinished> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let sum_at = text.rfind('\n')? + 1;
        let (said, sum) = text.split_at_checked(sum_at)?;
        let sum = u32::from_str_radix(sum.strip_prefix(CRC)?, 16).ok()?;
        if sum != crc32fast::hash(said.as_bytes()) {
            return None;
        }
        let mut lines = said.lines();
        let from = lines.next()?.strip_prefix(RECOVERING)?.strip_prefix(" from ")?.parse().ok()?;
        Some(Unfinished { from, queues: InDoubt::These(lines.map(str::to_owned).collect()) })
    }
}

/// What a recovery writes that works from there on and changes these queues.
fn text_of(from: u64, queues: &BTreeSet<String>) -> String {
    let mut text = format!("{RECOVERING} from {from}\n");
    for queue in queues {
        text.push_str(queue);
        text.push('\n');
    }
    let sum = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("{CRC}{sum:08x}\n"));
    text
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
        let mut bytes = vec![0; usize::try_from(len.min(BYTES_MAX)).unwrap_or(0)];
        file.read_at(0, &mut bytes).map_err(RecoverError::io("read", path))?;
        if rt.mutant(Mutant::DeathInRecoveryForgotten) {
            return Ok(LastEnd::Died);
        }
        let last_end = LastEnd::of(&bytes, len);
        if last_end == LastEnd::InRecovery(Unfinished::everything()) {
            tracing::warn!(path, len, "the abort marker cannot be read: everything is recovered");
        }
        Ok(last_end)
    }

    /// By the first bytes of a marker that is `len` bytes long.
    fn of(bytes: &[u8], len: u64) -> LastEnd {
        // What a process that serves has written over may go on behind it; Java's may not have reached the disk.
        let process_id = |bytes: &[u8]| bytes.trim_ascii().iter().all(u8::is_ascii_digit);
        if bytes.starts_with(SERVING) || process_id(bytes) {
            return LastEnd::Died;
        }
        let whole = bytes.len() as u64 == len;
        let unfinished = Unfinished::parse(bytes).filter(|_| whole);
        LastEnd::InRecovery(unfinished.unwrap_or_else(Unfinished::everything))
    }
}

/// From here on a crash is known as one (S-22), and as one in this recovery.
///
/// # Errors
/// Of any step.
pub(super) async fn mark_recovering<R: Runtime>(
    rt: &R,
    path: &str,
    (from, queues): (u64, &BTreeSet<String>),
) -> io::Result<()> {
    // Renamed, since one that is half of an older recovery would lack queues.
    let new = format!("{path}.tmp");
    let file = open_or_create(rt, &new).await?;
    file.set_len(0, Allocation::Sparse).await?;
    let text = text_of(from, queues);
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

    fn marker(queues: &[&str]) -> (Unfinished, Vec<u8>) {
        let queues: BTreeSet<String> = queues.iter().copied().map(str::to_owned).collect();
        let text = text_of(4_711, &queues).into_bytes();
        (Unfinished { from: 4_711, queues: InDoubt::These(queues) }, text)
    }

    fn of(bytes: &[u8]) -> LastEnd {
        LastEnd::of(bytes, bytes.len() as u64)
    }

    fn everything() -> LastEnd {
        LastEnd::InRecovery(Unfinished::everything())
    }

    #[test]
    fn a_marker_says_what_a_recovery_changes_until_the_store_serves() {
        for queues in [&[][..], &["T/0", "%RETRY%g/0"]] {
            let (unfinished, mut marker) = marker(queues);
            assert_eq!(of(&marker), LastEnd::InRecovery(unfinished));
            marker[..SERVING.len()].copy_from_slice(SERVING);
            assert_eq!(of(&marker), LastEnd::Died);
        }
        for other in [&b"4711"[..], b"4711\n", b"", b"0", SERVING] {
            assert_eq!(of(other), LastEnd::Died);
        }
    }

    #[test]
    fn a_damaged_marker_stands_for_everything() {
        let (_, marker) = marker(&["T/0", "T/1"]);
        // From nothing of it to all but its last byte; of none at all nothing tells.
        for len in 1..marker.len() {
            assert_eq!(of(&marker[..len]), everything(), "cut to {len} bytes");
        }
        for at in 0..marker.len() {
            let mut turned = marker.clone();
            turned[at] ^= 1;
            assert_eq!(of(&turned), everything(), "a bit of byte {at} has turned");
        }
        for other in [vec![0; 10], vec![0xFF; 10], [marker.clone(), b"T/2\n".to_vec()].concat()] {
            assert_eq!(of(&other), everything());
        }
        assert_eq!(of(b"recovering from 0\nT/0\n"), everything(), "one without a checksum");
    }

    #[test]
    fn a_marker_of_which_a_part_is_read_stands_for_everything() {
        let (_, marker) = marker(&["T/0"]);
        assert_eq!(LastEnd::of(&marker, marker.len() as u64 + 4), everything());
        let served = [SERVING, &marker[SERVING.len()..]].concat();
        assert_eq!(LastEnd::of(&served, marker.len() as u64 + 4), LastEnd::Died);
    }
}

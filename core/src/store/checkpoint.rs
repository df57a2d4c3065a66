//! The checkpoint: where recovery may begin. 4,096 bytes, big-endian; the first five fields are Java's.
//!   0..8     store time of the newest record known to be durable, ms
//!   8..16    store time of the newest record whose queue entry is durable, ms
//!   16..24   end time of the last full index file, ms
//!   24..32   the master's flushed offset, on a slave
//!   32..40   confirm offset
//!   64..72   `HOTFIRE1`: the fields below are there
//!   72..80   a record's position: everything below is durable in the log and in the queues
//!   80..88   the position up to which queues are complete and durable
//!   88..96   from here on every record that we have written carries a record checksum; 2^64 - 1 for nowhere
//!   96..100  CRC-32 of bytes 0..96
//!   104..112 everything below is in the index, durably
//!   112..120 the name of the index file that was added to last, as a number; 0 for none
//!   120..124 the number of its next entry: those below are durable
//!   124..128 CRC-32 of bytes 0..124; no index is claimed when it does not fit
//!   128..136 where we stopped in order: we have written nothing from here on; 2^64 - 1 while we run
//!   136..144 from here on up to there all records are those that we, or our master, have written; 2^64 - 1 for nowhere
//!   144..148 CRC-32 of bytes 0..144; nothing is known of the two when it does not fit
//! Java keeps bytes 64 and up as they are and changes those below, so that the sum shows whether it ran since: our fields
//! are then worth nothing, and Java's times may be ahead of its queues (S-10).
//!
//! Invariant: each field is at most what is durable when it is written.
//! Invariant: all of it is in the first sector, which a disk writes whole or not at all.

use std::io;

use crate::runtime::Runtime;
use crate::runtime::storage::{Allocation, File};

pub(crate) const CHECKPOINT_BYTES: u64 = 4096;
const SECTOR_BYTES: usize = 512;
const MARK: &[u8; 8] = b"HOTFIRE1";
const MARK_AT: usize = 64;
const CRC_AT: usize = 96;
const END: usize = 100;
const INDEX_AT: usize = 104;
const INDEX_CRC_AT: usize = 124;
const INDEX_END: usize = 128;
const LIVES_CRC_AT: usize = 144;
const LIVES_END: usize = 148;
const _: () = assert!(LIVES_END <= SECTOR_BYTES);

/// No record is known to carry a record checksum, or to be ours.
pub(crate) const NO_RECORD_CRC: u64 = u64::MAX;
/// We run, or have not stopped in order.
pub(crate) const NOT_STOPPED: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub physic_ms: i64,
    pub logic_ms: i64,
    pub index_ms: i64,
    pub master_flushed_offset: i64,
    pub confirm_offset: i64,
    pub own: Own,
    /// Only ever there when `own` is valid.
    pub index: Option<IndexClaim>,
}

/// How far the index is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct IndexClaim {
    /// The records below are in it.
    pub position: u64,
    /// The file that was added to last; 0 for none.
    pub file: u64,
    /// The entries of it that are durable have numbers below.
    pub next: u32,
}

/// The fields that Java does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Own {
    /// Java has written this file and we never have.
    #[default]
    Absent,
    /// They were there, and the file was changed since: nobody may rely on any time in it.
    Stale,
    Valid(Positions),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions {
    pub scan_from: u64,
    pub queues_durable: u64,
    pub record_crc_from: u64,
    /// What lies behind is not ours: a broker that does not write this file at once, as Java's, has run after us.
    pub stopped_at: u64,
    /// What lies below may be another broker's.
    pub ours_from: u64,
}

impl Checkpoint {
    /// A file that is too short, as a power loss during its creation leaves it, says nothing.
    pub fn decode(bytes: &[u8]) -> Checkpoint {
        let Some(index) = bytes.get(..INDEX_END) else { return Checkpoint::default() };
        let (stopped_at, ours_from) = lives(bytes).unwrap_or((NOT_STOPPED, NO_RECORD_CRC));
        let Some(bytes) = bytes.first_chunk::<END>() else { return Checkpoint::default() };
        let field = |at: usize| {
            let bytes = bytes.get(at..at + 8).expect("fields lie in the first 100 bytes");
            i64::from_be_bytes(bytes.try_into().expect("8 bytes"))
        };
        let own = if bytes[MARK_AT..MARK_AT + 8] != MARK[..] {
            Own::Absent
        } else if crc32fast::hash(&bytes[..CRC_AT]).to_be_bytes() != bytes[CRC_AT..END] {
            Own::Stale
        } else {
            Own::Valid(Positions {
                scan_from: field(72) as u64,
                queues_durable: field(80) as u64,
                record_crc_from: field(88) as u64,
                stopped_at,
                ours_from,
            })
        };
        Checkpoint {
            physic_ms: field(0),
            logic_ms: field(8),
            index_ms: field(16),
            master_flushed_offset: field(24),
            confirm_offset: field(32),
            index: matches!(own, Own::Valid(_)).then(|| IndexClaim::decode(index)).flatten(),
            own,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHECKPOINT_BYTES as usize);
        for field in
            [self.physic_ms, self.logic_ms, self.index_ms, self.master_flushed_offset, self.confirm_offset]
        {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes.resize(MARK_AT, 0);
        if let Own::Valid(own) = &self.own {
            assert!(own.scan_from <= own.queues_durable, "{own:?}");
            bytes.extend_from_slice(MARK);
            for position in [own.scan_from, own.queues_durable, own.record_crc_from] {
                bytes.extend_from_slice(&position.to_be_bytes());
            }
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            if let Some(IndexClaim { position, file, next }) = self.index {
                bytes.resize(INDEX_AT, 0);
                bytes.extend_from_slice(&position.to_be_bytes());
                bytes.extend_from_slice(&file.to_be_bytes());
                bytes.extend_from_slice(&next.to_be_bytes());
                bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            }
            bytes.resize(INDEX_END, 0);
            bytes.extend_from_slice(&own.stopped_at.to_be_bytes());
            bytes.extend_from_slice(&own.ours_from.to_be_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        }
        bytes.resize(CHECKPOINT_BYTES as usize, 0);
        bytes
    }

    /// Java's start time for a recovery: it takes 3 s off for what its clock and its threads may differ.
    pub fn min_ms(&self) -> i64 {
        self.physic_ms.min(self.logic_ms).saturating_sub(3_000).max(0)
    }

    pub fn positions(&self) -> Option<Positions> {
        match self.own {
            Own::Valid(positions) => Some(positions),
            _ => None,
        }
    }
}

/// Where we stopped, and from where on the records are ours, in the first bytes of a checkpoint.
fn lives(bytes: &[u8]) -> Option<(u64, u64)> {
    let (covered, sum) = bytes.get(..LIVES_END)?.split_at_checked(LIVES_CRC_AT)?;
    let (stopped_at, ours_from) = covered.get(INDEX_END..)?.split_first_chunk()?;
    let known = sum == crc32fast::hash(covered).to_be_bytes();
    known.then_some((u64::from_be_bytes(*stopped_at), u64::from_be_bytes(*ours_from.first_chunk()?)))
}

impl IndexClaim {
    /// The claim in the first bytes of a checkpoint, if there is one.
    fn decode(bytes: &[u8]) -> Option<IndexClaim> {
        let (covered, sum) = bytes.split_at_checked(INDEX_CRC_AT)?;
        if sum != crc32fast::hash(covered).to_be_bytes() {
            return None;
        }
        let (position, rest) = covered.get(INDEX_AT..)?.split_first_chunk()?;
        let (file, next) = rest.split_first_chunk()?;
        Some(IndexClaim {
            position: u64::from_be_bytes(*position),
            file: u64::from_be_bytes(*file),
            next: u32::from_be_bytes(*next.first_chunk()?),
        })
    }
}

/// The checkpoint in `root`; one that says nothing when the file is absent.
///
/// # Errors
/// Of reading it.
pub(crate) async fn load<R: Runtime>(rt: &R, path: &str) -> io::Result<Checkpoint> {
    let file = match rt.open_file(path, true).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
        opened => opened?,
    };
    let len = usize::try_from(file.len()?).unwrap_or(SECTOR_BYTES).min(SECTOR_BYTES);
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)?;
    Ok(Checkpoint::decode(&bytes))
}

/// Writes `checkpoint` over the last one and makes it durable, name included.
///
/// # Errors
/// Of any step. The file then holds the last one, or this one.
pub(crate) async fn save<R: Runtime>(
    rt: &R,
    root: &str,
    path: &str,
    checkpoint: &Checkpoint,
) -> io::Result<()> {
    let (file, new) = match rt.open_file(path, false).await {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (rt.create_file(path).await?, true),
        Err(error) => return Err(error),
    };
    if file.len()? != CHECKPOINT_BYTES {
        file.set_len(CHECKPOINT_BYTES, Allocation::Reserve).await?;
    }
    file.write_at(0, &checkpoint.encode())?;
    file.flush(0..CHECKPOINT_BYTES).await?;
    if new {
        rt.sync_dir(root).await?;
    }
    rt.probe(
        "store.checkpoint",
        checkpoint.positions().map_or(0, |own| own.scan_from),
        checkpoint.logic_ms as u64,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let own = Positions {
            scan_from: 7,
            queues_durable: 9,
            record_crc_from: NO_RECORD_CRC,
            stopped_at: 9,
            ours_from: 3,
        };
        let index = Some(IndexClaim { position: 8, file: 20_261_123_115_857_418, next: 5 });
        Checkpoint {
            physic_ms: 10_000,
            logic_ms: 9_000,
            own: Own::Valid(own),
            index,
            ..Checkpoint::default()
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample().encode();
        assert_eq!(bytes.len() as u64, CHECKPOINT_BYTES);
        assert_eq!(Checkpoint::decode(&bytes), sample());
        assert_eq!(sample().min_ms(), 6_000);
        assert_eq!(Checkpoint::decode(&bytes[..99]), Checkpoint::default());
    }

    #[test]
    fn a_change_by_java_makes_our_positions_stale() {
        let mut bytes = sample().encode();
        bytes[15] ^= 1;
        assert_eq!(Checkpoint::decode(&bytes).own, Own::Stale);
        assert_eq!(Checkpoint::decode(&bytes).index, None);
        bytes[MARK_AT] = 0;
        assert_eq!(Checkpoint::decode(&bytes).own, Own::Absent);
    }

    #[test]
    fn a_damaged_claim_of_the_index_is_none_and_leaves_the_rest() {
        let mut bytes = sample().encode();
        bytes[INDEX_AT + 7] ^= 1;
        let Own::Valid(own) = sample().own else { panic!("it is valid") };
        let own = Own::Valid(Positions { stopped_at: NOT_STOPPED, ours_from: NO_RECORD_CRC, ..own });
        assert_eq!(Checkpoint::decode(&bytes), Checkpoint { index: None, own, ..sample() });
        let without = Checkpoint { index: None, ..sample() };
        assert_eq!(Checkpoint::decode(&without.encode()), without);
    }
}

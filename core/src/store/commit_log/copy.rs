//! The log of a slave: what its master appended, at the same places.
//!
//! Whole records and the blank records that end files are copied as they came; nothing is encoded, and no put is taken.
//!
//! Invariant: a piece is appended where the log ends, or not at all.

use super::{CommitLog, POOL_BYTES_MAX};
use crate::message::codec::BLANK_BYTES;
use crate::runtime::{Mutant, Runtime, SegmentWriter};
use crate::store::error::{PutError, WhyNot};

/// What a slave has received, checked and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Records of one file, one behind the other; `timestamp` is the latest of their store times, `checksummed` says that
    /// each carries a record checksum.
    Records { bytes: &'a [u8], timestamp: i64, checksummed: bool },
    /// The blank record that ends a file; what follows it there is zero.
    FileEnd { blank: &'a [u8; BLANK_BYTES] },
}

/// Why a piece was not appended.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("a piece for {at}, but the log ends at {end}")]
    Misplaced { at: u64, end: u64 },
    #[error("{bytes} bytes at {at} do not fit into their file")]
    AcrossFiles { at: u64, bytes: usize },
    #[error("note in the checkpoint that records without a checksum follow: {0}")]
    Checkpoint(#[source] std::io::Error),
    #[error(transparent)]
    Put(#[from] PutError),
}

enum Copied {
    To(u64),
    NeedsFile { base: u64 },
}

impl<R: Runtime> CommitLog<R> {
    /// Lets an empty log begin at `base`, where its master's last file begins. Answers the paths of files that hold nothing:
    /// one made ahead for another place, and the first one, of which a loss of power has taken all. `None` when the log is
    /// not empty.
    pub fn begin_at(&self, base: u64) -> Option<Vec<String>> {
        let mut tail = self.tail();
        if tail.end() != 0 {
            return None;
        }
        let mut unused = Vec::new();
        if base != 0 {
            let there = [tail.next.take().is_some(), tail.writer.take().is_some()];
            let files = there.into_iter().filter(|there| *there).filter_map(|_| self.files.pop_unused());
            unused.extend(files.map(|file| file.path.clone()));
        }
        tail.base = base;
        // What comes first must never be below what follows it.
        self.durable.advance(base);
        self.committed.advance(base);
        self.written.advance(base);
        Some(unused)
    }

    /// Appends `piece` at `at`, the end of the log, and answers the new end. Waits only for a file, or for a flush that is
    /// far behind.
    ///
    /// # Errors
    /// Nothing was appended.
    pub async fn append_copy(&self, at: u64, piece: Piece<'_>) -> Result<u64, CopyError> {
        loop {
            let behind = self.written.get().saturating_sub(POOL_BYTES_MAX);
            if self.committed.reached(behind).await.is_err() {
                return Err(PutError::NotWritable(WhyNot::FlushFailed).into());
            }
            let tries = self.allocation.subscribe();
            let base = match self.try_copy(at, piece)? {
                Copied::To(end) => {
                    self.written.advance(end);
                    self.rt.probe("store.append", at, end);
                    return Ok(end);
                }
                Copied::NeedsFile { base } => base,
            };
            if !self.next_is_there() {
                self.allocation.wait(&self.rt, tries, base, self.segment_timeout_ms).await?;
            }
        }
    }

    fn try_copy(&self, at: u64, piece: Piece<'_>) -> Result<Copied, CopyError> {
        let mut tail = self.tail();
        if let Some(why) = tail.refuse {
            return Err(PutError::NotWritable(why).into());
        }
        let end = tail.end();
        if at != end {
            return Err(CopyError::Misplaced { at, end });
        }
        if tail.room() == 0 && !tail.roll() {
            tail.next_wanted = true;
            let file_bytes = tail.writer.as_ref().map_or(0, SegmentWriter::capacity) as u64;
            return Ok(Copied::NeedsFile { base: tail.base + file_bytes });
        }
        let room = tail.room();
        let writer = tail.writer.as_mut().expect("room was found in it");
        match piece {
            Piece::Records { bytes, timestamp, .. } => {
                if bytes.len() > room {
                    return Err(CopyError::AcrossFiles { at, bytes: bytes.len() });
                }
                writer.append(bytes.len(), |into| into.copy_from_slice(bytes)).expect("the room was checked");
                if !self.rt.mutant(Mutant::CopyTimeForgotten) {
                    tail.last_timestamp = tail.last_timestamp.max(timestamp);
                }
            }
            Piece::FileEnd { blank } => {
                if room < BLANK_BYTES {
                    return Err(CopyError::AcrossFiles { at, bytes: BLANK_BYTES });
                }
                writer.append(BLANK_BYTES, |into| into.copy_from_slice(blank)).expect("the room was checked");
                writer.advance(room - BLANK_BYTES);
            }
        }
        tail.appended = true;
        Ok(Copied::To(tail.end()))
    }
}

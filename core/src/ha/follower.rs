//! What a slave takes of the bytes that its master pushes.
//!
//! Pure: given frames, it gives pieces to append: whole records, checked, and the ends of files. Bytes of a record that is
//! not whole yet wait here and are neither appended nor reported; after the end of a connection the master sends them again.
//!
//! Invariant: a piece continues the log, and each record in it states the place where it is to lie. Bytes of another history
//! that happen to come next are thereby not taken for a continuation.

use bytes::{Buf, Bytes, BytesMut};

use crate::message::codec::{self, BLANK_BYTES, Check, Head, RecordCrc, RecordError};
use crate::store::Piece;

/// Why nothing more can be taken over this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("a frame at {found}, expected one at {expected}")]
    Offset { expected: u64, found: u64 },
    #[error("the first frame begins at {found}, which is no beginning of a file of {file_bytes} bytes")]
    Begin { found: u64, file_bytes: u64 },
    #[error("no record at {at}: {why}")]
    Record { at: u64, why: RecordError },
    #[error("a record of {bytes} bytes at {at}, across the end of its file")]
    AcrossFiles { at: u64, bytes: u64 },
    #[error("a blank record of {bytes} bytes at {at}, where {left} are left")]
    Blank { at: u64, bytes: u64, left: u64 },
}

/// A piece that can be appended at [`Follower::end`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// `checksummed`: each of them carries a record checksum.
    Records {
        bytes: Bytes,
        timestamp: i64,
        checksummed: bool,
    },
    FileEnd {
        blank: [u8; BLANK_BYTES],
    },
}

impl Ready {
    #[must_use]
    pub fn piece(&self) -> Piece<'_> {
        match self {
            Ready::Records { bytes, timestamp, checksummed } => {
                Piece::Records { bytes, timestamp: *timestamp, checksummed: *checksummed }
            }
            Ready::FileEnd { blank } => Piece::FileEnd { blank },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Follower {
    file_bytes: u64,
    /// Where the log ends, with the pieces that were given.
    end: u64,
    /// The next byte that the master sends.
    next: u64,
    /// Bytes from `end` on that are no piece yet.
    pending: BytesMut,
}

impl Follower {
    /// For a log that ends at `end`; 0 is an empty one.
    #[must_use]
    pub fn new(end: u64, file_bytes: u64) -> Follower {
        Follower { file_bytes, end, next: end, pending: BytesMut::new() }
    }

    /// Where the next piece goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes a frame; a heartbeat is one without a body. Answers where an empty log is to begin, when this says so.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn frame(&mut self, offset: u64, body: &[u8]) -> Result<Option<u64>, NotTaken> {
        let is_empty = self.next == 0;
        if is_empty && offset > 0 {
            if !offset.is_multiple_of(self.file_bytes) {
                return Err(NotTaken::Begin { found: offset, file_bytes: self.file_bytes });
            }
            if body.is_empty() {
                return Ok(None);
            }
            (self.end, self.next) = (offset, offset);
        } else if offset != self.next {
            return Err(NotTaken::Offset { expected: self.next, found: offset });
        }
        // What follows a blank record in its file says nothing.
        let skipped =
            usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX).min(body.len());
        self.next += body.len() as u64;
        self.pending.extend_from_slice(body.get(skipped..).unwrap_or_default());
        Ok((is_empty && offset > 0).then_some(offset))
    }

    /// The next piece, if one is whole.
    ///
    /// # Errors
    /// [`NotTaken`]: the bytes are no record.
    pub fn ready(&mut self) -> Result<Option<Ready>, NotTaken> {
        let file_end = self.end - self.end % self.file_bytes + self.file_bytes;
        let (mut at, mut timestamp, mut checksummed) = (self.end, i64::MIN, true);
        let mut rest = &self.pending[..];
        while rest.len() >= BLANK_BYTES {
            let left = file_end - at;
            match codec::head(rest) {
                Head::Blank { size } if at == self.end => return self.file_end(size, left).map(Some),
                Head::Blank { .. } => break,
                Head::Record { size } if u64::from(size) > left => {
                    return Err(NotTaken::AcrossFiles { at, bytes: size.into() });
                }
                Head::Record { size } if size as usize > rest.len() => break,
                Head::Record { .. } | Head::Nothing { .. } => {}
            }
            let check = Check::Whole { position: at, record_crc: RecordCrc::Foreign };
            let record = codec::decode(rest, check).map_err(|why| NotTaken::Record { at, why })?;
            at += u64::from(record.size);
            timestamp = timestamp.max(record.store_timestamp);
            checksummed &= codec::has_record_crc(record.raw_properties);
            rest = rest.get(record.size as usize..).unwrap_or_default();
        }
        let whole = usize::try_from(at - self.end).unwrap_or(usize::MAX).min(self.pending.len());
        if whole == 0 {
            return Ok(None);
        }
        self.end = at;
        let bytes = self.pending.split_to(whole).freeze();
        Ok(Some(Ready::Records { bytes, timestamp, checksummed }))
    }

    fn file_end(&mut self, size: u32, left: u64) -> Result<Ready, NotTaken> {
        if u64::from(size) != left {
            return Err(NotTaken::Blank { at: self.end, bytes: size.into(), left });
        }
        let mut blank = [0; BLANK_BYTES];
        self.pending.copy_to_slice(&mut blank);
        self.end += left;
        let behind = usize::try_from(left).unwrap_or(usize::MAX) - BLANK_BYTES;
        self.pending.advance(behind.min(self.pending.len()));
        Ok(Ready::FileEnd { blank })
    }
}

#[cfg(test)]
mod tests;

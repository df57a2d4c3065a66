//! One file of the log: created whole, mapped, named by the offset of its first byte.
//!
//! Invariant: a file that is handed out for appends has its full length, its blocks and a durable name, so that neither a full
//! disk nor a power loss can take what is appended to it before an answer (S-18, S-44).

use std::io;

use crate::runtime::storage::{Allocation, Backing, File, SegmentReader};
use crate::runtime::{Mark, Mutant, Runtime, SegmentWriter};

/// Digits of a file name.
const NAME_DIGITS: usize = 20;

/// The name of the file whose first byte has `base` as its offset.
#[must_use]
pub(crate) fn file_name(base: u64) -> String {
    format!("{base:020}")
}

/// The offset that a file's name states.
#[must_use]
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.len() == NAME_DIGITS && name.bytes().all(|digit| digit.is_ascii_digit());
    let base = if digits { name.parse().ok() } else { None };
    // Java's offsets are signed.
    base.filter(|base| i64::try_from(*base).is_ok())
}

/// A file of the log as readers, flush and dispatch see it.
pub(crate) struct MappedFile<R: Runtime> {
    /// Offset of the first byte in the log.
    pub base: u64,
    pub path: String,
    pub reader: R::SegmentReader,
}

impl<R: Runtime> MappedFile<R> {
    /// First byte behind what is published.
    pub fn written_end(&self) -> u64 {
        self.base + self.reader.written() as u64
    }

    /// First byte behind the file.
    pub fn end(&self) -> u64 {
        self.base + self.reader.capacity() as u64
    }

    /// `len` bytes from `offset` of the log on.
    ///
    /// # Errors
    /// `InvalidInput` when the range is not published in this file.
    pub fn view(&self, offset: u64, len: usize) -> io::Result<R::View> {
        let inside = offset.checked_sub(self.base).and_then(|inside| usize::try_from(inside).ok());
        let inside = inside.ok_or(io::ErrorKind::InvalidInput)?;
        self.reader.view(inside, len)
    }
}

/// Creates the file that begins at `base`, of `bytes` bytes, ready for appends.
///
/// # Errors
/// Of any step; the half-made file is then removed, so that a later try starts afresh.
pub(crate) async fn create<R: Runtime>(
    rt: &R,
    dir: &str,
    base: u64,
    bytes: u64,
    backing: Backing,
) -> io::Result<(MappedFile<R>, R::SegmentWriter)> {
    let path = format!("{dir}/{}", file_name(base));
    let made = create_steps(rt, dir, &path, bytes, backing).await;
    match made {
        Ok(writer) => Ok((MappedFile { base, path, reader: writer.reader() }, writer)),
        Err(error) => {
            // Only tidying: what stays is empty, and recovery takes an empty last file for none.
            match rt.remove(&path).await {
                Err(leftover) if leftover.kind() != io::ErrorKind::NotFound => {
                    rt.mark(Mark::HalfMadeFileStays);
                    tracing::warn!(%path, %leftover, "a half-made CommitLog file stays");
                }
                _ => {}
            }
            Err(error)
        }
    }
}

async fn create_steps<R: Runtime>(
    rt: &R,
    dir: &str,
    path: &str,
    bytes: u64,
    backing: Backing,
) -> io::Result<R::SegmentWriter> {
    let allocation = match rt.mutant(Mutant::LogFileSparse) {
        true => Allocation::Sparse,
        false => Allocation::Reserve,
    };
    let file = match rt.create_sized(path, bytes, allocation).await {
        // Left by a try that failed and could not remove it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = rt.open_file(path, false).await?;
            file.set_len(0, Allocation::Sparse).await?;
            file.set_len(bytes, allocation).await?;
            file
        }
        created => created?,
    };
    file.flush(0..bytes).await?;
    if !rt.mutant(Mutant::SegmentNameNotSynced) {
        rt.sync_dir(dir).await?;
    }
    rt.open_segment(path, 0, backing).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_20_digits() {
        assert_eq!(file_name(1 << 30), "00000000001073741824");
        assert_eq!(parse_file_name("00000000001073741824"), Some(1 << 30));
        assert_eq!(parse_file_name("1073741824"), None);
        assert_eq!(parse_file_name("0000000000107374182a"), None);
        assert_eq!(parse_file_name("99999999999999999999"), None);
        assert_eq!(parse_file_name("09223372036854775807"), Some(i64::MAX as u64));
        assert_eq!(parse_file_name("09223372036854775808"), None);
    }
}

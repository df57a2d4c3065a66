//! The log's files in order, addressed by the offset of a byte in the log.
//!
//! Invariant: the files are contiguous, each begins where the one before it ends. A look-up reads the list once, under its
//! lock, so that no file is computed from one list and taken from another (S-03).

use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::mapped_file::MappedFile;
use crate::runtime::{Runtime, SegmentReader, View};

pub(crate) struct MappedFileQueue<R: Runtime> {
    file_bytes: u64,
    files: RwLock<Files<R>>,
}

struct Files<R: Runtime> {
    list: Vec<Arc<MappedFile<R>>>,
    /// Base of the first one. Changes only together with the list.
    first: u64,
}

impl<R: Runtime> MappedFileQueue<R> {
    /// # Panics
    /// When the files are not contiguous.
    pub fn new(file_bytes: u64, files: Vec<MappedFile<R>>) -> MappedFileQueue<R> {
        let queue = MappedFileQueue { file_bytes, files: RwLock::new(Files { list: Vec::new(), first: 0 }) };
        for file in files {
            queue.push(file);
        }
        queue
    }

    fn files(&self) -> RwLockReadGuard<'_, Files<R>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn files_mut(&self) -> RwLockWriteGuard<'_, Files<R>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the next file.
    ///
    /// # Panics
    /// When it does not begin where the last one ends.
    pub fn push(&self, file: MappedFile<R>) {
        assert_eq!(file.end() - file.base, self.file_bytes, "{} has the configured length", file.path);
        let mut files = self.files_mut();
        match files.list.last() {
            Some(last) => assert_eq!(file.base, last.end(), "{} continues the log", file.path),
            None => files.first = file.base,
        }
        files.list.push(Arc::new(file));
    }

    /// Takes the last file out if nothing was written to it.
    pub fn pop_unused(&self) -> Option<Arc<MappedFile<R>>> {
        let mut files = self.files_mut();
        if files.list.last()?.reader.written() > 0 {
            return None;
        }
        files.list.pop()
    }

    /// The first two files; the second one is what keeps the first from being the last.
    pub fn first_two(&self) -> Option<[Arc<MappedFile<R>>; 2]> {
        let files = self.files();
        Some([files.list.first()?.clone(), files.list.get(1)?.clone()])
    }

    /// The bases of all files, in order.
    pub fn bases(&self) -> Vec<u64> {
        self.files().list.iter().map(|file| file.base).collect()
    }

    /// Takes out the first file, which begins at `base`: no look-up finds it from now on, and what was found before stays
    /// readable for as long as it is held.
    ///
    /// # Panics
    /// When it is not the first, or the last.
    pub fn take_first(&self, base: u64) -> Arc<MappedFile<R>> {
        let mut files = self.files_mut();
        assert!(files.list.len() > 1, "the last file is never deleted");
        let file = files.list.remove(0);
        assert_eq!(file.base, base, "files are deleted from the first on");
        files.first = file.end();
        file
    }

    /// The list has its first file no longer, and look-ups are still computed from this base: a planted bug.
    pub fn keeps_base(&self, base: u64) {
        self.files_mut().first = base;
    }

    /// And now from the right one.
    pub fn first_was_taken(&self) {
        let mut files = self.files_mut();
        files.first = files.list.first().map_or(0, |file| file.base);
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Offset of the first byte that is kept; `None` without a file.
    pub fn min(&self) -> Option<u64> {
        self.files().list.first().map(|file| file.base)
    }

    /// The file that holds the byte at `offset`.
    pub fn find(&self, offset: u64) -> Option<Arc<MappedFile<R>>> {
        let files = self.files();
        let index = offset.checked_sub(files.first)? / self.file_bytes;
        files.list.get(usize::try_from(index).ok()?).cloned()
    }

    /// `len` published bytes from `offset` on, which must lie in one file.
    pub fn view(&self, offset: u64, len: usize) -> Option<io::Result<R::View>> {
        let file = self.find(offset)?;
        if offset.checked_add(len as u64)? > file.written_end() {
            return None;
        }
        Some(file.view(offset, len))
    }

    /// Flushes the bytes of `range`, file after file.
    ///
    /// # Errors
    /// Of the first flush that failed. Nothing may be assumed about the range from then on.
    pub async fn flush(&self, range: Range<u64>) -> io::Result<()> {
        let mut from = range.start;
        while from < range.end {
            let file = self.find(from).ok_or(io::ErrorKind::NotFound)?;
            let upto = range.end.min(file.end());
            // The offsets are inside one file, whose length is a usize.
            file.reader.flush((from - file.base) as usize..(upto - file.base) as usize).await?;
            from = upto;
        }
        Ok(())
    }
}

/// The published bytes of `view` as what answers carry.
pub(crate) fn shared<V: View>(view: &V) -> bytes::Bytes {
    view.to_bytes()
}

//! The index: records by their keys, in files that are found by time and then by the hash of a key.
//!
//! A task of its own follows dispatch, which hands it the keys, or reads the log where it is behind: so that neither consumers nor answers wait for it, and so that a
//! start does not wait for an index that must be made again. Entries are written as records come; slots and header of the
//! file that is added to are in memory and reach it when the index is flushed, with each checkpoint and when it is full.
//!
//! Map: `format` (bytes), `recover` (which files are believed), `handed` (keys from dispatch), `build` (keys to files, flush), `query` (look-ups).
//!
//! Guarantees: a record that is dispatched is found by each of its keys soon after, once, also after a crash: the checkpoint
//! says up to where the log is in the index, and in which entry of which file that ends; what lies behind is made again.
//! Invariant: that claim follows a flush of all it covers (S-10), and is lowered before the log grows again after a cut.
//! Invariant: what a look-up gives is a record of the log that was read and has that key; entries alone are believed nothing.
//! Invariant: nothing else depends on the index: whatever state it is in, log and queues are opened and served (S-16).

mod build;
mod format;
mod handed;
mod query;
mod recover;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use format::{Geometry, key_hash};
pub use query::{By, Found};

pub(crate) use format::{COUNT_MAX, Key};
pub(crate) use handed::{Handed, add_keys};
pub(crate) use query::Wanted;
pub(crate) use recover::{Known, LogRange, Recovered, recover};

use super::commit_log::Log;
use format::{ENTRY_BYTES, HEADER_BYTES, Header, Table};

use super::checkpoint::IndexClaim;
use crate::runtime::sync::Watermark;
use crate::runtime::{File, Runtime};

/// A file as it lies in the folder.
pub(crate) struct IndexFile<R: Runtime> {
    /// The number that is its name: the time at which it was made.
    name: u64,
    path: String,
    file: R::File,
}

/// A file that takes no more entries.
struct Sealed<R: Runtime> {
    file: Arc<IndexFile<R>>,
    header: Header,
    unflushed: bool,
}

/// The file that entries are added to.
struct Last<R: Runtime> {
    file: Arc<IndexFile<R>>,
    table: Table,
}

struct Files<R: Runtime> {
    /// Oldest first.
    sealed: Vec<Sealed<R>>,
    last: Option<Last<R>>,
}

pub(crate) struct Index<R: Runtime> {
    rt: R,
    root: String,
    dir: String,
    geometry: Geometry,
    /// Nothing is read or written when not.
    enabled: bool,
    log: Log<R>,
    dispatched: Watermark,
    handed: Arc<Handed>,
    files: Mutex<Files<R>>,
    /// Everything below is in the index.
    indexed: Watermark,
    /// The record here may be in the index in part.
    in_part: Option<u64>,
    /// The name of a file, or of the folder, may not be durable.
    names_unsynced: AtomicBool,
    failed: AtomicBool,
    /// The store stops: a disk that takes no entries is not waited for.
    stopping: AtomicBool,
    /// A batch was given up with a part of it filed: nothing more is filed in this run.
    gave_up: AtomicBool,
    /// What is durable, for the checkpoint, and the time Java wants to know.
    claim: Mutex<(Option<IndexClaim>, i64)>,
}

impl<R: Runtime> Index<R> {
    pub fn new(
        rt: R,
        (root, dir): (String, String),
        geometry: Geometry,
        log: Log<R>,
        (dispatched, handed): (Watermark, Arc<Handed>),
        recovered: Recovered<R>,
    ) -> Index<R> {
        let Recovered { files, enabled, resume, in_part, claim, end_ms } = recovered;
        Index {
            rt,
            root,
            dir,
            geometry,
            enabled,
            log,
            dispatched,
            handed,
            files: Mutex::new(files),
            indexed: Watermark::new(resume),
            in_part,
            names_unsynced: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
            claim: Mutex::new((claim, end_ms)),
        }
    }

    fn files(&self) -> MutexGuard<'_, Files<R>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything below is in the index.
    pub fn indexed(&self) -> &Watermark {
        &self.indexed
    }

    /// What the checkpoint may say: how far the index is durable, and the time of its last durable entry.
    pub fn claim(&self) -> (Option<IndexClaim>, i64) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the files all of whose records lie below `log_min`, but never the last.
    ///
    /// # Errors
    /// Of removing one: it is no longer used, and goes at the next start.
    pub async fn delete_below(&self, log_min: u64) -> io::Result<()> {
        while let Some(file) = self.take_expired(log_min) {
            match self.rt.remove(&file.path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.rt.probe("store.index_file_deleted", file.name, log_min),
            }
        }
        Ok(())
    }

    fn take_expired(&self, log_min: u64) -> Option<Arc<IndexFile<R>>> {
        self.files().take_expired(log_min)
    }

    /// The store stops: no more waiting for a disk that takes nothing.
    pub fn give_up_waiting(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl<R: Runtime> Files<R> {
    fn none() -> Files<R> {
        Files { sealed: Vec::new(), last: None }
    }

    fn take_expired(&mut self, log_min: u64) -> Option<Arc<IndexFile<R>>> {
        let first = self.sealed.first()?;
        let is_last = self.last.is_none() && self.sealed.len() == 1;
        if is_last || first.header.end >= log_min {
            return None;
        }
        Some(self.sealed.remove(0).file)
    }
}

impl<R: Runtime> IndexFile<R> {
    fn read_header(&self) -> io::Result<Header> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_at(0, &mut bytes)?;
        Ok(Header::decode(&bytes))
    }

    fn read_entry(&self, geometry: Geometry, number: u32) -> io::Result<[u8; ENTRY_BYTES]> {
        let mut bytes = [0; ENTRY_BYTES];
        self.file.read_at(geometry.entry_at(number), &mut bytes)?;
        Ok(bytes)
    }

    /// Brings slots and header in memory into the file.
    fn write_back(&self, table: &mut Table) -> io::Result<()> {
        let pieces = table.take_dirty();
        let written = pieces.iter().try_for_each(|(at, bytes)| self.file.write_at(*at, bytes));
        written.inspect_err(|_| table.mark_all_dirty())
    }
}

//! The open files of queues: a bounded number, the least recently used is closed for the next.
//!
//! 10,000 topics of 8 queues are more files than a process may hold open, and most of them are cold.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::runtime::Runtime;

/// A queue's number in this run, and the first byte of the file in the queue.
type Key = (u64, u64);

struct Open<F> {
    files: BTreeMap<Key, (F, u64)>,
    /// Keys by their last use.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

pub(crate) struct QueueFiles<R: Runtime> {
    rt: R,
    open_max: usize,
    open: Mutex<Open<R::File>>,
}

impl<R: Runtime> QueueFiles<R> {
    pub fn new(rt: R, open_max: usize) -> QueueFiles<R> {
        let open = Open { files: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 };
        QueueFiles { rt, open_max: open_max.max(1), open: Mutex::new(open) }
    }

    pub fn rt(&self) -> &R {
        &self.rt
    }

    fn open(&self) -> MutexGuard<'_, Open<R::File>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, opened if it is not.
    ///
    /// # Errors
    /// Of opening it.
    pub async fn get(&self, key: Key, path: impl FnOnce() -> String) -> io::Result<R::File> {
        if let Some(file) = self.open().used(key) {
            return Ok(file);
        }
        let file = self.rt.open_file(&path(), false).await?;
        self.put(key, file.clone());
        Ok(file)
    }

    /// Keeps `file` open; the least recently used ones beyond the bound are closed once nobody holds them.
    pub fn put(&self, key: Key, file: R::File) {
        let mut open = self.open();
        open.insert(key, file);
        while open.files.len() > self.open_max {
            let Some((_, oldest)) = open.by_use.pop_first() else { break };
            open.files.remove(&oldest);
        }
    }

    /// The file is deleted: nobody gets it from here any more.
    pub fn forget(&self, key: Key) {
        let mut open = self.open();
        if let Some((_, used)) = open.files.remove(&key) {
            open.by_use.remove(&used);
        }
    }

    /// Files that are open.
    pub fn len(&self) -> usize {
        self.open().files.len()
    }
}

impl<F: Clone> Open<F> {
    fn used(&mut self, key: Key) -> Option<F> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&key)?;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(file.clone())
    }

    fn insert(&mut self, key: Key, file: F) {
        self.uses += 1;
        if let Some((_, used)) = self.files.insert(key, (file, self.uses)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
    }
}

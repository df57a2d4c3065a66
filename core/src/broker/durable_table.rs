//! A table by name that lives in memory and in a configuration file: topics, subscription groups.
//!
//! A change is seen by readers only once the file holds it, and the request that asked for it is answered after that: a
//! topic that takes messages is still there after a power loss. Changes that arrive while the file is written go into
//! the next write together.
//!
//! Invariant: `visible` equals what the file holds, or held before a write failed. `staged` is `visible` plus the changes not
//! yet written.
//! Invariant: after a failed write the staged changes are gone, and each of their callers learns it; whoever asks for what is
//! there already is told so once the file has been written again.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::remoting::body::{BodyError, DataVersion};
use crate::runtime::{Mutant, Runtime};
use crate::store::config_file::ConfigFile;

/// By name.
pub(crate) type Entries<V> = BTreeMap<String, Arc<V>>;

/// What a table holds, and how its file looks.
pub(crate) trait Stored: Sized + PartialEq + Send + Sync + 'static {
    /// # Errors
    /// [`BodyError`]: it is no file of this kind.
    fn read_file(bytes: &[u8]) -> Result<(Entries<Self>, DataVersion), BodyError>;
    fn write_file(entries: &Entries<Self>, version: &DataVersion) -> Vec<u8>;
}

/// The table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: String, source: io::Error },
    #[error("read {path}: {error}")]
    Content { path: String, error: BodyError },
    /// The write that this change was to be part of has failed.
    #[error("{path} could not be written")]
    NotWritten { path: String },
    /// Nobody makes it anew before all that was its own is gone.
    #[error("{name} is being deleted")]
    Going { name: String },
}

struct Content<V> {
    entries: Entries<V>,
    version: DataVersion,
}

/// Not derived: the entries are shared, so `V` need not be `Clone`.
impl<V> Clone for Content<V> {
    fn clone(&self) -> Self {
        Content { entries: self.entries.clone(), version: self.version.clone() }
    }
}

struct Staged<V> {
    content: Content<V>,
    /// Counts changes.
    generation: u64,
    /// The file holds every change up to this one that was not dropped.
    written: u64,
    /// Changes above `written` up to this one were dropped by a failed write.
    failed: u64,
}

pub(crate) struct DurableTable<R, V> {
    rt: R,
    path: String,
    visible: RwLock<Content<V>>,
    staged: Mutex<Staged<V>>,
    /// Held while the file is written; first come, first served.
    writing: tokio::sync::Mutex<()>,
}

impl<R: Runtime, V: Stored> DurableTable<R, V> {
    /// Reads the file; an absent one is an empty table.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn open(rt: R, path: String) -> Result<Self, TableError> {
        let io = |source| TableError::Io { action: "read", path: path.clone(), source };
        let good = |bytes: &[u8]| V::read_file(bytes).is_ok();
        let (entries, version) = match ConfigFile::load_checked(&rt, &path, good).await.map_err(io)? {
            None => (BTreeMap::new(), DataVersion::default()),
            Some((bytes, _)) => {
                V::read_file(&bytes).map_err(|error| TableError::Content { path: path.clone(), error })?
            }
        };
        let content = Content { entries, version };
        let staged = Staged { content: content.clone(), generation: 0, written: 0, failed: 0 };
        Ok(DurableTable {
            rt,
            path,
            visible: RwLock::new(content),
            staged: Mutex::new(staged),
            writing: tokio::sync::Mutex::new(()),
        })
    }

    fn visible(&self) -> RwLockReadGuard<'_, Content<V>> {
        self.visible.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> MutexGuard<'_, Staged<V>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, name: &str) -> Option<Arc<V>> {
        self.visible().entries.get(name).cloned()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.visible().entries.contains_key(name)
    }

    pub fn version(&self) -> DataVersion {
        self.visible().version.clone()
    }

    /// All of it, as one moment saw it.
    pub fn snapshot(&self) -> (Entries<V>, DataVersion) {
        let content = self.visible();
        (content.entries.clone(), content.version.clone())
    }

    /// Lets `decide` say what to put (or, with `None`, to remove) in view of all changes so far, and returns the names that
    /// changed once the file holds them.
    ///
    /// # Errors
    /// [`TableError`]: nothing of it is visible.
    pub async fn change(
        &self,
        decide: impl FnOnce(&Entries<V>) -> Vec<(String, Option<V>)>,
    ) -> Result<Vec<String>, TableError> {
        let (changed, generation) = {
            let mut staged = self.staged();
            let mut changed = Vec::new();
            for (name, value) in decide(&staged.content.entries) {
                let entries = &mut staged.content.entries;
                let differs = match value {
                    Some(value) if entries.get(&name).is_some_and(|old| **old == value) => false,
                    Some(value) => {
                        entries.insert(name.clone(), Arc::new(value));
                        true
                    }
                    None => entries.remove(&name).is_some(),
                };
                if differs {
                    changed.push(name);
                }
            }
            if !changed.is_empty() {
                staged.generation += 1;
                staged.content.version = staged.content.version.next(self.rt.wall_ms());
            } else if staged.failed > staged.written && staged.failed == staged.generation {
                // This caller relies on what readers see, and the write that failed may have left something else in the
                // file.
                staged.generation += 1;
            }
            (changed, staged.generation)
        };
        // Also when nothing changed: what this caller relies on may still be on its way to the file.
        self.write_through(generation).await?;
        Ok(changed)
    }

    /// Gives the same content the next version, for those who look at it again when the version has changed.
    ///
    /// # Errors
    /// [`TableError`]: the version is the old one.
    pub async fn touch(&self) -> Result<(), TableError> {
        let generation = {
            let mut staged = self.staged();
            staged.generation += 1;
            staged.content.version = staged.content.version.next(self.rt.wall_ms());
            staged.generation
        };
        self.write_through(generation).await
    }

    /// Takes the place of all that is there, version included; true when the version was another one. The file holds the
    /// whole new content or the whole old one (H-12).
    ///
    /// # Errors
    /// [`TableError`]: nothing of it is visible.
    pub async fn replace(&self, entries: Entries<V>, version: DataVersion) -> Result<bool, TableError> {
        if self.rt.mutant(Mutant::TablesOneByOne) && self.version() != version {
            self.change(|old| old.keys().map(|name| (name.clone(), None)).collect()).await?;
        }
        let generation = {
            let mut staged = self.staged();
            if staged.content.version == version {
                return Ok(false);
            }
            staged.content = Content { entries, version };
            staged.generation += 1;
            staged.generation
        };
        self.write_through(generation).await?;
        Ok(true)
    }

    /// Returns once the file holds every change up to `generation`.
    async fn write_through(&self, generation: u64) -> Result<(), TableError> {
        if self.staged().written >= generation {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        let (content, writes) = {
            let staged = self.staged();
            if staged.written >= generation {
                return Ok(());
            }
            if staged.failed >= generation {
                return Err(TableError::NotWritten { path: self.path.clone() });
            }
            (staged.content.clone(), staged.generation)
        };
        let bytes = V::write_file(&content.entries, &content.version);
        let result = ConfigFile::save(&self.rt, &self.path, &bytes).await;
        let mut staged = self.staged();
        match result {
            Ok(()) => {
                self.rt.probe("broker.table_written", writes, 0);
                staged.written = writes;
                *self.visible.write().unwrap_or_else(PoisonError::into_inner) = content;
                Ok(())
            }
            Err(source) => {
                staged.failed = staged.generation;
                staged.content = self.visible().clone();
                Err(TableError::Io { action: "write", path: self.path.clone(), source })
            }
        }
    }
}

//! core's [`Storage`] on the simulated disk: names, folders, locks; files and segments are opened here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{Allocation, Backing, DirEntry, DiskUsage, File, FileStat};

use super::names::{Entry, normalize};
use super::segment::SimSegmentWriter;
use super::{PAGE, SimFile, SimSegmentReader, SimView};
use crate::cluster::{End, StepCut, StepDeath};
use crate::runtime::SimRuntime;
use crate::seed::hash_bytes;
use crate::world::Inner;

/// A process's hold on a file: it lives as long as this, also without a name.
pub(super) struct Handle {
    pub(super) runtime: SimRuntime,
    pub(super) inode: u64,
}

impl Handle {
    fn new(runtime: &SimRuntime, inner: &mut Inner, inode: u64) -> Arc<Handle> {
        inner.disk(runtime.node()).inode(inode).handles += 1;
        Arc::new(Handle { runtime: runtime.clone(), inode })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(mut inner) = self.runtime.world().lock_in_drop() else { return };
        if inner.alive(self.runtime.node(), self.runtime.incarnation()) {
            inner.disk(self.runtime.node()).close(self.inode);
        }
    }
}

/// The exclusive lock of a file, held by a process.
pub struct SimLock {
    runtime: SimRuntime,
    path: String,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let Some(mut inner) = self.runtime.world().lock_in_drop() else { return };
        if inner.alive(self.runtime.node(), self.runtime.incarnation()) {
            inner.disk(self.runtime.node()).locks.remove(&self.path);
        }
    }
}

/// How long a call takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// It reads the kernel's memory.
    Lookup,
    /// It changes names or lengths.
    Change,
    /// It waits for the platter.
    Sync,
}

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl SimRuntime {
    /// Counts and traces a step of this process. `Err` when the process is dead already; a death to come is the caller's to bring about.
    pub(super) fn step(&self, kind: &'static str, content: u64) -> Option<Result<(), StepDeath>> {
        let mut inner = self.world().lock();
        if !inner.alive(self.node(), self.incarnation()) {
            return None;
        }
        inner.trace(kind, self.node(), content, 0);
        Some(inner.storage_step(self.node(), kind).map_or(Ok(()), Err))
    }

    pub(super) fn die_in_step(&self, death: StepDeath) -> ! {
        self.world().die(self.node(), death.down, death.back_after, ("node.died_at_step", End::Struck))
    }

    /// A step that takes time: other tasks run before and after it takes effect.
    pub(super) async fn slow_step<T>(
        &self,
        kind: &'static str,
        content: u64,
        cost: Cost,
        apply: impl FnOnce(&mut Inner) -> io::Result<T> + Send,
    ) -> io::Result<T>
    where
        T: Send,
    {
        let death = match self.step(kind, content) {
            None => return std::future::pending().await,
            Some(Ok(())) => None,
            Some(Err(death)) if death.cut == StepCut::Before => self.die_in_step(death),
            Some(Err(death)) => Some(death),
        };
        let (before, after) = self.step_latency(cost);
        self.world().sleep(before).await;
        if !self.is_alive() {
            return std::future::pending().await;
        }
        if let Some(mut death) = death {
            // Inside: it has happened or not; which of the two nobody was told.
            if death.cut == StepCut::After || death.draws.chance(0.5) {
                drop(apply(&mut self.world().lock()));
            }
            self.die_in_step(death);
        }
        let result = apply(&mut self.world().lock());
        self.world().sleep(after).await;
        result
    }

    fn step_latency(&self, cost: Cost) -> (Duration, Duration) {
        let mut inner = self.world().lock();
        let now = inner.now();
        let disk = inner.disk(self.node());
        let mut draws = disk.draws();
        let (before, after) = (draws.u64(), draws.u64());
        let (before, after) = match cost {
            Cost::Lookup => (1_000 + before % 20_000, after % 5_000),
            Cost::Change => (5_000 + before % 100_000, after % 50_000),
            Cost::Sync => (disk.flush_latency(now, 1, &mut draws), after % 100_000),
        };
        let stalled = disk.stalled_until_ns.saturating_sub(now);
        let before = if cost == Cost::Lookup { before } else { before.max(stalled) };
        (Duration::from_nanos(before), Duration::from_nanos(after))
    }

    pub(super) fn writable_disk<'a>(&self, inner: &'a mut Inner) -> io::Result<&'a mut super::Disk> {
        let disk = inner.disk(self.node());
        if disk.faults.read_only { Err(read_only()) } else { Ok(disk) }
    }

    /// The disk, if a file can be made there.
    fn room_for<'a>(&self, inner: &'a mut Inner, path: &str) -> io::Result<&'a mut super::Disk> {
        let disk = self.writable_disk(inner)?;
        disk.names.can_create(path)?;
        let is_full = path.rsplit_once('/').is_some_and(|(folder, _)| disk.full_folders.contains(folder));
        if disk.free_blocks() == 0 || is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(disk) }
    }
}

fn path_hash(path: &str) -> u64 {
    hash_bytes(0, path.as_bytes())
}

impl Storage for SimRuntime {
    type SegmentWriter = SimSegmentWriter;
    type SegmentReader = SimSegmentReader;
    type View = SimView;
    type File = SimFile;
    type Lock = SimLock;

    async fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let path = normalize(path);
        self.slow_step("disk.create_dir", path_hash(&path), Cost::Change, |inner| {
            if inner.disk(self.node()).names.get(&path) == Some(Entry::Folder) {
                return Ok(());
            }
            self.writable_disk(inner)?.names.create_dir_all(&path)
        })
        .await
    }

    async fn create_file(&self, path: &str) -> io::Result<SimFile> {
        let path = normalize(path);
        self.slow_step("disk.create", path_hash(&path), Cost::Change, |inner| {
            let wall_ms = inner.wall_ms(self.node());
            let disk = self.room_for(inner, &path)?;
            let inode = disk.new_inode(wall_ms);
            disk.names.add_file(&path, inode);
            Ok(SimFile::new(Handle::new(self, inner, inode), false))
        })
        .await
    }

    async fn create_sized(&self, path: &str, len: u64, allocation: Allocation) -> io::Result<SimFile> {
        if !self.world().lock().disk(self.node()).has_unnamed_files() {
            let file = self.create_file(path).await?;
            if let Err(error) = file.set_len(len, allocation).await {
                let _ = self.remove(path).await;
                return Err(error);
            }
            return Ok(file);
        }
        let path = normalize(path);
        // The same steps, but the first makes a file without a name.
        self.slow_step("disk.create", path_hash(&path), Cost::Change, |inner| {
            self.room_for(inner, &path).map(drop)
        })
        .await?;
        let content = hash_bytes(path_hash(&path), &len.to_le_bytes());
        self.slow_step("disk.set_len", content, Cost::Change, |inner| {
            let wall_ms = inner.wall_ms(self.node());
            let disk = self.room_for(inner, &path)?;
            let inode = disk.new_inode(wall_ms);
            let grown = disk.with_blocks(inode, |file, free| file.grow(len, allocation, free));
            if let Err(error) = grown {
                disk.unlink(inode);
                return Err(error.into());
            }
            disk.names.add_file(&path, inode);
            Ok(SimFile::new(Handle::new(self, inner, inode), false))
        })
        .await
    }

    async fn open_file(&self, path: &str, read_only: bool) -> io::Result<SimFile> {
        let path = normalize(path);
        self.slow_step("disk.open", path_hash(&path), Cost::Lookup, |inner| {
            let inode = inner.disk(self.node()).names.file(&path)?;
            Ok(SimFile::new(Handle::new(self, inner, inode), read_only))
        })
        .await
    }

    async fn open_segment(
        &self,
        path: &str,
        written: usize,
        backing: Backing,
    ) -> io::Result<SimSegmentWriter> {
        let path = normalize(path);
        self.slow_step("disk.open_segment", path_hash(&path), Cost::Lookup, |inner| {
            let disk = inner.disk(self.node());
            let inode = disk.names.file(&path)?;
            let file = disk.inode(inode);
            let capacity = file.len as usize;
            if capacity == 0 || written > capacity {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            assert!(!file.has_writer, "{path} has a segment writer already");
            file.has_writer = true;
            Ok(SimSegmentWriter::new(Handle::new(self, inner, inode), capacity, written, backing))
        })
        .await
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let dir = normalize(dir);
        self.slow_step("disk.list", path_hash(&dir), Cost::Lookup, |inner| {
            inner.disk(self.node()).names.list(&dir)
        })
        .await
    }

    async fn stat(&self, path: &str) -> io::Result<FileStat> {
        let path = normalize(path);
        self.slow_step("disk.stat", path_hash(&path), Cost::Lookup, |inner| {
            let disk = inner.disk(self.node());
            match disk.names.get(&path) {
                None => Err(io::ErrorKind::NotFound.into()),
                Some(Entry::Folder) => Ok(FileStat { len: 0, modified_ms: 0, is_dir: true }),
                Some(Entry::File(inode)) => {
                    let file = disk.inode(inode);
                    Ok(FileStat { len: file.len, modified_ms: file.modified_ms, is_dir: false })
                }
            }
        })
        .await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (normalize(from), normalize(to));
        let content = hash_bytes(path_hash(&from), to.as_bytes());
        self.slow_step("disk.rename", content, Cost::Change, |inner| {
            let disk = self.writable_disk(inner)?;
            if let Some(replaced) = disk.names.rename(&from, &to)? {
                disk.unlink(replaced);
            }
            Ok(())
        })
        .await
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        let path = normalize(path);
        if self.is_alive() {
            self.world().removing(self.node(), &path);
        }
        self.slow_step("disk.remove", path_hash(&path), Cost::Change, |inner| {
            let disk = self.writable_disk(inner)?;
            let inode = disk.names.remove_file(&path)?;
            disk.unlink(inode);
            Ok(())
        })
        .await
    }

    async fn remove_dir(&self, path: &str) -> io::Result<()> {
        let path = normalize(path);
        self.slow_step("disk.remove_dir", path_hash(&path), Cost::Change, |inner| {
            self.writable_disk(inner)?.names.remove_dir(&path)
        })
        .await
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let dir = normalize(dir);
        let (sequence, fails) = {
            let mut inner = self.world().lock();
            let disk = inner.disk(self.node());
            let mut draws = disk.draws();
            (disk.names.sequence(), draws.chance(disk.faults.flush_error))
        };
        self.slow_step("disk.sync_dir", path_hash(&dir), Cost::Sync, |inner| {
            let disk = inner.disk(self.node());
            disk.names.folder(&dir)?;
            if fails {
                inner.count("disk.sync_dir_failed");
                return Err(io::Error::other("input/output error"));
            }
            if !disk.faults.lying_flush {
                disk.names.sync(&dir, sequence);
                disk.collect_unused();
            }
            Ok(())
        })
        .await
    }

    async fn disk_usage(&self, dir: &str) -> io::Result<DiskUsage> {
        let dir = normalize(dir);
        self.slow_step("disk.usage", path_hash(&dir), Cost::Lookup, |inner| {
            let disk = inner.disk(self.node());
            disk.names.folder(&dir)?;
            Ok(DiskUsage {
                total: disk.faults.capacity,
                available: if disk.full_folders.contains(&dir) {
                    0
                } else {
                    disk.free_blocks() * PAGE as u64
                },
                read_only: disk.faults.read_only,
            })
        })
        .await
    }

    async fn lock_file(&self, path: &str) -> io::Result<SimLock> {
        let path = normalize(path);
        self.slow_step("disk.lock", path_hash(&path), Cost::Change, |inner| {
            let wall_ms = inner.wall_ms(self.node());
            if inner.disk(self.node()).names.get(&path).is_none() {
                let disk = self.writable_disk(inner)?;
                disk.names.can_create(&path)?;
                let inode = disk.new_inode(wall_ms);
                disk.names.add_file(&path, inode);
            }
            let disk = inner.disk(self.node());
            if let Some(holder) = disk.locks.get(&path) {
                let text = format!("in use by pid {holder}");
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            disk.locks.insert(path.clone(), self.incarnation());
            Ok(SimLock { runtime: self.clone(), path: path.clone() })
        })
        .await
    }
}

//! Files and folders of the operating system. Each call is one step; nothing is made durable beside what it says.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use hotfire_core::runtime::storage::{self, Storage};
use hotfire_core::runtime::{Allocation, Backing, DirEntry, DiskUsage, FileStat};
use nix::sys::statvfs::{FsFlags, Statvfs, fstatvfs, statvfs};

use crate::lock::FileLock;
use crate::mmap::{View, cut_unless_mapped};
use crate::segment::{SegmentReader, SegmentWriter};
use crate::{TokioRuntime, blocking};

impl Storage for TokioRuntime {
    type SegmentWriter = SegmentWriter;
    type SegmentReader = SegmentReader;
    type View = View;
    type File = File;
    type Lock = FileLock;

    async fn create_dir_all(&self, path: &str) -> io::Result<()> {
        self.on_path(path, |path| fs::create_dir_all(path)).await
    }

    async fn create_file(&self, path: &str) -> io::Result<File> {
        self.on_path(path, |path| create(path).map(File::new)).await
    }

    async fn create_sized(&self, path: &str, len: u64, allocation: Allocation) -> io::Result<File> {
        self.on_path(path, move |path| {
            let file = match create_whole(path, len, allocation)? {
                Some(file) => file,
                None => create_and_grow(path, len, allocation)?,
            };
            Ok(File::new(file))
        })
        .await
    }

    async fn open_file(&self, path: &str, read_only: bool) -> io::Result<File> {
        self.on_path(path, move |path| open(path, read_only).map(File::new)).await
    }

    async fn open_segment(&self, path: &str, written: usize, backing: Backing) -> io::Result<SegmentWriter> {
        self.on_path(path, move |path| {
            let ahead = match backing {
                Backing::ReadOnly => return SegmentWriter::open_read_only(open(path, true)?, written),
                Backing::Mapped => None,
                Backing::Pooled => Some(open(path, false)?),
            };
            SegmentWriter::open(open(path, false)?, written, ahead)
        })
        .await
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.on_path(dir, |dir| {
            let mut entries = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
            entries.sort();
            Ok(entries)
        })
        .await
    }

    async fn stat(&self, path: &str) -> io::Result<FileStat> {
        self.on_path(path, |path| {
            let metadata = fs::metadata(path)?;
            let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            let modified_ms = match metadata.modified()?.duration_since(UNIX_EPOCH) {
                Ok(since) => ms(since),
                Err(before) => -ms(before.duration()),
            };
            Ok(FileStat { len: metadata.len(), modified_ms, is_dir: metadata.is_dir() })
        })
        .await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.path(to);
        self.on_path(from, move |from| fs::rename(from, to)).await
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        self.on_path(path, |path| fs::remove_file(path)).await
    }

    async fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.on_path(path, |path| fs::remove_dir(path)).await
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.on_path(dir, |dir| fs::File::open(dir)?.sync_all()).await
    }

    async fn disk_usage(&self, dir: &str) -> io::Result<DiskUsage> {
        self.on_path(dir, |dir| Ok(usage(&statvfs(dir)?))).await
    }

    async fn lock_file(&self, path: &str) -> io::Result<FileLock> {
        self.on_path(path, FileLock::take).await
    }
}

fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

fn set_len(file: &fs::File, len: u64, allocation: Allocation) -> io::Result<()> {
    if allocation == Allocation::Reserve {
        reserve(file, len)?;
    }
    cut_unless_mapped(file, len)
}

/// Where [`create_whole`] cannot do it.
fn create_and_grow(path: &Path, len: u64, allocation: Allocation) -> io::Result<fs::File> {
    let file = create(path)?;
    match set_len(&file, len, allocation) {
        Ok(()) => Ok(file),
        Err(error) => {
            // The caller is told of what came first.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Gives a name to a file that has its length already. `None` where the system or the file system has no files without a name.
#[cfg(target_os = "linux")]
fn create_whole(path: &Path, len: u64, allocation: Allocation) -> io::Result<Option<fs::File>> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
    use nix::unistd::linkat;

    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Met again by the other way, should it be the folder that is at fault.
    let unnamed = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_TMPFILE.bits()).open(dir);
    let Ok(file) = unnamed else { return Ok(None) };
    if path.symlink_metadata().is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    set_len(&file, len, allocation)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::EEXIST) => Err(ErrorKind::AlreadyExists.into()),
        // Without /proc for one.
        Err(_) => Ok(None),
    }
}

#[cfg(not(target_os = "linux"))]
fn create_whole(_: &Path, _: u64, _: Allocation) -> io::Result<Option<fs::File>> {
    Ok(None)
}

fn open(path: &Path, read_only: bool) -> io::Result<fs::File> {
    let file = OpenOptions::new().read(true).write(!read_only).open(path)?;
    // Linux opens folders for reading.
    if file.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

/// Bytes that this user may have in all, and those that are left, of all blocks, the free ones, and those free for every user: a
/// file system may keep blocks back, which are not used.
///
/// # Source
/// apache/rocketmq 4.9.7, `UtilAll#getDiskPartitionSpaceUsedPercent`.
fn partition([all, free, available]: [u64; 3], block_bytes: u64) -> (u64, u64) {
    let used = all.saturating_sub(free);
    let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
    (bytes(used.saturating_add(available)), bytes(available))
}

// The widths of these numbers differ between systems.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
fn usage(of: &Statvfs) -> DiskUsage {
    let blocks = [of.blocks(), of.blocks_free(), of.blocks_available()].map(u64::from);
    let (total, available) = partition(blocks, of.fragment_size() as u64);
    DiskUsage { total, available, read_only: of.flags().contains(FsFlags::ST_RDONLY) }
}

/// A file read and written in place. Clones share one descriptor.
#[derive(Clone)]
pub struct File(Arc<Opened>);

struct Opened {
    file: fs::File,
    /// Writers share it. `redirty` stores back what it has read, and would undo a write that falls in between.
    rewrite: RwLock<()>,
    /// Set by the first failed flush. Held during each: the kernel reports a lost page once per descriptor, so of two
    /// flushes at the same time one could consume the other's error.
    flush_failed: Mutex<bool>,
}

impl File {
    fn new(file: fs::File) -> File {
        File(Arc::new(Opened { file, rewrite: RwLock::default(), flush_failed: Mutex::default() }))
    }
}

impl storage::File for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.file.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let _shared = self.0.rewrite.read().unwrap_or_else(PoisonError::into_inner);
        self.0.file.write_all_at(from, offset)
    }

    async fn set_len(&self, len: u64, allocation: Allocation) -> io::Result<()> {
        let opened = self.0.clone();
        blocking(move || set_len(&opened.file, len, allocation)).await
    }

    /// Writes all dirty pages of the file, not of the range alone: such files are small, and Linux offers a flush of a
    /// range that reaches the disk for mappings only.
    async fn flush(&self, _range: Range<u64>) -> io::Result<()> {
        let opened = self.0.clone();
        blocking(move || {
            let mut failed = opened.flush_failed.lock().unwrap_or_else(PoisonError::into_inner);
            if *failed {
                return Err(io::Error::other("an earlier flush of this file has failed"));
            }
            // fdatasync; the length counts as data.
            let result = opened.file.sync_data();
            *failed = result.is_err();
            result
        })
        .await
    }

    fn redirty(&self, range: Range<u64>) -> io::Result<()> {
        const PAGE: u64 = 4096;
        let _alone = self.0.rewrite.write().unwrap_or_else(PoisonError::into_inner);
        let end = range.end.min(self.0.file.metadata()?.len());
        let mut at = range.start;
        while at < end {
            let mut byte = [0];
            self.0.file.read_exact_at(&mut byte, at)?;
            self.0.file.write_all_at(&byte, at)?;
            at = (at / PAGE + 1) * PAGE;
        }
        Ok(())
    }
}

/// Gives the first `len` bytes of the file blocks, without changing its length.
///
/// # Errors
/// `StorageFull`.
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    let old = file.metadata()?.len();
    // Without this a far too large wish would take the last block from everybody before it is refused.
    if len.saturating_sub(old) > usage(&fstatvfs(file)?).available {
        return Err(ErrorKind::StorageFull.into());
    }
    if len == 0 {
        return Ok(());
    }
    let result = allocate(file, old, len);
    if result.is_err() {
        // Frees what was allocated behind the end.
        cut_unless_mapped(file, old)?;
    }
    result
}

#[cfg(target_os = "linux")]
fn allocate(file: &fs::File, old: u64, len: u64) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    let signed = i64::try_from(len).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    loop {
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, signed) {
            Err(Errno::EINTR) => {}
            Err(Errno::ENOTSUP) => return write_zeros(file, old..len),
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &fs::File, old: u64, len: u64) -> io::Result<()> {
    write_zeros(file, old..len)
}

/// Blocks by writing them, where the file system cannot reserve.
fn write_zeros(file: &fs::File, range: Range<u64>) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let zeros = vec![0; STEP as usize];
    let mut at = range.start;
    while at < range.end {
        let step = STEP.min(range.end - at);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_make_a_file_of_its_length_or_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let make =
            [create_whole, |path: &Path, len, allocation| create_and_grow(path, len, allocation).map(Some)];
        for (number, make) in make.into_iter().enumerate() {
            let path = dir.path().join(format!("file{number}"));
            let refused = make(&path, u64::MAX / 2, Allocation::Reserve);
            assert!(matches!(refused, Err(_) | Ok(None)), "way {number}: {refused:?}");
            assert!(!path.exists(), "way {number}: of a failed try nothing is seen");
            // The first way is not open everywhere.
            let Some(file) = make(&path, 5_000, Allocation::Reserve).expect("made") else { continue };
            file.write_all_at(b"end", 4_997).expect("written");
            assert_eq!(fs::metadata(&path).expect("seen").len(), 5_000, "way {number}");
            let again = make(&path, 5_000, Allocation::Sparse).expect_err("it is there");
            assert_eq!(again.kind(), ErrorKind::AlreadyExists, "way {number}");
            assert_eq!(&fs::read(&path).expect("read")[4_995..], b"\0\0end", "way {number}");
        }
    }

    #[test]
    fn what_a_file_system_keeps_back_is_not_used() {
        // 16 of 24 blocks that may be used; Java says 0.67.
        let (total, available) = partition([66, 50, 8], 4_096);
        assert_eq!((total, available), (24 * 4_096, 8 * 4_096));
        let ratio = DiskUsage { total, available, read_only: false }.used_ratio();
        assert!((0.66..0.67).contains(&ratio), "{ratio}");
        assert_eq!(partition([0, 0, 0], 4_096), (0, 0));
    }
}

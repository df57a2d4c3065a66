//! The lock on a node's data folder: `fcntl` on byte 0 of a file, as Java's `FileChannel#tryLock(0, 1, false)` takes it, so
//! that a Java broker and ours exclude each other.
//!
//! Such a lock belongs to the process: it does not exclude a second taker in the same process, and it is lost as soon as
//! the process closes **any** descriptor of the file. Hence a registry of what this process holds, asked before the file
//! is opened. Invariant: nobody else in this process opens the lock file.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Device and inode: the file itself, whatever its name.
type FileKey = (u64, u64);

static HELD: Mutex<BTreeSet<FileKey>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<FileKey>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What Java writes into the file.
const CONTENT: &[u8] = b"lock";

/// The lock is held until this is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    // None only while it is dropped.
    file: Option<File>,
    key: FileKey,
}

impl FileLock {
    pub(crate) fn take(path: &Path) -> io::Result<FileLock> {
        // Kept to the end, so that two takers in this process come one after the other.
        let mut held = held();
        if let Ok(metadata) = path.metadata()
            && held.contains(&(metadata.dev(), metadata.ino()))
        {
            return Err(taken(Some(std::process::id())));
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let (file, kind) = match opened {
            // Of another user, or on a disk that takes no writes: one can look at what is there, and keep writers out.
            Err(error)
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                (File::open(path).map_err(|_| error)?, libc::F_RDLCK)
            }
            opened => (opened?, libc::F_WRLCK),
        };
        let metadata = file.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        match fcntl(&file, FcntlArg::F_SETLK(&byte_zero(kind))) {
            Ok(_) => {}
            Err(Errno::EACCES | Errno::EAGAIN) => return Err(taken(holder(&file))),
            Err(errno) => return Err(errno.into()),
        }
        // A look at a directory must not change it.
        if kind == libc::F_WRLCK && metadata.len() == 0 {
            file.write_all_at(CONTENT, 0)?;
        }
        held.insert(key);
        Ok(FileLock { file: Some(file), key })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // The lock goes before the entry does: a taker in between would lose its own by this close.
        let mut held = held();
        self.file.take();
        held.remove(&self.key);
    }
}

fn byte_zero(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

/// The process that holds the lock, unless it has just let go, or is out of sight (another host or namespace).
fn holder(file: &File) -> Option<u32> {
    let mut lock = byte_zero(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    u32::try_from(lock.l_pid).ok().filter(|pid| *pid != 0)
}

fn taken(pid: Option<u32>) -> io::Error {
    let by = pid.map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"));
    io::Error::new(ErrorKind::WouldBlock, format!("in use by {by}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_under_any_name_and_keeps_its_descriptor() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, link) = (dir.path().join("lock"), dir.path().join("link"));
        let held = FileLock::take(&path).expect("lock");
        std::fs::hard_link(&path, &link).expect("link");
        for name in [&path, &link] {
            let error = FileLock::take(name).expect_err("lock twice");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(error.to_string().ends_with(&format!("pid {}", std::process::id())), "{error}");
        }
        drop(held);
        assert_eq!(std::fs::read(&path).expect("read"), CONTENT);
        FileLock::take(&link).expect("lock once it is free");
    }
}

//! Small files that must survive any crash as their last or second-last version (S-22): JSON tables of brokers and name servers.
//!
//! A save writes `NAME.tmp`, flushes it, keeps the old version as `NAME.bak` by rename, gives the new one its name, and makes
//! the names durable. At each step one of `NAME` and `NAME.bak` is a whole version; between the renames only `NAME.bak` is.

use std::io;

use crate::runtime::storage::{Allocation, File};
use crate::runtime::{Mark, Mutant, Runtime};

/// A configuration file is no larger than this.
const BYTES_MAX: u64 = 1 << 30;

/// Which version was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Last,
    /// The last one was missing, empty or unreadable.
    Backup,
}

/// Loading and saving of one kind of file; `path` has no suffix.
pub struct ConfigFile;

impl ConfigFile {
    /// The last good version: the file, else its backup; `None` when neither has a byte. `is_good` tells whether the caller
    /// can decode what was read. It is durable when this returns: the save that wrote it may have failed half way, or its
    /// process died, and nobody will write it again as long as nothing changes.
    ///
    /// # Errors
    /// Of reading and flushing; `InvalidData` when a version is there and none is good.
    pub async fn load_checked<R: Runtime>(
        rt: &R,
        path: &str,
        is_good: impl Fn(&[u8]) -> bool + Send,
    ) -> io::Result<Option<(Vec<u8>, Version)>> {
        let (last, mut bad) = (path, false);
        for (version, path) in [(Version::Last, path.to_owned()), (Version::Backup, format!("{path}.bak"))] {
            match read(rt, &path).await? {
                Some(bytes) if is_good(&bytes) => {
                    if bad {
                        // Else the next save would make it the backup, in the place of the good one.
                        rt.rename(last, &format!("{last}.damaged")).await?;
                    }
                    make_durable(rt, &path, bytes.len() as u64).await?;
                    return Ok(Some((bytes, version)));
                }
                Some(_) if rt.mutant(Mutant::BackupUntaken) => return Ok(None),
                Some(_) => {
                    rt.mark(Mark::ConfigDamaged);
                    tracing::warn!(%path, "the file cannot be decoded");
                    bad = true;
                }
                None => {}
            }
        }
        if bad {
            let why = format!("{last}: neither it nor its backup can be decoded");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(None)
    }

    /// The file, else its backup, whatever they contain; `None` when neither has a byte.
    ///
    /// # Errors
    /// Of reading.
    pub async fn load<R: Runtime>(rt: &R, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(Self::load_checked(rt, path, |_| true).await?.map(|(bytes, _)| bytes))
    }

    /// Makes `bytes` the last version, durably. The folder must be there. One save of a path runs at a time.
    ///
    /// # Errors
    /// Of any step; the version before, or `bytes`, is then what `load` gives.
    pub async fn save<R: Runtime>(rt: &R, path: &str, bytes: &[u8]) -> io::Result<()> {
        let dir = path.rsplit_once('/').map_or(".", |(dir, _)| dir);
        if rt.mutant(Mutant::ConfigInPlace) {
            let file = fresh(rt, path).await?;
            file.write_at(0, bytes)?;
            file.flush(0..bytes.len() as u64).await?;
            return rt.sync_dir(dir).await;
        }
        let (new, backup) = (format!("{path}.tmp"), format!("{path}.bak"));
        let file = fresh(rt, &new).await?;
        file.write_at(0, bytes)?;
        file.flush(0..bytes.len() as u64).await?;
        drop(file);
        match rt.stat(path).await {
            // An empty file is no version, and must not push out the backup that is one.
            Ok(stat) if stat.len > 0 => rt.rename(path, &backup).await?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        rt.rename(&new, path).await?;
        rt.sync_dir(dir).await
    }
}

/// What was read may be in the page cache alone, and after a failed flush its pages may count as clean.
async fn make_durable<R: Runtime>(rt: &R, path: &str, len: u64) -> io::Result<()> {
    let file = rt.open_file(path, false).await?;
    file.redirty(0..len)?;
    if file.flush(0..len).await.is_err() {
        // The kernel keeps the error of a flush for the next process. What is marked again and flushed again is durable.
        file.redirty(0..len)?;
        file.flush(0..len).await?;
    }
    rt.sync_dir(path.rsplit_once('/').map_or(".", |(dir, _)| dir)).await
}

/// The file, empty.
async fn fresh<R: Runtime>(rt: &R, path: &str) -> io::Result<R::File> {
    match rt.create_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = rt.open_file(path, false).await?;
            file.set_len(0, Allocation::Sparse).await?;
            Ok(file)
        }
        created => created,
    }
}

async fn read<R: Runtime>(rt: &R, path: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match rt.open_file(path, true).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.len()?;
    if len == 0 {
        return Ok(None);
    }
    let len = Some(len).filter(|len| *len <= BYTES_MAX).and_then(|len| usize::try_from(len).ok());
    let mut bytes = vec![0; len.ok_or(io::ErrorKind::FileTooLarge)?];
    file.read_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

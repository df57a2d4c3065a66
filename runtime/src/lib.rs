//! core's Runtime on tokio and memory-mapped files.
//!
//! Map: `network` (tokio sockets), `storage` (files, folders, the lock), `segment` (writers and readers of mapped files,
//! flush and truncate on threads that may block), `mmap` (the mapping itself), `task` (tasks with and without a thread).
//!
//! Invariant: a call that may wait for a disk runs on tokio's blocking threads or on its task's own, except reads and writes
//! of [`core File`] handles, which go to the page cache, and page faults, which `prefault` is for.
//! Invariant: `mmap` is the workspace's only unsafe code.
//!
//! [`core File`]: hotfire_core::runtime::File
#![deny(unsafe_code)]

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::Offset as _;
use hotfire_core::runtime::{Mono, Runtime};

mod lock;
#[allow(unsafe_code)]
mod mmap;
mod network;
mod segment;
mod storage;
mod task;

pub use lock::FileLock;
pub use mmap::View;
pub use network::{Listener, ReadHalf, WriteHalf};
pub use segment::{SegmentReader, SegmentWriter};
pub use storage::File;
pub use task::TokioTask;

/// Lets this process open as many files as the system allows it, and answers how many.
///
/// # Errors
/// Of the system; the limit stays as it is.
pub fn raise_open_files_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// A node's runtime in production. Its methods must be called inside a tokio runtime with time and I/O enabled.
#[derive(Clone)]
pub struct TokioRuntime(Arc<Inner>);

struct Inner {
    origin: Instant,
    root: PathBuf,
}

impl TokioRuntime {
    /// `root` is the data folder: relative paths start there, absolute ones are taken as they are.
    pub fn new(root: impl Into<PathBuf>) -> TokioRuntime {
        TokioRuntime(Arc::new(Inner { origin: Instant::now(), root: root.into() }))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.root.join(path)
    }

    /// Runs `work` on the path, on a thread that may block.
    async fn on_path<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = self.path(path);
        blocking(move || work(&path)).await
    }
}

/// Runs `work` on a thread that may block. It runs to its end even when the caller gives up waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    if task::may_block() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(io::Error::other("the runtime is shutting down")),
        },
    }
}

impl Runtime for TokioRuntime {
    type Task<T: Send + 'static> = TokioTask<T>;

    #[inline]
    fn now(&self) -> Mono {
        Mono(u64::try_from(self.0.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[inline]
    fn wall_ms(&self) -> i64 {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => ms(since),
            Err(before) => -ms(before.duration()),
        }
    }

    fn utc_offset_s(&self, wall_ms: i64) -> i32 {
        // A moment outside of chrono's years has no zone.
        let utc = chrono::DateTime::from_timestamp_millis(wall_ms);
        utc.map_or(0, |utc| utc.with_timezone(&chrono::Local).offset().fix().local_minus_utc())
    }

    fn memory_bytes(&self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        return nix::sys::sysinfo::sysinfo().ok().map(|system| system.ram_total());
        #[cfg(not(target_os = "linux"))]
        None
    }

    fn sleep_until(&self, deadline: Mono) -> impl Future<Output = ()> + Send + 'static {
        // In range: u64 nanoseconds are 584 years.
        let deadline = self.0.origin + Duration::from_nanos(deadline.0);
        tokio::time::sleep_until(deadline.into())
    }

    fn spawn<F>(&self, _name: &'static str, future: F) -> TokioTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        TokioTask::start(future)
    }

    fn spawn_on_thread<F>(&self, name: &'static str, future: F) -> TokioTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        TokioTask::start_on_thread(name, future)
    }

    async fn yield_now(&self) {
        tokio::task::yield_now().await;
    }

    async fn fatal(&self, why: &'static str) -> Infallible {
        tracing::error!(why, "the process ends itself");
        eprintln!("fatal: {why}");
        std::process::abort()
    }

    fn random_u64(&self) -> u64 {
        rand::random()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_many_files_as_allowed_can_be_open() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard / 2, hard).expect("lower it");
        assert_eq!(super::raise_open_files_limit().expect("raise it"), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).expect("the limit"), (hard, hard));
    }
}

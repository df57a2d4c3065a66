//! The commit service of the transient store pool: gives what waits in memory to the system.
//!
//! With ASYNC_FLUSH and the pool a put is answered while its record is in memory only, and nobody reads it before it is in
//! its file. So a process that is killed loses what was appended since the last commit, and consumers have seen none of it.
//! Commits go in the order of the log: no hole is left.
//!
//! Invariant: while the process runs, a record is in its file at the latest the thorough interval and one interval after
//! its put ([`TransientPool`]). Each flush commits too, before it begins.

use std::time::Duration;

use super::commit_log::CommitLog;
use super::config::TransientPool;
use super::flush::{Flush, PAGE_BYTES};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mutant, Runtime};

impl<R: Runtime> Flush<R> {
    /// The task: runs until `stop` is true, when it commits once more, or a write has failed.
    ///
    /// # Source
    /// Store format, sections 8.2 and 10.3. Java's is woken by each put; a look at an interval's end finds what those would.
    pub async fn commit_real_time(&self, pool: &TransientPool, mut stop: Receiver<bool>) {
        let (log, rt) = (self.log(), self.log().rt());
        let interval = Duration::from_millis(pool.commit_interval_ms.max(1));
        let mut thorough_at = rt.now();
        let mut stops = false;
        while !stops {
            let committed = log.committed().get();
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => stops = true,
                _ = log.written().reached(committed + 1) => {}
            }
            let is_thorough = || rt.now() >= thorough_at && !rt.mutant(Mutant::CommitWaitsForPages);
            if !stops && !is_thorough() {
                crate::select! {
                    // Nothing is put any more: the last commit does not wait for a flush that stands still.
                    _ = stop.wait_for(|stop| *stop) => stops = true,
                    _ = log.written().reached(enough_at(log, committed, pool)) => {}
                    () = rt.sleep(interval) => if !is_thorough() { continue },
                }
            }
            if let Err(error) = log.commit() {
                self.fail(committed, log.written().get(), &error, "write the CommitLog");
                return;
            }
            thorough_at = rt.now().after_ms(pool.commit_thorough_interval_ms);
        }
    }
}

/// Where the log must have come to for a commit before the thorough interval: some pages on, or in the next file.
fn enough_at<R: Runtime>(log: &CommitLog<R>, committed: u64, pool: &TransientPool) -> u64 {
    let pages = committed / PAGE_BYTES + pool.commit_least_pages;
    let next_file = (committed / log.file_bytes() + 1) * log.file_bytes();
    pages.saturating_mul(PAGE_BYTES).min(next_file)
}

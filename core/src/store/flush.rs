//! The flush of the log: group commit for SYNC_FLUSH, the intervals of ASYNC_FLUSH.
//!
//! Group commit: a put that finds no flush running starts one; those that arrive meanwhile are covered by the next. There is
//! no tick on the way of an answer. What a flush covers is read before it starts.
//!
//! Invariant: after a failed flush nothing more is ever durable: the pages may be gone, whatever a later flush answers (S-06).

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::commit_log::Log;
use super::config::{FlushMode, Pace};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mono, Mutant, Runtime};

pub(super) const PAGE_BYTES: u64 = 4096;
/// What a planted bug takes for a slow flush; a disk that is well is far from it.
const SLOW_FLUSH: Duration = Duration::from_millis(500);

pub(crate) struct Flush<R: Runtime> {
    log: Log<R>,
    /// Store time of the newest record known to be durable.
    durable_timestamp: AtomicI64,
}

impl<R: Runtime> Flush<R> {
    pub fn new(log: Log<R>) -> Flush<R> {
        let durable_timestamp = AtomicI64::new(log.position().1);
        Flush { log, durable_timestamp }
    }

    pub(super) fn log(&self) -> &Log<R> {
        &self.log
    }

    pub fn durable_timestamp(&self) -> i64 {
        self.durable_timestamp.load(Ordering::Acquire)
    }

    /// The task: runs until `stop` is true or a flush has failed.
    pub async fn run(&self, mode: FlushMode, paces: Receiver<Pace>, stop: Receiver<bool>) {
        match mode {
            FlushMode::Sync => self.group_commit(stop).await,
            FlushMode::Async => self.real_time(paces, stop).await,
        }
    }

    async fn group_commit(&self, mut stop: Receiver<bool>) {
        loop {
            let next = self.log.durable().get() + 1;
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = self.log.written().reached(next) => {}
            }
            if !self.flush_all().await {
                return;
            }
        }
    }

    async fn real_time(&self, mut paces: Receiver<Pace>, mut stop: Receiver<bool>) {
        let rt = self.log.rt();
        let mut thorough = rt.now();
        loop {
            let (pace, begun) = (paces.get(), rt.now());
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = paces.wait_for(|now| *now != pace) => continue,
                () = rt.sleep(Duration::from_millis(pace.flush_interval_ms)) => {}
            }
            let least_pages = match rt.mutant(Mutant::ThoroughFlushForgotten) {
                true => pace.flush_least_pages,
                false => least_pages(begun, &mut thorough, pace),
            };
            let (end, durable) = (self.log.written().get(), self.log.durable().get());
            let pages = end / PAGE_BYTES - durable / PAGE_BYTES;
            if end > durable && pages >= least_pages && !self.flush_all().await {
                return;
            }
        }
    }

    /// Flushes all that is appended; `false` when that has failed, now or before.
    pub async fn flush_all(&self) -> bool {
        let (log, rt) = (&self.log, self.log.rt());
        if log.durable().has_failed() {
            return false;
        }
        let start = log.durable().get();
        let (mut end, timestamp) = match log.commit() {
            Ok(position) => position,
            Err(error) => {
                self.fail(start, log.written().get(), &error, "write the CommitLog");
                return false;
            }
        };
        if start >= end {
            return true;
        }
        let begun = rt.mutant(Mutant::FlushWatermarkRace).then(|| rt.now());
        let mut flushed = log.files().flush(start..end).await;
        if flushed.is_err() && rt.mutant(Mutant::RetryFailedFlush) {
            flushed = log.files().flush(start..end).await;
        }
        if begun.is_some_and(|begun| rt.now().since(begun) > SLOW_FLUSH) {
            end = log.commit().map_or(end, |(end, _)| end);
        }
        if let Err(error) = flushed
            && !rt.mutant(Mutant::IgnoreFlushError)
        {
            self.fail(start, end, &error, "flush the CommitLog");
            return false;
        }
        self.durable_timestamp.store(timestamp, Ordering::Release);
        log.durable().advance(end);
        rt.probe("store.flushed", start, end);
        true
    }

    /// Ends the writing for good.
    pub(super) fn fail(&self, start: u64, end: u64, error: &io::Error, action: &str) {
        self.log.rt().mark(Mark::FlushFailed);
        tracing::error!(start, end, %error, "{action}: the store takes no more writes");
        self.log.rt().probe("store.flush_failed", start, end);
        self.log.fail();
    }
}

/// Pages that must be dirty for the next flush; 0 once per thorough interval, decided before the sleep as Java does.
fn least_pages(now: Mono, thorough: &mut Mono, pace: Pace) -> u64 {
    if now < thorough.after_ms(pace.flush_thorough_interval_ms) {
        return pace.flush_least_pages;
    }
    *thorough = now;
    0
}

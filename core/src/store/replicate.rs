//! What replication asks of a store: a master's bytes to push, a slave's to append.

use std::io;

use bytes::Bytes;

use super::commit_log::copy::{CopyError, Piece};
use super::mapped_file_queue::shared;
use super::recovery;
use super::{FlushMode, MessageStore};
use crate::message::codec::{self, BLANK_BYTES, Head};
use crate::runtime::sync::Watermark;
use crate::runtime::{Mark, Mutant, Runtime};

impl<R: Runtime> MessageStore<R> {
    /// The position up to which a master pushes: what consumers may see. In SYNC_FLUSH these are flushed bytes, so that no
    /// loss of power puts a slave ahead of its master.
    #[must_use]
    pub fn pushable(&self) -> &Watermark {
        self.log.visible()
    }

    /// The position up to which a slave has what its flush mode promises: flushed in SYNC_FLUSH, else written.
    #[must_use]
    pub fn kept(&self) -> &Watermark {
        match self.config.flush {
            FlushMode::Sync => self.log.durable(),
            FlushMode::Async => self.log.committed(),
        }
    }

    /// First byte behind what was appended, flushed or not.
    #[must_use]
    pub fn written(&self) -> &Watermark {
        self.log.written()
    }

    /// Bytes of the log from `from` on and below `limit`, at most `bytes_max`, out of one file; `None` when there are none.
    ///
    /// # Errors
    /// `NotFound`: no file has them any more.
    pub fn log_bytes(&self, limit: u64, from: u64, bytes_max: usize) -> io::Result<Option<Bytes>> {
        if from >= limit {
            return Ok(None);
        }
        let file = self.log.files().find(from).ok_or(io::ErrorKind::NotFound)?;
        let upto = limit.min(file.end()).min(file.written_end());
        let len = usize::try_from(upto.saturating_sub(from)).unwrap_or(usize::MAX).min(bytes_max);
        if len == 0 {
            return Ok(None);
        }
        Ok(Some(shared(&file.view(from, len)?)))
    }

    /// Lets the empty log of a slave begin at `base`; false when it is not empty, and begins elsewhere.
    pub async fn begin_at(&self, base: u64) -> bool {
        // Dispatch never looks below: it is told before there is anything to look at.
        if self.commit_log_max() != 0 {
            return false;
        }
        self.dispatch.dispatched().advance(base);
        let Some(unused) = self.log.begin_at(base) else { return false };
        for path in unused {
            // Durably, before anything is appended: recovery would take what is behind the gap for a rest.
            if self.rt.mutant(Mutant::SlaveEmptyFileStays) {
                continue;
            }
            self.rt.mark(Mark::EmptyLogBegunElsewhere);
            let removed = match self.rt.remove(&path).await {
                Ok(()) => self.rt.sync_dir(recovery::parent(&path)).await,
                failed => failed,
            };
            if let Err(error) = removed {
                tracing::error!(%path, %error, "remove a CommitLog file that holds nothing");
                self.log.fail();
                return false;
            }
        }
        true
    }

    /// Appends what a slave has received at `at`, the end of its log, and answers the new end.
    ///
    /// The records of a Java master need not carry a record checksum. Recovery must know of them first: it would take each for
    /// damage.
    ///
    /// # Errors
    /// [`CopyError`]: nothing was appended.
    pub async fn append_copy(&self, at: u64, piece: Piece<'_>) -> Result<u64, CopyError> {
        if matches!(piece, Piece::Records { checksummed: false, .. }) {
            self.queue_flush.expect_plain_records().await.map_err(CopyError::Checkpoint)?;
        }
        self.log.append_copy(at, piece).await
    }

    /// The last record of the log and where it begins; `None` when there is none.
    #[must_use]
    pub fn last_record(&self) -> Option<(u64, Bytes)> {
        let (min, end) = (self.commit_log_min(), self.log.visible().get());
        let mark = self.dispatch.progress().mark.clamp(min, end.max(min));
        let at = self.last_between(mark, end).or_else(|| self.last_between(min, end))?;
        Some((at, self.message_at(at)?))
    }

    /// Where the last record begins that lies in `from..end`; `from` is where one begins, or a file does.
    fn last_between(&self, from: u64, end: u64) -> Option<u64> {
        let (mut at, mut last) = (from, None);
        while at < end {
            let file = self.log.files().find(at)?;
            let head =
                if file.end() - at < BLANK_BYTES as u64 { None } else { file.view(at, BLANK_BYTES).ok() };
            at = match head.map(|head| codec::head(head.as_ref())) {
                Some(Head::Record { size }) if size > 0 => {
                    last = Some(at);
                    at + u64::from(size)
                }
                _ => file.end(),
            };
        }
        last
    }
}

//! Committed offsets on disk: `config/consumerOffset.json`, Java's file, written every few seconds if anything changed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::remoting::body::ConsumerOffsetWrapper;
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mutant, Runtime};
use crate::store::config_file::ConfigFile;

use super::committed_offsets::CommittedOffsets;

pub(crate) struct OffsetFile<R> {
    rt: R,
    path: String,
    offsets: Arc<CommittedOffsets>,
    /// The count of changes that the file holds.
    written: AtomicU64,
    writing: tokio::sync::Mutex<()>,
}

impl<R: Runtime> OffsetFile<R> {
    /// Reads the file into `offsets`, each cut to `max_offset` of its queue. Where something was cut the file is written
    /// again before this returns: once the queue has grown past the old offset nothing would cut it any more, and the
    /// messages that took the place of the lost ones would be skipped.
    ///
    /// # Errors
    /// Of reading or writing; `InvalidData` when neither the file nor its backup can be decoded.
    pub async fn open(
        rt: R,
        path: String,
        offsets: Arc<CommittedOffsets>,
        max_offset: impl Fn(&str, i32) -> i64,
    ) -> io::Result<Self> {
        let before = offsets.changes();
        let good = |bytes: &[u8]| ConsumerOffsetWrapper::parse(bytes).is_ok();
        if let Some((bytes, _)) = ConfigFile::load_checked(&rt, &path, good).await? {
            let file = ConsumerOffsetWrapper::parse(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if !rt.mutant(Mutant::OffsetsNotLoaded) {
                let uncut = rt.mutant(Mutant::OffsetsUncutAtLoad);
                let limit = |topic: &str, queue| if uncut { i64::MAX } else { max_offset(topic, queue) };
                offsets.load(file.offset_table, limit);
            }
        }
        let file = OffsetFile {
            rt,
            path,
            offsets,
            written: AtomicU64::new(before),
            writing: tokio::sync::Mutex::new(()),
        };
        file.save().await?;
        Ok(file)
    }

    /// Writes the offsets, unless the file holds them already.
    ///
    /// # Errors
    /// Of writing; the next call writes again.
    pub async fn save(&self) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        if self.written.load(Ordering::Relaxed) == self.offsets.changes() {
            return Ok(());
        }
        let (offset_table, changes) = self.offsets.snapshot();
        self.rt.probe("broker.offsets_taken", changes, 0);
        let file = ConsumerOffsetWrapper { data_version: None, offset_table };
        ConfigFile::save(&self.rt, &self.path, &file.to_java_json()).await?;
        self.written.store(changes, Ordering::Relaxed);
        self.rt.probe("broker.offsets_written", changes, 0);
        Ok(())
    }

    pub async fn run(self: Arc<Self>, interval: Duration, mut stop: Receiver<bool>) {
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(interval) => {}
            }
            if let Err(error) = self.save().await {
                self.rt.mark(Mark::OffsetsUnwritten);
                tracing::error!(path = %self.path, %error, "write the committed offsets");
            }
        }
    }
}

/// A consumer's commit is remembered, of a group and a queue of a topic.
pub(super) fn probe_commit<R: Runtime>(rt: &R, (topic, group, queue): (&str, &str, i32), offset: i64) {
    let named = || format!("{topic}@{group}");
    rt.probe_named("broker.offset_committed", named, u64::from(queue.unsigned_abs()), offset.unsigned_abs());
}

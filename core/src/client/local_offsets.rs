//! The offsets of a broadcasting consumer, which are its own: in a file of Java's form,
//! `{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:5}}`.
//!
//! Invariant: after any crash the file says what the last save, or the one before, has said. An offset that was loaded is
//! kept whether its queue is in use or not: its broker may only be away.

use std::collections::BTreeMap;
use std::io;

use tokio::sync::Mutex;

use crate::remoting::body::{MessageQueue, ResetOffsetBody};
use crate::runtime::Runtime;
use crate::store::config_file::ConfigFile;

#[derive(Default)]
struct Table {
    /// As the file has it; `None` before it was read.
    saved: Option<BTreeMap<MessageQueue, i64>>,
}

pub(super) struct LocalOffsets {
    path: String,
    table: Mutex<Table>,
}

impl LocalOffsets {
    pub(super) fn new(path: String) -> LocalOffsets {
        LocalOffsets { path, table: Mutex::default() }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What the file says of the queue.
    ///
    /// # Errors
    /// Of reading; `InvalidData`: neither the file nor its backup can be read.
    pub(super) async fn get<R: Runtime>(&self, rt: &R, queue: &MessageQueue) -> io::Result<Option<i64>> {
        let mut table = self.table.lock().await;
        Ok(self.load(rt, &mut table).await?.get(queue).copied())
    }

    /// Saves these offsets beside those of other queues, unless the file says so already.
    ///
    /// # Errors
    /// Of reading and writing.
    pub(super) async fn save<R: Runtime>(
        &self,
        rt: &R,
        offsets: BTreeMap<MessageQueue, i64>,
    ) -> io::Result<()> {
        let mut table = self.table.lock().await;
        let mut wanted = self.load(rt, &mut table).await?.clone();
        wanted.extend(offsets);
        if table.saved.as_ref() == Some(&wanted) {
            return Ok(());
        }
        if let Some((folder, _)) = self.path.rsplit_once('/') {
            rt.create_dir_all(folder).await?;
        }
        let body = ResetOffsetBody { offset_table: wanted };
        ConfigFile::save(rt, &self.path, &body.to_json()).await?;
        table.saved = Some(body.offset_table);
        Ok(())
    }

    async fn load<'t, R: Runtime>(
        &self,
        rt: &R,
        table: &'t mut Table,
    ) -> io::Result<&'t BTreeMap<MessageQueue, i64>> {
        let found = match table.saved.take() {
            Some(saved) => saved,
            None => {
                let is_good = |bytes: &[u8]| ResetOffsetBody::parse(bytes).is_ok();
                let loaded = ConfigFile::load_checked(rt, &self.path, is_good).await?;
                let body = loaded.map(|(bytes, _)| ResetOffsetBody::parse(&bytes)).transpose();
                body.map_err(io::Error::other)?.unwrap_or_default().offset_table
            }
        };
        Ok(table.saved.insert(found))
    }
}

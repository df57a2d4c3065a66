//! A slave's tables: topics, groups and committed offsets, copied from its master every few seconds.
//!
//! Topics and groups are replaced as a whole when the master's version is another one; the slave changes none of its own.
//! A committed offset is taken only when it is beyond the slave's own, since consumers may have gone on here while the
//! master was away; a reset to an earlier offset does therefore not reach the slave.
//!
//! # Source
//! `spec/ha.md`, section 4.1.

use std::sync::Arc;
use std::time::Duration;

use crate::ha::slave::MasterPlace;
use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    BodyError, ConsumerOffsetWrapper, SubscriptionGroupWrapper, TopicConfigSerializeWrapper,
};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::CallError;
use crate::remoting::peer::Peers;
use crate::runtime::Runtime;
use crate::runtime::sync::Receiver;
use crate::store::MessageStore;

use super::committed_offsets::CommittedOffsets;
use super::durable_table::TableError;
use super::subscription_group::SubscriptionGroups;
use super::topic_config::Topics;

/// Java's.
const FIRST: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct SlaveSync<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub peers: Peers<R>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub offsets: Arc<CommittedOffsets>,
}

/// A table was not copied; the next look tries again.
#[derive(Debug, thiserror::Error)]
enum NotCopied {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("refused with code {code}: {remark}")]
    Refused { code: i32, remark: String },
    #[error("read the table: {0}")]
    Content(#[from] BodyError),
    #[error(transparent)]
    Table(#[from] TableError),
}

impl<R: Runtime> SlaveSync<R> {
    pub async fn run(self, mut master: Receiver<MasterPlace>, mut stop: Receiver<bool>) {
        let mut pause = FIRST;
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(pause) => {}
            }
            pause = INTERVAL;
            let Some(address) = master.get().remoting else { continue };
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.copy_all(&address) => {}
            }
        }
    }

    async fn copy_all(&self, master: &str) {
        let copied = [
            ("topics", self.copy_topics(master).await),
            ("groups", self.copy_groups(master).await),
            ("committed offsets", self.copy_offsets(master).await),
        ];
        for (table, copied) in copied {
            if let Err(error) = copied {
                tracing::warn!(master, table, %error, "copy a table of the master");
            }
        }
    }

    async fn ask(&self, master: &str, code: i32) -> Result<bytes::Bytes, NotCopied> {
        let answer = self.peers.call(master, RemotingCommand::request(code), TIMEOUT).await?;
        match answer.code {
            response::SUCCESS => Ok(answer.body.to_bytes()),
            code => Err(NotCopied::Refused { code, remark: answer.remark.unwrap_or_default() }),
        }
    }

    async fn copy_topics(&self, master: &str) -> Result<(), NotCopied> {
        let body = self.ask(master, request::GET_ALL_TOPIC_CONFIG).await?;
        self.topics.copy(TopicConfigSerializeWrapper::parse(&body)?).await?;
        Ok(())
    }

    async fn copy_groups(&self, master: &str) -> Result<(), NotCopied> {
        let body = self.ask(master, request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG).await?;
        self.groups.copy(SubscriptionGroupWrapper::parse(&body)?).await?;
        Ok(())
    }

    async fn copy_offsets(&self, master: &str) -> Result<(), NotCopied> {
        let body = self.ask(master, request::GET_ALL_CONSUMER_OFFSET).await?;
        let table = ConsumerOffsetWrapper::parse(&body)?.offset_table;
        let max_offset = |topic: &str, queue| self.store.max_offset(topic, queue);
        self.offsets.merge(table, max_offset);
        Ok(())
    }
}

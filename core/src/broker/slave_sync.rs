//! A slave's tables: topics, groups and committed offsets, copied from its master every few seconds.
//!
//! Nothing is copied but over an open link: a master whose log is refused has another history, and may have begun with empty tables.
//!
//! Topics and groups are replaced as a whole when the master's version is another one; the slave changes none of its own.
//! A committed offset is taken only when it is beyond the slave's own, since consumers may have gone on here while the
//! master was away; a reset to an earlier offset does therefore not reach the slave.
//!
//! How far the master has delivered delayed messages, and asked about half messages, is taken over when all that its log held
//! when it said so is durable here: the copies that it counts must be among that, or a slave that becomes the master would
//! leave messages out (D-09, T-06).
//!
//! # Source
//! `spec/ha.md`, section 4.1.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::ha::slave::{LinkState, MasterPlace};
use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    BodyError, ConsumerOffsetWrapper, DelayOffsetWrapper, KvTable, SubscriptionGroupWrapper,
    TopicConfigSerializeWrapper,
};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::CallError;
use crate::remoting::peer::Peers;
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mutant, Runtime};
use crate::store::{MessageStore, OF_BATCHES};

use super::committed_offsets::{CommittedOffsets, QueueOffsets};
use super::durable_table::TableError;
use super::schedule::Schedule;
use super::subscription_group::SubscriptionGroups;
use super::topic_config::Topics;
use super::transaction;

/// Java's.
const FIRST: Duration = Duration::from_secs(3);
const INTERVAL: Duration = Duration::from_secs(10);
/// Before it is looked again whether the slave follows.
const LINK_WAIT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct SlaveSync<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub peers: Peers<R>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub offsets: Arc<CommittedOffsets>,
    pub schedule: Arc<Schedule<R>>,
    pub link: Arc<LinkState>,
}

/// Offsets of the master's own services that wait for the log.
struct Waiting {
    delays: BTreeMap<i32, i64>,
    transactions: BTreeMap<String, QueueOffsets>,
    /// Where the master's log ended, later.
    log_end: u64,
    /// The link over which the log comes: behind another one may be a master that has lost some of it.
    link: u64,
}

/// The master that is followed.
struct From {
    /// `host:port` for requests.
    address: String,
    /// The link over which its log comes.
    link: u64,
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
    #[error("the master does not say where its log ends")]
    NoLogEnd,
    #[error("the link has ended meanwhile")]
    LinkEnded,
    #[error("write the table: {0}")]
    Write(#[from] io::Error),
}

impl<R: Runtime> SlaveSync<R> {
    pub async fn run(self, mut master: Receiver<MasterPlace>, mut stop: Receiver<bool>) {
        let (mut pause, mut waiting) = (FIRST, None);
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(pause) => {}
            }
            let (Some(address), Some(link)) = (master.get().requests(), self.link()) else {
                pause = LINK_WAIT;
                continue;
            };
            pause = INTERVAL;
            let from = From { address, link };
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.copy_all(&from, &mut waiting) => {}
            }
        }
    }

    /// The number of the link that is open: only whose log is followed has tables to copy.
    fn link(&self) -> Option<u64> {
        let any = self.rt.mutant(Mutant::TablesOfAnyMaster).then_some(0);
        self.link.open().or(any)
    }

    async fn copy_all(&self, master: &From, waiting: &mut Option<Waiting>) {
        let copied = [
            ("topics", self.copy_topics(master).await),
            ("groups", self.copy_groups(master).await),
            ("committed offsets", self.copy_offsets(master).await),
            ("offsets of delays and transactions", self.copy_own_offsets(master, waiting).await),
        ];
        for (table, copied) in copied {
            if let Err(error) = copied {
                self.rt.mark(Mark::TableUncopied);
                tracing::warn!(master = master.address, table, %error, "copy a table of the master");
            }
        }
    }

    /// What the master answers while the link is the same.
    async fn ask(&self, master: &From, code: i32) -> Result<bytes::Bytes, NotCopied> {
        let answer = self.peers.call(&master.address, RemotingCommand::request(code), TIMEOUT).await?;
        if self.link() != Some(master.link) {
            return Err(NotCopied::LinkEnded);
        }
        match answer.code {
            response::SUCCESS => {
                self.rt.probe("slave.table_copied", code.unsigned_abs().into(), 0);
                Ok(answer.body.to_bytes())
            }
            code => Err(NotCopied::Refused { code, remark: answer.remark.unwrap_or_default() }),
        }
    }

    async fn copy_topics(&self, master: &From) -> Result<(), NotCopied> {
        let body = self.ask(master, request::GET_ALL_TOPIC_CONFIG).await?;
        let table = TopicConfigSerializeWrapper::parse(&body)?;
        for (name, topic) in &table.topic_config_table {
            if topic.attributes.get(OF_BATCHES.0).is_some_and(|kind| kind == OF_BATCHES.1) {
                self.store.set_of_batches(name);
            }
        }
        self.topics.copy(table).await?;
        Ok(())
    }

    async fn copy_groups(&self, master: &From) -> Result<(), NotCopied> {
        let body = self.ask(master, request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG).await?;
        self.groups.copy(SubscriptionGroupWrapper::parse(&body)?).await?;
        Ok(())
    }

    async fn copy_offsets(&self, master: &From) -> Result<(), NotCopied> {
        let mut table = self.committed(master).await?;
        table.retain(|key, _| !is_of_transactions(key));
        if self.rt.mutant(Mutant::SlaveOffsetsUncopied) {
            return Ok(());
        }
        self.merge(table);
        Ok(())
    }

    async fn committed(&self, master: &From) -> Result<BTreeMap<String, QueueOffsets>, NotCopied> {
        let body = self.ask(master, request::GET_ALL_CONSUMER_OFFSET).await?;
        Ok(ConsumerOffsetWrapper::parse(&body)?.offset_table)
    }

    fn merge(&self, table: BTreeMap<String, QueueOffsets>) {
        let max = |topic: &str, queue| self.store.committable(topic, queue);
        match self.rt.mutant(Mutant::MasterOffsetsWin) {
            false => self.offsets.merge(table, max),
            true => self.offsets.overwrite(table, max),
        }
    }

    async fn copy_own_offsets(&self, master: &From, waiting: &mut Option<Waiting>) -> Result<(), NotCopied> {
        let link = master.link;
        // What waits is not replaced: a log that always grows would never be long enough.
        let now = match waiting.take().filter(|before| before.link == link) {
            Some(before) => before,
            None => {
                let body = self.ask(master, request::GET_ALL_DELAY_OFFSET).await?;
                let delays = DelayOffsetWrapper::parse(&body)?.offset_table;
                let mut transactions = self.committed(master).await?;
                transactions.retain(|key, _| is_of_transactions(key));
                Waiting { delays, transactions, log_end: self.log_end(master).await?, link }
            }
        };
        let has_all = self.store.durable().get() >= now.log_end;
        if !has_all && !self.rt.mutant(Mutant::DelayOffsetsAtOnce) {
            *waiting = Some(now);
            return Ok(());
        }
        if self.link() != Some(link) {
            return Ok(());
        }
        self.merge(now.transactions);
        Ok(self.schedule.merge(now.delays).await?)
    }

    /// Where the master's log ends.
    async fn log_end(&self, master: &From) -> Result<u64, NotCopied> {
        let body = self.ask(master, request::GET_BROKER_RUNTIME_INFO).await?;
        let end = KvTable::parse(&body)?.table.get("commitLogMaxOffset").and_then(|end| end.parse().ok());
        end.ok_or(NotCopied::NoLogEnd)
    }
}

/// Whether a key of the table of committed offsets, `topic@group`, is of the check of half messages.
fn is_of_transactions(key: &str) -> bool {
    key.rsplit_once('@').is_some_and(|(_, group)| group == transaction::GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_transactions_are_told_from_those_of_consumers() {
        assert!(is_of_transactions("RMQ_SYS_TRANS_HALF_TOPIC@CID_RMQ_SYS_TRANS"));
        assert!(is_of_transactions("RMQ_SYS_TRANS_OP_HALF_TOPIC@CID_RMQ_SYS_TRANS"));
        assert!(!is_of_transactions("T@CID_RMQ_SYS_TRANS_2"));
        assert!(!is_of_transactions("CID_RMQ_SYS_TRANS@CG"));
    }
}

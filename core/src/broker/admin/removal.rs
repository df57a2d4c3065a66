//! What operators take away: groups (207), topics (215, 316), files that are out of date (306, 329).

use crate::remoting::RemotingCommand;
use crate::remoting::codes::response;
use crate::remoting::headers::{DeleteSubscriptionGroupHeader, DeleteTopicHeader};
use crate::runtime::{Mutant, Runtime};

use super::super::names;
use super::super::refusal::{Refusal, of_batches};
use super::super::topic_config::Going;
use super::{AdminRequests, Result, done};

impl<R: Runtime> AdminRequests<R> {
    /// A group that is not there is deleted already.
    pub(super) async fn delete_group(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: DeleteSubscriptionGroupHeader = request.header()?;
        self.groups.delete(&header.group_name).await?;
        if header.remove_offset == Some(true) || header.clean_offset == Some(true) {
            self.offsets.remove_group(&header.group_name);
            self.save_offsets().await?;
        }
        Ok(done())
    }

    /// Deletes a topic: its settings, what groups have committed on it, its queues. The answer says that all of it is gone for
    /// good; without one it may be half gone, and the request is to be sent again.
    pub(super) async fn delete_topic(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let DeleteTopicHeader { topic } = request.header()?;
        names::check_topic(&topic).map_err(|error| {
            Refusal::new(response::INVALID_PARAMETER, format!("the topic's name {error}"))
        })?;
        if self.topics.is_system(&topic) {
            let remark = format!("The topic[{topic}] is conflict with system topic.");
            return Err(Refusal::new(response::INVALID_PARAMETER, remark));
        }
        if self.store.is_of_batches(&topic) {
            // Its folder would stay, and Java's broker does not start with one whose topic is gone.
            return Err(of_batches(&topic));
        }
        let _going = self.begin_deletion(&topic)?;
        // First, so that nothing more is sent to it.
        self.topics.delete(&topic).await?;
        if !self.rt.mutant(Mutant::DeletionKeepsOffsets) {
            self.offsets.remove_topic(&topic);
        }
        self.save_offsets().await?;
        self.drop_queues(&topic).await?;
        tracing::info!(topic, "topic deleted");
        Ok(done())
    }

    /// Drops the queues of topics that are not there any more. Not on a slave, whose table may be older than its log: a topic
    /// that it does not know may be a new one.
    pub(super) async fn clean_unused(&self) -> Result<RemotingCommand> {
        if self.is_slave {
            return Ok(done());
        }
        let mut topics: Vec<String> = self.store.queues().into_iter().map(|(topic, _)| topic).collect();
        topics.dedup();
        for topic in topics {
            if topic.starts_with(names::LIGHT_PREFIX) || self.topics.is_system(&topic) {
                continue;
            }
            let _going = self.begin_deletion(&topic)?;
            if !self.topics.contains(&topic) {
                self.drop_queues(&topic).await?;
            }
        }
        Ok(done())
    }

    /// Files of queues that hold nothing of the log go at each look of the store; this asks for one.
    pub(super) fn clean_queues(&self) -> RemotingCommand {
        self.store.look_for_deletions();
        done()
    }

    pub(super) fn delete_expired(&self) -> RemotingCommand {
        self.store.delete_expired();
        done()
    }

    fn begin_deletion<'a>(&'a self, topic: &'a str) -> Result<Going<'a, R>> {
        self.topics.begin_deletion(topic).ok_or_else(|| {
            Refusal::new(response::SYSTEM_ERROR, format!("the topic {topic} is being deleted already"))
        })
    }

    async fn drop_queues(&self, topic: &str) -> Result<()> {
        self.counts.forget_topic(topic);
        let dropped = self.store.drop_topic(topic).await;
        dropped.map_err(|error| {
            let remark = format!("drop the queues of the topic {topic}: {error}");
            Refusal::new(response::SYSTEM_ERROR, remark)
        })
    }

    async fn save_offsets(&self) -> Result<()> {
        let saved = self.offset_file.save().await;
        saved.map_err(|error| {
            Refusal::new(response::SYSTEM_ERROR, format!("write the committed offsets: {error}"))
        })
    }
}

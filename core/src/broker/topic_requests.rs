//! Requests about topics and groups: 17, 18, 21, 200, 201, 225, 305, 351 to 353.

use std::sync::Arc;

use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    GroupForbidden, SubscriptionGroupConfig, SubscriptionGroupList, TopicConfig, TopicConfigList,
    TopicFilterType, TopicList,
};
use crate::remoting::codes::response;
use crate::remoting::headers::{
    CreateTopicHeader, GetSubscriptionGroupConfigHeader, GetTopicConfigHeader, UpdateGroupForbiddenHeader,
};
use crate::runtime::Runtime;

use super::attributes::{self, OF_GROUPS, OF_TOPICS};
use super::names;
use super::refusal::{Refusal, answer};
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{Topics, perm};

type Result<T> = std::result::Result<T, Refusal>;

/// Queues that a topic may have.
const QUEUES_MAX: i32 = 65_536;

pub(crate) struct TopicRequests<R: Runtime> {
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
}

fn invalid(remark: String) -> Refusal {
    Refusal::new(response::INVALID_PARAMETER, remark)
}

impl<R: Runtime> TopicRequests<R> {
    pub async fn create_or_update(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: CreateTopicHeader = request.header()?;
        if self.topics.is_system(&header.topic) {
            return Err(invalid(format!("The topic[{}] is conflict with system topic.", header.topic)));
        }
        let old = self.topics.get(&header.topic);
        self.topics.put(requested_topic(header, old.as_deref())?).await?;
        Ok(answer(response::SUCCESS))
    }

    /// All of them or none.
    pub async fn create_or_update_list(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let mut list = TopicConfigList::parse(&request.body.to_bytes())?.topic_config_list;
        for topic in &mut list {
            if self.topics.is_system(&topic.topic_name) {
                return Err(invalid(format!(
                    "The topic[{}] is conflict with system topic.",
                    topic.topic_name
                )));
            }
            check_shape(&topic.topic_name, (topic.read_queue_nums, topic.write_queue_nums), topic.perm)?;
            let old = self.topics.get(&topic.topic_name);
            let current = old.as_ref().map(|old| &old.attributes);
            topic.attributes = attributes::alter(OF_TOPICS, current, &topic.attributes)?;
        }
        self.topics.put_all(list).await?;
        Ok(answer(response::SUCCESS))
    }

    pub fn all_topics(&self) -> RemotingCommand {
        answer(response::SUCCESS).with_body(self.topics.wrapper().to_json())
    }

    pub fn topic(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetTopicConfigHeader = request.header()?;
        let topic = self.topics.get(&header.topic).ok_or_else(|| {
            Refusal::new(
                response::TOPIC_NOT_EXIST,
                format!("No topic in this broker. topic: {}", header.topic),
            )
        })?;
        Ok(answer(response::SUCCESS).with_body(topic.to_json()))
    }

    pub fn system_topics(&self) -> RemotingCommand {
        let body = TopicList { broker_addr: None, topic_list: self.topics.system_topics() };
        answer(response::SUCCESS).with_body(body.to_json())
    }

    pub async fn create_or_update_group(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let mut group = SubscriptionGroupConfig::parse(&request.body.to_bytes())?;
        self.check_group(&mut group)?;
        self.groups.put(group).await?;
        Ok(answer(response::SUCCESS))
    }

    /// All of them or none.
    pub async fn create_or_update_groups(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let mut list = SubscriptionGroupList::parse(&request.body.to_bytes())?.group_config_list;
        for group in &mut list {
            self.check_group(group)?;
        }
        self.groups.put_all(list).await?;
        Ok(answer(response::SUCCESS))
    }

    /// Checks a group's name and turns what it says of attributes into those that it then has.
    fn check_group(&self, group: &mut SubscriptionGroupConfig) -> Result<()> {
        let name = &group.group_name;
        names::check_group(name).map_err(|error| invalid(format!("the name of the group {name} {error}")))?;
        let old = self.groups.get(name);
        let current = old.as_ref().map(|old| &old.attributes);
        group.attributes = attributes::alter(OF_GROUPS, current, &group.attributes)?;
        Ok(())
    }

    pub fn all_groups(&self) -> RemotingCommand {
        answer(response::SUCCESS).with_body(self.groups.wrapper().to_json())
    }

    /// Says whether a group may read a topic, after changing it if that is asked for.
    ///
    /// # Source
    /// apache/rocketmq 5.4, `AdminBrokerProcessor#updateAndGetGroupForbidden`.
    pub async fn group_forbidden(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let UpdateGroupForbiddenHeader { group, topic, readable } = request.header()?;
        if let Some(readable) = readable {
            names::check_group(&group)
                .map_err(|error| invalid(format!("the name of the group {group} {error}")))?;
            names::check_topic(&topic).map_err(|error| invalid(format!("the topic's name {error}")))?;
            self.groups.set_may_read(&group, &topic, readable).await?;
        }
        let readable = self.groups.may_read(&group, &topic);
        let body = GroupForbidden { group, readable, topic };
        Ok(answer(response::SUCCESS).with_remark("").with_body(body.to_json()))
    }

    pub fn group(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetSubscriptionGroupConfigHeader = request.header()?;
        let group = self.groups.get(&header.group).ok_or_else(|| {
            let remark = format!("No group in this broker. group: {}", header.group);
            Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
        })?;
        Ok(answer(response::SUCCESS).with_body(group.to_json()))
    }
}

fn check_shape(name: &str, (read, write): (i32, i32), perm: i32) -> Result<()> {
    names::check_topic(name).map_err(|error| invalid(format!("the topic's name {error}")))?;
    for (field, count) in [("readQueueNums", read), ("writeQueueNums", write)] {
        if !(0..=QUEUES_MAX).contains(&count) {
            return Err(invalid(format!("{field} must be from 0 to {QUEUES_MAX}, found {count}")));
        }
    }
    if perm & !(perm::READ | perm::WRITE | perm::INHERIT) != 0 {
        return Err(invalid(format!("perm must be a sum of 1, 2 and 4, found {perm}")));
    }
    Ok(())
}

/// The topic that UPDATE_AND_CREATE_TOPIC asks for.
fn requested_topic(header: CreateTopicHeader, old: Option<&TopicConfig>) -> Result<TopicConfig> {
    check_shape(&header.topic, (header.read_queue_nums, header.write_queue_nums), header.perm)?;
    let changes = attributes::parse(header.attributes.as_deref().unwrap_or_default())?;
    let attributes = attributes::alter(OF_TOPICS, old.map(|topic| &topic.attributes), &changes)?;
    Ok(TopicConfig {
        attributes,
        order: header.order,
        perm: header.perm,
        read_queue_nums: header.read_queue_nums,
        topic_filter_type: match header.topic_filter_type.as_str() {
            "MULTI_TAG" => TopicFilterType::MultiTag,
            _ => TopicFilterType::SingleTag,
        },
        topic_name: header.topic,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        write_queue_nums: header.write_queue_nums,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> CreateTopicHeader {
        CreateTopicHeader {
            topic: "T".to_owned(),
            read_queue_nums: 4,
            write_queue_nums: 4,
            perm: 6,
            ..Default::default()
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        let cases = [
            (CreateTopicHeader { topic: "a b".to_owned(), ..header() }, "name"),
            (CreateTopicHeader { read_queue_nums: -1, ..header() }, "readQueueNums"),
            (CreateTopicHeader { write_queue_nums: 1 << 20, ..header() }, "writeQueueNums"),
            (CreateTopicHeader { perm: 64, ..header() }, "perm"),
        ];
        for (header, word) in cases {
            let refusal = requested_topic(header, None).expect_err("refused");
            assert_eq!(refusal.code, response::INVALID_PARAMETER);
            assert!(refusal.remark.contains(word), "{} names {word}", refusal.remark);
        }
    }
}

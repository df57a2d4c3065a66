//! Requests of clients about themselves: heartbeats, leaving, who else is there, queue locks.
//! Codes 34, 35, 38, 41, 42, 46, 203 and 204; 40 goes the other way.

use std::sync::Arc;
use std::time::Duration;

use crate::config::ClientSettings;
use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    CheckClientRequestBody, Connection, ConsumerConnection, ConsumerData, ConsumerList, HeartbeatData,
    LockBatchRequestBody, LockBatchResponseBody, ProducerConnection,
};
use crate::remoting::codes::{request as codes, response};
use crate::remoting::connection::ConnectionHandle;
use crate::remoting::headers::{
    GetConsumerConnectionListHeader, GetConsumerListHeader, GetProducerConnectionListHeader,
    NotifyConsumerIdsChangedHeader, UnregisterClientHeader,
};
use crate::runtime::{Mono, Mutant, Runtime};

use super::client_table::{ChangedGroup, ClientTable, Consumption, Kind, Member};
use super::consumer_filters::ConsumerFilters;
use super::filter::is_tag_type;
use super::lock_table::LockTable;
use super::pull_message::filter_of;
use super::refusal::{Refusal, answer};
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{Topics, retry_topic};

type Result<T> = std::result::Result<T, Refusal>;

pub(crate) struct ClientRequests<R: Runtime> {
    pub rt: R,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub clients: Arc<ClientTable>,
    pub locks: Arc<LockTable>,
    pub filters: Arc<ConsumerFilters<R>>,
    pub property_filter: bool,
    pub settings: ClientSettings,
}

impl<R: Runtime> ClientRequests<R> {
    pub async fn heartbeat(
        &self,
        connection: &ConnectionHandle,
        request: &RemotingCommand,
    ) -> Result<RemotingCommand> {
        let heartbeat = HeartbeatData::parse(&request.body.to_bytes())?;
        let member = Member {
            connection: connection.clone(),
            client_id: heartbeat.client_id,
            language: request.language,
            version: request.version,
            last_heartbeat: self.rt.now(),
        };
        for consumer in heartbeat.consumer_data_set {
            self.consumer_heartbeat(&member, consumer, heartbeat.without_sub).await;
        }
        for producer in heartbeat.producer_data_set {
            self.clients.register_producer(&producer.group_name, member.clone());
        }
        Ok(answer(response::SUCCESS))
    }

    async fn consumer_heartbeat(&self, member: &Member, consumer: ConsumerData, without_subscriptions: bool) {
        let group = consumer.group_name;
        // A group that may not or cannot be created is still listed as live; its pulls are answered that it does not exist.
        if let Err(refusal) = self.prepare_group(&group, consumer.unit_mode).await {
            tracing::warn!(group, remark = refusal.remark, "prepare a group and its retry topic");
        }
        let consumption = Consumption {
            consume_type: consumer.consume_type,
            model: consumer.message_model,
            from_where: consumer.consume_from_where,
        };
        let subscriptions = (!without_subscriptions).then_some(consumer.subscription_data_set);
        if let Some(subscriptions) = &subscriptions {
            self.filters.register(&group, subscriptions);
        }
        let changed = self.clients.register_consumer(&group, member.clone(), consumption, subscriptions);
        self.notify(changed);
    }

    async fn prepare_group(&self, group: &str, unit: bool) -> Result<()> {
        if let Some(config) = self.groups.get_or_create(group).await? {
            let retry = retry_topic(group, config.retry_queue_nums.max(1), unit);
            self.topics.create_if_absent(retry).await?;
        }
        Ok(())
    }

    pub fn unregister(
        &self,
        connection: &ConnectionHandle,
        request: &RemotingCommand,
    ) -> Result<RemotingCommand> {
        let header: UnregisterClientHeader = request.header()?;
        if let Some(group) = header.producer_group {
            self.clients.unregister(Kind::Producer, &group, connection.id());
        }
        if let Some(group) = header.consumer_group {
            let changed = self.clients.unregister(Kind::Consumer, &group, connection.id());
            self.notify(changed.filter(|_| !self.rt.mutant(Mutant::LeaverNotTold)));
            self.retire_filters();
        }
        Ok(answer(response::SUCCESS))
    }

    /// A connection has ended.
    pub fn closed(&self, connection: &ConnectionHandle) {
        for changed in self.clients.remove_connection(connection.id()) {
            self.notify(Some(changed));
        }
        self.retire_filters();
    }

    /// The filters of groups without members die.
    fn retire_filters(&self) {
        self.filters.retire(|group| self.clients.consumption(group).is_some());
    }

    /// Tells the members of a group to divide its queues anew. One that cannot be told finds out within 20 seconds.
    fn notify(&self, changed: Option<ChangedGroup>) {
        let Some(ChangedGroup { group, members }) = changed else { return };
        let wanted = self.groups.get(&group).is_none_or(|group| group.notify_consumer_ids_changed_enable);
        if !(wanted && self.settings.notify_changes) {
            return;
        }
        let header = NotifyConsumerIdsChangedHeader { consumer_group: group };
        for member in members {
            let notice = RemotingCommand::request(codes::NOTIFY_CONSUMER_IDS_CHANGED).with_header(&header);
            if let Err(error) = member.send_oneway(notice) {
                tracing::debug!(?member, %error, "notify of a changed group");
            }
        }
    }

    /// Closes the connections of clients that have been silent, and forgets old locks.
    pub fn expire(&self, now: Mono) {
        for connection in self.clients.expired(now, Duration::from_millis(self.settings.expiry_ms)) {
            connection.close("no heartbeat of its client");
        }
        self.locks.expire(now);
    }

    pub fn consumer_list(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetConsumerListHeader = request.header()?;
        let members = self.clients.members(Kind::Consumer, &header.consumer_group);
        if members.is_empty() {
            let remark = format!("no consumer for this group, {}", header.consumer_group);
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        }
        let consumer_id_list = members.into_iter().map(|member| member.client_id).collect();
        Ok(answer(response::SUCCESS).with_body(ConsumerList { consumer_id_list }.to_json()))
    }

    pub fn lock(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let body = LockBatchRequestBody::parse(&request.body.to_bytes())?;
        let now = self.rt.now();
        let locked = self.locks.lock(&body.consumer_group, &body.client_id, body.mq_set, now);
        let body = LockBatchResponseBody { lock_ok_mq_set: locked };
        Ok(answer(response::SUCCESS).with_body(body.to_json()))
    }

    pub fn unlock(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let body = LockBatchRequestBody::parse(&request.body.to_bytes())?;
        self.locks.unlock(&body.consumer_group, &body.client_id, &body.mq_set);
        Ok(answer(response::SUCCESS))
    }

    /// Whether a subscription would be served.
    pub fn check_config(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let body = CheckClientRequestBody::parse(&request.body.to_bytes())?;
        let data = body.subscription_data;
        if !is_tag_type(Some(&data.expression_type)) {
            filter_of(Some(&data.expression_type), &data.sub_string, self.property_filter)?;
        }
        Ok(answer(response::SUCCESS))
    }

    pub fn consumer_connections(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetConsumerConnectionListHeader = request.header()?;
        let group = &header.consumer_group;
        let Some((consumption, subscriptions)) = self.clients.consumption(group) else {
            let remark = format!("the consumer group[{group}] not online");
            return Err(Refusal::new(response::CONSUMER_NOT_ONLINE, remark));
        };
        let body = ConsumerConnection {
            connection_set: self.connections(Kind::Consumer, group),
            consume_from_where: consumption.from_where,
            consume_type: consumption.consume_type,
            message_model: consumption.model,
            subscription_table: subscriptions.into_iter().map(|data| (data.topic.clone(), data)).collect(),
        };
        Ok(answer(response::SUCCESS).with_body(body.to_json()))
    }

    pub fn producer_connections(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetProducerConnectionListHeader = request.header()?;
        let connection_set = self.connections(Kind::Producer, &header.producer_group);
        if connection_set.is_empty() {
            let remark = format!("the producer group[{}] not exist", header.producer_group);
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        }
        Ok(answer(response::SUCCESS).with_body(ProducerConnection { connection_set }.to_json()))
    }

    fn connections(&self, kind: Kind, group: &str) -> Vec<Connection> {
        let members = self.clients.members(kind, group).into_iter();
        members
            .map(|member| Connection {
                client_addr: member.connection.peer().to_string(),
                client_id: member.client_id,
                language: member.language,
                version: member.version,
            })
            .collect()
    }
}

//! Which queues of a topic a member of a group consumes, for members that leave that to a broker (400), and whether a group
//! pulls or pops (401): here all pull.
//!
//! Members ask any broker of the topic, so what is given depends on the name servers' routes and the group's members alone,
//! as where members decide it themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::client::rebalance::AllocateStrategy;
use crate::client::{Route, RouteCache, RouteError};
use crate::remoting::RemotingCommand;
use crate::remoting::body::{
    MessageModel, MessageQueue, MessageQueueAssignment, MessageRequestMode, QueryAssignmentRequestBody,
    QueryAssignmentResponseBody, SetMessageRequestModeRequestBody,
};
use crate::remoting::codes::response;
use crate::remoting::peer::Peers;
use crate::runtime::{Mono, Runtime};

use super::client_table::{ClientTable, Kind};
use super::names;
use super::refusal::{Refusal, answer};
use super::subscription_group::SubscriptionGroups;
use super::topic_config::Topics;

type Result<T> = std::result::Result<T, Refusal>;

/// How long a route is believed: as long as Java's `loadBalancePollNameServerInterval`.
const ROUTE_LIFE: Duration = Duration::from_secs(30);
/// How long a name server may take: members wait three seconds for a broker.
const ROUTE_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Assignments<R: Runtime> {
    rt: R,
    routes: RouteCache<R>,
    /// When the route of a topic was last asked for with success.
    asked: Mutex<BTreeMap<String, Mono>>,
    topics: Arc<Topics<R>>,
    groups: Arc<SubscriptionGroups<R>>,
    clients: Arc<ClientTable>,
}

impl<R: Runtime> Assignments<R> {
    pub fn new(
        rt: R,
        peers: Peers<R>,
        name_servers: &str,
        topics: Arc<Topics<R>>,
        groups: Arc<SubscriptionGroups<R>>,
        clients: Arc<ClientTable>,
    ) -> Self {
        let parts = name_servers.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
        let routes = RouteCache::new(&rt, peers, parts.map(str::to_owned).collect(), ROUTE_PATIENCE);
        Assignments { rt, routes, asked: Mutex::default(), topics, groups, clients }
    }

    /// # Source
    /// apache/rocketmq 5.3, `QueryAssignmentProcessor#queryAssignment`.
    pub async fn query(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let asked = QueryAssignmentRequestBody::parse(&request.body.to_bytes())?;
        let given = self.given(&asked).await.map(|queues| {
            let mode = MessageRequestMode::Pull;
            queues.into_iter().map(|message_queue| MessageQueueAssignment { message_queue, mode }).collect()
        });
        let body = QueryAssignmentResponseBody { message_queue_assignments: given };
        Ok(answer(response::SUCCESS).with_body(body.to_json()))
    }

    /// `None` when it cannot be said: none of its queues and none that is known are not the same.
    async fn given(&self, asked: &QueryAssignmentRequestBody) -> Option<Vec<MessageQueue>> {
        let route = self.route(&asked.topic).await?;
        if asked.message_model == MessageModel::Broadcasting {
            return Some(route.subscribe.clone());
        }
        let strategy = match asked.strategy_name.as_str() {
            "AVG" => AllocateStrategy::Average,
            "AVG_BY_CIRCLE" => AllocateStrategy::AverageByCircle,
            other => {
                tracing::warn!(strategy = other, group = asked.consumer_group, "this strategy is not known");
                return None;
            }
        };
        let members = self.clients.members(Kind::Consumer, &asked.consumer_group);
        if members.is_empty() || route.subscribe.is_empty() {
            return None;
        }
        let client_ids: Vec<String> = members.into_iter().map(|member| member.client_id).collect();
        Some(strategy.allocate(&asked.client_id, &route.subscribe, &client_ids))
    }

    /// The route of a topic on all its brokers; an old one while no name server answers.
    async fn route(&self, topic: &str) -> Option<Arc<Route>> {
        let now = self.rt.now();
        let last = self.asked().get(topic).copied();
        let known = last.and_then(|_| self.routes.known(topic));
        if last.is_some_and(|last| now.since(last) < ROUTE_LIFE) && known.is_some() {
            return known;
        }
        match self.routes.refresh(topic).await {
            Ok(route) => {
                self.asked().insert(topic.to_owned(), now);
                Some(route)
            }
            Err(RouteError::UnknownTopic { .. }) => {
                self.asked().remove(topic);
                None
            }
            Err(error) => {
                tracing::warn!(topic, %error, "ask for a route");
                known
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<String, Mono>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is kept: pulling is what all groups do.
    ///
    /// # Source
    /// apache/rocketmq 5.3, `QueryAssignmentProcessor#setMessageRequestMode`.
    pub async fn set_mode(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let wanted = SetMessageRequestModeRequestBody::parse(&request.body.to_bytes())?;
        let topic = &wanted.topic;
        if topic.starts_with(names::RETRY_PREFIX) {
            return Err(Refusal::new(response::NO_PERMISSION, "retry topic is not allowed to set mode"));
        }
        if !self.topics.contains(topic) {
            return Err(Refusal::new(response::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
        }
        if self.groups.get_or_create(&wanted.consumer_group).await?.is_none() {
            let remark = "subscription group does not exist";
            return Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        match wanted.mode {
            MessageRequestMode::Pull => Ok(answer(response::SUCCESS)),
            MessageRequestMode::Pop => {
                let remark = "the mode POP is not supported by this version; the group goes on pulling";
                Err(Refusal::new(response::INVALID_PARAMETER, remark))
            }
        }
    }
}

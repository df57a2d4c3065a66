//! Live clients: which connections belong to which producer and consumer groups, and what consumers subscribe to.
//!
//! A client is here from its heartbeat until its connection ends, it unregisters, or its heartbeats stop. Groups are
//! in memory only: after a restart of the broker every client sends its heartbeat again.
//!
//! Invariant: a connection listed under a group is listed under `by_connection` with that group, and the reverse.
//! Invariant: `by_client` has a connection and group exactly for each producer, under the id that its client gave last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::filter::TagFilter;
use crate::remoting::body::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};
use crate::remoting::connection::ConnectionHandle;
use crate::remoting::language::LanguageCode;
use crate::runtime::Mono;

/// Producer or consumer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Producer,
    Consumer,
}

/// One client of a group, on one connection.
#[derive(Clone)]
pub(crate) struct Member {
    pub connection: ConnectionHandle,
    pub client_id: String,
    pub language: LanguageCode,
    pub version: i32,
    pub last_heartbeat: Mono,
}

/// What a group wants of one topic.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub data: SubscriptionData,
    pub filter: TagFilter,
}

impl Subscription {
    pub fn new(data: SubscriptionData) -> Subscription {
        // From the expression, not from the hashes beside it: one client sends zeros there.
        let filter = TagFilter::parse(&data.sub_string)
            .unwrap_or_else(|_| TagFilter::from_codes(data.code_set.iter().copied().collect()));
        Subscription { data, filter }
    }
}

/// How a group consumes, by its last heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Consumption {
    pub consume_type: ConsumeType,
    pub model: MessageModel,
    pub from_where: ConsumeFromWhere,
}

/// What a pull needs to know of its group.
pub(crate) struct LiveGroup {
    pub model: MessageModel,
    pub subscription: Option<Arc<Subscription>>,
}

struct ConsumerGroup {
    consumption: Consumption,
    subscriptions: BTreeMap<String, Arc<Subscription>>,
    members: BTreeMap<u64, Member>,
}

#[derive(Default)]
struct Tables {
    producers: BTreeMap<String, BTreeMap<u64, Member>>,
    consumers: BTreeMap<String, ConsumerGroup>,
    by_connection: BTreeMap<u64, BTreeSet<(Kind, String)>>,
    /// Producers by the id of their client: connections and groups.
    by_client: BTreeMap<String, BTreeSet<(u64, String)>>,
}

#[derive(Default)]
pub(crate) struct ClientTable(Mutex<Tables>);

/// A group whose members are to be told that it has changed.
pub(crate) struct ChangedGroup {
    pub group: String,
    pub members: Vec<ConnectionHandle>,
}

impl ClientTable {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn register_producer(&self, group: &str, member: Member) {
        let mut tables = self.tables();
        let id = member.connection.id();
        let place = (id, group.to_owned());
        tables.by_client.entry(member.client_id.clone()).or_default().insert(place);
        let client_id = member.client_id.clone();
        let before = tables.producers.entry(group.to_owned()).or_default().insert(id, member);
        if let Some(before) = before.filter(|before| before.client_id != client_id) {
            tables.forget_client(&before.client_id, id, group);
        }
        tables.remember(id, Kind::Producer, group);
    }

    /// The newest connection over which a client with this id has said that it produces.
    pub fn producer(&self, client_id: &str) -> Option<ConnectionHandle> {
        let tables = self.tables();
        let (id, group) = tables.by_client.get(client_id)?.last()?;
        Some(tables.producers.get(group)?.get(id)?.connection.clone())
    }

    /// Takes in a consumer's heartbeat; without subscriptions the last ones stay. Says whom to tell when members or
    /// subscribed topics have changed.
    pub fn register_consumer(
        &self,
        group: &str,
        member: Member,
        consumption: Consumption,
        subscriptions: Option<Vec<SubscriptionData>>,
    ) -> Option<ChangedGroup> {
        let mut tables = self.tables();
        let id = member.connection.id();
        tables.remember(id, Kind::Consumer, group);
        let entry = tables.consumers.entry(group.to_owned()).or_insert_with(|| ConsumerGroup {
            consumption,
            subscriptions: BTreeMap::new(),
            members: BTreeMap::new(),
        });
        entry.consumption = consumption;
        let joined = entry.members.insert(id, member).is_none();
        let resubscribed = subscriptions.is_some_and(|subscriptions| entry.subscribe(subscriptions));
        (joined || resubscribed).then(|| entry.changed(group)).flatten()
    }

    pub fn unregister(&self, kind: Kind, group: &str, connection: u64) -> Option<ChangedGroup> {
        let mut tables = self.tables();
        if let Some(groups) = tables.by_connection.get_mut(&connection) {
            groups.remove(&(kind, group.to_owned()));
            if groups.is_empty() {
                tables.by_connection.remove(&connection);
            }
        }
        tables.leave(kind, group, connection)
    }

    /// Forgets a connection that has ended.
    pub fn remove_connection(&self, connection: u64) -> Vec<ChangedGroup> {
        let mut tables = self.tables();
        let groups = tables.by_connection.remove(&connection).unwrap_or_default();
        groups.into_iter().filter_map(|(kind, group)| tables.leave(kind, &group, connection)).collect()
    }

    /// Connections whose last heartbeat in some group is older than `life`; closing them removes them here.
    pub fn expired(&self, now: Mono, life: Duration) -> Vec<ConnectionHandle> {
        let tables = self.tables();
        let consumers = tables.consumers.values().flat_map(|group| group.members.values());
        let members = tables.producers.values().flat_map(BTreeMap::values).chain(consumers);
        let mut expired = BTreeMap::new();
        for member in members.filter(|member| now.since(member.last_heartbeat) > life) {
            expired.insert(member.connection.id(), member.connection.clone());
        }
        expired.into_values().collect()
    }

    /// What a pull of `group` from `topic` needs; `None` when the group has no live member.
    pub fn live_group(&self, group: &str, topic: &str) -> Option<LiveGroup> {
        let tables = self.tables();
        let entry = tables.consumers.get(group)?;
        Some(LiveGroup {
            model: entry.consumption.model,
            subscription: entry.subscriptions.get(topic).cloned(),
        })
    }

    pub fn members(&self, kind: Kind, group: &str) -> Vec<Member> {
        let tables = self.tables();
        let members = match kind {
            Kind::Producer => tables.producers.get(group),
            Kind::Consumer => tables.consumers.get(group).map(|entry| &entry.members),
        };
        members.map(|members| members.values().cloned().collect()).unwrap_or_default()
    }

    /// The producers by group.
    pub fn producers(&self) -> Vec<(String, Vec<Member>)> {
        let tables = self.tables();
        let groups = tables.producers.iter();
        groups.map(|(group, members)| (group.clone(), members.values().cloned().collect())).collect()
    }

    /// The live groups that subscribe to `topic`.
    pub fn groups_of_topic(&self, topic: &str) -> Vec<String> {
        let tables = self.tables();
        let groups = tables.consumers.iter().filter(|(_, entry)| entry.subscriptions.contains_key(topic));
        groups.map(|(group, _)| group.clone()).collect()
    }

    /// How a group consumes and what, `None` when it has no live member.
    pub fn consumption(&self, group: &str) -> Option<(Consumption, Vec<SubscriptionData>)> {
        let tables = self.tables();
        let entry = tables.consumers.get(group)?;
        let subscriptions = entry.subscriptions.values().map(|subscription| subscription.data.clone());
        Some((entry.consumption, subscriptions.collect()))
    }
}

impl Tables {
    fn remember(&mut self, connection: u64, kind: Kind, group: &str) {
        let groups = self.by_connection.entry(connection).or_default();
        if !groups.contains(&(kind, group.to_owned())) {
            groups.insert((kind, group.to_owned()));
        }
    }

    fn forget_client(&mut self, client_id: &str, connection: u64, group: &str) {
        if let Some(places) = self.by_client.get_mut(client_id) {
            places.remove(&(connection, group.to_owned()));
            if places.is_empty() {
                self.by_client.remove(client_id);
            }
        }
    }

    fn leave(&mut self, kind: Kind, group: &str, connection: u64) -> Option<ChangedGroup> {
        match kind {
            Kind::Producer => {
                let members = self.producers.get_mut(group)?;
                let member = members.remove(&connection)?;
                if members.is_empty() {
                    self.producers.remove(group);
                }
                self.forget_client(&member.client_id, connection, group);
                None
            }
            Kind::Consumer => {
                let entry = self.consumers.get_mut(group)?;
                entry.members.remove(&connection)?;
                let changed = entry.changed(group);
                if entry.members.is_empty() {
                    self.consumers.remove(group);
                }
                changed
            }
        }
    }
}

impl ConsumerGroup {
    /// Whether topics came or went. A newer version of a known one replaces it silently.
    ///
    /// # Source
    /// apache/rocketmq, `ConsumerGroupInfo#updateSubscription`.
    fn subscribe(&mut self, subscriptions: Vec<SubscriptionData>) -> bool {
        let topics: BTreeSet<String> = subscriptions.iter().map(|data| data.topic.clone()).collect();
        let mut changed = false;
        for data in subscriptions {
            match self.subscriptions.get(&data.topic) {
                Some(old) if data.sub_version <= old.data.sub_version => continue,
                Some(_) => {}
                None => changed = true,
            }
            self.subscriptions.insert(data.topic.clone(), Arc::new(Subscription::new(data)));
        }
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| topics.contains(topic));
        changed || self.subscriptions.len() != before
    }

    /// Whom to tell; nobody in a broadcasting group, where each member consumes everything anyway.
    fn changed(&self, group: &str) -> Option<ChangedGroup> {
        if self.consumption.model == MessageModel::Broadcasting || self.members.is_empty() {
            return None;
        }
        let members = self.members.values().map(|member| member.connection.clone()).collect();
        Some(ChangedGroup { group: group.to_owned(), members })
    }
}

//! Who serves what: the tables that brokers fill and clients ask.
//!
//! A pure type: the moment, the connection and the settings are arguments. Registration follows the rules of
//! `register` one by one; what clients are told is put together in `route_query`.
//!
//! Not here: KV configuration (`kv_config`), the wire, the clock.
//!
//! Invariant: a broker id of a group belongs to one address, the live one of the highest epoch (bug history N-05).
//! Invariant: a removal takes away the address it names and nothing else, so the late farewell of an old master leaves
//! its successor alone (N-02).
//! Invariant: a version is kept only together with the whole topic table it stands for (N-01).

use std::collections::{BTreeMap, BTreeSet};

use super::broker_live::{BrokerKey, BrokerLive, LiveTable};
use crate::remoting::body::{BrokerData, DataVersion, PERM_READ, PERM_WRITE, QueueData, TopicConfig};
use crate::runtime::Mono;

/// Id of the master in each group.
pub const MASTER_ID: i64 = 0;
/// How long a broker that names no limit may be silent.
pub const BROKER_TIMEOUT_MS: u64 = 120_000;

/// What one REGISTER_BROKER says.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    pub cluster: &'a str,
    pub broker_name: &'a str,
    pub broker_id: i64,
    /// `host:port` for clients.
    pub addr: &'a str,
    /// `host:port` for replication.
    pub ha_addr: &'a str,
    pub timeout_ms: Option<u64>,
    /// Absent from brokers before 5.0.
    pub enable_acting_master: Option<bool>,
    pub zone_name: Option<&'a str>,
    pub version: &'a DataVersion,
    pub topics: &'a BTreeMap<String, TopicConfig>,
    pub filter_servers: &'a [String],
    pub connection: u64,
}

/// Settings that change the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterRules {
    /// A whole table also takes away the topics that it lacks.
    pub delete_missing_topics: bool,
}

/// What became of a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registered {
    Accepted {
        /// For a slave whose master is alive: the master's replication address and client address.
        master: Option<(String, String)>,
        min_id_change: Option<MinIdChange>,
    },
    /// The broker id belongs to a live master of a higher epoch; the caller is told success and nothing else.
    Superseded,
    /// A single topic of a broker that is not known: it must register whole first.
    Refused,
}

/// The smallest id of a group is another one than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MinIdChange {
    pub broker_name: String,
    pub min_id: i64,
    pub min_addr: String,
    /// Who left, when somebody did.
    pub offline_addr: Option<String>,
    /// Replication address of the smallest id.
    pub ha_addr: Option<String>,
    /// Connections of the members to tell.
    pub tell: Vec<u64>,
}

/// All routes.
#[derive(Default)]
pub struct RouteInfo {
    /// Topic, broker name.
    pub(super) topics: BTreeMap<String, BTreeMap<String, QueueData>>,
    pub(super) groups: BTreeMap<String, BrokerData>,
    /// Cluster, broker names.
    pub(super) clusters: BTreeMap<String, BTreeSet<String>>,
    pub(super) live: LiveTable,
    pub(super) filter_servers: BTreeMap<BrokerKey, Vec<String>>,
}

impl RouteInfo {
    /// Takes a registration in, or says why not. The steps and their order are Java's, with three differences: what is
    /// refused changes nothing, only a whole table carries its version (a single topic moves it by one step at most), and a
    /// single topic older than the table is not taken.
    ///
    /// # Source
    /// apache/rocketmq 5.x, `RouteInfoManager#registerBroker`.
    pub fn register(&mut self, from: &Registration<'_>, rules: RegisterRules, now: Mono) -> Registered {
        let key = BrokerKey { cluster: from.cluster.to_owned(), addr: from.addr.to_owned() };
        self.leave_former_group(&key, from.broker_name);
        if let Some(group) = self.groups.get_mut(from.broker_name) {
            // A slave that became master keeps one entry.
            group.broker_addrs.retain(|id, addr| *id == from.broker_id || addr != from.addr);
        }
        if self.higher_epoch_owns(from, now) {
            self.live.remove(&key);
            return Registered::Superseded;
        }
        let before = self.groups.get(from.broker_name).map(|group| &group.broker_addrs);
        let min_before = before.and_then(|addrs| addrs.keys().next().copied());
        let known = before.is_some_and(|addrs| addrs.contains_key(&from.broker_id));
        if !known && from.topics.len() == 1 {
            return Registered::Refused;
        }

        self.clusters.entry(from.cluster.to_owned()).or_default().insert(from.broker_name.to_owned());
        let group = self.groups.entry(from.broker_name.to_owned()).or_insert_with(|| BrokerData {
            cluster: from.cluster.to_owned(),
            broker_name: from.broker_name.to_owned(),
            ..BrokerData::default()
        });
        group.enable_acting_master = from.enable_acting_master.unwrap_or(false);
        group.zone_name = from.zone_name.map(str::to_owned);
        group.broker_addrs.insert(from.broker_id, from.addr.to_owned());
        let min_id = *group.broker_addrs.keys().next().expect("an address was just put in");

        let prime_slave = from.enable_acting_master.is_some() && from.broker_id == min_id;
        if from.broker_id == MASTER_ID || prime_slave {
            self.take_topics(from, &key, !known, rules);
        }
        let version = self.version_held(from, &key);
        self.live.insert(
            key.clone(),
            BrokerLive {
                broker_name: from.broker_name.to_owned(),
                last_seen: now,
                timeout_ms: from.timeout_ms.unwrap_or(BROKER_TIMEOUT_MS),
                version,
                state_version: from.version.state_version,
                connection: from.connection,
                ha_addr: from.ha_addr.to_owned(),
            },
        );
        if from.filter_servers.is_empty() {
            self.filter_servers.remove(&key);
        } else {
            self.filter_servers.insert(key, from.filter_servers.to_vec());
        }
        let min_id_change =
            (min_before != Some(min_id)).then(|| self.min_id_change(from.broker_name, None, None)).flatten();
        Registered::Accepted { master: self.live_master_of(from, now), min_id_change }
    }

    /// As [`Self::register`], but a single topic of an unknown broker gives the whole table its version, and a whole table of a
    /// version that is held has nothing new: the planted bug `PartialRegistrationIsWhole`.
    pub fn register_trusting(
        &mut self,
        from: &Registration<'_>,
        rules: RegisterRules,
        now: Mono,
    ) -> Registered {
        if from.topics.len() > 1 && self.version_of(from.cluster, from.addr) == Some(from.version) {
            return self.register(&Registration { topics: &BTreeMap::new(), ..*from }, rules, now);
        }
        let group = self.groups.entry(from.broker_name.to_owned()).or_insert_with(|| BrokerData {
            cluster: from.cluster.to_owned(),
            broker_name: from.broker_name.to_owned(),
            ..BrokerData::default()
        });
        let known = group.broker_addrs.insert(from.broker_id, from.addr.to_owned()).is_some();
        let registered = self.register(from, rules, now);
        let key = BrokerKey { cluster: from.cluster.to_owned(), addr: from.addr.to_owned() };
        if let Some(mut live) = self.live.remove(&key) {
            let version = if known { live.version } else { Some(from.version.clone()) };
            live.version = version;
            self.live.insert(key, live);
        }
        registered
    }

    /// What was registered last, be it a single topic, gives the whole table its version, whatever was missed before: the
    /// planted bug `SingleTopicMovesVersion`.
    pub fn move_version(&mut self, from: &Registration<'_>) {
        let key = BrokerKey { cluster: from.cluster.to_owned(), addr: from.addr.to_owned() };
        if let Some(mut live) = self.live.remove(&key) {
            live.version = Some(from.version.clone());
            self.live.insert(key, live);
        }
    }

    /// Removes one broker by its address. Other addresses of the group, the new owner of its id among them, stay.
    /// An unknown broker is no error.
    pub fn unregister(&mut self, cluster: &str, broker_name: &str, addr: &str) -> Option<MinIdChange> {
        let key = BrokerKey { cluster: cluster.to_owned(), addr: addr.to_owned() };
        let live = self.live.remove(&key);
        self.filter_servers.remove(&key);
        let group = self.groups.get_mut(broker_name)?;
        let min_before = group.broker_addrs.keys().next().copied();
        group.broker_addrs.retain(|_, a| a != addr);
        if group.broker_addrs.is_empty() {
            let cluster = group.cluster.clone();
            self.remove_group(&cluster, broker_name);
            return None;
        }
        let (min_after, acting) = (group.broker_addrs.keys().next().copied(), group.enable_acting_master);
        if acting && !group.broker_addrs.contains_key(&MASTER_ID) {
            self.change_perm(broker_name, |perm| perm & !PERM_WRITE);
        }
        if min_before == min_after {
            return None;
        }
        let ha_addr = live.map(|live| live.ha_addr);
        self.min_id_change(broker_name, Some(addr.to_owned()), ha_addr)
    }

    /// Removes the brokers that a connection spoke for when it ended.
    pub fn connection_closed(&mut self, connection: u64) -> Vec<(BrokerKey, Option<MinIdChange>)> {
        let keys = self.live.closed(connection);
        keys.into_iter().map(|key| self.remove_live(key)).collect()
    }

    /// Removes the brokers that were silent for too long; the caller closes their connections (the last value).
    pub fn expire(&mut self, now: Mono) -> Vec<(BrokerKey, Option<MinIdChange>, u64)> {
        let silent = self.silent(now);
        self.remove_silent(silent)
    }

    /// The brokers that were silent for too long, each with the connection that it was last heard on.
    #[must_use]
    pub fn silent(&self, now: Mono) -> Vec<(BrokerKey, u64)> {
        self.live.expired(now)
    }

    /// Removes them.
    pub fn remove_silent(
        &mut self,
        silent: Vec<(BrokerKey, u64)>,
    ) -> Vec<(BrokerKey, Option<MinIdChange>, u64)> {
        silent
            .into_iter()
            .map(|(key, connection)| {
                let (key, change) = self.remove_live(key);
                (key, change, connection)
            })
            .collect()
    }

    /// A sign of life without a table (QUERY_DATA_VERSION, BROKER_HEARTBEAT). `false` when the broker is not registered.
    pub fn heard(&mut self, cluster: &str, addr: &str, now: Mono, connection: u64) -> bool {
        self.live.heard(&BrokerKey { cluster: cluster.to_owned(), addr: addr.to_owned() }, now, connection)
    }

    /// The version of the whole table that we hold of a broker.
    #[must_use]
    pub fn version_of(&self, cluster: &str, addr: &str) -> Option<&DataVersion> {
        self.live.get(&BrokerKey { cluster: cluster.to_owned(), addr: addr.to_owned() })?.version.as_ref()
    }

    /// Takes the write permission from every queue of a broker; returns from how many topics.
    pub fn wipe_write_perm(&mut self, broker_name: &str) -> usize {
        self.change_perm(broker_name, |perm| perm & !PERM_WRITE)
    }

    /// Makes every queue of a broker readable and writable; returns of how many topics.
    pub fn add_write_perm(&mut self, broker_name: &str) -> usize {
        self.change_perm(broker_name, |_| PERM_READ | PERM_WRITE)
    }

    /// Forgets a topic, everywhere or on the brokers of one cluster.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            return;
        };
        let Some(names) = self.clusters.get(cluster) else {
            return;
        };
        if let Some(queues) = self.topics.get_mut(topic) {
            queues.retain(|broker, _| !names.contains(broker));
            if queues.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Adds queues of a topic by hand; those of unknown brokers are passed over.
    pub fn register_topic(&mut self, topic: &str, queues: &[QueueData]) {
        for queue in queues {
            if self.groups.contains_key(&queue.broker_name) {
                let brokers = self.topics.entry(topic.to_owned()).or_default();
                brokers.insert(queue.broker_name.clone(), queue.clone());
            }
        }
    }

    /// A broker that comes back under another group name leaves the old one.
    fn leave_former_group(&mut self, key: &BrokerKey, broker_name: &str) {
        let former = self.live.get(key).map(|live| live.broker_name.clone());
        if let Some(former) = former.filter(|former| former != broker_name) {
            self.unregister(&key.cluster, &former, &key.addr);
        }
    }

    fn higher_epoch_owns(&self, from: &Registration<'_>, now: Mono) -> bool {
        let Some(group) = self.groups.get(from.broker_name) else {
            return false;
        };
        let Some(owner) = group.broker_addrs.get(&from.broker_id).filter(|owner| *owner != from.addr) else {
            return false;
        };
        let key = BrokerKey { cluster: group.cluster.clone(), addr: owner.clone() };
        self.live
            .get(&key)
            .is_some_and(|live| live.is_alive(now) && live.state_version > from.version.state_version)
    }

    fn take_topics(&mut self, from: &Registration<'_>, key: &BrokerKey, first: bool, rules: RegisterRules) {
        let held = self.live.get(key).and_then(|live| live.version.as_ref());
        let changed = first || held != Some(from.version);
        let single = from.topics.len() == 1;
        if single {
            // Overtaken on another connection by the table that already holds a later state of this topic.
            let late = held.is_some_and(|held| {
                held.state_version == from.version.state_version
                    && held.counter > from.version.counter
                    && held.timestamp >= from.version.timestamp
            });
            if late {
                return;
            }
        }
        let acting = from.broker_id != MASTER_ID && from.enable_acting_master == Some(true);
        for (topic, config) in from.topics {
            let lacking =
                !self.topics.get(topic).is_some_and(|brokers| brokers.contains_key(from.broker_name));
            if changed || lacking {
                let perm = if acting { config.perm & !PERM_WRITE } else { config.perm };
                self.topics.entry(topic.clone()).or_default().insert(
                    from.broker_name.to_owned(),
                    QueueData {
                        broker_name: from.broker_name.to_owned(),
                        read_queue_nums: config.read_queue_nums,
                        write_queue_nums: config.write_queue_nums,
                        perm,
                        topic_sys_flag: config.topic_sys_flag,
                    },
                );
            }
        }
        if rules.delete_missing_topics && from.topics.len() > 1 && changed {
            self.topics.retain(|topic, brokers| {
                if !from.topics.contains_key(topic) {
                    brokers.remove(from.broker_name);
                }
                !brokers.is_empty()
            });
        }
    }

    /// The version that the table now stands for. A broker sends a single changed topic together with its current version:
    /// that makes a whole table of the next version only when we held the whole one before. After a missed change, or
    /// after our restart, the version stays what it was, so the broker is asked for everything.
    fn version_held(&self, from: &Registration<'_>, key: &BrokerKey) -> Option<DataVersion> {
        if from.topics.len() > 1 {
            return Some(from.version.clone());
        }
        let held = self.live.get(key)?.version.as_ref()?;
        let next = held.state_version == from.version.state_version
            && held.counter.checked_add(1) == Some(from.version.counter)
            && from.topics.len() == 1;
        Some(if next { from.version.clone() } else { held.clone() })
    }

    fn live_master_of(&self, from: &Registration<'_>, now: Mono) -> Option<(String, String)> {
        if from.broker_id == MASTER_ID {
            return None;
        }
        let group = self.groups.get(from.broker_name)?;
        let addr = group.broker_addrs.get(&MASTER_ID)?;
        let key = BrokerKey { cluster: group.cluster.clone(), addr: addr.clone() };
        let live = self.live.get(&key).filter(|live| live.is_alive(now))?;
        Some((live.ha_addr.clone(), addr.clone()))
    }

    fn remove_live(&mut self, key: BrokerKey) -> (BrokerKey, Option<MinIdChange>) {
        let name = self.live.get(&key).map(|live| live.broker_name.clone());
        let change = name.and_then(|name| self.unregister(&key.cluster, &name, &key.addr));
        (key, change)
    }

    fn remove_group(&mut self, cluster: &str, broker_name: &str) {
        self.groups.remove(broker_name);
        if let Some(names) = self.clusters.get_mut(cluster) {
            names.remove(broker_name);
            if names.is_empty() {
                self.clusters.remove(cluster);
            }
        }
        self.topics.retain(|_, brokers| {
            brokers.remove(broker_name);
            !brokers.is_empty()
        });
    }

    fn change_perm(&mut self, broker_name: &str, change: impl Fn(i32) -> i32) -> usize {
        let mut count = 0;
        for brokers in self.topics.values_mut() {
            if let Some(queue) = brokers.get_mut(broker_name) {
                queue.perm = change(queue.perm);
                count += 1;
            }
        }
        count
    }

    /// Somebody left: all that remain are told; somebody came: all but the new smallest itself, unless it is alone.
    fn min_id_change(
        &self,
        broker_name: &str,
        offline_addr: Option<String>,
        ha_addr: Option<String>,
    ) -> Option<MinIdChange> {
        let group = self.groups.get(broker_name)?;
        let (min_id, min_addr) = group.broker_addrs.iter().next()?;
        let live =
            |addr: &String| self.live.get(&BrokerKey { cluster: group.cluster.clone(), addr: addr.clone() });
        let everybody = offline_addr.is_some() || group.broker_addrs.len() == 1;
        let tell = group
            .broker_addrs
            .iter()
            .filter(|(id, _)| everybody || *id != min_id)
            .filter_map(|(_, addr)| live(addr).map(|live| live.connection))
            .collect();
        Some(MinIdChange {
            broker_name: broker_name.to_owned(),
            min_id: *min_id,
            min_addr: min_addr.clone(),
            offline_addr,
            ha_addr: ha_addr.or_else(|| live(min_addr).map(|live| live.ha_addr.clone())),
            tell,
        })
    }
}

#[cfg(test)]
mod tests;

//! What clients and tools are told, put together from the tables.

use std::collections::{BTreeMap, BTreeSet};

use super::broker_live::BrokerKey;
use super::route_info::{MASTER_ID, RouteInfo};
use crate::remoting::body::{BrokerData, ClusterInfo, PERM_WRITE, TopicList, TopicRouteData};

/// Bit 0 of `topicSysFlag`: the topic belongs to a unit.
const FLAG_UNIT: i32 = 0x1;
/// Bit 1: a unit subscribes to it.
const FLAG_UNIT_SUB: i32 = 0x2;

/// Which topics a unit list wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitKind {
    /// GET_UNIT_TOPIC_LIST.
    Unit,
    /// GET_HAS_UNIT_SUB_TOPIC_LIST.
    HasUnitSub,
    /// GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST.
    HasUnitSubNotUnit,
}

impl UnitKind {
    fn matches(self, flag: i32) -> bool {
        let (unit, sub) = (flag & FLAG_UNIT != 0, flag & FLAG_UNIT_SUB != 0);
        match self {
            UnitKind::Unit => unit,
            UnitKind::HasUnitSub => sub,
            UnitKind::HasUnitSubNotUnit => sub && !unit,
        }
    }
}

impl RouteInfo {
    /// The brokers and queues of a topic; `None` unless there is at least one of both. With `acting_master`, the smallest id
    /// of a group that lost its master stands in for it, where the group allows that.
    #[must_use]
    pub fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRouteData> {
        let queues = self.topics.get(topic)?;
        let mut brokers = Vec::new();
        let mut filter_servers = BTreeMap::new();
        for (name, queue) in queues {
            let Some(group) = self.groups.get(name) else {
                continue;
            };
            for addr in group.broker_addrs.values() {
                let key = BrokerKey { cluster: group.cluster.clone(), addr: addr.clone() };
                if let Some(list) = self.filter_servers.get(&key) {
                    filter_servers.insert(addr.clone(), list.clone());
                }
            }
            let mut group = group.clone();
            if acting_master && queue.perm & PERM_WRITE == 0 {
                stand_in_for_master(&mut group);
            }
            brokers.push(group);
        }
        if brokers.is_empty() {
            return None;
        }
        Some(TopicRouteData {
            queue_datas: queues.values().cloned().collect(),
            broker_datas: brokers,
            filter_server_table: filter_servers,
            ..TopicRouteData::default()
        })
    }

    #[must_use]
    pub fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo { broker_addr_table: self.groups.clone(), cluster_addr_table: self.clusters.clone() }
    }

    /// The addresses of one group.
    #[must_use]
    pub fn member_group(&self, broker_name: &str) -> Option<&BrokerData> {
        self.groups.get(broker_name)
    }

    #[must_use]
    pub fn all_topics(&self) -> TopicList {
        topic_list(self.topics.keys().cloned().collect(), None)
    }

    #[must_use]
    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let none = BTreeSet::new();
        let names = self.clusters.get(cluster).unwrap_or(&none);
        let topics =
            self.topics.iter().filter(|(_, brokers)| brokers.keys().any(|name| names.contains(name)));
        topic_list(topics.map(|(topic, _)| topic.clone()).collect(), None)
    }

    /// Names that are topics by themselves: clusters and brokers; with any one broker's address.
    #[must_use]
    pub fn system_topics(&self) -> TopicList {
        let mut topics = Vec::new();
        for (cluster, names) in &self.clusters {
            topics.push(cluster.clone());
            topics.extend(names.iter().cloned());
        }
        let addr = self.groups.values().find_map(|group| group.broker_addrs.values().next());
        topic_list(topics, addr.cloned())
    }

    #[must_use]
    pub fn unit_topics(&self, kind: UnitKind) -> TopicList {
        let topics = self.topics.iter().filter(|(_, brokers)| {
            brokers.values().next().is_some_and(|queue| kind.matches(queue.topic_sys_flag))
        });
        topic_list(topics.map(|(topic, _)| topic.clone()).collect(), None)
    }
}

fn stand_in_for_master(group: &mut BrokerData) {
    if !group.enable_acting_master || group.broker_addrs.contains_key(&MASTER_ID) {
        return;
    }
    if let Some((_, addr)) = group.broker_addrs.pop_first() {
        group.broker_addrs.insert(MASTER_ID, addr);
    }
}

fn topic_list(topics: Vec<String>, broker_addr: Option<String>) -> TopicList {
    TopicList { topic_list: topics, broker_addr }
}

//! Who holds which queue on a cluster that has settled, as members say; what they were given is held against it.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::oracle::Verdict;
use crate::oracle::in_order::{Share, given_once, one_holder};
use crate::plan::names;

/// The groups' queues, and who says that it holds them.
pub struct Shares {
    expected: Vec<Share>,
    holders: BTreeMap<Share, Vec<u32>>,
}

/// One look at all members. A topic that a broker has a message of has all its queues there.
#[must_use]
pub fn shares(cluster: &Cluster) -> Shares {
    let settings = &cluster.plan.settings;
    let topics = cluster.topics();
    let mut expected = Vec::new();
    for broker in names::brokers(settings) {
        let (_, disk) = cluster.witness.cached(&broker);
        let used =
            |topic: &&String| disk.queues.iter().any(|((of, _), queue)| of == *topic && queue.max() > 0);
        for topic in topics.iter().filter(used) {
            for group in cluster.groups() {
                let queues = 0..settings.queues_per_topic as i32;
                expected.extend(queues.map(|id| (group.clone(), broker.clone(), topic.clone(), id)));
            }
        }
    }
    let mut holders: BTreeMap<Share, Vec<u32>> = BTreeMap::new();
    for (consumer, (group, queue)) in cluster.held() {
        let share = (group, queue.broker_name, queue.topic, queue.queue_id);
        holders.entry(share).or_default().push(consumer);
    }
    Shares { expected, holders }
}

impl Shares {
    /// # Errors
    /// SHARE.
    pub fn one_holder(&self) -> Verdict {
        one_holder(self.expected.iter().cloned(), &self.holders)
    }

    /// Holds what groups were given of the messages sent since then against it.
    ///
    /// # Errors
    /// SHARE.
    pub fn given_since(&self, cluster: &Cluster, from_ms: u64) -> Verdict {
        let mut groups = cluster.groups().into_iter();
        groups.try_for_each(|group| {
            given_once(&group, &cluster.witness.given_since(&group, from_ms), &self.holders)
        })
    }
}

//! Whether the brokers' files say what the groups have consumed, and how long that may take.
//!
//! A member that holds a queue tells the broker its offset every commit interval, and the broker saves it every persist
//! interval: [`told_within`]. But everything may have been delivered while nobody holds the queue, and the commit be lost
//! with a broker or not have been made: then it waits until all members see the same routes and members, and the queue's
//! new holder has consumed it once more: [`held_within`].
//!
//! Nothing fails while this looks, and every name server knows every route. What a member says it holds is believed only
//! where that makes the wait shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hotfire_core::broker::CLIENT_SCAN_INTERVAL;
use hotfire_core::remoting::body::MessageQueue;

use crate::cluster::{Cluster, broker_config};
use crate::consume;
use crate::oracle::{Broken, Verdict, consumer_offset};
use crate::plan::{Settings, names};
use crate::produce::client_config;
use crate::witness::CONFIG;

/// For requests, the pauses before a taken queue is read and around heartbeats and rebalances, and the flush of the file.
const ROOM: Duration = Duration::from_secs(4);

/// Until a member is told that it need not ask again for messages that its filter leaves out.
const FILTERED: Duration = Duration::from_secs(6);

/// From when a member holds a queue, all of which its group has been given, until the file says its end.
#[must_use]
pub fn told_within(settings: &Settings) -> Duration {
    let consumer = consume::config("group", Vec::new());
    let persist = Duration::from_millis(settings.offset_persist_interval_ms);
    let passed = if settings.sql.is_some() { FILTERED } else { Duration::ZERO };
    consumer.commit_interval + persist + ROOM + passed
}

/// From when name servers know every route until each client does.
fn routes_within(cluster: &Cluster) -> Duration {
    let client = client_config(cluster, &names::consumer(0));
    2 * client.route_interval + client.heartbeat_interval
}

/// From when name servers know every route until each queue is held by the member that keeps it.
///
/// - A client asks for routes every route interval. One question may be lost over a connection that a fault has left half
///   open, so a topic's route is true in the second interval at the latest; a broker new to the client hears of it with
///   the next heartbeat.
/// - Meanwhile a member that is gone keeps its share until brokers miss its heartbeats.
/// - Then each member gives up and takes queues at its next rebalance.
#[must_use]
pub fn held_within(cluster: &Cluster) -> Duration {
    let routes = routes_within(cluster);
    let expiry = broker_config(&cluster.plan.settings, "broker-a").clients.expiry_ms;
    let members = Duration::from_millis(expiry) + CLIENT_SCAN_INTERVAL;
    routes.max(members) + consume::config("group", Vec::new()).rebalance_interval
}

/// A group, and a queue of one of its topics.
pub type Share = (String, MessageQueue);

/// Which member has held which queue, without a break, since when.
#[derive(Default, Debug)]
pub struct Holders(BTreeMap<(u32, Share), u64>);

impl Holders {
    /// One look at all members: each by its number, with what it holds.
    pub fn look(&mut self, now_ms: u64, held: BTreeSet<(u32, Share)>) {
        self.0.retain(|holding, _| held.contains(holding));
        for holding in held {
            self.0.entry(holding).or_insert(now_ms);
        }
    }

    /// Since when the member that has held it longest has.
    #[must_use]
    pub fn since(&self, share: &Share) -> Option<u64> {
        self.0.iter().filter(|((_, held), _)| held == share).map(|(_, since_ms)| *since_ms).min()
    }
}

/// What a look comes to.
#[derive(PartialEq, Eq, Debug)]
pub enum Progress {
    /// Every file says everything.
    Done,
    /// Not yet, for good reasons.
    Waiting,
}

/// Looks at every broker's file, from the moment on when everything has been delivered.
pub struct CommitWatch {
    begun_ms: u64,
    told_within_ms: u64,
    settled_within_ms: u64,
    holders: Holders,
}

impl CommitWatch {
    #[must_use]
    pub fn start(cluster: &Cluster) -> CommitWatch {
        let mut told = told_within(&cluster.plan.settings);
        if cluster.plan.settings.replication.is_some() {
            // A member whose route is of a time without the master tells the slave.
            told += routes_within(cluster);
        }
        CommitWatch {
            begun_ms: cluster.world.now_ms(),
            told_within_ms: told.as_millis() as u64,
            settled_within_ms: (held_within(cluster) + told).as_millis() as u64,
            holders: Holders::default(),
        }
    }

    /// Notes who holds what.
    pub fn look(&mut self, cluster: &Cluster) {
        self.holders.look(cluster.world.now_ms(), cluster.held());
    }

    /// # Errors
    /// I16: an offset is not in its file, though a member has held the queue for long enough, or everybody has had the
    /// time to find who is to hold it.
    pub fn judge(&self, cluster: &Cluster) -> Result<Progress, Broken> {
        let topics = cluster.topics();
        let mut progress = Progress::Done;
        for broker in names::brokers(&cluster.plan.settings) {
            let image = cluster.witness.durable(&broker).0;
            let disk = cluster.witness.cached(&broker).1;
            for group in cluster.groups() {
                for behind in consumer_offset::behind(&image, CONFIG, &disk, &group, &topics) {
                    self.may_wait(cluster.world.now_ms(), &broker, &group, &behind)?;
                    progress = Progress::Waiting;
                }
            }
        }
        Ok(progress)
    }

    fn may_wait(&self, now_ms: u64, broker: &str, group: &str, behind: &consumer_offset::Behind) -> Verdict {
        let queue = MessageQueue {
            topic: behind.topic.clone(),
            broker_name: broker.to_owned(),
            queue_id: behind.queue,
        };
        let since_ms = self.holders.since(&(group.to_owned(), queue));
        let is_told = since_ms.is_some_and(|since_ms| now_ms >= since_ms + self.told_within_ms);
        if !is_told && now_ms < self.begun_ms + self.settled_within_ms {
            return Ok(());
        }
        let holder = since_ms.map_or("nobody holds it".to_owned(), |ms| format!("held since {ms} ms"));
        let detail = format!(
            "{broker}: {group} was given {} queue {} to its end at {} before {} ms, and the file holds {:?}; {holder}",
            behind.topic, behind.queue, behind.max, self.begun_ms, behind.committed
        );
        Err(Broken::new("I16", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> Share {
        let queue = MessageQueue { topic: "topic-0".into(), broker_name: "broker-a".into(), queue_id: 1 };
        ("group-0".to_owned(), queue)
    }

    fn watch() -> CommitWatch {
        CommitWatch {
            begun_ms: 1_000,
            told_within_ms: 10_000,
            settled_within_ms: 100_000,
            holders: Holders::default(),
        }
    }

    fn may_wait(watch: &CommitWatch, now_ms: u64) -> bool {
        let behind = consumer_offset::Behind { topic: "topic-0".into(), queue: 1, max: 2, committed: None };
        watch.may_wait(now_ms, "broker-a", "group-0", &behind).is_ok()
    }

    #[test]
    fn a_queue_that_nobody_holds_may_wait_until_somebody_must() {
        let watch = watch();
        assert!(may_wait(&watch, 100_999));
        assert!(!may_wait(&watch, 101_000));
    }

    #[test]
    fn a_holder_tells_in_time_counted_from_when_it_took_the_queue() {
        let mut watch = watch();
        watch.holders.look(20_000, [(0, share())].into());
        watch.holders.look(22_000, [(0, share()), (1, share())].into());
        assert!(may_wait(&watch, 29_999));
        assert!(!may_wait(&watch, 30_000));
        watch.holders.look(31_000, [(1, share())].into());
        assert!(may_wait(&watch, 31_999), "the one that held it longest has given it up");
        assert!(!may_wait(&watch, 32_000));
        watch.holders.look(33_000, BTreeSet::new());
        assert!(may_wait(&watch, 50_000));
    }
}

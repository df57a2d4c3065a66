//! What brokers say after their last start of what groups had committed before, and where a member that begins then goes on.
//!
//! The clients of the run have stopped, so that a broker knows of a group what its file has told it, and a group has one
//! member: no rebalance and no old commit on its way excuses what comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hotfire_core::client::consumer::{ConsumeStatus, PushConsumer};
use hotfire_core::client::{Client, ClientConfig, Received};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::peer::Peers;
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::{NodeId, SimRuntime};

use crate::cluster::{Cluster, address, name_servers};
use crate::consume;
use crate::oracle::consumer_offset::{self, Offsets};
use crate::platter::config;

const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks at what a member holds.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What has been said so far.
#[derive(Default, Debug)]
pub struct Restarted {
    offsets: BTreeMap<String, Offsets>,
    /// Every queue that has messages is held.
    held: bool,
}

/// Asks brokers for all that groups have committed.
pub struct Asking(usize);

impl Asking {
    #[must_use]
    pub fn is_done(&self, cluster: &Cluster) -> bool {
        cluster.progress(|progress| progress.restarted.offsets.len() == self.0)
    }

    #[must_use]
    pub fn answers(&self, cluster: &Cluster) -> BTreeMap<String, Offsets> {
        cluster.progress(|progress| progress.restarted.offsets.clone())
    }
}

/// The one member of each group.
pub struct Member {
    pub node: NodeId,
}

impl Member {
    /// Whether it holds every queue that has messages.
    #[must_use]
    pub fn is_done(&self, cluster: &Cluster) -> bool {
        cluster.progress(|progress| progress.restarted.held)
    }
}

#[must_use]
pub fn ask(cluster: &Cluster, brokers: &[String]) -> Asking {
    let node = cluster.world.add_node("observer-2", address("observer-2"));
    let (asking, asked) = (cluster.clone(), brokers.to_vec());
    cluster.world.boot(node, move |rt| ask_brokers(rt, asking.clone(), asked.clone()));
    Asking(brokers.len())
}

async fn ask_brokers(rt: SimRuntime, cluster: Cluster, brokers: Vec<String>) {
    let peers = Peers::new(rt, Arc::new(NoHandler), ConnectionLimits::default());
    for broker in brokers {
        let command = RemotingCommand::request(request::GET_ALL_CONSUMER_OFFSET);
        let answer = peers.call(&cluster.broker_socket(&broker).to_string(), command, TIMEOUT).await;
        let body = answer.ok().filter(|answer| answer.code == response::SUCCESS);
        let value = body.and_then(|answer| config::parse(&answer.body.to_bytes()));
        // Not answered: the runner waits in vain.
        let Some(value) = value else { break };
        let offsets = config::consumer_offsets(&value);
        cluster.progress(|progress| progress.restarted.offsets.insert(broker, offsets));
    }
    peers.stop().await;
}

/// Starts a member of each group.
#[must_use]
pub fn consume(cluster: &Cluster, brokers: &[String]) -> Member {
    let node = cluster.world.add_node("observer-3", address("observer-3"));
    let (consuming, of) = (cluster.clone(), brokers.to_vec());
    cluster.world.boot(node, move |rt| go_on(rt, consuming.clone(), of.clone()));
    Member { node }
}

async fn go_on(rt: SimRuntime, cluster: Cluster, brokers: Vec<String>) {
    let config = ClientConfig::new(name_servers(&cluster.plan.settings), address("observer-3").into());
    let client = Client::start(rt.clone(), config);
    let committed: BTreeMap<String, Offsets> =
        brokers.iter().map(|broker| (broker.clone(), cluster.witness.committed_before(broker))).collect();
    let committed = Arc::new(committed);
    let mut members = Vec::new();
    for group in cluster.groups() {
        let (told, known, of) = (cluster.clone(), committed.clone(), group.clone());
        let listener = move |messages: Vec<Received>| {
            for received in &messages {
                let place = consume::place(&received.broker_name, &received.message, &of);
                told.witness.served(&place);
                if let Some(committed) = known.get(&place.broker) {
                    told.witness.note(consumer_offset::goes_on(&of, &place, committed));
                }
            }
            std::future::ready(ConsumeStatus::Success)
        };
        let config = consume::subscribed(&cluster, &group);
        let member =
            PushConsumer::start(&client, config, listener).expect("a group and subscriptions are given");
        members.push(member);
    }
    let wanted: BTreeSet<_> = brokers.iter().flat_map(|broker| queues(&cluster, broker)).collect();
    let holds_all = |member: &PushConsumer<SimRuntime>| {
        let held: BTreeSet<_> = (member.watch_queues())()
            .into_iter()
            .map(|queue| (queue.broker_name, queue.topic, queue.queue_id))
            .collect();
        wanted.is_subset(&held)
    };
    while !members.iter().all(holds_all) {
        rt.sleep(LOOK_AGAIN).await;
    }
    cluster.progress(|progress| progress.restarted.held = true);
    rt.stop_requested().await;
    for member in members {
        member.stop().await;
    }
    client.stop().await;
}

/// The queues of a broker that groups subscribe to and that have had messages.
fn queues(cluster: &Cluster, broker: &str) -> Vec<(String, String, i32)> {
    let (_, disk) = cluster.witness.cached(broker);
    let topics = cluster.topics();
    let used =
        disk.queues.into_iter().filter(|((topic, _), queue)| queue.max() > 0 && topics.contains(topic));
    used.map(|((topic, queue), _)| (broker.to_owned(), topic, queue)).collect()
}

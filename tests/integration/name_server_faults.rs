//! The name server under faults, in the simulator: what it must not forget, and what each planted bug makes it forget.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotfire_core::broker::Broker;
use hotfire_core::config::{BrokerConfig, NameServerConfig};
use hotfire_core::name_server::NameServer;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::TopicRouteData;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::{CreateTopicHeader, GetRouteInfoHeader};
use hotfire_core::remoting::peer::Peers;
use hotfire_core::runtime::{Mutant, Runtime};
use hotfire_sim::cluster::NodeId;
use hotfire_sim::{Limits, SimRuntime, World, run_seed};

const NAME_SERVER: &str = "10.0.0.1:9876";
const BROKER: &str = "10.0.0.2:10911";
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// A topic that every broker has from the start.
const OLD_TOPIC: &str = "SELF_TEST_TOPIC";
const NEW_TOPIC: &str = "Fresh";

/// What the observer saw: for each look the moment, and whether each topic had a route to the broker.
type Sightings = Arc<Mutex<Vec<(u64, bool, bool)>>>;

#[derive(Clone)]
struct Cluster {
    world: World,
    name_server: NodeId,
    broker: NodeId,
    seen: Sightings,
}

impl Cluster {
    fn boot(world: World) -> Cluster {
        let name_server = world.add_node("name-server", [10, 0, 0, 1]);
        let broker = world.add_node("broker", [10, 0, 0, 2]);
        let observer = world.add_node("observer", [10, 0, 0, 3]);
        let seen = Sightings::default();
        world.boot(name_server, serve_names);
        world.boot(broker, serve_messages);
        let (watched, kept) = (world.clone(), seen.clone());
        world.boot(observer, move |rt| observe(rt, watched.clone(), kept.clone()));
        Cluster { world, name_server, broker, seen }
    }

    async fn seconds(&self, count: u64) {
        self.world.sleep(Duration::from_secs(count)).await;
    }

    /// Moments from `from_ms` on at which a topic had no route.
    fn gaps(&self, from_ms: u64) -> Vec<(u64, bool, bool)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().copied().filter(|(at, old, new)| *at >= from_ms && !(*old && *new)).collect()
    }
}

async fn serve_names(rt: SimRuntime) {
    let server = NameServer::start(rt.clone(), NameServerConfig::default()).await.expect("it starts");
    rt.stop_requested().await;
    server.stop().await;
}

async fn serve_messages(rt: SimRuntime) {
    let mut config = BrokerConfig::default();
    for (key, value) in [
        ("namesrvAddr", NAME_SERVER),
        ("brokerIP1", "10.0.0.2"),
        ("storePathRootDir", "store"),
        ("mappedFileSizeCommitLog", "65536"),
        ("mappedFileSizeConsumeQueue", "2000"),
    ] {
        config.set(key, value).expect("a valid setting");
    }
    let broker = Broker::start(rt.clone(), config).await.expect("it starts");
    rt.stop_requested().await;
    broker.stop().await.expect("it stops");
}

async fn observe(rt: SimRuntime, world: World, seen: Sightings) {
    let peers = Peers::new(rt.clone(), Arc::new(NoHandler), ConnectionLimits::default());
    loop {
        let (old, new) = (has_route(&peers, OLD_TOPIC).await, has_route(&peers, NEW_TOPIC).await);
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((world.now_ms(), old, new));
        rt.sleep(Duration::from_secs(1)).await;
    }
}

async fn has_route(peers: &Peers<SimRuntime>, topic: &str) -> bool {
    let header = GetRouteInfoHeader { topic: topic.to_owned(), ..GetRouteInfoHeader::default() };
    let request = RemotingCommand::request(ask::GET_ROUTEINFO_BY_TOPIC).with_header(&header);
    match peers.call(NAME_SERVER, request, CALL_TIMEOUT).await {
        Ok(answer) if answer.code == response::SUCCESS => {
            TopicRouteData::parse(&answer.body.to_bytes()).is_ok_and(|route| !route.broker_datas.is_empty())
        }
        _ => false,
    }
}

async fn create_topic(rt: SimRuntime) {
    let peers = Peers::new(rt, Arc::new(NoHandler), ConnectionLimits::default());
    let header = CreateTopicHeader {
        topic: NEW_TOPIC.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopicHeader::default()
    };
    let request = RemotingCommand::request(ask::UPDATE_AND_CREATE_TOPIC).with_header(&header);
    let answer = peers.call(BROKER, request, CALL_TIMEOUT).await.expect("the broker answers");
    assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
}

/// The broker's machine loses power, which tells nobody, and comes back: the name server keeps the old connection, on which
/// nothing will ever come, until it is idle for too long. Returns when routes were missing from then on.
fn half_open_connection(seed: u64, mutant: Option<Mutant>) -> Vec<(u64, bool, bool)> {
    let run = run_seed(seed, Limits::default(), move |world: World| async move {
        world.set_mutant(mutant);
        let cluster = Cluster::boot(world.clone());
        let tool = world.add_node("tool", [10, 0, 0, 4]);
        cluster.seconds(5).await;
        world.boot(tool, create_topic);
        cluster.seconds(5).await;
        world.power_off(cluster.broker);
        cluster.seconds(1).await;
        world.restart(cluster.broker);
        cluster.seconds(10).await;
        let settled_ms = world.now_ms();
        cluster.seconds(150).await;
        cluster.gaps(settled_ms)
    });
    run.expect_finished()
}

#[test]
fn the_end_of_a_half_open_connection_does_not_make_a_broker_unknown() {
    for seed in 0..5 {
        assert_eq!(half_open_connection(seed, None), vec![], "seed {seed}");
    }
}

#[test]
fn with_late_closes_counting_the_broker_is_unknown_for_a_while() {
    let gaps = half_open_connection(0, Some(Mutant::LateCloseUnregisters));
    assert!(!gaps.is_empty(), "the planted bug shows");
}

/// A name server that has lost everything hears of one new topic first. Returns when routes were missing once the broker
/// has registered whole again.
fn restarted_name_server(seed: u64, mutant: Option<Mutant>) -> Vec<(u64, bool, bool)> {
    let run = run_seed(seed, Limits::default(), move |world: World| async move {
        world.set_mutant(mutant);
        let cluster = Cluster::boot(world.clone());
        let tool = world.add_node("tool", [10, 0, 0, 4]);
        cluster.seconds(15).await;
        world.crash(cluster.name_server);
        world.restart(cluster.name_server);
        cluster.seconds(1).await;
        world.boot(tool, create_topic);
        // One whole registration period, and what a lost connection adds to it.
        cluster.seconds(40).await;
        let settled_ms = world.now_ms();
        cluster.seconds(40).await;
        cluster.gaps(settled_ms)
    });
    run.expect_finished()
}

#[test]
fn a_restarted_name_server_learns_all_topics_though_it_hears_of_one_first() {
    for seed in 0..5 {
        assert_eq!(restarted_name_server(seed, None), vec![], "seed {seed}");
    }
}

#[test]
fn with_one_topic_taken_for_the_whole_table_the_others_stay_unknown() {
    let gaps = restarted_name_server(0, Some(Mutant::PartialRegistrationIsWhole));
    let old_missing = gaps.iter().all(|(_, old, new)| !old && *new);
    assert!(!gaps.is_empty() && old_missing, "the planted bug shows: {gaps:?}");
}

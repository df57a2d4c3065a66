//! Asks every name server for every topic's route, from a node that no fault has touched, and compares with the topics that
//! the brokers' own files hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::TopicRouteData;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::GetRouteInfoHeader;
use hotfire_core::remoting::peer::Peers;
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, NAME_SERVER_PORT, address};
use crate::oracle::routes_converge::{Convergence, Routes, judge};
use crate::plan::names;
use crate::platter::config::{Version, load};
use crate::witness::CONFIG;

/// Between two rounds of questions.
const ROUND: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(2);
/// A topic that a broker has had for so long must be known: it registers a new one at once.
const KNOWN_AFTER_MS: u64 = 6_000;
/// A broker's first registration after the faults may be late by one whole period and a retransmission.
const LATE_MS: u64 = 15_000;

/// What each name server has answered last, and how often all were asked.
#[derive(Default)]
struct Answers {
    rounds: u64,
    routes: BTreeMap<String, Routes>,
}

pub struct RouteWatch {
    answers: Arc<Mutex<Answers>>,
    seen: u64,
    /// What brokers had, and when.
    expected: VecDeque<(u64, Routes)>,
    complete: bool,
    missing: Option<String>,
    /// From then on nothing may be forgotten.
    stable_from_ms: u64,
    convergence: Convergence,
}

impl RouteWatch {
    /// Boots the observer. Nothing fails from now on.
    #[must_use]
    pub fn start(cluster: &Cluster) -> RouteWatch {
        let answers: Arc<Mutex<Answers>> = Arc::default();
        if !cluster.plan.settings.store_alone {
            let node = cluster.world.add_node("observer", address("observer"));
            let (watched, kept) = (cluster.clone(), answers.clone());
            cluster.world.boot(node, move |rt| observe(rt, watched.clone(), kept.clone()));
        }
        RouteWatch {
            answers,
            seen: 0,
            expected: VecDeque::new(),
            complete: false,
            missing: None,
            stable_from_ms: cluster.world.now_ms() + cluster.plan.settings.register_interval_ms + LATE_MS,
            convergence: Convergence::default(),
        }
    }

    /// Judges the last round of answers, if there is a new one.
    pub fn look(&mut self, cluster: &Cluster) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.rounds == self.seen {
            return;
        }
        self.seen = answers.rounds;
        let now_ms = cluster.world.now_ms();
        self.expected.push_back((now_ms, expected(cluster)));
        while self.expected.get(1).is_some_and(|(at_ms, _)| at_ms + KNOWN_AFTER_MS <= now_ms) {
            self.expected.pop_front();
        }
        let Some((_, expected)) = self.expected.front().filter(|(at_ms, _)| at_ms + KNOWN_AFTER_MS <= now_ms)
        else {
            return;
        };
        let verdict = judge(expected, &answers.routes);
        self.complete = verdict.is_ok();
        self.missing = verdict.err().map(|broken| broken.detail);
        if now_ms >= self.stable_from_ms {
            cluster.witness.note(self.convergence.look(expected, &answers.routes));
        }
    }

    /// Every name server knew everything when last asked.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.missing.clone()
    }
}

/// The workload's topics that each broker has in its file.
fn expected(cluster: &Cluster) -> Routes {
    let ours: BTreeSet<String> = cluster.topics().into_iter().collect();
    let mut routes = Routes::new();
    for broker in names::brokers(&cluster.plan.settings) {
        let image = cluster.witness.cached_config(&broker);
        let Version::Whole(value) = load(&image, &format!("{CONFIG}/topics.json")) else { continue };
        let topics = value.get("topicConfigTable").and_then(serde_json::Value::as_object);
        for topic in topics.into_iter().flat_map(|table| table.keys()).filter(|topic| ours.contains(*topic)) {
            routes.entry(topic.clone()).or_default().insert(broker.clone());
        }
    }
    routes
}

async fn observe(rt: SimRuntime, cluster: Cluster, answers: Arc<Mutex<Answers>>) {
    let peers = Peers::new(rt.clone(), Arc::new(NoHandler), ConnectionLimits::default());
    loop {
        let mut round = BTreeMap::new();
        for name in names::name_servers(&cluster.plan.settings) {
            let at = format!("{}:{NAME_SERVER_PORT}", address(&name));
            let mut routes = Routes::new();
            for topic in cluster.topics() {
                let brokers = ask(&cluster, &peers, &at, &topic).await;
                routes.insert(topic, brokers);
            }
            round.insert(name, routes);
        }
        {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.rounds += 1;
            answers.routes = round;
        }
        rt.sleep(ROUND).await;
    }
}

/// The brokers that one name server names for the topic, each with its right address.
async fn ask(
    cluster: &Cluster,
    peers: &Peers<SimRuntime>,
    name_server: &str,
    topic: &str,
) -> BTreeSet<String> {
    let header = GetRouteInfoHeader { topic: topic.to_owned(), accept_standard_json_only: Some(true) };
    let question = RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC).with_header(&header);
    let Ok(answer) = peers.call(name_server, question, TIMEOUT).await else { return BTreeSet::new() };
    if answer.code != response::SUCCESS {
        return BTreeSet::new();
    }
    let Ok(route) = TopicRouteData::parse(&answer.body.to_bytes()) else { return BTreeSet::new() };
    let reachable = |name: &String| {
        let socket = cluster.broker_socket(name).to_string();
        let data = route.broker_datas.iter().find(|data| data.broker_name == *name);
        data.and_then(|data| data.broker_addrs.get(&0)) == Some(&socket)
    };
    route.queue_datas.iter().map(|queues| queues.broker_name.clone()).filter(reachable).collect()
}

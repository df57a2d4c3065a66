//! The nodes of a run: who they are, what runs on them, and what each does again after a restart.
//!
//! Servers and clients are the code that production runs. A client's progress (which message is next) is kept outside of
//! its process, as a shop's order book would be, so that a restarted producer goes on where the old one died.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotfire_core::broker::Broker;
use hotfire_core::config::{BrokerConfig, FlushDisk, NameServerConfig, Role};
use hotfire_core::name_server::NameServer;
use hotfire_core::remoting::body::MessageQueue;
use hotfire_core::runtime::Runtime as _;
use hotfire_core::store::{DelayLevels, DeleteHours};
use hotfire_sim::{NodeId, SimRuntime, World};

use crate::examine::{self, Examination};
use crate::look_ups::LookUps;
use crate::nodes::Nodes;
use crate::plan::{Plan, Settings, names};
use crate::restarted::Restarted;
use crate::scenario::operators;
use crate::witness::{STORE, Witness, is_broker};
use crate::workload;
use crate::{consume, operate, produce, store_alone};

pub const NAME_SERVER_PORT: u16 = 9876;
pub const BROKER_PORT: u16 = 10911;
/// A program that could not start tries again so much later, as an init system has it.
const START_AGAIN: Duration = Duration::from_millis(300);

/// What clients are to do; outlives their processes.
#[derive(Default, Debug)]
pub struct Progress {
    /// The next message of each producer, by its sender: usual, slow topic, proof.
    pub next: BTreeMap<(u32, produce::Series), u32>,
    /// Where the reader of a store alone is, by topic and queue.
    pub read: BTreeMap<(String, i32), i64>,
    /// Readers that hold bytes of the oldest file.
    pub slow_readers: u32,
    /// Of these, those for whose time nothing is read.
    pub still_readers: u32,
    /// How often an operator has asked a store alone to delete what is old.
    pub deletions_asked: u32,
    /// What brokers are asked by key on the healed cluster.
    pub look_ups: LookUps,
    /// What was asked for by bytes.
    pub examination: Examination,
    /// What brokers and consumers say after the brokers' last start.
    pub restarted: Restarted,
    /// Slaves are masters from their next start on.
    pub promotes: bool,
    /// Slaves that serve as masters.
    pub promoted: BTreeSet<String>,
    /// The cluster is healed: producers send so many rounds of last messages, which must be answered at once.
    pub proofs: u32,
    /// Topics that an operator is about to delete or has deleted, and to which producers send nothing until he has made them
    /// again.
    pub closed: BTreeSet<String>,
    /// All topics that were deleted are there again, for good.
    pub operated: bool,
}

/// Shared by the runner and all programs.
#[derive(Clone)]
pub struct Cluster {
    pub world: World,
    pub plan: Arc<Plan>,
    pub witness: Witness,
    pub nodes: Nodes,
    pub progress: Arc<Mutex<Progress>>,
    members: Arc<Mutex<BTreeMap<u32, Queues>>>,
}

/// What a consumer holds, whenever it is asked.
type Queues = Box<dyn Fn() -> Vec<MessageQueue> + Send>;

#[must_use]
pub fn address(node: &str) -> Ipv4Addr {
    let (kind, index) = node.split_once('-').unwrap_or((node, "0"));
    let number =
        index.parse::<u8>().unwrap_or_else(|_| index.bytes().next().map_or(0, |letter| letter - b'a'));
    let network = match kind {
        "ns" => 0,
        "broker" => 1,
        "producer" => 2,
        "consumer" => 3,
        "operator" => 8,
        "slave" => 5 + 2 * names::nth_of_slave(node) as u8,
        _ => 4,
    };
    Ipv4Addr::new(10, 0, network, number + 1)
}

/// `host:port` of every name server.
#[must_use]
pub fn name_servers(settings: &Settings) -> Vec<String> {
    let at = |name: String| format!("{}:{NAME_SERVER_PORT}", address(&name));
    names::name_servers(settings).into_iter().map(at).collect()
}

impl Cluster {
    /// Adds every node, none of them running.
    #[must_use]
    pub fn new(world: World, plan: Plan) -> Cluster {
        let mut nodes = BTreeMap::new();
        for name in names::all(&plan.settings) {
            nodes.insert(name.clone(), world.add_node(&name, address(&name)));
        }
        let nodes = Nodes::new(nodes);
        let witness = Witness::new(world.clone(), nodes.clone(), plan.settings.clone());
        Cluster {
            world,
            plan: Arc::new(plan),
            witness,
            nodes,
            progress: Arc::default(),
            members: Arc::default(),
        }
    }

    pub fn progress<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A consumer has started; what its last life held it holds no more.
    pub fn holds(&self, index: u32, queues: impl Fn() -> Vec<MessageQueue> + Send + 'static) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).insert(index, Box::new(queues));
    }

    /// What each consumer holds now, with its group.
    #[must_use]
    pub fn held(&self) -> BTreeSet<(u32, (String, MessageQueue))> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let holding = |(index, queues): (&u32, &Queues)| {
            let group = consume::group(*index % self.plan.settings.groups);
            queues().into_iter().map(|queue| (*index, (group.clone(), queue))).collect::<Vec<_>>()
        };
        members.iter().flat_map(holding).collect()
    }

    #[must_use]
    pub fn node(&self, name: &str) -> NodeId {
        self.nodes.of(name)
    }

    /// Where the machine is that is a broker of that name now.
    fn address(&self, name: &str) -> Ipv4Addr {
        address(&self.nodes.machine(name))
    }

    /// Where a client finds the broker of that name.
    #[must_use]
    pub fn broker_socket(&self, name: &str) -> SocketAddr {
        SocketAddr::from((self.address(name), BROKER_PORT))
    }

    /// With what may differ from life to life of a broker, and from machine to machine.
    fn in_this_life(&self, name: &str, mut config: BrokerConfig) -> BrokerConfig {
        config.identity.ip1 = self.address(name).to_string();
        let is_slave = config.identity.role == Role::Slave;
        config.store.record_crc = self.record_crc(name, is_slave);
        config
    }

    /// Whether this life of a broker writes record checksums.
    #[must_use]
    pub fn record_crc(&self, name: &str, is_slave: bool) -> bool {
        self.plan.settings.record_crc.of(is_slave, self.world.boots(self.node(name)))
    }

    /// Starts every node.
    pub fn boot(&self) {
        for name in names::name_servers(&self.plan.settings) {
            self.world.boot(self.node(&name), run_name_server);
        }
        for name in names::brokers(&self.plan.settings) {
            let (cluster, node) = (self.clone(), self.node(&name));
            if self.plan.settings.store_alone {
                self.world.boot(node, move |rt| store_alone::run(rt, cluster.clone(), name.clone()));
                return;
            }
            self.world.boot(node, move |rt| run_store(rt, cluster.clone(), node));
        }
        for name in names::slaves(&self.plan.settings) {
            let (cluster, node) = (self.clone(), self.node(&name));
            if self.plan.settings.replication.as_ref().is_some_and(|replication| replication.java_slaves) {
                self.world.set_plays_java(node);
            }
            self.world.boot(node, move |rt| run_store(rt, cluster.clone(), node));
        }
        if self.plan.settings.passing.is_some() {
            let (cluster, node) = (self.clone(), self.world.add_node("operator", address("operator")));
            self.world.boot(node, move |rt| operate::run(rt, cluster.clone()));
        }
        if self.plan.scenario == operators::NAME {
            let (cluster, node) = (self.clone(), self.world.add_node(examine::NODE, address(examine::NODE)));
            self.world.boot(node, move |rt| examine::run(rt, cluster.clone()));
        }
        for index in 0..self.plan.settings.producers {
            let (cluster, node) = (self.clone(), self.node(&names::producer(index)));
            self.world.boot(node, move |rt| produce::run(rt, cluster.clone(), index));
        }
        for index in 0..self.plan.settings.consumers {
            let (cluster, node) = (self.clone(), self.node(&names::consumer(index)));
            self.world.boot(node, move |rt| consume::run(rt, cluster.clone(), index));
        }
    }

    /// The groups that consumers are in and whose offsets brokers keep.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        let settings = &self.plan.settings;
        (0..settings.groups)
            .filter(|group| !consume::broadcasts(settings, *group))
            .map(consume::group)
            .collect()
    }

    /// Whoever is to get every message: those groups, and each consumer of one that broadcasts.
    #[must_use]
    pub fn readers(&self) -> Vec<String> {
        let settings = &self.plan.settings;
        let alone = |consumer: &u32| consume::broadcasts(settings, *consumer % settings.groups);
        let consumers = (0..settings.consumers).filter(alone);
        let consumers = consumers.map(|consumer| consume::reader(settings, consumer));
        self.groups().into_iter().chain(consumers).collect()
    }

    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        workload::topics(&self.plan)
    }
}

async fn run_name_server(rt: SimRuntime) {
    let mut config = NameServerConfig::default();
    config.server.listen_port = NAME_SERVER_PORT;
    match NameServer::start(rt.clone(), config).await {
        Ok(server) => {
            rt.stop_requested().await;
            server.stop().await;
        }
        Err(_) => try_again(&rt).await,
    }
}

/// A broker, or a slave, as its machine is configured now.
async fn run_store(rt: SimRuntime, cluster: Cluster, node: NodeId) {
    let name = cluster.nodes.name_of(node).expect("every machine is something");
    match is_broker(&name) {
        true => run_broker(rt, cluster, name).await,
        false => run_slave(rt, cluster, name).await,
    }
}

async fn run_broker(rt: SimRuntime, cluster: Cluster, name: String) {
    debug_assert!(is_broker(&name));
    cluster.witness.before_start(&name);
    let config = cluster.in_this_life(&name, broker_config(&cluster.plan.settings, &name));
    match Broker::start(rt.clone(), config).await {
        Ok(broker) => {
            cluster.witness.ready(&name);
            rt.stop_requested().await;
            // An error leaves the abort marker where it is; the raw disk is judged, not this answer.
            drop(broker.stop().await);
        }
        Err(error) => {
            tracing::debug!(%error, name, "the broker does not start");
            try_again(&rt).await;
        }
    }
}

async fn run_slave(rt: SimRuntime, cluster: Cluster, name: String) {
    cluster.witness.slave_starts(&name);
    let promotes = cluster.progress(|progress| progress.promotes);
    let config = if promotes { promoted_config } else { slave_config };
    let config = cluster.in_this_life(&name, config(&cluster.plan.settings, &name));
    match Broker::start(rt.clone(), config).await {
        Ok(broker) => {
            cluster.witness.slave_ready(&name);
            if promotes {
                cluster.progress(|progress| progress.promoted.insert(name.clone()));
            }
            rt.stop_requested().await;
            drop(broker.stop().await);
        }
        Err(error) => {
            tracing::debug!(%error, name, "the slave does not start");
            try_again(&rt).await;
        }
    }
}

/// A process that cannot start ends, and its init system starts it again.
pub async fn try_again(rt: &SimRuntime) {
    rt.sleep(START_AGAIN).await;
    rt.fatal("could not start").await;
}

#[must_use]
pub fn broker_config(settings: &Settings, name: &str) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.identity.name = name.to_owned();
    config.identity.listen_port = BROKER_PORT;
    config.identity.ip1 = address(name).to_string();
    config.registration.name_servers = name_servers(settings).join(";");
    config.registration.period_ms = settings.register_interval_ms;
    config.topics.default_queue_count = settings.queues_per_topic as i32;
    config.clients.offset_flush_interval_ms = settings.offset_persist_interval_ms;
    config.filters.by_property = settings.sql.is_some();
    if let Some(transactions) = &settings.transactions {
        config.transactions.timeout_ms = transactions.timeout_ms;
        config.transactions.check_interval_ms = transactions.check_interval_ms;
        config.transactions.check_max = transactions.check_max;
    }
    if let Some(delays) = &settings.delays {
        config.delay.levels = DelayLevels::parse(&delays.levels).expect("a plan has delay levels");
        config.delay.offset_flush_interval_ms = delays.save_interval_ms;
    }
    config.store.root = STORE.to_owned();
    config.store.flush = if settings.sync_flush { FlushDisk::Sync } else { FlushDisk::Async };
    config.store.sync_flush_timeout_ms = settings.sync_flush_timeout_ms;
    if let Some(pool) = &settings.pool {
        config.store.transient_pool = true;
        config.store.transient_pool_size = pool.buffers;
        config.store.fast_fail_if_no_buffer = pool.fast_fail;
        config.store.commit_interval_ms = pool.interval_ms;
        config.store.commit_least_pages = pool.least_pages;
        config.store.commit_thorough_interval_ms = pool.thorough_interval_ms;
    }
    config.store.commit_log_file_bytes = settings.commit_log_file_bytes;
    if settings.log_folders > 1 {
        let folders: Vec<String> = settings.log_folders().map(|folder| format!("{STORE}/{folder}")).collect();
        config.store.commit_log_dirs = folders.join(",");
    }
    config.store.consume_queue_file_bytes = settings.queue_file_bytes;
    (config.index.slots, config.index.entries) = settings.index_file;
    config.store.flush_interval_ms = settings.flush_interval_ms;
    config.store.flush_thorough_interval_ms = settings.flush_thorough_interval_ms;
    config.store.queue_flush_interval_ms = settings.queue_flush_interval_ms;
    config.store.queue_flush_thorough_interval_ms = settings.queue_flush_thorough_interval_ms;
    if let Some(deletion) = &settings.deletion {
        let retention = &mut config.retention;
        retention.reserved.ms = deletion.reserved_ms;
        retention.delete_hours = DeleteHours::parse(&deletion.delete_when).expect("the plan holds hours");
        retention.interval_ms = deletion.interval_ms;
        retention.log_file_pause_ms = deletion.log_file_pause_ms;
        retention.queue_file_pause_ms = deletion.queue_file_pause_ms;
        retention.held_max_ms = deletion.held_max_ms;
        retention.held_retry_ms = deletion.held_retry_ms;
        retention.forcibly = deletion.forcibly;
    }
    if let Some(replication) = &settings.replication {
        config.identity.role = if replication.sync_master { Role::SyncMaster } else { Role::AsyncMaster };
        config.ha.batch_bytes = replication.batch_bytes;
        config.ha.heartbeat_ms = replication.heartbeat_ms;
        config.ha.housekeeping_ms = replication.housekeeping_ms;
        config.ha.slave_timeout_ms = replication.slave_timeout_ms;
        if let Some(bytes) = replication.behind_max {
            (config.ha.fall_behind_max, config.ha.in_sync_gap_max) = (bytes, bytes);
        }
        if let Some(in_sync) = &replication.in_sync {
            config.ha.in_sync_replicas = in_sync.replicas;
            config.ha.in_sync_min = in_sync.min;
            config.ha.ack_by_all_in_sync = in_sync.all;
        }
    }
    config
}

#[must_use]
pub fn slave_config(settings: &Settings, name: &str) -> BrokerConfig {
    let mut config = broker_config(settings, &names::master_of(name));
    config.identity.role = Role::Slave;
    config.identity.id = 1 + names::nth_of_slave(name);
    let sync_flush = settings.slaves_sync_flush();
    config.store.flush = if sync_flush { FlushDisk::Sync } else { FlushDisk::Async };
    config.store.transient_pool &= !sync_flush;
    config.identity.ip1 = address(name).to_string();
    config
}

/// Its master's settings, at its own place.
#[must_use]
pub fn promoted_config(settings: &Settings, name: &str) -> BrokerConfig {
    let mut config = broker_config(settings, &names::master_of(name));
    config.identity.ip1 = address(name).to_string();
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Replication;

    #[test]
    fn every_node_has_an_address_of_its_own() {
        let plan = crate::options::draw("partition", 1).expect("a listed scenario");
        let replication = crate::options::draw("replication", 1).and_then(|plan| plan.settings.replication);
        let replication = replication.map(|replication| Replication { slaves: 2, ..replication });
        let counts = Settings { name_servers: 2, brokers: 2, producers: 3, consumers: 3, ..plan.settings };
        let settings = Settings { replication, ..counts };
        assert_eq!(names::slaves(&settings).len(), 4);
        let all = names::all(&settings);
        let addresses: std::collections::BTreeSet<_> = all.iter().map(|name| address(name)).collect();
        assert_eq!(addresses.len(), all.len());
    }
}

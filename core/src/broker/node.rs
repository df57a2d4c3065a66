//! A running broker: what starts in which order, and how it stops. The same in production and in simulation.
//!
//! Start: the store is opened and recovered, the tables are read, then the broker listens, then it tells the name servers.
//! Stop: the name servers are told, nobody is accepted any more, what was taken up is answered, offsets are written, and the
//! store flushes and closes last; delay offsets are written between the two.
//!
//! The HA port of a master, and the link of a slave, start after the store and stop before it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::config::{BrokerConfig, FlushDisk, Live, Permission, RetentionSettings, Role, StoreSettings};
use crate::ha::master::HaServer;
use crate::remoting::connection::{ConnectionLimits, InFlightLimit, NoHandler};
use crate::remoting::peer::Peers;
use crate::remoting::server::Server;
use crate::runtime::sync::{Receiver, Sender, watch};
use crate::runtime::{Mutant, Runtime, Task};
use crate::store::index::Geometry;
use crate::store::{
    FlushMode, MessageStore, Pace, ReadLimits, RecoverError, Retention, StopError, StoreConfig,
    TransientPool, commit_log_dirs,
};

use super::admin::{AdminRequests, Changeable, Places, Settings};
use super::assignment::Assignments;
use super::client_requests::ClientRequests;
use super::client_table::ClientTable;
use super::committed_offsets::CommittedOffsets;
use super::consumer_filters::ConsumerFilters;
use super::counts::Counts;
use super::durable_table::TableError;
use super::lock_table::LockTable;
use super::long_polling::LongPolling;
use super::names;
use super::offset_file::OffsetFile;
use super::offset_requests::OffsetRequests;
use super::pull_message::PullMessage;
use super::registration::{Presence, Registration, parse_name_servers};
use super::replication::{HaRequests, OtherSide, SlaveWait};
use super::reply::Replies;
use super::schedule::Schedule;
use super::send_back::SendBack;
use super::send_message::SendMessage;
use super::stats_requests::StatsRequests;
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{LastOfQueue, Topics};
use super::topic_requests::TopicRequests;
use super::transaction::Transactions;
use super::view_message::ViewMessage;
use super::{BrokerHandler, WaitLimits, address, replication};

/// How long the start waits for name servers that do not answer.
const REGISTER_PATIENCE: Duration = Duration::from_secs(2);
/// What requests under way may still take when the broker stops: longer than the longest wait for a flush.
const STOP_PATIENCE: Duration = Duration::from_secs(6);
/// Between two looks for clients that have been silent for `channelExpiredTimeout`.
pub const CLIENT_SCAN_INTERVAL: Duration = Duration::from_secs(10);

/// The broker did not start; nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] RecoverError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: String, source: io::Error },
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("namesrvAddr: expected host:port;host:port, found {0}")]
    NameServer(String),
    #[error("brokerRole: {0}")]
    Role(String),
    #[error("brokerIP1: look up {name}: {source}")]
    Address { name: String, source: io::Error },
}

/// The broker has ended, but not cleanly.
#[derive(Debug, thiserror::Error)]
pub enum BrokerStopError {
    #[error("write the committed offsets: {0}")]
    Offsets(io::Error),
    #[error("write the consumers' filters: {0}")]
    Filters(io::Error),
    #[error(transparent)]
    Store(#[from] StopError),
}

/// A running broker. Dropping it without [`Broker::stop`] leaves its tasks running.
pub struct Broker<R: Runtime> {
    name: String,
    address: SocketAddr,
    servers: Vec<Server<R>>,
    /// None on a slave.
    ha: Option<HaServer<R>>,
    tasks: Vec<R::Task<()>>,
    stop: Sender<bool>,
    peers: Peers<R>,
    registration: Arc<Registration<R>>,
    offset_file: Arc<OffsetFile<R>>,
    filters: Arc<ConsumerFilters<R>>,
    schedule: Arc<Schedule<R>>,
    store: Arc<MessageStore<R>>,
    local: SocketAddr,
}

/// What lives from the opening of the store on.
pub(super) struct Tables<R: Runtime> {
    pub(super) topics: Arc<Topics<R>>,
    pub(super) groups: Arc<SubscriptionGroups<R>>,
    pub(super) offsets: Arc<CommittedOffsets>,
    offset_file: Arc<OffsetFile<R>>,
    filters: Arc<ConsumerFilters<R>>,
    pub(super) schedule: Arc<Schedule<R>>,
    counts: Arc<Counts>,
}

impl<R: Runtime> Broker<R> {
    /// Starts a broker and returns once it serves requests and has told, or tried to tell, the name servers.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(rt: R, config: BrokerConfig) -> Result<Broker<R>, StartError> {
        let path = config.changes_file();
        let config = config.with_changes(&rt).await.map_err(|source| StartError::Io {
            action: "read",
            path,
            source,
        })?;
        let name_servers =
            parse_name_servers(&config.registration.name_servers).map_err(StartError::NameServer)?;
        replication::check(&config)?;
        let ip = address::advertised(&rt, &config, &name_servers)
            .await
            .map_err(|source| StartError::Address { name: config.identity.ip1.clone(), source })?;
        let store = MessageStore::open(rt.clone(), store_config(&rt, &config)).await?;
        let started = Self::start_on(rt, &config, name_servers, ip, store.clone()).await;
        if let Err(error) = &started {
            tracing::error!(%error, "start the broker");
            if let Err(error) = store.stop().await {
                tracing::error!(%error, "close the store");
            }
        }
        started
    }

    async fn start_on(
        rt: R,
        config: &BrokerConfig,
        name_servers: Vec<(String, u16)>,
        ip: std::net::IpAddr,
        store: Arc<MessageStore<R>>,
    ) -> Result<Broker<R>, StartError> {
        let held = Arc::new(LongPolling::new(rt.clone(), &config.pull));
        store.set_arrival_listener(held.clone());
        store.start();
        // Offsets are cut to the ends of their queues: these must stand where the log ends. A dispatch that has failed has
        // made the store read-only; then the queues are what they are.
        let begun = replication::begin(&rt, config, &store);
        let _ = store.dispatched().reached(store.commit_log_max()).await;
        let tables = open_tables(&rt, config, &store).await?;
        let clients = Arc::new(ClientTable::default());
        let ha = replication::listen(&rt, config, &store, begun).await?;
        let other = OtherSide::new(config, ha.as_ref());
        let limits = ConnectionLimits::default();
        let peers = Peers::new(rt.clone(), Arc::new(NoHandler), limits.clone());
        let handler = handler(&rt, config, &store, &tables, (&clients, &held), &other, &peers);
        let handler = Arc::new(handler);

        let (stop, stopping) = watch(false);
        let servers = listen(&rt, config, &handler, &limits).await?;
        let local = servers.first().expect("the main port is listened on").local_addr();
        let address = SocketAddr::new(ip, local.port());
        handler.sends.set_store_host(address);
        let ha_port = ha.as_ref().map_or_else(|| replication::ha_listen(config), HaServer::local_addr).port();
        handler.admin.settings.set_places(Places { requests: address, ha_port });

        let registration = Arc::new(Registration::new(
            rt.clone(),
            peers.clone(),
            tables.topics.clone(),
            presence(config, &handler, address, ha.as_ref().map(HaServer::local_addr)),
            other.master.clone(),
            name_servers,
        ));
        let mut tasks = background(&rt, config, &tables, &handler, &stopping);
        if let Some(master) = &other.master {
            let followed = (master, &other.link);
            tasks.extend(replication::follow(&rt, config, &store, &tables, &peers, followed, &stopping));
        }
        tasks.extend(registration.start(&stopping, REGISTER_PATIENCE).await);
        Ok(Broker {
            name: config.identity.name.clone(),
            address,
            servers,
            ha,
            tasks,
            stop,
            peers,
            registration,
            offset_file: tables.offset_file,
            filters: tables.filters,
            schedule: tables.schedule,
            store,
            local,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What clients are told.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stops in order; what fails does not keep the rest from stopping.
    ///
    /// # Errors
    /// The first that failed.
    pub async fn stop(self) -> Result<(), BrokerStopError> {
        // Before it is taken out of the routes: nothing may put it back.
        self.stop.send(true);
        for task in self.tasks {
            // A task that is gone already has nothing left to do.
            let _ = task.join().await;
        }
        self.registration.unregister().await;
        for server in self.servers {
            server.stop(STOP_PATIENCE).await;
        }
        if let Some(ha) = self.ha {
            ha.stop().await;
        }
        self.peers.stop().await;
        let offsets = self.offset_file.save().await.map_err(BrokerStopError::Offsets);
        let filters = self.filters.save().await.map_err(BrokerStopError::Filters);
        let last = self.schedule.save_at_stop();
        let store = self.store.stop_with(last).await.map_err(BrokerStopError::from);
        offsets.and(filters).and(store)
    }
}

fn store_config<R: Runtime>(rt: &R, config: &BrokerConfig) -> StoreConfig {
    let BrokerConfig { store: settings, index, reads, retention, delay, .. } = config;
    let defaults = StoreConfig::new(settings.root.clone());
    let memory_bytes = rt.memory_bytes();
    StoreConfig {
        commit_log_dirs: commit_log_dirs(&settings.commit_log_dirs),
        read_only_commit_log_dirs: commit_log_dirs(&settings.read_only_commit_log_dirs),
        commit_log_file_bytes: settings.commit_log_file_bytes,
        consume_queue_file_bytes: settings.consume_queue_file_bytes,
        flush: match settings.flush {
            FlushDisk::Async => FlushMode::Async,
            FlushDisk::Sync => FlushMode::Sync,
        },
        slave: config.identity.role == Role::Slave,
        sync_flush_timeout_ms: settings.sync_flush_timeout_ms,
        transient_pool: (settings.transient_pool && config.identity.role != Role::Slave).then_some(
            TransientPool {
                buffers: settings.transient_pool_size,
                fast_fail: settings.fast_fail_if_no_buffer,
                commit_interval_ms: settings.commit_interval_ms,
                commit_least_pages: settings.commit_least_pages,
                commit_thorough_interval_ms: settings.commit_thorough_interval_ms,
            },
        ),
        flush_interval_ms: settings.flush_interval_ms,
        flush_least_pages: settings.flush_least_pages,
        flush_thorough_interval_ms: settings.flush_thorough_interval_ms,
        queue_flush_interval_ms: settings.queue_flush_interval_ms,
        queue_flush_least_pages: settings.queue_flush_least_pages,
        queue_flush_thorough_interval_ms: settings.queue_flush_thorough_interval_ms,
        delay_levels_ms: delay.levels.ms().to_vec(),
        index: index.enabled,
        index_geometry: Geometry { slots: index.slots, entries: index.entries },
        query_count_max: index.count_max,
        message_bytes_max: settings.message_bytes_max as usize,
        record_crc: settings.record_crc,
        hot_bytes: memory_bytes
            .map_or(defaults.hot_bytes, |bytes| bytes / 100 * reads.memory_percent.min(100)),
        read_limits: ReadLimits {
            hot_bytes: reads.hot_bytes,
            hot_count: reads.hot_count,
            cold_bytes: reads.cold_bytes,
            cold_count: reads.cold_count,
        },
        retention: self::retention(retention, &defaults.retention),
        ..defaults
    }
}

/// How the store works, as far as that may change while it runs.
pub(super) fn pace(settings: &StoreSettings) -> Pace {
    Pace {
        flush_interval_ms: settings.flush_interval_ms,
        flush_least_pages: settings.flush_least_pages,
        flush_thorough_interval_ms: settings.flush_thorough_interval_ms,
        queue_flush_interval_ms: settings.queue_flush_interval_ms,
        queue_flush_least_pages: settings.queue_flush_least_pages,
        queue_flush_thorough_interval_ms: settings.queue_flush_thorough_interval_ms,
        message_bytes_max: settings.message_bytes_max as usize,
    }
}

/// How long files are kept, by the settings; what is no setting is as in `defaults`.
pub(super) fn retention(settings: &RetentionSettings, defaults: &Retention) -> Retention {
    Retention {
        reserved_ms: settings.reserved.ms,
        delete_hours: settings.delete_hours,
        interval_ms: settings.interval_ms,
        // Java's, at its interval; who has set a shorter one does not wait a minute for the first look.
        first_ms: defaults.first_ms.min(settings.interval_ms.saturating_mul(6)),
        batch_max: settings.batch_max,
        log_file_pause_ms: settings.log_file_pause_ms,
        queue_file_pause_ms: settings.queue_file_pause_ms,
        held_max_ms: settings.held_max_ms,
        held_retry_ms: settings.held_retry_ms,
        forcibly: settings.forcibly,
        disk_max_used_percent: settings.disk_max_used_percent,
        forcibly_percent: settings.forcibly_percent,
        warning_percent: settings.warning_percent,
    }
}

fn presence<R: Runtime>(
    config: &BrokerConfig,
    handler: &BrokerHandler<R>,
    address: SocketAddr,
    ha: Option<SocketAddr>,
) -> Presence {
    let ha_port = ha.unwrap_or_else(|| replication::ha_listen(config)).port();
    Presence {
        name: config.identity.name.clone(),
        cluster: config.identity.cluster.clone(),
        address: address.to_string(),
        id: config.identity.id.into(),
        ha_address: SocketAddr::new(address.ip(), ha_port).to_string(),
        permission: handler.pulls.permission.clone(),
        period_ms: config.registration.period_ms,
        timeout: Duration::from_millis(config.registration.timeout_ms),
    }
}

/// Queues with messages of topics that the table does not have.
async fn unknown_queues<R: Runtime>(store: &MessageStore<R>, topics: &Topics<R>) -> Vec<LastOfQueue> {
    let mut unknown = Vec::new();
    for (topic, queue) in store.queues() {
        if topics.contains(&topic) || topic.starts_with(names::LIGHT_PREFIX) {
            continue;
        }
        let last = store.max_offset(&topic, queue) - 1;
        if let Some(store_ms) = store.store_time(&topic, queue, last).await {
            unknown.push(LastOfQueue { topic, queue, store_ms });
        }
    }
    unknown
}

async fn open_tables<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    store: &Arc<MessageStore<R>>,
) -> Result<Tables<R>, StartError> {
    let (root, dir) = (config.store.root.clone(), format!("{}/config", config.store.root));
    let io = |action, path: &str| {
        let path = path.to_owned();
        move |source| StartError::Io { action, path, source }
    };
    rt.create_dir_all(&dir).await.map_err(io("create", &dir))?;
    if !rt.mutant(Mutant::ConfigFolderNotSynced) {
        rt.sync_dir(&root).await.map_err(io("sync", &root))?;
    }
    let file = |name| format!("{dir}/{name}.json");
    let topics = Topics::open(rt.clone(), file("topics"), &config.identity, &config.topics).await?;
    if !rt.mutant(Mutant::TopicsOfLogUnknown) {
        let queues = unknown_queues(store, &topics).await;
        topics.make_those_of(&queues, config.topics.default_queue_count).await?;
    }
    let groups = file("subscriptionGroup");
    let (auto_create, copied) = (config.topics.auto_create_group, config.identity.role == Role::Slave);
    let groups = SubscriptionGroups::open(rt.clone(), groups, auto_create, copied).await?;
    let offsets = Arc::new(CommittedOffsets::default());
    let path = file("consumerOffset");
    let max_offset = |topic: &str, queue| store.committable(topic, queue);
    let offset_file = OffsetFile::open(rt.clone(), path.clone(), offsets.clone(), max_offset)
        .await
        .map_err(io("read", &path))?;
    let path = file("consumerFilter");
    let filters = ConsumerFilters::open(rt.clone(), path.clone(), &config.filters);
    let filters = filters.await.map_err(io("read", &path))?;
    let path = file("delayOffset");
    let counts = Arc::new(Counts::new(rt.clone(), config.identity.cluster.clone()));
    let schedule = Schedule::open(rt.clone(), path.clone(), store.clone(), counts.clone());
    let schedule = schedule.await.map_err(io("read", &path))?;
    Ok(Tables {
        topics: Arc::new(topics),
        groups: Arc::new(groups),
        offsets,
        offset_file: Arc::new(offset_file),
        filters: Arc::new(filters),
        schedule: Arc::new(schedule),
        counts,
    })
}

fn handler<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    store: &Arc<MessageStore<R>>,
    tables: &Tables<R>,
    (clients, held): (&Arc<ClientTable>, &Arc<LongPolling<R>>),
    other: &OtherSide,
    peers: &Peers<R>,
) -> BrokerHandler<R> {
    let Tables { topics, groups, offsets, counts, .. } = tables;
    let is_slave = config.identity.role == Role::Slave;
    let wait = SlaveWait::new(rt, config, other.slaves.as_ref());
    let permission: Live<Permission> = Live::new(config.identity.permission);
    let transactions = Live::new(config.transactions.clone());
    let trace_on = Live::new(config.topics.trace_on);
    let live = (permission.clone(), transactions.clone(), trace_on.clone());
    let sends = SendMessage::new(
        rt.clone(),
        store.clone(),
        (topics.clone(), groups.clone()),
        wait,
        live,
        counts,
        config,
    );
    let sends = Arc::new(sends);
    let (pulling, wait_limits) = (Live::new(config.pull.clone()), Arc::new(WaitLimits::default()));
    wait_limits.set(config);
    let changeable = Changeable {
        pulling: pulling.clone(),
        trace_on,
        wait_limits: wait_limits.clone(),
        permission: permission.clone(),
        transactions: transactions.clone(),
        topics: topics.clone(),
        groups: groups.clone(),
        store: store.clone(),
    };
    let admin = Arc::new(AdminRequests {
        rt: rt.clone(),
        store: store.clone(),
        topics: topics.clone(),
        groups: groups.clone(),
        clients: clients.clone(),
        filters: tables.filters.clone(),
        offsets: offsets.clone(),
        offset_file: tables.offset_file.clone(),
        schedule: tables.schedule.clone(),
        sends: sends.clone(),
        counts: counts.clone(),
        settings: Settings::new(config, changeable, rt.wall_ms()),
        broker_name: config.identity.name.clone(),
        is_slave,
        began: (rt.wall_ms(), rt.now()),
    });
    BrokerHandler {
        send_backs: SendBack {
            rt: rt.clone(),
            store: store.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            sends: sends.clone(),
            permission: permission.clone(),
            counts: counts.clone(),
        },
        transactions: Arc::new(Transactions {
            rt: rt.clone(),
            store: store.clone(),
            topics: topics.clone(),
            clients: clients.clone(),
            offsets: offsets.clone(),
            sends: sends.clone(),
            settings: transactions,
            reserved_ms: config.retention.reserved.ms,
            turn: AtomicUsize::new(0),
        }),
        replies: Replies {
            rt: rt.clone(),
            sends: sends.clone(),
            clients: clients.clone(),
            stored: config.send.store_replies,
        },
        sends,
        pulls: Arc::new(PullMessage {
            rt: rt.clone(),
            store: store.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            clients: clients.clone(),
            offsets: offsets.clone(),
            filters: tables.filters.clone(),
            held: held.clone(),
            settings: pulling,
            property_filter: config.filters.by_property,
            permission,
            counts: counts.clone(),
            moved: (!is_slave).then(Arc::default),
            broker_name: config.identity.name.clone(),
            is_slave,
            other: other.clone(),
        }),
        offsets: OffsetRequests {
            rt: rt.clone(),
            store: store.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            offsets: offsets.clone(),
        },
        clients: Arc::new(ClientRequests {
            rt: rt.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            clients: clients.clone(),
            locks: Arc::new(LockTable::default()),
            filters: tables.filters.clone(),
            property_filter: config.filters.by_property,
            settings: config.clients.clone(),
        }),
        assignments: Arc::new(Assignments::new(
            rt.clone(),
            peers.clone(),
            &config.registration.name_servers,
            topics.clone(),
            groups.clone(),
            clients.clone(),
        )),
        topics: TopicRequests { topics: topics.clone(), groups: groups.clone() },
        views: ViewMessage {
            store: store.clone(),
            slaves: other.slaves.clone(),
            unique_count_max: config.index.unique_count_max,
        },
        stats: StatsRequests {
            store: store.clone(),
            topics: topics.clone(),
            clients: clients.clone(),
            offsets: offsets.clone(),
            broker_name: config.identity.name.clone(),
            counts: counts.clone(),
        },
        admin,
        schedule: tables.schedule.clone(),
        ha: HaRequests {
            rt: rt.clone(),
            store: store.clone(),
            other: other.clone(),
            rule: replication::rule(config),
        },
        held: held.clone(),
        wait_limits,
        sends_in_flight: InFlightLimit::new(config.send.in_flight_max),
        replies_in_flight: InFlightLimit::new(config.send.replies_in_flight_max),
        is_slave,
    }
}

/// The main port, and if possible the one two below, which clients call the VIP channel.
async fn listen<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    handler: &Arc<BrokerHandler<R>>,
    limits: &ConnectionLimits,
) -> Result<Vec<Server<R>>, StartError> {
    let address = config.listen();
    let main = Server::bind(rt.clone(), address, handler.clone(), limits.clone())
        .await
        .map_err(|source| StartError::Listen { address, source })?;
    let mut servers = vec![main];
    // A free port was asked for: the one two below belongs to somebody else.
    if let Some(vip_port) = address.port().checked_sub(2).filter(|port| *port > 0) {
        let vip = SocketAddr::new(address.ip(), vip_port);
        match Server::bind(rt.clone(), vip, handler.clone(), limits.clone()).await {
            Ok(server) => servers.push(server),
            Err(error) => tracing::warn!(%vip, %error, "listen for clients that use the VIP channel"),
        }
    }
    Ok(servers)
}

/// Starts what runs beside the requests.
fn background<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    tables: &Tables<R>,
    handler: &Arc<BrokerHandler<R>>,
    stop: &Receiver<bool>,
) -> Vec<R::Task<()>> {
    let interval = Duration::from_millis(config.clients.offset_flush_interval_ms.max(1));
    let save_interval = Duration::from_millis(config.delay.offset_flush_interval_ms.max(1));
    let clients = handler.clients.clone();
    let mut tasks = vec![
        rt.spawn("answer held pulls", handler.held.clone().run(handler.pulls.clone(), stop.clone())),
        rt.spawn("write offsets", tables.offset_file.clone().run(interval, stop.clone())),
        rt.spawn("look at counts", handler.admin.counts.clone().run(rt.clone(), stop.clone())),
        rt.spawn("write filters", tables.filters.clone().run(stop.clone())),
        rt.spawn("expire clients", expire_clients(rt.clone(), clients, stop.clone())),
    ];
    if let Some(moved) = &handler.pulls.moved {
        let writes = moved.clone().run(rt.clone(), handler.sends.clone(), stop.clone());
        tasks.push(rt.spawn("note moved offsets", writes));
    }
    if config.identity.role != Role::Slave {
        tasks.push(rt.spawn("check transactions", handler.transactions.clone().run(stop.clone())));
        tasks.extend(tables.schedule.start(save_interval, stop));
    }
    tasks
}

async fn expire_clients<R: Runtime>(rt: R, clients: Arc<ClientRequests<R>>, mut stop: Receiver<bool>) {
    loop {
        crate::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = rt.sleep(CLIENT_SCAN_INTERVAL) => clients.expire(rt.now()),
        }
    }
}

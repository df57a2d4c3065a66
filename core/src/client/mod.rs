//! Producers and consumers, for the command line and for the scenarios alike.
//!
//! A [`Client`] holds what they share: connections, routes, heartbeats. Its tasks: routes every 30 s, heartbeats every
//! 30 s and soon after a connection was opened (a broker that has restarted knows no clients).
//!
//! An answer is honest: a send whose request may have reached a broker and got no answer is [`producer::SendOutcome::Unknown`].
//! Consumption is at least once: an offset is committed when everything below it has been consumed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::remoting::RemotingCommand;
use crate::remoting::body::{ConsumerData, HeartbeatData, ProducerData};
use crate::remoting::codes::request;
use crate::remoting::connection::{Answer, ConnectionHandle, ConnectionLimits, Handler};
use crate::remoting::headers::{NotifyConsumerIdsChangedHeader, UnregisterClientHeader};
use crate::remoting::peer::Peers;
use crate::runtime::sync::{Receiver, Sender, watch};
use crate::runtime::{Mark, Runtime, Task};

pub mod admin;
mod asked;
mod check;
mod consume_counts;
pub mod consumer;
mod consumer_config;
pub mod fault_strategy;
mod identity;
mod in_order;
mod local_offsets;
mod message;
mod offset_store;
mod process_queue;
pub mod producer;
mod pull;
pub mod rebalance;
mod route_cache;
mod send_back;
mod subscription;
pub mod transaction_producer;

use asked::Asked;
use transaction_producer::Check;

pub use check::CheckError;
pub use identity::UniqueKeys;
pub use message::{
    BODY_BYTES_MAX, COMPRESSED_BODY_BYTES_MIN, IllegalMessage, Message, Received, UnreadableBody,
};
pub use route_cache::{DEFAULT_TOPIC, Route, RouteCache, RouteError};

/// After a connection was opened, before the heartbeat that it causes: many open at once.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port`, at least one.
    pub name_servers: Vec<String>,
    /// Shown to brokers in the client id and in unique keys.
    pub ip: IpAddr,
    /// Distinguishes clients of one IP; `None` draws one. Two clients with one id break each other's rebalancing.
    pub instance: Option<String>,
    pub route_interval: Duration,
    pub heartbeat_interval: Duration,
    /// Bounds a request to a name server, a heartbeat, an offset query.
    pub request_timeout: Duration,
    pub limits: ConnectionLimits,
}

impl ClientConfig {
    #[must_use]
    pub fn new(name_servers: Vec<String>, ip: IpAddr) -> ClientConfig {
        ClientConfig {
            name_servers,
            ip,
            instance: None,
            route_interval: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(30),
            request_timeout: Duration::from_secs(3),
            limits: ConnectionLimits::default(),
        }
    }
}

/// The groups of a client, as heartbeats tell them.
#[derive(Default)]
struct Groups {
    /// With how many producers each.
    producers: BTreeMap<String, usize>,
    consumers: BTreeMap<String, ConsumerEntry>,
    /// Who answers when a broker asks about a transaction of a producer group.
    checkers: BTreeMap<String, mpsc::Sender<Check>>,
}

struct ConsumerEntry {
    data: ConsumerData,
    /// Wakes the rebalance.
    wake: Sender<u64>,
    /// Who answers what brokers ask. Weak: the consumer's own tasks keep it, and it keeps us.
    asked: Weak<dyn Asked>,
}

/// What server-sent requests act on.
struct Registry {
    groups: Mutex<Groups>,
    heartbeat: Sender<u64>,
}

impl Registry {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a broker's question on; one that nobody takes comes again.
    fn check(&self, connection: &ConnectionHandle, request: &RemotingCommand) {
        let check = match Check::read(connection, request) {
            Ok(check) => check,
            Err(error) => return tracing::warn!(error, "a malformed question about a transaction"),
        };
        let checker = self.groups().checkers.get(check.group()).cloned();
        match checker.map(|checker| checker.try_send(check).is_ok()) {
            Some(true) => {}
            Some(false) => tracing::warn!("a question about a transaction is dropped: too many wait"),
            None => tracing::warn!("a question about a transaction of a group that is not here"),
        }
    }

    fn wake_rebalance(&self, group: &str) {
        if let Some(entry) = self.groups().consumers.get(group) {
            entry.wake.modify(|count| *count += 1);
        }
    }
}

impl<R: Runtime> Handler<R> for Registry {
    fn opened(&self, _connection: &ConnectionHandle) {
        self.heartbeat.modify(|count| *count += 1);
    }

    async fn handle(&self, connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        if request.code == request::NOTIFY_CONSUMER_IDS_CHANGED {
            match request.header::<NotifyConsumerIdsChangedHeader>() {
                Ok(header) => self.wake_rebalance(&header.consumer_group),
                Err(error) => tracing::warn!(%error, "a malformed notification"),
            }
            return Answer::Never;
        }
        if request.code == request::CHECK_TRANSACTION_STATE {
            self.check(connection, &request);
            return Answer::Never;
        }
        self.answer(&request)
    }
}

pub(crate) struct Shared<R: Runtime> {
    pub(crate) rt: R,
    pub(crate) config: ClientConfig,
    pub(crate) client_id: String,
    pub(crate) keys: UniqueKeys,
    pub(crate) peers: Peers<R>,
    pub(crate) routes: RouteCache<R>,
    registry: Arc<Registry>,
}

/// Connections, routes and heartbeats of one process. Clones share them.
pub struct Client<R: Runtime> {
    shared: Arc<Shared<R>>,
    stop: Sender<bool>,
    tasks: Arc<Mutex<Vec<R::Task<()>>>>,
}

impl<R: Runtime> Clone for Client<R> {
    fn clone(&self) -> Self {
        Client { shared: self.shared.clone(), stop: self.stop.clone(), tasks: self.tasks.clone() }
    }
}

impl<R: Runtime> Client<R> {
    /// Starts the tasks. Nothing is connected before it is needed.
    #[must_use]
    pub fn start(rt: R, config: ClientConfig) -> Client<R> {
        let (heartbeat, heartbeat_wake) = watch(0);
        let registry = Arc::new(Registry { groups: Mutex::default(), heartbeat });
        let peers = Peers::new(rt.clone(), registry.clone(), config.limits.clone());
        let routes = RouteCache::new(&rt, peers.clone(), config.name_servers.clone(), config.request_timeout);
        let shared = Arc::new(Shared {
            client_id: identity::client_id(&rt, config.ip, config.instance.as_deref()),
            keys: UniqueKeys::new(&rt, config.ip),
            rt: rt.clone(),
            config,
            peers,
            routes,
            registry,
        });
        let (stop, stopping) = watch(false);
        let tasks = vec![
            rt.spawn("client: routes", refresh_routes(shared.clone(), stopping.clone())),
            rt.spawn("client: heartbeats", send_heartbeats(shared.clone(), heartbeat_wake, stopping)),
        ];
        Client { shared, stop, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// Unique among the clients of a cluster.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.shared.client_id
    }

    #[must_use]
    pub fn routes(&self) -> &RouteCache<R> {
        &self.shared.routes
    }

    /// Connections to any node, for requests that have no method here.
    #[must_use]
    pub fn peers(&self) -> &Peers<R> {
        &self.shared.peers
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<R>> {
        &self.shared
    }

    /// Ends the tasks and the connections. Producers and consumers are stopped before.
    pub async fn stop(&self) {
        self.stop.send(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.peers.stop().await;
        for task in tasks {
            // A task that was cancelled has ended too.
            let _ = task.join().await;
        }
    }
}

impl<R: Runtime> Shared<R> {
    pub(crate) fn add_producer(&self, group: &str) {
        *self.registry.groups().producers.entry(group.to_owned()).or_default() += 1;
    }

    /// Forgets one producer; true when it was its group's last.
    pub(crate) fn remove_producer(&self, group: &str) -> bool {
        let mut groups = self.registry.groups();
        let Some(count) = groups.producers.get_mut(group) else {
            return false;
        };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            groups.producers.remove(group);
        }
        is_last
    }

    /// False when the group has a checker in this client already.
    fn add_checker(&self, group: &str, checker: mpsc::Sender<Check>) -> bool {
        let mut groups = self.registry.groups();
        if groups.checkers.contains_key(group) {
            return false;
        }
        groups.checkers.insert(group.to_owned(), checker);
        true
    }

    fn remove_checker(&self, group: &str) {
        self.registry.groups().checkers.remove(group);
    }

    /// False when the group has a consumer in this client already.
    fn add_consumer(&self, data: ConsumerData, wake: Sender<u64>, asked: Weak<dyn Asked>) -> bool {
        let mut groups = self.registry.groups();
        if groups.consumers.contains_key(&data.group_name) {
            return false;
        }
        groups.consumers.insert(data.group_name.clone(), ConsumerEntry { data, wake, asked });
        true
    }

    pub(crate) fn remove_consumer(&self, group: &str) {
        self.registry.groups().consumers.remove(group);
    }

    /// Asks for a heartbeat soon.
    pub(crate) fn wake_heartbeat(&self) {
        self.registry.heartbeat.modify(|count| *count += 1);
    }

    fn heartbeat(&self) -> Option<HeartbeatData> {
        let groups = self.registry.groups();
        if groups.producers.is_empty() && groups.consumers.is_empty() {
            return None;
        }
        Some(HeartbeatData {
            client_id: self.client_id.clone(),
            consumer_data_set: groups.consumers.values().map(|entry| entry.data.clone()).collect(),
            producer_data_set: groups
                .producers
                .keys()
                .map(|group_name| ProducerData { group_name: group_name.clone() })
                .collect(),
            ..HeartbeatData::default()
        })
    }

    /// Tells every known broker which groups are here; all at once, since one may hang.
    pub(crate) async fn heartbeat_all(&self) {
        let Some(data) = self.heartbeat() else {
            return;
        };
        let body = bytes::Bytes::from(data.to_json());
        let beat = RemotingCommand::request(request::HEART_BEAT).with_body(body);
        self.tell_all(!data.consumer_data_set.is_empty(), beat).await;
    }

    /// Tells every known broker that a group is gone from here.
    pub(crate) async fn unregister(&self, producer_group: Option<&str>, consumer_group: Option<&str>) {
        let header = UnregisterClientHeader {
            client_id: self.client_id.clone(),
            producer_group: producer_group.map(str::to_owned),
            consumer_group: consumer_group.map(str::to_owned),
        };
        let bye = RemotingCommand::request(request::UNREGISTER_CLIENT).with_header(&header);
        self.tell_all(consumer_group.is_some(), bye).await;
    }

    async fn tell_all(&self, with_slaves: bool, command: RemotingCommand) {
        let timeout = self.config.request_timeout;
        let calls: Vec<R::Task<()>> = self
            .routes
            .broker_addrs(with_slaves)
            .into_iter()
            .map(|addr| {
                let (rt, peers, command) = (self.rt.clone(), self.peers.clone(), command.clone());
                self.rt.spawn("client: tell a broker", async move {
                    match peers.call(&addr, command, timeout).await {
                        Ok(answer) if answer.code != 0 => {
                            rt.mark(Mark::HeartbeatRefused);
                            tracing::warn!(addr, code = answer.code, remark = ?answer.remark, "a broker refuses us");
                        }
                        Ok(_) => {}
                        Err(error) => tracing::debug!(%error, "a broker was not told"),
                    }
                })
            })
            .collect();
        for call in calls {
            // Cancelled: the client's node is dying.
            let _ = call.join().await;
        }
    }
}

async fn refresh_routes<R: Runtime>(shared: Arc<Shared<R>>, mut stopping: Receiver<bool>) {
    loop {
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.rt.sleep(shared.config.route_interval) => {}
        }
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.routes.refresh_all() => {}
        }
    }
}

async fn send_heartbeats<R: Runtime>(
    shared: Arc<Shared<R>>,
    mut wake: Receiver<u64>,
    mut stopping: Receiver<bool>,
) {
    loop {
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = wake.changed() => {}
            () = shared.rt.sleep(shared.config.heartbeat_interval) => {}
        }
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.rt.sleep(HEARTBEAT_PAUSE) => {}
        }
        // What asked meanwhile is served by this one.
        wake.get();
        crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.heartbeat_all() => {}
        }
    }
}

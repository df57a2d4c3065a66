//! The requests of a name server, one method each.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::broker_live::BrokerKey;
use super::kv_config::{KvConfig, KvConfigError, ORDER_TOPIC_CONFIG};
use super::route_info::{MinIdChange, RegisterRules, Registered, Registration, RouteInfo};
use super::route_query::UnitKind;
use crate::config::{self, NameServerConfig};
use crate::remoting::body::{
    BodyError, BrokerMemberGroup, DataVersion, GetBrokerMemberGroupBody, KvTable, RegisterBrokerBody,
    TopicRouteData, body_crc32,
};
use crate::remoting::codes::{request as code, response};
use crate::remoting::connection::{Answer, ConnectionHandle, Handler, unsupported};
use crate::remoting::headers::{
    AddWritePermHeader, AddWritePermResponse, BrokerHeartbeatHeader, DeleteKvConfigHeader,
    DeleteTopicInNameServerHeader, GetBrokerMemberGroupHeader, GetKvConfigHeader, GetKvConfigResponse,
    GetKvListHeader, GetRouteInfoHeader, GetTopicsByClusterHeader, NotifyMinBrokerIdChangeHeader,
    PutKvConfigHeader, QueryDataVersionHeader, QueryDataVersionResponse, RegisterBrokerHeader,
    RegisterBrokerResponse, RegisterTopicHeader, UnregisterBrokerHeader, WipeWritePermHeader,
    WipeWritePermResponse,
};
use crate::remoting::{HeaderError, RemotingCommand};
use crate::runtime::{Mark, Mono, Mutant, Runtime};

/// Settings of files and sockets: they are read once, at the start.
const FIXED_SETTINGS: &[&str] = &[
    "bindAddress",
    "configBlackList",
    "configStorePath",
    "kvConfigPath",
    "listenPort",
    "rocketmqHome",
    "serverChannelMaxIdleTimeSeconds",
];

/// Why a request is answered with a code of failure.
#[derive(Debug)]
struct Refusal {
    code: i32,
    remark: String,
}

impl Refusal {
    fn new(code: i32, remark: impl Into<String>) -> Refusal {
        Refusal { code, remark: remark.into() }
    }
}

macro_rules! system_error_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Refusal {
                Refusal::new(response::SYSTEM_ERROR, error.to_string())
            }
        }
    )*};
}
system_error_from!(HeaderError, BodyError, KvConfigError);

type Reply = Result<RemotingCommand, Refusal>;

/// State and settings behind the requests.
pub(super) struct Requests<R: Runtime> {
    rt: R,
    started: Mono,
    config: Mutex<NameServerConfig>,
    /// Held from the copy of the settings to the end of their write.
    changing: tokio::sync::Mutex<()>,
    routes: Mutex<RouteInfo>,
    kv: KvConfig<R>,
    /// Open connections, for notices to brokers and for closing those of expired ones.
    connections: Mutex<BTreeMap<u64, ConnectionHandle>>,
}

impl<R: Runtime> Handler<R> for Requests<R> {
    fn opened(&self, connection: &ConnectionHandle) {
        lock(&self.connections).insert(connection.id(), connection.clone());
    }

    fn closed(&self, connection: &ConnectionHandle) {
        lock(&self.connections).remove(&connection.id());
        let mut routes = lock(&self.routes);
        if self.rt.mutant(Mutant::LateCloseUnregisters) {
            routes.live.heard_last_on(connection.id());
        }
        let removed = routes.connection_closed(connection.id());
        drop(routes);
        for (key, change) in removed {
            self.rt.mark(Mark::BrokerGone);
            tracing::info!(broker = %key.addr, cluster = %key.cluster, "broker removed: its connection ended");
            self.tell_min_id(change);
        }
    }

    async fn handle(&self, connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        let reply = match request.code {
            code::REGISTER_BROKER => self.register_broker(connection, &request),
            code::UNREGISTER_BROKER => self.unregister_broker(&request),
            code::QUERY_DATA_VERSION => self.query_data_version(connection, &request),
            code::BROKER_HEARTBEAT => self.broker_heartbeat(connection, &request),
            code::GET_ROUTEINFO_BY_TOPIC => self.route(&request),
            code::GET_BROKER_CLUSTER_INFO => Ok(self.ok_with_body(&request, |r| r.cluster_info().to_json())),
            code::GET_BROKER_MEMBER_GROUP => self.member_group(&request),
            code::PUT_KV_CONFIG => self.put_kv(&request).await,
            code::GET_KV_CONFIG => self.get_kv(&request),
            code::DELETE_KV_CONFIG => self.delete_kv(&request).await,
            code::GET_KVLIST_BY_NAMESPACE => self.kv_list(&request),
            code::WIPE_WRITE_PERM_OF_BROKER => self.wipe_write_perm(&request),
            code::ADD_WRITE_PERM_OF_BROKER => self.add_write_perm(&request),
            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.all_topics(&request),
            code::GET_TOPICS_BY_CLUSTER => self.topics_of_cluster(&request),
            code::GET_SYSTEM_TOPIC_LIST_FROM_NS => {
                Ok(self.ok_with_body(&request, |r| r.system_topics().to_json()))
            }
            code::GET_UNIT_TOPIC_LIST => Ok(self.unit_topics(&request, UnitKind::Unit)),
            code::GET_HAS_UNIT_SUB_TOPIC_LIST => Ok(self.unit_topics(&request, UnitKind::HasUnitSub)),
            code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                Ok(self.unit_topics(&request, UnitKind::HasUnitSubNotUnit))
            }
            code::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(&request),
            code::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(&request),
            code::UPDATE_NAMESRV_CONFIG => self.update_config(&request).await,
            code::GET_NAMESRV_CONFIG => Ok(self.get_config(&request)),
            _ => Ok(unsupported(&request)),
        };
        Answer::Now(reply.unwrap_or_else(|refusal| {
            RemotingCommand::response_to(&request, refusal.code).with_remark(refusal.remark)
        }))
    }
}

impl<R: Runtime> Requests<R> {
    pub(super) fn new(rt: R, config: NameServerConfig, kv: KvConfig<R>) -> Requests<R> {
        Requests {
            started: rt.now(),
            rt,
            config: Mutex::new(config),
            changing: tokio::sync::Mutex::new(()),
            routes: Mutex::default(),
            kv,
            connections: Mutex::default(),
        }
    }

    /// How long to wait between two looks for silent brokers.
    pub(super) fn scan_interval(&self) -> Duration {
        Duration::from_millis(lock(&self.config).server.scan_interval_ms.max(1))
    }

    /// Removes brokers that were silent for too long and closes their connections.
    pub(super) fn expire(&self) {
        let removed = lock(&self.routes).expire(self.rt.now());
        self.tell_removed(removed);
    }

    /// Those that [`Requests::expire`] would remove.
    pub(super) fn silent(&self) -> Vec<(BrokerKey, u64)> {
        lock(&self.routes).silent(self.rt.now())
    }

    /// Removes brokers that were found silent before, whatever they have said since: the planted bug `LateExpiry`.
    pub(super) fn remove(&self, silent: Vec<(BrokerKey, u64)>) {
        let removed = lock(&self.routes).remove_silent(silent);
        self.tell_removed(removed);
    }

    fn tell_removed(&self, removed: Vec<(BrokerKey, Option<MinIdChange>, u64)>) {
        for (key, change, connection) in removed {
            self.rt.mark(Mark::BrokerSilent);
            tracing::warn!(broker = %key.addr, cluster = %key.cluster, "broker removed: it was silent for too long");
            let handle = lock(&self.connections).get(&connection).cloned();
            if let Some(handle) = handle {
                handle.close("the broker was silent for too long");
            }
            self.tell_min_id(change);
        }
    }

    fn register_broker(&self, connection: &ConnectionHandle, request: &RemotingCommand) -> Reply {
        let header: RegisterBrokerHeader = request.header()?;
        let body = registration_body(&header, request)?;
        let (rules, return_order) = {
            let config = lock(&self.config);
            let delete_missing_topics = config.server.delete_topic_with_registration;
            (RegisterRules { delete_missing_topics }, config.server.return_order_config)
        };
        let wrapper = &body.topic_config_serialize_wrapper;
        let registration = Registration {
            cluster: &header.cluster_name,
            broker_name: &header.broker_name,
            broker_id: header.broker_id,
            addr: &header.broker_addr,
            ha_addr: &header.ha_server_addr,
            timeout_ms: header.heartbeat_timeout_millis.and_then(|ms| u64::try_from(ms).ok()),
            enable_acting_master: header.enable_acting_master,
            zone_name: header.zone_name.as_deref(),
            version: &wrapper.data_version,
            topics: &wrapper.topic_config_table,
            filter_servers: &body.filter_server_list,
            connection: connection.id(),
        };
        let mut routes = lock(&self.routes);
        let outcome = match self.rt.mutant(Mutant::PartialRegistrationIsWhole) {
            false => routes.register(&registration, rules, self.rt.now()),
            true => routes.register_trusting(&registration, rules, self.rt.now()),
        };
        if self.rt.mutant(Mutant::SingleTopicMovesVersion) {
            routes.move_version(&registration);
        }
        drop(routes);
        match outcome {
            Registered::Refused => {
                self.rt.mark(Mark::TopicOfUnknownBroker);
                let why = "register broker failed: one topic of a broker that is not registered";
                Err(Refusal::new(response::SYSTEM_ERROR, why))
            }
            Registered::Superseded => {
                tracing::warn!(broker = %header.broker_addr, name = %header.broker_name, "registration ignored: another broker of a higher epoch has this id");
                Ok(ok(request))
            }
            Registered::Accepted { master, min_id_change } => {
                self.tell_min_id(min_id_change);
                let (ha_server_addr, master_addr) = master.unzip();
                let mut answer =
                    ok(request).with_header(&RegisterBrokerResponse { ha_server_addr, master_addr });
                if return_order && let Some(table) = self.kv.namespace(ORDER_TOPIC_CONFIG) {
                    answer = answer.with_body(KvTable { table }.to_json());
                }
                Ok(answer)
            }
        }
    }

    fn unregister_broker(&self, request: &RemotingCommand) -> Reply {
        let header: UnregisterBrokerHeader = request.header()?;
        let change =
            lock(&self.routes).unregister(&header.cluster_name, &header.broker_name, &header.broker_addr);
        tracing::info!(broker = %header.broker_addr, name = %header.broker_name, "broker unregistered");
        self.tell_min_id(change);
        Ok(ok(request))
    }

    fn query_data_version(&self, connection: &ConnectionHandle, request: &RemotingCommand) -> Reply {
        let header: QueryDataVersionHeader = request.header()?;
        let sent = DataVersion::parse(&request.body.to_bytes())?;
        let held = {
            let mut routes = lock(&self.routes);
            routes.heard(&header.cluster_name, &header.broker_addr, self.rt.now(), connection.id());
            routes.version_of(&header.cluster_name, &header.broker_addr).cloned()
        };
        let changed = held.as_ref() != Some(&sent);
        let mut answer = ok(request).with_header(&QueryDataVersionResponse { changed });
        if let Some(held) = held {
            answer = answer.with_body(held.to_json());
        }
        Ok(answer)
    }

    fn broker_heartbeat(&self, connection: &ConnectionHandle, request: &RemotingCommand) -> Reply {
        let header: BrokerHeartbeatHeader = request.header()?;
        lock(&self.routes).heard(&header.cluster_name, &header.broker_addr, self.rt.now(), connection.id());
        Ok(ok(request))
    }

    fn route(&self, request: &RemotingCommand) -> Reply {
        let header: GetRouteInfoHeader = request.header()?;
        let (order, acting_master, wait_s) = {
            let server = &lock(&self.config).server;
            let wait_s = if server.wait_for_service { server.wait_for_service_s } else { 0 };
            (server.order_messages, server.support_acting_master, wait_s)
        };
        // By time alone: what waits for registrations to become ready may wait for ever (bug history N-04).
        if self.rt.now().since(self.started) < Duration::from_secs(wait_s) {
            return Err(Refusal::new(response::SYSTEM_ERROR, "name server not ready"));
        }
        let found = lock(&self.routes).route(&header.topic, acting_master);
        let Some(mut route) = found else {
            return Err(no_route(&header.topic));
        };
        if order {
            route.order_topic_conf = self.kv.get(ORDER_TOPIC_CONFIG, &header.topic);
        }
        Ok(ok(request).with_body(route.to_json()))
    }

    fn member_group(&self, request: &RemotingCommand) -> Reply {
        let header: GetBrokerMemberGroupHeader = request.header()?;
        let found = lock(&self.routes).member_group(&header.broker_name).cloned();
        let broker_member_group = BrokerMemberGroup {
            cluster: header.cluster_name,
            broker_name: header.broker_name,
            broker_addrs: found.map(|group| group.broker_addrs).unwrap_or_default(),
        };
        Ok(ok(request).with_body(GetBrokerMemberGroupBody { broker_member_group }.to_json()))
    }

    async fn put_kv(&self, request: &RemotingCommand) -> Reply {
        let header: PutKvConfigHeader = request.header()?;
        self.kv.put(&header.namespace, &header.key, &header.value).await?;
        Ok(ok(request))
    }

    fn get_kv(&self, request: &RemotingCommand) -> Reply {
        let header: GetKvConfigHeader = request.header()?;
        let Some(value) = self.kv.get(&header.namespace, &header.key) else {
            let remark = format!("No config item, Namespace: {} Key: {}", header.namespace, header.key);
            return Err(Refusal::new(response::QUERY_NOT_FOUND, remark));
        };
        Ok(ok(request).with_header(&GetKvConfigResponse { value: Some(value) }))
    }

    async fn delete_kv(&self, request: &RemotingCommand) -> Reply {
        let header: DeleteKvConfigHeader = request.header()?;
        self.kv.delete(&header.namespace, &header.key).await?;
        Ok(ok(request))
    }

    fn kv_list(&self, request: &RemotingCommand) -> Reply {
        let header: GetKvListHeader = request.header()?;
        let Some(table) = self.kv.namespace(&header.namespace) else {
            let remark = format!("No config item, Namespace: {}", header.namespace);
            return Err(Refusal::new(response::QUERY_NOT_FOUND, remark));
        };
        Ok(ok(request).with_body(KvTable { table }.to_json()))
    }

    fn wipe_write_perm(&self, request: &RemotingCommand) -> Reply {
        let header: WipeWritePermHeader = request.header()?;
        let wipe_topic_count = count(lock(&self.routes).wipe_write_perm(&header.broker_name));
        tracing::info!(broker = %header.broker_name, topics = wipe_topic_count, "write permission wiped");
        Ok(ok(request).with_header(&WipeWritePermResponse { wipe_topic_count }))
    }

    fn add_write_perm(&self, request: &RemotingCommand) -> Reply {
        let header: AddWritePermHeader = request.header()?;
        let add_topic_count = count(lock(&self.routes).add_write_perm(&header.broker_name));
        tracing::info!(broker = %header.broker_name, topics = add_topic_count, "write permission added");
        Ok(ok(request).with_header(&AddWritePermResponse { add_topic_count }))
    }

    fn all_topics(&self, request: &RemotingCommand) -> Reply {
        if !lock(&self.config).server.all_topic_list {
            return Err(Refusal::new(response::SYSTEM_ERROR, "disable"));
        }
        Ok(self.ok_with_body(request, |routes| routes.all_topics().to_json()))
    }

    fn topics_of_cluster(&self, request: &RemotingCommand) -> Reply {
        let header: GetTopicsByClusterHeader = request.header()?;
        Ok(self.ok_with_body(request, |routes| routes.topics_of_cluster(&header.cluster).to_json()))
    }

    fn unit_topics(&self, request: &RemotingCommand, kind: UnitKind) -> RemotingCommand {
        self.ok_with_body(request, |routes| routes.unit_topics(kind).to_json())
    }

    fn delete_topic(&self, request: &RemotingCommand) -> Reply {
        let header: DeleteTopicInNameServerHeader = request.header()?;
        lock(&self.routes).delete_topic(&header.topic, header.cluster_name.as_deref());
        Ok(ok(request))
    }

    fn register_topic(&self, request: &RemotingCommand) -> Reply {
        let header: RegisterTopicHeader = request.header()?;
        let body = TopicRouteData::parse(&request.body.to_bytes())?;
        lock(&self.routes).register_topic(&header.topic, &body.queue_datas);
        Ok(ok(request))
    }

    /// All or nothing: a bad value changes no setting. What is changed is in the file that the next start reads.
    async fn update_config(&self, request: &RemotingCommand) -> Reply {
        let body = request.body.to_bytes();
        let text = std::str::from_utf8(&body)
            .map_err(|_| Refusal::new(response::SYSTEM_ERROR, "the body is not UTF-8 text"))?;
        let _changing = self.changing.lock().await;
        let mut changed = lock(&self.config).clone();
        let mut changes = Vec::new();
        for (key, value) in config::properties(text) {
            if FIXED_SETTINGS.contains(&key.as_str()) {
                let remark = format!("Can not update config in black list: {key}");
                return Err(Refusal::new(response::NO_PERMISSION, remark));
            }
            match changed.set(&key, &value) {
                Ok(()) => changes.push((key, value)),
                Err(config::ConfigError::UnknownFlag { key, .. }) => {
                    tracing::warn!(key, "setting not known here, ignored");
                }
                Err(error) => return Err(Refusal::new(response::SYSTEM_ERROR, error.to_string())),
            }
        }
        let path = changed.changes_file();
        config::save_changes(&self.rt, &path, &changes).await.map_err(|error| {
            Refusal::new(response::SYSTEM_ERROR, format!("write the changed settings to {path}: {error}"))
        })?;
        tracing::info!(?changes, "settings changed");
        *lock(&self.config) = changed;
        Ok(ok(request))
    }

    fn get_config(&self, request: &RemotingCommand) -> RemotingCommand {
        let mut text = String::new();
        for setting in lock(&self.config).settings() {
            writeln!(text, "{}={}", setting.key, setting.value).expect("a string takes all text");
        }
        ok(request).with_body(text.into_bytes())
    }

    fn ok_with_body(
        &self,
        request: &RemotingCommand,
        body: impl FnOnce(&RouteInfo) -> Vec<u8>,
    ) -> RemotingCommand {
        ok(request).with_body(body(&lock(&self.routes)))
    }

    /// Tells the members of a group who its smallest id is now, where the settings ask for that.
    fn tell_min_id(&self, change: Option<MinIdChange>) {
        let Some(change) = change else {
            return;
        };
        if !lock(&self.config).server.notify_min_broker_id {
            return;
        }
        let header = NotifyMinBrokerIdChangeHeader {
            min_broker_id: Some(change.min_id),
            broker_name: Some(change.broker_name),
            min_broker_addr: Some(change.min_addr),
            offline_broker_addr: change.offline_addr,
            ha_broker_addr: change.ha_addr,
        };
        let connections = lock(&self.connections);
        for handle in change.tell.iter().filter_map(|id| connections.get(id)) {
            let notice = RemotingCommand::request(code::NOTIFY_MIN_BROKER_ID_CHANGE).with_header(&header);
            if let Err(error) = handle.send_oneway(notice) {
                tracing::debug!(peer = %handle.peer(), %error, "smallest broker id not told");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ok(request: &RemotingCommand) -> RemotingCommand {
    RemotingCommand::response_to(request, response::SUCCESS)
}

/// # Source
/// apache/rocketmq, `DefaultRequestProcessor#checksum`: 0 is unchecked.
fn registration_body(
    header: &RegisterBrokerHeader,
    request: &RemotingCommand,
) -> Result<RegisterBrokerBody, Refusal> {
    let bytes = request.body.to_bytes();
    let expected = header.body_crc32.unwrap_or(0);
    if expected != 0 && body_crc32(&bytes) != expected {
        return Err(Refusal::new(response::SYSTEM_ERROR, "crc32 not match"));
    }
    Ok(RegisterBrokerBody::decode(&bytes, request.version)?)
}

fn no_route(topic: &str) -> Refusal {
    let remark = format!(
        "No topic route info in name server for the topic: {topic}\n\
         See http://rocketmq.apache.org/docs/faq/ for further details."
    );
    Refusal::new(response::TOPIC_NOT_EXIST, remark)
}

fn count(topics: usize) -> i32 {
    i32::try_from(topics).unwrap_or(i32::MAX)
}

//! Which queues a topic has and where their brokers are, as the name servers say.
//!
//! A topic that a name server does not know keeps the route it had: a name server that has just started knows nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::remoting::RemotingCommand;
use crate::remoting::body::{BodyError, MessageQueue, TopicRouteData};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::CallError;
use crate::remoting::headers::GetRouteInfoHeader;
use crate::remoting::peer::Peers;
use crate::runtime::Runtime;

const PERM_READ: i32 = 4;
const PERM_WRITE: i32 = 2;
pub(super) const MASTER_ID: i64 = 0;
/// Queues of a topic that is created by its first message.
const DEFAULT_TOPIC_QUEUES_MAX: i32 = 4;
/// The topic whose route a new topic takes over.
pub const DEFAULT_TOPIC: &str = "TBW102";

/// Why there is no route.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RouteError {
    #[error("no name server is configured")]
    NoNameServer,
    #[error("no name server answers, the last error is: {0}")]
    Unreachable(#[from] CallError),
    #[error("no name server knows the topic {topic}")]
    UnknownTopic { topic: String },
    #[error("the name server answers {}: {remark}", crate::remoting::codes::response_name(*code))]
    Refused { code: i32, remark: String },
    #[error("the name server's route of {topic}: {error}")]
    Malformed { topic: String, error: BodyError },
}

/// The queues of one topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Route {
    /// To send to: on masters with write permission, by broker name and queue id.
    pub publish: Vec<MessageQueue>,
    /// To consume from, in the same order.
    pub subscribe: Vec<MessageQueue>,
    /// Addresses by broker name and broker id; id 0 is the master.
    pub brokers: BTreeMap<String, BTreeMap<i64, String>>,
}

impl Route {
    fn new(topic: &str, data: &TopicRouteData) -> Route {
        let brokers: BTreeMap<String, BTreeMap<i64, String>> = data
            .broker_datas
            .iter()
            .map(|broker| (broker.broker_name.clone(), broker.broker_addrs.clone()))
            .collect();
        let has_master = |name: &str| brokers.get(name).is_some_and(|addrs| addrs.contains_key(&MASTER_ID));
        let queue = |broker_name: &str, queue_id| MessageQueue {
            topic: topic.to_owned(),
            broker_name: broker_name.to_owned(),
            queue_id,
        };
        let mut queue_datas = data.queue_datas.clone();
        queue_datas.sort();
        let mut route = Route { brokers: brokers.clone(), ..Route::default() };
        for data in &queue_datas {
            if data.perm & PERM_READ != 0 {
                route.subscribe.extend((0..data.read_queue_nums).map(|id| queue(&data.broker_name, id)));
            }
            if data.perm & PERM_WRITE != 0 && has_master(&data.broker_name) {
                route.publish.extend((0..data.write_queue_nums).map(|id| queue(&data.broker_name, id)));
            }
        }
        if let Some(order) = data.order_topic_conf.as_ref().filter(|order| !order.is_empty()) {
            let parts = order.split(';').filter_map(|part| part.split_once(':'));
            let counts = parts.filter_map(|(name, count)| Some((name, count.parse::<i32>().ok()?)));
            route.publish = counts
                .flat_map(|(name, count)| (0..count).map(move |id| (name, id)))
                .map(|(name, id)| queue(name, id))
                .collect();
        }
        route
    }

    /// The route of `topic` while it does not exist: where it would be created.
    fn for_new_topic(topic: &str, default: &TopicRouteData) -> Route {
        let mut data = default.clone();
        for queues in &mut data.queue_datas {
            let count = queues.read_queue_nums.min(DEFAULT_TOPIC_QUEUES_MAX);
            (queues.read_queue_nums, queues.write_queue_nums) = (count, count);
        }
        Route { subscribe: Vec::new(), ..Route::new(topic, &data) }
    }
}

#[derive(Default)]
struct Tables {
    routes: BTreeMap<String, Arc<Route>>,
    brokers: BTreeMap<String, BTreeMap<i64, String>>,
}

/// The routes of all topics that a client uses.
pub struct RouteCache<R: Runtime> {
    peers: Peers<R>,
    name_servers: Vec<String>,
    /// Index of the name server in use; it is kept until it fails.
    current: AtomicUsize,
    timeout: Duration,
    tables: Mutex<Tables>,
}

impl<R: Runtime> RouteCache<R> {
    pub(crate) fn new(rt: &R, peers: Peers<R>, name_servers: Vec<String>, timeout: Duration) -> Self {
        let first = usize::try_from(rt.random_u64() >> 33).unwrap_or(0) % name_servers.len().max(1);
        RouteCache {
            peers,
            name_servers,
            current: AtomicUsize::new(first),
            timeout,
            tables: Mutex::default(),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route known now.
    #[must_use]
    pub fn known(&self, topic: &str) -> Option<Arc<Route>> {
        self.tables().routes.get(topic).cloned()
    }

    /// The route known now, or else asked for.
    ///
    /// # Errors
    /// [`RouteError`].
    pub async fn route(&self, topic: &str) -> Result<Arc<Route>, RouteError> {
        match self.known(topic) {
            Some(route) => Ok(route),
            None => self.refresh(topic).await,
        }
    }

    /// A route to send to; a topic that does not exist gets the one that it would be created with.
    ///
    /// # Errors
    /// [`RouteError`].
    pub async fn publish_route(&self, topic: &str) -> Result<Arc<Route>, RouteError> {
        if let Some(route) = self.known(topic).filter(|route| !route.publish.is_empty()) {
            return Ok(route);
        }
        match self.refresh(topic).await {
            Err(error @ RouteError::UnknownTopic { .. }) => {
                let Ok(default) = self.ask(DEFAULT_TOPIC).await else {
                    return Err(error);
                };
                Ok(self.keep(topic, Route::for_new_topic(topic, &default)))
            }
            other => other,
        }
    }

    /// Asks the name servers, whatever is known.
    ///
    /// # Errors
    /// [`RouteError`]; what was known stays.
    pub async fn refresh(&self, topic: &str) -> Result<Arc<Route>, RouteError> {
        let data = self.ask(topic).await?;
        Ok(self.keep(topic, Route::new(topic, &data)))
    }

    /// Asks for every topic in use and forgets brokers that no route names any more.
    pub(super) async fn refresh_all(&self) {
        let topics: Vec<String> = self.tables().routes.keys().cloned().collect();
        for topic in topics {
            if let Err(error) = self.refresh(&topic).await {
                tracing::debug!(topic, %error, "route not refreshed");
            }
        }
        let mut tables = self.tables();
        let brokers = tables.routes.values().flat_map(|route| route.brokers.clone()).collect();
        tables.brokers = brokers;
    }

    /// The master's address.
    #[must_use]
    pub fn master(&self, broker_name: &str) -> Option<String> {
        self.tables().brokers.get(broker_name)?.get(&MASTER_ID).cloned()
    }

    /// The address of the wanted broker id, or of another member of the same name.
    ///
    /// # Source
    /// apache/rocketmq, `MQClientInstance#findBrokerAddressInSubscribe`.
    #[must_use]
    pub fn readable(&self, broker_name: &str, wanted_id: i64) -> Option<String> {
        let tables = self.tables();
        let addrs = tables.brokers.get(broker_name)?;
        let next = wanted_id.checked_add(1).filter(|_| wanted_id != MASTER_ID);
        let found = addrs.get(&wanted_id).or_else(|| addrs.get(&next?));
        found.or_else(|| addrs.values().next()).cloned()
    }

    /// Whether no address of that member of the broker's name is known.
    #[must_use]
    pub fn is_missing(&self, broker_name: &str, id: i64) -> bool {
        self.tables().brokers.get(broker_name).is_none_or(|addrs| !addrs.contains_key(&id))
    }

    /// Addresses of every known broker, masters first to last name.
    #[must_use]
    pub fn broker_addrs(&self, with_slaves: bool) -> Vec<String> {
        let tables = self.tables();
        let members = tables.brokers.values().flatten();
        members.filter(|(id, _)| with_slaves || **id == MASTER_ID).map(|(_, addr)| addr.clone()).collect()
    }

    fn keep(&self, topic: &str, route: Route) -> Arc<Route> {
        let mut tables = self.tables();
        // Also when this route is known: another topic's may have been of a time when a broker had a slave only.
        tables.brokers.extend(route.brokers.clone());
        if let Some(known) = tables.routes.get(topic).filter(|known| ***known == route) {
            return known.clone();
        }
        let route = Arc::new(route);
        tables.routes.insert(topic.to_owned(), route.clone());
        route
    }

    async fn ask(&self, topic: &str) -> Result<TopicRouteData, RouteError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut last = RouteError::NoNameServer;
        for step in 0..self.name_servers.len() {
            let index = (first + step) % self.name_servers.len();
            let Some(addr) = self.name_servers.get(index) else {
                continue;
            };
            let header = GetRouteInfoHeader { topic: topic.to_owned(), ..GetRouteInfoHeader::default() };
            let question = RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC).with_header(&header);
            match self.peers.call(addr, question, self.timeout).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return read_route(topic, &answer);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

fn read_route(topic: &str, answer: &RemotingCommand) -> Result<TopicRouteData, RouteError> {
    match answer.code {
        response::SUCCESS => TopicRouteData::parse(&answer.body.to_bytes())
            .map_err(|error| RouteError::Malformed { topic: topic.to_owned(), error }),
        response::TOPIC_NOT_EXIST => Err(RouteError::UnknownTopic { topic: topic.to_owned() }),
        code => Err(RouteError::Refused { code, remark: answer.remark.clone().unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoting::body::{BrokerData, QueueData};

    fn data(perm: i32, ids: &[i64]) -> TopicRouteData {
        let addrs = ids.iter().map(|id| (*id, format!("10.0.0.{id}:10911"))).collect();
        TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_name: "a".into(),
                broker_addrs: addrs,
                ..BrokerData::default()
            }],
            queue_datas: vec![QueueData {
                broker_name: "a".into(),
                perm,
                read_queue_nums: 8,
                write_queue_nums: 2,
                ..QueueData::default()
            }],
            ..TopicRouteData::default()
        }
    }

    #[test]
    fn permissions_and_a_master_decide_where_messages_go() {
        let counts = |route: &Route| (route.publish.len(), route.subscribe.len());
        assert_eq!(counts(&Route::new("T", &data(6, &[0, 1]))), (2, 8));
        assert_eq!(counts(&Route::new("T", &data(4, &[0]))), (0, 8));
        assert_eq!(counts(&Route::new("T", &data(2, &[0]))), (2, 0));
        assert_eq!(counts(&Route::new("T", &data(6, &[1]))), (0, 8));
    }

    #[test]
    fn a_new_topic_gets_at_most_four_queues_to_send_to() {
        let route = Route::for_new_topic("T", &data(7, &[0]));
        assert_eq!((route.publish.len(), route.subscribe.len()), (4, 0));
        assert!(route.publish.iter().all(|queue| queue.topic == "T"));
    }

    #[test]
    fn an_ordered_topic_lists_its_queues_itself() {
        let ordered = TopicRouteData { order_topic_conf: Some("b:1;a:2".into()), ..data(6, &[0]) };
        let names: Vec<String> = Route::new("T", &ordered)
            .publish
            .iter()
            .map(|queue| format!("{}{}", queue.broker_name, queue.queue_id))
            .collect();
        assert_eq!(names, ["b0", "a0", "a1"]);
    }
}

//! A consumer's program: the real push consumer, whose listener tells the witness what it was given.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hotfire_core::client::CheckError;
use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::{Client, Received};
use hotfire_core::message::StoredMessage;
use hotfire_core::remoting::codes::response::SUBSCRIPTION_PARSE_FAILED as PARSE_FAILED;
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use crate::cluster::Cluster;
use crate::history::Place;
use crate::oracle::in_order::Member;
use crate::oracle::no_phantom::Read;
use crate::oracle::{Broken, sql_filter};
use crate::plan::{Consumption, Settings, names};
use crate::platter::delayed::RETRY_PREFIX;
use crate::platter::properties::find;
use crate::produce::client_config;
use crate::workload::{Identity, fails, identify, trouble};

/// Before a broker is asked once more about a filter.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Before a message with which a listener has failed comes again.
const FAILED_PAUSE: Duration = Duration::from_millis(300);

/// The group of a consumer by its number.
#[must_use]
pub fn group(index: u32) -> String {
    format!("group-{index}")
}

/// Whether the group of that number broadcasts.
#[must_use]
pub fn broadcasts(settings: &Settings, group: u32) -> bool {
    let does = settings.consumption.as_ref().is_some_and(|consumption| consumption.broadcast);
    does && group + 1 == settings.groups
}

/// For whom a consumer reads: its group, or itself alone where that broadcasts.
#[must_use]
pub fn reader(settings: &Settings, consumer: u32) -> String {
    let of = consumer % settings.groups;
    if broadcasts(settings, of) { format!("{}@{consumer}", group(of)) } else { group(of) }
}

/// A consumer's settings: the usual ones, from the first message on.
#[must_use]
pub fn config(group: &str, topics: Vec<String>) -> ConsumerConfig {
    ConsumerConfig {
        subscriptions: topics.into_iter().map(|topic| (topic, "*".to_owned())).collect(),
        from: ConsumeFrom::First,
        ..ConsumerConfig::new(group, "", "")
    }
}

/// The same, with what the plan lets a group subscribe to.
#[must_use]
pub fn subscribed(cluster: &Cluster, group: &str) -> ConsumerConfig {
    let mut config = config(group, cluster.topics());
    if let Some(form) = sql_of(&cluster.plan.settings, group) {
        let topics = std::mem::take(&mut config.subscriptions).into_iter();
        config.sql = topics.map(|(topic, _)| (topic, sql_filter::text(form).to_owned())).collect();
    }
    config
}

pub async fn run(rt: SimRuntime, cluster: Cluster, index: u32) {
    let name = names::consumer(index);
    let group = group(index % cluster.plan.settings.groups);
    let client = Arc::new(Client::start(rt.clone(), client_config(&cluster, &name)));
    let mut config = subscribed(&cluster, &group);
    if !config.sql.is_empty() {
        rt.spawn("check filter", check_filter(rt.clone(), cluster.clone(), client.clone(), config.clone()));
    }
    if let Some(delays) = &cluster.plan.settings.delays {
        config.max_reconsume_times = delays.reconsume_max;
    }
    if let Some(consumption) = &cluster.plan.settings.consumption {
        let alone = broadcasts(&cluster.plan.settings, index % cluster.plan.settings.groups);
        watched(&mut config, consumption, alone);
    }
    let life = cluster.world.boots(cluster.node(&name));
    let reader = Arc::new(Reader {
        rt: rt.clone(),
        cluster: cluster.clone(),
        name: reader(&cluster.plan.settings, index),
        member: Member { consumer: index, life },
    });
    let listener = move |messages: Vec<Received>| {
        let reader = reader.clone();
        async move {
            let mut status = ConsumeStatus::Success;
            for received in &messages {
                match reader.read(received).await {
                    ConsumeStatus::Success => {}
                    failed => status = failed,
                }
            }
            status
        }
    };
    let consumer =
        PushConsumer::start(&client, config, listener).expect("a group and subscriptions are given");
    cluster.holds(index, consumer.watch_queues());
    rt.stop_requested().await;
    consumer.stop().await;
    client.stop().await;
}

/// What makes the turns of consumers worth watching.
fn watched(config: &mut ConsumerConfig, consumption: &Consumption, alone: bool) {
    config.in_order = consumption.in_order;
    config.commit_interval = Duration::from_millis(consumption.commit_interval_ms);
    (config.suspend, config.retry_delay) = (FAILED_PAUSE, FAILED_PAUSE);
    if alone {
        config.broadcast = Some(format!("offsets/{}/offsets.json", config.group));
    } else if consumption.from_last {
        config.from = ConsumeFrom::Last;
    }
}

/// A consumer's application.
struct Reader {
    rt: SimRuntime,
    cluster: Cluster,
    name: String,
    member: Member,
}

impl Reader {
    async fn read(&self, received: &Received) -> ConsumeStatus {
        let (cluster, plan) = (&self.cluster, &self.cluster.plan);
        tell(cluster, &self.name, &received.broker_name, &received.message);
        let Identity::Whole(id) = identify(&received.message.body) else { return ConsumeStatus::Success };
        let tries = received.message.reconsume_times;
        if plan.settings.consumption.is_none() {
            let fails = tries < fails(plan, id);
            return if fails { ConsumeStatus::Retry } else { ConsumeStatus::Success };
        }
        let place = place(&received.broker_name, &received.message, &self.name);
        let is_new = cluster.witness.begins(self.member, &self.name, &place, id);
        // What is known takes no time, so that a queue is caught up with soon.
        let (times, takes_ms) = if is_new { trouble(plan, id) } else { (0, 0) };
        self.rt.sleep(Duration::from_millis(takes_ms)).await;
        let is_consumed = tries >= times;
        cluster.witness.ends(self.member, &self.name, &place, id, is_consumed);
        if is_consumed { ConsumeStatus::Success } else { ConsumeStatus::Later }
    }
}

/// The number of the expression by which a group subscribes, if it does.
#[must_use]
pub fn sql_of(settings: &Settings, of: &str) -> Option<u32> {
    settings.sql.filter(|_| settings.groups.checked_sub(1).map(group).as_deref() == Some(of))
}

/// Asks a broker whether it serves the group's filter, until one answers; and whether it serves half of it, which it must not.
async fn check_filter(
    rt: SimRuntime,
    cluster: Cluster,
    client: Arc<Client<SimRuntime>>,
    config: ConsumerConfig,
) {
    let Some((topic, expression)) = config.sql.first() else { return };
    for (text, expected) in [(expression.clone(), None), (format!("{expression} AND"), Some(PARSE_FAILED))] {
        let code = loop {
            match client.check_filter(&config.group, topic, &text).await {
                Ok(()) => break None,
                Err(CheckError::Refused { code, .. }) => break Some(code),
                Err(_) => rt.sleep(ASK_AGAIN).await,
            }
        };
        if code != expected {
            let detail = format!("a broker answers {code:?} about the filter {text}");
            cluster.witness.note(Err(Broken::new("FILTER", detail)));
        }
    }
}

/// Where a group has read a message.
#[must_use]
pub fn place(broker: &str, message: &StoredMessage, group: &str) -> Place {
    // What comes again is read from the group's retry topic, and shown with the topic that it was sent to.
    let topic = match find(&message.properties, "RETRY_TOPIC") {
        Some(_) => format!("{RETRY_PREFIX}{group}"),
        None => message.topic.clone(),
    };
    Place {
        broker: broker.to_owned(),
        topic,
        queue: message.queue_id,
        queue_offset: message.queue_offset,
        physical_offset: Some(message.physical_offset),
    }
}

/// Tells the witness what was read from a broker.
pub fn tell(cluster: &Cluster, group: &str, broker: &str, message: &StoredMessage) {
    let property = |name: &str| find(&message.properties, name);
    let hosts = (as_v4(message.born_host), as_v4(message.store_host));
    let read = Read {
        topic: &message.topic,
        body: &message.body,
        flag: message.flag,
        born_ms: message.born_timestamp,
        hosts,
        property: &property,
    };
    cluster.witness.delivered(group, &read, place(broker, message, group), message.reconsume_times);
}

fn as_v4(host: SocketAddr) -> Option<SocketAddrV4> {
    match host {
        SocketAddr::V4(host) => Some(host),
        SocketAddr::V6(_) => None,
    }
}

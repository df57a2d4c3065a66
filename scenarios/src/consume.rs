//! A consumer's program: the real push consumer, whose listener tells the witness what it was given.

use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::{Client, Received};
use hotfire_core::message::StoredMessage;
use hotfire_sim::SimRuntime;

use crate::cluster::Cluster;
use crate::history::Place;
use crate::oracle::no_phantom::Read;
use crate::plan::names;
use crate::platter::properties::find;
use crate::produce::client_config;

/// The group of a consumer by its number.
#[must_use]
pub fn group(index: u32) -> String {
    format!("group-{index}")
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

pub async fn run(rt: SimRuntime, cluster: Cluster, index: u32) {
    let name = names::consumer(index);
    let group = group(index % cluster.plan.settings.groups);
    let client = Client::start(rt.clone(), client_config(&cluster, &name));
    let config = config(&group, cluster.topics());
    let (told, told_group) = (cluster.clone(), group.clone());
    let listener = move |messages: Vec<Received>| {
        let (cluster, group) = (told.clone(), told_group.clone());
        async move {
            for received in &messages {
                tell(&cluster, &group, &received.broker_name, &received.message);
            }
            ConsumeStatus::Success
        }
    };
    let consumer =
        PushConsumer::start(&client, config, listener).expect("a group and subscriptions are given");
    cluster.holds(index, consumer.watch_queues());
    rt.stop_requested().await;
    consumer.stop().await;
    client.stop().await;
}

/// Tells the witness what was read from a broker.
pub fn tell(cluster: &Cluster, group: &str, broker: &str, message: &StoredMessage) {
    let place = Place {
        broker: broker.to_owned(),
        topic: message.topic.clone(),
        queue: message.queue_id,
        queue_offset: message.queue_offset,
        physical_offset: Some(message.physical_offset),
    };
    let property = |name: &str| find(&message.properties, name);
    let read = Read { topic: &message.topic, body: &message.body, property: &property };
    cluster.witness.delivered(group, &read, place);
}

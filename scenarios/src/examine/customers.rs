//! The real clients, on topics that are not alike everywhere: where they send, what they are given, how they share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome, SendStatus, local_code};
use hotfire_core::client::{Client, ClientConfig, Message, Received};
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use super::sends::{Draft, store};
use super::topics::{self, Shape};
use super::{Desk, NODE, Step};
use crate::cluster::{Cluster, address, name_servers};
use crate::plan::names;

const TOPIC: &str = "op-customers";
const CLOSED: &str = "op-closed";
const GROUP: &str = "op-customers-group";
/// Name servers have been told of a topic by then.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// What is there is given within this.
const GIVEN_WITHIN: Duration = Duration::from_secs(20);
/// Members that are told of each other have shared their queues within this: long before they look by themselves.
const SHARED_WITHIN: Duration = Duration::from_secs(6);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Messages, in turns to each queue.
const MESSAGES: usize = 16;
/// Of these every third travels compressed.
const LONG_BYTES: usize = 5_000;
/// Two of them have one hash.
const TAGS: [&str; 4] = ["Aa", "BB", "orange", "red"];
const WANTED: &str = "Aa || orange";

/// Where a message stands, and its body.
type Given = (String, i32, i64, Bytes);

fn lock(given: &Mutex<BTreeSet<Given>>) -> std::sync::MutexGuard<'_, BTreeSet<Given>> {
    given.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Customers {
    rt: SimRuntime,
    cluster: Cluster,
    /// One for each broker, with what the topic is like there.
    desks: Vec<(Desk, Shape)>,
}

pub(super) async fn examine(rt: &SimRuntime, cluster: &Cluster) -> Step {
    let mut customers = Customers { rt: rt.clone(), cluster: cluster.clone(), desks: Vec::new() };
    for (nth, broker) in names::brokers(&cluster.plan.settings).iter().enumerate() {
        let mut desk = Desk::of_broker(rt, cluster, broker);
        // The first has queues that are read only.
        let (read, write, perm) = if nth == 0 { (4, 2, 6) } else { (2, 3, desk.draw("perm").pick(&[4, 6])) };
        let shape = Shape { read, write, perm, multi_tag: false, order: true, system_flag: 0 };
        topics::put(&mut desk, TOPIC, &shape).await?;
        topics::put(&mut desk, CLOSED, &Shape { perm: 4, ..shape.clone() }).await?;
        customers.desks.push((desk, shape));
    }
    rt.sleep(TOLD_WITHIN).await;
    let client = customers.client("one");
    let producer = Producer::start(&client, ProducerConfig::new("op-customers-producers"));
    let verdict = customers.serve(&client, &producer).await;
    producer.stop().await;
    client.stop().await;
    verdict
}

impl Customers {
    fn client(&self, name: &str) -> Client<SimRuntime> {
        let mut config = ClientConfig::new(name_servers(&self.cluster.plan.settings), address(NODE).into());
        config.instance = Some(name.to_owned());
        Client::start(self.rt.clone(), config)
    }

    fn queues(&self, may: i32, count: impl Fn(&Shape) -> i32) -> BTreeSet<(String, i32)> {
        let shapes = self.desks.iter().filter(|(_, shape)| shape.perm & may != 0);
        shapes.flat_map(|(desk, shape)| (0..count(shape)).map(|queue| (desk.name.clone(), queue))).collect()
    }

    async fn serve(&mut self, client: &Client<SimRuntime>, producer: &Producer<SimRuntime>) -> Step {
        let mut wanted = self.send(producer).await?;
        let (first, _) = &mut self.desks[0];
        let draft = Draft::new(first, TOPIC, 3).tagged("orange");
        for letter in store(first, &draft).await? {
            wanted.insert((first.name.clone(), letter.queue, letter.queue_offset, letter.body.into()));
        }
        let closed = producer.send(&Message::new(CLOSED, "nobody takes it")).await;
        let is_refused = matches!(closed, SendOutcome::Refused { code: local_code::NOT_FOUND_TOPIC, .. });
        self.desks[0].0.equal(
            &format!("a send to a topic that is closed being refused: {closed:?}"),
            is_refused,
            true,
        )?;
        self.consume(client, &wanted).await?;
        self.turned_away(producer).await
    }

    /// Sends to each queue that takes messages; answers those that the consumers want.
    async fn send(&mut self, producer: &Producer<SimRuntime>) -> Step<BTreeSet<Given>> {
        let (mut wanted, mut used) = (BTreeSet::new(), BTreeSet::new());
        let readable = self.queues(4, |shape| shape.read);
        for nth in 0..MESSAGES {
            let tag = TAGS[nth % TAGS.len()];
            let text = format!("message {nth} for customers. ");
            let bytes = if nth.is_multiple_of(3) { LONG_BYTES } else { text.len() };
            let body: Bytes = text.bytes().cycle().take(bytes).collect();
            let message =
                Message::new(TOPIC, body.clone()).with_tags(tag).with_key(format!("customer-{nth}"));
            let sent = producer.send(&message).await;
            let SendOutcome::Sent(result) = sent else {
                return Err(self.desks[0].0.broken(format!("a customer's message: {sent:?}")));
            };
            self.desks[0].0.equal("how a customer's message is stored", result.status, SendStatus::Ok)?;
            let queue = (result.broker_name.clone(), result.queue_id);
            let is_read = readable.contains(&queue);
            used.insert(queue);
            if is_read && ["Aa", "orange"].contains(&tag) {
                wanted.insert((result.broker_name, result.queue_id, result.queue_offset, body));
            }
        }
        let expected = self.queues(2, |shape| shape.write);
        self.desks[0].0.equal("the queues that messages went to", used, expected)?;
        Ok(wanted)
    }

    /// One member is given what it wants, and nothing else; another one then takes its share.
    async fn consume(&self, client: &Client<SimRuntime>, wanted: &BTreeSet<Given>) -> Step {
        let desk = &self.desks[0].0;
        let given: Arc<Mutex<BTreeSet<Given>>> = Arc::default();
        let one = self.member(client, &given);
        let until = self.rt.now().after(GIVEN_WITHIN);
        while !lock(&given).is_superset(wanted) && self.rt.now() < until {
            self.rt.sleep(LOOK_AGAIN).await;
        }
        self.rt.sleep(LOOK_AGAIN).await;
        let found = lock(&given).clone();
        let verdict = desk.equal("what a consumer is given", &found, wanted);
        let other = self.client("two");
        let two = self.member(&other, &given);
        let verdict = match verdict {
            Ok(()) => self.shared(&one, &two).await,
            broken => broken,
        };
        two.stop().await;
        other.stop().await;
        one.stop().await;
        verdict
    }

    fn member(
        &self,
        client: &Client<SimRuntime>,
        given: &Arc<Mutex<BTreeSet<Given>>>,
    ) -> PushConsumer<SimRuntime> {
        let given = given.clone();
        let listener = move |messages: Vec<Received>| {
            for Received { message, broker_name } in messages {
                lock(&given).insert((broker_name, message.queue_id, message.queue_offset, message.body));
            }
            std::future::ready(ConsumeStatus::Success)
        };
        let config = ConsumerConfig {
            subscriptions: vec![(TOPIC.to_owned(), WANTED.to_owned())],
            from: ConsumeFrom::First,
            ..ConsumerConfig::new(GROUP, "", "")
        };
        PushConsumer::start(client, config, listener).expect("a group and subscriptions are given")
    }

    /// Each queue that is read has one holder of the two, soon.
    async fn shared(&self, one: &PushConsumer<SimRuntime>, two: &PushConsumer<SimRuntime>) -> Step {
        let held = |member: &PushConsumer<SimRuntime>| -> Vec<(String, i32)> {
            let of_topic = member.queues().into_iter().filter(|queue| queue.topic == TOPIC);
            of_topic.map(|queue| (queue.broker_name, queue.queue_id)).collect()
        };
        let readable: Vec<(String, i32)> = self.queues(4, |shape| shape.read).into_iter().collect();
        let until = self.rt.now().after(SHARED_WITHIN);
        loop {
            let (of_one, of_two) = (held(one), held(two));
            let mut both: Vec<(String, i32)> = of_one.iter().chain(&of_two).cloned().collect();
            both.sort();
            if both == readable && of_one.len().abs_diff(of_two.len()) <= 1 {
                return Ok(());
            }
            if self.rt.now() > until {
                let detail = format!("two members hold {of_one:?} and {of_two:?} of {readable:?}");
                return Err(self.desks[0].0.broken(detail));
            }
            self.rt.sleep(LOOK_AGAIN).await;
        }
    }

    /// A broker that takes nothing any more refuses, and the message goes to another one.
    async fn turned_away(&mut self, producer: &Producer<SimRuntime>) -> Step {
        if !self.desks[1..].iter().any(|(_, shape)| shape.perm & 2 != 0) {
            return Ok(());
        }
        let (first, _) = &mut self.desks[0];
        topics::set(first, "brokerPermission=4\n", 0).await?;
        for nth in 0..MESSAGES {
            let sent =
                producer.send(&Message::new(TOPIC, format!("turned away {nth}")).with_tags("red")).await;
            let elsewhere = matches!(&sent, SendOutcome::Sent(result) if result.broker_name != first.name);
            first.equal(&format!("a message that goes to another broker: {sent:?}"), elsewhere, true)?;
        }
        topics::set(first, "brokerPermission=6\n", 0).await
    }
}

//! A producer's program: real client code that works through the producer's messages.
//!
//! The number of a message is taken before it is sent, and never again: a message whose producer died with it stays of
//! unknown outcome.

use std::sync::Arc;
use std::time::Duration;

use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome, SendResult, SendStatus};
use hotfire_core::client::transaction_producer::TransactionProducer;
use hotfire_core::client::{Client, ClientConfig, DEFAULT_TOPIC, Message};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::CreateTopicHeader;
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, address, name_servers};
use crate::history::{Outcome, Place, Status};
use crate::oracle::transaction::HALF_TOPIC;
use crate::plan::names;
use crate::platter::delayed::DELAY_TOPIC;
use crate::transact::{self, Settler};
use crate::witness::{nth_place, physical_offset};
use crate::workload::{self, Draft, FILLER, Kind, Operation, flag_of};

/// The messages of a producer that are sent one after the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Series {
    Usual,
    /// One message a second.
    Slow,
    /// On the healed cluster.
    Proof,
}

/// How often a producer asks for routes that it does not know.
const KNOW_AGAIN: Duration = Duration::from_secs(2);
/// How often a sender looks whether the cluster is healed.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Takes what was meant for a topic that is closed.
const USUAL_TOPIC: &str = "topic-0";
/// A broker makes a topic within this, or is asked again.
pub const MAKE_TIMEOUT: Duration = Duration::from_secs(1);

pub async fn run(rt: SimRuntime, cluster: Cluster, index: u32) {
    let name = names::producer(index);
    let slow = cluster.plan.settings.producers;
    cluster.witness.abandoned(|id| id.producer() == index || (index == 0 && id.producer() == slow));
    let client = Client::start(rt.clone(), client_config(&cluster, &name));
    if cluster.plan.settings.consumption.as_ref().is_some_and(|consumption| consumption.in_order) {
        let made = make_topics(rt.clone(), cluster.clone(), client.clone());
        let (rt, cluster, client) = (rt.clone(), cluster.clone(), client.clone());
        rt.clone().spawn("senders", async move {
            made.await;
            start_senders(&rt, &cluster, &client, index);
        });
    } else {
        start_senders(&rt, &cluster, &client, index);
    }
    rt.stop_requested().await;
    client.stop().await;
}

fn start_senders(rt: &SimRuntime, cluster: &Cluster, client: &Client<SimRuntime>, index: u32) {
    let producer = Arc::new(Producers::start(rt, cluster, client, &names::producer(index)));
    for _ in 0..cluster.plan.workload.in_flight {
        rt.spawn("sender", send_usual(rt.clone(), cluster.clone(), producer.clone(), index));
    }
    if index == 0 && cluster.plan.workload.slow_topic {
        rt.spawn("slow sender", send_slow(rt.clone(), cluster.clone(), producer.clone()));
    }
    if cluster.plan.settings.transactions.is_some() {
        rt.spawn("routes", know_brokers(rt.clone(), cluster.clone(), client.clone()));
    }
    rt.spawn("proof sender", send_proof(rt.clone(), cluster.clone(), producer.clone(), index));
}

/// Who sends to queues of his choice has made his topics everywhere before.
async fn make_topics(rt: SimRuntime, cluster: Cluster, client: Client<SimRuntime>) {
    for topic in cluster.topics() {
        let make = make_topic(&cluster, &topic);
        for broker in names::brokers(&cluster.plan.settings) {
            let addr = cluster.broker_socket(&broker).to_string();
            let is_made = || async {
                let answer = client.peers().call(&addr, make.clone(), MAKE_TIMEOUT).await;
                answer.is_ok_and(|answer| answer.code == response::SUCCESS)
            };
            while !is_made().await {
                rt.sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// The request that makes a topic as a send would.
#[must_use]
pub fn make_topic(cluster: &Cluster, topic: &str) -> RemotingCommand {
    let queues = cluster.plan.settings.queues_per_topic as i32;
    let header = CreateTopicHeader {
        topic: topic.to_owned(),
        default_topic: DEFAULT_TOPIC.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopicHeader::default()
    };
    RemotingCommand::request(request::UPDATE_AND_CREATE_TOPIC).with_header(&header)
}

/// Asks for the routes of its topics also when it has nothing to send any more: who knows no broker tells none that it can be
/// asked about its transactions.
async fn know_brokers(rt: SimRuntime, cluster: Cluster, client: Client<SimRuntime>) {
    loop {
        for topic in cluster.topics() {
            if client.routes().known(&topic).is_none() {
                drop(client.routes().refresh(&topic).await);
            }
        }
        rt.sleep(KNOW_AGAIN).await;
    }
}

/// What a producer's program sends with.
struct Producers {
    plain: Producer<SimRuntime>,
    /// Where the plan has transactions.
    transactions: Option<TransactionProducer<SimRuntime, Settler>>,
}

impl Producers {
    fn start(rt: &SimRuntime, cluster: &Cluster, client: &Client<SimRuntime>, name: &str) -> Producers {
        let plain = Producer::start(client, ProducerConfig::new(format!("{name}-group")));
        let wanted = cluster.plan.settings.transactions.is_some();
        let transactions = wanted.then(|| {
            let settler = Settler { rt: rt.clone(), cluster: cluster.clone() };
            let config = ProducerConfig::new(transact::group(&cluster.plan.settings, name));
            TransactionProducer::start(client, config, settler).expect("it is the client's first")
        });
        Producers { plain, transactions }
    }
}

/// The client of a node; each life of it has an identity of its own, as each process has.
#[must_use]
pub fn client_config(cluster: &Cluster, node: &str) -> ClientConfig {
    let mut config = ClientConfig::new(name_servers(&cluster.plan.settings), address(node).into());
    config.instance = Some(format!("{node}-{}", cluster.world.boots(cluster.node(node))));
    config
}

/// Waits until it is time for the next operation of a series, and takes it; none at its end. What is taken is begun at
/// once, so that no message is counted as begun while its sender sleeps, or dies asleep.
pub async fn take(
    rt: &SimRuntime,
    cluster: &Cluster,
    index: u32,
    series: Series,
    end: u32,
    draw: impl Fn(u32) -> Operation,
) -> Option<Operation> {
    let next = cluster.progress(|progress| *progress.next.entry((index, series)).or_insert(0));
    if next >= end {
        return None;
    }
    rt.sleep(Duration::from_millis(draw(next).gap_ms)).await;
    cluster.progress(|progress| {
        let next = progress.next.entry((index, series)).or_insert(0);
        if *next >= end {
            return None;
        }
        let mut operation = draw(*next);
        *next += operation.drafts.len() as u32;
        for draft in operation.drafts.iter_mut().filter(|draft| progress.closed.contains(&draft.topic)) {
            USUAL_TOPIC.clone_into(&mut draft.topic);
        }
        Some(operation)
    })
}

async fn send_usual(rt: SimRuntime, cluster: Cluster, producer: Arc<Producers>, index: u32) {
    let end = workload::messages_of(&cluster.plan, index);
    let draw = |next| workload::operation(&cluster.plan, index, next);
    while let Some(operation) = take(&rt, &cluster, index, Series::Usual, end, &draw).await {
        send(&cluster, &producer, operation).await;
    }
}

async fn send_slow(rt: SimRuntime, cluster: Cluster, producer: Arc<Producers>) {
    let end = (cluster.plan.workload.load_ms / 1_000) as u32;
    let draw = |next| workload::slow_operation(&cluster.plan, next);
    while let Some(operation) = take(&rt, &cluster, 0, Series::Slow, end, &draw).await {
        send(&cluster, &producer, operation).await;
    }
}

async fn send_proof(rt: SimRuntime, cluster: Cluster, producer: Arc<Producers>, index: u32) {
    let rounds = if cluster.plan.settings.consumption.is_some() { 2 } else { 1 };
    for round in 1..=rounds {
        while cluster.progress(|progress| progress.proofs) < round {
            rt.sleep(LOOK_AGAIN).await;
        }
        let end = cluster.plan.workload.proof_messages * round;
        let draw = |next| workload::proof_operation(&cluster.plan, index, next);
        while let Some(operation) = take(&rt, &cluster, index, Series::Proof, end, &draw).await {
            send(&cluster, &producer, operation).await;
        }
    }
}

fn message(draft: &Draft) -> Message {
    let mut message =
        Message::new(&draft.topic, draft.body.clone()).with_tags(&draft.tag).with_key(&draft.key);
    message.flag = flag_of(draft.id);
    if !draft.filler.is_empty() {
        message = message.with_property(FILLER, &draft.filler);
    }
    for (name, value) in draft.marks.iter().flat_map(|marks| [("n", &marks.n), ("s", &marks.s)]) {
        if let Some(value) = value {
            message = message.with_property(name, value);
        }
    }
    if draft.delay_level > 0 {
        message = message.with_property("DELAY", draft.delay_level.to_string());
    }
    if !draft.wait {
        message = message.with_property("WAIT", "false");
    }
    message
}

async fn send(cluster: &Cluster, producers: &Producers, operation: Operation) {
    let producer = &producers.plain;
    let witness = &cluster.witness;
    for draft in &operation.drafts {
        witness.started(draft, operation.kind);
    }
    let messages: Vec<Message> = operation.drafts.iter().map(message).collect();
    let outcome = match operation.kind {
        Kind::OneWay => {
            // Not even an error says that the message is not there.
            drop(producer.send_oneway(&messages[0]).await);
            None
        }
        Kind::Single => Some(match workload::key(&cluster.plan, operation.drafts[0].id) {
            Some(key) => {
                let queue = workload::queue_of(&cluster.plan, &messages[0].topic, key);
                producer.send_to_queue(&messages[0], &queue).await
            }
            None => producer.send(&messages[0]).await,
        }),
        Kind::Batch(_) => Some(producer.send_batch(&messages).await),
        Kind::Transaction => {
            let transactions = producers.transactions.as_ref().expect("the plan has transactions");
            let id = operation.drafts[0].id;
            Some(transact::send(cluster, transactions, id, messages[0].clone()).await)
        }
    };
    for (nth, draft) in operation.drafts.iter().enumerate() {
        match &outcome {
            Some(SendOutcome::Sent(result)) if result.status == SendStatus::FlushSlaveTimeout => {
                let id = result.offset_msg_id.split(',').nth(nth).unwrap_or_default();
                witness.slave_timed_out(draft, &result.broker_name, physical_offset(id));
            }
            Some(SendOutcome::Sent(result)) if result.status == SendStatus::SlaveNotAvailable => {
                witness.slave_not_available(draft);
            }
            _ => {}
        }
        let outcome = match &outcome {
            None => Outcome::Unanswered,
            Some(SendOutcome::Sent(result)) => acked(cluster, operation.kind, draft, result, nth),
            Some(SendOutcome::Refused { code, .. }) => Outcome::Refused { code: *code },
            Some(SendOutcome::Unknown { .. }) => Outcome::Unknown,
        };
        witness.ended(draft, outcome);
    }
}

/// The answer for the `nth` message of a request. A delayed one stands in the queue of its level; a half message is answered
/// with its place in the half topic, but for the queue.
fn acked(cluster: &Cluster, kind: Kind, draft: &Draft, result: &SendResult, nth: usize) -> Outcome {
    let delays = cluster.plan.settings.delays.as_ref().filter(|_| draft.delay_level > 0);
    let (topic, queue) = match delays {
        Some(delays) => {
            let last = delays.levels.split(' ').count() as u32;
            (DELAY_TOPIC.to_owned(), draft.delay_level.min(last) as i32 - 1)
        }
        None if kind == Kind::Transaction => (HALF_TOPIC.to_owned(), 0),
        None => (draft.topic.clone(), result.queue_id),
    };
    let first = Place {
        broker: result.broker_name.clone(),
        topic,
        queue,
        queue_offset: result.queue_offset,
        physical_offset: None,
    };
    let id = result.offset_msg_id.split(',').nth(nth).unwrap_or_default();
    let status = if result.status == SendStatus::Ok { Status::Ok } else { Status::StoredOnly };
    Outcome::Acked { place: nth_place(&first, nth, physical_offset(id)), status }
}

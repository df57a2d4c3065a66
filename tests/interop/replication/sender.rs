//! A client of ours in this process: sends and notes each answer, consumes, and asks brokers by hand.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome, SendResult, SendStatus};
use hotfire_core::client::transaction_producer::{LocalState, TransactionListener, TransactionProducer};
use hotfire_core::client::{Client, ClientConfig, Message, Received};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::response;
use hotfire_runtime::TokioRuntime;
use hotfire_tests::wait_until;
use serde_json::json;

use crate::compare::expected;

const ROUTE_INTERVAL: Duration = Duration::from_millis(500);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Nothing more comes.
const QUIET: Duration = Duration::from_millis(500);
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// Sends the messages that `compare::expected` describes, each with an index of its own.
pub struct Sender {
    runtime: tokio::runtime::Runtime,
    client: Client<TokioRuntime>,
    producer: Arc<Producer<TokioRuntime>>,
    next: Arc<AtomicI64>,
}

/// Indexes that were answered SEND_OK, and how often each other answer came.
#[derive(Default, Clone, Debug)]
pub struct Answers {
    pub ok: Vec<i64>,
    pub others: BTreeMap<String, usize>,
}

/// Sends in the background until it is ended.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Answers>>,
    task: tokio::task::JoinHandle<()>,
}

/// Says of every second transaction that it is committed.
struct EverySecond;

impl TransactionListener for EverySecond {
    async fn execute(&self, message: &Message, _half: &SendResult) -> LocalState {
        match message.flag % 2 {
            0 => LocalState::Commit,
            _ => LocalState::Rollback,
        }
    }

    async fn check(&self, _message: Received) -> LocalState {
        LocalState::Unknown
    }
}

fn message(topic: &str, index: i64) -> Message {
    let fields: BTreeMap<_, _> = expected(index).into_iter().collect();
    let text = |field: &str| fields[field].as_str().expect("a text").to_owned();
    let mut message = Message::new(topic, text("body")).with_tags(text("tags"));
    message.keys = vec![text("keys")];
    message.flag = i32::try_from(index).unwrap_or(i32::MAX);
    message.with_property("index", text("user")).with_property("\u{5c5e}\u{6027}", text("userText"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    pub fn new(name_server: &str) -> Result<Sender> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = ClientConfig {
            route_interval: ROUTE_INTERVAL,
            ..ClientConfig::new(vec![name_server.to_owned()], IpAddr::V4(Ipv4Addr::LOCALHOST))
        };
        let (client, producer) = runtime.block_on(async {
            let client = Client::start(TokioRuntime::new("."), config);
            let settings = ProducerConfig { retries: 0, ..ProducerConfig::new("interop-replication") };
            let producer = Producer::start(&client, settings);
            (client, producer)
        });
        Ok(Sender { runtime, client, producer: Arc::new(producer), next: Arc::new(AtomicI64::new(0)) })
    }

    fn index(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends one message; its index, and the status of the answer.
    ///
    /// # Errors
    /// When it was refused, or nobody knows.
    pub fn send(&self, topic: &str) -> Result<(i64, SendStatus)> {
        let index = self.index();
        match self.runtime.block_on(self.producer.send(&message(topic, index))) {
            SendOutcome::Sent(sent) => Ok((index, sent.status)),
            other => bail!("message {index} to {topic}: {other:?}"),
        }
    }

    /// Sends `count` messages, with `properties` beside their own, and gives their indexes.
    ///
    /// # Errors
    /// The first that was not answered SEND_OK.
    pub fn send_all(&self, topic: &str, count: usize, properties: &[(&str, &str)]) -> Result<Vec<i64>> {
        let send = || {
            let index = self.index();
            let mut message = message(topic, index);
            message
                .properties
                .extend(properties.iter().map(|(name, value)| ((*name).into(), (*value).into())));
            is_ok(&self.runtime.block_on(self.producer.send(&message)))?;
            Ok(index)
        };
        (0..count).map(|_| send()).collect()
    }

    /// Sends `count` messages at once.
    ///
    /// # Errors
    /// When they are not answered SEND_OK.
    pub fn send_batch(&self, topic: &str, count: usize) -> Result<Vec<i64>> {
        let indexes: Vec<i64> = (0..count).map(|_| self.index()).collect();
        let batch: Vec<Message> = indexes.iter().map(|index| message(topic, *index)).collect();
        is_ok(&self.runtime.block_on(self.producer.send_batch(&batch)))?;
        Ok(indexes)
    }

    /// Sends `count` transactions and gives those that were committed, which are every second one.
    ///
    /// # Errors
    /// When one is not answered SEND_OK.
    pub fn transact(&self, topic: &str, count: usize) -> Result<Vec<i64>> {
        let settings = ProducerConfig::new("interop-replication-transactions");
        self.runtime.block_on(async {
            let producer = TransactionProducer::start(&self.client, settings, EverySecond);
            let producer = producer.context("start a producer of transactions")?;
            let mut committed = Vec::new();
            for _ in 0..count {
                let index = self.index();
                let outcome = producer.send(&message(topic, index)).await;
                is_ok(&outcome.sent)?;
                if outcome.told == Some(LocalState::Commit) {
                    committed.push(index);
                }
            }
            producer.stop().await;
            Ok(committed)
        })
    }

    /// Sends until one is stored, whatever is known of it beyond that: name servers may not know the master yet.
    ///
    /// # Errors
    /// When none is, in `patience`: the last answer.
    pub fn until_taken(&self, topic: &str, patience: Duration) -> Result<()> {
        let mut last = None;
        wait_until(patience, || {
            last = Some(self.send(topic));
            matches!(last, Some(Ok(_)))
        });
        last.context("a send")?.map(drop)
    }

    /// Sends until one is answered SEND_OK, and gives its index.
    ///
    /// # Errors
    /// When none is, in `patience`: the last answer.
    pub fn until_ok(&self, topic: &str, patience: Duration) -> Result<i64> {
        let mut last = None;
        wait_until(patience, || {
            last = Some(self.send(topic));
            matches!(last, Some(Ok((_, SendStatus::Ok))))
        });
        match last.context("a send")?? {
            (index, SendStatus::Ok) => Ok(index),
            (_, other) => bail!("sends to {topic} are still answered {other:?}"),
        }
    }

    /// Begins to send one message after the other.
    #[must_use]
    pub fn load(&self, topic: &'static str) -> Load {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Answers::default())));
        let (producer, next) = (self.producer.clone(), self.next.clone());
        let (ending, noted) = (stop.clone(), answers.clone());
        let task = self.runtime.spawn(async move {
            while !ending.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let other = match producer.send(&message(topic, index)).await {
                    SendOutcome::Sent(sent) if sent.status == SendStatus::Ok => {
                        lock(&noted).ok.push(index);
                        continue;
                    }
                    SendOutcome::Sent(sent) => format!("{:?}", sent.status),
                    SendOutcome::Refused { code, .. } => format!("refused with {code}"),
                    SendOutcome::Unknown { .. } => "unknown".to_owned(),
                };
                *lock(&noted).others.entry(other).or_default() += 1;
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        });
        Load { stop, answers, task }
    }

    /// Consumes `topic` from its beginning until all of `wanted` have come and nothing more does, and writes a line for each
    /// message as the Java client's program does. Gives the count of messages.
    ///
    /// # Errors
    /// When some are missing after `patience`.
    pub fn consume(
        &self,
        topic: &str,
        group: &str,
        wanted: &[i64],
        patience: Duration,
        out: &Path,
    ) -> Result<usize> {
        let file = Arc::new(Mutex::new((std::fs::File::create(out)?, std::collections::BTreeSet::new())));
        let written = file.clone();
        let listener = move |messages: Vec<Received>| {
            let mut file = lock(&written);
            let all = messages.iter().all(|received| {
                let index = received.property("index").and_then(|index| index.parse::<i64>().ok());
                file.1.extend(index);
                writeln!(file.0, "{}", line(received)).is_ok()
            });
            std::future::ready(if all { ConsumeStatus::Success } else { ConsumeStatus::Later })
        };
        let config = ConsumerConfig {
            from: ConsumeFrom::First,
            rebalance_interval: ROUTE_INTERVAL,
            commit_interval: ROUTE_INTERVAL,
            ..ConsumerConfig::new(group, topic, "*")
        };
        let consumer =
            self.runtime.block_on(async { PushConsumer::start(&self.client, config, listener) })?;
        let missing = || wanted.iter().filter(|index| !lock(&file).1.contains(index)).count();
        let all = wait_until(patience, || missing() == 0);
        let (mut before, mut since) = (0, Instant::now());
        wait_until(patience, || {
            let count = lock(&file).1.len();
            if count != before {
                (before, since) = (count, Instant::now());
            }
            since.elapsed() >= QUIET
        });
        self.runtime.block_on(consumer.stop());
        let count = lock(&file).1.len();
        ensure!(all, "{group} has not got {} of {} messages of {topic}", missing(), wanted.len());
        Ok(count)
    }

    /// # Errors
    /// When the broker does not answer, or with another code than SUCCESS.
    pub fn ask(&self, address: &str, code: i32) -> Result<Vec<u8>> {
        let answer = self.answer(address, RemotingCommand::request(code))?;
        ensure!(answer.code == response::SUCCESS, "{address} answered {code} with {}", answer.code);
        Ok(answer.body.to_bytes().to_vec())
    }

    /// # Errors
    /// When the broker does not answer.
    pub fn answer(&self, address: &str, request: RemotingCommand) -> Result<RemotingCommand> {
        let code = request.code;
        let call = self.client.peers().call(address, request, CALL_TIMEOUT);
        self.runtime.block_on(call).with_context(|| format!("ask {address} for {code}"))
    }
}

fn line(received: &Received) -> serde_json::Value {
    json!({
        "topic": received.message.topic,
        "tags": received.tags(),
        "keys": received.property("KEYS"),
        "body": String::from_utf8_lossy(&received.message.body),
        "user": received.property("index"),
        "userText": received.property("\u{5c5e}\u{6027}"),
        "queueId": received.message.queue_id,
        "queueOffset": received.message.queue_offset,
        "reconsumeTimes": received.message.reconsume_times,
    })
}

fn is_ok(outcome: &SendOutcome) -> Result<()> {
    let ok = matches!(outcome, SendOutcome::Sent(sent) if sent.status == SendStatus::Ok);
    ensure!(ok, "a send was answered {outcome:?}");
    Ok(())
}

impl Load {
    #[must_use]
    pub fn answers(&self) -> Answers {
        lock(&self.answers).clone()
    }

    /// Waits for the send under way, and gives all answers.
    ///
    /// # Errors
    /// When the task has failed.
    pub fn end(self, sender: &Sender) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        sender.runtime.block_on(self.task).context("the load")?;
        Ok(lock(&self.answers).clone())
    }
}

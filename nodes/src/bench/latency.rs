//! From the call of send to the listener: messages at a steady rate through our own producer and consumer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome};
use hotfire_core::client::{Client, Message, Received};
use hotfire_runtime::TokioRuntime;

use super::report::{NO_CODE, Report, new_histogram};

/// How long the last messages may take to arrive.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// How long the consumer may take to get its queues.
const READY_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct LatencyOptions {
    pub topic: String,
    /// Messages per second.
    pub rate: u32,
    pub size: usize,
    pub warm_up: Duration,
    pub measure: Duration,
}

struct Tally {
    latency_us: Histogram<u64>,
    received: u64,
}

/// # Errors
/// When the consumer gets no queue.
pub async fn latency(client: &Client<TokioRuntime>, options: &LatencyOptions) -> Result<Report> {
    let origin = Instant::now();
    let tally = Arc::new(Mutex::new(Tally { latency_us: new_histogram(), received: 0 }));
    let run =
        format!("{:016x}", u64::from(std::process::id()) << 32 | u64::from(origin.elapsed().subsec_nanos()));
    let producer = Arc::new(Producer::start(client, ProducerConfig::new("bench-producer")));
    // So that the topic is there before the consumer asks for its route.
    let first = producer.send(&message(options, &run, origin, None)).await;
    ensure!(matches!(first, SendOutcome::Sent(_)), "the first message was not sent: {first:?}");
    let config = ConsumerConfig {
        from: ConsumeFrom::Last,
        takeover_delay: Duration::ZERO,
        ..ConsumerConfig::new(format!("bench-latency-{run}"), &options.topic, "*")
    };
    let consumer = PushConsumer::start(client, config, listener(tally.clone(), run.clone(), origin))
        .context("start the consumer")?;
    wait_for_queues(&consumer).await?;

    let begin = Instant::now() + options.warm_up;
    let sent = send_steadily(options, &producer, &run, origin, begin).await;
    let end = Instant::now() + LAST_PATIENCE;
    while received(&tally) < sent.measured && Instant::now() < end {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    consumer.stop().await;
    if let Some(producer) = Arc::into_inner(producer) {
        producer.stop().await;
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    // What was sent and did not come is as wrong as what was refused.
    let errors = sent.failed + sent.measured.saturating_sub(tally.received);
    let bytes = tally.received * options.size as u64;
    let errors = BTreeMap::from([(NO_CODE, errors)]).into_iter().filter(|(_, count)| *count > 0).collect();
    Ok(Report::new(tally.received, bytes, errors, options.measure, &tally.latency_us, None))
}

fn received(tally: &Mutex<Tally>) -> u64 {
    tally.lock().unwrap_or_else(PoisonError::into_inner).received
}

async fn wait_for_queues(consumer: &PushConsumer<TokioRuntime>) -> Result<()> {
    let end = Instant::now() + READY_PATIENCE;
    while consumer.queues().is_empty() {
        ensure!(Instant::now() < end, "the consumer got no queue");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    // Queues are there; their first pulls follow at once.
    tokio::time::sleep(LOOK_INTERVAL).await;
    Ok(())
}

#[derive(Default)]
struct Sent {
    measured: u64,
    failed: u64,
}

/// One message per tick, each in its own task: a slow answer delays no other message.
async fn send_steadily(
    options: &LatencyOptions,
    producer: &Arc<Producer<TokioRuntime>>,
    run: &str,
    origin: Instant,
    begin: Instant,
) -> Sent {
    let end = begin + options.measure;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.rate.max(1));
    let mut tasks = Vec::new();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        if now >= end {
            break;
        }
        let measured = now >= begin;
        let message = message(options, run, origin, measured.then_some(now));
        let producer = producer.clone();
        tasks.push((measured, tokio::spawn(async move { producer.send(&message).await })));
    }
    let mut sent = Sent::default();
    for (measured, task) in tasks {
        match task.await {
            Ok(SendOutcome::Sent(_)) => sent.measured += u64::from(measured),
            _ => sent.failed += u64::from(measured),
        }
    }
    sent
}

/// The run and the moment travel as a property; without a moment it is not counted.
fn message(options: &LatencyOptions, run: &str, origin: Instant, at: Option<Instant>) -> Message {
    let message = Message::new(options.topic.as_str(), vec![b'x'; options.size]);
    match at {
        Some(at) => {
            message.with_property(RUN, run).with_property(SENT_NS, (at - origin).as_nanos().to_string())
        }
        None => message,
    }
}

const RUN: &str = "benchRun";
const SENT_NS: &str = "benchSentNs";

fn listener(
    tally: Arc<Mutex<Tally>>,
    run: String,
    origin: Instant,
) -> impl Fn(Vec<Received>) -> std::future::Ready<ConsumeStatus> + Send + Sync + 'static {
    move |messages| {
        let now = origin.elapsed();
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages.iter().filter(|message| message.property(RUN) == Some(run.as_str())) {
            let sent = message.property(SENT_NS).and_then(|text| text.parse().ok()).map(Duration::from_nanos);
            if let Some(since) = sent.and_then(|sent| now.checked_sub(sent)) {
                tally.received += 1;
                tally.latency_us.saturating_record(since.as_micros() as u64);
            }
        }
        std::future::ready(ConsumeStatus::Success)
    }
}

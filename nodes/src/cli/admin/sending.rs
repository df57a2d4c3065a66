//! Commands that send.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use hotfire_core::client::Message;
use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome, SendResult};
use hotfire_core::remoting::body::MessageQueue;
use hotfire_runtime::TokioRuntime;

use super::report::Report;
use super::{Operator, Told, failed};
use crate::client;
use crate::failure::Failure;

/// The group that mqadmin sends with.
const TOOLS_GROUP: &str = "TOOLS_PRODUCER";

#[derive(clap::Args)]
pub struct Send {
    #[arg(short, long)]
    topic: String,
    /// The body, as UTF-8
    #[arg(short = 'p', long)]
    body: String,
    #[arg(short, long)]
    key: Option<String>,
    #[arg(short = 'c', long)]
    tags: Option<String>,
    /// The name of the broker, with a queue of it
    #[arg(short, long, requires = "qid")]
    broker: Option<String>,
    #[arg(short = 'i', long, requires = "broker")]
    qid: Option<i32>,
}

#[derive(clap::Args)]
pub struct SendStatusArgs {
    /// The name of the broker; the messages go to the topic of that name
    #[arg(short, long)]
    broker_name: String,
    /// Bytes of each body
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 128)]
    message_size: usize,
    #[arg(short, long, value_name = "N", default_value_t = 50)]
    count: u32,
}

#[derive(clap::Args)]
pub struct CheckRt {
    #[arg(short, long)]
    topic: String,
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    amount: u32,
    /// Bytes of each body
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
}

fn names(operator: &Operator) -> String {
    operator.name_servers().join(";")
}

/// Starts a producer, has `work` use it, and stops it.
async fn with_producer<T>(
    operator: &Operator,
    work: impl AsyncFnOnce(&Producer<TokioRuntime>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let client = client::start(&names(operator), None);
    let producer = Producer::start(&client, ProducerConfig::new(TOOLS_GROUP));
    let result = work(&producer).await;
    producer.stop().await;
    client.stop().await;
    result
}

fn sent(outcome: SendOutcome) -> Result<SendResult, Failure> {
    match outcome {
        SendOutcome::Sent(result) => Ok(result),
        SendOutcome::Refused { code, remark } => {
            Err(Failure::Run(anyhow!("the message was refused: code {code}: {remark}")))
        }
        SendOutcome::Unknown { why } => {
            Err(Failure::Run(anyhow!("the message may or may not be stored: {why}")))
        }
    }
}

fn body(bytes: usize) -> Vec<u8> {
    b"hotfire ".iter().copied().cycle().take(bytes).collect()
}

pub async fn send(operator: &Operator, args: &Send) -> Told {
    let mut message = Message::new(args.topic.as_str(), args.body.clone());
    message.tags.clone_from(&args.tags);
    message.keys.extend(args.key.clone());
    let queue = args.broker.clone().zip(args.qid);
    let result = with_producer(operator, async |producer| match queue {
        Some((broker_name, queue_id)) => {
            let queue = MessageQueue { broker_name, queue_id, topic: args.topic.clone() };
            sent(producer.send_to_queue(&message, &queue).await)
        }
        None => sent(producer.send(&message).await),
    })
    .await?;
    let mut report = Report::rows(&["Broker Name", "QID", "Send Result", "Msg Id", "Queue Offset"]);
    report.row([
        result.broker_name.clone().into(),
        result.queue_id.into(),
        result.status.name().into(),
        result.msg_id.clone().into(),
        result.queue_offset.into(),
    ]);
    Ok(report)
}

/// The first message of a client waits for a route; it is not shown.
pub async fn send_status(operator: &Operator, args: &SendStatusArgs) -> Told {
    let mut report = Report::rows(&["Round Trip Ms", "Send Result", "Msg Id"]);
    let message = Message::new(args.broker_name.as_str(), body(args.message_size));
    with_producer(operator, async |producer| {
        sent(producer.send(&message).await)?;
        for _ in 0..args.count {
            let start = Instant::now();
            let result = sent(producer.send(&message).await)?;
            report.row([millis(start.elapsed()), result.status.name().into(), result.msg_id.into()]);
        }
        Ok(())
    })
    .await?;
    Ok(report)
}

/// In ms, with the microseconds behind the point.
fn millis(duration: Duration) -> serde_json::Value {
    (duration.as_micros() as f64 / 1_000.0).into()
}

/// Goes round the queues of the topic. A send that fails is shown as such, and the next one is tried.
pub async fn check_rt(operator: &Operator, args: &CheckRt) -> Told {
    let route = operator.route(&args.topic).await.map_err(failed)?;
    let mut queues = Vec::new();
    for of in &route.queue_datas {
        queues.extend((0..of.write_queue_nums).map(|queue_id| MessageQueue {
            broker_name: of.broker_name.clone(),
            queue_id,
            topic: args.topic.clone(),
        }));
    }
    if queues.is_empty() {
        return Err(Failure::Run(anyhow!("the topic {} has no queue to write to", args.topic)));
    }
    let mut report = Report::rows(&["Broker Name", "QID", "Send Result", "Round Trip Ms"]);
    let message = Message::new(args.topic.as_str(), body(args.size));
    with_producer(operator, async |producer| {
        for queue in queues.iter().cycle().take(args.amount as usize) {
            let start = Instant::now();
            let outcome = producer.send_to_queue(&message, queue).await;
            let told = match &outcome {
                SendOutcome::Sent(result) => result.status.name().to_owned(),
                SendOutcome::Refused { code, remark } => format!("refused: code {code}: {remark}"),
                SendOutcome::Unknown { why } => format!("not known: {why}"),
            };
            report.row([
                queue.broker_name.clone().into(),
                queue.queue_id.into(),
                told.into(),
                millis(start.elapsed()),
            ]);
        }
        Ok(())
    })
    .await?;
    Ok(report)
}

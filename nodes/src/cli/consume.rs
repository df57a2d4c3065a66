//! `hotfire consume`: prints messages of a topic as they come, and commits what was printed.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use hotfire_core::client::Received;
use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::message::properties;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::moment;
use crate::client;
use crate::failure::Outcome;
use crate::signals::Signals;

/// Printed, and committed, as one when no exact count is asked for.
const BATCH_MAX: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    #[arg(short, long, value_name = "ADDR;ADDR", value_parser = super::name_servers)]
    namesrv: String,
    #[arg(short, long)]
    topic: String,
    /// Consumer group; what it has printed once is not printed again
    #[arg(short, long)]
    group: String,
    /// Tags to print, as in "TagA || TagB"
    #[arg(long, value_name = "EXPR", default_value = "*")]
    tag: String,
    /// Properties to print by, as in "price > 5 AND colour IN ('red', 'blue')"; the broker needs enablePropertyFilter=true
    #[arg(long, value_name = "EXPR", conflicts_with = "tag")]
    sql: Option<String>,
    /// The messages of a queue one after the other, while no other member of the group may consume it
    #[arg(long)]
    orderly: bool,
    /// All messages to each member of the group; how far this one is stands in a file of this machine
    #[arg(long)]
    broadcast: bool,
    /// That file [default: ~/.rocketmq_offsets/CLIENT/GROUP/offsets.json, as Java's]
    #[arg(long, value_name = "FILE", requires = "broadcast")]
    offsets: Option<String>,
    /// Where a group without committed offsets begins: earliest, latest, ms since 1970, 2026-01-31T12:00:00 (UTC), or 30s, 5m, 2h, 1d ago
    #[arg(long, value_name = "FROM", default_value = "latest", value_parser = parse_from)]
    from: From,
    /// Ends after N messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Ends when nothing has come for S seconds
    #[arg(long, value_name = "S")]
    idle: Option<u64>,
    /// One JSON object a line instead of the body
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Earliest,
    Latest,
    At(i64),
    Ago(Duration),
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "earliest" => Ok(From::Earliest),
        "latest" => Ok(From::Latest),
        _ => moment::parse_ago(text)
            .map(From::Ago)
            .or_else(|| moment::parse_ms(text).map(From::At))
            .ok_or_else(|| "expected earliest, latest or a time".to_owned()),
    }
}

/// What the listener and the command share.
struct Printer {
    json: bool,
    /// How many may still be printed; `None` is any number.
    left: Mutex<Option<u64>>,
    last: Mutex<Instant>,
    ended: Notify,
}

pub async fn run(args: Args) -> Outcome {
    let signals = Signals::catch().context("catch signals")?;
    let printer = Arc::new(Printer {
        json: args.json,
        left: Mutex::new(args.count),
        last: Mutex::new(Instant::now()),
        ended: Notify::new(),
    });
    // Java's broadcasting clients have this instance too: an id that stays the same, and with it the file.
    let client = client::start(&args.namesrv, args.broadcast.then(|| "DEFAULT".to_owned()));
    if let Some(expression) = &args.sql {
        let checked = client.check_filter(&args.group, &args.topic, expression).await;
        if let Err(error) = checked {
            client.stop().await;
            return Err(anyhow::Error::new(error).context("ask a broker about the filter").into());
        }
    }
    let broadcast = args.broadcast.then(|| offsets_file(&args, client.client_id())).transpose()?;
    let config = ConsumerConfig { broadcast, ..config(&args) };
    let consumer =
        PushConsumer::start(&client, config, listener(printer.clone())).context("start the consumer")?;
    tokio::select! {
        () = signals.stop() => {}
        () = printer.ended.notified() => {}
        () = idle(&printer, args.idle) => {}
    }
    consumer.stop().await;
    client.stop().await;
    Ok(())
}

/// # Errors
/// Where no file is given and this user has no home.
fn offsets_file(args: &Args, client_id: &str) -> anyhow::Result<String> {
    if let Some(file) = &args.offsets {
        return Ok(file.clone());
    }
    let home =
        std::env::var("HOME").context("find a place for offsets: HOME is not set, give --offsets FILE")?;
    Ok(format!("{home}/.rocketmq_offsets/{client_id}/{}/offsets.json", args.group))
}

fn config(args: &Args) -> ConsumerConfig {
    let (subscriptions, sql) = match &args.sql {
        Some(expression) => (Vec::new(), vec![(args.topic.clone(), expression.clone())]),
        None => (vec![(args.topic.clone(), args.tag.clone())], Vec::new()),
    };
    ConsumerConfig {
        subscriptions,
        sql,
        from: match args.from {
            From::Earliest => ConsumeFrom::First,
            From::Latest => ConsumeFrom::Last,
            From::At(ms) => ConsumeFrom::Time(ms),
            From::Ago(ago) => ConsumeFrom::Time(moment::now_ms().saturating_sub(moment::whole_ms(ago))),
        },
        in_order: args.orderly,
        // One batch at a time, so that lines do not mix and a count is exact.
        concurrency: 1,
        consume_batch_max: if args.count.is_some() { 1 } else { BATCH_MAX },
        rebalance_interval: client::ROUTE_INTERVAL,
        ..ConsumerConfig::new(&args.group, &args.topic, &args.tag)
    }
}

fn listener(
    printer: Arc<Printer>,
) -> impl Fn(Vec<Received>) -> std::future::Ready<ConsumeStatus> + Send + Sync + 'static {
    move |messages| std::future::ready(printer.print(&messages))
}

async fn idle(printer: &Printer, seconds: Option<u64>) {
    let Some(seconds) = seconds else {
        return std::future::pending().await;
    };
    loop {
        let last = *printer.last.lock().unwrap_or_else(PoisonError::into_inner);
        let end = last + Duration::from_secs(seconds);
        if Instant::now() >= end {
            return;
        }
        tokio::time::sleep_until(end.into()).await;
    }
}

impl Printer {
    /// A message counts as consumed once it is printed; what is over the count is left to the next run.
    fn print(&self, messages: &[Received]) -> ConsumeStatus {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_some_and(|left| left < messages.len() as u64) {
            self.ended.notify_one();
            return ConsumeStatus::Later;
        }
        if let Err(error) = self.write(messages) {
            // The reader of our output is gone: nothing more is wanted.
            tracing::debug!(%error, "output ended");
            self.ended.notify_one();
            return ConsumeStatus::Later;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if let Some(left) = left.as_mut() {
            *left -= messages.len() as u64;
            if *left == 0 {
                self.ended.notify_one();
            }
        }
        ConsumeStatus::Success
    }

    fn write(&self, messages: &[Received]) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for received in messages {
            if self.json {
                serde_json::to_writer(&mut out, &Line::of(received))?;
            } else {
                out.write_all(&received.message.body)?;
            }
            out.write_all(b"\n")?;
        }
        out.flush()
    }
}

/// One message as JSON. A body that is not UTF-8 is shown with replacement characters; `body_bytes` tells its length.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    broker: &'a str,
    queue: i32,
    offset: i64,
    msg_id: String,
    offset_msg_id: String,
    tag: Option<&'a str>,
    keys: Option<&'a str>,
    born_ms: i64,
    stored_ms: i64,
    reconsume_times: i32,
    body: std::borrow::Cow<'a, str>,
    body_bytes: usize,
    properties: Map<String, Value>,
}

impl<'a> Line<'a> {
    fn of(received: &'a Received) -> Line<'a> {
        let message = &received.message;
        Line {
            topic: &message.topic,
            broker: &received.broker_name,
            queue: message.queue_id,
            offset: message.queue_offset,
            msg_id: received.msg_id(),
            offset_msg_id: message.offset_message_id(),
            tag: received.tags(),
            keys: received.property(properties::KEYS),
            born_ms: message.born_timestamp,
            stored_ms: message.store_timestamp,
            reconsume_times: message.reconsume_times,
            body: String::from_utf8_lossy(&message.body),
            body_bytes: message.body.len(),
            properties: properties::iter(&message.properties)
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .collect(),
        }
    }
}

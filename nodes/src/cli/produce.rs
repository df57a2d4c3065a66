//! `hotfire produce`: lines of a file or of stdin, or generated bodies, as messages.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use hotfire_core::client::Message;
use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome, SendResult, SendStatus};
use hotfire_runtime::TokioRuntime;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;

use crate::client;
use crate::failure::Outcome;
use crate::output;
use crate::progress::Progress;

/// Sends under way with `--async`.
const IN_FLIGHT_MAX: usize = 256;
const GENERATED_BYTES: usize = 128;

#[derive(clap::Args)]
pub struct Args {
    #[arg(short, long, value_name = "ADDR;ADDR", value_parser = super::name_servers)]
    namesrv: String,
    #[arg(short, long)]
    topic: String,
    #[arg(short, long, default_value = "hotfire-produce")]
    group: String,
    #[arg(long)]
    tag: Option<String>,
    #[arg(long)]
    key: Option<String>,
    /// Messages to send: of FILE the first N lines, without FILE generated ones
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Body bytes of generated messages
    #[arg(long, value_name = "B", conflicts_with = "file")]
    size: Option<usize>,
    /// Does not wait for one answer before the next send
    #[arg(long = "async")]
    pipelined: bool,
    /// Milliseconds that one send may take, its retries included
    #[arg(long, value_name = "MS", default_value = "3000")]
    timeout: u64,
    /// One line per message: status, id, broker, queue, offset
    #[arg(short, long)]
    verbose: bool,
    /// One message a line; - is stdin [default: stdin, unless --count or --size is given]
    file: Option<PathBuf>,
}

/// Where bodies come from.
enum Bodies {
    Lines { reader: Box<dyn AsyncBufRead + Unpin + Send>, left: Option<u64> },
    Generated { body: Bytes, left: u64 },
}

#[derive(Default)]
struct Totals {
    messages: u64,
    bytes: u64,
    /// Stored, but not as safely as asked for.
    doubtful: u64,
}

pub async fn run(args: Args) -> Outcome {
    let mut bodies = Bodies::open(&args).await?;
    let total = bodies.total();
    let client = client::start(&args.namesrv, None);
    let config = ProducerConfig {
        send_timeout: Duration::from_millis(args.timeout),
        ..ProducerConfig::new(&args.group)
    };
    let mut sender = Sender {
        producer: Arc::new(Producer::start(&client, config)),
        under_way: VecDeque::new(),
        window: if args.pipelined { IN_FLIGHT_MAX } else { 1 },
        verbose: args.verbose,
        totals: Totals::default(),
        progress: Progress::start("sent", total),
    };
    let started = Instant::now();
    let sent = sender.send_all(&args, &mut bodies).await;
    let elapsed = started.elapsed();
    let Sender { producer, totals, progress, .. } = sender;
    progress.finish();
    if let Some(producer) = Arc::into_inner(producer) {
        producer.stop().await;
    }
    client.stop().await;
    report(&totals, elapsed);
    Ok(sent?)
}

impl Bodies {
    async fn open(args: &Args) -> anyhow::Result<Bodies> {
        let stdin = || Box::new(BufReader::new(tokio::io::stdin()));
        match &args.file {
            Some(path) if path.as_os_str() != "-" => {
                let file = tokio::fs::File::open(path).await.with_context(|| path.display().to_string())?;
                Ok(Bodies::Lines { reader: Box::new(BufReader::new(file)), left: args.count })
            }
            None if args.count.is_some() || args.size.is_some() => {
                let bytes = args.size.unwrap_or(GENERATED_BYTES);
                let body = (0..bytes).map(|index| b"0123456789abcdef"[index % 16]).collect();
                Ok(Bodies::Generated { body, left: args.count.unwrap_or(1) })
            }
            _ => Ok(Bodies::Lines { reader: stdin(), left: args.count }),
        }
    }

    /// How many messages it will be, if that is known.
    fn total(&self) -> Option<u64> {
        match self {
            Bodies::Lines { .. } => None,
            Bodies::Generated { left, .. } => Some(*left),
        }
    }

    /// Empty lines are no messages: brokers refuse a message without a body.
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Bodies::Generated { left: 0, .. } | Bodies::Lines { left: Some(0), .. } => Ok(None),
            Bodies::Generated { body, left } => {
                *left -= 1;
                Ok(Some(body.clone()))
            }
            Bodies::Lines { reader, left } => loop {
                let mut line = Vec::new();
                if reader.read_until(b'\n', &mut line).await.context("read the next line")? == 0 {
                    return Ok(None);
                }
                while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                    line.pop();
                }
                if !line.is_empty() {
                    if let Some(left) = left {
                        *left -= 1;
                    }
                    return Ok(Some(line.into()));
                }
            },
        }
    }
}

struct Sender {
    producer: Arc<Producer<TokioRuntime>>,
    under_way: VecDeque<JoinHandle<(SendOutcome, u64)>>,
    window: usize,
    verbose: bool,
    totals: Totals,
    progress: Progress,
}

impl Sender {
    /// Stops at the first message that was not, or not surely, stored; those under way are waited for.
    async fn send_all(&mut self, args: &Args, bodies: &mut Bodies) -> anyhow::Result<()> {
        let mut failed = None;
        while failed.is_none()
            && let Some(body) = bodies.next().await?
        {
            let mut message = Message::new(args.topic.as_str(), body);
            message.tags.clone_from(&args.tag);
            message.keys.extend(args.key.clone());
            if self.window == 1 {
                let bytes = message.body.len() as u64;
                let outcome = self.producer.send(&message).await;
                failed = self.take(outcome, bytes).err();
            } else {
                failed = self.start(message).await.err();
            }
        }
        while let Some(task) = self.under_way.pop_front() {
            let finished = self.finish(task).await;
            failed = failed.or(finished.err());
        }
        failed.map_or(Ok(()), Err)
    }

    async fn start(&mut self, message: Message) -> anyhow::Result<()> {
        let producer = self.producer.clone();
        self.under_way.push_back(tokio::spawn(async move {
            let bytes = message.body.len() as u64;
            (producer.send(&message).await, bytes)
        }));
        if self.under_way.len() < self.window {
            return Ok(());
        }
        let oldest = self.under_way.pop_front().expect("the window is at least 1");
        self.finish(oldest).await
    }

    async fn finish(&mut self, task: JoinHandle<(SendOutcome, u64)>) -> anyhow::Result<()> {
        let (outcome, bytes) = task.await.context("a send's task")?;
        self.take(outcome, bytes)
    }

    fn take(&mut self, outcome: SendOutcome, bytes: u64) -> anyhow::Result<()> {
        match outcome {
            SendOutcome::Sent(result) => {
                self.totals.messages += 1;
                self.totals.bytes += bytes;
                self.totals.doubtful += u64::from(result.status != SendStatus::Ok);
                self.progress.advance(1);
                if self.verbose {
                    output::line(line(&result));
                }
                Ok(())
            }
            SendOutcome::Refused { code, remark } => {
                Err(anyhow!("message {} was refused: code {code}: {remark}", self.totals.messages + 1))
            }
            SendOutcome::Unknown { why } => {
                Err(anyhow!("message {} may or may not be stored: {why}", self.totals.messages + 1))
            }
        }
    }
}

fn line(result: &SendResult) -> String {
    let status = result.status.name();
    let SendResult { msg_id, broker_name, queue_id, queue_offset, .. } = result;
    format!("{status} {msg_id} {broker_name} {queue_id} {queue_offset}")
}

fn report(totals: &Totals, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { totals.messages as f64 / seconds } else { 0.0 };
    output::line(format!(
        "sent {} messages, {} bytes, in {seconds:.3} s, {rate:.0}/s",
        totals.messages, totals.bytes
    ));
    if totals.doubtful > 0 {
        output::line(format!(
            "{} of them were stored, but not flushed or replicated in time",
            totals.doubtful
        ));
    }
}

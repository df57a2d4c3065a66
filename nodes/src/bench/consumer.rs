//! Pulls what a topic holds, over and over, over many connections.
//!
//! Each connection reads its queues from their beginning to their end and begins again, one pull in flight per queue, so
//! that what is measured is warm data after the first round.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{PullTemplate, next_pulled};
use super::report::{NO_CODE, Report, add_errors, cpu_time_between, new_histogram};

#[derive(Clone, Debug)]
pub struct ConsumeOptions {
    pub broker: SocketAddr,
    pub topic: String,
    /// Queues of the topic that are read.
    pub queues: u8,
    pub connections: usize,
    /// Messages that one pull asks for at most.
    pub pull_max: u32,
    pub warm_up: Duration,
    pub measure: Duration,
    /// Process whose CPU time is measured, on this machine.
    pub server_pid: Option<u32>,
}

struct Tally {
    latency_us: Histogram<u64>,
    messages: u64,
    bytes: u64,
    errors: BTreeMap<u32, u64>,
}

impl Tally {
    fn new() -> Tally {
        Tally { latency_us: new_histogram(), messages: 0, bytes: 0, errors: BTreeMap::new() }
    }
}

/// # Errors
/// When a connection cannot be made or ends before the time is up, or the topic is empty.
pub async fn consume(options: &ConsumeOptions) -> Result<Report> {
    let begin = Instant::now() + options.warm_up;
    let end = begin + options.measure;
    let mut tasks = Vec::new();
    for index in 0..options.connections {
        let stream = TcpStream::connect(options.broker)
            .await
            .with_context(|| format!("connect to {}", options.broker))?;
        stream.set_nodelay(true)?;
        let template = PullTemplate::new(&options.topic, options.pull_max);
        // With more connections than queues several read the same queue.
        let queues = if options.connections >= usize::from(options.queues) {
            vec![u8::try_from(index % usize::from(options.queues))?]
        } else {
            (0..options.queues).filter(|queue| usize::from(*queue) % options.connections == index).collect()
        };
        tasks.push(tokio::spawn(connection(stream, template, queues, begin, end)));
    }
    let cpu = tokio::spawn(cpu_time_between(options.server_pid, begin, end));
    let mut all = Tally::new();
    for task in tasks {
        let one = task.await.context("a connection's task")??;
        all.latency_us.add(&one.latency_us).context("add histograms")?;
        all.messages += one.messages;
        all.bytes += one.bytes;
        add_errors(&mut all.errors, one.errors);
    }
    let server_cpu_ms = cpu.await.context("the CPU clock")?;
    Ok(Report::new(all.messages, all.bytes, all.errors, options.measure, &all.latency_us, server_cpu_ms))
}

/// The pull under way on one queue.
struct Reader {
    queue: u8,
    asked_at: Instant,
    /// Messages since its beginning.
    found: u64,
}

async fn connection(
    mut stream: TcpStream,
    template: PullTemplate,
    queues: Vec<u8>,
    begin: Instant,
    end: Instant,
) -> Result<Tally> {
    let mut tally = Tally::new();
    let (mut output, mut input) = (BytesMut::new(), BytesMut::with_capacity(256 * 1024));
    let mut readers: Vec<Reader> =
        queues.into_iter().map(|queue| Reader { queue, asked_at: Instant::now(), found: 0 }).collect();
    for (index, reader) in readers.iter().enumerate() {
        template.put(u32::try_from(index)?, reader.queue, 0, &mut output);
    }
    let mut time_up = pin!(tokio::time::sleep_until(end.into()));
    loop {
        if output.has_remaining() {
            stream.write_all_buf(&mut output).await.context("send")?;
            output.clear();
        }
        // A server that no longer answers does not hold the run up.
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut input) => read.context("receive")?,
            () = &mut time_up => return Ok(tally),
        };
        if read == 0 {
            bail!("the server closed the connection");
        }
        let now = Instant::now();
        if now >= end {
            return Ok(tally);
        }
        while let Some((pulled, length)) = next_pulled(&input) {
            input.advance(length);
            let index = pulled.sequence.context("an answer without opaque")?;
            let reader = readers.get_mut(index as usize).context("an answer to nothing")?;
            if now >= begin {
                tally.messages += pulled.messages;
                tally.bytes += pulled.bytes;
                if !matches!(pulled.code, Some(0 | 19 | 20 | 21)) {
                    *tally.errors.entry(pulled.code.unwrap_or(NO_CODE)).or_default() += 1;
                }
                tally.latency_us.saturating_record((now - reader.asked_at).as_micros() as u64);
            }
            reader.found += pulled.messages;
            let at_end = pulled.code != Some(0);
            if at_end && reader.found == 0 && pulled.next == Some(0) {
                bail!("queue {} of the topic is empty", reader.queue);
            }
            let from = if at_end && reader.found > 0 { 0 } else { pulled.next.unwrap_or(0) };
            if at_end {
                reader.found = 0;
            }
            reader.asked_at = now;
            template.put(index, reader.queue, from, &mut output);
        }
    }
}

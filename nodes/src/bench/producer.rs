//! Sends in a closed loop over many connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{SendTemplate, next_answer};
use super::report::{NO_CODE, Report, add_errors, cpu_time_between, new_histogram};

#[derive(Clone, Debug)]
pub struct ProduceOptions {
    pub broker: SocketAddr,
    pub topic: String,
    /// Queues of the topic that are used, 1 to 10.
    pub queues: u8,
    pub connections: usize,
    /// Requests in flight on each connection.
    pub in_flight: usize,
    /// Body bytes of one message.
    pub size: usize,
    /// Messages in one request.
    pub batch: usize,
    pub warm_up: Duration,
    pub measure: Duration,
    /// Process whose CPU time is measured, on this machine.
    pub server_pid: Option<u32>,
}

struct Tally {
    latency_us: Histogram<u64>,
    requests: u64,
    errors: BTreeMap<u32, u64>,
}

/// # Errors
/// When a connection cannot be made or ends before the time is up.
pub async fn produce(options: &ProduceOptions) -> Result<Report> {
    let template = Arc::new(SendTemplate::new(&options.topic, options.queues, options.size, options.batch));
    let begin = Instant::now() + options.warm_up;
    let end = begin + options.measure;
    let mut tasks = Vec::new();
    for _ in 0..options.connections {
        let stream = TcpStream::connect(options.broker)
            .await
            .with_context(|| format!("connect to {}", options.broker))?;
        stream.set_nodelay(true)?;
        tasks.push(tokio::spawn(connection(stream, template.clone(), options.in_flight, begin, end)));
    }
    let cpu = tokio::spawn(cpu_time_between(options.server_pid, begin, end));
    let mut all = Tally { latency_us: new_histogram(), requests: 0, errors: BTreeMap::new() };
    for task in tasks {
        let one = task.await.context("a connection's task")??;
        all.latency_us.add(&one.latency_us).context("add histograms")?;
        all.requests += one.requests;
        add_errors(&mut all.errors, one.errors);
    }
    let server_cpu_ms = cpu.await.context("the CPU clock")?;
    Ok(Report::new(
        all.requests * template.messages,
        all.requests * template.payload,
        all.errors,
        options.measure,
        &all.latency_us,
        server_cpu_ms,
    ))
}

async fn connection(
    mut stream: TcpStream,
    template: Arc<SendTemplate>,
    in_flight: usize,
    begin: Instant,
    end: Instant,
) -> Result<Tally> {
    let mut tally = Tally { latency_us: new_histogram(), requests: 0, errors: BTreeMap::new() };
    let slots = in_flight.next_power_of_two().max(1) * 4;
    let mut sent_at = vec![Instant::now(); slots];
    let mut sequence = 0u32;
    let (mut output, mut input) = (BytesMut::new(), BytesMut::with_capacity(64 * 1024));
    for _ in 0..in_flight {
        template.put(sequence, &mut output);
        sent_at[sequence as usize % slots] = Instant::now();
        sequence = sequence.wrapping_add(1);
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
            anyhow::bail!("the server closed the connection");
        }
        let now = Instant::now();
        if now >= end {
            return Ok(tally);
        }
        let mut used = 0;
        while let Some((answer, length)) = next_answer(&input[used..]) {
            used += length;
            if now >= begin {
                tally.requests += 1;
                if answer.code != Some(0) {
                    *tally.errors.entry(answer.code.unwrap_or(NO_CODE)).or_default() += 1;
                }
                // An answer that overtakes others lets the window run ahead; within the slots no two numbers meet.
                let since = answer.sequence.map_or(now, |number| sent_at[number as usize % slots]);
                tally.latency_us.saturating_record((now - since).as_micros() as u64);
            }
            template.put(sequence, &mut output);
            sent_at[sequence as usize % slots] = now;
            sequence = sequence.wrapping_add(1);
        }
        input.advance(used);
    }
}

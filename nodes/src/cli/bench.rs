//! `hotfire bench`: load on any broker that speaks the protocol.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::json;

use crate::bench::{self, ConsumeOptions, LatencyOptions, ProduceOptions, Report};
use crate::client;
use crate::failure::Outcome;
use crate::output;
use crate::table;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Sends in a closed loop: each connection keeps its requests in flight
    Produce(ProduceArgs),
    /// Pulls what the topic holds, over and over
    Consume(ConsumeArgs),
    /// Sends at a steady rate and measures from send to listener
    Latency(LatencyArgs),
    /// Serves fixed answers without storing anything: the ceiling for the same load
    Null(NullArgs),
}

/// What to load, for how long, and how to tell.
#[derive(clap::Args)]
pub struct LoadArgs {
    /// Name servers; the first that answers is asked
    #[arg(short, long, value_name = "ADDR;ADDR", value_parser = super::name_servers, required_unless_present = "broker")]
    namesrv: Option<String>,
    /// The broker itself, where there is no name server (the null server)
    #[arg(long, value_name = "ADDR", conflicts_with = "namesrv")]
    broker: Option<SocketAddr>,
    /// Created with --queues queues if it does not exist
    #[arg(short, long, default_value = "HotfireBench")]
    topic: String,
    #[arg(long, value_name = "N", default_value = "8", value_parser = RangedU64ValueParser::<u8>::new().range(1..=10))]
    queues: u8,
    #[arg(long, value_name = "N", default_value = "64")]
    connections: NonZero<usize>,
    #[command(flatten)]
    time: TimeArgs,
    /// Process of the broker on this machine, to measure its CPU time per message
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

#[derive(clap::Args)]
pub struct TimeArgs {
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "10")]
    seconds: u64,
    /// How long to load before that
    #[arg(long, value_name = "S", default_value = "3")]
    warmup: u64,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Requests in flight on each connection
    #[arg(long, value_name = "M", default_value = "1")]
    inflight: NonZero<usize>,
    /// Body bytes of a message
    #[arg(long, value_name = "B", default_value = "128")]
    size: usize,
    /// Messages in one request
    #[arg(long, value_name = "N", default_value = "1", default_missing_value = "32", num_args = 0..=1)]
    batch: NonZero<usize>,
}

#[derive(clap::Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Messages that one pull asks for at most
    #[arg(long, value_name = "N", default_value = "32")]
    pull_max: u32,
}

#[derive(clap::Args)]
pub struct LatencyArgs {
    #[arg(short, long, value_name = "ADDR;ADDR", value_parser = super::name_servers)]
    namesrv: String,
    #[arg(short, long, default_value = "HotfireBench")]
    topic: String,
    /// Messages a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Body bytes of a message
    #[arg(long, value_name = "B", default_value = "128")]
    size: usize,
    #[command(flatten)]
    time: TimeArgs,
}

#[derive(clap::Args)]
pub struct NullArgs {
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", value_parser = super::listen_addr)]
    listen: SocketAddr,
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Produce(args) => produce(args).await,
        Command::Consume(args) => consume(args).await,
        Command::Latency(args) => latency(args).await,
        Command::Null(args) => {
            bench::serve_null(args.listen, |addr| {
                output::line(format!("ready: null {addr}"));
            })
            .await?;
            Ok(())
        }
    }
}

async fn produce(args: ProduceArgs) -> Outcome {
    let ProduceArgs { load, inflight, size, batch } = args;
    let target = load.target().await?;
    let options = ProduceOptions {
        broker: target.broker,
        topic: load.topic.clone(),
        queues: target.queues,
        connections: load.connections.get(),
        in_flight: inflight.get(),
        size,
        batch: batch.get(),
        warm_up: load.time.warm_up(),
        measure: load.time.measure(),
        server_pid: load.server_pid,
    };
    let report = bench::produce(&options).await?;
    let settings = json!({
        "connections": options.connections,
        "inflight": options.in_flight,
        "size": size,
        "batch": options.batch,
        "queues": options.queues,
    });
    load.time.tell(&report, settings);
    Ok(())
}

async fn consume(args: ConsumeArgs) -> Outcome {
    let ConsumeArgs { load, pull_max } = args;
    let target = load.target().await?;
    let options = ConsumeOptions {
        broker: target.broker,
        topic: load.topic.clone(),
        queues: target.queues,
        connections: load.connections.get(),
        pull_max,
        warm_up: load.time.warm_up(),
        measure: load.time.measure(),
        server_pid: load.server_pid,
    };
    let report = bench::consume(&options).await?;
    let settings =
        json!({"connections": options.connections, "pull_max": pull_max, "queues": options.queues});
    load.time.tell(&report, settings);
    Ok(())
}

async fn latency(args: LatencyArgs) -> Outcome {
    let client = client::start(&args.namesrv, None);
    let options = LatencyOptions {
        topic: args.topic.clone(),
        rate: args.rate,
        size: args.size,
        warm_up: args.time.warm_up(),
        measure: args.time.measure(),
    };
    let report = bench::latency(&client, &options).await;
    client.stop().await;
    args.time.tell(&report?, json!({"rate": args.rate, "size": args.size}));
    Ok(())
}

impl LoadArgs {
    async fn target(&self) -> anyhow::Result<bench::Target> {
        if let Some(broker) = self.broker {
            return Ok(bench::Target { broker, queues: self.queues });
        }
        let list = self.namesrv.as_deref().unwrap_or_default();
        first_target(list, &self.topic, self.queues).await
    }
}

impl TimeArgs {
    fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    fn measure(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn tell(&self, report: &Report, mut settings: serde_json::Value) {
        if !self.json {
            output::line(report_table(report));
            return;
        }
        settings["warmup_s"] = self.warmup.into();
        settings["seconds"] = self.seconds.into();
        let line = JsonLine { report, machine: machine(), commit: crate::COMMIT, settings };
        output::line(serde_json::to_string(&line).expect("numbers and strings are always JSON"));
    }
}

async fn first_target(list: &str, topic: &str, queues: u8) -> anyhow::Result<bench::Target> {
    let mut last = None;
    for addr in list.split(';') {
        match bench::find_target(addr, topic, queues).await {
            Ok(target) => return Ok(target),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no name server was given")))
}

/// What was measured, then what it was measured on and with.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    report: &'a Report,
    machine: String,
    commit: &'static str,
    settings: serde_json::Value,
}

fn report_table(report: &Report) -> comfy_table::Table {
    let mut rows = vec![
        ("messages", report.messages.to_string()),
        ("messages/s", format!("{:.0}", report.msg_per_s)),
        ("MB/s", format!("{:.2}", report.mb_per_s)),
        ("errors", report.errors.to_string()),
        ("p50", format!("{:.3} ms", ms(report.p50_us))),
        ("p99", format!("{:.3} ms", ms(report.p99_us))),
        ("p99.9", format!("{:.3} ms", ms(report.p999_us))),
        ("max", format!("{:.3} ms", ms(report.max_us))),
    ];
    for (code, count) in &report.errors_by_code {
        rows.push(("errors with code", format!("{code}: {count}")));
    }
    if let Some(us) = report.server_cpu_us_per_msg {
        rows.push(("server CPU per message", format!("{us:.2} us")));
    }
    table::of_values(&rows)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Processor, cores and system, as far as the system tells.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}

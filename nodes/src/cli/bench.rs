//! `hotfire bench`: load on any broker that speaks the protocol.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::Serialize;
use serde_json::json;

use super::announce;
use crate::bench::{self, ProduceOptions, Report};
use crate::failure::Outcome;
use crate::table;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Sends in a closed loop: each connection keeps its requests in flight
    Produce(ProduceArgs),
    /// Serves fixed answers without storing anything: the ceiling for the same load
    Null(NullArgs),
}

#[derive(clap::Args)]
pub struct ProduceArgs {
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
    /// Requests in flight on each connection
    #[arg(long, value_name = "M", default_value = "1")]
    inflight: NonZero<usize>,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "10")]
    seconds: u64,
    /// How long to send before that
    #[arg(long, value_name = "S", default_value = "3")]
    warmup: u64,
    /// Body bytes of a message
    #[arg(long, value_name = "B", default_value = "128")]
    size: usize,
    /// Messages in one request
    #[arg(long, value_name = "N", default_value = "1", default_missing_value = "32", num_args = 0..=1)]
    batch: NonZero<usize>,
    /// Process of the broker on this machine, to measure its CPU time per message
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct NullArgs {
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", value_parser = super::listen_addr)]
    listen: SocketAddr,
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Produce(args) => produce(args).await,
        Command::Null(args) => {
            bench::serve_null(args.listen, |addr| {
                // Nobody to tell means nobody to serve; the process is ended from outside.
                let _ = announce(&format!("ready: null {addr}"));
            })
            .await?;
            Ok(())
        }
    }
}

async fn produce(args: ProduceArgs) -> Outcome {
    let (broker, queues) = match (args.broker, &args.namesrv) {
        (Some(broker), _) => (broker, args.queues),
        (None, list) => {
            let list = list.as_deref().unwrap_or_default();
            let target = first_target(list, &args.topic, args.queues).await?;
            (target.broker, target.queues)
        }
    };
    let options = ProduceOptions {
        broker,
        topic: args.topic.clone(),
        queues,
        connections: args.connections.get(),
        in_flight: args.inflight.get(),
        size: args.size,
        batch: args.batch.get(),
        warm_up: Duration::from_secs(args.warmup),
        measure: Duration::from_secs(args.seconds),
        server_pid: args.server_pid,
    };
    let report = bench::produce(&options).await?;
    if args.json {
        println!("{}", json_line(&report, &options));
    } else {
        println!("{}", report_table(&report));
    }
    Ok(())
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

fn json_line(report: &Report, options: &ProduceOptions) -> String {
    let settings = json!({
        "connections": options.connections,
        "inflight": options.in_flight,
        "size": options.size,
        "batch": options.batch,
        "queues": options.queues,
        "warmup_s": options.warm_up.as_secs(),
        "seconds": options.measure.as_secs(),
    });
    let line = JsonLine { report, machine: machine(), commit: crate::COMMIT, settings };
    serde_json::to_string(&line).expect("numbers and strings are always JSON")
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

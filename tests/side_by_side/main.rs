//! `cargo side-by-side`: the same load on Hotfire, on the Java broker and on a server that stores nothing, in turns.
//!
//! Absolute figures move with the machine, so the three take turns at every point and medians over rounds are compared. The Java
//! broker is warmed up first. Each point says messages per second, p50 and p99 latency, and CPU time of the server for one message.
#![forbid(unsafe_code)]

mod disk;
mod servers;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use hotfire_tests::{TempDir, project_dir, target_dir};
use serde_json::Value;

use disk::Probe;
use servers::{Server, hotfire_cluster, java_cluster, null_server};

const JAVA_VERSION: &str = "4.9.7";
const WARM_UP_S: u32 = 40;

struct Options {
    rounds: usize,
    seconds: u32,
    warm_up_s: u32,
    flush: Vec<&'static str>,
}

/// Connections and requests in flight on each.
const POINTS: [(usize, usize); 5] = [(1, 1), (64, 1), (256, 1), (1, 64), (4, 64)];

fn main() -> ExitCode {
    match options().and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options =
        Options { rounds: 3, seconds: 4, warm_up_s: WARM_UP_S, flush: vec!["ASYNC_FLUSH", "SYNC_FLUSH"] };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse().context("--rounds")?,
            "--seconds" => options.seconds = value.parse().context("--seconds")?,
            "--warm-up" => options.warm_up_s = value.parse().context("--warm-up")?,
            "--flush" => {
                options.flush.retain(|mode| mode.eq_ignore_ascii_case(&format!("{value}_FLUSH")));
                ensure!(!options.flush.is_empty(), "--flush async or sync");
            }
            _ => anyhow::bail!("usage: [--rounds N] [--seconds S] [--warm-up S] [--flush async|sync]"),
        }
    }
    Ok(options)
}

fn measure(options: &Options) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "-q", "-p", "hotfire-nodes"])
        .current_dir(project_dir())
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "hotfire-nodes does not build");
    let program = target_dir().join("release/hotfire");
    for flush in &options.flush {
        let dir = TempDir::new("side-by-side");
        let null = null_server(&program, dir.path())?;
        let hotfire = hotfire_cluster(&program, dir.path(), flush)?;
        let java = java_cluster(JAVA_VERSION, dir.path(), flush)?;
        println!("{flush}: warming up for {} s", options.warm_up_s);
        load(&program, &java, (64, 1), options.warm_up_s / 2, 1)?;
        load(&program, &java, (4, 64), options.warm_up_s / 2, 1)?;
        println!(
            "  connections x in flight   server       msg/s      p50 us   p99 us   CPU us/msg   against Java"
        );
        let mut probe = Probe::new(dir.path())?;
        for point in POINTS {
            compare(&program, [&null, &hotfire, &java], point, options, &mut probe)?;
        }
        compare_batches(&program, [&hotfire, &java], options)?;
        println!("  {}", probe.summary());
    }
    Ok(())
}

fn compare(
    program: &Path,
    servers: [&Server; 3],
    point: (usize, usize),
    options: &Options,
    probe: &mut Probe,
) -> Result<()> {
    let mut results: Vec<Vec<Value>> = vec![Vec::new(); servers.len()];
    for _ in 0..options.rounds {
        probe.measure()?;
        for (server, results) in servers.iter().zip(&mut results) {
            results.push(load(program, server, point, options.seconds, 1)?);
        }
    }
    let label = format!("{} x {}", point.0, point.1);
    print_rows(&label, &servers, &results);
    Ok(())
}

/// 32 messages a request, one connection with four requests in flight.
fn compare_batches(program: &Path, servers: [&Server; 2], options: &Options) -> Result<()> {
    let mut results: Vec<Vec<Value>> = vec![Vec::new(); servers.len()];
    for _ in 0..options.rounds {
        for (server, results) in servers.iter().zip(&mut results) {
            results.push(load(program, server, (4, 4), options.seconds, 32)?);
        }
    }
    print_rows("4 x 4, batches of 32", &servers, &results);
    Ok(())
}

fn print_rows(label: &str, servers: &[&Server], results: &[Vec<Value>]) {
    let java = results.last().map_or(0.0, |runs| median(runs, "msg_per_s"));
    for (server, runs) in servers.iter().zip(results) {
        let rate = median(runs, "msg_per_s");
        println!(
            "  {label:<24}  {:<8} {rate:>11.0} {:>11.0} {:>8.0} {:>12.2} {:>11.2}",
            server.name,
            median(runs, "p50_us"),
            median(runs, "p99_us"),
            median(runs, "server_cpu_us_per_msg"),
            if java > 0.0 { rate / java } else { 0.0 },
        );
    }
}

fn median(runs: &[Value], field: &str) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run[field].as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// One load run; the generator's JSON line.
fn load(program: &Path, server: &Server, point: (usize, usize), seconds: u32, batch: usize) -> Result<Value> {
    let pid = server.pid().to_string();
    let (connections, in_flight) = (point.0.to_string(), point.1.to_string());
    let (seconds, batch) = (seconds.max(1).to_string(), batch.to_string());
    let mut command = Command::new(program);
    command
        .args([
            "bench",
            "produce",
            "-t",
            "SideBySide",
            "--connections",
            &connections,
            "--inflight",
            &in_flight,
        ])
        .args([
            "--seconds",
            &seconds,
            "--warmup",
            "1",
            "--size",
            "128",
            "--batch",
            &batch,
            "--server-pid",
            &pid,
            "--json",
        ])
        .args(&server.target);
    let output = command.output().context("run hotfire bench")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {}", server.name, String::from_utf8_lossy(&output.stderr));
    let line = said.lines().last().context("the generator printed nothing")?;
    let report: Value = serde_json::from_str(line).with_context(|| format!("read {line}"))?;
    ensure!(report["errors"] == 0, "{}: {} sends were refused", server.name, report["errors"]);
    Ok(report)
}

//! `cargo interop`: the original clients against our nodes.
//!
//! For each client: 1,000 messages with tags, keys, properties and non-ASCII text go through the name server, a push consumer in
//! clustering mode takes them, every field is compared; then the broker is killed under load and restarted, and every acknowledged
//! message is consumed. A tool that is missing fails the run, or is named as skipped with `--optional`.
#![forbid(unsafe_code)]

mod clients;
mod compare;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hotfire_tests::{Node, TempDir, project_dir, target_dir};

use clients::{Client, Tools};

const MESSAGES: usize = 1000;
const LOAD_SECONDS: u64 = 6;

fn main() -> ExitCode {
    let mut optional = false;
    let mut only = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--optional" => optional = true,
            "--only" => only = words.next(),
            _ => {
                eprintln!("usage: cargo interop [--optional] [--only CLIENT]");
                return ExitCode::from(2);
            }
        }
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let program = match build() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("interop: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    for client in Client::ALL {
        if only.as_deref().is_some_and(|name| name != client.name()) {
            continue;
        }
        let start = Instant::now();
        match Tools::prepare(client) {
            Ok(tools) => match run(client, &tools, &program) {
                Ok(()) => {
                    passed += 1;
                    println!("interop {}: ok in {:.1} s", client.name(), start.elapsed().as_secs_f64());
                }
                Err(error) => {
                    failed += 1;
                    println!("interop {}: FAILED: {error:#}", client.name());
                }
            },
            Err(missing) if optional => {
                skipped += 1;
                println!("interop {}: skipped: {missing:#}", client.name());
            }
            Err(missing) => {
                failed += 1;
                println!("interop {}: FAILED: {missing:#}", client.name());
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds the program in release, as users run it.
fn build() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("HOTFIRE_PROGRAM") {
        return Ok(PathBuf::from(given));
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "-q", "-p", "hotfire-nodes"])
        .current_dir(project_dir())
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "hotfire-nodes does not build");
    let target = target_dir();
    Ok(target.join("release/hotfire"))
}

fn run(client: Client, tools: &Tools, program: &Path) -> Result<()> {
    let dir = TempDir::new(&format!("interop-{}", client.name()));
    every_field_comes_back(tools, program, dir.path()).context("every field comes back")?;
    nothing_acknowledged_is_lost(tools, program, dir.path()).context("a kill under load loses nothing")
}

struct Cluster {
    name_server: Node,
    broker: Node,
    data: PathBuf,
}

impl Cluster {
    fn start(program: &Path, dir: &Path, data: &str) -> Result<Cluster> {
        let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
        let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
        let data = dir.join(data);
        let broker = start_broker(program, dir, &address, &data, "127.0.0.1:0")?;
        Ok(Cluster { name_server, broker, data })
    }

    fn name_server(&self) -> &str {
        self.name_server.address("namesrv").expect("it was there at the start")
    }
}

fn start_broker(program: &Path, dir: &Path, name_server: &str, data: &Path, listen: &str) -> Result<Node> {
    let data = data.to_str().context("a folder with a readable name")?;
    Node::start(program, "broker", &["broker", "-n", name_server, "--listen", listen, "--data", data], dir)
}

fn every_field_comes_back(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let cluster = Cluster::start(program, dir, "fields")?;
    let count = MESSAGES.to_string();
    let (sent, received) = (dir.join("sent.jsonl"), dir.join("received.jsonl"));
    tools.run(
        &["produce", cluster.name_server(), "InteropFields", &count, path(&sent)?],
        dir,
        Duration::from_secs(60),
    )?;
    let consume =
        ["consume", cluster.name_server(), "InteropFields", "interop-fields", &count, "60", path(&received)?];
    tools.run(&consume, dir, Duration::from_secs(90))?;
    compare::every_field(&sent, &received, MESSAGES)?;
    let status = cluster.broker.stop(Duration::from_secs(20))?;
    ensure!(status.success(), "the broker stopped with {status}");
    let status = cluster.name_server.stop(Duration::from_secs(20))?;
    ensure!(status.success(), "the name server stopped with {status}");
    Ok(())
}

fn nothing_acknowledged_is_lost(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let cluster = Cluster::start(program, dir, "kill")?;
    let Cluster { name_server, broker, data } = cluster;
    let name_server_address = name_server.address("namesrv").context("the name server's address")?.to_owned();
    let listen = broker.address("broker").context("the broker's address")?.to_owned();
    let (sent, received) = (dir.join("load.jsonl"), dir.join("survived.jsonl"));
    let seconds = LOAD_SECONDS.to_string();
    let mut load =
        tools.start(&["load", &name_server_address, "InteropKill", &seconds, path(&sent)?], dir)?;
    // Killed in the middle of the load, which is known by its output and not by a guess.
    let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    if !hotfire_tests::wait_until(Duration::from_secs(20), || lines(&sent) > 200) {
        let _ = load.kill();
        bail!("the load sent nothing");
    }
    broker.kill()?;
    let at_kill = lines(&sent);
    let restarted = start_broker(program, dir, &name_server_address, &data, &listen)?;
    let status = clients::wait(&mut load, Duration::from_secs(60)).context("the load")?;
    ensure!(status.success(), "the load ended with {status}");
    let acknowledged = compare::acknowledged(&sent)?;
    ensure!(acknowledged.len() > at_kill, "nothing was acknowledged after the restart ({at_kill} before it)");
    let count = acknowledged.len().to_string();
    let consume =
        ["consume", &name_server_address, "InteropKill", "interop-kill", &count, "60", path(&received)?];
    tools.run(&consume, dir, Duration::from_secs(90))?;
    compare::nothing_missing(&acknowledged, &received)?;
    restarted.stop(Duration::from_secs(20))?;
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path with a readable name")
}

//! `cargo interop`: the original clients against our nodes.
//!
//! For each client: 1,000 messages with tags, keys, properties and non-ASCII text go through the name server, a push consumer in
//! clustering mode takes them, every field is compared, and the Java clients look some up by key and by unique key; then the
//! broker is killed under load and restarted, and every acknowledged message is consumed; and transactions of the clients that have
//! them are committed, rolled back and asked about (`transactions`), and what else an application does is done (`life`): at the
//! end of the clients stands a table of features against clients (`table`). Once more,
//! `malformed`: 100,000 malformed frames go to the servers, whose memory must stay, and after that the clients send and consume
//! as before. `takeover`: the original brokers and ours serve one data directory in turns. `replication`: they are each other's
//! master and slave. And `mqadmin`: the operators' tools of Java 4.9.7 and 5.4.0, command by command. A tool that is missing fails the
//! run, or is named as skipped with `--optional`.
#![forbid(unsafe_code)]

mod brokers;
mod clients;
mod compare;
mod life;
mod mqadmin;
mod replication;
mod table;
mod takeover;
mod transactions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hotfire_tests::malformed::{self, Memory};
use hotfire_tests::{Node, TempDir, free_ports, release_hotfire};

use clients::{Client, Tools};

const MESSAGES: usize = 1000;
/// Messages that are looked up by each of their keys.
const LOOK_UPS: usize = 20;
const MALFORMED_FRAMES: usize = 100_000;
/// Answers of a load before the broker is killed, and again after it is back.
const LOAD: usize = 200;
/// Seconds in which so many come, however busy the machine is.
const LOAD_SECONDS: u64 = 90;
/// A request that a busy machine keeps waiting is answered and not refused: these parts are about what the answers say.
const UNHURRIED: &str = "waitTimeMillsInSendQueue=10000\nosPageCacheBusyTimeOutMills=10000\n";
/// Clients that run at a time.
const LANES: usize = 2;

/// What is run and reported by itself.
#[derive(Clone, Copy)]
enum Part {
    Client(Client),
    Malformed,
    Takeover,
    Replication,
    MqAdmin,
}

impl Part {
    fn all() -> Vec<Part> {
        let clients = Client::ALL.into_iter().map(Part::Client);
        clients.chain([Part::Malformed, Part::Takeover, Part::Replication, Part::MqAdmin]).collect()
    }

    fn name(self) -> String {
        match self {
            Part::Client(client) => client.name(),
            Part::Malformed => "malformed".to_owned(),
            Part::Takeover => "takeover".to_owned(),
            Part::Replication => "replication".to_owned(),
            Part::MqAdmin => "mqadmin".to_owned(),
        }
    }

    /// Fetches all that it needs, and gives its clients.
    fn prepare(self) -> Result<Vec<Tools>> {
        let clients = match self {
            Part::Client(client) => vec![client],
            Part::Malformed => vec![Client::Java { version: "4.9.7" }, Client::Python],
            Part::Takeover | Part::Replication => {
                takeover::prepare()?;
                vec![Client::Java { version: "4.9.7" }]
            }
            Part::MqAdmin => {
                mqadmin::prepare()?;
                Vec::new()
            }
        };
        clients.into_iter().map(Tools::prepare).collect()
    }

    fn run(self, tools: &[Tools], program: &Path) -> Result<()> {
        let dir = TempDir::new(&format!("interop-{}", self.name()));
        let outcome = match self {
            Part::Client(_) => client(&tools[0], program, dir.path()),
            Part::Malformed => served_after_malformed_frames(tools, program, dir.path()),
            Part::Takeover => takeover::in_turns(&tools[0], program, dir.path()),
            Part::Replication => replication::matrix(&tools[0], program, dir.path()),
            Part::MqAdmin => mqadmin::every_command(program, dir.path()),
        };
        outcome.map_err(|error| error.context(format!("its files are kept in {}", dir.keep().display())))
    }
}

fn main() -> ExitCode {
    let mut optional = false;
    let mut only = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--optional" => optional = true,
            "--only" => only = words.next(),
            _ => {
                eprintln!("usage: cargo interop [--optional] [--only PART]");
                return ExitCode::from(2);
            }
        }
    }
    let parts: Vec<Part> = Part::all()
        .into_iter()
        .filter(|part| only.as_ref().is_none_or(|name| *name == part.name()))
        .collect();
    if parts.is_empty() {
        let names: Vec<String> = Part::all().into_iter().map(Part::name).collect();
        eprintln!("interop: --only takes one of {}", names.join(", "));
        return ExitCode::from(2);
    }
    let program = match release_hotfire() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("interop: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let (clients, others): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| matches!(part, Part::Client(_)));
    let names: Vec<String> = clients.iter().map(|part| part.name()).collect();
    let tally = Tally { optional, ..Tally::default() };
    // Package managers do not share their folders well; what they have fetched then mostly waits, and runs side by side.
    let ready: Vec<_> = clients.into_iter().map(|part| (part, part.prepare())).collect();
    let next = Mutex::new(ready.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let part = next.lock().expect("no part panics while it is taken").next();
                    let Some((part, tools)) = part else { return };
                    tally.count(part, tools, &program);
                }
            });
        }
    });
    for row in table::rows(&names).iter().filter(|_| !names.is_empty()) {
        println!("{row}");
    }
    for part in others {
        tally.count(part, part.prepare(), &program);
    }
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    println!(
        "{} passed, {} failed, {} skipped",
        count(&tally.passed),
        count(&tally.failed),
        count(&tally.skipped)
    );
    if count(&tally.failed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How the parts have ended.
#[derive(Default)]
struct Tally {
    /// A tool that is missing is no failure.
    optional: bool,
    passed: AtomicUsize,
    failed: AtomicUsize,
    skipped: AtomicUsize,
}

impl Tally {
    fn count(&self, part: Part, tools: Result<Vec<Tools>>, program: &Path) {
        let (name, start) = (part.name(), Instant::now());
        let of = match tools {
            Ok(tools) => match part.run(&tools, program) {
                Ok(()) => {
                    println!("interop {name}: ok in {:.1} s", start.elapsed().as_secs_f64());
                    &self.passed
                }
                Err(error) => {
                    println!("interop {name}: FAILED: {error:#}");
                    &self.failed
                }
            },
            Err(missing) if self.optional => {
                println!("interop {name}: skipped: {missing:#}");
                &self.skipped
            }
            Err(missing) => {
                println!("interop {name}: FAILED: {missing:#}");
                &self.failed
            }
        };
        of.fetch_add(1, Ordering::Relaxed);
    }
}

fn client(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let shown = |feature| table::shown(feature, &tools.name);
    let cluster = Cluster::start(program, dir, "fields")?;
    every_field_comes_back(tools, cluster.name_server(), "InteropFields", dir)
        .context("every field comes back")?;
    shown("fields");
    if tools.queries {
        shown("look-ups");
    }
    cluster.stop()?;
    if tools.transacts {
        transactions::come_to_their_ends(tools, program, dir).context("transactions come to their ends")?;
        shown("transactions");
    }
    if !tools.life.is_empty() {
        life::of_an_application(tools, program, dir).context("an application lives")?;
    }
    nothing_acknowledged_is_lost(tools, program, dir).context("a kill under load loses nothing")?;
    shown("kill-under-load");
    Ok(())
}

fn served_after_malformed_frames(tools: &[Tools], program: &Path, dir: &Path) -> Result<()> {
    let cluster = Cluster::start(program, dir, "malformed")?;
    let broker = cluster.broker.address("broker").context("the broker's address")?;
    let processes = [cluster.name_server.pid(), cluster.broker.pid()];
    let start = Instant::now();
    let flood = malformed::flood(MALFORMED_FRAMES, cluster.name_server(), broker, &processes)?;
    println!(
        "interop malformed: {} frames on {} connections in {:.1} s, {} answers",
        MALFORMED_FRAMES,
        flood.connections,
        start.elapsed().as_secs_f64(),
        flood.answers
    );
    for (node, Memory { settled_kib, end_kib }) in ["name server", "broker"].iter().zip(flood.memory) {
        println!(
            "interop malformed: anonymous memory of the {node}: {settled_kib} KiB after a quarter, {end_kib} KiB at the end"
        );
    }
    for (index, tools) in tools.iter().enumerate() {
        let dir = dir.join(format!("client-{index}"));
        std::fs::create_dir(&dir)?;
        every_field_comes_back(tools, cluster.name_server(), &format!("AfterTheFlood{index}"), &dir)
            .context("every field comes back after the flood")?;
    }
    cluster.stop()
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
        // One that starts again at the same port must not find there a client's end of a connection that it tries meanwhile.
        let listen = format!("127.0.0.1:{}", free_ports()?);
        let broker = start_broker(program, dir, &address, &data, &listen)?;
        Ok(Cluster { name_server, broker, data })
    }

    fn name_server(&self) -> &str {
        self.name_server.address("namesrv").expect("it was there at the start")
    }

    /// # Errors
    /// When one of them does not stop in order.
    fn stop(self) -> Result<()> {
        let status = self.broker.stop(Duration::from_secs(20))?;
        ensure!(status.success(), "the broker stopped with {status}");
        let status = self.name_server.stop(Duration::from_secs(20))?;
        ensure!(status.success(), "the name server stopped with {status}");
        Ok(())
    }
}

fn start_broker(program: &Path, dir: &Path, name_server: &str, data: &Path, listen: &str) -> Result<Node> {
    let settings = data.with_extension("conf");
    std::fs::write(&settings, UNHURRIED)?;
    let words =
        ["broker", "-c", path(&settings)?, "-n", name_server, "--listen", listen, "--data", path(data)?];
    Node::start(program, "broker", &words, dir)
}

fn every_field_comes_back(tools: &Tools, name_server: &str, topic: &str, dir: &Path) -> Result<()> {
    let count = MESSAGES.to_string();
    let (sent, received) = (dir.join("sent.jsonl"), dir.join("received.jsonl"));
    tools.run(&["produce", name_server, topic, &count, path(&sent)?], dir, Duration::from_secs(60))?;
    let consume = ["consume", name_server, topic, "interop-fields", &count, "60", path(&received)?];
    tools.run(&consume, dir, Duration::from_secs(90))?;
    compare::every_field(&sent, &received, MESSAGES)?;
    if tools.queries {
        let (count, found) = (LOOK_UPS.to_string(), dir.join("found.jsonl"));
        let query = ["query", name_server, topic, &count, path(&sent)?, path(&found)?];
        tools.run(&query, dir, Duration::from_secs(60))?;
        compare::found_by_key(&sent, &found, LOOK_UPS).context("messages are found by key")?;
    }
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
    let grows_by = |from: usize| {
        hotfire_tests::wait_until(Duration::from_secs(LOAD_SECONDS / 2), || lines(&sent) > from + LOAD)
    };
    if !grows_by(0) {
        let _ = load.kill();
        bail!("the load sent nothing");
    }
    broker.kill()?;
    let restarted = start_broker(program, dir, &name_server_address, &data, &listen)?;
    let at_restart = lines(&sent);
    let goes_on = grows_by(at_restart);
    enough(path(&sent)?)?;
    let status = clients::wait(&mut load, Duration::from_secs(60)).context("the load")?;
    ensure!(status.success(), "the load ended with {status}");
    let acknowledged = compare::acknowledged(&sent)?;
    ensure!(goes_on, "{} were acknowledged, {at_restart} before the restart", acknowledged.len());
    let count = acknowledged.len().to_string();
    let consume =
        ["consume", &name_server_address, "InteropKill", "interop-kill", &count, "60", path(&received)?];
    tools.run(&consume, dir, Duration::from_secs(90))?;
    compare::nothing_missing(&acknowledged, &received)?;
    restarted.stop(Duration::from_secs(20))?;
    Ok(())
}

/// Tells the client's program that writes `out` and goes on until it is told.
fn enough(out: &str) -> Result<()> {
    Ok(std::fs::write(format!("{out}.enough"), "")?)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path with a readable name")
}

//! `cargo crash-loop`: a real broker, killed again and again under load, and what it has afterwards.
//!
//! Each round is one kill: a broker is started on a directory that earlier kills have left, its queues are read to the end and
//! held against all that is known, writers and a reader begin, and after a while SIGKILL comes. At times it comes once more
//! while the broker starts, or the broker stops and starts in order before the load. In turns for each way of flushing:
//!
//! | mode | a killed process loses |
//! |---|---|
//! | `sync`: SYNC_FLUSH | nothing acknowledged |
//! | `async`: ASYNC_FLUSH | nothing acknowledged |
//! | `pool`: ASYNC_FLUSH with the transient store pool | what was acknowledged since the last commit, and no reader has seen |
//!
//! And for `pair`, a SYNC_MASTER and its slave, as [`pair`] says.
//!
//! Moments are drawn from the seed that is printed; what the machine makes of them is not repeatable.
#![forbid(unsafe_code)]

mod ledger;
mod load;
mod pair;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotfire_tests::{Node, TempDir, release_hotfire};

use ledger::{Copies, Cost, MayLose};
use load::{Book, mix};
use pair::Pair;

/// Kills that one directory lives through.
const KILLS: u64 = 8;
/// The commit intervals of the pool, 200 ms each, and what a busy machine may put a thread off.
const COMMITTED_WITHIN: Duration = Duration::from_millis(1_000);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Small files: a round crosses many ends.
const SETTINGS: &str = "brokerIP1=127.0.0.1\nmappedFileSizeCommitLog=1048576\nmappedFileSizeConsumeQueue=20000\n\
                        maxHashSlotNum=1000\nmaxIndexNum=4000\nfileReservedTime=1000\ncleanFileForciblyEnable=false\n\
                        flushIntervalConsumeQueue=200\nflushConsumeQueueThoroughInterval=1000\n";

#[derive(Clone, Copy, PartialEq, Eq)]
struct Mode {
    name: &'static str,
    settings: &'static str,
    may_lose: Option<Duration>,
    slave: bool,
}

const MODES: [Mode; 4] = [
    Mode { name: "sync", settings: "flushDiskType=SYNC_FLUSH\n", may_lose: None, slave: false },
    Mode { name: "async", settings: "flushDiskType=ASYNC_FLUSH\n", may_lose: None, slave: false },
    Mode {
        name: "pool",
        settings: "flushDiskType=ASYNC_FLUSH\ntransientStorePoolEnable=true\n",
        may_lose: Some(COMMITTED_WITHIN),
        slave: false,
    },
    Mode { name: "pair", settings: "flushDiskType=ASYNC_FLUSH\n", may_lose: None, slave: true },
];

struct Options {
    rounds: u64,
    seed: u64,
    modes: Vec<Mode>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash-loop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options { rounds: 6, seed: 1, modes: MODES.to_vec() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse().context("--rounds")?,
            "--seed" => options.seed = value.parse().context("--seed")?,
            "--mode" => {
                options.modes.retain(|mode| mode.name == value);
                ensure!(!options.modes.is_empty(), "--mode sync, async, pool or pair");
            }
            _ => {
                anyhow::bail!("usage: cargo crash-loop [--rounds N] [--seed S] [--mode sync|async|pool|pair]")
            }
        }
    }
    Ok(options)
}

/// What the rounds of one mode came to.
#[derive(Default)]
struct Figures {
    kills: u64,
    kills_at_start: u64,
    acknowledged: usize,
    lost: usize,
    oldest: Duration,
    kills_that_lost: u64,
    pair: pair::Figures,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} kills under load and {} at the start, {} messages acknowledged; {} lost by {} kills, the oldest {} ms old",
            self.kills,
            self.kills_at_start,
            self.acknowledged,
            self.lost,
            self.kills_that_lost,
            self.oldest.as_millis()
        )
    }
}

impl Figures {
    fn add(&mut self, cost: Cost) {
        self.lost += cost.lost;
        self.oldest = self.oldest.max(cost.oldest);
        self.kills_that_lost += u64::from(cost.lost > 0);
    }
}

fn run(options: &Options) -> Result<()> {
    println!("crash-loop: {} kills, seed {}", options.rounds, options.seed);
    let program = release_hotfire()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut figures: Vec<(Mode, Figures)> =
        options.modes.iter().map(|mode| (*mode, Figures::default())).collect();
    let (mut left, mut directory) = (options.rounds, 0);
    while left > 0 {
        let index = directory % figures.len();
        let kills = KILLS.min(options.rounds.div_ceil(figures.len() as u64)).min(left);
        let (mode, figures) = &mut figures[index];
        let dir = TempDir::new(&format!("crash-loop-{}-{directory}", mode.name));
        let seed = mix(options.seed ^ directory as u64);
        let start = Instant::now();
        let lived = if mode.slave {
            let pair = Pair { settings: mode.settings, program: &program, dir: dir.path(), seed };
            runtime.block_on(pair.live(kills, &mut figures.pair))
        } else {
            let life = Life { mode: *mode, program: &program, dir: dir.path(), seed };
            runtime.block_on(life.of_a_directory(kills, figures))
        };
        lived.with_context(|| format!("{} directory {directory}, seed {}", mode.name, options.seed))?;
        println!(
            "crash-loop {}: directory {directory} lived through {kills} kills in {:.1} s",
            mode.name,
            start.elapsed().as_secs_f64()
        );
        left = left.saturating_sub(kills);
        directory += 1;
    }
    for (mode, figures) in figures {
        if mode.slave {
            println!("crash-loop {}: {}", mode.name, figures.pair);
        } else {
            println!("crash-loop {}: {figures}", mode.name);
        }
    }
    Ok(())
}

struct Life<'a> {
    mode: Mode,
    program: &'a Path,
    dir: &'a Path,
    seed: u64,
}

impl Life<'_> {
    /// # Errors
    /// The first broken promise, or a broker that does not start or stop.
    async fn of_a_directory(&self, kills: u64, figures: &mut Figures) -> Result<()> {
        std::fs::write(self.dir.join("broker.conf"), format!("{SETTINGS}{}", self.mode.settings))?;
        let name_server =
            Node::start(self.program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], self.dir)?;
        let words = self.words(name_server.address("namesrv").context("the name server's address")?)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (book, mut killed_at) = (Book::new(Copies::All), None);
        for kill in 0..kills {
            let draw = |what: u64, below: u64| mix(self.seed ^ (kill << 8) ^ what) % below;
            if killed_at.is_some() && draw(1, 3) == 0 {
                self.kill_at_start(&words, Duration::from_micros(draw(2, 60_000)))?;
                figures.kills_at_start += 1;
                self.no_file_is_empty().with_context(|| format!("a kill at the start before kill {kill}"))?;
            }
            let mut broker = Node::start(self.program, "broker", &words, self.dir)?;
            let ends = self.look(&broker, &book, killed_at, figures).await?;
            if draw(3, 4) == 0 {
                stop(broker)?;
                broker = Node::start(self.program, "broker", &words, self.dir)?;
            }
            let after = Duration::from_millis(200 + draw(4, 1_800));
            killed_at = Some(
                kill_under_load(broker, &book, ends, after).await.with_context(|| format!("kill {kill}"))?,
            );
            figures.kills += 1;
            self.no_file_is_empty().with_context(|| format!("kill {kill}"))?;
        }
        let broker = Node::start(self.program, "broker", &words, self.dir)?;
        self.look(&broker, &book, killed_at, figures).await?;
        stop(broker)?;
        stop(name_server)?;
        let acknowledged = book.ledger().acknowledgements(Copies::All);
        ensure!(acknowledged > 0, "nothing was acknowledged");
        figures.acknowledged += acknowledged;
        Ok(())
    }

    fn words(&self, name_server: &str) -> Result<Vec<String>> {
        let file = |name: &str| -> Result<String> {
            let path: PathBuf = self.dir.join(name);
            Ok(path.to_str().context("a path with a readable name")?.to_owned())
        };
        let (conf, data) = (file("broker.conf")?, file("data")?);
        let words = ["broker", "-c", &conf, "-n", name_server, "--listen", "127.0.0.1:0", "--data", &data];
        Ok(words.map(str::to_owned).to_vec())
    }

    /// A Java broker refuses to start on an empty file of the log or of a queue.
    ///
    /// # Errors
    /// The file; also where the file system has no files without a name.
    fn no_file_is_empty(&self) -> Result<()> {
        let data = self.dir.join("data");
        let mut folders = ["commitlog", "consumequeue", "index"].map(|name| data.join(name)).to_vec();
        while let Some(folder) = folders.pop() {
            // The first kill may come before there is one.
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else {
                    ensure!(metadata.len() > 0, "{} is empty", entry.path().display());
                }
            }
        }
        Ok(())
    }

    /// Starts the broker and kills it so much later, whatever it is doing.
    fn kill_at_start(&self, words: &[&str], after: Duration) -> Result<()> {
        let mut child = Command::new(self.program)
            .args(words)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the broker")?;
        std::thread::sleep(after);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Reads all that the broker has and holds it against the book. Gives the end of each queue.
    async fn look(
        &self,
        broker: &Node,
        book: &Book,
        killed_at: Option<Duration>,
        figures: &mut Figures,
    ) -> Result<BTreeMap<i32, i64>> {
        let address = broker.address("broker").context("the broker's address")?;
        let found = load::read_all(address).await?;
        let killed_at = killed_at.unwrap_or_default();
        let may_lose = match self.mode.may_lose {
            Some(within) => MayLose::Since(killed_at.saturating_sub(within)),
            None => MayLose::Nothing,
        };
        figures.add(book.ledger().judge(&found, killed_at, may_lose)?);
        Ok(load::ends(&found))
    }
}

/// Gives the moment of the kill.
async fn kill_under_load(
    broker: Node,
    book: &Book,
    ends: BTreeMap<i32, i64>,
    after: Duration,
) -> Result<Duration> {
    let address = broker.address("broker").context("the broker's address")?.to_owned();
    let writers = load::start_writers(&address, book);
    let reader = tokio::spawn(load::read_along(address, book.clone(), ends));
    tokio::time::sleep(after).await;
    let killed_at = book.now();
    broker.kill()?;
    for writer in writers {
        writer.await.context("a writer")??;
    }
    reader.await.context("the reader")??;
    Ok(killed_at)
}

fn stop(node: Node) -> Result<()> {
    let status = node.stop(STOP_PATIENCE)?;
    ensure!(status.success(), "a node stopped with {status}");
    Ok(())
}

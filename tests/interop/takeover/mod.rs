//! Upgrade and downgrade: our broker and the original ones serve one data directory in turns, under one configuration file.
//!
//! Each turn reads all that the turns before have left and adds to it. What is read must be what was there: every field of every
//! message as a Java client shows it, the queues' bounds, the committed offsets, and messages looked up by key, unique key and
//! place. Turns end in order, by a kill under load, or by a kill after which the log's end is torn and the youngest index file
//! lost and `store check --repair` has to make it whole; what was acknowledged and lies below the cut is then still there.

mod reading;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotfire_tests::java::{self, Jars};
use hotfire_tests::{Node, free_ports, last_lines, wait_until};
use serde_json::Value;

use crate::brokers::{
    Broker, HOTFIRE_CONF, JAVA_STOP_PATIENCE, LOG_FILE_BYTES, SMALL_FILES, STOP_PATIENCE, Who,
};
use crate::clients::{self, Tools};
use crate::compare::lines;
use reading::{Left, Reading, acknowledged, are_served, is_what_was_left, log_position};

const BATCH: usize = 10;
const VERSIONS: [Version; 2] = [
    Version { name: "4.9.7", settings: "", batch: BATCH },
    // It writes a record checksum as we do, and holds every record against it when it recovers. It is sent no batches: in those
    // it glues the checksum to the last property, where a client takes it for a part of that.
    Version { name: "5.4.0", settings: "enabledAppendPropCRC=true\nforceVerifyPropCRC=true\n", batch: 0 },
];
const GROUP: &str = "takeover-group";
/// Messages a topic and turn; the first turn lays the ground.
const FIRST_MESSAGES: usize = 200;
const MESSAGES: usize = 40;
/// Indexes of messages begin at multiples of it, turn by turn.
const TURN_STEP: usize = 1_000_000;
/// Files that the first turn fills.
const LOG_FILES_MIN: usize = 3;
const LOAD_MIN: usize = 400;
const LOAD_SECONDS: u64 = 30;
const VISIT_PATIENCE: Duration = Duration::from_secs(90);
/// What the last record loses by a tear, and how much is overwritten from there on.
const TORN_BYTES: u64 = 20;
const GARBAGE_BYTES: usize = 320;

/// An original broker.
#[derive(Clone, Copy)]
struct Version {
    name: &'static str,
    settings: &'static str,
    /// Messages in a batch that it is sent.
    batch: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Stopped,
    Killed,
    Torn,
}

const TURNS: [(Who, End); 9] = [
    (Who::Hotfire, End::Stopped),
    (Who::Java, End::Stopped),
    (Who::Hotfire, End::Killed),
    (Who::Java, End::Killed),
    (Who::Hotfire, End::Torn),
    (Who::Java, End::Stopped),
    (Who::Hotfire, End::Stopped),
    // It dies before it writes the checkpoint, which it does each minute: ours still looks as if we had written last.
    (Who::Java, End::Killed),
    (Who::Hotfire, End::Stopped),
];

/// Fetches the servers.
pub fn prepare() -> Result<()> {
    java::find_program("java").context("no JDK")?;
    VERSIONS.into_iter().try_for_each(|version| java::jars(version.name, Jars::Servers).map(drop))
}

/// The versions beside each other: most of the time goes by while Java stops.
pub fn in_turns(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    std::thread::scope(|scope| {
        let threads = VERSIONS.map(|version| scope.spawn(move || with_version(tools, program, version, dir)));
        let outcomes = threads.map(|thread| thread.join().expect("it gives its errors and does not panic"));
        outcomes.into_iter().zip(VERSIONS).try_for_each(|(outcome, version)| {
            let figures = outcome.with_context(|| format!("Java {}", version.name))?;
            println!("interop takeover: {}: {figures}", version.name);
            Ok(())
        })
    })
}

fn with_version(tools: &Tools, program: &Path, version: Version, dir: &Path) -> Result<String> {
    let (dir, start) = (&dir.join(version.name), Instant::now());
    std::fs::create_dir(dir)?;
    let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
    let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
    let place = Place::new(tools, program, version, dir, &address)?;
    let mut left = Left::default();
    let mut figures = Figures::default();
    for (turn, (who, end)) in TURNS.into_iter().enumerate() {
        left = place
            .turn(turn, who, end, &left, &mut figures)
            .with_context(|| format!("turn {turn}: {who:?}, then {end:?}"))?;
    }
    name_server.stop(JAVA_STOP_PATIENCE)?;
    Ok(format!(
        "{} turns, {} messages at the end, {} read again in all, {} look-ups, {} of {} acknowledged lay beyond a cut, {:.1} s",
        TURNS.len(),
        left.read.messages.len(),
        figures.read_again,
        figures.look_ups,
        figures.beyond_cut,
        figures.acknowledged,
        start.elapsed().as_secs_f64()
    ))
}

#[derive(Default)]
struct Figures {
    read_again: usize,
    look_ups: usize,
    acknowledged: usize,
    beyond_cut: usize,
}

/// Where the turns are played.
struct Place<'a> {
    tools: &'a Tools,
    program: &'a Path,
    version: Version,
    dir: &'a Path,
    name_server: &'a str,
    /// One for all brokers: message ids name it.
    port: u16,
    settings: String,
    data: PathBuf,
}

impl<'a> Place<'a> {
    fn new(
        tools: &'a Tools,
        program: &'a Path,
        version: Version,
        dir: &'a Path,
        name_server: &'a str,
    ) -> Result<Self> {
        let (port, data) = (free_ports()?, dir.join("data"));
        let settings = format!(
            "brokerName=broker-a\nbrokerIP1=127.0.0.1\nbindAddress=127.0.0.1\nlistenPort={port}\nhaListenPort={}\n\
             namesrvAddr={name_server}\nstorePathRootDir={}\nstorePathCommitLog={}\n\
             mappedFileSizeCommitLog={LOG_FILE_BYTES}\nwaitTimeMillsInSendQueue=5000\n{SMALL_FILES}{}",
            port + 1,
            data.display(),
            data.join("commitlog").display(),
            version.settings
        );
        Ok(Place { tools, program, version, dir, name_server, port, settings, data })
    }

    fn start(&self, who: Who) -> Result<Broker> {
        match who {
            Who::Hotfire => Broker::hotfire(self.program, &self.settings, self.port, self.dir),
            Who::Java => Broker::java(self.version.name, &self.settings, self.dir),
        }
    }

    fn turn(&self, turn: usize, who: Who, end: End, before: &Left, figures: &mut Figures) -> Result<Left> {
        let topics: Vec<String> = (0..turn + 3).map(|topic| format!("Takeover{topic}")).collect();
        let count = if turn == 0 { FIRST_MESSAGES } else { MESSAGES };
        self.play(turn, who, end, count, &topics)?;
        let cut =
            if end == End::Torn { self.tear_and_repair().context("tear and repair")? } else { u64::MAX };

        let file = |name: &str| self.dir.join(format!("turn-{turn}-{name}.jsonl"));
        let found = Reading::from(&file("found")).context("what was found")?;
        is_what_was_left(before, &found)?;
        let read = Reading::from(&file("left")).context("what was left")?;
        let again = found.messages.iter().all(|(at, line)| read.messages.get(at) == Some(line));
        ensure!(again, "a later look differs");
        let (sent, mut acknowledged) = (lines(&file("sent"))?, acknowledged(&file("load"))?);
        ensure!(sent.len() == topics.len() * count, "{} messages were sent", sent.len());
        are_served(&sent, &read)?;

        figures.read_again += found.messages.len();
        figures.look_ups += found.look_ups + read.look_ups;
        figures.acknowledged += acknowledged.len() + sent.len();
        for line in &acknowledged {
            let at = log_position(line)?;
            ensure!(at <= cut, "a tear of the last record cuts at {cut}, below the whole one at {at}");
        }
        let all = acknowledged.len();
        acknowledged.retain(|line| log_position(line).is_ok_and(|at| at < cut));
        figures.beyond_cut += all - acknowledged.len();
        Ok(Left { read, acknowledged, is_all: end == End::Stopped })
    }

    /// Starts a broker, has a client visit it, and ends it.
    fn play(&self, turn: usize, who: Who, end: End, count: usize, topics: &[String]) -> Result<()> {
        let broker = self.start(who)?;
        let (how, seconds) = if end == End::Stopped { ("commit", 0) } else { ("keep", LOAD_SECONDS) };
        let (first, count, seconds) =
            ((turn * TURN_STEP).to_string(), count.to_string(), seconds.to_string());
        let batch = if who == Who::Java { self.version.batch } else { BATCH }.to_string();
        let out = format!("turn-{turn}");
        let mut words = vec!["visit", self.name_server, GROUP, &first, &count, &batch, how, &seconds, &out];
        words.extend(topics.iter().map(String::as_str));
        let abort = self.data.join("abort");
        ensure_log_has_files(&self.data, if turn == 0 { 0 } else { LOG_FILES_MIN })?;
        if end == End::Stopped {
            let visited = self.tools.run(&words, self.dir, VISIT_PATIENCE);
            visited.with_context(|| format!("the broker's log ends: {}", broker.log_end()))?;
            broker.stop()?;
            ensure!(!abort.exists(), "an abort file is there after an ordered stop");
        } else {
            let load = self.dir.join(format!("{out}-load.jsonl"));
            let killed = self.kill_under_load(&words, &load, broker);
            killed.with_context(|| {
                format!("the client's log ends: {}", last_lines(&self.dir.join("client.log"), 15))
            })?;
            ensure!(abort.exists(), "no abort file is there after a kill");
        }
        Ok(())
    }

    /// Kills the broker once the load has gone on for a while, and then ends the load.
    fn kill_under_load(&self, words: &[&str], sent: &Path, broker: Broker) -> Result<()> {
        let mut load = self.tools.start(words, self.dir)?;
        let count = || std::fs::read_to_string(sent).map_or(0, |text| text.lines().count());
        let mut ended = None;
        wait_until(VISIT_PATIENCE, || {
            ended = load.try_wait().ok().flatten();
            ended.is_some() || count() >= LOAD_MIN
        });
        let killed = broker.kill();
        if ended.is_none() {
            load.kill()?;
            clients::wait(&mut load, STOP_PATIENCE)?;
        }
        killed?;
        ensure!(ended.is_none(), "the load ended by itself");
        ensure!(count() >= LOAD_MIN, "only {} messages were sent under load", count());
        Ok(())
    }

    /// Overwrites the end of the log's last record and what follows, and loses the youngest index file; gives the log's end after
    /// the repair.
    fn tear_and_repair(&self) -> Result<u64> {
        let end = self.check(&[])?;
        let start = (end - 1) / LOG_FILE_BYTES * LOG_FILE_BYTES;
        let file = self.data.join("commitlog").join(format!("{start:020}"));
        let from = end - start - TORN_BYTES;
        let room = usize::try_from(LOG_FILE_BYTES - from)?.min(GARBAGE_BYTES);
        let garbage: Vec<u8> = (0..room).map(|at| (at * 37 + 11) as u8).collect();
        std::fs::OpenOptions::new().write(true).open(&file)?.write_all_at(&garbage, from)?;
        let mut index: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(self.data.join("index"))? {
            index.push(entry?.path());
        }
        index.sort();
        std::fs::remove_file(index.last().context("an index file")?)?;
        let cut = self.check(&["--repair"])?;
        ensure!(cut <= end, "the repaired log ends at {cut}, past {end}");
        Ok(cut)
    }

    /// Runs `store check`, and gives the log's end.
    fn check(&self, more: &[&str]) -> Result<u64> {
        let output = Command::new(self.program)
            .args(["store", "check", "--json", "-c", HOTFIRE_CONF])
            .args(more)
            .arg(&self.data)
            .current_dir(self.dir)
            .output()
            .context("run store check")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text)
            .with_context(|| format!("{text} {}", String::from_utf8_lossy(&output.stderr)))?;
        ensure!(more.is_empty() || output.status.success(), "{}: {text}", output.status);
        report["commit_log"]["max"].as_u64().with_context(|| format!("the log's end in {text}"))
    }
}

/// # Errors
/// When the log is not spread over that many files: then no test of files.
fn ensure_log_has_files(data: &Path, min: usize) -> Result<()> {
    let count = std::fs::read_dir(data.join("commitlog")).map_or(0, Iterator::count);
    ensure!(count >= min, "the log has {count} files");
    Ok(())
}

//! Replication with the original brokers as peers: each is the other's master and slave, under both ways of waiting.
//!
//! One run for each Java version and each of the two roles. A SYNC_MASTER alone takes sends; a slave joins late and begins with
//! the file that the master is at; it is killed under load and comes back. Messages of every kind follow: plain, in batches,
//! delayed, of transactions. The master is killed under load: consumers, ours and the original one, then find at the slave
//! everything that was acknowledged. The master comes back as an ASYNC_MASTER and takes every kind of message again; at last the
//! two change roles. Logs are compared byte by byte after each step, tables once.

mod pair;
mod sender;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotfire_core::client::producer::SendStatus;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::SendMessageHeader;
use hotfire_tests::{Node, wait_until};

use crate::brokers::{Broker, STOP_PATIENCE, Who};
use crate::clients::Tools;
use crate::compare;
use pair::{Pair, Role, Seat};
use sender::{Answers, Sender};

const VERSIONS: [&str; 2] = ["4.9.7", "5.4.0"];
const GROUP: &str = "replication-group";
/// Fills some files of the log.
const ALONE: usize = 600;
const MESSAGES: usize = 40;
const BATCH: usize = 10;
/// Java 4.9 reports for the first time 5 s after it has connected, which it tries every 5 s.
const JOIN_PATIENCE: Duration = Duration::from_secs(40);
/// Java 5.x copies tables for the first time after a minute.
const TABLES_PATIENCE: Duration = Duration::from_secs(100);
const CONSUME_PATIENCE: Duration = Duration::from_secs(40);
const VISIT_PATIENCE: Duration = Duration::from_secs(90);
/// Answers under load, before and after a kill.
const LOAD_MIN: usize = 100;
const LOAD_PATIENCE: Duration = Duration::from_secs(20);
const DELAY_PATIENCE: Duration = Duration::from_secs(20);

/// Who is the master at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lane {
    version: &'static str,
    master: Who,
}

/// All lanes beside each other: most of the time goes by in waiting.
pub fn matrix(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let masters = [Who::Hotfire, Who::Java];
    let lanes: Vec<Lane> =
        VERSIONS.into_iter().flat_map(|version| masters.map(|master| Lane { version, master })).collect();
    std::thread::scope(|scope| {
        let running: Vec<_> =
            lanes.iter().map(|lane| scope.spawn(move || lane.run(tools, program, dir))).collect();
        let outcomes = running.into_iter().map(|lane| lane.join().expect("it gives its errors"));
        let failed = outcomes.zip(&lanes).filter_map(|(outcome, lane)| match outcome {
            Ok(figures) => {
                println!("interop replication: {lane}: {figures}");
                None
            }
            Err(error) => Some(format!("{lane}: {error:#}")),
        });
        let failed: Vec<String> = failed.collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })
}

impl std::fmt::Display for Lane {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.master {
            Who::Hotfire => write!(out, "a slave of Java {}", self.version),
            Who::Java => write!(out, "a master of Java {}", self.version),
        }
    }
}

impl Lane {
    fn run(self, tools: &Tools, program: &Path, dir: &Path) -> Result<String> {
        let start = Instant::now();
        let dir = &dir.join(format!("{}-{:?}", self.version, self.master));
        std::fs::create_dir(dir)?;
        let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
        let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
        let slave = if self.master == Who::Hotfire { Who::Java } else { Who::Hotfire };
        let seats = [Seat::new(self.master, dir.join("first"))?, Seat::new(slave, dir.join("second"))?];
        let pair = Pair { version: self.version, program, name_server: &address, seats };
        let sender = Sender::new(&address)?;
        let play = Play { lane: self, pair: &pair, sender: &sender, tools, dir };
        let figures = play.play(start)?;
        name_server.stop(STOP_PATIENCE)?;
        Ok(format!("{figures}, {:.1} s", start.elapsed().as_secs_f64()))
    }

    /// What a master says that waits for a slave and has none.
    fn without_slave(self) -> SendStatus {
        match (self.master, self.version.starts_with("5.")) {
            (Who::Java, true) => SendStatus::FlushSlaveTimeout,
            _ => SendStatus::SlaveNotAvailable,
        }
    }
}

/// What the steps share.
struct Play<'a> {
    lane: Lane,
    pair: &'a Pair<'a>,
    sender: &'a Sender,
    tools: &'a Tools,
    dir: &'a Path,
}

impl Play<'_> {
    fn play(&self, start: Instant) -> Result<String> {
        let step = |name: &str| {
            if std::env::var_os("HOTFIRE_STEPS").is_some() {
                println!(
                    "interop replication: {}: {:.1} s: {name}",
                    self.lane,
                    start.elapsed().as_secs_f64()
                );
            }
        };
        let master = self.pair.start(0, Role::SyncMaster)?;
        let slave = self.joins_late().context("a slave joins late")?;
        step("joined");
        let slave = self.slave_dies_under_load(slave).context("the slave dies under load")?;
        step("slave back");
        let sync = self.every_kind("Sync").context("a SYNC_MASTER takes every kind of message")?;
        self.visit().context("a Java client visits")?;
        self.pair.logs_agree(0, JOIN_PATIENCE)?;
        self.refuses_sends()?;
        step("every kind to a SYNC_MASTER");
        let tables = (&["Loaded", "Sync", "VisitA", "VisitB"][..], GROUP);
        self.pair.tables_agree(self.sender, tables, TABLES_PATIENCE)?;
        step("tables");
        let loaded = self.master_dies_under_load(master).context("the master dies under load")?;
        for (topic, wanted) in [("Sync", &sync), ("Loaded", &loaded)] {
            self.consumed(topic, wanted, "first").context("consumers read from the slave")?;
        }
        step("read from the slave");
        let master = self.pair.start(0, Role::AsyncMaster)?;
        self.sender.until_ok("Sync", JOIN_PATIENCE).context("the master comes back")?;
        self.every_kind("Async").context("an ASYNC_MASTER takes every kind of message")?;
        let files = self.pair.logs_agree(0, JOIN_PATIENCE)?;
        step("every kind to an ASYNC_MASTER");
        self.change_roles(master, slave, &sync).context("the two change roles")?;
        Ok(format!("{files} files alike, {} acknowledged under load", loaded.len()))
    }

    /// Lets a master alone fill some files, and then starts a slave: it begins with the last of them.
    fn joins_late(&self) -> Result<Broker> {
        self.sender.until_taken("Alone", JOIN_PATIENCE)?;
        self.sender.send_all("Alone", ALONE, &[("WAIT", "false")]).context("a SYNC_MASTER alone")?;
        self.no_slave()?;
        let last = self.pair.seats[0].log()?.into_keys().next_back().context("a file")?;
        let slave = self.pair.start(1, Role::Slave)?;
        self.pair.logs_agree(0, JOIN_PATIENCE)?;
        self.sender.until_ok("Sync", JOIN_PATIENCE)?;
        let first = self.pair.seats[1].log()?.into_keys().next().context("a file")?;
        ensure!(first == last, "the slave begins with {first}, the master was at {last}");
        Ok(slave)
    }

    fn no_slave(&self) -> Result<()> {
        let status = self.sender.send("Sync")?.1;
        ensure!(status == self.lane.without_slave(), "without a slave a send is answered {status:?}");
        Ok(())
    }

    /// Sends messages of every kind, and gives those that are to be seen.
    fn every_kind(&self, topic: &str) -> Result<Vec<i64>> {
        let mut seen = self.sender.send_all(topic, MESSAGES, &[]).context("plain ones")?;
        seen.extend(self.sender.send_batch(topic, BATCH).context("a batch")?);
        seen.extend(self.sender.send_all(topic, BATCH, &[("WAIT", "false")]).context("without a wait")?);
        seen.extend(self.sender.transact(topic, BATCH).context("transactions")?);
        let delayed = self.sender.send_all(topic, BATCH, &[("DELAY", "1")]).context("delayed ones")?;
        seen.extend(&delayed);
        let out = self.dir.join(format!("{topic}-master.jsonl"));
        // The master has delivered the delayed ones when a consumer has got them.
        self.sender.consume(topic, GROUP, &seen, DELAY_PATIENCE, &out).context("of the master")?;
        Ok(seen)
    }

    /// The original client sends, in batches too, reads it all, and commits offsets.
    fn visit(&self) -> Result<()> {
        let (count, batch, out) = (MESSAGES.to_string(), BATCH.to_string(), "visit");
        let words = [
            "visit",
            self.pair.name_server,
            GROUP,
            "0",
            &count,
            &batch,
            "commit",
            "0",
            out,
            "VisitA",
            "VisitB",
        ];
        self.tools.run(&words, self.dir, VISIT_PATIENCE)?;
        let sent = compare::lines(&self.dir.join("visit-sent.jsonl"))?;
        let ok = sent.iter().filter(|line| line["status"] == "SEND_OK").count();
        ensure!(ok == 2 * MESSAGES, "{ok} of {} sends were answered SEND_OK", 2 * MESSAGES);
        Ok(())
    }

    /// Kills the slave while messages are sent. Without it no answer says that a slave has the message; with it back, each does.
    fn slave_dies_under_load(&self, slave: Broker) -> Result<Broker> {
        let load = self.sender.load("Loaded");
        let enough = wait_until(LOAD_PATIENCE, || load.answers().ok.len() >= LOAD_MIN);
        slave.kill()?;
        let without = wait_until(LOAD_PATIENCE, || !load.answers().others.is_empty());
        let answers = load.end(self.sender)?;
        ensure!(enough && without, "answers were {} times OK and {:?}", answers.ok.len(), answers.others);
        self.no_slave()?;
        let slave = self.pair.start(1, Role::Slave)?;
        self.sender.until_ok("Sync", JOIN_PATIENCE).context("the slave comes back")?;
        self.sender.send_all("Sync", BATCH, &[]).context("with the slave back")?;
        Ok(slave)
    }

    /// A slave takes no sends, in the words of its kind.
    fn refuses_sends(&self) -> Result<()> {
        let seat = &self.pair.seats[1];
        let header = SendMessageHeader {
            producer_group: GROUP,
            topic: "Sync",
            default_topic: "TBW102",
            default_topic_queue_nums: 4,
            ..Default::default()
        };
        let mut send = RemotingCommand::request(request::SEND_MESSAGE_V2).with_body(b"m".to_vec());
        header.encode_v2(&mut send.ext);
        let answer = self.sender.answer(&seat.address(), send)?;
        let expected = match (seat.who, self.lane.version.starts_with("5.")) {
            (Who::Java, true) => response::SYSTEM_BUSY,
            _ => response::SERVICE_NOT_AVAILABLE,
        };
        ensure!(
            answer.code == expected,
            "a send to a slave is answered {}: {:?}",
            answer.code,
            answer.remark
        );
        Ok(())
    }

    /// Kills the master while messages are sent, and gives those that it had acknowledged as being on the slave.
    fn master_dies_under_load(&self, master: Broker) -> Result<Vec<i64>> {
        let load = self.sender.load("Loaded");
        let enough = wait_until(LOAD_PATIENCE, || load.answers().ok.len() >= LOAD_MIN);
        master.kill()?;
        let Answers { ok, others } = load.end(self.sender)?;
        ensure!(enough, "answers were {} times OK and {others:?}", ok.len());
        Ok(ok)
    }

    /// The original consumer and ours get all of `wanted`, each in a group that nobody has known before.
    fn consumed(&self, topic: &str, wanted: &[i64], round: &str) -> Result<()> {
        let (own, java) = (format!("{round}-{topic}"), format!("{round}-{topic}-java"));
        let out = self.dir.join(format!("{own}.jsonl"));
        let all = self.sender.consume(topic, &own, wanted, CONSUME_PATIENCE, &out)?.to_string();
        let acknowledged = wanted.iter().copied().collect();
        compare::nothing_missing(&acknowledged, &out).context("ours")?;
        let out = self.dir.join(format!("{java}.jsonl"));
        let seconds = CONSUME_PATIENCE.as_secs().to_string();
        let words = ["consume", self.pair.name_server, topic, &java, &all, &seconds, crate::path(&out)?];
        self.tools.run(&words, self.dir, CONSUME_PATIENCE * 2)?;
        compare::nothing_missing(&acknowledged, &out).context("the original one")
    }

    /// A person makes the slave the master, and the master its slave.
    fn change_roles(&self, master: Broker, slave: Broker, before: &[i64]) -> Result<()> {
        master.kill()?;
        slave.kill()?;
        let promoted = self.pair.start(1, Role::SyncMaster)?;
        let follower = self.pair.start(0, Role::Slave)?;
        self.sender.until_ok("Sync", JOIN_PATIENCE).context("the new master is followed")?;
        let later = self.every_kind("Promoted").context("the new master takes every kind of message")?;
        self.pair.logs_agree(1, JOIN_PATIENCE)?;
        // Topics that are younger than the last copy of the tables are not known here.
        self.consumed("Sync", before, "second").context("of the new master")?;
        self.consumed("Promoted", &later, "second").context("of the new master")?;
        for broker in [promoted, follower] {
            broker.kill()?;
        }
        Ok(())
    }
}

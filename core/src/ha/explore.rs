//! Every order of events of a master and a slave, for logs of a few records.
//!
//! The states are built of the types that production uses: [`Replicas`] on one side, [`Follower`] on the other, frames as
//! offsets into the master's log between them. Appends, flushes, frames, reports, crashes of either side, and losses of
//! the master's power come in every order; the slave compares its last record before it reports, as `slave` does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::follower::{Follower, Ready};
use super::lives::Lives;
use super::replicas::{Extent, Replicas, Reported};
use crate::message::MessageToStore;
use crate::message::codec::{self, BLANK_BYTES, Check, Place};
use crate::runtime::Mono;

/// Two records fit into a file, and three into no two frames.
const FILE_BYTES: u64 = 512;
const FRAME_BYTES: u64 = 150;
const APPENDS_MAX: u8 = 4;
const LOSSES_MAX: u8 = 2;
const CRASHES_MAX: u8 = 2;
/// One connection at a time.
const CONNECTION: u64 = 1;
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The record number `id`, as it lies at `at`.
pub(super) fn record(at: u64, id: u8) -> Vec<u8> {
    let host = "127.0.0.1:1".parse().expect("an address");
    let message = MessageToStore {
        topic: "T",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &[id; 100],
        properties: "",
        wait_for_flush: true,
    };
    let prepared = codec::prepare(message, true).expect("a message that fits");
    let mut bytes = vec![0; prepared.size() as usize];
    prepared.encode(
        &mut bytes,
        Place { queue_offset: id.into(), physical_offset: at, store_timestamp: id.into() },
    );
    bytes
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    /// Its report is on the way, if it is not zero.
    report: Option<u64>,
    /// What the master pushes next, once it knows.
    next: Option<u64>,
    /// A frame is on the way: this part of the master's log.
    frame: Option<(u64, u64)>,
    reported: u64,
    follower: Follower,
}

/// Who does what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rules {
    Ours,
    /// A slave of Java's, which compares nothing and takes bytes as they come; the master is ours.
    JavaSlave,
    /// The same, of a master that refuses only what is beyond its end at that moment, as Java's 4.9 does.
    JavaSlaveOfAnyMoment,
    /// The same, of one that remembers nothing over its lives.
    JavaSlaveOfOneLife,
    /// Java's 5.x: nobody compares, and any report is believed.
    Unchecked,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    rules: Rules,
    log: Vec<u8>,
    durable: usize,
    appended: u8,
    losses: u8,
    crashes: u8,
    replicas: Replicas,
    slave: Vec<u8>,
    /// Where the slave's log begins.
    slave_from: u64,
    link: Option<Link>,
}

fn begun() -> Replicas {
    let mut lives = Lives::default();
    lives.begin(0);
    Replicas::new(lives)
}

impl State {
    fn new(rules: Rules) -> State {
        State {
            rules,
            log: Vec::new(),
            durable: 0,
            appended: 0,
            losses: 0,
            crashes: 0,
            replicas: begun(),
            slave: Vec::new(),
            slave_from: 0,
            link: None,
        }
    }

    fn slave_end(&self) -> u64 {
        self.slave_from + self.slave.len() as u64
    }

    fn extent(&self) -> Extent {
        Extent { min: 0, end: self.log.len() as u64, file_bytes: FILE_BYTES, now: Mono(0), wait_ms: 0 }
    }

    fn is_java_slave(&self) -> bool {
        matches!(self.rules, Rules::JavaSlave | Rules::JavaSlaveOfAnyMoment | Rules::JavaSlaveOfOneLife)
    }

    /// The master's process begins anew, with what it has kept of its slaves.
    fn begin_anew(&mut self) {
        self.disconnect();
        let mut lives = match self.rules {
            Rules::JavaSlaveOfOneLife => Lives::default(),
            _ => self.replicas.lives().clone(),
        };
        lives.begin(self.log.len() as u64);
        self.replicas = Replicas::new(lives);
    }

    fn disconnect(&mut self) {
        if self.link.take().is_some() {
            self.replicas.closed(CONNECTION);
        }
    }

    /// The slave's last record stands in the same place of the master's log.
    fn compares(&self) -> bool {
        let (mut at, mut last) = (0, None);
        while at < self.slave.len() {
            let rest = &self.slave[at..];
            match codec::decode(rest, Check::Lengths) {
                Ok(record) => {
                    last = Some(at..at + record.size as usize);
                    at += record.size as usize;
                }
                Err(_) => at += FILE_BYTES as usize - at % FILE_BYTES as usize,
            }
        }
        let Some(Range { start, end }) = last else { return true };
        let from = self.slave_from as usize;
        self.log.get(from + start..from + end) == self.slave.get(start..end)
    }

    /// Every state that one event leads to.
    fn next(&self) -> Vec<State> {
        let mut all = Vec::new();
        let mut event = |happens: bool, change: &dyn Fn(&mut State)| {
            if happens {
                let mut next = self.clone();
                change(&mut next);
                all.push(next);
            }
        };
        event(self.appended < APPENDS_MAX, &|s| s.append());
        event(self.durable < self.log.len(), &|s| s.durable = s.log.len());
        // The second life of a master whose slave is Java's may as well begin with a crash.
        let losses_max = if self.is_java_slave() { 1 } else { LOSSES_MAX };
        let may_lose = self.losses < losses_max && self.durable < self.log.len();
        event(may_lose, &|s| {
            s.losses += 1;
            s.log.truncate(s.durable);
            s.begin_anew();
        });
        event(self.crashes < CRASHES_MAX && self.link.is_some(), &|s| {
            s.crashes += 1;
            s.begin_anew();
        });
        // The death of the slave, or of the connection alone.
        event(self.crashes < CRASHES_MAX && self.link.is_some(), &|s| {
            s.crashes += 1;
            s.disconnect();
        });
        event(self.link.is_none() && (self.rules != Rules::Ours || self.compares()), &|s| s.connect());
        if let Some(link) = &self.link {
            event(link.report.is_some(), &|s| s.hear());
            event(link.frame.is_none() && link.next.is_some_and(|at| at < self.log.len() as u64), &|s| {
                s.push()
            });
            event(link.frame.is_some(), &|s| s.take());
        }
        all
    }

    fn append(&mut self) {
        self.appended += 1;
        let at = self.log.len() as u64;
        let bytes = record(at, self.appended);
        let left = FILE_BYTES - at % FILE_BYTES;
        if left < (bytes.len() + BLANK_BYTES) as u64 {
            let mut blank = vec![0; left as usize];
            codec::encode_blank(&mut blank, left as u32);
            self.log.extend(blank);
            let bytes = record(self.log.len() as u64, self.appended);
            return self.log.extend(bytes);
        }
        self.log.extend(bytes);
    }

    fn connect(&mut self) {
        let end = self.slave_end();
        self.replicas.connected(CONNECTION, HOST);
        if self.rules == Rules::Ours {
            self.replicas.compares(HOST, end);
        }
        self.link = Some(Link {
            report: Some(end),
            next: None,
            frame: None,
            reported: end,
            follower: Follower::new(end, FILE_BYTES),
        });
    }

    fn hear(&mut self) {
        let log = self.extent();
        let Some(link) = &mut self.link else { return };
        let Some(value) = link.report.take() else { return };
        let heard = match self.rules {
            Rules::Unchecked if value > log.end => Ok(self.replicas.believed(CONNECTION, value, log.now)),
            Rules::JavaSlaveOfAnyMoment => {
                self.replicas.pushes(CONNECTION, log.end);
                self.replicas.reported(CONNECTION, value as i64, log)
            }
            _ => self.replicas.reported(CONNECTION, value as i64, log),
        };
        self.replicas.learns(CONNECTION, &heard);
        match heard {
            Ok(Reported::Begins(at)) => link.next = Some(at),
            Ok(Reported::Continues) => {}
            Err(_) => self.disconnect(),
        }
    }

    fn push(&mut self) {
        let end = self.log.len() as u64;
        let Some(link) = &mut self.link else { return };
        let Some(at) = link.next else { return };
        let upto = end.min(at + FRAME_BYTES).min(at - at % FILE_BYTES + FILE_BYTES);
        self.replicas.pushes(CONNECTION, upto);
        link.frame = Some((at, upto));
        link.next = Some(upto);
    }

    /// Bytes at the end of what it has, whatever they are.
    fn take_as_java(&mut self, (at, upto): (u64, u64)) {
        if self.slave.is_empty() {
            self.slave_from = at;
        }
        if at != self.slave_end() {
            return self.disconnect();
        }
        self.slave.extend_from_slice(&self.log[at as usize..upto as usize]);
        let Some(link) = &mut self.link else { return };
        (link.reported, link.report) = (upto, Some(upto));
    }

    fn take(&mut self) {
        let is_java_slave = self.is_java_slave();
        let Some(link) = &mut self.link else { return };
        let Some((at, upto)) = link.frame.take() else { return };
        if is_java_slave {
            return self.take_as_java((at, upto));
        }
        let body = &self.log[at as usize..upto as usize];
        let taken = link.follower.frame(at, body).and_then(|base| {
            if let Some(base) = base {
                self.slave_from = base;
            }
            while let Some(ready) = link.follower.ready()? {
                match ready {
                    Ready::Records { bytes, .. } => self.slave.extend_from_slice(&bytes),
                    Ready::FileEnd { blank } => {
                        self.slave.extend_from_slice(&blank);
                        let end = (link.follower.end() - self.slave_from) as usize;
                        self.slave.resize(end, 0);
                    }
                }
            }
            Ok(())
        });
        if taken.is_err() {
            return self.disconnect();
        }
        let end = self.slave_from + self.slave.len() as u64;
        if end > link.reported {
            (link.reported, link.report) = (end, Some(end));
        }
    }

    /// What must hold in every state.
    fn check(&self) -> Result<(), &'static str> {
        let confirmed = self.replicas.confirmed(1);
        if confirmed > self.log.len() as u64 {
            return Err("more is confirmed than there is");
        }
        if confirmed > self.slave_end() {
            return Err("more is confirmed than the slave has");
        }
        let from = self.slave_from as usize;
        let common = (confirmed as usize).saturating_sub(from);
        if common > 0 && self.slave.get(..common) != self.log.get(from..from + common) {
            return Err("what is confirmed is not what the slave has");
        }
        // Whoever follows is a prefix, in this life of the master.
        let follows = self.link.as_ref().is_some_and(|link| link.next.is_some());
        if follows && self.log.get(from..from + self.slave.len()) != Some(&self.slave[..]) {
            return Err("the slave follows with another history");
        }
        Ok(())
    }
}

/// All states, or the first broken rule.
fn explore(rules: Rules) -> Result<(usize, bool), &'static str> {
    let first = State::new(rules);
    let (mut seen, mut open) = (BTreeSet::from([first.clone()]), vec![first]);
    let mut complete = false;
    while let Some(state) = open.pop() {
        state.check()?;
        complete |= state.appended == APPENDS_MAX && state.replicas.confirmed(1) == state.log.len() as u64;
        for next in state.next() {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok((seen.len(), complete))
}

#[test]
fn no_order_of_events_confirms_what_the_slave_does_not_have() {
    let (states, complete) = explore(Rules::Ours).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(complete, "some order replicates everything");
    assert!(states > 5_000, "{states} states");
}

#[test]
fn a_java_slave_that_is_ahead_of_a_restarted_master_never_follows() {
    let (states, complete) = explore(Rules::JavaSlave).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(complete, "some order replicates everything");
    assert!(states > 5_000, "{states} states");
}

#[test]
fn held_against_the_end_of_the_moment_a_java_slave_follows_with_another_history() {
    assert!(explore(Rules::JavaSlaveOfAnyMoment).is_err());
    assert!(explore(Rules::JavaSlaveOfOneLife).is_err());
}

#[test]
fn without_the_checks_a_slave_that_is_ahead_is_believed() {
    assert!(explore(Rules::Unchecked).is_err());
}

//! Every order of what two slaves say of themselves to a master that counts copies; one of them over connections that outlive
//! what it had when it opened them.
//!
//! [`Replicas`] is the type that production uses; bytes are numbers here, each a record, and a file. Slaves copy and report;
//! the first is cut from its connection while the master keeps that open, connects again, and may lose the end of what it had,
//! or all of it; what it has said is on its way for as long as the order has it. Sends wait for a time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::lives::Lives;
use super::replicas::{Extent, Refused, Replicas, Reported};
use crate::runtime::Mono;

const END_MAX: u64 = 2;
const SLAVES: u8 = 2;
/// Of each slave: the second meets no fault.
const CONNECTIONS_MAX: [u8; SLAVES as usize] = [2, 1];
const LOSSES_MAX: [u8; SLAVES as usize] = [1, 0];
/// Times in which everything that is waited for is given up.
const WAITS_MAX: u8 = 1;
const WAIT_MS: u64 = 1;

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    number: u64,
    /// Said and not heard; nothing more is said before.
    on_its_way: Option<u64>,
    /// The slave is at the other end still.
    held: bool,
}

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Slave {
    /// Its log begins there.
    from: u64,
    has: u64,
    reported: u64,
    losses: u8,
    /// It has lost something, and the master has not heard from its life since then.
    lost_unheard: bool,
    /// Open ones, as the master sees it; oldest first.
    connections: Vec<Connection>,
    opened: u8,
}

/// How the master counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Counting {
    Ours,
    /// Java 5.x's: by connection.
    ByConnection,
    /// As if no send waited.
    FromTheStart,
    /// Ours, of two slaves on one host.
    OneHost,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    counting: Counting,
    end: u64,
    /// Sends below have had their answers.
    answered: u64,
    waits: u8,
    slaves: [Slave; SLAVES as usize],
    replicas: Replicas,
}

impl State {
    fn new(counting: Counting) -> State {
        // What slaves may have is not in question here.
        let mut lives = Lives::default();
        lives.begin(END_MAX);
        let (slaves, replicas) = (Default::default(), Replicas::new(lives));
        State { counting, end: 0, answered: 0, waits: 0, slaves, replicas }
    }

    fn host(&self, slave: usize, connection: u64) -> IpAddr {
        let number = match self.counting {
            Counting::ByConnection => connection,
            Counting::Ours | Counting::FromTheStart => slave as u64,
            Counting::OneHost => 0,
        };
        IpAddr::V4(Ipv4Addr::from(number as u32))
    }

    /// Every state that one event leads to, and the broken rule of one that breaks it.
    fn next(&self) -> Vec<Result<State, &'static str>> {
        let mut all = Vec::new();
        let mut event = |happens: bool, change: &dyn Fn(&mut State) -> Result<(), &'static str>| {
            if happens {
                let mut next = self.clone();
                all.push(change(&mut next).map(|()| next));
            }
        };
        event(self.end < END_MAX, &|s| {
            s.end += 1;
            Ok(())
        });
        // With both on one host there are more orders than one would wait for.
        let waits_max = if self.counting == Counting::OneHost { 0 } else { WAITS_MAX };
        event(self.waits < waits_max && self.answered < self.end, &|s| {
            (s.waits, s.answered) = (s.waits + 1, s.end);
            Ok(())
        });
        for (index, slave) in self.slaves.iter().enumerate() {
            let held = slave.connections.last().filter(|connection| connection.held);
            event(held.is_some() && slave.has < self.end, &|s| {
                s.copy(index);
                Ok(())
            });
            let silent = held.is_some_and(|connection| connection.on_its_way.is_none());
            event(silent && slave.reported < slave.has, &|s| {
                let slave = &mut s.slaves[index];
                slave.reported = slave.has;
                slave.connections.last_mut().expect("it is held").on_its_way = Some(slave.has);
                // What the second says is heard at once: it has no other connection that could overtake it.
                if CONNECTIONS_MAX[index] == 1 { s.hear(index, 0) } else { Ok(()) }
            });
            event(held.is_some() && CONNECTIONS_MAX[index] > 1, &|s| {
                s.slaves[index].connections.last_mut().expect("it is held").held = false;
                Ok(())
            });
            // The connections are left as they are.
            event(slave.has > slave.from && slave.losses < LOSSES_MAX[index], &|s| {
                let kept = (slave.from, slave.has - 1);
                s.lose(index, kept);
                Ok(())
            });
            event(slave.has > 0 && slave.losses < LOSSES_MAX[index], &|s| {
                s.lose(index, (0, 0));
                Ok(())
            });
            event(held.is_none() && slave.opened < CONNECTIONS_MAX[index], &|s| {
                let opened: u64 = s.slaves.iter().map(|slave| u64::from(slave.opened)).sum();
                let slave = &mut s.slaves[index];
                (slave.opened, slave.reported) = (slave.opened + 1, slave.has);
                // Rising for each host, and no more than that, lest one state count as many.
                let number = match s.counting {
                    Counting::OneHost => 1 + opened,
                    _ => 10 * (index as u64 + 1) + u64::from(slave.opened),
                };
                let on_its_way = Some(slave.has);
                slave.connections.push(Connection { number, on_its_way, held: true });
                s.replicas.connected(number, s.host(index, number));
                if CONNECTIONS_MAX[index] == 1 { s.hear(index, 0) } else { Ok(()) }
            });
            for (nth, connection) in slave.connections.iter().enumerate() {
                event(connection.on_its_way.is_some(), &|s| s.hear(index, nth));
                event(!connection.held, &|s| {
                    let connection = s.slaves[index].connections.remove(nth);
                    s.replicas.closed(connection.number);
                    Ok(())
                });
            }
        }
        all
    }

    /// What the master pushes next arrives.
    fn copy(&mut self, slave: usize) {
        let slave = &mut self.slaves[slave];
        slave.has += 1;
        let number = slave.connections.last().expect("it is held").number;
        self.replicas.pushes(number, slave.has);
    }

    fn lose(&mut self, slave: usize, kept: (u64, u64)) {
        let slave = &mut self.slaves[slave];
        (slave.from, slave.has) = kept;
        (slave.losses, slave.lost_unheard) = (slave.losses + 1, true);
        slave.connections.iter_mut().for_each(|connection| connection.held = false);
    }

    fn confirmed(&self) -> [u64; SLAVES as usize] {
        std::array::from_fn(|nth| self.replicas.confirmed(nth + 1))
    }

    /// The master hears a report; what it then counts as confirmed is held against what slaves have.
    fn hear(&mut self, slave: usize, nth: usize) -> Result<(), &'static str> {
        let before = self.confirmed();
        let wait_ms = if self.counting == Counting::FromTheStart { 0 } else { WAIT_MS };
        let now = Mono(0).after_ms(u64::from(self.waits) * 2 * WAIT_MS);
        let log = Extent { min: 0, end: self.end, file_bytes: 1, now, wait_ms };
        let last = nth + 1 == self.slaves[slave].connections.len();
        let connection = &mut self.slaves[slave].connections[nth];
        let (number, Some(value)) = (connection.number, connection.on_its_way.take()) else { return Ok(()) };
        let held = connection.held;
        match self.replicas.reported(number, value as i64, log) {
            Ok(Reported::Begins(from)) if held && self.slaves[slave].has == 0 => {
                (self.slaves[slave].from, self.slaves[slave].has) = (from, from);
            }
            Ok(_) => {}
            Err(Refused::Outdated) if !(last && held) || self.counting == Counting::OneHost => {
                self.slaves[slave].connections.remove(nth);
                self.replicas.closed(number);
            }
            Err(_) => return Err("a report inside the log is refused"),
        }
        if last && held {
            self.slaves[slave].lost_unheard = false;
        }
        for (nth, (before, now)) in before.into_iter().zip(self.confirmed()).enumerate() {
            if now < before {
                return Err("what was confirmed is so no longer");
            }
            for end in before.max(self.answered) + 1..=now {
                let has = |slave: &&Slave| (slave.from + 1..=slave.has).contains(&end) || slave.lost_unheard;
                if self.slaves.iter().filter(has).count() < nth + 1 {
                    return Err("a send is confirmed that slaves do not have");
                }
            }
        }
        Ok(())
    }
}

/// How many states there are, and whether in some of them everything is on both; or the first broken rule.
fn explore(counting: Counting) -> Result<(usize, bool), &'static str> {
    let first = State::new(counting);
    let (mut seen, mut open) = (BTreeSet::from([first.clone()]), vec![first]);
    let mut complete = false;
    while let Some(state) = open.pop() {
        complete |= state.confirmed() == [END_MAX; SLAVES as usize];
        for next in state.next() {
            let next = next?;
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok((seen.len(), complete))
}

#[test]
fn no_order_of_reports_confirms_more_copies_than_there_are() {
    let (states, complete) = explore(Counting::Ours).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(complete, "some order replicates everything to both");
    assert!(states > 5_000, "{states} states");
}

#[test]
fn two_slaves_of_one_host_are_never_more_copies_than_there_are() {
    let (states, complete) = explore(Counting::OneHost).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(complete, "some order replicates everything to both");
    assert!(states > 5_000, "{states} states");
}

#[test]
fn counted_by_connection_one_slave_is_two() {
    assert_eq!(explore(Counting::ByConnection), Err("a send is confirmed that slaves do not have"));
}

#[test]
fn counted_at_once_a_slave_that_begins_anew_confirms_what_it_was_never_given() {
    assert_eq!(explore(Counting::FromTheStart), Err("a send is confirmed that slaves do not have"));
}

//! A master's view of its slaves: where the push to each begins, and what they have acknowledged.
//!
//! Pure: told of connections and reports, it decides. The loop around it is `master`.
//!
//! Invariant: what is confirmed by `n` slaves never exceeds the master's own end, nor what `n` of them have reported, and
//! never decreases.
//! Invariant: connections of one host are one slave, however many there are: the newest that has reported speaks for it. An
//! older one, left behind by a slave that lost power, or a disk, says what that no longer has. One that acknowledges what was
//! pushed over it after the newer one had spoken lives beside that, and is another slave: a slave has one link at a time.
//! Invariant: what is confirmed while a send waits for it is on those slaves, from the record's beginning on: one that begins
//! anew, behind what may be waited for, does not count before that time is over.
//! Invariant: who follows has nothing beyond what its host may have ([`Lives`]), but for what this process has given to that, or
//! what it has compared. One that is ahead of a restarted master stays so when that has grown past it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::lives::Lives;
use crate::runtime::Mono;

/// What the master's log holds, of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte that is kept.
    pub min: u64,
    /// First byte behind what may be pushed.
    pub end: u64,
    pub file_bytes: u64,
    pub now: Mono,
    /// So long a send waits for slaves.
    pub wait_ms: u64,
}

/// For how many times a send's longest wait a slave that begins anew does not count: the wait begins a little after the append.
const HELD_WAITS: u64 = 2;

/// Why a slave is not followed up: its connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it reports {0}")]
    Negative(i64),
    /// It has what this master has not, or has lost: H-02.
    #[error(
        "it reports {value}, but this log ends at {end}: its history is another one, it must be set up anew"
    )]
    Ahead { value: u64, end: u64 },
    /// The log has been there since, with other messages than the slave's: H-02 too.
    #[error(
        "it reports {value}, but it was given nothing beyond {given} of what this log holds: its history may be \
         another one, it must be set up anew"
    )]
    NotGiven { value: u64, given: u64 },
    /// What it needs next was deleted: H-01.
    #[error(
        "it reports {value}, but this log begins at {min}: it was away for too long and must be set up anew"
    )]
    TooFarBehind { value: u64, min: u64 },
    /// What it has to say may be from before its slave lost something. A slave that lives connects again.
    #[error("a newer connection from its host has come and gone")]
    Outdated,
    #[error("no such connection")]
    Unknown,
}

/// What a report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The first one: the push begins there.
    Begins(u64),
    Continues,
}

/// Whether a connection speaks for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Voice {
    /// It has not reported, or is held.
    None,
    Counts,
    /// A newer one has reported. What lies above was not pushed over this one then.
    Outdated {
        lives_above: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Replica {
    host: IpAddr,
    /// `None` before its first report.
    acknowledged: Option<u64>,
    /// The highest end of what was pushed over it.
    pushed: u64,
    voice: Voice,
}

impl Replica {
    /// A newer one speaks for its host.
    fn outdate(&mut self) {
        // What it says first may have been said long ago.
        let lives_above = self.acknowledged.map_or(u64::MAX, |acknowledged| acknowledged.max(self.pushed));
        self.voice = Voice::Outdated { lives_above };
    }

    /// Whether it lives beside the newer one, by what it has acknowledged.
    fn lives(&self) -> bool {
        matches!(self.voice, Voice::Outdated { lives_above } if self.acknowledged > Some(lives_above))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Replicas {
    connections: BTreeMap<u64, Replica>,
    /// At place `n`: everything below has been, at one moment, on `n + 1` slaves.
    confirmed: Vec<u64>,
    /// Slaves that have begun anew, and until when they do not count.
    held: BTreeMap<IpAddr, Mono>,
    /// The highest end of what was pushed to each host, or what one there has compared with this log.
    given: BTreeMap<IpAddr, u64>,
    lives: Lives,
}

/// Hosts that are remembered at most; of more, those that have least are forgotten.
const GIVEN_MAX: usize = 1_000;

impl Replicas {
    /// Of a process that has begun, by that.
    #[must_use]
    pub fn new(lives: Lives) -> Replicas {
        Replicas { lives, ..Replicas::default() }
    }

    /// A slave, or somebody else, has connected. Numbers rise, and none is that of another open connection.
    pub fn connected(&mut self, connection: u64, host: IpAddr) {
        let replica = Replica { host, acknowledged: None, pushed: 0, voice: Voice::None };
        let before = self.connections.insert(connection, replica);
        assert!(before.is_none(), "connection {connection} is opened twice");
    }

    pub fn closed(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    /// A slave says where its log ends. An empty one is given the last file that holds anything from its beginning. Java, whose
    /// log ends with a file, gives it nothing until the next message.
    ///
    /// # Errors
    /// [`Refused`]: it counts for nothing.
    pub fn reported(&mut self, connection: u64, value: i64, log: Extent) -> Result<Reported, Refused> {
        let replica = self.connections.get(&connection).ok_or(Refused::Unknown)?;
        let (host, voice) = (replica.host, replica.voice);
        let value = u64::try_from(value).map_err(|_| Refused::Negative(value))?;
        if matches!(voice, Voice::Outdated { lives_above } if value <= lives_above)
            && self.speaker(host).is_none()
        {
            return Err(Refused::Outdated);
        }
        let replica = self.connections.get_mut(&connection).ok_or(Refused::Unknown)?;
        if value > log.end {
            return Err(Refused::Ahead { value, end: log.end });
        }
        let given = self.given.get(&host).copied().unwrap_or(0).max(self.lives.limit(host));
        if value > given {
            return Err(Refused::NotGiven { value, given });
        }
        let first = replica.acknowledged.is_none();
        if first && value != 0 && value < log.min {
            return Err(Refused::TooFarBehind { value, min: log.min });
        }
        if first && matches!(replica.voice, Voice::Outdated { .. }) {
            replica.voice = Voice::Outdated { lives_above: value };
        }
        let acknowledged = replica.acknowledged.get_or_insert(value);
        *acknowledged = value.max(*acknowledged);
        let begin = match value {
            0 => {
                let last = log.end.saturating_sub(1);
                (last - last % log.file_bytes).max(log.min)
            }
            value => value,
        };
        if first && value == 0 && begin > log.min {
            self.held.retain(|_, until| log.now < *until);
            self.held.insert(host, log.now.after_ms(HELD_WAITS * log.wait_ms));
        }
        self.count(connection, log.now);
        Ok(if first { Reported::Begins(begin) } else { Reported::Continues })
    }

    /// The log up to `end` is about to be pushed over a connection.
    pub fn pushes(&mut self, connection: u64, end: u64) {
        if let Some(replica) = self.connections.get_mut(&connection) {
            replica.pushed = end.max(replica.pushed);
            let host = replica.host;
            self.gave(host, end);
        }
    }

    /// Somebody at `host` has compared what lies before `end`, in a log that ends there, with this one, and will follow if it
    /// is the same.
    pub fn compares(&mut self, host: IpAddr, end: u64) {
        self.gave(host, end);
    }

    /// Whether a slave's report, and what came of it, have changed [`Replicas::lives`].
    pub fn learns(&mut self, connection: u64, heard: &Result<Reported, Refused>) -> bool {
        let Some(host) = self.connections.get(&connection).map(|replica| replica.host) else { return false };
        match heard {
            Ok(Reported::Begins(_)) => self.lives.feeds(host),
            Err(Refused::Ahead { .. } | Refused::NotGiven { .. }) => self.lives.refuses(host),
            Ok(Reported::Continues) | Err(_) => false,
        }
    }

    /// To be kept for the next life of the process.
    #[must_use]
    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    fn gave(&mut self, host: IpAddr, end: u64) {
        let given = self.given.entry(host).or_insert(end);
        *given = end.max(*given);
        if self.given.len() > GIVEN_MAX {
            let least = self.given.iter().min_by_key(|(_, end)| **end).map(|(host, _)| *host);
            least.map(|host| self.given.remove(&host));
        }
    }

    /// Counts a report beyond the log's end as Java 5.x does: a planted bug.
    pub(super) fn believed(&mut self, connection: u64, value: u64, now: Mono) -> Reported {
        if let Some(replica) = self.connections.get_mut(&connection) {
            replica.acknowledged = Some(value);
        }
        self.count(connection, now);
        Reported::Begins(value)
    }

    fn newer_speaks(&self, host: IpAddr, connection: u64) -> bool {
        let newer = self.connections.range(connection + 1..);
        newer
            .map(|(_, replica)| replica)
            .any(|replica| replica.host == host && replica.voice == Voice::Counts)
    }

    /// A connection that speaks for a host.
    fn speaker(&self, host: IpAddr) -> Option<u64> {
        let speaks = |replica: &Replica| replica.host == host && replica.voice == Voice::Counts;
        self.connections.iter().find(|(_, replica)| speaks(replica)).map(|(number, _)| *number)
    }

    /// The connection has reported: from now on it speaks for its host, unless a newer one does; beside that, if both live.
    fn count(&mut self, connection: u64, now: Mono) {
        let Some(replica) = self.connections.get(&connection) else { return };
        let (host, voice, lives) = (replica.host, replica.voice, replica.lives());
        let is_held = self.held.get(&host).is_some_and(|until| now < *until);
        let is_outdated = match voice {
            Voice::Counts => false,
            Voice::Outdated { .. } => is_held || !lives,
            Voice::None => self.newer_speaks(host, connection),
        };
        for (number, replica) in self.connections.range_mut(..=connection) {
            match () {
                () if replica.host != host => {}
                () if *number < connection && voice == Voice::None && !is_outdated => replica.outdate(),
                () if *number < connection => {}
                () if is_outdated && voice == Voice::None => replica.outdate(),
                () if is_outdated => {}
                () => replica.voice = if is_held { Voice::None } else { Voice::Counts },
            }
        }
        if is_held || is_outdated {
            return;
        }
        self.held.remove(&host);
        for (nth, has) in self.have().into_iter().enumerate() {
            match self.confirmed.get_mut(nth) {
                Some(confirmed) => *confirmed = has.max(*confirmed),
                None => self.confirmed.push(has),
            }
        }
    }

    /// What each slave has, from the most to the least.
    fn have(&self) -> Vec<u64> {
        let counted = self.connections.values().filter(|replica| replica.voice == Voice::Counts);
        let mut have: Vec<u64> = counted.filter_map(|replica| replica.acknowledged).collect();
        have.sort_unstable_by_key(|has| std::cmp::Reverse(*has));
        have
    }

    /// Slaves that have reported and are connected.
    #[must_use]
    pub fn slaves(&self) -> usize {
        self.connections.values().filter(|replica| replica.voice == Voice::Counts).count()
    }

    /// Copies of a log that ends at `end` which are less than `gap_max` bytes short of it, the master's among them.
    #[must_use]
    pub fn in_sync(&self, end: u64, gap_max: u64) -> usize {
        1 + self.have().into_iter().filter(|has| end.saturating_sub(*has) < gap_max).count()
    }

    /// What a connection has acknowledged; `None` before its first report.
    #[must_use]
    pub fn acknowledged(&self, connection: u64) -> Option<u64> {
        self.connections.get(&connection)?.acknowledged
    }

    /// So many slaves have had everything below, at one moment.
    ///
    /// # Panics
    /// For none of them.
    #[must_use]
    pub fn confirmed(&self, slaves: usize) -> u64 {
        self.confirmed.get(slaves - 1).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOG: Extent = Extent { min: 1_000, end: 2_500, file_bytes: 1_000, now: Mono(0), wait_ms: 3_000 };

    fn host(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn begun(at: u64) -> Replicas {
        let mut lives = Lives::default();
        lives.begin(at);
        let mut replicas = Replicas::new(lives);
        replicas.connected(1, host(1));
        replicas
    }

    fn connected() -> Replicas {
        begun(2_500)
    }

    #[test]
    fn an_empty_slave_begins_with_the_last_file_and_another_where_it_ends() {
        assert_eq!(connected().reported(1, 0, LOG), Ok(Reported::Begins(2_000)));
        assert_eq!(connected().reported(1, 1_700, LOG), Ok(Reported::Begins(1_700)));
        assert_eq!(connected().reported(1, 2_500, LOG), Ok(Reported::Begins(2_500)));
        let full = Extent { end: 2_000, ..LOG };
        assert_eq!(
            begun(2_000).reported(1, 0, full),
            Ok(Reported::Begins(1_000)),
            "the next file is not begun"
        );
        let nothing = Extent { min: 0, end: 0, ..LOG };
        assert_eq!(begun(0).reported(1, 0, nothing), Ok(Reported::Begins(0)));
        let mut replicas = connected();
        replicas.reported(1, 1_700, LOG).expect("inside the log");
        assert_eq!(replicas.reported(1, 1_900, LOG), Ok(Reported::Continues));
        assert_eq!(replicas.confirmed(1), 1_900);
    }

    #[test]
    fn what_is_outside_of_the_log_counts_for_nothing() {
        let mut replicas = connected();
        assert_eq!(replicas.reported(1, 2_501, LOG), Err(Refused::Ahead { value: 2_501, end: 2_500 }));
        assert_eq!(replicas.reported(1, -1, LOG), Err(Refused::Negative(-1)));
        assert_eq!(replicas.reported(1, 999, LOG), Err(Refused::TooFarBehind { value: 999, min: 1_000 }));
        assert_eq!(replicas.reported(2, 1_700, LOG), Err(Refused::Unknown));
        assert_eq!((replicas.confirmed(1), replicas.slaves()), (0, 0));
        replicas.reported(1, 1_700, LOG).expect("inside the log");
        assert_eq!(replicas.reported(1, 2_501, LOG), Err(Refused::Ahead { value: 2_501, end: 2_500 }));
        assert_eq!(replicas.confirmed(1), 1_700);
    }

    #[test]
    fn a_slave_that_was_ahead_is_so_still_when_the_log_has_grown_past_it() {
        let log = LOG;
        let mut replicas = begun(1_600);
        let refused = Err(Refused::NotGiven { value: 1_700, given: 1_600 });
        assert_eq!(replicas.reported(1, 1_700, log), refused);
        assert!(replicas.learns(1, &refused) && !replicas.learns(1, &refused));
        assert_eq!((replicas.confirmed(1), replicas.slaves()), (0, 0));
        // What the last process gave, up to where this one began.
        replicas.connected(2, host(2));
        assert_eq!(replicas.reported(2, 1_600, log), Ok(Reported::Begins(1_600)));
        replicas.pushes(2, 1_800);
        assert_eq!(replicas.reported(2, 1_800, log), Ok(Reported::Continues));
        assert_eq!(replicas.reported(2, 1_801, log), Err(Refused::NotGiven { value: 1_801, given: 1_800 }));
        // Over its next connection it has what it was given, or has compared; others have not.
        replicas.connected(3, host(2));
        assert_eq!(replicas.reported(3, 1_800, log), Ok(Reported::Begins(1_800)));
        assert_eq!(replicas.reported(1, 1_700, log), refused);
        replicas.compares(host(1), 1_700);
        let heard = replicas.reported(1, 1_700, log);
        assert_eq!(heard, Ok(Reported::Begins(1_700)));
        assert!(replicas.learns(1, &heard) && !replicas.learns(1, &heard));
    }

    #[test]
    fn a_slave_that_was_ahead_in_an_earlier_life_is_so_still() {
        let mut lives = Lives::default();
        lives.begin(1_600);
        let mut replicas = Replicas::new(lives.clone());
        replicas.connected(1, host(1));
        let refused = replicas.reported(1, 1_700, LOG);
        assert!(replicas.learns(1, &refused));
        lives = replicas.lives().clone();
        lives.begin(2_000);
        let mut replicas = Replicas::new(lives);
        replicas.connected(1, host(1));
        assert_eq!(replicas.reported(1, 1_700, LOG), Err(Refused::NotGiven { value: 1_700, given: 1_600 }));
        // Nothing is known of another one.
        replicas.connected(2, host(2));
        assert_eq!(replicas.reported(2, 1_700, LOG), Ok(Reported::Begins(1_700)));
    }

    #[test]
    fn no_more_hosts_are_remembered_than_there_is_room_for() {
        let mut replicas = Replicas::default();
        for number in 0..=GIVEN_MAX as u32 {
            replicas.compares(IpAddr::V4(Ipv4Addr::from(number)), 5_000 - u64::from(number));
        }
        assert_eq!(replicas.given.len(), GIVEN_MAX);
        assert_eq!(replicas.given.get(&IpAddr::V4(Ipv4Addr::from(GIVEN_MAX as u32))), None);
    }

    #[test]
    fn a_slave_that_begins_anew_counts_when_nothing_is_waited_for_that_it_lacks() {
        let mut replicas = connected();
        replicas.reported(1, 2_400, LOG).expect("inside the log");
        // Its disk is lost; the old connection is there still.
        replicas.connected(2, host(1));
        assert_eq!(replicas.reported(2, 0, LOG), Ok(Reported::Begins(2_000)));
        assert_eq!(replicas.reported(2, 2_500, LOG), Ok(Reported::Continues));
        assert_eq!((replicas.confirmed(1), replicas.slaves()), (2_400, 0));
        // So does what it says over its next connection.
        replicas.connected(3, host(1));
        let at = |ms| Extent { now: Mono(0).after_ms(ms), ..LOG };
        assert_eq!(replicas.reported(3, 2_500, at(5_999)), Ok(Reported::Begins(2_500)));
        assert_eq!((replicas.confirmed(1), replicas.slaves()), (2_400, 0));
        assert_eq!(replicas.reported(3, 2_500, at(6_000)), Ok(Reported::Continues));
        assert_eq!((replicas.confirmed(1), replicas.slaves()), (2_500, 1));
        // One that is given the whole log lacks nothing.
        let mut replicas = connected();
        let first_file = Extent { min: 2_000, ..LOG };
        assert_eq!(replicas.reported(1, 0, first_file), Ok(Reported::Begins(2_000)));
        assert_eq!(replicas.slaves(), 1);
    }

    #[test]
    fn slaves_are_counted_by_host_once_they_have_reported() {
        let mut replicas = connected();
        replicas.connected(2, host(1));
        replicas.connected(3, host(2));
        assert_eq!(replicas.slaves(), 0);
        replicas.reported(1, 1_000, LOG).expect("inside the log");
        replicas.reported(2, 1_000, LOG).expect("inside the log");
        assert_eq!(replicas.slaves(), 1);
        replicas.reported(3, 1_000, LOG).expect("inside the log");
        assert_eq!(replicas.slaves(), 2);
        replicas.closed(1);
        assert_eq!(replicas.slaves(), 2);
        replicas.closed(2);
        assert_eq!(replicas.slaves(), 1);
    }

    #[test]
    fn two_connections_of_one_slave_confirm_as_one_and_the_newer_speaks() {
        let mut replicas = connected();
        let report = |replicas: &mut Replicas, connection, value| {
            replicas.reported(connection, value, LOG).expect("inside the log");
        };
        report(&mut replicas, 1, 2_200);
        replicas.connected(2, host(1));
        report(&mut replicas, 2, 2_200);
        assert_eq!((replicas.confirmed(1), replicas.confirmed(2)), (2_200, 0));
        // It has lost what it had: what it said before is no copy.
        replicas.pushes(2, 2_400);
        replicas.connected(3, host(1));
        report(&mut replicas, 3, 1_500);
        replicas.connected(4, host(2));
        report(&mut replicas, 4, 2_100);
        assert_eq!((replicas.confirmed(1), replicas.confirmed(2)), (2_200, 1_500));
        assert_eq!((replicas.in_sync(2_500, 500), replicas.in_sync(2_500, 1_001)), (2, 3));
        // A word of the old connection says nothing while there is a newer one, and nothing after it.
        report(&mut replicas, 2, 2_300);
        assert_eq!((replicas.confirmed(1), replicas.confirmed(2)), (2_200, 1_500));
        replicas.closed(3);
        assert_eq!(replicas.slaves(), 1);
        assert_eq!(replicas.reported(2, 2_400, LOG), Err(Refused::Outdated));
        assert_eq!((replicas.confirmed(1), replicas.confirmed(2)), (2_200, 1_500));
    }

    #[test]
    fn two_slaves_of_one_host_are_two_once_both_acknowledge_what_comes() {
        let mut replicas = connected();
        let report = |replicas: &mut Replicas, connection, value| {
            replicas.pushes(connection, value);
            replicas.reported(connection, value as i64, LOG).expect("inside the log");
        };
        report(&mut replicas, 1, 2_000);
        replicas.connected(2, host(1));
        report(&mut replicas, 2, 2_000);
        assert_eq!((replicas.slaves(), replicas.confirmed(2)), (1, 0), "it may be one that came again");
        report(&mut replicas, 2, 2_300);
        report(&mut replicas, 1, 2_200);
        assert_eq!((replicas.slaves(), replicas.confirmed(2)), (2, 2_200));
        report(&mut replicas, 2, 2_400);
        report(&mut replicas, 1, 2_400);
        assert_eq!((replicas.in_sync(2_400, 1), replicas.confirmed(2)), (3, 2_400));
        // One of them comes again: which, is not known.
        replicas.connected(3, host(1));
        report(&mut replicas, 3, 2_400);
        assert_eq!(replicas.slaves(), 1);
        report(&mut replicas, 1, 2_500);
        report(&mut replicas, 3, 2_500);
        assert_eq!((replicas.slaves(), replicas.confirmed(2), replicas.confirmed(3)), (2, 2_500, 0));
    }

    #[test]
    fn what_was_confirmed_stays_so_when_its_slave_is_gone() {
        let mut replicas = connected();
        replicas.reported(1, 2_000, LOG).expect("inside the log");
        replicas.closed(1);
        replicas.connected(2, host(2));
        replicas.reported(2, 1_500, LOG).expect("inside the log");
        assert_eq!(replicas.confirmed(1), 2_000);
    }
}

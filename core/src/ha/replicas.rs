//! A master's view of its slaves: where the push to each begins, and what they have acknowledged.
//!
//! Pure: told of connections and reports, it decides. The loop around it is `master`.
//!
//! Invariant: `confirmed` never exceeds the master's own end, nor what some slave has reported, and never decreases.
//! Invariant: connections of one host are one slave, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the master's log holds, of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte that is kept.
    pub min: u64,
    /// First byte behind what may be pushed.
    pub end: u64,
    pub file_bytes: u64,
}

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
    /// What it needs next was deleted: H-01.
    #[error(
        "it reports {value}, but this log begins at {min}: it was away for too long and must be set up anew"
    )]
    TooFarBehind { value: u64, min: u64 },
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

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Replica {
    host: IpAddr,
    /// `None` before its first report.
    acknowledged: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Replicas {
    connections: BTreeMap<u64, Replica>,
    confirmed: u64,
}

impl Replicas {
    /// A slave, or somebody else, has connected. Its number is not that of another open connection.
    pub fn connected(&mut self, connection: u64, host: IpAddr) {
        let before = self.connections.insert(connection, Replica { host, acknowledged: None });
        assert!(before.is_none(), "connection {connection} is opened twice");
    }

    pub fn closed(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    /// A slave says where its log ends. An empty one is given the last file from its beginning, as Java does.
    ///
    /// # Errors
    /// [`Refused`]: it counts for nothing.
    pub fn reported(&mut self, connection: u64, value: i64, log: Extent) -> Result<Reported, Refused> {
        let replica = self.connections.get_mut(&connection).ok_or(Refused::Unknown)?;
        let value = u64::try_from(value).map_err(|_| Refused::Negative(value))?;
        if value > log.end {
            return Err(Refused::Ahead { value, end: log.end });
        }
        let first = replica.acknowledged.is_none();
        if first && value != 0 && value < log.min {
            return Err(Refused::TooFarBehind { value, min: log.min });
        }
        let acknowledged = replica.acknowledged.get_or_insert(value);
        *acknowledged = value.max(*acknowledged);
        self.confirmed = value.max(self.confirmed);
        let begin = match value {
            0 => (log.end - log.end % log.file_bytes).max(log.min),
            value => value,
        };
        Ok(if first { Reported::Begins(begin) } else { Reported::Continues })
    }

    /// Counts a report beyond the log's end as Java 5.x does: a planted bug.
    pub(super) fn believed(&mut self, connection: u64, value: u64) -> Reported {
        if let Some(replica) = self.connections.get_mut(&connection) {
            replica.acknowledged = Some(value);
        }
        self.confirmed = value.max(self.confirmed);
        Reported::Begins(value)
    }

    /// Slaves that have reported and are connected.
    #[must_use]
    pub fn slaves(&self) -> usize {
        let reporting = self.connections.values().filter(|replica| replica.acknowledged.is_some());
        reporting.map(|replica| replica.host).collect::<BTreeSet<_>>().len()
    }

    /// What a connection has acknowledged; `None` before its first report.
    #[must_use]
    pub fn acknowledged(&self, connection: u64) -> Option<u64> {
        self.connections.get(&connection)?.acknowledged
    }

    /// Some slave has everything below.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOG: Extent = Extent { min: 1_000, end: 2_500, file_bytes: 1_000 };

    fn host(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn connected() -> Replicas {
        let mut replicas = Replicas::default();
        replicas.connected(1, host(1));
        replicas
    }

    #[test]
    fn an_empty_slave_begins_with_the_last_file_and_another_where_it_ends() {
        assert_eq!(connected().reported(1, 0, LOG), Ok(Reported::Begins(2_000)));
        assert_eq!(connected().reported(1, 1_700, LOG), Ok(Reported::Begins(1_700)));
        assert_eq!(connected().reported(1, 2_500, LOG), Ok(Reported::Begins(2_500)));
        let mut replicas = connected();
        replicas.reported(1, 1_700, LOG).expect("inside the log");
        assert_eq!(replicas.reported(1, 1_900, LOG), Ok(Reported::Continues));
        assert_eq!(replicas.confirmed(), 1_900);
    }

    #[test]
    fn what_is_outside_of_the_log_counts_for_nothing() {
        let mut replicas = connected();
        assert_eq!(replicas.reported(1, 2_501, LOG), Err(Refused::Ahead { value: 2_501, end: 2_500 }));
        assert_eq!(replicas.reported(1, -1, LOG), Err(Refused::Negative(-1)));
        assert_eq!(replicas.reported(1, 999, LOG), Err(Refused::TooFarBehind { value: 999, min: 1_000 }));
        assert_eq!(replicas.reported(2, 1_700, LOG), Err(Refused::Unknown));
        assert_eq!((replicas.confirmed(), replicas.slaves()), (0, 0));
        replicas.reported(1, 1_700, LOG).expect("inside the log");
        assert_eq!(replicas.reported(1, 2_501, LOG), Err(Refused::Ahead { value: 2_501, end: 2_500 }));
        assert_eq!(replicas.confirmed(), 1_700);
    }

    #[test]
    fn slaves_are_counted_by_host_once_they_have_reported() {
        let mut replicas = connected();
        replicas.connected(2, host(1));
        replicas.connected(3, host(2));
        assert_eq!(replicas.slaves(), 0);
        replicas.reported(1, 0, LOG).expect("inside the log");
        replicas.reported(2, 0, LOG).expect("inside the log");
        assert_eq!(replicas.slaves(), 1);
        replicas.reported(3, 0, LOG).expect("inside the log");
        assert_eq!(replicas.slaves(), 2);
        replicas.closed(1);
        assert_eq!(replicas.slaves(), 2);
        replicas.closed(2);
        assert_eq!(replicas.slaves(), 1);
    }

    #[test]
    fn what_was_confirmed_stays_so_when_its_slave_is_gone() {
        let mut replicas = connected();
        replicas.reported(1, 2_000, LOG).expect("inside the log");
        replicas.closed(1);
        replicas.connected(2, host(2));
        replicas.reported(2, 1_500, LOG).expect("inside the log");
        assert_eq!(replicas.confirmed(), 2_000);
    }
}

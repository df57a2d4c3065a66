//! Which brokers are alive, by what sign, and which connection speaks for each.
//!
//! A pure table: moments and connection numbers are arguments.
//!
//! Invariant: an entry names one connection, the one its broker was last heard on. The end of any other connection, however
//! late it is noticed, says nothing about that broker (bug history N-03).

use std::collections::{BTreeMap, BTreeSet};

use crate::remoting::body::DataVersion;
use crate::runtime::Mono;

/// One broker process as the name server tells them apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BrokerKey {
    pub cluster: String,
    /// `host:port` as the broker advertises it.
    pub addr: String,
}

/// What is known about one live broker.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerLive {
    pub broker_name: String,
    pub last_seen: Mono,
    /// After this long without a word it is dropped.
    pub timeout_ms: u64,
    /// Of the whole topic table that we hold of it; `None` when what we hold may not be whole (N-01).
    pub version: Option<DataVersion>,
    /// Its epoch as a master; the higher one owns the broker id (N-05).
    pub state_version: i64,
    pub connection: u64,
    pub ha_addr: String,
}

impl BrokerLive {
    #[must_use]
    pub fn is_alive(&self, now: Mono) -> bool {
        self.last_seen.after_ms(self.timeout_ms) >= now
    }
}

/// The live brokers.
#[derive(Default)]
pub struct LiveTable {
    entries: BTreeMap<BrokerKey, BrokerLive>,
    /// Who has been heard on each open connection.
    heard_on: BTreeMap<u64, BTreeSet<BrokerKey>>,
}

impl LiveTable {
    #[must_use]
    pub fn get(&self, key: &BrokerKey) -> Option<&BrokerLive> {
        self.entries.get(key)
    }

    pub fn insert(&mut self, key: BrokerKey, live: BrokerLive) {
        self.heard_on.entry(live.connection).or_default().insert(key.clone());
        self.entries.insert(key, live);
    }

    pub fn remove(&mut self, key: &BrokerKey) -> Option<BrokerLive> {
        self.entries.remove(key)
    }

    /// Notes a sign of life, from now on expected over `connection`. `false` for a broker that is not registered.
    pub fn heard(&mut self, key: &BrokerKey, now: Mono, connection: u64) -> bool {
        let Some(live) = self.entries.get_mut(key) else {
            return false;
        };
        live.last_seen = now;
        live.connection = connection;
        self.heard_on.entry(connection).or_default().insert(key.clone());
        true
    }

    /// Brokers not heard of for longer than they asked for, with the connection each was last heard on.
    #[must_use]
    pub fn expired(&self, now: Mono) -> Vec<(BrokerKey, u64)> {
        self.entries
            .iter()
            .filter(|(_, live)| !live.is_alive(now))
            .map(|(key, live)| (key.clone(), live.connection))
            .collect()
    }

    /// Forgets a connection that has ended and returns the brokers that ended with it: those last heard on it.
    #[must_use]
    pub fn closed(&mut self, connection: u64) -> Vec<BrokerKey> {
        let heard = self.heard_on.remove(&connection).unwrap_or_default();
        let is_last = |live: &BrokerLive| live.connection == connection;
        heard.into_iter().filter(|key| self.entries.get(key).is_some_and(is_last)).collect()
    }

    /// Every broker that was ever heard on this connection counts as last heard on it: the planted bug
    /// `LateCloseUnregisters`.
    pub fn heard_last_on(&mut self, connection: u64) {
        for key in self.heard_on.get(&connection).into_iter().flatten() {
            if let Some(live) = self.entries.get_mut(key) {
                live.connection = connection;
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&BrokerKey, &BrokerLive)> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(addr: &str) -> BrokerKey {
        BrokerKey { cluster: "c".into(), addr: addr.into() }
    }

    fn live(connection: u64, last_seen: Mono) -> BrokerLive {
        BrokerLive {
            broker_name: "a".into(),
            last_seen,
            timeout_ms: 1000,
            version: None,
            state_version: 0,
            connection,
            ha_addr: String::new(),
        }
    }

    #[test]
    fn the_end_of_an_old_connection_does_not_end_the_broker() {
        let mut table = LiveTable::default();
        table.insert(key("a:1"), live(1, Mono(0)));
        table.insert(key("a:1"), live(2, Mono(0)));
        assert_eq!(table.closed(1), vec![]);
        assert_eq!(table.closed(2), vec![key("a:1")]);
    }

    #[test]
    fn a_heartbeat_over_a_new_connection_moves_the_broker_there() {
        let mut table = LiveTable::default();
        table.insert(key("a:1"), live(1, Mono(0)));
        assert!(table.heard(&key("a:1"), Mono(5), 2));
        assert!(!table.heard(&key("b:1"), Mono(5), 2));
        assert_eq!(table.closed(1), vec![]);
        assert_eq!(table.closed(2), vec![key("a:1")]);
    }

    #[test]
    fn a_broker_expires_only_after_its_own_limit() {
        let mut table = LiveTable::default();
        table.insert(key("a:1"), live(7, Mono(0)));
        assert_eq!(table.expired(Mono(0).after_ms(1000)), vec![]);
        assert_eq!(table.expired(Mono(1).after_ms(1000)), vec![(key("a:1"), 7)]);
    }
}

//! Slaves that lack what their masters have deleted: each says so, or its master does, and a person sets it up anew.

use hotfire_sim::NodeId;

use super::Witness;
use super::slave::is_slave;
use crate::plan::names::master_of;

impl Witness {
    /// Where the log of a broker begins, as its kernel shows it.
    fn log_begins(&self, broker: &str) -> u64 {
        self.cached(broker).1.log.min
    }

    /// A slave has found that its master does not have what is at `at`, which was deleted there: it was away for too long.
    pub(super) fn is_left_behind(&self, slave: &str, at: u64) -> bool {
        let is = self.settings.deletion.is_some() && at < self.log_begins(&master_of(slave));
        if is {
            self.lock().left_behind.insert(slave.to_owned());
        }
        is
    }

    /// A master has refused a slave that needs what it has deleted.
    pub fn refused_as_too_far(&self, master: NodeId, connection: u64, at: u64) {
        let slave = self.lock().connections.get(&(master, connection)).cloned();
        if let Some(slave) = slave {
            self.is_left_behind(&slave, at);
        }
    }

    /// It follows, or its disk is a new one.
    pub(super) fn catches_up(&self, slave: &str) {
        self.lock().left_behind.remove(slave);
    }

    /// The slaves of which it is known that they need what their masters have deleted.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        let told: Vec<String> =
            self.lock().left_behind.iter().filter(|name| is_slave(name)).cloned().collect();
        let lacks = |slave: &String| self.cached(slave).1.log.end < self.log_begins(&master_of(slave));
        told.into_iter().filter(lacks).collect()
    }
}

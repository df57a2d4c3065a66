//! What the witness sees of the tables that slaves copy, whenever one is written.

use std::collections::{BTreeMap, BTreeSet};

use hotfire_sim::NodeId;

use super::slave::is_slave;
use super::{CONFIG, Witness};
use crate::oracle::delay;
use crate::oracle::tables::{self, Table};
use crate::plan::names::master_of;
use crate::platter::Image;
use crate::platter::config::load;

/// The entries that slaves' tables had when they were written last.
pub(super) type Entries = BTreeMap<(String, Table), BTreeSet<String>>;

impl Witness {
    fn slave_at(&self, node: NodeId) -> Option<String> {
        self.nodes.name_of(node).filter(|name| is_slave(name))
    }

    /// A broker has written its topics or its groups: those of a slave never lose what its master has.
    pub fn table_written(&self, node: NodeId) {
        let Some(slave) = self.slave_at(node) else { return };
        let (own, masters) = (self.cached_tables(&slave), self.cached_tables(&master_of(&slave)));
        for table in [Table::Topics, Table::Groups] {
            let of =
                |image: &Image| tables::names(table, &load(image, &format!("{CONFIG}/{}", table.file())));
            let now = of(&own);
            let before = self.lock().slave_entries.insert((slave.clone(), table), now.clone());
            self.note(tables::kept(&slave, table, &before.unwrap_or_default(), &now, &of(&masters)));
        }
    }

    /// A slave's disk is gone, and with it its tables.
    pub(super) fn tables_lost(&self, slave: &str) {
        self.lock().slave_entries.retain(|(of, _), _| of != slave);
    }

    /// A broker has written its delay offsets: those of a slave count copies that its disk's surface has, or what waits would
    /// never be delivered by the master that it may become.
    pub fn delays_written(&self, node: NodeId) {
        let Some(slave) = self.slave_at(node) else { return };
        let (image, disk) = self.durable(&slave);
        // What it has delivered itself is nothing.
        self.note(delay::offsets(&slave, &image, CONFIG, &disk, 1));
    }
}

//! A node comes back with an empty disk: a slave at any time, a master at the end, under load, together with the promotion of a
//! slave that has what was acknowledged.
//!
//! `spec/ha.md`, 6.1, rows 6 and 9: a slave that has lost everything begins with its master's last file, and confirms nothing
//! that lies before it; what a SYNC_MASTER has answered SEND_OK is on the slave that takes over, if it flushes or has not lost
//! power, and as many slaves have kept their disks as the settings ask for.

use super::{Profile, Scenario};

pub struct DiskLossOfOneNode;

impl Scenario for DiskLossOfOneNode {
    fn name(&self) -> &'static str {
        "disk_loss_of_one_node"
    }

    fn summary(&self) -> &'static str {
        "slaves lose their disks, or masters do and slaves take over: I1-I11 I16 I19 I20, and nothing confirmed is lost"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] =
            &["slave_crash", "slave_power_loss", "crash", "restart", "ha_cut", "latency", "slow_disk"];
        Profile { slaves_max: 2, loses_masters: true, ..Profile::of_replicas("slave_disk_loss", KINDS) }
    }
}

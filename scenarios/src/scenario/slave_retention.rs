//! A master deletes files, since its disk is tight or an hour has come, while its slave is away or behind; slaves delete too.
//!
//! `spec/known-bugs.md`, H-01: a slave that needs what its master has deleted cannot follow. It says so, or its master refuses
//! it, and then it is set up anew and begins with the master's last file; none is left with heartbeats alone. What was
//! confirmed is on both, but for what was old enough to go, or had to make room.

use super::{Profile, Scenario};

pub struct SlaveRetention;

pub const NAME: &str = "slave_retention";

impl Scenario for SlaveRetention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "files go while slaves are away, die or are cut off: I1-I11 I13 I16 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "slave_crash",
            "slave_restart",
            "slave_power_loss",
            "ha_cut",
            "ha_cut",
            "crash",
            "restart",
            "latency",
        ];
        Profile { deletes: true, java_slaves_percent: 40, ..Profile::of_replicas("tight_disk", KINDS) }
    }
}

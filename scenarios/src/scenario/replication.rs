//! A master and its slave: either dies or loses power, the network between them is cut, disks are slow.
//!
//! Nothing acknowledged is lost that its setting promises to keep; a SEND_OK of a SYNC_MASTER is on its slave too, and the
//! slave's log is its master's. Excused: a slave that is ahead of a master which has lost unflushed bytes says so and stops.
//! One that does as Java's do says nothing, and is refused by its master.

use super::{Profile, Scenario};

pub struct Replication;

pub const NAME: &str = "replication";

impl Scenario for Replication {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a master with a slave: crashes, losses of power, cuts between them: I1-I11 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "crash",
            "crash_in_step",
            "power_loss",
            "partition",
            "restart",
            "latency",
            "loss",
            "pause",
            "slow_disk",
            "stalled_disk",
        ];
        Profile {
            kind_percent: 45,
            sync_flush_percent: 60,
            slaves_max: 2,
            java_slaves_percent: 20,
            ..Profile::of_replicas("ha_cut", KINDS)
        }
    }
}

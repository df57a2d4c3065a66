//! A master that flushes before it answers with a slave that does not, or the other way round; either loses power, or both.
//!
//! `spec/ha.md`, 6.1, rows 3, 4 and 8, and 6.2, rows 12 and 13: each keeps what its own setting promises. A SEND_OK of a
//! SYNC_MASTER is on the disk of a slave that flushes, and in the memory of one that does not, whatever the master does.

use super::{Profile, Scenario};

pub struct MixedFlush;

impl Scenario for MixedFlush {
    fn name(&self) -> &'static str {
        "mixed_flush"
    }

    fn summary(&self) -> &'static str {
        "master and slave of different flush modes, losses of power of either: I1-I11 I16 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "slave_power_loss",
            "slave_power_loss",
            "power_loss_all",
            "crash",
            "slave_in_step",
            "ha_cut",
            "slow_disk",
            "stalled_disk",
        ];
        Profile { kind_percent: 45, mixed_flush: true, ..Profile::of_replicas("power_loss", KINDS) }
    }
}

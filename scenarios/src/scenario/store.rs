//! A broker's store alone under everything that `broker_crash` and `power_loss` do to a machine; no network.
//!
//! Promises as in `power_loss`. Since nothing else runs, a minute holds many more crashes.

use super::{Profile, Scenario};

pub struct Store;

pub const NAME: &str = "store";

impl Scenario for Store {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a store alone: power fails, processes die at any step, disks fail: I1-I5 I7-I10 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "power_loss_in_step",
            "restart",
            "crash",
            "crash_in_step",
            "flush_error",
            "slow_disk",
            "stalled_disk",
            "full_disk",
            "clock_jump",
            "pause",
            "lost_file",
            "bit_rot",
        ];
        Profile { kind_percent: 35, ..Profile::of_store("power_loss", KINDS) }
    }
}

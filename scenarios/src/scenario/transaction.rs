//! Producers commit, roll back, say nothing, are late, or die between the half message and its commit; brokers die at every
//! step of it, machines lose power, disks are full or stall, clocks jump.
//!
//! No half message and none that was rolled back is visible; what was committed is, as long as its half message is not lost with
//! what an asynchronous flush may lose; each half message comes to an end.

use super::{Profile, Scenario};

pub const NAME: &str = "transaction";

pub struct Transaction;

impl Scenario for Transaction {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "half messages are committed, rolled back, forgotten, asked about, under all that befalls brokers and producers: I14, and as power_loss"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "crash",
            "crash_in_step",
            "power_loss_all",
            "restart",
            "pause",
            "clock_jump",
            "full_disk",
            "stalled_disk",
            "slow_disk",
            "partition",
            "loss",
            "producer_crash",
        ];
        Profile { kind_percent: 35, ..Profile::of_brokers("power_loss", KINDS) }
    }
}

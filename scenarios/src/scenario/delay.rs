//! Messages that are delivered later, while processes die, power fails, clocks jump and disks are slow or fail.
//!
//! A delayed message is not delivered before its time, unless the broker's clock says that the time has come, and none that
//! was acknowledged is lost: the saved delay offsets never count what is not in the log, also with an asynchronous flush.

use super::{Profile, Scenario};

pub struct Delay;

pub const NAME: &str = "delay";

impl Scenario for Delay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "messages are delivered later, power fails, processes die, clocks jump: I1-I5 I7-I10 I15-I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "power_loss_all",
            "crash",
            "crash_in_step",
            "restart",
            "flush_error",
            "slow_disk",
            "stalled_disk",
            "clock_jump",
            "pause",
        ];
        Profile { sync_flush_percent: 75, ..Profile::of_brokers("power_loss", KINDS) }
    }
}

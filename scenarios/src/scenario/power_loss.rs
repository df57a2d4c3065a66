//! Machines lose power, one by one or all at once; flushes fail, are slow, or stall; disks are full.
//!
//! With SYNC_FLUSH nothing is lost that was answered SEND_OK. Promised less, and excused: `WAIT=false` and
//! FLUSH_DISK_TIMEOUT (stored, not known to be durable), and everything under ASYNC_FLUSH that was sent since the last flush.
//! What consumers of a SYNC_FLUSH broker have seen stays.

use super::{Profile, Scenario};

pub struct PowerLoss;

impl Scenario for PowerLoss {
    fn name(&self) -> &'static str {
        "power_loss"
    }

    fn summary(&self) -> &'static str {
        "power fails on one machine or on all, flushes fail, disks stall: I1-I5 I7-I10 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "power_loss_all",
            "crash",
            "crash_in_step",
            "flush_error",
            "slow_disk",
            "stalled_disk",
            "full_disk",
        ];
        Profile { sync_flush_percent: 75, ..Profile::of_brokers("power_loss", KINDS) }
    }
}

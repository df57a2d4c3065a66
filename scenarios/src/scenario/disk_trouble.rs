//! A store on a disk that fails without a loss of power: flushes and the kernel's own writes get lost, the disk is full at any
//! kind of creation, the file system becomes read-only, a flush is slow or stands still; processes are killed and stopped
//! meanwhile, and power fails now and then, so that what was lost is missed.
//!
//! Promises as in `power_loss`: a flush that has failed has promised nothing, an error is an answer and not an end, and when
//! the disk is well again the store is, after a restart at the latest.

use super::{Profile, Scenario};

pub struct DiskTrouble;

impl Scenario for DiskTrouble {
    fn name(&self) -> &'static str {
        "disk_trouble"
    }

    fn summary(&self) -> &'static str {
        "a store alone whose flushes fail, whose disk is full, read-only, slow or loses pages: I1-I5 I7-I10 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "writeback_error",
            "read_only_disk",
            "little_room",
            "little_room",
            "slow_disk",
            "stalled_disk",
            "power_loss",
            "crash",
            "crash_in_step",
            "restart",
        ];
        Profile { kind_percent: 45, ends_by_power_loss: false, ..Profile::of_store("flush_error", KINDS) }
    }
}

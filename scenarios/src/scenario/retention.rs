//! A store whose files are deleted: the disk becomes tight, the hour comes by a leap of the clock, readers hold old files;
//! and everything that `store` does to a machine, short of a disk that stands still.
//!
//! Nothing acknowledged is lost but what was old enough or had to make room, from the oldest file on. Without faults
//! nothing is deleted: the hour at which a run begins is none of those for deletion, and there is room for everything.

use super::{Profile, Scenario};

pub struct Retention;

pub const NAME: &str = "retention";

impl Scenario for Retention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a store alone whose disk is tight, whose hour comes and whose readers are slow, under crashes: I1-I5 I7-I10 I13 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "slow_reader",
            "slow_reader",
            "clock_leap",
            "power_loss",
            "power_loss_in_step",
            "crash",
            "crash_in_step",
            "restart",
            "slow_disk",
            "flush_error",
            "full_disk",
        ];
        Profile { deletes: true, ..Profile::of_store("tight_disk", KINDS) }
    }
}

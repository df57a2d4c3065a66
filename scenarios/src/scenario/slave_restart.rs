//! A slave that is stopped, dies or loses power again and again while its master takes sends, and follows again each time.
//!
//! `spec/ha.md`, 6.1, rows 7 and 8: nothing acknowledged is lost; what a SYNC_MASTER takes meanwhile is answered as stored
//! only; once the slave is back it has its master's log, and SEND_OK says again that it has the message. Its master may die too.

use super::{Profile, Scenario};

pub struct SlaveRestart;

pub const NAME: &str = "slave_restart";

impl Scenario for SlaveRestart {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a slave that is stopped, dies, loses power and follows again: I1-I11 I16 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "slave_crash",
            "slave_power_loss",
            "slave_in_step",
            "slave_full_disk",
            "crash",
            "ha_cut",
            "latency",
            "pause",
            "slow_disk",
        ];
        Profile::of_replicas("slave_restart", KINDS)
    }
}

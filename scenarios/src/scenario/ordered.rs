//! Messages of a key go to one queue, one after the other, and members consume in order: they join, stop and are killed while
//! brokers die and are started again.
//!
//! A queue's messages are consumed in its order, each before the next is begun, and so are those of a key in the order of
//! their acknowledgements. Two members are not at one queue at once; excused where its broker has died, and with it the locks
//! that are in its memory.

use super::{Profile, Scenario};

pub struct Ordered;

pub const NAME: &str = "ordered";

impl Scenario for Ordered {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "orderly consumers come, stop and are killed, brokers die: ORDER, SHARE, I1-I5 I7-I10 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "consumer_crash",
            "consumer_crash",
            "crash",
            "crash_in_step",
            "restart",
            "partition",
            "pause",
            "latency",
            "loss",
            "slow_disk",
        ];
        Profile {
            kind_percent: 35,
            ends_by_power_loss: false,
            ..Profile::of_brokers("consumer_restart", KINDS)
        }
    }
}

//! Members of groups join, stop and are killed again and again, while the network splits and brokers lose power; in some runs
//! one group broadcasts.
//!
//! Everything is consumed, by each member where the group broadcasts; what a broker has on record as consumed is not given
//! again; and when all have settled every queue has one holder, who alone is given its messages, each once.

use super::{Profile, Scenario};

pub struct Rebalance;

pub const NAME: &str = "rebalance";

impl Scenario for Rebalance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "members of groups join, stop and are killed, brokers lose power: SHARE, I1-I5 I7-I10 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "consumer_crash",
            "consumer_crash",
            "power_loss",
            "crash",
            "restart",
            "partition",
            "partition",
            "pause",
            "latency",
            "loss",
        ];
        Profile::of_brokers("consumer_restart", KINDS)
    }
}

//! Consumers that fail: they hand messages back, which come again later, and after too many tries are dead letters.
//!
//! What was handed back is not lost, and a message is a dead letter exactly if its consumers fail more often than they may.

use super::{Profile, Scenario};

pub struct RetryDlq;

pub const NAME: &str = "retry_dlq";

impl Scenario for RetryDlq {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "consumers fail and hand messages back, power fails, processes die: I1-I5 I7-I10 I15-I17 I19 I20, dead letters"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] =
            &["power_loss_all", "crash", "crash_in_step", "restart", "slow_disk", "latency", "loss", "pause"];
        Profile { sync_flush_percent: 75, ..Profile::of_brokers("power_loss", KINDS) }
    }
}

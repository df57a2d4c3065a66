//! Processes die, at any moment and inside any storage step, and are started again; machines and disks are well.
//!
//! Nothing that was acknowledged is lost, with either flush: the page cache survives a process. Exceptions: none.

use super::{Profile, Scenario};

pub struct BrokerCrash;

impl Scenario for BrokerCrash {
    fn name(&self) -> &'static str {
        "broker_crash"
    }

    fn summary(&self) -> &'static str {
        "processes die at any storage step, in pairs, with pauses and clock jumps: I1-I5 I7-I10 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] =
            &["crash_in_step", "restart", "pause", "clock_jump", "latency", "slow_disk", "loss"];
        Profile { kind_percent: 45, ends_by_power_loss: false, ..Profile::of_brokers("crash", KINDS) }
    }
}

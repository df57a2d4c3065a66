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
        Profile {
            kinds: &["crash_in_step", "restart", "pause", "clock_jump", "latency", "slow_disk", "loss"],
            always: "crash",
            kind_percent: 45,
            sync_flush_percent: 50,
            two_name_servers: false,
            faults_end_ms_min: 0,
            rest_ms: 5_000,
            store_alone: false,
            deletes: false,
            replicates: false,
        }
    }
}

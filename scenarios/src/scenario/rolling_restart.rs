//! Every server is restarted, one after the other and in any order, in order or killed, while producers send: as for a new
//! version, or for new settings. One master with one or two slaves, or two of each; two name servers.
//!
//! Nothing acknowledged is lost that its setting promises to keep, slaves have their masters' logs afterwards, and everything
//! goes on without anybody's help.

use super::{Profile, Scenario};

pub struct RollingRestart;

impl Scenario for RollingRestart {
    fn name(&self) -> &'static str {
        "rolling_restart"
    }

    fn summary(&self) -> &'static str {
        "masters, slaves and name servers are restarted in turn, stopped or killed: I1-I11 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &["latency", "loss", "pause", "slow_disk"];
        Profile {
            kind_percent: 30,
            two_name_servers: true,
            two_brokers_percent: 40,
            slaves_max: 2,
            load_ms: &[30_000, 60_000, 90_000],
            ends_by_power_loss: false,
            ..Profile::of_replicas("in_turn", KINDS)
        }
    }
}

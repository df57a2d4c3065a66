//! The network splits name servers, brokers and clients, one way or both; links are slow and lose packets; name servers die.
//!
//! Nothing acknowledged is lost that its setting promises to keep. After the split heals the name servers agree on every live broker and do not forget one
//! again when the leftovers of the old connections come to their end, minutes later.

use super::{Profile, Scenario};

pub struct Partition;

impl Scenario for Partition {
    fn name(&self) -> &'static str {
        "partition"
    }

    fn summary(&self) -> &'static str {
        "name servers, brokers and clients are split, name servers die: I1-I5 I7 I8 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "latency",
            "loss",
            "name_server_crash",
            "name_server_crash",
            "restart",
            "crash",
            "power_loss",
            "pause",
        ];
        Profile {
            kind_percent: 50,
            two_name_servers: true,
            rest_ms: 160_000,
            ends_by_power_loss: false,
            ..Profile::of_brokers("partition", KINDS)
        }
    }
}

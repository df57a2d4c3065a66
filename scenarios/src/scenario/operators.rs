//! Operators and clients of all sorts ask brokers and name servers for whatever the protocol has, by bytes of their own, while
//! processes die, power fails and the network is slow; then again when all is well.
//!
//! Each answer has the code, the fields and the body that follow from what was asked before; a refused send is not stored; what
//! was changed and answered is there after any fault.

use super::{Profile, Scenario};

pub struct Operators;

pub const NAME: &str = "operators";

impl Scenario for Operators {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "everything the protocol has is asked for and each answer judged, nodes die: PROTOCOL, I1 I7 I17 I18 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] =
            &["crash", "crash_in_step", "power_loss", "restart", "name_server_crash", "latency", "slow_disk"];
        Profile {
            kind_percent: 35,
            sync_flush_percent: 100,
            load_ms: &[6_000, 8_000],
            ..Profile::of_brokers("power_loss", KINDS)
        }
    }
}

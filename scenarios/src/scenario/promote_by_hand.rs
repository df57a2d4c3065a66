//! A master is lost for good, and a person makes its slave the master: by its configuration, and a start.
//!
//! `spec/ha.md`, 6.1, row 6, and 6.2, row 14: what was confirmed is on the slave, and the start as a master keeps all that the
//! slave had, whatever has struck it before; its queues are whole, and no offset lies beyond them.
//! In most runs that is in the middle of it: producers send to the new master, and consumers go on there, while faults strike it
//! too and the old master's machine follows it, with a new disk. In the others it is the end, without a send.

use super::{Profile, Scenario};

pub struct PromoteByHand;

pub const NAME: &str = "promote_by_hand";

impl Scenario for PromoteByHand {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a slave that becomes the master after faults on both, and serves under more: I1-I11 I16-I20, and it keeps its log"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "crash",
            "crash_in_step",
            "slave_crash",
            "slave_power_loss",
            "slave_in_step",
            "restart",
            "latency",
        ];
        Profile { promotes: true, ends_by_power_loss: false, ..Profile::of_replicas("ha_cut", KINDS) }
    }
}

//! Fails on purpose, so that a green run means something: a whole run without faults, and then a broken promise.

use super::{Profile, Scenario};
use crate::oracle::{Broken, Verdict};

pub struct Canary;

pub const NAME: &str = "canary";

impl Scenario for Canary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "no faults; fails on purpose at the end (exit 10)"
    }

    fn profile(&self) -> Profile {
        Profile { kind_percent: 0, rest_ms: 0, ends_by_power_loss: false, ..Profile::of_brokers("", &[]) }
    }

    fn at_end(&self) -> Verdict {
        Err(Broken::new("canary", "the canary always fails"))
    }
}

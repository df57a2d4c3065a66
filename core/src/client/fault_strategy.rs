//! Which brokers to leave alone for a while: a slow or failed attempt makes a broker unavailable by a table of times.
//!
//! # Source
//! apache/rocketmq 5.x, `MQFaultStrategy`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::runtime::Mono;

/// From this latency on, in ms: unavailable for so long, in ms. Ordered.
const UNAVAILABLE_MS: [(u64, u64); 7] =
    [(50, 0), (100, 0), (550, 2_000), (1_800, 5_000), (3_000, 6_000), (5_000, 10_000), (15_000, 30_000)];

/// What an attempt without a response counts as.
const FAILED_LATENCY: Duration = Duration::from_secs(10);

/// How an attempt at a broker went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// A response came after this time.
    Answered(Duration),
    Failed,
}

/// The brokers to leave alone, each with the moment from which it is tried again.
#[derive(Debug, Default)]
pub struct FaultStrategy {
    available_at: BTreeMap<String, Mono>,
}

impl FaultStrategy {
    pub fn note(&mut self, now: Mono, broker_name: &str, attempt: Attempt) {
        let latency = match attempt {
            Attempt::Answered(latency) => latency,
            Attempt::Failed => FAILED_LATENCY,
        };
        let unavailable_ms = unavailable_ms(latency);
        if unavailable_ms == 0 {
            self.available_at.remove(broker_name);
        } else {
            self.available_at.insert(broker_name.to_owned(), now.after_ms(unavailable_ms));
        }
    }

    #[must_use]
    pub fn is_available(&self, now: Mono, broker_name: &str) -> bool {
        self.available_at.get(broker_name).is_none_or(|at| now >= *at)
    }
}

fn unavailable_ms(latency: Duration) -> u64 {
    let reached = UNAVAILABLE_MS.iter().rev().find(|(from_ms, _)| latency >= Duration::from_millis(*from_ms));
    reached.map_or(0, |(_, unavailable_ms)| *unavailable_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_broker_is_left_alone_until_its_time_is_over() {
        let mut strategy = FaultStrategy::default();
        strategy.note(Mono(0), "a", Attempt::Failed);
        assert!(!strategy.is_available(Mono(0).after_ms(9_999), "a"));
        assert!(strategy.is_available(Mono(0).after_ms(10_000), "a"));
        assert!(strategy.is_available(Mono(0), "b"));
    }

    #[test]
    fn a_quick_answer_makes_a_broker_available_at_once() {
        let mut strategy = FaultStrategy::default();
        strategy.note(Mono(0), "a", Attempt::Failed);
        strategy.note(Mono(1), "a", Attempt::Answered(Duration::from_millis(100)));
        assert!(strategy.is_available(Mono(1), "a"));
    }

    #[test]
    fn latencies_map_to_times_as_in_java() {
        let ms = |latency| unavailable_ms(Duration::from_millis(latency));
        let seen = [0, 549, 550, 1_799, 1_800, 3_000, 5_000, 14_999, 15_000].map(ms);
        assert_eq!(seen, [0, 0, 2_000, 2_000, 5_000, 6_000, 10_000, 10_000, 30_000]);
    }
}

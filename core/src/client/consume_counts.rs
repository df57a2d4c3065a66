//! How fast a consumer pulls and consumes, topic by topic, for those who ask (307).
//!
//! Counted by minutes, of which an hour is kept. Rates are those of the last whole minute and of what has passed since.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::remoting::body::TopicConsumption;
use crate::runtime::Mono;

const MINUTE: Duration = Duration::from_secs(60);
const MINUTES_KEPT: usize = 60;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    pulls: u64,
    pulled: u64,
    pull_time: Duration,
    consumed: u64,
    failed: u64,
    consume_time: Duration,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.pulls += other.pulls;
        self.pulled += other.pulled;
        self.pull_time += other.pull_time;
        self.consumed += other.consumed;
        self.failed += other.failed;
        self.consume_time += other.consume_time;
    }
}

#[derive(Debug, Default)]
struct Topic {
    /// By the number of the minute, the newest last.
    minutes: VecDeque<(u64, Counts)>,
}

/// By topic.
#[derive(Debug, Default)]
pub(super) struct ConsumeCounts(Mutex<BTreeMap<String, Topic>>);

impl ConsumeCounts {
    /// A pull that began at `begun` has brought so many messages.
    pub(super) fn pulled(&self, topic: &str, (begun, now): (Mono, Mono), messages: usize) {
        let pull_time = now.since(begun);
        self.add(topic, now, Counts { pulls: 1, pulled: messages as u64, pull_time, ..Counts::default() });
    }

    /// A listener that was called at `begun` has come back with so many messages, of which so many it has failed with.
    pub(super) fn consumed(&self, topic: &str, (begun, now): (Mono, Mono), messages: usize, failed: usize) {
        let counts = Counts {
            consumed: messages.saturating_sub(failed) as u64,
            failed: failed as u64,
            consume_time: now.since(begun),
            ..Counts::default()
        };
        self.add(topic, now, counts);
    }

    fn add(&self, topic: &str, now: Mono, counts: Counts) {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = &mut topics.entry(topic.to_owned()).or_default().minutes;
        match minutes.back_mut() {
            Some((minute, before)) if *minute == minute_of(now) => before.add(counts),
            _ => minutes.push_back((minute_of(now), counts)),
        }
        if minutes.len() > MINUTES_KEPT {
            minutes.pop_front();
        }
    }

    pub(super) fn topic(&self, topic: &str, now: Mono) -> TopicConsumption {
        let topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_topic) = topics.get(topic) else { return TopicConsumption::default() };
        let this = minute_of(now);
        let (mut recent, mut failed) = (Counts::default(), 0);
        for (minute, counts) in &of_topic.minutes {
            if *minute + 1 >= this {
                recent.add(*counts);
            }
            if *minute + MINUTES_KEPT as u64 > this {
                failed += counts.failed;
            }
        }
        let before = if this == 0 { Duration::ZERO } else { MINUTE };
        let seconds = (before.as_secs_f64() + (now.0 % MINUTE.as_nanos() as u64) as f64 / 1e9).max(1.0);
        let per = |time: Duration, count: u64| {
            if count == 0 { 0.0 } else { time.as_secs_f64() * 1e3 / count as f64 }
        };
        TopicConsumption {
            consume_failed_msgs: i64::try_from(failed).unwrap_or(i64::MAX),
            consume_failed_tps: recent.failed as f64 / seconds,
            consume_ok_tps: recent.consumed as f64 / seconds,
            consume_rt: per(recent.consume_time, recent.consumed + recent.failed),
            pull_rt: per(recent.pull_time, recent.pulls),
            pull_tps: recent.pulled as f64 / seconds,
        }
    }
}

fn minute_of(now: Mono) -> u64 {
    now.0 / MINUTE.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn rates_are_those_of_the_last_minutes_and_failures_those_of_an_hour() {
        let counts = ConsumeCounts::default();
        counts.pulled("T", (at(61), at(63)), 32);
        counts.consumed("T", (at(70), at(74)), 32, 2);
        let soon = counts.topic("T", at(120));
        assert_eq!((soon.pull_rt, soon.pull_tps), (2_000.0, 32.0 / 60.0));
        assert_eq!((soon.consume_rt, soon.consume_ok_tps), (125.0, 0.5));
        assert_eq!(soon.consume_failed_msgs, 2);
        let later = counts.topic("T", at(240));
        assert_eq!((later.consume_ok_tps, later.consume_failed_msgs), (0.0, 2));
        assert_eq!(counts.topic("T", at(61 * 60)).consume_failed_msgs, 0);
        assert_eq!(counts.topic("other", at(61)), TopicConsumption::default());
    }
}

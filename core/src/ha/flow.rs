//! Bytes per second over one link.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::runtime::Mono;

const SECOND: Duration = Duration::from_secs(1);

/// What went over a link in its last whole second.
#[derive(Debug, Default)]
pub(crate) struct Flow(Mutex<Seconds>);

#[derive(Debug, Default)]
struct Seconds {
    since: Mono,
    bytes: u64,
    /// In the second before `since`.
    before: u64,
}

impl Seconds {
    fn pass(&mut self, now: Mono) {
        let passed = now.since(self.since);
        if passed < SECOND {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.before = if passed < 2 * SECOND { bytes } else { 0 };
        let whole = passed.as_nanos() - passed.as_nanos() % SECOND.as_nanos();
        self.since = self.since.after(Duration::from_nanos(u64::try_from(whole).unwrap_or(u64::MAX)));
    }
}

impl Flow {
    pub fn add(&self, now: Mono, bytes: usize) {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.pass(now);
        seconds.bytes += bytes as u64;
    }

    pub fn bytes_per_second(&self, now: Mono) -> u64 {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.pass(now);
        seconds.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_counts_when_it_is_over_and_until_the_next_one_is() {
        let (flow, start) = (Flow::default(), Mono(7_300_000_000));
        let at = |ms| start.after_ms(ms);
        flow.add(at(0), 5);
        flow.add(at(500), 6);
        assert_eq!(flow.bytes_per_second(at(600)), 0, "it is not over");
        assert_eq!(flow.bytes_per_second(at(1_000)), 11);
        flow.add(at(1_200), 1);
        assert_eq!(flow.bytes_per_second(at(1_600)), 11);
        assert_eq!(flow.bytes_per_second(at(2_000)), 1);
        assert_eq!(flow.bytes_per_second(at(3_000)), 0);
        flow.add(at(3_000), 9);
        assert_eq!(flow.bytes_per_second(at(60_000)), 0);
    }
}

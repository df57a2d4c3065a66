//! Since when the messages of a level have been in its queue, by the clock that nobody sets: what the wall clock is held
//! against. One that was set back says of a message that it is due much later than its delay allows.

use std::collections::VecDeque;
use std::time::Duration;

use crate::runtime::Mono;

/// Marks of one level, about.
const MARKS_MAX: u32 = 1_000;
/// The wall clock shows whole units: by it a message may wait for almost one more than its delay.
const WALL_UNIT: Duration = Duration::from_millis(1);

/// Messages below it have been in the queue since `at`, at least.
#[derive(Debug, Clone, Copy)]
struct Mark {
    below: i64,
    at: Mono,
}

#[derive(Debug)]
pub(crate) struct Seen {
    /// Both fields rise.
    marks: VecDeque<Mark>,
    apart: Duration,
}

impl Seen {
    /// For a level whose messages wait for `delay`.
    pub fn new(delay: Duration) -> Seen {
        Seen { marks: VecDeque::new(), apart: delay / MARKS_MAX }
    }

    /// Notes that the queue ends at `max` now, and that the message at `next` is its first.
    pub fn note(&mut self, next: i64, max: i64, now: Mono) {
        self.reached(next);
        let is_new = match self.marks.back() {
            None => next < max,
            Some(last) => last.below < max && now.since(last.at) >= self.apart,
        };
        if is_new {
            self.marks.push_back(Mark { below: max, at: now });
        }
    }

    /// The message at `next` is the first now.
    pub fn reached(&mut self, next: i64) {
        while self.marks.front().is_some_and(|mark| mark.below <= next) {
            self.marks.pop_front();
        }
    }

    /// How long the first message has been there, at least.
    pub fn waited(&self, now: Mono) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |mark| now.since(mark.at))
    }
}

/// How long a message of a level still waits. The wall clock tells; where it has been set back, by however little, no message
/// waits longer than its delay from when it was seen. `own` is the delay that the message came with: the level may have been a
/// longer one then.
pub(super) fn left(
    by_wall: Duration,
    waited: Duration,
    delay: Duration,
    own: impl FnOnce() -> Duration,
) -> Duration {
    let unless_set_back = |delay: Duration| (delay + WALL_UNIT).saturating_sub(waited);
    if by_wall <= unless_set_back(delay) {
        return by_wall;
    }
    by_wall.min(unless_set_back(delay.max(own())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks of this level are 60 ms apart.
    const DELAY: Duration = Duration::from_secs(60);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_message_behind_others_has_waited_since_it_was_seen_there() {
        let mut seen = Seen::new(DELAY);
        seen.note(0, 1, at(0));
        seen.note(0, 1, at(1_000));
        seen.note(0, 3, at(2_000));
        seen.note(0, 4, at(2_059));
        assert_eq!(seen.waited(at(60_000)).as_secs(), 60);
        seen.reached(1);
        assert_eq!(seen.waited(at(60_000)).as_secs(), 58);
        seen.note(3, 4, at(60_000));
        assert_eq!(seen.waited(at(61_000)).as_secs(), 1, "it came too soon after the mark before");
        seen.note(4, 4, at(61_000));
        assert_eq!(seen.waited(at(99_000)), Duration::ZERO);
    }

    #[test]
    fn marks_are_few_however_long_a_level_waits() {
        let mut seen = Seen::new(DELAY * 60);
        for tenth in 0..36_000 {
            seen.note(0, tenth + 1, at(tenth as u64 * 100));
        }
        assert_eq!(seen.marks.len(), MARKS_MAX as usize);
    }
    #[test]
    fn a_clock_that_was_set_back_by_less_than_the_delay_keeps_no_message_longer_than_its_delay() {
        let ms = Duration::from_millis;
        let never = || -> Duration { panic!("the clock was not set") };
        for (by_wall, waited) in [(60_000, 0), (30_001, 30_000), (1, 60_000), (0, 90_000)] {
            assert_eq!(left(ms(by_wall), ms(waited), DELAY, never), ms(by_wall));
        }
        // Set back by 40 s when the message was there for 10 s, and by 70 s.
        for (by_wall, waited, still) in [
            (90_000, 10_000, 50_001),
            (50_000, 50_000, 10_001),
            (40_000, 60_001, 0),
            (120_000, 10_000, 50_001),
        ] {
            assert_eq!(
                left(ms(by_wall), ms(waited), DELAY, || DELAY),
                ms(still),
                "{by_wall} ms, {waited} ms"
            );
        }
        assert_eq!(
            left(ms(90_000), ms(10_000), DELAY, || DELAY * 2),
            ms(90_000),
            "the level was a longer one"
        );
        assert_eq!(left(ms(150_000), ms(10_000), DELAY, || DELAY * 2), ms(110_001));
        assert_eq!(left(ms(90_000), ms(10_000), DELAY, || Duration::ZERO), ms(50_001), "it cannot be read");
    }
}

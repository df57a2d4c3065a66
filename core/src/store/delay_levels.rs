//! `messageDelayLevel`: how long a message of each delay level waits. Levels count from 1.

use std::fmt;

/// Java's default: 18 levels.
const DEFAULT: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

/// The levels in their order, as a setting has them: numbers with the units s, m, h and d.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayLevels {
    text: String,
    ms: Vec<i64>,
}

impl DelayLevels {
    /// `None` when a level is not a positive number with a unit, or there is none.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `ScheduleMessageService#parseDelayLevel`.
    #[must_use]
    pub fn parse(text: &str) -> Option<DelayLevels> {
        let levels: Option<Vec<i64>> = text.split_ascii_whitespace().map(level_ms).collect();
        let ms = levels.filter(|levels| !levels.is_empty())?;
        Some(DelayLevels { text: text.to_owned(), ms })
    }

    /// The delay of level 1, 2, … in ms.
    #[must_use]
    pub fn ms(&self) -> &[i64] {
        &self.ms
    }
}

fn level_ms(level: &str) -> Option<i64> {
    let (unit_at, unit) = level.char_indices().next_back()?;
    let unit_ms: i64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let number: i64 = level.get(..unit_at)?.parse().ok()?;
    number.checked_mul(unit_ms).filter(|ms| *ms > 0)
}

impl Default for DelayLevels {
    fn default() -> DelayLevels {
        DelayLevels::parse(DEFAULT).expect("Java's levels are levels")
    }
}

impl fmt::Display for DelayLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_javas_units_and_what_is_none_is_refused() {
        let default = DelayLevels::default();
        assert_eq!(default.ms().len(), 18);
        assert_eq!((default.ms()[0], default.ms()[4], default.ms()[17]), (1_000, 60_000, 7_200_000));
        assert_eq!(DelayLevels::parse("2d 3h").map(|levels| levels.ms), Some(vec![172_800_000, 10_800_000]));
        for none in ["", " ", "5", "s", "0s", "-1s", "1x", "1s 5", "1é", "9223372036854775807d"] {
            assert_eq!(DelayLevels::parse(none), None, "{none:?}");
        }
        assert_eq!(DelayLevels::parse(&default.to_string()), Some(default));
    }
}

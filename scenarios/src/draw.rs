//! Keyed draws: each random choice is a pure function of the seed, of whom it concerns and of a counter.
//!
//! No draw consumes another's randomness, so that taking one fault or one message out of a plan changes nothing else in
//! the run. That is what makes a plan shrinkable.

/// The random choices of one seed.
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

/// One choice, not yet taken.
#[derive(Clone, Copy, Debug)]
pub struct Key(u64);

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Draw {
    #[must_use]
    pub fn new(seed: u64) -> Draw {
        Draw(mix(seed))
    }

    /// The `counter`th choice of what `label` names.
    #[must_use]
    pub fn key(self, label: &str, counter: u64) -> Key {
        self.keys(label)(counter)
    }

    /// All choices of what `label` names, by their counters.
    pub fn keys(self, label: &str) -> impl Fn(u64) -> Key {
        let named = label.bytes().fold(self.0, |hash, byte| mix(hash ^ u64::from(byte)));
        move |counter| Key(mix(named ^ counter.wrapping_mul(0xD6E8_FEB8_6659_FD93)))
    }
}

impl Key {
    /// A choice that belongs to this one.
    #[must_use]
    pub fn branch(self, label: &str) -> Key {
        Draw(self.0).key(label, 0)
    }

    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Evenly from `low..=high`.
    ///
    /// # Panics
    /// When `low` is above `high`.
    #[must_use]
    pub fn range(self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range: {low}..={high}");
        low + ((u128::from(self.0) * (u128::from(high - low) + 1)) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    #[must_use]
    pub fn percent(self, percent: u64) -> bool {
        self.range(0, 99) < percent
    }

    /// # Panics
    /// When `choices` is empty.
    #[must_use]
    pub fn pick<T: Copy>(self, choices: &[T]) -> T {
        assert!(!choices.is_empty(), "nothing to pick from");
        choices[self.range(0, choices.len() as u64 - 1) as usize]
    }

    /// Time to the next of independent events that are `mean` apart on average; at least 1.
    #[must_use]
    pub fn exponential(self, mean: u64) -> u64 {
        let unit = (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        ((-(1.0 - unit).ln() * mean as f64) as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_seed_label_and_counter_alone() {
        let draw = Draw::new(7);
        assert_eq!(draw.key("a", 1).bits(), Draw::new(7).key("a", 1).bits());
        assert_ne!(draw.key("a", 1).bits(), draw.key("a", 2).bits());
        assert_ne!(draw.key("a", 1).bits(), draw.key("b", 1).bits());
        assert_ne!(draw.key("a", 1).bits(), Draw::new(8).key("a", 1).bits());
    }

    #[test]
    fn a_range_reaches_both_of_its_ends() {
        let seen: std::collections::BTreeSet<u64> =
            (0..200).map(|n| Draw::new(1).key("end", n).range(3, 5)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
    }
}

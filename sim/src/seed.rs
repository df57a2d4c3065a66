//! One seed into independent draws.
//!
//! Every draw is keyed: `hash(seed, label, entity, counter)`. A link, a file, a connection each count their own events, and
//! each event opens a [`Draws`] of its own. Removing one fault from a plan thus leaves all other draws as they were, which
//! is what lets a failing plan be shrunk: with one shared generator a removed fault re-rolls the whole rest of the run.

/// Mixes two words into one (the finalizer of splitmix64). Order matters.
#[must_use]
pub const fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Order-sensitive hash of bytes, eight at a time; not for untrusted keys.
#[must_use]
pub fn hash_bytes(start: u64, bytes: &[u8]) -> u64 {
    let mut hash = start ^ (bytes.len() as u64).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    for byte in rest {
        hash = (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    hash
}

/// What draws are keyed by: a seed, a label and an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    #[must_use]
    pub fn new(seed: u64, label: &str, entity: u64) -> Key {
        Key(mix(mix(seed, hash_bytes(0, label.as_bytes())), entity))
    }

    /// A key below this one.
    #[must_use]
    pub fn with(self, entity: u64) -> Key {
        Key(mix(self.0, entity))
    }

    /// The draws of this entity's event number `counter`.
    #[must_use]
    pub fn draws(self, counter: u64) -> Draws {
        Draws { key: mix(self.0, counter), count: 0 }
    }
}

/// A short run of draws, all for one decision.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    key: u64,
    count: u64,
}

impl Draws {
    /// Draws for `entity` under `label`, for use outside the simulator (plans, workloads).
    #[must_use]
    pub fn new(seed: u64, label: &str, entity: u64) -> Draws {
        Key::new(seed, label, entity).draws(0)
    }

    pub fn u64(&mut self) -> u64 {
        self.count += 1;
        mix(self.key, self.count)
    }

    /// In `0.0 .. 1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with the given probability. One draw is taken whatever the probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// In `0 .. bound`.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing to draw from");
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// In `from .. to`.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        assert!(from < to, "empty range {from}..{to}");
        from + self.below(to - from)
    }

    /// Exponentially distributed with the given mean, rounded down.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean as f64) as u64
    }

    /// One element.
    ///
    /// # Panics
    /// When the slice is empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_each_part_of_the_key_and_on_nothing_else() {
        let base = Key::new(1, "link", 2).draws(3).u64();
        assert_eq!(base, Key::new(1, "link", 2).draws(3).u64());
        for other in [
            Key::new(2, "link", 2).draws(3),
            Key::new(1, "file", 2).draws(3),
            Key::new(1, "link", 3).draws(3),
            Key::new(1, "link", 2).draws(4),
        ] {
            assert_ne!(base, { other }.u64());
        }
    }

    #[test]
    fn a_bounded_draw_stays_in_its_range_and_reaches_its_ends() {
        let mut seen = [false; 5];
        let mut draws = Draws::new(7, "bounded", 0);
        for _ in 0..1_000 {
            seen[draws.below(5) as usize] = true;
            let unit = draws.unit();
            assert!((0.0..1.0).contains(&unit));
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn a_hash_sees_order_and_length() {
        assert_ne!(hash_bytes(0, b"ab"), hash_bytes(0, b"ba"));
        assert_ne!(hash_bytes(0, b""), hash_bytes(0, b"\0"));
        assert_ne!(hash_bytes(0, &[0; 8]), hash_bytes(0, &[0; 16]));
    }
}

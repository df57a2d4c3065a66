//! The keys that dispatch met on its way through the log, so that the index need not read the records once more.
//!
//! Guarantee: what is taken is all keys of the records between two positions, in order, as reading the log gives them.
//! Bounded: when the index stays behind, what is handed over starts afresh, and the index reads the log up to there.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::format::{Key, key_hash};
use crate::message::codec::Record;
use crate::store::filing::Filing;

/// More keys than this are not kept; each has 24 bytes.
const KEYS_MAX: usize = 32 << 10;

/// A run of the log, without a gap.
#[derive(Debug, Default)]
struct Run {
    from: u64,
    end: u64,
    keys: Vec<Key>,
}

#[derive(Debug, Default)]
pub(crate) struct Handed {
    run: Mutex<Run>,
}

/// Adds the keys of `record` to `keys`. Java files a word that a message has twice twice; here it is filed once.
pub(crate) fn add_keys(record: &Record<'_>, filing: &Filing<'_>, keys: &mut Vec<Key>) {
    let first = keys.len();
    for key in filing.keys() {
        let hash = key_hash(record.topic, key);
        let key = Key { hash, position: record.physical_offset, store_ms: record.store_timestamp };
        if !keys[first..].contains(&key) {
            keys.push(key);
        }
    }
}

impl Handed {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the `keys` of all records between `from` and `end`.
    pub fn offer(&self, from: u64, end: u64, keys: &[Key]) {
        let mut run = self.run();
        if run.end != from || run.keys.len() + keys.len() > KEYS_MAX {
            run.keys.clear();
            run.from = from;
        }
        run.keys.extend_from_slice(keys);
        run.end = end;
    }

    /// Where begins what is handed over.
    pub fn begin(&self) -> u64 {
        self.run().from
    }

    /// Takes all there is from `from` on into `keys`, which is empty; gives where it ends. `None` when `from` is not covered.
    pub fn take(&self, from: u64, keys: &mut Vec<Key>) -> Option<u64> {
        let mut run = self.run();
        if from < run.from || from >= run.end {
            return None;
        }
        std::mem::swap(&mut run.keys, keys);
        run.from = run.end;
        let below = keys.partition_point(|key| key.position < from);
        keys.drain(..below);
        Some(run.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(positions: &[u64]) -> Vec<Key> {
        positions.iter().map(|position| Key { hash: 1, position: *position, store_ms: 0 }).collect()
    }

    fn taken(handed: &Handed, from: u64) -> Option<(u64, Vec<Key>)> {
        let mut keys = Vec::new();
        handed.take(from, &mut keys).map(|end| (end, keys))
    }

    #[test]
    fn what_goes_on_is_taken_as_one() {
        let handed = Handed::default();
        assert_eq!(taken(&handed, 0), None);
        handed.offer(100, 200, &keys(&[100, 150]));
        handed.offer(200, 300, &keys(&[]));
        handed.offer(300, 400, &keys(&[300, 300]));
        assert_eq!(taken(&handed, 99), None);
        assert_eq!(taken(&handed, 400), None);
        assert_eq!(taken(&handed, 150), Some((400, keys(&[150, 300, 300]))));
        assert_eq!(taken(&handed, 400), None);
        handed.offer(400, 500, &keys(&[400]));
        assert_eq!(taken(&handed, 400), Some((500, keys(&[400]))));
    }

    #[test]
    fn a_gap_or_too_many_begin_afresh() {
        let handed = Handed::default();
        handed.offer(0, 100, &keys(&[0]));
        handed.offer(200, 300, &keys(&[200]));
        assert_eq!(taken(&handed, 0), None);
        handed.offer(300, 400, &vec![keys(&[300])[0]; KEYS_MAX]);
        assert_eq!(taken(&handed, 200), None);
        assert_eq!(taken(&handed, 300).map(|(end, keys)| (end, keys.len())), Some((400, KEYS_MAX)));
    }
}

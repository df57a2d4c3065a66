//! Op records: which half messages are settled, and up to which op record all are done with.
//!
//! The body of an op record is the queue offset of a half message in decimal digits, as 4.9 writes it, or several with a comma
//! behind each, as 5.x does; its tag is `d`.
//!
//! An op record is open until the check loop has passed every half message that it names. What concerns a half message that
//! was passed before is not waited for, or the record would stay open for ever (T-05).
//!
//! Invariant: every op record below [`Ops::done`] is done with; each half message in `settled` is named by an open one.

use std::collections::{BTreeMap, BTreeSet};

/// The queue offsets in the body of an op record; what is no number is left out.
pub(super) fn halves_of(body: &[u8]) -> impl Iterator<Item = i64> {
    let words = body.split(|byte| *byte == b',');
    words.filter_map(|word| std::str::from_utf8(word).ok()?.trim().parse().ok())
}

pub(super) struct Ops {
    /// The op record to read next.
    next: i64,
    /// Half message to the op record that settles it.
    settled: BTreeMap<i64, i64>,
    /// Open op records, each with how many of its half messages are still to be passed.
    open: BTreeMap<i64, usize>,
    /// Half messages that were passed without a question, and whose producer may still settle them by their first place.
    expected: BTreeSet<i64>,
}

impl Ops {
    pub fn new(next: i64) -> Ops {
        Ops { next, settled: BTreeMap::new(), open: BTreeMap::new(), expected: BTreeSet::new() }
    }

    pub fn next(&self) -> i64 {
        self.next
    }

    /// Reading goes on at `next`: what lies before is done with, or is gone.
    pub fn go_on_at(&mut self, next: i64) {
        self.next = next;
    }

    /// Takes in the op record at `op`; half messages below `passed` have been passed.
    pub fn add(&mut self, op: i64, halves: impl Iterator<Item = i64>, passed: i64) {
        for half in halves.filter(|half| *half >= passed || self.expected.contains(half)) {
            if self.settled.contains_key(&half) {
                continue;
            }
            self.settled.insert(half, op);
            *self.open.entry(op).or_insert(0) += 1;
        }
        self.next = op + 1;
    }

    /// Opens a record that nothing will ever close.
    pub fn keep_open(&mut self, op: i64) {
        *self.open.entry(op).or_insert(0) += 1;
    }

    /// Whether the half message is settled; it is passed then.
    pub fn take(&mut self, half: i64) -> bool {
        self.expected.remove(&half);
        let Some(op) = self.settled.remove(&half) else { return false };
        if let Some(left) = self.open.get_mut(&op) {
            *left -= 1;
            if *left == 0 {
                self.open.remove(&op);
            }
        }
        true
    }

    /// All half messages below `half` are passed: they are there no more.
    pub fn pass_below(&mut self, half: i64) {
        let is_passed = |half: &i64| !self.expected.contains(half);
        let passed: Vec<i64> = self.settled.range(..half).map(|(half, _)| *half).filter(is_passed).collect();
        for half in passed {
            self.take(half);
        }
    }

    /// The half message is passed, but an op record for it still counts, for its copy.
    pub fn expect(&mut self, half: i64) {
        self.expected.insert(half);
    }

    /// Nothing is known of what was read.
    pub fn forget(&mut self) {
        self.settled.clear();
    }

    /// All op records below are done with.
    pub fn done(&self) -> i64 {
        self.open.first_key_value().map_or(self.next, |(op, _)| *op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_body_are_read() {
        assert_eq!(halves_of(b"123").collect::<Vec<_>>(), [123]);
        assert_eq!(halves_of(b"123,130,131,").collect::<Vec<_>>(), [123, 130, 131]);
        assert_eq!(halves_of(b"").count() + halves_of(b"x,,-").count(), 0);
    }

    #[test]
    fn an_op_record_is_done_with_when_all_its_half_messages_are_passed() {
        let mut ops = Ops::new(4);
        ops.add(4, [10, 12].into_iter(), 10);
        ops.add(5, [11].into_iter(), 10);
        assert_eq!((ops.next(), ops.done()), (6, 4));
        assert!(ops.take(11));
        assert!(ops.take(10));
        assert_eq!(ops.done(), 4);
        assert!(ops.take(12));
        assert!(!ops.take(12));
        assert_eq!(ops.done(), 6);
    }

    #[test]
    fn what_was_passed_before_or_is_settled_already_is_not_waited_for() {
        let mut ops = Ops::new(0);
        ops.add(0, [3].into_iter(), 5);
        ops.add(1, [8].into_iter(), 5);
        ops.add(2, [8].into_iter(), 5);
        assert_eq!(ops.done(), 1);
        assert!(ops.take(8));
        assert_eq!(ops.done(), 3);
    }

    #[test]
    fn half_messages_that_are_gone_close_their_op_records() {
        let mut ops = Ops::new(0);
        ops.add(0, [1, 2].into_iter(), 0);
        ops.add(1, [9].into_iter(), 0);
        ops.pass_below(9);
        assert_eq!(ops.done(), 1);
        assert!(ops.take(9));
    }

    #[test]
    fn an_immune_half_message_is_settled_by_its_first_place() {
        let mut ops = Ops::new(0);
        ops.expect(3);
        ops.add(0, [3].into_iter(), 5);
        ops.pass_below(6);
        assert!(ops.take(3));
        ops.add(1, [3].into_iter(), 5);
        assert!(!ops.take(3), "it is expected no more");
        assert_eq!(ops.done(), 2);
    }
}

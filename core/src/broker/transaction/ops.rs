//! Op records: which half messages are settled, and up to which op record all are done with.
//!
//! The body of an op record is the queue offset of a half message in decimal digits, as 4.9 writes it, or several with a comma
//! behind each, as 5.x does; its tag is `d`.
//!
//! An op record is open until the check loop has passed every half message that it names. What concerns a half message that
//! was passed before is not waited for, or the record would stay open for ever (T-05).
//!
//! Invariant: every op record below [`Ops::done`] is done with; each half message in `settled` is named by an open one.

use std::collections::BTreeMap;

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
    /// Where copies lie ahead, each with the half message that it is of: that one was passed, and its producer may still settle
    /// it by its first place. An earlier process may have put more than one of the same.
    copies: BTreeMap<i64, i64>,
    /// How many of them there are of each half message.
    copied: BTreeMap<i64, usize>,
}

/// What there is of a half message that a copy is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// Another copy is ahead: this one is not needed.
    Copied,
    Settled,
    Open,
}

impl Ops {
    pub fn new(next: i64) -> Ops {
        Ops {
            next,
            settled: BTreeMap::new(),
            open: BTreeMap::new(),
            copies: BTreeMap::new(),
            copied: BTreeMap::new(),
        }
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
        for half in halves.filter(|half| *half >= passed || self.copied.contains_key(half)) {
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

    /// Whether the half message is settled; it is passed then. What settles it is kept for the copies ahead.
    pub fn take(&mut self, half: i64) -> bool {
        if self.copied.contains_key(&half) {
            return self.settled.contains_key(&half);
        }
        let Some(op) = self.settled.remove(&half) else { return false };
        self.leave(half);
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
        let gone: Vec<i64> = self.copies.range(..half).map(|(copy, _)| *copy).collect();
        for copy in gone {
            self.leave(copy);
        }
        let is_passed = |half: &i64| !self.copied.contains_key(half);
        let passed: Vec<i64> = self.settled.range(..half).map(|(half, _)| *half).filter(is_passed).collect();
        for half in passed {
            self.take(half);
        }
    }

    /// A copy of the half message `of` lies ahead, at `copy`: an op record for that one counts for it.
    pub fn expect(&mut self, copy: i64, of: i64) {
        if self.copies.insert(copy, of).is_none() {
            *self.copied.entry(of).or_insert(0) += 1;
        }
    }

    /// What is known when a copy of the half message is looked at.
    pub fn known(&self, half: i64) -> Known {
        match self.copied.get(&half) {
            Some(2..) => Known::Copied,
            _ if self.settled.contains_key(&half) => Known::Settled,
            _ => Known::Open,
        }
    }

    /// The copy that lies there is passed; what settled the half message that it is of has done its work with the last one.
    pub fn leave(&mut self, copy: i64) {
        let Some(of) = self.copies.remove(&copy) else { return };
        if let Some(left) = self.copied.get_mut(&of) {
            *left -= 1;
            if *left == 0 {
                self.copied.remove(&of);
                self.take(of);
            }
        }
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
        ops.expect(6, 3);
        ops.add(0, [3].into_iter(), 5);
        ops.pass_below(6);
        assert_eq!((ops.known(3), ops.done()), (Known::Settled, 0));
        ops.leave(6);
        ops.add(1, [3].into_iter(), 7);
        assert_eq!(ops.known(3), Known::Open, "it is expected no more");
        assert_eq!(ops.done(), 2);
    }

    /// A process that ended between the copy and the note of how far it had come.
    #[test]
    fn what_settles_a_half_message_settles_its_copy_too() {
        let mut ops = Ops::new(0);
        ops.expect(6, 3);
        ops.add(0, [3].into_iter(), 3);
        assert!(ops.take(3));
        assert_eq!((ops.known(3), ops.done()), (Known::Settled, 0));
        ops.leave(6);
        assert_eq!((ops.known(3), ops.done()), (Known::Open, 1));
    }

    #[test]
    fn of_more_copies_than_one_the_last_counts() {
        let mut ops = Ops::new(0);
        ops.expect(6, 3);
        ops.expect(7, 3);
        assert_eq!(ops.known(3), Known::Copied);
        ops.leave(6);
        assert_eq!(ops.known(3), Known::Open);
        // It is put again while it is looked at.
        ops.expect(9, 3);
        ops.leave(7);
        ops.add(0, [3].into_iter(), 9);
        assert_eq!((ops.known(3), ops.done()), (Known::Settled, 0));
        ops.leave(9);
        assert_eq!(ops.done(), 1);
    }

    #[test]
    fn a_copy_that_was_settled_by_its_own_place_stands_for_no_other() {
        let mut ops = Ops::new(0);
        ops.expect(6, 3);
        ops.expect(7, 3);
        ops.add(0, [6].into_iter(), 5);
        assert!(!ops.take(7), "it is still ahead");
        assert_eq!(ops.known(3), Known::Copied);
        assert!(ops.take(6));
        assert_eq!((ops.known(3), ops.done()), (Known::Open, 1));
        ops.expect(9, 3);
        ops.pass_below(8);
        assert_eq!(ops.known(3), Known::Open, "nor does one that is deleted");
    }
}

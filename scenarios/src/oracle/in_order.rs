//! What members of a group do with a queue: who consumes it, from where, and in which order.
//!
//! ORDER (in order): a message is begun when every one before it in its queue has been consumed, by whomever; and two members
//! are not at one queue at once while the broker that has given the lock lives.
//! I16: a group is not given again what its broker has on record as consumed. Judged where one member alone can have put the
//! offset there, and back: where whoever else was ever at the queue had been dead for long when that member came to it.
//!
//! Queues are from their first message on, without filters; records are not lost by a process that dies.
//!
//! # Source
//! `spec/client-semantics.md`, 3.8 and 8.1; `spec/broker-semantics.md`, section 17; `spec/known-bugs.md`, O-06 and O-08.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Verdict};
use crate::history::{History, Outcome, Place};
use crate::workload::MessageId;

/// A lock counts in its holder for so long; from when it was given the holder may begin to consume.
pub const LOCK_LIFE_MS: u64 = 30_000;

/// What a process has sent before its end has arrived after this.
const LAST_WORDS_MS: u64 = 10_000;

/// One life of one consumer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    pub consumer: u32,
    pub life: u64,
}

/// A listener that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Running {
    member: Member,
    queue_offset: i64,
    begun_ms: u64,
}

#[derive(Default, Debug)]
struct Queue {
    /// Consumed messages, each with the number of the turn that did it last.
    done: BTreeMap<(i64, MessageId), u64>,
    /// Everything below was consumed.
    consumed_upto: i64,
    turns: u64,
    /// Who is at it, its first turn, and when that was.
    at_it: Option<(Member, u64, u64)>,
    /// Whoever was ever at it.
    members: BTreeSet<Member>,
    running: Vec<Running>,
}

/// A queue of a broker, as a group has it.
pub type Share = (String, String, String, i32);

#[derive(Default, Debug)]
pub struct Turns {
    queues: BTreeMap<Share, Queue>,
}

/// The queue of that place.
#[must_use]
pub fn share(group: &str, place: &Place) -> Share {
    (group.to_owned(), place.broker.clone(), place.topic.clone(), place.queue)
}

/// What is known of the world when a listener is called.
pub struct Begin<'a> {
    pub now_ms: u64,
    pub member: Member,
    pub group: &'a str,
    pub place: &'a Place,
    pub message: MessageId,
    pub in_order: bool,
    /// When that life of a consumer has ended.
    pub died_ms: &'a dyn Fn(Member) -> Option<u64>,
    /// Whether a process of the queue's broker has ended since then.
    pub broker_ended_since: &'a dyn Fn(u64) -> bool,
    /// What the broker's file has for the queue.
    pub on_record: &'a dyn Fn() -> Option<i64>,
}

impl Turns {
    /// A listener is called.
    ///
    /// # Errors
    /// The broken promise.
    pub fn begins(&mut self, begin: &Begin<'_>) -> Verdict {
        let queue = self.queues.entry(share(begin.group, begin.place)).or_default();
        queue.running.retain(|running| (begin.died_ms)(running.member).is_none());
        let verdict = queue.judge(begin);
        queue.turns += 1;
        if queue.at_it.is_none_or(|(member, ..)| member != begin.member) {
            queue.at_it = Some((begin.member, queue.turns, begin.now_ms));
        }
        queue.members.insert(begin.member);
        let (member, queue_offset) = (begin.member, begin.place.queue_offset);
        queue.running.push(Running { member, queue_offset, begun_ms: begin.now_ms });
        verdict
    }

    /// A listener has come back; the message is consumed, or it has failed with it.
    pub fn ends(&mut self, group: &str, member: Member, place: &Place, message: MessageId, consumed: bool) {
        let queue = self.queues.entry(share(group, place)).or_default();
        let is_it =
            |running: &Running| (running.member, running.queue_offset) == (member, place.queue_offset);
        if let Some(at) = queue.running.iter().position(is_it) {
            queue.running.remove(at);
        }
        if consumed {
            let at = place.queue_offset;
            queue.done.insert((at, message), queue.turns);
            while queue
                .done
                .range((queue.consumed_upto, MessageId(0))..)
                .next()
                .is_some_and(|((offset, _), _)| *offset == queue.consumed_upto)
            {
                queue.consumed_upto += 1;
            }
        }
    }
}

impl Queue {
    fn judge(&self, begin: &Begin<'_>) -> Verdict {
        let Begin { place, member, group, message, .. } = begin;
        let at = place.queue_offset;
        let of = || format!("{group}: {} queue {} of {}", place.topic, place.queue, place.broker);
        let broken = |promise, what: String| Err(Broken::new(promise, format!("{}: {what}", of())));
        if begin.in_order && at > self.consumed_upto {
            return broken(
                "ORDER",
                format!(
                    "{member:?} begins message {} at offset {at}, and offset {} is not consumed",
                    message.0, self.consumed_upto
                ),
            );
        }
        let other = self.running.iter().find(|running| begin.in_order && running.member != *member);
        if let Some(other) = other
            && !(begin.broker_ended_since)(other.begun_ms.saturating_sub(LOCK_LIFE_MS))
        {
            let Running { member: holder, queue_offset, begun_ms } = other;
            return broken(
                "ORDER",
                format!(
                    "{member:?} begins offset {at} while {holder:?} is at offset {queue_offset} since {begun_ms} ms"
                ),
            );
        }
        if begin.in_order && self.running.iter().any(|running| running.member == *member) {
            return broken("ORDER", format!("{member:?} begins offset {at} beside another message"));
        }
        let is_gone = |other: &Member, by_ms: u64| {
            other == member || (begin.died_ms)(*other).is_some_and(|died_ms| died_ms + LAST_WORDS_MS < by_ms)
        };
        let alone_since = self.at_it.filter(|(at_it, _, since_ms)| {
            at_it == member && self.members.iter().all(|other| is_gone(other, *since_ms))
        });
        let alone_since = alone_since.map(|(_, turn, _)| turn);
        let done = self.done.get(&(at, *message));
        if let (Some(since), Some(turn)) = (alone_since, done)
            && *turn >= since
            && let Some(on_record) = (begin.on_record)().filter(|on_record| *on_record > at)
        {
            return broken(
                "I16",
                format!(
                    "{member:?} is given message {} at offset {at} again, and the broker's file says {on_record}",
                    message.0
                ),
            );
        }
        Ok(())
    }
}

/// The messages of each key, in the order of their acknowledgements, are first consumed in that order by each group.
/// `key_of`: none for a message without a key.
///
/// # Errors
/// The first pair that is the wrong way round.
pub fn by_key(
    history: &History,
    group: &str,
    consumed: &BTreeMap<MessageId, u64>,
    key_of: impl Fn(MessageId) -> Option<u64>,
) -> Verdict {
    let mut keys: BTreeMap<(&str, u64), Vec<(u64, MessageId)>> = BTreeMap::new();
    for (id, sent) in &history.sends {
        let (Some(key), Outcome::Acked { .. }, Some(ended_ms)) = (key_of(*id), &sent.outcome, sent.ended_ms)
        else {
            continue;
        };
        keys.entry((&sent.topic, key)).or_default().push((ended_ms, *id));
    }
    for ((topic, key), mut messages) in keys {
        messages.sort_unstable();
        let mut last: Option<(u64, MessageId)> = None;
        for (_, id) in messages {
            let Some(turn) = consumed.get(&id).copied() else { continue };
            if let Some((before, earlier)) = last.filter(|(before, _)| *before > turn) {
                let detail = format!(
                    "{group}: message {} of key {key} in {topic} was consumed as number {turn}, and {}, acknowledged before it, as \
                     number {before}",
                    id.0, earlier.0
                );
                return Err(Broken::new("ORDER", detail));
            }
            last = Some((turn, id));
        }
    }
    Ok(())
}

/// In whose hands a queue is when all have settled: one member's of each group.
///
/// # Errors
/// The first queue that nobody holds, or more than one.
pub fn one_holder(expected: impl IntoIterator<Item = Share>, holders: &BTreeMap<Share, Vec<u32>>) -> Verdict {
    for share in expected {
        let found = holders.get(&share).map_or(&[][..], Vec::as_slice);
        if found.len() != 1 {
            let (group, broker, topic, queue) = share;
            let detail = format!(
                "{group}: {topic} queue {queue} of {broker} is held by the consumers {found:?} of a settled cluster"
            );
            return Err(Broken::new("SHARE", detail));
        }
    }
    Ok(())
}

/// What a settled group was given, each message with the consumers that were given it: once, and by the one that holds its queue.
///
/// # Errors
/// The first message that was given twice, or to somebody else.
pub fn given_once(
    group: &str,
    given: &BTreeMap<MessageId, Vec<(u32, Place)>>,
    holders: &BTreeMap<Share, Vec<u32>>,
) -> Verdict {
    for (id, times) in given {
        let right = |(consumer, place): &(u32, Place)| {
            holders.get(&share(group, place)).is_some_and(|held_by| held_by.contains(consumer))
        };
        if times.len() != 1 || !times.iter().all(right) {
            let to: Vec<u32> = times.iter().map(|(consumer, _)| *consumer).collect();
            let detail =
                format!("{group}: message {} of a settled cluster was given to the consumers {to:?}", id.0);
            return Err(Broken::new("SHARE", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{ack, place};

    const A: Member = Member { consumer: 0, life: 1 };
    const B: Member = Member { consumer: 1, life: 1 };

    struct World {
        turns: Turns,
        ended_ms: Option<u64>,
        dead: Option<(Member, u64)>,
        on_record: Option<i64>,
        in_order: bool,
        now_ms: u64,
    }

    impl World {
        fn new(in_order: bool) -> World {
            let turns = Turns::default();
            World { turns, ended_ms: None, dead: None, on_record: None, in_order, now_ms: 100_000 }
        }

        fn begins(&mut self, member: Member, at: i64) -> Verdict {
            self.now_ms += 10;
            self.turns.begins(&Begin {
                now_ms: self.now_ms,
                member,
                group: "g",
                place: &place(at),
                message: MessageId(at as u64 + 1),
                in_order: self.in_order,
                died_ms: &|member| self.dead.filter(|(dead, _)| *dead == member).map(|(_, at_ms)| at_ms),
                broker_ended_since: &|since_ms| self.ended_ms.is_some_and(|at_ms| at_ms >= since_ms),
                on_record: &|| self.on_record,
            })
        }

        fn ends(&mut self, member: Member, at: i64, consumed: bool) {
            self.turns.ends("g", member, &place(at), MessageId(at as u64 + 1), consumed);
        }

        fn consumes(&mut self, member: Member, at: i64) -> Verdict {
            let verdict = self.begins(member, at);
            self.ends(member, at, true);
            verdict
        }
    }

    #[test]
    fn a_message_before_whose_turn_another_has_failed_is_rejected() {
        let mut world = World::new(true);
        assert_eq!(world.consumes(A, 0), Ok(()));
        assert_eq!(world.begins(A, 1), Ok(()));
        world.ends(A, 1, false);
        assert!(world.begins(A, 2).is_err_and(|broken| broken.promise == "ORDER"));
        let mut world = World::new(false);
        assert_eq!(world.consumes(A, 2), Ok(()), "side by side anything goes");
    }

    #[test]
    fn what_was_consumed_may_come_again_from_any_place_and_go_on_in_order() {
        let mut world = World::new(true);
        for at in 0..3 {
            assert_eq!(world.consumes(A, at), Ok(()));
        }
        for at in 1..4 {
            assert_eq!(world.consumes(B, at), Ok(()));
        }
        assert_eq!(world.consumes(A, 4), Ok(()));
        assert!(world.begins(A, 6).is_err());
    }

    #[test]
    fn two_members_at_one_queue_are_rejected_unless_the_broker_has_forgotten_its_locks_or_one_is_dead() {
        let mut world = World::new(true);
        assert_eq!(world.begins(A, 0), Ok(()));
        assert!(world.begins(B, 0).is_err_and(|broken| broken.promise == "ORDER"));
        let mut world = World::new(true);
        assert_eq!(world.begins(A, 0), Ok(()));
        world.ended_ms = Some(world.now_ms - LOCK_LIFE_MS - 1);
        assert!(world.begins(B, 0).is_err(), "A had its lock of the broker that lives");
        let mut world = World::new(true);
        assert_eq!(world.begins(A, 0), Ok(()));
        world.ended_ms = Some(world.now_ms - LOCK_LIFE_MS);
        assert_eq!(world.begins(B, 0), Ok(()));
        let mut world = World::new(true);
        assert_eq!(world.begins(A, 0), Ok(()));
        world.dead = Some((A, world.now_ms));
        assert_eq!(world.begins(B, 0), Ok(()));
        assert!(world.begins(B, 0).is_err(), "nor one member twice");
    }

    #[test]
    fn what_is_on_record_as_consumed_is_not_given_again_to_who_consumed_it() {
        let mut world = World::new(false);
        assert_eq!(world.consumes(A, 0), Ok(()));
        world.on_record = Some(0);
        assert_eq!(world.consumes(A, 0), Ok(()), "it was not on record");
        world.on_record = Some(1);
        assert_eq!(world.consumes(B, 0), Ok(()), "B may not know yet");
        assert_eq!(world.consumes(B, 0), Ok(()), "A lives, and may have put it forth and back");
        let mut world = World::new(false);
        assert_eq!(world.consumes(A, 0), Ok(()));
        world.on_record = Some(1);
        world.dead = Some((A, world.now_ms - 10_000));
        assert_eq!(world.consumes(B, 0), Ok(()));
        assert!(world.begins(B, 0).is_err_and(|broken| broken.promise == "I16"));
        world.dead = Some((A, world.now_ms - 100));
        assert_eq!(world.begins(B, 0), Ok(()), "A's last words may have come later");
        let mut world = World::new(false);
        assert_eq!(world.consumes(A, 0), Ok(()));
        world.on_record = Some(1);
        assert!(world.begins(A, 0).is_err(), "nobody else was ever there");
    }

    #[test]
    fn messages_of_one_key_that_are_consumed_the_wrong_way_round_are_rejected() {
        let mut history = History::default();
        ack(&mut history, 1, 10, place(0));
        ack(&mut history, 2, 20, place(1));
        let judge = |turns: [u64; 2], key: &dyn Fn(MessageId) -> Option<u64>| {
            let consumed = BTreeMap::from([(MessageId(1), turns[0]), (MessageId(2), turns[1])]);
            by_key(&history, "g", &consumed, key)
        };
        assert_eq!(judge([1, 2], &|_| Some(7)), Ok(()));
        assert!(judge([2, 1], &|_| Some(7)).is_err_and(|broken| broken.promise == "ORDER"));
        assert_eq!(judge([2, 1], &|id| Some(id.0)), Ok(()));
        assert_eq!(judge([2, 1], &|_| None), Ok(()));
    }

    #[test]
    fn a_queue_without_one_holder_and_a_message_given_twice_or_to_a_stranger_are_rejected() {
        let of = share("g", &place(0));
        let held = |by: &[u32]| BTreeMap::from([(of.clone(), by.to_vec())]);
        let expected = || [of.clone()];
        assert_eq!(one_holder(expected(), &held(&[1])), Ok(()));
        for by in [&[][..], &[1, 2]] {
            assert!(one_holder(expected(), &held(by)).is_err_and(|broken| broken.promise == "SHARE"));
        }
        assert!(one_holder(expected(), &BTreeMap::new()).is_err());
        let given = |to: &[u32]| {
            let times = to.iter().map(|consumer| (*consumer, place(0))).collect();
            given_once("g", &BTreeMap::from([(MessageId(1), times)]), &held(&[1]))
        };
        assert_eq!(given(&[1]), Ok(()));
        assert!(given(&[1, 1]).is_err() && given(&[2]).is_err() && given(&[1, 2]).is_err());
    }
}

//! What clients saw: for each message whether its send was started, acknowledged, refused or of unknown outcome, and what
//! consumers received. Oracles judge this against the disks; nothing here knows how a broker works.
//!
//! An unknown outcome stays unknown: the message may be there once, several times, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::workload::{Kind, MessageId};

/// A send has an outcome by then.
const SEND_TIMEOUT_MS: u64 = 3_000;
/// A send that took no longer was tried once.
const ONE_TRY_MS: u64 = 1_000;

/// Where an acknowledgement or a delivery says a message is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    pub queue_offset: i64,
    /// Start of the record in the CommitLog, when the answer says it.
    pub physical_offset: Option<u64>,
}

impl Place {
    /// The slot that at most one message may ever have been shown in.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot {
            broker: self.broker.clone(),
            topic: self.topic.clone(),
            queue: self.queue,
            queue_offset: self.queue_offset,
        }
    }
}

/// One position of one queue of one broker.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot {
    pub broker: String,
    pub topic: String,
    pub queue: i32,
    pub queue_offset: i64,
}

/// A message that a producer or a consumer was told stands at a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    pub message: MessageId,
    /// When first.
    pub at_ms: u64,
    /// A consumer has received it from there.
    pub delivered: bool,
}

/// What the broker's answer said about the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// SEND_OK: as durable as the setting says.
    Ok,
    /// Stored; no more is said (FLUSH_DISK_TIMEOUT and its kin).
    StoredOnly,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Still on its way.
    Started,
    Acked {
        place: Place,
        status: Status,
    },
    /// Not stored, says the answer.
    Refused {
        code: i32,
    },
    Unknown,
    /// One-way: nobody answers.
    Unanswered,
}

/// One message that a client began to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub topic: String,
    pub kind: Kind,
    pub wait: bool,
    pub body_bytes: usize,
    pub filler_bytes: usize,
    /// It is to be delivered so long after it is stored.
    pub delay_ms: u64,
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    pub outcome: Outcome,
}

/// One message that a consumer was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub at_ms: u64,
    pub group: String,
    pub message: MessageId,
    pub place: Place,
    /// How often it had been tried before.
    pub reconsume_times: i32,
}

/// A node's clock was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockJump {
    pub node: String,
    pub at_ms: u64,
    pub by_ms: i64,
}

/// What a local transaction has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    Commit,
    Rollback,
}

/// A transaction as its producers know it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Transaction {
    pub decided: Option<Decision>,
    /// How often a broker was told to commit, or is about to be.
    pub commits_said: usize,
    pub rollbacks_said: usize,
    /// How often a producer was asked about it.
    pub asked: u32,
}

/// When a machine's unflushed bytes were lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PowerLoss {
    pub node: String,
    pub at_ms: u64,
}

/// When a broker's process died without having stopped in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Death {
    pub node: String,
    pub at_ms: u64,
}

/// A time in which a node could not do its usual work: its disk or its process was struck.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    pub node: String,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// An operator has asked a broker to delete a topic: one request of perhaps several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deletion {
    pub broker: String,
    pub topic: String,
    pub asked_ms: u64,
    /// It was answered that the topic is deleted.
    pub done: bool,
    /// What is sent later it does not take: from its answer on, or, where none has come, from when nobody can have it any more.
    pub until_ms: u64,
    /// If it is done, nothing that the log has of the topic below this is seen again. As far as is known it ended there when
    /// the request was sent; a recovery that cuts the log cuts this too.
    pub below: u64,
}

/// What an acknowledgement is worth. With the transient store pool even the lower one holds only once the commit service
/// has come by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Promise {
    /// Survives the death of the process.
    ProcessCrash,
    /// Survives a loss of power as well.
    PowerLoss,
}

/// What SEND_OK promises: a synchronous flush holds the answer back until the record is durable, unless the message
/// waives it; everything else is safe in the page cache only. FLUSH_DISK_TIMEOUT promises no more than that.
///
/// # Source
/// `spec/store.md`, section 11.
#[must_use]
pub fn promise(sync_flush: bool, wait: bool, status: Status) -> Promise {
    if sync_flush && wait && status == Status::Ok { Promise::PowerLoss } else { Promise::ProcessCrash }
}

#[derive(Clone, Default, Debug)]
pub struct History {
    pub sends: BTreeMap<MessageId, Sent>,
    pub transactions: BTreeMap<MessageId, Transaction>,
    pub deliveries: Vec<Delivery>,
    pub power_losses: Vec<PowerLoss>,
    pub troubles: Vec<Trouble>,
    /// Of brokers alone.
    pub deaths: Vec<Death>,
    /// When the first fault began under which what one process tells another may go unheard while both live.
    pub muffled_ms: Option<u64>,
    /// When brokers have given up half messages, by broker and by where the log holds them now.
    pub discards: BTreeMap<(String, u64), u64>,
    /// Times in which a process stood still.
    pub pauses: Vec<Trouble>,
    pub clock_jumps: Vec<ClockJump>,
    /// Times in which a node's file system could not be written.
    pub read_only: Vec<Trouble>,
    /// How often each broker was started on what no stop in order had left.
    pub unclean_starts: BTreeMap<String, usize>,
    /// By broker: below it the log was deleted, under the eyes of I13.
    pub deleted: BTreeMap<String, u64>,
    /// By broker: below it the broker has begun to delete; a crash may bring the last such file back.
    pub deleting: BTreeMap<String, u64>,
    /// The messages shown at each slot, in the order shown; more than one is a broken promise or a loss of power.
    pub shown: BTreeMap<Slot, Vec<Shown>>,
    /// Highest queue offset that each group has received, by broker, topic and queue.
    pub highest: BTreeMap<(String, String, String, i32), i64>,
    /// Sends that were answered FLUSH_SLAVE_TIMEOUT, and SLAVE_NOT_AVAILABLE.
    pub slave_timeouts: u64,
    pub slaves_missing: u64,
    /// Slaves that have found that their masters' histories are others.
    pub diverged: BTreeSet<String>,
    /// What was answered SEND_OK and is not there at the end, excused or not.
    pub lost: Vec<MessageId>,
    /// In the order in which they were asked for.
    pub deletions: Vec<Deletion>,
    /// Topics that an operator has tried to make without an answer: by name, and when.
    pub half_made: Vec<(String, u64)>,
    /// Distinct messages delivered to each group.
    pub delivered: BTreeMap<String, BTreeMap<MessageId, u64>>,
}

impl History {
    pub fn started(&mut self, id: MessageId, sent: Sent) {
        let before = self.sends.insert(id, sent);
        assert!(before.is_none(), "message {} is sent twice by the workload", id.0);
    }

    pub fn ended(&mut self, id: MessageId, at_ms: u64, outcome: Outcome) {
        if let Outcome::Acked { place, .. } = &outcome {
            self.show(place.slot(), id, at_ms, false);
        }
        let sent = self.sends.get_mut(&id).expect("an operation ends after it has started");
        sent.ended_ms = Some(at_ms);
        sent.outcome = outcome;
    }

    /// What is known of a transaction; of one that never was, nothing.
    #[must_use]
    pub fn transaction(&self, id: MessageId) -> Transaction {
        self.transactions.get(&id).copied().unwrap_or_default()
    }

    /// A local transaction has come to an end; what was decided stays.
    pub fn decided(&mut self, id: MessageId, decision: Decision) {
        self.transactions.entry(id).or_default().decided.get_or_insert(decision);
    }

    /// A producer tells a broker; `None`: that it does not know.
    pub fn says(&mut self, id: MessageId, decision: Option<Decision>) {
        let transaction = self.transactions.entry(id).or_default();
        match decision {
            Some(Decision::Commit) => transaction.commits_said += 1,
            Some(Decision::Rollback) => transaction.rollbacks_said += 1,
            None => {}
        }
    }

    /// A producer was asked; answers how often by now.
    pub fn asked(&mut self, id: MessageId) -> u32 {
        let transaction = self.transactions.entry(id).or_default();
        transaction.asked += 1;
        transaction.asked
    }

    pub fn delivered(&mut self, delivery: Delivery) {
        self.show(delivery.place.slot(), delivery.message, delivery.at_ms, true);
        let Place { broker, topic, queue, queue_offset, .. } = delivery.place.clone();
        let highest =
            self.highest.entry((delivery.group.clone(), broker, topic, queue)).or_insert(queue_offset);
        *highest = queue_offset.max(*highest);
        let group = self.delivered.entry(delivery.group.clone()).or_default();
        group.entry(delivery.message).or_insert(delivery.at_ms);
        self.deliveries.push(delivery);
    }

    /// The process that sent these has died: nobody waits for their answers any more.
    pub fn abandoned(&mut self, mine: impl Fn(MessageId) -> bool) {
        for (id, sent) in &mut self.sends {
            if sent.outcome == Outcome::Started && mine(*id) {
                sent.outcome = Outcome::Unknown;
            }
        }
    }

    fn show(&mut self, slot: Slot, message: MessageId, at_ms: u64, delivered: bool) {
        let shown = self.shown.entry(slot).or_default();
        match shown.iter_mut().find(|shown| shown.message == message) {
            Some(again) => again.delivered |= delivered,
            None => shown.push(Shown { message, at_ms, delivered }),
        }
    }

    /// Another machine is that broker now, and has of its log what `is_there` says. What it lacks is as if nobody had been
    /// told of it, but for those who count what is lost; what it has was flushed by its start.
    pub fn inherited(&mut self, broker: &str, is_there: impl Fn(MessageId, &Place) -> bool) {
        for (id, sent) in &mut self.sends {
            if let Outcome::Acked { place, status } = &sent.outcome
                && place.broker == broker
                && !is_there(*id, place)
            {
                if *status == Status::Ok && sent.wait {
                    self.lost.push(*id);
                }
                sent.outcome = Outcome::Unknown;
            }
        }
        let is_kept = |id: MessageId, place: &Place| place.broker != broker || is_there(id, place);
        self.deliveries.retain(|delivery| is_kept(delivery.message, &delivery.place));
        for (slot, shown) in &mut self.shown {
            let Slot { broker, topic, queue, queue_offset } = slot.clone();
            let place = Place { broker, topic, queue, queue_offset, physical_offset: None };
            shown.retain(|shown| is_kept(shown.message, &place));
        }
        self.shown.retain(|_, shown| !shown.is_empty());
        // Consumers begin anew where they have committed.
        self.highest.retain(|(_, of, ..), _| of != broker);
        self.power_losses.retain(|loss| loss.node != broker);
    }

    /// Whether `node` lost power at or after `from_ms`.
    #[must_use]
    pub fn lost_power_since(&self, node: &str, from_ms: u64) -> bool {
        self.power_losses.iter().any(|loss| loss.node == node && loss.at_ms >= from_ms)
    }

    /// Whether a loss of power may have taken what `node` was given between `from_ms` and `to_ms` and has not promised to
    /// flush before `durable_ms`: the power went before that, or flushes were held up meanwhile and it went later.
    #[must_use]
    pub fn may_have_lost(&self, node: &str, from_ms: u64, durable_ms: u64) -> bool {
        let before = |loss: &PowerLoss| loss.node == node && (from_ms..=durable_ms).contains(&loss.at_ms);
        let held_up = |trouble: &Trouble| {
            trouble.node == node && trouble.from_ms <= durable_ms && trouble.to_ms >= from_ms
        };
        self.power_losses.iter().any(before)
            || (self.troubles.iter().any(held_up) && self.lost_power_since(node, from_ms))
    }

    /// Whether the death of its process may have taken what `node` was given from `from_ms` on and has promised to commit
    /// `within_ms` after `acked_ms`: it died before that, or stood still meanwhile and died before it had caught up.
    #[must_use]
    pub fn may_have_lost_uncommitted(
        &self,
        node: &str,
        (from_ms, acked_ms): (u64, u64),
        within_ms: u64,
    ) -> bool {
        let committed_ms = acked_ms + within_ms;
        let held_up =
            |pause: &&Trouble| pause.node == node && pause.from_ms <= committed_ms && pause.to_ms >= from_ms;
        let caught_up_ms = self.pauses.iter().filter(held_up).map(|pause| pause.to_ms + within_ms).max();
        let at_risk = from_ms..=caught_up_ms.unwrap_or(0).max(committed_ms);
        self.deaths.iter().any(|death| death.node == node && at_risk.contains(&death.at_ms))
    }

    /// Where the log of `broker` may begin, for all that was deleted of it.
    #[must_use]
    pub fn deleted(&self, broker: &str) -> u64 {
        self.deleted.get(broker).copied().unwrap_or(0)
    }

    /// Whether the record at that place was in a file that was deleted.
    #[must_use]
    pub fn is_deleted(&self, place: &Place) -> bool {
        place.physical_offset.is_some_and(|at| at < self.deleted(&place.broker))
    }

    /// Whether a deletion of its topic may have taken a message: it was not sent after that had come to its end.
    #[must_use]
    pub fn may_be_dropped(&self, broker: &str, topic: &str, id: MessageId) -> bool {
        let Some(sent) = self.sends.get(&id) else { return false };
        let takes = |deletion: &Deletion| {
            deletion.broker == broker && deletion.topic == topic && sent.started_ms <= deletion.until_ms
        };
        self.deletions.iter().any(takes)
    }

    /// Whether a broker may be about to delete the topic.
    #[must_use]
    pub fn is_deleting(&self, broker: &str, topic: &str, at_ms: u64) -> bool {
        let is_open = |deletion: &Deletion| {
            deletion.broker == broker && deletion.topic == topic && at_ms <= deletion.until_ms
        };
        self.deletions.iter().any(is_open)
    }

    /// A broker has recovered, and its log ends at `end`: other records will stand behind it.
    pub fn log_was_cut(&mut self, broker: &str, end: u64) {
        for deletion in self.deletions.iter_mut().filter(|deletion| deletion.broker == broker) {
            deletion.below = deletion.below.min(end);
        }
    }

    /// Below it nothing of the topic is seen again; 0 where it was never deleted.
    #[must_use]
    pub fn dropped_below(&self, broker: &str, topic: &str) -> u64 {
        let of_topic =
            |deletion: &&Deletion| deletion.done && deletion.broker == broker && deletion.topic == topic;
        self.deletions.iter().filter(of_topic).map(|deletion| deletion.below).max().unwrap_or(0)
    }

    /// Whether a request that makes the topic may still be on its way at or after `at_ms`: a send, or an operator's own. One
    /// without an answer may be met until `linger_ms` later, and so may the first try of one that took long.
    #[must_use]
    pub fn may_be_made(&self, topic: &str, at_ms: u64, linger_ms: u64) -> bool {
        let lingers = |sent: &Sent| {
            let ended_ms = match (&sent.outcome, sent.ended_ms) {
                (Outcome::Started, _) => return true,
                (_, ended_ms) => ended_ms.unwrap_or(sent.started_ms + SEND_TIMEOUT_MS),
            };
            let is_known = matches!(sent.outcome, Outcome::Acked { .. } | Outcome::Refused { .. });
            let is_quick = is_known && ended_ms - sent.started_ms <= ONE_TRY_MS;
            ended_ms + if is_quick { 0 } else { linger_ms } >= at_ms
        };
        let half_made = |(name, made_ms): &(String, u64)| name == topic && made_ms + linger_ms >= at_ms;
        self.half_made.iter().any(half_made)
            || self.sends.values().filter(|sent| sent.topic == topic).any(lingers)
    }

    #[must_use]
    pub fn acked(&self) -> usize {
        self.sends.values().filter(|sent| matches!(sent.outcome, Outcome::Acked { .. })).count()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A place in queue 0 of `topic-0` of `broker-a`.
    #[must_use]
    pub fn place(queue_offset: i64) -> Place {
        Place {
            broker: "broker-a".into(),
            topic: "topic-0".into(),
            queue: 0,
            queue_offset,
            physical_offset: None,
        }
    }

    /// A message of 40 bytes that was sent at `started_ms` and waits for the flush.
    #[must_use]
    pub fn sent(started_ms: u64) -> Sent {
        Sent {
            topic: "topic-0".into(),
            kind: Kind::Single,
            wait: true,
            body_bytes: 40,
            filler_bytes: 0,
            delay_ms: 0,
            started_ms,
            ended_ms: None,
            outcome: Outcome::Started,
        }
    }

    pub fn ack(history: &mut History, id: u64, at_ms: u64, place: Place) {
        history.started(MessageId(id), sent(at_ms.saturating_sub(5)));
        history.ended(MessageId(id), at_ms, Outcome::Acked { place, status: Status::Ok });
    }

    pub fn deliver(history: &mut History, id: u64, at_ms: u64, place: Place) {
        let message = MessageId(id);
        history.delivered(Delivery { at_ms, group: "group-0".into(), message, place, reconsume_times: 0 });
    }

    #[test]
    fn a_death_takes_what_was_not_committed_and_a_pause_puts_the_commit_off() {
        let death = |at_ms| Death { node: "broker-a".into(), at_ms };
        let mut history = History { deaths: vec![death(500)], ..History::default() };
        let lost = |history: &History, acked_ms| {
            history.may_have_lost_uncommitted("broker-a", (acked_ms - 5, acked_ms), 200)
        };
        assert!(lost(&history, 300) && lost(&history, 500));
        assert!(!lost(&history, 299) && !lost(&history, 506));
        assert!(!history.may_have_lost_uncommitted("broker-b", (295, 300), 200));
        history.pauses.push(Trouble { node: "broker-a".into(), from_ms: 250, to_ms: 310 });
        assert!(lost(&history, 100));
        assert!(!lost(&history, 49));
        history.deaths = vec![death(511)];
        assert!(!lost(&history, 100));
    }

    #[test]
    fn only_a_waited_for_synchronous_flush_promises_to_survive_a_power_loss() {
        assert_eq!(promise(true, true, Status::Ok), Promise::PowerLoss);
        assert_eq!(promise(true, false, Status::Ok), Promise::ProcessCrash);
        assert_eq!(promise(true, true, Status::StoredOnly), Promise::ProcessCrash);
        assert_eq!(promise(false, true, Status::Ok), Promise::ProcessCrash);
    }
}

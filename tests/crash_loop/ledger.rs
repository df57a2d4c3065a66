//! What is known of every message, and what a broker that was killed must have of it.
//!
//! A message is acknowledged at one place, refused, or of unknown outcome; what a reader was shown stays at its place.
//! Whoever finds the queues after a kill holds them against all of that, and what is gone by then must stay gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};

/// A queue and an offset in it.
pub type Place = (i32, i64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Not answered, or not clearly.
    Unknown,
    /// Stored there, said the broker so long after the loop's start.
    Acknowledged { offset: i64, at: Duration, copies: Copies },
    /// Not stored, and it never will be.
    Refused,
    /// It was not there after a kill.
    Gone,
}

/// How many brokers have a message, says its acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// As many as its settings ask for.
    All,
    /// The master, and no slave or nobody knows.
    One,
}

/// What a kill may have taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MayLose {
    Nothing,
    /// What was acknowledged since then.
    Since(Duration),
    /// What a slave was not known to have.
    OneCopy,
}

impl MayLose {
    fn excuses(self, at: Duration, copies: Copies) -> bool {
        match self {
            MayLose::Nothing => false,
            MayLose::Since(since) => at >= since,
            MayLose::OneCopy => copies == Copies::One,
        }
    }
}

#[derive(Default)]
pub struct Ledger {
    /// The queue of each message, and its fate, by its number.
    messages: BTreeMap<u64, (i32, Fate)>,
    /// What readers were shown.
    shown: BTreeMap<Place, u64>,
}

/// What a kill has cost.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Messages found.
    pub kept: usize,
    /// Acknowledged messages that are gone, as the mode allows.
    pub lost: usize,
    /// How long before the kill the oldest of them was acknowledged.
    pub oldest: Duration,
}

impl Ledger {
    pub fn sent(&mut self, id: u64, queue: i32) {
        self.messages.insert(id, (queue, Fate::Unknown));
    }

    pub fn acknowledged(&mut self, id: u64, offset: i64, at: Duration, copies: Copies) {
        self.end(id, Fate::Acknowledged { offset, at, copies });
    }

    pub fn refused(&mut self, id: u64) {
        self.end(id, Fate::Refused);
    }

    fn end(&mut self, id: u64, fate: Fate) {
        self.messages.get_mut(&id).expect("a message is sent before it is answered").1 = fate;
    }

    /// How many messages are acknowledged as one copy or as all.
    pub fn acknowledgements(&self, wanted: Copies) -> usize {
        let is_wanted = |fate: &Fate| matches!(fate, Fate::Acknowledged { copies, .. } if *copies == wanted);
        self.messages.values().filter(|(_, fate)| is_wanted(fate)).count()
    }

    /// A reader was given a message.
    ///
    /// # Errors
    /// When another one was shown there, or nobody sent it there.
    pub fn shown(&mut self, place: Place, id: u64) -> Result<()> {
        self.belongs(place, id)?;
        let first = *self.shown.entry(place).or_insert(id);
        ensure!(first == id, "queue {} offset {} was message {first} and is message {id}", place.0, place.1);
        Ok(())
    }

    fn belongs(&self, place: Place, id: u64) -> Result<()> {
        let known = self.messages.get(&id);
        let Some((queue, fate)) = known else { anyhow::bail!("message {id} at {place:?} was never sent") };
        ensure!(*queue == place.0, "message {id} was sent to queue {queue} and is at {place:?}");
        ensure!(*fate != Fate::Refused, "message {id} at {place:?} was refused");
        ensure!(*fate != Fate::Gone, "message {id} at {place:?} was gone after an earlier kill");
        Ok(())
    }

    /// Holds all that a broker has after a kill, by place, against what is known. What it does not have is gone for good.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn judge(
        &mut self,
        found: &BTreeMap<Place, u64>,
        killed_at: Duration,
        may_lose: MayLose,
    ) -> Result<Cost> {
        let (cost, gone) = self.check(found, killed_at, may_lose)?;
        for id in gone {
            self.end(id, Fate::Gone);
        }
        self.shown = found.clone();
        Ok(cost)
    }

    /// As [`Ledger::judge`], of a broker whose word is not the last: another one may have more. Gives the cost if it had to
    /// go on alone, and what would be gone.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(
        &self,
        found: &BTreeMap<Place, u64>,
        killed_at: Duration,
        may_lose: MayLose,
    ) -> Result<(Cost, Vec<u64>)> {
        let ids = self.whole(found)?;
        for (place, id) in &self.shown {
            let now = found.get(place);
            ensure!(now == Some(id), "{place:?} was shown to hold message {id} and now has {now:?}");
        }
        let mut cost = Cost { kept: found.len(), ..Cost::default() };
        let mut gone = Vec::new();
        for (id, (queue, fate)) in &self.messages {
            match *fate {
                Fate::Acknowledged { offset, at, copies } if found.get(&(*queue, offset)) != Some(id) => {
                    let age = killed_at.saturating_sub(at);
                    ensure!(
                        may_lose.excuses(at, copies),
                        "message {id}, acknowledged {} ms before the kill at queue {queue} offset {offset}, is lost",
                        age.as_millis()
                    );
                    ensure!(!ids.contains(id), "message {id} is not where it was acknowledged");
                    cost.lost += 1;
                    cost.oldest = cost.oldest.max(age);
                    gone.push(*id);
                }
                Fate::Unknown if !ids.contains(id) => gone.push(*id),
                _ => {}
            }
        }
        Ok((cost, gone))
    }

    /// The messages found, whose queues have no hole and which were all sent there, once.
    fn whole(&self, found: &BTreeMap<Place, u64>) -> Result<BTreeSet<u64>> {
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for (place, id) in found {
            let expected = next.entry(place.0).or_default();
            ensure!(
                place.1 == *expected,
                "queue {} has offset {} where {expected} is next",
                place.0,
                place.1
            );
            *expected += 1;
            self.belongs(*place, *id)?;
            ensure!(ids.insert(*id), "message {id} is there twice, the second time at {place:?}");
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Messages 1 and 2, acknowledged at 10 and 20 ms as offsets 0 and 1 of queue 0; 3 unknown, 4 refused.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        (1..=4).for_each(|id| ledger.sent(id, 0));
        ledger.acknowledged(1, 0, MS(10), Copies::All);
        ledger.acknowledged(2, 1, MS(20), Copies::One);
        ledger.refused(4);
        ledger
    }

    fn found(ids: &[u64]) -> BTreeMap<Place, u64> {
        ids.iter().enumerate().map(|(offset, id)| ((0, offset as i64), *id)).collect()
    }

    fn judge(ids: &[u64], may_lose: MayLose) -> Result<Cost> {
        ledger().judge(&found(ids), MS(30), may_lose)
    }

    #[test]
    fn what_was_acknowledged_is_there_and_an_unknown_message_may_be() {
        assert_eq!(judge(&[1, 2], MayLose::Nothing).expect("kept").kept, 2);
        assert_eq!(judge(&[1, 2, 3], MayLose::Nothing).expect("kept").kept, 3);
    }

    #[test]
    fn a_lost_acknowledgement_is_excused_by_its_age_only() {
        assert!(judge(&[1], MayLose::Nothing).is_err());
        assert!(judge(&[1], MayLose::Since(MS(21))).is_err());
        assert_eq!(
            judge(&[1], MayLose::Since(MS(20))).expect("excused"),
            Cost { kept: 1, lost: 1, oldest: MS(10) }
        );
        assert!(judge(&[2], MayLose::Since(MS(10))).is_err(), "an acknowledged offset is not another one");
    }

    #[test]
    fn what_only_one_broker_had_may_go_with_it() {
        assert_eq!(judge(&[1], MayLose::OneCopy).expect("excused").lost, 1);
        assert!(judge(&[], MayLose::OneCopy).is_err());
        let mut ledger = ledger();
        ledger.check(&found(&[1]), MS(30), MayLose::OneCopy).expect("excused");
        ledger.judge(&found(&[1, 2]), MS(30), MayLose::Nothing).expect("the other one has it");
    }

    #[test]
    fn what_nobody_sent_what_was_refused_and_what_is_there_twice_are_rejected() {
        assert!(judge(&[1, 2, 5], MayLose::Nothing).is_err());
        assert!(judge(&[1, 2, 4], MayLose::Nothing).is_err());
        assert!(judge(&[1, 2, 3, 3], MayLose::Nothing).is_err());
        let mut elsewhere = found(&[1, 2]);
        elsewhere.insert((1, 0), 3);
        assert!(ledger().judge(&elsewhere, MS(30), MayLose::Nothing).is_err());
        let mut hole = found(&[1, 2]);
        hole.insert((0, 3), 3);
        assert!(ledger().judge(&hole, MS(30), MayLose::Nothing).is_err());
    }

    #[test]
    fn what_was_shown_stays_and_what_was_gone_stays_away() {
        let mut ledger = ledger();
        ledger.shown((0, 1), 2).expect("sent there");
        assert!(ledger.shown((0, 1), 3).is_err());
        assert!(ledger.judge(&found(&[1]), MS(30), MayLose::Since(MS(0))).is_err());
        let mut ledger = self::ledger();
        ledger.judge(&found(&[1]), MS(30), MayLose::Since(MS(0))).expect("excused");
        assert!(ledger.judge(&found(&[1, 2]), MS(40), MayLose::Since(MS(0))).is_err());
        assert!(ledger.judge(&found(&[1, 3]), MS(40), MayLose::Since(MS(0))).is_err());
    }
}

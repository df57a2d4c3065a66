//! What the witness sees of consumption: which member is at which queue, and in which order messages are consumed.

use std::collections::BTreeMap;

use super::{CONFIG, Witness};
use crate::cluster::Cluster;
use crate::history::Place;
use crate::oracle::Verdict;
use crate::oracle::in_order::{Begin, Member, Turns, by_key};
use crate::plan::names;
use crate::platter::Image;
use crate::platter::config::{Version, consumer_offsets, load};
use crate::workload::{self, MessageId};

/// The file of the groups' offsets.
const OFFSETS: &str = "consumerOffset.json";

/// Who was given a message, how often, and where it stood.
type Given = BTreeMap<MessageId, Vec<(u32, Place)>>;

#[derive(Default)]
pub(super) struct Watched {
    turns: Turns,
    given: BTreeMap<String, Given>,
    /// By reader: the number of the turn in which each message was consumed first.
    consumed: BTreeMap<String, BTreeMap<MessageId, u64>>,
}

impl Witness {
    /// A listener of `reader` is called. Whether the message is new to it: not yet consumed.
    pub fn begins(&self, member: Member, reader: &str, place: &Place, message: MessageId) -> bool {
        let consumption = self.settings.consumption.as_ref();
        let node = self.nodes.of(&place.broker);
        let died_ms = |member: Member| {
            let node = self.nodes.of(&names::consumer(member.consumer));
            let lives = self.world.is_running(node) && self.world.boots(node) == member.life;
            // One that is down has ended, whichever of its ends that was.
            let ends_ms = self.world.ends_ms(node);
            let own = ends_ms.get((member.life as usize).saturating_sub(1)).or(ends_ms.last()).copied();
            own.filter(|_| !lives)
        };
        let broker_ended_since = |ms| self.world.ends_ms(node).iter().any(|at_ms| *at_ms >= ms);
        let on_record = || self.on_record(reader, place);
        let (is_new, verdict) = {
            let mut inner = self.lock();
            let consumed = inner.turns.consumed.get(reader);
            let is_new = consumed.is_none_or(|consumed| !consumed.contains_key(&message));
            let given = inner.turns.given.entry(reader.to_owned()).or_default();
            given.entry(message).or_default().push((member.consumer, place.clone()));
            let verdict = inner.turns.turns.begins(&Begin {
                now_ms: self.world.now_ms(),
                member,
                group: reader,
                place,
                message,
                in_order: consumption.is_some_and(|consumption| consumption.in_order),
                died_ms: &died_ms,
                broker_ended_since: &broker_ended_since,
                on_record: &on_record,
            });
            (is_new, verdict)
        };
        self.note(verdict);
        is_new
    }

    /// The listener has come back.
    pub fn ends(&self, member: Member, reader: &str, place: &Place, message: MessageId, consumed: bool) {
        self.world.mark("consumed", message.0, u64::from(consumed));
        let mut inner = self.lock();
        inner.turns.turns.ends(reader, member, place, message, consumed);
        if consumed {
            let done = inner.turns.consumed.entry(reader.to_owned()).or_default();
            let next = done.len() as u64;
            done.entry(message).or_insert(next);
        }
    }

    /// What the broker's kernel shows of the offset that is kept for a group.
    fn on_record(&self, group: &str, place: &Place) -> Option<i64> {
        let node = self.nodes.of(&place.broker);
        let path = format!("{CONFIG}/{OFFSETS}");
        let mut image = Image::default();
        for path in [path.clone(), format!("{path}.bak")] {
            if let Some(bytes) = self.world.cache_read(node, &path, 0..u64::MAX) {
                image.files.insert(path, bytes);
            }
        }
        let Version::Whole(value) = load(&image, &path) else { return None };
        consumer_offsets(&value).get(&(format!("{}@{group}", place.topic), place.queue)).copied()
    }

    /// The messages whose sends began at that time or later, as a reader was given them.
    #[must_use]
    pub fn given_since(&self, reader: &str, from_ms: u64) -> Given {
        let inner = self.lock();
        let sends = &inner.history.sends;
        let is_new = |id: &MessageId| sends.get(id).is_some_and(|sent| sent.started_ms >= from_ms);
        let given = inner.turns.given.get(reader).into_iter().flatten();
        given.filter(|(id, _)| is_new(id)).map(|(id, times)| (*id, times.clone())).collect()
    }

    /// # Errors
    /// Messages of one key were consumed the wrong way round.
    pub fn judge_keys(&self, cluster: &Cluster) -> Verdict {
        let inner = self.lock();
        let nothing = BTreeMap::new();
        cluster.readers().iter().try_for_each(|reader| {
            let consumed = inner.turns.consumed.get(reader).unwrap_or(&nothing);
            by_key(&inner.history, reader, consumed, |id| workload::key(&cluster.plan, id))
        })
    }
}

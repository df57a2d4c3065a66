//! What an operator is told of topics that he deletes, held against raw disks at once and from then on.

use std::collections::BTreeSet;

use super::{CONFIG, Witness};
use crate::history::Deletion;
use crate::history::Place;
use crate::oracle::tables::Table;
use crate::oracle::{Verdict, deleted_topic};
use crate::platter::{BrokerDisk, Image};
use crate::workload::{Identity, PASSING, identify};

/// A request is sent, or given up, within this.
const SENT_WITHIN_MS: u64 = 3_000;
/// What was sent without an answer is met or lost within this: faults of network and disks that hold it up are shorter.
const LINGER_MS: u64 = 30_000;

/// A deletion that was asked for.
pub struct Asked {
    nth: usize,
    /// Boots and ends of the broker's processes so far.
    life: (u64, usize),
}

impl Witness {
    /// Which process of a broker runs, if one does.
    fn life(&self, broker: &str) -> (u64, usize) {
        let node = self.nodes.of(broker);
        (self.world.boots(node), self.world.ends_ms(node).len())
    }

    /// An operator is about to ask a broker to delete a topic.
    #[must_use]
    pub fn deletion_asked(&self, broker: &str, topic: &str) -> Asked {
        let below = self.cached(broker).1.log.end;
        let (asked_ms, life) = (self.world.now_ms(), self.life(broker));
        let mut inner = self.lock();
        let nth = inner.history.deletions.len();
        self.world.mark("deletion asked", nth as u64, below);
        inner.history.deletions.push(Deletion {
            broker: broker.to_owned(),
            topic: topic.to_owned(),
            asked_ms,
            done: false,
            until_ms: u64::MAX,
            below,
        });
        Asked { nth, life }
    }

    /// The broker has refused it, or could not do all of it: a start may do the rest.
    pub fn deletion_refused(&self, asked: &Asked) {
        let now_ms = self.world.now_ms();
        self.lock().history.deletions[asked.nth].until_ms = now_ms;
    }

    /// The broker has answered that the topic is deleted.
    pub fn deletion_done(&self, asked: &Asked) {
        let now_ms = self.world.now_ms();
        let (broker, topic, is_made) = {
            let mut inner = self.lock();
            let deletion = &mut inner.history.deletions[asked.nth];
            (deletion.done, deletion.until_ms) = (true, now_ms);
            let Deletion { broker, topic, asked_ms, .. } = deletion.clone();
            // Another process has answered than the one whose log was looked at: nobody knows how far it had come.
            if self.life(&broker) != asked.life {
                inner.history.deletions[asked.nth].below = 0;
            }
            self.world.mark("deletion done", asked.nth as u64, inner.history.deletions[asked.nth].below);
            if let Some(watched) = inner.brokers.get_mut(&broker) {
                watched.used.remove(&(Table::Topics, topic.clone()));
            }
            let is_made = inner.history.may_be_made(&topic, asked_ms, LINGER_MS);
            (broker, topic, is_made)
        };
        let (_, disk) = self.cached(&broker);
        self.note(self.judge_deleted(&broker, &disk));
        if !is_made {
            self.world.mark("deletion judged", asked.nth as u64, 0);
            let durable = self.surface(&broker, &["topics.json", "consumerOffset.json"]);
            self.note(deleted_topic::tables(&broker, &topic, &durable, CONFIG));
        }
    }

    /// An operator has asked a broker to make a topic, and has had no answer.
    pub fn half_made(&self, topic: &str) {
        let now_ms = self.world.now_ms();
        self.lock().history.half_made.push((topic.to_owned(), now_ms));
    }

    /// Whether nobody is about to send to the topic any more, as far as senders know.
    #[must_use]
    pub fn is_quiet(&self, topic: &str) -> bool {
        let now_ms = self.world.now_ms();
        !self.lock().history.may_be_made(topic, now_ms, 0)
    }

    /// A broker's process has ended, and with it what it had not answered, unless that was still to be sent.
    pub(super) fn deletions_end(&self, broker: &str) {
        let now_ms = self.world.now_ms();
        for deletion in self.lock().history.deletions.iter_mut().filter(|deletion| deletion.broker == broker)
        {
            if deletion.asked_ms + SENT_WITHIN_MS <= now_ms {
                deletion.until_ms = deletion.until_ms.min(now_ms);
            }
        }
    }

    /// A broker has given a message to somebody who has asked for it just now.
    pub fn served(&self, place: &Place) {
        let verdict = deleted_topic::served(&self.lock().history, place);
        self.note(verdict);
    }

    /// Judges the queues of a broker, and the numbers of its records, by what was deleted.
    ///
    /// # Errors
    /// The first that was to be gone.
    pub fn judge_deleted(&self, broker: &str, disk: &BrokerDisk) -> Verdict {
        let history = &self.lock().history;
        deleted_topic::queues(history, broker, disk)?;
        deleted_topic::numbers(history, broker, disk)
    }

    /// Where records are that deletions may have taken out of their queues.
    pub(super) fn may_be_dropped(&self, broker: &str, disk: &BrokerDisk) -> BTreeSet<u64> {
        let history = &self.lock().history;
        if history.deletions.is_empty() {
            return BTreeSet::new();
        }
        let records = disk.log.records.iter().filter(|record| record.topic.starts_with(PASSING));
        let dropped = records.filter(|record| match identify(&record.body) {
            Identity::Whole(id) => history.may_be_dropped(broker, &record.topic, id),
            Identity::Damaged(_) | Identity::Foreign => false,
        });
        dropped.map(|record| record.at).collect()
    }

    /// These configuration files of a broker, and their backups, as the disk's surface has them.
    fn surface(&self, broker: &str, files: &[&str]) -> Image {
        let mut durable = Image::default();
        for path in files.iter().flat_map(|file| [format!("{CONFIG}/{file}"), format!("{CONFIG}/{file}.bak")])
        {
            if let Some(bytes) = self.world.platter_read(self.nodes.of(broker), &path, 0..u64::MAX) {
                durable.files.insert(path, bytes);
            }
        }
        durable
    }
}

//! Bits that have turned in what brokers make again when they read it. Until then each is looked at as it was.

use super::Witness;
use crate::faults::damage::Turned;
use crate::oracle::queue_matches_log::ReadBack;
use crate::oracle::{Verdict, queue_matches_log};
use crate::platter::Image;

impl Witness {
    /// A bit has turned in a file of a broker whose machine is off.
    pub fn turned(&self, broker: &str, turned: Turned) {
        let mut inner = self.lock();
        let all = &mut inner.brokers.entry(broker.to_owned()).or_default().turned;
        let is_there = |one: &&mut Turned| (&one.path, one.offset) == (&turned.path, turned.offset);
        match all.iter_mut().find(is_there) {
            Some(before) => before.is = turned.is,
            None => all.push(turned),
        }
    }

    /// The files without what has turned in them and is not made again yet.
    pub(super) fn as_made_again(&self, broker: &str, mut image: Image) -> Image {
        for Turned { path, offset, was, is, .. } in self.all_turned(broker) {
            let byte = image.files.get_mut(&path).and_then(|bytes| bytes.get_mut(offset as usize));
            if let Some(byte) = byte.filter(|byte| **byte == is) {
                *byte = was;
            }
        }
        image
    }

    fn all_turned(&self, broker: &str) -> Vec<Turned> {
        self.lock().brokers.get(broker).map(|watched| watched.turned.clone()).unwrap_or_default()
    }

    /// The queue entries of a broker in which bits have turned, to be read.
    #[must_use]
    pub fn to_be_read(&self, broker: &str) -> Vec<ReadBack> {
        let entries = self.all_turned(broker).into_iter().filter_map(|turned| turned.entry);
        let read = entries.map(|((topic, queue), n, entry)| ReadBack {
            broker: broker.to_owned(),
            topic,
            queue,
            n,
            at: entry.at,
            found: Vec::new(),
        });
        read.collect()
    }

    /// Every one of them was read, and every index is complete.
    ///
    /// # Errors
    /// I3: one that is not made again.
    pub fn judge_turned(&self, broker: &str) -> Verdict {
        let node = self.nodes.of(broker);
        for Turned { path, offset, is, .. } in self.all_turned(broker) {
            let now = self.world.cache_read(node, &path, offset..offset + 1);
            queue_matches_log::made_again(broker, &path, offset, is, now.as_deref())?;
        }
        Ok(())
    }
}

/// A recovery has cut the log at `end`. Entries of what lay behind are gone with it, whole though it may have looked: of a
/// record's properties the broker has a checksum, and the reader of the disk has none.
pub(super) fn forget_cut(turned: &mut Vec<Turned>, end: u64) {
    turned.retain(|turned| turned.entry.as_ref().is_none_or(|(_, _, entry)| entry.at < end));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platter::queue::Entry;

    #[test]
    fn entries_behind_a_cut_are_not_read_any_more() {
        let turned = |at: Option<u64>| Turned {
            path: "q".to_owned(),
            offset: 20,
            was: 0,
            is: 1,
            entry: at.map(|at| (("topic-0".to_owned(), 0), 1, Entry { at, bytes: 100, tags_code: 0 })),
        };
        let mut all = vec![turned(Some(100)), turned(None), turned(Some(200)), turned(Some(300))];
        forget_cut(&mut all, 200);
        assert_eq!(all, [turned(Some(100)), turned(None)]);
    }
}

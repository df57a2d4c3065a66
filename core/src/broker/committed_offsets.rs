//! Committed offsets: how far each group has consumed each queue.
//!
//! Invariant: no offset exceeds the maximum its queue had when it was committed or loaded. After a power loss a queue may
//! be shorter than what a consumer has seen; an offset beyond its end would skip the messages that come next.
//! Invariant: one lock over all of it, so first commits of two queues of a group cannot replace each other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Queue to offset.
pub(crate) type QueueOffsets = BTreeMap<i32, i64>;

#[derive(Default)]
struct Table {
    /// Topic, then group.
    topics: BTreeMap<String, BTreeMap<String, QueueOffsets>>,
    changes: u64,
    /// By topic, group and queue: where an operator has moved the group, until one of its consumers goes there.
    resets: BTreeMap<(String, String, i32), i64>,
}

impl Table {
    fn put(&mut self, topic: &str, group: &str, queue: i32, offset: i64) {
        let groups = match self.topics.get_mut(topic) {
            Some(groups) => groups,
            None => self.topics.entry(topic.to_owned()).or_default(),
        };
        let queues = match groups.get_mut(group) {
            Some(queues) => queues,
            None => groups.entry(group.to_owned()).or_default(),
        };
        if queues.insert(queue, offset) != Some(offset) {
            self.changes += 1;
        }
    }
}

#[derive(Default)]
pub(crate) struct CommittedOffsets(Mutex<Table>);

impl CommittedOffsets {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a file holds under its keys `topic@group`, each offset cut to the maximum of its queue. A cut counts
    /// as a change: the file must be written again.
    pub fn load(&self, file: BTreeMap<String, QueueOffsets>, max_offset: impl Fn(&str, i32) -> i64) {
        let mut table = self.table();
        let mut cut = 0;
        for (key, queues) in file {
            let Some((topic, group)) = key.split_once('@') else { continue };
            let groups = table.topics.entry(topic.to_owned()).or_default();
            let offsets = groups.entry(group.to_owned()).or_default();
            for (queue, offset) in queues {
                let within = offset.clamp(0, max_offset(topic, queue).max(0));
                cut += u64::from(within != offset);
                offsets.insert(queue, within);
            }
        }
        table.changes += cut;
    }

    /// Takes over what a master's table has under its keys `topic@group`, cut to what this slave's queues have. An offset is
    /// taken only when it is larger: consumers that came here while the master was away have gone on, and it may have come
    /// back with what it wrote long before (H-06).
    pub fn merge(&self, of_master: BTreeMap<String, QueueOffsets>, max_offset: impl Fn(&str, i32) -> i64) {
        self.take_over(of_master, max_offset, |own, offset| own < offset);
    }

    /// Whatever was committed here: a planted bug.
    pub fn overwrite(
        &self,
        of_master: BTreeMap<String, QueueOffsets>,
        max_offset: impl Fn(&str, i32) -> i64,
    ) {
        self.take_over(of_master, max_offset, |own, offset| own != offset);
    }

    fn take_over(
        &self,
        of_master: BTreeMap<String, QueueOffsets>,
        max_offset: impl Fn(&str, i32) -> i64,
        is_taken: impl Fn(i64, i64) -> bool,
    ) {
        let mut table = self.table();
        let mut changes = 0;
        for (key, queues) in of_master {
            let Some((topic, group)) = key.split_once('@') else { continue };
            for (queue, offset) in queues {
                let offset = offset.min(max_offset(topic, queue));
                if offset < 0 {
                    continue;
                }
                let groups = table.topics.entry(topic.to_owned()).or_default();
                let offsets = groups.entry(group.to_owned()).or_default();
                if offsets.get(&queue).is_none_or(|own| is_taken(*own, offset)) {
                    offsets.insert(queue, offset);
                    changes += 1;
                }
            }
        }
        table.changes += changes;
    }

    /// Remembers `offset`, smaller or larger than the last one, but never beyond `max`, and answers what it has remembered:
    /// nothing while the group has still to go where an operator has moved it, since its consumers commit where they were.
    pub fn commit(&self, topic: &str, group: &str, queue: i32, offset: i64, max: i64) -> Option<i64> {
        let mut table = self.table();
        let is_moved = !table.resets.is_empty()
            && table.resets.contains_key(&(topic.to_owned(), group.to_owned(), queue));
        let offset = offset.clamp(0, max.max(0));
        (!is_moved).then(|| table.put(topic, group, queue, offset)).map(|()| offset)
    }

    /// Moves a group: what it commits counts again once a consumer has been told ([`Self::take_reset`]).
    ///
    /// # Source
    /// Broker semantics 16; apache/rocketmq 5.3, `ConsumerOffsetManager#assignResetOffset`.
    pub fn reset(&self, topic: &str, group: &str, queue: i32, offset: i64, max: i64) {
        let offset = offset.clamp(0, max.max(0));
        let mut table = self.table();
        table.put(topic, group, queue, offset);
        table.resets.insert((topic.to_owned(), group.to_owned(), queue), offset);
    }

    /// Where a consumer that pulls has to go, if an operator has moved its group: once.
    pub fn take_reset(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        let mut table = self.table();
        if table.resets.is_empty() {
            return None;
        }
        table.resets.remove(&(topic.to_owned(), group.to_owned(), queue))
    }

    pub fn get(&self, topic: &str, group: &str, queue: i32) -> Option<i64> {
        self.table().topics.get(topic)?.get(group)?.get(&queue).copied()
    }

    /// The groups that have committed something on `topic`.
    pub fn groups_of(&self, topic: &str) -> Vec<String> {
        self.table().topics.get(topic).map(|groups| groups.keys().cloned().collect()).unwrap_or_default()
    }

    /// What each group has committed on `topic`.
    pub fn on_topic(&self, topic: &str) -> BTreeMap<String, QueueOffsets> {
        self.table().topics.get(topic).cloned().unwrap_or_default()
    }

    /// The topics on which `group` has committed something.
    pub fn topics_of(&self, group: &str) -> Vec<String> {
        let table = self.table();
        let topics = table.topics.iter().filter(|(_, groups)| groups.contains_key(group));
        topics.map(|(topic, _)| topic.clone()).collect()
    }

    /// Gives `to` what `from` has committed on `topic`, in the place of its own.
    pub fn copy(&self, topic: &str, from: &str, to: &str) {
        let mut table = self.table();
        let Some(groups) = table.topics.get_mut(topic) else { return };
        if let Some(queues) = groups.get(from).cloned() {
            groups.insert(to.to_owned(), queues);
            table.changes += 1;
        }
    }

    pub fn remove_topic(&self, topic: &str) {
        let mut table = self.table();
        table.resets.retain(|(moved, _, _), _| moved != topic);
        if table.topics.remove(topic).is_some() {
            table.changes += 1;
        }
    }

    pub fn remove_group(&self, group: &str) {
        let mut table = self.table();
        table.resets.retain(|(_, moved, _), _| moved != group);
        let mut changes = 0;
        for groups in table.topics.values_mut() {
            changes += u64::from(groups.remove(group).is_some());
        }
        table.topics.retain(|_, groups| !groups.is_empty());
        table.changes += changes;
    }

    /// Rises with every change: what was written at one count need not be written again at the same.
    pub fn changes(&self) -> u64 {
        self.table().changes
    }

    /// All of it under keys `topic@group`, and the count of changes it holds.
    pub fn snapshot(&self) -> (BTreeMap<String, QueueOffsets>, u64) {
        let table = self.table();
        let mut file = BTreeMap::new();
        for (topic, groups) in &table.topics {
            for (group, queues) in groups {
                file.insert(format!("{topic}@{group}"), queues.clone());
            }
        }
        (file, table.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_commits_of_two_queues_are_both_kept() {
        let offsets = CommittedOffsets::default();
        offsets.commit("T", "g", 0, 5, 10);
        offsets.commit("T", "g", 1, 6, 10);
        assert_eq!(offsets.get("T", "g", 0), Some(5));
        assert_eq!(offsets.get("T", "g", 1), Some(6));
        assert_eq!(offsets.get("T", "g", 2), None);
    }

    #[test]
    fn what_is_removed_or_copied_is_a_change_of_the_file() {
        let offsets = CommittedOffsets::default();
        for (topic, group) in [("T", "g"), ("T", "h"), ("U", "g")] {
            offsets.commit(topic, group, 0, 5, 10);
        }
        assert_eq!(
            (offsets.groups_of("T"), offsets.topics_of("g")),
            (vec!["g".into(), "h".into()], vec!["T".into(), "U".into()])
        );
        offsets.copy("T", "h", "k");
        assert_eq!((offsets.get("T", "k", 0), offsets.changes()), (Some(5), 4));
        offsets.remove_group("g");
        assert_eq!((offsets.get("T", "g", 0), offsets.get("U", "g", 0), offsets.changes()), (None, None, 6));
        offsets.remove_topic("T");
        assert_eq!((offsets.snapshot().0.len(), offsets.changes()), (0, 7));
        offsets.remove_topic("T");
        offsets.remove_group("g");
        assert_eq!(offsets.changes(), 7, "nothing was there");
    }

    #[test]
    fn no_offset_is_beyond_its_queue() {
        let offsets = CommittedOffsets::default();
        offsets.commit("T", "g", 0, 11, 10);
        offsets.commit("T", "g", 1, -3, 10);
        assert_eq!(offsets.get("T", "g", 0), Some(10));
        assert_eq!(offsets.get("T", "g", 1), Some(0));
        let (file, _) = offsets.snapshot();
        let restarted = CommittedOffsets::default();
        restarted.load(file, |_, queue| if queue == 0 { 4 } else { 0 });
        assert_eq!(restarted.get("T", "g", 0), Some(4));
        assert_eq!(restarted.changes(), 1, "the file still says 10");
    }

    #[test]
    fn a_masters_older_offset_does_not_replace_a_newer_one_and_no_offset_is_beyond_its_queue() {
        let offsets = CommittedOffsets::default();
        offsets.commit("T", "g", 0, 8, 10);
        let of_master = |offset| BTreeMap::from([("T@g".to_owned(), BTreeMap::from([(0, offset), (1, 4)]))]);
        offsets.merge(of_master(5), |_, _| 10);
        assert_eq!((offsets.get("T", "g", 0), offsets.get("T", "g", 1)), (Some(8), Some(4)));
        let before = offsets.changes();
        offsets.merge(of_master(5), |_, _| 10);
        assert_eq!(offsets.changes(), before);
        offsets.merge(of_master(12), |_, _| 10);
        assert_eq!(offsets.get("T", "g", 0), Some(10));
    }

    #[test]
    fn what_is_written_is_what_is_loaded_and_unchanged_is_seen() {
        let offsets = CommittedOffsets::default();
        offsets.commit("T", "%RETRY%g", 0, 5, 10);
        let before = offsets.changes();
        offsets.commit("T", "%RETRY%g", 0, 5, 10);
        assert_eq!(offsets.changes(), before);
        let (file, _) = offsets.snapshot();
        assert_eq!(file.keys().collect::<Vec<_>>(), ["T@%RETRY%g"]);
        let restarted = CommittedOffsets::default();
        restarted.load(file.clone(), |_, _| 10);
        assert_eq!(restarted.snapshot().0, file);
    }
}

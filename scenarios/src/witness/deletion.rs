//! What the witness sees of deletion: names and bytes of raw disks, clocks, and how full a disk is, for I13.

use std::collections::{BTreeMap, BTreeSet};

use hotfire_sim::NodeId;
use hotfire_sim::disk::PAGE;

use super::{STORE, Witness};
use crate::oracle::retention::{self, Aged, Look, Need};
use crate::oracle::{Broken, Verdict};
use crate::plan::Deletion;
use crate::platter::queue::{ENTRY_BYTES, entry};
use crate::platter::record::{Found, Record, decode};
use crate::platter::{Image, commit_log, index, queue};
use crate::workload::{Identity, identify};

/// A broker acts so long, at most, on what its disk and its clock have answered before they changed.
const ACTS_WITHIN_MS: u64 = 2;
const HOUR_MS: i64 = 3_600_000;

/// One broker's deletions.
#[derive(Default)]
pub(super) struct Deletions {
    life: Option<Life>,
    /// Files that the present process has chosen.
    chosen: BTreeSet<u64>,
    /// Files whose names any process was about to remove.
    removed: BTreeSet<u64>,
    /// When something was last chosen or removed, or a process began.
    touched_ms: u64,
    /// What a change of the world has ended, and when.
    before: Option<(u64, Need)>,
    /// Minima that were judged, with the log's.
    judged: BTreeMap<(String, i32), (i64, u64)>,
}

/// What the present process began with.
#[derive(Clone, Copy)]
struct Life {
    log_end: u64,
    /// The wall clock less the time of the run, in ms.
    wall_ahead_ms: i64,
}

impl Deletions {
    pub(super) fn process_begins(&mut self) {
        self.life = None;
        self.chosen.clear();
        self.judged.clear();
    }
}

impl Witness {
    /// The clock, the disk or a reader is about to change by our hand.
    pub fn before_change(&self) {
        let Some(deletion) = &self.settings.deletion else { return };
        let now_ms = self.world.now_ms();
        let has_store = |name: &str| super::is_broker(name) || super::slave::is_slave(name);
        for (broker, node) in self.nodes.all().into_iter().filter(|(name, _)| has_store(name)) {
            let need = self.need(node, deletion);
            let mut inner = self.lock();
            let deletions = &mut inner.brokers.entry(broker.clone()).or_default().deletions;
            // Of several changes at once the first has seen how it was.
            let again = deletions.before.filter(|(at_ms, _)| now_ms - at_ms <= ACTS_WITHIN_MS);
            deletions.before = Some((now_ms, again.map_or(need, |(_, before)| before.max(need))));
        }
    }

    /// Blocks of a partition that are used, and all that there are.
    fn blocks(&self, node: NodeId) -> (u64, u64) {
        let disk = self.world.disk(node);
        let faults = disk.faults();
        (faults.foreign_blocks + disk.used_bytes() / PAGE as u64, faults.capacity / PAGE as u64)
    }

    fn need(&self, node: NodeId, deletion: &Deletion) -> Need {
        let (used, blocks) = self.blocks(node);
        let hour = self.world.clock(node).wall_ms().div_euclid(HOUR_MS).rem_euclid(24);
        let asked = self.lock().asked_to_delete;
        let hour_is_set = asked || deletion.delete_when.split(';').any(|text| text == format!("{hour:02}"));
        retention::need(used, blocks, deletion.forcibly, hour_is_set)
    }

    fn log_file(base: u64) -> String {
        format!("{STORE}/commitlog/{base:020}")
    }

    fn bases(&self, node: NodeId, folder: &str) -> Vec<u64> {
        self.world.cache_names(node, folder).iter().filter_map(|name| name.parse().ok()).collect()
    }

    fn log_names(&self, node: NodeId) -> Vec<u64> {
        self.bases(node, &format!("{STORE}/commitlog"))
    }

    /// The records of a log file, as the kernel shows them.
    fn records(&self, node: NodeId, base: u64) -> Vec<Record> {
        let path = Self::log_file(base);
        let bytes = self.world.cache_read(node, &path, 0..u64::MAX).unwrap_or_default();
        let image = Image { files: [(path, bytes)].into() };
        commit_log::scan(&image, &format!("{STORE}/commitlog")).records
    }

    /// A broker says that it deletes the log file at `base`: from now on none of its look-ups finds it.
    pub fn chosen(&self, node: NodeId, base: u64) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        self.note(self.judge_chosen(broker, node, base));
        let now_ms = self.world.now_ms();
        let mut inner = self.lock();
        let deletions = &mut inner.brokers.entry(broker.clone()).or_default().deletions;
        deletions.chosen.insert(base);
        deletions.touched_ms = now_ms;
        let deleting = inner.history.deleting.entry(broker.clone()).or_default();
        *deleting = (*deleting).max(base + self.settings.commit_log_file_bytes);
    }

    fn judge_chosen(&self, broker: &str, node: NodeId, base: u64) -> Verdict {
        let Some(deletion) = &self.settings.deletion else {
            return Err(Broken::new("I13", format!("{broker} deletes the log file at {base}")));
        };
        let (now_ms, wall_ms) = (self.world.now_ms(), self.world.clock(node).wall_ms());
        let (names, records) = (self.log_names(node), self.records(node, base));
        let next = base + self.settings.commit_log_file_bytes;
        let behind = self.world.platter_read(node, &Self::log_file(next), 0..u64::MAX).unwrap_or_default();
        let now = self.need(node, deletion);
        let inner = self.lock();
        let deletions = inner.brokers.get(broker).map(|watched| &watched.deletions);
        let before = deletions.and_then(|deletions| deletions.before);
        let life = deletions.and_then(|deletions| deletions.life);
        let age_ms = |record: &Record| {
            life.filter(|life| record.at >= life.log_end)?;
            let Identity::Whole(id) = identify(&record.body) else { return None };
            Some(now_ms - inner.history.sends.get(&id)?.started_ms)
        };
        let aged =
            |record: &Record| Aged { at: record.at, store_ms: record.store_ms, age_ms: age_ms(record) };
        let records: Vec<Aged> = records.iter().map(aged).collect();
        let look = Look {
            names: &names,
            records: &records,
            goes_on: matches!(decode(&behind, next), Found::Record(_)),
            need: before
                .filter(|(at_ms, _)| now_ms - at_ms <= ACTS_WITHIN_MS)
                .map_or(now, |(_, need)| need.max(now)),
            reserved_ms: deletion.reserved_ms,
            clock_ms: life
                .map_or(wall_ms, |life| wall_ms.min(life.wall_ahead_ms.saturating_add_unsigned(now_ms))),
        };
        retention::chosen(broker, base, &look)
    }

    /// A process is about to remove a file's name. What recovery removes is judged by what it leaves.
    pub fn removing(&self, node: NodeId, path: &str) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let serves = self.lock().brokers.get(broker).is_some_and(|watched| watched.ready);
        let Some((folder, Ok(base))) = path.rsplit_once('/').map(|(folder, name)| (folder, name.parse()))
        else {
            return;
        };
        if !serves {
            return;
        }
        if folder == format!("{STORE}/commitlog") {
            self.removing_log(broker, node, base);
        } else if let Some(queue) = folder.strip_prefix(&format!("{STORE}/consumequeue/")) {
            // With its topic a queue goes as a whole.
            let topic = queue.split('/').next().unwrap_or(queue);
            if self.lock().history.is_deleting(broker, topic, self.world.now_ms()) {
                return;
            }
            self.removing_queue(broker, node, (path, folder, base));
        }
    }

    fn removing_log(&self, broker: &str, node: NodeId, base: u64) {
        let (names, path) = (self.log_names(node), Self::log_file(base));
        let bytes = self.world.cache_read(node, &path, 0..u64::MAX).unwrap_or_default();
        if !names.contains(&base) || (names.last() == Some(&base) && bytes.iter().all(|byte| *byte == 0)) {
            // Not even made, or made ahead and never written to.
            return;
        }
        let was_chosen =
            self.lock().brokers.get(broker).is_some_and(|watched| watched.deletions.chosen.contains(&base));
        if !was_chosen {
            self.note(self.judge_chosen(broker, node, base));
        }
        let records = self.records(node, base);
        let image: Image = self.world.platter(node).into();
        let folder = format!("{STORE}/consumequeue");
        let queues = queue::scan(&image, &folder, self.settings.queue_file_bytes);
        let has_entry = |record: &Record| {
            let queue = queues.get(&(record.topic.clone(), record.queue));
            queue
                .and_then(|queue| queue.entry(record.queue_offset))
                .is_some_and(|entry| entry.at == record.at)
        };
        let alone = records.iter().find(|record| record.has_queue_entry() && !has_entry(record));
        let verdict = {
            let inner = self.lock();
            let removed = inner.brokers.get(broker).map(|watched| &watched.deletions.removed);
            let mut gone = removed.into_iter().flatten().filter(|gone| !names.contains(gone));
            let left = gone.find(|gone| image.files.contains_key(&Self::log_file(**gone))).copied();
            retention::removed(broker, base, &names, left, alone)
        };
        self.note(verdict);
        let now_ms = self.world.now_ms();
        let mut inner = self.lock();
        let deletions = &mut inner.brokers.entry(broker.to_owned()).or_default().deletions;
        deletions.removed.insert(base);
        deletions.touched_ms = now_ms;
        let deleted = inner.history.deleted.entry(broker.to_owned()).or_default();
        *deleted = (*deleted).max(base + self.settings.commit_log_file_bytes);
    }

    fn removing_queue(&self, broker: &str, node: NodeId, (path, folder, base): (&str, &str, u64)) {
        let bytes = self.world.cache_read(node, path, 0..u64::MAX).unwrap_or_default();
        let file_bytes = self.settings.commit_log_file_bytes;
        let named = |at: &u64| {
            let log_file = Self::log_file(at - at % file_bytes);
            self.world.platter_read(node, &log_file, 0..0).is_some()
        };
        let kept = bytes.chunks_exact(ENTRY_BYTES).filter_map(entry).map(|entry| entry.at).find(named);
        self.note(retention::queue_removed(broker, path, base, &self.bases(node, folder), kept));
        let now_ms = self.world.now_ms();
        self.lock().brokers.entry(broker.to_owned()).or_default().deletions.touched_ms = now_ms;
    }

    /// Before a process begins: what deletion has left.
    pub(super) fn judge_left(&self, broker: &str) -> Verdict {
        let names = self.log_names(self.nodes.of(broker));
        let inner = self.lock();
        let removed = inner.brokers.get(broker).map(|watched| &watched.deletions.removed);
        removed.map_or(Ok(()), |removed| retention::no_hole(broker, &names, removed))
    }

    /// A broker serves, and its log ends at `log_end`.
    pub(super) fn deletion_begins(&self, broker: &str, log_end: u64) {
        let now_ms = self.world.now_ms();
        let wall_ahead_ms = self.world.clock(self.nodes.of(broker)).wall_ms().saturating_sub_unsigned(now_ms);
        let mut inner = self.lock();
        let deletions = &mut inner.brokers.entry(broker.to_owned()).or_default().deletions;
        deletions.life = Some(Life { log_end, wall_ahead_ms });
        deletions.touched_ms = now_ms;
    }

    /// What a broker that is well should have deleted by now.
    #[must_use]
    pub fn overdue(&self, broker: &str, need: Need) -> Option<String> {
        let deletion = self.settings.deletion.as_ref()?;
        let (node, now_ms) = (self.nodes.of(broker), self.world.now_ms());
        let (used, blocks) = self.blocks(node);
        let has_room = need == Need::Any && !retention::has_no_room(used, blocks);
        let need = if has_room { Need::Nothing } else { need };
        let names = self.log_names(node);
        let store_ms = |base: &u64| -> Vec<i64> {
            self.records(node, *base).iter().map(|record| record.store_ms).collect()
        };
        let first_ms = names.first().map(store_ms).unwrap_or_default();
        let next_ms = names.get(1).map(store_ms).unwrap_or_default();
        let wall_ms = self.world.clock(node).wall_ms();
        let life = self.lock().brokers.get(broker).and_then(|watched| watched.deletions.life);
        let (queues, index) = (self.second_files(node), self.full_index_files(node));
        let kept = retention::Kept {
            names: &names,
            first_ms: &first_ms,
            next_ms: next_ms.first().copied(),
            queues: &queues,
            index: &index,
            need,
            reserved_ms: deletion.reserved_ms,
            clock_ms: life
                .map_or(wall_ms, |life| wall_ms.min(life.wall_ahead_ms.saturating_add_unsigned(now_ms))),
        };
        retention::overdue(broker, &kept)
    }

    /// Of each queue with more than one file: where the record is of the first entry of the second.
    fn second_files(&self, node: NodeId) -> Vec<(String, u64)> {
        let root = format!("{STORE}/consumequeue");
        let mut found = Vec::new();
        for topic in self.world.cache_names(node, &root) {
            for queue in self.world.cache_names(node, &format!("{root}/{topic}")) {
                let folder = format!("{root}/{topic}/{queue}");
                let Some(second) = self.bases(node, &folder).get(1).copied() else { continue };
                let path = format!("{folder}/{second:020}");
                let unit = self.world.cache_read(node, &path, 0..ENTRY_BYTES as u64);
                found.extend(unit.as_deref().and_then(entry).map(|entry| (folder, entry.at)));
            }
        }
        found
    }

    /// Where the last entry leads of each index file but the last.
    fn full_index_files(&self, node: NodeId) -> Vec<(u64, u64)> {
        let folder = format!("{STORE}/index");
        let names = self.bases(node, &folder);
        let full = names.split_last().map_or(&[][..], |(_, full)| full);
        let last = |name: &u64| {
            let bytes = self.world.cache_read(node, &format!("{folder}/{name:017}"), 0..u64::MAX)?;
            let last = index::last(&bytes, self.settings.index_file)?;
            Some((*name, last.0))
        };
        full.iter().filter_map(last).collect()
    }

    /// An operator is about to ask a broker for the deletion of what is old.
    pub fn asks_to_delete(&self) {
        self.lock().asked_to_delete = true;
    }

    /// A reader is told where a queue begins and ends.
    pub fn told_min(&self, broker: &str, topic: &str, queue: i32, (min, max): (i64, i64)) {
        let Some(deletion) = &self.settings.deletion else { return };
        let (node, now_ms) = (self.nodes.of(broker), self.world.now_ms());
        let settled_ms = 2_500 + 2 * deletion.interval_ms;
        let log_min = {
            let inner = self.lock();
            let Some(watched) = inner.brokers.get(broker) else { return };
            let Deletions { touched_ms, before, judged, removed, .. } = &watched.deletions;
            let changed_ms = before.map_or(0, |(at_ms, _)| at_ms).max(*touched_ms);
            let key = (topic.to_owned(), queue);
            let log_min = removed.last().copied().unwrap_or(0);
            if now_ms - changed_ms < settled_ms || judged.get(&key) == Some(&(min, log_min)) {
                return;
            }
            log_min
        };
        let names = self.log_names(node);
        let Some(first) = names.first() else { return };
        let at = min as u64 * ENTRY_BYTES as u64;
        let base = at - at % self.settings.queue_file_bytes;
        let path = format!("{STORE}/consumequeue/{topic}/{queue}/{base:020}");
        let unit = self.world.cache_read(node, &path, at - base..at - base + ENTRY_BYTES as u64);
        let entry = unit.as_deref().and_then(entry);
        self.note(retention::min_told(broker, (topic, queue), (min, max), entry, *first));
        let mut inner = self.lock();
        let deletions = &mut inner.brokers.entry(broker.to_owned()).or_default().deletions;
        deletions.judged.insert((topic.to_owned(), queue), (min, log_min));
    }
}

//! Sees what clients see and what disks hold, while the run goes on, and notes the first broken promise.
//!
//! It looks at raw disks through the simulator, never through the code under test. Everything runs on the run's one
//! thread; the lock is held for a moment at a time.

mod deletion;
mod in_time;
mod left_behind;
mod log_files;
mod passing;
mod rot;
mod slave;
mod slave_tables;
mod turns;

pub use in_time::flushed_within_ms;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotfire_sim::{NodeId, World};

use crate::consume;
use crate::faults::damage::Turned;
use crate::history::{
    ClockJump, Death, Decision, Delivery, History, Outcome, Place, PowerLoss, Promise, Sent, Status, Trouble,
    promise,
};
use crate::nodes::Nodes;
use crate::oracle::consumer_offset::{self, FILES, Offsets, Written};
use crate::oracle::no_phantom::{self, Cuts};
use crate::oracle::tables::Table;
use crate::oracle::{
    Broken, Verdict, abort_marker, acked_not_lost, delay, ends, index_matches_log, position_order, progress,
    queue_matches_log, refused_start, sql_filter, stable_read, tables, transaction,
};
use crate::plan::{Pool, Settings};
use crate::platter::checkpoint::{Checkpoint, IndexClaim};
use crate::platter::delayed::{delay_ms, levels_ms};
use crate::platter::record::{Found, Record, decode};
use crate::platter::{BrokerDisk, Image, index, queue, read_broker};
use crate::workload::{Draft, Kind, MessageId};
use log_files::Side;

/// A broker's store, below its node's data folder.
pub const STORE: &str = "store";
/// Its queues.
const QUEUES: &str = "store/consumequeue";
/// A broker's configuration files.
pub const CONFIG: &str = "store/config";
/// Longer than any record of the workload but those that fill a file.
const RECORD_BYTES_MAX: u64 = 8 * 1024;
/// A broker that is well has filed a record so long after it could be read: a flush, and a turn of dispatch.
const DISPATCHED_MS: u64 = 1_000;

/// One broker as the witness knows it.
#[derive(Default)]
struct Watched {
    cuts: Cuts,
    written: Written,
    /// The delay offsets that its disk's surface had when it was started last.
    delay_offsets: BTreeMap<i32, i64>,
    /// Those that its present process has begun with, or written last.
    delay_offsets_now: BTreeMap<i32, i64>,
    /// Every index file that was ever made, by name: where the last record filed before it begins.
    index_files: BTreeMap<u64, u64>,
    /// Ends of its processes that are accounted for.
    ends_seen: usize,
    /// What the last checkpoint said of the index.
    claimed: IndexClaim,
    /// And how far it said that log and queues are durable.
    claimed_durable: u64,
    /// The process that runs now has recovered and serves.
    ready: bool,
    /// Power may go, or have gone, at a storage step that nobody has seen.
    power_trap: bool,
    /// Records that were in the log when the power went; empty when it did not since the last start.
    known: Option<BTreeMap<u64, Record>>,
    deletions: deletion::Deletions,
    /// What the offset file said before the present process began, and once that has recovered cut to its queues.
    committed: Offsets,
    /// Its delay offsets have been set beyond their queues: the next start takes them back.
    delays_are_beyond: bool,
    /// Where its log ended when the process that served last began to.
    recovered: u64,
    /// Where the first append of the present process begins.
    first_append: Option<u64>,
    /// Where its last append begins.
    last_append: Option<u64>,
    /// Its files lack what was durable: it must not start.
    damaged: bool,
    /// They lack what the next start that comes to its end makes again.
    to_be_made: bool,
    /// Bytes in which bits have turned, of what is made again when it is read.
    turned: Vec<Turned>,
    /// Topics and groups that clients have used since the present process began.
    used: BTreeSet<(Table, String)>,
    /// Appends that may not have been filed: when each was, and where it begins.
    appends: VecDeque<(u64, u64)>,
}

struct Inner {
    history: History,
    brokers: BTreeMap<String, Watched>,
    slaves: BTreeMap<String, slave::Followed>,
    slave_entries: slave_tables::Entries,
    /// Slaves that were told, or have found, that their masters have deleted what they need.
    left_behind: BTreeSet<String>,
    /// Of masters: who is at the other end.
    connections: BTreeMap<(NodeId, u64), String>,
    turns: turns::Watched,
    unflushed: BTreeMap<NodeId, in_time::Unflushed>,
    /// Connections of which a report has counted.
    reported: BTreeSet<(NodeId, u64)>,
    /// The highest end that slaves have reported to each broker, in any of its lives.
    reported_max: BTreeMap<String, u64>,
    /// The cluster is well and idle.
    resting: bool,
    /// An operator has asked for the deletion of what is old, whatever the hour.
    asked_to_delete: bool,
    /// Nothing is wrong with the world, since then.
    healed_ms: Option<u64>,
    /// The cluster is well, since then.
    well_from_ms: Option<u64>,
    first: Option<(u64, Broken)>,
}

/// Shared by every client program and the runner.
#[derive(Clone)]
pub struct Witness {
    world: World,
    nodes: Nodes,
    settings: Arc<Settings>,
    inner: Arc<Mutex<Inner>>,
}

impl Witness {
    #[must_use]
    pub fn new(world: World, nodes: Nodes, settings: Settings) -> Witness {
        let inner = Inner {
            history: History::default(),
            brokers: BTreeMap::new(),
            slaves: BTreeMap::new(),
            slave_entries: slave_tables::Entries::new(),
            left_behind: BTreeSet::new(),
            connections: BTreeMap::new(),
            turns: turns::Watched::default(),
            unflushed: BTreeMap::new(),
            reported: BTreeSet::new(),
            reported_max: BTreeMap::new(),
            resting: false,
            asked_to_delete: false,
            healed_ms: None,
            well_from_ms: None,
            first: None,
        };
        Witness { world, nodes, settings: Arc::new(settings), inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first broken promise and its moment, in ms.
    #[must_use]
    pub fn first_broken(&self) -> Option<(u64, Broken)> {
        self.lock().first.clone()
    }

    pub fn history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock().history)
    }

    /// Notes the verdict of an oracle; the first broken promise stays.
    pub fn note(&self, verdict: Verdict) {
        if let Err(broken) = verdict {
            let at_ms = self.world.now_ms();
            self.world.mark("promise broken", at_ms, 0);
            self.lock().first.get_or_insert((at_ms, broken));
        }
    }

    /// A client begins to send.
    pub fn started(&self, draft: &Draft, kind: Kind) {
        let started_ms = self.world.now_ms();
        self.world.mark("send", draft.id.0, 0);
        self.lock().history.started(
            draft.id,
            Sent {
                topic: draft.topic.clone(),
                kind,
                wait: draft.wait,
                body_bytes: draft.body.len(),
                filler_bytes: draft.filler.len(),
                delay_ms: delay_ms(draft.delay_level, &self.delay_levels_ms()),
                started_ms,
                ended_ms: None,
                outcome: Outcome::Started,
            },
        );
    }

    /// The send has come to an end; an acknowledgement is held against the disk at once.
    pub fn ended(&self, draft: &Draft, outcome: Outcome) {
        let at_ms = self.world.now_ms();
        self.world.mark("sent", draft.id.0, code(&outcome));
        if let Outcome::Acked { place, .. } = &outcome
            && !self.lock().history.may_be_dropped(&place.broker, &draft.topic, draft.id)
        {
            self.used(&place.broker, Table::Topics, &draft.topic);
        }
        if let Outcome::Acked { place, status } = &outcome
            && !self.lock().history.is_deleted(place)
        {
            match promise(self.settings.sync_flush, draft.wait, *status) {
                Promise::PowerLoss => {
                    let durable = self.durable_at(place);
                    self.note(acked_not_lost::at_ack(draft.id, place, durable.as_deref()));
                }
                Promise::ProcessCrash
                    if self.settings.pool.is_some() || self.may_be_gone(draft.id, place) => {}
                Promise::ProcessCrash => {
                    let cached = self.cached_at(place);
                    self.note(acked_not_lost::at_ack(draft.id, place, cached.as_deref()));
                }
            }
        }
        if let Outcome::Acked { place, status: Status::Ok } = &outcome
            && draft.wait
        {
            self.judge_confirmed(draft, place);
        }
        self.lock().history.ended(draft.id, at_ms, outcome);
    }

    /// A client has used a topic or a group.
    fn used(&self, broker: &str, table: Table, name: &str) {
        let is_new = {
            let mut inner = self.lock();
            let watched = inner.brokers.entry(broker.to_owned()).or_default();
            watched.ready && watched.used.insert((table, name.to_owned()))
        };
        if !is_new || self.settings.store_alone {
            return;
        }
        let durable = self.durable_config(broker, table.file());
        self.note(tables::used(broker, table, name, &durable, CONFIG));
    }

    /// Whether power may have gone since the message was sent.
    fn may_be_gone(&self, id: MessageId, place: &Place) -> bool {
        let inner = self.lock();
        let sent_ms = inner.history.sends.get(&id).map_or(0, |sent| sent.started_ms);
        let trapped = inner.brokers.get(&place.broker).is_some_and(|watched| watched.power_trap);
        trapped || inner.history.lost_power_since(&place.broker, sent_ms)
    }

    /// A sender's program begins: what its last life has not finished has no outcome.
    pub fn abandoned(&self, mine: impl Fn(MessageId) -> bool) {
        self.lock().history.abandoned(mine);
    }

    /// A consumer was given a message.
    pub fn delivered(&self, group: &str, read: &no_phantom::Read<'_>, place: Place, reconsume_times: i32) {
        let at_ms = self.world.now_ms();
        let from = format!("a delivery to {group} from {}", place.broker);
        let found = no_phantom::read(&self.lock().history, read, &from);
        let id = match found {
            Ok(id) => id,
            Err(broken) => return self.note(Err(broken)),
        };
        self.world.mark("delivered", id.0, place.queue_offset as u64);
        if let Some(form) = consume::sql_of(&self.settings, group) {
            self.note(sql_filter::delivered(form, group, id));
        }
        if self.settings.replication.is_none() {
            // A reader of a group that broadcasts is named behind it.
            let group = group.split('@').next().unwrap_or(group);
            self.used(&place.broker, Table::Groups, group);
        }
        let visible = transaction::delivered(&self.lock().history, id, &from);
        self.note(visible);
        if self.settings.sync_flush && !self.lock().history.is_deleted(&place) {
            let durable = self.durable_at(&place);
            self.note(stable_read::at_delivery(id, &place, durable.as_deref()));
        }
        let delivery = Delivery { at_ms, group: group.to_owned(), message: id, place, reconsume_times };
        let early = delay::early(&self.lock().history, &delivery);
        self.note(early);
        self.lock().history.delivered(delivery);
    }

    /// A local transaction has come to an end.
    pub fn decided(&self, id: MessageId, decision: Decision) {
        self.world.mark("decided", id.0, u64::from(decision == Decision::Commit));
        self.lock().history.decided(id, decision);
    }

    /// A producer is about to tell a broker what has become of a transaction.
    pub fn says(&self, id: MessageId, decision: Option<Decision>) {
        let said = decision.map_or(0, |decision| 1 + u64::from(decision == Decision::Commit));
        self.world.mark("says", id.0, said);
        self.lock().history.says(id, decision);
    }

    /// A broker has asked a producer; answers how often by now.
    pub fn asked(&self, id: MessageId) -> u32 {
        let times = self.lock().history.asked(id);
        self.world.mark("asked", id.0, u64::from(times));
        times
    }

    /// Judges a broker's transactions as its kernel shows them.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn judge_transactions(&self, broker: &str, disk: &BrokerDisk) -> Verdict {
        let Some(settings) = &self.settings.transactions else { return Ok(()) };
        let image = self.cached_config(broker);
        let history = &self.lock().history;
        let terms = transaction::Terms {
            timeout_ms: settings.timeout_ms,
            check_max: settings.check_max,
            file_bytes: self.settings.commit_log_file_bytes,
        };
        transaction::judge(history, broker, disk, (&image, CONFIG), terms)
    }

    /// What a broker has taken that its files do not have yet.
    #[must_use]
    pub fn unwritten(&self, broker: &str, cached: &BrokerDisk) -> Option<String> {
        let last_append = self.lock().brokers.get(broker)?.last_append;
        progress::unwritten(broker, last_append, cached)
    }

    /// What of a broker's transactions is not settled yet.
    #[must_use]
    pub fn unsettled(&self, broker: &str, cached: &BrokerDisk) -> Option<String> {
        self.settings.transactions.as_ref()?;
        let image = self.cached_config(broker);
        transaction::unsettled(broker, cached, (&image, CONFIG))
    }

    /// A broker has taken an append of these bytes of its log.
    pub fn appended(&self, node: NodeId, range: &Range<u64>) {
        let at = range.start;
        self.waits_for_flush(node, at);
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let marker = self.world.platter_read(node, &format!("{STORE}/abort"), 0..1);
        self.note(abort_marker::at_append(broker, at, marker.as_deref()));
        let now_ms = self.world.now_ms();
        let filed_within_ms = self.filed_within_ms();
        let wall_ms = self.world.clock(node).wall_ms();
        let mut inner = self.lock();
        if inner.brokers.get(broker).is_none_or(|watched| watched.first_append.is_none()) {
            // A broker serves before its start has come to its end, and may die meanwhile.
            inner.history.log_was_cut(broker, at);
        }
        let watched = inner.brokers.entry(broker.clone()).or_default();
        watched.first_append.get_or_insert(at);
        watched.last_append = Some(at);
        watched.cuts.appended(range, wall_ms);
        let appends = &mut watched.appends;
        while appends.front().is_some_and(|(at_ms, _)| at_ms + filed_within_ms <= now_ms) {
            appends.pop_front();
        }
        appends.push_back((now_ms, at));
    }

    fn filed_within_ms(&self) -> u64 {
        DISPATCHED_MS + self.settings.pool.as_ref().map_or(0, Pool::committed_within_ms)
    }

    /// What a broker that is well has appended below this has its queue entries.
    #[must_use]
    pub fn dispatched(&self, broker: &str) -> u64 {
        let (now_ms, filed_within_ms) = (self.world.now_ms(), self.filed_within_ms());
        let inner = self.lock();
        let Some(watched) = inner.brokers.get(broker) else { return u64::MAX };
        let young = watched.appends.iter().find(|(at_ms, _)| at_ms + filed_within_ms > now_ms);
        young.map_or(u64::MAX, |(_, at)| *at)
    }

    /// A broker counts the bytes from `start` to `end` of its log as flushed.
    pub fn flushed(&self, node: NodeId, start: u64, end: u64) {
        self.needs_no_flush(node, end);
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let file_bytes = self.settings.commit_log_file_bytes;
        let mut at = start;
        while at < end {
            let base = at - at % file_bytes;
            let upto = end.min(base + file_bytes);
            let range = at - base..upto - base;
            let cached = self.log_bytes(node, base, range.clone(), Side::Kernel).unwrap_or_default();
            let durable = self.log_bytes(node, base, range, Side::Surface);
            self.note(position_order::flushed(broker, at, &cached, durable.as_deref()));
            at = upto;
        }
    }

    /// A broker counts the bytes from `start` to `end` of its log as written to their files.
    pub fn committed(&self, node: NodeId, start: u64, end: u64) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let file_bytes = self.settings.commit_log_file_bytes;
        let mut at = start;
        while at < end {
            let base = at - at % file_bytes;
            let upto = end.min(base + file_bytes);
            let cached = self.log_bytes(node, base, at - base..file_bytes, Side::Kernel).unwrap_or_default();
            self.note(position_order::committed(broker, at, upto - at, &cached));
            at = upto;
        }
    }

    /// A broker has made an index file.
    pub fn index_file(&self, node: NodeId, name: u64, behind: u64) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        self.lock().brokers.entry(broker.clone()).or_default().index_files.insert(name, behind);
    }

    /// A broker's checkpoint is durable, and says of a scan's beginning and of queues what `said` does: what it says, beyond
    /// what the last one said, is held against the surface of the disk.
    pub fn checkpointed(&self, node: NodeId, said: (u64, u64)) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let bytes = self.world.platter_read(node, &format!("{STORE}/checkpoint"), 0..u64::MAX);
        let durable = bytes.and_then(|bytes| Checkpoint::decode(&bytes));
        self.note(position_order::saved(broker, said, durable.as_ref()));
        let Some(durable) = durable else { return };
        self.judge_positions(broker, node, &durable);
        let Some(claim) = durable.index else { return };
        let (before, names): (_, Vec<u64>) = {
            let mut inner = self.lock();
            let watched = inner.brokers.entry(broker.clone()).or_default();
            let before = std::mem::replace(&mut watched.claimed, claim);
            (before, watched.index_files.keys().copied().filter(|name| *name <= claim.file).rev().collect())
        };
        if claim.position <= before.position {
            return;
        }
        let folder = format!("{STORE}/index");
        let form = self.settings.index_file;
        let mut durable = Image::default();
        for path in names.into_iter().map(|name| format!("{folder}/{name:017}")) {
            let Some(bytes) = self.world.platter_read(node, &path, 0..u64::MAX) else { continue };
            let first = index::entries(&bytes, form.0, 1).first().copied();
            durable.files.insert(path, bytes);
            // Older files hold only what was claimed before. A file that nothing of was written holds zeros.
            if first.is_some_and(|first| first != (0, 0) && first.0 < before.position) {
                break;
            }
        }
        let records = self.cached_records(node, before.position..claim.position);
        self.note(index_matches_log::claim(broker, &claim, &durable, &folder, form, &records));
    }

    /// What a checkpoint says of log and queues, from where the last one said that they were durable.
    fn judge_positions(&self, broker: &str, node: NodeId, checkpoint: &Checkpoint) {
        let Some(own) = checkpoint.own else { return };
        let (before, log_end) = {
            let mut inner = self.lock();
            let watched = inner.brokers.entry(broker.to_owned()).or_default();
            let before = std::mem::replace(&mut watched.claimed_durable, own.durable);
            (before.min(own.durable), watched.appends.back().map_or(0, |(_, at)| at + 1).max(own.durable))
        };
        let records = self.cached_records(node, before..log_end);
        let file_bytes = self.settings.commit_log_file_bytes;
        let same = |base: u64, range: Range<u64>| {
            let cached = self.log_bytes(node, base, range.clone(), Side::Kernel);
            cached.is_some() && cached == self.log_bytes(node, base, range, Side::Surface)
        };
        let judged = records.iter().map(|record| {
            let base = record.at - record.at % file_bytes;
            let in_queue = record.queue_offset.unsigned_abs() * queue::ENTRY_BYTES as u64;
            let base_of_queue = in_queue - in_queue % self.settings.queue_file_bytes;
            let queue = format!("{STORE}/consumequeue/{}/{}/{base_of_queue:020}", record.topic, record.queue);
            let inside = in_queue - base_of_queue;
            let entry = self.world.platter_read(node, &queue, inside..inside + queue::ENTRY_BYTES as u64);
            position_order::Claimed {
                record,
                in_log: same(base, record.at - base..record.end() - base),
                in_queue: entry.as_deref().and_then(queue::entry).is_some_and(|entry| entry.at == record.at),
            }
        });
        let judged: Vec<position_order::Claimed<'_>> = judged.collect();
        let deletes = self.settings.passing.is_some() || self.settings.deletion.is_some();
        self.note(position_order::claimed(broker, checkpoint, &judged, deletes));
    }

    /// The records of a part of a broker's log, as its kernel shows it.
    fn cached_records(&self, node: NodeId, range: Range<u64>) -> Vec<Record> {
        let file_bytes = self.settings.commit_log_file_bytes;
        let (mut records, mut at) = (Vec::new(), range.start);
        while at < range.end {
            let base = at - at % file_bytes;
            let bytes = self.log_bytes(node, base, at - base..file_bytes, Side::Kernel).unwrap_or_default();
            let mut rest = bytes.as_slice();
            while let Found::Record(record) = decode(rest, at) {
                at = record.end();
                rest = rest.get(record.bytes as usize..).unwrap_or_default();
                records.push(record);
            }
            at = base + file_bytes;
        }
        records.retain(|record| record.at < range.end);
        records
    }

    /// What the surface of the broker's disk holds from the record's start on.
    fn durable_at(&self, place: &Place) -> Option<Vec<u8>> {
        let (node, base, range) = self.record_at(place)?;
        self.log_bytes(node, base, range, Side::Surface)
    }

    /// What the broker's kernel shows from the record's start on.
    fn cached_at(&self, place: &Place) -> Option<Vec<u8>> {
        let (node, base, range) = self.record_at(place)?;
        self.log_bytes(node, base, range, Side::Kernel)
    }

    /// Where the record is: the node, where its file begins, and enough bytes of that.
    fn record_at(&self, place: &Place) -> Option<(NodeId, u64, Range<u64>)> {
        let node = self.nodes.get(&place.broker)?;
        let file_bytes = self.settings.commit_log_file_bytes;
        let at = place.physical_offset?;
        let base = at - at % file_bytes;
        let has_full = self.settings.transactions.as_ref().is_some_and(|known| known.full_percent > 0);
        let bytes_max = if has_full { file_bytes } else { RECORD_BYTES_MAX };
        let end = (at - base + bytes_max).min(file_bytes);
        Some((node, base, at - base..end))
    }

    fn read(&self, broker: &str, image: &Image) -> BrokerDisk {
        debug_assert!(self.nodes.get(broker).is_some());
        let disk = read_broker(image, STORE, self.settings.queue_file_bytes, self.settings.index_file);
        let dropped = self.may_be_dropped(broker, &disk);
        BrokerDisk { delay_levels_ms: self.delay_levels_ms(), dropped, ..disk }
    }

    fn delay_levels_ms(&self) -> Vec<u64> {
        self.settings.delays.as_ref().map_or(Vec::new(), |delays| levels_ms(&delays.levels))
    }

    /// The clock of a node is set.
    pub fn clock_jumped(&self, node: &str, by_ms: i64) {
        let at_ms = self.world.now_ms();
        self.lock().history.clock_jumps.push(ClockJump { node: node.to_owned(), at_ms, by_ms });
    }

    /// The broker as its kernel shows it.
    #[must_use]
    pub fn cached(&self, broker: &str) -> (Image, BrokerDisk) {
        let image = self.as_made_again(broker, self.image(self.nodes.of(broker), Side::Kernel));
        let disk = self.read(broker, &image);
        (image, disk)
    }

    /// The broker as the surface of its disk has it.
    #[must_use]
    pub fn durable(&self, broker: &str) -> (Image, BrokerDisk) {
        let image = self.as_made_again(broker, self.image(self.nodes.of(broker), Side::Surface));
        let disk = self.read(broker, &image);
        (image, disk)
    }

    /// A broker's machine will lose power at one of its next storage steps.
    pub fn power_trap(&self, broker: &str) {
        if slave::is_slave(broker) {
            return self.slave_power_trap(broker);
        }
        self.lock().brokers.entry(broker.to_owned()).or_default().power_trap = true;
    }

    /// A node's process or disk is struck for so long.
    pub fn troubled(&self, node: &str, for_ms: u64) {
        let from_ms = self.world.now_ms();
        let trouble = Trouble { node: node.to_owned(), from_ms, to_ms: from_ms + for_ms };
        self.lock().history.troubles.push(trouble);
    }

    /// A node's process stands still, or its disk takes nothing, for so long: it commits nothing meanwhile.
    pub fn paused(&self, node: &str, for_ms: u64) {
        let from_ms = self.world.now_ms();
        let pause = Trouble { node: node.to_owned(), from_ms, to_ms: from_ms + for_ms };
        self.lock().history.pauses.push(pause);
    }

    /// From now on what one process tells another may go unheard.
    pub fn muffled(&self) {
        let at_ms = self.world.now_ms();
        self.lock().history.muffled_ms.get_or_insert(at_ms);
    }

    /// A broker has given up a half message, which now is at `at` of its log.
    pub fn half_discarded(&self, node: NodeId, at: u64) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let now_ms = self.world.now_ms();
        self.lock().history.discards.insert((broker.clone(), at), now_ms);
    }

    /// When processes of brokers and producers have ended, for whatever reason.
    fn ends_ms(&self) -> Vec<u64> {
        let told = |name: &str| is_broker(name) || name.starts_with("producer-");
        let nodes = self.nodes.all().into_iter().filter(|(name, _)| told(name));
        nodes.flat_map(|(_, node)| self.world.ends_ms(node)).collect()
    }

    /// Whether producers were asked about what brokers have given up.
    ///
    /// # Errors
    /// The first half message about which they were not asked often enough.
    pub fn judge_asked(&self, disks: &BTreeMap<String, BrokerDisk>) -> Verdict {
        if self.settings.transactions.is_none() {
            return Ok(());
        }
        let ends_ms = self.ends_ms();
        let history = &self.lock().history;
        disks.iter().try_for_each(|(broker, disk)| transaction::asked(history, broker, disk, &ends_ms))
    }

    /// Judges the transactions of the healed cluster; what of them a broker has still to settle.
    ///
    /// # Errors
    /// The first that it has given up.
    pub fn unproven(&self, broker: &str, healthy_from_ms: u64) -> Result<Option<String>, Broken> {
        if self.settings.transactions.is_none() {
            return Ok(None);
        }
        let (_, disk) = self.cached(broker);
        transaction::unproven(
            &self.lock().history,
            (broker, &disk),
            healthy_from_ms,
            self.settings.commit_log_file_bytes,
        )
    }

    /// A node's file system cannot be written for so long.
    pub fn read_only(&self, node: &str, for_ms: u64) {
        let from_ms = self.world.now_ms();
        let trouble = Trouble { node: node.to_owned(), from_ms, to_ms: from_ms + for_ms };
        self.lock().history.read_only.push(trouble);
    }

    /// Judges how processes have ended.
    pub fn judge_ends(&self) {
        for (name, node) in self.nodes.all() {
            for (at_ms, end) in self.world.ends(node) {
                let holds = |trouble: &Trouble| {
                    trouble.node == name && (trouble.from_ms..=trouble.to_ms).contains(&at_ms)
                };
                let read_only = self.lock().history.read_only.iter().any(holds);
                self.note(ends::ended(&name, at_ms, end, read_only));
            }
        }
    }

    /// A broker's machine is off, and its files lack what was durable.
    pub fn damaged(&self, broker: &str) {
        self.lock().brokers.entry(broker.to_owned()).or_default().damaged = true;
    }

    /// A broker's machine is off, and its files lack what the next start makes again.
    pub fn to_be_made(&self, broker: &str) {
        self.lock().brokers.entry(broker.to_owned()).or_default().to_be_made = true;
    }

    /// They have it again.
    pub fn mended(&self, broker: &str) {
        self.lock().brokers.entry(broker.to_owned()).or_default().damaged = false;
    }

    fn is_damaged(&self, broker: &str) -> bool {
        self.lock().brokers.get(broker).is_some_and(|watched| watched.damaged)
    }

    /// A broker's process is about to die.
    pub fn before_crash(&self, broker: &str) {
        if self.is_damaged(broker) {
            return;
        }
        let (_, disk) = self.cached(broker);
        self.lock().brokers.entry(broker.to_owned()).or_default().cuts.saw(&disk);
    }

    /// A broker's process has ended, and the next has not begun.
    pub fn process_ended(&self, broker: &str) {
        self.lock().brokers.entry(broker.to_owned()).or_default().ready = false;
    }

    /// A machine is about to lose power.
    pub fn before_power_loss(&self, node: &str) {
        let at_ms = self.world.now_ms();
        self.lock().history.power_losses.push(PowerLoss { node: node.to_owned(), at_ms });
        if !is_broker(node) || self.is_damaged(node) {
            return;
        }
        let (_, disk) = self.cached(node);
        let (durable, _) = self.durable(node);
        let mut inner = self.lock();
        let watched = inner.brokers.entry(node.to_owned()).or_default();
        watched.cuts.saw(&disk);
        watched.written.durable(&durable, CONFIG);
        let known = watched.known.get_or_insert_default();
        known.extend(disk.log.records.into_iter().map(|record| (record.at, record)));
    }

    /// A broker's program begins; nothing of this life has been done yet.
    pub fn before_start(&self, broker: &str) {
        if self.is_damaged(broker) {
            return;
        }
        self.deletions_end(broker);
        let (image, disk) = self.cached(broker);
        let durable = self.durable_config(broker, "delayOffset.json");
        let ends_ms = self.world.ends_ms(self.nodes.of(broker));
        let mut inner = self.lock();
        let watched = inner.brokers.entry(broker.to_owned()).or_default();
        let seen = std::mem::replace(&mut watched.ends_seen, ends_ms.len());
        if image.files.contains_key(&format!("{STORE}/abort")) {
            // A process may have ended before its program began.
            let deaths = ends_ms[seen..].iter().map(|at_ms| Death { node: broker.to_owned(), at_ms: *at_ms });
            inner.history.deaths.extend(deaths);
        }
        let watched = inner.brokers.entry(broker.to_owned()).or_default();
        // One that could not start has delivered nothing, and may have stopped its store in order.
        let has_served = std::mem::take(&mut watched.ready).then_some(watched.recovered);
        watched.committed = consumer_offset::in_file(&image, CONFIG);
        (watched.first_append, watched.last_append) = (None, None);
        watched.used.clear();
        watched.deletions.process_begins();
        watched.cuts.saw(&disk);
        let trapped = watched.power_trap;
        let files = watched.written.before_start(broker, &image, CONFIG);
        let delays_before = std::mem::replace(&mut watched.delay_offsets, delay::in_file(&durable, CONFIG));
        watched.delay_offsets_now = match std::mem::take(&mut watched.delays_are_beyond) {
            true => BTreeMap::new(),
            false => delay::in_file(&image, CONFIG),
        };
        let checkpoint = match watched.known.take() {
            Some(known) if !watched.to_be_made => position_order::checkpoint(broker, &disk, &known),
            Some(_) | None => Ok(()),
        };
        if trapped {
            // It may have been another end of the process; then this excuses more than it need.
            let at_ms = self.world.now_ms();
            inner.history.power_losses.push(PowerLoss { node: broker.to_owned(), at_ms });
        }
        if disk.abort {
            *inner.history.unclean_starts.entry(broker.to_owned()).or_default() += 1;
        }
        let deaths = inner.history.unclean_starts.get(broker).copied().unwrap_or(0);
        drop(inner);
        if let Some(began_at) = has_served.filter(|_| !disk.abort) {
            self.note(delay::stopped(broker, &image, CONFIG, &disk, began_at));
        }
        self.note(delay::offsets(broker, &image, CONFIG, &disk, deaths));
        self.note(delay::never_back(
            broker,
            "at the next start",
            &delays_before,
            &delay::in_file(&image, CONFIG),
        ));
        self.note(self.judge_left(broker));
        self.note(self.judge_stopped(broker));
        self.note(files);
        self.note(checkpoint);
    }

    /// A broker's machine is off, and its delay offsets count what its queues do not have.
    pub fn delays_are_beyond(&self, broker: &str) {
        self.lock().brokers.entry(broker.to_owned()).or_default().delays_are_beyond = true;
    }

    /// A broker has written its delay offsets: they never go back.
    pub fn delay_offsets_written(&self, node: NodeId) {
        let Some(broker) = self.nodes.name_of(node).filter(|name| is_broker(name)) else { return };
        let now = delay::in_file(&self.cached_files(&broker, ["delayOffset.json"]), CONFIG);
        let before = {
            let mut inner = self.lock();
            let watched = inner.brokers.entry(broker.clone()).or_default();
            std::mem::replace(&mut watched.delay_offsets_now, now.clone())
        };
        self.note(delay::never_back(&broker, "as it is written next", &before, &now));
    }

    /// Where no abort marker is left, the process before has stopped in order: its queues are whole on the disk's surface.
    fn judge_stopped(&self, broker: &str) -> Verdict {
        let (image, disk) = self.durable(broker);
        let to_be_made = self.lock().brokers.get(broker).is_some_and(|watched| watched.to_be_made);
        if to_be_made || image.files.contains_key(&format!("{STORE}/abort")) {
            return Ok(());
        }
        position_order::stopped(broker, &disk)?;
        queue_matches_log::judge(broker, &disk)
    }

    /// A broker has recovered and serves.
    pub fn ready(&self, broker: &str) {
        if self.is_damaged(broker) {
            return self.note(refused_start::serves(broker));
        }
        let (image, disk) = self.cached(broker);
        self.world.mark("recovered", disk.log.end, disk.log.records.len() as u64);
        let verdict = {
            let mut inner = self.lock();
            let deleted = inner.history.deleted(broker);
            let watched = inner.brokers.entry(broker.to_owned()).or_default();
            (watched.ready, watched.to_be_made) = (true, false);
            let recovered = watched.first_append.unwrap_or(disk.log.end);
            watched.recovered = recovered;
            consumer_offset::cut(&mut watched.committed, &disk, recovered);
            rot::forget_cut(&mut watched.turned, recovered);
            let verdict = watched.cuts.recovered(broker, &disk, deleted);
            inner.history.log_was_cut(broker, recovered);
            verdict
        };
        self.deletion_begins(broker, disk.log.end);
        self.note(consumer_offset::at_end(broker, &image, CONFIG, &disk));
        self.note(delay::within(broker, &image, CONFIG, &disk));
        self.note(queue_matches_log::removed(broker, (&self.durable(broker).0, &disk), &image, QUEUES));
        self.note(self.judge_deleted(broker, &disk));
        self.note(verdict);
        self.note(queue_matches_log::entries(broker, &disk).map(drop));
        self.note(self.judge_transactions(broker, &disk));
    }

    /// Judges the delay offsets of a broker that has stopped in order.
    ///
    /// # Errors
    /// As [`delay::stopped`].
    pub fn judge_delays(&self, broker: &str, (image, disk): (&Image, &BrokerDisk)) -> Verdict {
        let recovered = self.lock().brokers.get(broker).map_or(0, |watched| watched.recovered);
        delay::stopped(broker, image, CONFIG, disk, recovered)
    }

    /// What a broker's file said before its last start, each offset cut to what its queue had after recovery.
    #[must_use]
    pub fn committed_before(&self, broker: &str) -> Offsets {
        self.lock().brokers.get(broker).map(|watched| watched.committed.clone()).unwrap_or_default()
    }

    /// Whether the broker's present process serves.
    #[must_use]
    pub fn is_ready(&self, broker: &str) -> bool {
        let running = self.world.is_running(self.nodes.of(broker));
        running && self.lock().brokers.get(broker).is_some_and(|watched| watched.ready)
    }

    /// The broker's configuration files as its kernel shows them.
    #[must_use]
    pub fn cached_config(&self, broker: &str) -> Image {
        self.cached_files(broker, FILES)
    }

    /// One of them, and its backup, as the disk's surface has them.
    fn durable_config(&self, broker: &str, file: &str) -> Image {
        let mut image = Image::default();
        for path in [format!("{CONFIG}/{file}"), format!("{CONFIG}/{file}.bak")] {
            if let Some(bytes) = self.world.platter_read(self.nodes.of(broker), &path, 0..u64::MAX) {
                image.files.insert(path, bytes);
            }
        }
        image
    }

    fn cached_files(&self, broker: &str, files: impl IntoIterator<Item = &'static str>) -> Image {
        let node = self.nodes.of(broker);
        let mut image = Image::default();
        for file in files {
            for path in [format!("{CONFIG}/{file}"), format!("{CONFIG}/{file}.bak")] {
                if let Some(bytes) = self.world.cache_read(node, &path, 0..u64::MAX) {
                    image.files.insert(path, bytes);
                }
            }
        }
        image
    }
}

/// Brokers are named after what they are.
#[must_use]
pub fn is_broker(node: &str) -> bool {
    node.starts_with("broker-")
}

fn code(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Started => 0,
        Outcome::Acked { place, .. } => 1_000_000 + place.queue_offset as u64,
        Outcome::Refused { code } => 1_000 + *code as u64,
        Outcome::Unknown => 2,
        Outcome::Unanswered => 3,
    }
}

/// Which message an acknowledged place belongs to, for several that went in one request.
#[must_use]
pub fn nth_place(first: &Place, index: usize, physical_offset: Option<u64>) -> Place {
    Place { queue_offset: first.queue_offset + index as i64, physical_offset, ..first.clone() }
}

/// Start of the record, from the broker's id of a message: 32 hex digits, the last 16 of them the offset.
#[must_use]
pub fn physical_offset(offset_message_id: &str) -> Option<u64> {
    let digits = offset_message_id.get(offset_message_id.len().checked_sub(16)?..)?;
    u64::from_str_radix(digits, 16).ok()
}

//! What the witness sees of slaves. Their logs are judged against their masters'.

use std::collections::BTreeMap;
use std::ops::Range;

use hotfire_sim::NodeId;

use super::log_files::Side;
use super::{CONFIG, RECORD_BYTES_MAX, STORE, Watched, Witness};
use crate::cluster::address;
use crate::history::{Place, PowerLoss};
use crate::oracle::consumer_offset::FILES;
use crate::oracle::tables::Table;
use crate::oracle::{
    Broken, Verdict, consumer_offset, delay, position_order, queue_matches_log, replica, tables,
};
use crate::plan::Replication;
use crate::plan::names::{self, master_of};
use crate::platter::commit_log::Log;
use crate::platter::config::{Version, consumer_offsets, delay_offsets, load};
use crate::platter::{BrokerDisk, Image};
use crate::workload::{Draft, MessageId};

/// A master that has time to look sees so much later that a link is dead.
const LINK_END_MS: u64 = 1_000;

#[derive(Default)]
pub struct Followed {
    /// It has said that its master's history is another one, or its master has.
    diverged: bool,
    /// It has said so in this life, and has not followed since.
    knows: bool,
    /// When its disk was lost last.
    disk_lost_ms: Option<u64>,
    /// What groups have committed, as this life of its process knows it.
    offsets: consumer_offset::Followed,
}

#[must_use]
pub fn is_slave(node: &str) -> bool {
    node.starts_with("slave-")
}

impl Witness {
    fn slave_named(&self, node: NodeId) -> Option<String> {
        self.nodes.name_of(node).filter(|name| is_slave(name))
    }

    /// A slave's machine will lose power at one of its next storage steps: from now on it may have lost anything that it
    /// has not flushed.
    pub fn slave_power_trap(&self, slave: &str) {
        self.lock().history.power_losses.push(PowerLoss { node: slave.to_owned(), at_ms: u64::MAX });
    }

    /// A machine has lost its disk. A slave that was ahead of its master is set up anew by that.
    pub fn disk_lost(&self, node: &str) {
        if is_slave(node) {
            self.tables_lost(node);
            self.catches_up(node);
            let now_ms = self.world.now_ms();
            let mut inner = self.lock();
            let followed = inner.slaves.entry(node.to_owned()).or_default();
            (followed.diverged, followed.disk_lost_ms) = (false, Some(now_ms));
        }
    }

    /// A slave's program begins.
    pub fn slave_starts(&self, slave: &str) {
        let mut inner = self.lock();
        let followed = inner.slaves.entry(slave.to_owned()).or_default();
        followed.offsets = consumer_offset::Followed::default();
        followed.knows = false;
    }

    /// A slave has recovered and serves.
    pub fn slave_ready(&self, slave: &str) {
        let (_, disk) = self.cached(slave);
        self.note(queue_matches_log::entries(slave, &disk).map(drop));
    }

    /// A SYNC_MASTER has answered SEND_OK: as many slaves as its settings say must have the record, each on its disk's
    /// surface where it flushes before it reports. What a loss of power has taken from a slave that does not is excused, and
    /// what went with a disk.
    pub(super) fn judge_confirmed(&self, draft: &Draft, place: &Place) {
        let Some(replication) = &self.settings.replication else { return };
        let started_ms = self.lock().history.sends.get(&draft.id).map_or(0, |sent| sent.started_ms);
        let slaves = names::slaves_of(&self.settings, &place.broker);
        // On a cluster that is well all are in sync.
        let all = replication.sync_master && replication.in_sync.is_some_and(|in_sync| in_sync.all);
        let is_well = self.lock().well_from_ms.is_some_and(|well_ms| started_ms >= well_ms);
        let diverged = self.lock().slaves.values().any(|followed| followed.diverged);
        let least = if all && is_well && !diverged { slaves.len() } else { replication.slaves_confirming() };
        if least == 0 || place.physical_offset.is_none() {
            return;
        }
        let copies = slaves.iter().map(|slave| {
            if self.may_have_lost(slave, started_ms) {
                return Ok(());
            }
            replica::copy(draft.id, slave, place, self.log_of_slave(slave, place.physical_offset).as_deref())
        });
        let copies: Vec<Verdict> = copies.collect();
        self.note(replica::at_ack(draft.id, &copies, least));
    }

    /// A SYNC_MASTER has answered that it has put a message back: the copy must be on as many slaves as one of a send.
    pub fn handed_back(&self, node: NodeId, range: Range<u64>) {
        let Some(broker) = &self.nodes.name_of(node) else { return };
        let Some(replication) = &self.settings.replication else { return };
        let least = replication.slaves_confirming();
        if least == 0 {
            return;
        }
        let base = range.start - range.start % self.settings.commit_log_file_bytes;
        let own = self.log_bytes(node, base, range.start - base..range.end - base, Side::Kernel);
        let own = own.unwrap_or_default();
        let waited_ms = replication.slave_timeout_ms + self.settings.sync_flush_timeout_ms;
        let from_ms = self.world.now_ms().saturating_sub(waited_ms);
        let copies = names::slaves_of(&self.settings, broker).into_iter().map(|slave| {
            let copy = self.log_of_slave(&slave, Some(range.start));
            match self.may_have_lost(&slave, from_ms) {
                true => Ok(()),
                false => replica::handed_back(&slave, range.start, &own, copy.as_deref()),
            }
        });
        let copies: Vec<Verdict> = copies.collect();
        self.note(replica::on_slaves("what was handed back", &copies, least));
    }

    /// Whether a slave may have lost what it had confirmed since then: with its disk, or its power where it does not flush.
    fn may_have_lost(&self, slave: &str, from_ms: u64) -> bool {
        let inner = self.lock();
        let disk_lost_ms = inner.slaves.get(slave).and_then(|followed| followed.disk_lost_ms);
        disk_lost_ms.is_some_and(|at_ms| at_ms >= from_ms)
            || !self.settings.slaves_sync_flush() && inner.history.lost_power_since(slave, from_ms)
    }

    /// What a slave has of the log from the start of a record on.
    fn log_of_slave(&self, slave: &str, at: Option<u64>) -> Option<Vec<u8>> {
        let (node, at) = (self.nodes.get(slave)?, at?);
        let file_bytes = self.settings.commit_log_file_bytes;
        let base = at - at % file_bytes;
        let range = at - base..(at - base + RECORD_BYTES_MAX).min(file_bytes);
        let side = if self.settings.slaves_sync_flush() { Side::Surface } else { Side::Kernel };
        self.log_bytes(node, base, range, side)
    }

    /// Nothing has been wrong with the cluster for a while: slaves follow.
    pub fn is_well(&self) {
        let now_ms = self.world.now_ms();
        let mut inner = self.lock();
        inner.well_from_ms = Some(now_ms);
        // What has had no answer by now is not on its way any more.
        inner.history.deletions.iter_mut().for_each(|deletion| {
            deletion.until_ms = deletion.until_ms.min(now_ms);
        });
    }

    /// A send to that broker was answered FLUSH_SLAVE_TIMEOUT; its record begins at `at`.
    pub fn slave_timed_out(&self, draft: &Draft, broker: &str, at: Option<u64>) {
        let Some(replication) = &self.settings.replication else { return };
        self.lock().history.slave_timeouts += 1;
        let started_ms = self.lock().history.sends.get(&draft.id).map_or(0, |sent| sent.started_ms);
        let took_ms = self.world.now_ms().saturating_sub(started_ms);
        self.note(replica::timeout(draft.id, took_ms, replication.slave_timeout_ms));
        if let Some(at) = at.filter(|_| replication.in_sync.is_none()) {
            let reported = self.lock().reported_max.get(broker).copied().unwrap_or(0);
            self.note(replica::too_far(draft.id, at, reported, replication.behind_max));
        }
        let least = replication.in_sync.map(|in_sync| in_sync.min);
        self.note(replica::waited(draft.id, self.slaves_dead_for(started_ms), least));
    }

    /// For how many ms before then no slave has lived, when that is longer than a master may hold its link for open; none has
    /// lived since.
    fn slaves_dead_for(&self, ms: u64) -> Option<u64> {
        let linked_ms = self.settings.replication.as_ref()?.housekeeping_ms + LINK_END_MS;
        let dead = names::slaves(&self.settings).into_iter().map(|slave| {
            let node = self.nodes.of(&slave);
            let ended_ms = self.world.ends_ms(node).last().copied()?;
            let is_dead = !self.world.is_running(node) && ended_ms + linked_ms <= ms;
            is_dead.then(|| ms - ended_ms)
        });
        dead.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// A send was answered SLAVE_NOT_AVAILABLE.
    pub fn slave_not_available(&self, draft: &Draft) {
        let Some(replication) = &self.settings.replication else { return };
        self.lock().history.slaves_missing += 1;
        self.note(replica::not_available(draft.id, replication.in_sync.is_some()));
    }

    /// A slave says that its master's history is another one.
    pub fn found_diverged(&self, node: NodeId, at: u64) {
        if let Some(slave) = self.slave_named(node) {
            self.lock().slaves.entry(slave).or_default().knows = true;
        }
        self.diverged(node, at);
    }

    /// A slave has found nothing that keeps it from following.
    pub fn slave_follows(&self, node: NodeId) {
        if let Some(slave) = self.slave_named(node) {
            self.lock().slaves.entry(slave).or_default().knows = false;
        }
    }

    /// A slave has given a consumer something, or taken something from its master.
    pub fn slave_serves(&self, node: NodeId, what: &str) {
        let Some(slave) = self.slave_named(node) else { return };
        let knows = self.lock().slaves.get(&slave).is_some_and(|followed| followed.knows);
        self.note(replica::served(&slave, what, knows));
    }

    /// A slave has found, or its master, that their histories differ.
    pub fn diverged(&self, node: NodeId, at: u64) {
        let Some(slave) = self.slave_named(node) else { return };
        let master = master_of(&slave);
        if self.is_left_behind(&slave, at) {
            return;
        }
        let mut inner = self.lock();
        inner.slaves.entry(slave.clone()).or_default().diverged = true;
        inner.history.diverged.insert(slave.clone());
        let trapped = inner.brokers.get(&master).is_some_and(|watched| watched.power_trap);
        let lost = trapped || inner.history.lost_power_since(&master, 0);
        drop(inner);
        self.note(replica::divergence(&slave, at, self.settings.sync_flush, lost));
    }

    /// A master has accepted a connection to its HA port.
    pub fn slave_accepted(&self, node: NodeId, connection: u64, host: u64) {
        let mut slaves = names::slaves(&self.settings).into_iter();
        let slave = slaves.find(|slave| u64::from(u32::from(address(&self.nodes.machine(slave)))) == host);
        if let Some(slave) = slave {
            self.lock().connections.insert((node, connection), slave);
        }
    }

    /// A master counts that its slave has its log up to `end`: as it says for the first time over a connection, held against
    /// both disks.
    pub fn slave_reported(&self, node: NodeId, connection: u64, end: u64) {
        let (slave, is_first) = {
            let mut inner = self.lock();
            let Some(slave) = inner.connections.get(&(node, connection)).cloned() else { return };
            let max = inner.reported_max.entry(master_of(&slave)).or_default();
            *max = end.max(*max);
            (slave, inner.reported.insert((node, connection)))
        };
        // On its way may be what its slave has said and is not any more.
        let is_master = self.nodes.get(&master_of(&slave)) == Some(node);
        if !is_first || !is_master || end == 0 {
            return;
        }
        let folder = format!("{STORE}/commitlog");
        let ((image, disk), (masters, master)) = (self.cached(&slave), self.cached(&master_of(&slave)));
        // It may have died, and lost it, since it said so.
        if disk.log.end < end {
            return;
        }
        self.note(replica::fed_from(&slave, end, master.log.min));
        let upto = |log: Log| Log { end: log.end.min(end), ..log };
        let (own, of_master) = (upto(disk.log), upto(master.log));
        self.note(replica::followed(&slave, (&image, &own), (&masters, &of_master), &folder));
        if self.settings.slaves_sync_flush() {
            self.note(replica::reported(&slave, end, self.durable(&slave).1.log.end));
        }
    }

    /// A master has refused what a slave has reported over a connection: it has what the master never gave it.
    pub fn refused_as_ahead(&self, master: NodeId, connection: u64, at: u64) {
        let slave = self.lock().connections.get(&(master, connection)).cloned();
        let slave = slave.and_then(|slave| self.nodes.get(&slave));
        if let Some(slave) = slave {
            self.diverged(slave, at);
        }
    }

    /// Whether sends may be refused for want of slaves: one has given up.
    #[must_use]
    pub fn lacks_slaves(&self) -> bool {
        let few = self.settings.replication.as_ref().and_then(|replication| replication.in_sync);
        few.is_some_and(|in_sync| in_sync.min > 1)
            && self.lock().slaves.values().any(|followed| followed.diverged)
    }

    #[must_use]
    pub fn has_diverged(&self, slave: &str) -> bool {
        self.lock().slaves.get(slave).is_some_and(|followed| followed.diverged)
    }

    /// A broker has remembered what a group has committed of a queue, as consumers commit to a slave while its master is away,
    /// perhaps from where they began anew. The group is named behind the topic, as in the broker's file.
    pub fn offset_committed(&self, node: NodeId, (group, queue): (&str, i32), offset: i64) {
        let Some(slave) = self.slave_named(node) else { return };
        let mut inner = self.lock();
        inner.slaves.entry(slave).or_default().offsets.committed((group.to_owned(), queue), offset);
    }

    /// A broker begins to write its committed offsets, as they are at this moment.
    pub fn offsets_taken(&self, node: NodeId) {
        let Some(slave) = self.slave_named(node) else { return };
        self.lock().slaves.entry(slave).or_default().offsets.taken();
    }

    /// A broker has written its committed offsets: those of a slave go back only where a consumer has.
    pub fn offsets_written(&self, node: NodeId) {
        let Some(slave) = self.slave_named(node) else { return };
        let path = format!("{CONFIG}/consumerOffset.json");
        let mut image = Image::default();
        if let Some(bytes) = self.world.cache_read(node, &path, 0..u64::MAX) {
            image.files.insert(path.clone(), bytes);
        }
        let Version::Whole(value) = load(&image, &path) else { return };
        let now = consumer_offsets(&value);
        let verdict = self.lock().slaves.entry(slave.clone()).or_default().offsets.written(&slave, &now);
        self.note(verdict);
    }

    /// From now on, or no longer, no link has a reason to end.
    pub fn resting(&self, resting: bool) {
        self.lock().resting = resting;
    }

    /// A side of a link has given it up.
    pub fn link_ended(&self, side: &str) {
        let inner = self.lock();
        // One whose master has another history tries again and again.
        let excused = !inner.resting || inner.slaves.values().any(|followed| followed.diverged);
        drop(inner);
        if !excused {
            self.note(Err(replica::link_ended(side)));
        }
    }

    /// Slaves whose logs begin where their master's does: the others have begun anew, with its last file.
    fn whole_slaves(&self, broker: &str) -> Vec<(String, u64)> {
        let logs = names::slaves_of(&self.settings, broker).into_iter().map(|slave| {
            let log = self.cached(&slave).1.log;
            (slave, log.min, log.end)
        });
        logs.filter(|(_, min, _)| *min == 0).map(|(slave, _, end)| (slave, end)).collect()
    }

    /// Whether what a master has answered SEND_OK is on a slave that has all before it too.
    #[must_use]
    pub fn has_heir(&self, broker: &str) -> bool {
        let (all, whole) = (names::slaves_of(&self.settings, broker).len(), self.whole_slaves(broker).len());
        let confirming = self.settings.replication.as_ref().map_or(0, Replication::slaves_confirming);
        whole > 0 && (confirming == 0 || confirming > all - whole)
    }

    /// Which slave takes over when its master is lost: of the whole ones the one with the most.
    #[must_use]
    pub fn heir(&self, broker: &str) -> Option<String> {
        let longest = self.whole_slaves(broker).into_iter().max_by_key(|(_, end)| *end);
        longest.map(|(slave, _)| slave)
    }

    /// Notes what was answered SEND_OK by a broker and is not on a disk.
    pub fn lost(&self, broker: &str, disk: &BrokerDisk) {
        let confirmed = self.history(|history| replica::confirmed(history, broker));
        let lost = confirmed.into_iter().filter(|(id, place)| !replica::has(disk, *id, place));
        let lost: Vec<MessageId> = lost.map(|(id, _)| id).collect();
        self.lock().history.lost.extend(lost);
    }

    /// What its master has answered SEND_OK against what the slave has that has taken over; one that waits for no slave has
    /// promised nothing.
    ///
    /// # Errors
    /// I1: the first that it lacks, but for what it was excused to lose.
    pub fn judge_heir(&self, slave: &str, disk: &BrokerDisk) -> Verdict {
        let broker = master_of(slave);
        if self.settings.replication.as_ref().is_none_or(|replication| replication.slaves_confirming() == 0) {
            return Ok(());
        }
        let confirmed = self.history(|history| replica::confirmed(history, &broker));
        let mut lacking = confirmed.iter().filter(|(id, place)| !replica::has(disk, *id, place));
        let started = |id: &MessageId| self.history(|history| history.sends[id].started_ms);
        match lacking.find(|(id, _)| !self.may_have_lost(slave, started(id))) {
            None => Ok(()),
            Some((id, place)) => Err(replica::not_inherited(slave, *id, place)),
        }
    }

    /// A slave's machine is now the master's, and the other way round.
    pub fn swapped(&self, broker: &str, slave: &str) {
        let ends = self.world.ends_ms(self.nodes.of(broker)).len();
        let mut inner = self.lock();
        let watched = inner.brokers.remove(slave).unwrap_or_default();
        inner.brokers.insert(broker.to_owned(), Watched { ends_seen: ends, ..watched });
    }

    /// The master is another one, which has recovered: what it does not have was never more than its predecessor's.
    pub fn inherited(&self, broker: &str, disk: &BrokerDisk) {
        let is_there = |id: MessageId, place: &Place| replica::has(disk, id, place);
        self.lock().history.inherited(broker, is_there);
    }

    /// The machine of a master that was lost is now a slave's, with a new disk.
    pub fn replaced(&self, slave: &str) {
        self.lock().slaves.insert(slave.to_owned(), Followed::default());
        self.disk_lost(slave);
    }

    /// Whether sends that wait are answered SEND_OK, where masters wait for their slaves and no slave has given up.
    ///
    /// # Errors
    /// I19.
    pub fn judge_confirming(&self, healthy_from_ms: u64) -> Result<(), Broken> {
        let inner = self.lock();
        let waits = self.settings.replication.as_ref().is_some_and(|replication| {
            replication.slaves_confirming() > 0 || replication.in_sync.is_some_and(|in_sync| in_sync.all)
        });
        // What the transient pool holds is pushed when it is committed, which may take longer than a send waits.
        if !waits || self.settings.pool.is_some() || inner.slaves.values().any(|followed| followed.diverged) {
            return Ok(());
        }
        replica::confirms(&inner.history, healthy_from_ms)
    }

    /// The files that slaves copy, as a broker's kernel shows them.
    #[must_use]
    pub fn cached_tables(&self, broker: &str) -> Image {
        self.cached_files(broker, FILES.into_iter().chain([Table::Groups.file()]))
    }

    /// Whether a slave's files have what its master's had.
    ///
    /// # Errors
    /// I19: what is missing.
    pub fn has_copied(&self, slave: &str, masters: &Image) -> Verdict {
        let own = self.cached_tables(slave);
        let path = |file: &str| format!("{CONFIG}/{file}");
        for table in [Table::Topics, Table::Groups] {
            let of = |image: &Image| load(image, &path(table.file()));
            tables::copied(slave, table, &of(masters), &of(&own))?;
        }
        let (_, disk) = self.cached(slave);
        let of = |image: &Image| consumer_offset::in_file(image, CONFIG);
        consumer_offset::copied(slave, &of(masters), &of(&own), &disk)?;
        let of = |image: &Image| match load(image, &path("delayOffset.json")) {
            Version::Whole(value) => delay_offsets(&value),
            Version::Absent | Version::Broken => BTreeMap::new(),
        };
        delay::copied(slave, &of(masters), &of(&own), &disk)
    }

    /// The first slave that has not all of its master's log, and has not said why; with what is missing.
    #[must_use]
    pub fn slave_behind(&self) -> Option<Broken> {
        let slaves = names::slaves(&self.settings).into_iter();
        let mut followers = slaves.filter(|slave| !self.has_diverged(slave));
        followers.find_map(|slave| {
            let (master, own) = (self.cached(&master_of(&slave)).1, self.cached(&slave).1);
            replica::behind(&slave, &own.log, &master.log)
        })
    }

    /// Every slave's log against its master's, as kernels show them, or as their disks' surfaces have them.
    ///
    /// # Errors
    /// The first difference.
    pub fn judge_replicas(&self, durable: bool) -> Result<(), Broken> {
        for slave in names::slaves(&self.settings) {
            let of = |node: &str| if durable { self.durable(node) } else { self.cached(node) };
            let (image, disk) = of(&slave);
            if durable {
                // While it runs its queues may be a moment behind.
                queue_matches_log::judge(&slave, &disk)?;
                position_order::stopped(&slave, &disk)?;
            }
            if self.has_diverged(&slave) {
                continue;
            }
            let (masters, master) = of(&master_of(&slave));
            let folder = format!("{STORE}/commitlog");
            replica::same(&slave, (&image, &disk.log), (&masters, &master.log), &folder)?;
        }
        Ok(())
    }
}

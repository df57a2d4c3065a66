//! What the witness sees of slaves. Their logs are judged against their masters'.

use std::collections::BTreeMap;

use hotfire_sim::NodeId;

use super::{CONFIG, RECORD_BYTES_MAX, STORE, Witness};
use crate::cluster::master_of;
use crate::history::{Place, PowerLoss};
use crate::oracle::{Broken, consumer_offset, queue_matches_log, replica};
use crate::plan::names;
use crate::platter::Image;
use crate::platter::config::{Version, consumer_offsets, load};
use crate::workload::Draft;

#[derive(Default)]
pub struct Followed {
    /// It has said that its master's history is another one.
    diverged: bool,
    /// The committed offsets that this life of its process has written.
    offsets: BTreeMap<(String, i32), i64>,
    /// A consumer has committed to it, as consumers do while its master is away, perhaps from where it began anew.
    committed_here: bool,
}

#[must_use]
pub fn is_slave(node: &str) -> bool {
    node.starts_with("slave-")
}

impl Witness {
    fn slave_named(&self, node: NodeId) -> Option<String> {
        let (name, _) = self.nodes.iter().find(|(_, id)| **id == node)?;
        is_slave(name).then(|| name.clone())
    }

    /// A slave's machine will lose power at one of its next storage steps: from now on it may have lost anything that it
    /// has not flushed.
    pub fn slave_power_trap(&self, slave: &str) {
        self.lock().history.power_losses.push(PowerLoss { node: slave.to_owned(), at_ms: u64::MAX });
    }

    /// A slave's program begins.
    pub fn slave_starts(&self, slave: &str) {
        let mut inner = self.lock();
        let followed = inner.slaves.entry(slave.to_owned()).or_default();
        followed.offsets.clear();
        followed.committed_here = false;
    }

    /// A slave has recovered and serves.
    pub fn slave_ready(&self, slave: &str) {
        let (_, disk) = self.cached(slave);
        self.note(queue_matches_log::entries(slave, &disk).map(drop));
    }

    /// A SYNC_MASTER has answered SEND_OK: the slave must have the record, on its disk's surface where it flushes before it
    /// reports. What a loss of power has taken from a slave that does not is excused.
    pub(super) fn judge_confirmed(&self, draft: &Draft, place: &Place) {
        let sync_master =
            self.settings.replication.as_ref().is_some_and(|replication| replication.sync_master);
        if !sync_master {
            return;
        }
        let slave = place.broker.replacen("broker-", "slave-", 1);
        let (Some(node), Some(at)) = (self.nodes.get(&slave).copied(), place.physical_offset) else { return };
        let sync_flush = self.settings.sync_flush;
        let started_ms = self.lock().history.sends.get(&draft.id).map_or(0, |sent| sent.started_ms);
        if !sync_flush && self.lock().history.lost_power_since(&slave, started_ms) {
            return;
        }
        let file_bytes = self.settings.commit_log_file_bytes;
        let base = at - at % file_bytes;
        let range = at - base..(at - base + RECORD_BYTES_MAX).min(file_bytes);
        let path = format!("{STORE}/commitlog/{base:020}");
        let bytes = match sync_flush {
            true => self.world.platter_read(node, &path, range),
            false => self.world.cache_read(node, &path, range),
        };
        self.note(replica::at_ack(draft.id, &slave, place, bytes.as_deref()));
    }

    /// A send was answered FLUSH_SLAVE_TIMEOUT.
    pub fn slave_timed_out(&self, draft: &Draft) {
        let Some(replication) = &self.settings.replication else { return };
        let started_ms = self.lock().history.sends.get(&draft.id).map_or(0, |sent| sent.started_ms);
        let took_ms = self.world.now_ms().saturating_sub(started_ms);
        self.note(replica::timeout(draft.id, took_ms, replication.slave_timeout_ms));
    }

    /// A slave has found that its master's history is another one.
    pub fn diverged(&self, node: NodeId, at: u64) {
        let Some(slave) = self.slave_named(node) else { return };
        let master = master_of(&slave);
        let mut inner = self.lock();
        inner.slaves.entry(slave.clone()).or_default().diverged = true;
        let trapped = inner.brokers.get(&master).is_some_and(|watched| watched.power_trap);
        let lost = trapped || inner.history.lost_power_since(&master, 0);
        drop(inner);
        self.note(replica::divergence(&slave, at, self.settings.sync_flush, lost));
    }

    #[must_use]
    pub fn has_diverged(&self, slave: &str) -> bool {
        self.lock().slaves.get(slave).is_some_and(|followed| followed.diverged)
    }

    /// A consumer has committed an offset to a broker.
    pub fn offset_committed(&self, node: NodeId) {
        let Some(slave) = self.slave_named(node) else { return };
        self.lock().slaves.entry(slave).or_default().committed_here = true;
    }

    /// A broker has written its committed offsets: those of a slave never go back while it runs.
    pub fn offsets_written(&self, node: NodeId) {
        let Some(slave) = self.slave_named(node) else { return };
        let path = format!("{CONFIG}/consumerOffset.json");
        let mut image = Image::default();
        if let Some(bytes) = self.world.cache_read(node, &path, 0..u64::MAX) {
            image.files.insert(path.clone(), bytes);
        }
        let Version::Whole(value) = load(&image, &path) else { return };
        let now = consumer_offsets(&value);
        let (before, committed_here) = {
            let mut inner = self.lock();
            let followed = inner.slaves.entry(slave.clone()).or_default();
            (std::mem::replace(&mut followed.offsets, now.clone()), followed.committed_here)
        };
        if committed_here {
            return;
        }
        self.note(consumer_offset::never_back(&slave, &before, &now));
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

    /// Whether sends that wait are answered SEND_OK, where masters wait for their slaves and no slave has given up.
    ///
    /// # Errors
    /// I19.
    pub fn judge_confirming(&self, healthy_from_ms: u64) -> Result<(), Broken> {
        let inner = self.lock();
        let waits = self.settings.replication.as_ref().is_some_and(|replication| replication.sync_master);
        // What the transient pool holds is pushed when it is committed, which may take longer than a send waits.
        if !waits || self.settings.pool.is_some() || inner.slaves.values().any(|followed| followed.diverged) {
            return Ok(());
        }
        replica::confirms(&inner.history, healthy_from_ms)
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

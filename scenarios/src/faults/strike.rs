//! Brings a plan's faults over the world, and ends them.

use std::collections::BTreeMap;
use std::time::Duration;

use hotfire_sim::{Link, NodeId, World};

use super::damage::{self, Damage};
use crate::cluster::Cluster;
use crate::oracle::refused_start;
use crate::plan::{Fault, names};
use crate::platter::Image;
use crate::witness::{STORE, is_broker};

/// What somebody else leaves of a full disk: less than one file.
const FULL_DISK_FREE_BYTES: u64 = 4_096;
/// A struck node is back at its usual work so much later.
const AFTERMATH_MS: u64 = 5_000;
/// No step is as far away as this: a trap set here never springs.
pub const NEVER_STEP: u64 = u64::MAX;

/// Which faults are on, and how many have struck.
pub struct Striker {
    cluster: Cluster,
    /// Reasons for which a node is held down.
    held: BTreeMap<NodeId, u32>,
    pub struck: BTreeMap<String, u64>,
    /// Brokers that must not start, each with what is wrong with its files, and how these were then.
    damaged: BTreeMap<String, (Damage, Image)>,
}

/// What happens at one moment of a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Moment {
    /// Ends come first: a fault that begins as another ends finds the world without it.
    Ends(usize),
    Begins(usize),
}

/// The plan's moments in order of time.
#[must_use]
pub fn moments(faults: &[crate::plan::Planned]) -> Vec<(u64, Moment)> {
    let mut moments = Vec::with_capacity(faults.len() * 2);
    for (index, planned) in faults.iter().enumerate() {
        moments.push((planned.at_ms, Moment::Begins(index)));
        moments.push((planned.at_ms + planned.fault.lasts_ms(), Moment::Ends(index)));
    }
    // By time; a fault of no length ends after it has begun.
    moments.sort_by_key(|(at_ms, moment)| match moment {
        Moment::Ends(index) if faults[*index].fault.lasts_ms() > 0 => (*at_ms, 0, *index),
        Moment::Begins(index) => (*at_ms, 1, *index),
        Moment::Ends(index) => (*at_ms, 2, *index),
    });
    moments
}

impl Striker {
    #[must_use]
    pub fn new(cluster: Cluster) -> Striker {
        Striker { cluster, held: BTreeMap::new(), struck: BTreeMap::new(), damaged: BTreeMap::new() }
    }

    fn world(&self) -> &World {
        &self.cluster.world
    }

    pub fn begin(&mut self, fault: &Fault) {
        self.cluster.witness.before_change();
        *self.struck.entry(fault.kind().to_owned()).or_insert(0) += 1;
        if let Some(node) = fault.troubles() {
            let lasts_ms = match fault {
                // The trap may spring at any time.
                Fault::CrashInStep { .. } | Fault::PowerLossInStep { .. } => {
                    self.cluster.plan.workload.faults_end_ms
                }
                fault => fault.lasts_ms(),
            };
            self.cluster.witness.troubled(node, lasts_ms + AFTERMATH_MS);
        }
        if fault.muffles() {
            self.cluster.witness.muffled();
        }
        match fault {
            Fault::Crash { node, .. } => self.crash(node),
            Fault::CrashInStep { node, step, .. } => {
                self.world().crash_at_step(self.cluster.node(node), *step);
            }
            Fault::PowerLossInStep { node, step, down_ms } => {
                self.cluster.witness.power_trap(node);
                let down = Duration::from_millis(*down_ms);
                self.world().power_off_at_step(self.cluster.node(node), *step, Some(down));
            }
            Fault::Restart { node, .. } => self.stop(node),
            Fault::PowerLoss { node, .. } => self.power_off(node),
            Fault::DiskLoss { node, .. } => self.lose_disk(node),
            Fault::LostFile { node, .. } | Fault::BitRot { node, .. } | Fault::Rot { node, .. } => {
                self.damage(node, fault);
            }
            Fault::PowerLossAll { .. } => self.machines().iter().for_each(|node| self.power_off(node)),
            Fault::Partition { from, to, one_way, .. } => self.for_pairs(from, to, |world, a, b| {
                if *one_way {
                    world.network().cut_one_way(a, b);
                } else {
                    world.network().cut(a, b);
                }
            }),
            Fault::Latency { from, to, add_ms, .. } => {
                let add_ns = add_ms * 1_000_000;
                self.change_link(from, to, |link| link.latency_ns += add_ns);
            }
            Fault::Loss { permille, .. } => {
                let loss = f64::from(*permille) / 1_000.0;
                self.world().network().change_all(|link| link.loss = loss);
            }
            Fault::SlowDisk { node, add_ms, .. } => {
                let flush_us = self.cluster.plan.settings.flush_latency_us + add_ms * 1_000;
                self.disk(node).change(|faults| faults.flush_ns = flush_us * 1_000);
            }
            Fault::StalledDisk { node, for_ms } => self.disk(node).stall_for(Duration::from_millis(*for_ms)),
            Fault::FlushError { node, permille, .. } => {
                self.disk(node).set_flush_error(f64::from(*permille) / 1_000.0);
            }
            Fault::FullDisk { node, .. } => self.disk(node).fill(FULL_DISK_FREE_BYTES),
            Fault::LittleRoom { node, free_bytes, .. } => self.disk(node).fill(*free_bytes),
            Fault::ReadError { node, permille, .. } => {
                let read_error = f64::from(*permille) / 1_000.0;
                self.disk(node).change(|faults| faults.read_error = read_error);
            }
            Fault::WritebackError { node, permille, .. } => {
                let writeback_error = f64::from(*permille) / 1_000.0;
                self.disk(node).change(|faults| faults.writeback_error = writeback_error);
            }
            Fault::ReadOnlyDisk { node, for_ms } => {
                // Meanwhile nothing that is in memory can be written.
                self.cluster.witness.paused(node, *for_ms);
                self.cluster.witness.read_only(node, *for_ms);
                self.disk(node).set_read_only();
            }
            Fault::TightDisk { node, percent, .. } => {
                let disk = self.disk(node);
                let left = 100_u64.saturating_sub(*percent);
                disk.fill(disk.faults().capacity / 100 * left);
            }
            Fault::SlowReader { stands_still, .. } => self.cluster.progress(|progress| {
                progress.slow_readers += 1;
                progress.still_readers += u32::from(*stands_still);
            }),
            Fault::ClockJump { node, by_ms } => {
                self.cluster.witness.clock_jumped(node, *by_ms);
                self.world().clock(self.cluster.node(node)).jump_ms(*by_ms);
            }
            Fault::Pause { node, for_ms } => {
                self.cluster.witness.paused(node, *for_ms);
                self.world().pause(self.cluster.node(node));
            }
        }
    }

    pub fn end(&mut self, fault: &Fault) {
        self.cluster.witness.before_change();
        match fault {
            Fault::Crash { node, .. } | Fault::PowerLoss { node, .. } | Fault::DiskLoss { node, .. } => {
                self.release(node);
            }
            Fault::LostFile { node, .. } | Fault::BitRot { node, .. } | Fault::Rot { node, .. } => {
                self.mend(node);
                self.release(node);
            }
            Fault::Restart { node, .. } => {
                let id = self.cluster.node(node);
                if self.world().is_running(id) {
                    if is_broker(node) {
                        self.cluster.witness.before_crash(node);
                    }
                    self.world().crash(id);
                }
                self.release(node);
            }
            Fault::PowerLossAll { .. } => self.machines().iter().for_each(|node| self.release(node)),
            Fault::CrashInStep { .. }
            | Fault::PowerLossInStep { .. }
            | Fault::ClockJump { .. }
            | Fault::StalledDisk { .. } => {}
            Fault::Partition { from, to, .. } => {
                self.for_pairs(from, to, |world, a, b| world.network().heal(a, b));
            }
            Fault::Latency { from, to, add_ms, .. } => {
                let add_ns = add_ms * 1_000_000;
                self.change_link(from, to, |link| link.latency_ns = link.latency_ns.saturating_sub(add_ns));
            }
            Fault::Loss { .. } => self.world().network().change_all(|link| link.loss = 0.0),
            Fault::SlowDisk { node, .. } => set_disk_speed(&self.cluster, self.cluster.node(node)),
            Fault::FlushError { node, .. } => {
                self.disk(node).set_flush_error(0.0);
                // The operator replaces the cable and starts the broker again: a store takes no writes after a failed flush.
                self.restart(node);
            }
            Fault::ReadError { node, .. } => self.disk(node).change(|faults| faults.read_error = 0.0),
            Fault::WritebackError { node, .. } => {
                self.disk(node).change(|faults| faults.writeback_error = 0.0);
                self.restart(node);
            }
            Fault::ReadOnlyDisk { node, .. } => {
                self.disk(node).set_writable();
                self.restart(node);
            }
            Fault::FullDisk { node, .. } | Fault::LittleRoom { node, .. } | Fault::TightDisk { node, .. } => {
                self.disk(node).empty();
            }
            Fault::SlowReader { stands_still, .. } => self.cluster.progress(|progress| {
                progress.slow_readers = progress.slow_readers.saturating_sub(1);
                progress.still_readers = progress.still_readers.saturating_sub(u32::from(*stands_still));
            }),
            Fault::Pause { node, .. } => self.world().resume(self.cluster.node(node)),
        }
    }

    /// Nothing is wrong with the world from here on, and every node runs.
    pub fn heal(&mut self) {
        self.cluster.witness.before_change();
        self.cluster.progress(|progress| (progress.slow_readers, progress.still_readers) = (0, 0));
        let settings = &self.cluster.plan.settings;
        set_network(&self.cluster);
        for name in names::all(settings) {
            let node = self.cluster.node(&name);
            self.world().resume(node);
            self.world().crash_at_step(node, NEVER_STEP);
            self.world().disk(node).calm();
            set_disk_speed(&self.cluster, node);
            if !self.world().is_running(node) {
                self.held.remove(&node);
                self.world().restart(node);
            }
        }
    }

    fn disk(&self, node: &str) -> hotfire_sim::disk::DiskControl<'_> {
        self.world().disk(self.cluster.node(node))
    }

    /// Everything that has a power cord of its own and data on a disk.
    fn machines(&self) -> Vec<String> {
        let settings = &self.cluster.plan.settings;
        [names::name_servers(settings), names::stores(settings)].concat()
    }

    fn crash(&mut self, name: &str) {
        let node = self.cluster.node(name);
        if is_broker(name) {
            self.cluster.witness.before_crash(name);
        }
        self.world().crash(node);
        *self.held.entry(node).or_insert(0) += 1;
    }

    /// As by SIGTERM.
    fn stop(&mut self, name: &str) {
        let node = self.cluster.node(name);
        if self.world().is_running(node) {
            self.world().stop(node);
        }
        *self.held.entry(node).or_insert(0) += 1;
    }

    pub fn power_off(&mut self, name: &str) {
        let node = self.cluster.node(name);
        self.cluster.witness.before_power_loss(name);
        self.world().power_off(node);
        *self.held.entry(node).or_insert(0) += 1;
    }

    /// For good, until its machine is started again.
    pub fn lose_disk(&mut self, name: &str) {
        self.power_off(name);
        self.cluster.witness.disk_lost(name);
        self.disk(name).replace();
    }

    /// The power goes, and then something else. What must not start is started, to see that it does not.
    fn damage(&mut self, name: &str, fault: &Fault) {
        self.power_off(name);
        if self.damaged.contains_key(name) {
            return;
        }
        let node = self.cluster.node(name);
        let (image, disk) = self.cluster.witness.durable(name);
        let settings = &self.cluster.plan.settings;
        let files = (settings.queue_file_bytes, settings.index_file.0);
        match damage::strike(self.world(), node, fault, (&image, &disk), files) {
            None => {}
            Some(Damage::Repairable) => self.cluster.witness.to_be_made(name),
            Some(Damage::Rotten(turned)) => {
                self.cluster.witness.to_be_made(name);
                self.cluster.witness.turned(name, turned);
            }
            Some(damage) => {
                let image = self.world().platter(node).into();
                self.damaged.insert(name.to_owned(), (damage, image));
                self.cluster.witness.damaged(name);
                self.world().restart(node);
            }
        }
    }

    /// What was lost is back, and nothing else has changed meanwhile.
    fn mend(&mut self, name: &str) {
        let Some((damage, before)) = self.damaged.remove(name) else { return };
        let node = self.cluster.node(name);
        self.world().crash(node);
        let now = self.world().platter(node).into();
        self.cluster.witness.note(refused_start::untouched(name, &before, &now, STORE));
        damage::undo(self.world(), node, damage);
        self.cluster.witness.mended(name);
    }

    pub fn release(&mut self, name: &str) {
        let node = self.cluster.node(name);
        let held = self.held.entry(node).or_insert(0);
        *held = held.saturating_sub(1);
        if *held == 0 && !self.world().is_running(node) {
            self.world().restart(node);
        }
    }

    fn restart(&mut self, name: &str) {
        let node = self.cluster.node(name);
        if self.held.get(&node).is_some_and(|held| *held > 0) {
            return;
        }
        if is_broker(name) {
            self.cluster.witness.before_crash(name);
        }
        self.world().restart(node);
    }

    fn for_pairs(&self, from: &[String], to: &[String], each: impl Fn(&World, NodeId, NodeId)) {
        for a in from {
            for b in to.iter().filter(|b| *b != a) {
                each(self.world(), self.cluster.node(a), self.cluster.node(b));
            }
        }
    }

    fn change_link(&self, from: &str, to: &str, change: impl FnOnce(&mut Link)) {
        let (from, to) = (self.cluster.node(from), self.cluster.node(to));
        if from != to {
            self.world().network().change(from, to, change);
        }
    }
}

/// The network as the settings have it, without faults.
pub fn set_network(cluster: &Cluster) {
    let latency_ns = cluster.plan.settings.network_latency_us * 1_000;
    let network = cluster.world.network();
    network.calm();
    network.change_all(|link| {
        link.latency_ns = latency_ns;
        link.jitter_ns = latency_ns / 2;
    });
}

/// The disk as fast, and as large, as the settings have it.
pub fn set_disk_speed(cluster: &Cluster, node: NodeId) {
    let flush_ns = cluster.plan.settings.flush_latency_us * 1_000;
    cluster.world.disk(node).change(|faults| {
        faults.flush_ns = flush_ns;
        faults.flush_jitter_ns = flush_ns;
        if let Some(deletion) = &cluster.plan.settings.deletion {
            faults.capacity = deletion.disk_bytes;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Planned;

    #[test]
    fn an_end_comes_before_the_next_beginning_and_after_its_own() {
        let crash =
            |at_ms, down_ms| Planned { at_ms, fault: Fault::Crash { node: "broker-a".into(), down_ms } };
        let jump = Planned { at_ms: 20, fault: Fault::ClockJump { node: "broker-a".into(), by_ms: 5 } };
        let faults = [crash(10, 10), crash(20, 5), jump];
        let order: Vec<_> = moments(&faults).into_iter().map(|(_, moment)| moment).collect();
        use Moment::*;
        assert_eq!(order, [Begins(0), Ends(0), Begins(1), Begins(2), Ends(2), Ends(1)]);
    }
}

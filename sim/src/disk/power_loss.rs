//! What a power loss leaves.
//!
//! Drawn once per power loss: nothing undurable survives, everything does, or each part is drawn for itself. Then per page:
//!
//! | page | lost | whole | torn by sector |
//! |---|---|---|---|
//! | in flight | 30 % | 42 % | 28 % |
//! | dirty | 60 % | 24 % | 16 % |
//!
//! The length of a file is its durable one or any it has had since. Names: see `names`. After it the cache is cold.

use super::page_cache::{Inode, Page, SECTOR};
use super::{DRAW_POWER_LOSS, Disk, PAGE};
use crate::cluster::NodeId;
use crate::seed::{Draws, Key, mix};
use crate::world::Inner;

/// How much of what is not durable outlives a power loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The worst that is allowed.
    NothingSurvives,
    /// As if it had been a process crash.
    EverythingSurvives,
    /// Each part for itself.
    Mixed,
}

/// A power loss whose severity is chosen instead of drawn. Names of files follow it too.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChosenLoss {
    pub severity: Severity,
    /// Another number draws other parts, with everything before the loss the same.
    pub draw: u64,
}

impl Severity {
    fn draw(draws: &mut Draws) -> Severity {
        match draws.below(20) {
            0..=3 => Severity::NothingSurvives,
            4 => Severity::EverythingSurvives,
            _ => Severity::Mixed,
        }
    }
}

/// Lands one page wholly, partly or not; says which, for the trace.
fn settle(
    file: &mut Inode,
    page: usize,
    content: Page,
    lost: f64,
    severity: Severity,
    mut draws: Draws,
) -> u64 {
    let (fate, torn) = (draws.unit(), draws.chance(0.4));
    match severity {
        Severity::NothingSurvives => return 0,
        Severity::EverythingSurvives => {}
        Severity::Mixed if fate < lost => return 0,
        Severity::Mixed if torn => {
            let mask = draws.below(1 << (PAGE / SECTOR));
            file.land_torn(page, &content, |sector| mask & (1 << sector) != 0);
            return 2 + mask;
        }
        Severity::Mixed => {}
    }
    file.land(page, content);
    1
}

impl Disk {
    fn lose_power(&mut self) -> u64 {
        self.power_losses += 1;
        let chosen = self.faults.power_loss;
        let key = self.key.with(DRAW_POWER_LOSS).with(self.power_losses);
        let key = chosen.map_or(key, |chosen| key.with(chosen.draw));
        let severity = chosen.map_or_else(|| Severity::draw(&mut key.draws(0)), |chosen| chosen.severity);
        let mut hash = severity as u64;
        let page_key = |inode: u64| -> Key { key.with(inode) };
        let flights = std::mem::take(&mut self.flights);
        let lying = self.faults.lying_flush;
        for flight in flights.into_values() {
            let Some(file) = self.inodes.get_mut(&flight.inode) else { continue };
            if lying {
                continue;
            }
            for (page, content) in flight.pages {
                let draws = page_key(flight.inode).with(1).draws(page as u64);
                hash = mix(hash, settle(file, page, content, 0.3, severity, draws));
            }
        }
        for (inode, file) in &mut self.inodes {
            for (page, content) in file.take_dirty(0..usize::MAX, |_| true) {
                let draws = page_key(*inode).with(2).draws(page as u64);
                hash = mix(hash, settle(file, page, content, 0.6, severity, draws));
            }
            let mut draws = page_key(*inode).draws(0);
            let (keeps, index) = (draws.chance(0.5), draws.u64());
            let lengths = file.undurable_lengths();
            let len = match severity {
                Severity::EverythingSurvives => file.len,
                Severity::Mixed if keeps && !lengths.is_empty() => lengths[index as usize % lengths.len()],
                Severity::Mixed | Severity::NothingSurvives => file.durable_len,
            };
            hash = mix(hash, len);
            file.forget_cache(len);
            file.linked = false;
        }
        let (kept, lost) = self.names.power_loss(chosen.map(|chosen| chosen.severity), key.draws(1));
        hash = mix(hash, mix(kept, lost));
        let named: Vec<u64> = self
            .names
            .kernel_entries()
            .filter_map(|(_, entry)| if let super::Entry::File(inode) = entry { Some(inode) } else { None })
            .chain(self.names.lost())
            .collect();
        for inode in named {
            self.inode(inode).linked = true;
        }
        self.inodes.retain(|_, file| file.linked);
        self.used_blocks = self.inodes.values().map(Inode::blocks).sum();
        self.dirty.clear();
        self.landed.clear();
        self.locks.clear();
        self.stalled_until_ns = 0;
        hash
    }
}

/// The host of this disk has lost its power.
pub(crate) fn power_lost(inner: &mut Inner, node: NodeId) {
    let hash = inner.disk(node).lose_power();
    inner.trace("disk.power_lost", node, hash, 0);
    inner.count("disk.power_lost");
}

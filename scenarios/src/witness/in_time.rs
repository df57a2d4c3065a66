//! What stores have appended and not yet counted as flushed, since nothing is wrong with the world any more.

use std::collections::VecDeque;

use hotfire_sim::NodeId;

use super::Witness;
use super::slave::is_slave;
use crate::oracle::{Broken, Verdict, position_order};
use crate::plan::Settings;

/// For the flush itself, and for those before it.
const FLUSH_MS: u64 = 3_000;

/// Of one process.
#[derive(Default)]
pub(super) struct Unflushed {
    boots: u64,
    /// When, and where it begins; the oldest first.
    appends: VecDeque<(u64, u64)>,
}

/// Bytes that nobody waits for are flushed at once by group commit, and else at the thorough interval at the latest, which
/// is looked at once per interval.
#[must_use]
pub fn flushed_within_ms(settings: &Settings, sync_flush: bool) -> u64 {
    let interval_ms = match sync_flush {
        true => 0,
        false => settings.flush_thorough_interval_ms + 3 * settings.flush_interval_ms,
    };
    interval_ms + FLUSH_MS
}

impl Witness {
    /// Nothing is wrong with the world from here on.
    pub fn is_healed(&self) {
        let now_ms = self.world.now_ms();
        self.lock().healed_ms = Some(now_ms);
    }

    /// A store has appended something that begins at `at` of its log.
    pub(super) fn waits_for_flush(&self, node: NodeId, at: u64) {
        let (now_ms, boots) = (self.world.now_ms(), self.world.boots(node));
        let mut inner = self.lock();
        let unflushed = inner.unflushed.entry(node).or_default();
        if std::mem::replace(&mut unflushed.boots, boots) != boots {
            unflushed.appends.clear();
        }
        unflushed.appends.push_back((now_ms, at));
    }

    /// A store counts its log as flushed up to `end`.
    pub(super) fn needs_no_flush(&self, node: NodeId, end: u64) {
        let mut inner = self.lock();
        let Some(unflushed) = inner.unflushed.get_mut(&node) else { return };
        unflushed.appends.retain(|(_, at)| *at >= end);
    }

    /// Judges whether stores that run flush in time, on disks that are well.
    ///
    /// # Errors
    /// I9: what one has not flushed for too long.
    pub fn judge_unflushed(&self) -> Verdict {
        let now_ms = self.world.now_ms();
        let inner = self.lock();
        let Some(healed_ms) = inner.healed_ms else { return Ok(()) };
        for (node, unflushed) in &inner.unflushed {
            let name = self.nodes.name_of(*node).unwrap_or_default();
            let runs = self.world.is_running(*node) && self.world.boots(*node) == unflushed.boots;
            let Some((at_ms, at)) = unflushed.appends.front().copied().filter(|_| runs) else { continue };
            let sync_flush =
                if is_slave(&name) { self.settings.slaves_sync_flush() } else { self.settings.sync_flush };
            let waits_ms = now_ms - at_ms.max(healed_ms);
            position_order::in_time(&name, at, waits_ms, flushed_within_ms(&self.settings, sync_flush))?;
        }
        Ok::<(), Broken>(())
    }
}

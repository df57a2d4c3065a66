//! A clock per node: a monotonic one with drift, a wall clock with offset and jumps.
//!
//! Local time is true time run through the node's drift; it never goes back. The wall clock is local time plus an offset,
//! which [`ClockControl::jump_ms`] changes either way. Both survive a crash, a power loss and a restart; only the origin of the
//! monotonic clock is drawn anew at each boot, so that code which keeps a `Mono` across a restart is found.

use crate::cluster::NodeId;
use crate::world::World;

/// Wall clock of every node at the start of a run, before its offset: ms since the Unix epoch.
pub const WALL_START_MS: i64 = 1_700_000_000_000;

const MILLION: i128 = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    true_base_ns: u64,
    local_base_ns: u64,
    drift_ppm: i64,
    wall_offset_ms: i64,
    utc_offset_s: i32,
}

impl NodeClock {
    pub(crate) fn new() -> NodeClock {
        NodeClock { true_base_ns: 0, local_base_ns: 0, drift_ppm: 0, wall_offset_ms: 0, utc_offset_s: 0 }
    }

    /// Local time at true time `true_ns`.
    pub(crate) fn local_ns(&self, true_ns: u64) -> u64 {
        let passed = i128::from(true_ns.saturating_sub(self.true_base_ns));
        let local = passed + passed * i128::from(self.drift_ppm) / MILLION;
        self.local_base_ns.saturating_add(u64::try_from(local).unwrap_or(0))
    }

    /// The first true time at which local time is at least `local_ns`; `None` past the end of time.
    pub(crate) fn true_ns(&self, local_ns: u64) -> Option<u64> {
        let passed = i128::from(local_ns.saturating_sub(self.local_base_ns));
        let rate = MILLION + i128::from(self.drift_ppm);
        let needed = (passed * MILLION + rate - 1) / rate;
        u64::try_from(i128::from(self.true_base_ns) + needed).ok()
    }

    pub(crate) fn wall_ms(&self, true_ns: u64) -> i64 {
        WALL_START_MS + (self.local_ns(true_ns) / 1_000_000) as i64 + self.wall_offset_ms
    }

    pub(crate) fn utc_offset_s(&self) -> i32 {
        self.utc_offset_s
    }

    fn set_drift(&mut self, true_ns: u64, drift_ppm: i64) {
        assert!(drift_ppm.abs() < 500_000, "drift of {drift_ppm} ppm");
        self.local_base_ns = self.local_ns(true_ns);
        self.true_base_ns = true_ns;
        self.drift_ppm = drift_ppm;
    }
}

/// Faults of one node's clock.
pub struct ClockControl<'a> {
    pub(crate) world: &'a World,
    pub(crate) node: NodeId,
}

impl ClockControl<'_> {
    /// Moves the wall clock by `ms`, either way. The monotonic clock is not touched.
    pub fn jump_ms(&self, ms: i64) {
        let mut inner = self.world.lock();
        inner.node_mut(self.node).clock.wall_offset_ms += ms;
        inner.count("clock.jump");
        inner.trace("clock.jump", self.node, ms as u64, 0);
    }

    /// From now on a second of this node lasts `1 - ppm / 1,000,000` true seconds (positive: the node is fast).
    pub fn drift_ppm(&self, ppm: i64) {
        let mut inner = self.world.lock();
        let now = inner.now();
        inner.node_mut(self.node).clock.set_drift(now, ppm);
        inner.count("clock.drift");
        inner.trace("clock.drift", self.node, ppm as u64, 0);
    }

    /// The node's time zone: local time minus UTC.
    pub fn set_utc_offset_s(&self, seconds: i32) {
        self.world.lock().node_mut(self.node).clock.utc_offset_s = seconds;
    }

    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        let inner = self.world.lock();
        inner.node(self.node).clock.wall_ms(inner.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_is_continuous_when_the_drift_changes_and_is_inverted_exactly_enough() {
        let mut clock = NodeClock::new();
        clock.set_drift(1_000, 200);
        let before = clock.local_ns(5_000_000_000);
        clock.set_drift(5_000_000_000, -300);
        assert_eq!(clock.local_ns(5_000_000_000), before);
        for wanted in [before, before + 1, before + 999, before + 1_000_000_007] {
            let at = clock.true_ns(wanted).expect("in range");
            assert!(clock.local_ns(at) >= wanted);
            assert!(at == 5_000_000_000 || clock.local_ns(at - 1) <= wanted);
        }
    }
}

//! What happened, in order: a rolling digest over every event, a ring of the last ones, optionally all of them in a file.
//!
//! The digest covers every task poll (node and the task's number within it), every byte sent or received (by hash), every
//! storage step with its content (by hash), every fault and every probe, with its time. Two runs of one seed agree in it or
//! something in the program is not deterministic; [`Limits::expected`](crate::run::Limits) then names the first event that differs.
//!
//! Invariant: nothing process-dependent goes in (addresses, thread and process ids, madsim's own task ids, wall time).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use crate::cluster::NodeId;
use crate::run::Limits;
use crate::seed::hash_bytes;

/// Events kept for the report of a failure.
pub const RING_EVENTS: usize = 4_096;

/// One event. What `a` and `b` mean depends on the kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceEvent {
    /// True simulated time, in ns since the start of the run.
    pub at_ns: u64,
    pub kind: &'static str,
    pub node: NodeId,
    pub a: u64,
    pub b: u64,
}

impl std::fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.at_ns as f64 / 1e6;
        write!(f, "{ms:>14.6} ms {:<5} {:<22} {:#x} {:#x}", self.node, self.kind, self.a, self.b)
    }
}

pub(crate) struct Trace {
    digest: u64,
    count: u64,
    ring: Vec<TraceEvent>,
    next: usize,
    keep: Option<fn(&TraceEvent) -> bool>,
    kept: Vec<TraceEvent>,
    hashes: Option<Vec<u64>>,
    expected: Option<Arc<Vec<u64>>>,
    file: Option<BufWriter<File>>,
}

impl Trace {
    pub(crate) fn new(seed: u64, limits: &Limits, file: Option<File>) -> Trace {
        Trace {
            digest: seed,
            count: 0,
            ring: Vec::with_capacity(RING_EVENTS),
            next: 0,
            keep: limits.keep,
            kept: Vec::new(),
            hashes: limits.keep_hashes.then(Vec::new),
            expected: limits.expected.clone(),
            file: file.map(BufWriter::new),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, event: TraceEvent) {
        let mut hash = hash_bytes(self.digest, event.kind.as_bytes());
        for word in [event.at_ns, u64::from(event.node.0), event.a, event.b] {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.digest = hash;
        if self.ring.len() < RING_EVENTS {
            self.ring.push(event);
        } else {
            self.ring[self.next] = event;
            self.next = (self.next + 1) % RING_EVENTS;
        }
        if self.hashes.is_some() || self.expected.is_some() || self.file.is_some() || self.keep.is_some() {
            self.push_slow(event, hash);
        }
        self.count += 1;
    }

    #[cold]
    fn push_slow(&mut self, event: TraceEvent, hash: u64) {
        if let Some(hashes) = &mut self.hashes {
            hashes.push(hash);
        }
        if self.keep.is_some_and(|keep| keep(&event)) {
            self.kept.push(event);
        }
        if let Some(file) = &mut self.file {
            writeln!(file, "{:>10} {event}", self.count).expect("write the trace file");
        }
        let index = usize::try_from(self.count).expect("event count fits");
        let differs = self.expected.as_ref().is_some_and(|expected| expected.get(index) != Some(&hash));
        if differs {
            self.expected = None;
            panic!("not deterministic: event {index} differs from the expected run: {event}");
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The last events, oldest first.
    pub(crate) fn ring(&self) -> Vec<TraceEvent> {
        let mut events = self.ring[self.next..].to_vec();
        events.extend_from_slice(&self.ring[..self.next]);
        events
    }

    pub(crate) fn kept(&self) -> &[TraceEvent] {
        &self.kept
    }

    pub(crate) fn take_hashes(&mut self) -> Vec<u64> {
        self.hashes.take().unwrap_or_default()
    }

    pub(crate) fn close(&mut self) {
        if let Some(mut file) = self.file.take() {
            file.flush().expect("write the trace file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_events_in_order() {
        let mut trace = Trace::new(0, &Limits::default(), None);
        let total = RING_EVENTS as u64 + 10;
        for a in 0..total {
            trace.push(TraceEvent { at_ns: a, kind: "test", node: NodeId(0), a, b: 0 });
        }
        let ring = trace.ring();
        assert_eq!(ring.len(), RING_EVENTS);
        assert_eq!(ring[0].a, 10);
        assert_eq!(ring[RING_EVENTS - 1].a, total - 1);
        assert_eq!(trace.count(), total);
    }

    #[test]
    fn the_digest_sees_the_order_of_events() {
        let event = |a| TraceEvent { at_ns: 5, kind: "test", node: NodeId(0), a, b: 0 };
        let (mut one, mut other) =
            (Trace::new(0, &Limits::default(), None), Trace::new(0, &Limits::default(), None));
        one.push(event(1));
        one.push(event(2));
        other.push(event(2));
        other.push(event(1));
        assert_ne!(one.digest(), other.digest());
    }
}

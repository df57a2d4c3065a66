//! What one connection, and all connections of a node together, may have open at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Numbers the connections of one node. Clones share the numbering.
#[derive(Clone, Debug, Default)]
pub struct ConnectionIds(Arc<AtomicU64>);

impl ConnectionIds {
    pub(super) fn draw(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The connections of one node that handle many requests in one go at this moment. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct AtWork(Arc<AtomicUsize>);

/// Counts until it is dropped.
#[derive(Debug)]
pub(super) struct Working(AtWork);

impl AtWork {
    pub(super) fn enter(&self) -> Working {
        self.0.fetch_add(1, Ordering::Relaxed);
        Working(self.clone())
    }
}

impl Working {
    pub(super) fn is_alone(&self) -> bool {
        self.0.0.load(Ordering::Relaxed) == 1
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bounds of one connection. A node clones one value for all its servers and peers, so that connection ids are unique in it.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Requests handled and not yet answered, held ones not counted. At it nothing more is read.
    pub unanswered_max: usize,
    /// Requests held for long polling. At it nothing more is read.
    pub held_max: usize,
    /// Answers that run beside the connection ([`super::Answer::Later`]). At it a request that would add one
    /// ([`super::Handler::runs_beside`]) is answered busy; what is read goes on, since an answer may wait for a response that
    /// the same peer sends.
    pub later_max: usize,
    /// Bytes encoded and not yet taken by the peer. At it nothing more is read.
    pub unsent_bytes_max: usize,
    /// Unsent bytes, those queued through handles included, at which handles refuse to take more.
    pub outbound_bytes_max: usize,
    /// Without a byte in either direction for this long, a connection is closed.
    pub idle: Duration,
    /// A peer that has bytes to take and takes none for this long is closed.
    pub stuck: Duration,
    /// How long opening a connection may take.
    pub connect: Duration,
    pub ids: ConnectionIds,
    pub at_work: AtWork,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            unanswered_max: 8192,
            held_max: 65_536,
            later_max: 256,
            unsent_bytes_max: 8 << 20,
            outbound_bytes_max: 64 << 20,
            idle: Duration::from_secs(120),
            stuck: Duration::from_secs(60),
            connect: Duration::from_secs(3),
            ids: ConnectionIds::default(),
            at_work: AtWork::default(),
        }
    }
}

/// Requests of one class (sends, pulls) that a node works on at a time, over all its connections.
///
/// # Source
/// apache/rocketmq, `BrokerConfig#sendThreadPoolQueueCapacity` and its siblings.
#[derive(Clone, Debug)]
pub struct InFlightLimit {
    count: Arc<AtomicUsize>,
    max: usize,
}

impl InFlightLimit {
    #[must_use]
    pub fn new(max: usize) -> InFlightLimit {
        InFlightLimit { count: Arc::default(), max }
    }

    /// Requests counted now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// One more, counted until the permit is dropped; `None` when the limit is reached.
    #[must_use]
    pub fn enter(&self) -> Option<InFlightPermit> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(InFlightPermit(self.count.clone()))
    }
}

/// One counted request.
#[derive(Debug)]
pub struct InFlightPermit(Arc<AtomicUsize>);

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_class_takes_nobody_until_one_leaves() {
        let limit = InFlightLimit::new(2);
        let first = limit.enter();
        let second = limit.enter();
        assert!(first.is_some() && second.is_some());
        assert!(limit.enter().is_none());
        drop(first);
        assert!(limit.enter().is_some());
        assert_eq!(limit.in_flight(), 1);
    }
}

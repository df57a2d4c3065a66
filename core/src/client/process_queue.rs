//! What was pulled from one queue and is not consumed yet.
//!
//! Invariant: the committed offset is the smallest unfinished one, so a message is skipped only after it was consumed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Received;
use crate::remoting::body::ProcessQueueInfo;
use crate::runtime::Mono;

/// Over one of these bounds nothing more is pulled.
const PENDING_MAX: usize = 1000;
const PENDING_BYTES_MAX: usize = 100 << 20;
const SPAN_MAX: i64 = 2000;

#[derive(Debug, Default)]
struct State {
    /// By queue offset: bytes of each body that is pending.
    pending: BTreeMap<i64, usize>,
    bytes: usize,
    /// Behind all that was pulled, wanted or not.
    end: i64,
    is_dropped: bool,
    /// In order: what is pending itself, the next to be consumed first.
    line: VecDeque<Received>,
    pulled_at: Option<Mono>,
    consumed_at: Option<Mono>,
}

/// The unfinished messages of one queue, from its assignment to its removal.
#[derive(Debug, Default)]
pub(super) struct ProcessQueue {
    state: Mutex<State>,
    arrived: Notify,
}

impl ProcessQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what one pull has brought; nothing more below `next` is wanted.
    pub(super) fn put(&self, messages: &[Received], next: i64) {
        let mut state = self.state();
        for received in messages {
            let (offset, bytes) = (received.message.queue_offset, received.message.body.len());
            let before = state.pending.insert(offset, bytes).unwrap_or(0);
            state.bytes = state.bytes - before + bytes;
            state.end = state.end.max(offset.saturating_add(1));
        }
        state.end = state.end.max(next);
    }

    /// Takes finished messages out and gives the offset to commit to `commit`, unless the queue is no longer ours.
    /// `commit` runs under the lock, so that after [`Self::drop_queue`] none comes.
    pub(super) fn finish(&self, offsets: &[i64], commit: impl FnOnce(i64)) {
        let mut state = self.state();
        if state.is_dropped {
            return;
        }
        for offset in offsets {
            if let Some(bytes) = state.pending.remove(offset) {
                state.bytes -= bytes;
            }
        }
        let is_done = |received: &Received| offsets.contains(&received.message.queue_offset);
        let waiting = state.line.len();
        while state.line.front().is_some_and(is_done) {
            state.line.pop_front();
        }
        // What is given up may have others before it.
        if waiting - state.line.len() < offsets.len() {
            state.line.retain(|received| !is_done(received));
        }
        commit(state.pending.first_key_value().map_or(state.end, |(offset, _)| *offset));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().pending.is_empty()
    }

    /// Whether pulling has to wait for consumption.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state();
        let span = match (state.pending.first_key_value(), state.pending.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first),
            _ => 0,
        };
        state.pending.len() > PENDING_MAX || state.bytes > PENDING_BYTES_MAX || span > SPAN_MAX
    }

    /// The queue is no longer ours: what runs still is not counted any more.
    pub(super) fn drop_queue(&self) {
        self.state().is_dropped = true;
        self.arrived.notify_one();
    }

    /// Puts what was pulled at the end of the line, for whoever consumes in order.
    pub(super) fn line_up(&self, messages: Vec<Received>) {
        self.state().line.extend(messages);
        self.arrived.notify_one();
    }

    /// The first of the line, at most so many.
    pub(super) fn first(&self, count: usize) -> Vec<Received> {
        self.state().line.iter().take(count).cloned().collect()
    }

    /// Waits until something is lined up, or the queue dropped, since this was asked last.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// So many of the line have been tried once more.
    pub(super) fn failed(&self, count: usize) {
        for received in self.state().line.iter_mut().take(count) {
            received.message.reconsume_times = received.message.reconsume_times.saturating_add(1);
        }
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.state().is_dropped
    }

    /// A pull is sent.
    pub(super) fn pulled_at(&self, now: Mono) {
        self.state().pulled_at = Some(now);
    }

    /// A listener is called.
    pub(super) fn consumed_at(&self, now: Mono) {
        self.state().consumed_at = Some(now);
    }

    /// What is told of it, without the committed offset; `now_ms` is `now` by the wall clock.
    pub(super) fn info(&self, now: Mono, now_ms: i64) -> ProcessQueueInfo {
        let state = self.state();
        let edge = |edge: Option<(&i64, &usize)>| edge.map_or(0, |(offset, _)| *offset);
        ProcessQueueInfo {
            cached_msg_count: i32::try_from(state.pending.len()).unwrap_or(i32::MAX),
            cached_msg_max_offset: edge(state.pending.last_key_value()),
            cached_msg_min_offset: edge(state.pending.first_key_value()),
            cached_msg_size_mib: i32::try_from(state.bytes >> 20).unwrap_or(i32::MAX),
            dropped: state.is_dropped,
            last_consume_timestamp: wall(state.consumed_at, now, now_ms),
            last_pull_timestamp: wall(state.pulled_at, now, now_ms),
            ..ProcessQueueInfo::default()
        }
    }
}

/// A past moment by the wall clock, 0 for none.
pub(super) fn wall(at: Option<Mono>, now: Mono, now_ms: i64) -> i64 {
    let ago = |at: Mono| i64::try_from(now.since(at).as_millis()).unwrap_or(i64::MAX);
    at.map_or(0, |at| now_ms.saturating_sub(ago(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::StoredMessage;
    use bytes::Bytes;
    use std::net::{Ipv4Addr, SocketAddr};

    fn received(queue_offset: i64) -> Received {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Received {
            broker_name: "a".to_owned(),
            message: StoredMessage {
                topic: "T".to_owned(),
                queue_id: 0,
                flag: 0,
                queue_offset,
                physical_offset: 0,
                sys_flag: 0,
                born_timestamp: 0,
                born_host: host,
                store_timestamp: 0,
                store_host: host,
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                body: Bytes::from_static(b"12"),
                body_crc: 0,
                properties: String::new(),
                store_size: 0,
            },
        }
    }

    fn queue(offsets: &[i64]) -> ProcessQueue {
        let queue = ProcessQueue::default();
        queue.put(&offsets.iter().map(|offset| received(*offset)).collect::<Vec<_>>(), 0);
        queue
    }

    fn finish(queue: &ProcessQueue, offset: i64) -> Option<i64> {
        let mut committed = None;
        queue.finish(&[offset], |offset| committed = Some(offset));
        committed
    }

    #[test]
    fn the_smallest_unfinished_offset_is_committed() {
        let queue = queue(&[4, 5, 6]);
        assert_eq!(finish(&queue, 5), Some(4));
        assert_eq!(finish(&queue, 4), Some(6));
        assert_eq!(finish(&queue, 6), Some(7));
        assert!(queue.is_empty());
        assert_eq!(queue.state().bytes, 0);
    }

    #[test]
    fn what_a_filter_has_left_out_behind_the_last_message_is_committed_with_it() {
        let queue = ProcessQueue::default();
        queue.put(&[received(4)], 9);
        assert_eq!(finish(&queue, 4), Some(9));
    }

    #[test]
    fn a_dropped_queue_commits_nothing() {
        let queue = queue(&[4]);
        queue.drop_queue();
        assert_eq!(finish(&queue, 4), None);
    }

    #[test]
    fn one_slow_message_stops_the_pull_before_the_span_is_too_wide() {
        assert!(!queue(&[0, SPAN_MAX]).is_full());
        assert!(queue(&[0, SPAN_MAX + 1]).is_full());
        assert!(queue(&(0..=PENDING_MAX as i64).collect::<Vec<_>>()).is_full());
    }

    #[test]
    fn what_is_told_of_a_queue_is_what_it_holds_and_when_it_was_used() {
        let queue = queue(&[4, 7]);
        queue.pulled_at(Mono(1_000_000_000));
        let info = queue.info(Mono(3_000_000_000), 10_000);
        assert_eq!(
            (info.cached_msg_count, info.cached_msg_min_offset, info.cached_msg_max_offset),
            (2, 4, 7)
        );
        assert_eq!((info.last_pull_timestamp, info.last_consume_timestamp), (8_000, 0));
    }

    #[test]
    fn in_order_the_next_message_stays_the_first_until_it_is_consumed() {
        let queue = queue(&[4, 5, 6, 7]);
        queue.line_up([4, 5, 6, 7].map(received).into());
        let first = |count| {
            queue
                .first(count)
                .iter()
                .map(|one| (one.message.queue_offset, one.message.reconsume_times))
                .collect()
        };
        let line: Vec<(i64, i32)> = first(2);
        assert_eq!(line, [(4, 0), (5, 0)]);
        queue.failed(2);
        let mut committed = None;
        queue.finish(&[5], |offset| committed = Some(offset));
        assert_eq!(committed, Some(4), "one was given up behind another");
        let line: Vec<(i64, i32)> = first(9);
        assert_eq!(line, [(4, 1), (6, 0), (7, 0)]);
        assert_eq!(finish(&queue, 4), Some(6));
        let line: Vec<(i64, i32)> = first(1);
        assert_eq!(line, [(6, 0)]);
    }

    #[test]
    fn a_message_pulled_twice_counts_once() {
        let queue = queue(&[4, 4]);
        assert_eq!(queue.state().bytes, 2);
    }
}

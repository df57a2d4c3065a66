//! A position that only rises, and those who wait for it to pass theirs.
//!
//! Thousands wait for a flush at once, each for the end of its own record: waiters are kept by position, so that an advance
//! touches only those it releases, and one that releases nobody takes no lock. A failed watermark never rises again and
//! releases everybody with an error.
//!
//! Invariant: `get` never decreases, and never rises after `fail`.
//! Invariant: `lowest` is no higher than the lowest position somebody waits for. A waiter lowers it and then looks at the
//! position, an advance raises the position and then looks at it: one of the two sees the other.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What it stood for has failed; positions above the last one are never reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the position can no longer advance")]
pub struct WatermarkFailed;

#[derive(Default)]
struct Waiters {
    next_id: u64,
    wakers: BTreeMap<(u64, u64), Waker>,
}

/// Set in `Shared::state` of a watermark that has failed; the other bits are the position.
const FAILED: u64 = 1 << 63;

struct Shared {
    state: AtomicU64,
    /// `u64::MAX` when nobody waits.
    lowest: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Clone)]
pub struct Watermark(Arc<Shared>);

/// One waiter's place. Dropping it gives up waiting.
pub struct Ticket {
    shared: Arc<Shared>,
    position: u64,
    id: Option<u64>,
}

impl Shared {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn position(&self) -> u64 {
        self.state.load(Ordering::SeqCst) & !FAILED
    }

    fn has_failed(&self) -> bool {
        self.state.load(Ordering::SeqCst) & FAILED != 0
    }

    /// To be called after every change of the waiters, under their lock.
    fn note_lowest(&self, waiters: &Waiters) {
        let lowest = waiters.wakers.first_key_value().map_or(u64::MAX, |((position, _), _)| *position);
        self.lowest.store(lowest, Ordering::SeqCst);
    }
}

impl Watermark {
    /// # Panics
    /// At 2^63 and above.
    #[must_use]
    pub fn new(position: u64) -> Watermark {
        assert!(position < FAILED, "a position of {position}");
        Watermark(Arc::new(Shared {
            state: AtomicU64::new(position),
            lowest: AtomicU64::new(u64::MAX),
            waiters: Mutex::default(),
        }))
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.position()
    }

    /// True for clones of one watermark.
    #[must_use]
    pub fn is_same(&self, other: &Watermark) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.has_failed()
    }

    /// Raises the position (a lower one changes nothing) and wakes those it reaches, lowest position first.
    ///
    /// # Panics
    /// At 2^63 and above.
    pub fn advance(&self, position: u64) {
        assert!(position < FAILED, "a position of {position}");
        let raise = |state: u64| (state & FAILED == 0 && state < position).then_some(position);
        if self.0.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, raise).is_err()
            || self.0.lowest.load(Ordering::SeqCst) > position
        {
            return;
        }
        let mut released = {
            let mut waiters = self.0.waiters();
            let rest = waiters.wakers.split_off(&(position.saturating_add(1), 0));
            let released = std::mem::replace(&mut waiters.wakers, rest);
            self.0.note_lowest(&waiters);
            released
        };
        while let Some((_, waker)) = released.pop_first() {
            waker.wake();
        }
    }

    /// Ends it: everybody who waits, now or later, for a position not yet reached gets [`WatermarkFailed`].
    pub fn fail(&self) {
        let mut released = {
            let mut waiters = self.0.waiters();
            self.0.state.fetch_or(FAILED, Ordering::SeqCst);
            let released = std::mem::take(&mut waiters.wakers);
            self.0.note_lowest(&waiters);
            released
        };
        while let Some((_, waker)) = released.pop_first() {
            waker.wake();
        }
    }

    /// A place to wait for `position` from, for use in hand-written polls.
    #[must_use]
    pub fn ticket(&self, position: u64) -> Ticket {
        Ticket { shared: self.0.clone(), position, id: None }
    }

    /// Waits until the position is at least `position`. Cancel-safe.
    ///
    /// # Errors
    /// [`WatermarkFailed`].
    pub async fn reached(&self, position: u64) -> Result<(), WatermarkFailed> {
        let mut ticket = self.ticket(position);
        poll_fn(|context| ticket.poll(context)).await
    }
}

impl Ticket {
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Ready when the position is reached or the watermark has failed; otherwise the task of `context` will be woken.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WatermarkFailed>> {
        let shared = &self.shared;
        if shared.position() >= self.position {
            return Poll::Ready(Ok(()));
        }
        let mut waiters = shared.waiters();
        let id = *self.id.get_or_insert_with(|| {
            waiters.next_id += 1;
            waiters.next_id
        });
        waiters.wakers.insert((self.position, id), context.waker().clone());
        shared.note_lowest(&waiters);
        // Looked at again: an advance or a failure before this place was taken has found nobody to wake.
        let ended = if shared.position() >= self.position {
            Ok(())
        } else if shared.has_failed() {
            Err(WatermarkFailed)
        } else {
            return Poll::Pending;
        };
        waiters.wakers.remove(&(self.position, id));
        shared.note_lowest(&waiters);
        Poll::Ready(ended)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut waiters = self.shared.waiters();
            waiters.wakers.remove(&(self.position, id));
            self.shared.note_lowest(&waiters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;

    #[test]
    fn an_advance_releases_only_those_it_reaches() {
        let mark = Watermark::new(0);
        let mut context = Context::from_waker(Waker::noop());
        let (mut low, mut high) = (pin!(mark.reached(10)), pin!(mark.reached(20)));
        assert!(low.as_mut().poll(&mut context).is_pending());
        assert!(high.as_mut().poll(&mut context).is_pending());
        mark.advance(15);
        assert_eq!(low.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        assert!(high.as_mut().poll(&mut context).is_pending());
        assert_eq!(mark.0.waiters().wakers.len(), 1);
    }

    #[test]
    fn after_a_failure_reached_positions_stay_reached_and_others_never_are() {
        let mark = Watermark::new(5);
        mark.fail();
        mark.advance(50);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(pin!(mark.reached(5)).poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(pin!(mark.reached(6)).poll(&mut context), Poll::Ready(Err(WatermarkFailed)));
        assert_eq!(mark.get(), 5);
    }

    #[test]
    fn a_dropped_ticket_leaves_nothing_behind() {
        let mark = Watermark::new(0);
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut waiting = pin!(mark.reached(1));
            assert!(waiting.as_mut().poll(&mut context).is_pending());
        }
        assert!(mark.0.waiters().wakers.is_empty());
    }
}

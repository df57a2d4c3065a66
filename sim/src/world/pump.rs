//! The task that fires events when their time has come, and waits in true time.

use std::cmp::Reverse;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use madsim::time::Sleep;

use super::{Timer, World};

impl World {
    /// Fires due events until the world is cleared.
    pub(crate) async fn pump(self) {
        let mut wait: Option<Pin<Box<Sleep>>> = None;
        loop {
            let mut restarts = Vec::new();
            let next = {
                let mut inner = self.lock();
                if inner.stopping {
                    return;
                }
                let now = inner.now();
                while inner.heap.peek().is_some_and(|Reverse(entry)| entry.at_ns <= now) {
                    let Some(Reverse(entry)) = inner.heap.pop() else { break };
                    restarts.extend(inner.fire(entry.event));
                }
                let next = inner.heap.peek().map_or(u64::MAX, |Reverse(entry)| entry.at_ns);
                inner.armed_ns = next;
                next
            };
            for node in restarts {
                self.restart(node);
            }
            self.0.progress.tick(self.lock().now());
            PumpWait { world: &self, until_ns: next, sleep: &mut wait, reset: false }.await;
        }
    }
}

struct PumpWait<'a> {
    world: &'a World,
    until_ns: u64,
    sleep: &'a mut Option<Pin<Box<Sleep>>>,
    reset: bool,
}

impl Future for PumpWait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut inner = this.world.lock();
        if inner.armed_ns < this.until_ns || inner.now() >= this.until_ns {
            return Poll::Ready(());
        }
        inner.pump = Some(context.waker().clone());
        if this.until_ns == u64::MAX {
            return Poll::Pending;
        }
        let Some(time) = &inner.time else { return Poll::Ready(()) };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(time.sleep(Duration::ZERO)));
        if !this.reset {
            // `reset` knows no 1 ms minimum, unlike a new `Sleep`.
            let wait = Duration::from_nanos(this.until_ns - time.elapsed().as_nanos() as u64);
            sleep.as_mut().reset(time.now_instant() + wait);
            this.reset = true;
        }
        drop(inner);
        sleep.as_mut().poll(context)
    }
}

/// A wait in true time.
pub(super) struct WorldSleep {
    world: World,
    at_ns: u64,
    timer: Option<Timer>,
}

impl WorldSleep {
    pub(super) fn new(world: World, at_ns: u64) -> WorldSleep {
        WorldSleep { world, at_ns, timer: None }
    }
}

impl Future for WorldSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut inner = world.lock();
        if inner.now() >= self.at_ns {
            return Poll::Ready(());
        }
        match self.timer {
            None => self.timer = Some(inner.timer(self.at_ns, context.waker())),
            Some(timer) => {
                if inner.poll_timer(timer, context.waker()) {
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for WorldSleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer
            && let Some(mut inner) = self.world.lock_in_drop()
        {
            inner.free_timer(timer);
        }
    }
}

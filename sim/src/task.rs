//! Tasks: a guard around each, which ends it with its process.
//!
//! madsim drops the futures of a killed node one after another, some time after the kill, and a task that kills its own node
//! runs on to its next await. A process does neither: it ends as a whole, at one instruction. So the guard polls nothing of a
//! dead incarnation, and a death in the middle of synchronous code unwinds to it with a payload of its own.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use hotfire_core::runtime::{Cancelled, Task};
use madsim::task::JoinHandle;

use crate::cluster::NodeId;
use crate::runtime::SimRuntime;
use crate::world::World;

/// Payload of a simulated death; never seen outside of [`CrashGuard`].
struct NodeDied;

/// Unwinds to the guard of the task that runs.
pub(crate) fn unwind() -> ! {
    std::panic::resume_unwind(Box::new(NodeDied))
}

pub(crate) struct CrashGuard<F> {
    world: World,
    node: NodeId,
    incarnation: u32,
    /// The task's number within its incarnation.
    number: u64,
    name: &'static str,
    /// Boxed, so that it can be dropped under a guard of its own.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> CrashGuard<F> {
    pub(crate) fn new(runtime: &SimRuntime, name: &'static str, future: F) -> CrashGuard<F> {
        let (world, node) = (runtime.world().clone(), runtime.node());
        let number = world.lock().node_mut(node).next_task();
        let incarnation = runtime.incarnation();
        CrashGuard { world, node, incarnation, number, name, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for CrashGuard<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        {
            let mut inner = this.world.lock();
            if !inner.alive(this.node, this.incarnation) {
                return Poll::Pending;
            }
            inner.trace("poll", this.node, this.number, 0);
        }
        let Some(future) = this.future.as_mut() else { return Poll::Pending };
        let progress = this.world.0.progress.clone();
        progress.enter(this.node, this.name);
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        progress.leave();
        match polled {
            Ok(Poll::Ready(output)) => {
                let alive = this.world.lock().alive(this.node, this.incarnation);
                // A task may end its own node in its last poll; its output then never arrives.
                if alive { Poll::Ready(output) } else { Poll::Pending }
            }
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) if payload.is::<NodeDied>() => Poll::Pending,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
}

impl<F> Drop for CrashGuard<F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        let alive = self.world.lock_in_drop().is_none_or(|inner| inner.alive(self.node, self.incarnation));
        if alive {
            drop(future);
            return;
        }
        // Destructors of a dead process are no part of the simulation: one that fails on what the death left behind
        // (a poisoned lock) says nothing about the product.
        drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(future))));
    }
}

/// A task of a node.
pub struct SimTask<T>(Option<JoinHandle<T>>);

impl<T> SimTask<T> {
    pub(crate) fn new(handle: JoinHandle<T>) -> SimTask<T> {
        SimTask(Some(handle))
    }

    /// Of a process that is dead already.
    pub(crate) fn never() -> SimTask<T> {
        SimTask(None)
    }
}

impl<T: Send + 'static> Task<T> for SimTask<T> {
    async fn join(self) -> Result<T, Cancelled> {
        match self.0 {
            Some(handle) => handle.await.map_err(|_| Cancelled),
            None => Err(Cancelled),
        }
    }

    fn abort(&self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }

    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

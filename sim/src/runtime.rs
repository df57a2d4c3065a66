//! core's [`Runtime`] for one process of a simulated node.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use hotfire_core::runtime::{Mark, Mono, Mutant, Runtime};
use madsim::runtime::Handle;

use crate::cluster::{Down, End, NodeId, RESTART_AFTER};
use crate::task::{CrashGuard, SimTask};
use crate::world::{Timer, World};

/// What one process of a node sees of the world. Belongs to one incarnation: once that is dead it does nothing.
#[derive(Clone)]
pub struct SimRuntime {
    world: World,
    node: NodeId,
    incarnation: u32,
}

impl SimRuntime {
    pub(crate) fn new(world: World, node: NodeId, incarnation: u32) -> SimRuntime {
        SimRuntime { world, node, incarnation }
    }

    /// The world this process lives in, for scenarios; the product never sees it.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.world.lock().alive(self.node, self.incarnation)
    }

    /// Resolves when [`World::stop`] asks this process to stop in order.
    pub fn stop_requested(&self) -> impl Future<Output = ()> + Send + 'static {
        let this = self.clone();
        poll_fn(move |context| {
            let mut inner = this.world.lock();
            if inner.alive(this.node, this.incarnation)
                && inner.node_mut(this.node).poll_stop(context.waker())
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
    }

    /// Ends the process as a bad memory access does; the init system starts it again.
    pub(crate) fn bus_error(&self) -> ! {
        self.world.die(self.node, Down::Process, Some(RESTART_AFTER), ("node.sigbus", End::Fatal("SIGBUS")))
    }
}

/// A wait on a node's own monotonic clock, exact also when its drift changes meanwhile.
struct NodeSleep {
    runtime: SimRuntime,
    deadline: Mono,
    timer: Option<Timer>,
}

impl Future for NodeSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let runtime = self.runtime.clone();
        let mut inner = runtime.world.lock();
        if !inner.alive(runtime.node, runtime.incarnation) {
            return Poll::Pending;
        }
        let now = inner.now();
        if inner.node(runtime.node).mono_ns(now) >= self.deadline.0 {
            return Poll::Ready(());
        }
        if let Some(timer) = self.timer {
            if !inner.poll_timer(timer, context.waker()) {
                return Poll::Pending;
            }
            // It fired early by this clock: the drift has changed.
            inner.free_timer(timer);
            self.timer = None;
        }
        if let Some(at_ns) = inner.node(runtime.node).true_ns(self.deadline.0) {
            self.timer = Some(inner.timer(at_ns.max(now + 1), context.waker()));
        }
        Poll::Pending
    }
}

impl Drop for NodeSleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer
            && let Some(mut inner) = self.runtime.world.lock_in_drop()
        {
            inner.free_timer(timer);
        }
    }
}

impl Runtime for SimRuntime {
    type Task<T: Send + 'static> = SimTask<T>;

    const SIMULATED: bool = true;

    fn now(&self) -> Mono {
        let inner = self.world.lock();
        Mono(inner.node(self.node).mono_ns(inner.now()))
    }

    fn wall_ms(&self) -> i64 {
        let inner = self.world.lock();
        inner.node(self.node).clock.wall_ms(inner.now())
    }

    fn utc_offset_s(&self, _wall_ms: i64) -> i32 {
        let inner = self.world.lock();
        inner.node(self.node).clock.utc_offset_s()
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    fn sleep_until(&self, deadline: Mono) -> impl Future<Output = ()> + Send + 'static {
        NodeSleep { runtime: self.clone(), deadline, timer: None }
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> SimTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if !self.is_alive() {
            return SimTask::never();
        }
        let executor = self.world.executor(self.node).expect("a process runs on a node of the executor");
        let handle = Handle::current();
        if self.world.prune_due() {
            let _ = handle.metrics().num_tasks();
        }
        let spawner = handle.get_node(executor).expect("the node was made");
        SimTask::new(spawner.spawn(CrashGuard::new(self, name, future)))
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    async fn fatal(&self, why: &'static str) -> Infallible {
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
        self.world.mark("node.fatal_why", crate::seed::hash_bytes(0, why.as_bytes()), u64::from(self.node.0));
        self.world.die(self.node, Down::Process, Some(RESTART_AFTER), ("node.fatal", End::Fatal(why)))
    }

    fn random_u64(&self) -> u64 {
        let mut inner = self.world.lock();
        let count = inner.node_mut(self.node).next_random();
        inner.key("random", u64::from(self.node.0)).draws(count).u64()
    }

    fn buggify(&self, site: &'static str) -> bool {
        let mut inner = self.world.lock();
        inner.alive(self.node, self.incarnation) && inner.buggify(self.node, site)
    }

    fn mutant(&self, mutant: Mutant) -> bool {
        self.world.lock().mutant() == Some(mutant)
    }

    fn plays_java(&self) -> bool {
        self.world.lock().plays_java(self.node)
    }

    fn mark(&self, mark: Mark) {
        self.world.lock().marks.branches.insert(mark);
    }

    fn mark_answer(&self, code: i32) {
        self.world.lock().marks.answers.insert(code);
    }

    fn probe(&self, kind: &'static str, a: u64, b: u64) {
        if self.is_alive() {
            self.world.probe(self.node, kind, String::new(), (a, b));
        }
    }

    fn probe_named(&self, kind: &'static str, name: impl FnOnce() -> String, a: u64, b: u64) {
        if self.is_alive() {
            self.world.probe(self.node, kind, name(), (a, b));
        }
    }
}

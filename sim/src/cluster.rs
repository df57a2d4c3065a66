//! Nodes: a host (powered or not) with at most one process on it.
//!
//! A process has an incarnation number. Whatever ends it (crash, power loss, exit, `fatal`, SIGBUS) raises the number first, and
//! every handle of an older incarnation does nothing from then on: destructors that madsim runs later neither close
//! connections nor touch files, as nothing of a dead process does.
//!
//! | end | kernel | page cache | peers see | started again by |
//! |---|---|---|---|---|
//! | [`World::crash`] | lives | survives | FIN or RST | [`World::restart`] |
//! | `fatal`, SIGBUS, [`World::crash_at_step`] | lives | survives | FIN or RST | init system, after 0.5 s |
//! | the program returns | lives | survives | FIN or RST | [`World::restart`] |
//! | [`World::power_off`] | dies | lost | nothing; RST to late data after the reboot | [`World::restart`] |

use std::fmt;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use madsim::runtime::Handle;

use crate::clock::NodeClock;
use crate::disk::Disk;
use crate::runtime::SimRuntime;
use crate::seed::Draws;
use crate::task::{self, CrashGuard};
use crate::world::{Event, Inner, World};

/// How long the init system waits before it starts a process again that died by itself.
pub const RESTART_AFTER: Duration = Duration::from_millis(500);

/// A node, by the order in which it was added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The scenario itself, in traces.
    pub const SUPERVISOR: NodeId = NodeId(u32::MAX);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == NodeId::SUPERVISOR { f.write_str("-") } else { write!(f, "n{}", self.0) }
    }
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// The process dies, the kernel lives.
    Process,
    /// The host loses its power.
    Power,
}

/// What ended a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its program returned; `asked` when it was told to stop.
    Returned { asked: bool },
    /// It was killed, or its host lost power: the scenario's doing.
    Struck,
    /// By itself: its last words, or `SIGBUS`.
    Fatal(&'static str),
}

pub(crate) type Program = Arc<dyn Fn(SimRuntime) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Ends the node at a storage step to come.
#[derive(Clone, Copy, Debug)]
struct StepTrap {
    steps_left: u64,
    /// Drawn when it is not given.
    cut: Option<StepCut>,
    down: Down,
    back_after: Option<Duration>,
}

/// Where in a storage step the node's end falls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepCut {
    /// The step has no effect.
    Before,
    /// In part, or nobody was told.
    Inside,
    /// It is complete; its caller has not gone on.
    After,
}

/// The end that a step must bring about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepDeath {
    pub(crate) cut: StepCut,
    pub(crate) down: Down,
    pub(crate) back_after: Option<Duration>,
    /// For what the step leaves half done.
    pub(crate) draws: Draws,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    executor: Option<madsim::task::NodeId>,
    pub(crate) incarnation: u32,
    /// The host has power.
    pub(crate) powered: bool,
    /// A process runs (it may be paused).
    running: bool,
    paused: bool,
    /// Times a process was started here.
    pub(crate) boots: u64,
    pub(crate) clock: NodeClock,
    /// Local time at which the monotonic clock of this boot reads 0; may lie before the start of time.
    mono_zero: i128,
    program: Option<Program>,
    tasks: u64,
    randoms: u64,
    steps: u64,
    trap: Option<StepTrap>,
    stop_requested: bool,
    stop_wakers: Vec<Waker>,
    /// True times at which processes here have ended, in order, and how.
    ends: Vec<(u64, End)>,
}

impl Node {
    /// The monotonic clock of this boot.
    pub(crate) fn mono_ns(&self, true_ns: u64) -> u64 {
        let mono = i128::from(self.clock.local_ns(true_ns)) - self.mono_zero;
        u64::try_from(mono).unwrap_or(0)
    }

    /// The first true time at which the monotonic clock reads at least `mono_ns`; `None` when that is never.
    pub(crate) fn true_ns(&self, mono_ns: u64) -> Option<u64> {
        let local = i128::from(mono_ns) + self.mono_zero;
        self.clock.true_ns(u64::try_from(local.max(0)).ok()?)
    }

    /// A number for a new task of this incarnation.
    pub(crate) fn next_task(&mut self) -> u64 {
        self.tasks += 1;
        self.tasks
    }

    pub(crate) fn next_random(&mut self) -> u64 {
        self.randoms += 1;
        self.randoms
    }

    pub(crate) fn poll_stop(&mut self, waker: &Waker) -> bool {
        if !self.stop_requested {
            self.stop_wakers.push(waker.clone());
        }
        self.stop_requested
    }

    pub(crate) fn take_foreign(&mut self) -> (Option<Program>, Vec<Waker>) {
        (self.program.take(), std::mem::take(&mut self.stop_wakers))
    }
}

impl Inner {
    /// Counts a storage step; tells whether, and where in it, the node must end.
    pub(crate) fn storage_step(&mut self, node: NodeId, kind: &'static str) -> Option<StepDeath> {
        let state = self.node_mut(node);
        state.steps += 1;
        let step = state.steps;
        let trap = state.trap.as_mut()?;
        if trap.steps_left > 0 {
            trap.steps_left -= 1;
            return None;
        }
        let trap = state.trap.take()?;
        let mut draws = self.key("step", u64::from(node.0)).draws(step);
        let drawn = *draws.pick(&[StepCut::Before, StepCut::Inside, StepCut::Inside, StepCut::After]);
        let cut = trap.cut.unwrap_or(drawn);
        self.trace(kind, node, step, cut as u64);
        self.count("node.died_in_step");
        Some(StepDeath { cut, down: trap.down, back_after: trap.back_after, draws })
    }

    /// Ends the process (and the host) in the books; the caller then kills the executor's node.
    fn mark_down(&mut self, node: NodeId, down: Down, end: End) -> Option<madsim::task::NodeId> {
        let now = self.now();
        let state = self.node_mut(node);
        if state.running {
            state.ends.push((now, end));
        }
        state.incarnation += 1;
        state.running = false;
        state.paused = false;
        state.trap = None;
        state.stop_requested = false;
        state.stop_wakers.clear();
        if down == Down::Power {
            state.powered = false;
        }
        let executor = state.executor;
        match down {
            Down::Process => {
                self.trace("node.process_died", node, 0, 0);
                crate::disk::process_died(self, node);
            }
            Down::Power => {
                self.trace("node.power_lost", node, 0, 0);
                crate::disk::power_lost(self, node);
            }
        }
        crate::network::node_down(self, node, down);
        executor
    }

    fn restart_later(&mut self, node: NodeId, after: Duration) {
        let incarnation = self.node(node).incarnation;
        let at = self.now() + after.as_nanos() as u64;
        self.at(at, Event::Restart { node, incarnation });
    }

    /// The node whose address this is.
    pub(crate) fn node_at(&self, ip: Ipv4Addr) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.ip == ip).map(|index| NodeId(index as u32))
    }

    pub(crate) fn node_named(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(|index| NodeId(index as u32))
    }
}

impl World {
    /// Adds a host that is off. Its name resolves to its address.
    ///
    /// # Panics
    /// When the name or the address is taken.
    pub fn add_node(&self, name: &str, ip: impl Into<Ipv4Addr>) -> NodeId {
        let ip = ip.into();
        let mut inner = self.lock();
        assert!(inner.node_at(ip).is_none(), "{ip} is taken");
        assert!(inner.node_named(name).is_none(), "{name} is taken");
        let id = NodeId(inner.nodes.len() as u32);
        inner.nodes.push(Node {
            name: name.to_owned(),
            ip,
            executor: None,
            incarnation: 0,
            powered: false,
            running: false,
            paused: false,
            boots: 0,
            clock: NodeClock::new(),
            mono_zero: 0,
            program: None,
            tasks: 0,
            randoms: 0,
            steps: 0,
            trap: None,
            stop_requested: false,
            stop_wakers: Vec::new(),
            ends: Vec::new(),
        });
        let key = inner.key("disk", u64::from(id.0));
        inner.disks.push(Disk::new(id, key));
        id
    }

    /// Gives the node its program and starts it, now and at each restart. A process that runs is killed first.
    pub fn boot<P, F>(&self, node: NodeId, program: P)
    where
        P: Fn(SimRuntime) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let program: Program = Arc::new(move |rt| Box::pin(program(rt)));
        let old = self.lock().node_mut(node).program.replace(program);
        drop(old);
        self.restart(node);
    }

    /// Powers the host on if need be and starts its program; a process that still runs is killed first.
    ///
    /// # Panics
    /// When the node was never given a program.
    pub fn restart(&self, node: NodeId) {
        if self.is_running(node) {
            self.crash(node);
        }
        let (name, executor) = {
            let inner = self.lock();
            let state = inner.node(node);
            assert!(state.program.is_some(), "{node} has no program");
            (state.name.clone(), state.executor)
        };
        if let Some(executor) = executor {
            Handle::current().restart(executor);
            return;
        }
        // The executor's node is made once; its first task asks the world what to run, each time it is started.
        let world = self.clone();
        let made =
            Handle::current().create_node().name(name).init(move || world.clone().run_program(node)).build();
        self.lock().node_mut(node).executor = Some(made.id());
    }

    fn run_program(self, node: NodeId) -> impl Future<Output = ()> {
        let (program, runtime) = {
            let mut inner = self.lock();
            let boots = inner.node(node).boots + 1;
            let mut draws = inner.key("boot", u64::from(node.0)).draws(boots);
            // Half of the boots begin near 0, where differences of instants may underflow.
            let origin = if draws.chance(0.5) { draws.below(5_000_000) } else { draws.below(1 << 50) };
            let now = inner.now();
            let state = inner.node_mut(node);
            state.incarnation += 1;
            state.powered = true;
            state.running = true;
            state.boots = boots;
            state.tasks = 0;
            state.mono_zero = i128::from(state.clock.local_ns(now)) - i128::from(origin);
            let incarnation = state.incarnation;
            let program = state.program.clone();
            inner.trace("node.boot", node, boots, origin);
            inner.count("node.boot");
            (program, SimRuntime::new(self.clone(), node, incarnation))
        };
        async move {
            if let Some(program) = program {
                // The program is called in here: the executor holds a lock of its own while this future is made.
                let runtime = runtime.clone();
                let argument = runtime.clone();
                CrashGuard::new(&runtime, "main", async move { program(argument).await }).await;
                self.process_exited(node, runtime.incarnation());
            }
            // The executor's node lives on until it is killed: its end is the world's business.
            std::future::pending::<()>().await;
        }
    }

    fn process_exited(&self, node: NodeId, incarnation: u32) {
        let executor = {
            let mut inner = self.lock();
            if !inner.alive(node, incarnation) {
                return;
            }
            inner.trace("node.exit", node, 0, 0);
            let asked = inner.node(node).stop_requested;
            inner.mark_down(node, Down::Process, End::Returned { asked })
        };
        Self::kill(executor);
    }

    fn kill(executor: Option<madsim::task::NodeId>) {
        if let Some(executor) = executor {
            Handle::current().kill(executor);
        }
    }

    fn take_down(&self, node: NodeId, down: Down) {
        let executor = {
            let mut inner = self.lock();
            let state = inner.node(node);
            match down {
                Down::Process if !state.running => {
                    // The init system may be about to start it: that is off.
                    inner.node_mut(node).incarnation += 1;
                    return;
                }
                Down::Power if !state.powered => return,
                _ => {}
            }
            inner.count(if down == Down::Process { "node.crash" } else { "node.power_off" });
            inner.mark_down(node, down, End::Struck)
        };
        Self::kill(executor);
    }

    /// Kills the process (`kill -9`); when none runs, the init system will not start one either.
    pub fn crash(&self, node: NodeId) {
        self.take_down(node, Down::Process);
    }

    /// Takes the host's power. Nothing happens when it is off.
    pub fn power_off(&self, node: NodeId) {
        self.take_down(node, Down::Power);
    }

    /// Stops the process from running (a long collector pause, SIGSTOP); time, kernel and network go on.
    pub fn pause(&self, node: NodeId) {
        let executor = {
            let mut inner = self.lock();
            let state = inner.node_mut(node);
            if !state.running || state.paused {
                return;
            }
            state.paused = true;
            let executor = state.executor;
            inner.trace("node.pause", node, 0, 0);
            inner.count("node.pause");
            executor
        };
        if let Some(executor) = executor {
            Handle::current().pause(executor);
        }
    }

    /// Ends a pause. Nothing happens when there is none.
    pub fn resume(&self, node: NodeId) {
        let executor = {
            let mut inner = self.lock();
            let state = inner.node_mut(node);
            if !state.paused {
                return;
            }
            state.paused = false;
            let executor = state.executor;
            inner.trace("node.resume", node, 0, 0);
            executor
        };
        if let Some(executor) = executor {
            Handle::current().resume(executor);
        }
    }

    /// Asks the process to stop in order (SIGTERM): [`SimRuntime::stop_requested`] resolves.
    pub fn stop(&self, node: NodeId) {
        let wakers = {
            let mut inner = self.lock();
            inner.trace("node.stop", node, 0, 0);
            let state = inner.node_mut(node);
            state.stop_requested = true;
            std::mem::take(&mut state.stop_wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Kills the process before, inside or after (drawn by the seed) the `nth` storage step from now, 0 being the next; the
    /// init system starts it again after [`RESTART_AFTER`]. Replaces an earlier request; any end of the process forgets it.
    /// Asked for while the node is down, it counts from the first step of the next boot.
    pub fn crash_at_step(&self, node: NodeId, nth: u64) {
        self.set_trap(
            node,
            StepTrap { steps_left: nth, cut: None, down: Down::Process, back_after: Some(RESTART_AFTER) },
        );
    }

    /// As [`Self::crash_at_step`], but the host loses its power and gets it back after `back_after` (never for `None`).
    pub fn power_off_at_step(&self, node: NodeId, nth: u64, back_after: Option<Duration>) {
        self.set_trap(node, StepTrap { steps_left: nth, cut: None, down: Down::Power, back_after });
    }

    /// As the two above with nothing left to the seed, for a test that goes through all steps: `down` comes at this `cut` of
    /// the `nth` step, and the node stays down until it is restarted.
    pub fn end_at_step(&self, node: NodeId, nth: u64, down: Down, cut: StepCut) {
        self.set_trap(node, StepTrap { steps_left: nth, cut: Some(cut), down, back_after: None });
    }

    fn set_trap(&self, node: NodeId, trap: StepTrap) {
        self.lock().node_mut(node).trap = Some(trap);
    }

    /// Storage steps the node has begun since it was added.
    #[must_use]
    pub fn steps(&self, node: NodeId) -> u64 {
        self.lock().node(node).steps
    }

    /// A process runs there, paused or not.
    #[must_use]
    pub fn is_running(&self, node: NodeId) -> bool {
        self.lock().node(node).running
    }

    /// When processes there have ended, however, in ms of true time.
    #[must_use]
    pub fn ends_ms(&self, node: NodeId) -> Vec<u64> {
        self.ends(node).into_iter().map(|(at_ms, _)| at_ms).collect()
    }

    /// The same, and what ended each.
    #[must_use]
    pub fn ends(&self, node: NodeId) -> Vec<(u64, End)> {
        self.lock().node(node).ends.iter().map(|(ns, end)| (ns / 1_000_000, *end)).collect()
    }

    /// Times a process was started there.
    #[must_use]
    pub fn boots(&self, node: NodeId) -> u64 {
        self.lock().node(node).boots
    }

    #[must_use]
    pub fn node_count(&self) -> u32 {
        self.lock().nodes.len() as u32
    }

    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        self.lock().node(node).name.clone()
    }

    #[must_use]
    pub fn ip(&self, node: NodeId) -> Ipv4Addr {
        self.lock().node(node).ip
    }

    /// The runtime of the process that runs there now, for a scenario that adds work of its own to a node. Its calls
    /// never return once that process is dead.
    #[must_use]
    pub fn runtime(&self, node: NodeId) -> Option<SimRuntime> {
        let inner = self.lock();
        let state = inner.node(node);
        state.running.then(|| SimRuntime::new(self.clone(), node, state.incarnation))
    }

    /// Ends the calling process at this very instruction: nothing after it runs.
    pub(crate) fn die(
        &self,
        node: NodeId,
        down: Down,
        back_after: Option<Duration>,
        (why, end): (&'static str, End),
    ) -> ! {
        let executor = {
            let mut inner = self.lock();
            inner.trace(why, node, 0, 0);
            inner.count(why);
            let executor = inner.mark_down(node, down, end);
            if let Some(after) = back_after {
                inner.restart_later(node, after);
            }
            executor
        };
        Self::kill(executor);
        task::unwind()
    }

    pub(crate) fn kill_all(&self) {
        let executors: Vec<_> = {
            let mut inner = self.lock();
            inner
                .nodes
                .iter_mut()
                .map(|node| {
                    node.incarnation += 1;
                    node.running = false;
                    node.executor
                })
                .collect()
        };
        for executor in executors {
            Self::kill(executor);
        }
    }

    pub(crate) fn executor(&self, node: NodeId) -> Option<madsim::task::NodeId> {
        self.lock().node(node).executor
    }
}

//! The state of one run: an event heap, timers, nodes, network, disks, trace, pumped by a single madsim task.
//!
//! Time is madsim's: it stands still while tasks run (but for 50-100 ns per poll) and jumps to the next event when all wait.
//! Timers are exact to the nanosecond, since the pump goes by `Sleep::reset`, which knows no minimum of 1 ms.
//!
//! Invariant: one lock, never held across a call into madsim that could drop a task (kill, restart), nor while foreign code
//! runs (probe callbacks, programs, append closures). Taking it twice is an assertion, not a deadlock.

mod pump;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::Waker;
use std::time::Duration;

use hotfire_core::runtime::{Mark, Mutant};
use madsim::time::TimeHandle;

use crate::clock::ClockControl;
use crate::cluster::{Node, NodeId};
use crate::disk::{Disk, DiskControl, Image};
use crate::network::{Network, NetworkControl};
use crate::run::{Limits, Progress};
use crate::seed::{Draws, Key, hash_bytes};
use crate::trace::{Trace, TraceEvent};

/// A probe of the product: `Runtime::probe` or `Runtime::probe_named` on `node`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeEvent {
    pub at_ns: u64,
    pub node: NodeId,
    /// How often the node has been started, this run of it included.
    pub boot: u64,
    pub kind: &'static str,
    /// Of what it is, where one tells.
    pub name: String,
    pub a: u64,
    pub b: u64,
}

pub(crate) type ProbeCallback = Box<dyn FnMut(&ProbeEvent) + Send>;
pub(crate) type RemoveCallback = Box<dyn FnMut(NodeId, &str) + Send>;

/// What the pump does when its time has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Timer {
        slot: u32,
        generation: u32,
    },
    /// The head of a connection's direction has arrived, or is to be sent again.
    Segment {
        connection: u32,
        direction: u8,
    },
    /// A connection attempt reaches the other host.
    Syn {
        attempt: u32,
    },
    /// Pages on their way to the platter arrive.
    Flight {
        node: NodeId,
        flight: u64,
    },
    /// The kernel writes back some dirty pages.
    Writeback {
        node: NodeId,
    },
    /// The node's init system starts the process again, unless something else has happened to it since.
    Restart {
        node: NodeId,
        incarnation: u32,
    },
}

struct Entry {
    at_ns: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.sequence).cmp(&(other.at_ns, other.sequence))
    }
}

struct TimerSlot {
    generation: u32,
    waker: Option<Waker>,
    fired: bool,
}

/// A timer in use; given back with [`Inner::free_timer`].
#[derive(Clone, Copy)]
pub(crate) struct Timer {
    slot: u32,
    generation: u32,
}

pub(crate) struct Inner {
    pub(crate) seed: u64,
    time: Option<TimeHandle>,
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    armed_ns: u64,
    pump: Option<Waker>,
    stopping: bool,
    timers: Vec<TimerSlot>,
    free_timers: Vec<u32>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) disks: Vec<Disk>,
    trace: Trace,
    counters: BTreeMap<&'static str, u64>,
    pub(crate) marks: Marks,
    mutant: Option<Mutant>,
    java: BTreeSet<NodeId>,
    buggify: f64,
    buggify_counts: BTreeMap<(NodeId, &'static str), u64>,
    on_probe: Option<ProbeCallback>,
    on_remove: Option<RemoveCallback>,
    spawned: u64,
}

impl Inner {
    /// True simulated time in ns.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.time.as_ref().map_or(u64::MAX, |time| time.elapsed().as_nanos() as u64)
    }

    pub(crate) fn at(&mut self, at_ns: u64, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at_ns, sequence: self.sequence, event }));
        if at_ns < self.armed_ns {
            self.armed_ns = at_ns;
            if let Some(pump) = self.pump.take() {
                pump.wake();
            }
        }
    }

    #[inline]
    pub(crate) fn trace(&mut self, kind: &'static str, node: NodeId, a: u64, b: u64) {
        let at_ns = self.now();
        self.trace.push(TraceEvent { at_ns, kind, node, a, b });
    }

    pub(crate) fn count(&mut self, kind: &'static str) {
        self.count_many(kind, 1);
    }

    pub(crate) fn count_many(&mut self, kind: &'static str, by: u64) {
        *self.counters.entry(kind).or_insert(0) += by;
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }

    pub(crate) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize]
    }

    pub(crate) fn disk(&mut self, node: NodeId) -> &mut Disk {
        &mut self.disks[node.0 as usize]
    }

    /// Whether handles of this incarnation still act.
    #[inline]
    pub(crate) fn alive(&self, node: NodeId, incarnation: u32) -> bool {
        self.node(node).incarnation == incarnation
    }

    pub(crate) fn key(&self, label: &str, entity: u64) -> Key {
        Key::new(self.seed, label, entity)
    }

    /// Node number `local` ns mapped to the moment a timer must fire.
    pub(crate) fn timer(&mut self, at_ns: u64, waker: &Waker) -> Timer {
        let slot = self.free_timers.pop().unwrap_or_else(|| {
            self.timers.push(TimerSlot { generation: 0, waker: None, fired: false });
            self.timers.len() as u32 - 1
        });
        let state = &mut self.timers[slot as usize];
        state.fired = false;
        state.waker = Some(waker.clone());
        let generation = state.generation;
        self.at(at_ns, Event::Timer { slot, generation });
        Timer { slot, generation }
    }

    /// Whether the timer has fired; if not, the task of `waker` is woken when it does.
    pub(crate) fn poll_timer(&mut self, timer: Timer, waker: &Waker) -> bool {
        let state = &mut self.timers[timer.slot as usize];
        assert_eq!(state.generation, timer.generation, "a timer was used after it was given back");
        if !state.fired && !state.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        state.fired
    }

    pub(crate) fn free_timer(&mut self, timer: Timer) {
        if let Some(state) = self.timers.get_mut(timer.slot as usize)
            && state.generation == timer.generation
        {
            state.generation = state.generation.wrapping_add(1);
            state.waker = None;
            self.free_timers.push(timer.slot);
        }
    }

    /// Handles one due event. A restart runs foreign code, so it is left to the pump.
    fn fire(&mut self, event: Event) -> Option<NodeId> {
        match event {
            Event::Timer { slot, generation } => {
                let state = &mut self.timers[slot as usize];
                if state.generation == generation {
                    state.fired = true;
                    if let Some(waker) = state.waker.take() {
                        waker.wake();
                    }
                }
            }
            Event::Segment { connection, direction } => {
                crate::network::on_segment(self, connection, usize::from(direction));
            }
            Event::Syn { attempt } => crate::network::on_syn(self, attempt),
            Event::Flight { node, flight } => crate::disk::on_flight(self, node, flight),
            Event::Writeback { node } => crate::disk::on_writeback(self, node),
            Event::Restart { node, incarnation } => {
                return self.alive(node, incarnation).then_some(node);
            }
        }
        None
    }

    pub(crate) fn buggify(&mut self, node: NodeId, site: &'static str) -> bool {
        if self.buggify <= 0.0 {
            return false;
        }
        let site_hash = hash_bytes(0, site.as_bytes());
        // Half of the sites are quiet in a run: rare branches then meet each other in many combinations.
        if self.key("buggify.site", site_hash).draws(0).chance(0.5) {
            return false;
        }
        let count = self.buggify_counts.entry((node, site)).or_insert(0);
        *count += 1;
        let count = *count;
        let hit = self.key("buggify", site_hash).with(u64::from(node.0)).draws(count).chance(self.buggify);
        if hit {
            self.trace("buggify", node, site_hash, count);
            self.count("buggify");
        }
        hit
    }

    pub(crate) fn mutant(&self) -> Option<Mutant> {
        self.mutant
    }

    pub(crate) fn plays_java(&self, node: NodeId) -> bool {
        self.java.contains(&node)
    }
}

pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// An append closure is running: nothing may call in.
    pub(crate) filling: AtomicBool,
    pub(crate) progress: Arc<Progress>,
}

/// What a run has come through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    pub branches: BTreeSet<Mark>,
    /// Response codes that requests were answered with.
    pub answers: BTreeSet<i32>,
}

/// One run's world. Cheap clone; lives inside [`crate::run_seed`].
#[derive(Clone)]
pub struct World(pub(crate) Arc<Shared>);

impl World {
    pub(crate) fn new(seed: u64, limits: &Limits, progress: Arc<Progress>) -> World {
        let file = limits
            .trace_file
            .as_ref()
            .map(|path| std::fs::File::create(path).expect("create the trace file"));
        let trace = Trace::new(seed, limits, file);
        World(Arc::new(Shared {
            inner: Mutex::new(Inner {
                seed,
                time: Some(TimeHandle::current()),
                heap: BinaryHeap::new(),
                sequence: 0,
                armed_ns: u64::MAX,
                pump: None,
                stopping: false,
                timers: Vec::new(),
                free_timers: Vec::new(),
                nodes: Vec::new(),
                network: Network::new(seed),
                disks: Vec::new(),
                trace,
                counters: BTreeMap::new(),
                mutant: None,
                java: BTreeSet::new(),
                marks: Marks::default(),
                buggify: 0.0,
                buggify_counts: BTreeMap::new(),
                on_probe: None,
                on_remove: None,
                spawned: 0,
            }),
            filling: AtomicBool::new(false),
            progress,
        }))
    }

    /// # Panics
    /// When the runtime is entered from inside an append closure, or the world from inside itself.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        assert!(
            !self.0.filling.load(Ordering::Relaxed),
            "the runtime was called from inside append's closure"
        );
        match self.0.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("the world was entered from inside itself"),
        }
    }

    /// For destructors, which must not panic: `None` when the world is busy or foreign code is filling an append.
    pub(crate) fn lock_in_drop(&self) -> Option<MutexGuard<'_, Inner>> {
        match self.0.inner.try_lock() {
            Ok(inner) => Some(inner),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// True simulated time since the start of the run, in ns. No node sees it.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.lock().now()
    }

    /// As [`Self::now_ns`], in whole ms.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }

    /// Waits in true simulated time.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.sleep_until_ns(self.now_ns().saturating_add(duration.as_nanos() as u64))
    }

    /// Waits until `ms` after the start of the run.
    pub fn sleep_until_ms(&self, ms: u64) -> impl Future<Output = ()> + Send + 'static {
        self.sleep_until_ns(ms.saturating_mul(1_000_000))
    }

    pub fn sleep_until_ns(&self, at_ns: u64) -> impl Future<Output = ()> + Send + 'static {
        pump::WorldSleep::new(self.clone(), at_ns)
    }

    #[must_use]
    pub fn seed(&self) -> u64 {
        self.lock().seed
    }

    /// Draws of this seed under a label of the caller's own, apart from all of the simulator's.
    #[must_use]
    pub fn draws(&self, label: &str, entity: u64) -> Draws {
        self.lock().key("scenario", hash_bytes(0, label.as_bytes())).with(entity).draws(0)
    }

    #[must_use]
    pub fn network(&self) -> NetworkControl<'_> {
        NetworkControl { world: self }
    }

    #[must_use]
    pub fn disk(&self, node: NodeId) -> DiskControl<'_> {
        DiskControl { world: self, node }
    }

    #[must_use]
    pub fn clock(&self, node: NodeId) -> ClockControl<'_> {
        ClockControl { world: self, node }
    }

    /// What a power loss at this very moment would leave if nothing undurable survived: the pessimistic image, which an
    /// acknowledgement must already be covered by.
    #[must_use]
    pub fn platter(&self, node: NodeId) -> Image {
        self.lock().disk(node).platter()
    }

    /// What the node's kernel shows: names and bytes as a new process would find them.
    #[must_use]
    pub fn cache_image(&self, node: NodeId) -> Image {
        self.lock().disk(node).cache_image()
    }

    /// Durable bytes of a file whose name is durable too, clipped to its durable length; `None` when the name is not
    /// durable (its own or that of a folder above it).
    #[must_use]
    pub fn platter_read(&self, node: NodeId, path: &str, range: Range<u64>) -> Option<Vec<u8>> {
        self.lock().disk(node).platter_read(path, range)
    }

    /// Bytes as the kernel shows them, clipped to the length; `None` when there is no such file.
    #[must_use]
    pub fn cache_read(&self, node: NodeId, path: &str, range: Range<u64>) -> Option<Vec<u8>> {
        self.lock().disk(node).cache_read(path, range)
    }

    /// Names in a folder as the kernel shows them, sorted; none when there is no such folder.
    #[must_use]
    pub fn cache_names(&self, node: NodeId, folder: &str) -> Vec<String> {
        self.lock().disk(node).cache_names(folder)
    }

    /// Plants one bug in the product for the whole run (`Runtime::mutant` answers true for it).
    pub fn set_mutant(&self, mutant: Option<Mutant>) {
        self.lock().mutant = mutant;
    }

    /// The rare branches that were taken until now, and the response codes that requests were answered with.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.lock().marks.clone()
    }

    /// From now on the node does as a Java broker does, where that is less than ours do (`Runtime::plays_java`).
    pub fn set_plays_java(&self, node: NodeId) {
        self.lock().java.insert(node);
    }

    /// Rare branches are taken with this probability at half of the sites, those drawn by the seed. 0 turns them off.
    pub fn set_buggify(&self, probability: f64) {
        self.lock().buggify = probability;
    }

    /// Called at each probe, synchronously, with the world unlocked: it may read platters. One callback at a time.
    pub fn on_probe(&self, callback: impl FnMut(&ProbeEvent) + Send + 'static) {
        let old = self.lock().on_probe.replace(Box::new(callback));
        drop(old);
    }

    pub(crate) fn probe(&self, node: NodeId, kind: &'static str, name: String, (a, b): (u64, u64)) {
        let (event, callback) = {
            let mut inner = self.lock();
            inner.trace(kind, node, a, b);
            let boot = inner.node(node).boots;
            let event = ProbeEvent { at_ns: inner.now(), node, boot, kind, name, a, b };
            (event, inner.on_probe.take())
        };
        if let Some(mut callback) = callback {
            callback(&event);
            let replaced = {
                let mut inner = self.lock();
                if inner.on_probe.is_none() { inner.on_probe.replace(callback) } else { Some(callback) }
            };
            drop(replaced);
        }
    }

    /// Called when a process asks for a file's name to be removed, before it is, with the world unlocked: by node and path.
    /// One callback at a time.
    pub fn on_remove(&self, callback: impl FnMut(NodeId, &str) + Send + 'static) {
        let old = self.lock().on_remove.replace(Box::new(callback));
        drop(old);
    }

    pub(crate) fn removing(&self, node: NodeId, path: &str) {
        let callback = self.lock().on_remove.take();
        if let Some(mut callback) = callback {
            callback(node, path);
            let replaced = {
                let mut inner = self.lock();
                if inner.on_remove.is_none() { inner.on_remove.replace(callback) } else { Some(callback) }
            };
            drop(replaced);
        }
    }

    /// An event of the scenario's own in the trace (a fault begins, a message is acknowledged).
    pub fn mark(&self, kind: &'static str, a: u64, b: u64) {
        self.lock().trace(kind, NodeId::SUPERVISOR, a, b);
    }

    /// How often each kind of event and fault has happened.
    pub(crate) fn kept(&self) -> Vec<TraceEvent> {
        self.lock().trace.kept().to_vec()
    }

    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counters.clone()
    }

    /// Digest of everything so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.lock().trace.digest()
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().trace.count()
    }

    /// The last events, oldest first, at most [`crate::trace::RING_EVENTS`].
    #[must_use]
    pub fn ring(&self) -> Vec<TraceEvent> {
        self.lock().trace.ring()
    }

    pub(crate) fn take_hashes(&self) -> Vec<u64> {
        let mut inner = self.lock();
        inner.trace.close();
        inner.trace.take_hashes()
    }

    /// True every 1,024th time: madsim keeps a dead entry per spawn until somebody counts the tasks.
    pub(crate) fn prune_due(&self) -> bool {
        let mut inner = self.lock();
        inner.spawned += 1;
        inner.spawned.is_multiple_of(1_024)
    }

    /// Ends the pump and drops whatever could keep the world alive: wakers, callbacks, programs.
    pub(crate) fn clear(&self) {
        let garbage = {
            let mut inner = self.lock();
            inner.stopping = true;
            inner.armed_ns = 0;
            let pump = inner.pump.take();
            if let Some(pump) = &pump {
                pump.wake_by_ref();
            }
            let timers: Vec<_> = inner.timers.iter_mut().map(|timer| timer.waker.take()).collect();
            let programs: Vec<_> = inner.nodes.iter_mut().map(Node::take_foreign).collect();
            let network = std::mem::replace(&mut inner.network, Network::new(0));
            let disks: Vec<_> = inner.disks.iter_mut().map(Disk::take).collect();
            let callbacks = (inner.on_probe.take(), inner.on_remove.take());
            (pump, timers, programs, network, disks, callbacks, std::mem::take(&mut inner.heap))
        };
        drop(garbage);
    }

    /// The last step of a run: the clock holds madsim's timers, which hold the tasks, which hold the world.
    pub(crate) fn forget_time(&self) {
        let time = self.lock().time.take();
        drop(time);
    }
}

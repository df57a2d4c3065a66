//! One run: a seed, a scenario, a verdict.
//!
//! Each run has an operating-system thread of its own, since std's hash seeds are per thread, and a watchdog on the wall clock:
//! code that loops without waiting would hang its seed for ever. At the end all nodes are killed and the cycles between world,
//! wakers and tasks are broken, so that a sweep of many seeds does not grow.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::NodeId;
use crate::seed::Key;
use crate::trace::TraceEvent;
use crate::world::{Marks, World};

/// What a run may use, and what it keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall-clock time after which the seed counts as hung.
    pub wall: Duration,
    /// Simulated time after which the run is [`Outcome::OutOfTime`].
    pub simulated: Duration,
    /// Every event, a line each, goes into this file.
    pub trace_file: Option<PathBuf>,
    /// Keep the digest after each event ([`RunResult::hashes`]), to be another run's `expected`.
    pub keep_hashes: bool,
    /// Events to keep ([`RunResult::kept`]), beyond the last ones of all.
    pub keep: Option<fn(&TraceEvent) -> bool>,
    /// Digests of another run of the same seed: the first event that differs ends this run with a panic that names it.
    pub expected: Option<Arc<Vec<u64>>>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wall: Duration::from_secs(60),
            simulated: Duration::from_secs(3_600),
            trace_file: None,
            keep_hashes: false,
            keep: None,
            expected: None,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The scenario returned.
    Finished(T),
    /// An assertion failed, in the product, the scenario or the simulator.
    Panicked(Panic),
    /// The simulated time was up before the scenario returned.
    OutOfTime,
    /// Everybody waits and no event will ever come.
    Stuck,
    /// The wall clock ran out; the thread of the run is left behind. Says who ran last and whether time still moved.
    Hung(String),
}

/// A panic inside a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panic {
    pub message: String,
    /// `file:line:column`.
    pub location: String,
    /// The node whose task panicked, and that task's name; none for the scenario itself.
    pub task: Option<(NodeId, &'static str)>,
}

#[derive(Debug)]
pub struct RunResult<T> {
    pub seed: u64,
    pub outcome: Outcome<T>,
    /// Over every event, see [`crate::trace`].
    pub digest: u64,
    pub events: u64,
    /// A last draw from the executor's random source: equal runs agree in it too.
    pub last_draw: u64,
    /// Simulated time.
    pub simulated: Duration,
    pub wall: Duration,
    /// The last events, oldest first.
    pub ring: Vec<TraceEvent>,
    /// With [`Limits::keep`], oldest first.
    pub kept: Vec<TraceEvent>,
    pub counters: BTreeMap<&'static str, u64>,
    pub marks: Marks,
    /// With [`Limits::keep_hashes`].
    pub hashes: Vec<u64>,
}

impl<T> RunResult<T> {
    /// The scenario's answer.
    ///
    /// # Panics
    /// When the run ended in any other way; the text says how, with the seed.
    #[track_caller]
    pub fn expect_finished(self) -> T {
        match self.outcome {
            Outcome::Finished(value) => value,
            Outcome::Panicked(panic) => {
                panic!(
                    "seed {}: panic at {}: {} ({:?})",
                    self.seed, panic.location, panic.message, panic.task
                )
            }
            Outcome::OutOfTime => panic!("seed {}: out of simulated time", self.seed),
            Outcome::Stuck => panic!("seed {}: everybody waits for ever", self.seed),
            Outcome::Hung(why) => panic!("seed {}: {why}", self.seed),
        }
    }

    /// What must be equal in two runs of one seed.
    #[must_use]
    pub fn fingerprint(&self) -> (u64, u64, u64) {
        (self.digest, self.events, self.last_draw)
    }
}

/// Where a run is, for the watchdog on the outside.
#[derive(Default)]
pub(crate) struct Progress {
    simulated_ns: AtomicU64,
    polls: AtomicU64,
    running: Mutex<Option<(NodeId, &'static str)>>,
}

impl Progress {
    pub(crate) fn tick(&self, simulated_ns: u64) {
        self.simulated_ns.store(simulated_ns, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, node: NodeId, task: &'static str) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((node, task));
    }

    pub(crate) fn leave(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn running(&self) -> Option<(NodeId, &'static str)> {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called when the wall clock is up; looks twice to see whether anything moves.
    fn describe(&self, wall: Duration) -> String {
        let before = (self.simulated_ns.load(Ordering::Relaxed), self.polls.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_millis(200));
        let after = (self.simulated_ns.load(Ordering::Relaxed), self.polls.load(Ordering::Relaxed));
        let state = if after.1 == before.1 {
            "no task yields"
        } else if after.0 == before.0 {
            "tasks run but no event fires"
        } else {
            "simulated time still moves"
        };
        let who = match self.running() {
            Some((node, task)) => format!("task {task:?} of {node} is running"),
            None => "no task of a node is running".to_owned(),
        };
        let ms = after.0 / 1_000_000;
        format!("hung after {} s of wall clock at {ms} ms of simulated time: {state}, {who}", wall.as_secs())
    }
}

thread_local! {
    static SIMULATING: RefCell<Option<Arc<Progress>>> = const { RefCell::new(None) };
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Panics of simulation threads are kept for the result instead of printed.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let Some(progress) = SIMULATING.with(|simulating| simulating.borrow().clone()) else {
                return others(info);
            };
            let payload = info.payload();
            let message = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without text".to_owned());
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let panic = Panic { message, location, task: progress.running() };
            LAST_PANIC.with(|last| last.borrow_mut().get_or_insert(panic).task);
        }));
    });
}

/// Runs `scenario` in a world of its own made from `seed`, on a thread of its own, and waits for it.
pub fn run_seed<T, S, F>(seed: u64, limits: Limits, scenario: S) -> RunResult<T>
where
    T: Send + 'static,
    S: FnOnce(World) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
{
    install_panic_hook();
    let progress = Arc::new(Progress::default());
    let (sender, receiver) = channel();
    let started = Instant::now();
    let (inside, wall) = (progress.clone(), limits.wall);
    let thread = std::thread::Builder::new()
        .name(format!("seed {seed}"))
        .stack_size(8 << 20)
        .spawn(move || {
            SIMULATING.with(|simulating| *simulating.borrow_mut() = Some(inside.clone()));
            // Nobody listens any more when the watchdog was faster.
            drop(sender.send(run_here(seed, &limits, inside, scenario)));
        })
        .expect("start a thread for the seed");
    let result = match receiver.recv_timeout(wall) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => {
            let simulated = Duration::from_nanos(progress.simulated_ns.load(Ordering::Relaxed));
            return RunResult {
                wall: started.elapsed(),
                simulated,
                ..RunResult::empty(seed, Outcome::Hung(progress.describe(wall)))
            };
        }
        Err(RecvTimeoutError::Disconnected) => RunResult::empty(
            seed,
            Outcome::Panicked(Panic { message: "the run's thread ended".to_owned(), ..Panic::default() }),
        ),
    };
    // A panic while the run's remains are dropped is of no interest: the result is there.
    drop(thread.join());
    RunResult { wall: started.elapsed(), ..result }
}

impl<T> RunResult<T> {
    fn empty(seed: u64, outcome: Outcome<T>) -> RunResult<T> {
        RunResult {
            seed,
            outcome,
            digest: 0,
            events: 0,
            last_draw: 0,
            simulated: Duration::ZERO,
            wall: Duration::ZERO,
            ring: Vec::new(),
            kept: Vec::new(),
            counters: BTreeMap::new(),
            marks: Marks::default(),
            hashes: Vec::new(),
        }
    }
}

fn run_here<T, S, F>(seed: u64, limits: &Limits, progress: Arc<Progress>, scenario: S) -> RunResult<T>
where
    S: FnOnce(World) -> F,
    F: Future<Output = T> + 'static,
{
    let executor_seed = Key::new(seed, "executor", 0).draws(0).u64();
    let mut executor =
        madsim::runtime::Runtime::with_seed_and_config(executor_seed, madsim::Config::default());
    executor.set_time_limit(limits.simulated);
    let world_cell: Arc<OnceLock<World>> = Arc::default();
    let cell = world_cell.clone();
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
        executor.block_on(async move {
            let world = World::new(seed, limits, progress);
            let _ = cell.set(world.clone());
            drop(madsim::task::spawn(world.clone().pump()));
            let value = scenario(world.clone()).await;
            let last_draw: u64 = madsim::rand::random();
            let summary = summary(&world);
            tear_down(&world).await;
            (value, last_draw, summary)
        })
    }));
    let mut result = match ended {
        Ok((value, last_draw, summary)) => {
            let mut result = RunResult::empty(seed, Outcome::Finished(value));
            result.last_draw = last_draw;
            summary(&mut result);
            result
        }
        Err(_) => {
            let panic = LAST_PANIC.with(|last| last.borrow_mut().take()).unwrap_or_default();
            let outcome = if panic.message.contains("time limit exceeded") {
                Outcome::OutOfTime
            } else if panic.message.contains("all tasks will block forever") {
                Outcome::Stuck
            } else {
                Outcome::Panicked(panic)
            };
            let mut result = RunResult::empty(seed, outcome);
            if let Some(world) = world_cell.get() {
                summary(world)(&mut result);
                // The executor goes on after a panic, long enough to drop what is left.
                executor.set_time_limit(Duration::MAX);
                let torn = std::panic::catch_unwind(AssertUnwindSafe(|| executor.block_on(tear_down(world))));
                drop(torn);
            }
            result
        }
    };
    if let Some(world) = world_cell.get() {
        result.hashes = world.take_hashes();
        world.clear();
        world.forget_time();
    }
    result
}

/// Reads what a result says about the world, now; written into a result later.
fn summary<T>(world: &World) -> impl FnOnce(&mut RunResult<T>) + use<T> {
    let simulated = Duration::from_nanos(world.now_ns());
    let (digest, events) = (world.digest(), world.events());
    let (ring, kept) = (world.ring(), world.kept());
    let (counters, marks) = (world.counters(), world.marks());
    move |result| {
        result.simulated = simulated;
        result.digest = digest;
        result.events = events;
        result.ring = ring;
        result.kept = kept;
        result.counters = counters;
        result.marks = marks;
    }
}

/// Kills all nodes and lets the executor drop their tasks.
async fn tear_down(world: &World) {
    world.kill_all();
    // Time enough for the executor to reach every task that was woken to be dropped.
    madsim::time::sleep(Duration::from_millis(5)).await;
    world.clear();
    madsim::time::sleep(Duration::from_millis(5)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SimRuntime;
    use std::sync::Weak;

    /// Tasks hold the world, timers hold the tasks, the world holds the timers: however a run ends, nothing of it is left.
    #[test]
    fn a_run_leaves_nothing_behind_however_it_ends() {
        for (way, simulated) in [("returns", 100), ("panics", 100), ("waits", 10)] {
            let remains: Arc<Mutex<Weak<crate::world::Shared>>> = Arc::default();
            let shared = remains.clone();
            let limits = Limits { simulated: Duration::from_secs(simulated), ..Limits::default() };
            let result = run_seed(1, limits, move |world| async move {
                *shared.lock().expect("unpoisoned") = Arc::downgrade(&world.0);
                let node = world.add_node("a", [10, 0, 0, 1]);
                let probed = world.clone();
                world.on_probe(move |_| assert!(probed.now_ns() > 0));
                world.boot(node, |rt: SimRuntime| async move {
                    use hotfire_core::runtime::{Runtime, network::Network};
                    let sleeper = rt.clone();
                    rt.spawn("sleeper", async move { sleeper.sleep(Duration::from_secs(1_000)).await });
                    let mut listener = rt.listen(([10, 0, 0, 1], 80).into()).await.expect("listens");
                    let held = hotfire_core::runtime::Listener::accept(&mut listener).await;
                    std::future::pending::<()>().await;
                    drop(held);
                });
                world.sleep(Duration::from_secs(5)).await;
                match way {
                    "panics" => panic!("on purpose"),
                    "waits" => std::future::pending().await,
                    _ => {}
                }
            });
            assert!(remains.lock().expect("unpoisoned").upgrade().is_none(), "{way}: {:?}", result.outcome);
        }
    }
}

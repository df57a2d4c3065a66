//! Queues of a topic dropped, with the node ended at every storage step around it, in the simulator.
//!
//! Two topics are written to, one of them is dropped, and both are written to again, the dropped one under its old name. The
//! run is made once undisturbed, to count its storage steps, and then once for each step and way of ending there. The lives
//! after it find: of what was sent before the drop, all or nothing while the drop was not answered, and nothing once it was;
//! all that was acknowledged otherwise; queues without holes; and no queue offset that was given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotfire_core::runtime::Runtime;
use hotfire_core::store::check::{Verdict, check as look};
use hotfire_core::store::{FlushMode, MessageStore, StoreConfig};
use hotfire_sim::cluster::{Down, StepCut};
use hotfire_sim::disk::{ChosenLoss, Severity};
use hotfire_sim::{Limits, Outcome, SimRuntime, World, run_seed};

use crate::store::{message, read_all};

type Store = MessageStore<SimRuntime>;
type Way = (Down, StepCut, Severity);

const DROPPED: &str = "Dropped";
const KEPT: &str = "Kept";
const QUEUES: i32 = 2;
const WAYS: [Way; 3] = [
    (Down::Process, StepCut::Inside, Severity::EverythingSurvives),
    (Down::Power, StepCut::Before, Severity::NothingSurvives),
    (Down::Power, StepCut::Inside, Severity::Mixed),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Life {
    First,
    Second,
    Survivor,
    Last,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drop {
    NotAsked,
    Asked,
    Answered,
}

struct Ledger {
    life: Life,
    finished: Option<Life>,
    drop: Drop,
    numbers: u64,
    /// Sent to the dropped topic before the drop.
    before: BTreeSet<u64>,
    /// By topic, queue and offset: what was acknowledged and must be there.
    acked: BTreeMap<(String, i32, i64), u64>,
    /// Every place that was ever acknowledged.
    given: BTreeMap<(String, i32, i64), u64>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config() -> StoreConfig {
    StoreConfig {
        commit_log_file_bytes: 16 << 10,
        consume_queue_file_bytes: 80,
        flush: FlushMode::Sync,
        queue_flush_interval_ms: 40,
        queue_flush_thorough_interval_ms: 40,
        ..StoreConfig::new("store")
    }
}

async fn live(rt: SimRuntime, shared: Shared) {
    let life = shared.lock().life;
    let store = match MessageStore::open(rt.clone(), config()).await {
        Ok(store) => store,
        Err(error) => panic!("{life:?}: the store does not open: {error}"),
    };
    store.start();
    check(&store, &shared, life).await;
    match life {
        Life::First => {
            write(&store, &shared, 2).await;
            rt.sleep(Duration::from_millis(60)).await;
            write(&store, &shared, 1).await;
            shared.lock().drop = Drop::Asked;
            store.drop_topic(DROPPED).await.expect("a healthy disk lets it be dropped");
            dropped(&shared);
            check(&store, &shared, life).await;
            write(&store, &shared, 1).await;
        }
        Life::Second | Life::Survivor => write(&store, &shared, 1).await,
        Life::Last => {}
    }
    check(&store, &shared, life).await;
    if let Err(error) = store.stop().await {
        panic!("{life:?}: the store does not stop: {error}");
    }
    let report = look(&rt, "store", &config()).await.expect("look at a store that is closed");
    assert_eq!(report.verdict, Verdict::Clean, "{life:?}: {report:?}");
    shared.lock().finished = Some(life);
}

/// What was sent to it before must not be seen any more.
fn dropped(shared: &Shared) {
    let mut ledger = shared.lock();
    ledger.drop = Drop::Answered;
    ledger.acked.retain(|place, _| place.0 != DROPPED);
}

async fn write(store: &Arc<Store>, shared: &Shared, count: usize) {
    for _ in 0..count {
        for (topic, queue) in
            [DROPPED, KEPT].into_iter().flat_map(|topic| (0..QUEUES).map(move |queue| (topic, queue)))
        {
            let number = {
                let mut ledger = shared.lock();
                ledger.numbers += 1;
                let number = ledger.numbers;
                if topic == DROPPED && ledger.drop == Drop::NotAsked {
                    ledger.before.insert(number);
                }
                number
            };
            let body = format!("{number:06} {}", "=".repeat(100));
            let put =
                store.put(&message(topic, queue, body.as_bytes())).await.expect("a healthy store takes puts");
            store.durable().reached(put.end).await.expect("a healthy disk flushes");
            let place = (topic.to_owned(), queue, put.queue_offset);
            let mut ledger = shared.lock();
            ledger.acked.insert(place.clone(), number);
            let twice = ledger.given.insert(place.clone(), number);
            assert_eq!(twice, None, "{place:?} is given twice");
        }
    }
}

async fn check(store: &Arc<Store>, shared: &Shared, life: Life) {
    store.dispatched().reached(store.commit_log_max()).await.expect("the log is dispatched");
    let mut found = BTreeMap::new();
    for topic in [DROPPED, KEPT] {
        for queue in 0..QUEUES {
            let (min, max) = (store.min_offset(topic, queue), store.max_offset(topic, queue));
            let messages = read_all(store, topic, queue).await;
            let offsets: Vec<i64> = messages.iter().map(|message| message.queue_offset).collect();
            assert_eq!(offsets, (min..max).collect::<Vec<_>>(), "{life:?}: {topic} {queue} is dense");
            for message in messages {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let number =
                    text.get(..6).and_then(|digits| digits.parse::<u64>().ok()).expect("a body of ours");
                found.insert((topic.to_owned(), queue, message.queue_offset), number);
            }
        }
    }
    let ledger = shared.lock();
    let (asked, before) = (ledger.drop, ledger.before.clone());
    drop(ledger);
    let old: BTreeSet<u64> = found.values().copied().filter(|number| before.contains(number)).collect();
    let acked_before = |ledger: &Ledger| -> BTreeSet<u64> {
        ledger.acked.values().copied().filter(|number| ledger.before.contains(number)).collect()
    };
    match asked {
        Drop::Answered => assert_eq!(old, BTreeSet::new(), "{life:?}: what was dropped is back"),
        Drop::Asked if old.is_empty() => dropped(shared),
        // It did not happen, as if nobody had asked; what comes now is as old as the rest.
        Drop::Asked => {
            let wanted = acked_before(&shared.lock());
            assert!(old.is_superset(&wanted), "{life:?}: half of it is dropped: {old:?} of {wanted:?}");
        }
        Drop::NotAsked => {}
    }
    let ledger = shared.lock();
    for (place, number) in &ledger.acked {
        assert_eq!(found.get(place), Some(number), "{life:?}: {place:?} was acknowledged");
    }
}

/// The storage steps of a run that ends at `end`, if at any.
async fn supervise(world: World, end: Option<(u64, Way)>) -> u64 {
    let node = world.add_node("broker", [10, 0, 0, 1]);
    if let Some((step, (_, _, severity))) = end {
        world.disk(node).change(|faults| faults.power_loss = Some(ChosenLoss { severity, draw: step }));
    }
    let shared = Shared(Arc::new(Mutex::new(Ledger {
        life: Life::First,
        finished: None,
        drop: Drop::NotAsked,
        numbers: 0,
        before: BTreeSet::new(),
        acked: BTreeMap::new(),
        given: BTreeMap::new(),
    })));
    let (mut steps, mut ended) = (0, false);
    for life in [Life::First, Life::Second, Life::Survivor, Life::Last] {
        if ended && life == Life::Second {
            continue;
        }
        shared.lock().life = life;
        if let Some((step, (down, cut, _))) = end.filter(|_| !ended && life <= Life::Second) {
            world.end_at_step(node, step - world.steps(node), down, cut);
        }
        let (boots, program) = (world.boots(node), shared.clone());
        world.boot(node, move |rt: SimRuntime| live(rt, program.clone()));
        while world.boots(node) == boots || world.is_running(node) {
            world.sleep(Duration::from_millis(5)).await;
        }
        if life <= Life::Second {
            steps = world.steps(node);
            ended |= shared.lock().finished != Some(life);
        }
    }
    assert_eq!(ended, end.is_some(), "the end comes where it was set");
    assert_eq!(shared.lock().finished, Some(Life::Last));
    steps
}

fn run(end: Option<(u64, Way)>) -> Result<u64, String> {
    let limits =
        Limits { simulated: Duration::from_secs(60), wall: Duration::from_secs(60), ..Limits::default() };
    match run_seed(1, limits, move |world: World| supervise(world, end)).outcome {
        Outcome::Finished(steps) => Ok(steps),
        Outcome::Panicked(panic) => Err(format!("{} at {}", panic.message, panic.location)),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_dropped_topic_is_there_whole_or_gone_for_good_whatever_the_node_dies_of() {
    let steps = run(None).expect("a run that nothing disturbs");
    let ends: Vec<(u64, Way)> =
        (0..steps).flat_map(|step| WAYS.iter().map(move |way| (step, *way))).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(end) = ends.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = run(Some(*end)) {
                        failed.lock().expect("not poisoned").push((*end, why));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    for (end, why) in failed.iter().take(10) {
        println!("{end:?}: {why}");
    }
    assert!(failed.is_empty(), "{} of {} ends are not survived", failed.len(), ends.len());
    println!("{steps} storage steps, {} ends, all survived", ends.len());
}

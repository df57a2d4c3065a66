//! The store ended at every storage step of a fixed workload, in every way, in the simulator.
//!
//! The workload is two lives of a node with a clean stop between them: three queues written at once, files so small that log,
//! queues and index roll, a checkpoint every few messages, files deleted by age, a configuration file saved meanwhile. A run
//! that nothing disturbs counts its storage steps; then, for each step, the same run is made again and ends there:
//!
//! | end | cut | what is left |
//! |---|---|---|
//! | the process dies | before the step, inside it | the page cache |
//! | the power fails | before the step | only what is durable |
//! | the power fails | inside the step | besides, some of the pages, sectors, lengths and names that are not |
//!
//! After a step nothing is other than before the next one, but for what only memory knows; the test goes through all cuts and
//! more draws of what survives when it is asked to.
//!
//! Nothing is sampled but what a step leaves half done and which parts of the last kind survive: those are drawn by the number
//! of the step. After the end the node opens the store, checks it, writes on where it was cut, stops in order; the directory
//! is looked at offline; and one more life checks all of it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hotfire_core::message::{MessageToStore, StoredMessage};
use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{Mutant, Runtime, Task};
use hotfire_core::store::check::{Verdict, check as look};
use hotfire_core::store::index::{By, Geometry};
use hotfire_core::store::{ConfigFile, DeleteHours, FlushMode, MessageStore, Retention, StoreConfig};
use hotfire_sim::cluster::{Down, NodeId, StepCut};
use hotfire_sim::disk::{ChosenLoss, Severity};
use hotfire_sim::{Limits, Outcome, SimRuntime, World, run_seed};

use crate::store::{message, read_all};

type Store = MessageStore<SimRuntime>;

const SEED: u64 = 1;
const TOPIC: &str = "Exhaust";
const QUEUES: i32 = 3;
const LOG_FILE_BYTES: u64 = 4 << 10;
const TABLE: &str = "store/config/topics.json";
/// How old files are that go.
const RESERVED_MS: u64 = 200;

/// What a life of the node does once it has checked what it found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Life {
    First,
    Second,
    /// After the end that was set: writes on.
    Survivor,
    /// Looks only.
    Last,
}

/// How a run ends before its time.
#[derive(Clone, Copy, Debug)]
struct End {
    step: u64,
    way: Way,
    /// Which parts of what is not durable survive [`Severity::Mixed`].
    draw: u64,
}

/// What ends it, where in the step, and what a power loss leaves.
type Way = (Down, StepCut, Severity);

/// A dying process loses nothing of the page cache.
const DEATHS: [Way; 3] = [
    (Down::Process, StepCut::Before, Severity::EverythingSurvives),
    (Down::Process, StepCut::Inside, Severity::EverythingSurvives),
    (Down::Process, StepCut::After, Severity::EverythingSurvives),
];
const WORST_LOSSES: [Way; 3] = [
    (Down::Power, StepCut::Before, Severity::NothingSurvives),
    (Down::Power, StepCut::Inside, Severity::NothingSurvives),
    (Down::Power, StepCut::After, Severity::NothingSurvives),
];
const MIXED_LOSSES: [Way; 3] = [
    (Down::Power, StepCut::Before, Severity::Mixed),
    (Down::Power, StepCut::Inside, Severity::Mixed),
    (Down::Power, StepCut::After, Severity::Mixed),
];
/// Those of the test that always runs.
const WAYS: [Way; 4] = [DEATHS[0], DEATHS[1], WORST_LOSSES[0], MIXED_LOSSES[1]];

/// What a run that nothing disturbs must have met, and how often at least, in its three lives.
const BORDERS: [(&str, usize); 9] = [
    // Log, queue and index files: made, filled, deleted.
    ("store.file", 4),
    ("store.deleted", 2),
    ("store.queue_file_deleted", 2),
    ("store.index_file", 4),
    ("store.index_file_deleted", 2),
    ("store.checkpoint", 6),
    ("store.index_flushed", 6),
    ("store.recovered", 3),
    ("store.stopped", 3),
];

/// A message that was acknowledged, or found after the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    number: u64,
    position: u64,
    /// Behind it in the log.
    end: u64,
}

/// What the world outside the node knows.
#[derive(Default)]
struct Ledger {
    life: Option<Life>,
    finished: Option<Life>,
    /// Queues by number of the message.
    tried: BTreeMap<u64, i32>,
    /// By queue and offset.
    acked: BTreeMap<(i32, i64), Kept>,
    table_tried: u64,
    table_saved: u64,
    /// Of the last life that opened one; after its end it still tells what it had shown and claimed.
    store: Option<Arc<Store>>,
    claims: Claims,
    blank_records: usize,
}

/// What a store said before its end, and what of it must hold behind it.
#[derive(Clone, Default)]
struct Claims {
    /// Acknowledged messages below it are kept.
    promised_end: u64,
    /// Nothing from here on may be deleted.
    log_min: u64,
    /// Offsets below were shown, by queue.
    shown: BTreeMap<i32, i64>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the store has claimed. A power loss takes what ASYNC_FLUSH has not flushed, shown or not.
    fn take_claims(&self, may_lose_unflushed: bool) {
        let mut ledger = self.lock();
        let Some(store) = ledger.store.take() else { return };
        let shown = (0..QUEUES).map(|queue| (queue, store.max_offset(TOPIC, queue)));
        ledger.claims = Claims {
            promised_end: if may_lose_unflushed { store.durable().get() } else { u64::MAX },
            log_min: store.commit_log_min(),
            shown: if may_lose_unflushed { BTreeMap::new() } else { shown.collect() },
        };
    }
}

fn config(mode: FlushMode) -> StoreConfig {
    StoreConfig {
        commit_log_file_bytes: LOG_FILE_BYTES,
        consume_queue_file_bytes: 80,
        flush: mode,
        flush_interval_ms: 15,
        flush_thorough_interval_ms: 15,
        queue_flush_interval_ms: 40,
        queue_flush_thorough_interval_ms: 40,
        // With so few slots the offline look cannot take one layout of so small a file for another.
        index_geometry: Geometry { slots: 5, entries: 12 },
        retention: Retention {
            reserved_ms: RESERVED_MS,
            delete_hours: DeleteHours::default(),
            interval_ms: 60,
            first_ms: 0,
            log_file_pause_ms: 1,
            queue_file_pause_ms: 1,
            ..Retention::default()
        },
        ..StoreConfig::new("store")
    }
}

/// Bodies have equal sizes: what was cut and stayed on disk would line up with what is written next.
fn body_of(number: u64) -> String {
    format!("{number:06} {}", "=".repeat(300))
}

fn properties_of(number: u64) -> String {
    format!("TAGS\u{1}TagA\u{2}UNIQ_KEY\u{1}u{number}\u{2}KEYS\u{1}k{number}\u{2}")
}

fn table_of(version: u64) -> Vec<u8> {
    format!("{{\"version\":{version},\"padding\":\"{}\"}}", "t".repeat(600)).into_bytes()
}

async fn live(rt: SimRuntime, shared: Shared, mode: FlushMode) {
    let life = shared.lock().life.expect("the supervisor has chosen");
    let store = match MessageStore::open(rt.clone(), config(mode)).await {
        Ok(store) => store,
        Err(error) => panic!("{life:?}: the store does not open: {error}"),
    };
    shared.lock().store = Some(store.clone());
    store.start();
    check_table(&rt, &shared).await;
    check(&store, &shared, life).await;
    let saves = if life == Life::Last { 0 } else { 2 };
    let saver = rt.spawn("saver", save_table(rt.clone(), shared.clone(), saves));
    match life {
        Life::First => {
            write(&rt, &store, &shared, 4).await;
            rt.sleep(Duration::from_millis(RESERVED_MS + 20)).await;
            store.delete_expired();
            write(&rt, &store, &shared, 2).await;
        }
        Life::Second => {
            write(&rt, &store, &shared, 2).await;
            rt.sleep(Duration::from_millis(RESERVED_MS + 20)).await;
            store.delete_expired();
            rt.sleep(Duration::from_millis(30)).await;
            write(&rt, &store, &shared, 1).await;
        }
        Life::Survivor => write(&rt, &store, &shared, 2).await,
        Life::Last => {}
    }
    saver.join().await.expect("nobody aborts it");
    if life >= Life::Survivor {
        check(&store, &shared, life).await;
    }
    if let Err(error) = store.stop().await {
        panic!("{life:?}: the store does not stop: {error}");
    }
    if life >= Life::Survivor {
        let report = look(&rt, "store", &config(mode)).await.expect("look at a store that is closed");
        assert_eq!(report.verdict, Verdict::Clean, "{life:?}: {report:?}");
    }
    shared.lock().finished = Some(life);
}

/// So many messages into each queue, all queues at once.
async fn write(rt: &SimRuntime, store: &Arc<Store>, shared: &Shared, count: u64) {
    let writers: Vec<_> = (0..QUEUES)
        .map(|queue| rt.spawn("writer", write_queue(rt.clone(), store.clone(), shared.clone(), queue, count)))
        .collect();
    for writer in writers {
        writer.join().await.expect("nobody aborts it");
    }
}

async fn write_queue(rt: SimRuntime, store: Arc<Store>, shared: Shared, queue: i32, count: u64) {
    for _ in 0..count {
        let number = {
            let mut ledger = shared.lock();
            let number = ledger.tried.len() as u64 + 1;
            ledger.tried.insert(number, queue);
            number
        };
        let (body, properties) = (body_of(number), properties_of(number));
        let put = MessageToStore { properties: &properties, ..message(TOPIC, queue, body.as_bytes()) };
        let appended = store.put(&put).await.expect("a healthy store takes puts");
        if store.must_wait() {
            store.durable().reached(appended.end).await.expect("a healthy disk flushes");
        }
        let kept = Kept { number, position: appended.physical_offset, end: appended.end };
        let twice = shared.lock().acked.insert((queue, appended.queue_offset), kept);
        assert_eq!(twice, None, "offset {} of queue {queue} is given twice", appended.queue_offset);
        rt.sleep(Duration::from_millis(rt.random_u64() % 8)).await;
    }
}

async fn save_table(rt: SimRuntime, shared: Shared, count: u64) {
    rt.create_dir_all("store/config").await.expect("create the folder");
    rt.sync_dir("store").await.expect("flush the folder");
    for _ in 0..count {
        let version = {
            let mut ledger = shared.lock();
            ledger.table_tried += 1;
            ledger.table_tried
        };
        ConfigFile::save(&rt, TABLE, &table_of(version)).await.expect("save the table");
        shared.lock().table_saved = version;
        rt.sleep(Duration::from_millis(20)).await;
    }
}

/// The table is the last version that was saved, or the one that was being saved.
async fn check_table(rt: &SimRuntime, shared: &Shared) {
    let is_good = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    let loaded = ConfigFile::load_checked(rt, TABLE, is_good).await.expect("load the table");
    let mut ledger = shared.lock();
    let versions = ledger.table_saved..=ledger.table_tried;
    let found = match loaded {
        None => Some(0).filter(|none| versions.contains(none)),
        Some((bytes, _)) => versions.clone().find(|version| *version > 0 && table_of(*version) == bytes),
    };
    ledger.table_saved = found.unwrap_or_else(|| panic!("the table is none of the versions {versions:?}"));
    ledger.table_tried = ledger.table_saved;
}

/// Holds what the store serves against the ledger; from then on the ledger has what was found.
async fn check(store: &Store, shared: &Shared, life: Life) {
    let log_end = store.commit_log_max();
    store.dispatched().reached(log_end).await.expect("the log is dispatched");
    store.indexed().reached(log_end).await.expect("the log is indexed");
    let (log, blank_records) = walk(store);
    let mut found = BTreeMap::new();
    for queue in 0..QUEUES {
        let (min, max) = (store.min_offset(TOPIC, queue), store.max_offset(TOPIC, queue));
        let messages = read_all(store, TOPIC, queue).await;
        let offsets: Vec<i64> = messages.iter().map(|message| message.queue_offset).collect();
        assert_eq!(offsets, (min..max).collect::<Vec<_>>(), "{life:?}: queue {queue} is dense");
        for message in messages {
            let kept = kept_of(&message);
            let sent = shared.lock().tried.get(&kept.number).copied();
            assert_eq!((sent, message.queue_id), (Some(queue), queue), "{life:?}: {kept:?} is in its queue");
            found.insert((queue, message.queue_offset), kept);
        }
    }
    assert_eq!(found, log, "{life:?}: queues have what the log has");
    let numbers: BTreeSet<u64> = found.values().map(|kept| kept.number).collect();
    assert_eq!(numbers.len(), found.len(), "{life:?}: each message is there once: {found:?}");
    check_keys(store, shared, &found, life).await;

    let mut ledger = shared.lock();
    let Claims { promised_end, log_min: claimed_min, shown } = ledger.claims.clone();
    let log_min = store.commit_log_min();
    assert!(log_min <= claimed_min, "{life:?}: the log begins at {log_min}, {claimed_min} was not deleted");
    for (place, kept) in ledger.acked.iter().filter(|(_, kept)| kept.end <= promised_end) {
        // Also the offset of a deleted message is never given again.
        let max = store.max_offset(TOPIC, place.0);
        assert!(place.1 < max, "{life:?}: {place:?} was acknowledged, its queue ends at {max}");
        if kept.position >= log_min {
            assert_eq!(found.get(place), Some(kept), "{life:?}: {place:?} was acknowledged");
        }
    }
    for (queue, next) in shown {
        let max = store.max_offset(TOPIC, queue);
        assert!(max >= next, "{life:?}: queue {queue} ends at {max}, offsets below {next} were shown");
    }
    ledger.acked = found;
    ledger.blank_records = ledger.blank_records.max(blank_records);
}

/// What was found is found by its keys, and nothing else is.
async fn check_keys(store: &Store, shared: &Shared, found: &BTreeMap<(i32, i64), Kept>, life: Life) {
    let positions: BTreeMap<u64, u64> = found.values().map(|kept| (kept.number, kept.position)).collect();
    let tried: Vec<u64> = shared.lock().tried.keys().copied().collect();
    for number in tried {
        for (by, key) in [(By::UniqueKey, format!("u{number}")), (By::Key, format!("k{number}"))] {
            let answer = store.query(by, TOPIC, &key, (0, i64::MAX), 64).await.expect("readable");
            let decode = |bytes| StoredMessage::decode(bytes).expect("a whole record").physical_offset;
            let answer: Vec<u64> = answer.records.iter().map(decode).collect();
            let expected: Vec<u64> = positions.get(&number).copied().into_iter().collect();
            assert_eq!(answer, expected, "{life:?}: positions of messages with key {key}");
        }
    }
}

/// All records of the log by queue and offset, read one after the other, and how many blank records there are.
fn walk(store: &Store) -> (BTreeMap<(i32, i64), Kept>, usize) {
    let (mut records, mut blank_records) = (BTreeMap::new(), 0);
    let (mut position, end) = (store.commit_log_min(), store.commit_log_max());
    while position < end {
        let Some(bytes) = store.message_at(position) else {
            assert_ne!(position % LOG_FILE_BYTES, 0, "a record begins the file at {position}");
            position = position.next_multiple_of(LOG_FILE_BYTES);
            blank_records += 1;
            continue;
        };
        let message = StoredMessage::decode(&bytes).expect("a whole record");
        let kept = kept_of(&message);
        assert_eq!(kept.position, position);
        let before = records.insert((message.queue_id, message.queue_offset), kept);
        assert_eq!(before, None, "two records of one queue offset");
        position = kept.end;
    }
    assert_eq!(position, end, "the log ends behind its last record");
    (records, blank_records)
}

/// A message of ours, whole.
fn kept_of(message: &StoredMessage) -> Kept {
    let text = String::from_utf8_lossy(&message.body);
    let number = text.get(..6).and_then(|digits| digits.parse().ok()).expect("a body of ours");
    assert_eq!(text, body_of(number), "a torn body");
    let properties = properties_of(number);
    assert!(message.properties.starts_with(&properties), "torn properties {:?}", message.properties);
    assert_eq!(message.topic, TOPIC);
    let position = message.physical_offset;
    Kept { number, position, end: position + u64::from(message.store_size) }
}

/// What a run that nothing disturbs has met.
#[derive(Default, Debug)]
struct Undisturbed {
    steps: u64,
    blank_records: usize,
    probes: BTreeMap<&'static str, usize>,
}

/// Runs the workload with at most one end, and the lives after it.
async fn supervise(world: World, mode: FlushMode, mutant: Option<Mutant>, end: Option<End>) -> Undisturbed {
    world.set_mutant(mutant);
    let probes = Arc::new(Mutex::new(BTreeMap::new()));
    let counted = probes.clone();
    world.on_probe(move |event| *counted.lock().expect("not poisoned").entry(event.kind).or_insert(0) += 1);
    let node = world.add_node("broker", [10, 0, 0, 1]);
    if let Some(End { step, way: (_, _, severity), draw }) = end {
        let draw = draw << 32 | step;
        world.disk(node).change(|faults| faults.power_loss = Some(ChosenLoss { severity, draw }));
    }
    let shared = Shared::default();
    let mut ended = false;
    let mut steps = 0;
    for life in [Life::First, Life::Second] {
        run_life(&world, node, &shared, life, mode, end).await;
        steps = world.steps(node);
        ended = shared.lock().finished != Some(life);
        let power = end.is_some_and(|end| end.way.0 == Down::Power);
        shared.take_claims(ended && power && mode == FlushMode::Async);
        if ended {
            break;
        }
    }
    assert_eq!(ended, end.is_some(), "the end comes where it was set");
    if ended {
        run_life(&world, node, &shared, Life::Survivor, mode, None).await;
        shared.take_claims(false);
    }
    run_life(&world, node, &shared, Life::Last, mode, None).await;
    let ledger = shared.lock();
    assert_eq!(ledger.finished, Some(Life::Last));
    let probes = probes.lock().expect("not poisoned").clone();
    Undisturbed { steps, blank_records: ledger.blank_records, probes }
}

/// One life of the node, until no process runs any more.
async fn run_life(
    world: &World,
    node: NodeId,
    shared: &Shared,
    life: Life,
    mode: FlushMode,
    end: Option<End>,
) {
    shared.lock().life = Some(life);
    if let Some(End { step, way: (down, cut, _), .. }) = end {
        world.end_at_step(node, step - world.steps(node), down, cut);
    }
    let boots = world.boots(node);
    let program = shared.clone();
    world.boot(node, move |rt: SimRuntime| live(rt, program.clone(), mode));
    while world.boots(node) == boots || world.is_running(node) {
        world.sleep(Duration::from_millis(5)).await;
    }
}

fn run(mode: FlushMode, mutant: Option<Mutant>, end: Option<End>) -> Result<Undisturbed, String> {
    let limits =
        Limits { simulated: Duration::from_secs(60), wall: Duration::from_secs(60), ..Limits::default() };
    let result = run_seed(SEED, limits, move |world: World| supervise(world, mode, mutant, end));
    match result.outcome {
        Outcome::Finished(undisturbed) => Ok(undisturbed),
        Outcome::Panicked(panic) => Err(format!("{} at {}", panic.message, panic.location)),
        other => Err(format!("{other:?}")),
    }
}

/// Every step ended in each of the `ways`, in the order of the steps.
fn ends(steps: u64, ways: &[Way], draw: u64) -> Vec<End> {
    (0..steps).flat_map(|step| ways.iter().map(move |way| End { step, way: *way, draw })).collect()
}

/// Runs `ends` until so many as are `wanted` are not survived, and gives those, with why.
fn failures(mode: FlushMode, mutant: Option<Mutant>, ends: &[End], wanted: usize) -> Vec<(End, String)> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let is_enough = || failed.lock().expect("not poisoned").len() >= wanted;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(end) = ends.get(next.fetch_add(1, Ordering::Relaxed))
                    && !is_enough()
                {
                    if let Err(why) = run(mode, mutant, Some(*end)) {
                        failed.lock().expect("not poisoned").push((*end, why));
                    }
                }
            });
        }
    });
    failed.into_inner().expect("not poisoned")
}

/// Counts the steps of the workload, then ends it at each of them.
fn every_end_is_survived(mode: FlushMode, ends_of: impl Fn(u64) -> Vec<End>) {
    let started = Instant::now();
    let Undisturbed { steps, blank_records, probes } =
        run(mode, None, None).expect("a run that nothing disturbs");
    let met = |kind: &str| probes.get(kind).copied().unwrap_or(0);
    for (kind, least) in BORDERS {
        assert!(met(kind) >= least, "{mode:?}: the workload meets {kind} {} times", met(kind));
    }
    assert!(blank_records > 0, "{mode:?}: the workload leaves the rest of a file blank");
    let ends = ends_of(steps);
    let failed = failures(mode, None, &ends, 20);
    for (end, why) in &failed {
        println!("{mode:?}: {end:?}: {why}");
    }
    let (points, seconds) = (ends.len(), started.elapsed().as_secs());
    assert!(failed.is_empty(), "{mode:?}: {} or more of {points} ends are not survived", failed.len());
    println!("{mode:?}: {steps} storage steps, {points} crash points, all recovered, {seconds} s");
}

/// With `EVERY_WAY` set in the environment all cuts, and eight draws of what survives a power loss: that takes minutes, best with
/// `EVERY_WAY=1 cargo test --profile sim -p hotfire-tests --test integration every_crash_point -- --nocapture`.
#[test]
fn every_crash_point_is_survived() {
    let every_way = std::env::var_os("EVERY_WAY").is_some();
    for mode in [FlushMode::Sync, FlushMode::Async] {
        every_end_is_survived(mode, |steps| {
            if !every_way {
                return ends(steps, &WAYS, 0);
            }
            let mut all = ends(steps, &[DEATHS, WORST_LOSSES].concat(), 0);
            all.extend((0..8).flat_map(|draw| ends(steps, &MIXED_LOSSES, draw)));
            all
        });
    }
}

/// Planted bugs that some crash point shows, each with the mode in which it does harm.
const FOUND: [(Mutant, FlushMode); 4] = [
    (Mutant::AckBeforeFlush, FlushMode::Sync),
    (Mutant::SegmentNameNotSynced, FlushMode::Sync),
    (Mutant::ConfigInPlace, FlushMode::Sync),
    (Mutant::IndexClaimedUnflushed, FlushMode::Async),
];

#[test]
fn planted_bugs_are_found_at_some_crash_point() {
    let mut alive = Vec::new();
    for (mutant, mode) in FOUND {
        let started = Instant::now();
        let undisturbed = run(mode, Some(mutant), None).expect("without an end the planted bug does no harm");
        match failures(mode, Some(mutant), &ends(undisturbed.steps, &WAYS, 0), 1).first() {
            Some((end, why)) => {
                println!("{}: {end:?}, {} ms: {why}", mutant.name(), started.elapsed().as_millis());
            }
            None => alive.push(mutant.name()),
        }
    }
    assert!(alive.is_empty(), "no crash point shows {alive:?}");
}

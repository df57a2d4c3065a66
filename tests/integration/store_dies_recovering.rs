//! A recovery that dies at each of its storage steps: what the next one leaves is on the disk's surface too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hotfire_core::runtime::Mutant;
use hotfire_core::runtime::storage::{Allocation, File, Storage};
use hotfire_core::store::{FlushMode, MessageStore, StoreConfig};
use hotfire_sim::cluster::{Down, NodeId, StepCut};
use hotfire_sim::{Limits, Outcome, SimRuntime, World, run_seed};

use crate::store::{config, message};

const FOLDER: &str = "store/consumequeue/T/0";
const FILE_BYTES: u64 = 80;
const MESSAGES: u64 = 10;
/// In the last file with entries of records, and behind.
const ENTRIES_END: u64 = MESSAGES * 20;
const LAST_FILE: u64 = 160;

fn small() -> StoreConfig {
    StoreConfig { consume_queue_file_bytes: FILE_BYTES, ..config(FlushMode::Sync) }
}

fn path(base: u64) -> String {
    format!("{FOLDER}/{base:020}")
}

/// Stores messages, and leaves the folder as a power loss does that takes the last records and not their entries.
async fn prepare(rt: SimRuntime, done: Arc<AtomicBool>) {
    let store = MessageStore::open(rt.clone(), small()).await.expect("opens");
    store.start();
    for n in 0..MESSAGES {
        store.put(&message("T", 0, &[n as u8; 100])).await.expect("put");
    }
    let end = store.commit_log_max();
    store.stop().await.expect("stops");
    let entry = |nth: u64| {
        let mut entry = [0; 20];
        entry[..8].copy_from_slice(&(end + nth * 200).to_be_bytes());
        entry[8..12].copy_from_slice(&200_u32.to_be_bytes());
        entry
    };
    let mut at = ENTRIES_END;
    for base in [LAST_FILE, LAST_FILE + FILE_BYTES, LAST_FILE + 2 * FILE_BYTES] {
        let file = match rt.open_file(&path(base), false).await {
            Ok(file) => file,
            Err(_) => rt.create_sized(&path(base), FILE_BYTES, Allocation::Sparse).await.expect("made"),
        };
        while at < base + FILE_BYTES {
            file.write_at(at - base, &entry((at - ENTRIES_END) / 20)).expect("written");
            at += 20;
        }
        file.flush(0..FILE_BYTES).await.expect("flushed");
    }
    let abort = rt.create_file("store/abort").await.expect("made");
    abort.write_at(0, b"0").expect("written");
    abort.flush(0..1).await.expect("flushed");
    for folder in [FOLDER, "store"] {
        rt.sync_dir(folder).await.expect("flushed");
    }
    done.store(true, Ordering::Release);
}

async fn recover(rt: SimRuntime, done: Arc<AtomicBool>) {
    let _store = MessageStore::open(rt, small()).await.expect("opens");
    done.store(true, Ordering::Release);
}

/// What the marker says of the queue is of another one.
async fn damage(rt: SimRuntime, done: Arc<AtomicBool>) {
    let abort = rt.open_file("store/abort", false).await.expect("there");
    let mut bytes = vec![0; abort.len().expect("seen") as usize];
    abort.read_at(0, &mut bytes).expect("read");
    if let Some(at) = bytes.windows(3).position(|name| name == b"T/0") {
        abort.write_at(at as u64, b"U").expect("written");
        abort.flush(0..bytes.len() as u64).await.expect("flushed");
    }
    done.store(true, Ordering::Release);
}

#[derive(Clone, Copy)]
struct Case {
    mutant: Option<Mutant>,
    damaged: bool,
}

/// Whether the next recovery has left an entry on the surface; `None` when the one before came to its end.
async fn dies_at(world: World, case: Case, step: u64, cut: StepCut) -> Option<bool> {
    world.set_mutant(case.mutant);
    let node = world.add_node("broker", [10, 0, 0, 1]);
    assert!(run(&world, node, prepare).await, "prepared");
    world.end_at_step(node, step, Down::Process, cut);
    if run(&world, node, recover).await {
        return None;
    }
    assert!(!case.damaged || run(&world, node, damage).await, "damaged");
    assert!(run(&world, node, recover).await, "the next one opens");
    let holds = |base: u64| {
        let bytes = world.platter_read(node, &path(base), 0..FILE_BYTES).unwrap_or_default();
        bytes.iter().skip(ENTRIES_END.saturating_sub(base) as usize).any(|byte| *byte != 0)
    };
    Some((0..3).any(|nth| holds(LAST_FILE + nth * FILE_BYTES)))
}

/// One life, to its end or the one that was set; whether it came to its own.
async fn run<F: Future<Output = ()> + Send + 'static>(
    world: &World,
    node: NodeId,
    life: impl Fn(SimRuntime, Arc<AtomicBool>) -> F + Send + Sync + 'static,
) -> bool {
    let done = Arc::new(AtomicBool::new(false));
    let own = done.clone();
    let boots = world.boots(node);
    world.boot(node, move |rt: SimRuntime| life(rt, own.clone()));
    while world.boots(node) == boots || world.is_running(node) {
        world.sleep(Duration::from_millis(5)).await;
    }
    done.load(Ordering::Acquire)
}

/// The first step at which the death of a recovery has that consequence, and how many steps there are.
fn first_of(case: Case) -> (Option<u64>, u64) {
    for step in 0.. {
        for cut in [StepCut::Before, StepCut::Inside, StepCut::After] {
            let limits = Limits { wall: Duration::from_secs(60), ..Limits::default() };
            let result = run_seed(1, limits, move |world: World| dies_at(world, case, step, cut));
            match result.outcome {
                Outcome::Finished(Some(false)) => {}
                Outcome::Finished(Some(true)) => return (Some(step), step),
                Outcome::Finished(None) => return (None, step),
                Outcome::Panicked(panic) => {
                    panic!("step {step}, {cut:?}: {} at {}", panic.message, panic.location)
                }
                other => panic!("step {step}, {cut:?}: {other:?}"),
            }
        }
    }
    unreachable!("a recovery has an end")
}

#[test]
fn what_a_recovery_was_about_to_cut_or_remove_when_it_died_does_not_come_back() {
    for damaged in [false, true] {
        let (found, steps) = first_of(Case { mutant: None, damaged });
        assert_eq!(found, None, "the entries behind the last record's would come back; damaged: {damaged}");
        assert!(steps > 30, "{steps} steps");
    }
    let (found, _) = first_of(Case { mutant: Some(Mutant::DeathInRecoveryForgotten), damaged: false });
    assert!(found.is_some(), "the planted bug is found");
}

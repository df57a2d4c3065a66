//! Bits that turn in queue files which were flushed long ago.

use std::time::Duration;

use hotfire_core::message::MessageToStore;
use hotfire_core::runtime::Runtime;
use hotfire_core::store::check::{Verdict, check, repair};
use hotfire_core::store::index::By;
use hotfire_core::store::{Boundary, FlushMode, GetStatus, MessageStore, StoreConfig};
use hotfire_runtime::TokioRuntime;
use hotfire_sim::{Limits, SimRuntime, World, run_seed};
use hotfire_tests::TempDir;

use crate::store::{config, message, open, read_all, run};

const SEEDS: std::ops::Range<u64> = 0..60;
const MESSAGES: usize = 120;
const ENTRY_BYTES: u64 = 20;

/// What is read, by all and by a tag, is what was stored, whatever bits have turned.
async fn live(world: World, seed: u64) {
    let node = world.add_node("broker", [10, 0, 0, 1]);
    world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
    let rt = world.runtime(node).expect("the node runs");
    let config = StoreConfig { queue_flush_thorough_interval_ms: 100, ..config(FlushMode::Sync) };
    let store = MessageStore::open(rt.clone(), config.clone()).await.expect("opens");
    store.start();
    for n in 0..MESSAGES {
        let queue = (rt.random_u64() % 2) as i32;
        let end = store.put(&message("T", queue, format!("{n:0100}").as_bytes())).await.expect("put").end;
        store.durable().reached(end).await.expect("flushed");
    }
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
    rt.sleep(Duration::from_secs(5)).await;
    let stored = [read_all(&store, "T", 0).await, read_all(&store, "T", 1).await];
    assert_eq!(stored[0].len() + stored[1].len(), MESSAGES);
    for _ in 0..12 {
        let queue = (rt.random_u64() % 2) as usize;
        let n = rt.random_u64() % stored[queue].len() as u64;
        let at = n * ENTRY_BYTES + rt.random_u64() % ENTRY_BYTES;
        let base = at - at % config.consume_queue_file_bytes;
        let path = format!("store/consumequeue/T/{queue}/{base:020}");
        assert!(world.disk(node).rot(&path, at - base, (rt.random_u64() % 8) as u8), "{path}");
        world.disk(node).drop_caches();
        if rt.random_u64().is_multiple_of(3) {
            let time = stored[queue][n as usize].store_timestamp;
            let found =
                store.offset_by_time("T", queue as i32, time, Boundary::Lower).await.expect("readable");
            let first = stored[queue].iter().position(|message| message.store_timestamp >= time);
            assert_eq!(found, first.expect("itself") as i64, "seed {seed}: by time");
        }
        for (queue, stored) in stored.iter().enumerate() {
            let read = read_all(&store, "T", queue as i32).await;
            assert!(read == *stored, "seed {seed}: {} of {} are read", read.len(), stored.len());
            let (mut tagged, mut next) = (0, 0);
            let hash = |code: i64| code == i64::from(tag_hash("TagA"));
            while next < stored.len() as i64 {
                let read = store.get("T", queue as i32, next, 32, &hash).await;
                (tagged, next) = (tagged + read.count, read.next_begin.max(next + 1));
            }
            assert_eq!(tagged, stored.len(), "seed {seed}: by the tag");
        }
    }
    store.stop().await.expect("stops");
}

/// While a queue cannot be read nobody is sent elsewhere in it, and afterwards it is as it was.
async fn unreadable(world: World) {
    let node = world.add_node("broker", [10, 0, 0, 1]);
    world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
    let rt = world.runtime(node).expect("the node runs");
    let config = StoreConfig { queue_flush_thorough_interval_ms: 100, ..config(FlushMode::Sync) };
    let store = MessageStore::open(rt.clone(), config).await.expect("opens");
    store.start();
    for n in 0..30_u8 {
        let (body, properties) = ([n; 100], format!("KEYS\u{1}k{n}\u{2}"));
        let keyed = MessageToStore { properties: &properties, ..message("T", 0, &body) };
        store.put(&keyed).await.expect("put");
        rt.sleep(Duration::from_millis(10)).await;
    }
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
    rt.sleep(Duration::from_secs(5)).await;
    let stored = read_all(&store, "T", 0).await;
    let time = stored[3].store_timestamp;
    world.disk(node).change(|faults| faults.read_error = 1.0);
    let read = store.get("T", 0, 3, 1, &|_| true).await;
    assert_eq!((read.status, read.next_begin), (GetStatus::Unreadable, 3));
    for boundary in [Boundary::Lower, Boundary::Upper] {
        assert!(store.offset_by_time("T", 0, time, boundary).await.is_err());
    }
    let by_key = || store.query(By::Key, "T", "k3", (0, i64::MAX), 32);
    assert!(by_key().await.is_err());
    world.disk(node).change(|faults| faults.read_error = 0.0);
    assert!(read_all(&store, "T", 0).await == stored);
    assert_eq!(store.offset_by_time("T", 0, time, Boundary::Lower).await.expect("readable"), 3);
    assert_eq!(by_key().await.expect("readable").records.len(), 1);
    store.stop().await.expect("stops");
}

#[test]
fn a_queue_that_cannot_be_read_sends_nobody_elsewhere() {
    run_seed(1, Limits { simulated: Duration::from_secs(60), ..Limits::default() }, unreadable)
        .expect_finished();
}

/// No record has the entry that the first has become, and the queue begins where it did.
async fn first(world: World) {
    let node = world.add_node("broker", [10, 0, 0, 1]);
    world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
    let rt = world.runtime(node).expect("the node runs");
    let store = MessageStore::open(rt.clone(), config(FlushMode::Sync)).await.expect("opens");
    store.start();
    for n in 0..10_u8 {
        store.put(&message("T", 0, &[n; 100])).await.expect("put");
    }
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
    let stored = read_all(&store, "T", 0).await;
    store.stop().await.expect("stops");
    drop(store);
    assert!(world.disk(node).rot(&format!("store/consumequeue/T/0/{:020}", 0), 0, 7));
    world.disk(node).drop_caches();
    let store = MessageStore::open(rt.clone(), config(FlushMode::Sync)).await.expect("opens");
    store.start();
    assert_eq!(store.min_offset("T", 0), 0);
    assert!(read_all(&store, "T", 0).await == stored);
    store.stop().await.expect("stops");
}

#[test]
fn a_bit_that_turns_in_the_first_entry_leaves_the_queue_its_beginning() {
    run_seed(1, Limits { simulated: Duration::from_secs(60), ..Limits::default() }, first).expect_finished();
}

/// Java's `hashCode` of text in ASCII.
fn tag_hash(tag: &str) -> i32 {
    tag.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)))
}

#[test]
fn a_bit_that_turns_in_a_queue_entry_is_seen_by_no_reader() {
    for seed in SEEDS {
        let limits = Limits { simulated: Duration::from_secs(600), ..Limits::default() };
        run_seed(seed, limits, move |world: World| live(world, seed)).expect_finished();
    }
}

#[test]
fn a_turned_bit_is_named_by_a_check_and_healed_by_a_repair() {
    // In the place, the size and the tag; low bits and high ones. In byte 12 it makes an address of Java's extension of the
    // queue, which is believed; the tag is then the record's own.
    for byte in [0, 6, 7, 8, 11, 13, 19] {
        let dir = TempDir::new("queue-rot");
        run(async {
            let store = open(dir.path(), config(FlushMode::Sync)).await.expect("opens");
            for n in 0..50_u8 {
                store.put(&message("T", 0, &[n; 100])).await.expect("put");
            }
            store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
            let stored = read_all(&store, "T", 0).await;
            store.stop().await.expect("stops");
            let file = dir.path().join("store/consumequeue/T/0").join(format!("{:020}", 400));
            let sound = std::fs::read(&file).expect("readable");
            let mut rotten = sound.clone();
            rotten[5 * 20 + byte] ^= 0x80;
            std::fs::write(&file, &rotten).expect("written");
            let (rt, base) = (TokioRuntime::new(dir.path()), config(FlushMode::Sync));
            let report = check(&rt, "store", &base).await.expect("looked at");
            let problems = &report.queues[0].problems;
            assert!((report.verdict, problems.len()) > (Verdict::Clean, 0), "byte {byte}: {report:?}");
            // Nor does a start serve it.
            let copy = TempDir::new("queue-rot-served");
            crate::store_copy::as_it_is(dir.path(), copy.path());
            let served = open(copy.path(), base.clone()).await.expect("opens");
            assert!(read_all(&served, "T", 0).await == stored, "byte {byte}: served");
            served.stop().await.expect("stops");
            let repaired = repair(&rt, "store", &base, false).await.expect("repaired");
            assert_eq!(repaired.report.verdict, Verdict::Clean, "byte {byte}: {repaired:?}");
            assert!(std::fs::read(&file).expect("readable") == sound, "byte {byte}");
        });
    }
}

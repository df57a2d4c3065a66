//! Appends that wait in memory: of SYNC_FLUSH for a flush that does not come, of the transient pool for its commits.

use std::sync::Arc;
use std::time::Duration;

use hotfire_core::message::StoredMessage;
use hotfire_core::runtime::Runtime;
use hotfire_core::store::{FlushMode, MessageStore, StoreConfig, TransientPool, WhyNot};
use hotfire_sim::{Limits, NodeId, SimRuntime, World, run_seed};

use crate::store::message;

pub(crate) type Store = Arc<MessageStore<SimRuntime>>;

pub(crate) fn run<F: Future<Output = ()> + 'static>(
    scenario: impl FnOnce(World, NodeId) -> F + Send + 'static,
) {
    let limits = Limits { simulated: Duration::from_secs(60), ..Limits::default() };
    let result = run_seed(1, limits, |world: World| {
        let node = world.add_node("broker", [10, 0, 0, 1]);
        world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
        scenario(world, node)
    });
    result.expect_finished();
}

pub(crate) async fn open(world: &World, node: NodeId) -> (SimRuntime, Store) {
    let rt = world.runtime(node).expect("the node runs");
    let config =
        StoreConfig { commit_log_file_bytes: 64 << 10, flush: FlushMode::Sync, ..StoreConfig::new("store") };
    let store = MessageStore::open(rt.clone(), config).await.expect("open");
    store.start();
    (rt, store)
}

/// The end of the record, and where it begins.
async fn put(store: &Store, body: &[u8]) -> (u64, u64) {
    let put = store.put(&message("T", 0, body)).await.expect("put");
    (put.end, put.physical_offset)
}

fn body_at(store: &Store, at: u64) -> Option<Vec<u8>> {
    let record = store.message_at(at)?;
    Some(StoredMessage::decode(&record).expect("a record").body.to_vec())
}

#[test]
fn a_put_whose_flush_does_not_come_is_kept_when_it_is_said_so() {
    run(|world, node| async move {
        let (rt, store) = open(&world, node).await;
        let (end, first) = put(&store, b"flushed").await;
        store.durable().reached(end).await.expect("flushed");
        world.disk(node).stall_for(Duration::from_secs(20));
        let (under_way, _) = put(&store, b"its flush is under way").await;
        rt.timeout(Duration::from_secs(1), store.committed().reached(under_way))
            .await
            .expect("it is written")
            .expect("to its file");
        let (end, kept) = put(&store, b"waits in memory").await;
        rt.timeout(Duration::from_secs(5), store.durable().reached(end))
            .await
            .expect_err("the disk stands still");
        assert!(store.committed().get() < end, "nobody has written it yet");
        assert!(store.keep(end));
        assert!(store.committed().get() >= end);
        let (_, lost) = put(&store, b"waits for ever").await;
        world.crash(node);
        world.disk(node).calm();
        world.restart(node);
        let (_, store) = open(&world, node).await;
        assert_eq!(body_at(&store, first).as_deref(), Some(&b"flushed"[..]));
        assert_eq!(body_at(&store, kept).as_deref(), Some(&b"waits in memory"[..]));
        assert_eq!((body_at(&store, lost), store.commit_log_max()), (None, lost));
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_put_that_cannot_be_written_is_not_stored() {
    run(|world, node| async move {
        let (_, store) = open(&world, node).await;
        let (end, first) = put(&store, b"flushed").await;
        store.durable().reached(end).await.expect("flushed");
        world.disk(node).set_read_only();
        let (refused, at) = put(&store, b"refused").await;
        store.durable().reached(refused).await.expect_err("nothing can be written");
        assert!(!store.keep(refused));
        assert!(store.keep(end), "what was written before stays");
        assert_eq!(store.is_writable(), Err(WhyNot::FlushFailed));
        world.disk(node).set_writable();
        assert!(!store.keep(refused), "a write after the answer would store what was refused");
        world.crash(node);
        world.restart(node);
        let (_, store) = open(&world, node).await;
        assert_eq!(body_at(&store, first).as_deref(), Some(&b"flushed"[..]));
        assert_eq!((body_at(&store, at), store.commit_log_max()), (None, at));
        store.stop().await.expect("stop");
    });
}

/// ASYNC_FLUSH with the transient pool, and a flush that does not come by.
async fn open_pool(world: &World, node: NodeId, pool: TransientPool) -> (SimRuntime, Store) {
    let rt = world.runtime(node).expect("the node runs");
    let config = StoreConfig {
        commit_log_file_bytes: 64 << 10,
        transient_pool: Some(pool),
        flush_interval_ms: 30_000,
        ..StoreConfig::new("store")
    };
    let store = MessageStore::open(rt.clone(), config).await.expect("open");
    store.start();
    assert!(!store.must_wait(), "a put is answered at once");
    (rt, store)
}

fn slow_commits() -> TransientPool {
    TransientPool { commit_thorough_interval_ms: 5_000, ..TransientPool::default() }
}

#[test]
fn nobody_reads_what_the_pool_holds_and_a_killed_process_loses_nothing_else() {
    run(|world, node| async move {
        let (rt, store) = open_pool(&world, node, slow_commits()).await;
        // The first after a while is committed at once.
        let (end, first) = put(&store, b"committed").await;
        store.dispatched().reached(end).await.expect("dispatched");
        let (_, second) = put(&store, b"waits").await;
        rt.sleep(Duration::from_millis(4_000)).await;
        assert_eq!(store.committed().get(), end);
        assert_eq!((body_at(&store, second), store.max_offset("T", 0)), (None, 1));
        world.crash(node);
        world.restart(node);
        let (rt, store) = open_pool(&world, node, slow_commits()).await;
        assert_eq!(body_at(&store, first).as_deref(), Some(&b"committed"[..]));
        assert_eq!((store.commit_log_max(), store.max_offset("T", 0)), (second, 1));
        let (_, again) = put(&store, b"first of this life").await;
        assert_eq!(again, second);
        rt.sleep(Duration::from_millis(1)).await;
        let (end, third) = put(&store, b"the thorough interval's").await;
        rt.sleep(Duration::from_millis(5_200)).await;
        assert_eq!(store.committed().get(), end);
        let (_, last) = put(&store, b"in memory at the stop").await;
        store.stop().await.expect("stop");
        let (_, store) = open_pool(&world, node, slow_commits()).await;
        assert_eq!(body_at(&store, third).as_deref(), Some(&b"the thorough interval's"[..]));
        assert_eq!(body_at(&store, last).as_deref(), Some(&b"in memory at the stop"[..]));
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_commit_comes_with_enough_pages_and_at_the_end_of_a_file() {
    for (least_pages, puts) in [(4, 4), (1_000, 16)] {
        run(move |world, node| async move {
            let pool = TransientPool { commit_least_pages: least_pages, ..slow_commits() };
            let (rt, store) = open_pool(&world, node, pool).await;
            let (committed, _) = put(&store, b"first").await;
            rt.sleep(Duration::from_millis(1)).await;
            let mut end = committed;
            for _ in 0..puts {
                assert_eq!(store.committed().get(), committed, "too early at {end}");
                (end, _) = put(&store, &[7; 4_000]).await;
                rt.sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(store.committed().get(), end);
            store.stop().await.expect("stop");
        });
    }
}

#[test]
fn a_full_pool_refuses_puts_or_lets_them_commit() {
    for fast_fail in [true, false] {
        run(move |world, node| async move {
            let pool = TransientPool {
                buffers: 1,
                fast_fail,
                commit_least_pages: 1_000,
                ..TransientPool::default()
            };
            let (rt, store) = open_pool(&world, node, pool).await;
            put(&store, b"first").await;
            rt.sleep(Duration::from_millis(1)).await;
            // No await in between: the commit service does not run.
            let mut refused = None;
            for n in 0..20 {
                if let Err(error) = store.put(&message("T", 0, &[7; 4_000])).await {
                    refused.get_or_insert((n, error.to_string()));
                }
            }
            if fast_fail {
                let full = "the store takes no writes: every buffer of the transient store pool is in use";
                assert_eq!(refused, Some((16, full.to_owned())));
            } else {
                assert_eq!(refused, None);
                assert!(store.committed().get() > 64 << 10);
            }
            rt.sleep(Duration::from_millis(500)).await;
            put(&store, b"there is room again").await;
            store.stop().await.expect("stop");
        });
    }
}

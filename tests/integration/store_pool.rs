//! Appends of SYNC_FLUSH that wait in memory for their flush, when it does not come.

use std::sync::Arc;
use std::time::Duration;

use hotfire_core::message::StoredMessage;
use hotfire_core::runtime::Runtime;
use hotfire_core::store::{FlushMode, MessageStore, StoreConfig, WhyNot};
use hotfire_sim::{Limits, NodeId, SimRuntime, World, run_seed};

use crate::store::message;

type Store = Arc<MessageStore<SimRuntime>>;

fn run<F: Future<Output = ()> + 'static>(scenario: impl FnOnce(World, NodeId) -> F + Send + 'static) {
    let limits = Limits { simulated: Duration::from_secs(60), ..Limits::default() };
    let result = run_seed(1, limits, |world: World| {
        let node = world.add_node("broker", [10, 0, 0, 1]);
        world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
        scenario(world, node)
    });
    result.expect_finished();
}

async fn open(world: &World, node: NodeId) -> (SimRuntime, Store) {
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

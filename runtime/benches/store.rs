//! The store on real files: appends on one thread, appends with their dispatch, group commit, a pull, the scan of a recovery.
//!
//! Folders are made under TMPDIR: on a file system in memory the flushes say nothing.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hotfire_core::message::MessageToStore;
use hotfire_core::store::{FlushMode, MessageStore, StoreConfig};
use hotfire_runtime::TokioRuntime;

type Store = Arc<MessageStore<TokioRuntime>>;

const FILE_BYTES: u64 = 256 << 20;
const BODY: &[u8] = &[0x5A; 1024];
/// Puts into one file, so that its pages are all warm.
const PUTS: u64 = 150_000;
const BATCH: u64 = 10_000;

fn message(queue_id: i32) -> MessageToStore<'static> {
    let host = "127.0.0.1:10911".parse().expect("an address");
    MessageToStore {
        topic: "Bench",
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: BODY,
        properties: "TAGS\u{1}TagA\u{2}KEYS\u{1}key-1\u{2}",
        wait_for_flush: true,
    }
}

async fn open(root: &Path, flush: FlushMode) -> Store {
    let config = StoreConfig {
        commit_log_file_bytes: FILE_BYTES,
        prefault_bytes: FILE_BYTES,
        flush,
        ..StoreConfig::new("store")
    };
    let store = MessageStore::open(TokioRuntime::new(root), config).await.expect("open");
    store.start();
    store
}

/// A store whose first file is in memory.
async fn warm(root: &Path) -> Store {
    let store = open(root, FlushMode::Async).await;
    store.put(&message(0)).await.expect("put");
    tokio::time::sleep(Duration::from_secs(2)).await;
    store
}

/// A warm store, made anew when its first file is nearly full.
#[derive(Default)]
struct Warm {
    open: Option<(Store, tempfile::TempDir)>,
    puts: u64,
}

impl Warm {
    async fn store(&mut self) -> Store {
        if self.open.is_none() || self.puts + BATCH > PUTS {
            self.close().await;
            let folder = tempfile::tempdir().expect("a folder");
            self.open = Some((warm(folder.path()).await, folder));
            self.puts = 0;
        }
        self.puts += BATCH;
        self.open.as_ref().expect("opened above").0.clone()
    }

    async fn close(&mut self) {
        if let Some((store, _folder)) = self.open.take() {
            store.stop().await.expect("stop");
        }
    }
}

/// The time of `count` batches of puts; with `dispatched` until the last is in its queue.
async fn puts(warm: &mut Warm, count: u64, dispatched: bool) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..count {
        let store = warm.store().await;
        let start = Instant::now();
        for n in 0..BATCH {
            black_box(store.put(&message((n % 8) as i32)).await.expect("put"));
        }
        if dispatched {
            store.dispatched().reached(store.commit_log_max()).await.expect("dispatch");
        }
        spent += start.elapsed();
        store.dispatched().reached(store.commit_log_max()).await.expect("dispatch");
    }
    spent
}

async fn group_commit(count: u64, writers: u64) -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), FlushMode::Sync).await;
    store.put(&message(0)).await.expect("put");
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..count.div_ceil(writers) {
                    let appended = store.put(&message((writer % 8) as i32)).await.expect("put");
                    store.durable().reached(appended.end).await.expect("flush");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer");
    }
    let spent = start.elapsed();
    store.stop().await.expect("stop");
    spent
}

fn benches(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("store");
    group.sample_size(10).throughput(Throughput::Elements(BATCH));
    let mut warm_store = Warm::default();
    group.bench_function("put 10,000 of 1 KiB", |bencher| {
        bencher.iter_custom(|count| tokio.block_on(puts(&mut warm_store, count, false)));
    });
    group.bench_function("put and dispatch 10,000 of 1 KiB", |bencher| {
        bencher.iter_custom(|count| tokio.block_on(puts(&mut warm_store, count, true)));
    });
    tokio.block_on(warm_store.close());
    group.throughput(Throughput::Elements(1));
    for writers in [1, 64, 1024] {
        group.bench_function(format!("group commit, {writers} writers"), |bencher| {
            bencher.iter_custom(|count| tokio.block_on(group_commit(count, writers)));
        });
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = tokio.block_on(warm(folder.path()));
    let bytes = tokio.block_on(async {
        for n in 0..PUTS {
            store.put(&message((n % 8) as i32)).await.expect("put");
        }
        store.dispatched().reached(store.commit_log_max()).await.expect("dispatch");
        store.commit_log_max()
    });
    group.throughput(Throughput::Elements(32));
    group.bench_function("pull 32 messages", |bencher| {
        bencher
            .iter(|| tokio.block_on(async { store.get("Bench", 3, black_box(7_000), 32, &|_| true).await }));
    });
    tokio.block_on(store.stop()).expect("stop");
    drop(store);
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("recovery of a log without a checkpoint", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                std::fs::remove_file(folder.path().join("store/checkpoint")).expect("remove");
                std::fs::write(folder.path().join("store/abort"), "0").expect("write");
                let start = Instant::now();
                let store = tokio.block_on(open(folder.path(), FlushMode::Async));
                spent += start.elapsed();
                tokio.block_on(store.stop()).expect("stop");
            }
            spent
        });
    });
    group.bench_function("start after a clean stop", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                let start = Instant::now();
                let store = tokio.block_on(open(folder.path(), FlushMode::Async));
                spent += start.elapsed();
                tokio.block_on(store.stop()).expect("stop");
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(store, benches);
criterion_main!(store);

//! The store on real files: puts, reads, restarts, refusals.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hotfire_core::message::batch::BatchItem;
use hotfire_core::message::{MessageToStore, StoredMessage, sys_flag};
use hotfire_core::runtime::Runtime;
use hotfire_core::store::{
    ArrivalListener, Boundary, FlushMode, GetStatus, MessageStore, Pace, PutError, RecoverError, StoreConfig,
    WhyNot,
};
use hotfire_runtime::TokioRuntime;

pub type Store = Arc<MessageStore<TokioRuntime>>;

pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("start tokio").block_on(test)
}

/// Small files, so that borders are met often.
pub fn config(flush: FlushMode) -> StoreConfig {
    StoreConfig {
        commit_log_file_bytes: 16 << 10,
        consume_queue_file_bytes: 400,
        flush,
        ..StoreConfig::new("store")
    }
}

pub fn message<'a>(topic: &'a str, queue_id: i32, body: &'a [u8]) -> MessageToStore<'a> {
    let host: SocketAddr = "127.0.0.1:10911".parse().expect("an address");
    MessageToStore {
        topic,
        queue_id,
        flag: 7,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        properties: "TAGS\u{1}TagA\u{2}",
        wait_for_flush: true,
    }
}

pub async fn open(root: &Path, config: StoreConfig) -> Result<Store, RecoverError> {
    let store = MessageStore::open(TokioRuntime::new(root), config).await?;
    store.start();
    Ok(store)
}

/// All messages of a queue, read as a consumer does.
pub async fn read_all<R: Runtime>(store: &MessageStore<R>, topic: &str, queue: i32) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    let mut next = store.min_offset(topic, queue);
    loop {
        let read = store.get(topic, queue, next, 32, &|_| true).await;
        for run in &read.messages {
            let mut rest = run.clone();
            while !rest.is_empty() {
                let message = StoredMessage::decode(&rest).expect("runs hold whole records");
                rest = rest.slice(message.store_size as usize..);
                messages.push(message);
            }
        }
        if read.status != GetStatus::Found {
            return messages;
        }
        next = read.next_begin;
    }
}

async fn put(store: &Store, topic: &str, queue: i32, body: &[u8]) -> i64 {
    let appended = store.put(&message(topic, queue, body)).await.expect("put");
    if store.must_wait() {
        store.durable().reached(appended.end).await.expect("flushed");
    }
    appended.queue_offset
}

async fn settle(store: &Store) {
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
}

fn bodies(messages: &[StoredMessage]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
}

#[test]
fn what_is_put_is_read_in_order_across_files_and_restarts() {
    for mode in [FlushMode::Sync, FlushMode::Async] {
        let dir = tempfile::tempdir().expect("a folder");
        run(async {
            let mut expected: [Vec<String>; 3] = Default::default();
            for life in 0..3 {
                let store = open(dir.path(), config(mode)).await.expect("open");
                for n in 0..200_i64 {
                    let queue = (n % 3) as usize;
                    let body = format!("life {life} message {n} {}", "x".repeat((n * 37 % 300) as usize));
                    let offset = put(&store, "Orders", queue as i32, body.as_bytes()).await;
                    assert_eq!(offset, expected[queue].len() as i64);
                    expected[queue].push(body);
                }
                settle(&store).await;
                for (queue, expected) in expected.iter().enumerate() {
                    let messages = read_all(&store, "Orders", queue as i32).await;
                    assert_eq!(&bodies(&messages), expected);
                    for (n, message) in messages.iter().enumerate() {
                        assert_eq!(message.queue_offset, n as i64);
                        assert_eq!((message.queue_id, message.flag), (queue as i32, 7));
                        assert!(message.properties.starts_with("TAGS\u{1}TagA\u{2}__CRC32#\u{1}"));
                    }
                }
                if life == 1 {
                    // Not stopped: what a kill leaves, but for the lock, which the process holds.
                    store.stop().await.expect("stop");
                    std::fs::write(dir.path().join("store/abort"), "0").expect("write abort");
                } else {
                    store.stop().await.expect("stop");
                    assert!(!dir.path().join("store/abort").exists());
                }
            }
        });
    }
}

#[test]
fn many_writers_get_dense_offsets_and_one_flush_covers_several() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Sync)).await.expect("open");
        let writers = (0..16).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut offsets = Vec::new();
                for n in 0..50 {
                    offsets.push(put(&store, "T", 0, format!("{writer}-{n}").as_bytes()).await);
                }
                offsets
            })
        });
        let mut offsets = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            offsets.extend(writer.await.expect("a writer"));
        }
        offsets.sort_unstable();
        assert_eq!(offsets, (0..800).collect::<Vec<_>>());
        settle(&store).await;
        assert_eq!(read_all(&store, "T", 0).await.len(), 800);
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_batch_is_whole_in_one_file_and_bad_puts_take_no_offset() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        for round in 0..20 {
            let body = vec![b'b'; 900];
            let items = [BatchItem { flag: 1, body: &body, properties: "TAGS\u{1}B" }; 7];
            let batch = store.put_batch(&message("Batch", 1, b""), &items).await.expect("put the batch");
            assert_eq!((batch.queue_offset, batch.physical_offsets.len()), (round * 7, 7));
            let files = (batch.physical_offsets[0] >> 14, (batch.end - 1) >> 14);
            assert_eq!(files.0, files.1, "a batch does not cross a file");
        }
        let body = vec![0; 20 << 10];
        assert!(matches!(store.put(&message("Batch", 1, &body)).await, Err(PutError::RecordTooLarge { .. })));
        let long = "p".repeat(40_000);
        let illegal = MessageToStore { properties: &long, ..message("Batch", 1, b"") };
        assert!(matches!(store.put(&illegal).await, Err(PutError::Illegal(_))));
        assert!(matches!(store.put_batch(&message("Batch", 1, b""), &[]).await, Err(PutError::EmptyBatch)));
        assert_eq!(put(&store, "Batch", 1, b"next").await, 140);
        settle(&store).await;
        assert_eq!(store.max_offset("Batch", 1), 141);
        store.stop().await.expect("stop");
    });
}

#[test]
fn half_and_rolled_back_messages_are_in_no_queue() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        for kind in
            [sys_flag::TRANSACTION_PREPARED, sys_flag::TRANSACTION_ROLLBACK, sys_flag::TRANSACTION_COMMIT]
        {
            let half = MessageToStore { sys_flag: kind, ..message("T", 0, b"half") };
            assert_eq!(store.put(&half).await.expect("put").queue_offset, 0);
        }
        settle(&store).await;
        assert_eq!(store.max_offset("T", 0), 1);
        store.stop().await.expect("stop");
    });
}

#[test]
fn reads_answer_as_java_does() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        for n in 0..100 {
            put(&store, "T", 0, format!("{n}").as_bytes()).await;
        }
        settle(&store).await;
        let all = |_| true;
        let status = async |topic, offset| {
            let read = store.get(topic, 0, offset, 10, &all).await;
            (read.status, read.next_begin, read.count)
        };
        assert_eq!(status("U", 0).await, (GetStatus::NoMatchedLogicQueue, 0, 0));
        assert_eq!(status("T", 100).await, (GetStatus::OffsetOverflowOne, 100, 0));
        assert_eq!(status("T", 101).await, (GetStatus::OffsetOverflowBadly, 100, 0));
        assert_eq!(status("T", -1).await, (GetStatus::OffsetTooSmall, 0, 0));
        assert_eq!(status("T", 3).await, (GetStatus::Found, 13, 10));
        let none = store.get("T", 0, 3, 10, &|_| false).await;
        // One file of the queue holds 20 entries.
        assert_eq!((none.status, none.next_begin), (GetStatus::NoMatchedMessage, 20));
        let first = store.get("T", 0, 0, 1, &all).await;
        assert_eq!((first.count, first.min, first.max), (1, 0, 100));
        let message = StoredMessage::decode(&first.messages[0]).expect("a record");
        assert_eq!(store.message_at(message.physical_offset), Some(first.messages[0].clone()));
        assert_eq!(store.message_at(message.physical_offset + 1), None);
        let time = store.store_time("T", 0, 50).await.expect("stored");
        assert!(store.offset_by_time("T", 0, time, Boundary::Lower).await.expect("readable") <= 50);
        assert!(store.offset_by_time("T", 0, time, Boundary::Upper).await.expect("readable") >= 50);
        assert_eq!(store.offset_by_time("T", 0, i64::MAX, Boundary::Lower).await.expect("readable"), 100);
        assert_eq!(store.offset_by_time("T", 0, i64::MAX, Boundary::Upper).await.expect("readable"), 99);
        assert_eq!(store.offset_by_time("T", 0, 0, Boundary::Upper).await.expect("readable"), 0);
        store.stop().await.expect("stop");
    });
}

#[derive(Default)]
struct Arrivals(Mutex<Vec<(String, i32, i64, i64)>>);

impl ArrivalListener for Arrivals {
    fn on_arrival(
        &self,
        topic: &str,
        queue: i32,
        next_offset: i64,
        tags_code: i64,
        properties: &dyn Fn() -> Option<String>,
    ) {
        assert!(properties().is_some_and(|properties| properties.contains("TagA")));
        self.0.lock().expect("not poisoned").push((topic.to_owned(), queue, next_offset, tags_code));
    }
}

#[test]
fn each_arrival_is_told_once_it_can_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Sync)).await.expect("open");
        let arrivals = Arc::new(Arrivals::default());
        store.set_arrival_listener(arrivals.clone());
        for _ in 0..3 {
            put(&store, "T", 2, b"x").await;
        }
        settle(&store).await;
        store.stop().await.expect("stop");
        let seen = arrivals.0.lock().expect("not poisoned").clone();
        let tag = 2_598_919; // Java's hash of "TagA"
        assert_eq!(seen, (1..=3).map(|next| ("T".to_owned(), 2, next, tag)).collect::<Vec<_>>());
    });
}

#[test]
fn a_directory_has_one_store_and_puts_need_a_running_one() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store =
            MessageStore::open(TokioRuntime::new(dir.path()), config(FlushMode::Async)).await.expect("open");
        let early = store.put(&message("T", 0, b"x")).await;
        assert!(matches!(early, Err(PutError::NotWritable(WhyNot::NotStarted))));
        let second = open(dir.path(), config(FlushMode::Async)).await;
        assert!(matches!(second.err(), Some(RecoverError::InUse { .. })));
        store.start();
        store.stop().await.expect("stop");
        let late = store.put(&message("T", 0, b"x")).await;
        assert!(matches!(late, Err(PutError::NotWritable(WhyNot::Stopping))));
        open(dir.path(), config(FlushMode::Async)).await.expect("open again").stop().await.expect("stop");
    });
}

#[test]
fn files_of_another_length_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        put(&store, "T", 0, b"x").await;
        settle(&store).await;
        store.stop().await.expect("stop");
        let other = StoreConfig { commit_log_file_bytes: 32 << 10, ..config(FlushMode::Async) };
        let refused = open(dir.path(), other).await.err();
        assert!(matches!(refused, Some(RecoverError::FileLength { expected: 32_768, found: 16_384, .. })));
        assert!(!dir.path().join("store/abort").exists());
        let other = StoreConfig { consume_queue_file_bytes: 800, ..config(FlushMode::Async) };
        let refused = open(dir.path(), other).await.err();
        assert!(matches!(refused, Some(RecoverError::FileLength { expected: 800, found: 400, .. })));
        std::fs::write(dir.path().join("store/commitlog/note.txt"), "x").expect("write");
        let refused = open(dir.path(), config(FlushMode::Async)).await.err();
        assert!(matches!(refused, Some(RecoverError::FileName { .. })));
    });
}

/// The start reads the end of the log only, where nothing is said of the queue.
#[test]
fn a_queue_that_lacks_a_file_between_others_is_made_again_from_the_log() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        for n in 0..60 {
            assert_eq!(put(&store, "Quiet", 0, format!("message {n}").as_bytes()).await, n);
        }
        for _ in 0..300 {
            put(&store, "Busy", 0, &[b'x'; 200]).await;
        }
        settle(&store).await;
        let before = bodies(&read_all(&store, "Quiet", 0).await);
        assert_eq!(before.len(), 60);
        store.stop().await.expect("stop");
        let middle = dir.path().join("store/consumequeue/Quiet/0/00000000000000000400");
        std::fs::remove_file(middle).expect("it was there");
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        assert_eq!(bodies(&read_all(&store, "Quiet", 0).await), before);
        assert_eq!(put(&store, "Quiet", 0, b"next").await, 60);
        store.stop().await.expect("stop");
    });
}

/// Sectors of a queue that the disk gives back as zeros, below where the start reads the log.
#[test]
fn a_hole_in_a_queue_is_filled_from_the_log() {
    let large = StoreConfig { consume_queue_file_bytes: 20_000, ..config(FlushMode::Async) };
    for (hole, killed) in [(1_024, false), (1_024, true), (3_584, false), (4_096, false), (4_096, true)] {
        let dir = tempfile::tempdir().expect("a folder");
        run(async {
            let store = open(dir.path(), large.clone()).await.expect("open");
            for n in 0..600 {
                assert_eq!(put(&store, "Quiet", 0, format!("message {n}").as_bytes()).await, n);
            }
            for _ in 0..300 {
                put(&store, "Busy", 0, &[b'x'; 200]).await;
            }
            settle(&store).await;
            let before = bodies(&read_all(&store, "Quiet", 0).await);
            store.stop().await.expect("stop");
            if killed {
                std::fs::write(dir.path().join("store/abort"), "0").expect("write abort");
            }
            let file = dir.path().join("store/consumequeue/Quiet/0/00000000000000000000");
            let file = std::fs::OpenOptions::new().write(true).open(file).expect("open");
            std::os::unix::fs::FileExt::write_all_at(&file, &[0; 1_024], hole).expect("write");
            let store = open(dir.path(), large.clone()).await.expect("open");
            assert_eq!(bodies(&read_all(&store, "Quiet", 0).await), before, "a hole at {hole}");
            assert_eq!(put(&store, "Quiet", 0, b"next").await, 600);
            store.stop().await.expect("stop");
        });
    }
}

#[test]
fn a_log_that_is_gone_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        put(&store, "T", 0, b"x").await;
        settle(&store).await;
        store.stop().await.expect("stop");
        let (log, aside) = (dir.path().join("store/commitlog"), dir.path().join("aside"));
        for empty in [false, true] {
            std::fs::rename(&log, &aside).expect("it was there");
            if empty {
                std::fs::create_dir(&log).expect("make an empty one");
            }
            let refused = open(dir.path(), config(FlushMode::Async)).await.err();
            assert!(matches!(refused, Some(RecoverError::LogMissing { .. })), "{refused:?}");
            assert!(!dir.path().join("store/abort").exists());
            if empty {
                std::fs::remove_dir(&log).expect("it is still empty");
            }
            std::fs::rename(&aside, &log).expect("put it back");
        }
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        assert_eq!(read_all(&store, "T", 0).await.len(), 1);
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_thousand_queues_need_few_open_files() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let small = StoreConfig { open_queue_files_max: 50, ..config(FlushMode::Async) };
        let store = open(dir.path(), small.clone()).await.expect("open");
        for round in 0..2 {
            for queue in 0..1_000 {
                assert_eq!(put(&store, "Wide", queue, b"x").await, round);
            }
        }
        settle(&store).await;
        for queue in 0..1_000 {
            assert_eq!(read_all(&store, "Wide", queue).await.len(), 2);
        }
        assert!(store.open_queue_files() <= 50, "{} files are open", store.open_queue_files());
        store.stop().await.expect("stop");
        let store = open(dir.path(), small).await.expect("open");
        assert_eq!(store.queues().len(), 1_000);
        assert_eq!(put(&store, "Wide", 999, b"x").await, 2);
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_changed_interval_of_flushes_ends_the_one_that_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let hour = StoreConfig { flush_interval_ms: 3_600_000, ..config(FlushMode::Async) };
        let store = open(dir.path(), hour).await.expect("open");
        let put = store.put(&message("T", 0, b"m")).await.expect("put");
        // The flush has begun to wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(store.durable().get(), 0);
        store.set_pace(Pace { flush_interval_ms: 10, flush_least_pages: 0, ..store.pace() });
        let flushed = tokio::time::timeout(Duration::from_secs(20), store.durable().reached(put.end)).await;
        flushed.expect("in time").expect("flushed");
        store.stop().await.expect("stop");
    });
}

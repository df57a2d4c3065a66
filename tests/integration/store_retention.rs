//! Deletion on real files, and what reads answer near what is gone; the limits of one read.

use std::path::Path;
use std::time::Duration;

use hotfire_core::message::StoredMessage;
use hotfire_core::store::check::{Verdict, check};
use hotfire_core::store::{Boundary, DeleteHours, FlushMode, GetStatus, ReadLimits, Retention, StoreConfig};
use hotfire_runtime::TokioRuntime;
use hotfire_tests::wait_until;

use crate::store::{Store, config, message, open, read_all, run};

const PATIENCE: Duration = Duration::from_secs(30);

/// What is full goes at once.
fn greedy() -> StoreConfig {
    let retention = Retention {
        reserved_ms: 0,
        delete_hours: DeleteHours::ALL,
        interval_ms: 1,
        first_ms: 0,
        log_file_pause_ms: 0,
        queue_file_pause_ms: 0,
        ..Retention::default()
    };
    StoreConfig { retention, ..config(FlushMode::Async) }
}

/// Puts so many messages of 1 KiB into queues 0 to 4 of `T`, in turn.
async fn fill(store: &Store, count: usize) -> u64 {
    let mut end = 0;
    for n in 0..count {
        let body = format!("{n:01024}");
        end = store.put(&message("T", n as i32 % 5, body.as_bytes())).await.expect("put").end;
    }
    store.dispatched().reached(end).await.expect("dispatched");
    end
}

fn log_files(root: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(root.join("store/commitlog")).expect("list");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("digits").parse().expect("digits")
    };
    let mut bases: Vec<u64> = names.map(name).collect();
    bases.sort_unstable();
    bases
}

fn wait(what: &str, condition: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, condition), "{what}: not within {PATIENCE:?}");
}

#[test]
fn expired_files_go_and_queues_begin_behind_them() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), greedy()).await.expect("open");
        let end = fill(&store, 200).await;
        let last_file = end - end % (16 << 10);
        wait("all but the last file are gone", || store.commit_log_min() == last_file);
        wait("their names too", || log_files(dir.path()).first() == Some(&last_file));
        wait("queues begin behind", || (0..5).all(|queue| store.min_offset("T", queue) > 30));
        for life in 0..2 {
            let store = match life {
                0 => store.clone(),
                _ => {
                    store.stop().await.expect("stop");
                    let rt = TokioRuntime::new(dir.path());
                    let report = check(&rt, "store", &greedy()).await.expect("check");
                    assert_eq!(report.verdict, Verdict::Clean, "{report:?}");
                    open(dir.path(), greedy()).await.expect("open")
                }
            };
            for queue in 0..5 {
                let (min, max) = (store.min_offset("T", queue), store.max_offset("T", queue));
                assert_eq!(max, if queue == 0 { 40 + life } else { 40 });
                let early = store.get("T", queue, 0, 32, &|_| true).await;
                assert_eq!((early.status, early.next_begin), (GetStatus::OffsetTooSmall, min));
                let messages = read_all(&store, "T", queue).await;
                assert_eq!(messages.len() as i64, max - min);
                let offsets: Vec<i64> = messages.iter().map(|message| message.queue_offset).collect();
                assert_eq!(offsets, (min..max).collect::<Vec<_>>());
                assert!(messages.iter().all(|message| message.physical_offset >= last_file));
            }
            let next = store.put(&message("T", 0, b"next")).await.expect("put").queue_offset;
            assert_eq!(next, 40 + life);
            if life == 1 {
                store.stop().await.expect("stop");
            }
        }
    });
}

/// A queue that gets nothing any more keeps its end, so that its offsets are not given again.
#[test]
fn a_queue_without_messages_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), greedy()).await.expect("open");
        for _ in 0..45 {
            store.put(&message("Old", 0, b"x")).await.expect("put");
        }
        fill(&store, 60).await;
        wait("nothing of it is left", || store.min_offset("Old", 0) == 45);
        let read = store.get("Old", 0, 45, 32, &|_| true).await;
        assert_eq!((read.status, read.next_begin), (GetStatus::OffsetOverflowOne, 45));
        store.stop().await.expect("stop");
        std::fs::write(dir.path().join("store/abort"), "0").expect("write abort");
        let store = open(dir.path(), greedy()).await.expect("open");
        assert_eq!((store.min_offset("Old", 0), store.max_offset("Old", 0)), (45, 45));
        assert_eq!(store.put(&message("Old", 0, b"y")).await.expect("put").queue_offset, 45);
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_file_that_is_read_is_deleted_late_and_its_bytes_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), greedy()).await.expect("open");
        let first = store.put(&message("T", 9, &[7; 512])).await.expect("put");
        store.dispatched().reached(first.end).await.expect("dispatched");
        let held = store.message_at(0).expect("the first message");
        fill(&store, 60).await;
        wait("look-ups do not find its file", || store.commit_log_min() > 0);
        assert!(store.message_at(0).is_none());
        wait("the queue knows", || store.min_offset("T", 9) == 1);
        // The next file is not touched while this one stands in the way.
        assert_eq!(store.commit_log_min(), 16 << 10);
        assert_eq!(log_files(dir.path()).first(), Some(&0));
        assert_eq!(StoredMessage::decode(&held).expect("a record").body, vec![7; 512]);
        drop(held);
        wait("it goes, and those behind it", || log_files(dir.path()).first() > Some(&(16 << 10)));
        store.stop().await.expect("stop");

        let forced = Retention { held_max_ms: 0, ..greedy().retention };
        let store = open(dir.path(), StoreConfig { retention: forced, ..greedy() }).await.expect("open");
        let min = store.commit_log_min();
        let held = store.message_at(min).expect("the first message");
        let before = held.to_vec();
        fill(&store, 60).await;
        wait("a held file is not kept for ever", || log_files(dir.path()).first() > Some(&min));
        assert_eq!(held, before, "bytes outlive their file");
        store.stop().await.expect("stop");
    });
}

/// A tag that one message in four has.
fn every_fourth(n: usize) -> &'static str {
    if n.is_multiple_of(4) { "TAGS\u{1}TagA\u{2}" } else { "TAGS\u{1}Other\u{2}" }
}

#[test]
fn one_read_gives_as_much_as_javas() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let hot = StoreConfig {
            commit_log_file_bytes: 1 << 20,
            consume_queue_file_bytes: 40_000,
            ..config(FlushMode::Async)
        };
        let store = open(dir.path(), hot.clone()).await.expect("open");
        for n in 0..1_500 {
            let message = hotfire_core::message::MessageToStore {
                properties: every_fourth(n),
                ..message("T", 0, &[1; 100])
            };
            store.put(&message).await.expect("put");
        }
        for _ in 0..20 {
            store.put(&message("Big", 0, &[1; 30_000])).await.expect("put");
        }
        store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
        let tag = 2_598_919; // Java's hash of "TagA"
        let get = async |store: &Store, topic: &str, from: i64, max: usize, only: bool| {
            let read = store.get(topic, 0, from, max, &|code| !only || code == tag).await;
            (read.status, read.count, read.next_begin)
        };
        use GetStatus::{Found, NoMatchedMessage};
        assert_eq!(get(&store, "T", 0, 10, false).await, (Found, 10, 10));
        assert_eq!(get(&store, "T", 0, 1_000, false).await, (Found, 32, 32), "32 messages in memory");
        assert_eq!(get(&store, "T", 0, 0, false).await, (Found, 1, 1), "the first is always given");
        // The answer is full at the tenth match, and ends there, not before the eleventh.
        assert_eq!(get(&store, "T", 0, 10, true).await, (Found, 10, 37));
        assert_eq!(get(&store, "T", 37, 10, true).await, (Found, 10, 77));
        // 800 entries are looked at, or as many as messages are asked for.
        let none = store.get("T", 0, 0, 32, &|_| false).await;
        assert_eq!((none.status, none.next_begin), (NoMatchedMessage, 800));
        let none = store.get("T", 0, 0, 1_200, &|_| false).await;
        assert_eq!((none.status, none.next_begin), (NoMatchedMessage, 1_200));
        assert_eq!(get(&store, "Big", 0, 32, false).await, (Found, 8, 8), "256 KiB in memory");
        store.stop().await.expect("stop");

        let store = open(dir.path(), StoreConfig { hot_bytes: 0, ..hot.clone() }).await.expect("open");
        assert_eq!(get(&store, "T", 0, 32, false).await, (Found, 8, 8), "8 messages on disk");
        assert_eq!(get(&store, "Big", 0, 32, false).await, (Found, 2, 2), "64 KiB on disk");
        assert!(store.get("T", 0, 0, 32, &|_| true).await.suggest_slave);
        store.stop().await.expect("stop");

        let limits = ReadLimits { hot_bytes: 100, hot_count: 3, cold_bytes: 0, cold_count: 0 };
        let store = open(dir.path(), StoreConfig { read_limits: limits, ..hot }).await.expect("open");
        assert_eq!(get(&store, "T", 5, 32, false).await, (Found, 1, 6), "one is given whatever its size");
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_read_ends_with_its_queue_file() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        for _ in 0..30 {
            store.put(&message("T", 0, b"x")).await.expect("put");
        }
        store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
        // 20 entries a file.
        let read = store.get("T", 0, 15, 32, &|_| true).await;
        assert_eq!((read.count, read.next_begin), (5, 20));
        let read = store.get("T", 0, 20, 32, &|_| true).await;
        assert_eq!((read.count, read.next_begin), (10, 30));
        store.stop().await.expect("stop");
    });
}

#[test]
fn times_are_found_at_both_boundaries() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), greedy()).await.expect("open");
        let end = fill(&store, 220).await;
        wait("all but the last file are gone", || store.commit_log_min() == end - end % (16 << 10));
        wait("queues begin behind", || (0..5).all(|queue| store.min_offset("T", queue) > 30));
        assert_eq!(store.offset_by_time("None", 0, 5, Boundary::Lower).await.expect("readable"), 0);
        for queue in 0..5 {
            let messages = read_all(&store, "T", queue).await;
            let times: Vec<(i64, i64)> =
                messages.iter().map(|message| (message.queue_offset, message.store_timestamp)).collect();
            let (min, max) = (store.min_offset("T", queue), store.max_offset("T", queue));
            let (first, last) = (times.first().expect("one").1, times.last().expect("one").1);
            for time in (first - 2..=last + 2).chain([i64::MIN, 0, i64::MAX]) {
                let lower = times.iter().find(|(_, stored)| *stored >= time).map_or(max, |(n, _)| *n);
                let upper = times.iter().rev().find(|(_, stored)| *stored <= time).map_or(0, |(n, _)| *n);
                let ours = store.offset_by_time("T", queue, time, Boundary::Lower).await.expect("readable");
                assert_eq!(ours, lower, "first at or after {time} of {min}..{max}");
                let ours = store.offset_by_time("T", queue, time, Boundary::Upper).await.expect("readable");
                assert_eq!(ours, upper, "last at or before {time} of {min}..{max}");
            }
        }
        store.stop().await.expect("stop");
    });
}

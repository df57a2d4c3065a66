//! Directories that went back and forth between a Java broker and ours, as files are when neither has told the other.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hotfire_core::message::MessageToStore;
use hotfire_core::message::codec::{Place, prepare};
use hotfire_core::store::check::{Verdict, check, repair};
use hotfire_core::store::{FlushMode, LogTrace, RecoverError, StoreConfig};
use hotfire_runtime::TokioRuntime;
use serde_json::Value;

use crate::store::{Store, config, message, open, read_all, run};
use crate::store_check::contents;
use crate::store_golden::{CASES, config as java_config, int, json, same_as_java, unpack};

/// Puts `count` messages into queue 0 of `topic`.
async fn fill(store: &Store, topic: &str, count: usize) {
    for n in 0..count {
        let put = store.put(&message(topic, 0, format!("{topic} {n}").as_bytes())).await.expect("put");
        store.durable().reached(put.end).await.expect("flushed");
    }
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
}

/// The folder as a kill leaves it, out of a store that runs.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(drop).expect("copy") }
    }
}

/// Appends to the log at `end` what a Java broker does with the default settings, and answers the new end. Nothing else of
/// the directory tells of it: Java writes queues when it gets to them, and the checkpoint a minute later.
fn append_as_java(root: &Path, mut end: u64, first: i64, texts: &[&str]) -> u64 {
    for (text, queue_offset) in texts.iter().zip(first..) {
        let message = MessageToStore { properties: text, ..message("T", 0, b"from Java") };
        let prepared = prepare(message, false).expect("it fits");
        let mut bytes = vec![0; prepared.size() as usize];
        let place = Place { queue_offset, physical_offset: end, store_timestamp: 1_900_000_000_000 };
        prepared.encode(&mut bytes, place);
        // A zero is written for it: `prepare` would add a checksum.
        bytes.iter_mut().filter(|byte| **byte == b'@').for_each(|byte| *byte = 0);
        let file = root.join("store/commitlog/00000000000000000000");
        OpenOptions::new().write(true).open(file).expect("open").write_all_at(&bytes, end).expect("write");
        end += bytes.len() as u64;
    }
    end
}

#[test]
fn what_java_has_appended_in_its_first_minute_is_kept_when_it_is_killed() {
    for stopped in [true, false] {
        let (ours, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        run(async {
            let store = open(ours.path(), config(FlushMode::Sync)).await.expect("open");
            fill(&store, "T", 5).await;
            let end = store.commit_log_max();
            if stopped {
                store.stop().await.expect("stop");
            }
            copy(&ours.path().join("store"), &dir.path().join("store"));
            let properties: &[&str] = match stopped {
                // With a byte that a torn record of ours would have.
                true => &["TAGS\u{1}a", "TAGS\u{1}a\u{2}odd\u{1}@value", ""],
                false => &["TAGS\u{1}a", "TAGS\u{1}a\u{2}longer\u{1}than a checksum", ""],
            };
            let end = append_as_java(dir.path(), end, 5, properties);
            fs::write(dir.path().join("store/abort"), "4711").expect("write abort");
            for life in 0..2 {
                let store = open(dir.path(), config(FlushMode::Sync)).await.expect("open");
                assert_eq!(store.commit_log_max(), end, "stopped: {stopped}, life {life}");
                assert_eq!(read_all(&store, "T", 0).await.len(), 8);
                store.stop().await.expect("stop");
                fs::write(dir.path().join("store/abort"), "0").expect("write abort");
            }
            if !stopped {
                store.stop().await.expect("stop");
            }
        });
    }
}

#[test]
fn a_torn_record_of_ours_is_cut() {
    let (ours, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    run(async {
        let store = open(ours.path(), config(FlushMode::Async)).await.expect("open");
        fill(&store, "T", 5).await;
        let end = store.commit_log_max();
        copy(&ours.path().join("store"), &dir.path().join("store"));
        let file = dir.path().join("store/commitlog/00000000000000000000");
        let file = OpenOptions::new().write(true).open(file).expect("open");
        file.write_all_at(&[0; 25], end - 25).expect("write");
        let kept = open(dir.path(), config(FlushMode::Async)).await.expect("open");
        assert_eq!(read_all(&kept, "T", 0).await.len(), 4);
        kept.stop().await.expect("stop");
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_java_log_that_comes_later_than_our_first_start_is_kept() {
    let manifest = json("a.manifest.json.gz");
    for stopped in [true, false] {
        let (ours, dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        unpack("a", dir.path());
        run(async {
            let store = open(ours.path(), java_config(&manifest)).await.expect("open");
            if stopped {
                store.stop().await.expect("stop");
            }
            for name in ["checkpoint", "abort"] {
                let _ = fs::copy(ours.path().join("store").join(name), dir.path().join("store").join(name));
            }
            if !stopped {
                store.stop().await.expect("stop");
            }
            assert_eq!(dir.path().join("store/abort").exists(), !stopped);
            let store = open(dir.path(), java_config(&manifest)).await.expect("open");
            same_as_java(&store, &manifest, "a").await;
            store.stop().await.expect("stop");
        });
    }
}

/// As with `--data` alone where Java had `storePathCommitLog` elsewhere.
#[test]
fn a_java_directory_without_its_log_is_refused_and_nothing_is_written() {
    for case in CASES {
        for without in
            [&["commitlog"][..], &["commitlog", "checkpoint"], &["commitlog", "checkpoint", "consumequeue"]]
        {
            let dir = tempfile::tempdir().expect("a folder");
            unpack(case, dir.path());
            for name in without {
                let path = dir.path().join("store").join(name);
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
            let manifest = json(&format!("{case}.manifest.json.gz"));
            run(async {
                // It is always taken.
                fs::write(dir.path().join("store/lock"), "lock").expect("write the lock file");
                let before = contents(dir.path());
                let refused = open(dir.path(), java_config(&manifest)).await.err();
                let Some(RecoverError::LogMissing { known, .. }) = refused else {
                    panic!("{case} without {without:?}: {refused:?}");
                };
                assert_eq!(matches!(known, LogTrace::IndexEntries { .. }), without.len() == 3, "{known}");
                let (rt, base) = (TokioRuntime::new(dir.path()), StoreConfig::new("store"));
                let report = check(&rt, "store", &base).await.expect("check");
                assert_eq!(report.verdict, Verdict::Damaged, "{case} without {without:?}");
                let repaired = repair(&rt, "store", &base, false).await.expect("repair");
                assert!(
                    repaired.refused.iter().any(|why| why.contains("storePathCommitLog")),
                    "{repaired:?}"
                );
                assert!(contents(dir.path()) == before, "{case} without {without:?}");
            });
        }
    }
}

/// Java's checkpoint may be ahead of its queues: a power loss takes entries that it claims, and of a queue that gets nothing
/// more no other record tells.
#[test]
fn after_a_crash_of_java_a_start_finds_in_the_log_what_the_queues_lack() {
    for case in CASES {
        let dir = tempfile::tempdir().expect("a folder");
        unpack(case, dir.path());
        fs::write(dir.path().join("store/abort"), "4711").expect("write abort");
        let manifest = json(&format!("{case}.manifest.json.gz"));
        run(async {
            for queue in manifest["java"]["queues"].as_array().expect("queues") {
                lose_last_entry(dir.path(), &manifest, queue);
            }
            let (rt, base) = (TokioRuntime::new(dir.path()), StoreConfig::new("store"));
            let report = check(&rt, "store", &base).await.expect("check");
            let store = open(dir.path(), java_config(&manifest)).await.expect("open");
            for queue in manifest["java"]["queues"].as_array().expect("queues") {
                let (topic, id) = (queue["topic"].as_str().expect("a topic"), int(&queue["queueId"]) as i32);
                let max = int(&queue["maxOffset"]);
                assert_eq!(store.max_offset(topic, id), max, "{case}: {topic}/{id}");
                let checked =
                    report.queues.iter().find(|found| (found.topic.as_str(), found.queue) == (topic, id));
                assert_eq!(checked.map_or(0, |found| found.max), max, "{case}: {topic}/{id} as checked");
            }
            store.stop().await.expect("stop");
        });
    }
}

fn lose_last_entry(root: &Path, manifest: &Value, queue: &Value) {
    let bytes = java_config(manifest).consume_queue_file_bytes;
    let Some(last) = u64::try_from(int(&queue["maxOffset"]) - 1).ok() else { return };
    let (at, topic, id) = (last * 20, queue["topic"].as_str().expect("a topic"), int(&queue["queueId"]));
    let file = root.join(format!("store/consumequeue/{topic}/{id}/{:020}", at - at % bytes));
    let file = OpenOptions::new().write(true).open(file).expect("open a queue's file");
    file.write_all_at(&[0; 20], at % bytes).expect("write");
}

/// As `mqadmin deleteTopic` leaves it: Java forgets the topic and deletes its queues, and its records stay in the log.
#[test]
fn a_topic_that_was_deleted_in_java_does_not_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    unpack("a", dir.path());
    let manifest = json("a.manifest.json.gz");
    let (root, ids) =
        (dir.path().join("store"), |queue: &Value| (queue["topic"].clone(), int(&queue["queueId"])));
    let queues = manifest["java"]["queues"].as_array().expect("queues").iter();
    let longest = queues.max_by_key(|queue| int(&queue["maxOffset"])).map(ids).expect("a queue");
    let topic = longest.0.as_str().expect("a topic").to_owned();
    fs::remove_dir_all(root.join("consumequeue").join(&topic)).expect("its queues were there");
    for name in ["topics.json", "topics.json.bak"] {
        let path = root.join("config").join(name);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let mut table: Value = serde_json::from_str(&text).expect("JSON");
        table["topicConfigTable"].as_object_mut().expect("a table").remove(&topic);
        fs::write(&path, table.to_string()).expect("write");
    }
    run(async {
        for _ in 0..2 {
            let store = open(dir.path(), java_config(&manifest)).await.expect("open");
            assert!(store.queues().iter().all(|(known, _)| *known != topic), "{topic} is back");
            assert!(!store.queues().is_empty());
            store.stop().await.expect("stop");
        }
        let store = open(dir.path(), java_config(&manifest)).await.expect("open");
        fill(&store, &topic, 1).await;
        assert_eq!(store.max_offset(&topic, 0), 1, "it begins anew");
        store.stop().await.expect("stop");
    });
}

#[test]
fn what_only_a_5x_broker_reads_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    unpack("e5", dir.path());
    let (root, manifest) = (dir.path().join("store"), json("e5.manifest.json.gz"));
    let (rt, base) = (TokioRuntime::new(dir.path()), StoreConfig::new("store"));
    fs::create_dir_all(root.join("timerlog")).expect("make a folder");
    fs::write(root.join("timerlog/00000000000000000000"), "x").expect("write");
    run(async {
        let report = check(&rt, "store", &base).await.expect("check");
        assert!(report.notes[0].contains("timerlog"), "{:?}", report.notes);
        fs::write(root.join("consumequeue/CURRENT"), "MANIFEST-000004").expect("write");
        let refused = open(dir.path(), java_config(&manifest)).await.err();
        assert!(matches!(refused, Some(RecoverError::OtherForm { .. })), "{refused:?}");
        let report = check(&rt, "store", &base).await.expect("check");
        assert!(report.commit_log.damaged.iter().any(|damage| damage.why.contains("RocksDB")));
        assert_eq!(report.verdict, Verdict::Damaged);
    });
}

#[test]
fn a_topic_with_queues_of_batches_takes_nothing_and_stops_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config(FlushMode::Sync)).await.expect("open");
        fill(&store, "T", 2).await;
        // A batch in one record, as one follows from a master of 5.x: no queue of ours goes on behind it.
        let batch = MessageToStore { sys_flag: 0x80, ..message("FromMaster", 0, b"three in one") };
        store.put(&batch).await.expect("put");
        fill(&store, "T", 1).await;
        assert!(!store.has_queue("FromMaster", 0));
        let refused = store.put(&message("FromMaster", 0, b"plain")).await.expect_err("refused");
        assert!(refused.to_string().contains("FromMaster has queues of batches"), "{refused}");
        store.stop().await.expect("stop");

        let queue = dir.path().join("store/batchconsumequeue/OfFolder/0");
        fs::create_dir_all(&queue).expect("make a folder");
        let table = r#"{"topicConfigTable":{"T":{"topicName":"T"},
            "OfTable":{"topicName":"OfTable","attributes":{"queue.type":"BatchCQ"}}}}"#;
        fs::create_dir_all(dir.path().join("store/config")).expect("make a folder");
        fs::write(dir.path().join("store/config/topics.json"), table).expect("write");
        let report = check(&TokioRuntime::new(dir.path()), "store", &config(FlushMode::Sync)).await;
        let notes = report.expect("a report").notes.join("\n");
        assert!(notes.contains("FromMaster, OfFolder, OfTable"), "{notes}");
        let store = open(dir.path(), config(FlushMode::Sync)).await.expect("open");
        for topic in ["FromMaster", "OfFolder", "OfTable"] {
            let refused = store.put(&message(topic, 0, b"plain")).await.expect_err("refused");
            assert!(refused.is_for_good() && refused.to_string().contains(topic), "{refused}");
        }
        fill(&store, "T", 1).await;
        assert_eq!(read_all(&store, "T", 0).await.len(), 4);
        store.stop().await.expect("stop");
    });
    assert!(!dir.path().join("store/consumequeue/OfFolder").exists());
}

//! `store check` on directories that Java brokers wrote: it must say what Java's own classes read from them, and change nothing;
//! and on our own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotfire_core::message::MessageToStore;
use hotfire_core::store::check::{CheckReport, Verdict, check, repair};
use hotfire_core::store::index::Geometry;
use hotfire_core::store::{FlushMode, StoreConfig};
use hotfire_runtime::TokioRuntime;
use serde_json::Value;

use crate::store::{config as plain, message, open, run};
use crate::store_golden::{CASES, int, json, unpack};

/// Every file below `root` with its bytes.
pub fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("list") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(&path).expect("read"));
            }
        }
    }
    files
}

/// What `store check` says of `root/store`, without settings.
pub fn report(root: &Path) -> CheckReport {
    let rt = TokioRuntime::new(root);
    run(check(&rt, "store", &StoreConfig::new("store"))).expect("check")
}

/// Topic, queue, min and max of every queue that Java found on disk, sorted.
fn java_queues(java: &Value) -> Vec<(String, i64, i64, i64)> {
    let queues = java["queues"].as_array().expect("queues").iter().map(|queue| {
        let topic = queue["topic"].as_str().expect("a topic").to_owned();
        (topic, int(&queue["queueId"]), int(&queue["minOffset"]), int(&queue["maxOffset"]))
    });
    // Java's classes make an empty queue of each that they are asked for; on disk there is none.
    let mut queues: Vec<_> = queues.filter(|(_, _, _, max)| *max > 0).collect();
    queues.sort();
    queues
}

fn is_reported_as_java_has_it(case: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    unpack(case, dir.path());
    let manifest = json(&format!("{case}.manifest.json.gz"));
    let java = &manifest["java"];
    let before = contents(dir.path());
    let report = report(dir.path());
    assert_eq!(contents(dir.path()), before, "{case}: the check changes nothing");

    let killed = java["abortFilePresentBeforeLoad"].as_bool().expect("a flag");
    assert_eq!(report.clean_shutdown, !killed, "{case}");
    let verdict = if killed { Verdict::Recoverable } else { Verdict::Clean };
    assert_eq!(report.verdict, verdict, "{case}: {report:?}");

    let log = &report.commit_log;
    assert_eq!(log.min as i64, int(&java["commitLogMinOffset"]), "{case}");
    assert_eq!(log.max as i64, int(&java["commitLogMaxOffset"]), "{case}");
    assert_eq!(log.records as i64, int(&java["recordCount"]), "{case}");
    assert_eq!(log.damaged, [], "{case}");

    let ours =
        report.queues.iter().map(|queue| (queue.topic.clone(), i64::from(queue.queue), queue.min, queue.max));
    assert_eq!(ours.collect::<Vec<_>>(), java_queues(java), "{case}");
    for queue in &report.queues {
        assert_eq!(queue.entries, queue.max - queue.min, "{case}: {queue:?}");
        assert!(queue.problems.is_empty(), "{case}: {queue:?}");
    }
    let entries: i64 = report.queues.iter().map(|queue| queue.entries).sum();
    assert_eq!(entries, int(&java["totalQueueEntries"]), "{case}");

    let java_index = java["indexFiles"].as_array().expect("index files");
    assert_eq!(report.index.files, java_index.len() as u64, "{case}");
    assert!(report.index.problems.is_empty(), "{case}: {:?}", report.index.problems);
    let java_entries: i64 = java_index.iter().map(|file| int(&file["indexCount"]) - 1).sum();
    // After a crash Java throws the last file away and makes it anew, with the entries of the record where it begins again
    // a second time; ours are those on disk.
    let twice = java_entries - report.index.entries as i64;
    assert!(if killed { (0..=2).contains(&twice) } else { twice == 0 }, "{case}: {twice}");

    let times = &java["checkpointBeforeLoad"];
    let checkpoint = &report.checkpoint;
    let ours = [checkpoint.physic_ms, checkpoint.logic_ms, checkpoint.index_ms];
    assert_eq!(ours, [0, 1, 2].map(|field| int(&times[field])), "{case}");
    assert!(checkpoint.problems.is_empty(), "{case}: {:?}", checkpoint.problems);
    assert!(!report.config.is_empty(), "{case}: it has configuration files");
    assert!(report.config.values().all(|state| state == "ok"), "{case}: {:?}", report.config);
}

#[test]
fn the_slots_of_an_index_file_are_found_by_its_length() {
    for (count, slots) in (1..16).flat_map(|count| [5, 7, 16].map(|slots| (count, slots))) {
        let dir = tempfile::tempdir().expect("a folder");
        let index_geometry = Geometry { slots, entries: 16 };
        run(async {
            let config = StoreConfig { index_geometry, ..plain(FlushMode::Async) };
            let store = open(dir.path(), config.clone()).await.expect("open");
            for n in 0..count {
                let properties = format!("UNIQ_KEY\u{1}u{n}\u{2}");
                let put = MessageToStore { properties: &properties, ..message("T", 0, b"body") };
                store.put(&put).await.expect("put");
            }
            store.stop().await.expect("stop");
            // No file says how it was configured.
            let report = check(&TokioRuntime::new(dir.path()), "store", &plain(FlushMode::Async))
                .await
                .expect("check");
            assert_eq!(
                report.verdict,
                Verdict::Clean,
                "{count} entries, {slots} slots: {:?}",
                report.index.problems
            );
            assert_eq!(report.index.entries, count);
        });
    }
}

/// A file that was made and got nothing yet: its length fits many numbers of slots.
#[test]
fn an_index_file_without_entries_is_no_damage_and_a_repair_keeps_all_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let set = StoreConfig { index_geometry: Geometry { slots: 7, entries: 16 }, ..plain(FlushMode::Async) };
    run(async {
        let store = open(dir.path(), set.clone()).await.expect("open");
        for n in 0..40 {
            let properties = format!("UNIQ_KEY\u{1}u{n}\u{2}");
            let put = MessageToStore { properties: &properties, ..message("T", 0, b"body") };
            store.put(&put).await.expect("put");
        }
        store.stop().await.expect("stop");
        let folder = dir.path().join("store/index");
        let bytes = 40 + 7 * 4 + 16 * 20;
        std::fs::write(folder.join("20991231235959999"), vec![0; bytes]).expect("write an index file");
        std::fs::write(dir.path().join("store/abort"), "0").expect("write abort");
        let before = contents(&folder);
        let rt = TokioRuntime::new(dir.path());
        for base in [&set, &plain(FlushMode::Async)] {
            let report = check(&rt, "store", base).await.expect("check");
            assert_eq!((report.index.problems, report.index.entries), (Vec::<String>::new(), 40));
        }
        assert_eq!(repair(&rt, "store", &set, true).await.expect("repair").refused, Vec::<String>::new());
        let after = contents(&folder);
        assert!(before.iter().all(|(path, bytes)| path.ends_with("20991231235959999")
            || after.get(path).is_some_and(|now| now.len() == bytes.len())));
        let report = check(&rt, "store", &set).await.expect("check");
        assert_eq!((report.verdict, report.index.entries), (Verdict::Clean, 40), "{report:?}");
    });
}

#[test]
fn every_golden_directory_is_reported_as_java_has_it() {
    for case in CASES {
        is_reported_as_java_has_it(case);
    }
}

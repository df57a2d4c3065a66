//! Look-ups by key on real files: rolling, restarts, damage, deletion; and the index files of Java brokers.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotfire_core::message::{MessageToStore, StoredMessage, sys_flag};
use hotfire_core::store::index::{By, Geometry};
use hotfire_core::store::{DeleteHours, FlushMode, Retention, StoreConfig};
use hotfire_tests::wait_until;
use serde_json::Value;

use crate::store::{Store, config as plain, message, open, run};
use crate::store_golden::{CASES, config as golden_config, int, json, unpack};

const ALL_TIMES: (i64, i64) = (0, i64::MAX);

/// Files that are full after 49 entries.
fn config() -> StoreConfig {
    StoreConfig { index_geometry: Geometry { slots: 7, entries: 50 }, ..plain(FlushMode::Async) }
}

fn keyed<'a>(topic: &'a str, body: &'a [u8], properties: &'a str) -> MessageToStore<'a> {
    MessageToStore { properties, ..message(topic, 0, body) }
}

/// Puts message `n` of `T` with the unique key `u<n>` and the keys `even` or `odd` and `k<n>`.
async fn put(store: &Store, n: usize) -> u64 {
    let parity = if n.is_multiple_of(2) { "even" } else { "odd" };
    let properties = format!("UNIQ_KEY\u{1}u{n}\u{2}KEYS\u{1}{parity}  k{n}\u{2}");
    let body = format!("{n:0300}");
    store.put(&keyed("T", body.as_bytes(), &properties)).await.expect("put").physical_offset
}

async fn fill(store: &Store, count: std::ops::Range<usize>) -> Vec<u64> {
    let mut positions = Vec::new();
    for n in count {
        positions.push(put(store, n).await);
    }
    settle(store).await;
    positions
}

async fn settle(store: &Store) {
    store.indexed().reached(store.commit_log_max()).await.expect("indexed");
}

async fn find(store: &Store, by: By, topic: &str, key: &str) -> Vec<u64> {
    let found = store.query(by, topic, key, ALL_TIMES, 64).await.expect("readable");
    let position = |bytes| StoredMessage::decode(bytes).expect("a record").physical_offset;
    found.records.iter().map(position).collect()
}

/// Every message is found by each of its keys, and by nothing else.
async fn all_found(store: &Store, positions: &[u64], min: u64, when: &str) {
    for (n, position) in positions.iter().enumerate().filter(|(_, position)| **position >= min) {
        for (by, key) in
            [(By::UniqueKey, format!("u{n}")), (By::Key, format!("u{n}")), (By::Key, format!("k{n}"))]
        {
            assert_eq!(find(store, by, "T", &key).await, [*position], "{when}: {key}");
        }
        assert_eq!(find(store, By::UniqueKey, "T", &format!("k{n}")).await, [0; 0], "{when}");
    }
    for (parity, key) in ["even", "odd"].into_iter().enumerate() {
        let mut expected: Vec<u64> =
            positions.iter().copied().skip(parity).step_by(2).filter(|position| *position >= min).collect();
        expected.reverse();
        expected.truncate(64);
        assert_eq!(find(store, By::Key, "T", key).await, expected, "{when}: {key}");
    }
}

fn index_files(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root.join("store/index")) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn crash(root: &Path) {
    std::fs::write(root.join("store/abort"), "0").expect("write abort");
}

#[test]
fn messages_are_found_by_their_keys_across_files_and_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let mut positions = Vec::new();
        for life in 0..4 {
            let store = open(dir.path(), config()).await.expect("open");
            all_found(&store, &positions, 0, "opened").await;
            positions.extend(fill(&store, life * 60..life * 60 + 60).await);
            all_found(&store, &positions, 0, "filled").await;
            store.stop().await.expect("stop");
            if life == 1 {
                crash(dir.path());
            }
        }
        // Three keys each.
        assert_eq!(index_files(dir.path()).len(), (240 * 3_usize).div_ceil(49));
        let length = (40 + 7 * 4 + 50 * 20) as u64;
        for file in index_files(dir.path()) {
            assert_eq!(file.metadata().expect("a file").len(), length);
            assert_eq!(file.file_name().expect("a name").len(), 17);
        }
    });
}

#[test]
fn a_look_up_gives_what_has_the_key_the_topic_and_the_time() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config()).await.expect("open");
        // "Aa" and "BB" have one hash.
        let mut positions = Vec::new();
        for (topic, keys) in [("T", "Aa"), ("T", "BB"), ("T", "Aa BB Aa"), ("Aa", "T"), ("T", "other")] {
            let properties = format!("KEYS\u{1}{keys}\u{2}");
            let appended = store.put(&keyed(topic, b"body", &properties)).await.expect("put");
            positions.push((appended.physical_offset, appended.store_timestamp));
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        settle(&store).await;
        let at = |n: usize| positions[n].0;
        assert_eq!(find(&store, By::Key, "T", "Aa").await, [at(2), at(0)]);
        assert_eq!(find(&store, By::Key, "T", "BB").await, [at(2), at(1)]);
        assert_eq!(find(&store, By::Key, "Aa", "T").await, [at(3)]);
        assert_eq!(find(&store, By::Key, "T", "AaBB").await, [0; 0]);
        for (times, expected) in [
            ((positions[0].1, positions[2].1), vec![at(2), at(0)]),
            ((positions[0].1, positions[2].1 - 1), vec![at(0)]),
            ((positions[0].1 + 1, positions[2].1), vec![at(2)]),
            ((positions[2].1 + 1, i64::MAX), vec![]),
            ((i64::MAX, 0), vec![]),
        ] {
            let found = store.query(By::Key, "T", "Aa", times, 64).await.expect("readable");
            let found =
                found.records.iter().map(|bytes| StoredMessage::decode(bytes).expect("one").physical_offset);
            assert_eq!(found.collect::<Vec<_>>(), expected, "{times:?}");
        }
        let one = store.query(By::Key, "T", "Aa", ALL_TIMES, 1).await.expect("readable");
        assert_eq!(one.records.len(), 1);
        assert_eq!((one.last_update, one.last_update_ms), positions[4]);
        assert_eq!(store.query(By::Key, "T", "Aa", ALL_TIMES, 0).await.expect("readable").records.len(), 0);
        store.stop().await.expect("stop");
    });
}

#[test]
fn half_messages_are_found_and_rolled_back_ones_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config()).await.expect("open");
        let mut positions = Vec::new();
        for flag in
            [sys_flag::TRANSACTION_PREPARED, sys_flag::TRANSACTION_COMMIT, sys_flag::TRANSACTION_ROLLBACK]
        {
            let message = MessageToStore { sys_flag: flag, ..keyed("T", b"body", "KEYS\u{1}k\u{2}") };
            positions.push(store.put(&message).await.expect("put").physical_offset);
        }
        settle(&store).await;
        assert_eq!(find(&store, By::Key, "T", "k").await, [positions[1], positions[0]]);
        store.stop().await.expect("stop");
    });
}

#[test]
fn damaged_index_files_are_made_again() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config()).await.expect("open");
        let positions = fill(&store, 0..60).await;
        store.stop().await.expect("stop");
        let write = |file: usize, bytes: &[u8], at: u64| {
            let file =
                std::fs::File::options().write(true).open(&index_files(dir.path())[file]).expect("open");
            file.write_all_at(bytes, at).expect("write");
        };
        let last = index_files(dir.path()).len() - 1;
        assert_eq!(last, 3);
        let entries = 40 + 7 * 4;
        let damages: [(&str, &dyn Fn()); 7] = [
            ("the slots are gone", &|| write(last, &[0; 28], 40)),
            ("the slots lead anywhere", &|| write(last, &[0x7F; 28], 40)),
            ("a slot leads behind the end", &|| write(last, &[0, 0, 0, 200], 40 + 8)),
            ("a header in the middle is gone", &|| write(1, &[0; 40], 0)),
            ("the header counts too many", &|| write(last, &[0, 0, 2, 0], 36)),
            ("a file is short", &|| {
                let file =
                    std::fs::File::options().write(true).open(&index_files(dir.path())[2]).expect("open");
                file.set_len(500).expect("cut");
            }),
            ("the last file is missing", &|| {
                std::fs::remove_file(&index_files(dir.path())[last]).expect("remove")
            }),
        ];
        // After a clean stop slots and header are held against each other; after a crash each entry is read.
        let damages = damages.into_iter().flat_map(|damage| [(damage, false), (damage, true)]);
        let entry_damages: [(&str, &dyn Fn()); 4] = [
            ("an entry is gone", &|| write(last, &[0; 20], entries + 20)),
            ("the first entry points behind the log", &|| write(last, &[0x40], entries + 20 + 4)),
            ("an entry points behind the log", &|| write(last, &[0x40], entries + 3 * 20 + 4)),
            ("a chain is a circle", &|| write(last, &[0, 0, 0, 9], entries + 3 * 20 + 16)),
        ];
        for ((what, damage), crashed) in damages.chain(entry_damages.map(|damage| (damage, true))) {
            damage();
            if crashed {
                crash(dir.path());
            }
            let store = open(dir.path(), config()).await.expect("open");
            settle(&store).await;
            all_found(&store, &positions, 0, what).await;
            store.stop().await.expect("stop");
            assert_eq!(index_files(dir.path()).len(), last + 1, "{what}");
        }
        // The inside of a file that takes no more, and of any after a clean stop, is not looked at before it is asked for: then
        // nothing false is given.
        write(0, &[0x55; 900], entries + 40);
        write(last, &[0x55; 60], entries + 20);
        let store = open(dir.path(), config()).await.expect("open");
        for (n, position) in positions.iter().enumerate() {
            let found = find(&store, By::Key, "T", &format!("k{n}")).await;
            assert!(found.is_empty() || found == [*position], "{n}: {found:?}");
        }
        store.stop().await.expect("stop");
    });
}

#[test]
fn an_index_that_was_switched_off_is_completed_when_it_is_on_again() {
    let dir = tempfile::tempdir().expect("a folder");
    run(async {
        let store = open(dir.path(), config()).await.expect("open");
        let mut positions = fill(&store, 0..30).await;
        store.stop().await.expect("stop");
        let off = || StoreConfig { index: false, ..config() };
        let store = open(dir.path(), off()).await.expect("open");
        for n in 30..60 {
            positions.push(put(&store, n).await);
        }
        assert_eq!(find(&store, By::Key, "T", "k3").await, [0; 0]);
        store.stop().await.expect("stop");
        let store = open(dir.path(), config()).await.expect("open");
        settle(&store).await;
        all_found(&store, &positions, 0, "on again").await;
        store.stop().await.expect("stop");
        // Files of another form are none.
        let other = StoreConfig { index_geometry: Geometry { slots: 3, entries: 500 }, ..config() };
        let store = open(dir.path(), other).await.expect("open");
        settle(&store).await;
        all_found(&store, &positions, 0, "another form").await;
        store.stop().await.expect("stop");
        assert_eq!(index_files(dir.path()).len(), 1);
    });
}

#[test]
fn index_files_go_with_the_records_that_they_lead_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let retention = Retention {
        reserved_ms: 0,
        delete_hours: DeleteHours::ALL,
        interval_ms: 1,
        first_ms: 0,
        log_file_pause_ms: 0,
        queue_file_pause_ms: 0,
        ..Retention::default()
    };
    let greedy = StoreConfig { retention, ..config() };
    run(async {
        let store = open(dir.path(), greedy.clone()).await.expect("open");
        let positions = fill(&store, 0..200).await;
        let end = store.commit_log_max();
        let last_file = end - end % (16 << 10);
        let gone = || store.commit_log_min() == last_file && index_files(dir.path()).len() < 6;
        assert!(wait_until(Duration::from_secs(30), gone), "{:?}", index_files(dir.path()));
        all_found(&store, &positions, last_file, "deleted").await;
        assert_eq!(find(&store, By::Key, "T", "k0").await, [0; 0]);
        store.stop().await.expect("stop");
        let store = open(dir.path(), greedy).await.expect("open");
        all_found(&store, &positions, last_file, "opened").await;
        store.stop().await.expect("stop");
    });
}

/// Positions by which each key of a topic is found, newest first, as the records say.
fn by_records(manifest: &Value, topic: &str, key: &str) -> Vec<i64> {
    let has = |record: &&Value| {
        let text = |name: &str| record["properties"][name].as_str().unwrap_or_default();
        let rolled_back = int(&record["sysFlag"]) & 0xC == 0xC;
        let words = text("KEYS").split(' ').any(|word| word == key);
        record["topic"].as_str() == Some(topic) && !rolled_back && (words || text("UNIQ_KEY") == key)
    };
    let records = manifest["java"]["records"].as_array().expect("records").iter().filter(has);
    let mut positions: Vec<i64> = records.map(|record| int(&record["commitLogOffset"])).collect();
    positions.sort_unstable_by(|a, b| b.cmp(a));
    positions.truncate(64);
    positions
}

async fn answers_as_java(store: &Store, manifest: &Value, what: &str) {
    for lookup in manifest["java"]["indexLookups"].as_array().expect("look-ups") {
        let text = |field: &str| lookup[field].as_str().expect("text");
        let (topic, key) = (text("topic"), text("key"));
        let ours = find(store, By::Key, topic, key).await;
        let ours: Vec<i64> = ours.into_iter().map(|position| position as i64).collect();
        let mut java: Vec<i64> = lookup["phyOffsets"].as_array().expect("a list").iter().map(int).collect();
        // An index file outlives the records of its first entries; Java's broker leaves them out later.
        java.retain(|position| *position >= int(&manifest["java"]["commitLogMinOffset"]));
        if what.starts_with('b') {
            // After a crash Java files some records twice, and loses what it does not file again (S-12, S-16).
            java.dedup();
            assert!(java.iter().all(|position| ours.contains(position)), "{what}: {topic} {key}");
        } else {
            assert_eq!(ours, java, "{what}: {topic} {key}");
        }
        assert_eq!(ours, by_records(manifest, topic, key), "{what}: {topic} {key}");
    }
}

#[test]
fn look_ups_in_the_directories_of_java_brokers_give_what_java_gives() {
    for case in CASES {
        let dir = tempfile::tempdir().expect("a folder");
        unpack(case, dir.path());
        let manifest = json(&format!("{case}.manifest.json.gz"));
        let java_files = manifest["java"]["indexFiles"].as_array().expect("files");
        let names = |root: &Path| -> Vec<String> {
            let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
            index_files(root).iter().map(name).collect()
        };
        run(async {
            for life in ["first", "again", "after a crash"] {
                if life == "after a crash" {
                    crash(dir.path());
                }
                let store = open(dir.path(), golden_config(&manifest)).await.expect("open");
                settle(&store).await;
                let what = format!("{case}, {life}");
                answers_as_java(&store, &manifest, &what).await;
                let stated = manifest["java"]["indexFiles"].as_array().expect("files");
                if !case.starts_with('b') {
                    let java: Vec<_> =
                        stated.iter().map(|file| file["file"].as_str().expect("a name")).collect();
                    assert_eq!(names(dir.path()), java, "{what}: the files are Java's");
                }
                store.stop().await.expect("stop");
            }
        });
        assert!(index_files(dir.path()).len() >= java_files.len(), "{case}");
    }
}

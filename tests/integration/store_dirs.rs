//! A log in several folders: `storePathCommitLog` with more than one, and `readOnlyCommitLogStorePaths`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hotfire_core::runtime::Runtime;
use hotfire_core::runtime::storage::Storage;
use hotfire_core::store::check::{Verdict, check};
use hotfire_core::store::{FlushMode, MessageStore, RecoverError, Retention, StoreConfig};
use hotfire_runtime::TokioRuntime;
use hotfire_sim::{Limits, NodeId, SimRuntime, World, run_seed};
use hotfire_tests::TempDir;

use crate::store::{Store, config, message, open, read_all, run};

const SEEDS: std::ops::Range<u64> = 0..40;
const STEPS: u64 = 40;
/// Three messages of 1 KiB fill a file.
const FILE_BYTES: u64 = 4 << 10;

fn folders(count: u64) -> Vec<String> {
    (0..count).map(|n| format!("store/log-{n}")).collect()
}

async fn files_in(rt: &SimRuntime, folder: &str) -> Vec<String> {
    rt.list(folder).await.expect("listed").into_iter().map(|entry| entry.name).collect()
}

/// Some folders are full in turns, at least one is not, and the node dies now and then.
async fn live(world: World, node: NodeId, seed: u64) {
    let rt = world.runtime(node).expect("the node runs");
    let dirs = folders(2 + rt.random_u64() % 3);
    let config = StoreConfig {
        commit_log_dirs: dirs.clone(),
        commit_log_file_bytes: FILE_BYTES,
        consume_queue_file_bytes: 400,
        retention: Retention { first_ms: 50, interval_ms: 50, ..Retention::default() },
        ..config(FlushMode::Sync)
    };
    let mut rt = rt;
    let mut store = MessageStore::open(rt.clone(), config.clone()).await.expect("opens");
    store.start();
    let mut stored: Vec<Vec<u8>> = Vec::new();
    // The full ones, with the files that they had when they were filled.
    let mut full: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for step in 0..STEPS {
        match rt.random_u64() % 10 {
            0..=5 => {
                for _ in 0..=rt.random_u64() % 5 {
                    let body = format!("{seed} {step} {:01000}", stored.len()).into_bytes();
                    let end = store.put(&message("T", 0, &body)).await.expect("one folder has room").end;
                    store.durable().reached(end).await.expect("flushed");
                    stored.push(body);
                }
            }
            6 | 7 => {
                let dir = &dirs[(rt.random_u64() % dirs.len() as u64) as usize];
                if full.remove(dir).is_some() {
                    world.disk(node).empty_folder(dir);
                } else if full.len() + 1 < dirs.len() {
                    world.disk(node).fill_folder(dir);
                    // A creation that had begun before may still end.
                    rt.sleep(Duration::from_millis(500)).await;
                    full.insert(dir.clone(), files_in(&rt, dir).await);
                }
            }
            8 => rt.sleep(Duration::from_millis(200)).await,
            _ => {
                match rt.random_u64() % 3 {
                    0 => world.crash(node),
                    1 => world.power_off(node),
                    _ => {
                        store.stop().await.expect("stops");
                        world.crash(node);
                    }
                }
                world.restart(node);
                rt = world.runtime(node).expect("the node runs");
                store = MessageStore::open(rt.clone(), config.clone()).await.expect("opens again");
                store.start();
            }
        }
        for (dir, before) in &full {
            let new = files_in(&rt, dir).await.into_iter().find(|name| !before.contains(name));
            assert_eq!(new, None, "seed {seed}: a file in {dir}, which is full");
        }
    }
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
    let read: Vec<Vec<u8>> =
        read_all(&store, "T", 0).await.into_iter().map(|one| one.body.to_vec()).collect();
    assert!(read == stored, "seed {seed}: {} messages were stored, {} are read", stored.len(), read.len());
    store.stop().await.expect("stops");
}

#[test]
fn a_folder_that_is_full_takes_no_file_and_the_others_take_all() {
    for seed in SEEDS {
        let limits = Limits { simulated: Duration::from_secs(600), ..Limits::default() };
        let result = run_seed(seed, limits, move |world: World| {
            let node = world.add_node("broker", [10, 0, 0, 1]);
            world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
            live(world, node, seed)
        });
        result.expect_finished();
    }
}

/// Puts so many messages of 1 KiB into `T`.
async fn fill(store: &Store, count: usize) {
    for n in 0..count {
        store.put(&message("T", 0, format!("{n:01000}").as_bytes())).await.expect("put");
    }
    store.dispatched().reached(store.commit_log_max()).await.expect("dispatched");
}

fn two_folders() -> StoreConfig {
    StoreConfig { commit_log_dirs: folders(2), ..config(FlushMode::Async) }
}

#[test]
fn a_folder_that_is_not_there_is_named_and_nothing_is_changed() {
    for missing in ["log-0", "log-1"] {
        let dir = TempDir::new("folder-missing");
        run(async {
            let store = open(dir.path(), two_folders()).await.expect("opens");
            fill(&store, 100).await;
            store.stop().await.expect("stops");
            let (here, away) = (dir.path().join("store").join(missing), dir.path().join("away"));
            std::fs::rename(&here, &away).expect("taken away");
            let error =
                open(dir.path(), two_folders()).await.map(|_| ()).expect_err("half of the log is gone");
            assert!(
                matches!(&error, RecoverError::FolderMissing { folder, .. } if folder.ends_with(missing)),
                "{error}"
            );
            let report =
                check(&TokioRuntime::new(dir.path()), "store", &two_folders()).await.expect("looked at");
            assert_eq!(report.verdict, Verdict::Damaged);
            assert!(
                report.commit_log.damaged.iter().any(|damage| damage.why.contains(missing)),
                "{report:?}"
            );
            std::fs::rename(&away, &here).expect("put back");
            let store = open(dir.path(), two_folders()).await.expect("opens");
            assert_eq!(read_all(&store, "T", 0).await.len(), 100);
            store.stop().await.expect("stops");
            // One more is a new one.
            let third = StoreConfig { commit_log_dirs: folders(3), ..two_folders() };
            let store = open(dir.path(), third).await.expect("opens with one more");
            fill(&store, 50).await;
            assert_eq!(read_all(&store, "T", 0).await.len(), 150);
            store.stop().await.expect("stops");
        });
    }
}

/// Names and contents of the files in a folder, and when they were changed.
fn state_of(folder: &Path) -> Vec<(String, std::time::SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let changed = entry.metadata().expect("there").modified().expect("a time");
            let bytes = std::fs::read(entry.path()).expect("readable");
            (entry.file_name().into_string().expect("text"), changed, bytes)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_read_only_folder_is_read_and_never_written() {
    let dir = TempDir::new("read-only-folder");
    run(async {
        let store = open(dir.path(), two_folders()).await.expect("opens");
        fill(&store, 100).await;
        store.stop().await.expect("stops");
        let root = dir.path().join("store");
        let kept = |folder: &str| StoreConfig {
            read_only_commit_log_dirs: vec![format!("store/{folder}")],
            ..two_folders()
        };
        let newest = |folder: &str| state_of(&root.join(folder)).pop().expect("files").0;
        let (last, other) =
            if newest("log-0") > newest("log-1") { ("log-0", "log-1") } else { ("log-1", "log-0") };
        // The file that appends have to go on in lies there.
        let before = state_of(&root.join(last));
        let error = open(dir.path(), kept(last)).await.map(|_| ()).expect_err("it cannot be written");
        assert!(matches!(&error, RecoverError::ReadOnlyFile { file, .. } if file.contains(last)), "{error}");
        assert_eq!(state_of(&root.join(last)), before);
        let before = state_of(&root.join(other));
        for life in 1..4 {
            let store = open(dir.path(), kept(other)).await.expect("opens");
            fill(&store, 100).await;
            assert_eq!(read_all(&store, "T", 0).await.len(), 100 * (life + 1));
            store.stop().await.expect("stops");
            if life == 1 {
                std::fs::write(root.join("abort"), "0").expect("as after a crash");
            } else if life == 2 {
                // As Java's broker leaves it: the whole log is read.
                std::fs::write(root.join("abort"), "0").expect("as after a crash");
                std::fs::remove_file(root.join("checkpoint")).expect("removed");
            }
            assert_eq!(state_of(&root.join(other)), before, "life {life}");
        }
        let all = StoreConfig { commit_log_dirs: Vec::new(), ..two_folders() };
        let all = StoreConfig { read_only_commit_log_dirs: vec!["store/commitlog".to_owned()], ..all };
        let error = open(dir.path(), all).await.map(|_| ()).expect_err("no folder is left");
        assert!(matches!(error, RecoverError::NoFolder { .. }), "{error}");
    });
}

/// What has expired goes, there too.
#[test]
fn expired_files_of_a_read_only_folder_are_deleted() {
    let dir = TempDir::new("read-only-expired");
    run(async {
        let store = open(dir.path(), two_folders()).await.expect("opens");
        fill(&store, 100).await;
        store.stop().await.expect("stops");
        let root = dir.path().join("store");
        let last = ["log-0", "log-1"].into_iter().max_by_key(|folder| state_of(&root.join(folder)).pop());
        let other = if last == Some("log-0") { "log-1" } else { "log-0" };
        let retention = Retention {
            reserved_ms: 0,
            delete_hours: hotfire_core::store::DeleteHours::ALL,
            interval_ms: 1,
            first_ms: 0,
            log_file_pause_ms: 0,
            ..Retention::default()
        };
        let read_only = StoreConfig {
            read_only_commit_log_dirs: vec![format!("store/{other}")],
            retention,
            ..two_folders()
        };
        let store = open(dir.path(), read_only).await.expect("opens");
        fill(&store, 20).await;
        let gone = async {
            while std::fs::read_dir(root.join(other)).expect("readable").next().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("they stay");
        store.stop().await.expect("stops");
    });
}

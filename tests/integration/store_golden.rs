//! Directories that Java brokers wrote, opened by our store and compared with what Java's own classes read from them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::GzDecoder;
use hotfire_core::message::{StoredMessage, properties};
use hotfire_core::store::check::{Verdict, check};
use hotfire_core::store::index::Geometry;
use hotfire_core::store::{Boundary, FlushMode, GetStatus, StoreConfig};
use hotfire_runtime::TokioRuntime;
use serde_json::Value;

use crate::store::{Store, message, open, run};

/// Every directory of a Java broker.
pub const CASES: [&str; 9] = ["a", "a6", "aext", "b1", "b2", "d", "d-before", "e5", "e5crc"];

fn golden(name: &str) -> PathBuf {
    hotfire_tests::project_dir().join("tests/golden/store").join(name)
}

pub fn json(name: &str) -> Value {
    let mut text = Vec::new();
    let file = File::open(golden(name)).unwrap_or_else(|error| panic!("open {name}: {error}"));
    GzDecoder::new(file).read_to_end(&mut text).expect("gzip");
    serde_json::from_slice(&text).expect("JSON")
}

/// Unpacks a directory into `root/store`.
pub fn unpack(case: &str, root: &Path) {
    let file = File::open(golden(&format!("{case}.tar.gz"))).expect("open the directory");
    tar::Archive::new(GzDecoder::new(file)).unpack(root.join("store")).expect("unpack");
}

pub fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"))
}

pub fn config(manifest: &Value) -> StoreConfig {
    let size = |key: &str| {
        let text = manifest["brokerConfig"][key].as_str().unwrap_or_else(|| panic!("no {key}"));
        text.parse().expect("a number")
    };
    StoreConfig {
        commit_log_file_bytes: size("mappedFileSizeCommitLog"),
        consume_queue_file_bytes: size("mappedFileSizeConsumeQueue"),
        index_geometry: Geometry {
            slots: size("maxHashSlotNum") as u32,
            entries: size("maxIndexNum") as u32,
        },
        flush: FlushMode::Async,
        ..StoreConfig::new("store")
    }
}

fn same_record(ours: &StoredMessage, java: &Value, at: &str) {
    let text = |field: &str| java[field].as_str().unwrap_or_default().to_owned();
    // Java prints hosts as address|port.
    let host = |field: &str| text(field).replace('%', "|");
    let our_host = |host: std::net::SocketAddr| (host.ip(), host.port());
    let java_host = |field: &str| {
        let text = host(field);
        let (ip, port) = text.rsplit_once('|').unwrap_or_else(|| panic!("{at}: host {text}"));
        let ip = ip.trim_matches(['[', ']']);
        (ip.parse::<std::net::IpAddr>().expect("an address"), port.parse::<u16>().expect("a port"))
    };
    assert_eq!(ours.topic, text("topic"), "{at}");
    assert_eq!(i64::from(ours.queue_id), int(&java["queueId"]), "{at}");
    assert_eq!(ours.queue_offset, int(&java["queueOffset"]), "{at}");
    assert_eq!(ours.physical_offset as i64, int(&java["physicalOffsetField"]), "{at}");
    assert_eq!(i64::from(ours.flag), int(&java["flag"]), "{at}");
    assert_eq!(i64::from(ours.sys_flag), int(&java["sysFlag"]), "{at}");
    assert_eq!(ours.born_timestamp, int(&java["bornTimestamp"]), "{at}");
    assert_eq!(ours.store_timestamp, int(&java["storeTimestamp"]), "{at}");
    assert_eq!(our_host(ours.born_host), java_host("bornHost"), "{at}");
    assert_eq!(our_host(ours.store_host), java_host("storeHost"), "{at}");
    assert_eq!(i64::from(ours.reconsume_times), int(&java["reconsumeTimes"]), "{at}");
    assert_eq!(ours.prepared_transaction_offset, int(&java["preparedTransactionOffset"]), "{at}");
    assert_eq!(i64::from(ours.body_crc), int(&java["bodyCRC"]), "{at}");
    assert_eq!(ours.body.len() as i64, int(&java["bodyLength"]), "{at}");
    assert_eq!(i64::from(ours.store_size), int(&java["size"]), "{at}");
    assert_eq!(ours.offset_message_id(), text("offsetMsgId"), "{at}");
    let ours: BTreeMap<_, _> = properties::iter(&ours.properties).collect();
    let java: BTreeMap<_, _> = java["properties"]
        .as_object()
        .expect("properties")
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().expect("text")))
        .collect();
    assert_eq!(ours, java, "{at}");
}

/// The entries of a queue, as [physical offset, size, tags code].
async fn entries(store: &Store, topic: &str, queue: i32) -> Vec<[i64; 3]> {
    let (mut entries, mut next) = (Vec::new(), store.min_offset(topic, queue));
    while next < store.max_offset(topic, queue) {
        // The filter sees the tag of the first entry first.
        let first = Mutex::new(None);
        let keep = |code| {
            first.lock().expect("not poisoned").get_or_insert(code);
            true
        };
        let read = store.get(topic, queue, next, 1, &keep).await;
        assert_eq!((read.status, read.count), (GetStatus::Found, 1), "{topic}/{queue} at {next}");
        let message = StoredMessage::decode(&read.messages[0]).expect("a record");
        let tag = first.lock().expect("not poisoned").expect("the filter was asked");
        entries.push([message.physical_offset as i64, i64::from(message.store_size), tag]);
        next += 1;
    }
    entries
}

pub async fn same_as_java(store: &Store, manifest: &Value, case: &str) {
    let java = &manifest["java"];
    assert_eq!(store.commit_log_min() as i64, int(&java["commitLogMinOffset"]), "{case}");
    assert_eq!(store.commit_log_max() as i64, int(&java["commitLogMaxOffset"]), "{case}");
    let records = java["records"].as_array().expect("records");
    assert_eq!(records.len() as i64, int(&java["recordCount"]));
    for record in records {
        let at = int(&record["commitLogOffset"]) as u64;
        let bytes = store.message_at(at).unwrap_or_else(|| panic!("{case}: no record at {at}"));
        let ours = StoredMessage::decode(&bytes).unwrap_or_else(|error| panic!("{case}: {at}: {error}"));
        same_record(&ours, record, &format!("{case}: record at {at}"));
    }
    let queues = java["queues"].as_array().expect("queues");
    let mut names = Vec::new();
    for queue in queues {
        let topic = queue["topic"].as_str().expect("a topic");
        let id = int(&queue["queueId"]) as i32;
        let name = format!("{case}: {topic}/{id}");
        names.push((topic.to_owned(), id));
        assert_eq!(store.min_offset(topic, id), int(&queue["minOffset"]), "{name}");
        assert_eq!(store.max_offset(topic, id), int(&queue["maxOffset"]), "{name}");
        let mut java_entries: Vec<[i64; 3]> =
            serde_json::from_value(queue["entries"].clone()).expect("entries");
        for [offset, _, tags_code] in &mut java_entries {
            // An address of the queue's extension: readers get the hash that it leads to.
            if *tags_code < i64::from(i32::MIN) {
                let at = |record: &&Value| int(&record["commitLogOffset"]) == *offset;
                *tags_code = int(&records.iter().find(at).expect("its record")["tagsCode"]);
            }
        }
        assert_eq!(entries(store, topic, id).await, java_entries, "{name}");
        let times: Vec<[i64; 2]> = serde_json::from_value(queue["offsetByTime"].clone()).expect("times");
        for [time, offset] in times {
            let ours = store.offset_by_time(topic, id, time, Boundary::Lower).await.expect("readable");
            if case.starts_with("e5") {
                assert_eq!(ours, offset, "{name} at {time}");
                continue;
            }
            // 4.9.7 answers the nearest message, any of those of one time: that of ours, or that of the one before. Of several
            // files it takes one by its modification time, which unpacking has changed.
            if int(&queue["maxOffset"]) > 20 {
                continue;
            }
            let java = store.store_time(topic, id, offset).await;
            let near = [store.store_time(topic, id, ours).await, store.store_time(topic, id, ours - 1).await];
            assert!(java.is_none() || near.contains(&java), "{name} at {time}: {ours}, Java {offset}");
        }
    }
    names.sort();
    let ours: Vec<_> =
        store.queues().into_iter().filter(|(topic, id)| store.max_offset(topic, *id) > 0).collect();
    names.retain(|(topic, id)| store.max_offset(topic, *id) > 0);
    assert_eq!(ours, names, "{case}");
}

fn opens_as_java_does(case: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    unpack(case, dir.path());
    let manifest = json(&format!("{case}.manifest.json.gz"));
    run(async {
        let store =
            open(dir.path(), config(&manifest)).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        same_as_java(&store, &manifest, case).await;
        store.stop().await.expect("stop");
        // After our own stop, and after a crash of ours, it still says the same, and takes more.
        for crashed in [false, true] {
            if crashed {
                std::fs::write(dir.path().join("store/abort"), "0").expect("write abort");
            }
            let store = open(dir.path(), config(&manifest)).await.expect("open again");
            same_as_java(&store, &manifest, case).await;
            store.stop().await.expect("stop");
        }
        let store = open(dir.path(), config(&manifest)).await.expect("open to write");
        let queues = store.queues();
        let (topic, queue) = queues.first().expect("a queue");
        let next = store.max_offset(topic, *queue);
        let appended = store.put(&message(topic, *queue, b"ours")).await.expect("put");
        assert_eq!(appended.queue_offset, next);
        store.dispatched().reached(appended.end).await.expect("dispatched");
        assert_eq!(store.max_offset(topic, *queue), appended.queue_offset + 1);
        store.stop().await.expect("stop");
    });
}

#[test]
fn a_clean_directory() {
    opens_as_java_does("a");
}

#[test]
fn a_clean_directory_of_ipv6_hosts() {
    opens_as_java_does("a6");
}

#[test]
fn a_directory_killed_in_its_first_life() {
    opens_as_java_does("b1");
}

#[test]
fn a_directory_killed_in_its_second_life() {
    opens_as_java_does("b2");
}

#[test]
fn a_directory_whose_first_files_have_expired() {
    opens_as_java_does("d");
}

#[test]
fn a_directory_before_its_first_files_expired() {
    opens_as_java_does("d-before");
}

#[test]
fn a_directory_with_queue_extension() {
    opens_as_java_does("aext");
}

#[test]
fn a_recovery_keeps_the_addresses_of_the_queue_extension() {
    let dir = tempfile::tempdir().expect("a folder");
    unpack("aext", dir.path());
    std::fs::write(dir.path().join("store/abort"), "0").expect("write abort");
    let queues = |folder| crate::store_check::contents(&dir.path().join("store").join(folder));
    let before = (queues("consumequeue"), queues("consumequeue_ext"));
    run(async {
        let config = config(&json("aext.manifest.json.gz"));
        open(dir.path(), config).await.expect("open").stop().await.expect("stop");
    });
    assert_eq!((queues("consumequeue"), queues("consumequeue_ext")), before);
}

#[test]
fn a_directory_of_version_5() {
    opens_as_java_does("e5");
}

#[test]
fn a_directory_of_version_5_with_record_checksums() {
    opens_as_java_does("e5crc");
}

pub fn damage(root: &Path, edits: &Value) {
    let path = |field: &str, edit: &Value| root.join("store").join(edit[field].as_str().expect("a path"));
    for edit in edits.as_array().expect("edits") {
        match edit["op"].as_str().expect("an operation") {
            "create" => {
                std::fs::write(path("file", edit), edit["text"].as_str().expect("text")).expect("create")
            }
            "delete" => {
                let path = path("path", edit);
                if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                    .expect("delete");
            }
            "truncate" => {
                let file = File::options().write(true).open(path("file", edit)).expect("open");
                file.set_len(int(&edit["length"]) as u64).expect("truncate");
            }
            op @ ("write" | "zero") => {
                let bytes = if op == "write" {
                    crate::golden::hex(edit["hex"].as_str().expect("hex"))
                } else {
                    vec![0; int(&edit["length"]) as usize]
                };
                let file = File::options().write(true).open(path("file", edit)).expect("open");
                file.write_all_at(&bytes, int(&edit["offset"]) as u64).expect("write");
            }
            other => panic!("unknown edit {other}"),
        }
    }
}

/// Where we differ from 4.9.7 on purpose, with our end of the log.
fn stricter(name: &str) -> Option<(&'static str, u64)> {
    let what = name.trim_start_matches("clean-").trim_start_matches("abort-");
    Some(match what {
        "last-physoffset-wrong" => ("a record must be where it says", 363_023),
        "stale-record-after-end" => ("a record of another place is not taken for one of this", 363_330),
        "extra-empty-file" => ("an empty last file is a crash while it was made (S-18)", 363_330),
        "last-tail-zeroed" if name.starts_with("abort-") => ("zeros at its end are a lost sector", 363_023),
        _ => return None,
    })
}

#[test]
fn damaged_directories_are_recovered_as_java_does_or_better() {
    let torn = json("torn.json.gz");
    let manifest = json("a.manifest.json.gz");
    let mut differences = Vec::new();
    for variant in torn["variants"].as_array().expect("variants") {
        let name = variant["name"].as_str().expect("a name");
        let java = &variant["java"];
        let dir = tempfile::tempdir().expect("a folder");
        unpack("a", dir.path());
        damage(dir.path(), &variant["edits"]);
        let expected = match stricter(name) {
            Some((_, max)) => Some(max as i64),
            None if java["loadResult"] == Value::Bool(true) => Some(int(&java["commitLogMaxOffset"])),
            None => None,
        };
        let found = run(async {
            let rt = TokioRuntime::new(dir.path());
            let report = check(&rt, "store", &config(&manifest)).await.expect("check");
            let store = match open(dir.path(), config(&manifest)).await {
                Ok(store) => store,
                Err(_) => return (None, report),
            };
            let max = store.commit_log_max() as i64;
            for (topic, queue) in store.queues() {
                let (min, max) = (store.min_offset(&topic, queue), store.max_offset(&topic, queue));
                assert_eq!(
                    entries(&store, &topic, queue).await.len() as i64,
                    max - min,
                    "{name}: {topic}/{queue}"
                );
            }
            store.stop().await.expect("stop");
            (Some(max), report)
        });
        if let Some(max) = found.0 {
            assert_eq!(found.1.commit_log.max as i64, max, "{name}: the check foresees the recovery");
        } else {
            assert_eq!(found.1.verdict, Verdict::Damaged, "{name}");
        }
        if found.0 != expected {
            differences.push(format!("{name}: expected {expected:?}, found {:?}", found.0));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

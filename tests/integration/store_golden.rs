//! Directories that Java brokers wrote, opened by our store and compared with what Java's own classes read from them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::GzDecoder;
use hotfire_core::message::{StoredMessage, properties};
use hotfire_core::store::{Boundary, FlushMode, GetStatus, StoreConfig};
use serde_json::Value;

use crate::store::{Store, message, open, run};

fn golden(name: &str) -> PathBuf {
    hotfire_tests::project_dir().join("tests/golden/store").join(name)
}

fn json(name: &str) -> Value {
    let mut text = Vec::new();
    let file = File::open(golden(name)).unwrap_or_else(|error| panic!("open {name}: {error}"));
    GzDecoder::new(file).read_to_end(&mut text).expect("gzip");
    serde_json::from_slice(&text).expect("JSON")
}

/// Unpacks a directory into `root/store`.
fn unpack(case: &str, root: &Path) {
    let file = File::open(golden(&format!("{case}.tar.gz"))).expect("open the directory");
    tar::Archive::new(GzDecoder::new(file)).unpack(root.join("store")).expect("unpack");
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn config(manifest: &Value) -> StoreConfig {
    let size = |key: &str| {
        let text = manifest["brokerConfig"][key].as_str().unwrap_or_else(|| panic!("no {key}"));
        text.parse().expect("a number")
    };
    StoreConfig {
        commit_log_file_bytes: size("mappedFileSizeCommitLog"),
        consume_queue_file_bytes: size("mappedFileSizeConsumeQueue"),
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

async fn same_as_java(store: &Store, manifest: &Value, case: &str) {
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
        let java_entries: Vec<[i64; 3]> = serde_json::from_value(queue["entries"].clone()).expect("entries");
        assert_eq!(entries(store, topic, id).await, java_entries, "{name}");
        if case.starts_with("e5") {
            // 4.9.7 answers the nearest message, 5.x as the boundary says.
            let times: Vec<[i64; 2]> = serde_json::from_value(queue["offsetByTime"].clone()).expect("times");
            for [time, offset] in times {
                let ours = store.offset_by_time(topic, id, time, Boundary::Lower).await;
                assert_eq!(ours, offset, "{name} at {time}");
            }
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
fn a_directory_of_version_5() {
    opens_as_java_does("e5");
}

#[test]
fn a_directory_of_version_5_with_record_checksums() {
    opens_as_java_does("e5crc");
}

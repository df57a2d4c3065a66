//! `store dump` on directories that Java brokers wrote: each record and entry that Java's own classes read, and nothing else.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hotfire_core::store::StoreConfig;
use hotfire_core::store::dump::{Filter, Part, dump};
use hotfire_runtime::TokioRuntime;
use serde_json::Value;

use crate::store::run;
use crate::store_check::contents;
use crate::store_golden::{CASES, damage, int, json, unpack};

/// The lines of one part of `root/store` as JSON; what is told of damage apart.
fn lines(root: &Path, part: Part, filter: &Filter) -> (Vec<Value>, Vec<Value>) {
    let (mut shown, mut damaged) = (Vec::new(), Vec::new());
    let each = |line: hotfire_core::store::dump::Line<'_>| {
        let line = serde_json::to_value(&line).expect("JSON");
        if line["kind"] == "damaged" {
            damaged.push(line)
        } else {
            shown.push(line)
        }
        ControlFlow::Continue(())
    };
    let rt = TokioRuntime::new(root);
    run(dump(&rt, "store", &StoreConfig::new("store"), &[part], filter, each)).expect("dump");
    (shown, damaged)
}

fn all(root: &Path, part: Part) -> Vec<Value> {
    let (shown, damaged) = lines(root, part, &Filter::default());
    assert_eq!(damaged, [] as [Value; 0]);
    shown
}

fn is_shown_as_java_has_it(case: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    unpack(case, dir.path());
    let before = contents(dir.path());
    let manifest = json(&format!("{case}.manifest.json.gz"));
    let java = &manifest["java"];

    let records = all(dir.path(), Part::Records);
    let java_records = java["records"].as_array().expect("records");
    assert_eq!(records.len(), java_records.len(), "{case}");
    for (ours, java) in records.iter().zip(java_records) {
        let pairs = [
            ("at", "commitLogOffset"),
            ("size", "size"),
            ("topic", "topic"),
            ("queue", "queueId"),
            ("offset", "queueOffset"),
            ("stored_ms", "storeTimestamp"),
            ("offset_msg_id", "offsetMsgId"),
            ("body_bytes", "bodyLength"),
            ("properties", "properties"),
        ];
        for (our_name, java_name) in pairs {
            assert_eq!(ours[our_name], java[java_name], "{case}: {ours}");
        }
    }

    let min = int(&java["commitLogMinOffset"]);
    // A queue's first file may begin with entries of records that have expired.
    let kept = |entry: &Value| int(&entry["at"]) >= min;
    let mut entries = all(dir.path(), Part::Queues).into_iter().filter(kept);
    let mut queues: Vec<&Value> = java["queues"].as_array().expect("queues").iter().collect();
    queues.sort_by_key(|queue| (queue["topic"].as_str(), int(&queue["queueId"])));
    for queue in queues {
        for (index, java) in queue["entries"].as_array().expect("entries").iter().enumerate() {
            let ours = entries.next().expect("an entry");
            assert_eq!((&ours["topic"], &ours["queue"]), (&queue["topic"], &queue["queueId"]), "{case}");
            assert_eq!(int(&ours["offset"]), int(&queue["minOffset"]) + index as i64, "{case}");
            assert_eq!([&ours["at"], &ours["size"], &ours["tags_code"]], [&java[0], &java[1], &java[2]]);
        }
    }
    assert_eq!(entries.next(), None, "{case}");

    let index = all(dir.path(), Part::Index);
    let java_index = java["indexFiles"].as_array().expect("index files");
    let java_entries: i64 = java_index.iter().map(|file| int(&file["indexCount"]) - 1).sum();
    // After a crash Java makes its last file anew, with the entries of a record a second time.
    assert!((0..=2).contains(&(java_entries - index.len() as i64)), "{case}: {}", index.len());
    let of_records: Vec<&Value> = java_records.iter().map(|record| &record["commitLogOffset"]).collect();
    // Files may begin with records that have expired.
    let min = int(&java["commitLogMinOffset"]);
    assert!(
        index.iter().all(|entry| int(&entry["at"]) < min || of_records.contains(&&entry["at"])),
        "{case}"
    );

    let checkpoint = all(dir.path(), Part::Checkpoint);
    assert_eq!(checkpoint.len(), 1, "{case}");
    assert_eq!(checkpoint[0]["physic_ms"], java["checkpointBeforeLoad"][0], "{case}");
    let config = all(dir.path(), Part::Config);
    assert!(config.iter().any(|file| file["file"] == "topics.json" && file["value"].is_object()), "{case}");
    assert_eq!(contents(dir.path()), before, "{case}: nothing is changed");
}

#[test]
fn every_golden_directory_is_shown_as_java_has_it() {
    for case in CASES {
        is_shown_as_java_has_it(case);
    }
}

#[test]
fn damage_hides_no_other_record_and_a_filter_chooses() {
    let dir = tempfile::tempdir().expect("a folder");
    unpack("d-before", dir.path());
    let records = all(dir.path(), Part::Records);
    let at = |index: usize| int(&records[index]["at"]) as u64;
    // One record in the middle, and a whole file behind it.
    let file = File::options().write(true).open(dir.path().join("store/commitlog/00000000000000000000"));
    file.expect("open").write_all_at(&[0xFF; 4], at(3) + 90).expect("write");
    std::fs::remove_file(dir.path().join("store/commitlog/00000000000000065536")).expect("remove");
    let (shown, damaged) = lines(dir.path(), Part::Records, &Filter::default());
    let rest = |record: &&Value| {
        !(65_536..131_072).contains(&int(&record["at"])) && int(&record["at"]) as u64 != at(3)
    };
    assert_eq!(shown.iter().collect::<Vec<_>>(), records.iter().filter(rest).collect::<Vec<_>>());
    let places: Vec<u64> = damaged.iter().map(|line| int(&line["at"]) as u64).collect();
    assert_eq!(places, [at(3), 131_072]);

    // From the middle of a record on, those of its topic.
    let topic = records[9]["topic"].as_str().expect("a topic").to_owned();
    let filter = Filter { topic: Some(topic.clone()), from: at(8) + 1, count: Some(2) };
    let (shown, damaged) = lines(dir.path(), Part::Records, &filter);
    let wanted = records.iter().skip(9).filter(|record| record["topic"] == topic.as_str()).take(2);
    assert_eq!((shown.iter().collect::<Vec<_>>(), damaged.len()), (wanted.collect(), 0));
    let filter = Filter { topic: Some(topic.clone()), from: 1, count: Some(1) };
    let (shown, _) = lines(dir.path(), Part::Queues, &filter);
    assert_eq!((&shown[0]["topic"], &shown[0]["offset"]), (&topic.into(), &1.into()));
}

#[test]
fn every_torn_directory_is_shown_as_far_as_it_goes() {
    for variant in json("torn.json.gz")["variants"].as_array().expect("variants") {
        let dir = tempfile::tempdir().expect("a folder");
        unpack("a", dir.path());
        damage(dir.path(), &variant["edits"]);
        let records = lines(dir.path(), Part::Records, &Filter::default()).0.len() as i64;
        for part in [Part::Queues, Part::Index, Part::Checkpoint, Part::Config] {
            lines(dir.path(), part, &Filter::default());
        }
        // Java stops at the first that is damaged, but takes some that are.
        let java = variant["java"]["recordsReadableFromMin"].as_i64().expect("a number");
        assert!(records + 1 >= java, "{}: {records}, Java {java}", variant["name"]);
    }
}

//! What was received against what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The JSON objects of a file, one a line.
pub fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    // The last line may be cut off when its writer was ended.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// # Errors
/// When the field is no number.
pub fn number(line: &Value, field: &str) -> Result<i64> {
    line.get(field).and_then(Value::as_i64).with_context(|| format!("{field} in {line}"))
}

/// What message `index` looks like on both sides; the same rule as in the clients' programs.
pub fn expected(index: i64) -> Vec<(&'static str, Value)> {
    let tag = ["TagA", "TagB", "TagC", "TagD", "TagE"][usize::try_from(index % 5).expect("0 to 4")];
    vec![
        ("body", format!("message {index} \u{6d88}\u{606f} \u{e9}\u{e8} \u{1f680}").into()),
        ("tags", tag.into()),
        ("keys", format!("key-{index} \u{952e}-{index}").into()),
        ("user", index.to_string().into()),
        ("userText", format!("\u{503c}={index}; \"quoted\" \\ \ttab").into()),
        ("reconsumeTimes", 0.into()),
    ]
}

/// Of `count` messages each look-up, three a message, has found the one that was sent, with every field.
pub fn found_by_key(sent: &Path, found: &Path, count: usize) -> Result<()> {
    let mut by_id = BTreeMap::new();
    for ack in lines(sent)? {
        by_id.insert(ack["msgId"].as_str().context("an id")?.to_owned(), ack);
    }
    let answers = lines(found)?;
    ensure!(answers.len() == 3 * count, "{} of {} look-ups were answered", answers.len(), 3 * count);
    for three in answers.chunks(3) {
        for answer in three {
            let id = answer["msgId"].as_str().context("an id")?;
            ensure!(answer["msgId"] == three[0]["msgId"], "{answer} is not {}", three[0]);
            let ack = by_id.get(id).with_context(|| format!("{answer} was never sent"))?;
            let index = number(ack, "index")?;
            for (field, value) in expected(index) {
                ensure!(
                    answer[field] == value,
                    "message {index}: {field}: sent {value}, found {}",
                    answer[field]
                );
            }
            ensure!(
                answer["queueOffset"] == ack["queueOffset"],
                "message {index}: {}",
                answer["queueOffset"]
            );
        }
    }
    Ok(())
}

/// Each of the `count` messages was received once, with every field as sent and the ids, queue and offset as acknowledged.
pub fn every_field(sent: &Path, received: &Path, count: usize) -> Result<()> {
    let mut by_index = BTreeMap::new();
    for line in lines(received)? {
        let index: i64 = line["user"].as_str().context("the index property")?.parse()?;
        ensure!(by_index.insert(index, line).is_none(), "message {index} was received twice");
    }
    let acknowledged = lines(sent)?;
    ensure!(acknowledged.len() == count, "{} of {count} sends were answered", acknowledged.len());
    ensure!(by_index.len() == count, "{} of {count} messages were received", by_index.len());
    let mut places = BTreeSet::new();
    for ack in &acknowledged {
        let index = number(ack, "index")?;
        ensure!(ack["acked"] == true, "message {index} was answered {}", ack["status"]);
        let got = by_index.get(&index).with_context(|| format!("message {index} was not received"))?;
        for (field, value) in expected(index) {
            ensure!(got[field] == value, "message {index}: {field}: sent {value}, received {}", got[field]);
        }
        if !got["flag"].is_null() {
            ensure!(got["flag"] == index, "message {index}: flag {}", got["flag"]);
        }
        ensure!(
            got["queueOffset"] == ack["queueOffset"],
            "message {index}: queue offset {}",
            got["queueOffset"]
        );
        if !ack["queueId"].is_null() {
            ensure!(got["queueId"] == ack["queueId"], "message {index}: queue {}", got["queueId"]);
            // The Java client shows the unique key on both sides.
            ensure!(
                got["msgId"] == ack["msgId"],
                "message {index}: id {} sent as {}",
                got["msgId"],
                ack["msgId"]
            );
        }
        let (born, stored) = (number(got, "bornTimestamp")?, number(got, "storeTimestamp")?);
        ensure!(born > 0 && stored >= born - 1000, "message {index}: born {born}, stored {stored}");
        ensure!(
            places.insert((number(got, "queueId")?, number(got, "queueOffset")?)),
            "two messages at one place"
        );
    }
    // Queue offsets are dense from 0 in every queue.
    let mut next = BTreeMap::new();
    for (queue, offset) in places {
        let expected = next.entry(queue).or_insert(0);
        ensure!(offset == *expected, "queue {queue}: offset {offset} where {expected} was due");
        *expected += 1;
    }
    Ok(())
}

/// Indexes that were answered SEND_OK.
pub fn acknowledged(sent: &Path) -> Result<BTreeSet<i64>> {
    lines(sent)?.iter().filter(|line| line["acked"] == true).map(|line| number(line, "index")).collect()
}

/// Everything acknowledged was received, whole.
pub fn nothing_missing(acknowledged: &BTreeSet<i64>, received: &Path) -> Result<()> {
    let mut missing = acknowledged.clone();
    for line in lines(received)? {
        let index: i64 = line["user"].as_str().context("the index property")?.parse()?;
        for (field, value) in expected(index) {
            ensure!(line[field] == value, "message {index}: {field}: sent {value}, received {}", line[field]);
        }
        missing.remove(&index);
    }
    let first = missing.first();
    ensure!(
        missing.is_empty(),
        "{} of {} acknowledged messages are lost, the first is {first:?}",
        missing.len(),
        acknowledged.len()
    );
    Ok(())
}

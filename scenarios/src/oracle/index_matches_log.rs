//! Each record is found by its keys, once, and the index leads to nothing else; what the checkpoint claims of it is durable.
//!
//! # Source
//! README, "a look-up by key" and "index entries"; `spec/store.md`, section 5.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Verdict};
use crate::platter::checkpoint::IndexClaim;
use crate::platter::index::{Filed, hashes};
use crate::platter::record::Record;
use crate::platter::{BrokerDisk, Image, index};

/// Judges a broker that was stopped in order.
///
/// # Errors
/// The first entry that leads to no record of its key, that stands twice or that no slot leads to; the first record whose
/// key has no entry.
pub fn judge(broker: &str, disk: &BrokerDisk) -> Verdict {
    let broken = |detail: String| Err(Broken::new("INDEX", format!("{broker}: {detail}")));
    let mut filed = BTreeSet::new();
    for file in &disk.index {
        if file.damaged {
            return broken(format!("index file {} is not what its header says", file.name));
        }
        for (before, (at, hash)) in file.entries.iter().enumerate() {
            let what = || format!("entry {} of index file {} (at {at})", before + 1, file.name);
            if !file.reached.contains(&(before + 1)) {
                return broken(format!("no slot leads to {}", what()));
            }
            if *at < disk.log.min {
                continue;
            }
            let Some(record) = disk.log.at(*at) else {
                return broken(format!("{} leads to no record; the log ends at {}", what(), disk.log.end));
            };
            if !hashes(record).contains(hash) {
                return broken(format!("{} leads to a record without that key", what()));
            }
            if !filed.insert((*at, *hash)) {
                return broken(format!("{} is the record's second one of that key", what()));
            }
        }
    }
    for record in &disk.log.records {
        for hash in hashes(record) {
            if !filed.contains(&(record.at, hash)) {
                return broken(format!(
                    "the record at {} of {} is not filed under {hash}",
                    record.at, record.topic
                ));
            }
        }
    }
    Ok(())
}

/// Judges the claim that a broker has just made durable: the entries of all records of its log below the position are on
/// the surface of its disk, and their files' names. `records` are those of its log as its kernel shows it.
///
/// # Errors
/// The first record without entry.
pub fn claim(
    broker: &str,
    claim: &IndexClaim,
    durable: &Image,
    folder: &str,
    form: (u32, u32),
    records: &[Record],
) -> Verdict {
    let mut filed: BTreeSet<Filed> = BTreeSet::new();
    for (name, bytes) in durable.folder(folder) {
        let Ok(name) = name.parse::<u64>() else { continue };
        let count = match name.cmp(&claim.file) {
            std::cmp::Ordering::Less => form.1 - 1,
            std::cmp::Ordering::Equal => claim.next.saturating_sub(1),
            std::cmp::Ordering::Greater => 0,
        };
        filed.extend(index::entries(bytes, form.0, count));
    }
    for record in records.iter().filter(|record| record.at < claim.position) {
        if let Some(hash) = hashes(record).into_iter().find(|hash| !filed.contains(&(record.at, *hash))) {
            return Err(Broken::new(
                "INDEX",
                format!(
                    "{broker}: the checkpoint says that the index is durable up to {}, and the record at {} is not \
                     filed under {hash}",
                    claim.position, record.at
                ),
            ));
        }
    }
    Ok(())
}

/// Records of one answer, at most: what is asked for, and what a broker gives for a unique key.
pub const ANSWER_MAX: usize = 32;

/// A broker notes there whom it has sent to another offset; the key is the group.
const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";

/// What a broker has answered for a key: where the records are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub broker: String,
    pub topic: String,
    pub key: String,
    pub unique: bool,
    /// Store times of what is asked for, from and to, in ms.
    pub times: (i64, i64),
    /// How many are asked for at most, from 1 to [`ANSWER_MAX`]; of a unique key a broker gives as many as it likes.
    pub max: usize,
    /// Where the log ended at the latest when it was asked: consumers may still hand back what comes behind.
    pub end: u64,
    pub found: Vec<u64>,
}

/// Judges an answer by the broker's own log, to which nothing was added meanwhile.
///
/// # Errors
/// When a record is missing, stands twice or has not the key.
pub fn answer(answer: &Answer, disk: &BrokerDisk) -> Verdict {
    let Answer { broker, topic, key, unique, times, max, end, found } = answer;
    let has = |record: &&Record| {
        let by_unique = crate::platter::properties::find(&record.properties, "UNIQ_KEY") == Some(key);
        let in_time = (times.0..=times.1).contains(&record.store_ms);
        in_time && record.topic == *topic && (by_unique || !unique && index::keys(record).contains(key))
    };
    let has_it: Vec<u64> = disk.log.records.iter().filter(has).map(|record| record.at).collect();
    let max = if *unique { ANSWER_MAX } else { *max };
    // A message that was handed back often has more records than an answer holds: it has the newest. Of those that came while
    // it was asked it may have the first ones, and then fewer of the others.
    let behind = has_it.partition_point(|at| at < end);
    // What has been deleted since is not looked for.
    let found: Vec<u64> = found.iter().copied().filter(|at| *at >= disk.log.min).collect();
    let is_right = |seen: usize| {
        let expected = has_it.get(..seen).unwrap_or_default();
        found == expected[seen.saturating_sub(max)..]
    };
    if (behind..=has_it.len()).any(is_right) {
        return Ok(());
    }
    let expected = &has_it[behind.saturating_sub(max)..];
    let kind = if *unique { "unique key" } else { "key" };
    let detail =
        format!("{broker}: {topic} {kind} {key} of {times:?} finds {found:?}, the log has {expected:?}");
    Err(Broken::new("INDEX", detail))
}

/// Some of a broker's records, to ask for: each `nth`, by its topic and keys; whether a key is its unique one, and when it was
/// stored.
#[must_use]
pub fn questions(disk: &BrokerDisk, count: usize) -> BTreeMap<(String, String), (bool, i64)> {
    // A message of a transaction may have more copies than an answer holds; and so may a group whose consumers were sent
    // elsewhere, which may add to them while it is asked.
    let is_asked = |record: &&Record| !record.is_of_transaction() && record.topic != OFFSET_MOVED_TOPIC;
    let asked: Vec<&Record> = disk.log.records.iter().filter(is_asked).collect();
    let step = asked.len().div_ceil(count.max(1)).max(1);
    let mut questions = BTreeMap::new();
    for record in asked.into_iter().rev().step_by(step) {
        let unique = crate::platter::properties::find(&record.properties, "UNIQ_KEY");
        for key in index::keys(record) {
            let is_unique = unique == Some(&key);
            questions.insert((record.topic.clone(), key), (is_unique, record.store_ms));
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk as unfiled;
    use crate::platter::index::tests::{FOLDER, FORM, encode};

    const NAME: u64 = 20_261_129_000_000_000;

    /// Three records with one key each, filed.
    fn disk() -> (BrokerDisk, Vec<Filed>) {
        let disk = unfiled(&[(1_000_000, 0), (1_000_001, 1), (1_000_002, 2)]);
        let file =
            |record: &Record| hashes(record).into_iter().map(|hash| (record.at, hash)).collect::<Vec<_>>();
        let filed: Vec<Filed> = disk.log.records.iter().flat_map(file).collect();
        assert_eq!(filed.len(), 3, "the records have keys");
        (disk, filed)
    }

    fn image(filed: &[Filed]) -> Image {
        Image { files: [(format!("{FOLDER}/{NAME}"), encode(filed))].into() }
    }

    fn judged(filed: &[Filed], change: impl FnOnce(&mut BrokerDisk)) -> Option<String> {
        let (mut disk, _) = disk();
        disk.index = index::scan(&image(filed), FOLDER, FORM);
        change(&mut disk);
        judge("broker-a", &disk).err().map(|broken| broken.detail)
    }

    #[test]
    fn an_index_that_fits_its_log_is_accepted_and_any_other_rejected() {
        let (_, filed) = disk();
        assert_eq!(judged(&filed, |_| {}), None);
        let says = |found: Option<String>, word: &str| {
            assert!(found.as_ref().is_some_and(|detail| detail.contains(word)), "{found:?}");
        };
        says(judged(&filed[..2], |_| {}), "is not filed");
        says(judged(&[filed[0], filed[1], filed[1], filed[2]], |_| {}), "second one");
        says(judged(&filed, |disk| _ = disk.log.records.pop()), "leads to no record");
        says(judged(&[filed[0], filed[1], (filed[2].0, filed[2].1 + 1)], |_| {}), "without that key");
        says(judged(&filed, |disk| _ = disk.index[0].reached.pop_last()), "no slot");
        says(judged(&filed, |disk| disk.index[0].damaged = true), "header");
    }

    #[test]
    fn a_claim_of_entries_that_are_not_durable_is_rejected() {
        let (disk, filed) = disk();
        let records = &disk.log.records;
        let says = |position, next, filed: &[Filed]| {
            let made = IndexClaim { position, file: NAME, next };
            claim("broker-a", &made, &image(filed), FOLDER, FORM, records)
        };
        let end = disk.log.end;
        assert_eq!(says(end, 4, &filed), Ok(()));
        assert!(says(end, 3, &filed).is_err(), "the last entry is not claimed");
        assert_eq!(says(records[2].at, 3, &filed[..2]), Ok(()));
        assert!(says(end, 4, &filed[..2]).is_err(), "the last entry is zeros on the disk");
        let none = IndexClaim { position: end, file: NAME, next: 4 };
        assert!(claim("broker-a", &none, &Image::default(), FOLDER, FORM, records).is_err());
    }

    #[test]
    fn an_answer_that_is_not_what_the_log_has_is_rejected() {
        let (disk, _) = disk();
        let record = &disk.log.records[1];
        let key = index::keys(record).pop_first().expect("a key");
        let asked = Answer {
            broker: "broker-a".to_owned(),
            topic: record.topic.clone(),
            key,
            unique: false,
            times: (0, i64::MAX),
            max: ANSWER_MAX,
            end: disk.log.end,
            found: vec![record.at],
        };
        assert_eq!(answer(&asked, &disk), Ok(()));
        let at = record.store_ms;
        for times in [(at, at), (0, at), (at, i64::MAX)] {
            assert_eq!(answer(&Answer { times, ..asked.clone() }, &disk), Ok(()));
        }
        for times in [(at + 1, i64::MAX), (0, at - 1)] {
            assert!(answer(&Answer { times, ..asked.clone() }, &disk).is_err(), "it was stored at {at}");
            assert_eq!(answer(&Answer { times, found: Vec::new(), ..asked.clone() }, &disk), Ok(()));
        }
        for found in [vec![], vec![record.at; 2], vec![disk.log.records[0].at]] {
            assert!(answer(&Answer { found, ..asked.clone() }, &disk).is_err());
        }
        let mut twice = disk.clone();
        twice.log.records[2].properties = twice.log.records[1].properties.clone();
        let newest = Answer { max: 1, found: vec![twice.log.records[2].at], ..asked.clone() };
        assert_eq!(answer(&newest, &twice), Ok(()));
        let both = vec![twice.log.records[1].at, twice.log.records[2].at];
        assert!(answer(&Answer { found: both, ..newest.clone() }, &twice).is_err(), "one was asked for");
        // The second one came when it was asked, or after it.
        let meanwhile = Answer { end: newest.found[0], ..newest };
        for found in [vec![twice.log.records[1].at], vec![twice.log.records[2].at]] {
            assert_eq!(answer(&Answer { found, ..meanwhile.clone() }, &twice), Ok(()));
        }
        assert!(answer(&Answer { found: vec![], ..meanwhile }, &twice).is_err(), "the first one was there");
        assert_eq!(questions(&disk, 2).len(), 2);
    }
}

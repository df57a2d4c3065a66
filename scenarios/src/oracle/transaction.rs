//! I14 TX: a half message is committed, rolled back, or asked about until the limit and then discarded where operators look;
//! it is never dropped in silence. What nobody has committed is never visible.
//!
//! Judged on a broker's raw disk, by what producers have said:
//! - a message of a transaction in its real topic is a final one, made of its half message, and somebody has committed it;
//! - before each op record stands the final message of the half message that it names, or it was rolled back (T-07);
//! - what the broker's file says it has passed is settled by an op record, was put again, or was discarded (T-01, T-03, T-06);
//! - what is discarded was asked about as often as the setting says and no more, and producers have heard it (T-03);
//! - nobody is asked before the half message is as old as the settings, or its own immunity, say;
//! - a half message that fills its record has no room for a copy: it is discarded at once, or left out, and none waits for it (T-05);
//! - on the healed cluster nothing is discarded unasked, and what producers wait to be asked about is settled by their answers;
//! - on the healed cluster every half message and every op record is passed in time (I19; T-02, T-05).
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/broker-semantics.md`, section 13.

use std::collections::{BTreeMap, BTreeSet};

use super::no_phantom::is_ours;
use super::{Broken, Final, Verdict};
use crate::history::{Decision, History};
use crate::platter::config::{Version, consumer_offsets};
use crate::platter::properties::find;
use crate::platter::record::Record;
use crate::platter::{BrokerDisk, Image, config};
use crate::workload::{Identity, Kind, MessageId, identify};

pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
const DISCARD_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// In whose name the broker commits how far it has come.
pub const GROUP: &str = "CID_RMQ_SYS_TRANS";
const TRANSACTION_MASK: i32 = 0xC;
const TRANSACTION_COMMIT: i32 = 0x8;
/// A record holds no more bytes of properties, and a file these behind its last record.
const PROPERTIES_BYTES_MAX: usize = i16::MAX as usize;
const BLANK_BYTES: u64 = 8;
/// What a copy of a half message says more at most: that it does not wait, how often it was asked about, and of which half
/// message it is.
const COPY_ADDS_BYTES: usize = 12 + 27 + 46;

/// The records of one log that belong to transactions.
#[derive(Default)]
struct Parts<'a> {
    /// By queue offset.
    halves: BTreeMap<i64, (&'a Record, MessageId)>,
    finals: Vec<(&'a Record, MessageId)>,
    /// By queue offset, with the half messages that it names.
    ops: BTreeMap<i64, (&'a Record, Vec<i64>)>,
    discarded: Vec<(&'a Record, MessageId)>,
}

fn parts<'a>(history: &History, disk: &'a BrokerDisk) -> Parts<'a> {
    let mut parts = Parts::default();
    for record in &disk.log.records {
        if record.topic == OP_TOPIC {
            let text = String::from_utf8_lossy(&record.body);
            let named = text.split(',').filter_map(|word| word.parse().ok()).collect();
            parts.ops.insert(record.queue_offset, (record, named));
            continue;
        }
        let Identity::Whole(id) = identify(&record.body) else { continue };
        match record.topic.as_str() {
            HALF_TOPIC => drop(parts.halves.insert(record.queue_offset, (record, id))),
            DISCARD_TOPIC => parts.discarded.push((record, id)),
            topic if is_ours(topic) && is_transaction(history, id) => parts.finals.push((record, id)),
            _ => {}
        }
    }
    parts
}

fn is_transaction(history: &History, id: MessageId) -> bool {
    history.sends.get(&id).is_some_and(|sent| sent.kind == Kind::Transaction)
}

fn broken(detail: String) -> Broken {
    Broken::new("I14", detail)
}

/// A consumer was given a message.
///
/// # Errors
/// When it is of a transaction that nobody has committed.
pub fn delivered(history: &History, id: MessageId, from: &str) -> Verdict {
    if is_transaction(history, id) && history.transaction(id).commits_said == 0 {
        return Err(broken(format!("{from}: message {} is visible, and nobody has committed it", id.0)));
    }
    Ok(())
}

/// When a broker may ask about a half message, and how often.
#[derive(Clone, Copy)]
pub struct Terms {
    pub timeout_ms: u64,
    pub check_max: u32,
    /// Of a file of the log.
    pub file_bytes: u64,
}

/// Whether a copy of it may be more than a record can be.
fn is_full(record: &Record, file_bytes: u64) -> bool {
    record.properties.len() + COPY_ADDS_BYTES > PROPERTIES_BYTES_MAX
        || u64::from(record.bytes) + BLANK_BYTES + COPY_ADDS_BYTES as u64 > file_bytes
}

/// Judges the log and what the broker's file says of its progress, at any moment. What is asked about `check_max` times may be
/// discarded.
///
/// # Errors
/// The first broken rule.
pub fn judge(
    history: &History,
    broker: &str,
    disk: &BrokerDisk,
    (image, folder): (&Image, &str),
    terms: Terms,
) -> Verdict {
    let parts = parts(history, disk);
    finals(history, broker, &parts)?;
    ops(history, broker, disk, &parts)?;
    discarded(broker, &parts, terms)?;
    questions(history, broker, &parts, terms)?;
    let (half, op) = progress(image, folder);
    passed(broker, &parts, half, terms.file_bytes)?;
    let early = parts.ops.range(..op).find_map(|(offset, (_, named))| {
        let open = named.iter().find(|named| **named >= half)?;
        Some((*offset, *open))
    });
    match early {
        None => Ok(()),
        Some((op, open)) => Err(broken(format!(
            "{broker}: op record {op} is done with, and the half message {open} that it settles is not passed"
        ))),
    }
}

/// How far the file says the half topic and the op topic are passed.
fn progress(image: &Image, folder: &str) -> (i64, i64) {
    let Version::Whole(value) = config::load(image, &format!("{folder}/consumerOffset.json")) else {
        return (0, 0);
    };
    let offsets = consumer_offsets(&value);
    let of = |topic: &str| offsets.get(&(format!("{topic}@{GROUP}"), 0)).copied().unwrap_or(0);
    (of(HALF_TOPIC), of(OP_TOPIC))
}

fn finals(history: &History, broker: &str, parts: &Parts<'_>) -> Verdict {
    let halves: BTreeMap<u64, (&Record, MessageId)> =
        parts.halves.values().map(|(record, id)| (record.at, (*record, *id))).collect();
    for (record, id) in &parts.finals {
        let what =
            format!("{broker}: message {} of a transaction, at {} in {}", id.0, record.at, record.topic);
        if record.system_flag & TRANSACTION_MASK != TRANSACTION_COMMIT {
            return Err(broken(format!("{what}, is visible without a commit")));
        }
        if history.transaction(*id).commits_said == 0 {
            return Err(broken(format!("{what}: nobody has committed it")));
        }
        let half = u64::try_from(record.prepared).ok().and_then(|at| halves.get(&at));
        let Some((half, _)) = half.filter(|(half, of)| of == id && half.at < record.at) else {
            return Err(broken(format!("{what}, has no half message at {}", record.prepared)));
        };
        let queue = record.queue.to_string();
        if find(&half.properties, "REAL_TOPIC") != Some(&record.topic)
            || find(&half.properties, "REAL_QID") != Some(&queue)
        {
            return Err(broken(format!("{what} queue {queue}, is not where its half message was to go")));
        }
    }
    Ok(())
}

fn ops(history: &History, broker: &str, disk: &BrokerDisk, parts: &Parts<'_>) -> Verdict {
    let finals: BTreeSet<(i64, u64)> =
        parts.finals.iter().map(|(record, _)| (record.prepared, record.at)).collect();
    for (op, named) in parts.ops.values() {
        for half in named {
            let what = format!("{broker}: the op record at {} settles half message {half}", op.at);
            let Some((record, id)) = parts.halves.get(half).filter(|(record, _)| record.at < op.at) else {
                let gone =
                    disk.queues.get(&(HALF_TOPIC.to_owned(), 0)).is_some_and(|queue| *half < queue.min);
                if gone {
                    continue;
                }
                return Err(broken(format!("{what}, which is not there")));
            };
            let half_at = record.at as i64;
            let is_final = finals.range((half_at, 0)..(half_at, op.at)).next().is_some();
            if !is_final && history.transaction(*id).rollbacks_said == 0 {
                return Err(broken(format!(
                    "{what} of message {}: there is no final message before it, and nobody has rolled it back",
                    id.0
                )));
            }
        }
    }
    Ok(())
}

fn discarded(broker: &str, parts: &Parts<'_>, terms: Terms) -> Verdict {
    for (record, id) in &parts.discarded {
        let times = check_times(record);
        if times > terms.check_max || times < terms.check_max && !is_full(record, terms.file_bytes) {
            return Err(broken(format!(
                "{broker}: message {} is discarded, having been asked about {times} times of {}",
                id.0, terms.check_max
            )));
        }
    }
    Ok(())
}

/// The copies that the log has of half messages that were asked about: each says how often, and was put when it was time to ask.
/// A broker counts from the producer's clock; where clocks have jumped, the ages that they give say nothing.
fn questions(history: &History, broker: &str, parts: &Parts<'_>, terms: Terms) -> Verdict {
    for (record, id) in parts.halves.values() {
        let times = check_times(record);
        if times == 0 {
            continue;
        }
        if times > terms.check_max {
            return Err(broken(format!(
                "{broker}: producers are asked about message {} for the {times}th time, of {}",
                id.0, terms.check_max
            )));
        }
        let own = find(&record.properties, "CHECK_IMMUNITY_TIME_IN_SECONDS");
        let own_ms = own.and_then(|seconds| seconds.parse::<i64>().ok()).map(|seconds| seconds * 1_000);
        let immune_ms = own_ms.unwrap_or(i64::try_from(terms.timeout_ms).unwrap_or(i64::MAX));
        let age_ms = record.store_ms - record.born_ms;
        if age_ms <= immune_ms && history.clock_jumps.is_empty() {
            return Err(broken(format!(
                "{broker}: producers are asked about message {} when it is {age_ms} ms old, and it has {immune_ms} ms",
                id.0
            )));
        }
    }
    Ok(())
}

/// Holds what a broker has given up against how often producers were asked: the record says so often. Each end of a process
/// of a producer or broker (`ends_ms`) in its time may cost two questions, one that was on its way and one that was due;
/// where the network, a disk or a process at a standstill has muffled questions, nothing can be said.
///
/// # Errors
/// The first half message about which producers were asked too seldom (T-03).
pub fn asked(history: &History, broker: &str, disk: &BrokerDisk, ends_ms: &[u64]) -> Verdict {
    for (record, id) in parts(history, disk).discarded {
        let Some(sent) = history.sends.get(&id) else { continue };
        let discarded_ms = history.discards.get(&(broker.to_owned(), record.at)).copied().unwrap_or(u64::MAX);
        if history.muffled_ms.is_some_and(|at_ms| at_ms <= discarded_ms) {
            continue;
        }
        let life = sent.started_ms..=discarded_ms;
        let lost = 2 * ends_ms.iter().filter(|at_ms| life.contains(at_ms)).count();
        let times = check_times(record);
        let asked = history.transaction(id).asked;
        if asked as usize + lost < times as usize {
            return Err(broken(format!(
                "{broker}: message {} is discarded after {times} questions, and producers were asked {asked} times;                  ends of processes may have cost {lost}",
                id.0
            )));
        }
    }
    Ok(())
}

/// What a broker has still to settle of the transactions begun since `healthy_from_ms`, on a cluster where nothing fails.
///
/// # Errors
/// The first that it has given up, and its producer has never said anything.
pub fn unproven(
    history: &History,
    (broker, disk): (&str, &BrokerDisk),
    healthy_from_ms: u64,
    file_bytes: u64,
) -> Result<Option<String>, Broken> {
    let mut parts = parts(history, disk);
    // Nobody can be asked about those.
    parts.halves.retain(|_, (record, _)| !is_full(record, file_bytes));
    parts.discarded.retain(|(record, _)| !is_full(record, file_bytes));
    let is_young =
        |id: &MessageId| history.sends.get(id).is_some_and(|sent| sent.started_ms >= healthy_from_ms);
    // With a pool the op record of an answer may be seen after the last question.
    let is_answered = |id: MessageId| {
        let known = history.transaction(id);
        known.commits_said + known.rollbacks_said > 0
    };
    if let Some((record, id)) = parts.discarded.iter().find(|(_, id)| is_young(id) && !is_answered(*id)) {
        return Err(broken(format!(
            "{broker}: message {}, of a healthy cluster, is discarded after {} questions, of which producers heard {}",
            id.0,
            check_times(record),
            history.transaction(*id).asked
        )));
    }
    let finals: BTreeSet<MessageId> = parts.finals.iter().map(|(_, id)| *id).collect();
    let mut young = parts.halves.values().map(|(_, id)| *id).filter(is_young);
    let open = young.find(|id| {
        let known = history.transaction(*id);
        match known.decided {
            Some(Decision::Commit) => !finals.contains(id),
            Some(Decision::Rollback) => known.rollbacks_said == 0,
            None => true,
        }
    });
    Ok(open.map(|id| {
        let known = history.transaction(id);
        format!(
            "message {} of a transaction on {broker}, decided {:?}, is not settled; producers were asked {} times",
            id.0, known.decided, known.asked
        )
    }))
}

fn check_times(record: &Record) -> u32 {
    let times = find(&record.properties, "TRANSACTION_CHECK_TIMES").and_then(|times| times.parse().ok());
    times.unwrap_or(0)
}

/// What the broker says it has passed.
fn passed(broker: &str, parts: &Parts<'_>, half: i64, file_bytes: u64) -> Verdict {
    let named: BTreeSet<i64> = parts.ops.values().flat_map(|(_, named)| named.iter().copied()).collect();
    for (offset, (record, id)) in parts.halves.range(..half) {
        let prepared =
            find(&record.properties, "TRAN_PREPARED_QUEUE_OFFSET").and_then(|text| text.parse().ok());
        let is_settled = named.contains(offset) || prepared.is_some_and(|prepared| named.contains(&prepared));
        let mut later = parts.halves.range(offset + 1..);
        let is_put_again = later.any(|(_, (_, other))| other == id);
        let is_discarded = parts.discarded.iter().any(|(discarded, of)| of == id && discarded.at > record.at);
        // The topic of what is discarded has a longer name.
        let is_left_out = is_full(record, file_bytes);
        if !(is_settled || is_put_again || is_discarded || is_left_out) {
            return Err(broken(format!(
                "{broker}: half message {offset} of message {} is passed (the file says {half}); no op record names it, \
                 no copy of it follows, and it is not discarded",
                id.0
            )));
        }
    }
    Ok(())
}

/// What keeps transactions from being all settled: what is still to be passed.
#[must_use]
pub fn unsettled(broker: &str, disk: &BrokerDisk, (image, folder): (&Image, &str)) -> Option<String> {
    let (half, op) = progress(image, folder);
    let max = |topic: &str| disk.queues.get(&(topic.to_owned(), 0)).map_or(0, |queue| queue.max());
    let behind =
        [(HALF_TOPIC, half), (OP_TOPIC, op)].into_iter().find(|(topic, passed)| *passed < max(topic));
    behind.map(|(topic, passed)| format!("{broker} has passed {passed} of {} records of {topic}", max(topic)))
}

/// # Errors
/// The first message that somebody has committed, whose half message is there, and which is nowhere to be seen; or one that
/// stands more often than it was committed.
pub fn at_end(end: Final<'_>, file_bytes: u64) -> Verdict {
    let mut finals: BTreeMap<MessageId, usize> = BTreeMap::new();
    let mut halves: BTreeMap<MessageId, &str> = BTreeMap::new();
    let mut discarded = BTreeSet::new();
    for (broker, disk) in end.brokers {
        let parts = parts(end.history, disk);
        for (_, id) in &parts.finals {
            *finals.entry(*id).or_default() += 1;
        }
        let copied = parts.halves.values().filter(|(record, _)| !is_full(record, file_bytes));
        halves.extend(copied.map(|(_, id)| (*id, broker.as_str())));
        discarded.extend(parts.discarded.iter().map(|(_, id)| *id));
    }
    for (id, broker) in &halves {
        let is_committed = end.history.transaction(*id).decided == Some(Decision::Commit);
        if is_committed && !finals.contains_key(id) && !discarded.contains(id) {
            return Err(broken(format!(
                "message {} is committed and its half message is on {broker}, but it is in no queue",
                id.0
            )));
        }
    }
    for (id, count) in finals {
        let said = end.history.transaction(id).commits_said;
        if count > said {
            return Err(broken(format!(
                "message {} stands {count} times and was committed {said} times",
                id.0
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::sent;
    use crate::history::{Outcome, Sent};
    use crate::platter::queue::Queue;
    use crate::workload::{body, flag_of};

    const FOLDER: &str = "store/config";
    const ID: MessageId = MessageId(1_000_000);
    const TERMS: Terms = Terms { timeout_ms: 1_500, check_max: 3, file_bytes: FILE_BYTES };
    const FILE_BYTES: u64 = 4_096;

    /// A log that is written record by record.
    #[derive(Default)]
    struct Log(BrokerDisk);

    impl Log {
        fn push(&mut self, topic: &str, body: Vec<u8>, properties: &str) -> &mut Record {
            let at = self.0.log.records.last().map_or(0, Record::end);
            let offset = self.0.log.records.iter().filter(|record| record.topic == topic).count() as i64;
            self.0.log.records.push(Record {
                at,
                bytes: 100,
                topic: topic.to_owned(),
                queue: 0,
                queue_offset: offset,
                flag: flag_of(ID),
                system_flag: 0,
                born_ms: 1_000,
                born_host: None,
                store_ms: 1_000,
                store_host: None,
                reconsume_times: 0,
                prepared: 0,
                properties: properties.to_owned(),
                body,
            });
            self.0.log.records.last_mut().expect("it was just pushed")
        }

        fn half(&mut self, properties: &str) -> u64 {
            let properties = format!("REAL_TOPIC\u{1}topic-0\u{2}REAL_QID\u{1}0\u{2}{properties}");
            let record = self.push(HALF_TOPIC, body(ID, 40).to_vec(), &properties);
            record.store_ms += 1_501 * i64::from(check_times(record).min(1));
            record.at
        }

        fn committed(&mut self, half: u64) {
            let record = self.push("topic-0", body(ID, 40).to_vec(), "");
            (record.system_flag, record.prepared) = (TRANSACTION_COMMIT, half as i64);
        }

        fn op(&mut self, named: &str) {
            self.push(OP_TOPIC, named.as_bytes().to_vec(), "TAGS\u{1}d");
        }

        fn discard(&mut self, times: u32) {
            self.push(DISCARD_TOPIC, body(ID, 40).to_vec(), &format!("TRANSACTION_CHECK_TIMES\u{1}{times}"));
        }
    }

    fn history(commits: usize, rollbacks: usize) -> History {
        let mut history = History::default();
        history.started(ID, Sent { kind: Kind::Transaction, ..sent(0) });
        history.ended(ID, 5, Outcome::Unknown);
        (0..commits).for_each(|_| history.says(ID, Some(Decision::Commit)));
        (0..rollbacks).for_each(|_| history.says(ID, Some(Decision::Rollback)));
        history
    }

    fn file(half: i64, op: i64) -> Image {
        let text = format!(
            "{{\"offsetTable\":{{\"{HALF_TOPIC}@{GROUP}\":{{0:{half}}},\"{OP_TOPIC}@{GROUP}\":{{0:{op}}}}}}}"
        );
        Image { files: [(format!("{FOLDER}/consumerOffset.json"), text.into_bytes())].into() }
    }

    fn holds(history: &History, log: &Log, (half, op): (i64, i64)) -> bool {
        judge(history, "broker-a", &log.0, (&file(half, op), FOLDER), TERMS).is_ok()
    }

    #[test]
    fn a_committed_transaction_is_accepted_and_one_that_nobody_has_committed_is_rejected() {
        let mut log = Log::default();
        let half = log.half("");
        log.committed(half);
        log.op("0");
        assert!(holds(&history(1, 0), &log, (1, 1)));
        assert!(!holds(&history(0, 1), &log, (1, 1)));
        assert!(delivered(&history(0, 0), ID, "here").is_err());
        assert!(delivered(&history(1, 0), ID, "here").is_ok());
    }

    #[test]
    fn a_half_message_in_the_real_topic_is_rejected() {
        let mut log = Log::default();
        log.push("topic-0", body(ID, 40).to_vec(), "");
        assert!(!holds(&history(1, 0), &log, (0, 0)));
    }

    #[test]
    fn an_op_record_without_its_final_message_is_rejected_unless_it_rolls_back() {
        let mut log = Log::default();
        let half = log.half("");
        log.op("0");
        assert!(!holds(&history(1, 0), &log, (0, 0)));
        assert!(holds(&history(0, 1), &log, (0, 0)));
        log.committed(half);
        assert!(!holds(&history(1, 0), &log, (0, 0)), "the final message comes too late");
    }

    #[test]
    fn a_half_message_that_is_passed_must_be_settled_put_again_or_discarded() {
        let mut log = Log::default();
        log.half("");
        assert!(holds(&history(0, 0), &log, (0, 0)));
        assert!(!holds(&history(0, 0), &log, (1, 0)));
        log.half("TRANSACTION_CHECK_TIMES\u{1}1\u{2}");
        assert!(holds(&history(0, 0), &log, (1, 0)));
        assert!(!holds(&history(0, 0), &log, (2, 0)));
        log.discard(3);
        assert!(holds(&history(0, 0), &log, (2, 0)));
        log.discard(2);
        assert!(!holds(&history(0, 0), &log, (2, 0)), "it is given up too early");
        log.0.log.records.pop();
        log.discard(4);
        assert!(!holds(&history(0, 0), &log, (2, 0)), "it is given up too late");
    }

    #[test]
    fn a_question_too_many_or_before_its_time_is_rejected() {
        let put = |properties: &str, age_ms: i64, jumps: usize| {
            let mut log = Log::default();
            log.half(properties);
            let record = log.0.log.records.last_mut().expect("it was just pushed");
            record.store_ms = record.born_ms + age_ms;
            let mut history = history(0, 0);
            let jump = crate::history::ClockJump { node: "broker-a".into(), at_ms: 0, by_ms: 5_000 };
            history.clock_jumps = vec![jump; jumps];
            holds(&history, &log, (0, 0))
        };
        let asked = "TRANSACTION_CHECK_TIMES\u{1}1";
        assert!(put("", 0, 0) && put(asked, 1_501, 0));
        assert!(!put(asked, 1_500, 0));
        assert!(put(asked, 1_500, 1), "its clock may have said another age");
        let immune = format!("{asked}\u{2}CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}2");
        assert!(put(&immune, 2_001, 0) && !put(&immune, 2_000, 0));
        assert!(put("TRANSACTION_CHECK_TIMES\u{1}3", 9_000, 0));
        assert!(!put("TRANSACTION_CHECK_TIMES\u{1}4", 9_000, 0));
    }

    #[test]
    fn what_is_given_up_without_the_questions_that_it_counts_is_rejected() {
        let mut log = Log::default();
        log.half("");
        log.discard(3);
        let at = log.0.log.records[1].at;
        let asked = |asked: u32, ends_ms: &[u64], muffled_ms| {
            let mut history = history(0, 0);
            history.discards.insert(("broker-a".to_owned(), at), 5_000);
            history.muffled_ms = muffled_ms;
            (0..asked).for_each(|_| _ = history.asked(ID));
            super::asked(&history, "broker-a", &log.0, ends_ms).is_ok()
        };
        assert!(asked(3, &[], None));
        assert!(!asked(2, &[], None));
        assert!(!asked(0, &[4_000], None), "one end of a process costs two questions at most");
        assert!(asked(1, &[4_000], None));
        assert!(!asked(1, &[5_001], None), "it came later");
        assert!(asked(0, &[], Some(4_000)));
        assert!(!asked(0, &[], Some(5_001)));
    }

    #[test]
    fn a_transaction_of_the_healed_cluster_is_settled_and_not_given_up() {
        let unproven =
            |history: &History, log: &Log| super::unproven(history, ("broker-a", &log.0), 0, FILE_BYTES);
        let mut history = history(0, 0);
        let mut log = Log::default();
        let half = log.half("");
        assert!(unproven(&history, &log).expect("not given up").is_some());
        history.decided(ID, Decision::Commit);
        assert!(unproven(&history, &log).expect("not given up").is_some());
        log.committed(half);
        assert_eq!(unproven(&history, &log), Ok(None));
        log.discard(3);
        assert!(unproven(&history, &log).is_err());
        history.says(ID, Some(Decision::Commit));
        assert_eq!(unproven(&history, &log), Ok(None));
        assert_eq!(super::unproven(&history, ("broker-a", &log.0), 1_000_000, FILE_BYTES), Ok(None));
    }

    #[test]
    fn an_op_record_that_is_done_with_too_early_is_rejected() {
        let mut log = Log::default();
        log.half("");
        log.op("0");
        assert!(holds(&history(0, 1), &log, (1, 1)));
        assert!(!holds(&history(0, 1), &log, (0, 1)));
    }

    #[test]
    fn a_committed_message_that_is_nowhere_and_one_that_stands_too_often_are_rejected() {
        let end = |history: &History, log: &Log| {
            let brokers = [("broker-a".to_owned(), log.0.clone())].into();
            at_end(
                Final {
                    history,
                    sync_flush: true,
                    flushed_within_ms: 0,
                    committed_within_ms: None,
                    brokers: &brokers,
                },
                FILE_BYTES,
            )
        };
        let mut history = history(1, 0);
        history.decided(ID, Decision::Commit);
        let mut log = Log::default();
        let half = log.half("");
        assert!(end(&history, &log).is_err());
        log.committed(half);
        assert!(end(&history, &log).is_ok());
        log.committed(half);
        assert!(end(&history, &log).is_err());
    }

    #[test]
    fn a_half_message_without_room_for_a_copy_may_be_discarded_unasked_or_left_out_and_no_other() {
        let passed = |bytes: u64, is_discarded: bool| {
            let mut log = Log::default();
            log.half("");
            log.0.log.records[0].bytes = bytes as u32;
            if is_discarded {
                log.discard(0);
                log.0.log.records[1].bytes = bytes as u32;
            }
            holds(&history(0, 0), &log, (1, 0))
        };
        let full = FILE_BYTES - BLANK_BYTES;
        assert!(passed(full, true) && passed(full, false));
        assert!(!passed(full - 100, true) && !passed(full - 100, false));
        let mut log = Log::default();
        log.half(&"x".repeat(PROPERTIES_BYTES_MAX - 60));
        assert!(holds(&history(0, 0), &log, (1, 0)), "its properties are full");
        let mut asked = Log::default();
        asked.half("");
        asked.discard(4);
        asked.0.log.records[1].bytes = full as u32;
        assert!(!holds(&history(0, 0), &asked, (1, 0)), "it is given up too late");
    }

    #[test]
    fn what_is_not_passed_is_unsettled() {
        let mut log = Log::default();
        log.half("");
        let record = log.0.log.records[0].clone();
        let entry = crate::platter::queue::Entry { at: record.at, bytes: record.bytes, tags_code: 0 };
        let queue = Queue { min: 0, entries: vec![entry], strays: Vec::new() };
        log.0.queues.insert((HALF_TOPIC.to_owned(), 0), queue);
        assert!(unsettled("broker-a", &log.0, (&file(0, 0), FOLDER)).is_some());
        assert!(unsettled("broker-a", &log.0, (&file(1, 0), FOLDER)).is_none());
    }
}

//! What clients do, message by message: a keyed draw from the seed, so that any message can be left out alone.
//!
//! Each body begins with the message's number and continues with bytes that follow from it: whoever reads a record, from a
//! consumer or from a raw disk, knows which message it is and whether a byte of it has changed.

use bytes::Bytes;
use hotfire_core::remoting::body::MessageQueue;

use crate::draw::{Draw, Key};
use crate::history::Decision;
use crate::options::BATCH_MAX;
use crate::oracle::transaction::HALF_TOPIC;
use crate::plan::{Plan, names};

/// The message's number: producer and counter. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct MessageId(pub u64);

/// The number that the application gives a message beside its body.
#[must_use]
pub fn flag_of(id: MessageId) -> i32 {
    1 + (id.0 % 1_000) as i32
}

/// Messages of one producer stay below this.
const PER_PRODUCER: u64 = 1_000_000;

impl MessageId {
    #[must_use]
    pub fn new(producer: u32, index: u32) -> MessageId {
        MessageId((u64::from(producer) + 1) * PER_PRODUCER + u64::from(index))
    }

    #[must_use]
    pub fn producer(self) -> u32 {
        (self.0 / PER_PRODUCER).saturating_sub(1) as u32
    }
}

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Single,
    OneWay,
    /// The first of so many messages that go in one request; the others follow it by number.
    Batch(u32),
    /// A half message, and then its commit or not.
    Transaction,
}

/// One message before it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    pub id: MessageId,
    pub topic: String,
    pub body: Bytes,
    pub tag: String,
    pub key: String,
    pub filler: String,
    /// What filters by properties look at; none unless the plan has such a filter.
    pub marks: Option<Marks>,
    /// Without it the broker need not wait for the flush.
    pub wait: bool,
    /// Delivered after the delay of this level; 0: at once.
    pub delay_level: u32,
}

/// One thing a sender does: one request with one message or more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    pub kind: Kind,
    pub drafts: Vec<Draft>,
    /// Pause before it.
    pub gap_ms: u64,
}

/// The properties of a message that filters look at: they follow from its number alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marks {
    /// A digit, sometimes a word; missing from one in four.
    pub n: Option<String>,
    /// `x`, `y` or `z`; missing from one in four.
    pub s: Option<String>,
    pub tag: String,
}

#[must_use]
pub fn marks(id: MessageId) -> Marks {
    let key = Draw::new(id.0).key("marks", 0);
    let n = match key.branch("n").range(0, 15) {
        0..=3 => None,
        4 => Some("many".to_owned()),
        _ => Some(key.branch("digit").range(0, 9).to_string()),
    };
    let s = ["x", "y", "z", ""][key.branch("s").range(0, 3) as usize];
    Marks { n, s: (!s.is_empty()).then(|| s.to_owned()), tag: tag(id) }
}

fn tag(id: MessageId) -> String {
    format!("t{}", id.0 % 4)
}

/// The name of the property that fills records outside their body.
pub const FILLER: &str = "filler";

/// Head of a body: 16 hex digits and a colon.
const HEAD_BYTES: usize = 17;
/// Shortest body drawn.
const BODY_BYTES_MIN: u32 = 20;

/// The body of message `id`, exactly `bytes` long (at least its head).
#[must_use]
pub fn body(id: MessageId, bytes: usize) -> Bytes {
    let mut body = format!("{:016x}:", id.0).into_bytes();
    fill(&mut body, id, bytes.max(HEAD_BYTES));
    body.into()
}

fn fill(text: &mut Vec<u8>, id: MessageId, bytes: usize) {
    let missing = bytes.saturating_sub(text.len());
    text.extend(filling(id).flatten().take(missing));
}

/// What fills a message's texts, without an end: 16 hex digits of each choice.
fn filling(id: MessageId) -> impl Iterator<Item = [u8; 16]> {
    let key = Draw::new(id.0).keys("fill");
    (0..).map(move |block| {
        let word = key(block).bits();
        std::array::from_fn(|digit| b"0123456789abcdef"[(word >> (60 - 4 * digit)) as usize & 0xF])
    })
}

/// The value of the filler property of message `id`.
#[must_use]
pub fn filler(id: MessageId, bytes: usize) -> String {
    let mut text = Vec::with_capacity(bytes);
    fill(&mut text, id, bytes);
    String::from_utf8(text).expect("hex digits")
}

/// Which message a body is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    Whole(MessageId),
    /// The head is that message's, what follows is not.
    Damaged(MessageId),
    Foreign,
}

/// Reads a body back, and checks each of its bytes.
#[must_use]
pub fn identify(read: &[u8]) -> Identity {
    let number = read
        .get(..HEAD_BYTES)
        .filter(|head| head.ends_with(b":"))
        .and_then(|head| std::str::from_utf8(&head[..HEAD_BYTES - 1]).ok())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some(number) = number else { return Identity::Foreign };
    let id = MessageId(number);
    let (blocks, rest) = read[HEAD_BYTES..].as_chunks::<16>();
    let mut filling = filling(id);
    let is_whole = read[..HEAD_BYTES] == *body(id, HEAD_BYTES)
        && blocks.iter().zip(&mut filling).all(|(block, fill)| *block == fill)
        && filling.next().is_some_and(|fill| fill.starts_with(rest));
    if is_whole { Identity::Whole(id) } else { Identity::Damaged(id) }
}

/// The topics in use `at_ms` into the run, and where a message goes.
#[must_use]
pub fn topics(plan: &Plan) -> Vec<String> {
    let workload = &plan.workload;
    let usual = (0..workload.topics).map(|n| format!("topic-{n}"));
    let late = (0..workload.late_topics).map(|n| format!("late-{n}"));
    let slow = workload.slow_topic.then(|| SLOW_TOPIC.to_owned());
    usual.chain(late).chain(slow).chain(passing(plan)).collect()
}

/// The topics that an operator deletes.
#[must_use]
pub fn passing(plan: &Plan) -> Vec<String> {
    let count = plan.settings.passing.as_ref().map_or(0, |passing| passing.topics);
    (0..count).map(|n| format!("{PASSING}{n}")).collect()
}

/// Names of the topics that are deleted begin so.
pub const PASSING: &str = "passing-";

/// Gets one message a second.
pub const SLOW_TOPIC: &str = "slow";

/// How many messages a producer sends, not counting the slow topic's.
#[must_use]
pub fn messages_of(plan: &Plan, producer: u32) -> u32 {
    let (all, producers) = (plan.workload.messages, plan.settings.producers.max(1));
    all / producers + u32::from(producer < all % producers)
}

/// The operation that begins with message `index` of `producer`; the next one begins behind its drafts.
#[must_use]
pub fn operation(plan: &Plan, producer: u32, index: u32) -> Operation {
    let workload = &plan.workload;
    let first = MessageId::new(producer, index);
    let key = Draw::new(plan.seed).key("message", first.0);
    let left = messages_of(plan, producer).saturating_sub(index).max(1);
    let percent = key.branch("kind").range(0, 99) as u32;
    let kind = if percent < workload.batch_percent {
        Kind::Batch((key.branch("batch").range(2, u64::from(BATCH_MAX)) as u32).min(left))
    } else if percent < workload.batch_percent + workload.one_way_percent {
        Kind::OneWay
    } else if plan
        .settings
        .transactions
        .as_ref()
        .is_some_and(|transactions| key.branch("transaction").percent(u64::from(transactions.percent)))
    {
        Kind::Transaction
    } else {
        Kind::Single
    };
    let count = if let Kind::Batch(count) = kind { count } else { 1 };
    let late = workload.late_topics > 0 && index > messages_of(plan, producer) / 2;
    let topic = if late && key.branch("late").percent(40) {
        format!("late-{}", key.branch("topic").range(0, u64::from(workload.late_topics) - 1))
    } else {
        format!("topic-{}", key.branch("topic").range(0, u64::from(workload.topics.max(1)) - 1))
    };
    let topic = passing_topic(plan, key).unwrap_or(topic);
    // Nobody knows when one that goes one way has arrived, and whether it makes its topic again.
    let kind = if kind == Kind::OneWay && topic.starts_with(PASSING) { Kind::Single } else { kind };
    let wait = kind == Kind::OneWay || !key.branch("wait").percent(u64::from(workload.no_wait_percent));
    let delay_level = if count == 1 && kind != Kind::Batch(1) { delay_level(plan, key) } else { 0 };
    let mut drafts: Vec<Draft> = (index..index + count)
        .map(|index| Draft { delay_level, ..draft(plan, MessageId::new(producer, index), &topic, wait) })
        .collect();
    if kind == Kind::Transaction && key.branch("full").percent(full_percent(plan)) {
        let bytes = full_filler_bytes(plan, drafts[0].body.len(), key);
        drafts[0].filler = filler(drafts[0].id, bytes);
    }
    let gap_ms = key.branch("gap").exponential(workload.gap_ms);
    Operation { kind, drafts, gap_ms }
}

fn full_percent(plan: &Plan) -> u64 {
    plan.settings.transactions.as_ref().map_or(0, |transactions| transactions.full_percent.into())
}

/// With so many bytes in its filler a half message with such a body fills a record, or lacks a little; some are refused.
fn full_filler_bytes(plan: &Plan, body_bytes: usize, key: Key) -> usize {
    /// Of a record, with its topic and the blank unit behind it.
    const FRAME_BYTES: usize = 91 + HALF_TOPIC.len() + 8;
    /// Its other properties, with those that client and broker add; about.
    const PROPERTIES_BYTES: usize = 240;
    let file_bytes = plan.settings.commit_log_file_bytes as usize;
    let properties = file_bytes.saturating_sub(FRAME_BYTES + body_bytes).min(i16::MAX as usize);
    properties.saturating_sub(PROPERTIES_BYTES + key.branch("lacks").range(0, 90) as usize)
}

/// The topic of a message that goes to one that does not stay.
fn passing_topic(plan: &Plan, key: Key) -> Option<String> {
    let passing = plan.settings.passing.as_ref()?;
    let goes_there = key.branch("passing").percent(u64::from(passing.percent));
    let nth = key.branch("which passing").range(0, u64::from(passing.topics.max(1)) - 1);
    goes_there.then(|| format!("{PASSING}{nth}"))
}

/// What becomes of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// What its local transaction decides; `None`: it never does.
    pub decision: Option<Decision>,
    pub says: Says,
    /// So often the answer to a question is that it is not known yet.
    pub unknown_checks: u32,
    /// How long nobody is to ask.
    pub immunity_s: Option<u64>,
}

/// How the producer tells its decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    AtOnce,
    /// The local transaction takes so long, in ms.
    Late(u64),
    /// It does not: whoever is asked does.
    Nothing,
    /// Its process dies before it can.
    Dies,
}

/// What becomes of transaction `id`.
#[must_use]
pub fn fate(plan: &Plan, id: MessageId) -> Fate {
    let key = Draw::new(plan.seed).key("fate", id.0);
    if is_proof(plan, id) {
        return proof_fate(key);
    }
    let decision = match key.branch("decision").range(0, 99) {
        0..=64 => Some(Decision::Commit),
        65..=91 => Some(Decision::Rollback),
        _ => None,
    };
    let says = match key.branch("says").range(0, 99) {
        0..=59 => Says::AtOnce,
        60..=67 => Says::Late(key.branch("late").range(500, 5_000)),
        68..=97 => Says::Nothing,
        _ if plan.settings.undisturbed => Says::Nothing,
        _ => Says::Dies,
    };
    Fate {
        decision,
        says,
        unknown_checks: key.branch("unknown checks").pick(&[0, 0, 0, 1, 2]),
        immunity_s: key.branch("immune").percent(20).then(|| key.branch("immunity").range(2, 6)),
    }
}

/// On the healed cluster every transaction is decided, and most wait to be asked: less often than makes a broker give up.
fn proof_fate(key: Key) -> Fate {
    let commits = key.branch("decision").percent(70);
    Fate {
        decision: Some(if commits { Decision::Commit } else { Decision::Rollback }),
        says: if key.branch("says").percent(30) { Says::AtOnce } else { Says::Nothing },
        unknown_checks: key.branch("unknown checks").pick(&[0, 0, 1]),
        immunity_s: None,
    }
}

/// The `index`th message of the slow topic, sent by the first producer.
#[must_use]
pub fn slow_operation(plan: &Plan, index: u32) -> Operation {
    let id = MessageId::new(plan.settings.producers, index);
    Operation { kind: Kind::Single, drafts: vec![draft(plan, id, SLOW_TOPIC, true)], gap_ms: 1_000 }
}

/// The `index`th message that a producer sends on the healed cluster.
#[must_use]
pub fn proof_operation(plan: &Plan, producer: u32, index: u32) -> Operation {
    let id = MessageId::new(producer, messages_of(plan, producer) + index);
    let delay_level = delay_level(plan, Draw::new(plan.seed).key("proof", id.0));
    let draft = Draft { delay_level, ..draft(plan, id, "topic-0", true) };
    let key = Draw::new(plan.seed).key("proof", id.0).branch("transaction");
    let is_transaction = delay_level == 0 && plan.settings.transactions.is_some() && key.percent(60);
    let kind = if is_transaction { Kind::Transaction } else { Kind::Single };
    Operation { kind, drafts: vec![draft], gap_ms: 40 }
}

/// The level that `key` draws for a message; one above the last is possible.
fn delay_level(plan: &Plan, key: Key) -> u32 {
    let Some(delays) = &plan.settings.delays else { return 0 };
    if !key.branch("delayed").percent(u64::from(delays.delayed_percent)) {
        return 0;
    }
    let levels = delays.levels.split(' ').count() as u64;
    key.branch("level").range(1, levels + 1) as u32
}

/// How often consumers fail with a message before they can consume it.
#[must_use]
pub fn fails(plan: &Plan, id: MessageId) -> i32 {
    let Some(delays) = &plan.settings.delays else { return 0 };
    let key = Draw::new(plan.seed).key("fails", id.0);
    if !key.branch("some").percent(u64::from(delays.failing_percent)) {
        return 0;
    }
    key.branch("times").range(1, delays.reconsume_max as u64 + 1) as i32
}

/// Whether it is sent on the healed cluster.
fn is_proof(plan: &Plan, id: MessageId) -> bool {
    let producer = id.producer();
    producer < plan.settings.producers && id.0 >= MessageId::new(producer, messages_of(plan, producer)).0
}

/// How often a listener fails with a message that is new to it, where consumption is watched, and how long it takes for it, in
/// ms.
#[must_use]
pub fn trouble(plan: &Plan, id: MessageId) -> (i32, u64) {
    let Some(consumption) = plan.settings.consumption.as_ref().filter(|_| !is_proof(plan, id)) else {
        return (0, 0);
    };
    let key = Draw::new(plan.seed).key("trouble", id.0);
    let fails = key.branch("fails").percent(u64::from(consumption.failing_percent));
    let slow = key.branch("slow").percent(u64::from(consumption.slow_percent));
    if slow {
        return (0, key.branch("slow for").range(500, 2_500));
    }
    let times = if fails { key.branch("times").range(1, 2) as i32 } else { 0 };
    (times, key.branch("takes").range(0, 20))
}

/// Keys of one producer's messages.
const KEYS: u64 = 4;

/// What a message is about, where order matters; the messages of one key are of one producer.
#[must_use]
pub fn key(plan: &Plan, id: MessageId) -> Option<u64> {
    let is_keyed = plan.settings.consumption.as_ref().is_some_and(|consumption| consumption.in_order);
    let producer = u64::from(id.producer());
    let draw = || Draw::new(plan.seed).key("about", id.0).range(0, KEYS - 1);
    (is_keyed && producer < u64::from(plan.settings.producers)).then(|| producer * KEYS + draw())
}

/// Where the messages of a key go, whatever the routes say at the time.
#[must_use]
pub fn queue_of(plan: &Plan, topic: &str, key: u64) -> MessageQueue {
    let settings = &plan.settings;
    let brokers = u64::from(settings.brokers.max(1));
    MessageQueue {
        broker_name: names::broker((key % brokers) as u32),
        queue_id: (key / brokers % u64::from(settings.queues_per_topic.max(1))) as i32,
        topic: topic.to_owned(),
    }
}

fn draft(plan: &Plan, id: MessageId, topic: &str, wait: bool) -> Draft {
    let workload = &plan.workload;
    let key: Key = Draw::new(plan.seed).key("draft", id.0);
    let size = |name: &str, max: u32, min: u32| {
        let bytes = if workload.equal_sizes || max <= min {
            u64::from(max)
        } else {
            key.branch(name).range(u64::from(min), u64::from(max))
        };
        bytes as usize
    };
    Draft {
        id,
        topic: topic.to_owned(),
        body: body(id, size("body", workload.body_bytes, BODY_BYTES_MIN)),
        tag: tag(id),
        key: format!("k{}", id.0),
        filler: filler(id, size("filler", workload.property_bytes, 0)),
        marks: plan.settings.sql.map(|_| marks(id)),
        wait,
        delay_level: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_message_and_any_changed_byte() {
        let id = MessageId::new(1, 7);
        let mut bytes = body(id, 200).to_vec();
        assert_eq!(identify(&bytes), Identity::Whole(id));
        let digits: String =
            (0..3).map(|block| format!("{:016x}", Draw::new(id.0).key("fill", block).bits())).collect();
        assert_eq!(filler(id, 41), digits[..41]);
        for at in HEAD_BYTES..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(identify(&bytes), Identity::Damaged(id), "byte {at}");
            bytes[at] ^= 1;
        }
        bytes[3] = b'!';
        assert_eq!(identify(&bytes), Identity::Foreign);
        assert_eq!(identify(&[0; 5]), Identity::Foreign);
    }

    #[test]
    fn operations_walk_through_each_message_of_a_producer_once() {
        let plan = crate::options::draw("broker_crash", 4).expect("a known scenario");
        for producer in 0..plan.settings.producers {
            let mut index = 0;
            while index < messages_of(&plan, producer) {
                let operation = operation(&plan, producer, index);
                for draft in &operation.drafts {
                    assert_eq!(draft.id, MessageId::new(producer, index));
                    index += 1;
                }
            }
            assert_eq!(index, messages_of(&plan, producer));
        }
    }
}

//! Pulls of every form, look-ups, and what is told of queues and groups.

use std::collections::BTreeSet;
use std::time::Duration;

use hotfire_core::remoting::body::{ConsumeStats, TopicStatsTable};
use hotfire_core::runtime::Runtime as _;
use serde_json::json;

use super::sends::{Draft, store};
use super::topics::{self, Shape, group, put_group};
use super::{Desk, Step};
use crate::oracle::protocol::{self, Letter};
use crate::platter::properties::java_hash;
use crate::platter::record::{Found, Record, decode};
use crate::wire::Frame;

const PULL: i32 = 11;
const QUERY: i32 = 12;
const GET_OFFSET: i32 = 14;
const PUT_OFFSET: i32 = 15;
const MAX_OFFSET: i32 = 30;
const VIEW: i32 = 33;
const TOPIC_STATS: i32 = 202;
const GROUP_STATS: i32 = 208;

const NOT_FOUND: i32 = 19;
const NO_MATCH: i32 = 20;
const MOVED: i32 = 21;
const NOTHING: i32 = 22;
const NO_FILTER: i32 = 23;
const NO_SUBSCRIPTION: i32 = 24;
const INVALID: i32 = 29;
const FORBIDDEN: i32 = 16;
const NO_TOPIC: i32 = 17;
const FAILED: i32 = 1;

/// Between two looks whether all can be read.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// In the flags of a pull: commit an offset, wait, the filter is in the request.
const COMMIT: i32 = 1;
const FILTER: i32 = 4;

/// A pull.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub group: String,
    pub topic: String,
    pub queue: i32,
    pub offset: i64,
    pub count: i32,
    pub flags: i32,
    pub commit: i64,
    pub suspend_ms: u64,
    pub filter: String,
    pub kind: String,
    pub version: i64,
}

impl Pull {
    pub fn new(topic: &str, queue: i32, offset: i64) -> Pull {
        Pull {
            group: "op-readers".to_owned(),
            topic: topic.to_owned(),
            queue,
            offset,
            count: 32,
            flags: FILTER,
            commit: 0,
            suspend_ms: 0,
            filter: "*".to_owned(),
            kind: "TAG".to_owned(),
            version: 0,
        }
    }

    pub fn fields(&self) -> crate::wire::Fields {
        super::to_fields(&[
            ("consumerGroup", &self.group),
            ("topic", &self.topic),
            ("queueId", &self.queue.to_string()),
            ("queueOffset", &self.offset.to_string()),
            ("maxMsgNums", &self.count.to_string()),
            ("sysFlag", &self.flags.to_string()),
            ("commitOffset", &self.commit.to_string()),
            ("suspendTimeoutMillis", &self.suspend_ms.to_string()),
            ("subscription", &self.filter),
            ("subVersion", &self.version.to_string()),
            ("expressionType", &self.kind),
        ])
    }

    async fn ask(&self, desk: &mut Desk) -> Step<Frame> {
        let answer = desk.call(PULL, self.fields(), &[], super::PATIENCE).await;
        answer.map_err(|why| desk.unanswered(&format!("{self:?}"), why))
    }

    async fn expect(&self, desk: &mut Desk, code: i32) -> Step<Frame> {
        let answer = self.ask(desk).await?;
        protocol::answer(&format!("{}: {self:?}", desk.name), &answer, code, &[])?;
        Ok(answer)
    }
}

/// A pull of the first queue is answered with that code, or with 0 and its kin.
pub(super) async fn pulled(desk: &mut Desk, topic: &str, code: i32) -> Step {
    pulled_by(desk, topic, "op-readers", code).await
}

pub(super) async fn pulled_by(desk: &mut Desk, topic: &str, group: &str, code: i32) -> Step {
    let pull = Pull { group: group.to_owned(), ..Pull::new(topic, 0, 0) };
    let answer = pull.ask(desk).await?;
    let fine = code == 0 && [0, NOT_FOUND].contains(&answer.code);
    desk.equal(&format!("the answer to {pull:?} being {code}"), fine || answer.code == code, true)
}

/// The records of an answer's body.
pub(super) fn records(desk: &Desk, body: &[u8]) -> Step<Vec<Record>> {
    let mut records = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.get(28..36) {
        let at = u64::from_be_bytes(at.try_into().expect("8 bytes"));
        let bytes =
            rest.get(..4).map_or(0, |size| u32::from_be_bytes(size.try_into().expect("4 bytes")) as usize);
        let one = rest.get(..bytes).ok_or_else(|| desk.broken("a record that is cut off"))?;
        match decode(one, at) {
            Found::Record(record) => records.push(record),
            other => return Err(desk.broken(format!("a body that is no record: {other:?}"))),
        }
        rest = &rest[bytes..];
    }
    desk.equal("bytes behind the records", rest.len(), 0)?;
    Ok(records)
}

/// The records of an answer are these letters.
fn are(desk: &Desk, what: &str, answer: &Frame, letters: &[&Letter]) -> Step {
    let records = records(desk, &answer.body)?;
    let found: Vec<(i32, i64)> = records.iter().map(|record| (record.queue, record.queue_offset)).collect();
    let wanted: Vec<(i32, i64)> = letters.iter().map(|letter| (letter.queue, letter.queue_offset)).collect();
    desk.equal(&format!("{what}: what is given"), found, wanted)?;
    let mut both = letters.iter().zip(&records);
    both.try_for_each(|(letter, record)| protocol::record(&format!("{}: {what}", desk.name), letter, record))
}

/// All that was stored in a topic of this broker, by queue and offset.
fn letters_of(desk: &Desk, topic: &str) -> Vec<Letter> {
    let post = desk.cluster.progress(|progress| progress.examination.post.get(&desk.name).cloned());
    let letters = post.unwrap_or_default().letters.into_iter();
    let mut letters: Vec<Letter> = letters.filter(|letter| letter.topic == topic).collect();
    letters.sort_by_key(|letter| (letter.queue, letter.queue_offset));
    letters
}

/// Until all that was stored in a topic can be read.
async fn visible(desk: &mut Desk, topic: &str) -> Step {
    let all = letters_of(desk, topic);
    let queues: BTreeSet<i32> = all.iter().map(|letter| letter.queue).collect();
    for queue in queues {
        let end = all.iter().filter(|letter| letter.queue == queue).count().to_string();
        let until = desk.rt.now().after(super::PATIENCE);
        let of = [("topic", topic), ("queueId", &queue.to_string())];
        while desk.expect("an end", (MAX_OFFSET, &of, &[]), 0, &[]).await?.field("offset") != end {
            if desk.rt.now() > until {
                return Err(desk.broken(format!("queue {queue} of {topic} does not come to its end, {end}")));
            }
            desk.rt.sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

pub(super) async fn examine(desk: &mut Desk) -> Step {
    for nth in 0..3 {
        let topic = format!("op-{}-{nth}", desk.name);
        of_topic(desk, &topic).await?;
    }
    filtered(desk).await?;
    refused(desk).await?;
    committed(desk).await?;
    looked_up(desk).await
}

/// Each queue of a topic: all of it, a few, its ends, beyond them.
async fn of_topic(desk: &mut Desk, topic: &str) -> Step {
    let shape = topics::get(desk, topic).await?;
    visible(desk, topic).await?;
    let all = letters_of(desk, topic);
    if shape.perm & 4 == 0 {
        return Pull::new(topic, 0, 0).expect(desk, FORBIDDEN).await.map(drop);
    }
    for queue in 0..shape.read {
        let letters: Vec<&Letter> = all.iter().filter(|letter| letter.queue == queue).collect();
        let end = letters.len() as i64;
        let place = |next: i64| {
            [
                ("nextBeginOffset", next.to_string()),
                ("minOffset", "0".to_owned()),
                ("maxOffset", end.to_string()),
                ("suggestWhichBrokerId", "0".to_owned()),
                ("topicSysFlag", shape.system_flag.to_string()),
                ("groupSysFlag", "0".to_owned()),
            ]
        };
        let from = desk.draw("from").range(0, letters.len().max(1) as u64 - 1) as i64;
        let count = desk.draw("count").range(0, 3) as i64;
        for (offset, count, code, next) in [
            (0, 32, if end > 0 { 0 } else { NOT_FOUND }, end),
            (from, count, if end > 0 { 0 } else { NOT_FOUND }, end.min(from + count.max(1))),
            (end, 32, NOT_FOUND, end),
            (end + 1, 32, MOVED, end),
            (-1, 32, MOVED, 0),
        ] {
            let pull = Pull { count: count as i32, ..Pull::new(topic, queue, offset) };
            let answer = pull.ask(desk).await?;
            let what = format!("{}: {pull:?}", desk.name);
            protocol::answer(&what, &answer, code, &place(next))?;
            let given = usize::try_from(offset).unwrap_or(0).min(letters.len())..next.max(0) as usize;
            are(desk, &what, &answer, if code == 0 { &letters[given] } else { &[] })?;
        }
        for letter in &letters {
            let what = format!("what is at {}", letter.at);
            let view = desk.expect(&what, (VIEW, &[("offset", &letter.at.to_string())], &[]), 0, &[]).await?;
            are(desk, &what, &view, &[letter])?;
        }
    }
    for queue in [-1, shape.read] {
        Pull::new(topic, queue, 0).expect(desk, INVALID).await?;
    }
    let stats = desk.expect("a topic's numbers", (TOPIC_STATS, &[("topic", topic)], &[]), 0, &[]).await?;
    let stats = TopicStatsTable::parse(&stats.body).map_err(|error| desk.broken(error.to_string()))?;
    let found: Vec<(i32, i64, i64)> = stats
        .offset_table
        .iter()
        .map(|(queue, offsets)| (queue.queue_id, offsets.min_offset, offsets.max_offset))
        .collect();
    let end = |queue: i32| all.iter().filter(|letter| letter.queue == queue).count() as i64;
    let expected: Vec<(i32, i64, i64)> =
        (0..shape.read.max(shape.write)).map(|queue| (queue, 0, end(queue))).collect();
    desk.equal(&format!("the numbers of {topic}"), found, expected)
}

/// Filters by tag, whose hashes may be alike, and by properties.
async fn filtered(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-filtered", desk.name);
    let shape = Shape { read: 1, write: 1, perm: 6, multi_tag: false, order: false, system_flag: 0 };
    topics::put(desk, &topic, &shape).await?;
    for _ in 0..10 {
        let draft = Draft::new(desk, &topic, 0);
        store(desk, &draft).await?;
    }
    visible(desk, &topic).await?;
    let letters = letters_of(desk, &topic);
    let property = |letter: &Letter, name: &str| {
        let found = letter.properties.iter().find(|(property, _)| property == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    for filter in
        ["*", "", "red", "Aa", "red||BB", " green || red ", "blue", "red || blue", "orange", "orange||Aa"]
    {
        let codes: Vec<i32> = filter.split("||").map(|tag| java_hash(tag.trim())).collect();
        let all = ["*", ""].contains(&filter);
        let wanted: Vec<&Letter> = letters
            .iter()
            .filter(|letter| all || codes.contains(&java_hash(&property(letter, "TAGS"))))
            .collect();
        let pull = Pull { filter: filter.to_owned(), ..Pull::new(&topic, 0, 0) };
        let answer = pull.ask(desk).await?;
        let what = format!("{}: {pull:?}", desk.name);
        let next = [("nextBeginOffset", letters.len().to_string())];
        protocol::answer(&what, &answer, if wanted.is_empty() { NO_MATCH } else { 0 }, &next)?;
        are(desk, &what, &answer, &wanted)?;
    }
    let by_property = desk.cluster.plan.settings.sql.is_some();
    type Wants = fn(i64, &str) -> bool;
    let forms: [(&str, Wants); 6] = [
        ("a > 5", |a, _| a > 5),
        ("a <= 5 AND a <> 3", |a, _| a <= 5 && a != 3),
        ("a BETWEEN 2 AND 6 OR TAGS = 'red'", |a, tag| (2..=6).contains(&a) || tag == "red"),
        ("TAGS IN ('red', 'BB')", |_, tag| tag == "red" || tag == "BB"),
        ("missing IS NULL AND NOT (a = 4)", |a, _| a != 4),
        ("missing = 1", |_, _| false),
    ];
    for (filter, wants) in forms {
        let a = |letter: &Letter| property(letter, "a").parse().unwrap_or(0);
        let wanted: Vec<&Letter> =
            letters.iter().filter(|letter| wants(a(letter), &property(letter, "TAGS"))).collect();
        let pull = Pull { filter: filter.to_owned(), kind: "SQL92".to_owned(), ..Pull::new(&topic, 0, 0) };
        let what = format!("{}: {pull:?}", desk.name);
        if !by_property {
            pull.expect(desk, FAILED).await?;
            continue;
        }
        let answer = pull.expect(desk, if wanted.is_empty() { NO_MATCH } else { 0 }).await?;
        are(desk, &what, &answer, &wanted)?;
    }
    let half = Pull { filter: "a >".to_owned(), kind: "SQL92".to_owned(), ..Pull::new(&topic, 0, 0) };
    half.expect(desk, if by_property { NO_FILTER } else { FAILED }).await.map(drop)
}

async fn refused(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-filtered", desk.name);
    Pull::new("op-nowhere", 0, 0).expect(desk, NO_TOPIC).await?;
    let silent = Pull { group: "op-silent".to_owned(), flags: 0, ..Pull::new(&topic, 0, 0) };
    silent.expect(desk, NO_SUBSCRIPTION).await?;
    put_group(desk, &group("op-stopped", &[("consumeEnable", json!(false))])).await?;
    let stopped = Pull { group: "op-stopped".to_owned(), ..Pull::new(&topic, 0, 0) };
    stopped.expect(desk, FORBIDDEN).await?;
    put_group(desk, &group("op-stopped", &[])).await?;
    stopped.expect(desk, 0).await.map(drop)
}

/// Offsets by request and by pull, and how far a group is.
async fn committed(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-filtered", desk.name);
    let group = format!("op-committers-{}", desk.number());
    let end = letters_of(desk, &topic).len() as i64;
    let of = [("consumerGroup", group.as_str()), ("topic", topic.as_str()), ("queueId", "0")];
    let mut is = -1;
    for (by_pull, offset) in [(false, 3), (true, 5), (false, 4), (true, end)] {
        if by_pull {
            let pull = Pull { group: group.clone(), commit: offset, ..Pull::new(&topic, 0, 0) };
            // Not without the flag.
            pull.expect(desk, 0).await?;
            let before = offset_of(desk, &of).await?;
            desk.equal("the offset before a commit", before, is)?;
            Pull { flags: FILTER | COMMIT, ..pull }.expect(desk, 0).await?;
        } else {
            let text = offset.to_string();
            let fields: Vec<(&str, &str)> =
                of.iter().copied().chain([("commitOffset", text.as_str())]).collect();
            desk.expect("a commit", (PUT_OFFSET, &fields, &[]), 0, &[]).await?;
        }
        is = offset;
        let found = offset_of(desk, &of).await?;
        desk.equal(&format!("the offset after a commit (by a pull: {by_pull})"), found, is)?;
        let stats = desk.expect("a group's numbers", (GROUP_STATS, &of[..1], &[]), 0, &[]).await?;
        let stats = ConsumeStats::parse(&stats.body).map_err(|error| desk.broken(error.to_string()))?;
        let found: Vec<(String, i32, i64, i64)> = stats
            .offset_table
            .iter()
            .map(|(queue, at)| (queue.topic.clone(), queue.queue_id, at.broker_offset, at.consumer_offset))
            .collect();
        desk.equal("how far a group is", found, vec![(topic.clone(), 0, end, is)])?;
    }
    Ok(())
}

/// -1: none, or 0 where the group never committed any.
async fn offset_of(desk: &mut Desk, of: &[(&str, &str)]) -> Step<i64> {
    let answer = desk.ask("an offset", GET_OFFSET, of, &[]).await?;
    if answer.code == NOTHING {
        return Ok(-1);
    }
    protocol::answer(&format!("{}: an offset", desk.name), &answer, 0, &[])?;
    answer.field("offset").parse().map_err(|_| desk.broken(format!("no offset: {:?}", answer.fields)))
}

/// By key and by unique key: what has it, the newest, the oldest of them first.
async fn looked_up(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-filtered", desk.name);
    let letters = letters_of(desk, &topic);
    let property = |letter: &Letter, name: &str| {
        let found = letter.properties.iter().find(|(property, _)| property == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let always = [("beginTimestamp", "0"), ("endTimestamp", "9223372036854775807")];
    for letter in &letters {
        let (keys, unique) = (property(letter, "KEYS"), property(letter, "UNIQ_KEY"));
        let own = keys.split(' ').next().unwrap_or_default();
        for (key, by_unique, max) in [(own, "false", "32"), (unique.as_str(), "true", "32")] {
            let fields: Vec<(&str, &str)> = always
                .into_iter()
                .chain([
                    ("topic", topic.as_str()),
                    ("key", key),
                    ("maxNum", max),
                    ("_UNIQUE_KEY_QUERY", by_unique),
                ])
                .collect();
            let what = format!("the look-up of {key}");
            let answer = desk.expect(&what, (QUERY, &fields, &[]), 0, &[]).await?;
            are(desk, &what, &answer, &[letter])?;
        }
        let fields: Vec<(&str, &str)> = always
            .into_iter()
            .chain([("topic", topic.as_str()), ("key", own), ("maxNum", "32"), ("_UNIQUE_KEY_QUERY", "true")])
            .collect();
        desk.expect("the look-up of a key that is not unique", (QUERY, &fields, &[]), NOTHING, &[]).await?;
    }
    for key in ["of-0", "of-1", "of-2"] {
        let has = |letter: &&Letter| property(letter, "KEYS").split(' ').any(|found| found == key);
        let mut wanted: Vec<&Letter> = letters.iter().filter(has).collect();
        let newest = wanted.split_off(wanted.len().saturating_sub(2));
        let fields: Vec<(&str, &str)> = always
            .into_iter()
            .chain([("topic", topic.as_str()), ("key", key), ("maxNum", "2"), ("_UNIQUE_KEY_QUERY", "false")])
            .collect();
        let what = format!("the look-up of {key}");
        let answer = desk.ask(&what, QUERY, &fields, &[]).await?;
        let code = if newest.is_empty() { NOTHING } else { 0 };
        protocol::answer(&format!("{}: {what}", desk.name), &answer, code, &[])?;
        are(desk, &what, &answer, &newest)?;
    }
    Ok(())
}

//! Sends of every form: what is stored and how it is answered, and what is refused.

use std::net::SocketAddr;

use super::topics::{self, NO_TOPIC, Shape};
use super::{CLUSTER, Desk, Step};
use crate::oracle::protocol::Letter;
use crate::wire::{Connection, Fields, Frame};

const SEND: i32 = 10;
const SEND_V2: i32 = 310;
const SEND_BATCH: i32 = 320;

const ILLEGAL: i32 = 13;
const INVALID: i32 = 29;
const FORBIDDEN: i32 = 16;
const FAILED: i32 = 1;
const FLUSH_TIMED_OUT: i32 = 10;

/// Messages that a topic is examined with.
const LETTERS: u64 = 8;
/// Members of a batch.
const MEMBERS: u64 = 3;
/// Longest property string.
const PROPERTY_BYTES_MAX: usize = 32_767;
/// By its name and by its letter, in one order.
const LONG_NAMES: [&str; 13] = [
    "producerGroup",
    "topic",
    "defaultTopic",
    "defaultTopicQueueNums",
    "queueId",
    "sysFlag",
    "bornTimestamp",
    "flag",
    "properties",
    "reconsumeTimes",
    "unitMode",
    "maxReconsumeTimes",
    "batch",
];
const LETTER_NAMES: [&str; 13] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"];

/// One of a batch: its flag, its properties and its body.
type Member = (i32, Vec<(String, String)>, Vec<u8>);

/// A message before it is sent.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub code: i32,
    pub topic: String,
    pub default_topic: String,
    pub default_queues: i32,
    pub queue: i32,
    pub system_flag: i32,
    pub born_ms: i64,
    pub flag: i32,
    pub properties: Vec<(String, String)>,
    pub reconsume_times: i32,
    pub unit: bool,
    pub body: Vec<u8>,
    pub members: Vec<Member>,
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn joined(properties: &[(String, String)]) -> String {
    let parts: Vec<String> = properties.iter().map(|(name, value)| format!("{name}\u{1}{value}")).collect();
    parts.join("\u{2}")
}

impl Draft {
    pub fn new(desk: &mut Desk, topic: &str, queue: i32) -> Draft {
        let number = desk.number();
        let tag = desk.draw("tag").pick(&["Aa", "BB", "red", "green", "orange"]);
        let unique = format!("{}{number:08X}", desk.name);
        let code = desk.draw("code").pick(&[SEND, SEND_V2]);
        let mut properties = pairs(&[
            ("KEYS", &format!("letter-{number} of-{}", number % 3)),
            ("UNIQ_KEY", &unique),
            ("TAGS", tag),
            ("a", &(number % 10).to_string()),
        ]);
        if desk.draw("wait").percent(50) {
            properties.push(("WAIT".to_owned(), "true".to_owned()));
        }
        Draft {
            code,
            topic: topic.to_owned(),
            default_topic: "TBW102".to_owned(),
            default_queues: 4,
            queue,
            system_flag: 0,
            born_ms: 1_600_000_000_000 + number as i64,
            flag: 1 + (number % 1_000) as i32,
            properties,
            reconsume_times: 0,
            unit: false,
            body: format!("letter {number} to {topic}").into_bytes(),
            members: Vec::new(),
        }
    }

    fn batch(desk: &mut Desk, topic: &str, queue: i32) -> Draft {
        let mut draft = Draft::new(desk, topic, queue);
        let unique = format!("batch-{}", desk.number());
        draft.properties = pairs(&[("WAIT", "true"), ("UNIQ_KEY", &unique), ("a", "all"), ("of", "all")]);
        draft.code = desk.draw("batch code").pick(&[SEND_V2, SEND_BATCH]);
        for _ in 0..MEMBERS {
            let member = Draft::new(desk, topic, queue);
            let mut properties = member.properties;
            properties.retain(|(name, _)| name != "WAIT");
            draft.members.push((member.flag, properties, member.body));
        }
        draft
    }

    /// With that tag alone.
    pub fn tagged(mut self, tag: &str) -> Draft {
        self.properties.retain(|(name, _)| name != "TAGS");
        self.with("TAGS", tag)
    }

    fn with(mut self, name: &str, value: &str) -> Draft {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn request(&self, desk: &Desk) -> (i32, Fields, Vec<u8>) {
        let number = |number: i32| number.to_string();
        let values = [
            format!("producers of {}", desk.name),
            self.topic.clone(),
            self.default_topic.clone(),
            number(self.default_queues),
            number(self.queue),
            number(self.system_flag),
            self.born_ms.to_string(),
            number(self.flag),
            joined(&self.properties),
            number(self.reconsume_times),
            self.unit.to_string(),
            number(16),
            (!self.members.is_empty()).to_string(),
        ];
        let names = if self.code == SEND { LONG_NAMES } else { LETTER_NAMES };
        let fields = names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value)).collect();
        let mut body = self.body.clone();
        if !self.members.is_empty() {
            body.clear();
        }
        for (flag, properties, text) in &self.members {
            let properties = joined(properties);
            body.extend_from_slice(&((22 + text.len() + properties.len()) as u32).to_be_bytes());
            body.extend_from_slice(&[0; 8]);
            body.extend_from_slice(&flag.to_be_bytes());
            body.extend_from_slice(&(text.len() as u32).to_be_bytes());
            body.extend_from_slice(text);
            body.extend_from_slice(&(properties.len() as u16).to_be_bytes());
            body.extend_from_slice(properties.as_bytes());
        }
        (self.code, fields, body)
    }

    /// What a member has: its own, and what it takes over from its batch.
    fn of_member(&self, own: &[(String, String)]) -> Vec<(String, String)> {
        let lacks = |name: &String| name != "UNIQ_KEY" && own.iter().all(|(has, _)| has != name);
        let of_batch = self.properties.iter().filter(|(name, _)| lacks(name));
        own.iter().chain(of_batch).cloned().collect()
    }

    /// The bodies of all its messages.
    fn bodies(&self) -> Vec<Vec<u8>> {
        match self.members.is_empty() {
            true => vec![self.body.clone()],
            false => self.members.iter().map(|(.., body)| body.clone()).collect(),
        }
    }

    fn unique(&self) -> String {
        let unique = self.properties.iter().find(|(name, _)| name == "UNIQ_KEY");
        unique.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// As its records must be, where the answer says that they are.
    fn letters(&self, desk: &Desk, answer: &Frame, born: SocketAddr) -> Step<Vec<Letter>> {
        let wrong = |what: &str| desk.broken(format!("a send is answered with {what}: {:?}", answer.fields));
        let SocketAddr::V4(born_host) = born else { return Err(wrong("another address")) };
        let queue = answer.field("queueId").parse().map_err(|_| wrong("no queue"))?;
        let queue_offset: i64 = answer.field("queueOffset").parse().map_err(|_| wrong("no offset"))?;
        let kept = |properties: &[(String, String)]| -> Vec<(String, String)> {
            let kept = properties.iter().filter(|(name, _)| name != "WAIT" && name != "CLUSTER").cloned();
            kept.chain([("CLUSTER".to_owned(), CLUSTER.to_owned())]).collect()
        };
        let messages: Vec<_> = match self.members.is_empty() {
            true => vec![(self.flag, kept(&self.properties), self.body.clone())],
            false => self
                .members
                .iter()
                .map(|(flag, own, body)| (*flag, kept(&self.of_member(own)), body.clone()))
                .collect(),
        };
        let ids: Vec<&str> = answer.field("msgId").split(',').collect();
        desk.equal("the number of ids", ids.len(), messages.len())?;
        let mut letters = Vec::new();
        for (nth, (id, (flag, properties, body))) in ids.into_iter().zip(messages).enumerate() {
            let octets: String =
                desk.host().ip().octets().iter().map(|octet| format!("{octet:02X}")).collect();
            let host = format!("{octets}{:08X}", desk.host().port());
            let (id_host, at) = id.split_at_checked(16).ok_or_else(|| wrong("no id"))?;
            desk.equal("the host of an id", id_host, host.as_str())?;
            letters.push(Letter {
                topic: self.topic.clone(),
                queue,
                queue_offset: queue_offset + nth as i64,
                at: u64::from_str_radix(at, 16).map_err(|_| wrong("no id"))?,
                flag,
                system_flag: self.system_flag,
                born_ms: self.born_ms,
                born_host,
                store_host: desk.host(),
                reconsume_times: self.reconsume_times,
                properties,
                body,
            });
        }
        Ok(letters)
    }
}

/// Notes what became of a draft whose send was answered over a connection from `born`.
pub(super) fn note(desk: &Desk, draft: &Draft, answer: &Frame, born: Option<SocketAddr>) -> Step {
    match answer.code {
        0 => {
            let born = born.ok_or_else(|| desk.broken("an answer without a connection"))?;
            let letters = draft.letters(desk, answer, born)?;
            desk.post(|post| post.letters.extend(letters));
        }
        // Perhaps not on the disk; a failure without a name may have come after it was stored.
        FLUSH_TIMED_OUT | FAILED => {}
        _ => desk.post(|post| post.refused.extend(draft.bodies())),
    }
    Ok(())
}

async fn ask(desk: &mut Desk, what: &str, draft: &Draft) -> Step<Frame> {
    let (code, fields, body) = draft.request(desk);
    let answer = desk.call(code, fields, &body, super::PATIENCE).await;
    let answer = answer.map_err(|why| desk.unanswered(what, why))?;
    let what = format!("{}: {what}", desk.name);
    let always = [("MSG_REGION", "DefaultRegion".to_owned()), ("TRACE_ON", "true".to_owned())];
    crate::oracle::protocol::answer(&what, &answer, answer.code, &always)?;
    Ok(answer)
}

/// Sends it, and it is stored.
pub(super) async fn store(desk: &mut Desk, draft: &Draft) -> Step<Vec<Letter>> {
    let what = format!("a send to {} queue {}", draft.topic, draft.queue);
    let answer = ask(desk, &what, draft).await?;
    let fields = [("transactionId", draft.unique())];
    crate::oracle::protocol::answer(&format!("{}: {what}", desk.name), &answer, 0, &fields)?;
    let born = desk.connection.as_ref().map(Connection::local);
    let born = born.ok_or_else(|| desk.broken("an answer without a connection"))?;
    let letters = draft.letters(desk, &answer, born)?;
    desk.post(|post| post.letters.extend(letters.iter().cloned()));
    Ok(letters)
}

/// Sends it, and it is refused with that code.
async fn refuse(desk: &mut Desk, what: &str, draft: &Draft, code: i32) -> Step {
    let answer = ask(desk, what, draft).await?;
    desk.post(|post| post.refused.extend(draft.bodies()));
    crate::oracle::protocol::answer(&format!("{}: {what}", desk.name), &answer, code, &[])
}

/// A usual message is answered with that code.
pub(super) async fn sent(desk: &mut Desk, topic: &str, code: i32) -> Step {
    let draft = Draft::new(desk, topic, 0);
    match code {
        0 => store(desk, &draft).await.map(drop),
        code => refuse(desk, &format!("a send to {topic}"), &draft, code).await,
    }
}

pub(super) async fn examine(desk: &mut Desk) -> Step {
    for nth in 0..3 {
        let topic = format!("op-{}-{nth}", desk.name);
        accepted(desk, &topic).await?;
    }
    counted(desk).await?;
    refused(desk).await?;
    made(desk).await
}

/// Messages to each queue that takes them, and one more than there are.
async fn accepted(desk: &mut Desk, topic: &str) -> Step {
    let shape = topics::get(desk, topic).await?;
    let queues = shape.read.max(shape.write);
    let mut next: std::collections::BTreeMap<i32, i64> = (0..queues).map(|queue| (queue, 0)).collect();
    for nth in 0..LETTERS {
        let queue = if nth < LETTERS / 2 { nth as i32 % queues } else { -1 };
        let mut draft = match desk.draw("batch").percent(25) {
            true => Draft::batch(desk, topic, queue),
            false => Draft::new(desk, topic, queue),
        };
        if draft.members.is_empty() {
            draft.system_flag = desk.draw("compressed").pick(&[0, 0, 1, 0x101, 0x201, 0x301]);
            draft.reconsume_times = desk.draw("tries").pick(&[0, 0, 2]);
        }
        let chosen = queue < 0;
        // What the record says, beside what was sent.
        let sent = draft.clone();
        if shape.multi_tag {
            draft.system_flag |= 2;
        }
        let letters = store_as(desk, &sent, &draft).await?;
        for letter in &letters {
            let at = next.entry(letter.queue).or_insert(-1);
            let in_range = letter.queue >= 0 && letter.queue < if chosen { shape.write } else { queues };
            desk.equal(&format!("queue {} of {topic} being one of {shape:?}", letter.queue), in_range, true)?;
            if !chosen {
                desk.equal("the queue of the answer", letter.queue, queue)?;
            }
            desk.equal(
                &format!("the offset in queue {} of {topic}", letter.queue),
                letter.queue_offset,
                *at,
            )?;
            *at += 1;
        }
    }
    let draft = Draft::new(desk, topic, queues);
    refuse(desk, &format!("a send to queue {queues} of {topic}"), &draft, INVALID).await
}

/// Sends a draft whose records are to be as another one.
async fn store_as(desk: &mut Desk, sent: &Draft, stored: &Draft) -> Step<Vec<Letter>> {
    let what = format!("a send to {} queue {}", sent.topic, sent.queue);
    let answer = ask(desk, &what, sent).await?;
    crate::oracle::protocol::answer(
        &format!("{}: {what}", desk.name),
        &answer,
        0,
        &[("transactionId", sent.unique())],
    )?;
    let born = desk.connection.as_ref().map(Connection::local);
    let born = born.ok_or_else(|| desk.broken("an answer without a connection"))?;
    let letters = stored.letters(desk, &answer, born)?;
    desk.post(|post| post.letters.extend(letters.iter().cloned()));
    Ok(letters)
}

async fn refused(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-plain", desk.name);
    let usual = Shape { read: 2, write: 0, perm: 6, multi_tag: false, order: false, system_flag: 0 };
    topics::put(desk, &topic, &usual).await?;
    let one = |desk: &mut Desk| Draft::new(desk, &topic, 0);
    let batch = |desk: &mut Desk| Draft::batch(desk, &topic, 0);
    let to = |desk: &mut Desk, name: &str| Draft::new(desk, name, 0);
    let long = "x".repeat(128);
    let mut cases = vec![
        ("no queue to choose", Draft { queue: -1, ..one(desk) }, INVALID),
        ("no body", Draft { body: Vec::new(), ..one(desk) }, ILLEGAL),
        ("a bad name", to(desk, "op a"), INVALID),
        ("no name", to(desk, ""), INVALID),
        ("a long name", to(desk, &long), INVALID),
        ("a topic that takes none", to(desk, "SCHEDULE_TOPIC_XXXX"), FORBIDDEN),
        ("the half topic", to(desk, "RMQ_SYS_TRANS_HALF_TOPIC"), FORBIDDEN),
        ("moved offsets", to(desk, "OFFSET_MOVED_EVENT"), FORBIDDEN),
        ("a transaction's flag alone", Draft { system_flag: 8, ..one(desk) }, ILLEGAL),
        ("a timer", one(desk).with("TIMER_DELAY_SEC", "5"), ILLEGAL),
        ("a timer's moment", one(desk).with("TIMER_DELIVER_MS", "5000"), ILLEGAL),
        ("an inner batch", one(desk).with("INNER_NUM", "2"), ILLEGAL),
        ("an inner batch's flag", Draft { system_flag: 0x80, ..one(desk) }, ILLEGAL),
        ("a delayed batch", batch(desk).with("DELAY", "1"), ILLEGAL),
        ("a batch that is a transaction", Draft { system_flag: 4, ..batch(desk) }, ILLEGAL),
        ("half a batch", batch(desk).with("TRAN_MSG", "true"), ILLEGAL),
        ("a batch to try again", Draft { topic: "%RETRY%op".to_owned(), ..batch(desk) }, ILLEGAL),
        ("long properties", one(desk).with("long", &"p".repeat(PROPERTY_BYTES_MAX)), ILLEGAL),
    ];
    let mut delayed = batch(desk);
    delayed.members[1].1.push(("DELAY".to_owned(), "2".to_owned()));
    cases.push(("a batch with a delayed member", delayed, ILLEGAL));
    for (what, draft, code) in &cases {
        refuse(desk, what, draft, *code).await?;
    }
    let batch = batch(desk);
    let (code, fields, body) = batch.request(desk);
    desk.post(|post| post.refused.extend(batch.bodies()));
    let mut longer = body.clone();
    longer[3] += 1;
    for (what, body) in
        [("a batch that is cut off", &body[..body.len() - 1]), ("a batch with a wrong length", &longer)]
    {
        let answer = desk.call(code, fields.clone(), body, super::PATIENCE).await;
        let answer = answer.map_err(|why| desk.unanswered(what, why))?;
        crate::oracle::protocol::answer(&format!("{}: {what}", desk.name), &answer, ILLEGAL, &[])?;
    }
    for (field, value) in [(1, None), (4, Some("first")), (6, Some("9223372036854775808"))] {
        let draft = one(desk);
        let (code, mut fields, body) = draft.request(desk);
        let name = if code == SEND { LONG_NAMES[field] } else { LETTER_NAMES[field] };
        match value {
            Some(value) => drop(fields.insert(name.to_owned(), value.to_owned())),
            None => drop(fields.remove(name)),
        }
        desk.post(|post| post.refused.extend(draft.bodies()));
        let what = format!("a send with {name} = {value:?}");
        let answer = desk.call(code, fields, &body, super::PATIENCE).await;
        let answer = answer.map_err(|why| desk.unanswered(&what, why))?;
        crate::oracle::protocol::answer(&what, &answer, FAILED, &[])?;
    }
    Ok(())
}

/// Topics that sends make, and those that they do not.
async fn made(desk: &mut Desk) -> Step {
    let model = format!("op-{}-model", desk.name);
    let shape = Shape { read: 5, write: 3, perm: 7, multi_tag: true, order: false, system_flag: 0 };
    topics::put(desk, &model, &shape).await?;
    let usual = topics::get(desk, "TBW102").await?;
    let system_flag = |unit: bool| i32::from(unit);
    for (nth, (default_topic, queues)) in
        [("TBW102", 2), ("TBW102", 100), (&model, 2), (&model, 9)].into_iter().enumerate()
    {
        let topic = format!("op-{}-made-{nth}", desk.name);
        let unit = desk.draw("unit").percent(50);
        let from = if default_topic == "TBW102" { &usual } else { &shape };
        let queues_made = queues.min(from.write);
        let draft = Draft::new(desk, &topic, queues_made - 1);
        let draft = Draft { default_topic: default_topic.to_owned(), default_queues: queues, unit, ..draft };
        let stored = Draft { system_flag: if from.multi_tag { 2 } else { 0 }, ..draft.clone() };
        store_as(desk, &draft, &stored).await?;
        let expected = Shape {
            read: queues_made,
            write: queues_made,
            perm: 6,
            multi_tag: from.multi_tag,
            order: false,
            system_flag: system_flag(unit),
        };
        let found = topics::get(desk, &topic).await?;
        desk.equal(&format!("the topic {topic} as a send has made it"), found, expected)?;
    }
    let plain = format!("op-{}-plain", desk.name);
    for default_topic in [plain.as_str(), "op-nowhere"] {
        let number = desk.number();
        let topic = format!("op-{}-unmade-{number}", desk.name);
        let draft = Draft::new(desk, &topic, 0);
        let draft = Draft { default_topic: default_topic.to_owned(), ..draft };
        refuse(desk, &format!("a topic like {default_topic}"), &draft, NO_TOPIC).await?;
        desk.expect(
            "a topic that was not made",
            (topics::GET_TOPIC, &[("topic", &topic)], &[]),
            NO_TOPIC,
            &[],
        )
        .await?;
    }
    Ok(())
}

const RUNTIME_INFO: i32 = 28;
const VIEW: i32 = 33;
const STATS: i32 = 315;

/// What brokers count of sends.
async fn counted(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-counted", desk.name);
    let before = totals(desk).await?;
    let (mut messages, mut stored) = (0, Vec::new());
    for nth in 0..4 {
        let draft = if nth == 3 { Draft::batch(desk, &topic, 0) } else { Draft::new(desk, &topic, 0) };
        let letters = store(desk, &draft).await?;
        messages += letters.len() as i64;
        stored.extend(letters);
    }
    let draft = Draft { body: Vec::new(), ..Draft::new(desk, &topic, 0) };
    refuse(desk, "no body", &draft, ILLEGAL).await?;
    let after = totals(desk).await?;
    // As Java counts them: whole records.
    let mut bytes = 0;
    for letter in stored {
        let of = [("offset", &*letter.at.to_string())];
        bytes += desk.expect("what was counted", (VIEW, &of, &[]), 0, &[]).await?.body.len() as i64;
    }
    let more: Vec<i64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    desk.equal(
        "messages, those of today, bytes and failures counted",
        more,
        vec![messages, messages, bytes, 1],
    )?;
    for (name, expected) in [("TOPIC_PUT_NUMS", messages), ("TOPIC_PUT_SIZE", bytes)] {
        let fields = [("statsName", name), ("statsKey", topic.as_str())];
        let answer = desk.expect(name, (STATS, &fields, &[]), 0, &[]).await?;
        let sum = desk.json(name, &answer)?.pointer("/statsMinute/sum").and_then(serde_json::Value::as_i64);
        desk.equal(&format!("{name} of the last minute"), sum, Some(expected))?;
    }
    Ok(())
}

async fn totals(desk: &mut Desk) -> Step<Vec<i64>> {
    let answer = desk.expect("how the broker is", (RUNTIME_INFO, &[], &[]), 0, &[]).await?;
    let table = desk.json("how the broker is", &answer)?["table"].clone();
    let names =
        ["putMessageTimesTotal", "msgPutTotalTodayNow", "putMessageSizeTotal", "putMessageFailedTimes"];
    let number = |name: &&str| table[*name].as_str().and_then(|text| text.parse().ok());
    names
        .iter()
        .map(number)
        .collect::<Option<Vec<i64>>>()
        .ok_or_else(|| desk.broken(format!("it is {table}")))
}

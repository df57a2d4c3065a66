//! What a client has read from a broker, against what turns before have read and what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::compare::{expected, lines, number};

/// What a turn leaves to the next.
#[derive(Default)]
pub struct Left {
    pub read: Reading,
    /// Acknowledged after it was read.
    pub acknowledged: Vec<Value>,
    /// Nothing was added after it was read.
    pub is_all: bool,
}

/// Topic, queue and queue offset.
pub type Position = (String, i64, i64);

/// What a client has read from a broker.
#[derive(Default)]
pub struct Reading {
    pub queues: BTreeMap<(String, i64), Value>,
    pub messages: BTreeMap<Position, Value>,
    pub look_ups: usize,
}

fn position(line: &Value) -> Result<Position> {
    let topic = line["topic"].as_str().context("a topic")?.to_owned();
    Ok((topic, number(line, "queueId")?, number(line, "queueOffset")?))
}

impl Reading {
    /// # Errors
    /// When it contradicts itself: gaps, bounds that are not those of the messages, look-ups that give something else.
    pub fn from(path: &Path) -> Result<Reading> {
        let mut reading = Reading::default();
        let mut asked = BTreeSet::new();
        for mut line in lines(path)? {
            let fields = line.as_object_mut().context("an object")?;
            let kind = fields.remove("kind").context("a kind")?;
            let by = fields.remove("by");
            match kind.as_str() {
                Some("queue") => {
                    let topic = line["topic"].as_str().context("a topic")?.to_owned();
                    reading.queues.insert((topic, number(&line, "queueId")?), line);
                }
                Some("message") => {
                    let before = reading.messages.insert(position(&line)?, line);
                    ensure!(before.is_none(), "two messages at one place: {before:?}");
                }
                _ => {
                    let pulled = reading.messages.get(&position(&line)?);
                    ensure!(pulled == Some(&line), "asked for {by:?}, found {line}, pulled {pulled:?}");
                    let by = by.as_ref().and_then(Value::as_str).context("a key")?;
                    let matches = ["keys", "msgId", "offsetMsgId"].into_iter().any(|field| {
                        line[field].as_str().is_some_and(|text| text.split(' ').any(|key| key == by))
                    });
                    ensure!(matches, "asked for {by}, found {line}");
                    asked.insert((by.to_owned(), position(&line)?));
                }
            }
        }
        reading.look_ups = asked.len();
        for ((topic, queue), line) in &reading.queues {
            let here = (topic.clone(), *queue, i64::MIN)..=(topic.clone(), *queue, i64::MAX);
            let offsets: Vec<i64> = reading.messages.range(here).map(|((_, _, offset), _)| *offset).collect();
            let bounds = number(line, "min")?..number(line, "max")?;
            ensure!(offsets.iter().copied().eq(bounds), "{line}: not the offsets that were read");
        }
        Ok(reading)
    }
}

/// Answers that promise the message.
pub fn acknowledged(path: &Path) -> Result<Vec<Value>> {
    Ok(lines(path)?.into_iter().filter(|line| line["status"] == "SEND_OK").collect())
}

/// Where the record of an acknowledged message begins in the log: the last 8 bytes of its id.
pub fn log_position(ack: &Value) -> Result<u64> {
    let id = ack["offsetMsgId"].as_str().context("an id")?;
    let last = id.get(id.len().saturating_sub(16)..).context("a whole id")?;
    u64::from_str_radix(last, 16).with_context(|| format!("the id {id}"))
}

/// Every field of what was read before, and all that was acknowledged since.
pub fn is_what_was_left(before: &Left, found: &Reading) -> Result<()> {
    for (at, line) in &before.read.messages {
        let now = found.messages.get(at).with_context(|| format!("{line} is lost"))?;
        ensure!(now == line, "a message was\n{line}\nand now is\n{now}");
    }
    are_served(&before.acknowledged, found)?;
    for (queue, line) in &before.read.queues {
        let now = found.queues.get(queue).with_context(|| format!("{line} is lost"))?;
        let same = |field: &str| now[field] == line[field];
        ensure!(same("min") && same("committed"), "a queue was {line} and now is {now}");
        let (max, max_now) = (number(line, "max")?, number(now, "max")?);
        ensure!(max_now >= max && (max_now == max || !before.is_all), "a queue was {line} and now is {now}");
    }
    ensure!(
        !before.is_all || before.read.messages.len() == found.messages.len(),
        "messages came from nowhere"
    );
    Ok(())
}

/// Each of these answers to a send is true of what was read.
pub fn are_served(sent: &[Value], read: &Reading) -> Result<()> {
    for ack in sent {
        ensure!(ack["status"] == "SEND_OK", "{ack}");
        let message = read.messages.get(&position(ack)?).with_context(|| format!("{ack} is lost"))?;
        for field in ["msgId", "offsetMsgId"] {
            ensure!(ack[field] == message[field], "{field}: acknowledged {ack}, read {message}");
        }
        let index = number(ack, "index")?;
        for (field, mut value) in expected(index) {
            if field == "body" && index % 50 == 7 {
                value = value.as_str().expect("a text").repeat(200).into();
            }
            ensure!(message[field] == value, "{field}: sent {value}, read {message}");
        }
        ensure!(number(message, "flag")? == index, "sent {index}, read {message}");
        ensure!(number(message, "bornTimestamp")? > 0 && number(message, "storeTimestamp")? > 0, "{message}");
    }
    Ok(())
}

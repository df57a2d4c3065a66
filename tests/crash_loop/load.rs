//! Writers and a reader beside a broker that will be killed, and the look at all it has afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hotfire_core::message::StoredMessage;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{Answer, ConnectionHandle, ConnectionLimits, Handler};
use hotfire_core::remoting::headers::{
    PullMessageHeader, PullMessageResponse, SendMessageHeader, SendMessageResponse,
};
use hotfire_core::remoting::peer::Peers;
use hotfire_runtime::TokioRuntime;

use crate::ledger::{Copies, Ledger, Place};

pub const QUEUES: i32 = 4;
const TOPIC: &str = "CrashLoop";
const WRITERS: u64 = 8;
/// Sends of one writer that wait for their answers.
const IN_FLIGHT: u64 = 4;
const BODY_BYTES_MAX: u64 = 3_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// One in so many sends of SYNC_FLUSH does not wait for its flush.
const NO_WAIT: u64 = 5;
/// The subscription is in the request.
const WITH_SUBSCRIPTION: i32 = 4;

/// What writers, reader and judge share.
#[derive(Clone)]
pub struct Book {
    ledger: Arc<Mutex<Ledger>>,
    next: Arc<AtomicU64>,
    begun: Instant,
    /// What a message has that waits for no flush and no slave.
    without_wait: Copies,
}

impl Book {
    pub fn new(without_wait: Copies) -> Book {
        let next = Arc::new(AtomicU64::new(1));
        Book { ledger: Arc::default(), next, begun: Instant::now(), without_wait }
    }

    /// Since the book was begun.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks nobody for anything.
struct Silent;

impl Handler<TokioRuntime> for Silent {
    async fn handle(&self, _connection: &ConnectionHandle, _request: RemotingCommand) -> Answer {
        Answer::Never
    }
}

fn connect() -> Peers<TokioRuntime> {
    Peers::new(TokioRuntime::new("."), Arc::new(Silent), ConnectionLimits::default())
}

/// The same for the same words.
pub fn mix(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The whole body of a message follows from its number.
fn body(id: u64) -> Vec<u8> {
    let bytes = 17 + mix(id) % BODY_BYTES_MAX;
    let mut body = format!("{id:016x}:").into_bytes();
    body.extend((17..bytes).map(|at| b'a' + (mix(id ^ (at << 32)) % 26) as u8));
    body
}

/// # Errors
/// When it is the body of no message.
fn id_of(read: &[u8]) -> Result<u64> {
    let digits =
        read.get(..16).and_then(|digits| std::str::from_utf8(digits).ok()).context("a short body")?;
    let id = u64::from_str_radix(digits, 16).with_context(|| format!("a body of {digits:?}"))?;
    ensure!(body(id) == read, "message {id} has a changed body");
    Ok(id)
}

/// Sends until the broker is gone.
pub fn start_writers(broker: &str, book: &Book) -> Vec<tokio::task::JoinHandle<Result<()>>> {
    let writers = (0..WRITERS).map(|_| {
        let peers = connect();
        (0..IN_FLIGHT).map(move |_| peers.clone()).collect::<Vec<_>>()
    });
    let senders = writers.flatten();
    senders.map(|peers| tokio::spawn(write(peers, broker.to_owned(), book.clone()))).collect()
}

async fn write(peers: Peers<TokioRuntime>, broker: String, book: Book) -> Result<()> {
    while let Some(id) = send(&peers, &broker, &book).await?.id() {
        tokio::time::sleep(Duration::from_micros(mix(id ^ 11) % 8_000)).await;
    }
    Ok(())
}

/// What came of one send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    Acknowledged(u64, Copies),
    Refused(u64),
    /// No answer: the broker is gone.
    Unanswered,
}

impl Sent {
    fn id(self) -> Option<u64> {
        match self {
            Sent::Acknowledged(id, _) | Sent::Refused(id) => Some(id),
            Sent::Unanswered => None,
        }
    }
}

/// Sends the next message and notes what is known of it.
async fn send(peers: &Peers<TokioRuntime>, broker: &str, book: &Book) -> Result<Sent> {
    let id = book.next.fetch_add(1, Ordering::Relaxed);
    let queue_id = (mix(id ^ 7) % QUEUES as u64) as i32;
    let header = SendMessageHeader {
        producer_group: "crash-loop",
        topic: TOPIC,
        default_topic: "TBW102",
        default_topic_queue_nums: QUEUES,
        queue_id,
        properties: id.is_multiple_of(NO_WAIT).then_some("WAIT\u{1}false"),
        ..SendMessageHeader::default()
    };
    let mut request = RemotingCommand::request(request::SEND_MESSAGE_V2).with_body(body(id));
    header.encode_v2(&mut request.ext);
    book.ledger().sent(id, queue_id);
    let Ok(answer) = peers.call(broker, request, PATIENCE).await else { return Ok(Sent::Unanswered) };
    let copies = match answer.code {
        response::SUCCESS | response::FLUSH_DISK_TIMEOUT => Copies::All,
        response::SLAVE_NOT_AVAILABLE | response::FLUSH_SLAVE_TIMEOUT => Copies::One,
        _ => {
            book.ledger().refused(id);
            return Ok(Sent::Refused(id));
        }
    };
    let place: SendMessageResponse = answer.header().context("an answer to a send")?;
    ensure!(place.queue_id == queue_id, "message {id} went to queue {}", place.queue_id);
    // A master waits for its slave only where the sender does.
    let copies = if id.is_multiple_of(NO_WAIT) { book.without_wait } else { copies };
    book.ledger().acknowledged(id, place.queue_offset, book.now(), copies);
    Ok(Sent::Acknowledged(id, copies))
}

/// Sends one message after the other until one is acknowledged in all copies.
///
/// # Errors
/// When none is after `patience`.
pub async fn until_all_copies(broker: &str, book: &Book, patience: Duration) -> Result<()> {
    let peers = connect();
    let start = Instant::now();
    loop {
        let sent = send(&peers, broker, book).await?;
        if matches!(sent, Sent::Acknowledged(_, Copies::All)) {
            break;
        }
        ensure!(start.elapsed() < patience, "no slave follows after {patience:?}: {sent:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    peers.stop().await;
    Ok(())
}

/// Reads behind the writers until the broker is gone.
///
/// # Errors
/// When it is shown what it must not see.
pub async fn read_along(broker: String, book: Book, mut next: BTreeMap<i32, i64>) -> Result<()> {
    let peers = connect();
    loop {
        for queue in 0..QUEUES {
            let from = next.entry(queue).or_default();
            let Ok(answer) = peers.call(&broker, pull(queue, *from), PATIENCE).await else { return Ok(()) };
            for message in messages(&answer)? {
                let id = id_of(&message.body)?;
                book.ledger().shown((queue, message.queue_offset), id).context("read under load")?;
                *from = message.queue_offset + 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Waits for any answer of a broker to a reader.
///
/// # Errors
/// When it gives none.
pub async fn first_answer(broker: &str) -> Result<()> {
    let peers = connect();
    let answer = peers.call(broker, pull(0, 0), PATIENCE).await.context("pull")?;
    messages(&answer)?;
    peers.stop().await;
    Ok(())
}

/// Where each queue ends.
pub fn ends(found: &BTreeMap<Place, u64>) -> BTreeMap<i32, i64> {
    (0..QUEUES).map(|queue| (queue, found.range((queue, 0)..(queue + 1, 0)).count() as i64)).collect()
}

/// All messages that a broker has.
///
/// # Errors
/// When it does not answer, or with something else than messages.
pub async fn read_all(broker: &str) -> Result<BTreeMap<Place, u64>> {
    let peers = connect();
    let mut found = BTreeMap::new();
    for queue in 0..QUEUES {
        let mut next = 0;
        loop {
            let answer = peers.call(broker, pull(queue, next), PATIENCE).await.context("pull")?;
            match answer.code {
                // Nobody has sent a message yet.
                response::TOPIC_NOT_EXIST => break,
                response::SYSTEM_BUSY => continue,
                _ => {}
            }
            let place: PullMessageResponse = answer.header().context("an answer to a pull")?;
            let messages = messages(&answer)?;
            if messages.is_empty() {
                ensure!(place.max_offset == next, "queue {queue} ends at {}, read {next}", place.max_offset);
                break;
            }
            for message in messages {
                let here = (queue, message.queue_offset);
                ensure!(message.queue_id == queue, "a message of queue {} in {here:?}", message.queue_id);
                let twice = found.insert(here, id_of(&message.body)?);
                ensure!(twice.is_none(), "{here:?} was given twice");
                next = message.queue_offset + 1;
            }
        }
    }
    peers.stop().await;
    Ok(found)
}

fn pull(queue: i32, from: i64) -> RemotingCommand {
    let header = PullMessageHeader {
        consumer_group: "crash-loop".to_owned(),
        topic: TOPIC.to_owned(),
        queue_id: queue,
        queue_offset: from,
        max_msg_nums: 32,
        sys_flag: WITH_SUBSCRIPTION,
        subscription: Some("*".to_owned()),
        ..PullMessageHeader::default()
    };
    RemotingCommand::request(request::PULL_MESSAGE).with_header(&header)
}

/// The messages in an answer to a pull; none of one that says that there are none.
fn messages(answer: &RemotingCommand) -> Result<Vec<StoredMessage>> {
    match answer.code {
        response::SUCCESS => {}
        // No topic before the first message, no entry at a queue's end.
        response::PULL_NOT_FOUND
        | response::PULL_RETRY_IMMEDIATELY
        | response::PULL_OFFSET_MOVED
        | response::TOPIC_NOT_EXIST
        | response::SYSTEM_BUSY => return Ok(Vec::new()),
        code => bail!("a pull is answered {code}: {:?}", answer.remark),
    }
    let mut rest: Bytes = answer.body.to_bytes();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message = StoredMessage::decode(&rest).context("a record in the answer to a pull")?;
        rest = rest.slice((message.store_size as usize).min(rest.len())..);
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_message_and_any_change() {
        let mut bytes = body(77);
        assert_eq!(id_of(&bytes).expect("a message"), 77);
        *bytes.last_mut().expect("not empty") ^= 1;
        assert!(id_of(&bytes).is_err());
        assert!(id_of(b"short").is_err());
    }
}

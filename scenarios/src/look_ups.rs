//! Asks brokers for messages by their keys, by time and by tags, on the healed cluster and over real requests, from a node that no fault has
//! touched. A store alone is asked by its own program.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hotfire_core::message::StoredMessage;
use hotfire_core::message::sys_flag::pull;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::{
    self, OffsetResponse, PullMessageHeader, PullMessageResponse, QueryMessageHeader, SearchOffsetHeader,
};
use hotfire_core::remoting::peer::Peers;
use hotfire_core::runtime::Runtime as _;
use hotfire_core::store::index::By;
use hotfire_core::store::{Boundary, MessageStore};
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, address};
use crate::draw::{Draw, Key};
use crate::oracle::index_matches_log::{ANSWER_MAX, Answer, questions};
use crate::oracle::search::{ByTags, ByTime, End, TAGS};
use crate::plan::names;
use crate::platter::record::Record;

/// Records of each broker whose keys are asked for; all of them are judged on its disk at the end.
const RECORDS: usize = 60;
/// Searches by time in each queue.
const SEARCHES: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks whether there is something to ask a store alone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is to be asked, and what was answered.
#[derive(Default, Debug)]
pub struct LookUps {
    /// In the order in which they are asked, without answers yet. `None`: it is too early to ask.
    questions: Option<Questions>,
    answers: Questions,
    done: bool,
}

/// Questions, and then their answers.
#[derive(Clone, Default, Debug)]
pub struct Questions {
    pub by_key: Vec<Answer>,
    pub by_time: Vec<ByTime>,
    /// Where there is a network.
    pub by_tags: Vec<ByTags>,
}

/// Begins to ask for keys of the records that brokers have now.
pub fn start(cluster: &Cluster) {
    let mut asked = Questions::default();
    let random = Draw::new(cluster.plan.seed);
    for broker in names::brokers(&cluster.plan.settings) {
        let (_, disk) = cluster.witness.cached(&broker);
        for ((topic, key), (unique, store_ms)) in questions(&disk, RECORDS) {
            let times = window(store_ms, random.key("window", asked.by_key.len() as u64));
            asked.by_key.push(Answer {
                broker: broker.clone(),
                topic,
                key,
                unique,
                times,
                found: Vec::new(),
            });
        }
        let topics = cluster.topics();
        for ((topic, queue), _) in disk.queues.iter().filter(|((topic, _), _)| topics.contains(topic)) {
            let (topic, queue, broker) = (topic.clone(), *queue, broker.clone());
            let of_queue = |record: &&Record| {
                record.topic == topic && record.queue == queue && !disk.dropped.contains(&record.at)
            };
            let stored: Vec<(i64, i64)> = disk
                .log
                .records
                .iter()
                .filter(of_queue)
                .map(|record| (record.queue_offset, record.store_ms))
                .collect();
            if stored.is_empty() {
                continue;
            }
            for _ in 0..SEARCHES {
                let key = random.key("search", asked.by_time.len() as u64);
                let time_ms =
                    key.branch("record").pick(&stored).1 + key.branch("beside").pick(&[-1, 0, 0, 1]);
                for end in [End::First, End::Last] {
                    let (broker, topic) = (broker.clone(), topic.clone());
                    asked.by_time.push(ByTime { broker, topic, queue, time_ms, end, found: -1 });
                }
            }
            let from = random.key("pull", asked.by_tags.len() as u64).pick(&stored).0;
            asked.by_tags.push(ByTags { broker, topic, queue, from, found: Vec::new(), next: -1 });
        }
    }
    cluster.progress(|progress| progress.look_ups.questions = Some(asked));
    if !cluster.plan.settings.store_alone {
        let node = cluster.world.add_node("observer-1", address("observer-1"));
        let asking = cluster.clone();
        cluster.world.boot(node, move |rt| ask_brokers(rt, asking.clone()));
    }
}

/// The times from and to which records are asked for: all, or those around the time at which one was stored, by a
/// millisecond with it or without it.
fn window(store_ms: i64, key: Key) -> (i64, i64) {
    let beside = |label: &str| key.branch(label).pick(&[-2_000, -1, 0, 0, 1, 2_000]);
    match key.branch("kind").range(0, 3) {
        0 => (0, i64::MAX),
        1 => (store_ms + beside("from"), i64::MAX),
        2 => (0, store_ms + beside("to")),
        _ => (store_ms + beside("from"), store_ms + beside("to")),
    }
}

/// The answers, once all are there.
#[must_use]
pub fn answers(cluster: &Cluster) -> Option<Questions> {
    cluster.progress(|progress| progress.look_ups.done.then(|| progress.look_ups.answers.clone()))
}

fn answered(cluster: &Cluster, answers: Questions) {
    cluster.progress(|progress| {
        progress.look_ups.answers = answers;
        progress.look_ups.done = true;
    });
}

fn asked(cluster: &Cluster) -> Option<Questions> {
    cluster.progress(|progress| progress.look_ups.questions.clone())
}

async fn ask_brokers(rt: SimRuntime, cluster: Cluster) {
    let peers = Peers::new(rt.clone(), Arc::new(NoHandler), ConnectionLimits::default());
    let at = |broker: &str| cluster.broker_socket(broker).to_string();
    let mut answers = asked(&cluster).unwrap_or_default();
    for question in &mut answers.by_key {
        let header = QueryMessageHeader {
            topic: question.topic.clone(),
            key: question.key.clone(),
            max_num: ANSWER_MAX as i32,
            begin_timestamp: question.times.0,
            end_timestamp: question.times.1,
            unique_key: question.unique,
        };
        let command = RemotingCommand::request(request::QUERY_MESSAGE).with_header(&header);
        let Ok(answer) = peers.call(&at(&question.broker), command, TIMEOUT).await else {
            // Not asked to its end: the runner sees no answers.
            return;
        };
        if answer.code == response::SUCCESS {
            question.found = positions(answer.body.to_bytes());
        }
    }
    for question in &mut answers.by_time {
        let header = SearchOffsetHeader {
            topic: question.topic.clone(),
            queue_id: question.queue,
            timestamp: question.time_ms,
            boundary: match question.end {
                End::First => headers::Boundary::Lower,
                End::Last => headers::Boundary::Upper,
            },
        };
        let command = RemotingCommand::request(request::SEARCH_OFFSET_BY_TIMESTAMP).with_header(&header);
        let Ok(answer) = peers.call(&at(&question.broker), command, TIMEOUT).await else { return };
        question.found = answer.header::<OffsetResponse>().map_or(-1, |found| found.offset);
    }
    for question in &mut answers.by_tags {
        let header = PullMessageHeader {
            consumer_group: "observers".to_owned(),
            topic: question.topic.clone(),
            queue_id: question.queue,
            queue_offset: question.from,
            max_msg_nums: ANSWER_MAX as i32,
            sys_flag: pull::SUBSCRIPTION,
            subscription: Some(TAGS.join(" || ")),
            ..PullMessageHeader::default()
        };
        let command = RemotingCommand::request(request::PULL_MESSAGE).with_header(&header);
        let Ok(answer) = peers.call(&at(&question.broker), command, TIMEOUT).await else { return };
        question.next = answer.header::<PullMessageResponse>().map_or(-1, |next| next.next_begin_offset);
        question.found = positions(answer.body.to_bytes());
    }
    answered(&cluster, answers);
    peers.stop().await;
}

/// The program of a store alone answers what is asked.
pub async fn ask_store(rt: SimRuntime, cluster: Cluster, store: Arc<MessageStore<SimRuntime>>) {
    let mut answers = loop {
        match asked(&cluster) {
            Some(questions) => break questions,
            None => rt.sleep(LOOK_AGAIN).await,
        }
    };
    for question in &mut answers.by_key {
        let by = if question.unique { By::UniqueKey } else { By::Key };
        let found = store.query(by, &question.topic, &question.key, question.times, ANSWER_MAX).await;
        question.found = found.records.into_iter().rev().flat_map(positions).collect();
    }
    for question in &mut answers.by_time {
        let boundary = match question.end {
            End::First => Boundary::Lower,
            End::Last => Boundary::Upper,
        };
        let ByTime { topic, queue, time_ms, .. } = &*question;
        question.found = store.offset_by_time(topic, *queue, *time_ms, boundary).await;
    }
    answers.by_tags.clear();
    answered(&cluster, answers);
}

/// Where the records of an answer are.
fn positions(mut rest: Bytes) -> Vec<u64> {
    let mut found = Vec::new();
    while let Ok(message) = StoredMessage::decode(&rest) {
        found.push(message.physical_offset);
        rest = rest.slice((message.store_size as usize).min(rest.len())..);
    }
    found
}

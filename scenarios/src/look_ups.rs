//! Asks brokers for messages by their keys, by time, by tags and by place, and where their queues begin and end, on the healed cluster and over real requests, from a node that no fault has
//! touched. A store alone is asked by its own program.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hotfire_core::message::StoredMessage;
use hotfire_core::message::sys_flag::pull;
use hotfire_core::remoting::body::TopicStatsTable;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::{
    self, GetEarliestStoreTimeHeader, GetMaxOffsetHeader, GetMinOffsetHeader, GetTopicStatsHeader,
    OffsetResponse, PullMessageHeader, PullMessageResponse, QueryConsumerOffsetHeader, QueryMessageHeader,
    ResetOffsetHeader, SearchOffsetHeader, StoreTimeResponse, UpdateConsumerOffsetHeader, ViewMessageHeader,
};
use hotfire_core::remoting::peer::Peers;
use hotfire_core::remoting::{RemotingCommand, V5_0_0};
use hotfire_core::runtime::Runtime as _;
use hotfire_core::store::index::By;
use hotfire_core::store::{Boundary, MessageStore};
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, address};
use crate::draw::{Draw, Key};
use crate::oracle::bounds::{ByPlace, Few, OfQueue, Told};
use crate::oracle::group_offsets::{self, OfGroup, Target};
use crate::oracle::index_matches_log::{ANSWER_MAX, Answer, questions};
use crate::oracle::queue_matches_log::ReadBack;
use crate::oracle::search::{ByTags, ByTime, End, TAGS};
use crate::plan::names;
use crate::platter::record::Record;

/// Records of each broker whose keys are asked for; all of them are judged on its disk at the end.
const RECORDS: usize = 60;
/// Searches by time in each queue.
const SEARCHES: usize = 3;
/// Messages of each broker that are asked for by their places.
const PLACES: usize = 5;
/// Queues of each broker in which a group is moved, at least.
const MOVED_QUEUES: usize = 3;
/// How long one pull of each broker may be held at the end of a queue.
const HELD_MS: u64 = 2_000;
/// How much longer an answer to that is waited for.
const HELD_MAX: Duration = Duration::from_secs(20);
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
    /// Where there is a network; so are those below, but for the last.
    pub by_tags: Vec<ByTags>,
    pub of_queues: Vec<OfQueue>,
    pub of_groups: Vec<OfGroup>,
    pub by_place: Vec<ByPlace>,
    pub rotten: Vec<ReadBack>,
}

/// Begins to ask for keys of the records that brokers have now.
pub fn start(cluster: &Cluster) {
    let mut asked = Questions::default();
    let random = Draw::new(cluster.plan.seed);
    for broker in names::brokers(&cluster.plan.settings) {
        let (_, disk) = cluster.witness.cached(&broker);
        for ((topic, key), (unique, store_ms)) in questions(&disk, RECORDS) {
            let number = asked.by_key.len() as u64;
            let times = window(store_ms, random.key("window", number));
            let max = random.key("answer", number).pick(&[ANSWER_MAX, ANSWER_MAX, 1, 2, 3]);
            asked.by_key.push(Answer {
                broker: broker.clone(),
                topic,
                key,
                unique,
                times,
                max,
                end: disk.log.end,
                found: Vec::new(),
            });
        }
        asked.rotten.extend(cluster.witness.to_be_read(&broker));
        let step = disk.log.records.len().div_ceil(PLACES).max(1);
        let some = disk.log.records.iter().rev().step_by(step);
        asked.by_place.extend(some.map(|record| ByPlace {
            broker: broker.clone(),
            at: record.at,
            found: Vec::new(),
        }));
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
            let is_first = asked.of_queues.iter().all(|of| of.broker != broker);
            asked.of_queues.push(OfQueue {
                broker: broker.clone(),
                topic: topic.clone(),
                queue,
                from,
                count: random.key("few", asked.by_tags.len() as u64).pick(&[1, 2, 3, 5]),
                held_ms: if is_first { HELD_MS } else { 0 },
                told: Told::default(),
            });
            // Few queues begin behind 0: each of them is asked for.
            let begins_late = stored.first().is_some_and(|(first, _)| *first > 0);
            let of_broker = asked.of_groups.iter().filter(|of| of.broker == broker);
            if begins_late || of_broker.count() < MOVED_QUEUES {
                let key = random.key("moved", asked.of_groups.len() as u64);
                let some = key.branch("to").pick(&stored);
                let beside_ms = key.branch("beside").pick(&[-1, 0, 1]);
                let targets = [Target::Offset(some.0), Target::Time(some.1 + beside_ms), Target::End];
                asked.of_groups.push(OfGroup {
                    broker: broker.clone(),
                    topic: topic.clone(),
                    queue,
                    target: key.branch("target").pick(&targets),
                    committed: key.branch("committed").pick(&stored).0
                        + key.branch("past").pick(&[0, 1, 1_000]),
                    told: group_offsets::Told::default(),
                });
            }
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
            max_num: question.max as i32,
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
    let asking = Asking { rt: &rt, peers: &peers, cluster: &cluster };
    for question in &mut answers.of_queues {
        let Some(told) = asking.of_queue(question).await else { return };
        question.told = told;
    }
    for question in &mut answers.of_groups {
        let Some(told) = asking.of_group(question).await else { return };
        question.told = told;
    }
    for question in &mut answers.by_place {
        let header = ViewMessageHeader { offset: question.at.cast_signed(), ..ViewMessageHeader::default() };
        let command = RemotingCommand::request(request::VIEW_MESSAGE_BY_ID).with_header(&header);
        let Ok(answer) = peers.call(&at(&question.broker), command, TIMEOUT).await else { return };
        question.found = positions(answer.body.to_bytes());
    }
    for question in &mut answers.rotten {
        let header = PullMessageHeader {
            consumer_group: "observers".to_owned(),
            topic: question.topic.clone(),
            queue_id: question.queue,
            queue_offset: question.n,
            max_msg_nums: 1,
            sys_flag: pull::SUBSCRIPTION,
            subscription: Some("*".to_owned()),
            ..PullMessageHeader::default()
        };
        let command = RemotingCommand::request(request::PULL_MESSAGE).with_header(&header);
        let Ok(answer) = peers.call(&at(&question.broker), command, TIMEOUT).await else { return };
        question.found = positions(answer.body.to_bytes());
    }
    answered(&cluster, answers);
    peers.stop().await;
}

struct Asking<'a> {
    rt: &'a SimRuntime,
    peers: &'a Peers<SimRuntime>,
    cluster: &'a Cluster,
}

impl Asking<'_> {
    async fn ask(&self, broker: &str, command: RemotingCommand) -> Option<RemotingCommand> {
        let at = self.cluster.broker_socket(broker).to_string();
        self.peers.call(&at, command, TIMEOUT + HELD_MAX).await.ok()
    }

    /// Commits for a group, moves it, and lets it pull; `None`: no answer came.
    async fn of_group(&self, question: &OfGroup) -> Option<group_offsets::Told> {
        let OfGroup { broker, topic, queue, target, committed, .. } = question;
        let fresh = self.committed(question, "newcomers").await?;
        // Its first pull makes the group; who is not there cannot be moved.
        let header = GetMinOffsetHeader { topic: topic.clone(), queue_id: *queue };
        let min =
            self.ask(broker, RemotingCommand::request(request::GET_MIN_OFFSET).with_header(&header)).await?;
        let min = min.header::<OffsetResponse>().map_or(0, |found| found.offset);
        self.ask(broker, pull_of_one(question, min)).await?;
        let header = UpdateConsumerOffsetHeader {
            consumer_group: "travellers".to_owned(),
            topic: topic.clone(),
            queue_id: *queue,
            commit_offset: *committed,
        };
        let commit = RemotingCommand::request(request::UPDATE_CONSUMER_OFFSET).with_header(&header);
        self.ask(broker, commit).await?;
        let after = self.committed(question, "travellers").await?;
        let header = ResetOffsetHeader {
            topic: topic.clone(),
            group: "travellers".to_owned(),
            timestamp: if let Target::Time(ms) = target { *ms } else { -1 },
            is_force: true,
            queue_id: Some(*queue),
            offset: if let Target::Offset(offset) = target { Some(*offset) } else { None },
        };
        let mut reset = RemotingCommand::request(request::INVOKE_BROKER_TO_RESET_OFFSET).with_header(&header);
        reset.version = V5_0_0;
        self.ask(broker, reset).await?;
        let moved = self.committed(question, "travellers").await?;
        let asked = after.unwrap_or(0);
        let pull = pull_of_one(question, asked);
        let first = self.ask(broker, pull.clone()).await?;
        let second = self.ask(broker, pull).await?;
        let next: PullMessageResponse = first.header().unwrap_or_default();
        Some(group_offsets::Told {
            fresh,
            committed: after,
            moved,
            pulls: (first.code, second.code),
            next: next.next_begin_offset,
            asked,
        })
    }

    /// What a broker has on record of a group.
    async fn committed(&self, question: &OfGroup, group: &str) -> Option<Option<i64>> {
        let header = QueryConsumerOffsetHeader {
            consumer_group: group.to_owned(),
            topic: question.topic.clone(),
            queue_id: question.queue,
            ..QueryConsumerOffsetHeader::default()
        };
        let query = RemotingCommand::request(request::QUERY_CONSUMER_OFFSET).with_header(&header);
        let answer = self.ask(&question.broker, query).await?;
        Some(
            (answer.code == response::SUCCESS)
                .then(|| answer.header::<OffsetResponse>().map_or(-1, |found| found.offset)),
        )
    }

    /// `None`: no answer came.
    async fn of_queue(&self, question: &OfQueue) -> Option<Told> {
        let OfQueue { broker, topic, queue, from, count, held_ms, .. } = question;
        let (broker, topic, queue_id) = (broker.as_str(), topic.clone(), *queue);
        let offset =
            |answer: &RemotingCommand| answer.header::<OffsetResponse>().map_or(-1, |found| found.offset);
        let header = GetMinOffsetHeader { topic: topic.clone(), queue_id };
        let min =
            self.ask(broker, RemotingCommand::request(request::GET_MIN_OFFSET).with_header(&header)).await?;
        let header = GetMaxOffsetHeader { topic: topic.clone(), queue_id, ..GetMaxOffsetHeader::default() };
        let max =
            self.ask(broker, RemotingCommand::request(request::GET_MAX_OFFSET).with_header(&header)).await?;
        let header = GetEarliestStoreTimeHeader { topic: topic.clone(), queue_id };
        let earliest = RemotingCommand::request(request::GET_EARLIEST_MSG_STORETIME).with_header(&header);
        let earliest = self.ask(broker, earliest).await?;
        let header = GetTopicStatsHeader { topic: topic.clone() };
        let stats = RemotingCommand::request(request::GET_TOPIC_STATS_INFO).with_header(&header);
        let stats = self.ask(broker, stats).await?;
        let stats = TopicStatsTable::parse(&stats.body.to_bytes()).ok();
        let stats = stats.and_then(|stats| {
            let mut queues = stats.offset_table.into_iter();
            let (_, of) = queues.find(|(queue, _)| queue.queue_id == queue_id)?;
            Some((of.min_offset, of.max_offset, of.last_update_timestamp))
        });
        let pull = PullMessageHeader {
            consumer_group: "observers".to_owned(),
            topic,
            queue_id,
            queue_offset: *from,
            max_msg_nums: *count as i32,
            sys_flag: pull::SUBSCRIPTION,
            subscription: Some("*".to_owned()),
            ..PullMessageHeader::default()
        };
        let few =
            self.ask(broker, RemotingCommand::request(request::PULL_MESSAGE).with_header(&pull)).await?;
        let place: PullMessageResponse = few.header().unwrap_or_default();
        let at_end = PullMessageHeader {
            queue_offset: place.max_offset,
            sys_flag: pull::SUBSCRIPTION | if *held_ms > 0 { pull::SUSPEND } else { 0 },
            suspend_timeout_millis: held_ms.cast_signed(),
            ..pull
        };
        let begun = self.rt.now();
        let end =
            self.ask(broker, RemotingCommand::request(request::PULL_MESSAGE).with_header(&at_end)).await?;
        let after = self.rt.now().since(begun).as_millis();
        Some(Told {
            min: offset(&min),
            max: offset(&max),
            earliest_ms: earliest.header::<StoreTimeResponse>().map_or(-1, |time| time.timestamp),
            stats: stats.unwrap_or((-1, -1, -1)),
            few: Few {
                found: positions(few.body.to_bytes()),
                next: place.next_begin_offset,
                min: place.min_offset,
                max: place.max_offset,
            },
            end: (end.code, u64::try_from(after).unwrap_or(u64::MAX)),
        })
    }
}

/// A pull of one message by the group that is moved.
fn pull_of_one(question: &OfGroup, queue_offset: i64) -> RemotingCommand {
    let header = PullMessageHeader {
        consumer_group: "travellers".to_owned(),
        topic: question.topic.clone(),
        queue_id: question.queue,
        queue_offset,
        max_msg_nums: 1,
        sys_flag: pull::SUBSCRIPTION,
        subscription: Some("*".to_owned()),
        ..PullMessageHeader::default()
    };
    RemotingCommand::request(request::PULL_MESSAGE).with_header(&header)
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
        let found = store.query(by, &question.topic, &question.key, question.times, question.max).await;
        let found = found.unwrap_or_default();
        question.found = found.records.into_iter().rev().flat_map(positions).collect();
    }
    for question in &mut answers.by_time {
        let boundary = match question.end {
            End::First => Boundary::Lower,
            End::Last => Boundary::Upper,
        };
        let ByTime { topic, queue, time_ms, .. } = &*question;
        question.found = store.offset_by_time(topic, *queue, *time_ms, boundary).await.unwrap_or(-1);
    }
    for question in &mut answers.rotten {
        let ReadBack { topic, queue, n, .. } = &*question;
        let read = store.get(topic, *queue, *n, 1, &|_| true).await;
        question.found = read.messages.into_iter().flat_map(positions).collect();
    }
    answers.by_tags.clear();
    answers.of_queues.clear();
    answers.of_groups.clear();
    answers.by_place.clear();
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

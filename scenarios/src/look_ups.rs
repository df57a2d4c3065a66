//! Asks brokers for messages by their keys, on the healed cluster and over real requests, from a node that no fault has
//! touched. A store alone is asked by its own program.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hotfire_core::message::StoredMessage;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::QueryMessageHeader;
use hotfire_core::remoting::peer::Peers;
use hotfire_core::runtime::Runtime as _;
use hotfire_core::store::MessageStore;
use hotfire_core::store::index::By;
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, address, broker_socket};
use crate::oracle::index_matches_log::{ANSWER_MAX, Answer, questions};
use crate::plan::names;

/// Records of each broker whose keys are asked for; all of them are judged on its disk at the end.
const RECORDS: usize = 60;
const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks whether there is something to ask a store alone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is to be asked, and what was answered.
#[derive(Default, Debug)]
pub struct LookUps {
    /// In the order in which they are asked, without answers yet. `None`: it is too early to ask.
    questions: Option<Vec<Answer>>,
    answers: Vec<Answer>,
    done: bool,
}

/// Begins to ask for keys of the records that brokers have now.
pub fn start(cluster: &Cluster) {
    let mut asked = Vec::new();
    for broker in names::brokers(&cluster.plan.settings) {
        let (_, disk) = cluster.witness.cached(&broker);
        asked.extend(questions(&disk, RECORDS).into_iter().map(|((topic, key), unique)| Answer {
            broker: broker.clone(),
            topic,
            key,
            unique,
            found: Vec::new(),
        }));
    }
    cluster.progress(|progress| progress.look_ups.questions = Some(asked));
    if !cluster.plan.settings.store_alone {
        let node = cluster.world.add_node("observer-1", address("observer-1"));
        let asking = cluster.clone();
        cluster.world.boot(node, move |rt| ask_brokers(rt, asking.clone()));
    }
}

/// The answers, once all are there.
#[must_use]
pub fn answers(cluster: &Cluster) -> Option<Vec<Answer>> {
    cluster.progress(|progress| progress.look_ups.done.then(|| progress.look_ups.answers.clone()))
}

fn answered(cluster: &Cluster, answers: Vec<Answer>) {
    cluster.progress(|progress| {
        progress.look_ups.answers = answers;
        progress.look_ups.done = true;
    });
}

fn asked(cluster: &Cluster) -> Option<Vec<Answer>> {
    cluster.progress(|progress| progress.look_ups.questions.clone())
}

async fn ask_brokers(rt: SimRuntime, cluster: Cluster) {
    let peers = Peers::new(rt.clone(), Arc::new(NoHandler), ConnectionLimits::default());
    let mut answers = asked(&cluster).unwrap_or_default();
    for question in &mut answers {
        let header = QueryMessageHeader {
            topic: question.topic.clone(),
            key: question.key.clone(),
            max_num: ANSWER_MAX as i32,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key: question.unique,
        };
        let command = RemotingCommand::request(request::QUERY_MESSAGE).with_header(&header);
        let at = broker_socket(&question.broker).to_string();
        let Ok(answer) = peers.call(&at, command, TIMEOUT).await else {
            // Not asked to its end: the runner sees no answers.
            return;
        };
        if answer.code == response::SUCCESS {
            question.found = positions(answer.body.to_bytes());
        }
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
    for question in &mut answers {
        let by = if question.unique { By::UniqueKey } else { By::Key };
        let times = (0, i64::MAX);
        let found = store.query(by, &question.topic, &question.key, times, ANSWER_MAX).await;
        question.found = found.records.into_iter().rev().flat_map(positions).collect();
    }
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

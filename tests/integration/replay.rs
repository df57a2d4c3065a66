//! What real clients sent to a real broker, sent to ours: it answers as that one did.
//!
//! Places differ (offsets, times, ids), so codes, names of fields and shapes of bodies are compared. Pulls do not wait,
//! since what wakes them in a recording comes from another connection.

use crate::broker_node::{Client, config, create_topic, run, start};
use crate::golden;
use hotfire_core::message::properties;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request as ask, request_name, response};
use hotfire_core::remoting::headers::SendMessageHeader;
use hotfire_tests::TempDir;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How our answer relates to the recorded one.
enum Expected {
    /// The same code.
    Same,
    /// One of these, by what the queues hold.
    OneOf(&'static [i32]),
    /// Refused, because we do not have it.
    Refused(&'static [i32]),
}

/// `None`: the recording's request is not repeated.
fn expected(request: &RemotingCommand) -> Option<Expected> {
    Some(match request.code {
        ask::SEND_MESSAGE | ask::SEND_MESSAGE_V2 | ask::SEND_BATCH_MESSAGE => {
            let header = SendMessageHeader::decode_send(request.code, &request.ext).expect("a real header");
            let raw = header.properties.unwrap_or_default();
            let has = |name| properties::find(raw, name).is_some();
            let timer = has("TIMER_DELAY_SEC") || has("TIMER_DELAY_MS") || has("TIMER_DELIVER_MS");
            match () {
                () if timer => Expected::Refused(&[response::MESSAGE_ILLEGAL]),
                () => Expected::Same,
            }
        }
        ask::PULL_MESSAGE | ask::LITE_PULL_MESSAGE => Expected::OneOf(&[
            response::SUCCESS,
            response::PULL_NOT_FOUND,
            response::PULL_RETRY_IMMEDIATELY,
            response::PULL_OFFSET_MOVED,
            // The heartbeat that brought the newer subscription was cut from the recording.
            response::SUBSCRIPTION_NOT_LATEST,
        ]),
        ask::QUERY_CONSUMER_OFFSET => Expected::OneOf(&[response::SUCCESS, response::QUERY_NOT_FOUND]),
        // The recorded times are not those of this log.
        ask::QUERY_MESSAGE => Expected::OneOf(&[response::SUCCESS, response::QUERY_NOT_FOUND]),
        ask::VIEW_MESSAGE_BY_ID => Expected::OneOf(&[response::SUCCESS, response::SYSTEM_ERROR]),
        ask::UPDATE_CONSUMER_OFFSET
        | ask::GET_MAX_OFFSET
        | ask::GET_MIN_OFFSET
        | ask::SEARCH_OFFSET_BY_TIMESTAMP
        | ask::GET_EARLIEST_MSG_STORETIME
        | ask::HEART_BEAT
        | ask::UNREGISTER_CLIENT
        | ask::GET_CONSUMER_LIST_BY_GROUP
        | ask::LOCK_BATCH_MQ
        | ask::UNLOCK_BATCH_MQ => Expected::Same,
        // The recorded offset may be none of this log.
        ask::CONSUMER_SEND_MSG_BACK => Expected::OneOf(&[response::SUCCESS, response::SYSTEM_ERROR]),
        // Whoever asked is connected, as in the recording, and takes it.
        ask::SEND_REPLY_MESSAGE | ask::SEND_REPLY_MESSAGE_V2 => Expected::Same,
        // One way, and about places of another log.
        ask::END_TRANSACTION => return None,
        _ => return None,
    })
}

fn topic_of(request: &RemotingCommand) -> Option<&str> {
    let letters = matches!(request.code, ask::SEND_MESSAGE_V2 | ask::SEND_BATCH_MESSAGE);
    request.ext.get(if letters { "b" } else { "topic" })
}

/// Subscriptions by SQL are answered that there is none; all others are served.
fn uses_sql(place: &str) -> bool {
    place.contains("-sql.")
}

fn shape(body: &[u8]) -> Option<BTreeSet<String>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Some(members.keys().cloned().collect()),
        _ => None,
    }
}

#[test]
fn recorded_clients_are_answered_as_the_original_answered_them() {
    run(async {
        let mut compared = BTreeMap::<i32, usize>::new();
        for transcript in golden::conversations().expect("the transcripts are whole") {
            // What tools ask depends on other recordings; in the others, a slave matters.
            let elsewhere = ["mqadmin", "syncmaster"];
            let is_elsewhere =
                |exchange: &golden::Exchange| elsewhere.iter().any(|part| exchange.place.contains(part));
            if transcript.iter().any(is_elsewhere) {
                continue;
            }
            let dir = TempDir::new("replay");
            let mut config = config();
            config.identity.name = "golden-a".to_owned();
            config.identity.cluster = "GoldenCluster".to_owned();
            let broker = start(&dir, &config).await;
            let setup = Client::of(&broker);
            let topics: BTreeSet<&str> =
                transcript.iter().filter_map(|exchange| topic_of(&exchange.request)).collect();
            for topic in topics.into_iter().filter(|topic| !topic.starts_with('%')) {
                setup.ask(create_topic(topic, 8)).await;
            }
            let mut connections = BTreeMap::new();
            for exchange in &transcript {
                let connection =
                    connections.entry(&exchange.connection).or_insert_with(|| Client::of(&broker));
                let request = &exchange.request;
                let Some(expected) = expected(request) else { continue };
                let mut sent = request.clone();
                if let Some(flags) = request
                    .ext
                    .get("sysFlag")
                    .filter(|_| matches!(request.code, ask::PULL_MESSAGE | ask::LITE_PULL_MESSAGE))
                {
                    let flags: i32 = flags.parse().expect("a number");
                    sent.ext.set("sysFlag", flags & !2);
                }
                let answer = connection.ask(sent).await;
                assert_eq!(answer.serialize_type, request.serialize_type, "{}", exchange.place);
                let Some(recorded) = &exchange.answer else { continue };
                let place = format!("{} {}", exchange.place, request_name(request.code));
                check(&place, expected, &answer, recorded);
                *compared.entry(request.code).or_default() += 1;
            }
            broker.stop().await.expect("a clean stop");
        }
        for code in [10, 310, 320, 11, 361, 14, 29, 30, 31, 32, 33, 34, 35, 38, 41, 42, 325] {
            assert!(compared.contains_key(&code), "{code} was never compared");
        }
    });
}

fn check(place: &str, expected: Expected, answer: &RemotingCommand, recorded: &RemotingCommand) {
    let sql_pull = uses_sql(place) && answer.code == response::SYSTEM_ERROR;
    let same_code = match expected {
        Expected::Same => answer.code == recorded.code,
        Expected::OneOf(codes) => codes.contains(&answer.code) || sql_pull,
        Expected::Refused(codes) => codes.contains(&answer.code),
    };
    assert!(same_code, "{place}: {} {:?} instead of {}", answer.code, answer.remark, recorded.code);
    if answer.code != recorded.code {
        return;
    }
    // A 5.x broker offers shorter heartbeats; we do not, so clients send whole ones.
    let offers = ["IS_SUPPORT_HEART_BEAT_V2", "IS_SUB_CHANGE"];
    for (name, _) in recorded.ext.iter().filter(|(name, _)| !offers.contains(name)) {
        assert!(answer.ext.get(name).is_some(), "{place}: {name} is missing");
    }
    let (ours, theirs) = (answer.body.to_bytes(), recorded.body.to_bytes());
    assert_eq!(ours.is_empty(), theirs.is_empty(), "{place}: a body or none");
    assert_eq!(shape(&ours), shape(&theirs), "{place}");
}

//! A broker in ordinary life: messages in and out, waiting for them, offsets, clients, a restart.

use crate::broker_node::*;
use hotfire_core::message::batch::{BatchItem, encode_item};
use hotfire_core::message::{id, properties};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::*;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_tests::TempDir;
use std::collections::BTreeSet;
use std::time::Duration;

async fn commit(client: &Client, topic: &str, queue_id: i32, offset: i64) {
    let header = UpdateConsumerOffsetHeader {
        consumer_group: "CG".to_owned(),
        topic: topic.to_owned(),
        queue_id,
        commit_offset: offset,
    };
    client.done(RemotingCommand::request(ask::UPDATE_CONSUMER_OFFSET).with_header(&header)).await;
}

/// The committed offset, or the code of the refusal.
async fn committed(client: &Client, topic: &str, queue_id: i32) -> Result<i64, i32> {
    let header = QueryConsumerOffsetHeader {
        consumer_group: "CG".to_owned(),
        topic: topic.to_owned(),
        queue_id,
        set_zero_if_not_found: Some(false),
    };
    let answer = client.ask(RemotingCommand::request(ask::QUERY_CONSUMER_OFFSET).with_header(&header)).await;
    match answer.code {
        response::SUCCESS => Ok(answer.header::<OffsetResponse>().expect("an offset").offset),
        code => Err(code),
    }
}

async fn max_offset(client: &Client, topic: &str, queue_id: i32) -> i64 {
    let header = GetMaxOffsetHeader { topic: topic.to_owned(), queue_id, committed: None };
    let answer = client.done(RemotingCommand::request(ask::GET_MAX_OFFSET).with_header(&header)).await;
    answer.header::<OffsetResponse>().expect("an offset").offset
}

/// Pulls until the queue has shown `count` messages from `offset` on.
async fn pull_all(client: &Client, topic: &str, queue_id: i32, offset: i64, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = offset;
    while found.len() < count {
        let mut header = pull_header(topic, queue_id, next, "*");
        header.sys_flag |= 2;
        header.suspend_timeout_millis = 15_000;
        let answer = client.done(pull(&header)).await;
        found.extend(bodies(&answer));
        next = answer.header::<PullMessageResponse>().expect("offsets").next_begin_offset;
    }
    found
}

#[test]
fn messages_topics_and_offsets_survive_a_restart() {
    run(async {
        for config in [config(), sync_flush()] {
            let dir = TempDir::new("restart");
            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            for number in 0..10 {
                let properties = format!("TAGS\u{1}TagA\u{2}KEYS\u{1}k{number}\u{2}WAIT\u{1}true");
                let answer =
                    client.done(send(&send_header("Life", 1, &properties), format!("m{number}"))).await;
                let sent: SendMessageResponse = answer.header().expect("a send's answer");
                assert_eq!((sent.queue_id, sent.queue_offset), (1, number));
                let (host, _) = id::parse(&sent.msg_id).expect("an id");
                assert_eq!(host, broker.local_addr());
                assert_eq!(answer.ext.get("MSG_REGION"), Some("DefaultRegion"));
                assert_eq!(answer.ext.get("TRACE_ON"), Some("true"));
            }
            assert_eq!(pull_all(&client, "Life", 1, 0, 10).await.last().map(String::as_str), Some("m9"));
            commit(&client, "Life", 1, 7).await;
            broker.stop().await.expect("a clean stop");

            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            assert_eq!(topic(&client, "Life").await.map(|topic| topic.write_queue_nums), Some(4));
            assert_eq!(committed(&client, "Life", 1).await, Ok(7));
            assert_eq!(pull_all(&client, "Life", 1, 7, 3).await, ["m7", "m8", "m9"]);
            let answer = client.done(send(&send_header("Life", 1, ""), "m10")).await;
            assert_eq!(answer.header::<SendMessageResponse>().expect("sent").queue_offset, 10);
            broker.stop().await.expect("a clean stop");
        }
    });
}

#[test]
fn a_message_is_stored_as_java_stores_it() {
    run(async {
        let dir = TempDir::new("fields");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let raw = "KEYS\u{1}k\u{2}UNIQ_KEY\u{1}U1\u{2}WAIT\u{1}true\u{2}INNER_MULTI_QUEUE_OFFSET\u{1}9\u{2}TAGS\u{1}T\u{e4}g\u{2}";
        let header = SendMessageHeader { flag: 5, reconsume_times: Some(2), ..send_header("Life", 0, raw) };
        let answer = client.done(send(&header, "k\u{f6}rper")).await;
        let sent: SendMessageResponse = answer.header().expect("a send's answer");
        let mut wait = pull_header("Life", 0, 0, "*");
        (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
        let stored = messages(&client.done(pull(&wait)).await).remove(0);
        assert_eq!(stored.offset_message_id(), sent.msg_id);
        let mut kept = properties::decode(&stored.properties);
        kept.remove(properties::CRC32);
        let expect = [("KEYS", "k"), ("UNIQ_KEY", "U1"), ("TAGS", "T\u{e4}g"), ("CLUSTER", "DefaultCluster")];
        assert_eq!(kept.iter().collect::<Vec<_>>(), expect);
        assert_eq!((stored.flag, stored.reconsume_times, stored.born_timestamp), (5, 2, 1_700_000_000_000));
        assert_eq!(stored.store_host, broker.local_addr());
        assert_eq!(stored.body, "k\u{f6}rper");
        let offset = stored.physical_offset as i64;
        let view = ViewMessageHeader { offset, ..Default::default() };
        let viewed = client.done(RemotingCommand::request(ask::VIEW_MESSAGE_BY_ID).with_header(&view)).await;
        assert_eq!(messages(&viewed), [stored]);
        let view = ViewMessageHeader { offset: 1 << 40, ..Default::default() };
        let absent = client.ask(RemotingCommand::request(ask::VIEW_MESSAGE_BY_ID).with_header(&view)).await;
        assert_eq!(absent.code, response::SYSTEM_ERROR);
        broker.stop().await.expect("a clean stop");
    });
}

fn query(key: &str, unique_key: bool, max_num: i32) -> RemotingCommand {
    RemotingCommand::request(ask::QUERY_MESSAGE).with_header(&QueryMessageHeader {
        topic: "Life".to_owned(),
        key: key.to_owned(),
        max_num,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        unique_key,
    })
}

/// Bodies of the messages with that key, and the last position in the index, once there are `count`.
async fn queried(client: &Client, request: &RemotingCommand, count: usize) -> (Vec<String>, i64) {
    loop {
        let answer = client.ask(request.clone()).await;
        let last: QueryMessageResponse = answer.header().expect("a header in every answer");
        let found = if answer.code == response::SUCCESS { bodies(&answer) } else { Vec::new() };
        if found.len() == count {
            return (found, last.index_last_update_phyoffset);
        }
        // The index follows dispatch.
        assert_eq!(answer.code, response::QUERY_NOT_FOUND);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn messages_are_queried_by_key_and_by_unique_key() {
    run(async {
        let dir = TempDir::new("query");
        let mut settings = config();
        settings.set("defaultQueryMaxNum", "2").expect("a known key");
        let broker = start(&dir, &settings).await;
        let client = Client::of(&broker);
        for n in 0..5 {
            let properties = format!("KEYS\u{1}order k{n}\u{2}UNIQ_KEY\u{1}U{n}\u{2}");
            client.done(send(&send_header("Life", n % 4, &properties), format!("body {n}"))).await;
        }
        let (last, at) = queried(&client, &query("k4", false, 32), 1).await;
        assert_eq!(last, ["body 4"]);
        assert!(at > 0);
        let (all, _) = queried(&client, &query("order", false, 32), 5).await;
        assert_eq!(
            all,
            ["body 0", "body 1", "body 2", "body 3", "body 4"],
            "the oldest first, as Java sorts them"
        );
        assert_eq!(
            queried(&client, &query("order", false, 2), 2).await.0,
            ["body 3", "body 4"],
            "the newest two"
        );
        assert_eq!(queried(&client, &query("U3", true, 0), 1).await.0, ["body 3"], "its own limit counts");
        assert_eq!(queried(&client, &query("U3", false, 32), 1).await.0, ["body 3"]);
        for nothing in [
            query("order", true, 32),
            query("order", false, 0),
            query("order", false, -1),
            query("", false, 9),
        ] {
            let answer = client.ask(nothing).await;
            assert_eq!(answer.code, response::QUERY_NOT_FOUND);
            assert_eq!(answer.remark.as_deref(), Some("can not find message, maybe time range not correct"));
            let last: QueryMessageResponse = answer.header().expect("a header");
            assert_eq!((last.index_last_update_timestamp, last.index_last_update_phyoffset), (0, 0));
        }
        // Clients that do not know the flag leave it out.
        let mut plain = RemotingCommand::request(ask::QUERY_MESSAGE);
        for (name, value) in [("topic", "Life"), ("key", "U3"), ("maxNum", "32"), ("beginTimestamp", "0")] {
            plain.ext.set_str(name, value);
        }
        plain.ext.set("endTimestamp", i64::MAX);
        assert_eq!(queried(&client, &plain, 1).await.0, ["body 3"]);
        broker.stop().await.expect("a clean stop");
        settings.set("messageIndexEnable", "false").expect("a known key");
        let broker = start(&dir, &settings).await;
        let answer = Client::of(&broker).ask(query("order", false, 32)).await;
        assert_eq!(answer.code, response::QUERY_NOT_FOUND);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_batch_has_consecutive_offsets_and_an_id_for_each_member() {
    run(async {
        let dir = TempDir::new("batch");
        let broker = start(&dir, &sync_flush()).await;
        let client = Client::of(&broker);
        let mut body = Vec::new();
        for (text, properties) in [("a", "TAGS\u{1}X"), ("b", "TAGS\u{1}Y"), ("c", "TAGS\u{1}X")] {
            encode_item(&BatchItem { flag: 0, body: text.as_bytes(), properties }, &mut body);
        }
        let header = SendMessageHeader { batch: true, ..send_header("Life", 2, "WAIT\u{1}true") };
        let answer = client.done(send(&header, body.clone())).await;
        let sent: SendMessageResponse = answer.header().expect("a send's answer");
        assert_eq!((sent.queue_id, sent.queue_offset), (2, 0));
        let ids: Vec<&str> = sent.msg_id.split(',').collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(pull_all(&client, "Life", 2, 0, 3).await, ["a", "b", "c"]);
        let only_x = client.done(pull(&pull_header("Life", 2, 0, "X"))).await;
        let read = messages(&only_x);
        assert_eq!(read.iter().map(|message| message.queue_offset).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(read[1].offset_message_id(), ids[2]);

        body.pop();
        let cut = client.ask(send(&header, body)).await;
        assert_eq!(cut.code, response::MESSAGE_ILLEGAL);
        broker.stop().await.expect("a clean stop");
    });
}

/// Recovery would put such a record into the other queue, in the place of that queue's own.
#[test]
fn a_member_of_a_batch_cannot_say_that_it_stands_in_another_queue() {
    run(async {
        let dir = TempDir::new("batch-light");
        let broker = start(&dir, &sync_flush()).await;
        let client = Client::of(&broker);
        client.done(send(&send_header("Other", 2, ""), b"its own".to_vec())).await;
        let mut body = Vec::new();
        let properties = "INNER_MULTI_DISPATCH\u{1}Other\u{2}INNER_MULTI_QUEUE_OFFSET\u{1}0\u{2}a\u{1}b";
        encode_item(&BatchItem { flag: 0, body: b"x", properties }, &mut body);
        let header = SendMessageHeader { batch: true, ..send_header("Life", 2, "") };
        client.done(send(&header, body)).await;
        let mut wait = pull_header("Life", 2, 0, "*");
        (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
        let read = messages(&client.done(pull(&wait)).await);
        assert!(!read[0].properties.contains("INNER_MULTI_QUEUE_OFFSET"), "{:?}", read[0].properties);
        assert!(read[0].properties.contains("a\u{1}b"));
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_held_pull_is_answered_by_the_message_it_wants() {
    run(async {
        let dir = TempDir::new("hold");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Life", 4)).await;
        let hold = |expression: &'static str, queue_id| {
            let client = client.clone();
            let mut header = pull_header("Life", queue_id, 0, expression);
            (header.sys_flag, header.suspend_timeout_millis) = (6, 60_000);
            tokio::spawn(async move {
                loop {
                    let answer = client.ask(pull(&header)).await;
                    // Nothing that matches, but something to go past: as a consumer does.
                    if answer.code != response::PULL_RETRY_IMMEDIATELY {
                        return answer;
                    }
                    header.queue_offset =
                        answer.header::<PullMessageResponse>().expect("offsets").next_begin_offset;
                }
            })
        };
        let (wanted, other_queue) = (hold("TagB", 0), hold("*", 1));
        client.done(send(&send_header("Life", 0, "TAGS\u{1}TagA"), "not wanted")).await;
        client.done(send(&send_header("Life", 0, "TAGS\u{1}TagB"), "wanted")).await;
        let answer = tokio::time::timeout(PATIENCE, wanted).await.expect("woken").expect("no panic");
        let next = answer.header::<PullMessageResponse>().expect("offsets").next_begin_offset;
        assert_eq!((answer.code, bodies(&answer)), (response::SUCCESS, vec!["wanted".to_owned()]));
        assert_eq!(next, 2);
        assert!(!other_queue.is_finished(), "a message of another queue wakes nobody");
        broker.stop().await.expect("a clean stop");
        assert!(
            tokio::time::timeout(PATIENCE, other_queue).await.is_ok(),
            "its connection ends with the broker"
        );
    });
}

#[test]
fn a_pull_that_does_not_wait_is_answered_at_once_with_all_its_offsets() {
    run(async {
        let dir = TempDir::new("pull");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        client.done(send(&send_header("Life", 0, "TAGS\u{1}TagA"), "m")).await;
        assert_eq!(pull_all(&client, "Life", 0, 0, 1).await, ["m"]);
        let cases = [
            (0, 1, "*", response::PULL_NOT_FOUND, 1),
            (0, 9, "*", response::PULL_OFFSET_MOVED, 1),
            (0, 0, "TagB", response::PULL_RETRY_IMMEDIATELY, 1),
            (3, 0, "*", response::PULL_NOT_FOUND, 0),
            (3, 5, "*", response::PULL_OFFSET_MOVED, 0),
        ];
        for (queue, offset, expression, code, next) in cases {
            let answer = client.ask(pull(&pull_header("Life", queue, offset, expression))).await;
            let offsets: PullMessageResponse = answer.header().expect("the required fields");
            assert_eq!(
                (answer.code, offsets.next_begin_offset),
                (code, next),
                "{queue}/{offset}/{expression}"
            );
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn what_is_not_allowed_or_not_there_is_refused_and_named() {
    run(async {
        let dir = TempDir::new("refuse");
        let mut config = config();
        config.topics.auto_create = false;
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        client.done(create_topic("Life", 2)).await;
        let sends = [
            (send(&send_header("Nowhere", 0, ""), "m"), response::TOPIC_NOT_EXIST, "Nowhere"),
            (send(&send_header("Life", 2, ""), "m"), response::INVALID_PARAMETER, "queueId"),
            (send(&send_header("SCHEDULE_TOPIC_XXXX", 0, ""), "m"), response::NO_PERMISSION, "SCHEDULE"),
            (send(&send_header("Life", 0, ""), ""), response::MESSAGE_ILLEGAL, "body"),
            (send(&send_header("Life", 0, ""), vec![0; 5 << 20]), response::MESSAGE_ILLEGAL, "bytes"),
        ];
        for (request, code, word) in sends {
            let answer = client.ask(request).await;
            assert_eq!(answer.code, code, "{:?}", answer.remark);
            assert!(
                answer.remark.as_deref().is_some_and(|remark| remark.contains(word)),
                "{:?}",
                answer.remark
            );
            assert_eq!(answer.ext.get("MSG_REGION"), Some("DefaultRegion"), "also in refusals");
        }
        assert_eq!(max_offset(&client, "Life", 0).await, 0, "nothing of it was stored");
        for code in [200_050, 9999] {
            let answer = client.ask(RemotingCommand::request(code)).await;
            assert_eq!(answer.code, response::REQUEST_CODE_NOT_SUPPORTED);
            assert_eq!(answer.remark, Some(format!(" request type {code} not supported")));
        }
        let malformed = client.ask(RemotingCommand::request(ask::PULL_MESSAGE)).await;
        assert_eq!(malformed.code, response::SYSTEM_ERROR);
        assert!(malformed.remark.is_some_and(|remark| remark.contains("consumerGroup")));
        let no_topic = client.ask(pull(&pull_header("Nowhere", 0, 0, "*"))).await;
        assert_eq!(no_topic.code, response::TOPIC_NOT_EXIST);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn offsets_are_kept_within_their_queues() {
    run(async {
        let dir = TempDir::new("offsets");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        for number in 0..3 {
            client.done(send(&send_header("Life", 0, ""), format!("m{number}"))).await;
        }
        pull_all(&client, "Life", 0, 0, 3).await;
        assert_eq!(committed(&client, "Life", 0).await, Err(response::QUERY_NOT_FOUND));
        let young = QueryConsumerOffsetHeader {
            consumer_group: "CG".to_owned(),
            topic: "Life".to_owned(),
            ..Default::default()
        };
        let answer =
            client.done(RemotingCommand::request(ask::QUERY_CONSUMER_OFFSET).with_header(&young)).await;
        assert_eq!(answer.header::<OffsetResponse>().expect("an offset").offset, 0);
        commit(&client, "Life", 0, 99).await;
        assert_eq!(committed(&client, "Life", 0).await, Ok(3));
        // A pull commits what it carries, whatever its own answer is.
        let mut header = pull_header("Life", 0, 3, "*");
        (header.sys_flag, header.commit_offset) = (5, 2);
        client.ask(pull(&header)).await;
        assert_eq!(committed(&client, "Life", 0).await, Ok(2));
        let search = |timestamp, boundary| {
            let header = SearchOffsetHeader { topic: "Life".to_owned(), queue_id: 0, timestamp, boundary };
            RemotingCommand::request(ask::SEARCH_OFFSET_BY_TIMESTAMP).with_header(&header)
        };
        let first = client.done(search(0, Boundary::Lower)).await;
        assert_eq!(first.header::<OffsetResponse>().expect("an offset").offset, 0);
        let past_all = client.done(search(i64::MAX / 2, Boundary::Lower)).await;
        assert_eq!(past_all.header::<OffsetResponse>().expect("an offset").offset, 3);
        broker.stop().await.expect("a clean stop");
    });
}

fn consumer_list() -> RemotingCommand {
    let header = GetConsumerListHeader { consumer_group: "CG".to_owned() };
    RemotingCommand::request(ask::GET_CONSUMER_LIST_BY_GROUP).with_header(&header)
}

async fn consumers(client: &Client) -> Vec<String> {
    let answer = client.done(consumer_list()).await;
    ConsumerList::parse(&answer.body.to_bytes()).expect("a list").consumer_id_list
}

#[test]
fn the_members_of_a_group_hear_of_each_other() {
    run(async {
        let dir = TempDir::new("clients");
        let broker = start(&dir, &config()).await;
        let (first, second) = (Client::of(&broker), Client::of(&broker));
        assert_eq!(first.ask(consumer_list()).await.code, response::SYSTEM_ERROR);
        first.done(heartbeat("one", &["Life"])).await;
        first.asked_for(ask::NOTIFY_CONSUMER_IDS_CHANGED).await;
        assert!(topic(&first, "%RETRY%CG").await.is_some(), "a group has its retry topic");
        second.done(heartbeat("two", &["Life"])).await;
        let notice = first.asked_for(ask::NOTIFY_CONSUMER_IDS_CHANGED).await;
        assert_eq!(notice.ext.get("consumerGroup"), Some("CG"));
        assert!(notice.is_oneway());
        assert_eq!(consumers(&first).await.len(), 2);

        // The subscription of the heartbeat is the filter of a pull that carries none.
        first.done(create_topic("Life", 4)).await;
        let mut plain = pull_header("Life", 0, 0, "");
        (plain.sys_flag, plain.subscription, plain.sub_version) = (0, None, 1);
        assert_eq!(first.ask(pull(&plain)).await.code, response::PULL_NOT_FOUND);
        plain.sub_version = 2;
        assert_eq!(first.ask(pull(&plain)).await.code, response::SUBSCRIPTION_NOT_LATEST);

        second.close();
        first.asked_for(ask::NOTIFY_CONSUMER_IDS_CHANGED).await;
        assert_eq!(consumers(&first).await, ["one"]);
        let leave = UnregisterClientHeader {
            client_id: "one".to_owned(),
            producer_group: Some("PG".to_owned()),
            consumer_group: Some("CG".to_owned()),
        };
        first.done(RemotingCommand::request(ask::UNREGISTER_CLIENT).with_header(&leave)).await;
        assert_eq!(first.ask(consumer_list()).await.code, response::SYSTEM_ERROR);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_queue_is_locked_by_one_client_at_a_time() {
    run(async {
        let dir = TempDir::new("locks");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let body = |client_id: &str| LockBatchRequestBody {
            client_id: client_id.to_owned(),
            consumer_group: "CG".to_owned(),
            mq_set: BTreeSet::from([MessageQueue {
                broker_name: broker.name().to_owned(),
                queue_id: 0,
                topic: "Life".to_owned(),
            }]),
            only_this_broker: false,
        };
        let request =
            |code, client_id: &str| RemotingCommand::request(code).with_body(body(client_id).to_json());
        let locked = |answer: RemotingCommand| {
            LockBatchResponseBody::parse(&answer.body.to_bytes()).expect("a set").lock_ok_mq_set.len()
        };
        assert_eq!(locked(client.done(request(ask::LOCK_BATCH_MQ, "one")).await), 1);
        assert_eq!(locked(client.done(request(ask::LOCK_BATCH_MQ, "two")).await), 0);
        client.done(request(ask::UNLOCK_BATCH_MQ, "one")).await;
        assert_eq!(locked(client.done(request(ask::LOCK_BATCH_MQ, "two")).await), 1);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn two_brokers_do_not_share_a_folder_and_a_taken_port_is_named() {
    run(async {
        let dir = TempDir::new("twice");
        let broker = start(&dir, &config()).await;
        let rt = hotfire_runtime::TokioRuntime::new(dir.path());
        let error =
            hotfire_core::broker::Broker::start(rt, config()).await.err().expect("refused").to_string();
        assert!(error.contains("in use"), "{error}");

        let other = TempDir::new("port");
        let mut taken = config();
        taken.identity.listen_port = broker.local_addr().port();
        let rt = hotfire_runtime::TokioRuntime::new(other.path());
        let error =
            hotfire_core::broker::Broker::start(rt.clone(), taken).await.err().expect("refused").to_string();
        assert!(error.contains(&broker.local_addr().to_string()), "{error}");
        // The failed start has let go of its folder.
        let again = hotfire_core::broker::Broker::start(rt, config()).await.expect("the folder is free");
        again.stop().await.expect("a clean stop");
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn sixty_four_sends_in_flight_are_all_answered_after_a_flush() {
    run(async {
        let dir = TempDir::new("pipeline");
        let broker = start(&dir, &sync_flush()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Life", 1)).await;
        let sends: Vec<_> = (0..64)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let answer = client.done(send(&send_header("Life", 0, ""), format!("m{number}"))).await;
                    answer.header::<SendMessageResponse>().expect("sent").queue_offset
                })
            })
            .collect();
        let mut offsets = BTreeSet::new();
        for send in sends {
            offsets.insert(
                tokio::time::timeout(Duration::from_secs(20), send)
                    .await
                    .expect("answered")
                    .expect("no panic"),
            );
        }
        assert_eq!(offsets, (0..64).collect::<BTreeSet<i64>>());
        assert_eq!(pull_all(&client, "Life", 0, 0, 64).await.len(), 64);
        broker.stop().await.expect("a clean stop");
    });
}

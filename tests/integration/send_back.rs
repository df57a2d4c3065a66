//! What becomes of a message that a consumer hands back, or that is to be delivered later.

use std::time::Instant;

use crate::broker_node::*;
use hotfire_core::config::{BrokerConfig, Role};
use hotfire_core::message::{StoredMessage, properties};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{BrokerStatsData, DelayOffsetWrapper, SubscriptionGroupConfig};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_core::store::DelayLevels;
use hotfire_tests::TempDir;

/// Levels 1 to 5 wait a second each, the sixth an hour.
fn quick(mut config: BrokerConfig) -> BrokerConfig {
    config.delay.levels = DelayLevels::parse("1s 1s 1s 1s 1s 1h").expect("levels");
    config
}

/// Hands back the record at `offset`, which is tried at most `max` times.
fn send_back(offset: u64, delay_level: i32, max: Option<i32>) -> RemotingCommand {
    let header = ConsumerSendMsgBackHeader {
        offset: i64::try_from(offset).expect("a small offset"),
        group: "CG".to_owned(),
        delay_level,
        max_reconsume_times: max,
        ..Default::default()
    };
    RemotingCommand::request(ask::CONSUMER_SEND_MSG_BACK).with_header(&header)
}

/// Waits for the message at `offset` of queue 0.
async fn wait_for(client: &Client, topic: &str, offset: i64) -> StoredMessage {
    let mut wait = pull_header(topic, 0, offset, "*");
    (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
    messages(&client.done(pull(&wait)).await).remove(0)
}

#[test]
fn a_message_that_is_handed_back_comes_again_later_and_too_often_is_dead() {
    run(async {
        for config in [quick(config()), quick(sync_flush())] {
            let dir = TempDir::new("send-back");
            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            client.done(send(&send_header("Life", 0, "KEYS\u{1}k\u{2}TAGS\u{1}A"), "again")).await;
            let sent = wait_for(&client, "Life", 0).await;
            let origin = sent.offset_message_id();
            let mut before = sent.clone();
            for times in 1..=2 {
                let began = Instant::now();
                let answer = client.done(send_back(before.physical_offset, 0, Some(2))).await;
                assert_eq!(answer.ext.len(), 0, "an answer to 36 has no fields");
                let retried = wait_for(&client, "%RETRY%CG", i64::from(times) - 1).await;
                assert!(began.elapsed().as_millis() >= 999, "not before its time");
                assert_eq!((&retried.body[..], retried.reconsume_times), (&b"again"[..], times));
                let kept = properties::decode(&retried.properties);
                assert_eq!(kept.get(properties::RETRY_TOPIC), Some("Life"));
                assert_eq!(kept.get(properties::ORIGIN_MESSAGE_ID), Some(origin.as_str()));
                assert_eq!(kept.get(properties::DELAY), Some((2 + times).to_string().as_str()));
                assert_eq!((kept.get(properties::KEYS), kept.get(properties::TAGS)), (Some("k"), Some("A")));
                before = retried;
            }
            client.done(send_back(before.physical_offset, 0, Some(2))).await;
            let dead = wait_for(&client, "%DLQ%CG", 0).await;
            assert_eq!((&dead.body[..], dead.reconsume_times), (&b"again"[..], 3));
            let topic = topic(&client, "%DLQ%CG").await.expect("it was created");
            assert_eq!((topic.write_queue_nums, topic.perm), (1, 6));
            client.done(send_back(sent.physical_offset, -1, None)).await;
            assert_eq!(wait_for(&client, "%DLQ%CG", 1).await.reconsume_times, 1);
            let counted = ViewBrokerStatsHeader {
                stats_name: "SNDBCK_PUT_NUMS".to_owned(),
                stats_key: "Life@CG".to_owned(),
            };
            let counted = RemotingCommand::request(ask::VIEW_BROKER_STATS_DATA).with_header(&counted);
            let counted =
                BrokerStatsData::parse(&client.done(counted).await.body.to_bytes()).expect("counts");
            assert_eq!(counted.stats_minute.sum, 4, "each by the topic that its message came from first");
            broker.stop().await.expect("a clean stop");
        }
    });
}

/// O-04. Whatever rule says how many slaves are waited for: each try would leave a copy.
#[test]
fn without_the_slaves_that_it_waits_for_nothing_is_handed_back() {
    run(async {
        for (in_sync_replicas, ack_by_all_in_sync) in [(0, false), (2, false), (2, true)] {
            let dir = TempDir::new("send-back-alone");
            let mut config = quick(config());
            config.identity.role = Role::SyncMaster;
            (config.ha.in_sync_replicas, config.ha.ack_by_all_in_sync) =
                (in_sync_replicas, ack_by_all_in_sync);
            config.ha.slave_timeout_ms = 100;
            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            client.ask(send(&send_header("Life", 0, ""), "again")).await;
            let sent = wait_for(&client, "Life", 0).await;
            let max = async || {
                let header = GetMaxOffsetHeader {
                    topic: "SCHEDULE_TOPIC_XXXX".to_owned(),
                    queue_id: 2,
                    ..Default::default()
                };
                let answer =
                    client.done(RemotingCommand::request(ask::GET_MAX_OFFSET).with_header(&header)).await;
                answer.header::<OffsetResponse>().expect("an offset").offset
            };
            for _ in 0..3 {
                let answer = client.ask(send_back(sent.physical_offset, 0, Some(2))).await;
                assert_eq!(answer.code, response::SYSTEM_ERROR, "{:?}", answer.remark);
            }
            // What was sent last is seen last.
            client.ask(send(&send_header("Life", 0, ""), "behind")).await;
            wait_for(&client, "Life", 1).await;
            assert_eq!(max().await, 0, "{in_sync_replicas} copies, all in sync: {ack_by_all_in_sync}");
            broker.stop().await.expect("a clean stop");
        }
    });
}

#[test]
fn what_lies_where_a_lost_message_lay_is_not_handed_back_for_it() {
    run(async {
        let dir = TempDir::new("send-back-other");
        let broker = start(&dir, &quick(config())).await;
        let client = Client::of(&broker);
        client.done(send(&send_header("Life", 0, "UNIQ_KEY\u{1}7F01AA"), "mine")).await;
        let sent = wait_for(&client, "Life", 0).await;
        let back = |offset, id: &str| {
            let mut header: ConsumerSendMsgBackHeader =
                send_back(offset, 0, None).header().expect("a header");
            header.origin_msg_id = Some(id.to_owned());
            RemotingCommand::request(ask::CONSUMER_SEND_MSG_BACK).with_header(&header)
        };
        let code = async |request| client.ask(request).await.code;
        assert_eq!(code(back(sent.physical_offset, "7F01AB")).await, response::SYSTEM_ERROR);
        for mine in ["7F01AA", "", &sent.offset_message_id(), &sent.offset_message_id().to_lowercase()] {
            assert_eq!(code(back(sent.physical_offset, mine)).await, response::SUCCESS, "{mine}");
        }
        // The first of the copies that now wait: no consumer was given one of those.
        let waiting = sent.physical_offset + u64::from(sent.store_size);
        assert_eq!(code(back(waiting, "7F01AA")).await, response::SYSTEM_ERROR);
        for copy in 0..4 {
            assert_eq!(wait_for(&client, "%RETRY%CG", copy).await.body, "mine");
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_send_back_that_cannot_be_done_is_refused_and_one_that_is_not_wanted_is_done() {
    run(async {
        let dir = TempDir::new("send-back-refused");
        let mut config = config();
        config.topics.auto_create_group = false;
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        let code = async |request| client.ask(request).await.code;
        assert_eq!(code(send_back(0, 0, None)).await, response::SUBSCRIPTION_GROUP_NOT_EXIST);
        let group = |retry_queue_nums| {
            let group = SubscriptionGroupConfig {
                group_name: "CG".to_owned(),
                retry_queue_nums,
                ..Default::default()
            };
            RemotingCommand::request(ask::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(group.to_json())
        };
        client.done(group(1)).await;
        assert_eq!(code(send_back(123, 0, None)).await, response::SYSTEM_ERROR, "there is no such record");
        client.done(group(0)).await;
        assert_eq!(code(send_back(123, 0, None)).await, response::SUCCESS, "the group wants no retries");
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_send_to_a_retry_topic_that_was_tried_too_often_is_a_dead_letter() {
    run(async {
        let dir = TempDir::new("dead-letter");
        let broker = start(&dir, &quick(config())).await;
        let client = Client::of(&broker);
        let header = SendMessageHeader {
            reconsume_times: Some(3),
            max_reconsume_times: Some(3),
            ..send_header("%RETRY%CG", 0, "DELAY\u{1}6\u{2}KEYS\u{1}k")
        };
        client.done(send(&header, "dead")).await;
        let dead = wait_for(&client, "%DLQ%CG", 0).await;
        assert_eq!((&dead.body[..], dead.reconsume_times), (&b"dead"[..], 3));
        let alive =
            SendMessageHeader { max_reconsume_times: Some(4), properties: Some("DELAY\u{1}1"), ..header };
        client.done(send(&alive, "alive")).await;
        assert_eq!(&wait_for(&client, "%RETRY%CG", 0).await.body[..], b"alive");
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_delayed_message_waits_through_a_restart_and_is_delivered_once() {
    run(async {
        let dir = TempDir::new("delayed");
        let config = quick(sync_flush());
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        let began = Instant::now();
        for (body, level) in [("first", "1"), ("far", "9"), ("second", "2")] {
            let raw = format!("DELAY\u{1}{level}\u{2}TAGS\u{1}A");
            client.done(send(&send_header("Later", 0, &raw), body)).await;
        }
        let first = wait_for(&client, "Later", 0).await;
        assert!(began.elapsed().as_millis() >= 999, "not before its time");
        assert_eq!(&first.body[..], b"first");
        let second = wait_for(&client, "Later", 1).await;
        assert_eq!((&second.body[..], second.queue_id), (&b"second"[..], 0));
        broker.stop().await.expect("a clean stop");

        let file = std::fs::read(dir.path().join("store/config/delayOffset.json")).expect("it is saved");
        let offsets = DelayOffsetWrapper::parse(&file).expect("Java's form").offset_table;
        assert_eq!(offsets.into_iter().collect::<Vec<_>>(), [(1, 1), (2, 1)]);
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        let raw = "DELAY\u{1}1";
        client.done(send(&send_header("Later", 0, raw), "third")).await;
        assert_eq!(&wait_for(&client, "Later", 2).await.body[..], b"third", "nothing comes again");
        let answer = client.done(RemotingCommand::request(ask::GET_ALL_DELAY_OFFSET)).await;
        let told = DelayOffsetWrapper::parse(&answer.body.to_bytes()).expect("offsets");
        assert_eq!(told.offset_table[&1], 2);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_saved_offset_beyond_its_queue_holds_nothing_back() {
    run(async {
        let dir = TempDir::new("delay-offset-ahead");
        let folder = dir.path().join("store/config");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("delayOffset.json"), "{\n\t\"offsetTable\":{1:7\n\t}\n}").expect("a file");
        let broker = start(&dir, &quick(config())).await;
        let client = Client::of(&broker);
        let cut = std::fs::read(folder.join("delayOffset.json")).expect("the file");
        assert_eq!(DelayOffsetWrapper::parse(&cut).expect("offsets").offset_table[&1], 0, "before it serves");
        client.done(send(&send_header("Later", 0, "DELAY\u{1}1"), "m")).await;
        assert_eq!(&wait_for(&client, "Later", 0).await.body[..], b"m");
        broker.stop().await.expect("a clean stop");
    });
}

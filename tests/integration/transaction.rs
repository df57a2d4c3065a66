//! Transactions by hand: what a broker stores, shows, asks and refuses.

use crate::broker_node::*;
use hotfire_core::config::BrokerConfig;
use hotfire_core::message::{StoredMessage, id, properties, sys_flag};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{BrokerStatsData, HeartbeatData, ProducerData};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_core::store::DelayLevels;
use hotfire_tests::TempDir;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HALF: &str = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}UNIQ_KEY\u{1}U1\u{2}TAGS\u{1}A\u{2}WAIT\u{1}true";
const COMMIT: i32 = 8;
const ROLLBACK: i32 = 12;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292 million")
}

/// A broker that asks soon.
fn asking() -> BrokerConfig {
    let mut config = config();
    config.transactions.timeout_ms = 300;
    config.transactions.check_interval_ms = 100;
    config
}

async fn send_half(client: &Client, queue: i32, body: &str) -> SendMessageResponse {
    let header = SendMessageHeader {
        sys_flag: sys_flag::TRANSACTION_PREPARED,
        born_timestamp: now_ms(),
        ..send_header("Orders", queue, HALF)
    };
    client.done(send(&header, body)).await.header().expect("a send's answer")
}

fn end(half: &SendMessageResponse, what: i32) -> RemotingCommand {
    let (_, physical_offset) = id::parse(&half.msg_id).expect("an id");
    let header = EndTransactionHeader {
        producer_group: "PG".to_owned(),
        tran_state_table_offset: half.queue_offset,
        commit_log_offset: i64::try_from(physical_offset).expect("a small offset"),
        commit_or_rollback: what,
        msg_id: "U1".to_owned(),
        ..Default::default()
    };
    RemotingCommand::request(ask::END_TRANSACTION).with_header(&header)
}

/// The first message of a queue from `offset` on, waited for.
async fn next(client: &Client, topic: &str, queue: i32, offset: i64) -> StoredMessage {
    let mut found = Vec::new();
    // A pull is held at the queue's end only, and that may be behind the offset.
    for at in 0..=offset {
        let mut wait = pull_header(topic, queue, at, "*");
        (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
        found = messages(&client.done(pull(&wait)).await);
    }
    found.remove(0)
}

async fn is_empty(client: &Client, topic: &str, queue: i32) -> bool {
    client.ask(pull(&pull_header(topic, queue, 0, "*"))).await.code == response::PULL_NOT_FOUND
}

#[test]
fn a_half_message_is_visible_when_it_is_committed_and_not_before() {
    run(async {
        for config in [config(), sync_flush()] {
            let dir = TempDir::new("transaction");
            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            let half = send_half(&client, 2, "paid").await;
            assert_eq!(
                (half.queue_id, half.queue_offset),
                (2, 0),
                "the queue asked for, the half topic's offset"
            );
            let stored = next(&client, "RMQ_SYS_TRANS_HALF_TOPIC", 0, 0).await;
            let kept = properties::decode(&stored.properties);
            assert_eq!(sys_flag::transaction_type(stored.sys_flag), sys_flag::TRANSACTION_NONE);
            assert_eq!(
                (kept.get(properties::REAL_TOPIC), kept.get(properties::REAL_QID)),
                (Some("Orders"), Some("2"))
            );
            assert_eq!(kept.get(properties::WAIT), Some("true"));
            assert!(is_empty(&client, "Orders", 2).await);

            client.done(end(&half, COMMIT)).await;
            let seen = next(&client, "Orders", 2, 0).await;
            assert_eq!(
                (&seen.body[..], seen.queue_offset, seen.born_timestamp),
                (&b"paid"[..], 0, stored.born_timestamp)
            );
            assert_eq!(sys_flag::transaction_type(seen.sys_flag), sys_flag::TRANSACTION_COMMIT);
            assert_eq!(u64::try_from(seen.prepared_transaction_offset), Ok(stored.physical_offset));
            let op = next(&client, "RMQ_SYS_TRANS_OP_HALF_TOPIC", 0, 0).await;
            assert_eq!((&op.body[..], properties::find(&op.properties, "TAGS")), (&b"0"[..], Some("d")));

            let half = send_half(&client, 1, "failed").await;
            client.done(end(&half, ROLLBACK)).await;
            assert_eq!(&next(&client, "RMQ_SYS_TRANS_OP_HALF_TOPIC", 0, 1).await.body[..], b"1");
            assert!(is_empty(&client, "Orders", 1).await);
            broker.stop().await.expect("a clean stop");
        }
    });
}

#[test]
fn an_end_that_names_no_half_message_of_its_group_is_refused() {
    run(async {
        let dir = TempDir::new("transaction-refused");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let half = send_half(&client, 0, "paid").await;
        let wrong_offset = SendMessageResponse { queue_offset: 1, ..half.clone() };
        let mut wrong_group = end(&half, COMMIT);
        wrong_group.ext.set_str("producerGroup", "OTHER");
        let mut nowhere = end(&half, COMMIT);
        nowhere.ext.set_str("commitLogOffset", "999999");
        for request in [end(&wrong_offset, COMMIT), wrong_group, nowhere] {
            assert_eq!(client.ask(request).await.code, response::SYSTEM_ERROR);
        }
        client.done(end(&half, COMMIT)).await;
        let seen = next(&client, "Orders", 0, 0).await;
        let final_one = SendMessageResponse { msg_id: seen.offset_message_id(), queue_offset: 0, ..half };
        assert_eq!(
            client.ask(end(&final_one, COMMIT)).await.code,
            response::SYSTEM_ERROR,
            "it is no half message"
        );
        broker.stop().await.expect("a clean stop");

        let mut rejecting = config();
        rejecting.transactions.reject = true;
        let broker = start(&dir, &rejecting).await;
        let header = send_header("Orders", 0, HALF);
        assert_eq!(Client::of(&broker).ask(send(&header, "x")).await.code, response::NO_PERMISSION);
        broker.stop().await.expect("a clean stop");
    });
}

/// T-04: it would wait in the half topic, where its group never looks.
#[test]
fn the_copy_that_a_consumer_hands_back_is_no_half_message() {
    run(async {
        let dir = TempDir::new("transaction-retry");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let header = SendMessageHeader {
            sys_flag: sys_flag::TRANSACTION_PREPARED,
            reconsume_times: Some(1),
            ..send_header("%RETRY%CG", 0, HALF)
        };
        client.done(send(&header, "again")).await;
        let seen = next(&client, "%RETRY%CG", 0, 0).await;
        assert_eq!((&seen.body[..], sys_flag::transaction_type(seen.sys_flag)), (&b"again"[..], 0));
        broker.stop().await.expect("a clean stop");
    });
}

async fn heartbeat(client: &Client) {
    let data = HeartbeatData {
        client_id: "producer".to_owned(),
        producer_data_set: vec![ProducerData { group_name: "PG".to_owned() }],
        ..HeartbeatData::default()
    };
    client.done(RemotingCommand::request(ask::HEART_BEAT).with_body(data.to_json())).await;
}

#[test]
fn a_producer_of_the_group_is_asked_until_it_says_something_and_its_answer_counts() {
    run(async {
        let dir = TempDir::new("transaction-check");
        let broker = start(&dir, &asking()).await;
        let (sender, other) = (Client::of(&broker), Client::of(&broker));
        send_half(&sender, 3, "paid").await;
        sender.close();
        heartbeat(&other).await;
        let first = other.asked_for(ask::CHECK_TRANSACTION_STATE).await;
        let again = other.asked_for(ask::CHECK_TRANSACTION_STATE).await;
        let place =
            |asked: &RemotingCommand| asked.header::<CheckTransactionStateHeader>().expect("its header");
        assert!(place(&again).tran_state_table_offset > place(&first).tran_state_table_offset);
        let shown = messages(&again).remove(0);
        assert_eq!((shown.topic.as_str(), shown.queue_id, &shown.body[..]), ("Orders", 3, &b"paid"[..]));
        assert_eq!(place(&again).transaction_id.as_deref(), Some("U1"));

        let answer = EndTransactionHeader {
            producer_group: "PG".to_owned(),
            tran_state_table_offset: place(&again).tran_state_table_offset,
            commit_log_offset: place(&again).commit_log_offset,
            commit_or_rollback: COMMIT,
            from_transaction_check: true,
            msg_id: "U1".to_owned(),
            ..Default::default()
        };
        other.done(RemotingCommand::request(ask::END_TRANSACTION).with_header(&answer)).await;
        assert_eq!(&next(&other, "Orders", 3, 0).await.body[..], b"paid");
        broker.stop().await.expect("a clean stop");
    });
}

/// T-03: it would be given up without one question.
#[test]
fn a_half_message_is_kept_while_its_group_is_down_and_asked_about_when_it_is_back() {
    run(async {
        let dir = TempDir::new("transaction-group-down");
        let mut config = asking();
        config.transactions.check_max = 1;
        let broker = start(&dir, &config).await;
        let (sender, other) = (Client::of(&broker), Client::of(&broker));
        send_half(&sender, 0, "paid").await;
        // It is put again by each check, without being counted.
        for offset in 0..=3 {
            let copy = next(&other, "RMQ_SYS_TRANS_HALF_TOPIC", 0, offset).await;
            assert_eq!(properties::find(&copy.properties, properties::TRANSACTION_CHECK_TIMES), None);
        }
        assert!(topic(&other, "TRANS_CHECK_MAX_TIME_TOPIC").await.is_none());
        heartbeat(&other).await;
        let asked = other.asked_for(ask::CHECK_TRANSACTION_STATE).await;
        assert_eq!(&messages(&asked).remove(0).body[..], b"paid");
        broker.stop().await.expect("a clean stop");
    });
}

/// How far the half topic goes.
async fn half_end(client: &Client) -> i64 {
    let header = GetMaxOffsetHeader {
        topic: "RMQ_SYS_TRANS_HALF_TOPIC".to_owned(),
        queue_id: 0,
        ..Default::default()
    };
    let answer = client.done(RemotingCommand::request(ask::GET_MAX_OFFSET).with_header(&header)).await;
    answer.header::<OffsetResponse>().expect("an offset").offset
}

#[test]
fn an_end_counts_for_the_copy_that_an_earlier_process_has_put() {
    run(async {
        let dir = TempDir::new("transaction-recalled");
        let broker = start(&dir, &asking()).await;
        let sender = Client::of(&broker);
        let half = send_half(&sender, 0, "paid").await;
        next(&sender, "RMQ_SYS_TRANS_HALF_TOPIC", 0, 1).await;
        broker.stop().await.expect("a clean stop");
        let broker = start(&dir, &asking()).await;
        let sender = Client::of(&broker);
        sender.done(end(&half, COMMIT)).await;
        next(&sender, "Orders", 0, 0).await;
        // A copy may be on its way now. From then on nothing is put again and nobody is asked.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let settled = half_end(&sender).await;
        heartbeat(&sender).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(half_end(&sender).await, settled);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_half_message_that_cannot_be_put_again_holds_up_nobody() {
    run(async {
        let dir = TempDir::new("transaction-full");
        let broker = start(&dir, &asking()).await;
        let client = Client::of(&broker);
        // As many properties as a record takes.
        let mut room = 32_767;
        loop {
            let properties = format!("{HALF}\u{2}FILLER\u{1}{}", "x".repeat(room));
            let header = SendMessageHeader {
                sys_flag: sys_flag::TRANSACTION_PREPARED,
                born_timestamp: now_ms(),
                ..send_header("Orders", 0, &properties)
            };
            if client.ask(send(&header, "full")).await.code == response::SUCCESS {
                break;
            }
            room -= 1;
        }
        send_half(&client, 0, "behind").await;
        let discarded = async {
            while topic(&client, "TRANS_CHECK_MAX_TIME_TOPIC").await.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            next(&client, "TRANS_CHECK_MAX_TIME_TOPIC", 0, 0).await
        };
        let discarded = tokio::time::timeout(PATIENCE, discarded).await.expect("it is never passed");
        assert_eq!(&discarded.body[..], b"full");
        heartbeat(&client).await;
        let asked = client.asked_for(ask::CHECK_TRANSACTION_STATE).await;
        assert_eq!(&messages(&asked).remove(0).body[..], b"behind");
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn what_nobody_settles_is_discarded_where_it_can_be_found_and_progress_survives_a_restart() {
    run(async {
        let dir = TempDir::new("transaction-discard");
        let mut config = asking();
        config.transactions.check_max = 2;
        config.store.flush = hotfire_core::config::FlushDisk::Sync;
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        heartbeat(&client).await;
        send_half(&client, 0, "forgotten").await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while topic(&client, "TRANS_CHECK_MAX_TIME_TOPIC").await.is_none() {
            assert!(tokio::time::Instant::now() < deadline, "it is never discarded");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let discarded = next(&client, "TRANS_CHECK_MAX_TIME_TOPIC", 0, 0).await;
        assert_eq!(&discarded.body[..], b"forgotten");
        assert_eq!(properties::find(&discarded.properties, properties::TRANSACTION_CHECK_TIMES), Some("2"));
        // The half message and two copies of it are passed.
        let passed = QueryConsumerOffsetHeader {
            consumer_group: "CID_RMQ_SYS_TRANS".to_owned(),
            topic: "RMQ_SYS_TRANS_HALF_TOPIC".to_owned(),
            queue_id: 0,
            set_zero_if_not_found: Some(false),
        };
        let passed = RemotingCommand::request(ask::QUERY_CONSUMER_OFFSET).with_header(&passed);
        loop {
            let answer = client.ask(passed.clone()).await;
            if answer.header::<OffsetResponse>().is_ok_and(|offset| offset.offset == 3) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "progress is never committed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        broker.stop().await.expect("a clean stop");
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        let answer = client.done(passed).await;
        assert_eq!(answer.header::<OffsetResponse>().expect("an offset").offset, 3);
        broker.stop().await.expect("a clean stop");
    });
}

/// Messages that came into each topic within the last minute.
async fn counted(client: &Client, topics: [&str; 3]) -> [i64; 3] {
    let mut counts = [0; 3];
    for (count, topic) in counts.iter_mut().zip(topics) {
        let header =
            ViewBrokerStatsHeader { stats_name: "TOPIC_PUT_NUMS".to_owned(), stats_key: topic.to_owned() };
        let answer =
            client.ask(RemotingCommand::request(ask::VIEW_BROKER_STATS_DATA).with_header(&header)).await;
        if answer.code == response::SUCCESS {
            let data = BrokerStatsData::parse(&answer.body.to_bytes()).expect("rates");
            *count = data.stats_minute.sum;
        }
    }
    counts
}

#[test]
fn a_message_counts_where_it_is_stored_while_it_waits_and_in_its_topic_afterwards() {
    run(async {
        let dir = TempDir::new("counted");
        let mut config = config();
        config.delay.levels = DelayLevels::parse("1s 1s").expect("levels");
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        client.done(create_topic("Orders", 4)).await;
        let topics = ["Orders", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"];
        assert_eq!(counted(&client, topics).await, [0, 0, 0]);
        let half = send_half(&client, 0, "half").await;
        assert_eq!(counted(&client, topics).await, [0, 0, 1]);
        client.done(end(&half, COMMIT)).await;
        assert_eq!(counted(&client, topics).await, [1, 0, 1]);
        client.done(send(&send_header("Orders", 1, "DELAY\u{1}2"), "late")).await;
        assert_eq!(counted(&client, topics).await, [1, 1, 1]);
        // It is counted when it has been delivered, which a consumer may notice first.
        while counted(&client, topics).await != [2, 1, 1] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        broker.stop().await.expect("a clean stop");
    });
}

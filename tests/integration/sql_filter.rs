//! SQL92 subscriptions as clients meet them: asked about, sent with heartbeats and with pulls, waited for, kept over a restart.

use crate::broker_node::*;
use hotfire_core::config::BrokerConfig;
use hotfire_core::filter::SQL92;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::*;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_tests::TempDir;

fn subscription(expression: &str, version: i64) -> SubscriptionData {
    SubscriptionData {
        class_filter_mode: false,
        code_set: Default::default(),
        expression_type: SQL92.to_owned(),
        sub_string: expression.to_owned(),
        sub_version: version,
        tags_set: Default::default(),
        topic: "Sql".to_owned(),
    }
}

fn heartbeat(expression: &str, version: i64) -> RemotingCommand {
    let consumer = ConsumerData {
        consume_from_where: ConsumeFromWhere::FirstOffset,
        consume_type: ConsumeType::Passively,
        group_name: "CG".to_owned(),
        message_model: MessageModel::Clustering,
        subscription_data_set: vec![subscription(expression, version)],
        unit_mode: false,
    };
    let body = HeartbeatData {
        client_id: "client".to_owned(),
        consumer_data_set: vec![consumer],
        ..Default::default()
    };
    RemotingCommand::request(ask::HEART_BEAT).with_body(body.to_json())
}

fn check(expression: &str) -> RemotingCommand {
    let body = CheckClientRequestBody {
        client_id: "client".to_owned(),
        group: "CG".to_owned(),
        subscription_data: subscription(expression, 1),
    };
    RemotingCommand::request(ask::CHECK_CLIENT_CONFIG).with_body(body.to_json())
}

/// A pull by the subscription of the last heartbeat.
fn by_heartbeat(offset: i64, version: i64) -> PullMessageHeader {
    PullMessageHeader {
        sys_flag: 0,
        subscription: None,
        sub_version: version,
        expression_type: Some(SQL92.to_owned()),
        ..pull_header("Sql", 0, offset, "")
    }
}

fn filtering() -> BrokerConfig {
    let mut settings = config();
    settings.set("enablePropertyFilter", "true").expect("a known key");
    settings
}

async fn send_one(client: &Client, number: usize, properties: &str) {
    client.done(send(&send_header("Sql", 0, properties), format!("m{number}"))).await;
}

#[test]
fn a_broker_without_the_setting_refuses_as_java_does() {
    run(async {
        let dir = TempDir::new("sql-off");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Sql", 1)).await;
        client.done(heartbeat("n > 1", 5)).await;
        let mut own = pull_header("Sql", 0, 0, "n > 1");
        own.expression_type = Some(SQL92.to_owned());
        for request in [check("n > 1"), pull(&by_heartbeat(0, 5)), pull(&own)] {
            let answer = client.ask(request).await;
            assert_eq!(answer.code, response::SYSTEM_ERROR);
            let remark = answer.remark.expect("a reason");
            assert_eq!(remark, "The broker does not support consumer to filter message by SQL92");
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn messages_are_filtered_by_the_expression_of_the_heartbeat_or_of_the_pull() {
    run(async {
        let dir = TempDir::new("sql");
        let broker = start(&dir, &filtering()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Sql", 1)).await;
        client.done(check("n > 1 AND s IN ('a')")).await;
        let refused = client.ask(check("n > 1 AND")).await;
        assert_eq!(refused.code, response::SUBSCRIPTION_PARSE_FAILED);
        assert!(refused.remark.is_some_and(|remark| remark.contains("character 10")));
        for (number, properties) in
            ["n\u{1}1", "n\u{1}2", "s\u{1}a", "n\u{1}many", "n\u{1}7\u{2}s\u{1}a"].iter().enumerate()
        {
            send_one(&client, number, properties).await;
        }
        // A queue shows a message once it is dispatched, and a pull is held at the queue's end only.
        for offset in 0..5 {
            let mut wait = pull_header("Sql", 0, offset, "*");
            (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
            client.done(pull(&wait)).await;
        }

        client.done(heartbeat("n > 1", 5)).await;
        let answer = client.done(pull(&by_heartbeat(0, 5))).await;
        assert_eq!(bodies(&answer), ["m1", "m4"]);
        assert_eq!(answer.header::<PullMessageResponse>().expect("offsets").next_begin_offset, 5);
        let answer = client.ask(pull(&by_heartbeat(2, 5))).await;
        assert_eq!((answer.code, bodies(&answer)), (response::SUCCESS, vec!["m4".to_owned()]));
        assert_eq!(client.ask(pull(&by_heartbeat(0, 6))).await.code, response::SUBSCRIPTION_NOT_LATEST);
        // An expression that cannot be read is not registered: the filter stays behind the subscription.
        client.done(heartbeat("n >", 7)).await;
        assert_eq!(client.ask(pull(&by_heartbeat(0, 7))).await.code, response::FILTER_DATA_NOT_LATEST);

        let mut own = pull_header("Sql", 0, 0, "NOT (n > 1)");
        own.expression_type = Some(SQL92.to_owned());
        assert_eq!(bodies(&client.done(pull(&own)).await), ["m0"]);
        own.subscription = Some("n > 7".to_owned());
        let answer = client.ask(pull(&own)).await;
        assert_eq!(answer.code, response::PULL_RETRY_IMMEDIATELY);
        assert_eq!(answer.header::<PullMessageResponse>().expect("offsets").next_begin_offset, 5);
        own.subscription = Some("n > ".to_owned());
        assert_eq!(client.ask(pull(&own)).await.code, response::SUBSCRIPTION_PARSE_FAILED);
        own.expression_type = Some("XPATH".to_owned());
        assert_eq!(client.ask(pull(&own)).await.code, response::SUBSCRIPTION_PARSE_FAILED);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_held_pull_wakes_for_what_its_expression_wants() {
    run(async {
        let dir = TempDir::new("sql-held");
        let broker = start(&dir, &filtering()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Sql", 1)).await;
        let mut held = pull_header("Sql", 0, 0, "n > 1");
        (held.sys_flag, held.suspend_timeout_millis) = (6, 15_000);
        held.expression_type = Some(SQL92.to_owned());
        // On one connection: the broker has read the pull before it reads what is sent. The first message is not for it.
        let (answer, ()) = tokio::join!(client.ask(pull(&held)), async {
            send_one(&client, 0, "n\u{1}1").await;
            send_one(&client, 1, "n\u{1}2").await;
        });
        assert_eq!((answer.code, bodies(&answer)), (response::SUCCESS, vec!["m1".to_owned()]));
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn filters_are_kept_in_javas_file() {
    run(async {
        let dir = TempDir::new("sql-file");
        let broker = start(&dir, &filtering()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Sql", 1)).await;
        client.done(heartbeat("n > 1", 5)).await;
        broker.stop().await.expect("a clean stop");
        let path = dir.path().join(&config().store.root).join("config/consumerFilter.json");
        let text = std::fs::read_to_string(&path).expect("the file");
        let file = ConsumerFilterWrapper::parse(text.as_bytes()).expect("Java's form");
        let filter = &file.filter_data_by_topic["Sql"].group_filter_data["CG"];
        assert_eq!((filter.expression.as_str(), filter.client_version), ("n > 1", 5));
        assert!(filter.dead_time >= filter.born_time, "the group has gone with its connection");
        let bloom = filter.bloom_filter_data.as_ref().expect("Java drops filters without it");
        assert_eq!((bloom.bit_num, bloom.bit_pos.len()), (112, 3));

        let broker = start(&dir, &filtering()).await;
        broker.stop().await.expect("a clean stop");
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), text, "nothing has changed");
    });
}

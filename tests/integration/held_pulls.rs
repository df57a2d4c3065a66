//! Pulls that wait at a broker whose operators, or whose own clients, change their minds meanwhile.

use crate::broker_node::*;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::SubscriptionGroupConfig;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_tests::TempDir;
use std::time::{Duration, Instant};

const TOPIC: &str = "Held";

/// A pull by the subscription of its group, held for a minute.
fn held() -> RemotingCommand {
    let header = PullMessageHeader {
        sys_flag: 2,
        sub_version: 1,
        subscription: None,
        suspend_timeout_millis: 60_000,
        ..pull_header(TOPIC, 0, 0, "")
    };
    pull(&header)
}

async fn send_one(client: &Client) {
    client.done(send(&send_header(TOPIC, 0, ""), "m")).await;
}

async fn permit(client: &Client, permission: i32) {
    let changed = format!("brokerPermission={permission}").into_bytes();
    client.done(RemotingCommand::request(ask::UPDATE_BROKER_CONFIG).with_body(changed)).await;
}

async fn enable(client: &Client, consume_enable: bool) {
    let group = SubscriptionGroupConfig { group_name: "CG".to_owned(), consume_enable, ..Default::default() };
    let changed = RemotingCommand::request(ask::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
    client.done(changed.with_body(group.to_json())).await;
}

#[test]
fn a_held_pull_is_answered_by_what_is_allowed_when_it_wakes() {
    run(async {
        let dir = TempDir::new("held");
        let broker = start(&dir, &config()).await;
        // Requests of one connection are taken up in turn: what follows a pull finds it held.
        let client = Client::of(&broker);
        client.done(create_topic(TOPIC, 1)).await;
        let beat = heartbeat("one", &[TOPIC]);
        client.done(beat.clone()).await;

        let (answer, ()) = tokio::join!(client.ask(held()), async {
            enable(&client, false).await;
            send_one(&client).await;
        });
        assert_eq!((answer.code, answer.body.len()), (response::NO_PERMISSION, 0), "{:?}", answer.remark);
        enable(&client, true).await;

        let next = PullMessageHeader { queue_offset: 1, ..held().header().expect("a pull") };
        let (answer, ()) = tokio::join!(client.ask(pull(&next)), async {
            client.done(heartbeat("one", &["Other"])).await;
            send_one(&client).await;
        });
        assert_eq!((answer.code, answer.body.len()), (response::SUBSCRIPTION_NOT_EXIST, 0));
        client.done(beat).await;

        let next = PullMessageHeader { queue_offset: 2, ..next };
        let (answer, ()) = tokio::join!(client.ask(pull(&next)), async {
            permit(&client, 2).await;
            send_one(&client).await;
        });
        assert_eq!((answer.code, answer.body.len()), (response::NO_PERMISSION, 0));
        permit(&client, 6).await;
        let found = client.ask(pull(&next)).await;
        assert_eq!((found.code, bodies(&found)), (response::SUCCESS, vec!["m".to_owned()]));
        broker.stop().await.expect("a clean stop");
    });
}

/// With short polling too, whose limit is far below the interval at which long polling looks.
#[test]
fn a_short_poll_of_a_topic_that_goes_is_answered_in_its_time() {
    run(async {
        let dir = TempDir::new("short");
        let mut config = config();
        (config.pull.long_polling, config.pull.short_polling_ms) = (false, 800);
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        client.done(create_topic(TOPIC, 1)).await;
        client.done(heartbeat("one", &[TOPIC])).await;
        let begun = Instant::now();
        assert_eq!(client.ask(held()).await.code, response::PULL_NOT_FOUND);
        let (answer, ()) = tokio::join!(client.ask(held()), async {
            let delete = DeleteTopicHeader { topic: TOPIC.to_owned() };
            client.done(RemotingCommand::request(ask::DELETE_TOPIC_IN_BROKER).with_header(&delete)).await;
        });
        assert_eq!(answer.code, response::TOPIC_NOT_EXIST);
        assert!(begun.elapsed() < Duration::from_secs(5), "two short polls took {:?}", begun.elapsed());
        broker.stop().await.expect("a clean stop");
    });
}

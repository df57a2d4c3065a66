//! Requests with replies, by hand: who gets a reply, and what its sender hears.

use crate::broker_node::*;
use hotfire_core::message::properties;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{HeartbeatData, ProducerData};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_tests::TempDir;

const REPLY_TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

async fn heartbeat(client: &Client, client_id: &str) {
    let data = HeartbeatData {
        client_id: client_id.to_owned(),
        producer_data_set: vec![ProducerData { group_name: "Askers".to_owned() }],
        ..HeartbeatData::default()
    };
    client.done(RemotingCommand::request(ask::HEART_BEAT).with_body(data.to_json())).await;
}

/// A reply for the client with this id, by letters or by names.
fn reply(code: i32, client_id: &str, body: &str) -> RemotingCommand {
    let properties =
        format!("MSG_TYPE\u{1}reply\u{2}REPLY_TO_CLIENT\u{1}{client_id}\u{2}CORRELATION_ID\u{1}c-1");
    let header = SendMessageHeader { sys_flag: 1, flag: 7, ..send_header(REPLY_TOPIC, 0, &properties) };
    let mut request = RemotingCommand::request(code).with_body(body.as_bytes().to_vec());
    match code {
        ask::SEND_REPLY_MESSAGE => header.encode(&mut request.ext),
        _ => header.encode_v2(&mut request.ext),
    }
    request
}

async fn stored_replies(client: &Client) -> Vec<String> {
    bodies(&client.ask(pull(&pull_header(REPLY_TOPIC, 0, 0, "*"))).await)
}

#[test]
fn a_reply_goes_to_the_client_that_asked_and_into_the_reply_topic() {
    run(async {
        for (config, code) in
            [(config(), ask::SEND_REPLY_MESSAGE), (sync_flush(), ask::SEND_REPLY_MESSAGE_V2)]
        {
            let dir = TempDir::new("reply");
            let broker = start(&dir, &config).await;
            let (asker, other, replier) = (Client::of(&broker), Client::of(&broker), Client::of(&broker));
            heartbeat(&asker, "asker@1").await;
            heartbeat(&other, "asker@2").await;
            let answer = replier.done(reply(code, "asker@1", "here you are")).await;
            let place: SendMessageResponse = answer.header().expect("a send's answer");
            assert_eq!((place.queue_id, place.queue_offset, place.msg_id.len()), (0, 0, 32));
            assert_eq!(answer.ext.get("MSG_REGION"), Some("DefaultRegion"));
            let pushed = asker.asked_for(ask::PUSH_REPLY_MESSAGE_TO_CLIENT).await;
            assert_eq!(&pushed.body.to_bytes()[..], b"here you are");
            let header: ReplyMessageHeader = pushed.header().expect("its header");
            assert_eq!((header.topic.as_str(), header.queue_id), (REPLY_TOPIC, 0));
            assert_eq!((header.sys_flag, header.flag, header.producer_group.as_str()), (1, 7, "PG"));
            assert_eq!(header.store_host, broker.address().to_string());
            assert!(header.born_host.starts_with("127.0.0.1:"), "{}", header.born_host);
            let kept = properties::decode(header.properties.as_deref().unwrap_or_default());
            assert_eq!(kept.get(properties::CORRELATION_ID), Some("c-1"));
            assert!(kept.get(properties::PUSH_REPLY_TIME).is_some());
            assert_eq!(stored_replies(&replier).await, ["here you are"]);
            broker.stop().await.expect("a clean stop");
        }
    });
}

#[test]
fn a_reply_that_nobody_takes_is_refused_and_not_stored() {
    run(async {
        let dir = TempDir::new("reply-refused");
        let broker = start(&dir, &config()).await;
        let (asker, replier) = (Client::of(&broker), Client::of(&broker));
        let refused = async |request| {
            let answer = replier.ask(request).await;
            assert_eq!(answer.code, response::SYSTEM_ERROR, "{:?}", answer.remark);
            answer.remark.unwrap_or_default()
        };
        let nobody = refused(reply(ask::SEND_REPLY_MESSAGE_V2, "asker@1", "lost")).await;
        assert_eq!(nobody, "push reply message fail, channel of <asker@1> not found.");
        heartbeat(&asker, "asker@1").await;
        // The client behind the connection says no.
        let no = refused(reply(ask::SEND_REPLY_MESSAGE_V2, "asker@1", REFUSED_BODY)).await;
        assert!(no.contains("it answered 1"), "{no}");
        let mut unnamed = reply(ask::SEND_REPLY_MESSAGE_V2, "asker@1", "lost");
        unnamed.ext.set_str("i", "MSG_TYPE\u{1}reply");
        assert!(refused(unnamed).await.contains("REPLY_TO_CLIENT"));
        // A heartbeat under another name takes the first away; so does the end of the connection.
        heartbeat(&asker, "asker@9").await;
        assert!(refused(reply(ask::SEND_REPLY_MESSAGE_V2, "asker@1", "lost")).await.contains("not found"));
        let header = UnregisterClientHeader {
            client_id: "asker@9".to_owned(),
            producer_group: Some("Askers".to_owned()),
            ..Default::default()
        };
        asker.done(RemotingCommand::request(ask::UNREGISTER_CLIENT).with_header(&header)).await;
        assert!(refused(reply(ask::SEND_REPLY_MESSAGE_V2, "asker@9", "lost")).await.contains("not found"));
        assert!(stored_replies(&replier).await.is_empty());
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_reply_is_not_stored_where_that_is_switched_off() {
    run(async {
        let dir = TempDir::new("reply-unstored");
        let mut config = config();
        config.send.store_replies = false;
        let broker = start(&dir, &config).await;
        let (asker, replier) = (Client::of(&broker), Client::of(&broker));
        heartbeat(&asker, "asker@1").await;
        let answer = replier.done(reply(ask::SEND_REPLY_MESSAGE_V2, "asker@1", "here")).await;
        let place: SendMessageResponse = answer.header().expect("a send's answer");
        assert_eq!((place.msg_id.as_str(), place.queue_offset), ("0", 0));
        assert!(stored_replies(&replier).await.is_empty());
        broker.stop().await.expect("a clean stop");
    });
}

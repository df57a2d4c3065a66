//! What a topic or a group may be called and may have, over the wire.

use crate::broker_node::*;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{
    SubscriptionGroupConfig, SubscriptionGroupList, TopicConfig, TopicConfigList,
    TopicConfigSerializeWrapper, TopicList,
};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_tests::TempDir;
use std::collections::BTreeMap;

const TOPIC: &str = "Attributes";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn alone(attributes: &str) -> RemotingCommand {
    let header = create_topic(TOPIC, 2).header().expect("a topic");
    let header = CreateTopicHeader { attributes: Some(attributes.to_owned()), ..header };
    RemotingCommand::request(ask::UPDATE_AND_CREATE_TOPIC).with_header(&header)
}

fn in_a_list(topic: &str, changes: &[(&str, &str)]) -> RemotingCommand {
    let topic = TopicConfig {
        topic_name: topic.to_owned(),
        read_queue_nums: 2,
        write_queue_nums: 2,
        perm: 6,
        attributes: map(changes),
        ..Default::default()
    };
    let body = TopicConfigList { topic_config_list: vec![topic] };
    RemotingCommand::request(ask::UPDATE_AND_CREATE_TOPIC_LIST).with_body(body.to_json())
}

fn group(list: bool, changes: &[(&str, &str)]) -> RemotingCommand {
    let group = SubscriptionGroupConfig {
        group_name: "AG".to_owned(),
        attributes: map(changes),
        ..Default::default()
    };
    let (code, body) = match list {
        false => (ask::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, group.to_json()),
        true => {
            let list = SubscriptionGroupList { group_config_list: vec![group] };
            (ask::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, list.to_json())
        }
    };
    RemotingCommand::request(code).with_body(body)
}

#[test]
fn attributes_are_checked_and_changed_by_whatever_request_names_them() {
    run(async {
        let dir = TempDir::new("attributes");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let refused = async |request: RemotingCommand| {
            let answer = client.ask(request).await;
            assert_eq!(answer.code, response::SYSTEM_ERROR);
            answer.remark.expect("a reason")
        };
        let attributes = async || topic(&client, TOPIC).await.map(|topic| topic.attributes);

        assert_eq!(refused(alone("+foo=x")).await, "unsupported key: foo");
        assert_eq!(refused(in_a_list(TOPIC, &[("+foo", "x")])).await, "unsupported key: foo");
        assert!(refused(alone("+queue.type=BatchCQ")).await.contains("BatchCQ"));
        assert_eq!(attributes().await, None, "nothing was created");
        client.done(alone("+message.type=FIFO,+queue.type=SimpleCQ")).await;
        let unchangeable = "attempt to update an unchangeable attribute. key: queue.type";
        assert_eq!(refused(in_a_list(TOPIC, &[("-queue.type", "")])).await, unchangeable);
        // What says nothing of attributes leaves them.
        client.done(in_a_list(TOPIC, &[])).await;
        client.done(create_topic(TOPIC, 2)).await;
        client.done(in_a_list(TOPIC, &[("+message.type", "DELAY")])).await;
        let expect = map(&[("message.type", "DELAY"), ("queue.type", "SimpleCQ")]);
        assert_eq!(attributes().await, Some(expect.clone()));
        broker.stop().await.expect("a clean stop");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        assert_eq!(topic(&client, TOPIC).await.map(|topic| topic.attributes), Some(expect));

        for list in [false, true] {
            let answer = client.ask(group(list, &[("+message.type", "FIFO")])).await;
            assert_eq!(answer.remark.as_deref(), Some("unsupported key: message.type"));
            client.done(group(list, &[])).await;
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn system_topics_are_the_brokers_and_traces_can_be_sent() {
    run(async {
        let dir = TempDir::new("system");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let listed = client.done(RemotingCommand::request(ask::GET_SYSTEM_TOPIC_LIST_FROM_BROKER)).await;
        let listed = TopicList::parse(&listed.body.to_bytes()).expect("topics").topic_list;
        for name in ["RMQ_SYS_TRACE_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC", "TBW102", "SCHEDULE_TOPIC_XXXX"] {
            assert!(listed.iter().any(|topic| topic == name), "{name} in {listed:?}");
            let delete = DeleteTopicHeader { topic: name.to_owned() };
            let delete = RemotingCommand::request(ask::DELETE_TOPIC_IN_BROKER).with_header(&delete);
            for request in [create_topic(name, 2), in_a_list(name, &[]), delete] {
                let answer = client.ask(request).await;
                assert_eq!(answer.code, response::INVALID_PARAMETER);
                let remark = format!("The topic[{name}] is conflict with system topic.");
                assert_eq!(answer.remark, Some(remark));
            }
        }
        assert!(listed.contains(&config().identity.name));
        // As a client's trace dispatcher does, which creates the topic where it is not there.
        client.done(send(&send_header("RMQ_SYS_TRACE_TOPIC", 0, "KEYS\u{1}k"), "Pub")).await;
        let mut wait = pull_header("RMQ_SYS_TRACE_TOPIC", 0, 0, "*");
        (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
        assert_eq!(bodies(&client.done(pull(&wait)).await), ["Pub"]);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_priority_chooses_the_queue_unless_the_message_is_of_another_type() {
    run(async {
        let dir = TempDir::new("priority");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Ranked", 4)).await;
        for (properties, queue) in [
            ("_SYS_MSG_PRIORITY_\u{1}2", 2),
            ("_SYS_MSG_PRIORITY_\u{1}9", 3),
            ("_SYS_MSG_PRIORITY_\u{1}-1", 1),
            ("_SYS_MSG_PRIORITY_\u{1}2\u{2}__SHARDINGKEY\u{1}s", 1),
        ] {
            let answer = client.done(send(&send_header("Ranked", 1, properties), "m")).await;
            let sent: SendMessageResponse = answer.header().expect("sent");
            assert_eq!(sent.queue_id, queue, "{properties}");
            let mut wait = pull_header("Ranked", queue, sent.queue_offset, "*");
            (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
            let stored = messages(&client.done(pull(&wait)).await).remove(0).properties;
            let kept = !properties.contains("__SHARDINGKEY");
            assert_eq!(stored.contains("_SYS_MSG_PRIORITY_"), kept, "{stored}");
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_topic_of_java_with_queues_of_batches_is_kept_and_not_served() {
    run(async {
        let dir = TempDir::new("batch-queues");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        client.done(create_topic(TOPIC, 2)).await;
        broker.stop().await.expect("a clean stop");
        let file = |name: &str| dir.path().join("store/config").join(name);
        let text = std::fs::read_to_string(file("topics.json")).expect("the topics");
        let mut table = TopicConfigSerializeWrapper::parse(text.as_bytes()).expect("topics");
        let topic = table.topic_config_table.get_mut(TOPIC).expect("the topic");
        topic.attributes = map(&[("queue.type", "BatchCQ")]);
        std::fs::write(file("topics.json"), table.to_java_json()).expect("write the topics");
        let offsets = format!(r#"{{"offsetTable":{{"{TOPIC}@AG":{{0:500}}}}}}"#);
        std::fs::write(file("consumerOffset.json"), &offsets).expect("write the offsets");

        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let deletion = DeleteTopicHeader { topic: TOPIC.to_owned() };
        for (request, code) in [
            (send(&send_header(TOPIC, 0, ""), "plain"), response::MESSAGE_ILLEGAL),
            (pull(&pull_header(TOPIC, 0, 0, "*")), response::SYSTEM_ERROR),
            (
                RemotingCommand::request(ask::DELETE_TOPIC_IN_BROKER).with_header(&deletion),
                response::SYSTEM_ERROR,
            ),
        ] {
            let answer = client.ask(request).await;
            assert_eq!(answer.code, code, "{:?}", answer.remark);
            let remark = answer.remark.expect("a reason");
            assert!(remark.contains("queue.type=BatchCQ"), "{remark}");
        }
        broker.stop().await.expect("a clean stop");
        let kept = std::fs::read_to_string(file("consumerOffset.json")).expect("the offsets");
        assert!(kept.contains("500"), "{kept}");
    });
}

#[test]
fn what_is_there_already_is_put_after_a_write_of_its_file_has_failed_and_stands_there_then() {
    run(async {
        let dir = TempDir::new("put-again");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let folder = dir.path().join("store/config");
        let before = std::fs::read(folder.join("topics.json")).expect("the topics of the start");
        client.done(create_topic(TOPIC, 2)).await;
        // No file can be made of that name.
        std::fs::create_dir(folder.join("topics.json.tmp")).expect("make a folder");
        for (topic, what) in [("Other", "cannot be written"), (TOPIC, "is not known to be written")] {
            assert_eq!(
                client.ask(create_topic(topic, 2)).await.code,
                response::SYSTEM_ERROR,
                "{topic} {what}"
            );
        }
        // As the deletion of the topic may leave it that has failed behind the rename.
        std::fs::write(folder.join("topics.json"), before).expect("write the topics");
        std::fs::remove_dir(folder.join("topics.json.tmp")).expect("remove the folder");
        client.done(create_topic(TOPIC, 2)).await;
        let text = std::fs::read(folder.join("topics.json")).expect("the topics");
        let table = TopicConfigSerializeWrapper::parse(&text).expect("topics").topic_config_table;
        assert!(table.contains_key(TOPIC) && !table.contains_key("Other"));
        broker.stop().await.expect("a clean stop");
    });
}

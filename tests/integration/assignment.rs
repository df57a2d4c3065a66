//! Brokers that say which queues a member of a group consumes.

use crate::broker_node::*;
use hotfire_core::broker::Broker;
use hotfire_core::config::{BrokerConfig, NameServerConfig};
use hotfire_core::name_server::NameServer;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{
    MessageModel, MessageQueue, MessageRequestMode, QueryAssignmentRequestBody, QueryAssignmentResponseBody,
    SetMessageRequestModeRequestBody,
};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_runtime::TokioRuntime;
use hotfire_tests::TempDir;
use std::collections::BTreeSet;

const TOPIC: &str = "Shared";

fn broker_config(name: &str, name_server: String) -> BrokerConfig {
    let mut config = config();
    config.identity.name = name.to_owned();
    config.registration.name_servers = name_server;
    config
}

/// What `client_id` is given; `None` when the broker cannot say.
async fn given(client: &Client, body: &QueryAssignmentRequestBody) -> Option<BTreeSet<MessageQueue>> {
    let answer = client.done(RemotingCommand::request(ask::QUERY_ASSIGNMENT).with_body(body.to_json())).await;
    let body = QueryAssignmentResponseBody::parse(&answer.body.to_bytes()).expect("an assignment");
    let given = body.message_queue_assignments?;
    assert!(given.iter().all(|assignment| assignment.mode == MessageRequestMode::Pull));
    Some(given.into_iter().map(|assignment| assignment.message_queue).collect())
}

fn queues(names: &[(&str, i32)]) -> Option<BTreeSet<MessageQueue>> {
    let queue = |(broker_name, queue_id): &(&str, i32)| MessageQueue {
        broker_name: (*broker_name).to_owned(),
        queue_id: *queue_id,
        topic: TOPIC.to_owned(),
    };
    Some(names.iter().map(queue).collect())
}

#[test]
fn members_are_given_all_readable_queues_of_all_brokers_and_each_once() {
    run(async {
        let dirs = ["assign-ns", "assign-a", "assign-b"].map(TempDir::new);
        let [of_server, of_a, of_b] = &dirs;
        let mut listen = NameServerConfig::default();
        listen.set_listen("127.0.0.1:0".parse().expect("an address"));
        let server = NameServer::start(TokioRuntime::new(of_server.path()), listen).await.expect("it starts");
        let address = server.local_addr().to_string();
        let a: Broker<TokioRuntime> = start(of_a, &broker_config("a", address.clone())).await;
        let b = start(of_b, &broker_config("b", address)).await;
        let (client, second) = (Client::of(&a), Client::of(&a));
        client.done(create_topic(TOPIC, 3)).await;
        Client::of(&b).done(create_topic(TOPIC, 2)).await;

        let one = QueryAssignmentRequestBody {
            client_id: "one".to_owned(),
            consumer_group: "CG".to_owned(),
            strategy_name: "AVG".to_owned(),
            topic: TOPIC.to_owned(),
            ..Default::default()
        };
        assert_eq!(given(&client, &one).await, None, "nobody of the group is there");
        client.done(heartbeat("one", &[TOPIC])).await;
        let all = queues(&[("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]);
        assert_eq!(given(&client, &one).await, all);
        second.done(heartbeat("two", &[TOPIC])).await;
        let two = QueryAssignmentRequestBody { client_id: "two".to_owned(), ..one.clone() };
        assert_eq!(given(&client, &one).await, queues(&[("a", 0), ("a", 1), ("a", 2)]));
        assert_eq!(given(&second, &two).await, queues(&[("b", 0), ("b", 1)]));
        let circle = |body: &QueryAssignmentRequestBody| QueryAssignmentRequestBody {
            strategy_name: "AVG_BY_CIRCLE".to_owned(),
            ..body.clone()
        };
        assert_eq!(given(&client, &circle(&one)).await, queues(&[("a", 0), ("a", 2), ("b", 1)]));
        assert_eq!(given(&client, &circle(&two)).await, queues(&[("a", 1), ("b", 0)]));
        let stranger = QueryAssignmentRequestBody { client_id: "three".to_owned(), ..one.clone() };
        assert_eq!(given(&client, &stranger).await, queues(&[]));
        let everything =
            QueryAssignmentRequestBody { message_model: MessageModel::Broadcasting, ..one.clone() };
        assert_eq!(given(&client, &everything).await, all);
        for unknown in [
            QueryAssignmentRequestBody { topic: "Nowhere".to_owned(), ..one.clone() },
            QueryAssignmentRequestBody { strategy_name: "CONFIG".to_owned(), ..one },
        ] {
            assert_eq!(given(&client, &unknown).await, None);
        }

        let set = |topic: &str, mode| {
            let body = SetMessageRequestModeRequestBody {
                consumer_group: "CG".to_owned(),
                mode,
                pop_share_queue_num: 0,
                topic: topic.to_owned(),
            };
            client.ask(RemotingCommand::request(ask::SET_MESSAGE_REQUEST_MODE).with_body(body.to_json()))
        };
        assert_eq!(set(TOPIC, MessageRequestMode::Pull).await.code, response::SUCCESS);
        assert_eq!(set("%RETRY%CG", MessageRequestMode::Pull).await.code, response::NO_PERMISSION);
        assert_eq!(set("Nowhere", MessageRequestMode::Pull).await.code, response::TOPIC_NOT_EXIST);
        let pop = set(TOPIC, MessageRequestMode::Pop).await;
        assert_eq!(pop.code, response::INVALID_PARAMETER);
        assert!(pop.remark.is_some_and(|remark| remark.contains("POP")));
        for broker in [a, b] {
            broker.stop().await.expect("a clean stop");
        }
        server.stop().await;
    });
}

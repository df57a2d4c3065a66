//! What operators' tools ask a broker: who consumes what, offsets moved, consumers asked through the broker, topics and groups
//! deleted, settings changed.

use crate::broker_node::*;
use hotfire_core::broker::Broker;
use hotfire_core::remoting::body::*;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::connection::{Answer, ConnectionHandle, ConnectionLimits, Handler};
use hotfire_core::remoting::headers::*;
use hotfire_core::remoting::peer::Peers;
use hotfire_core::remoting::{LanguageCode, RemotingCommand, V5_0_0};
use hotfire_runtime::TokioRuntime;
use hotfire_tests::TempDir;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const TOPIC: &str = "Admin";
const GROUP: &str = "CG";

fn queue(topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue { broker_name: config().identity.name, queue_id, topic: topic.to_owned() }
}

fn request(code: i32, header: &impl hotfire_core::remoting::TypedHeader) -> RemotingCommand {
    RemotingCommand::request(code).with_header(header)
}

/// A consumer that answers what the broker asks of it.
#[derive(Clone, Default)]
struct Consumer {
    asked: Arc<Mutex<Vec<RemotingCommand>>>,
}

impl Handler<TokioRuntime> for Consumer {
    async fn handle(&self, _connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        let answer = RemotingCommand::response_to(&request, response::SUCCESS);
        let answer = match request.code {
            ask::GET_CONSUMER_STATUS_FROM_CLIENT => {
                let message_queue_table = BTreeMap::from([(queue(TOPIC, 1), 4)]);
                let body = GetConsumerStatusBody { message_queue_table, ..Default::default() };
                answer.with_body(body.to_json())
            }
            ask::GET_CONSUMER_RUNNING_INFO => answer.with_body(b"{\"properties\":{}}".to_vec()),
            ask::CONSUME_MESSAGE_DIRECTLY => {
                let body = ConsumeMessageDirectlyResult {
                    auto_commit: true,
                    consume_result: ConsumeResult::Success,
                    order: false,
                    remark: None,
                    spent_time_mills: 1,
                };
                answer.with_body(body.to_json())
            }
            _ => answer,
        };
        self.asked.lock().expect("not poisoned").push(request);
        Answer::Now(answer)
    }
}

impl Consumer {
    /// Connects as the client `id` of [`GROUP`]; the connection lives as long as what is given back.
    async fn online(&self, broker: &Broker<TokioRuntime>, id: &str) -> Peers<TokioRuntime> {
        let peers = Peers::new(TokioRuntime::new("."), Arc::new(self.clone()), ConnectionLimits::default());
        let heartbeat = serde_json::json!({"clientID": id, "consumerDataSet": [{
            "groupName": GROUP, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "subscriptionDataSet": [{
                "topic": TOPIC, "subString": "*", "subVersion": 1, "expressionType": "TAG"}]}]});
        let beat = RemotingCommand::request(ask::HEART_BEAT).with_body(heartbeat.to_string().into_bytes());
        let answer = peers.call(&broker.local_addr().to_string(), beat, PATIENCE).await.expect("a heartbeat");
        assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
        peers
    }

    fn asked_for(&self, code: i32) -> Option<RemotingCommand> {
        self.asked.lock().expect("not poisoned").iter().find(|request| request.code == code).cloned()
    }
}

/// Messages in queue 1 of [`TOPIC`], all of which can be read; gives the id of the first.
async fn fill(client: &Client, count: i64) -> String {
    client.done(create_topic(TOPIC, 2)).await;
    let mut ids = Vec::new();
    for number in 0..count {
        let answer = client.done(send(&send_header(TOPIC, 1, "TAGS\u{1}TagA"), format!("m{number}"))).await;
        ids.push(answer.header::<SendMessageResponse>().expect("sent").msg_id);
    }
    await_message(client, TOPIC, 1, count - 1).await;
    ids.swap_remove(0)
}

/// Waits until the message at `offset` can be read.
async fn await_message(client: &Client, topic: &str, queue_id: i32, offset: i64) {
    // The queue shows a message once it is dispatched, and a pull is held at the queue's end only.
    while max_offset(client, topic, queue_id).await < offset {}
    let mut wait = pull_header(topic, queue_id, offset, "*");
    (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
    assert!(!messages(&client.done(pull(&wait)).await).is_empty(), "a message at {offset}");
}

async fn commit(client: &Client, group: &str, topic: &str, queue_id: i32, commit_offset: i64) {
    let header = UpdateConsumerOffsetHeader {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id,
        commit_offset,
    };
    client.done(request(ask::UPDATE_CONSUMER_OFFSET, &header)).await;
}

async fn committed(client: &Client, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
    let header = QueryConsumerOffsetHeader {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id,
        set_zero_if_not_found: Some(false),
    };
    let answer = client.ask(request(ask::QUERY_CONSUMER_OFFSET, &header)).await;
    (answer.code == response::SUCCESS).then(|| answer.header::<OffsetResponse>().expect("an offset").offset)
}

fn topic_list(answer: &RemotingCommand) -> Vec<String> {
    TopicList::parse(&answer.body.to_bytes()).expect("topics").topic_list
}

#[test]
fn who_consumes_what_and_how_far_is_told() {
    run(async {
        let dir = TempDir::new("consumption");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        client
            .done(pull(&PullMessageHeader {
                consumer_group: "Other".to_owned(),
                ..pull_header(TOPIC, 1, 0, "*")
            }))
            .await;
        commit(&client, "Other", TOPIC, 1, 2).await;
        let consumer = Consumer::default();
        let _online = consumer.online(&broker, "one").await;

        let who = QueryTopicConsumeByWhoHeader { topic: TOPIC.to_owned() };
        let answer = client.done(request(ask::QUERY_TOPIC_CONSUME_BY_WHO, &who)).await;
        let groups = GroupList::parse(&answer.body.to_bytes()).expect("groups").group_list;
        assert_eq!(groups, ["CG", "Other"]);
        let of = QueryTopicsByConsumerHeader { group: "Other".to_owned() };
        assert_eq!(topic_list(&client.done(request(ask::QUERY_TOPICS_BY_CONSUMER, &of)).await), [TOPIC]);
        let of = QuerySubscriptionByConsumerHeader { group: GROUP.to_owned(), topic: Some(TOPIC.to_owned()) };
        let answer = client.done(request(ask::QUERY_SUBSCRIPTION_BY_CONSUMER, &of)).await;
        let body = QuerySubscriptionBody::parse(&answer.body.to_bytes()).expect("a subscription");
        assert_eq!(body.subscription_data.map(|data| data.sub_string).as_deref(), Some("*"));

        let of = QueryConsumeTimeSpanHeader { topic: TOPIC.to_owned(), group: "Other".to_owned() };
        let answer = client.done(request(ask::QUERY_CONSUME_TIME_SPAN, &of)).await;
        let spans = QueryConsumeTimeSpanBody::parse(&answer.body.to_bytes()).expect("time spans");
        let spans = spans.consume_time_span_set;
        assert_eq!(spans.len(), 2);
        let filled = spans.iter().find(|span| span.message_queue.queue_id == 1).expect("queue 1");
        assert!(filled.min_time_stamp > 0 && filled.min_time_stamp <= filled.consume_time_stamp);
        assert!(filled.consume_time_stamp <= filled.max_time_stamp && filled.delay_time >= 0);

        let answer = client
            .done(request(ask::GET_BROKER_CONSUME_STATS, &GetBrokerConsumeStatsHeader::default()))
            .await;
        let list = ConsumeStatsList::parse(&answer.body.to_bytes()).expect("consume stats");
        assert_eq!((list.broker_addr, list.total_diff), (broker.address().to_string(), 1));
        let [of_group] = list.consume_stats_list.as_slice() else { panic!("one group has committed") };
        let offsets = &of_group["Other"][0].offset_table[&queue(TOPIC, 1)];
        assert_eq!((offsets.broker_offset, offsets.consumer_offset), (3, 2));
        // Who asks for ordered topics is told of those only, who asks for all of those too.
        for (order, is_order, groups) in [(false, true, 0), (true, true, 1), (true, false, 1)] {
            let header = CreateTopicHeader { order, ..create_topic(TOPIC, 2).header().expect("a topic") };
            client.done(request(ask::UPDATE_AND_CREATE_TOPIC, &header)).await;
            let header = GetBrokerConsumeStatsHeader { is_order };
            let answer = client.done(request(ask::GET_BROKER_CONSUME_STATS, &header)).await;
            let list = ConsumeStatsList::parse(&answer.body.to_bytes()).expect("consume stats");
            assert_eq!(list.consume_stats_list.len(), groups, "topic {order}, asked {is_order}");
        }

        let of = QueryConsumeQueueHeader {
            topic: TOPIC.to_owned(),
            queue_id: 1,
            index: 1,
            count: 10,
            consumer_group: Some(GROUP.to_owned()),
        };
        let answer = client.done(request(ask::QUERY_CONSUME_QUEUE, &of)).await;
        let body = QueryConsumeQueueBody::parse(&answer.body.to_bytes()).expect("entries");
        assert_eq!((body.min_queue_index, body.max_queue_index, body.queue_data.len()), (0, 3, 2));
        assert!(body.queue_data.iter().all(|entry| entry.eval && entry.tags_code == 2_598_919));
        let nowhere = QueryConsumeQueueHeader { queue_id: 9, ..of };
        assert_eq!(
            client.ask(request(ask::QUERY_CONSUME_QUEUE, &nowhere)).await.code,
            response::SYSTEM_ERROR
        );

        let puts =
            ViewBrokerStatsHeader { stats_name: "TOPIC_PUT_NUMS".to_owned(), stats_key: TOPIC.to_owned() };
        let answer = client.done(request(ask::VIEW_BROKER_STATS_DATA, &puts)).await;
        assert_eq!(BrokerStatsData::parse(&answer.body.to_bytes()).expect("counts").stats_minute.sum, 3);
        let gets = ViewBrokerStatsHeader {
            stats_name: "GROUP_GET_NUMS".to_owned(),
            stats_key: format!("{TOPIC}@{GROUP}"),
        };
        let answer = client.done(request(ask::VIEW_BROKER_STATS_DATA, &gets)).await;
        assert!(BrokerStatsData::parse(&answer.body.to_bytes()).expect("counts").stats_minute.sum >= 1);
        let nothing = ViewBrokerStatsHeader { stats_key: "Nowhere".to_owned(), ..puts };
        assert_eq!(
            client.ask(request(ask::VIEW_BROKER_STATS_DATA, &nothing)).await.code,
            response::SYSTEM_ERROR
        );
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_consumer_is_asked_through_the_broker() {
    run(async {
        let dir = TempDir::new("asked");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let first = fill(&client, 3).await;
        let info = GetConsumerRunningInfoHeader {
            consumer_group: GROUP.to_owned(),
            client_id: "one".to_owned(),
            jstack_enable: false,
        };
        let offline = client.ask(request(ask::GET_CONSUMER_RUNNING_INFO, &info)).await;
        assert_eq!(offline.code, response::SYSTEM_ERROR);
        assert!(offline.remark.is_some_and(|remark| remark.contains("not online")));

        let consumer = Consumer::default();
        let _online = consumer.online(&broker, "one").await;
        let answer = client.done(request(ask::GET_CONSUMER_RUNNING_INFO, &info)).await;
        assert_eq!(answer.body.to_bytes(), b"{\"properties\":{}}".as_slice());

        let directly = ConsumeMessageDirectlyHeader {
            consumer_group: GROUP.to_owned(),
            client_id: Some("one".to_owned()),
            msg_id: Some(first),
            ..Default::default()
        };
        let answer = client.done(request(ask::CONSUME_MESSAGE_DIRECTLY, &directly)).await;
        let result = ConsumeMessageDirectlyResult::parse(&answer.body.to_bytes()).expect("a result");
        assert_eq!(result.consume_result, ConsumeResult::Success);
        let told = consumer.asked_for(ask::CONSUME_MESSAGE_DIRECTLY).expect("the consumer was asked");
        assert_eq!(bodies(&told), ["m0"]);
        assert_eq!(told.ext.get("brokerName"), Some(config().identity.name.as_str()));
        let wrong = ConsumeMessageDirectlyHeader { msg_id: Some("nonsense".to_owned()), ..directly };
        assert_eq!(
            client.ask(request(ask::CONSUME_MESSAGE_DIRECTLY, &wrong)).await.code,
            response::SYSTEM_ERROR
        );

        let of =
            GetConsumerStatusHeader { topic: TOPIC.to_owned(), group: GROUP.to_owned(), client_addr: None };
        let answer = client.done(request(ask::INVOKE_BROKER_TO_GET_CONSUMER_STATUS, &of)).await;
        let body = GetConsumerStatusBody::parse(&answer.body.to_bytes()).expect("a status");
        assert_eq!(body.consumer_table["one"], BTreeMap::from([(queue(TOPIC, 1), 4)]));
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn offsets_are_reset_by_the_groups_clients_and_copied_to_another_group() {
    run(async {
        let dir = TempDir::new("reset");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        for queue in 0..2 {
            commit(&client, GROUP, TOPIC, queue, i64::from(queue) * 3).await;
        }
        let reset = ResetOffsetHeader {
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            timestamp: 0,
            is_force: true,
            queue_id: None,
            offset: None,
        };
        // In C++ too: the list form of offsets is for clients, no tool reads it.
        let ask_reset = |header: &ResetOffsetHeader| RemotingCommand {
            language: LanguageCode::CPP,
            ..request(ask::INVOKE_BROKER_TO_RESET_OFFSET, header)
        };
        assert_eq!(client.ask(ask_reset(&reset)).await.code, response::CONSUMER_NOT_ONLINE);
        let consumer = Consumer::default();
        let _online = consumer.online(&broker, "one").await;
        let offsets = |answer: &RemotingCommand| {
            ResetOffsetBody::parse(&answer.body.to_bytes()).expect("offsets").offset_table
        };
        let answer = client.done(ask_reset(&reset)).await;
        assert_eq!(offsets(&answer), BTreeMap::from([(queue(TOPIC, 0), 0), (queue(TOPIC, 1), 0)]));
        while consumer.asked_for(ask::RESET_CONSUMER_CLIENT_OFFSET).is_none() {
            tokio::task::yield_now().await;
        }
        let told = consumer.asked_for(ask::RESET_CONSUMER_CLIENT_OFFSET).expect("it was just there");
        assert_eq!((offsets(&told), told.is_oneway()), (offsets(&answer), true));
        // To the end; a single queue; to an offset; and not forth without force.
        let end = ResetOffsetHeader { timestamp: -1, queue_id: Some(1), ..reset.clone() };
        assert_eq!(offsets(&client.done(ask_reset(&end)).await), BTreeMap::from([(queue(TOPIC, 1), 3)]));
        assert_eq!(
            committed(&client, GROUP, TOPIC, 1).await,
            Some(3),
            "the clients commit it, not the broker"
        );
        let to = ResetOffsetHeader { offset: Some(2), ..end.clone() };
        assert_eq!(offsets(&client.done(ask_reset(&to)).await)[&queue(TOPIC, 1)], 2);
        assert_eq!(committed(&client, GROUP, TOPIC, 1).await, Some(2), "one queue and its offset: set here");
        // A pull from there shows that the group has heard of it.
        assert_eq!(bodies(&client.done(pull(&pull_header(TOPIC, 1, 2, "*"))).await), ["m2"]);
        commit(&client, GROUP, TOPIC, 1, 1).await;
        let not_forth = ResetOffsetHeader { is_force: false, ..end.clone() };
        assert_eq!(offsets(&client.done(ask_reset(&not_forth)).await)[&queue(TOPIC, 1)], 1);
        for refused in [
            ResetOffsetHeader { offset: Some(4), ..end.clone() },
            ResetOffsetHeader { queue_id: Some(7), ..end.clone() },
            ResetOffsetHeader { topic: "Nowhere".to_owned(), ..end.clone() },
            ResetOffsetHeader { group: "nobody".to_owned(), ..end },
        ] {
            assert_ne!(client.ask(ask_reset(&refused)).await.code, response::SUCCESS, "{refused:?}");
        }

        let clone = CloneGroupOffsetHeader {
            src_group: GROUP.to_owned(),
            dest_group: "Copy".to_owned(),
            topic: Some(TOPIC.to_owned()),
            offline: true,
        };
        client.done(request(ask::CLONE_GROUP_OFFSET, &clone)).await;
        assert_eq!(committed(&client, "Copy", TOPIC, 1).await, Some(1));
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_tool_of_5x_resets_offsets_whether_or_not_somebody_is_online() {
    run(async {
        let dir = TempDir::new("reset-5x");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        let reset = ResetOffsetHeader {
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            timestamp: -1,
            is_force: true,
            queue_id: Some(-1),
            offset: Some(-1),
        };
        let ask_reset = |header: &ResetOffsetHeader| RemotingCommand {
            version: V5_0_0,
            ..request(ask::INVOKE_BROKER_TO_RESET_OFFSET, header)
        };
        let nobody = ResetOffsetHeader { group: "nobody".to_owned(), ..reset.clone() };
        assert_eq!(client.ask(ask_reset(&nobody)).await.code, response::SUBSCRIPTION_GROUP_NOT_EXIST);
        let nowhere = ResetOffsetHeader { topic: "Nowhere".to_owned(), ..reset.clone() };
        assert_eq!(client.ask(ask_reset(&nowhere)).await.code, response::TOPIC_NOT_EXIST);
        let offsets = |answer: &RemotingCommand| {
            ResetOffsetBody::parse(&answer.body.to_bytes()).expect("offsets").offset_table
        };
        let answer = client.done(ask_reset(&reset)).await;
        assert_eq!(offsets(&answer), BTreeMap::from([(queue(TOPIC, 0), 0), (queue(TOPIC, 1), 3)]));
        assert_eq!(committed(&client, GROUP, TOPIC, 1).await, Some(3), "nobody was online");
        // A consumer that did not hear of it commits where it was, until its pull is answered with where to go.
        commit(&client, GROUP, TOPIC, 1, 1).await;
        assert_eq!(committed(&client, GROUP, TOPIC, 1).await, Some(3));
        let at_one = pull_header(TOPIC, 1, 1, "*");
        let moved = client.ask(pull(&at_one)).await;
        let place: PullMessageResponse = moved.header().expect("offsets");
        assert_eq!((moved.code, place.next_begin_offset), (response::PULL_OFFSET_MOVED, 3));
        assert_eq!(bodies(&client.done(pull(&at_one)).await), ["m1", "m2"], "it was told once");
        commit(&client, GROUP, TOPIC, 1, 2).await;
        assert_eq!(committed(&client, GROUP, TOPIC, 1).await, Some(2));

        let consumer = Consumer::default();
        let _online = consumer.online(&broker, "one").await;
        let back = ResetOffsetHeader { timestamp: 0, ..reset };
        let answer = client.done(ask_reset(&back)).await;
        assert_eq!(committed(&client, GROUP, TOPIC, 1).await, Some(0));
        while consumer.asked_for(ask::RESET_CONSUMER_CLIENT_OFFSET).is_none() {
            tokio::task::yield_now().await;
        }
        let told = consumer.asked_for(ask::RESET_CONSUMER_CLIENT_OFFSET).expect("it was just there");
        assert_eq!(offsets(&told), offsets(&answer));
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn the_smallest_offset_of_all_groups_is_told_and_no_group_is_deleted_for_it() {
    run(async {
        let dir = TempDir::new("correction");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        for (group, offset) in [("Slow", 1), ("Fast", 3), ("Between", 2)] {
            commit(&client, group, TOPIC, 1, offset).await;
        }
        let correction = async |filter_groups: Option<&str>, compare_group: &str| {
            let header = QueryCorrectionOffsetHeader {
                filter_groups: filter_groups.map(str::to_owned),
                compare_group: compare_group.to_owned(),
                topic: TOPIC.to_owned(),
            };
            let answer = client.done(request(ask::QUERY_CORRECTION_OFFSET, &header)).await;
            QueryCorrectionOffsetBody::parse(&answer.body.to_bytes()).expect("offsets").correction_offsets
        };
        assert_eq!(correction(None, "Fast").await, BTreeMap::from([(1, 1)]));
        assert_eq!(correction(Some("Slow,nobody"), "Fast").await, BTreeMap::from([(1, 2)]));
        // The group to compare with is behind all of the others: they do not limit it.
        assert_eq!(correction(Some("Slow"), "Slow").await, BTreeMap::from([(1, i64::MAX)]));
        assert_eq!(committed(&client, "Slow", TOPIC, 1).await, Some(1));
        let reset = RemotingCommand::request(ask::RESET_MASTER_FLUSH_OFFSET);
        client.done(reset).await;
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_consumer_that_is_sent_elsewhere_leaves_a_message_about_it() {
    run(async {
        let dir = TempDir::new("moved");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        let far = client.ask(pull(&pull_header(TOPIC, 1, 100, "*"))).await;
        let next = far.header::<PullMessageResponse>().expect("offsets").next_begin_offset;
        assert_eq!((far.code, next), (response::PULL_OFFSET_MOVED, 3));
        let mut wait = pull_header("OFFSET_MOVED_EVENT", 0, 0, GROUP);
        (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
        let noted = messages(&client.done(pull(&wait)).await).remove(0);
        let event = OffsetMovedEvent::parse(&noted.body).expect("an event");
        let expect = OffsetMovedEvent {
            consumer_group: GROUP.to_owned(),
            message_queue: queue(TOPIC, 1),
            offset_new: 3,
            offset_request: 100,
        };
        assert_eq!(event, expect);
        broker.stop().await.expect("a clean stop");
    });
}

async fn max_offset(client: &Client, topic: &str, queue_id: i32) -> i64 {
    let header = GetMaxOffsetHeader { topic: topic.to_owned(), queue_id, committed: None };
    let answer = client.done(request(ask::GET_MAX_OFFSET, &header)).await;
    answer.header::<OffsetResponse>().expect("an offset").offset
}

#[test]
fn a_deleted_topic_is_gone_after_any_restart_and_one_of_its_name_goes_on_behind_it() {
    run(async {
        let dir = TempDir::new("delete");
        let mut broker = start(&dir, &config()).await;
        let mut client = Client::of(&broker);
        fill(&client, 3).await;
        commit(&client, GROUP, TOPIC, 1, 2).await;
        client.done(send(&send_header("Stays", 0, ""), "kept")).await;
        let delete = DeleteTopicHeader { topic: TOPIC.to_owned() };
        client.done(request(ask::DELETE_TOPIC_IN_BROKER, &delete)).await;
        for clean in [true, false, true] {
            assert_eq!(topic(&client, TOPIC).await, None);
            assert_eq!(max_offset(&client, TOPIC, 1).await, 0);
            assert_eq!(committed(&client, GROUP, TOPIC, 1).await, None);
            await_message(&client, "Stays", 0, 0).await;
            match clean {
                true => broker.stop().await.expect("a clean stop"),
                // Without its last words: the next start reads the log again.
                false => {
                    broker.stop().await.expect("a clean stop");
                    std::fs::write(dir.path().join("store/abort"), "0").expect("write the marker");
                    std::fs::remove_file(dir.path().join("store/checkpoint")).expect("remove the checkpoint");
                }
            }
            broker = start(&dir, &config()).await;
            client = Client::of(&broker);
        }
        // Again, as a tool does that got no answer.
        client.done(request(ask::DELETE_TOPIC_IN_BROKER, &delete)).await;
        client.done(create_topic(TOPIC, 2)).await;
        let answer = client.done(send(&send_header(TOPIC, 1, ""), "new")).await;
        assert_eq!(answer.header::<SendMessageResponse>().expect("sent").queue_offset, 3);
        // A pull of a queue that is not there yet is sent to its beginning.
        await_message(&client, TOPIC, 1, 3).await;
        let old = client.ask(pull(&pull_header(TOPIC, 1, 0, "*"))).await;
        let moved: PullMessageResponse = old.header().expect("offsets");
        assert_eq!((old.code, moved.next_begin_offset), (response::PULL_OFFSET_MOVED, 3));
        broker.stop().await.expect("a clean stop");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        assert_eq!(bodies(&client.done(pull(&pull_header(TOPIC, 1, 3, "*"))).await), ["new"]);
        for refused in ["SCHEDULE_TOPIC_XXXX", "../Admin"] {
            let delete = DeleteTopicHeader { topic: refused.to_owned() };
            let answer = client.ask(request(ask::DELETE_TOPIC_IN_BROKER, &delete)).await;
            assert_eq!(answer.code, response::INVALID_PARAMETER, "{refused}");
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn queues_without_a_topic_are_cleaned_and_those_with_one_are_not() {
    run(async {
        let dir = TempDir::new("unused");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 2).await;
        client.done(send(&send_header("Stays", 0, ""), "kept")).await;
        await_message(&client, "Stays", 0, 0).await;
        broker.stop().await.expect("a clean stop");
        // As when a broker died between the two halves of a deletion.
        let path = dir.path().join("store/config/topics.json");
        let text = std::fs::read_to_string(&path).expect("the topics");
        let mut file = TopicConfigSerializeWrapper::parse(text.as_bytes()).expect("topics");
        file.topic_config_table.remove(TOPIC);
        std::fs::write(&path, file.to_java_json()).expect("write the topics");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        assert_eq!(max_offset(&client, TOPIC, 1).await, 2);
        client.done(RemotingCommand::request(ask::CLEAN_UNUSED_TOPIC)).await;
        assert_eq!(max_offset(&client, TOPIC, 1).await, 0);
        await_message(&client, "Stays", 0, 0).await;
        client.done(RemotingCommand::request(ask::CLEAN_EXPIRED_CONSUMEQUEUE)).await;
        client.done(RemotingCommand::request(ask::DELETE_EXPIRED_COMMITLOG)).await;
        await_message(&client, "Stays", 0, 0).await;
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_deleted_group_takes_its_offsets_along_when_it_is_told_to() {
    run(async {
        let dir = TempDir::new("group");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        let is_there = async || {
            let header = GetSubscriptionGroupConfigHeader { group: GROUP.to_owned() };
            client.ask(request(ask::GET_SUBSCRIPTIONGROUP_CONFIG, &header)).await.code == response::SUCCESS
        };
        for (remove_offset, left) in [(None, Some(2)), (Some(true), None)] {
            // A pull makes the group, a commit does not.
            await_message(&client, TOPIC, 1, 2).await;
            commit(&client, GROUP, TOPIC, 1, 2).await;
            assert!(is_there().await);
            let delete = DeleteSubscriptionGroupHeader {
                group_name: GROUP.to_owned(),
                clean_offset: None,
                remove_offset,
            };
            client.done(request(ask::DELETE_SUBSCRIPTIONGROUP, &delete)).await;
            assert!(!is_there().await);
            assert_eq!(committed(&client, GROUP, TOPIC, 1).await, left);
        }
        broker.stop().await.expect("a clean stop");
    });
}

fn change(text: &str) -> RemotingCommand {
    RemotingCommand::request(ask::UPDATE_BROKER_CONFIG).with_body(text.as_bytes().to_vec())
}

async fn setting(client: &Client, key: &str) -> Option<String> {
    let answer = client.done(RemotingCommand::request(ask::GET_BROKER_CONFIG)).await;
    let body = answer.body.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

async fn topics_version(client: &Client) -> DataVersion {
    let answer = client.done(RemotingCommand::request(ask::GET_ALL_TOPIC_CONFIG)).await;
    TopicConfigSerializeWrapper::parse(&answer.body.to_bytes()).expect("topics").data_version
}

#[test]
fn a_changed_setting_acts_at_once_and_after_a_restart() {
    run(async {
        let dir = TempDir::new("change");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 1).await;
        let version = topics_version(&client).await;
        client.done(change("brokerPermission=2\nautoCreateTopicEnable=false\n")).await;
        assert_eq!(client.ask(pull(&pull_header(TOPIC, 1, 0, "*"))).await.code, response::NO_PERMISSION);
        assert_eq!(client.ask(send(&send_header("New", 0, ""), "m")).await.code, response::TOPIC_NOT_EXIST);
        assert_ne!(topics_version(&client).await, version, "name servers must look at the topics again");
        let refused = client.ask(change("brokerPermission=6\nflushDiskType=SYNC_FLUSH\n")).await;
        assert_eq!(refused.code, response::NO_PERMISSION);
        assert!(refused.remark.is_some_and(|remark| remark.contains("flushDiskType")));
        assert_eq!(setting(&client, "brokerPermission").await.as_deref(), Some("2"), "all or nothing");
        broker.stop().await.expect("a clean stop");

        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        assert_eq!(client.ask(pull(&pull_header(TOPIC, 1, 0, "*"))).await.code, response::NO_PERMISSION);
        client.done(change("brokerPermission=6")).await;
        assert_eq!(bodies(&client.done(pull(&pull_header(TOPIC, 1, 0, "*"))).await), ["m0"]);
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn the_state_of_a_broker_has_the_keys_that_javas_tools_read() {
    run(async {
        let dir = TempDir::new("runtime");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        let answer = client.done(RemotingCommand::request(ask::GET_BROKER_RUNTIME_INFO)).await;
        let table = KvTable::parse(&answer.body.to_bytes()).expect("a table").table;
        for (key, value) in
            [("putMessageTimesTotal", "3"), ("msgPutTotalTodayNow", "3"), ("dispatchBehindBytes", "0")]
        {
            assert_eq!(table.get(key).map(String::as_str), Some(value), "{key}");
        }
        for key in ["putTps", "getTransferedTps", "getTransferredTps", "getTotalTps"] {
            let rates: Vec<f64> = table[key].split(' ').map(|rate| rate.parse().expect("a rate")).collect();
            assert_eq!(rates.len(), 3, "{key}");
        }
        for key in [
            "brokerVersionDesc",
            "sendThreadPoolQueueSize",
            "pullThreadPoolQueueSize",
            "sendThreadPoolQueueHeadWaitTimeMills",
            "pullThreadPoolQueueHeadWaitTimeMills",
            "pageCacheLockTimeMills",
            "earliestMessageTimeStamp",
            "commitLogDiskRatio",
            "msgPutTotalYesterdayMorning",
            "msgGetTotalTodayNow",
            "commitLogMaxOffset",
            "bootTimestamp",
            "runtime",
        ] {
            assert!(table.contains_key(key), "{key} in {table:?}");
        }
        assert!(table["earliestMessageTimeStamp"].parse::<i64>().expect("a time") > 0);
        broker.stop().await.expect("a clean stop");
    });
}

/// Tools of 5.x ask each broker of a name, and stop at the first that refuses.
#[test]
fn a_slave_leaves_deletions_by_tools_of_5_to_its_master() {
    run(async {
        let dir = TempDir::new("slave-deletions");
        let mut config = config();
        (config.identity.role, config.identity.id) = (hotfire_core::config::Role::Slave, 1);
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        let topic_of = DeleteTopicHeader { topic: "TBW102".to_owned() };
        let group = DeleteSubscriptionGroupHeader { group_name: GROUP.to_owned(), ..Default::default() };
        for old in
            [request(ask::DELETE_TOPIC_IN_BROKER, &topic_of), request(ask::DELETE_SUBSCRIPTIONGROUP, &group)]
        {
            let refused = client.ask(old.clone()).await;
            assert_eq!(refused.code, response::SYSTEM_ERROR, "{}", old.code);
            client.done(RemotingCommand { version: V5_0_0, ..old }).await;
        }
        assert!(topic(&client, "TBW102").await.is_some(), "its table is its master's");
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn a_commit_makes_no_group() {
    run(async {
        let dir = TempDir::new("commit-of-nobody");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 3).await;
        let header = UpdateConsumerOffsetHeader {
            consumer_group: "Nobody".to_owned(),
            topic: "Nowhere".to_owned(),
            queue_id: 1,
            commit_offset: 2,
        };
        let by_5 = RemotingCommand { version: V5_0_0, ..request(ask::UPDATE_CONSUMER_OFFSET, &header) };
        let refused = client.ask(by_5).await;
        assert_eq!(refused.code, response::SUBSCRIPTION_GROUP_NOT_EXIST);
        assert_eq!(refused.remark.as_deref(), Some("Group Nobody not exist!"));
        commit(&client, "Nobody", TOPIC, 1, 2).await;
        assert_eq!(committed(&client, "Nobody", TOPIC, 1).await, Some(2));
        let answer = client.done(RemotingCommand::request(ask::GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).await;
        let groups = SubscriptionGroupWrapper::parse(&answer.body.to_bytes()).expect("groups");
        assert!(!groups.subscription_group_table.contains_key("Nobody"));
        assert!(groups.subscription_group_table.contains_key(GROUP), "the pull has made this one");
        let header = UpdateConsumerOffsetHeader {
            consumer_group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            ..header
        };
        client
            .done(RemotingCommand { version: V5_0_0, ..request(ask::UPDATE_CONSUMER_OFFSET, &header) })
            .await;
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn consumers_of_a_unit_mark_the_retry_topic_of_their_group() {
    run(async {
        let dir = TempDir::new("unit");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let beat = |group: &str, unit: bool| {
            let body = serde_json::json!({"clientID": "one", "consumerDataSet": [{"groupName": group,
                "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING", "unitMode": unit,
                "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "subscriptionDataSet": []}]});
            RemotingCommand::request(ask::HEART_BEAT).with_body(body.to_string().into_bytes())
        };
        for (group, unit, flag) in [("Unit", true, 2), ("Plain", false, 0)] {
            client.done(beat(group, unit)).await;
            let retry = topic(&client, &format!("%RETRY%{group}")).await.expect("a retry topic");
            assert_eq!(retry.topic_sys_flag, flag, "{group}");
        }
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn what_an_operator_forbids_to_a_group_it_does_not_get() {
    run(async {
        let dir = TempDir::new("forbidden");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 1).await;
        let may = |readable| {
            let header =
                UpdateGroupForbiddenHeader { group: GROUP.to_owned(), topic: TOPIC.to_owned(), readable };
            request(ask::UPDATE_AND_GET_GROUP_FORBIDDEN, &header)
        };
        let told =
            |answer: RemotingCommand| String::from_utf8(answer.body.to_bytes().to_vec()).expect("text");
        let closed = format!(r#"{{"group":"{GROUP}","readable":false,"topic":"{TOPIC}"}}"#);
        assert_eq!(told(client.done(may(None)).await), closed.replace("false", "true"));
        assert_eq!(told(client.done(may(Some(false))).await), closed);
        // Settings of the group are another thing.
        let group = SubscriptionGroupConfig {
            group_name: GROUP.to_owned(),
            retry_max_times: 3,
            ..Default::default()
        };
        client
            .done(
                RemotingCommand::request(ask::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(group.to_json()),
            )
            .await;
        broker.stop().await.expect("a clean stop");

        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let consumer = Consumer::default();
        let _online = consumer.online(&broker, "one").await;
        let mut subscribed = pull_header(TOPIC, 1, 0, "*");
        (subscribed.sys_flag, subscribed.sub_version) = (0, 1);
        let refused = client.ask(pull(&subscribed)).await;
        assert_eq!(refused.code, response::NO_PERMISSION);
        assert_eq!(refused.ext.get("forbiddenType"), Some("5"));
        assert_eq!(refused.remark.as_deref(), Some("the consumer group[CG] is forbidden for topic[Admin]"));
        client.done(may(Some(true))).await;
        assert_eq!(messages(&client.done(pull(&subscribed)).await).len(), 1);
        broker.stop().await.expect("a clean stop");
        let file = std::fs::read_to_string(dir.path().join("store/config/subscriptionGroup.json"))
            .expect("the file");
        let file = SubscriptionGroupWrapper::parse(file.as_bytes()).expect("groups");
        assert!(file.forbidden_table.is_empty(), "{:?}", file.forbidden_table);
    });
}

#[test]
fn changed_settings_of_pulls_and_half_messages_act_at_once() {
    run(async {
        let dir = TempDir::new("live-settings");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        fill(&client, 1).await;
        let half = || send(&send_header(TOPIC, 0, "TRAN_MSG\u{1}true\u{2}UNIQ_KEY\u{1}7F01"), "half");
        let lite =
            || RemotingCommand { code: ask::LITE_PULL_MESSAGE, ..pull(&pull_header(TOPIC, 1, 0, "*")) };
        client.done(half()).await;
        client.done(lite()).await;
        client
            .done(change(
                "rejectTransactionMessage=true\nlitePullMessageEnable=false\nadminBrokerThreadPoolNums=3\n",
            ))
            .await;
        assert_eq!(client.ask(half()).await.code, response::NO_PERMISSION);
        assert_eq!(client.ask(lite()).await.code, response::NO_PERMISSION);
        assert_eq!(setting(&client, "rejectTransactionMessage").await.as_deref(), Some("true"));
        client
            .done(change("brokerFastFailureEnable=false\nlongPollingEnable=false\nshortPollingTimeMills=1\n"))
            .await;
        let mut wait = pull_header(TOPIC, 1, 1, "*");
        (wait.sys_flag, wait.suspend_timeout_millis) = (6, 3_600_000);
        assert_eq!(client.ask(pull(&wait)).await.code, response::PULL_NOT_FOUND, "it is held a millisecond");
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn changed_settings_of_sends_and_topics_act_at_once() {
    run(async {
        let dir = TempDir::new("live-sends");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let sent = async |topic: &str, bytes: usize| {
            let answer = client.ask(send(&send_header(topic, 0, ""), "x".repeat(bytes))).await;
            (answer.code, answer.ext.get("TRACE_ON").map(str::to_owned))
        };
        assert_eq!(sent("Before", 100).await, (response::SUCCESS, Some("true".to_owned())));
        client
            .done(change(
                "maxMessageSize=99\ntraceOn=false\ntraceTopicEnable=true\ndefaultTopicQueueNums=3\n",
            ))
            .await;
        assert_eq!(sent("Before", 100).await, (response::MESSAGE_ILLEGAL, Some("false".to_owned())));
        assert_eq!(sent("After", 99).await, (response::SUCCESS, Some("false".to_owned())));
        assert_eq!(topic(&client, "After").await.map(|topic| topic.write_queue_nums), Some(3));
        assert!(topic(&client, "RMQ_SYS_TRACE_TOPIC").await.is_some());
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn what_a_broker_shows_of_its_settings_it_takes_back() {
    run(async {
        let dir = TempDir::new("echoed-settings");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let shown = client.done(RemotingCommand::request(ask::GET_BROKER_CONFIG)).await.body.to_bytes();
        let mut text = String::from_utf8(shown.to_vec()).expect("text");
        text = text.replace("longPollingEnable=true", "longPollingEnable=false");
        client.done(change(&text)).await;
        assert_eq!(setting(&client, "longPollingEnable").await.as_deref(), Some("false"));
        broker.stop().await.expect("a clean stop");
        // What was found out at the last start is found out again.
        let broker = start(&dir, &config()).await;
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn what_is_not_there_is_refused_by_code_and_a_comparison_with_it_is_under_way() {
    run(async {
        let dir = TempDir::new("not-there");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let answer = client.done(RemotingCommand::request(ask::CHECK_ROCKSDB_CQ_WRITE_PROGRESS)).await;
        assert_eq!(answer.body.to_bytes(), &br#"{"checkStatus":2}"#[..]);
        let answer = client.done(RemotingCommand::request(ask::GET_COLD_DATA_FLOW_CTR_INFO)).await;
        assert!(answer.body.to_bytes().starts_with(br#"{"runtimeTable":{},"configTable":{},"#));
        for code in [ask::UPDATE_AND_CREATE_STATIC_TOPIC, 2001, 2002, 2004] {
            let refused = client.ask(RemotingCommand::request(code)).await;
            assert_eq!(refused.code, response::REQUEST_CODE_NOT_SUPPORTED, "{code}");
            assert!(
                refused.remark.is_some_and(|remark| remark.contains(&code.to_string())),
                "{code} is named"
            );
        }
        broker.stop().await.expect("a clean stop");
    });
}

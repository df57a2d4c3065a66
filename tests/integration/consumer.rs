//! core's consumers: how soon they get their queues, and what they answer when brokers ask them.

use crate::client::*;
use hotfire_core::client::Client;
use hotfire_core::client::consumer::ConsumerConfig;
use hotfire_core::remoting::body::*;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::connection::{Answer, ConnectionHandle, ConnectionLimits, Handler};
use hotfire_core::remoting::headers::*;
use hotfire_core::remoting::server::Server;
use hotfire_core::remoting::{RemotingCommand, TypedHeader};
use hotfire_core::runtime::Runtime;
use hotfire_runtime::TokioRuntime;
use hotfire_sim::SimRuntime;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GROUP: &str = "group";
const TOPIC: &str = "Topic";

/// Name server and broker of one topic with two queues; the broker has heard of a group's other member first.
struct SlowToList {
    addr: Mutex<String>,
    lists: AtomicUsize,
}

impl SlowToList {
    /// So often the newcomer is not in the list.
    const WITHOUT: usize = 2;

    fn route(&self) -> Vec<u8> {
        let addr = self.addr.lock().expect("unpoisoned").clone();
        let broker = BrokerData {
            broker_name: "a".to_owned(),
            broker_addrs: [(0, addr)].into(),
            ..BrokerData::default()
        };
        let queues = QueueData {
            broker_name: "a".to_owned(),
            perm: 6,
            read_queue_nums: 2,
            write_queue_nums: 2,
            topic_sys_flag: 0,
        };
        let route = TopicRouteData {
            broker_datas: vec![broker],
            queue_datas: vec![queues],
            ..TopicRouteData::default()
        };
        serde_json::to_vec(&route).expect("JSON")
    }
}

impl Handler<SimRuntime> for SlowToList {
    async fn handle(&self, _connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        let done = RemotingCommand::response_to(&request, response::SUCCESS);
        Answer::Now(match request.code {
            ask::GET_ROUTEINFO_BY_TOPIC => done.with_body(self.route()),
            ask::GET_CONSUMER_LIST_BY_GROUP => {
                let early = self.lists.fetch_add(1, Ordering::Relaxed) < 2 * Self::WITHOUT;
                let mut consumer_id_list = vec!["10.0.0.9@other".to_owned()];
                consumer_id_list.extend((!early).then(|| "127.0.0.1@me".to_owned()));
                done.with_body(ConsumerList { consumer_id_list }.to_json())
            }
            ask::PULL_MESSAGE => return Answer::Held,
            _ => done,
        })
    }
}

#[test]
fn a_consumer_that_the_broker_does_not_list_yet_asks_again_soon() {
    in_simulation(|place| async move {
        let rt = place.clients.clone();
        let handler = Arc::new(SlowToList { addr: Mutex::default(), lists: AtomicUsize::new(0) });
        let addr = SocketAddr::new(place.ip, 10_911);
        *handler.addr.lock().expect("unpoisoned") = addr.to_string();
        let server = Server::bind(place.servers.clone(), addr, handler, ConnectionLimits::default());
        let server = server.await.expect("a free port");
        let mut config =
            hotfire_core::client::ClientConfig::new(vec![addr.to_string()], IpAddr::V4(Ipv4Addr::LOCALHOST));
        config.instance = Some("me".to_owned());
        let client = Client::start(rt.clone(), config);
        let begun = rt.now();
        let (consumer, _seen) = listen(&client, consumer_config(GROUP, TOPIC, "*"));
        until(&rt, "a queue", || consumer.queues().iter().any(|queue| queue.topic == TOPIC)).await;
        let took = rt.now().since(begun);
        assert!(took < Duration::from_secs(5), "its share came after {took:?}");
        consumer.stop().await;
        client.stop().await;
        server.stop(Duration::from_secs(1)).await;
    });
}

async fn told<R: Runtime>(
    client: &Client<R>,
    broker: &SocketAddr,
    code: i32,
    header: &impl TypedHeader,
) -> RemotingCommand {
    let request = RemotingCommand::request(code).with_header(header);
    client.peers().call(&broker.to_string(), request, LIMIT).await.expect("an answer")
}

async fn done<R: Runtime>(
    client: &Client<R>,
    broker: &SocketAddr,
    code: i32,
    header: &impl TypedHeader,
) -> RemotingCommand {
    let answer = told(client, broker, code, header).await;
    assert_eq!(answer.code, response::SUCCESS, "{code}: {:?}", answer.remark);
    answer
}

/// How many messages a listener was given, those that came again too.
fn consumed(seen: &Seen) -> usize {
    seen.0.lock().expect("unpoisoned").values().map(Vec::len).sum()
}

async fn a_consumer_answers_what_operators_ask<R: Runtime>(place: Place<R>) {
    let cluster = cluster(place).await;
    let (rt, broker) = (cluster.place.clients.clone(), cluster.broker.local_addr());
    send_all(&cluster.client, TOPIC, (0..6).map(|index| index.to_string())).await;
    let operator = start_client(&cluster.place, cluster.name_server.local_addr());
    let config =
        ConsumerConfig { commit_interval: Duration::from_millis(100), ..consumer_config(GROUP, TOPIC, "*") };
    let (consumer, seen) = listen(&cluster.client, config);
    until(&rt, "all messages", || seen.count() == 6).await;
    let client_id = cluster.client.client_id().to_owned();

    let of = GetConsumerStatusHeader { group: GROUP.to_owned(), topic: TOPIC.to_owned(), client_addr: None };
    let status = || async {
        let answer = done(&operator, &broker, ask::INVOKE_BROKER_TO_GET_CONSUMER_STATUS, &of).await;
        let body = GetConsumerStatusBody::parse(&answer.body.to_bytes()).expect("a status");
        body.consumer_table[&client_id].clone()
    };
    // The listener has told what it saw before the consumer counts it.
    let wait = async {
        while status().await.values().sum::<i64>() != 6 {
            rt.sleep(Duration::from_millis(5)).await;
        }
    };
    rt.timeout(LIMIT, wait).await.expect("the consumer counts what it consumed");

    let info = GetConsumerRunningInfoHeader {
        consumer_group: GROUP.to_owned(),
        client_id: client_id.clone(),
        jstack_enable: true,
    };
    let answer = done(&operator, &broker, ask::GET_CONSUMER_RUNNING_INFO, &info).await;
    let running = ConsumerRunningInfo::parse(&answer.body.to_bytes()).expect("running info");
    assert_eq!(running.properties["PROP_CONSUME_TYPE"], "CONSUME_PASSIVELY");
    assert_eq!(running.properties["PROP_CONSUMEORDERLY"], "false");
    assert!(running.properties["PROP_CONSUMER_START_TIMESTAMP"].parse::<i64>().is_ok_and(|ms| ms > 0));
    assert!(running.jstack.is_some_and(|stacks| stacks.contains("0 listeners")));
    let of_topic = running.mq_table.iter().filter(|(queue, _)| queue.topic == TOPIC);
    let offsets: i64 = of_topic.clone().map(|(_, info)| info.commit_offset).sum();
    assert_eq!((offsets, of_topic.count()), (6, status().await.len()));
    assert!(running.mq_table.values().all(|info| info.cached_msg_count == 0 && info.last_pull_timestamp > 0));
    assert!(running.status_table[TOPIC].consume_ok_tps > 0.0);
    let topics: Vec<_> = running.subscription_set.iter().map(|data| data.topic.as_str()).collect();
    assert_eq!(topics, ["%RETRY%group", TOPIC]);

    let first = seen.get("0").expect("it came");
    let directly = ConsumeMessageDirectlyHeader {
        consumer_group: GROUP.to_owned(),
        client_id: Some(client_id.clone()),
        msg_id: Some(first.message.offset_message_id()),
        ..Default::default()
    };
    let answer = done(&operator, &broker, ask::CONSUME_MESSAGE_DIRECTLY, &directly).await;
    let result = ConsumeMessageDirectlyResult::parse(&answer.body.to_bytes()).expect("a result");
    assert_eq!((result.consume_result, result.order), (ConsumeResult::Success, false));
    assert_eq!(seen.0.lock().expect("unpoisoned")["0"].len(), 2, "the listener has had it once more");

    let reset = ResetOffsetHeader {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        timestamp: 0,
        is_force: true,
        queue_id: None,
        offset: None,
    };
    // The broker must know offsets that are to be reset.
    let wait = async {
        while told(&operator, &broker, ask::INVOKE_BROKER_TO_RESET_OFFSET, &reset).await.code
            != response::SUCCESS
        {
            rt.sleep(Duration::from_millis(50)).await;
        }
    };
    rt.timeout(LIMIT, wait).await.expect("a reset");
    until(&rt, "all messages once more", || consumed(&seen) == 13).await;
    assert!(seen.get("5").is_some());
    consumer.stop().await;
    operator.stop().await;
    cluster.stop().await;
}

#[test]
fn a_consumer_answers_what_operators_ask_on_sockets() {
    on_sockets(|place: Place<TokioRuntime>| a_consumer_answers_what_operators_ask(place));
}

#[test]
fn a_consumer_answers_what_operators_ask_in_simulation() {
    in_simulation(a_consumer_answers_what_operators_ask);
}

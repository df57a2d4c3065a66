//! core's consumers: how soon they get their queues, and what they answer when brokers ask them.

use crate::client::*;
use hotfire_core::client::consumer::{ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::{Client, Received};
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

/// The bodies that a listener was given of each queue, in order; `+` where it has consumed them, `-` where it has failed.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<BTreeMap<i32, Vec<String>>>>);

/// Listens in order, fails with every third message once, and takes a while for each.
fn listen_in_order(client: &Client<SimRuntime>, rt: &SimRuntime, turns: &Turns) -> PushConsumer<SimRuntime> {
    let config = ConsumerConfig {
        in_order: true,
        suspend: Duration::from_millis(50),
        commit_interval: Duration::from_millis(200),
        ..consumer_config(GROUP, TOPIC, "*")
    };
    let (turns, rt) = (turns.clone(), rt.clone());
    let consumer = PushConsumer::start(client, config, move |messages: Vec<Received>| {
        let (turns, rt) = (turns.clone(), rt.clone());
        async move {
            rt.sleep(Duration::from_millis(20)).await;
            let message = &messages[0].message;
            let number: u32 = String::from_utf8_lossy(&message.body).parse().expect("a number");
            let fails = number.is_multiple_of(3) && message.reconsume_times == 0;
            let line = format!("{}{}", if fails { '-' } else { '+' }, message.queue_offset);
            turns.0.lock().expect("unpoisoned").entry(message.queue_id).or_default().push(line);
            if fails { ConsumeStatus::Later } else { ConsumeStatus::Success }
        }
    });
    consumer.expect("a consumer")
}

impl Turns {
    fn consumed(&self) -> usize {
        let turns = self.0.lock().expect("unpoisoned");
        turns.values().map(|lines| first_successes(lines).len()).sum()
    }
}

fn first_successes(lines: &[String]) -> Vec<i64> {
    let mut seen = Vec::new();
    for offset in lines.iter().filter_map(|line| line.strip_prefix('+')) {
        let offset = offset.parse().expect("an offset");
        if !seen.contains(&offset) {
            seen.push(offset);
        }
    }
    seen
}

fn of_topic(consumer: &PushConsumer<SimRuntime>) -> usize {
    consumer.queues().into_iter().filter(|queue| queue.topic == TOPIC).count()
}

async fn waited(rt: &SimRuntime, limit: Duration, condition: impl Fn() -> bool) -> Duration {
    let begun = rt.now();
    while !condition() {
        assert!(rt.now().since(begun) < limit, "not within {limit:?}");
        rt.sleep(Duration::from_millis(50)).await;
    }
    rt.now().since(begun)
}

#[test]
fn in_order_a_queue_goes_from_member_to_member_and_keeps_its_order() {
    in_simulation(|place| async move {
        let cluster = cluster(place).await;
        let rt = cluster.place.clients.clone();
        send_all(&cluster.client, TOPIC, (0..60).map(|index| index.to_string())).await;
        let turns = Turns::default();
        let first = listen_in_order(&cluster.client, &rt, &turns);
        waited(&rt, LIMIT, || turns.consumed() > 5).await;
        let queues = of_topic(&first);
        let other = start_client(&cluster.place, cluster.name_server.local_addr());
        let second = listen_in_order(&other, &rt, &turns);
        waited(&rt, LIMIT, || of_topic(&first) == queues / 2 && of_topic(&second) == queues / 2).await;
        waited(&rt, LIMIT, || turns.consumed() == 60).await;
        for lines in turns.0.lock().expect("unpoisoned").values() {
            let successes = first_successes(lines);
            assert!(successes.iter().copied().eq(0..successes.len() as i64), "{lines:?}");
            for pair in lines.windows(2) {
                let failed = pair[0].strip_prefix('-');
                assert!(failed.is_none_or(|offset| pair[1] == format!("+{offset}")), "{lines:?}");
            }
            assert_eq!(
                lines.iter().filter(|line| line.starts_with('+')).count(),
                successes.len(),
                "{lines:?}"
            );
        }
        first.stop().await;
        let took = waited(&rt, LIMIT, || of_topic(&second) == queues).await;
        assert!(took < Duration::from_secs(3), "the locks were given back, and taken after {took:?}");
        second.stop().await;
        other.stop().await;
        cluster.stop().await;
    });
}

/// It was caught in a loop without an end: the consumer had stopped, and the queue had not been told yet.
#[test]
fn in_order_a_consumer_stops_while_messages_wait() {
    in_simulation(|place| async move {
        let cluster = cluster(place).await;
        let rt = cluster.place.clients.clone();
        send_all(&cluster.client, TOPIC, (0..200).map(|index| index.to_string())).await;
        let config = ConsumerConfig { in_order: true, ..consumer_config(GROUP, TOPIC, "*") };
        let seen = Seen::default();
        let (noting, yields) = (seen.clone(), rt.clone());
        let consumer = PushConsumer::start(&cluster.client, config, move |messages| {
            let (noting, yields) = (noting.clone(), yields.clone());
            async move {
                yields.yield_now().await;
                noting.note(messages);
                ConsumeStatus::Success
            }
        })
        .expect("a consumer");
        while seen.count() < 20 {
            rt.yield_now().await;
            if seen.count() == 0 {
                // All of them are consumed within a millisecond.
                rt.sleep(Duration::from_micros(20)).await;
            }
        }
        consumer.stop().await;
        assert!(seen.count() < 200, "some were left");
        cluster.stop().await;
    });
}

#[test]
fn in_order_the_queues_of_a_dead_member_are_taken_when_its_locks_run_out() {
    in_simulation(|place| async move {
        let cluster = cluster(place).await;
        let rt = cluster.place.clients.clone();
        send_all(&cluster.client, TOPIC, (0..8).map(|index| index.to_string())).await;
        let turns = Turns::default();
        let dying = start_client(&cluster.place, cluster.name_server.local_addr());
        let dead = listen_in_order(&dying, &rt, &turns);
        waited(&rt, LIMIT, || turns.consumed() == 8).await;
        let queues = of_topic(&dead);
        dying.stop().await;
        let second = listen_in_order(&cluster.client, &rt, &turns);
        let took = waited(&rt, 2 * LIMIT, || of_topic(&second) == queues).await;
        assert!((35..65).contains(&took.as_secs()), "taken after {took:?}");
        second.stop().await;
        dead.stop().await;
        cluster.stop().await;
    });
}

#[test]
fn in_order_what_fails_too_often_is_a_dead_letter_and_the_next_follows() {
    in_simulation(|place| async move {
        let cluster = cluster(place).await;
        let rt = cluster.place.clients.clone();
        send_all(&cluster.client, TOPIC, (0..8).map(|index| index.to_string())).await;
        let config = ConsumerConfig {
            in_order: true,
            suspend: Duration::from_millis(50),
            max_reconsume_times: 2,
            ..consumer_config(GROUP, TOPIC, "*")
        };
        let seen = Seen::default();
        let noting = seen.clone();
        let consumer = PushConsumer::start(&cluster.client, config, move |messages: Vec<Received>| {
            let fails = messages.iter().any(|received| received.message.body.as_ref() == b"0");
            noting.note(messages);
            async move { if fails { ConsumeStatus::Retry } else { ConsumeStatus::Success } }
        })
        .expect("a consumer");
        waited(&rt, LIMIT, || seen.count() == 8).await;
        assert_eq!(consumed(&seen), 7 + 3);
        let (dead, letters) = listen(&cluster.client, consumer_config("undertaker", "%DLQ%group", "*"));
        waited(&rt, LIMIT, || letters.count() == 1).await;
        assert!(letters.get("0").is_some());
        dead.stop().await;
        consumer.stop().await;
        cluster.stop().await;
    });
}

async fn a_broadcasting_consumer_reads_everything_and_goes_on_by_its_file<R: Runtime>(place: Place<R>) {
    let cluster = cluster(place).await;
    let rt = cluster.place.clients.clone();
    let other = start_client(&cluster.place, cluster.name_server.local_addr());
    send_all(&cluster.client, TOPIC, (0..8).map(|index| index.to_string())).await;
    let config = |file: &str| ConsumerConfig {
        broadcast: Some(format!("offsets/{file}/offsets.json")),
        ..consumer_config(GROUP, TOPIC, "*")
    };
    let (one, one_seen) = listen(&cluster.client, config("one"));
    let (two, two_seen) = listen(&other, config("two"));
    until(&rt, "all to each", || one_seen.count() == 8 && two_seen.count() == 8).await;
    one.stop().await;
    send_all(&other, TOPIC, (8..16).map(|index| index.to_string())).await;
    until(&rt, "all to the other", || two_seen.count() == 16).await;
    let (one, one_seen) = listen(&cluster.client, config("one"));
    until(&rt, "what came meanwhile", || one_seen.count() == 8).await;
    assert!(one_seen.get("8").is_some() && one_seen.get("0").is_none());
    let of = GetConsumerConnectionListHeader { consumer_group: GROUP.to_owned() };
    let broker = cluster.broker.local_addr();
    let answer = done(&other, &broker, ask::GET_CONSUMER_CONNECTION_LIST, &of).await;
    let body = ConsumerConnection::parse(&answer.body.to_bytes()).expect("connections");
    assert_eq!(body.message_model, MessageModel::Broadcasting);
    assert!(!body.subscription_table.contains_key("%RETRY%group"));
    one.stop().await;
    two.stop().await;
    let saved = hotfire_core::store::ConfigFile::load(&rt, "offsets/two/offsets.json").await;
    let saved = ResetOffsetBody::parse(&saved.expect("it is read").expect("it is there")).expect("offsets");
    assert_eq!(saved.offset_table.values().sum::<i64>(), 16);
    other.stop().await;
    cluster.stop().await;
}

#[test]
fn a_broadcasting_consumer_reads_everything_on_sockets() {
    on_sockets(|place: Place<TokioRuntime>| {
        a_broadcasting_consumer_reads_everything_and_goes_on_by_its_file(place)
    });
}

#[test]
fn a_broadcasting_consumer_reads_everything_in_simulation() {
    in_simulation(a_broadcasting_consumer_reads_everything_and_goes_on_by_its_file);
}

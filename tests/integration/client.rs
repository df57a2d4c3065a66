//! core's client against core's name server and broker: on sockets, and on the simulated network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hotfire_core::broker::Broker;
use hotfire_core::client::consumer::{ConsumeFrom, ConsumeStatus, ConsumerConfig, PushConsumer};
use hotfire_core::client::producer::{Producer, ProducerConfig, SendOutcome, SendStatus};
use hotfire_core::client::{Client, ClientConfig, Message, Received};
use hotfire_core::config::{BrokerConfig, NameServerConfig};
use hotfire_core::name_server::NameServer;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::{
    CreateTopicHeader, OffsetResponse, QueryConsumerOffsetHeader, UnregisterBrokerHeader,
};
use hotfire_core::runtime::Runtime;
use hotfire_runtime::TokioRuntime;
use hotfire_sim::{Limits, SimRuntime, World, run_seed};

pub const LIMIT: Duration = Duration::from_secs(60);

/// The nodes of a case: their runtimes, and the address under which the servers are reached.
#[derive(Clone)]
pub struct Place<R> {
    pub servers: R,
    pub clients: R,
    pub ip: IpAddr,
    /// A port that one can listen at again: none that the system gives to clients, who may have it meanwhile.
    pub port: u16,
}

pub struct Cluster<R: Runtime> {
    pub place: Place<R>,
    pub name_server: NameServer<R>,
    pub broker: Broker<R>,
    pub client: Client<R>,
}

pub async fn start_name_server<R: Runtime>(place: &Place<R>, port: u16) -> NameServer<R> {
    let mut config = NameServerConfig::default();
    config.server.bind_address = place.ip;
    config.server.listen_port = port;
    config.server.kv_config_path = "namesrv/kvConfig.json".to_owned();
    NameServer::start(place.servers.clone(), config).await.expect("a name server")
}

pub async fn start_broker<R: Runtime>(place: &Place<R>, name_server: SocketAddr, port: u16) -> Broker<R> {
    start_named_broker(place, "broker-a", name_server, port).await
}

/// Its name is the folder of its store too.
pub async fn start_named_broker<R: Runtime>(
    place: &Place<R>,
    name: &str,
    name_server: SocketAddr,
    port: u16,
) -> Broker<R> {
    let mut config = BrokerConfig::default();
    config.set_listen(SocketAddr::new(place.ip, port));
    config.identity.name = name.to_owned();
    config.identity.ip1 = place.ip.to_string();
    config.registration.name_servers = name_server.to_string();
    config.set("storePathRootDir", name).expect("a key of ours");
    config.set("mappedFileSizeCommitLog", "16777216").expect("a key of ours");
    // A send that a busy machine keeps waiting is not refused.
    config.set("waitTimeMillsInSendQueue", "60000").expect("a key of ours");
    Broker::start(place.servers.clone(), config).await.expect("a broker")
}

pub fn start_client<R: Runtime>(place: &Place<R>, name_server: SocketAddr) -> Client<R> {
    let config = ClientConfig::new(vec![name_server.to_string()], IpAddr::V4(Ipv4Addr::LOCALHOST));
    Client::start(place.clients.clone(), config)
}

pub async fn cluster<R: Runtime>(place: Place<R>) -> Cluster<R> {
    let name_server = start_name_server(&place, 0).await;
    let broker = start_broker(&place, name_server.local_addr(), 0).await;
    let client = start_client(&place, name_server.local_addr());
    Cluster { place, name_server, broker, client }
}

impl<R: Runtime> Cluster<R> {
    pub async fn stop(self) {
        self.client.stop().await;
        self.broker.stop().await.expect("a clean stop");
        self.name_server.stop().await;
    }
}

/// What came, by body, with how often.
#[derive(Clone, Default)]
pub struct Seen(pub Arc<Mutex<BTreeMap<String, Vec<Received>>>>);

impl Seen {
    pub fn note(&self, messages: Vec<Received>) {
        let mut seen = self.0.lock().expect("unpoisoned");
        for received in messages {
            let body = String::from_utf8(received.message.body.to_vec()).expect("text");
            seen.entry(body).or_default().push(received);
        }
    }

    pub fn count(&self) -> usize {
        self.0.lock().expect("unpoisoned").len()
    }

    pub fn get(&self, body: &str) -> Option<Received> {
        self.0.lock().expect("unpoisoned").get(body).and_then(|times| times.first().cloned())
    }

    pub fn repeated(&self) -> usize {
        self.0.lock().expect("unpoisoned").values().filter(|times| times.len() > 1).count()
    }
}

pub async fn until<R: Runtime>(rt: &R, what: &str, condition: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !condition() {
            rt.sleep(Duration::from_millis(5)).await;
        }
    };
    rt.timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"));
}

pub fn consumer_config(group: &str, topic: &str, expression: &str) -> ConsumerConfig {
    ConsumerConfig { from: ConsumeFrom::First, ..ConsumerConfig::new(group, topic, expression) }
}

pub fn listen<R: Runtime>(client: &Client<R>, config: ConsumerConfig) -> (PushConsumer<R>, Seen) {
    let seen = Seen::default();
    let noting = seen.clone();
    let consumer = PushConsumer::start(client, config, move |messages| {
        noting.note(messages);
        async { ConsumeStatus::Success }
    });
    (consumer.expect("a consumer"), seen)
}

pub async fn send_all<R: Runtime>(client: &Client<R>, topic: &str, bodies: impl Iterator<Item = String>) {
    let producer = Producer::start(client, ProducerConfig::new("producers"));
    for body in bodies {
        let outcome = producer.send(&Message::new(topic, body.clone()).with_tags("A")).await;
        let SendOutcome::Sent(result) = &outcome else { panic!("{body}: {outcome:?}") };
        assert_eq!(result.status, SendStatus::Ok);
    }
    producer.stop().await;
}

async fn what_is_sent_is_consumed<R: Runtime>(place: Place<R>) {
    let cluster = cluster(place).await;
    let client = &cluster.client;
    let producer = Producer::start(client, ProducerConfig::new("producers"));
    let large = "long ".repeat(2000);
    let messages = [
        Message::new("Topic", "plain").with_tags("A").with_key("k1").with_key("k2"),
        Message::new("Topic", large.clone()).with_tags("B").with_property("color", "grün"),
        Message::new("Topic", "other").with_tags("C"),
    ];
    let mut ids = Vec::new();
    for message in &messages {
        match producer.send(message).await {
            SendOutcome::Sent(result) => ids.push(result),
            other => panic!("not sent: {other:?}"),
        }
    }
    let batch: Vec<Message> =
        (0..3).map(|index| Message::new("Topic", format!("member {index}")).with_tags("A")).collect();
    let outcome = producer.send_batch(&batch).await;
    let SendOutcome::Sent(result) = outcome else { panic!("{outcome:?}") };
    assert_eq!(result.msg_id.split(',').count(), 3);
    producer.send_oneway(&Message::new("Topic", "oneway").with_tags("A")).await.expect("a way");

    let (consumer, seen) = listen(client, consumer_config("group", "Topic", "A || B"));
    until(&cluster.place.clients, "six messages", || seen.count() == 6).await;
    let plain = seen.get("plain").expect("it came");
    assert_eq!(plain.msg_id(), ids[0].msg_id);
    assert_eq!(plain.message.offset_message_id(), ids[0].offset_msg_id);
    assert_eq!(plain.message.queue_offset, ids[0].queue_offset);
    assert_eq!((plain.tags(), plain.property("KEYS")), (Some("A"), Some("k1 k2")));
    let long = seen.get(&large).expect("it came");
    assert_eq!(long.property("color"), Some("grün"));
    assert!(long.message.store_size < 2000, "it was stored compressed");
    assert!(seen.get("other").is_none(), "the tag C is not wanted");
    consumer.stop().await;
    producer.stop().await;
    cluster.stop().await;
}

async fn a_group_goes_on_where_it_was<R: Runtime>(place: Place<R>) {
    let cluster = cluster(place).await;
    send_all(&cluster.client, "Topic", (0..20).map(|index| format!("first {index}"))).await;
    let (consumer, seen) = listen(&cluster.client, consumer_config("group", "Topic", "*"));
    until(&cluster.place.clients, "the first", || seen.count() == 20).await;
    consumer.stop().await;
    send_all(&cluster.client, "Topic", (0..20).map(|index| format!("second {index}"))).await;
    let (consumer, seen) = listen(&cluster.client, consumer_config("group", "Topic", "*"));
    until(&cluster.place.clients, "the second", || seen.count() == 20).await;
    assert!(seen.get("first 0").is_none(), "what was committed came again");
    consumer.stop().await;
    cluster.stop().await;
}

async fn members_of_a_group_share_the_queues<R: Runtime>(place: Place<R>) {
    let cluster = cluster(place).await;
    send_all(&cluster.client, "Topic", (0..8).map(|index| format!("{index}"))).await;
    let second = start_client(&cluster.place, cluster.name_server.local_addr());
    let (first_consumer, first_seen) = listen(&cluster.client, consumer_config("group", "Topic", "*"));
    until(&cluster.place.clients, "all to one", || first_seen.count() == 8).await;
    let (second_consumer, second_seen) = listen(&second, consumer_config("group", "Topic", "*"));
    let of_topic = |consumer: &PushConsumer<R>| {
        consumer.queues().into_iter().filter(|queue| queue.topic == "Topic").count()
    };
    let total = of_topic(&first_consumer);
    until(&cluster.place.clients, "half each", || {
        of_topic(&first_consumer) == total / 2 && of_topic(&second_consumer) == total / 2
    })
    .await;
    send_all(&cluster.client, "Topic", (8..40).map(|index| format!("{index}"))).await;
    until(&cluster.place.clients, "all", || first_seen.count() + second_seen.count() >= 40).await;
    assert!(second_seen.count() > 0);
    first_consumer.stop().await;
    until(&cluster.place.clients, "all to the other", || of_topic(&second_consumer) == total).await;
    second_consumer.stop().await;
    second.stop().await;
    cluster.stop().await;
}

async fn a_message_put_off_comes_again<R: Runtime>(place: Place<R>) {
    let cluster = cluster(place).await;
    send_all(&cluster.client, "Topic", (0..3).map(|index| format!("{index}"))).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let config =
        ConsumerConfig { retry_delay: Duration::from_millis(50), ..consumer_config("group", "Topic", "*") };
    let consumer = PushConsumer::start(&cluster.client, config, move |messages: Vec<Received>| {
        let is_first_try = messages.iter().all(|received| received.message.reconsume_times == 0);
        noting.note(messages);
        async move { if is_first_try { ConsumeStatus::Later } else { ConsumeStatus::Success } }
    })
    .expect("a consumer");
    until(&cluster.place.clients, "each twice", || seen.repeated() == 3).await;
    consumer.stop().await;
    cluster.stop().await;
}

async fn a_broker_that_comes_back_is_used_again<R: Runtime>(place: Place<R>) {
    let name_server = start_name_server(&place, 0).await;
    let broker = start_broker(&place, name_server.local_addr(), place.port).await;
    let client = start_client(&place, name_server.local_addr());
    send_all(&client, "Topic", (0..5).map(|index| format!("{index}"))).await;
    let (consumer, seen) = listen(&client, consumer_config("group", "Topic", "*"));
    until(&place.clients, "the first five", || seen.count() == 5).await;
    broker.stop().await.expect("a clean stop");
    let producer = Producer::start(&client, ProducerConfig::new("producers"));
    match producer.send(&Message::new("Topic", "lost")).await {
        SendOutcome::Refused { .. } => {}
        other => panic!("nobody was there: {other:?}"),
    }
    let broker = start_broker(&place, name_server.local_addr(), place.port).await;
    client.routes().refresh("Topic").await.expect("a route");
    for index in 5..10 {
        let message = Message::new("Topic", index.to_string());
        let outcome = producer.send(&message).await;
        assert!(matches!(outcome, SendOutcome::Sent(_)), "{outcome:?}");
    }
    until(&place.clients, "the other five", || seen.count() == 10).await;
    consumer.stop().await;
    producer.stop().await;
    client.stop().await;
    broker.stop().await.expect("a clean stop");
    name_server.stop().await;
}

async fn tell(client: &Client<SimRuntime>, addr: SocketAddr, request: RemotingCommand) -> RemotingCommand {
    client.peers().call(&addr.to_string(), request, LIMIT).await.expect("an answer")
}

/// Makes the topic, with so many queues, and has the broker register it.
async fn make_topic(client: &Client<SimRuntime>, broker: SocketAddr, queues: i32) {
    let header = CreateTopicHeader {
        topic: "Topic".to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopicHeader::default()
    };
    let request = RemotingCommand::request(request::UPDATE_AND_CREATE_TOPIC).with_header(&header);
    assert_eq!(tell(client, broker, request).await.code, response::SUCCESS);
}

/// What `group` has committed for queue 0 of the topic at the broker.
async fn committed(client: &Client<SimRuntime>, broker: SocketAddr) -> i64 {
    let header = QueryConsumerOffsetHeader {
        consumer_group: "group".to_owned(),
        topic: "Topic".to_owned(),
        queue_id: 0,
        set_zero_if_not_found: None,
    };
    let request = RemotingCommand::request(request::QUERY_CONSUMER_OFFSET).with_header(&header);
    tell(client, broker, request).await.header::<OffsetResponse>().expect("an offset").offset
}

/// The client asks for routes while the name server misses one of two brokers, and forgets its address; the name server
/// knows it again when the next commit is due, long before the client asks for routes or pulls anew.
async fn an_offset_is_told_to_a_broker_that_was_missing_from_a_route(place: Place<SimRuntime>) {
    let rt = place.clients.clone();
    let at = |ms: u64| {
        let rt = rt.clone();
        let begun = rt.now();
        async move { rt.sleep_until(begun.after_ms(ms)).await }
    };
    let name_server = start_name_server(&place, 0).await;
    let brokers = [
        start_named_broker(&place, "broker-a", name_server.local_addr(), 0).await,
        start_named_broker(&place, "broker-b", name_server.local_addr(), 0).await,
    ];
    let observer = start_client(&place, name_server.local_addr());
    // Brokers register once more 10 s after their start, then every 30 s.
    at(11_000).await;
    for broker in &brokers {
        make_topic(&observer, broker.local_addr(), 1).await;
    }
    send_all(&observer, "Topic", (0..2).map(|index| index.to_string())).await;

    let [a, b] = [brokers[0].local_addr(), brokers[1].local_addr()];
    let (asks, commits, late) = (at(12_000), at(20_000), at(21_000));
    let config = ClientConfig {
        route_interval: Duration::from_secs(12),
        ..ClientConfig::new(vec![name_server.local_addr().to_string()], IpAddr::V4(Ipv4Addr::LOCALHOST))
    };
    let client = Client::start(place.clients.clone(), config);
    let config = ConsumerConfig {
        commit_interval: Duration::from_secs(20),
        rebalance_interval: Duration::from_secs(3_600),
        pull_suspend: Duration::from_secs(60),
        ..consumer_config("group", "Topic", "*")
    };
    let (consumer, seen) = listen(&client, config);
    until(&rt, "both messages", || seen.count() == 2).await;

    let header = UnregisterBrokerHeader {
        broker_name: "broker-b".to_owned(),
        broker_addr: b.to_string(),
        cluster_name: BrokerConfig::default().identity.cluster,
        broker_id: 0,
    };
    let bye = RemotingCommand::request(request::UNREGISTER_BROKER).with_header(&header);
    assert_eq!(tell(&observer, name_server.local_addr(), bye).await.code, response::SUCCESS);
    asks.await;
    until(&rt, "broker-b forgotten", || client.routes().master("broker-b").is_none()).await;
    make_topic(&observer, b, 2).await;
    assert_eq!((committed(&observer, a).await, committed(&observer, b).await), (0, 0));
    commits.await;
    assert!(client.routes().master("broker-b").is_none(), "nothing but a commit asks again");
    late.await;
    assert_eq!((committed(&observer, a).await, committed(&observer, b).await), (1, 1));
    consumer.stop().await;
    client.stop().await;
    observer.stop().await;
    for broker in brokers {
        broker.stop().await.expect("a clean stop");
    }
    name_server.stop().await;
}

#[test]
fn an_offset_outlives_a_route_that_missed_its_broker() {
    in_simulation(an_offset_is_told_to_a_broker_that_was_missing_from_a_route);
}

pub fn on_sockets<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Place<TokioRuntime>) -> F) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let folder = tempfile::tempdir().expect("a folder");
    let (servers, clients) = (TokioRuntime::new(folder.path()), TokioRuntime::new(folder.path()));
    let port = hotfire_tests::free_ports().expect("a free port");
    let place = Place { servers, clients, ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port };
    let tokio = tokio.expect("a runtime");
    tokio.block_on(async { tokio::spawn(case(place)).await }).expect("the case ends");
}

pub fn in_simulation<F: Future<Output = ()> + Send + 'static>(
    case: impl Fn(Place<SimRuntime>) -> F + Clone + Send + Sync + 'static,
) {
    for seed in 0..3 {
        let case = case.clone();
        let run = move |world: World| async move {
            let (a, b) = (world.add_node("servers", [10, 0, 0, 1]), world.add_node("clients", [10, 0, 0, 2]));
            world.boot(a, |_rt: SimRuntime| std::future::pending::<()>());
            let servers = world.runtime(a).expect("it runs");
            let (done, finished) = tokio::sync::oneshot::channel();
            let done = Arc::new(Mutex::new(Some(done)));
            world.boot(b, move |rt: SimRuntime| {
                let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
                let running = case(Place { servers: servers.clone(), clients: rt, ip, port: 10_911 });
                let done = done.clone();
                async move {
                    running.await;
                    let done = done.lock().expect("unpoisoned").take().expect("runs once");
                    done.send(()).expect("somebody waits");
                }
            });
            finished.await.expect("the case ends");
        };
        run_seed(seed, Limits::default(), run).expect_finished();
    }
}

macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sockets {
            $(#[test]
            fn $case() {
                super::on_sockets(super::$case);
            })+
        }

        mod simulation {
            $(#[test]
            fn $case() {
                super::in_simulation(super::$case);
            })+
        }
    };
}

on_both! {
    what_is_sent_is_consumed,
    a_group_goes_on_where_it_was,
    members_of_a_group_share_the_queues,
    a_message_put_off_comes_again,
    a_broker_that_comes_back_is_used_again,
}

//! A broker on real sockets and files, in this process, and a client that asks it by hand.

use bytes::Bytes;
use hotfire_core::broker::Broker;
use hotfire_core::config::{BrokerConfig, FlushDisk};
use hotfire_core::message::StoredMessage;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{
    ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData, SubscriptionData,
    TopicConfig,
};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::connection::{Answer, ConnectionHandle, ConnectionLimits, Handler};
use hotfire_core::remoting::headers::*;
use hotfire_core::remoting::peer::Peers;
use hotfire_runtime::TokioRuntime;
use hotfire_tests::TempDir;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than anything here takes, shorter than a person waits.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a runtime of its own.
pub fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime")
        .block_on(test);
}

/// A broker on a free port, with small files.
pub fn config() -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.identity.bind_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.identity.listen_port = 0;
    config.store.commit_log_file_bytes = 1 << 20;
    config.store.consume_queue_file_bytes = 20 * 1000;
    // A request that a busy machine keeps waiting is carried out: what is tested is what it does.
    config.send.wait_limit_ms = 60_000;
    config.store.append_busy_ms = 60_000;
    config
}

pub fn sync_flush() -> BrokerConfig {
    let mut config = config();
    config.store.flush = FlushDisk::Sync;
    config
}

pub async fn start(dir: &TempDir, config: &BrokerConfig) -> Broker<TokioRuntime> {
    let rt = TokioRuntime::new(dir.path());
    Broker::start(rt, config.clone()).await.expect("the broker starts")
}

/// What the broker asked the client for.
#[derive(Default)]
struct Asked {
    requests: Mutex<Vec<RemotingCommand>>,
    arrived: tokio::sync::Notify,
}

impl Handler<TokioRuntime> for Asked {
    async fn handle(&self, _connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        let answer = answer_of_client(&request);
        self.requests.lock().expect("not poisoned").push(request);
        self.arrived.notify_one();
        answer
    }
}

/// A pushed reply with this body is not taken.
pub const REFUSED_BODY: &str = "no, thank you";

fn answer_of_client(request: &RemotingCommand) -> Answer {
    if request.code != ask::PUSH_REPLY_MESSAGE_TO_CLIENT {
        return Answer::Never;
    }
    let refused = &request.body.to_bytes()[..] == REFUSED_BODY.as_bytes();
    let code = if refused { response::SYSTEM_ERROR } else { response::SUCCESS };
    Answer::Now(RemotingCommand::response_to(request, code))
}

/// One client on one connection.
#[derive(Clone)]
pub struct Client {
    peers: Peers<TokioRuntime>,
    broker: String,
    asked: Arc<Asked>,
}

impl Client {
    pub fn of(broker: &Broker<TokioRuntime>) -> Client {
        let asked = Arc::new(Asked::default());
        let rt = TokioRuntime::new(".");
        let peers = Peers::new(rt, asked.clone(), ConnectionLimits::default());
        Client { peers, broker: broker.local_addr().to_string(), asked }
    }

    pub async fn ask(&self, request: RemotingCommand) -> RemotingCommand {
        let code = request.code;
        let answer = self.peers.call(&self.broker, request, PATIENCE).await;
        answer.unwrap_or_else(|error| panic!("ask {code}: {error}"))
    }

    /// Asks what must be answered with SUCCESS.
    pub async fn done(&self, request: RemotingCommand) -> RemotingCommand {
        let code = request.code;
        let answer = self.ask(request).await;
        assert_eq!(answer.code, response::SUCCESS, "{code}: {:?}", answer.remark);
        answer
    }

    /// The next request of the broker with this code.
    pub async fn asked_for(&self, code: i32) -> RemotingCommand {
        let wait = async {
            loop {
                {
                    let mut requests = self.asked.requests.lock().expect("not poisoned");
                    if let Some(at) = requests.iter().position(|request| request.code == code) {
                        return requests.remove(at);
                    }
                }
                self.asked.arrived.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the broker never sent {code}"))
    }

    pub fn close(&self) {
        self.peers.close(&self.broker);
    }
}

pub fn send_header<'a>(topic: &'a str, queue_id: i32, properties: &'a str) -> SendMessageHeader<'a> {
    SendMessageHeader {
        producer_group: "PG",
        topic,
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp: 1_700_000_000_000,
        properties: Some(properties).filter(|properties| !properties.is_empty()),
        ..Default::default()
    }
}

pub fn send(header: &SendMessageHeader<'_>, body: impl Into<Vec<u8>>) -> RemotingCommand {
    let mut request = RemotingCommand::request(ask::SEND_MESSAGE_V2).with_body(body.into());
    header.encode_v2(&mut request.ext);
    request
}

/// A pull that carries its subscription.
pub fn pull_header(topic: &str, queue_id: i32, offset: i64, expression: &str) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "CG".to_owned(),
        topic: topic.to_owned(),
        queue_id,
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: 4,
        subscription: Some(expression.to_owned()),
        ..Default::default()
    }
}

pub fn pull(header: &PullMessageHeader) -> RemotingCommand {
    RemotingCommand::request(ask::PULL_MESSAGE).with_header(header)
}

/// The messages in the body of a pull's answer.
pub fn messages(answer: &RemotingCommand) -> Vec<StoredMessage> {
    let mut rest: Bytes = answer.body.to_bytes();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let message = StoredMessage::decode(&rest).expect("a whole record");
        rest = rest.split_off(message.store_size as usize);
        messages.push(message);
    }
    messages
}

pub fn bodies(answer: &RemotingCommand) -> Vec<String> {
    messages(answer).iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
}

pub fn create_topic(topic: &str, queues: i32) -> RemotingCommand {
    let header = CreateTopicHeader {
        topic: topic.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..Default::default()
    };
    RemotingCommand::request(ask::UPDATE_AND_CREATE_TOPIC).with_header(&header)
}

/// A topic's settings, `None` when the broker does not know it.
pub async fn topic(client: &Client, name: &str) -> Option<TopicConfig> {
    let header = GetTopicConfigHeader { topic: name.to_owned() };
    let answer = client.ask(RemotingCommand::request(ask::GET_TOPIC_CONFIG).with_header(&header)).await;
    match answer.code {
        response::SUCCESS => Some(TopicConfig::parse(&answer.body.to_bytes()).expect("a topic")),
        code => {
            assert_eq!(code, response::TOPIC_NOT_EXIST);
            None
        }
    }
}

/// A client of the groups CG, which consumes `topics`, and PG.
pub fn heartbeat(client_id: &str, topics: &[&str]) -> RemotingCommand {
    let subscription = |topic: &&str| SubscriptionData {
        class_filter_mode: false,
        code_set: BTreeSet::new(),
        expression_type: "TAG".to_owned(),
        sub_string: "*".to_owned(),
        sub_version: 1,
        tags_set: BTreeSet::new(),
        topic: (*topic).to_owned(),
    };
    let consumer = ConsumerData {
        consume_from_where: ConsumeFromWhere::LastOffset,
        consume_type: ConsumeType::Passively,
        group_name: "CG".to_owned(),
        message_model: MessageModel::Clustering,
        subscription_data_set: topics.iter().map(subscription).collect(),
        unit_mode: false,
    };
    let body = HeartbeatData {
        client_id: client_id.to_owned(),
        consumer_data_set: vec![consumer],
        producer_data_set: vec![ProducerData { group_name: "PG".to_owned() }],
        ..Default::default()
    };
    RemotingCommand::request(ask::HEART_BEAT).with_body(body.to_json())
}

//! A name server over real sockets: what the original brokers sent to theirs, and what it answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hotfire_core::config::NameServerConfig;
use hotfire_core::name_server::NameServer;
use hotfire_core::remoting::body::{
    DataVersion, KvTable, RegisterBrokerBody, TopicConfig, TopicList, TopicRouteData,
};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::{
    DeleteKvConfigHeader, GetKvConfigHeader, GetKvConfigResponse, GetKvListHeader, GetRouteInfoHeader,
    PutKvConfigHeader, QueryDataVersionHeader, QueryDataVersionResponse, RegisterBrokerHeader,
    UnregisterBrokerHeader, WipeWritePermHeader, WipeWritePermResponse,
};
use hotfire_core::remoting::{RemotingCommand, json, peer::Peers};
use hotfire_runtime::TokioRuntime;
use hotfire_tests::TempDir;

use crate::golden::{self, Recorded};

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    server: NameServer<TokioRuntime>,
    peers: Peers<TokioRuntime>,
}

impl Bench {
    async fn start(dir: &TempDir) -> Bench {
        let rt = TokioRuntime::new(dir.path());
        let mut config = NameServerConfig::default();
        config.set_listen("127.0.0.1:0".parse().expect("an address"));
        let server = NameServer::start(rt.clone(), config).await.expect("the name server starts");
        let peers = Peers::new(rt, Arc::new(NoHandler), ConnectionLimits::default());
        Bench { server, peers }
    }

    async fn ask(&self, request: RemotingCommand) -> RemotingCommand {
        let addr = self.server.local_addr().to_string();
        self.peers.call(&addr, request, PATIENCE).await.expect("an answer")
    }

    async fn stop(self) {
        self.peers.stop().await;
        self.server.stop().await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an executor")
}

fn registration(version: i64, topics: &[&str]) -> RemotingCommand {
    let mut body = RegisterBrokerBody::default();
    body.topic_config_serialize_wrapper.data_version =
        DataVersion { counter: version, state_version: 0, timestamp: 1_700_000_000_000 };
    for topic in topics {
        let config = TopicConfig { topic_name: (*topic).to_owned(), ..TopicConfig::default() };
        body.topic_config_serialize_wrapper.topic_config_table.insert((*topic).to_owned(), config);
    }
    let header = RegisterBrokerHeader {
        broker_name: "a".to_owned(),
        broker_addr: "127.0.0.1:10911".to_owned(),
        cluster_name: "c".to_owned(),
        ha_server_addr: "127.0.0.1:10912".to_owned(),
        ..RegisterBrokerHeader::default()
    };
    RemotingCommand::request(ask::REGISTER_BROKER).with_header(&header).with_body(body.to_json())
}

fn route_request(topic: &str) -> RemotingCommand {
    let header = GetRouteInfoHeader { topic: topic.to_owned(), ..GetRouteInfoHeader::default() };
    RemotingCommand::request(ask::GET_ROUTEINFO_BY_TOPIC).with_header(&header)
}

/// Requests of one transcript with their recorded answers, in order.
fn recorded(file: &str) -> Vec<(Recorded, Option<RemotingCommand>)> {
    let frames = golden::frames().expect("the transcripts are whole");
    let frames: Vec<Recorded> =
        frames.into_iter().filter(|frame| frame.place.starts_with(&format!("{file}."))).collect();
    let mut answers = BTreeMap::new();
    for frame in frames.iter().filter(|frame| frame.command.is_response()) {
        answers.entry(frame.command.opaque).or_insert_with(Vec::new).push(frame.command.clone());
    }
    let requests = frames.into_iter().filter(|frame| !frame.command.is_response());
    requests
        .map(|request| {
            // Connections count from the same number, one after the other.
            let answer = answers
                .get_mut(&request.command.opaque)
                .filter(|list| !list.is_empty() && !request.command.is_oneway())
                .map(|list| list.remove(0));
            (request, answer)
        })
        .collect()
}

fn body_value(command: &RemotingCommand) -> Option<serde_json::Value> {
    let bytes = command.body.to_bytes();
    (!bytes.is_empty()).then(|| json::parse(&bytes).expect("a JSON body"))
}

#[test]
fn the_originals_brokers_get_the_originals_answers() {
    let dir = TempDir::new("name-server-golden");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        for file in ["broker-master-to-namesrv", "broker-4.9.7-compressed-register"] {
            if file.contains("compressed") {
                put_order_config(&bench).await;
            }
            for (request, expected) in recorded(file) {
                let mut command = request.command;
                if command.is_oneway() {
                    // Asked for an answer, so that the next request meets the state that it left.
                    command.flag = 0;
                }
                let answer = bench.ask(command).await;
                let Some(expected) = expected else { continue };
                assert_eq!(answer.code, expected.code, "{}", request.place);
                assert_eq!(answer.ext, expected.ext, "{}", request.place);
                assert_eq!(body_value(&answer), body_value(&expected), "{}", request.place);
            }
        }
        bench.stop().await;
    });
}

/// The recorded name server had these from the session before.
async fn put_order_config(bench: &Bench) {
    for topic in ["WireOrder", "HeldOrder"] {
        let header = PutKvConfigHeader {
            namespace: "ORDER_TOPIC_CONFIG".to_owned(),
            key: topic.to_owned(),
            value: "golden-a:2".to_owned(),
        };
        let put = RemotingCommand::request(ask::PUT_KV_CONFIG).with_header(&header);
        assert_eq!(bench.ask(put).await.code, response::SUCCESS);
    }
}

#[test]
fn a_slave_of_the_original_finds_its_master() {
    let dir = TempDir::new("name-server-slave");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        let (master, _) = recorded("broker-master-to-namesrv").remove(0);
        assert_eq!(bench.ask(master.command).await.code, response::SUCCESS);
        for (request, expected) in recorded("broker-slave-to-namesrv") {
            let answer = bench.ask(request.command).await;
            let expected = expected.expect("every request of this file was answered");
            assert_eq!((answer.code, answer.ext), (expected.code, expected.ext), "{}", request.place);
        }
        bench.stop().await;
    });
}

#[test]
fn a_compressed_registration_that_claims_to_be_plain_is_taken() {
    let dir = TempDir::new("name-server-compressed");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        let (first, original) = recorded("broker-5.4.0-compressed-register").remove(0);
        assert_eq!(original.expect("it was answered").code, response::SYSTEM_ERROR, "the original refuses");
        assert_eq!(bench.ask(first.command).await.code, response::SUCCESS);
        let route = bench.ask(route_request("TBW102")).await;
        assert_eq!(route.code, response::SUCCESS);
        bench.stop().await;
    });
}

#[test]
fn a_broker_is_found_until_its_connection_ends() {
    let dir = TempDir::new("name-server-life");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        let asked = bench.ask(route_request("T")).await;
        assert_eq!(asked.code, response::TOPIC_NOT_EXIST);
        let remark = asked.remark.unwrap_or_default();
        assert!(remark.starts_with("No topic route info in name server for the topic: T"), "{remark}");

        assert_eq!(bench.ask(registration(1, &["T"])).await.code, response::SYSTEM_ERROR);
        assert_eq!(bench.ask(registration(1, &["T", "U"])).await.code, response::SUCCESS);
        let route = bench.ask(route_request("T")).await;
        let route = TopicRouteData::parse(&route.body.to_bytes()).expect("a route");
        assert_eq!(route.broker_datas[0].broker_addrs.get(&0).map(String::as_str), Some("127.0.0.1:10911"));

        let other =
            Peers::new(TokioRuntime::new(dir.path()), Arc::new(NoHandler), ConnectionLimits::default());
        let addr = bench.server.local_addr().to_string();
        // Over a second connection: from here on the first one no longer speaks for the broker.
        let again = other.call(&addr, registration(1, &["T", "U"]), PATIENCE).await.expect("an answer");
        assert_eq!(again.code, response::SUCCESS);
        bench.peers.close(&addr);
        assert_eq!(other.call(&addr, route_request("T"), PATIENCE).await.expect("an answer").code, 0);
        other.stop().await;
        let mut code = 0;
        for _ in 0..1000 {
            code = bench.ask(route_request("T")).await.code;
            if code != 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(code, response::TOPIC_NOT_EXIST);
        bench.stop().await;
    });
}

#[test]
fn a_version_is_known_after_a_whole_registration_alone() {
    let dir = TempDir::new("name-server-version");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        let query = |version: i64| {
            let header = QueryDataVersionHeader {
                broker_name: "a".to_owned(),
                broker_addr: "127.0.0.1:10911".to_owned(),
                cluster_name: "c".to_owned(),
                broker_id: 0,
            };
            let version = DataVersion { counter: version, state_version: 0, timestamp: 1_700_000_000_000 };
            RemotingCommand::request(ask::QUERY_DATA_VERSION)
                .with_header(&header)
                .with_body(version.to_json())
        };
        let changed = |answer: &RemotingCommand| {
            answer.header::<QueryDataVersionResponse>().expect("the answer's header").changed
        };
        assert!(changed(&bench.ask(query(1)).await));
        bench.ask(registration(1, &["A", "B"])).await;
        assert!(!changed(&bench.ask(query(1)).await));
        // Version 2 was missed.
        bench.ask(registration(3, &["C"])).await;
        assert!(changed(&bench.ask(query(3)).await));
        let answer = bench.ask(query(1)).await;
        assert!(!changed(&answer));
        assert_eq!(DataVersion::parse(&answer.body.to_bytes()).expect("a version").counter, 1);
        bench.stop().await;
    });
}

#[test]
fn kv_configuration_outlives_a_restart() {
    let dir = TempDir::new("name-server-kv");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        put_order_config(&bench).await;
        bench.stop().await;
        let bench = Bench::start(&dir).await;
        let get = |key: &str| {
            let header =
                GetKvConfigHeader { namespace: "ORDER_TOPIC_CONFIG".to_owned(), key: key.to_owned() };
            RemotingCommand::request(ask::GET_KV_CONFIG).with_header(&header)
        };
        let answer = bench.ask(get("WireOrder")).await;
        let value = answer.header::<GetKvConfigResponse>().expect("the answer's header").value;
        assert_eq!(value.as_deref(), Some("golden-a:2"));
        assert_eq!(bench.ask(get("absent")).await.code, response::QUERY_NOT_FOUND);
        bench.stop().await;
    });
}

#[test]
fn a_namespace_that_was_emptied_is_answered_empty() {
    let dir = TempDir::new("name-server-empty");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        let list = |namespace: &str| {
            let header = GetKvListHeader { namespace: namespace.to_owned() };
            RemotingCommand::request(ask::GET_KVLIST_BY_NAMESPACE).with_header(&header)
        };
        put_order_config(&bench).await;
        let full = KvTable::parse(&bench.ask(list("ORDER_TOPIC_CONFIG")).await.body.to_bytes());
        for key in full.expect("a table").table.into_keys() {
            let header = DeleteKvConfigHeader { namespace: "ORDER_TOPIC_CONFIG".to_owned(), key };
            let answer =
                bench.ask(RemotingCommand::request(ask::DELETE_KV_CONFIG).with_header(&header)).await;
            assert_eq!(answer.code, response::SUCCESS);
        }
        let empty = bench.ask(list("ORDER_TOPIC_CONFIG")).await;
        assert_eq!((empty.code, &empty.body.to_bytes()[..]), (response::SUCCESS, &b"{\"table\":{}}"[..]));
        assert_eq!(bench.ask(list("never")).await.code, response::QUERY_NOT_FOUND);
        bench.stop().await;
    });
}

#[test]
fn tools_are_answered() {
    let dir = TempDir::new("name-server-tools");
    runtime().block_on(async {
        let bench = Bench::start(&dir).await;
        bench.ask(registration(1, &["A", "B"])).await;

        let list = bench.ask(RemotingCommand::request(ask::GET_ALL_TOPIC_LIST_FROM_NAMESERVER)).await;
        assert_eq!(TopicList::parse(&list.body.to_bytes()).expect("topics").topic_list, ["A", "B"]);
        let system = bench.ask(RemotingCommand::request(ask::GET_SYSTEM_TOPIC_LIST_FROM_NS)).await;
        let system = TopicList::parse(&system.body.to_bytes()).expect("topics");
        assert_eq!(system.topic_list, ["c", "a"]);
        assert_eq!(system.broker_addr.as_deref(), Some("127.0.0.1:10911"));

        let wipe = WipeWritePermHeader { broker_name: "a".to_owned() };
        let wiped =
            bench.ask(RemotingCommand::request(ask::WIPE_WRITE_PERM_OF_BROKER).with_header(&wipe)).await;
        let wiped = wiped.header::<WipeWritePermResponse>().expect("the answer's header");
        assert_eq!(wiped.wipe_topic_count, 2);

        let update = |text: &str| {
            RemotingCommand::request(ask::UPDATE_NAMESRV_CONFIG).with_body(text.as_bytes().to_vec())
        };
        assert_eq!(bench.ask(update("orderMessageEnable=true\n")).await.code, response::SUCCESS);
        assert_eq!(bench.ask(update("kvConfigPath=/tmp/x\n")).await.code, response::NO_PERMISSION);
        assert_eq!(bench.ask(update("orderMessageEnable=perhaps\n")).await.code, response::SYSTEM_ERROR);
        let config = bench.ask(RemotingCommand::request(ask::GET_NAMESRV_CONFIG)).await;
        let text = String::from_utf8(config.body.to_bytes().to_vec()).expect("text");
        assert!(text.contains("orderMessageEnable=true\n"), "{text}");

        let unknown = bench.ask(RemotingCommand::request(12345)).await;
        assert_eq!(unknown.code, response::REQUEST_CODE_NOT_SUPPORTED);
        assert_eq!(unknown.remark.as_deref(), Some(" request type 12345 not supported"));
        let bad = bench.ask(RemotingCommand::request(ask::GET_ROUTEINFO_BY_TOPIC)).await;
        assert_eq!(bad.code, response::SYSTEM_ERROR);
        assert!(bad.remark.unwrap_or_default().contains("topic"), "the remark names the field");

        let farewell = UnregisterBrokerHeader {
            broker_name: "a".to_owned(),
            broker_addr: "127.0.0.1:10911".to_owned(),
            cluster_name: "c".to_owned(),
            broker_id: 0,
        };
        bench.ask(RemotingCommand::request(ask::UNREGISTER_BROKER).with_header(&farewell)).await;
        assert_eq!(bench.ask(route_request("A")).await.code, response::TOPIC_NOT_EXIST);
        bench.stop().await;
    });
}

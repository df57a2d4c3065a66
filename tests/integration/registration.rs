//! What a broker tells its name servers: all of it at the start, a new topic at once, that it leaves.

use crate::broker_node::*;
use hotfire_core::remoting::body::{RegisterBrokerBody, body_crc32};
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::connection::{Answer, ConnectionHandle, ConnectionLimits, Handler};
use hotfire_core::remoting::headers::{RegisterBrokerHeader, UnregisterBrokerHeader};
use hotfire_core::remoting::server::Server;
use hotfire_core::remoting::{RemotingCommand, TypedHeader};
use hotfire_runtime::TokioRuntime;
use hotfire_tests::TempDir;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Writes down what it is told and agrees.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<RemotingCommand>>,
    arrived: tokio::sync::Notify,
    /// It hears, and says nothing.
    silent: AtomicBool,
}

impl Handler<TokioRuntime> for Recorder {
    async fn handle(&self, _connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        if self.silent.load(Ordering::Relaxed) {
            return Answer::Never;
        }
        let answer = RemotingCommand::response_to(&request, response::SUCCESS);
        self.told.lock().expect("not poisoned").push(request);
        self.arrived.notify_one();
        Answer::Now(answer)
    }
}

impl Recorder {
    /// The next thing it was told.
    async fn next(&self) -> RemotingCommand {
        let wait = async {
            loop {
                {
                    let mut told = self.told.lock().expect("not poisoned");
                    if !told.is_empty() {
                        return told.remove(0);
                    }
                }
                self.arrived.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the broker says something")
    }
}

fn registered(told: &RemotingCommand) -> (RegisterBrokerHeader, RegisterBrokerBody) {
    assert_eq!(told.code, ask::REGISTER_BROKER);
    let header = RegisterBrokerHeader::decode(&told.ext).expect("a registration");
    let body = told.body.to_bytes();
    assert_eq!(header.body_crc32, Some(body_crc32(&body)));
    (header, RegisterBrokerBody::decode(&body, told.version).expect("its body"))
}

#[test]
fn every_name_server_is_told_of_the_broker_its_new_topics_and_its_leave() {
    run(async {
        let dir = TempDir::new("register");
        let (first, second) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
        let mut servers = Vec::new();
        let mut config = config();
        for recorder in [&first, &second] {
            let at = "127.0.0.1:0".parse().expect("an address");
            let rt = TokioRuntime::new(dir.path());
            let server =
                Server::bind(rt, at, recorder.clone(), ConnectionLimits::default()).await.expect("listens");
            // By name: a host name stands for all its addresses.
            let address = server.local_addr().to_string().replace("127.0.0.1", "localhost");
            config.registration.name_servers += &format!("{address};");
            servers.push(server);
        }
        let broker = start(&dir, &config).await;
        for recorder in [&first, &second] {
            let (header, body) = registered(&recorder.next().await);
            assert_eq!(header.broker_addr, broker.address().to_string());
            assert_eq!((header.broker_name.as_str(), header.broker_id), ("broker-a", 0));
            assert!(body.topic_config_serialize_wrapper.topic_config_table.contains_key("TBW102"));
        }
        Client::of(&broker).done(send(&send_header("Fresh", 0, ""), "m")).await;
        for recorder in [&first, &second] {
            let told = recorder.told.lock().expect("not poisoned").len();
            assert_eq!(told, 1, "the sender hears that its topic is there when the name servers know it");
            let (_, body) = registered(&recorder.next().await);
            let table = body.topic_config_serialize_wrapper.topic_config_table;
            assert_eq!(table.keys().collect::<Vec<_>>(), ["Fresh"]);
        }
        let address = broker.address().to_string();
        broker.stop().await.expect("a clean stop");
        for recorder in [&first, &second] {
            let told = recorder.next().await;
            assert_eq!(told.code, ask::UNREGISTER_BROKER);
            let header = UnregisterBrokerHeader::decode(&told.ext).expect("its header");
            assert_eq!(header.broker_addr, address);
        }
        for server in servers {
            server.stop(PATIENCE).await;
        }
    });
}

#[test]
fn a_name_server_that_says_nothing_is_waited_for_once_and_not_for_long() {
    run(async {
        let dir = TempDir::new("register-silent");
        let recorder = Arc::new(Recorder::default());
        let (at, rt) = ("127.0.0.1:0".parse().expect("an address"), TokioRuntime::new(dir.path()));
        let server =
            Server::bind(rt, at, recorder.clone(), ConnectionLimits::default()).await.expect("listens");
        let mut config = config();
        config.registration.name_servers = server.local_addr().to_string();
        let broker = start(&dir, &config).await;
        let client = Client::of(&broker);
        recorder.silent.store(true, Ordering::Relaxed);
        let start = Instant::now();
        client.done(send(&send_header("First", 0, ""), "m")).await;
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        // On a busy machine one may take longer by itself, but not all of them.
        let mut shortest = Duration::MAX;
        for topic in ["Second", "Third", "Fourth", "Fifth"] {
            let start = Instant::now();
            client.done(send(&send_header(topic, 0, ""), "m")).await;
            shortest = shortest.min(start.elapsed());
        }
        assert!(shortest < Duration::from_millis(800), "{shortest:?}");
        broker.stop().await.expect("a clean stop");
        server.stop(PATIENCE).await;
    });
}

//! A master and a slave on real sockets and files, with a name server between them.

use crate::broker_node::*;
use hotfire_core::broker::Broker;
use hotfire_core::config::{BrokerConfig, NameServerConfig, Role};
use hotfire_core::name_server::NameServer;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{
    GroupForbidden, HaClientRuntimeInfo, HaRuntimeInfo, SubscriptionGroupWrapper,
};
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::UpdateGroupForbiddenHeader;
use hotfire_runtime::TokioRuntime;
use hotfire_tests::TempDir;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

const SENDS: usize = 300;

struct Cluster {
    name_server: NameServer<TokioRuntime>,
    dirs: [TempDir; 3],
}

impl Cluster {
    async fn new(name: &str) -> Cluster {
        let dirs = ["ns", "master", "slave"].map(|node| TempDir::new(&format!("{name}-{node}")));
        let mut config = NameServerConfig::default();
        config.server.bind_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        config.server.listen_port = 0;
        let name_server = NameServer::start(TokioRuntime::new(dirs[0].path()), config);
        Cluster { name_server: name_server.await.expect("the name server starts"), dirs }
    }

    fn config(&self, role: Role) -> BrokerConfig {
        let mut config = config();
        config.store.commit_log_file_bytes = 64 << 10;
        config.identity.role = role;
        config.identity.id = u32::from(role == Role::Slave);
        config.registration.name_servers = self.name_server.local_addr().to_string();
        // One that begins anew counts when twice this is over.
        config.ha.slave_timeout_ms = 500;
        config
    }

    async fn master(&self) -> Broker<TokioRuntime> {
        start(&self.dirs[1], &self.config(Role::SyncMaster)).await
    }

    async fn slave(&self) -> Broker<TokioRuntime> {
        start(&self.dirs[2], &self.config(Role::Slave)).await
    }

    /// The files of a node's log, by name.
    fn log(&self, node: usize) -> Vec<(String, Vec<u8>)> {
        let folder = self.dirs[node].path().join("store/commitlog");
        let names = fs::read_dir(&folder).map_or_else(|_| Vec::new(), |entries| entries.flatten().collect());
        let mut files: Vec<_> = names
            .iter()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path())))
            // One that was made ahead holds nothing.
            .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
            .collect();
        files.sort();
        files
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Sends until one is answered with SUCCESS: its message is on a slave.
async fn until_confirmed(client: &Client) {
    let begun = Instant::now();
    loop {
        let answer = client.ask(send(&send_header("T", 0, ""), "first")).await;
        match answer.code {
            response::SUCCESS => return,
            response::SLAVE_NOT_AVAILABLE | response::FLUSH_SLAVE_TIMEOUT => {}
            code => panic!("{code}: {:?}", answer.remark),
        }
        assert!(begun.elapsed() < PATIENCE, "no slave confirms");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ha_status(client: &Client) -> HaRuntimeInfo {
    let answer = client.done(RemotingCommand::request(request::GET_BROKER_HA_STATUS)).await;
    HaRuntimeInfo::parse(&answer.body.to_bytes()).expect("a status")
}

#[test]
fn a_slave_copies_the_log_byte_for_byte_serves_it_and_takes_no_writes() {
    run(async {
        let cluster = Cluster::new("replicate").await;
        let master = cluster.master().await;
        let client = Client::of(&master);
        let forbid = |readable| {
            let header =
                UpdateGroupForbiddenHeader { group: "Away".to_owned(), topic: "T".to_owned(), readable };
            RemotingCommand::request(request::UPDATE_AND_GET_GROUP_FORBIDDEN).with_header(&header)
        };
        client.done(forbid(Some(false))).await;
        let slave = cluster.slave().await;
        until_confirmed(&client).await;
        for n in 0..SENDS {
            client.done(send(&send_header("T", 1, ""), format!("{n} {}", "x".repeat(700)))).await;
        }
        let at_slave = Client::of(&slave);
        let refused = at_slave.ask(send(&send_header("T", 0, ""), "m")).await;
        assert_eq!(refused.code, response::SERVICE_NOT_AVAILABLE);
        let refused = at_slave.ask(create_topic("Own", 1)).await;
        assert_eq!(refused.code, response::SYSTEM_ERROR);
        // Topics come a few seconds after the log.
        let begun = Instant::now();
        while topic(&at_slave, "T").await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "the slave never knows the topic");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let is_forbidden = async || {
            let answer = at_slave.done(forbid(None)).await;
            !GroupForbidden::parse(&answer.body.to_bytes()).expect("an answer").readable
        };
        while !is_forbidden().await {
            assert!(begun.elapsed() < PATIENCE, "the slave never knows what is forbidden");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(at_slave.ask(forbid(Some(true))).await.code, response::SYSTEM_ERROR);
        // The group is one that the master has never seen: it may be away.
        let pulled = at_slave.ask(pull(&pull_header("T", 1, SENDS as i64 - 1, "*"))).await;
        assert_eq!(pulled.code, response::SUCCESS, "{:?}", pulled.remark);
        let groups = at_slave.done(RemotingCommand::request(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).await;
        let groups = SubscriptionGroupWrapper::parse(&groups.body.to_bytes()).expect("groups");
        assert!(!groups.subscription_group_table.contains_key("CG"), "the slave's table is its master's");
        let (of_master, of_slave) = (ha_status(&client).await, ha_status(&at_slave).await);
        let end = of_master.master_commit_log_max_offset;
        assert!(of_master.master && of_master.in_sync_slave_nums == 1 && end > 0, "{of_master:?}");
        let [connection] = &of_master.ha_connection_info[..] else { panic!("{of_master:?}") };
        assert_eq!((connection.slave_ack_offset, connection.diff), (end, 0));
        assert!(!of_slave.master && of_slave.ha_client_runtime_info.activated, "{of_slave:?}");
        assert_eq!(of_slave.ha_client_runtime_info.max_offset, end);
        assert_eq!(connection.transfer_from_where, end);
        let HaClientRuntimeInfo { last_read_timestamp: read, last_write_timestamp: written, .. } =
            of_slave.ha_client_runtime_info;
        assert!(read > 1_700_000_000_000 && written > 1_700_000_000_000, "{read}, {written}");
        let is_fed = async || {
            client.done(send(&send_header("T", 1, ""), "more")).await;
            let (of_master, of_slave) = (ha_status(&client).await, ha_status(&at_slave).await);
            of_master.ha_connection_info.iter().any(|link| link.transferred_byte_in_second > 0)
                && of_slave.ha_client_runtime_info.transferred_byte_in_second > 0
        };
        while !is_fed().await {
            assert!(begun.elapsed() < PATIENCE, "nothing goes over the link");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        master.stop().await.expect("a clean stop");
        slave.stop().await.expect("a clean stop");
        let (own, copy) = (cluster.log(1), cluster.log(2));
        assert!(own.len() > 3, "{} files", own.len());
        assert!(own == copy, "the logs differ");
        cluster.name_server.stop().await;
    });
}

#[test]
fn a_slave_that_was_away_goes_on_where_it_was_and_an_empty_one_begins_with_the_last_file() {
    run(async {
        let cluster = Cluster::new("follow").await;
        let master = cluster.master().await;
        let client = Client::of(&master);
        for n in 0..SENDS {
            let answer = client.ask(send(&send_header("T", 1, ""), format!("{n} {}", "x".repeat(700)))).await;
            assert_eq!(answer.code, response::SLAVE_NOT_AVAILABLE);
        }
        let slave = cluster.slave().await;
        until_confirmed(&client).await;
        slave.stop().await.expect("a clean stop");
        let begin = cluster.log(2).first().expect("a file").0.clone();
        assert_eq!(Some(&begin), cluster.log(1).last().map(|(name, _)| name), "it begins with the last file");
        for n in 0..SENDS {
            client.ask(send(&send_header("T", 1, ""), format!("{n} {}", "y".repeat(700)))).await;
        }
        let slave = cluster.slave().await;
        until_confirmed(&client).await;
        master.stop().await.expect("a clean stop");
        slave.stop().await.expect("a clean stop");
        let own: Vec<_> = cluster.log(1).into_iter().filter(|(name, _)| *name >= begin).collect();
        assert!(own.len() > 3 && own == cluster.log(2), "the logs differ");
        cluster.name_server.stop().await;
    });
}

/// Copies a broker's store to where none is.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copy a file");
        }
    }
}

#[test]
fn a_slave_that_ends_a_file_where_its_master_went_on_does_not_follow() {
    run(async {
        let large = |of: &str| of.repeat(10 << 10);
        for loses in [false, true] {
            let cluster = Cluster::new("blank").await;
            let store = |node: usize| cluster.dirs[node].path().join("store");
            let before = cluster.dirs[0].path().join("before");
            let master = cluster.master().await;
            let slave = cluster.slave().await;
            let client = Client::of(&master);
            until_confirmed(&client).await;
            client.done(send(&send_header("T", 1, ""), "x".repeat(56 << 10))).await;
            master.stop().await.expect("a clean stop");
            copy(&store(1), &before);
            let master = cluster.master().await;
            let client = Client::of(&master);
            // It does not fit any more: the file ends with a blank record.
            client.ask(send(&send_header("T", 1, ""), large("y"))).await;
            let begun = Instant::now();
            while cluster.log(2).len() < 2 {
                assert!(begun.elapsed() < PATIENCE, "the slave never follows");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            slave.stop().await.expect("a clean stop");
            master.stop().await.expect("a clean stop");
            let files: Vec<_> = cluster.log(2).into_iter().map(|(name, _)| name).collect();
            assert_eq!(files, ["00000000000000000000", "00000000000000065536"]);
            // The slave had that blank record when it died, and not what follows.
            fs::remove_file(store(2).join("commitlog").join(&files[1])).expect("remove a file");
            fs::remove_file(store(2).join("checkpoint")).expect("remove the checkpoint");
            fs::write(store(2).join("abort"), "1").expect("write the marker");
            if loses {
                fs::remove_dir_all(store(1)).expect("remove the store");
                copy(&before, &store(1));
            }
            let master = cluster.master().await;
            let client = Client::of(&master);
            for body in ["short".to_owned(), large("z")] {
                client.ask(send(&send_header("T", 1, ""), body)).await;
            }
            let slave = cluster.slave().await;
            if loses {
                for _ in 0..30 {
                    let answer = client.ask(send(&send_header("T", 1, ""), "m")).await;
                    assert_eq!(answer.code, response::SLAVE_NOT_AVAILABLE, "the histories differ");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            } else {
                until_confirmed(&client).await;
            }
            slave.stop().await.expect("a clean stop");
            master.stop().await.expect("a clean stop");
            cluster.name_server.stop().await;
        }
    });
}

#[test]
fn two_slaves_of_one_machine_are_two_copies() {
    run(async {
        let cluster = Cluster::new("two-slaves").await;
        let mut config = cluster.config(Role::SyncMaster);
        config.ha.in_sync_replicas = 3;
        let master = start(&cluster.dirs[1], &config).await;
        let client = Client::of(&master);
        let first = cluster.slave().await;
        let sent = client.ask(send(&send_header("T", 0, ""), "one slave")).await;
        assert_eq!(sent.code, response::FLUSH_SLAVE_TIMEOUT, "{:?}", sent.remark);
        let dir = TempDir::new("two-slaves-second");
        let mut config = cluster.config(Role::Slave);
        config.identity.id = 2;
        let second = start(&dir, &config).await;
        until_confirmed(&client).await;
        let status = ha_status(&client).await;
        assert_eq!((status.ha_connection_info.len(), status.in_sync_slave_nums), (2, 2), "{status:?}");
        for broker in [first, second, master] {
            broker.stop().await.expect("a clean stop");
        }
        cluster.name_server.stop().await;
    });
}

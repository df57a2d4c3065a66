//! The servers under load.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotfire_tests::java_server::Program;
use hotfire_tests::{JavaServer, Node, wait_until};

pub struct Server {
    pub name: &'static str,
    /// The generator's words that name it.
    pub target: Vec<String>,
    processes: Vec<Process>,
}

enum Process {
    Hotfire(Node),
    Java(JavaServer),
}

impl Server {
    /// Of the broker, whose CPU time counts.
    pub fn pid(&self) -> u32 {
        match self.processes.last() {
            Some(Process::Hotfire(node)) => node.pid(),
            Some(Process::Java(server)) => server.pid(),
            None => 0,
        }
    }
}

pub fn null_server(program: &Path, dir: &Path) -> Result<Server> {
    let node = Node::start(program, "null", &["bench", "null", "--listen", "127.0.0.1:0"], dir)?;
    let address = node.address("null").context("the null server's address")?.to_owned();
    Ok(Server {
        name: "null",
        target: vec!["--broker".into(), address],
        processes: vec![Process::Hotfire(node)],
    })
}

pub fn hotfire_cluster(program: &Path, dir: &Path, flush: &str) -> Result<Server> {
    let name_server = Node::start(program, "hotfire-namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
    let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
    let file = dir.join("hotfire.conf");
    std::fs::write(&file, format!("flushDiskType={flush}\n"))?;
    let words =
        ["broker", "-c", "hotfire.conf", "-n", &address, "--data", "hotfire-data", "--listen", "127.0.0.1:0"];
    let broker = Node::start(program, "hotfire-broker", &words, dir)?;
    Ok(Server {
        name: "hotfire",
        target: vec!["-n".into(), address],
        processes: vec![Process::Hotfire(name_server), Process::Hotfire(broker)],
    })
}

pub fn java_cluster(version: &str, dir: &Path, flush: &str) -> Result<Server> {
    let home = dir.join("java");
    let (name_server_port, broker_port) = (free_port()?, free_port()?);
    let (root, log) = (home.join("store"), home.join("store/commitlog"));
    let settings = format!(
        "brokerName=java\nbrokerIP1=127.0.0.1\nlistenPort={broker_port}\nnamesrvAddr=127.0.0.1:{name_server_port}\n\
         flushDiskType={flush}\nstorePathRootDir={}\nstorePathCommitLog={}\nwaitTimeMillsInSendQueue=2000\n",
        root.display(),
        log.display()
    );
    let name_server_settings = format!("listenPort={name_server_port}\n");
    let name_server =
        JavaServer::start(version, Program::NameServer, &name_server_settings, &["-Xmx256m"], &home)?;
    let broker = JavaServer::start(version, Program::Broker, &settings, &["-Xms2g", "-Xmx2g"], &home)?;
    let server = Server {
        name: "java",
        target: vec!["-n".into(), format!("127.0.0.1:{name_server_port}")],
        processes: vec![Process::Java(name_server), Process::Java(broker)],
    };
    let serves = wait_until(Duration::from_secs(20), || {
        std::net::TcpStream::connect(("127.0.0.1", broker_port)).is_ok()
    });
    ensure!(serves, "the Java broker does not accept connections");
    Ok(server)
}

/// A port that was free a moment ago, whose neighbours Java takes too.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

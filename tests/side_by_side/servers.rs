//! The servers under load.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hotfire_tests::java::{Jars, find_program, jars};
use hotfire_tests::{Node, wait_until};

/// What the Java broker needs to be allowed on a JDK past 8.
const JAVA_FLAGS: [&str; 6] = [
    "-Xms2g",
    "-Xmx2g",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
];

pub struct Server {
    pub name: &'static str,
    /// The generator's words that name it.
    pub target: Vec<String>,
    processes: Vec<Process>,
}

enum Process {
    Hotfire(Node),
    Java(Child),
}

impl Server {
    /// Of the broker, whose CPU time counts.
    pub fn pid(&self) -> u32 {
        match self.processes.last() {
            Some(Process::Hotfire(node)) => node.pid(),
            Some(Process::Java(child)) => child.id(),
            None => 0,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Process::Java(child) = process {
                let _ = child.kill();
                let _ = child.wait();
            }
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
    let java = find_program("java").context("no JDK")?;
    let jars = jars(version, Jars::Servers)?;
    let home = dir.join("java");
    std::fs::create_dir_all(home.join("conf"))?;
    for name in ["logback_namesrv.xml", "logback_broker.xml"] {
        std::fs::write(home.join("conf").join(name), "<configuration><root level=\"OFF\"/></configuration>")?;
    }
    let (name_server_port, broker_port) = (free_port()?, free_port()?);
    std::fs::write(home.join("namesrv.conf"), format!("listenPort={name_server_port}\n"))?;
    let store = home.join("store");
    let (root, log) = (store.display(), store.join("commitlog"));
    std::fs::write(
        home.join("broker.conf"),
        format!(
            "brokerName=java\nbrokerIP1=127.0.0.1\nlistenPort={broker_port}\nnamesrvAddr=127.0.0.1:{name_server_port}\n\
             flushDiskType={flush}\nstorePathRootDir={root}\nstorePathCommitLog={}\nwaitTimeMillsInSendQueue=2000\n",
            log.display()
        ),
    )?;
    let start = |class: &str, file: &str, flags: &[&str]| -> Result<Child> {
        let mut child = Command::new(&java)
            .args(flags)
            .arg(format!("-Duser.home={}", home.display()))
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .args([class, "-c", file])
            .current_dir(&home)
            .env("ROCKETMQ_HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start java")?;
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().context("take its stdout")?).lines() {
            let line = line?;
            if line.contains("boot success") {
                return Ok(child);
            }
            said.push(line);
        }
        bail!("{class} said {}", said.join(" "))
    };
    let name_server = start("org.apache.rocketmq.namesrv.NamesrvStartup", "namesrv.conf", &["-Xmx256m"])?;
    let mut server = Server {
        name: "java",
        target: vec!["-n".into(), format!("127.0.0.1:{name_server_port}")],
        processes: vec![Process::Java(name_server)],
    };
    server.processes.push(Process::Java(start(
        "org.apache.rocketmq.broker.BrokerStartup",
        "broker.conf",
        &JAVA_FLAGS,
    )?));
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

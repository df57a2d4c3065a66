//! A broker of either kind as a process on loopback: started by one and the same text of settings, stopped, or killed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use hotfire_tests::java_server::Program;
use hotfire_tests::{JavaServer, Node};

/// Small, so that there are several files of each kind.
pub const LOG_FILE_BYTES: u64 = 64 << 10;
pub const SMALL_FILES: &str = "mappedFileSizeConsumeQueue=2000\nmaxHashSlotNum=500\nmaxIndexNum=1000\n\
                               mappedFileSizeTimerLog=1048576\ncleanFileForciblyEnable=false\n";
/// Our broker's settings, in the folder that it is started in.
pub const HOTFIRE_CONF: &str = "hotfire.conf";
pub const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// The original takes its time.
pub const JAVA_STOP_PATIENCE: Duration = Duration::from_secs(60);
/// A stopped JVM tells the signal: 128 + SIGTERM.
const JAVA_STOPPED: i32 = 143;
const JAVA_HEAP: [&str; 2] = ["-Xms256m", "-Xmx512m"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Hotfire,
    Java,
}

pub enum Broker {
    Hotfire(Node),
    Java(JavaServer),
}

impl Broker {
    /// Starts ours in `dir` by `settings`, at `port`.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn hotfire(program: &Path, settings: &str, port: u16, dir: &Path) -> Result<Broker> {
        std::fs::write(dir.join(HOTFIRE_CONF), settings)?;
        let listen = format!("127.0.0.1:{port}");
        let words = ["broker", "-c", HOTFIRE_CONF, "--listen", &listen];
        Ok(Broker::Hotfire(Node::start(program, "broker", &words, dir)?))
    }

    /// Starts the original one in a folder below `dir` by `settings`.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn java(version: &str, settings: &str, dir: &Path) -> Result<Broker> {
        let home = dir.join("java");
        let server = JavaServer::start(version, Program::Broker, settings, &JAVA_HEAP, &home)?;
        Ok(Broker::Java(server))
    }

    /// # Errors
    /// When it does not stop in order.
    pub fn stop(self) -> Result<()> {
        match self {
            Broker::Hotfire(node) => {
                let status = node.stop(STOP_PATIENCE)?;
                ensure!(status.success(), "our broker stopped with {status}");
            }
            Broker::Java(server) => {
                let status = server.stop(JAVA_STOP_PATIENCE)?;
                ensure!(status.code() == Some(JAVA_STOPPED), "the Java broker stopped with {status}");
            }
        }
        Ok(())
    }

    /// # Errors
    /// Of the system.
    pub fn kill(self) -> Result<()> {
        match self {
            Broker::Hotfire(node) => node.kill(),
            Broker::Java(server) => server.kill(),
        }
    }

    pub fn log_end(&self) -> String {
        match self {
            Broker::Hotfire(node) => node.log_end(),
            Broker::Java(server) => server.log_end(),
        }
    }
}

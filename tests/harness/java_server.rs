//! One of the original servers as a child process: started, awaited by what it prints, stopped or killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::java::{Jars, find_program, jars};
use crate::{last_lines, wait_until};

const BOOT_PATIENCE: Duration = Duration::from_secs(60);

/// What the broker needs to be allowed on a JDK past 8.
const JAVA_FLAGS: [&str; 4] = [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
];

/// How it logs, the versions before 5: what keeps it from serving is a warning at most.
const WARNINGS: &str = "<configuration><appender name=\"out\" class=\"ch.qos.logback.core.ConsoleAppender\"><encoder>\
                        <pattern>%d %p %c %m%n</pattern></encoder></appender>\
                        <root level=\"WARN\"><appender-ref ref=\"out\"/></root></configuration>";

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    NameServer,
    Broker,
}

pub struct JavaServer {
    child: Child,
    log: PathBuf,
}

impl JavaServer {
    /// Starts it in `home` with these `settings`, `heap` being the JVM's words for it, and waits until it says that it serves.
    ///
    /// # Errors
    /// `no JDK`, `no Maven`, or what it printed.
    pub fn start(
        version: &str,
        program: Program,
        settings: &str,
        heap: &[&str],
        home: &Path,
    ) -> Result<JavaServer> {
        let (java, jars) = (find_program("java").context("no JDK")?, jars(version, Jars::Servers)?);
        std::fs::create_dir_all(home.join("conf"))?;
        let (class, name) = match program {
            Program::NameServer => ("org.apache.rocketmq.namesrv.NamesrvStartup", "namesrv"),
            Program::Broker => ("org.apache.rocketmq.broker.BrokerStartup", "broker"),
        };
        std::fs::write(home.join("conf").join(format!("logback_{name}.xml")), WARNINGS)?;
        let (file, log) = (home.join(format!("{name}.conf")), home.join(format!("{name}.log")));
        std::fs::write(&file, settings)?;
        let output = std::fs::File::create(&log)?;
        let child = Command::new(java)
            .args(heap)
            .args(JAVA_FLAGS)
            .arg(format!("-Duser.home={}", home.display()))
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .args([class, "-c"])
            .arg(&file)
            .current_dir(home)
            .env("ROCKETMQ_HOME", home)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start java")?;
        let mut server = JavaServer { child, log };
        server.await_boot().with_context(|| format!("start the {name} of Java {version}"))?;
        Ok(server)
    }

    fn await_boot(&mut self) -> Result<()> {
        let (child, log) = (&mut self.child, &self.log);
        let serves = || std::fs::read_to_string(log).is_ok_and(|said| said.contains("boot success"));
        let mut ended = None;
        wait_until(BOOT_PATIENCE, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || serves()
        });
        let log = self.log_end();
        if let Some(status) = ended {
            bail!("it ended with {status}; it said {log}");
        }
        ensure!(serves(), "it does not serve after {} s; it said {log}", BOOT_PATIENCE.as_secs());
        Ok(())
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Of the system.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for the ordered stop.
    ///
    /// # Errors
    /// When it has not ended after `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        let status = crate::terminate(&mut self.child, patience)?;
        status.with_context(|| format!("the Java server did not stop; it said {}", self.log_end()))
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn log_end(&self) -> String {
        last_lines(&self.log, 20)
    }
}

impl Drop for JavaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The original clients: how each is fetched by its own package manager, and how it is started.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hotfire_tests::java::{self, Jars, find_program, run_checked};
use hotfire_tests::{project_dir, target_dir};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    Java { version: &'static str },
    Python,
}

impl Client {
    pub const ALL: [Client; 3] =
        [Client::Java { version: "4.9.7" }, Client::Java { version: "5.4.0" }, Client::Python];

    #[must_use]
    pub fn name(self) -> String {
        match self {
            Client::Java { version } => format!("java-{version}"),
            Client::Python => "python-0.4.4".to_owned(),
        }
    }
}

/// The parts of `Life.java`.
const JAVA_LIFE: [&str; 17] = [
    "delay",
    "retry",
    "orderly",
    "broadcast",
    "sql92",
    "tags",
    "pull",
    "lite-pull",
    "batch",
    "async-and-oneway",
    "request-reply",
    "consume-from",
    "rebalance",
    "orderly-rebalance",
    "big-bodies",
    "query",
    "reset",
];

/// One client, installed and ready to start.
pub struct Tools {
    pub name: String,
    /// The parts of an application's life that its program goes through.
    pub life: &'static [&'static str],
    /// It can look messages up by their keys.
    pub queries: bool,
    /// Its producer of transactions is asked about them. Not yet known of 5.4.0: it was never asked, and the cause is open.
    pub transacts: bool,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Tools {
    /// Installs the client below the target folder, once.
    ///
    /// # Errors
    /// The tool that is missing, in a few words, or what its installation said.
    pub fn prepare(client: Client) -> Result<Tools> {
        let target = target_dir();
        let dir = target.join("interop").join(client.name());
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        match client {
            Client::Java { version } => java_client(version, &dir),
            Client::Python => python(&dir),
        }
    }

    /// # Errors
    /// Of the system.
    pub fn start(&self, words: &[&str], dir: &Path) -> Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("client.log"))?;
        Command::new(&self.program)
            .args(&self.arguments)
            .args(words)
            .current_dir(dir)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))
    }

    /// Runs it to its end, for at most `patience`.
    ///
    /// # Errors
    /// When it fails or takes longer; the text holds the end of its output.
    pub fn run(&self, words: &[&str], dir: &Path, patience: Duration) -> Result<()> {
        let mut child = self.start(words, dir)?;
        let outcome = wait(&mut child, patience);
        let end = hotfire_tests::last_lines(&dir.join("client.log"), 15);
        let status = outcome.with_context(|| format!("{}: {end}", words[0]))?;
        ensure!(status.success(), "{} ended with {status}: {end}", words[0]);
        Ok(())
    }
}

/// # Errors
/// When it still runs after `patience`; it is then killed.
pub fn wait(child: &mut Child, patience: Duration) -> Result<ExitStatus> {
    let mut status = None;
    hotfire_tests::wait_until(patience, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if let Some(status) = status {
        return Ok(status);
    }
    child.kill()?;
    child.wait()?;
    bail!("it did not end within {} s", patience.as_secs())
}

fn java_client(version: &'static str, dir: &Path) -> Result<Tools> {
    let javac = find_program("javac").context("no JDK")?;
    let java = find_program("java").context("no JDK")?;
    let sources = project_dir().join("tests/interop/java");
    let (jars, classes) = (java::jars(version, Jars::Client)?, dir.join("classes"));
    std::fs::create_dir_all(&classes)?;
    let mut command = Command::new(javac);
    command.args(["-encoding", "UTF-8", "-cp"]).arg(format!("{}/*", jars.display())).arg("-d").arg(&classes);
    let files =
        ["Interop.java", "Visit.java", "Transactions.java", "Life.java"].map(|name| sources.join(name));
    run_checked(command.args(files), "compile the Java client")?;
    let arguments = vec![
        "-Xmx512m".to_owned(),
        "-Drocketmq.client.logLevel=ERROR".to_owned(),
        "-cp".to_owned(),
        format!("{}:{}/*", classes.display(), jars.display()),
        "Interop".to_owned(),
    ];
    Ok(Tools {
        name: Client::Java { version }.name(),
        life: &JAVA_LIFE,
        queries: true,
        transacts: version.starts_with("4."),
        program: java,
        arguments,
    })
}

fn python(dir: &Path) -> Result<Tools> {
    let python = find_program("python3").context("no Python")?;
    let environment = dir.join("venv");
    let installed = environment.join("bin/python");
    if !dir.join("installed").exists() {
        let _ = std::fs::remove_dir_all(&environment);
        run_checked(
            Command::new(python).args(["-m", "venv"]).arg(&environment),
            "create a virtual environment",
        )?;
        let mut command = Command::new(&installed);
        run_checked(
            command.args(["-m", "pip", "install", "-q", "rocketmq==0.4.4"]),
            "install the Python client",
        )?;
        std::fs::write(dir.join("installed"), "")?;
    }
    let script = project_dir().join("tests/interop/python/interop.py");
    Ok(Tools {
        name: Client::Python.name(),
        life: &[],
        queries: false,
        transacts: false,
        program: installed,
        arguments: vec![script.display().to_string()],
    })
}

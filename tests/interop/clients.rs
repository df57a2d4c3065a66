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
    Go,
    JavaScript,
    Python,
}

impl Client {
    pub const ALL: [Client; 5] = [
        Client::Java { version: "4.9.7" },
        Client::Java { version: "5.4.0" },
        Client::Go,
        Client::JavaScript,
        Client::Python,
    ];

    #[must_use]
    pub fn name(self) -> String {
        match self {
            Client::Java { version } => format!("java-{version}"),
            Client::Go => "go-2.1.2".to_owned(),
            Client::JavaScript => "ali-ons-3.12.0".to_owned(),
            Client::Python => "python-0.4.4".to_owned(),
        }
    }
}

/// The parts of `Life.java`.
const JAVA_LIFE: [&str; 20] = [
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
    "reset-online",
    "running-info",
    "trace",
];

/// The parts of `life.go`.
const GO_LIFE: [&str; 12] = [
    "delay",
    "retry",
    "orderly",
    "broadcast",
    "sql92",
    "tags",
    "pull",
    "batch",
    "async-and-oneway",
    "request-reply",
    "rebalance",
    "big-bodies",
];

/// The parts of `interop.js`.
const JAVASCRIPT_LIFE: [&str; 5] = ["delay", "retry", "broadcast", "sql92", "tags"];

/// The parts of `interop.py`.
const PYTHON_LIFE: [&str; 7] = ["delay", "retry", "orderly", "broadcast", "tags", "pull", "async-and-oneway"];

/// One client, installed and ready to start.
pub struct Tools {
    pub name: String,
    /// The parts of an application's life that its program goes through.
    pub life: &'static [&'static str],
    /// It can look messages up by their keys.
    pub queries: bool,
    /// It has a producer of transactions.
    pub transacts: bool,
    program: PathBuf,
    arguments: Vec<String>,
    /// Where its modules are, if its program has to be told.
    modules: Option<PathBuf>,
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
            Client::Go => go(&dir),
            Client::JavaScript => javascript(&dir),
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
            .envs(self.modules.iter().map(|modules| ("INTEROP_MODULES", modules)))
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
        transacts: true,
        program: java,
        arguments,
        modules: None,
    })
}

/// The modules are those of `go.sum`, kept below the target folder.
fn go(dir: &Path) -> Result<Tools> {
    let go = find_program("go").context("no Go")?;
    let program = dir.join("interop");
    let mut command = Command::new(go);
    command.current_dir(project_dir().join("tests/interop/go"));
    command.args(["build", "-mod=readonly", "-modcacherw", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    command.env("GOPATH", dir.join("modules")).env_remove("GOMODCACHE");
    run_checked(&mut command, "build the Go client")?;
    Ok(Tools {
        name: Client::Go.name(),
        life: &GO_LIFE,
        queries: false,
        transacts: true,
        program,
        arguments: Vec::new(),
        modules: None,
    })
}

/// The packages are those of `package-lock.json`.
fn javascript(dir: &Path) -> Result<Tools> {
    let node = find_program("node").context("no Node")?;
    let npm = find_program("npm").context("no npm")?;
    let sources = project_dir().join("tests/interop/node");
    if !dir.join("installed").exists() {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(sources.join(file), dir.join(file)).with_context(|| format!("copy {file}"))?;
        }
        let mut command = Command::new(npm);
        command.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(dir);
        run_checked(&mut command, "install the JavaScript client")?;
        std::fs::write(dir.join("installed"), "")?;
    }
    Ok(Tools {
        name: Client::JavaScript.name(),
        life: &JAVASCRIPT_LIFE,
        queries: false,
        transacts: false,
        program: node,
        arguments: vec![sources.join("interop.js").display().to_string()],
        modules: Some(dir.to_owned()),
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
        life: &PYTHON_LIFE,
        queries: false,
        transacts: false,
        program: installed,
        arguments: vec![script.display().to_string()],
        modules: None,
    })
}

//! The original programs, as Maven publishes them, kept below the target folder.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{project_dir, target_dir};

/// Which jars.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jars {
    Client,
    /// Broker and name server, and the client with them.
    Servers,
    /// `mqadmin`, and the client with it.
    Tools,
}

/// The folder with the jars of `version`, fetched once.
///
/// # Errors
/// `no Maven`, or what it said.
pub fn jars(version: &str, which: Jars) -> Result<PathBuf> {
    let dir = target_dir().join("interop").join(format!("java-{version}")).join(match which {
        Jars::Client => "client",
        Jars::Servers => "servers",
        Jars::Tools => "tools",
    });
    if dir.is_dir() {
        return Ok(dir);
    }
    let maven = find_program("mvn").context("no Maven")?;
    // Copied under another name first, so that a run that was cut off leaves no half of it.
    let part = dir.with_extension("part");
    let _ = std::fs::remove_dir_all(&part);
    std::fs::create_dir_all(&part)?;
    let mut command = Command::new(maven);
    command.args(["-q", "-B", "-f"]).arg(project_dir().join("tests/interop/java/pom.xml"));
    match which {
        Jars::Client => {}
        Jars::Servers => drop(command.args(["-P", "servers"])),
        Jars::Tools => drop(command.args(["-P", "tools"])),
    }
    command
        .arg(format!("-Drocketmq.version={version}"))
        .arg(format!("-DoutputDirectory={}", part.display()))
        .arg("dependency:copy-dependencies");
    run_checked(&mut command, "fetch the Java programs")?;
    std::fs::rename(&part, &dir)?;
    Ok(dir)
}

/// A program on the path.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a command to its end.
///
/// # Errors
/// When it fails, with all it said.
pub fn run_checked(command: &mut Command, what: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| what.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::new();
    for part in [&output.stdout, &output.stderr] {
        let _ = write!(text, "{}", String::from_utf8_lossy(part));
    }
    bail!("{what}: {}: {}", output.status, text.trim())
}

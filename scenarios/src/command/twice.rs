//! `twice`: the same seed in two fresh processes. Until it agrees, no seed means anything.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::check_scenario;
use crate::report::VerdictKind;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    pub scenario: String,
    #[arg(long)]
    pub seed: u64,
    /// Another build of this program, such as a debug one, for the second run.
    #[arg(long)]
    pub against: Option<PathBuf>,
}

/// # Errors
/// An unknown scenario; a program that cannot be started.
pub fn twice(arguments: &Arguments) -> Result<u8> {
    check_scenario(&arguments.scenario)?;
    let own = std::env::current_exe().context("find this program")?;
    let other = arguments.against.as_deref().unwrap_or(&own);
    let first = one(&own, arguments)?;
    let second = one(other, arguments)?;
    let mut differs = false;
    for field in ["digest", "events", "sim_ms", "acked", "delivered", "verdict"] {
        if first.get(field) != second.get(field) {
            println!("{field}: {} and {}", show(&first, field), show(&second, field));
            differs = true;
        }
    }
    if differs {
        println!("{} seed {}: two runs differ", arguments.scenario, arguments.seed);
        return Ok(VerdictKind::Differs.exit_code());
    }
    let (digest, events) = (show(&first, "digest"), show(&first, "events"));
    println!("{} seed {}: equal, {events} events, digest {digest}", arguments.scenario, arguments.seed);
    Ok(0)
}

fn one(program: &Path, arguments: &Arguments) -> Result<Value> {
    let output = Command::new(program)
        .args(["run", &arguments.scenario, "--json", "--seed", &arguments.seed.to_string()])
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line)
        .with_context(|| format!("read the last line of {}: {line:?}", program.display()))
}

fn show(value: &Value, field: &str) -> String {
    value.get(field).map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

//! The simulator's part: determinism before anything else, then fixed seeds, found bugs and planted ones.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::{Outcome, release_program};

/// Exit code of a broken promise.
const BROKEN: i32 = 10;

fn simulator(root: &Path, words: &[&str]) -> Result<Output> {
    let program = release_program(root, "hotfire-scenarios", "hotfire-sim")?;
    Command::new(program).args(words).current_dir(root).output().context("run hotfire-sim")
}

fn must_hold(root: &Path, words: &[&str]) -> Result<String> {
    let output = simulator(root, words)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("hotfire-sim {}: {}\n{said}{errors}", words.join(" "), output.status);
    }
    Ok(said.lines().last().unwrap_or_default().to_owned())
}

pub fn twice(root: &Path) -> Result<Outcome> {
    let mut count = 0;
    for scenario in [
        "broker_crash",
        "power_loss",
        "partition",
        "retention",
        "disk_trouble",
        "transaction",
        "delay",
        "retry_dlq",
        "topic_deletion",
        "operators",
        "replication",
        "promote_by_hand",
    ] {
        for seed in ["1", "2"] {
            must_hold(root, &["twice", scenario, "--seed", seed])?;
            count += 1;
        }
    }
    Ok(Outcome::Held(format!("({count} seeds)")))
}

pub fn canary(root: &Path) -> Result<Outcome> {
    let output = simulator(root, &["run", "canary", "--seed", "1"])?;
    ensure!(output.status.code() == Some(BROKEN), "the canary ended with {}, not {BROKEN}", output.status);
    Ok(Outcome::Held(String::new()))
}

pub fn fixed_seeds(root: &Path) -> Result<Outcome> {
    Ok(Outcome::Held(must_hold(root, &["sweep", "all", "--seeds", "1..30"])?))
}

/// Each line of `scenarios/seeds.txt`: `SEED SCENARIO COMMIT SYMPTOM`.
pub fn found_seeds(root: &Path) -> Result<Outcome> {
    let text =
        std::fs::read_to_string(root.join("scenarios/seeds.txt")).context("read scenarios/seeds.txt")?;
    let mut count = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(seed), Some(scenario)) = (words.next(), words.next()) else { bail!("seeds.txt: {line}") };
        must_hold(root, &["run", scenario, "--seed", seed]).with_context(|| line.to_owned())?;
        count += 1;
    }
    Ok(Outcome::Held(format!("({count} seeds)")))
}

/// Every planted bug by the seed that is recorded to kill it.
pub fn mutants(root: &Path) -> Result<Outcome> {
    Ok(Outcome::Held(must_hold(root, &["mutants", "--recorded", "--undisturbed", "20"])?))
}

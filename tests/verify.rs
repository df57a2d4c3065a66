//! `cargo verify`: every check of the project in one fixed order. It reads and builds; it changes nothing.
//!
//! Order: format, lint, rules of the tree (text and dependencies), unit and integration tests, same seed twice, fixed seeds per
//! scenario, the seeds of bugs once found, the mutants by their recorded plans, the original clients (skipped, by name, where their
//! tools are missing). The first three take seconds: a mistake shows early. All checks run, also after a failure.
#![forbid(unsafe_code)]

#[path = "verify/dependencies.rs"]
mod dependencies;
#[path = "verify/rules.rs"]
mod rules;
#[path = "verify/simulations.rs"]
mod simulations;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hotfire_tests::{project_dir, target_dir};

type Check = fn(&Path) -> Result<Outcome>;

/// What a check that did not fail has to say.
pub enum Outcome {
    Held(String),
    Skipped(String),
}

const CHECKS: [(&str, Check); 12] = [
    ("format", |root| cargo(root, &["fmt", "--all", "--check"])),
    ("lint", |root| cargo(root, &["clippy", "-q", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("rules", rules::check),
    ("dependencies", dependencies::check),
    ("tests", |root| cargo(root, &["test", "-q", "--workspace"])),
    ("production-binary", dependencies::production_binary),
    ("twice", simulations::twice),
    ("canary", simulations::canary),
    ("seeds", simulations::fixed_seeds),
    ("found-seeds", simulations::found_seeds),
    ("mutants", simulations::mutants),
    ("interop", interop),
];

fn main() -> ExitCode {
    let mut skip = Vec::new();
    let mut only = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--skip", Some(name)) if is_check(&name) => skip.push(name),
            ("--only", Some(name)) if is_check(&name) => only.push(name),
            _ => {
                let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
                eprintln!("usage: cargo verify [--skip CHECK | --only CHECK]…\nchecks: {}", names.join(" "));
                return ExitCode::from(2);
            }
        }
    }
    let root = project_dir();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in CHECKS {
        if skip.iter().any(|other| other == name)
            || (!only.is_empty() && !only.iter().any(|other| other == name))
        {
            continue;
        }
        let start = Instant::now();
        let outcome = check(&root);
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(Outcome::Held(said)) => {
                passed += 1;
                println!("verify {name}: ok in {seconds:.1} s {said}");
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("verify {name}: skipped: {why}");
            }
            Err(error) => {
                failed += 1;
                println!("verify {name}: FAILED in {seconds:.1} s: {error:#}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_check(name: &str) -> bool {
    CHECKS.iter().any(|(known, _)| *known == name)
}

fn cargo(root: &Path, words: &[&str]) -> Result<Outcome> {
    let status = Command::new(env!("CARGO")).args(words).current_dir(root).status().context("run cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", words.join(" "));
    }
    Ok(Outcome::Held(String::new()))
}

/// Builds a program of the workspace in release and tells where it is.
fn release_program(root: &Path, package: &str, name: &str) -> Result<PathBuf> {
    // With -p: a build of the whole workspace would join the features of production and simulation.
    cargo(root, &["build", "-q", "--release", "-p", package])?;
    Ok(target_dir().join("release").join(name))
}

fn interop(root: &Path) -> Result<Outcome> {
    let output = Command::new(env!("CARGO"))
        .args(["run", "-q", "-p", "hotfire-tests", "--bin", "interop", "--", "--optional"])
        .current_dir(root)
        .output()
        .context("run interop")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    if !output.status.success() {
        bail!("{said} {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(if said.contains(": ok in") { Outcome::Held(said) } else { Outcome::Skipped(said) })
}

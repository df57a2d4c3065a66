//! `mutants`: each planted bug under its scenario, seeds until it is found. It tests the tests: a bug that lives means that
//! an oracle, a fault or a workload is missing.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use hotfire_core::runtime::Mutant;
use serde::{Deserialize, Serialize};

use super::{check_mutant, sweep};
use crate::options;
use crate::plan::Plan;
use crate::report::{Outcome, VerdictKind};
use crate::runner::{self, Limits};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Seeds to try for each.
    #[arg(long, default_value_t = 500)]
    pub seeds: u64,
    /// This planted bug alone.
    #[arg(long)]
    pub only: Option<String>,
    /// Runs the killing plans recorded in FILE (`scenarios/mutants.json`) instead of searching.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "scenarios/mutants.json")]
    pub recorded: Option<PathBuf>,
    /// Records the killing plans in FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "recorded")]
    pub record: Option<PathBuf>,
    #[arg(long)]
    pub jobs: Option<usize>,
    #[arg(long)]
    pub json: bool,
}

/// One line of the matrix.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub entry: String,
    pub scenario: String,
    /// The seed that killed it.
    pub seed: Option<u64>,
    pub seeds_tried: u64,
    pub killed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The plan that killed it, without the planted bug: the clean code must hold every promise under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

#[derive(Serialize, Deserialize)]
struct Matrix {
    mutants: Vec<Entry>,
    clean_failures: u64,
}

/// The scenario whose faults bring the bug out.
#[must_use]
pub fn scenario_of(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::RedispatchRepeats => "broker_crash",
        Mutant::RecoverByRewrite | Mutant::AbortNotSynced => "store",
        Mutant::OneReadOneFrame | Mutant::PartialRegistrationIsWhole | Mutant::LateCloseUnregisters => {
            "partition"
        }
        _ => "power_loss",
    }
}

/// # Errors
/// An unknown planted bug; a record that cannot be read or written.
pub fn mutants(arguments: &Arguments) -> Result<u8> {
    let recorded = match &arguments.recorded {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let matrix: Matrix =
                serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
            Some(matrix.mutants)
        }
        None => None,
    };
    let chosen: Vec<Mutant> = match &arguments.only {
        Some(name) => vec![check_mutant(name)?],
        None => Mutant::ALL.to_vec(),
    };
    let matrix = run_all(&chosen, arguments, recorded.as_deref());
    for entry in &matrix.mutants {
        println!("{}", line(entry));
    }
    let alive = matrix.mutants.iter().filter(|entry| !entry.killed).count();
    println!(
        "{} planted bugs, {alive} alive, {} failures of clean code",
        matrix.mutants.len(),
        matrix.clean_failures
    );
    if let Some(file) = &arguments.record {
        let text = serde_json::to_string_pretty(&matrix).context("write the matrix")?;
        std::fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    if arguments.json {
        let mutants: Vec<Entry> =
            matrix.mutants.iter().map(|entry| Entry { plan: None, ..entry.clone() }).collect();
        let short = Matrix { mutants, clean_failures: matrix.clean_failures };
        println!("{}", serde_json::to_string(&short).context("write the matrix")?);
    }
    let good = alive == 0 && matrix.clean_failures == 0;
    Ok(if good { 0 } else { VerdictKind::PromiseBroken.exit_code() })
}

fn run_all(chosen: &[Mutant], arguments: &Arguments, recorded: Option<&[Entry]>) -> Matrix {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = match recorded {
                Some(entries) => again(*mutant, entries),
                None => hunt(*mutant, arguments.seeds),
            };
            results.lock().expect("no panic while it is held").push(result);
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..sweep::jobs(arguments.jobs) {
            threads.spawn(work);
        }
    });
    let mut results = results.into_inner().expect("no panic while it is held");
    results.sort_by_key(|(entry, _)| Mutant::ALL.iter().position(|mutant| mutant.name() == entry.name));
    let clean_failures = results.iter().map(|(_, clean_failures)| clean_failures).sum();
    Matrix { mutants: results.into_iter().map(|(entry, _)| entry).collect(), clean_failures }
}

fn entry(mutant: Mutant, scenario: &str) -> Entry {
    Entry {
        name: mutant.name().to_owned(),
        entry: mutant.entry().to_owned(),
        scenario: scenario.to_owned(),
        seed: None,
        seeds_tried: 0,
        killed: false,
        promise: None,
        detail: None,
        plan: None,
    }
}

/// Seeds until the bug is found. A plan under which the clean code fails too has found something else: it is counted, and
/// the search goes on.
fn hunt(mutant: Mutant, seeds: u64) -> (Entry, u64) {
    let mut entry = entry(mutant, scenario_of(mutant));
    let mut clean_failures = 0;
    for seed in 0..seeds {
        let plan = options::draw(&entry.scenario, seed).expect("a listed scenario");
        entry.seeds_tried += 1;
        let outcome = planted(&plan, mutant);
        if !outcome.failed() {
            continue;
        }
        if runner::run(&plan, &Limits::default()).failed() {
            clean_failures += 1;
            continue;
        }
        killed(&mut entry, &outcome, plan);
        break;
    }
    (entry, clean_failures)
}

/// The recorded plan alone.
fn again(mutant: Mutant, entries: &[Entry]) -> (Entry, u64) {
    let recorded = entries.iter().find(|entry| entry.name == mutant.name());
    let Some(plan) = recorded.and_then(|entry| entry.plan.clone()) else {
        return (entry(mutant, scenario_of(mutant)), 0);
    };
    let mut entry = entry(mutant, &plan.scenario);
    entry.seeds_tried = 1;
    let outcome = planted(&plan, mutant);
    let clean_failures = u64::from(runner::run(&plan, &Limits::default()).failed());
    if outcome.failed() {
        killed(&mut entry, &outcome, plan);
    }
    (entry, clean_failures)
}

fn planted(plan: &Plan, mutant: Mutant) -> Outcome {
    let plan = Plan { mutant: Some(mutant.name().to_owned()), ..plan.clone() };
    runner::run(&plan, &Limits::default())
}

fn killed(entry: &mut Entry, outcome: &Outcome, plan: Plan) {
    entry.killed = true;
    entry.seed = Some(plan.seed);
    entry.plan = Some(plan);
    if let Some(failure) = &outcome.failure {
        entry.promise = Some(failure.promise.clone());
        entry.detail = Some(failure.detail.clone());
    }
}

fn line(entry: &Entry) -> String {
    match (entry.seed, &entry.promise) {
        (Some(seed), Some(promise)) => format!(
            "{:<28} {:<24} {:<13} killed by seed {seed} after {} seeds: {promise}\n    cargo sim run {} --seed {seed} --mutant {}",
            entry.name, entry.entry, entry.scenario, entry.seeds_tried, entry.scenario, entry.name
        ),
        _ => format!(
            "{:<28} {:<24} {:<13} alive after {} seeds",
            entry.name, entry.entry, entry.scenario, entry.seeds_tried
        ),
    }
}

//! `list`, `run`, `replay`: one plan at a time.

use std::path::PathBuf;

use anyhow::Result;

use super::view::write_page;
use super::{check_mutant, check_scenario, keep, read_plan};
use crate::plan::Plan;
use crate::report::{self, VerdictKind, digest_text};
use crate::runner::{self, Limits};
use crate::{options, page, scenario};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Its name, as `list` shows it.
    pub scenario: String,
    /// Everything that is not given is drawn from it.
    #[arg(long)]
    pub seed: u64,
    /// Runs this plan instead of the one that the seed draws.
    #[arg(long)]
    pub plan: Option<PathBuf>,
    /// Plants this bug.
    #[arg(long)]
    pub mutant: Option<String>,
    /// Writes every event into this file.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Writes what happened as a page for a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The last line of stdout is one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args, Debug)]
pub struct ReplayArguments {
    /// A plan, as a failed run has kept it.
    pub file: PathBuf,
    #[arg(long)]
    pub trace: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

/// # Errors
/// None; the same form as its siblings.
pub fn list(json: bool) -> Result<u8> {
    if json {
        let entry = |scenario: &&dyn scenario::Scenario| serde_json::json!({"name": scenario.name(), "summary": scenario.summary()});
        println!("{}", serde_json::Value::from(scenario::ALL.iter().map(entry).collect::<Vec<_>>()));
    } else {
        for scenario in scenario::ALL {
            println!("{:<14} {}", scenario.name(), scenario.summary());
        }
    }
    Ok(0)
}

/// # Errors
/// An unknown scenario or planted bug; a plan that cannot be read.
pub fn run(arguments: &Arguments) -> Result<u8> {
    check_scenario(&arguments.scenario)?;
    let mut plan = match &arguments.plan {
        Some(file) => read_plan(file)?,
        None => options::draw(&arguments.scenario, arguments.seed).expect("the scenario was checked"),
    };
    plan.record = None;
    if let Some(name) = &arguments.mutant {
        check_mutant(name)?;
        plan.mutant = Some(name.clone());
    }
    let shown = arguments.html.as_ref().map(|_| page::is_shown as _);
    let limits = Limits { trace_file: arguments.trace.clone(), keep: shown, ..Limits::default() };
    let outcome = runner::run(&plan, &limits);
    if let Some(page) = &arguments.html {
        write_page(page, &outcome)?;
    }
    let commit = report::commit();
    let file = if outcome.failed() { Some(keep(&outcome, &commit)?.display().to_string()) } else { None };
    print!("{}", outcome.text(&commit, file.as_deref()));
    if arguments.json {
        println!("{}", outcome.json(&commit, file.as_deref()));
    }
    Ok(outcome.verdict.exit_code())
}

/// # Errors
/// A plan that cannot be read.
pub fn replay(arguments: &ReplayArguments) -> Result<u8> {
    let recorded = read_plan(&arguments.file)?;
    check_scenario(&recorded.scenario)?;
    let plan = Plan { record: None, ..recorded.clone() };
    let limits = Limits { trace_file: arguments.trace.clone(), ..Limits::default() };
    let outcome = runner::run(&plan, &limits);
    let commit = report::commit();
    let file = arguments.file.display().to_string();
    print!("{}", outcome.text(&commit, outcome.failed().then_some(file.as_str())));
    if let Some(record) = &recorded.record {
        if record.commit != commit {
            println!("recorded at commit {}, this is {commit}", record.commit);
        }
        if record.digest != digest_text(outcome.digest) {
            println!("the run differs from the recorded one: digest {} then", record.digest);
            // The same commit must give the same run; another commit may well differ.
            if record.commit == commit && !commit.ends_with('+') {
                return Ok(VerdictKind::Differs.exit_code());
            }
        }
        if record.verdict != outcome.verdict.word() {
            println!("it was: {}", record.verdict);
        }
    }
    if arguments.json {
        println!("{}", outcome.json(&commit, outcome.failed().then_some(file.as_str())));
    }
    Ok(outcome.verdict.exit_code())
}

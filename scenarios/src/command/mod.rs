//! The commands of `hotfire-sim`, one file each. Each answers with an exit code; an error is a wrong use of the command.

pub mod matrix;
pub mod mutants;
pub mod run;
pub mod shrink;
pub mod sweep;
pub mod twice;
pub mod view;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hotfire_core::runtime::Mutant;

use crate::plan::Plan;
use crate::report::Outcome;
use crate::scenario;

/// Where the plans of failed runs go.
const FAILURES: &str = "failures";

fn read_plan(file: &Path) -> Result<Plan> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read plan {}", file.display()))?;
    Plan::from_json(&text).with_context(|| format!("parse plan {}", file.display()))
}

fn write_plan(file: &Path, plan: &Plan) -> Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    std::fs::write(file, plan.to_json() + "\n").with_context(|| format!("write plan {}", file.display()))
}

/// Keeps the plan of a failed run, and says where.
fn keep(outcome: &Outcome, commit: &str) -> Result<PathBuf> {
    let plan = &outcome.plan;
    let mutant = plan.mutant.as_ref().map(|name| format!("-{name}")).unwrap_or_default();
    let file = PathBuf::from(format!("{FAILURES}/{}-{}{mutant}.json", plan.scenario, plan.seed));
    write_plan(&file, &outcome.recorded(commit))?;
    Ok(file)
}

fn check_scenario(name: &str) -> Result<()> {
    if scenario::find(name).is_none() {
        let names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name()).collect();
        bail!("no scenario {name}: there are {}", names.join(", "));
    }
    Ok(())
}

fn check_mutant(name: &str) -> Result<Mutant> {
    let names = || Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ");
    Mutant::parse(name).with_context(|| format!("no planted bug {name}: there are {}", names()))
}

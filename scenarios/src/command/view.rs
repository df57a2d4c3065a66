//! `view`: a run as a page to look at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{check_scenario, read_plan};
use crate::page;
use crate::plan::Plan;
use crate::report::{self, Outcome};
use crate::runner::{self, Limits};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A plan, as a failed run has kept it.
    pub file: PathBuf,
    /// Where the page goes; beside the plan unless given.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the plan and writes what happened as one page.
///
/// # Errors
/// A plan that cannot be read; a page that cannot be written.
pub fn view(arguments: &Arguments) -> Result<u8> {
    let plan = read_plan(&arguments.file)?;
    check_scenario(&plan.scenario)?;
    let plan = Plan { record: None, ..plan };
    let outcome = runner::run(&plan, &Limits { keep: Some(page::is_shown), ..Limits::default() });
    let output = arguments.output.clone().unwrap_or_else(|| arguments.file.with_extension("html"));
    write_page(&output, &outcome)?;
    println!("{}: {}", output.display(), outcome.verdict.word());
    Ok(0)
}

/// Writes the page of a run that kept what is shown.
///
/// # Errors
/// Of the file.
pub(super) fn write_page(file: &Path, outcome: &Outcome) -> Result<()> {
    std::fs::write(file, page::of(outcome, &report::commit()))
        .with_context(|| format!("write page {}", file.display()))
}

//! `shrink`: the smallest plan that still breaks the same promise, by delta debugging.
//!
//! Faults go first, then messages and settings toward the plain ones. The promise is pinned: a smaller plan that breaks
//! another one is another finding. Keyed draws make this work: what stays in the plan behaves as it did.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use super::{check_scenario, read_plan, write_plan};
use crate::plan::{Plan, Planned};
use crate::report::{self, Outcome};
use crate::runner::{self, Limits};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A plan that fails.
    pub file: PathBuf,
    /// Where the small one goes; beside the first unless given.
    #[arg(short)]
    pub out: Option<PathBuf>,
}

struct Search {
    promise: String,
    runs: u64,
    smallest: Outcome,
}

impl Search {
    /// Runs the candidate and keeps it when it breaks the same promise.
    fn try_plan(&mut self, plan: Plan) -> bool {
        self.runs += 1;
        let outcome = runner::run(&plan, &Limits::default());
        let same = outcome.failure.as_ref().is_some_and(|failure| failure.promise == self.promise);
        if same {
            self.smallest = outcome;
        }
        same
    }

    fn plan(&self) -> Plan {
        self.smallest.plan.clone()
    }
}

/// # Errors
/// A plan that cannot be read or does not fail.
pub fn shrink(arguments: &Arguments) -> Result<u8> {
    let plan = Plan { record: None, ..read_plan(&arguments.file)? };
    check_scenario(&plan.scenario)?;
    let first = runner::run(&plan, &Limits::default());
    if !first.failed() {
        bail!("{} does not fail", arguments.file.display());
    }
    let commit = report::commit();
    let out = arguments.out.clone().unwrap_or_else(|| small_file(&arguments.file));
    let (smallest, summary) = smallest(first);
    write_plan(&out, &smallest.recorded(&commit))?;
    let out = out.display().to_string();
    print!("{}", smallest.text(&commit, Some(&out)));
    println!("{summary}");
    Ok(0)
}

/// Where the small plan goes, beside the first.
#[must_use]
pub fn small_file(file: &Path) -> PathBuf {
    file.with_extension("small.json")
}

/// The smallest plan found that breaks the promise that `first` broke, and a line that says how.
#[must_use]
pub fn smallest(first: Outcome) -> (Outcome, String) {
    let begun = Instant::now();
    let promise = first.failure.as_ref().map(|failure| failure.promise.clone()).unwrap_or_default();
    let faults_before = first.plan.faults.len();
    let mut search = Search { promise, runs: 1, smallest: first };
    shrink_faults(&mut search);
    shrink_rest(&mut search);
    shrink_faults(&mut search);
    let (faults, time) = (search.smallest.plan.faults.len(), begun.elapsed().as_secs_f64());
    let summary = format!("faults {faults_before} -> {faults} in {} runs, {time:.1} s", search.runs);
    (search.smallest, summary)
}

/// Takes away runs of faults: halves, then quarters, down to single ones.
fn shrink_faults(search: &mut Search) {
    let mut chunk = search.smallest.plan.faults.len().div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        while start < search.smallest.plan.faults.len() {
            let faults = &search.smallest.plan.faults;
            let end = (start + chunk).min(faults.len());
            let rest: Vec<Planned> = faults[..start].iter().chain(&faults[end..]).cloned().collect();
            let candidate = Plan { faults: rest, ..search.plan() };
            if !search.try_plan(candidate) {
                start = end;
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
}

/// Fewer nodes, fewer messages, fewer kinds of send.
fn shrink_rest(search: &mut Search) {
    let simpler: [fn(&mut Plan); 9] = [
        |plan| plan.settings.name_servers = 1,
        |plan| plan.settings.groups = 1,
        // A group without a member is given nothing.
        |plan| plan.settings.consumers = plan.settings.groups,
        |plan| plan.workload.late_topics = 0,
        |plan| plan.workload.slow_topic = false,
        |plan| plan.workload.one_way_percent = 0,
        |plan| plan.workload.batch_percent = 0,
        |plan| plan.workload.no_wait_percent = 0,
        |plan| plan.settings.buggify_permille = 0,
    ];
    for change in simpler {
        let mut candidate = search.plan();
        change(&mut candidate);
        if candidate != search.smallest.plan {
            search.try_plan(candidate);
        }
    }
    while search.smallest.plan.workload.messages > 4 {
        let mut candidate = search.plan();
        candidate.workload.messages /= 2;
        if !search.try_plan(candidate) {
            break;
        }
    }
}

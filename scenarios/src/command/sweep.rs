//! `sweep`: many seeds on all cores.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::shrink::{small_file, smallest};
use super::{check_mutant, check_scenario, keep, read_plan, write_plan};
use crate::marks::Coverage;
use crate::plan::Plan;
use crate::report::{self, Outcome, replay_line};
use crate::runner::{self, Limits};
use crate::{options, scenario};

/// Failures that are kept; a sweep with more has one cause, most likely.
const FAILURES_KEPT: usize = 10;

/// Every run was fine, but a required branch was taken by none.
const EXIT_MARKS: u8 = 1;

/// A run that takes longer is not shrunk: it would be run some dozens of times.
const SHRINKABLE_WALL_MS: u64 = 5_000;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A scenario, or `all` (without the canary).
    pub scenario: String,
    /// Seeds from A up to, not with, B.
    #[arg(long, value_name = "A..B", conflicts_with = "for_time")]
    pub seeds: Option<String>,
    /// Seeds from 0 on for so long, such as `60s`.
    #[arg(long = "for", value_name = "TIME")]
    pub for_time: Option<String>,
    /// Runs at once; as many as there are cores unless given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Fails when a rare branch that CI's sweep must come through was taken by no run.
    #[arg(long)]
    pub require_marks: bool,
    /// Plants this bug.
    #[arg(long)]
    pub mutant: Option<String>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Default)]
struct Totals {
    runs: u64,
    failed: u64,
    sim_ms: u64,
    acked: u64,
    faults: BTreeMap<String, u64>,
    coverage: Coverage,
    failures: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    scenario: String,
    seed: u64,
    verdict: report::VerdictKind,
    promise: String,
    at_ms: u64,
    detail: String,
    plan_file: String,
    replay: String,
    #[serde(skip)]
    exit_code: u8,
}

/// # Errors
/// An unknown scenario; seeds or a time that cannot be read; failures that cannot be kept.
pub fn sweep(arguments: &Arguments) -> Result<u8> {
    let scenarios: Vec<String> = if arguments.scenario == "all" {
        scenario::swept().iter().map(|scenario| scenario.name().to_owned()).collect()
    } else {
        check_scenario(&arguments.scenario)?;
        vec![arguments.scenario.clone()]
    };
    if let Some(name) = &arguments.mutant {
        check_mutant(name)?;
    }
    let seeds = arguments.seeds.as_deref().map(parse_seeds).transpose()?;
    let for_time = arguments.for_time.as_deref().map(parse_time).transpose()?;
    let (first, end) = match (seeds, for_time) {
        (Some(seeds), _) => seeds,
        (None, Some(_)) => (0, u64::MAX),
        (None, None) => bail!("give --seeds A..B or --for TIME"),
    };
    let begun = Instant::now();
    let commit = report::commit();
    let totals = Mutex::new(Totals::default());
    let next = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let work = |worker: usize| -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Seeds of all scenarios side by side, so that a timed sweep gives each its share.
            let seed = first + index / scenarios.len() as u64;
            let late = for_time.is_some_and(|time| begun.elapsed() >= time);
            if seed >= end || late || done.load(Ordering::Relaxed) {
                return Ok(());
            }
            let name = &scenarios[(index % scenarios.len() as u64) as usize];
            let mut plan = options::draw(name, seed).expect("the scenario was checked");
            plan.mutant.clone_from(&arguments.mutant);
            let outcome = runner::run(&plan, &Limits::default());
            let mut totals = totals.lock().expect("no panic while it is held");
            add(&mut totals, &outcome, &commit)?;
            if worker == 0 {
                progress(&totals, begun);
            }
        }
    };
    let jobs = jobs(arguments.jobs);
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..jobs).map(|worker| threads.spawn(move || work(worker))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    let mut totals = totals.into_inner().expect("no panic while it is held");
    shrink_first(&mut totals, &commit)?;
    tell(&totals, begun.elapsed(), arguments)
}

/// As many as cores, unless given.
pub(super) fn jobs(given: Option<usize>) -> usize {
    given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

fn add(totals: &mut Totals, outcome: &Outcome, commit: &str) -> Result<()> {
    totals.runs += 1;
    totals.sim_ms += outcome.sim_ms;
    totals.acked += outcome.acked as u64;
    for (kind, count) in &outcome.faults {
        *totals.faults.entry(kind.clone()).or_insert(0) += count;
    }
    totals.coverage.add(&outcome.marks);
    if !outcome.failed() {
        return Ok(());
    }
    totals.failed += 1;
    if totals.failures.len() >= FAILURES_KEPT {
        return Ok(());
    }
    let plan_file = keep(outcome, commit)?.display().to_string();
    let failure = outcome.failure.clone().expect("a failed run says why");
    eprintln!(
        "\r{} seed {}: {} at {} ms: {}: {}\n  {}",
        outcome.plan.scenario,
        outcome.plan.seed,
        outcome.verdict.word(),
        failure.at_ms,
        failure.promise,
        failure.detail,
        replay_line(&plan_file)
    );
    totals.failures.push(Found {
        scenario: outcome.plan.scenario.clone(),
        seed: outcome.plan.seed,
        verdict: outcome.verdict,
        promise: failure.promise,
        at_ms: failure.at_ms,
        detail: failure.detail,
        replay: replay_line(&plan_file),
        plan_file,
        exit_code: outcome.verdict.exit_code(),
    });
    Ok(())
}

/// The first failure as small as it gets: what is left in the plan is what matters.
fn shrink_first(totals: &mut Totals, commit: &str) -> Result<()> {
    let Some(found) = totals.failures.first_mut() else { return Ok(()) };
    let file = PathBuf::from(&found.plan_file);
    let plan = Plan { record: None, ..read_plan(&file)? };
    let again = runner::run(&plan, &Limits::default());
    if !again.failed() {
        eprintln!("{}: does not fail again", file.display());
        return Ok(());
    }
    if again.wall_ms > SHRINKABLE_WALL_MS {
        return Ok(());
    }
    let (smallest, summary) = smallest(again);
    let file = small_file(&file);
    write_plan(&file, &smallest.recorded(commit))?;
    found.plan_file = file.display().to_string();
    found.replay = replay_line(&found.plan_file);
    eprintln!("{summary}\n  {}", found.replay);
    Ok(())
}

fn progress(totals: &Totals, begun: Instant) {
    if std::io::stderr().is_terminal() {
        let rate = per_minute(totals.runs, begun.elapsed());
        eprint!("\r{} runs, {} failed, {rate:.0} a minute   ", totals.runs, totals.failed);
        let _ = std::io::stderr().flush();
    }
}

fn per_minute(count: u64, time: Duration) -> f64 {
    count as f64 * 60.0 / time.as_secs_f64().max(1e-9)
}

fn tell(totals: &Totals, time: Duration, arguments: &Arguments) -> Result<u8> {
    let rate = per_minute(totals.runs, time);
    let speed = totals.sim_ms as f64 / 1e3 / time.as_secs_f64().max(1e-9);
    let faults: Vec<String> = totals.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    println!(
        "{} runs in {:.1} s, {} failed, {rate:.0} seeds a minute, {speed:.0} simulated seconds a second, {} messages acknowledged",
        totals.runs,
        time.as_secs_f64(),
        totals.failed,
        totals.acked
    );
    println!("faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
    println!("{}", totals.coverage);
    if arguments.json {
        let summary = serde_json::json!({
            "runs": totals.runs,
            "failed": totals.failed,
            "seeds_per_minute": rate.round(),
            "sim_s_per_wall_s": speed.round(),
            "faults": totals.faults,
            "marks": totals.coverage,
            "failures": totals.failures,
        });
        println!("{summary}");
    }
    if let Some(found) = totals.failures.first() {
        return Ok(found.exit_code);
    }
    let missing = totals.coverage.missing();
    if arguments.require_marks && !missing.is_empty() {
        eprintln!("no run came through {}", missing.join(", "));
        return Ok(EXIT_MARKS);
    }
    Ok(0)
}

fn parse_seeds(text: &str) -> Result<(u64, u64)> {
    let (first, end) = text.split_once("..").with_context(|| format!("seeds {text}: expected A..B"))?;
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("seed {text}: expected a number"));
    Ok((number(first)?, number(end)?))
}

fn parse_time(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        unit => bail!("time {text}: unit {unit} is not one of s, m, h"),
    };
    let number: u64 = digits.parse().with_context(|| format!("time {text}: expected a number and a unit"))?;
    Ok(Duration::from_secs(number * unit_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_times_are_read_and_nonsense_is_named() {
        assert_eq!(parse_seeds("3..9").expect("a range"), (3, 9));
        assert!(parse_seeds("3").is_err() && parse_seeds("a..9").is_err());
        assert_eq!(parse_time("90s").expect("a time"), Duration::from_secs(90));
        assert_eq!(parse_time("2m").expect("a time"), Duration::from_secs(120));
        assert!(parse_time("2y").is_err() && parse_time("s").is_err());
    }
}

//! What a run came to, how it is told, and with which exit code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hotfire_sim::{Marks, TraceEvent};
use serde::Serialize;

use crate::history::History;
use crate::plan::{Plan, Record, names};

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Every promise held.
    Ok,
    PromiseBroken,
    /// No progress after the faults ended, or no end at all.
    NoProgress,
    /// The code under test panicked.
    Panicked,
    /// Two runs of one plan differ.
    Differs,
}

impl VerdictKind {
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            VerdictKind::Ok => 0,
            VerdictKind::PromiseBroken => 10,
            VerdictKind::NoProgress => 11,
            VerdictKind::Panicked => 12,
            VerdictKind::Differs => 13,
        }
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            VerdictKind::Ok => "ok",
            VerdictKind::PromiseBroken => "promise broken",
            VerdictKind::NoProgress => "no progress",
            VerdictKind::Panicked => "panicked",
            VerdictKind::Differs => "differs",
        }
    }
}

/// Usage errors end with this code, as clap's do.
pub const EXIT_USAGE: u8 = 2;

/// The first thing that went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Failure {
    pub promise: String,
    /// Simulated time, ms from the start of the run.
    pub at_ms: u64,
    pub detail: String,
}

/// One finished run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub plan: Plan,
    pub verdict: VerdictKind,
    pub failure: Option<Failure>,
    pub sim_ms: u64,
    pub wall_ms: u64,
    pub events: u64,
    pub digest: u64,
    pub acked: usize,
    pub delivered: usize,
    /// Faults that really struck, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Rare branches that were taken, and how requests were answered.
    pub marks: Marks,
    /// What clients saw.
    pub history: History,
    /// With `Limits::keep`, oldest first.
    pub kept: Vec<TraceEvent>,
    /// The last events, oldest first.
    pub last_events: Vec<String>,
}

/// The one line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    scenario: &'a str,
    seed: u64,
    commit: &'a str,
    sim_ms: u64,
    wall_ms: u64,
    events: u64,
    digest: String,
    acked: usize,
    delivered: usize,
    faults: &'a BTreeMap<String, u64>,
    verdict: VerdictKind,
    #[serde(flatten)]
    failure: Option<&'a Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<String>,
}

/// The commit that was checked out when the run was made, with `+` when files differed from it.
#[must_use]
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{head}+") } else { head }
}

#[must_use]
pub fn digest_text(digest: u64) -> String {
    format!("{digest:016x}")
}

/// The line to paste.
#[must_use]
pub fn replay_line(plan_file: &str) -> String {
    format!("cargo sim replay {plan_file}")
}

impl Outcome {
    #[must_use]
    pub fn failed(&self) -> bool {
        self.verdict != VerdictKind::Ok
    }

    /// The plan with what this run came to written into it.
    #[must_use]
    pub fn recorded(&self, commit: &str) -> Plan {
        let failure = self.failure.as_ref();
        let record = Record {
            commit: commit.to_owned(),
            digest: digest_text(self.digest),
            verdict: self.verdict.word().to_owned(),
            promise: failure.map(|failure| failure.promise.clone()),
            at_ms: failure.map(|failure| failure.at_ms),
            detail: failure.map(|failure| failure.detail.clone()),
            events: self.last_events.clone(),
        };
        Plan { record: Some(record), ..self.plan.clone() }
    }

    /// The JSON object of `--json`, in one line.
    #[must_use]
    pub fn json(&self, commit: &str, plan_file: Option<&str>) -> String {
        let line = Line {
            scenario: &self.plan.scenario,
            seed: self.plan.seed,
            commit,
            sim_ms: self.sim_ms,
            wall_ms: self.wall_ms,
            events: self.events,
            digest: digest_text(self.digest),
            acked: self.acked,
            delivered: self.delivered,
            faults: &self.faults,
            verdict: self.verdict,
            failure: self.failure.as_ref(),
            plan_file,
            replay: plan_file.map(replay_line),
        };
        serde_json::to_string(&line).expect("a line has only string keys")
    }

    /// What a person reads.
    #[must_use]
    pub fn text(&self, commit: &str, plan_file: Option<&str>) -> String {
        let mut text = String::new();
        let plan = &self.plan;
        let mutant = plan.mutant.as_ref().map(|name| format!(", planted bug {name}")).unwrap_or_default();
        let _ = writeln!(text, "scenario {} seed {}, commit {commit}{mutant}", plan.scenario, plan.seed);
        let _ = writeln!(text, "nodes: {}", names::all(&plan.settings).join(", "));
        if self.failed() {
            let _ = writeln!(text, "settings: {}", compact(&plan.settings));
            let _ = writeln!(text, "workload: {}", compact(&plan.workload));
        }
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(", ") };
        let _ = writeln!(text, "faults: {faults}");
        let _ = writeln!(
            text,
            "{} of simulated time in {} ms, {} events, digest {}, {} acknowledged, {} delivered",
            seconds(self.sim_ms),
            self.wall_ms,
            self.events,
            digest_text(self.digest),
            self.acked,
            self.delivered
        );
        match &self.failure {
            None => {
                let _ = writeln!(text, "{}", self.verdict.word());
            }
            Some(failure) => {
                let _ = writeln!(
                    text,
                    "{} at {}: {}: {}",
                    self.verdict.word(),
                    seconds(failure.at_ms),
                    failure.promise,
                    failure.detail
                );
            }
        }
        if let Some(file) = plan_file {
            let _ = writeln!(text, "replay: {}", replay_line(file));
        }
        text
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

fn compact(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().replace(['{', '}', '"'], "").replace(',', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: VerdictKind) -> Outcome {
        let failure = (verdict != VerdictKind::Ok).then(|| Failure {
            promise: "I1".into(),
            at_ms: 1_234,
            detail: "message 7 is gone".into(),
        });
        Outcome {
            plan: crate::options::draw("canary", 5).expect("a listed scenario"),
            verdict,
            failure,
            sim_ms: 60_000,
            wall_ms: 20,
            events: 9,
            digest: 0xAB,
            acked: 3,
            delivered: 2,
            faults: [("crash".to_owned(), 2)].into(),
            marks: Marks::default(),
            kept: Vec::new(),
            history: History::default(),
            last_events: Vec::new(),
        }
    }

    #[test]
    fn a_failure_is_told_with_its_line_to_paste() {
        let outcome = outcome(VerdictKind::PromiseBroken);
        let text = outcome.text("abc", Some("failures/canary-5.json"));
        assert!(text.contains("promise broken at 1.234 s: I1: message 7 is gone"), "{text}");
        assert!(text.ends_with("replay: cargo sim replay failures/canary-5.json\n"), "{text}");
        let value: serde_json::Value =
            serde_json::from_str(&outcome.json("abc", Some("failures/canary-5.json"))).expect("JSON");
        assert_eq!(value["promise"], "I1");
        assert_eq!(value["at_ms"], 1_234);
        assert_eq!(value["replay"], "cargo sim replay failures/canary-5.json");
        assert_eq!(value["digest"], "00000000000000ab");
    }

    #[test]
    fn a_kept_promise_says_nothing_of_failure() {
        let value: serde_json::Value =
            serde_json::from_str(&outcome(VerdictKind::Ok).json("abc", None)).expect("JSON");
        assert_eq!(value["verdict"], "ok");
        assert!(value.get("promise").is_none() && value.get("replay").is_none());
    }

    #[test]
    fn each_kind_of_end_has_its_own_exit_code() {
        use VerdictKind::*;
        assert_eq!(
            [Ok, PromiseBroken, NoProgress, Panicked, Differs].map(VerdictKind::exit_code),
            [0, 10, 11, 12, 13]
        );
    }
}

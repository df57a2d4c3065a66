//! Rules of the tree that are checked as text, each with its reason.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use hotfire_core::runtime::Mutant;

use crate::Outcome;

struct Rule {
    /// Found in a line, it is a breach.
    text: &'static str,
    /// Files whose path starts with one of these.
    under: &'static [&'static str],
    why: &'static str,
}

const CORE: &[&str] = &["core/src"];
const ALL: &[&str] = &[""];

/// Parts of a text that would otherwise break the rule in this very file.
macro_rules! text {
    ($($part:literal),+) => { concat!($($part),+) };
}

const RULES: &[Rule] = &[
    Rule { text: text!("tokio::", "select!"), under: CORE, why: "unbiased by default: use core's select!" },
    Rule {
        text: text!("tokio::sync::", "watch"),
        under: CORE,
        why: "its wake order is not replayed: use runtime::sync::watch",
    },
    Rule { text: text!("std::", "thread"), under: CORE, why: "tasks are Runtime's" },
    Rule { text: text!("std::", "fs"), under: CORE, why: "files are Runtime's" },
    Rule { text: text!("Hash", "Map"), under: CORE, why: "its order is random: use BTreeMap" },
    Rule { text: text!("Hash", "Set"), under: CORE, why: "its order is random: use BTreeSet" },
    Rule { text: text!("Instant::", "now"), under: CORE, why: "time is Runtime's" },
    Rule { text: text!("System", "Time"), under: CORE, why: "time is Runtime's" },
    Rule { text: text!("rand", "::"), under: CORE, why: "random bits are Runtime's" },
    Rule { text: text!("to", "do!("), under: ALL, why: "not a placeholder for a requirement" },
    Rule { text: text!("unimplement", "ed!("), under: ALL, why: "not a placeholder for a requirement" },
    Rule { text: text!("#[ign", "ore"), under: ALL, why: "no test is switched off" },
    Rule { text: text!("/wo", "rk/"), under: ALL, why: "no path of one machine" },
    Rule { text: text!("/ro", "ot/"), under: ALL, why: "no path of one machine" },
    Rule { text: text!("crates", ".io"), under: ALL, why: "no host name of a package registry" },
    Rule { text: text!("repo1", ".maven"), under: ALL, why: "no host name of a package registry" },
    Rule { text: text!("pypi", ".org"), under: ALL, why: "no host name of a package registry" },
    Rule { text: text!("npmjs", "."), under: ALL, why: "no host name of a package registry" },
];

/// What contains a forbidden text and is none: core's own select! expands to tokio's in its biased form, and whether a panic
/// unwinds is the same in every run.
const ALLOWED: [&str; 2] = [text!("__tokio::", "select! { biased;"), text!("std::", "thread::panicking()")];

/// Files that hold data and not words of ours.
fn is_data(path: &str) -> bool {
    path == "Cargo.lock" || path.starts_with("tests/golden/")
}

/// The plan that kills each planted bug, as `hotfire-sim mutants --record` writes it.
const RECORDS: &str = "scenarios/mutants.json";

pub fn check(root: &Path) -> Result<Outcome> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("list the files with git")?;
    let names = String::from_utf8(listed.stdout).context("file names in UTF-8")?;
    let mut breaches = Vec::new();
    let mut files = 0;
    for name in names.split('\0').filter(|name| !name.is_empty() && !is_data(name)) {
        let Ok(text) = std::fs::read_to_string(root.join(name)) else { continue };
        files += 1;
        breaches.extend(breaches_of(name, &text));
    }
    let records = std::fs::read_to_string(root.join(RECORDS)).with_context(|| format!("read {RECORDS}"))?;
    breaches.extend(unrecorded(&records)?);
    if !breaches.is_empty() {
        bail!("{}", breaches.join("\n"));
    }
    Ok(Outcome::Held(format!("({} rules, {files} files)", RULES.len())))
}

fn breaches_of(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.under.iter().any(|under| name.starts_with(under))) {
        for (number, line) in text.lines().enumerate() {
            let words = line.trim_start();
            // core's comments may name what they forbid.
            if rule.under == CORE && words.starts_with("//") {
                continue;
            }
            if line.contains(rule.text) && !ALLOWED.iter().any(|allowed| line.contains(allowed)) {
                found.push(format!("{name}:{}: `{}`: {}", number + 1, rule.text, rule.why));
            }
        }
    }
    found
}

/// Planted bugs that no record names: merging two changes drops one easily.
fn unrecorded(records: &str) -> Result<Vec<String>> {
    let records: serde_json::Value =
        serde_json::from_str(records).with_context(|| format!("{RECORDS} is no JSON"))?;
    let entries =
        records["mutants"].as_array().with_context(|| format!("{RECORDS} has no list `mutants`"))?;
    let has = |mutant: &Mutant| entries.iter().any(|entry| entry["name"] == mutant.name());
    let missing = Mutant::ALL.iter().filter(|mutant| !has(mutant));
    Ok(missing.map(|mutant| format!("{RECORDS}: no record of {}", mutant.name())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_name_is_found_where_it_counts() {
        let line = text!("    let map = Hash", "Map::new();\n");
        assert_eq!(breaches_of("core/src/store/mod.rs", line).len(), 1);
        assert!(breaches_of("nodes/src/lib.rs", line).is_empty());
    }

    #[test]
    fn a_planted_bug_without_a_record_is_named() {
        let (first, rest) = Mutant::ALL.split_first().expect("bugs are planted");
        let entries: Vec<_> =
            rest.iter().map(|mutant| serde_json::json!({ "name": mutant.name() })).collect();
        let records = serde_json::json!({ "mutants": entries }).to_string();
        let found = unrecorded(&records).expect("a list");
        assert_eq!(found, [format!("{RECORDS}: no record of {}", first.name())]);
        assert!(unrecorded("{}").is_err());
    }
}

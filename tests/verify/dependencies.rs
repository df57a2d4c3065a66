//! What the crates may depend on, read from `cargo metadata` and `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{Outcome, release_program};

/// Any of these in a licence expression is fine with Apache-2.0.
const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "MIT-0",
    "BSL-1.0",
];

/// What `core` may use: nothing that reads a clock, draws random numbers or opens a file.
const CORE_MAY_USE: [&str; 11] = [
    "bytes",
    "crc32fast",
    "flate2",
    "itoa",
    "lz4_flex",
    "ruzstd",
    "serde",
    "serde_json",
    "thiserror",
    "tokio",
    "tracing",
];

/// Never below `core`: each differs between two runs of one seed.
const BANNED_IN_CORE: [&str; 7] = ["ahash", "hashbrown", "fastrand", "rand", "getrandom", "uuid", "dashmap"];

/// What `core` may enable of tokio.
const CORE_TOKIO_FEATURES: [&str; 3] = ["sync", "macros", "tokio-macros"];

pub fn check(root: &Path) -> Result<Outcome> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages in the metadata")?;

    let mut bad = Vec::new();
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or_default());
        if !licence_is_fine(licence) {
            bad.push(format!("{name}: licence `{licence}`"));
        }
        if package["source"].is_null() && licence != "Apache-2.0" {
            bad.push(format!("{name}: our own licence is Apache-2.0, found `{licence}`"));
        }
    }
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .context("the resolved graph")?
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();

    let direct = normal_dependencies(&nodes, id_of(&names, "hotfire-core")?);
    for id in &direct {
        let name = names.get(id).copied().unwrap_or_default();
        if !CORE_MAY_USE.contains(&name) {
            bad.push(format!("hotfire-core depends on {name}, which is not on its list"));
        }
    }
    for id in reached(&nodes, id_of(&names, "hotfire-core")?) {
        let name = names.get(id).copied().unwrap_or_default();
        if BANNED_IN_CORE.contains(&name) {
            bad.push(format!("hotfire-core reaches {name}, whose behaviour differs between two runs"));
        }
    }
    let manifest = std::fs::read_to_string(root.join("core/Cargo.toml")).context("read core/Cargo.toml")?;
    for line in manifest.lines().filter(|line| line.starts_with("tokio")) {
        let features = line.split('[').nth(1).unwrap_or_default();
        for feature in features
            .split('"')
            .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !word.is_empty())
        {
            if !CORE_TOKIO_FEATURES.contains(&feature) {
                bad.push(format!("hotfire-core enables tokio's `{feature}`"));
            }
        }
    }
    for (from, never) in [
        ("hotfire-nodes", "madsim"),
        ("hotfire-nodes", "hotfire-sim"),
        ("hotfire-scenarios", "hotfire-runtime"),
        ("hotfire-runtime", "madsim"),
    ] {
        if reached(&nodes, id_of(&names, from)?).iter().any(|id| names.get(id) == Some(&never)) {
            bad.push(format!("{from} reaches {never}"));
        }
    }
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    Ok(Outcome::Held(format!("({} packages)", packages.len())))
}

/// `OR` offers a choice, `AND` does not.
fn licence_is_fine(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    plain.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|name| LICENCES.contains(&name.trim().split(" WITH ").next().unwrap_or_default().trim()))
    })
}

fn id_of<'a>(names: &BTreeMap<&'a str, &'a str>, name: &str) -> Result<&'a str> {
    names
        .iter()
        .find(|(_, found)| **found == name)
        .map(|(id, _)| *id)
        .with_context(|| format!("package {name}"))
}

fn normal_dependencies<'a>(nodes: &BTreeMap<&'a str, &'a Value>, id: &str) -> Vec<&'a str> {
    let Some(deps) = nodes.get(id).and_then(|node| node["deps"].as_array()) else { return Vec::new() };
    deps.iter()
        .filter(|dep| {
            dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        })
        .filter_map(|dep| dep["pkg"].as_str())
        .collect()
}

fn reached<'a>(nodes: &BTreeMap<&'a str, &'a Value>, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for next in normal_dependencies(nodes, id) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

/// The program that users run defines none of the functions by which a simulator replaces the system's.
pub fn production_binary(root: &Path) -> Result<Outcome> {
    let program = release_program(root, "hotfire-nodes", "hotfire")?;
    let Ok(output) = Command::new("nm").arg(&program).output() else {
        return Ok(Outcome::Skipped("no nm".to_owned()));
    };
    let symbols = String::from_utf8_lossy(&output.stdout);
    ensure!(symbols.lines().count() > 100, "nm shows no symbols of {}", program.display());
    for line in symbols.lines() {
        let mut words = line.split_whitespace().rev();
        let (name, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        ensure!(!(kind == "T" && name == "clock_gettime"), "{} replaces clock_gettime", program.display());
        ensure!(!name.contains("madsim"), "{} holds {name}", program.display());
    }
    Ok(Outcome::Held(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_licences_needs_one_that_is_fine_and_a_sum_needs_all() {
        assert!(licence_is_fine("MIT OR GPL-3.0"));
        assert!(licence_is_fine("MIT/Apache-2.0"));
        assert!(licence_is_fine("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!licence_is_fine("MIT AND GPL-3.0"));
        assert!(!licence_is_fine(""));
    }
}

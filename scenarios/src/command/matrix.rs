//! The matrix of planted bugs as Markdown, `scenarios/mutants.md`, which stands beside `mutants.json` and follows from it.
//!
//! What is judged of the field's bug history, entry by entry, is in `scenarios/known-bugs.md`; a test holds its table against
//! the list of planted bugs.

use super::mutants::{Entry, Matrix};

const HEAD: &str = "\
# Planted bugs

Each with its entry in [known-bugs.md](known-bugs.md), or the part that it breaks, and the seed that killed it. One that needs
its fault lives through every seed without. `cargo sim mutants --record scenarios/mutants.json` writes this file; from that one
alone `cargo sim mutants --table > scenarios/mutants.md`.

| mutant | entry | scenario | seed | promise | needs its fault | faults in its plan |
|---|---|---|---|---|---|---|
";

#[must_use]
pub fn markdown(matrix: &Matrix) -> String {
    let mut text = HEAD.to_owned();
    matrix.mutants.iter().for_each(|entry| text.push_str(&row(entry)));
    text
}

fn row(entry: &Entry) -> String {
    let Entry { name, entry: of, scenario, seed, promise, undisturbed, plan, .. } = entry;
    let seed = seed.map_or("alive".to_owned(), |seed| seed.to_string());
    let promise = promise.as_deref().unwrap_or_default();
    let needs = if undisturbed.seed.is_none() { "yes" } else { "no" };
    let faults = plan.as_ref().map_or(0, |plan| plan.faults.len());
    format!("| {name} | {of} | {scenario} | {seed} | {promise} | {needs} | {faults} |\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::super::mutants::scenario_of;
    use super::*;
    use hotfire_core::runtime::Mutant;

    fn read(name: &str) -> String {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Whether `entry` is one of the bug history, as `S-06`, and no part of ours.
    fn is_of_history(entry: &str) -> bool {
        let letter = entry.chars().next().is_some_and(|first| "SHCLTDON".contains(first));
        letter && entry.get(1..2) == Some("-")
    }

    /// The words between back quotes.
    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    /// Entry, judgement and reason of each row.
    fn rows(table: &str) -> Vec<[&str; 3]> {
        let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let cells = rows.filter_map(|row| {
            let mut cells = row.splitn(3, " | ");
            Some([cells.next()?, cells.next()?, cells.next()?])
        });
        cells.filter(|[entry, ..]| is_of_history(entry)).collect()
    }

    #[test]
    fn the_matrix_in_markdown_is_that_in_json() {
        let recorded: Matrix = serde_json::from_str(&read("mutants.json")).expect("a matrix");
        let written = read("mutants.md");
        let hint = "cargo sim mutants --table > scenarios/mutants.md";
        assert!(written == markdown(&recorded), "mutants.md is not of mutants.json: {hint}");
        for entry in &recorded.mutants {
            let mutant = Mutant::parse(&entry.name).expect("a planted bug");
            assert_eq!(mutant.entry(), entry.entry, "{}", entry.name);
        }
    }

    #[test]
    fn each_entry_of_the_history_is_judged_and_each_planted_bug_stands_in_its_row() {
        let table = read("known-bugs.md");
        let rows = rows(&table);
        let entries: BTreeSet<&str> = rows.iter().map(|[entry, ..]| *entry).collect();
        assert_eq!((rows.len(), entries.len()), (124, 124), "every entry once");
        for [entry, judged, how] in &rows {
            assert!(["planted", "absent", "tested", "not yet"].contains(judged), "{entry}: {judged}");
            let named: Vec<Mutant> = quoted(how).filter_map(Mutant::parse).collect();
            let own = Mutant::ALL.iter().filter(|mutant| mutant.entry() == *entry);
            for mutant in own {
                assert!(named.contains(mutant), "{entry} does not name {}", mutant.name());
            }
            if *judged == "planted" {
                assert!(!named.is_empty(), "{entry}: which?");
                for mutant in named {
                    let scenario = scenario_of(mutant);
                    assert!(how.contains(scenario), "{entry}: {} is found in {scenario}", mutant.name());
                }
            }
        }
        for mutant in Mutant::ALL.iter().filter(|mutant| is_of_history(mutant.entry())) {
            assert!(entries.contains(mutant.entry()), "{} is of no entry", mutant.name());
        }
    }
}

//! Features against clients: what each client's program was seen to do with our nodes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What this run has shown so far.
static SHOWN: Mutex<BTreeSet<(&str, String)>> = Mutex::new(BTreeSet::new());

pub fn shown(feature: &'static str, client: &str) {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner).insert((feature, client.to_owned()));
}

/// The table of this run, a row for each feature; a cell is empty where a client lacks a feature or has failed.
#[must_use]
pub fn rows(clients: &[String]) -> Vec<String> {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let features: BTreeSet<&str> = shown.iter().map(|(feature, _)| *feature).collect();
    let mut rows = vec![format!("| feature | {} |", clients.join(" | "))];
    rows.push(format!("|---|{}", "---|".repeat(clients.len())));
    for feature in features {
        let cell = |client: &String| if shown.contains(&(feature, client.clone())) { "ok" } else { "" };
        let cells: Vec<&str> = clients.iter().map(cell).collect();
        rows.push(format!("| {feature} | {} |", cells.join(" | ")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_ok_only_where_the_client_has_shown_the_feature() {
        shown("delay", "a");
        shown("tags", "a");
        shown("tags", "b");
        let rows = rows(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(rows, ["| feature | a | b |", "|---|---|---|", "| delay | ok |  |", "| tags | ok | ok |"]);
    }
}

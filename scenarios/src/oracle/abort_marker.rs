//! I18, of the abort marker: while a store takes appends, its marker is on the disk's surface.
//!
//! A loss of power must leave the sign that the process did not end in order. Without it the next start believes that all
//! is durable and in its queue, and what it skips is missing from there for ever. Only the presence counts.
//!
//! # Source
//! `spec/store.md`, sections 6.2 and 14.2; `spec/known-bugs.md`, S-22.

use super::{Broken, Verdict};

/// A store has taken an append at log offset `at`. `marker` is what the disk's surface holds of the marker, `None` when it has
/// no such name.
///
/// # Errors
/// When a loss of power would take the marker.
pub fn at_append(broker: &str, at: u64, marker: Option<&[u8]>) -> Verdict {
    if marker.is_some() {
        return Ok(());
    }
    let detail = format!("{broker} takes an append at {at}, and its disk has no abort marker");
    Err(Broken::new("I18", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_without_a_durable_marker_is_rejected() {
        assert_eq!(at_append("broker-a", 0, Some(b"0")), Ok(()));
        assert_eq!(at_append("broker-a", 0, Some(b"")), Ok(()));
        assert!(at_append("broker-a", 0, None).is_err());
    }
}

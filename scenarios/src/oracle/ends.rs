//! ENDS: a process ends when it is struck or when it is told to stop, never by itself; and while it lives, a second one finds
//! its directory in use.
//!
//! What a broker cannot do it refuses, and goes on serving reads. By itself it ends only where a mapped page cannot be had, on a
//! file system that has become read-only, and where it could not start.
//!
//! # Source
//! README, "What each setting promises"; `design/product.md`, section 4.

use hotfire_core::store::RecoverError;
use hotfire_sim::cluster::End;

use super::{Broken, Verdict};

/// What programs of the scenarios say when they end by their own plan: a start that did not come about, which is told of by
/// itself, and a local transaction that takes its process with it.
const PLANNED: [&str; 2] = ["could not start", "died between half message and commit"];

/// A process of `node` has ended. `read_only`: its file system could not be written.
///
/// # Errors
/// When nobody wanted it to.
pub fn ended(node: &str, at_ms: u64, end: End, read_only: bool) -> Verdict {
    let why = match end {
        End::Struck | End::Returned { asked: true } => return Ok(()),
        End::Fatal(why) if PLANNED.contains(&why) || (why == "SIGBUS" && read_only) => return Ok(()),
        End::Fatal(why) => why,
        End::Returned { asked: false } => "its program returned",
    };
    Err(Broken::new("ENDS", format!("the process of {node} has ended by itself at {at_ms} ms: {why}")))
}

/// A second process has tried to open a store that is open.
///
/// # Errors
/// When it was not told so.
pub fn second_open<T>(node: &str, opened: &Result<T, RecoverError>) -> Verdict {
    match opened {
        Err(RecoverError::InUse { .. }) => Ok(()),
        Err(error) => Err(Broken::new("ENDS", format!("{node}: a second open fails otherwise: {error}"))),
        Ok(_) => Err(Broken::new("ENDS", format!("{node}: a second process has opened the store"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_nobody_wanted_is_rejected() {
        let is_fine = |end, read_only| ended("broker-a", 7, end, read_only).is_ok();
        assert!(is_fine(End::Struck, false));
        assert!(is_fine(End::Returned { asked: true }, false));
        assert!(!is_fine(End::Returned { asked: false }, false));
        assert!(is_fine(End::Fatal("could not start"), false));
        assert!(!is_fine(End::Fatal("a CommitLog page cannot be read"), true));
        assert!(is_fine(End::Fatal("SIGBUS"), true));
        assert!(!is_fine(End::Fatal("SIGBUS"), false));
    }

    #[test]
    fn a_second_open_that_is_not_told_that_the_store_is_in_use_is_rejected() {
        let io = || std::io::Error::from(std::io::ErrorKind::WouldBlock);
        let in_use = RecoverError::InUse { dir: "store".into(), source: io() };
        assert_eq!(second_open::<()>("broker-a", &Err(in_use)), Ok(()));
        let other = RecoverError::Io { action: "map", path: "store/lock".into(), source: io() };
        assert!(second_open::<()>("broker-a", &Err(other)).is_err());
        assert!(second_open("broker-a", &Ok(())).is_err());
    }
}

//! REFUSE: a broker does not start on files that lack what was durable, and writes nothing then, so that what is lost can still be
//! put back; and then it starts.
//!
//! # Source
//! `design/product.md`, section 4: "a data directory with damage recovery cannot repair".

use super::{Broken, Verdict};
use crate::platter::Image;

/// A broker serves on damaged files.
///
/// # Errors
/// Always.
pub fn serves(broker: &str) -> Verdict {
    Err(Broken::new("REFUSE", format!("{broker} serves on files that lack what was durable")))
}

/// What the disk's surface holds `before` a broker was started on damaged files, and `now`. A lock file may have come.
///
/// # Errors
/// The first file that is another one.
pub fn untouched(broker: &str, before: &Image, now: &Image, store: &str) -> Verdict {
    let lock = format!("{store}/lock");
    let changed = before
        .files
        .keys()
        .chain(now.files.keys())
        .find(|path| **path != lock && before.files.get(*path) != now.files.get(*path));
    let Some(path) = changed else { return Ok(()) };
    let there = |image: &Image| image.files.get(path).map(Vec::len);
    let detail = format!(
        "{broker} has changed {path} at a start that it refused: {:?} bytes before, {:?} now",
        there(before),
        there(now)
    );
    Err(Broken::new("REFUSE", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_changes_what_it_refuses_is_rejected() {
        let image = |files: &[(&str, &[u8])]| Image {
            files: files.iter().map(|(name, bytes)| (format!("store/{name}"), bytes.to_vec())).collect(),
        };
        let before = image(&[("commitlog/0", b"ab")]);
        let judged = |now: &Image| untouched("broker-a", &before, now, "store").is_ok();
        assert!(judged(&before));
        assert!(judged(&image(&[("commitlog/0", b"ab"), ("lock", b"")])));
        assert!(!judged(&image(&[("commitlog/0", b"a\0")])), "it was cut");
        assert!(!judged(&image(&[("commitlog/0", b"ab"), ("abort", b"0")])), "it was marked");
        assert!(!judged(&Image::default()));
        assert!(serves("broker-a").is_err());
    }
}

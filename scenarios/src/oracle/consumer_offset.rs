//! I16: a committed consumer offset lies within its queue and survives as its file does: after any crash the last or the
//! second-last version can be read (I18).
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/known-bugs.md`, S-22; `spec/store.md`, section 7.

use std::collections::BTreeMap;

use super::{Broken, Verdict};
use crate::platter::config::{Version, consumer_offsets};
use crate::platter::{BrokerDisk, Image, config};

/// Configuration files of a broker that must never be lost once they were written.
pub const FILES: [&str; 4] =
    ["topics.json", "consumerOffset.json", "consumerFilter.json", "delayOffset.json"];

/// Which of [`FILES`] were once whole on the platter. Whole in the page cache alone is not enough: a file whose first save was
/// cut off by the process's death may go with the next loss of power, unless somebody has loaded it, which makes it durable.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Written([bool; FILES.len()]);

impl Written {
    /// Looks at the files before a start: one that was durable before must still be whole, itself or by its backup.
    ///
    /// # Errors
    /// The first file that a crash has destroyed.
    pub fn before_start(&self, broker: &str, image: &Image, folder: &str) -> Verdict {
        for (file, written) in FILES.iter().zip(&self.0) {
            let path = format!("{folder}/{file}");
            match config::load(image, &path) {
                Version::Whole(_) => {}
                version if *written => {
                    let what = if version == Version::Broken { "cannot be read" } else { "is gone" };
                    return Err(Broken::new("I16/I18", format!("{broker}: {path} {what} after a crash")));
                }
                Version::Broken => {
                    return Err(Broken::new(
                        "I16/I18",
                        format!("{broker}: {path} cannot be read after a crash"),
                    ));
                }
                Version::Absent => {}
            }
        }
        Ok(())
    }

    /// Notes which files are durable now, so that the next loss of power must leave them.
    pub fn durable(&mut self, image: &Image, folder: &str) {
        for (file, written) in FILES.iter().zip(&mut self.0) {
            *written |= matches!(config::load(image, &format!("{folder}/{file}")), Version::Whole(_));
        }
    }
}

/// # Errors
/// The first committed offset that its queue does not have.
pub fn at_end(broker: &str, image: &Image, folder: &str, disk: &BrokerDisk) -> Verdict {
    let Version::Whole(value) = config::load(image, &format!("{folder}/consumerOffset.json")) else {
        return Ok(());
    };
    for ((name, queue), offset) in consumer_offsets(&value) {
        let topic = name.split('@').next().unwrap_or_default().to_owned();
        let max = disk.queues.get(&(topic, queue)).map_or(0, |queue| queue.max());
        if offset > max {
            let detail =
                format!("{broker}: {name} queue {queue} is committed at {offset}, the queue ends at {max}");
            return Err(Broken::new("I16", detail));
        }
    }
    Ok(())
}

/// The offsets of a slave, as one life of its process has written them before and now.
///
/// # Errors
/// The first that went back (H-06).
pub fn never_back(
    slave: &str,
    before: &BTreeMap<(String, i32), i64>,
    now: &BTreeMap<(String, i32), i64>,
) -> Verdict {
    for ((name, queue), old) in before {
        let new = now.get(&(name.clone(), *queue));
        if new.is_none_or(|new| new < old) {
            let detail =
                format!("{slave}: {name} queue {queue} was committed at {old} and now is at {new:?}");
            return Err(Broken::new("I16", detail));
        }
    }
    Ok(())
}

/// A queue whose end the file does not say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Behind {
    pub topic: String,
    pub queue: i32,
    pub max: i64,
    /// What the file says; `None` when it does not know the queue.
    pub committed: Option<i64>,
}

/// The queues of `topics` that `group` has consumed to their ends, as far as messages go, and whose offsets are not in the
/// file: committing takes a while, how long is the caller's to say.
#[must_use]
pub fn behind(image: &Image, folder: &str, disk: &BrokerDisk, group: &str, topics: &[String]) -> Vec<Behind> {
    let offsets = match config::load(image, &format!("{folder}/consumerOffset.json")) {
        Version::Whole(value) => consumer_offsets(&value),
        Version::Absent | Version::Broken => BTreeMap::new(),
    };
    let ends = disk.queues.iter().map(|((topic, queue), entries)| (topic, *queue, entries.max()));
    ends.filter(|(topic, _, max)| *max > 0 && topics.contains(topic))
        .map(|(topic, queue, max)| {
            let committed = offsets.get(&(format!("{topic}@{group}"), queue)).copied();
            Behind { topic: topic.clone(), queue, max, committed }
        })
        .filter(|behind| behind.committed != Some(behind.max))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;

    fn image(text: &str) -> Image {
        Image { files: [("store/config/consumerOffset.json".to_owned(), text.as_bytes().to_vec())].into() }
    }

    #[test]
    fn an_offset_of_a_slave_that_went_back_or_is_gone_is_rejected() {
        let at = |offset| BTreeMap::from([(("T@g".to_owned(), 0), offset)]);
        assert_eq!(never_back("slave-a", &at(5), &at(5)), Ok(()));
        assert!(never_back("slave-a", &at(5), &at(4)).is_err());
        assert!(never_back("slave-a", &at(5), &BTreeMap::new()).is_err());
    }

    #[test]
    fn an_offset_past_its_queue_is_rejected() {
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let judge = |text| at_end("broker-a", &image(text), "store/config", &disk);
        assert_eq!(judge(r#"{"offsetTable":{"topic-0@group-0":{0:2}}}"#), Ok(()));
        assert!(judge(r#"{"offsetTable":{"topic-0@group-0":{0:3}}}"#).is_err());
    }

    #[test]
    fn a_commit_that_never_reached_the_file_is_found() {
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let topics = ["topic-0".to_owned()];
        let committed = |text| {
            let behind = behind(&image(text), "store/config", &disk, "group-0", &topics);
            behind.into_iter().map(|behind| behind.committed).collect::<Vec<_>>()
        };
        assert_eq!(committed(r#"{"offsetTable":{"topic-0@group-0":{0:2}}}"#), []);
        assert_eq!(committed(r#"{"offsetTable":{"topic-0@group-0":{0:1}}}"#), [Some(1)]);
        assert_eq!(committed(r#"{"offsetTable":{}}"#), [None]);
    }

    #[test]
    fn a_file_that_was_whole_and_is_empty_after_a_crash_is_rejected() {
        let mut written = Written::default();
        let look = |written: &Written, image: &Image| written.before_start("broker-a", image, "store/config");
        assert_eq!(look(&written, &Image::default()), Ok(()));
        written.durable(&image("{}"), "store/config");
        assert_eq!(look(&written, &image("{}")), Ok(()));
        assert!(look(&written, &image("")).is_err());
        assert!(look(&written, &Image::default()).is_err());
    }

    #[test]
    fn a_file_whose_first_save_was_cut_off_may_go_and_may_not_be_cut_short() {
        let written = Written::default();
        let look = |image: &Image| written.before_start("broker-a", image, "store/config");
        assert_eq!(look(&image("{}")), Ok(()));
        assert_eq!(look(&Image::default()), Ok(()));
        assert!(look(&image("{\"offsetTable\":{")).is_err());
    }
}

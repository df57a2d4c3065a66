//! I16: a committed consumer offset lies within its queue and survives as its file does: after any crash the last or the
//! second-last version can be read (I18). What was in the file when a broker started is what it says, cut to its queues, and
//! where the group goes on.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/known-bugs.md`, S-22; `spec/store.md`, section 7.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broken, Verdict};
use crate::history::Place;
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

/// Committed offsets by `topic@group` and queue.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// What the file says; nothing when there is none.
#[must_use]
pub fn in_file(image: &Image, folder: &str) -> Offsets {
    match config::load(image, &format!("{folder}/consumerOffset.json")) {
        Version::Whole(value) => consumer_offsets(&value),
        Version::Absent | Version::Broken => Offsets::new(),
    }
}

/// Cuts offsets to what their queues have of the log below `end`.
pub fn cut(offsets: &mut Offsets, disk: &BrokerDisk, end: u64) {
    for ((name, queue), offset) in offsets {
        let topic = name.split('@').next().unwrap_or_default().to_owned();
        let max = disk.queues.get(&(topic, *queue)).map_or(0, |queue| {
            queue.min + queue.entries.iter().filter(|entry| entry.at < end).count() as i64
        });
        *offset = (*offset).clamp(0, max);
    }
}

/// What a broker that has just started says of the groups of consumers, none of which runs: what its file said `before`.
/// The broker's own group may have gone on.
///
/// # Errors
/// The first offset that is another one.
pub fn kept(broker: &str, before: &Offsets, says: &Offsets) -> Verdict {
    for key in before.keys().chain(says.keys()) {
        let (old, now) = (before.get(key), says.get(key));
        let is_brokers_own = key.0.ends_with(&format!("@{}", super::transaction::GROUP));
        if old != now && !(is_brokers_own && old < now) {
            let (name, queue) = key;
            let detail = format!(
                "{broker}: {name} queue {queue} was committed at {old:?} in its file, and after its start is at {now:?}"
            );
            return Err(Broken::new("I16", detail));
        }
    }
    Ok(())
}

/// A consumer was given a message, the first of its group since the broker has started, so that no other member can have
/// taken the group back.
///
/// # Errors
/// When the group had consumed it: it lies below what was committed.
pub fn goes_on(group: &str, place: &Place, committed: &Offsets) -> Verdict {
    let name = format!("{}@{group}", place.topic);
    match committed.get(&(name, place.queue)) {
        Some(offset) if place.queue_offset < *offset => Err(Broken::new(
            "I16",
            format!(
                "{group} is given {} queue {} offset {} of {} again, and had committed {offset}",
                place.topic, place.queue, place.queue_offset, place.broker
            ),
        )),
        _ => Ok(()),
    }
}

/// The offsets of a slave, as one life of its process must know them: what was written last, or committed since.
#[derive(Default, Debug)]
pub struct Followed {
    least: Offsets,
    /// As it was when the file that is on its way was put together.
    taken: Offsets,
    /// Committed since then.
    since: BTreeSet<(String, i32)>,
}

impl Followed {
    /// A consumer has committed this, which may lie before what was committed until now.
    pub fn committed(&mut self, queue: (String, i32), offset: i64) {
        self.since.insert(queue.clone());
        self.least.insert(queue, offset);
    }

    /// The file is put together.
    pub fn taken(&mut self) {
        self.taken.clone_from(&self.least);
        self.since.clear();
    }

    /// And is written.
    ///
    /// # Errors
    /// The first offset that went back, and no consumer has committed it (H-06).
    pub fn written(&mut self, slave: &str, now: &Offsets) -> Verdict {
        let known = now.iter().filter(|(queue, _)| !self.since.contains(queue));
        self.least.extend(known.map(|(queue, offset)| (queue.clone(), *offset)));
        never_back(slave, &self.taken, now)
    }
}

fn never_back(slave: &str, before: &Offsets, now: &Offsets) -> Verdict {
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

/// A slave that follows: groups are at least where its master has had them, as far as its queues go.
///
/// # Errors
/// The first group that is not.
pub fn copied(slave: &str, of_master: &Offsets, own: &Offsets, disk: &BrokerDisk) -> Verdict {
    for ((name, queue), offset) in of_master {
        let topic = name.split('@').next().unwrap_or_default().to_owned();
        let max = disk.queues.get(&(topic, *queue)).map_or(0, |queue| queue.max());
        let has = own.get(&(name.clone(), *queue)).copied();
        if has.unwrap_or(0) < (*offset).min(max) {
            let detail =
                format!("{slave}: {name} queue {queue} is committed at {has:?}, its master has had {offset}");
            return Err(Broken::new("I19", detail));
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
    let offsets = in_file(image, folder);
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
    fn an_offset_that_a_slave_does_not_copy_is_found() {
        let at = |offset| Offsets::from([(("topic-0@g".to_owned(), 0), offset)]);
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        assert_eq!(copied("slave-a", &at(2), &at(2), &disk), Ok(()));
        assert_eq!(copied("slave-a", &at(5), &at(2), &disk), Ok(()), "its queue ends there");
        assert!(copied("slave-a", &at(2), &at(1), &disk).is_err());
        assert!(copied("slave-a", &at(2), &Offsets::new(), &disk).is_err());
    }

    fn at(offset: i64) -> Offsets {
        Offsets::from([(("T@g".to_owned(), 0), offset)])
    }

    /// Of a slave that has written 5.
    fn followed() -> Followed {
        let mut followed = Followed::default();
        followed.taken();
        assert_eq!(followed.written("slave-a", &at(5)), Ok(()));
        followed
    }

    #[test]
    fn an_offset_of_a_slave_that_went_back_or_is_gone_is_rejected() {
        let judge = |now: &Offsets| {
            let mut followed = followed();
            followed.taken();
            followed.written("slave-a", now)
        };
        assert_eq!(judge(&at(5)), Ok(()));
        assert!(judge(&at(4)).is_err());
        assert!(judge(&Offsets::new()).is_err());
    }

    #[test]
    fn an_offset_of_a_slave_goes_back_where_a_consumer_has_and_no_further() {
        let judge = |committed: i64, now: i64| {
            let mut followed = followed();
            followed.committed(("T@g".to_owned(), 0), committed);
            followed.taken();
            followed.written("slave-a", &at(now))
        };
        assert_eq!(judge(3, 3), Ok(()));
        assert_eq!(judge(3, 5), Ok(()), "its master has more");
        assert!(judge(3, 2).is_err());
        assert!(judge(8, 5).is_err(), "its master's older one has won");
    }

    #[test]
    fn what_is_committed_while_the_file_is_written_is_in_the_next_one() {
        let mut followed = followed();
        followed.taken();
        followed.committed(("T@g".to_owned(), 0), 3);
        assert_eq!(followed.written("slave-a", &at(5)), Ok(()));
        followed.taken();
        assert_eq!(followed.written("slave-a", &at(3)), Ok(()));
        followed.taken();
        assert!(followed.written("slave-a", &at(2)).is_err());
    }

    #[test]
    fn an_offset_that_a_start_has_changed_is_rejected_unless_it_is_cut_to_its_queue() {
        let at = |name: &str, offset| Offsets::from([((name.to_owned(), 0), offset)]);
        let (user, own) = ("topic-0@group-0", "RMQ_SYS_TRANS_HALF_TOPIC@CID_RMQ_SYS_TRANS");
        assert_eq!(kept("broker-a", &at(user, 2), &at(user, 2)), Ok(()));
        assert!(kept("broker-a", &at(user, 2), &at(user, 0)).is_err());
        assert!(kept("broker-a", &at(user, 2), &at(user, 3)).is_err());
        assert!(kept("broker-a", &at(user, 2), &Offsets::new()).is_err());
        assert!(kept("broker-a", &Offsets::new(), &at(user, 2)).is_err());
        assert_eq!(kept("broker-a", &at(own, 2), &at(own, 3)), Ok(()));
        assert!(kept("broker-a", &at(own, 2), &at(own, 1)).is_err());
        let disk = disk(&[(1_000_000, 0), (1_000_001, 1)]);
        let after_cut = |offset, end| {
            let mut offsets = at(user, offset);
            cut(&mut offsets, &disk, end);
            offsets
        };
        assert_eq!(after_cut(5, u64::MAX), at(user, 2));
        assert_eq!(after_cut(5, disk.log.records[1].at), at(user, 1), "the second came after the start");
        assert_eq!(after_cut(1, u64::MAX), at(user, 1));
    }

    #[test]
    fn what_lies_below_a_committed_offset_may_not_come_again() {
        let committed = Offsets::from([(("topic-0@group-0".to_owned(), 1), 5)]);
        let place = |queue, queue_offset| Place {
            broker: "broker-a".into(),
            topic: "topic-0".into(),
            queue,
            queue_offset,
            physical_offset: None,
        };
        assert!(goes_on("group-0", &place(1, 4), &committed).is_err());
        assert_eq!(goes_on("group-0", &place(1, 5), &committed), Ok(()));
        assert_eq!(goes_on("group-0", &place(0, 0), &committed), Ok(()));
        assert_eq!(goes_on("group-1", &place(1, 0), &committed), Ok(()));
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

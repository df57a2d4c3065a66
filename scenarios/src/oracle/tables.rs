//! I18, of topics and groups: what clients have used is in the broker's files, on the disk's surface.
//!
//! A topic that takes a message, and a group that is given one, must be there after a loss of power: without its topic a message
//! is in no route, and without its group a consumer is served by other settings. A slave that becomes the master has to know the
//! topics of its log too.
//!
//! # Source
//! `spec/ha.md`, section 5; `spec/store.md`, section 7; `spec/known-bugs.md`, S-44.

use std::collections::BTreeSet;

use super::{Broken, Verdict};
use crate::platter::config::{self, Version};
use crate::platter::{BrokerDisk, Image};

/// A table of a broker: its file and the member that holds the entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    Topics,
    Groups,
}

impl Table {
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Table::Topics => "topics.json",
            Table::Groups => "subscriptionGroup.json",
        }
    }

    fn member(self) -> &'static str {
        match self {
            Table::Topics => "topicConfigTable",
            Table::Groups => "subscriptionGroupTable",
        }
    }
}

/// A client has just used the entry `name`; `durable` holds the file, and its backup, as the disk's surface has them.
///
/// # Errors
/// When a loss of power would take the entry.
pub fn used(broker: &str, table: Table, name: &str, durable: &Image, folder: &str) -> Verdict {
    let path = format!("{folder}/{}", table.file());
    let holds = match config::load(durable, &path) {
        Version::Whole(value) => value.get(table.member()).is_some_and(|entries| entries.get(name).is_some()),
        Version::Absent | Version::Broken => false,
    };
    if holds {
        return Ok(());
    }
    Err(Broken::new(
        "I18",
        format!("{broker}: a client has used {name}, and its disk has no such entry in {path}"),
    ))
}

/// A slave has become the master: the topics of its log are in its table, where those who look for their messages look first.
///
/// # Errors
/// The first that is not.
pub fn inherited(broker: &str, disk: &BrokerDisk, durable: &Image, folder: &str) -> Verdict {
    let mut readable = disk.log.records.iter().filter(|record| record.has_queue_entry());
    readable.try_for_each(|record| match used(broker, Table::Topics, &record.topic, durable, folder) {
        Ok(()) => Ok(()),
        Err(broken) => {
            let detail = format!("{} ({broker} has a message of it at {})", broken.detail, record.at);
            Err(Broken { detail, ..broken })
        }
    })
}

/// A slave that follows: its entries are those of its master.
///
/// # Errors
/// When they differ, and where.
pub fn copied(slave: &str, table: Table, of_master: &Version, own: &Version) -> Verdict {
    let entries = |version: &Version| match version {
        Version::Whole(value) => value.get(table.member()).and_then(|entries| entries.as_object().cloned()),
        Version::Absent | Version::Broken => None,
    };
    let (masters, own) = (entries(of_master).unwrap_or_default(), entries(own).unwrap_or_default());
    let names = masters.keys().chain(own.keys());
    match names.into_iter().find(|name| masters.get(*name) != own.get(*name)) {
        None => Ok(()),
        Some(name) => {
            let detail = format!(
                "{slave}: its {} has {:?} for {name}, its master's {:?}",
                table.file(),
                own.get(name).map(ToString::to_string),
                masters.get(name).map(ToString::to_string)
            );
            Err(Broken::new("I19", detail))
        }
    }
}

/// A slave's table has just been written. It had the entries `before`, has `now`, and its master has `masters`.
///
/// # Errors
/// I18: the first that is gone though its master has it: a slave that dies now, or becomes the master, lacks it (H-12).
pub fn kept(
    slave: &str,
    table: Table,
    before: &BTreeSet<String>,
    now: &BTreeSet<String>,
    masters: &BTreeSet<String>,
) -> Verdict {
    match before.difference(now).find(|name| masters.contains(*name)) {
        None => Ok(()),
        Some(name) => Err(Broken::new(
            "I18",
            format!("{slave}: {name} is gone from its {}, and its master has it", table.file()),
        )),
    }
}

/// The names of the entries of a table's file.
#[must_use]
pub fn names(table: Table, file: &Version) -> BTreeSet<String> {
    let Version::Whole(value) = file else { return BTreeSet::new() };
    let entries = value.get(table.member()).and_then(|entries| entries.as_object());
    entries.into_iter().flat_map(|entries| entries.keys().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::queue_matches_log::tests::disk;

    #[test]
    fn a_table_that_is_not_its_masters_is_found() {
        let of = |text: &str| config::parse(text.as_bytes()).map_or(Version::Broken, Version::Whole);
        let judged = |own: &Version| {
            let masters = of(r#"{"topicConfigTable":{"a":{"perm":6},"b":{"perm":4}}}"#);
            copied("slave-a", Table::Topics, &masters, own).is_ok()
        };
        assert!(judged(&of(r#"{"topicConfigTable":{"b":{"perm":4},"a":{"perm":6}},"dataVersion":{}}"#)));
        assert!(!judged(&of(r#"{"topicConfigTable":{"a":{"perm":6}}}"#)));
        assert!(!judged(&of(r#"{"topicConfigTable":{"a":{"perm":6},"b":{"perm":6}}}"#)));
        assert!(!judged(&Version::Absent));
    }

    #[test]
    fn a_new_master_that_does_not_know_a_topic_of_its_log_is_rejected() {
        let disk = disk(&[(1_000_000, 0)]);
        let topic = &disk.log.records[0].topic;
        let table = |topic: &str| Image {
            files: [(
                "store/config/topics.json".to_owned(),
                format!(r#"{{"topicConfigTable":{{"{topic}":{{}}}}}}"#).into_bytes(),
            )]
            .into(),
        };
        assert_eq!(inherited("broker-a", &disk, &table(topic), "store/config"), Ok(()));
        assert!(inherited("broker-a", &disk, &table("another"), "store/config").is_err());
    }

    #[test]
    fn a_table_of_a_slave_that_loses_what_its_master_has_is_rejected() {
        let of = |text: &str| config::parse(text.as_bytes()).map_or(Version::Broken, Version::Whole);
        let table = |text: &str| names(Table::Topics, &of(text));
        let (none, both) = (
            table(r#"{"topicConfigTable":{}}"#),
            table(r#"{"topicConfigTable":{"a":{},"b":{}},"dataVersion":{}}"#),
        );
        let one = table(r#"{"topicConfigTable":{"b":{}}}"#);
        let is_kept = |before, now, masters| kept("slave-a", Table::Topics, before, now, masters).is_ok();
        assert!(is_kept(&one, &both, &both) && is_kept(&both, &one, &one));
        assert!(!is_kept(&both, &none, &both) && !is_kept(&both, &one, &both));
    }

    #[test]
    fn an_entry_that_is_used_and_not_durable_is_rejected() {
        let image = |file: &str, text: &str| Image {
            files: [(format!("store/config/{file}"), text.as_bytes().to_vec())].into(),
        };
        let holds = |table, image: &Image| used("broker-a", table, "x", image, "store/config").is_ok();
        let topics = r#"{"topicConfigTable":{"x":{"topicName":"x"}}}"#;
        assert!(holds(Table::Topics, &image("topics.json", topics)));
        assert!(holds(Table::Topics, &image("topics.json.bak", topics)));
        assert!(!holds(Table::Topics, &image("topics.json", r#"{"topicConfigTable":{"y":{}}}"#)));
        assert!(!holds(Table::Topics, &Image::default()));
        assert!(!holds(Table::Groups, &image("topics.json", topics)));
        let groups = r#"{"subscriptionGroupTable":{"x":{}}}"#;
        assert!(holds(Table::Groups, &image("subscriptionGroup.json", groups)));
    }
}

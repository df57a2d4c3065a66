//! Topics whose queues were dropped: what the log holds of them is in no queue any more.
//!
//! The log keeps the records of a topic that an operator has deleted until their files go, and recovery would file them again.
//! So the store remembers, in `config/droppedTopics.json`, up to where the log says nothing of a topic, and which queue offsets
//! come next: a topic of the same name goes on with these, so that no offset is given twice, here or on a slave, which has the
//! same log and may still have the queues.
//!
//!   {"droppedTopics":{TOPIC:{"before":physical offset,"next":{QUEUE:queue offset}}}}
//!
//! Invariant: the file says so before the first queue file goes.
//! Invariant: no `before` is behind the end of the log when the store takes puts: after a power loss has shortened the log,
//! other records will stand there.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::config_file::ConfigFile;
use super::error::RecoverError;
use crate::runtime::Runtime;
use crate::runtime::storage::File;

/// A file beyond this is not one of ours.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// Records below it are in no queue.
    pub before: u64,
    /// By queue: the offset of its next record, where the queue has no entry.
    pub next: BTreeMap<i32, i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DroppedTopics {
    #[serde(rename = "droppedTopics")]
    topics: BTreeMap<String, Dropped>,
}

impl DroppedTopics {
    /// Reads the file or its backup, changing nothing; without either nothing was dropped.
    ///
    /// # Errors
    /// Of reading; `InvalidData` when neither is one: records of deleted topics would come back.
    pub async fn load<R: Runtime>(rt: &R, path: &str) -> Result<DroppedTopics, RecoverError> {
        let mut bad = false;
        for path in [path.to_owned(), format!("{path}.bak")] {
            let bytes = match read(rt, &path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(RecoverError::io("read", &path))?,
            };
            match serde_json::from_slice(&bytes) {
                Ok(dropped) => return Ok(dropped),
                // A save that was cut off before its first byte.
                Err(_) if bytes.is_empty() => {}
                Err(_) => bad = true,
            }
        }
        if bad {
            let why = io::Error::new(io::ErrorKind::InvalidData, "neither it nor its backup can be decoded");
            return Err(RecoverError::io("read", path)(why));
        }
        Ok(DroppedTopics::default())
    }

    /// Writes the file, durably.
    ///
    /// # Errors
    /// Of writing: the version before, or this one, is what `load` gives.
    pub async fn save<R: Runtime>(&self, rt: &R, path: &str) -> io::Result<()> {
        if let Some((dir, _)) = path.rsplit_once('/')
            && rt.stat(dir).await.is_err()
        {
            rt.create_dir_all(dir).await?;
            rt.sync_dir(super::recovery::parent(dir)).await?;
        }
        let bytes = serde_json::to_vec(self).expect("maps of numbers are always JSON");
        ConfigFile::save(rt, path, &bytes).await
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Dropped)> {
        self.topics.iter()
    }

    /// Below it the log says nothing of the topic; 0 when the topic was never dropped.
    pub fn before(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |dropped| dropped.before)
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Where the queue goes on, if it was dropped.
    pub fn next(&self, topic: &str, queue_id: i32) -> Option<i64> {
        self.topics.get(topic)?.next.get(&queue_id).copied()
    }

    /// Remembers one more; what an earlier drop says of its queues stays where the new one says nothing.
    pub fn add(&mut self, topic: &str, dropped: Dropped) {
        let known = self.topics.entry(topic.to_owned()).or_default();
        assert!(
            known.before <= dropped.before,
            "{topic} was dropped up to {}, now {}",
            known.before,
            dropped.before
        );
        known.before = dropped.before;
        known.next.extend(dropped.next);
    }

    /// The log ends at `end`.
    pub fn cut(&mut self, end: u64) {
        for dropped in self.topics.values_mut() {
            dropped.before = dropped.before.min(end);
        }
    }
}

async fn read<R: Runtime>(rt: &R, path: &str) -> io::Result<Vec<u8>> {
    let file = rt.open_file(path, true).await?;
    let len = Some(file.len()?).filter(|len| *len <= BYTES_MAX).and_then(|len| usize::try_from(len).ok());
    let mut bytes = vec![0; len.ok_or(io::ErrorKind::FileTooLarge)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_drop_keeps_what_the_first_says_of_other_queues() {
        let mut dropped = DroppedTopics::default();
        dropped.add("T", Dropped { before: 100, next: BTreeMap::from([(0, 5), (1, 7)]) });
        dropped.add("T", Dropped { before: 200, next: BTreeMap::from([(0, 9)]) });
        assert_eq!(
            (dropped.before("T"), dropped.next("T", 0), dropped.next("T", 1)),
            (200, Some(9), Some(7))
        );
        dropped.cut(150);
        assert_eq!((dropped.before("T"), dropped.before("U")), (150, 0));
        let text = serde_json::to_string(&dropped).expect("JSON");
        assert_eq!(text, r#"{"droppedTopics":{"T":{"before":150,"next":{"0":9,"1":7}}}}"#);
        assert_eq!(serde_json::from_str::<DroppedTopics>(&text).expect("the same"), dropped);
    }
}

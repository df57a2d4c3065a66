//! Topics of 5.x whose queues are of another form (`queue.type=BatchCQ`): a folder of `batchconsumequeue` has them, an entry
//! stands for a batch, and queue offsets count its members. They are not served: what was put into them by queue entries of
//! ours could not be read by anybody, and Java's broker does not start where a topic has queues of both forms.
//!
//! Invariant: a topic that is known to be one stays one until the next start, and nothing is filed in queues of ours for it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use serde_json::Value;

use super::error::RecoverError;
use super::recover_log::list;
use super::recovery::{Paths, topic_table};
use crate::message::codec::Record;
use crate::message::sys_flag;
use crate::runtime::Runtime;

/// The attribute by which a topic says it, and its value.
pub(crate) const ATTRIBUTE: (&str, &str) = ("queue.type", "BatchCQ");

#[derive(Default)]
pub(crate) struct BatchTopics {
    /// Whether there is any, for who would have to look at each message.
    any: AtomicBool,
    names: RwLock<BTreeSet<String>>,
}

impl BatchTopics {
    /// Those that have queues of that form, and those that the table of topics says to be so.
    ///
    /// # Errors
    /// Of looking at the folder.
    pub async fn load<R: Runtime>(rt: &R, paths: &Paths) -> Result<BatchTopics, RecoverError> {
        let folders = list(rt, &paths.batch_consume_queue).await?;
        let topics = BatchTopics::default();
        folders.iter().filter(|entry| entry.is_dir).for_each(|entry| topics.add(&entry.name));
        for (name, topic) in topic_table(rt, paths).await.unwrap_or_default() {
            let said = topic.get("attributes").and_then(|attributes| attributes.get(ATTRIBUTE.0));
            if said.and_then(Value::as_str) == Some(ATTRIBUTE.1) {
                topics.add(&name);
            }
        }
        Ok(topics)
    }

    pub fn add(&self, topic: &str) {
        if self.contains(topic) {
            return;
        }
        self.names.write().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned());
        self.any.store(true, Ordering::Release);
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.any.load(Ordering::Acquire)
            && self.names.read().unwrap_or_else(PoisonError::into_inner).contains(topic)
    }

    /// Whether `record` is of one; a batch in one record says it by itself, where a slave's table is older than the record.
    pub fn has(&self, record: &Record<'_>) -> bool {
        if record.sys_flag & sys_flag::INNER_BATCH != 0 {
            self.add(record.topic);
        }
        self.contains(record.topic)
    }

    /// What is told of them, if there are any.
    pub fn note(&self) -> Option<String> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let list = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| {
            format!(
                "topics with queues of batches ({}={}), which are kept and not served: {list}",
                ATTRIBUTE.0, ATTRIBUTE.1
            )
        })
    }
}

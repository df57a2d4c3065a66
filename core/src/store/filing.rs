//! What of a record decides under what it is filed: its tag and delay level in the queue, its keys in the index.
//!
//! Read in one walk of the property string, since dispatch does it for every message.

use crate::message::properties::{self, DELAY, KEYS, TAGS, UNIQ_KEY};
use crate::message::{codec::Record, sys_flag};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Filing<'a> {
    pub tags: Option<&'a str>,
    pub delay: Option<&'a str>,
    unique_key: Option<&'a str>,
    keys: Option<&'a str>,
}

impl<'a> Filing<'a> {
    pub fn of(record: &'a Record<'_>) -> Filing<'a> {
        let mut filing = Filing::default();
        for (name, value) in properties::iter(&record.properties) {
            match name {
                UNIQ_KEY => filing.unique_key = Some(value),
                KEYS => filing.keys = Some(value),
                TAGS => filing.tags = Some(value),
                DELAY => filing.delay = Some(value),
                _ => {}
            }
        }
        if sys_flag::transaction_type(record.sys_flag) == sys_flag::TRANSACTION_ROLLBACK {
            (filing.unique_key, filing.keys) = (None, None);
        }
        filing
    }

    /// The words under which the record is in the index, with repetitions. Prepared messages have keys as well, rolled back
    /// ones have none.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `IndexService#buildIndex`.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        let words = self.keys.into_iter().flat_map(|keys| keys.split(' ')).filter(|word| !word.is_empty());
        self.unique_key.into_iter().chain(words)
    }
}

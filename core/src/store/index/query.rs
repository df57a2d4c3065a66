//! Look-ups: along the chain of a hash, newest first, each hit held against the record itself.
//!
//! Java answers with whatever has the hash and leaves the rest to clients; here a record that lacks the key, or was stored
//! at another time, is left out, as are entries that point nowhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::format::{Geometry, Header, IndexEntry, key_hash};
use super::{Index, IndexFile};
use crate::message::codec::{self, Check, Record};
use crate::message::properties;
use crate::runtime::{File, Runtime};
use crate::store::filing::Filing;

/// How long a look-up waits for the index to come to where the queues are.
const PATIENCE: Duration = Duration::from_millis(100);
/// So many entries are looked at between two turns of others.
const TURN_ENTRIES: u32 = 256;

/// What kind of key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A word of `KEYS`, or the unique key.
    Key,
    /// `UNIQ_KEY` alone.
    UniqueKey,
}

/// What a look-up found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Whole records, the newest first.
    pub records: Vec<Bytes>,
    /// Store time of the last record in the index, ms.
    pub last_update_ms: i64,
    /// Its position in the log.
    pub last_update: u64,
}

/// What is asked for.
pub(crate) struct Wanted<'a> {
    pub by: By,
    pub topic: &'a str,
    pub key: &'a str,
    /// Store times, in ms, both included.
    pub times: (i64, i64),
    pub count_max: usize,
    /// Of all records together; the newest is given whatever its size.
    pub bytes_max: usize,
}

/// A file at one moment.
struct Looked<R: Runtime> {
    file: Arc<IndexFile<R>>,
    header: Header,
    /// Number of the newest entry of the slot; `None`: it is in the file.
    newest: Option<u32>,
}

impl<R: Runtime> Index<R> {
    /// The newest records that are `wanted`. `record_at` gives the record at a position of the log, if there is one.
    ///
    /// # Errors
    /// Of reading: what was found is not all, and may be nothing.
    pub async fn query(
        &self,
        wanted: &Wanted<'_>,
        record_at: impl Fn(u64) -> Option<Bytes>,
    ) -> io::Result<Found> {
        if self.enabled {
            // What is in its queue may be asked for. An index that is far behind is not waited for.
            let _ = self.rt.timeout(PATIENCE, self.indexed.reached(self.dispatched.get())).await;
        }
        let hash = key_hash(wanted.topic, wanted.key);
        let files = self.looked(hash);
        let last = files.first().map(|looked| looked.header);
        let mut found = Found {
            last_update_ms: last.map_or(0, |header| header.end_ms),
            last_update: last.map_or(0, |header| header.end),
            ..Found::default()
        };
        let (begin_ms, end_ms) = wanted.times;
        let (mut seen, mut bytes) = (Vec::new(), 0);
        for looked in files.iter().filter(|looked| looked.header.meets(begin_ms, end_ms)) {
            if found.records.len() >= wanted.count_max {
                break;
            }
            let mut chain = Chain::of(looked, self.geometry, hash)?;
            let mut looks: u32 = 0;
            while found.records.len() < wanted.count_max {
                looks = looks.wrapping_add(1);
                if looks.is_multiple_of(TURN_ENTRIES) {
                    self.rt.yield_now().await;
                }
                let Some((number, entry)) = chain.next(&looked.file)? else { break };
                if entry.hash != hash
                    || seen.contains(&entry.position)
                    || !entry.may_be_within(number, &looked.header, begin_ms, end_ms)
                {
                    continue;
                }
                let Some(record) = record_at(entry.position).filter(|record| wanted.is(record)) else {
                    continue;
                };
                if bytes + record.len() > wanted.bytes_max && !found.records.is_empty() {
                    return Ok(found);
                }
                bytes += record.len();
                seen.push(entry.position);
                found.records.push(record);
            }
        }
        Ok(found)
    }

    /// The files, newest first, with what is in memory of the slot of `hash`.
    fn looked(&self, hash: u32) -> Vec<Looked<R>> {
        let files = self.files();
        let last = files.last.iter().map(|last| {
            let newest = Some(last.table.newest(hash));
            Looked { file: last.file.clone(), header: *last.table.header(), newest }
        });
        let sealed = files.sealed.iter().rev();
        let sealed =
            sealed.map(|sealed| Looked { file: sealed.file.clone(), header: sealed.header, newest: None });
        last.chain(sealed).collect()
    }

    /// Whether the record at `position`, the last one that is filed, is filed under `hash`.
    pub(super) fn has(&self, hash: u32, position: u64) -> io::Result<bool> {
        for looked in self.looked(hash) {
            let mut chain = Chain::of(&looked, self.geometry, hash)?;
            while let Some((_, entry)) = chain.next(&looked.file)?
                && entry.position >= position
            {
                if entry.hash == hash && entry.position == position {
                    return Ok(true);
                }
            }
            if looked.header.begin < position {
                break;
            }
        }
        Ok(false)
    }
}

/// The entries of a slot, newest first.
struct Chain {
    geometry: Geometry,
    next: u32,
}

impl Chain {
    fn of<R: Runtime>(looked: &Looked<R>, geometry: Geometry, hash: u32) -> io::Result<Chain> {
        let newest = match looked.newest {
            Some(newest) => newest,
            None => {
                let mut slot = [0; 4];
                looked.file.file.read_at(geometry.slot_at(geometry.slot_of(hash)), &mut slot)?;
                u32::try_from(i32::from_be_bytes(slot)).unwrap_or(0)
            }
        };
        Ok(Chain { geometry, next: if newest < looked.header.next { newest } else { 0 } })
    }

    /// The next entry with its number. An entry that is none, or leads to one that is not older, ends the chain.
    fn next<R: Runtime>(&mut self, file: &IndexFile<R>) -> io::Result<Option<(u32, IndexEntry)>> {
        let number = self.next;
        if number == 0 {
            return Ok(None);
        }
        let Some(entry) = IndexEntry::decode(&file.read_entry(self.geometry, number)?) else {
            return Ok(None);
        };
        self.next = if entry.previous < number { entry.previous } else { 0 };
        Ok(Some((number, entry)))
    }
}

impl Wanted<'_> {
    fn is(&self, bytes: &Bytes) -> bool {
        codec::decode(bytes, Check::Lengths).is_ok_and(|record| self.is_record(&record))
    }

    fn is_record(&self, record: &Record<'_>) -> bool {
        let (begin_ms, end_ms) = self.times;
        let has_key = match self.by {
            By::Key => Filing::of(record).keys().any(|key| key == self.key),
            By::UniqueKey => properties::find(&record.properties, properties::UNIQ_KEY) == Some(self.key),
        };
        has_key && record.topic == self.topic && (begin_ms..=end_ms).contains(&record.store_timestamp)
    }
}

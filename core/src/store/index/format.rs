//! One index file: which records have a key, by the key's hash. Big-endian.
//!   0..8     store time of the first record, ms
//!   8..16    store time of the last record, ms
//!   16..24   position of the first record in the log
//!   24..32   position of the last record in the log
//!   32..36   slots in use
//!   36..40   number of the next entry; entries count from 1
//!   then the slots, 4 bytes each: the number of the newest entry of that slot, 0 for none
//!   then the entries, 20 bytes each, the first of which is never used:
//!     0..4     hash of `topic#key`
//!     4..12    position of the record in the log
//!     12..16   seconds between the file's first record and this one
//!     16..20   number of the next older entry of the same slot, 0 for none
//!
//! A hash is Java's `String.hashCode`, without its sign; its slot is its rest by the number of slots.
//!
//! Guarantees: what [`Table`] writes is what Java's `IndexFile` would, byte for byte; an end time alone never goes back.
//! Invariant: an entry points at older ones only, so that a walk along a chain ends, whatever the bytes are.
//! Invariant: positions do not fall from entry to entry.

use crate::message::hash::{java_string_hash, java_string_hash_on};

pub(crate) const HEADER_BYTES: usize = 40;
pub(crate) const SLOT_BYTES: usize = 4;
pub(crate) const ENTRY_BYTES: usize = 20;
/// Slots are written in pieces of this many, which are 4 KiB.
pub(crate) const PAGE_SLOTS: usize = 1024;
/// Slots and entries are counted by Java in signed 32 bits.
pub(crate) const COUNT_MAX: u32 = i32::MAX as u32;

/// How many slots and entries a file has. Java's keys: `maxHashSlotNum`, `maxIndexNum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub slots: u32,
    /// With the one that is never used.
    pub entries: u32,
}

impl Geometry {
    pub(crate) fn file_bytes(self) -> u64 {
        self.entry_at(self.entries)
    }

    pub(crate) fn slot_at(self, slot: u32) -> u64 {
        HEADER_BYTES as u64 + u64::from(slot) * SLOT_BYTES as u64
    }

    pub(crate) fn entry_at(self, number: u32) -> u64 {
        self.slot_at(self.slots) + u64::from(number) * ENTRY_BYTES as u64
    }

    pub(crate) fn slot_of(self, hash: u32) -> u32 {
        hash % self.slots.max(1)
    }
}

/// The hash by which `key` of `topic` is filed.
#[must_use]
pub fn key_hash(topic: &str, key: &str) -> u32 {
    let hash = ["#", key].into_iter().fold(java_string_hash(topic), java_string_hash_on);
    // Java's `abs` leaves the smallest integer as it is; its index then takes 0.
    hash.checked_abs().unwrap_or(0).unsigned_abs()
}

/// The first 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub begin_ms: i64,
    pub end_ms: i64,
    pub begin: u64,
    pub end: u64,
    pub used_slots: u32,
    /// Number of the next entry, at least 1.
    pub next: u32,
}

impl Header {
    /// Of a file without entries that follows one which ends so.
    pub fn following(end: u64, end_ms: i64) -> Header {
        Header { begin_ms: end_ms, end_ms, begin: end, end, used_slots: 0, next: 1 }
    }

    /// As Java reads it: a next entry of 0 or less is 1.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Header {
        let (longs, ints) = (bytes.as_chunks::<8>().0, bytes.as_chunks::<4>().0);
        let long = |n: usize| i64::from_be_bytes(longs[n]);
        let position = |n: usize| u64::try_from(long(n)).unwrap_or(0);
        let count = |n: usize| u32::try_from(i32::from_be_bytes(ints[n])).unwrap_or(0);
        Header {
            begin_ms: long(0),
            end_ms: long(1),
            begin: position(2),
            end: position(3),
            used_slots: count(8),
            next: count(9).max(1),
        }
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields = [self.begin_ms as u64, self.end_ms as u64, self.begin, self.end];
        for (into, field) in bytes.chunks_exact_mut(8).zip(fields) {
            into.copy_from_slice(&field.to_be_bytes());
        }
        bytes[32..36].copy_from_slice(&self.used_slots.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.next.to_be_bytes());
        bytes
    }

    /// Whether records of these times may be in the file.
    pub fn meets(&self, begin_ms: i64, end_ms: i64) -> bool {
        self.begin_ms <= end_ms && begin_ms <= self.end_ms
    }
}

/// One key of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub hash: u32,
    pub position: u64,
    pub seconds: i32,
    /// 0 for none.
    pub previous: u32,
}

impl IndexEntry {
    /// `None` when it is none that was ever written.
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<IndexEntry> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = *bytes;
        let positive = |value: i32| u32::try_from(value).ok();
        Some(IndexEntry {
            hash: positive(i32::from_be_bytes([a, b, c, d]))?,
            position: u64::try_from(i64::from_be_bytes([e, f, g, h, i, j, k, l])).ok()?,
            seconds: i32::from_be_bytes([m, n, o, p]),
            previous: positive(i32::from_be_bytes([q, r, s, t])).unwrap_or(0),
        })
    }

    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.position.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }

    /// Whether the record may be of these times. The entry knows whole seconds, and too many of them when it is the first
    /// of its file, whose time Java counts from the end of the file before it, or when the clock went back.
    pub fn may_be_within(&self, number: u32, header: &Header, begin_ms: i64, end_ms: i64) -> bool {
        let at_least = header.begin_ms.saturating_add(i64::from(self.seconds).saturating_mul(1_000));
        let late = at_least > end_ms && number > 1 && self.seconds > 0;
        let early = at_least.saturating_add(999) < begin_ms && self.seconds < i32::MAX;
        !late && !early
    }
}

/// A key of a record on its way into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub hash: u32,
    pub position: u64,
    pub store_ms: i64,
}

/// The file that entries are added to: its header and slots in memory, entries go to the file at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    geometry: Geometry,
    header: Header,
    slots: Vec<u32>,
    /// For each piece of slots whether it differs from the file.
    dirty: Vec<bool>,
    header_dirty: bool,
}

/// Why entries in a file are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryDamage {
    #[error("entry {number} is none")]
    Nothing { number: u32 },
    #[error("entry {number} is at {found} in the log, the one before it at {before}")]
    Order { number: u32, found: u64, before: u64 },
    #[error("entry {number} follows entry {found} of its slot instead of {expected}")]
    Chain { number: u32, found: u32, expected: u32 },
}

impl Table {
    /// Without entries, behind a file that ends so.
    pub fn new(geometry: Geometry, header: Header) -> Table {
        let slots = vec![0; geometry.slots as usize];
        Table {
            geometry,
            header: Header { used_slots: 0, next: 1, ..header },
            dirty: vec![false; slots.len().div_ceil(PAGE_SLOTS)],
            slots,
            header_dirty: true,
        }
    }

    /// As it is in a file, by its header and the bytes of its slots.
    pub fn in_file(geometry: Geometry, header: Header, bytes: &[u8]) -> Table {
        let slots: Vec<u32> =
            bytes.as_chunks::<SLOT_BYTES>().0.iter().map(|slot| u32::from_be_bytes(*slot)).collect();
        let dirty = vec![false; slots.len().div_ceil(PAGE_SLOTS)];
        Table { geometry, header, slots, dirty, header_dirty: false }
    }

    /// Whether the slots can be those of the header: as many are used, and none leads behind the last entry.
    pub fn slots_fit(&self) -> bool {
        let used = self.slots.iter().filter(|newest| **newest > 0).count();
        used == self.header.used_slots as usize && self.slots.iter().all(|newest| *newest < self.header.next)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn is_full(&self) -> bool {
        self.header.next >= self.geometry.entries
    }

    /// Number of the newest entry of the hash's slot; 0 for none.
    pub fn newest(&self, hash: u32) -> u32 {
        self.slots.get(self.geometry.slot_of(hash) as usize).copied().unwrap_or(0)
    }

    fn set_newest(&mut self, hash: u32, number: u32) {
        let slot = self.geometry.slot_of(hash) as usize;
        if let Some((newest, dirty)) = self.slots.get_mut(slot).zip(self.dirty.get_mut(slot / PAGE_SLOTS)) {
            (*newest, *dirty) = (number, true);
        }
    }

    /// Adds keys until the file is full; gives the bytes of their entries, which begin at [`Geometry::entry_at`] of the
    /// header's `next` before, and how many keys they are.
    pub fn add(&mut self, keys: &[Key]) -> (Vec<u8>, usize) {
        let room = self.geometry.entries.saturating_sub(self.header.next) as usize;
        let taken = room.min(keys.len());
        let mut bytes = Vec::with_capacity(taken * ENTRY_BYTES);
        for key in keys.iter().take(taken) {
            let header = &mut self.header;
            let since = key.store_ms.saturating_sub(header.begin_ms) / 1_000;
            let since = if header.begin_ms <= 0 { 0 } else { since.clamp(0, i64::from(i32::MAX)) };
            let (number, previous) = (header.next, self.slots.get(self.geometry.slot_of(key.hash) as usize));
            let previous = previous.copied().unwrap_or(0);
            if number == 1 {
                (header.begin, header.begin_ms, header.end_ms) = (key.position, key.store_ms, key.store_ms);
            }
            header.used_slots += u32::from(previous == 0);
            header.next += 1;
            header.end = key.position;
            header.end_ms = header.end_ms.max(key.store_ms);
            let entry =
                IndexEntry { hash: key.hash, position: key.position, seconds: since as i32, previous };
            bytes.extend_from_slice(&entry.encode());
            self.set_newest(key.hash, number);
        }
        self.header_dirty |= taken > 0;
        (bytes, taken)
    }

    /// Takes back the newest entries, down to number `next`, whose bytes could not be written.
    pub fn take_back(&mut self, header: Header, bytes: &[u8]) {
        for entry in bytes.as_chunks::<ENTRY_BYTES>().0.iter().rev().filter_map(IndexEntry::decode) {
            self.set_newest(entry.hash, entry.previous);
        }
        self.header = header;
    }

    /// Takes an entry that is in the file, the next one.
    ///
    /// # Errors
    /// [`EntryDamage`]; nothing is taken.
    pub fn take(&mut self, bytes: &[u8; ENTRY_BYTES]) -> Result<IndexEntry, EntryDamage> {
        let number = self.header.next;
        let entry = IndexEntry::decode(bytes).ok_or(EntryDamage::Nothing { number })?;
        let before = self.header.end;
        if entry.position < before && number > 1 {
            return Err(EntryDamage::Order { number, found: entry.position, before });
        }
        let expected = self.newest(entry.hash);
        if entry.previous != expected {
            return Err(EntryDamage::Chain { number, found: entry.previous, expected });
        }
        self.set_newest(entry.hash, number);
        self.header.used_slots += u32::from(expected == 0);
        self.header.next += 1;
        self.header.end = entry.position;
        Ok(entry)
    }

    /// Pieces of the file that differ from what is in memory: where each is, and its bytes. The header comes last, so that
    /// it never counts entries whose slots are not there.
    pub fn take_dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut pieces = Vec::new();
        for (page, (slots, dirty)) in self.slots.chunks(PAGE_SLOTS).zip(&mut self.dirty).enumerate() {
            if std::mem::take(dirty) {
                let bytes = slots.iter().flat_map(|newest| newest.to_be_bytes()).collect();
                pieces.push((self.geometry.slot_at((page * PAGE_SLOTS) as u32), bytes));
            }
        }
        if std::mem::take(&mut self.header_dirty) {
            pieces.push((0, self.header.encode().to_vec()));
        }
        pieces
    }

    /// The next [`Self::take_dirty`] gives all of it again.
    pub fn mark_all_dirty(&mut self) {
        self.dirty.fill(true);
        self.header_dirty = true;
    }

    /// Compares with the slots and header that are in the file: only what differs is written.
    pub fn compare_slots(&mut self, page: u32, bytes: &[u8]) {
        let page = page as usize;
        let own = self.slots.get(page * PAGE_SLOTS..).unwrap_or(&[]).iter().take(PAGE_SLOTS);
        let on_disk = bytes.as_chunks::<SLOT_BYTES>().0.iter().map(|bytes| u32::from_be_bytes(*bytes));
        if let Some(dirty) = self.dirty.get_mut(page) {
            *dirty = !own.copied().eq(on_disk);
        }
    }

    /// As [`Self::compare_slots`].
    pub fn compare_header(&mut self, bytes: &[u8; HEADER_BYTES]) {
        self.header_dirty = self.header.encode() != *bytes;
    }

    /// States what the entries do not say exactly: times, and where the first record is.
    pub fn set_header(&mut self, header: Header) {
        self.header = header;
        self.header_dirty = true;
    }

    /// Pieces that slots are compared and written in.
    pub fn pages(&self) -> u32 {
        self.geometry.slots.div_ceil(PAGE_SLOTS as u32)
    }

    pub fn is_dirty(&self) -> bool {
        self.header_dirty || self.dirty.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const SMALL: Geometry = Geometry { slots: 5, entries: 12 };

    fn golden(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    fn int(value: &Value) -> i64 {
        value.as_i64().expect("a number")
    }

    /// A file in memory.
    struct Image {
        table: Table,
        bytes: Vec<u8>,
    }

    impl Image {
        fn new(geometry: Geometry, header: Header) -> Image {
            let bytes = vec![0; geometry.file_bytes() as usize];
            Image { table: Table::new(geometry, header), bytes }
        }

        fn write(&mut self, at: u64, bytes: &[u8]) {
            self.bytes[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }

        fn add(&mut self, key: Key) -> bool {
            let at = self.table.geometry.entry_at(self.table.header().next);
            let (bytes, taken) = self.table.add(&[key]);
            self.write(at, &bytes);
            taken == 1
        }

        fn write_back(&mut self) {
            for (at, bytes) in self.table.take_dirty() {
                self.write(at, &bytes);
            }
        }

        fn entry(&self, number: u32) -> Option<IndexEntry> {
            let at = self.table.geometry.entry_at(number) as usize;
            IndexEntry::decode(self.bytes[at..].first_chunk().expect("an entry"))
        }

        /// Numbers and entries of a hash by the bytes alone, newest first.
        fn chain(&self, hash: u32) -> Vec<(u32, IndexEntry)> {
            let geometry = self.table.geometry;
            let at = geometry.slot_at(geometry.slot_of(hash)) as usize;
            let mut next = u32::from_be_bytes(*self.bytes[at..].first_chunk().expect("a slot"));
            let mut found = Vec::new();
            while next > 0 {
                let entry = self.entry(next).expect("an entry");
                if entry.hash == hash {
                    found.push((next, entry));
                }
                next = entry.previous;
            }
            found
        }
    }

    #[test]
    fn hashes_and_slots_are_those_of_java() {
        let known = golden(include_str!("../../../../tests/golden/known-answers/index-hash.json"));
        for case in known.as_array().expect("a list") {
            let text = |field: &str| case[field].as_str().expect("text");
            let hash = key_hash(text("topic"), text("key"));
            assert_eq!(i64::from(hash), int(&case["keyHash"]), "{case}");
            for slots in [5_000_000, 100, 7] {
                let slot = Geometry { slots, entries: 2 }.slot_of(hash);
                assert_eq!(i64::from(slot), int(&case[format!("slot{slots}")]), "{case}");
            }
        }
    }

    #[test]
    fn a_file_is_byte_for_byte_the_one_of_java() {
        let known = golden(include_str!("../../../../tests/golden/known-answers/index-small.json"));
        let before = Header::following(
            int(&known["constructorEndPhyOffset"]) as u64,
            int(&known["constructorEndTimestamp"]),
        );
        let mut image = Image::new(SMALL, before);
        let hash_of = |field: &Value| {
            let (topic, key) = field.as_str().and_then(|text| text.split_once('#')).expect("topic#key");
            key_hash(topic, key)
        };
        for put in known["puts"].as_array().expect("puts") {
            let key = Key {
                hash: hash_of(&put["key"]),
                position: int(&put["phyOffset"]) as u64,
                store_ms: int(&put["storeTimestamp"]),
            };
            assert_eq!(image.add(key), put["returned"].as_bool().expect("a boolean"), "{put}");
        }
        assert!(image.table.is_full());
        image.write_back();
        assert_eq!(image.bytes, include_bytes!("../../../../tests/golden/known-answers/index-small.bin"));
        for query in known["queries"].as_array().expect("queries") {
            let (begin, end) = (int(&query["begin"]), int(&query["end"]));
            let header = *image.table.header();
            let found = image.chain(hash_of(&query["key"])).into_iter();
            let found = found.filter(|(number, entry)| entry.may_be_within(*number, &header, begin, end));
            let ours: Vec<i64> = found.map(|(_, entry)| entry.position as i64).collect();
            // Java misjudges the time of a file's first entry; ours is looked at, and the record decides.
            let java = query["phyOffsets"].as_array().expect("a list").iter().map(int);
            assert!(java.clone().all(|position| ours.contains(&position)), "{query}: {ours:?}");
            assert!(begin > 0 || java.eq(ours.iter().copied()), "{query}: {ours:?}");
        }
    }

    #[test]
    fn what_is_no_entry_is_not_taken() {
        let key = |hash, position| Key { hash, position, store_ms: 1_000 };
        let mut image = Image::new(SMALL, Header::following(0, 0));
        for added in [key(1, 100), key(6, 200), key(1, 300)] {
            assert!(image.add(added));
        }
        let entries: Vec<_> = (1..4).map(|number| image.entry(number).expect("an entry")).collect();
        let take = |entries: &[IndexEntry]| {
            let mut table = Table::new(SMALL, Header::following(0, 0));
            entries.iter().try_for_each(|entry| table.take(&entry.encode()).map(|_| ())).map(|()| table)
        };
        assert_eq!(take(&entries).expect("taken").header().next, 4);
        let back = [entries[0], IndexEntry { position: 99, ..entries[1] }];
        assert_eq!(take(&back).unwrap_err(), EntryDamage::Order { number: 2, found: 99, before: 100 });
        let cycle = [entries[0], IndexEntry { previous: 2, ..entries[1] }];
        assert_eq!(take(&cycle).unwrap_err(), EntryDamage::Chain { number: 2, found: 2, expected: 1 });
        let lost = IndexEntry { hash: 0, position: 0, seconds: 0, previous: 0 };
        assert!(take(&[entries[0], lost]).is_err(), "a page that a power loss took");
        let mut negative = entries[1].encode();
        negative[4] = 0x80;
        assert_eq!(IndexEntry::decode(&negative), None);
    }

    #[test]
    fn what_could_not_be_written_is_taken_back() {
        let key = |hash, position| Key { hash, position, store_ms: 1_000 };
        let mut table = Table::new(SMALL, Header::following(0, 0));
        table.add(&[key(1, 100), key(2, 100)]);
        let (before, slots) = (*table.header(), table.slots.clone());
        let (bytes, _) = table.add(&[key(6, 200), key(3, 200), key(1, 300)]);
        table.take_back(before, &bytes);
        assert_eq!((table.header(), &table.slots), (&before, &slots));
    }

    fn keys() -> impl Strategy<Value = Vec<Key>> {
        let key = (0..40_u32, 0..3_u64, -2_000..9_000_i64);
        proptest::collection::vec(key, 0..60).prop_map(|keys| {
            let (mut position, mut store_ms) = (0, 1_700_000_000_000);
            let mut next = |(hash, step, ms): (u32, u64, i64)| {
                (position, store_ms) = (position + step * 100, store_ms + ms);
                Key { hash, position, store_ms }
            };
            keys.into_iter().map(&mut next).collect()
        })
    }

    proptest! {
        #[test]
        fn headers_and_entries_are_read_as_written(
            longs: [u32; 4], used_slots in 0..=COUNT_MAX, next in 1..=COUNT_MAX, hash in 0..=COUNT_MAX, previous in 0..=COUNT_MAX,
        ) {
            let [begin_ms, end_ms, begin, end] = longs;
            let header = Header {
                begin_ms: begin_ms.into(), end_ms: end_ms.into(), begin: begin.into(), end: end.into(), used_slots, next,
            };
            prop_assert_eq!(Header::decode(&header.encode()), header);
            let entry = IndexEntry { hash, position: u64::from(begin), seconds: 7, previous };
            prop_assert_eq!(IndexEntry::decode(&entry.encode()), Some(entry));
        }

        /// Against a list of positions for each hash; then the file is read again, whole and cut.
        #[test]
        fn each_hash_has_its_records_newest_first(keys in keys(), cut in 0..60_usize) {
            let geometry = Geometry { slots: 7, entries: 50 };
            let mut image = Image::new(geometry, Header::following(0, 1_699_999_000_000));
            let mut model: BTreeMap<u32, Vec<Key>> = BTreeMap::new();
            for key in &keys {
                if image.add(*key) {
                    model.entry(key.hash).or_default().insert(0, *key);
                }
            }
            image.write_back();
            let header = *image.table.header();
            prop_assert_eq!(header.next as usize, keys.len().min(49) + 1);
            for hash in 0..40 {
                let found = image.chain(hash);
                let expected = model.remove(&hash).unwrap_or_default();
                prop_assert!(found.iter().map(|(_, entry)| entry.position).eq(expected.iter().map(|key| key.position)));
                for ((number, entry), key) in found.iter().zip(expected) {
                    let at = key.store_ms;
                    prop_assert!(entry.may_be_within(*number, &header, at, at), "{:?} for {:?}", entry, key);
                    prop_assert!(at < header.begin_ms || header.meets(at, at));
                }
            }
            let mut again = Table::new(geometry, Header { end: 0, ..header });
            for number in 1..header.next.min(cut as u32 + 1) {
                let entry = image.entry(number).expect("an entry");
                prop_assert_eq!(again.take(&entry.encode()), Ok(entry));
            }
            let mut shorter = Table::new(geometry, Header::following(0, 1_699_999_000_000));
            shorter.add(keys.get(..cut.min(49).min(keys.len())).unwrap_or(&[]));
            prop_assert_eq!(&again.slots, &shorter.slots);
            prop_assert_eq!(again.header().used_slots, shorter.header().used_slots);
            let slots_end = geometry.entry_at(0) as usize;
            let mut in_file = image.bytes[HEADER_BYTES..slots_end].to_vec();
            let table = Table::in_file(geometry, header, &in_file);
            prop_assert!(table.slots_fit());
            prop_assert_eq!(table, image.table);
            let (slot, newest) = (cut % 7 * SLOT_BYTES, header.next.to_be_bytes());
            in_file[slot..slot + SLOT_BYTES].copy_from_slice(&newest);
            let ahead = Table::in_file(geometry, header, &in_file);
            prop_assert!(!ahead.slots_fit(), "a slot leads behind the last entry");
        }

        #[test]
        fn any_bytes_are_an_entry_or_none(bytes: [u8; ENTRY_BYTES], header: [u8; 32]) {
            let mut whole = [0; HEADER_BYTES];
            whole[8..].copy_from_slice(&header);
            let header = Header::decode(&whole);
            prop_assert!(header.next >= 1);
            if let Some(entry) = IndexEntry::decode(&bytes) {
                prop_assert!(entry.hash <= COUNT_MAX && entry.previous <= COUNT_MAX);
                let _ = entry.may_be_within(2, &header, i64::MIN, i64::MAX);
            }
        }
    }
}

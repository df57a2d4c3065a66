//! Index files: which records have a key, by the hash of `topic#key`. Header of 40 bytes (times and positions of the first
//! and last record, slots in use, number of the next entry), then slots of 4 bytes, then entries of 20, numbered from 1:
//! hash 4, position 8, seconds 4, next older entry of the slot 4.

use std::collections::BTreeSet;

use super::properties::{find, java_hash};
use super::record::Record;
use super::{Image, i32_at, i64_at};

const HEADER_BYTES: usize = 40;
const ENTRY_BYTES: usize = 20;
const TRANSACTION_MASK: i32 = 0xC;
const TRANSACTION_ROLLBACK: i32 = 0xC;

/// A record under a hash.
pub type Filed = (u64, i32);

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct IndexFile {
    pub name: u64,
    /// In the order of their numbers, as many as the header counts.
    pub entries: Vec<Filed>,
    /// Numbers of the entries that some slot leads to.
    pub reached: BTreeSet<usize>,
    /// It is not as long as its slots and entries, or its header counts more of them than fit.
    pub damaged: bool,
}

/// The files in `folder`, oldest first.
#[must_use]
pub fn scan(image: &Image, folder: &str, (slots, entries): (u32, u32)) -> Vec<IndexFile> {
    let mut files = Vec::new();
    for (name, bytes) in image.folder(folder) {
        let Ok(name) = name.parse() else { continue };
        let file = read(bytes, slots as usize, entries as usize);
        files.push(file.map_or_else(
            || IndexFile { name, damaged: true, ..IndexFile::default() },
            |file| IndexFile { name, ..file },
        ));
    }
    files
}

/// The first `count` entries of a file, whatever its header says; an entry that is not there is missing.
#[must_use]
pub fn entries(bytes: &[u8], slots: u32, count: u32) -> Vec<Filed> {
    let entry = |number| entry(bytes, slots as usize, number).map(|(filed, _)| filed);
    (1..=count as usize).map_while(entry).collect()
}

/// The last entry that the header counts.
#[must_use]
pub fn last(bytes: &[u8], (slots, entries): (u32, u32)) -> Option<Filed> {
    let number = usize::try_from(i32_at(bytes, 36)?).ok()?.checked_sub(1).filter(|number| *number > 0)?;
    let within = number < entries as usize;
    within.then(|| entry(bytes, slots as usize, number).map(|(filed, _)| filed))?
}

/// Where the entry of that number is in its file.
#[must_use]
pub fn entry_at(slots: u32, number: u64) -> u64 {
    (HEADER_BYTES as u64) + u64::from(slots) * 4 + number * ENTRY_BYTES as u64
}

fn entry(bytes: &[u8], slots: usize, number: usize) -> Option<(Filed, usize)> {
    let at = entry_at(slots as u32, number as u64) as usize;
    let filed = (u64::try_from(i64_at(bytes, at + 4)?).ok()?, i32_at(bytes, at)?);
    Some((filed, usize::try_from(i32_at(bytes, at + 16)?).unwrap_or(0)))
}

fn read(bytes: &[u8], slots: usize, entries: usize) -> Option<IndexFile> {
    if bytes.len() != HEADER_BYTES + slots * 4 + entries * ENTRY_BYTES {
        return None;
    }
    let next = usize::try_from(i32_at(bytes, 36)?).unwrap_or(0).max(1);
    if next > entries {
        return None;
    }
    let mut file = IndexFile::default();
    for number in 1..next {
        file.entries.push(entry(bytes, slots, number)?.0);
    }
    for slot in 0..slots {
        let mut number = usize::try_from(i32_at(bytes, HEADER_BYTES + slot * 4)?).unwrap_or(0);
        while (1..next).contains(&number) {
            let ((_, hash), older) = entry(bytes, slots, number)?;
            if hash as usize % slots == slot {
                file.reached.insert(number);
            }
            number = if older < number { older } else { 0 };
        }
    }
    Some(file)
}

/// The words under which a record must be filed.
#[must_use]
pub fn keys(record: &Record) -> BTreeSet<String> {
    if record.system_flag & TRANSACTION_MASK == TRANSACTION_ROLLBACK {
        return BTreeSet::new();
    }
    let words = find(&record.properties, "KEYS").unwrap_or_default().split(' ');
    let all = words.chain(find(&record.properties, "UNIQ_KEY"));
    all.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The hashes under which a record must be filed.
#[must_use]
pub fn hashes(record: &Record) -> BTreeSet<i32> {
    let hash = |key: &String| java_hash(&format!("{}#{key}", record.topic)).checked_abs().unwrap_or(0);
    keys(record).iter().map(hash).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const FOLDER: &str = "store/index";
    pub const FORM: (u32, u32) = (3, 6);

    /// A file with those entries, written anew by its description.
    #[must_use]
    pub fn encode(filed: &[Filed]) -> Vec<u8> {
        let (slots, entries) = (FORM.0 as usize, FORM.1 as usize);
        let mut bytes = vec![0; HEADER_BYTES + slots * 4 + entries * ENTRY_BYTES];
        bytes[36..40].copy_from_slice(&(filed.len() as i32 + 1).to_be_bytes());
        for (index, (at, hash)) in filed.iter().enumerate() {
            let slot = HEADER_BYTES + *hash as usize % slots * 4;
            let older: [u8; 4] = bytes[slot..slot + 4].try_into().expect("a slot");
            let entry = HEADER_BYTES + slots * 4 + (index + 1) * ENTRY_BYTES;
            bytes[slot..slot + 4].copy_from_slice(&(index as i32 + 1).to_be_bytes());
            bytes[entry..entry + 4].copy_from_slice(&hash.to_be_bytes());
            bytes[entry + 4..entry + 12].copy_from_slice(&(*at as i64).to_be_bytes());
            bytes[entry + 16..entry + 20].copy_from_slice(&older);
        }
        bytes
    }

    fn only(bytes: Vec<u8>) -> IndexFile {
        let image = Image { files: [(format!("{FOLDER}/20261129000000000"), bytes)].into() };
        scan(&image, FOLDER, FORM).remove(0)
    }

    #[test]
    fn entries_are_read_and_reached_through_their_slots() {
        let filed = [(0, 7), (100, 4), (100, 7)];
        let file = only(encode(&filed));
        assert_eq!((file.entries.as_slice(), file.damaged), (filed.as_slice(), false));
        assert_eq!(file.reached, [1, 2, 3].into());
        let mut bytes = encode(&filed);
        // The chain of entry 3 leads to itself.
        let at = HEADER_BYTES + 12 + 3 * ENTRY_BYTES + 16;
        bytes[at + 3] = 3;
        assert_eq!(only(bytes).reached, [3].into());
        assert!(only(encode(&filed)[1..].to_vec()).damaged);
        assert_eq!(entries(&encode(&filed), FORM.0, 2), filed[..2]);
    }

    #[test]
    fn hashes_are_those_of_java() {
        // As the known answers have it.
        assert_eq!(java_hash("TopicTest#k1"), 2_746_024);
        assert_eq!(java_hash("T#1LG3HE3"), i32::MIN);
    }
}

//! ConsumeQueue files: entries of 20 bytes (physical offset 8, size 4, tag hash 8), entry n at byte 20 n of the queue.
//!
//! Filler entries (offset 0, size 0x7FFFFFFF) stand before a queue that does not start at a file's start.

use std::collections::BTreeMap;

use super::{Image, QueueKey, i32_at, i64_at};

pub const ENTRY_BYTES: usize = 20;
const FILLER_SIZE: i32 = 0x7FFF_FFFF;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub at: u64,
    pub bytes: u32,
    pub tags_code: i64,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Queue offset of the first entry, or of the next one where there is none.
    pub min: i64,
    /// Dense from `min` up to the first empty one.
    pub entries: Vec<Entry>,
    /// Queue offsets of entries that stand behind an empty one or behind a file that is missing, or has no bytes.
    pub strays: Vec<i64>,
}

impl Queue {
    /// The next queue offset.
    #[must_use]
    pub fn max(&self) -> i64 {
        self.min + self.entries.len() as i64
    }

    #[must_use]
    pub fn entry(&self, queue_offset: i64) -> Option<Entry> {
        let index = usize::try_from(queue_offset.checked_sub(self.min)?).ok()?;
        self.entries.get(index).copied()
    }
}

/// All queues below `folder`: `folder/TOPIC/QUEUE/FILE`.
#[must_use]
pub fn scan(image: &Image, folder: &str, file_bytes: u64) -> BTreeMap<QueueKey, Queue> {
    let mut files: BTreeMap<QueueKey, Vec<(u64, &[u8])>> = BTreeMap::new();
    for (path, bytes) in image.folder(folder) {
        let mut parts = path.split('/');
        let (Some(topic), Some(Ok(queue)), Some(Ok(base)), None) = (
            parts.next(),
            parts.next().map(str::parse::<i32>),
            parts.next().map(str::parse::<u64>),
            parts.next(),
        ) else {
            continue;
        };
        files.entry((topic.to_owned(), queue)).or_default().push((base, bytes));
    }
    files.into_iter().map(|(key, files)| (key, read(&files, file_bytes))).collect()
}

fn read(files: &[(u64, &[u8])], file_bytes: u64) -> Queue {
    let mut queue = Queue::default();
    let mut started = false;
    let mut ended = false;
    let mut expected = None;
    // Where nothing else says it, the first file does: it may have begun with the entry that was lost.
    queue.min = files.first().map_or(0, |(base, _)| (base / ENTRY_BYTES as u64) as i64);
    for &(base, bytes) in files {
        ended |= expected.is_some_and(|expected| expected != base);
        expected = Some(base + file_bytes);
        for (index, unit) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
            let queue_offset = (base / ENTRY_BYTES as u64 + index as u64) as i64;
            match entry(unit) {
                Some(_) if ended => queue.strays.push(queue_offset),
                Some(entry) => {
                    if !started {
                        started = true;
                        queue.min = queue_offset;
                    }
                    queue.entries.push(entry);
                }
                None if started || ended || !is_filler(unit) => ended = true,
                // With fillers alone it begins, and ends, behind them.
                None => queue.min = queue_offset + 1,
            }
        }
        // A loss of power can keep a file's name alone: what comes behind is no nearer to the queue's start for that.
        ended |= (bytes.len() as u64) < file_bytes;
    }
    queue
}

fn is_filler(unit: &[u8]) -> bool {
    i64_at(unit, 0) == Some(0) && i32_at(unit, 8) == Some(FILLER_SIZE)
}

/// The entry in 20 bytes; none in an empty or a filler one.
#[must_use]
pub fn entry(unit: &[u8]) -> Option<Entry> {
    if is_filler(unit) {
        return None;
    }
    let bytes = u32::try_from(i32_at(unit, 8)?).ok().filter(|bytes| *bytes > 0)?;
    Some(Entry { at: u64::try_from(i64_at(unit, 0)?).ok()?, bytes, tags_code: i64_at(unit, 12)? })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const FOLDER: &str = "store/consumequeue";
    pub const FILE_BYTES: u64 = 100;

    #[must_use]
    pub fn encode(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend((entry.at as i64).to_be_bytes());
            bytes.extend((entry.bytes as i32).to_be_bytes());
            bytes.extend(entry.tags_code.to_be_bytes());
        }
        bytes
    }

    fn image(files: &[(u64, Vec<u8>)]) -> Image {
        let path = |base: &u64| format!("{FOLDER}/topic-0/0/{base:020}");
        Image { files: files.iter().map(|(base, bytes)| (path(base), bytes.clone())).collect() }
    }

    fn only(image: &Image) -> Queue {
        scan(image, FOLDER, FILE_BYTES).remove(&("topic-0".to_owned(), 0)).expect("the queue")
    }

    const ENTRY: Entry = Entry { at: 64, bytes: 200, tags_code: -7 };
    const EMPTY: Entry = Entry { at: 0, bytes: 0, tags_code: 0 };
    const FILLER: Entry = Entry { at: 0, bytes: FILLER_SIZE as u32, tags_code: 0 };

    #[test]
    fn entries_run_through_files_to_the_first_empty_one() {
        let queue =
            only(&image(&[(0, encode(&[ENTRY; 5])), (100, encode(&[ENTRY, EMPTY, EMPTY, EMPTY, EMPTY]))]));
        assert_eq!((queue.min, queue.max(), queue.strays.len()), (0, 6, 0));
        assert_eq!(queue.entry(5), Some(ENTRY));
        assert_eq!(queue.entry(6), None);
    }

    #[test]
    fn entries_behind_a_gap_are_strays() {
        let queue = only(&image(&[(0, encode(&[ENTRY, EMPTY, ENTRY, EMPTY, EMPTY]))]));
        assert_eq!((queue.max(), queue.strays.as_slice()), (1, [2].as_slice()));
        let queue = only(&image(&[(0, encode(&[ENTRY; 5])), (200, encode(&[ENTRY]))]));
        assert_eq!((queue.max(), queue.strays.as_slice()), (5, [10].as_slice()));
        let queue = only(&image(&[(0, encode(&[ENTRY; 5])), (100, Vec::new()), (200, encode(&[ENTRY]))]));
        assert_eq!(
            (queue.max(), queue.strays.as_slice()),
            (5, [10].as_slice()),
            "the second has lost its bytes"
        );
    }

    #[test]
    fn fillers_before_the_first_entry_only_move_the_minimum() {
        let queue = only(&image(&[(100, encode(&[FILLER, FILLER, ENTRY, EMPTY]))]));
        assert_eq!((queue.min, queue.max()), (7, 8));
        let queue = only(&image(&[(100, encode(&[FILLER, FILLER, EMPTY, EMPTY]))]));
        assert_eq!((queue.min, queue.max()), (7, 7), "the first entry was lost");
        let queue = only(&image(&[(200, encode(&[EMPTY; 5]))]));
        assert_eq!((queue.min, queue.max()), (10, 10), "it was a file's first");
    }
}

//! The CommitLog's files as one sequence of records, up to the first byte that is none.

use super::Image;
use super::record::{Found, Record, decode};

#[derive(Clone, Default, Debug)]
pub struct Log {
    /// In log order.
    pub records: Vec<Record>,
    /// Where the first file starts.
    pub min: u64,
    /// Behind the last record; in the middle of a file or at its end.
    pub end: u64,
    /// Why reading stopped there.
    pub stopped: &'static str,
    /// The first byte behind the end that is not zero, in the files that follow one another.
    pub leftover: Option<u64>,
}

impl Log {
    /// The record that starts at `at`.
    #[must_use]
    pub fn at(&self, at: u64) -> Option<&Record> {
        let index = self.records.binary_search_by_key(&at, |record| record.at).ok()?;
        self.records.get(index)
    }
}

/// Reads the files in `folder`. A missing file ends the log, as it would for the broker.
#[must_use]
pub fn scan(image: &Image, folder: &str) -> Log {
    let mut log = Log { stopped: "no file", ..Log::default() };
    let mut next = None;
    let mut ended = false;
    for (name, bytes) in image.folder(folder) {
        let Ok(base) = name.parse::<u64>() else { continue };
        if next.is_none() {
            log.min = base;
            log.end = base;
        }
        if next.is_some_and(|next| next != base) {
            log.stopped = "a file is missing";
            return log;
        }
        next = Some(base + bytes.len() as u64);
        let unread_from = if ended { 0 } else { (log.end.max(base) - base) as usize };
        ended = ended || !scan_file(bytes, base, &mut log);
        if ended {
            let end = unread_from.max(log.end.saturating_sub(base) as usize).min(bytes.len());
            let used = bytes[end..].iter().position(|byte| *byte != 0);
            log.leftover = log.leftover.or(used.map(|used| base + (end + used) as u64));
        }
    }
    log
}

/// Adds the records of one file; whether the log goes on in the next one.
fn scan_file(bytes: &[u8], base: u64, log: &mut Log) -> bool {
    let mut position = 0;
    loop {
        match decode(bytes.get(position..).unwrap_or_default(), base + position as u64) {
            Found::Record(record) => {
                position += record.bytes as usize;
                log.end = record.end();
                log.records.push(record);
            }
            Found::Blank => {
                log.end = base + bytes.len() as u64;
                log.stopped = "the last file is full";
                return true;
            }
            Found::End(why) => {
                log.stopped = why;
                return false;
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::record::tests::encode;
    use super::*;
    use crate::workload::{MessageId, body};

    pub const FOLDER: &str = "store/commitlog";
    const FILE_BYTES: usize = 1024;

    /// One file with a record per `(message, queue offset)`, in queue 0 of `topic-0`, stored at 1000 ms and on.
    #[must_use]
    pub fn image(messages: &[(u64, i64)]) -> Image {
        let mut bytes = Vec::new();
        for (index, (id, queue_offset)) in messages.iter().enumerate() {
            let text = body(MessageId(*id), 40);
            let properties = format!("KEYS\u{1}k{id}\u{2}TAGS\u{1}t{}\u{2}", id % 4);
            let at = bytes.len() as u64;
            bytes.extend(encode(at, "topic-0", 0, *queue_offset, 1_000 + index as i64, &text, &properties));
        }
        bytes.resize(FILE_BYTES.max(bytes.len() + 64), 0);
        Image { files: [(format!("{FOLDER}/{:020}", 0), bytes)].into() }
    }

    #[test]
    fn records_are_read_to_the_first_zeros() {
        let log = scan(&image(&[(1_000_000, 0), (1_000_001, 1)]), FOLDER);
        assert_eq!(log.records.len(), 2);
        assert_eq!((log.end, log.stopped), (log.records[1].end(), "zeros"));
        assert_eq!(log.at(log.records[1].at), Some(&log.records[1]));
        assert_eq!(log.at(3), None);
    }

    #[test]
    fn bytes_behind_the_end_are_seen() {
        let mut image = image(&[(1_000_000, 0), (1_000_001, 1)]);
        assert_eq!(scan(&image, FOLDER).leftover, None);
        let file = image.files.values_mut().next().expect("one file");
        file[100] ^= 1;
        let log = scan(&image, FOLDER);
        assert_eq!((log.records.len(), log.end, log.leftover), (0, 0, Some(3)));
    }

    #[test]
    fn a_blank_record_leads_into_the_next_file_and_a_gap_ends_the_log() {
        let mut image = image(&[(1_000_000, 0)]);
        let file = image.files.values_mut().next().expect("one file");
        let used = scan_file_end(file);
        let rest = (file.len() - used) as i32;
        file[used..used + 4].copy_from_slice(&rest.to_be_bytes());
        file[used + 4..used + 8].copy_from_slice(&0xCBD4_3194_u32.to_be_bytes());
        let length = file.len() as u64;
        let mut second = encode(length, "topic-0", 0, 1, 1_001, b"x", "");
        second.resize(length as usize, 0);
        image.files.insert(format!("{FOLDER}/{length:020}"), second);
        assert_eq!(scan(&image, FOLDER).records.len(), 2);
        let moved = image.files.pop_last().expect("two files").1;
        image.files.insert(format!("{FOLDER}/{:020}", length * 2), moved);
        let log = scan(&image, FOLDER);
        assert_eq!((log.records.len(), log.stopped), (1, "a file is missing"));
    }

    fn scan_file_end(bytes: &[u8]) -> usize {
        let mut log = Log::default();
        scan_file(bytes, 0, &mut log);
        log.end as usize
    }
}

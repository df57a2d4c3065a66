//! The index files: whether their entries can be reached and point into the log.
//!   0..8     store time of the first entry's record, ms
//!   8..16    store time of the last entry's record, ms
//!   16..24   physical offset of the first entry's record
//!   24..32   physical offset of the last entry's record
//!   32..36   slots in use
//!   36..40   number of the next entry; entry 0 is never used
//!   then     slots, 4 bytes each: the newest entry of the slot, 0 for none
//!   then     entries, 20 bytes each: hash, physical offset (8), seconds after the first entry, entry before it in the slot
//! How many slots there are is a setting (`maxHashSlotNum`) that no file states. A file of another length than the settings and
//! Java's default give is tried with each number that its length allows, until one makes sense of its entries; one without
//! entries tells nothing.

use std::io;

use super::IndexReport;
use crate::runtime::Runtime;
use crate::runtime::storage::File;
use crate::store::index::Geometry;

const HEADER_BYTES: u64 = 40;
const SLOT_BYTES: u64 = 4;
const ENTRY_BYTES: u64 = 20;
const DEFAULT_SLOTS: u64 = 5_000_000;
const DEFAULT_ENTRIES: u64 = 20_000_000;
/// Longer files that have not Java's default length are not tried: each try reads.
const TRIED_BYTES_MAX: u64 = 64 << 20;
const CHUNK_BYTES: u64 = 64_000;

/// What lies where in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub slots: u64,
    /// Places for entries, the unused one included.
    pub entries: u64,
}

impl Layout {
    const DEFAULT: Layout = Layout { slots: DEFAULT_SLOTS, entries: DEFAULT_ENTRIES };

    fn file_bytes(self) -> u64 {
        HEADER_BYTES + self.slots * SLOT_BYTES + self.entries * ENTRY_BYTES
    }

    fn entry_at(self, number: u32) -> u64 {
        HEADER_BYTES + self.slots * SLOT_BYTES + u64::from(number) * ENTRY_BYTES
    }

    fn slot_of(self, hash: i32) -> u64 {
        u64::try_from(hash).unwrap_or(0) % self.slots
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub begin_ms: i64,
    pub end_ms: i64,
    begin: i64,
    end: i64,
    slots_used: i32,
    /// At least 1: a count of 0 or less is that of a new file.
    pub next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub hash: i32,
    pub at: i64,
    pub seconds: i32,
    pub previous: i32,
}

impl Header {
    /// # Errors
    /// Of reading; `UnexpectedEof` when the file is shorter.
    pub fn read(file: &impl File) -> io::Result<Header> {
        let mut bytes = [0; HEADER_BYTES as usize];
        file.read_at(0, &mut bytes)?;
        Ok(Header {
            begin_ms: i64_at(&bytes, 0),
            end_ms: i64_at(&bytes, 8),
            begin: i64_at(&bytes, 16),
            end: i64_at(&bytes, 24),
            slots_used: i32_at(&bytes, 32),
            next: u32::try_from(i32_at(&bytes, 36)).unwrap_or(1).max(1),
        })
    }
}

impl IndexEntry {
    fn decode(bytes: &[u8]) -> IndexEntry {
        IndexEntry {
            hash: i32_at(bytes, 0),
            at: i64_at(bytes, 4),
            seconds: i32_at(bytes, 12),
            previous: i32_at(bytes, 16),
        }
    }

    /// Whether a broker can have written it as the entry with that `number`, behind one of a record at `before`.
    fn makes_sense(&self, number: u32, before: i64) -> bool {
        let earlier = i64::from(self.previous) < i64::from(number);
        self.hash >= 0 && self.at >= before && self.seconds >= 0 && self.previous >= 0 && earlier
    }
}

/// Callers give ranges of arrays that they have filled.
fn i32_at(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, i32::from_be_bytes)
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, i64::from_be_bytes)
}

/// Where slots and entries lie; `None` when nothing makes sense of the file. With the length that `set` gives it is that.
///
/// # Errors
/// Of reading.
pub(crate) fn layout(file: &impl File, header: &Header, set: Geometry) -> io::Result<Option<Layout>> {
    let len = file.len()?;
    if len == set.file_bytes() {
        return Ok(Some(Layout { slots: set.slots.into(), entries: set.entries.into() }));
    }
    if len == Layout::DEFAULT.file_bytes() {
        return Ok(Some(Layout::DEFAULT));
    }
    if len > TRIED_BYTES_MAX || header.next == 1 {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_at(0, &mut bytes)?;
    let room = len.saturating_sub(HEADER_BYTES);
    let mut likely = None;
    for slots in 1..room / SLOT_BYTES {
        let left = room - slots * SLOT_BYTES;
        let layout = Layout { slots, entries: left / ENTRY_BYTES };
        if layout.entries < u64::from(header.next) {
            break;
        }
        if left.is_multiple_of(ENTRY_BYTES)
            && let Some(end) = last_position(&bytes, layout, header)
        {
            // Entry 0, all zeros, passes for the first one of a log that begins at 0: the header knows the last one.
            if end == header.end {
                return Ok(Some(layout));
            }
            likely = likely.or(Some(layout));
        }
    }
    Ok(likely)
}

/// Where the last entry leads; `None` when the entries make no sense so.
fn last_position(bytes: &[u8], layout: Layout, header: &Header) -> Option<i64> {
    let mut before = header.begin;
    for number in 1..header.next {
        let at = layout.entry_at(number) as usize;
        let raw = bytes.get(at..at + ENTRY_BYTES as usize)?;
        let entry = IndexEntry::decode(raw);
        let slot = i32_at(bytes, (HEADER_BYTES + layout.slot_of(entry.hash) * SLOT_BYTES) as usize);
        let reachable = u32::try_from(slot).is_ok_and(|newest| (number..header.next).contains(&newest));
        let first = number > 1 || entry.at == header.begin;
        if !entry.makes_sense(number, before) || !reachable || !first {
            return None;
        }
        before = entry.at;
    }
    Some(before)
}

/// Shows the entries in their order, until `each` breaks off or the file ends.
///
/// # Errors
/// Of reading.
pub(crate) fn entries(
    file: &impl File,
    layout: Layout,
    header: &Header,
    mut each: impl FnMut(u32, IndexEntry) -> std::ops::ControlFlow<()>,
) -> io::Result<()> {
    let next = u64::from(header.next).min(layout.entries) as u32;
    let mut number = 1;
    while number < next {
        let count = (CHUNK_BYTES / ENTRY_BYTES).min(u64::from(next - number));
        let mut bytes = vec![0; (count * ENTRY_BYTES) as usize];
        file.read_at(layout.entry_at(number), &mut bytes)?;
        for raw in bytes.chunks(ENTRY_BYTES as usize) {
            if each(number, IndexEntry::decode(raw)).is_break() {
                return Ok(());
            }
            number += 1;
        }
    }
    Ok(())
}

/// A file, and what is wrong with it.
pub(crate) struct LookedFile {
    pub name: String,
    pub entries: u64,
    pub problem: Option<String>,
    pub layout: Option<Layout>,
}

/// All files of `dir`, for a log that ends at `log_end`.
pub(crate) async fn look<R: Runtime>(rt: &R, dir: &str, log_end: u64, set: Geometry) -> Vec<LookedFile> {
    let mut looked = Vec::new();
    for entry in rt.list(dir).await.unwrap_or_default() {
        if entry.is_dir {
            continue;
        }
        let mut file = LookedFile { name: entry.name, entries: 0, problem: None, layout: None };
        match rt.open_file(&format!("{dir}/{}", file.name), true).await {
            Ok(open) => {
                let found = file.look(&open, log_end, set);
                file.problem = found.unwrap_or_else(|error| Some(error.to_string()));
            }
            Err(error) => file.problem = Some(error.to_string()),
        }
        looked.push(file);
    }
    looked
}

impl LookedFile {
    fn look(&mut self, file: &impl File, log_end: u64, set: Geometry) -> io::Result<Option<String>> {
        let len = file.len()?;
        if len < HEADER_BYTES {
            return Ok(Some(format!("it has {len} bytes, a header has {HEADER_BYTES}")));
        }
        let header = Header::read(file)?;
        let entries = u64::from(header.next - 1);
        if entries.saturating_mul(ENTRY_BYTES) > len - HEADER_BYTES {
            return Ok(Some(format!("it says {entries} entries and is too short for them")));
        }
        self.entries = entries;
        if self.name.parse::<i64>().is_err() {
            return Ok(Some("not a name of digits".to_owned()));
        }
        self.layout = layout(file, &header, set)?;
        let Some(layout) = self.layout else {
            if entries == 0 {
                return Ok(None);
            }
            return Ok(Some(format!("no number of slots makes sense of its {entries} entries")));
        };
        if u64::from(header.next) > layout.entries {
            return Ok(Some(format!("it says {entries} entries and has room for {}", layout.entries - 1)));
        }
        if let Some(problem) = wrong_entry(file, layout, &header, log_end)? {
            return Ok(Some(problem));
        }
        wrong_slot(file, layout, &header)
    }
}

fn wrong_entry(
    file: &impl File,
    layout: Layout,
    header: &Header,
    log_end: u64,
) -> io::Result<Option<String>> {
    let mut problem = None;
    let mut last = header.begin;
    entries(file, layout, header, |number, entry| {
        if !entry.makes_sense(number, last) {
            problem = Some(format!("entry {number} is none that a broker writes"));
        } else if u64::try_from(entry.at).is_ok_and(|at| at >= log_end) {
            problem = Some(format!("entry {number} points behind the log, at {}", entry.at));
        }
        last = entry.at;
        if problem.is_some() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })?;
    if problem.is_none() && header.next > 1 && last != header.end {
        problem = Some(format!("its header ends at {}, its last entry is of {last}", header.end));
    }
    Ok(problem)
}

/// Every slot in use must begin at an entry of its own.
fn wrong_slot(file: &impl File, layout: Layout, header: &Header) -> io::Result<Option<String>> {
    let (mut slot, mut used) = (0, 0_i64);
    while slot < layout.slots {
        let count = (CHUNK_BYTES / SLOT_BYTES).min(layout.slots - slot);
        let mut bytes = vec![0; (count * SLOT_BYTES) as usize];
        file.read_at(HEADER_BYTES + slot * SLOT_BYTES, &mut bytes)?;
        for (inside, raw) in bytes.as_chunks::<4>().0.iter().enumerate() {
            let newest = i32::from_be_bytes(*raw);
            if newest == 0 {
                continue;
            }
            used += 1;
            let newest = u32::try_from(newest).ok().filter(|newest| (1..header.next).contains(newest));
            let mut entry = [0; ENTRY_BYTES as usize];
            let own = match newest {
                Some(newest) => {
                    file.read_at(layout.entry_at(newest), &mut entry)?;
                    layout.slot_of(IndexEntry::decode(&entry).hash) == slot + inside as u64
                }
                None => false,
            };
            if !own {
                return Ok(Some(format!(
                    "slot {} does not begin at an entry of its own",
                    slot + inside as u64
                )));
            }
        }
        slot += count;
    }
    if used != i64::from(header.slots_used) {
        return Ok(Some(format!("its header says {} slots in use, {used} are", header.slots_used)));
    }
    Ok(None)
}

pub(super) async fn report<R: Runtime>(rt: &R, dir: &str, log_end: u64, set: Geometry) -> IndexReport {
    let mut report = IndexReport::default();
    for file in look(rt, dir, log_end, set).await {
        report.files += 1;
        report.entries += file.entries;
        report.problems.extend(file.problem.map(|why| format!("{}: {why}", file.name)));
    }
    report
}

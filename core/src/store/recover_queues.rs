//! Recovery of the queues: what is on disk, compared with what the scan of the log says must be there.
//!
//! Entries of records below the start of the scan are kept. Behind them a queue is made to hold exactly the entries that
//! the scan found, no more, so that no entry is repeated (S-12) or points behind the log (S-01, S-05).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::abort_marker::Unfinished;
use super::check::{LookedQueue, QueueReport};
use super::consume_queue::{ConsumeQueue, Extent};
use super::consume_queues::ConsumeQueues;
use super::dropped::DroppedTopics;
use super::error::RecoverError;
use super::mapped_file::{file_name, parse_file_name};
use super::queue_entry::{ENTRY_BYTES, Entry, SCHEDULE_TOPIC, Unit, units};
use super::recover_log::list;
use crate::runtime::storage::File;
use crate::runtime::{Mutant, Runtime};

const ENTRY: u64 = ENTRY_BYTES as u64;
const CHUNK_BYTES: usize = 64 << 10;
/// A comparison with it is much faster than a look at each byte.
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
/// Whole entries, about a page.
const FIRST_READ_BYTES: usize = 4_000;

/// From where a queue ends to behind the next page of its file.
const NEXT_PAGE_BYTES: u64 = 8_000;

/// Names of light queues begin so.
const LIGHT_PREFIX: &str = "%LMQ%";

/// How far behind a queue's end its file is searched for entries that a cut or a power loss left there. They are set to
/// zero, since Java, and whoever reads the file, takes them for entries once the queue has grown up to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookBehind {
    /// No further than where a page with entries shows that one before it was lost.
    Nothing,
    /// As far as pages may have been written out of order: the file where many entries were not durable, else a little.
    /// Files are mostly holes, and to read all of tens of thousands takes minutes.
    Near,
    Whole,
}

impl LookBehind {
    /// In bytes, for a queue with so many bytes of entries that were not durable.
    fn limit(self, tail_bytes: usize) -> u64 {
        match self {
            LookBehind::Nothing => NEXT_PAGE_BYTES,
            LookBehind::Near if tail_bytes < FIRST_READ_BYTES => CHUNK_BYTES as u64,
            LookBehind::Near | LookBehind::Whole => u64::MAX,
        }
    }
}

/// A record's queue offset does not continue its queue, and what is missing lies before the scan: it must begin earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueGap {
    pub topic: String,
    pub queue_id: i32,
    pub expected: i64,
    pub found: i64,
}

/// One queue as found on disk, and what the scan says.
#[derive(Default)]
struct Recovering {
    /// First bytes of its files.
    files: Vec<u64>,
    /// Files that cannot hold entries: empty ones, and all behind them or behind a missing one.
    unused: Vec<String>,
    /// One past the last entry of a record below the start of the scan.
    kept: i64,
    /// Number and log offset of the first entry that was read, when it is the queue's first.
    first: Option<(i64, u64)>,
    /// Where the record of the last entry ends in the log; 0 without one.
    last_end: u64,
    /// Some entry of a record below the start of the scan was read.
    holds: bool,
    /// The entries behind, up to the first unit that is none, as bytes.
    tail: Vec<u8>,
    /// Some byte behind the tail is not zero.
    residue: bool,
    /// Queue offset of the first entry in `found`, when not `kept`: the queue begins anew there.
    restart: Option<i64>,
    /// The entries of the scan, as bytes.
    found: Vec<u8>,
    /// Whether one of the unused files has its bytes, so that a file before it is missing, or an entry of a record below the
    /// start of the scan stands behind a hole: the log must be asked for all of it.
    torn_apart: bool,
    /// Files that are not what they must be: recovery refuses.
    refusals: Vec<RecoverError>,
    /// Those that were taken out, as text.
    refused: Vec<String>,
}

pub(crate) struct RecoveringQueues {
    root: String,
    file_bytes: u64,
    /// Where the scan begins.
    from: u64,
    /// The scan begins at the first byte that is kept: nothing before it can be asked.
    from_min: bool,
    dropped: DroppedTopics,
    queues: BTreeMap<String, BTreeMap<i32, Recovering>>,
}

impl RecoveringQueues {
    /// Reads all queues below `root`, and `look_behind` their ends. The scan begins at `from`; no file of the log reaches
    /// beyond `files_end`.
    ///
    /// # Errors
    /// Of reading. Nothing was changed.
    pub async fn load<R: Runtime>(
        rt: &R,
        root: &str,
        file_bytes: u64,
        (from, from_min, files_end): (u64, bool, u64),
        look_behind: LookBehind,
        dropped: &DroppedTopics,
    ) -> Result<RecoveringQueues, RecoverError> {
        let mut queues: BTreeMap<String, BTreeMap<i32, Recovering>> = BTreeMap::new();
        let chunk = vec![0; CHUNK_BYTES - CHUNK_BYTES % ENTRY_BYTES];
        let mut loader = Loader { rt, file_bytes, from, files_end, look_behind, chunk };
        for topic in list(rt, root).await? {
            if !topic.is_dir {
                continue;
            }
            let topic_dir = format!("{root}/{}", topic.name);
            for queue in rt.list(&topic_dir).await.map_err(RecoverError::io("list", &topic_dir))? {
                let Some(queue_id) = queue.name.parse().ok().filter(|_| queue.is_dir) else { continue };
                let dir = format!("{topic_dir}/{}", queue.name);
                let mut loaded = loader.load(&dir).await?;
                if dropped.contains(&topic.name) && loaded.last_end <= dropped.before(&topic.name) {
                    loaded.drop_all_files(&dir);
                }
                queues.entry(topic.name.clone()).or_default().insert(queue_id, loaded);
            }
        }
        Ok(RecoveringQueues {
            root: root.to_owned(),
            file_bytes,
            from,
            from_min,
            dropped: dropped.clone(),
            queues,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// A queue with an entry of a record on disk.
    pub fn with_entries(&self) -> Option<(&str, i32)> {
        self.queues.iter().find_map(|(topic, queues)| {
            let (queue, _) = queues.iter().find(|(_, queue)| queue.last_end > 0)?;
            Some((topic.as_str(), *queue))
        })
    }

    /// A queue that lacks a file before one that is there, or entries before others. Where the log says nothing of it behind the start of the scan, it
    /// would lose what its later files hold, and give their offsets away again.
    pub fn torn_apart(&self) -> Option<(&str, i32)> {
        self.queues.iter().find_map(|(topic, queues)| {
            let torn = queues.iter().find(|(_, queue)| queue.torn_apart)?;
            Some((topic.as_str(), *torn.0))
        })
    }

    /// A queue that ends with an entry of a place that the scan has read, where no record is of it. Its record lies before the scan,
    /// if a bit has turned in it.
    pub fn unexplained(&self, scan_end: u64) -> Option<(&str, i32)> {
        self.queues.iter().find_map(|(topic, queues)| {
            let is_it = |queue: &Recovering| queue.restart.is_none() && queue.is_unexplained(scan_end);
            let found = queues.iter().find(|(_, queue)| is_it(queue))?;
            Some((topic.as_str(), *found.0))
        })
    }

    /// The names of all queues.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.queues.iter().flat_map(|(topic, queues)| queues.keys().map(|id| Unfinished::name(topic, *id)))
    }

    /// The names of the queues whose files [`Self::finish`] may have to change.
    pub fn changing(&self) -> impl Iterator<Item = String> {
        self.queues.iter().flat_map(|(topic, queues)| {
            let changing = queues.iter().filter(|(_, queue)| queue.may_change());
            changing.map(|(queue_id, _)| Unfinished::name(topic, *queue_id))
        })
    }

    /// Takes out what recovery cannot repair.
    pub fn take_refusals(&mut self) -> Vec<RecoverError> {
        let queues = self.queues.values_mut().flat_map(BTreeMap::values_mut);
        let taken = queues.flat_map(|queue| {
            queue.refused.extend(queue.refusals.iter().map(ToString::to_string));
            std::mem::take(&mut queue.refusals)
        });
        taken.collect()
    }

    /// What recovery would leave of each queue, and what it would have to change. Exact when the scan began at the start of the log.
    pub fn report(&self) -> Vec<LookedQueue> {
        let queues = self.queues.iter().flat_map(|(topic, queues)| {
            queues.iter().map(move |(queue_id, queue)| (topic, *queue_id, queue))
        });
        queues.map(|(topic, queue_id, queue)| queue.report(topic, queue_id, self.from_min)).collect()
    }

    /// Takes the entry of the next record of the scan, which was stored at `stored_ms`.
    ///
    /// # Errors
    /// [`QueueGap`]: the scan must begin at the start of the log.
    pub fn take(
        &mut self,
        topic: &str,
        queue_id: i32,
        n: i64,
        (entry, stored_ms): (&Entry, i64),
    ) -> Result<(), QueueGap> {
        let from_min = self.from_min;
        let goes_on =
            self.from <= self.dropped.before(topic) && self.dropped.next(topic, queue_id) == Some(n);
        let queue = match self.queues.get_mut(topic).and_then(|queues| queues.get_mut(&queue_id)) {
            Some(queue) => queue,
            None => self.queues.entry(topic.to_owned()).or_default().entry(queue_id).or_default(),
        };
        let expected = queue.expected();
        let gap = || QueueGap { topic: topic.to_owned(), queue_id, expected, found: n };
        let begins = queue.files.is_empty() && queue.found.is_empty() && queue.restart.is_none();
        if let Some(here) = queue.has_already(topic, entry, stored_ms) {
            queue.found.extend_from_slice(&here);
        } else if n == expected {
            queue.found.extend_from_slice(&entry.encode());
        } else if begins && n > 0 && (from_min || goes_on) {
            queue.begin_anew(n, entry);
        } else if n > expected || n == 0 {
            if !from_min {
                return Err(gap());
            }
            // The log starts the queue anew (the topic was deleted and made again), or holds no longer what is missing.
            tracing::warn!(topic, queue_id, expected, found = n, "the queue begins anew");
            queue.begin_anew(n, entry);
        } else if queue.found.is_empty() && !from_min {
            return Err(gap());
        } else if queue.found.is_empty() && !queue.holds {
            // A power loss kept the name of a later file and lost those before it, whose records the log still has.
            queue.begin_anew(n, entry);
        } else {
            tracing::warn!(topic, queue_id, expected, found = n, "the log gives a queue offset twice");
        }
        Ok(())
    }

    /// Takes the entry of a record that is also in another queue than its own, where Java has put it (light queues). Whether
    /// a broker does so is a setting of it, so only queues that are there are continued, and light ones made again.
    pub fn take_light(&mut self, topic: &str, queue_id: i32, n: i64, (entry, stored_ms): (&Entry, i64)) {
        let from_min = self.from_min;
        let found = self.queues.get_mut(topic).and_then(|queues| queues.get_mut(&queue_id));
        let queue = match found {
            Some(queue) => queue,
            None if topic.starts_with(LIGHT_PREFIX) && (n == 0 || from_min) => {
                self.queues.entry(topic.to_owned()).or_default().entry(queue_id).or_default()
            }
            None => return,
        };
        let empty = queue.files.is_empty() && queue.found.is_empty() && queue.restart.is_none();
        if let Some(here) = queue.has_already(topic, entry, stored_ms) {
            queue.found.extend_from_slice(&here);
        } else if n == queue.expected() {
            queue.found.extend_from_slice(&entry.encode());
        } else if empty && n > 0 {
            queue.begin_anew(n, entry);
        }
    }

    /// Brings the files in accord with the scan and gives the queues. Entries of records from `flush_from` on are then durable,
    /// and so are queues `in_doubt`: nothing that was cut or removed of them comes back.
    ///
    /// # Errors
    /// `Repair`: of writing or flushing.
    pub async fn finish<R: Runtime>(
        self,
        rt: &R,
        queues: &ConsumeQueues<R>,
        (log_min, slave): (u64, bool),
        (flush_from, in_doubt): (Option<u64>, &BTreeSet<String>),
    ) -> Result<(), RecoverError> {
        let RecoveringQueues { root, file_bytes, from, queues: recovering, dropped, .. } = self;
        let mut folders = BTreeSet::new();
        for (topic, by_id) in recovering {
            for (queue_id, queue) in by_id {
                let dir = format!("{root}/{topic}/{queue_id}");
                let in_doubt = in_doubt.contains(&Unfinished::name(&topic, queue_id));
                if dropped.contains(&topic) && queue.is_empty() {
                    let removed = remove_dropped(rt, &dir, &queue, in_doubt).await;
                    removed.map_err(RecoverError::repair(&dir))?;
                    continue;
                }
                let log_min = log_min.max(dropped.before(&topic));
                let dir = dir.as_str();
                let repair =
                    Repair { rt, queues, file_bytes, dir, flush_from, in_doubt, from, log_min, slave };
                let first = queue.first.filter(|_| queue.restart.is_none());
                let done = repair.run(&topic, queue_id, queue, &mut folders).await;
                let queue = done.map_err(RecoverError::repair(dir))?;
                let min = match first {
                    Some((n, offset)) if offset >= log_min && n < queue.max() => n,
                    _ => queue.first_kept(&queues.files, log_min).await.map_err(RecoverError::repair(dir))?,
                };
                queue.raise_min(min);
            }
        }
        if rt.mutant(Mutant::QueueFilesUnsynced) {
            return Ok(());
        }
        for folder in folders {
            sync_if_there(rt, &folder).await.map_err(RecoverError::repair(&folder))?;
        }
        Ok(())
    }
}

/// A folder that another recovery was about to make, or has removed, has no names.
async fn sync_if_there<R: Runtime>(rt: &R, dir: &str) -> io::Result<()> {
    match rt.sync_dir(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// Removes what is left of a queue that was dropped; a folder that stays is looked at again at the next start. The files are gone
/// for good: where the log now ends before what they hold, none of them would be known as one of a queue that was dropped.
async fn remove_dropped<R: Runtime>(rt: &R, dir: &str, queue: &Recovering, in_doubt: bool) -> io::Result<()> {
    for path in &queue.unused {
        rt.remove(path).await?;
    }
    if in_doubt || !queue.unused.is_empty() {
        sync_if_there(rt, dir).await?;
    }
    let topic_dir = super::recovery::parent(dir);
    for folder in [dir, topic_dir] {
        // The second is not empty before its last queue.
        if rt.remove_dir(folder).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl Recovering {
    /// Whether there are no entries, on disk or in the log.
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.found.is_empty()
    }

    /// Whether there is something to cut, write or remove. A file behind the last entry that holds nothing does not count.
    fn may_change(&self) -> bool {
        let holds_nothing = !self.files.is_empty() && !self.holds && self.found.is_empty();
        let as_found = self.tail == self.found && self.unused.is_empty() && self.restart.is_none();
        !as_found || self.residue || holds_nothing
    }

    /// The queue was dropped with all that its files hold.
    fn drop_all_files(&mut self, dir: &str) {
        let files = self.files.drain(..).map(|base| format!("{dir}/{}", file_name(base)));
        self.unused.extend(files);
        self.tail.clear();
        self.kept = 0;
        self.first = None;
        self.residue = false;
    }

    /// A power loss kept the name of a later file and lost those before it, and the log, which is whole, holds nothing of
    /// this queue: its offsets were never shown, and it begins at 0 again.
    fn drop_stray_files(&mut self, dir: &str) {
        let first = self.files.first().map_or(0, |base| (base / ENTRY) as i64);
        if first > 0 && self.kept == first && self.found.is_empty() {
            let files = self.files.drain(..).map(|base| format!("{dir}/{}", file_name(base)));
            self.unused.extend(files);
            self.tail.clear();
            self.kept = 0;
            self.residue = false;
        }
    }

    fn expected(&self) -> i64 {
        self.restart.unwrap_or(self.kept) + (self.found.len() / ENTRY_BYTES) as i64
    }

    /// The entry on disk at the place where the scan stands, when it is this one: whatever offset the record states, the
    /// queue has it. In the place of the tag's hash it may point at a unit of the queue's extension, or state the due time
    /// by the delays that were set when it was written: a time after `stored_ms`, and not what is left of the entry's own when
    /// its last bytes were not stored.
    fn has_already(&self, topic: &str, entry: &Entry, stored_ms: i64) -> Option<[u8; ENTRY_BYTES]> {
        let at = self.found.len();
        let here = self.tail.get(at..at + ENTRY_BYTES).filter(|_| self.restart.is_none())?;
        let here: [u8; ENTRY_BYTES] = here.try_into().expect("the range has that length");
        let on_disk = Unit::decode(&here).entry()?;
        let due_later = topic == SCHEDULE_TOPIC
            && on_disk.tags_code > stored_ms
            && !has_lost_its_end(on_disk.tags_code, entry.tags_code);
        let own_code = on_disk.is_extended() || due_later;
        let tags_code = if own_code { on_disk.tags_code } else { entry.tags_code };
        (Entry { tags_code, ..*entry } == on_disk).then_some(here)
    }

    fn report(&self, topic: &str, queue: i32, from_min: bool) -> LookedQueue {
        let first = self.restart.unwrap_or(self.kept);
        let first_file = self.files.first().map_or(first, |base| (base / ENTRY) as i64);
        let min = if from_min { first } else { first_file };
        let max = self.expected();
        let mut problems = self.refused.clone();
        let (on_disk, in_log) = (self.tail.len() / ENTRY_BYTES, self.found.len() / ENTRY_BYTES);
        let pairs = self.tail.chunks(ENTRY_BYTES).zip(self.found.chunks(ENTRY_BYTES));
        let same = pairs.take_while(|(old, new)| old == new).count();
        if let Some(restart) = self.restart {
            problems.push(format!("the log continues at {restart}, the queue at {}", self.kept));
        } else if same < on_disk.min(in_log) {
            problems.push(format!("entry {} is not the one of its record", first + same as i64));
        } else if on_disk > in_log {
            problems.push(format!("{} entries point behind the log", on_disk - in_log));
        } else if on_disk < in_log {
            problems.push(format!("{} entries are missing", in_log - on_disk));
        }
        if self.residue {
            problems.push("bytes behind the last entry are not zero".to_owned());
        }
        problems.extend(self.unused.iter().map(|path| format!("{path} holds no entries")));
        let report = QueueReport { topic: topic.to_owned(), queue, min, max, entries: max - min, problems };
        LookedQueue { report, lost: on_disk.saturating_sub(in_log) as u64 }
    }

    fn begin_anew(&mut self, n: i64, entry: &Entry) {
        self.restart = Some(n);
        self.found.clear();
        self.found.extend_from_slice(&entry.encode());
    }
}

/// Whether `on_disk` is `whole` with zeros for its last bytes, for one of them at least.
fn has_lost_its_end(on_disk: i64, whole: i64) -> bool {
    on_disk != whole && (1..8).any(|bytes| on_disk == whole >> (8 * bytes) << (8 * bytes))
}

/// Reads queues one after the other, each with as few waits as it can: there may be tens of thousands.
struct Loader<'a, R: Runtime> {
    rt: &'a R,
    file_bytes: u64,
    from: u64,
    files_end: u64,
    look_behind: LookBehind,
    chunk: Vec<u8>,
}

impl<R: Runtime> Loader<'_, R> {
    async fn load(&mut self, dir: &str) -> Result<Recovering, RecoverError> {
        let mut queue = Recovering::default();
        let names = self.rt.list(dir).await.map_err(RecoverError::io("list", dir))?;
        let mut last_file = None;
        for entry in names.into_iter().filter(|entry| !entry.is_dir) {
            let path = format!("{dir}/{}", entry.name);
            let Some(base) = parse_file_name(&entry.name) else {
                queue.refusals.push(RecoverError::FileName { file: path });
                continue;
            };
            let file = self.rt.open_file(&path, true).await.map_err(RecoverError::io("open", &path))?;
            let len = file.len().map_err(RecoverError::io("look at", &path))?;
            if len != 0 && len != self.file_bytes {
                let expected = self.file_bytes;
                queue.refusals.push(RecoverError::FileLength { file: path, expected, found: len });
                continue;
            }
            if base % self.file_bytes != 0 {
                queue.refusals.push(RecoverError::FileBase { file: path, base, file_bytes: self.file_bytes });
                continue;
            }
            let continues = queue.files.last().is_none_or(|last| last + self.file_bytes == base);
            if len == 0 || !continues || !queue.unused.is_empty() {
                // A power loss kept a later file and lost this one's length: the log has what it held.
                queue.unused.push(path);
                queue.torn_apart |= len != 0;
            } else {
                queue.files.push(base);
                last_file = Some(file);
            }
        }
        if let Some(last_file) = last_file {
            let read = self.read(dir, last_file, &mut queue).await;
            read.map_err(RecoverError::io("read the queue", dir))?;
        }
        Ok(queue)
    }

    /// Reads from the last file on that begins with an entry below the start of the scan; the ones before it are complete.
    async fn read(&mut self, dir: &str, last_file: R::File, queue: &mut Recovering) -> io::Result<()> {
        let mut files = vec![last_file];
        let mut start = queue.files.len() - 1;
        while start > 0 && !self.begins_below(files.last().expect("one was opened"))? {
            start -= 1;
            let base = queue.files.get(start).copied().expect("it is below their number");
            files.push(self.rt.open_file(&format!("{dir}/{}", file_name(base)), true).await?);
        }
        queue.kept = queue.files.get(start).map_or(0, |base| (base / ENTRY) as i64);
        let (mut last, mut ended) = (None, false);
        for file in files.iter().rev() {
            self.read_file(file, queue, &mut last, &mut ended)?;
        }
        if start > 0 {
            queue.first = None;
        }
        queue.last_end = last.unwrap_or(0);
        Ok(())
    }

    fn begins_below(&self, file: &R::File) -> io::Result<bool> {
        let mut unit = [0; ENTRY_BYTES];
        file.read_at(0, &mut unit)?;
        Ok(Unit::decode(&unit).entry().is_some_and(|entry| entry.physical_offset < self.from))
    }

    fn read_file(
        &mut self,
        file: &R::File,
        queue: &mut Recovering,
        last: &mut Option<u64>,
        ended: &mut bool,
    ) -> io::Result<()> {
        let (mut at, mut looked) = (0, 0);
        while at < self.file_bytes
            && (!*ended || looked < self.look_behind.limit(queue.tail.len()))
            && !queue.residue
        {
            // Small queues are many: look at their first page before more is read.
            let limit = self.look_behind.limit(queue.tail.len());
            let most = match () {
                () if at == 0 => FIRST_READ_BYTES,
                () if *ended && limit < self.chunk.len() as u64 => FIRST_READ_BYTES,
                () => self.chunk.len(),
            };
            let count = most.min(usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX));
            let bytes = self.chunk.get_mut(..count).expect("at most its length");
            file.read_at(at, bytes)?;
            let mut taken = 0;
            if !*ended {
                let is_in_log =
                    |unit: &Unit| unit.entry().is_none_or(|entry| entry.physical_offset < self.files_end);
                let whole = units(bytes).take_while(is_in_log);
                taken = whole.take_while(|unit| queue.take_unit(*unit, self.from, last)).count();
                *ended = taken < bytes.len() / ENTRY_BYTES;
                let ends_at = bytes.as_chunks::<ENTRY_BYTES>().0.get(taken);
                queue.torn_apart |= ends_at.is_some_and(|unit| has_turned(unit, self.from, self.files_end));
            }
            let behind = bytes.get(taken * ENTRY_BYTES..).unwrap_or(&[]);
            queue.residue = *ended && ZEROS.get(..behind.len()) != Some(behind);
            if queue.residue {
                let mut entries = units(behind).filter_map(Unit::entry);
                queue.torn_apart |= entries.any(|entry| entry.physical_offset < self.from);
            }
            looked += if *ended { behind.len() as u64 } else { 0 };
            at += count as u64;
        }
        Ok(())
    }
}

/// Whether `unit`, at which a queue seems to end, is what a disk has made of an entry whose record lies before the scan: it
/// points behind all files of the log, whose names were durable before anything was appended, or to a record there, of which the
/// rest says nothing. A loss of power leaves zeros for a part of it at most.
fn has_turned(unit: &[u8; ENTRY_BYTES], from: u64, files_end: u64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = *unit;
    let physical_offset = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let is_none = Unit::decode(unit) == Unit::Nothing;
    physical_offset >= files_end || is_none && (1..from).contains(&physical_offset)
}

impl Recovering {
    /// Whether the first entry on disk that the scan does not have points into what it has read.
    fn is_unexplained(&self, scan_end: u64) -> bool {
        let (old, new) = (self.tail.as_chunks::<ENTRY_BYTES>().0, self.found.as_chunks::<ENTRY_BYTES>().0);
        let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let other = old.get(same).map(Unit::decode).and_then(Unit::entry);
        new.len() == same && other.is_some_and(|entry| entry.physical_offset < scan_end)
    }

    /// Bytes of the entries in `found` of records below `position`.
    fn found_before(&self, position: u64) -> usize {
        let entries = self.found.as_chunks::<ENTRY_BYTES>().0.iter().map(Unit::decode);
        let before = |unit: &Unit| unit.entry().is_some_and(|entry| entry.physical_offset < position);
        entries.take_while(before).count() * ENTRY_BYTES
    }

    /// Takes the next unit of the files; false when the queue ends before it.
    fn take_unit(&mut self, unit: Unit, from: u64, last: &mut Option<u64>) -> bool {
        match unit {
            Unit::PreBlank if self.tail.is_empty() && last.is_none() => self.kept += 1,
            Unit::Entry(entry) if last.is_none_or(|last| entry.physical_offset >= last) => {
                if last.is_none() {
                    self.first = Some((self.kept, entry.physical_offset));
                }
                *last = Some(entry.end());
                if entry.physical_offset < from && self.tail.is_empty() {
                    self.kept += 1;
                    self.holds = true;
                } else {
                    self.tail.extend_from_slice(&entry.encode());
                }
            }
            _ => return false,
        }
        true
    }
}

struct Repair<'a, R: Runtime> {
    rt: &'a R,
    queues: &'a ConsumeQueues<R>,
    file_bytes: u64,
    dir: &'a str,
    flush_from: Option<u64>,
    /// Another recovery has died while it was changing the queue.
    in_doubt: bool,
    from: u64,
    log_min: u64,
    slave: bool,
}

impl<R: Runtime> Repair<'_, R> {
    async fn run(
        &self,
        topic: &str,
        queue_id: i32,
        mut queue: Recovering,
        folders: &mut BTreeSet<String>,
    ) -> io::Result<Arc<ConsumeQueue>> {
        let rt = self.rt;
        if self.log_min == 0 {
            queue.drop_stray_files(self.dir);
        }
        if self.slave && !queue.holds && queue.found.is_empty() {
            // The log of a slave begins in the middle, and so do its queues. One that has lost all its entries begins anew
            // with the next record that the master pushes, wherever the blank units that are left end.
            queue.drop_all_files(self.dir);
        }
        for path in &queue.unused {
            rt.remove(path).await?;
        }
        if rt.mutant(Mutant::RedispatchRepeats) && queue.restart.is_none() {
            // Of records that the checkpoint does not know to be in the queues.
            let ahead = self.flush_from.map_or(usize::MAX, |from| queue.found_before(from));
            let found = std::mem::replace(&mut queue.found, queue.tail.clone());
            queue.found.extend_from_slice(found.get(ahead..).unwrap_or(&[]));
        }
        if rt.mutant(Mutant::RecoverKeepsQueueTail) && queue.tail.len() > queue.found.len() {
            let kept = queue.tail.get(queue.found.len()..).unwrap_or(&[]).to_vec();
            queue.found.extend_from_slice(&kept);
        }
        if queue.restart.is_some() {
            for base in queue.files.drain(..) {
                rt.remove(&self.path(base)).await?;
            }
            queue.tail.clear();
        }
        let first = queue.restart.unwrap_or(queue.kept);
        let same = queue.tail.chunks(ENTRY_BYTES).zip(queue.found.chunks(ENTRY_BYTES));
        let same = same.take_while(|(old, new)| old == new).count() * ENTRY_BYTES;
        let max = first + (queue.found.len() / ENTRY_BYTES) as i64;
        let trimmed = self.remove_behind(&mut queue, max).await?;
        let files = (
            queue.files.first().copied().unwrap_or(0),
            queue.files.last().map_or(0, |last| last + self.file_bytes),
        );
        // Without files the queue begins at its first entry, and what precedes it in the file is filled.
        let min = if queue.files.is_empty() { first } else { (files.0 / ENTRY) as i64 };
        let extent = Extent { min, max, files };
        let known = self.queues.add(topic, queue_id, extent);
        let new = queue.found.get(same..).unwrap_or(&[]);
        let write_at = first + (same / ENTRY_BYTES) as i64;
        let residue = queue.residue && !rt.mutant(Mutant::QueueResidueStays);
        let cut = queue.tail.len() > same || residue || self.in_doubt;
        if cut && !(rt.mutant(Mutant::TruncateInMemory)) {
            self.zero_behind(&known, write_at).await?;
        }
        if !new.is_empty() {
            known.write(rt, &self.queues.files, write_at, new).await?;
        }
        let changed = cut || trimmed || !new.is_empty() || !queue.unused.is_empty();
        if changed {
            rt.probe("store.queue_repaired", self.from, max as u64);
        }
        let newest = queue.found.as_chunks::<ENTRY_BYTES>().0.last().map(Unit::decode);
        let newest = newest.and_then(Unit::entry).map_or(0, |entry| entry.physical_offset);
        let doubtful = self.flush_from.is_some_and(|from| newest >= from && !queue.found.is_empty());
        if changed || doubtful {
            known.make_durable_from(&self.queues.files, first, self.flush_from.is_some(), folders).await?;
        }
        Ok(known)
    }

    fn path(&self, base: u64) -> String {
        format!("{}/{}", self.dir, file_name(base))
    }

    /// Removes the files that begin behind the last entry, but for the first.
    async fn remove_behind(&self, queue: &mut Recovering, max: i64) -> io::Result<bool> {
        let end = u64::try_from(max).unwrap_or(0).saturating_mul(ENTRY);
        let mut removed = false;
        while let Some(last) = queue.files.last().copied()
            && queue.files.len() > 1
            && last >= end
        {
            self.rt.remove(&self.path(last)).await?;
            queue.files.pop();
            removed = true;
        }
        if removed && !self.rt.mutant(Mutant::QueueFilesUnsynced) {
            self.rt.sync_dir(self.dir).await?;
        }
        Ok(removed)
    }

    /// Sets all behind entry `n` to zero, so that no entry that was cut comes back.
    async fn zero_behind(&self, queue: &ConsumeQueue, n: i64) -> io::Result<()> {
        let mut at = u64::try_from(n).unwrap_or(0).saturating_mul(ENTRY);
        while at < queue.files_end() {
            let base = at - at % self.file_bytes;
            let file = self.rt.open_file(&self.path(base), false).await?;
            self.write_zeros(&file, at - base)?;
            if file.flush(at - base..self.file_bytes).await.is_err() {
                // See `recovery`: it may be what the process before has lost.
                self.write_zeros(&file, at - base)?;
                file.flush(at - base..self.file_bytes).await?;
            }
            at = base + self.file_bytes;
        }
        Ok(())
    }

    fn write_zeros(&self, file: &R::File, mut inside: u64) -> io::Result<()> {
        let zeros = vec![0; CHUNK_BYTES];
        while inside < self.file_bytes {
            let count = zeros.len().min(usize::try_from(self.file_bytes - inside).unwrap_or(usize::MAX));
            file.write_at(inside, zeros.get(..count).expect("at most its length"))?;
            inside += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(physical_offset: u64) -> Entry {
        Entry { physical_offset, size: 100, tags_code: 7 }
    }

    /// A queue with entries 0 and 1 below the start of the scan and `tail` behind.
    fn queues(from_min: bool, tail: &[Entry]) -> RecoveringQueues {
        let tail = tail.iter().flat_map(Entry::encode).collect();
        let queue = Recovering { files: vec![0], kept: 2, tail, ..Recovering::default() };
        let by_id = BTreeMap::from([(0, queue)]);
        RecoveringQueues {
            root: "consumequeue".to_owned(),
            file_bytes: 400,
            from: 1_000,
            from_min,
            dropped: DroppedTopics::default(),
            queues: BTreeMap::from([("T".to_owned(), by_id)]),
        }
    }

    fn found(queues: &RecoveringQueues, topic: &str) -> (i64, i64) {
        let mut reports = queues.report().into_iter().map(|looked| looked.report);
        let report = reports.find(|queue| queue.topic == topic).expect("a queue");
        (report.min, report.max)
    }

    #[test]
    fn entries_continue_the_queue_and_a_hole_before_them_asks_for_more_of_the_log() {
        let mut queues = queues(false, &[]);
        assert_eq!(queues.take("T", 0, 2, (&entry(1_000), 0)), Ok(()));
        assert_eq!(queues.take("T", 0, 3, (&entry(1_100), 0)), Ok(()));
        let gap = queues.take("T", 0, 5, (&entry(1_200), 0)).expect_err("offset 4 is missing");
        assert_eq!((gap.expected, gap.found), (4, 5));
        assert!(queues.take("New", 0, 3, (&entry(1_300), 0)).is_err(), "its first three are before the scan");
        assert_eq!(queues.take("New", 0, 0, (&entry(1_300), 0)), Ok(()));
    }

    #[test]
    fn a_unit_in_which_a_bit_has_turned_is_told_from_one_that_a_loss_of_power_has_torn() {
        let turned = |unit: [u8; ENTRY_BYTES]| has_turned(&unit, 1_000, 4_000);
        assert!(!turned([0; ENTRY_BYTES]) && !turned(entry(900).encode()) && !turned(entry(1_100).encode()));
        assert!(turned(entry(4_000).encode()), "no file reaches there");
        let with = |at: u64, change: &dyn Fn(&mut [u8; ENTRY_BYTES])| {
            let mut unit = entry(at).encode();
            change(&mut unit);
            unit
        };
        assert!(turned(with(900, &|unit| unit[0] ^= 0x80)) && turned(with(900, &|unit| unit[8] ^= 0x80)));
        // Written behind the beginning of the scan, and half of it lost.
        assert!(
            !turned(with(1_100, &|unit| unit[8..].fill(0))) && !turned(with(900, &|unit| unit[..12].fill(0)))
        );
    }

    #[test]
    fn an_entry_of_a_place_that_the_scan_has_read_asks_for_more_of_the_log() {
        let behind_the_log = queues(false, &[entry(1_500)]);
        assert_eq!(behind_the_log.unexplained(1_500), None);
        assert_eq!(behind_the_log.unexplained(1_501), Some(("T", 0)));
        let mut known = queues(false, &[entry(1_000)]);
        known.take("T", 0, 2, (&entry(1_000), 0)).expect("taken");
        assert_eq!(known.unexplained(1_501), None);
    }

    #[test]
    fn where_the_log_has_no_more_a_queue_begins_anew() {
        let mut queues = queues(true, &[]);
        assert_eq!(queues.take("T", 0, 9, (&entry(1_000), 0)), Ok(()));
        assert_eq!(queues.take("Old", 0, 40, (&entry(1_100), 0)), Ok(()));
        assert_eq!(queues.take("Old", 0, 41, (&entry(1_200), 0)), Ok(()));
        assert_eq!((found(&queues, "T"), found(&queues, "Old")), ((9, 10), (40, 42)));
        // The topic was deleted and made again.
        assert_eq!(queues.take("Old", 0, 0, (&entry(1_300), 0)), Ok(()));
        assert_eq!(found(&queues, "Old"), (0, 1));
    }

    #[test]
    fn a_queue_that_has_lost_its_first_files_begins_where_the_log_has_it() {
        let mut queues = queues(true, &[entry(1_300)]);
        assert_eq!(queues.take("T", 0, 1, (&entry(1_200), 0)), Ok(()));
        assert_eq!(queues.take("T", 0, 2, (&entry(1_300), 0)), Ok(()));
        assert_eq!(found(&queues, "T"), (1, 3));
    }

    #[test]
    fn what_the_queue_has_already_is_taken_by_its_place_and_an_offset_is_not_given_twice() {
        let mut queues = queues(false, &[entry(1_000), entry(1_100)]);
        // A Java bug once shifted queues: the entry on disk counts, not the offset the record states.
        assert_eq!(queues.take("T", 0, 5, (&entry(1_000), 0)), Ok(()));
        assert_eq!(queues.take("T", 0, 6, (&entry(1_100), 0)), Ok(()));
        assert_eq!(queues.take("T", 0, 3, (&entry(1_200), 0)), Ok(()), "left out");
        assert_eq!(queues.take("T", 0, 4, (&entry(1_300), 0)), Ok(()));
        assert_eq!(found(&queues, "T").1, 5);
    }

    #[test]
    fn a_due_time_on_disk_counts_unless_a_crash_has_torn_it() {
        let due = |tags_code| Entry { tags_code, ..entry(1_000) };
        // 6,000 is 0x1770.
        for (on_disk, kept) in
            [(5_000, 5_000), (7_000, 7_000), (5_888, 6_000), (5_889, 5_889), (0, 6_000), (4_000, 6_000)]
        {
            let mut queues = queues(false, &[due(on_disk)]);
            let by_id = queues.queues.remove("T").expect("it");
            queues.queues.insert(SCHEDULE_TOPIC.to_owned(), by_id);
            assert_eq!(queues.take(SCHEDULE_TOPIC, 0, 2, (&due(6_000), 4_500)), Ok(()));
            assert_eq!(queues.queues[SCHEDULE_TOPIC][&0].found, due(kept).encode());
        }
    }

    #[test]
    fn a_report_says_what_recovery_would_change() {
        let problems = |queues: &RecoveringQueues| queues.report().remove(0).report.problems;
        let behind = queues(false, &[entry(1_000)]);
        assert_eq!(problems(&behind), ["1 entries point behind the log"]);
        let mut other = queues(false, &[entry(1_000)]);
        other.take("T", 0, 2, (&entry(1_100), 0)).expect("taken");
        assert_eq!(problems(&other), ["entry 2 is not the one of its record"]);
        let mut missing = queues(false, &[]);
        missing.take("T", 0, 2, (&entry(1_100), 0)).expect("taken");
        assert_eq!(problems(&missing), ["1 entries are missing"]);
    }
}

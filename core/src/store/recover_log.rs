//! Recovery of the log: which files there are, where the scan begins, where it ends, and what lies behind is made harmless.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use super::checkpoint::{Checkpoint, NO_RECORD_CRC, Own, Positions};
use super::commit_log::Recovered;
use super::error::{RecoverError, ScanEnd};
use super::mapped_file::{MappedFile, parse_file_name};
use super::recovery::{Paths, parent};
use crate::message::codec::{self, BLANK_BYTES, Check, Head, Record, RecordCrc, RecordError};
use crate::runtime::storage::{Backing, DirEntry};
use crate::runtime::{Mutant, Runtime, SegmentReader, SegmentWriter};

/// The scan looks at the log through windows of this size.
const WINDOW_BYTES: u64 = 1 << 20;
/// The checkpoint remembers a record's position at least this far behind the end, or a file when that is less, so that a
/// start after a clean stop still verifies the last records.
const MARK_BYTES: u64 = 16 << 20;

/// How far apart the positions are that a checkpoint may point at.
pub(crate) fn mark_bytes(file_bytes: u64) -> u64 {
    MARK_BYTES.min(file_bytes)
}
/// Java starts the scan after a clean stop at the third-last file.
const CLEAN_FILES: usize = 3;
/// How long a cut waits for views; there are none during recovery.
const CUT_PATIENCE: Duration = Duration::from_secs(1);

/// The log's files as found, none changed yet.
pub(crate) struct LogFiles<R: Runtime> {
    dirs: Vec<String>,
    /// Files in them are only read.
    read_only: Vec<String>,
    /// The first of several folders that is not there.
    pub missing_folder: Option<String>,
    file_bytes: u64,
    files: Vec<Found<R>>,
    /// Files that hold nothing of the log, to be removed: never used, or left by a cut that a crash interrupted.
    unused: Vec<String>,
    /// The first file that does not continue the one before it.
    gap: Option<Gap>,
    /// The last file with a byte that is not zero, of use or not.
    newest: String,
    /// Where the log begins when there is no file of it.
    begins_at: u64,
    /// What recovery cannot repair. Nothing behind the first such file is among `files`.
    pub refusals: Vec<RecoverError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Gap {
    file: String,
    expected: u64,
    found: u64,
}

struct Found<R: Runtime> {
    file: MappedFile<R>,
    writer: R::SegmentWriter,
}

/// Positions of records, at least so many bytes apart: the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    bytes: u64,
    older: u64,
    newer: u64,
}

impl Marks {
    pub fn new(position: u64, bytes: u64) -> Marks {
        Marks { bytes, older: position, newer: position }
    }

    pub fn pass(&mut self, position: u64) {
        if position >= self.newer.saturating_add(self.bytes) {
            (self.older, self.newer) = (self.newer, position);
        }
    }

    /// The last of them that is far enough behind `position`.
    pub fn behind(&self, position: u64) -> u64 {
        if position >= self.newer.saturating_add(self.bytes) { self.newer } else { self.older }
    }
}

/// What is known of records before they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trust {
    /// From here on every record that we wrote carries a record checksum: without one it is damaged, unless another broker
    /// wrote it.
    record_crc_from: u64,
    /// All others may be others'.
    ours_from: u64,
    ours_until: u64,
    /// What lies below was durable, and what was stored until then, in ms: there no power could be lost in the middle of a
    /// record, and zeros in it are its sender's.
    durable: u64,
    durable_ms: i64,
}

impl Trust {
    /// For a directory that its last process has left in order, or not.
    pub fn new(checkpoint: &Checkpoint, clean: bool) -> Trust {
        match checkpoint.positions() {
            Some(own) => Trust {
                record_crc_from: own.record_crc_from,
                ours_from: own.ours_from.min(own.record_crc_from),
                ours_until: own.stopped_at,
                durable: if clean { u64::MAX } else { own.queues_durable },
                durable_ms: i64::MIN,
            },
            None if clean => Trust::unknown(),
            // Java's own word for it.
            None => Trust { durable: 0, durable_ms: checkpoint.physic_ms, ..Trust::unknown() },
        }
    }

    /// For those who want to see what is there: nothing speaks against a record but what is in it.
    pub fn unknown() -> Trust {
        Trust {
            record_crc_from: NO_RECORD_CRC,
            ours_from: 0,
            ours_until: 0,
            durable: u64::MAX,
            durable_ms: i64::MAX,
        }
    }

    /// The record at the beginning of `bytes`, which is to lie at `position`, in the file that begins at `base`.
    fn decode<'a, R: Runtime>(
        &self,
        rt: &R,
        bytes: &'a [u8],
        (position, base): (u64, u64),
    ) -> Result<Record<'a>, RecordError> {
        if rt.mutant(Mutant::RecoverWithoutCrc) {
            return codec::decode(bytes, Check::Lengths).and_then(|record| match record.physical_offset {
                stated if stated == position => Ok(record),
                stated => Err(RecordError::Position { stated, position }),
            });
        }
        if rt.mutant(Mutant::BodyCrcOnly) {
            return codec::decode(bytes, Check::Body);
        }
        let record_crc = match position {
            _ if position >= self.ours_until => RecordCrc::Foreign,
            _ if position >= self.record_crc_from => RecordCrc::Expected,
            _ if position >= self.ours_from => RecordCrc::Fits,
            _ => RecordCrc::Foreign,
        };
        let record = codec::decode(bytes, Check::Whole { position, record_crc })?;
        if position >= self.durable && record.store_timestamp > self.durable_ms {
            codec::check_torn(&record, position - base)?;
        }
        Ok(record)
    }
}

/// Where the scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan {
    pub end: u64,
    pub why: ScanEnd,
    pub records: u64,
    /// Store time of the last record; 0 without one.
    pub last_timestamp: i64,
    /// A record's position at least [`mark_bytes`] before the end, or where the scan began.
    pub mark: u64,
}

impl<R: Runtime> LogFiles<R> {
    /// Finds and opens the files of `dirs`, to be read only or for a recovery. Files that are not what they must be are named in `refusals`.
    ///
    /// # Errors
    /// Of the system. Nothing was changed.
    pub async fn open(
        rt: &R,
        paths: &Paths,
        file_bytes: u64,
        backing: Backing,
    ) -> Result<LogFiles<R>, RecoverError> {
        let Paths { commit_logs: dirs, read_only, .. } = paths;
        let mut refusals = Vec::new();
        let mut names = Vec::new();
        let mut missing_folder = None;
        let folders = if rt.mutant(Mutant::OneFolderRead) { 1 } else { usize::MAX };
        for dir in paths.log_folders().take(folders) {
            if dirs.len() + read_only.len() > 1 && missing_folder.is_none() && is_missing(rt, dir).await? {
                missing_folder = Some(dir.clone());
            }
            for entry in list(rt, dir).await? {
                let path = format!("{dir}/{}", entry.name);
                if entry.is_dir {
                    continue;
                }
                let Some(base) = parse_file_name(&entry.name) else {
                    refusals.push(RecoverError::FileName { file: path });
                    continue;
                };
                let stat = rt.stat(&path).await.map_err(RecoverError::io("look at", &path))?;
                names.push((base, path, stat.len));
            }
        }
        names.sort();
        let mut unused = Vec::new();
        // A folder that took no file may have kept the name of it; the next one took it whole.
        for index in (0..names.len()).rev() {
            let Some((base, path, len)) = names.get(index) else { continue };
            let beside = [index.checked_sub(1), index.checked_add(1)].into_iter().flatten();
            let mut beside = beside.filter_map(|index| names.get(index));
            let is_twice = beside.any(|(other, ..)| other == base);
            if is_twice && is_zero(rt, path, *len).await? {
                unused.push(names.remove(index).1);
            }
        }
        while let Some((_, path, len)) = names.last() {
            // A power loss while the file was made: it was never handed out for appends (S-18).
            if *len == 0 || (*len < file_bytes && is_zero(rt, path, *len).await?) {
                unused.extend(names.pop().map(|(_, path, _)| path));
            } else {
                break;
            }
        }
        let newest = names.last().map(|(_, path, _)| path.clone()).unwrap_or_default();
        refuse_files(&mut names, file_bytes, &mut refusals);
        let continues =
            |pair: &[(u64, String, u64)]| matches!(pair, [before, file] if before.0 + file_bytes == file.0);
        let mut gap = None;
        if let Some(last) = names.windows(2).position(|pair| !continues(pair)) {
            // Later files are removed before the log is complete again; a crash may leave the last of them.
            let behind = names.split_off(last + 1);
            let expected = names.last().map_or(0, |(base, ..)| base + file_bytes);
            gap = behind.first().map(|(found, file, _)| Gap { file: file.clone(), expected, found: *found });
            unused.extend(behind.into_iter().map(|(_, path, _)| path));
        }
        let mut files = Vec::with_capacity(names.len());
        for (base, path, len) in names {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let backing = if is_in(&path, read_only) { Backing::ReadOnly } else { backing };
            let writer =
                rt.open_segment(&path, len, backing).await.map_err(RecoverError::io("map", &path))?;
            files.push(Found { file: MappedFile { base, path, reader: writer.reader() }, writer });
        }
        let (dirs, read_only) = (dirs.clone(), read_only.clone());
        Ok(LogFiles {
            dirs,
            read_only,
            missing_folder,
            file_bytes,
            files,
            unused,
            gap,
            newest,
            begins_at: 0,
            refusals,
        })
    }

    /// One file by itself, to be read, whatever its length.
    ///
    /// # Errors
    /// Of mapping it: it is empty, or not there.
    pub async fn open_one(rt: &R, base: u64, path: &str, len: u64) -> Result<LogFiles<R>, RecoverError> {
        let written = usize::try_from(len).unwrap_or(usize::MAX);
        let writer =
            rt.open_segment(path, written, Backing::ReadOnly).await.map_err(RecoverError::io("map", path))?;
        let file = MappedFile { base, path: path.to_owned(), reader: writer.reader() };
        Ok(LogFiles {
            dirs: Vec::new(),
            read_only: Vec::new(),
            missing_folder: None,
            file_bytes: len,
            files: vec![Found { file, writer }],
            unused: Vec::new(),
            gap: None,
            newest: path.to_owned(),
            begins_at: 0,
            refusals: Vec::new(),
        })
    }

    /// A file is missing in the middle of the log: the scan came to the place where it should begin.
    ///
    /// # Errors
    /// `FileMissing`.
    pub fn check_gap(&self, scan: &Scan) -> Result<(), RecoverError> {
        match &self.gap {
            Some(Gap { file, expected, found }) if scan.end >= *expected => {
                Err(RecoverError::FileMissing { file: file.clone(), expected: *expected, found: *found })
            }
            _ => Ok(()),
        }
    }

    /// Recovery would have to write to, or remove, a file in a folder that is only read.
    ///
    /// # Errors
    /// `ReadOnlyFile`.
    pub fn check_read_only(&self, scan: &Scan) -> Result<(), RecoverError> {
        let (files, end) = (self.files.iter().map(|found| &found.file), scan.end);
        let mut changed = files.filter(|file| end < file.end() && is_in(&file.path, &self.read_only));
        match changed.next() {
            Some(file) => Err(RecoverError::ReadOnlyFile { file: file.path.clone(), end }),
            None => Ok(()),
        }
    }

    /// Whether the scan has found records of the log, or there are some below where it began.
    pub fn has_records(&self, scan: &Scan) -> bool {
        scan.end > self.min() || scan.records > 0
    }

    /// Whether `path` is the last file, with records of the log in it.
    pub fn ends_in(&self, path: &str, scan: &Scan) -> bool {
        let is_last = self.gap.is_none() && self.newest == path;
        is_last
            && self.files.last().is_some_and(|found| found.file.path == path && found.file.base < scan.end)
    }

    /// The file that holds the byte at `at`, else the last one.
    pub fn file_at(&self, at: u64) -> Option<&MappedFile<R>> {
        let holds = |found: &&Found<R>| (found.file.base..found.file.end()).contains(&at);
        self.files.iter().find(holds).or(self.files.last()).map(|found| &found.file)
    }

    /// Whether no file was found that could hold records.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a file was made at `at` that has nothing yet.
    pub fn is_made_at(&self, at: u64) -> bool {
        self.unused.iter().any(|path| base_of(path) == Some(at))
    }

    /// Offset of the first byte that is kept.
    pub fn min(&self) -> u64 {
        self.files.first().map_or(self.begins_at, |found| found.file.base)
    }

    /// No file reaches beyond it, those that have nothing among them; where there is no file that says nothing.
    pub fn names_end(&self) -> u64 {
        let unused = self.unused.iter().filter_map(|path| base_of(path));
        let made = unused.map(|base| base.saturating_add(self.file_bytes));
        self.files.iter().map(|found| found.file.end()).chain(made).max().unwrap_or(u64::MAX)
    }

    /// An empty log begins at `base`, if the file that was made for it is there.
    pub fn begin_at(&mut self, base: u64) {
        if self.is_empty() && self.is_made_at(base) {
            self.begins_at = base;
        }
    }

    /// Whether nothing is missing of a log that is empty and was durable up to `durable`: its files were deleted, or were
    /// never here, and the one that is made begins there.
    pub fn begins_at_its_end(&self, durable: u64) -> bool {
        durable > 0 && self.min() == durable
    }

    /// Where the scan may begin: everything below is durable and in the queues, as far as the last process knew.
    pub fn scan_start(&self, checkpoint: &Checkpoint, clean: bool) -> u64 {
        if let Own::Valid(Positions { scan_from, .. }) = checkpoint.own {
            let known =
                self.files.iter().any(|found| (found.file.base..=found.file.end()).contains(&scan_from));
            return if known { scan_from } else { self.min() };
        }
        if clean {
            let third_last = self.files.len().saturating_sub(CLEAN_FILES);
            return self.files.get(third_last).map_or(0, |found| found.file.base);
        }
        if checkpoint.own == Own::Stale {
            return self.min();
        }
        let begins_before = |found: &&Found<R>| {
            first_timestamp(&found.file).is_some_and(|time| time != 0 && time <= checkpoint.min_ms())
        };
        self.files.iter().rev().find(begins_before).map_or_else(|| self.min(), |found| found.file.base)
    }

    /// Walks the records from `from` on, verifies each and shows it to `visit`, until the first that is not whole or
    /// `visit` breaks off.
    ///
    /// # Errors
    /// Of reading the files.
    pub async fn scan(
        &self,
        rt: &R,
        from: u64,
        trust: Trust,
        mut visit: impl FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<Scan, RecoverError> {
        let mut scan = Scan { end: from, why: ScanEnd::Clean, records: 0, last_timestamp: 0, mark: from };
        let mut marks = Marks::new(from, mark_bytes(self.file_bytes));
        for Found { file, .. } in &self.files {
            if scan.end >= file.end() {
                continue;
            }
            loop {
                let step = scan_window(rt, file, &mut scan, trust, &mut visit)
                    .map_err(RecoverError::io("read", &file.path))?;
                marks.pass(scan.end);
                scan.mark = marks.behind(scan.end);
                match step {
                    Step::Window => rt.yield_now().await,
                    Step::FileEnd => break,
                    Step::LogEnd(why) => {
                        scan.why = why;
                        return Ok(scan);
                    }
                    Step::Broken => return Ok(scan),
                }
            }
        }
        Ok(scan)
    }

    /// Ends the log at `end`: what lies behind is removed or set to zero, durably, and what lies before, from `from` on, is
    /// written again and flushed, since a failed flush before the crash may have left pages that are in memory only. Appends
    /// will go where `backing` says.
    ///
    /// # Errors
    /// `Repair`: the disk does not keep what it is told.
    pub async fn finish(
        self,
        rt: &R,
        from: u64,
        scan: &Scan,
        untouched: bool,
        backing: Backing,
    ) -> Result<Recovered<R>, RecoverError> {
        let LogFiles { dirs, read_only, files, mut unused, begins_at, .. } = self;
        let end = scan.end;
        let mut removed = false;
        // It is what says where an empty log begins.
        unused.retain(|path| begins_at == 0 || base_of(path) != Some(begins_at));
        unused.retain(|path| !is_in(path, &read_only));
        for path in &unused {
            rt.remove(path).await.map_err(RecoverError::repair(path))?;
            removed = true;
        }
        let (mut kept, mut writer) = (Vec::new(), None);
        for Found { file, writer: mut own } in files {
            if file.base > end {
                drop(own);
                rt.remove(&file.path).await.map_err(RecoverError::repair(&file.path))?;
                removed = true;
                continue;
            }
            let is_written = !is_in(&file.path, &read_only);
            if is_written && !untouched && from < file.end() && file.base < end {
                make_durable(rt, &file, &mut own, from, end)
                    .await
                    .map_err(RecoverError::repair(&file.path))?;
            }
            if end < file.end() {
                let path = file.path.clone();
                let mut cut =
                    cut(rt, file, own, end, untouched).await.map_err(RecoverError::repair(&path))?;
                if backing != Backing::Mapped {
                    cut = reopen(rt, cut, end, backing).await.map_err(RecoverError::repair(&path))?;
                }
                let (file, cut) = cut;
                kept.push(file);
                writer = Some(cut);
            } else {
                kept.push(file);
            }
        }
        // Not only for what was removed: a process that died between a file's creation and this left a name that a power
        // loss takes, with all that is written to the file from now on.
        if removed || !untouched {
            for dir in &dirs {
                rt.sync_dir(dir).await.map_err(RecoverError::repair(dir))?;
            }
        }
        rt.probe("store.recovered", from, end);
        Ok(Recovered { files: kept, writer, end, last_timestamp: scan.last_timestamp })
    }
}

/// Whether the file `path` lies in one of `folders`.
fn is_in(path: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| parent(path) == folder)
}

async fn is_missing<R: Runtime>(rt: &R, dir: &str) -> Result<bool, RecoverError> {
    match rt.list(dir).await {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(RecoverError::io("list", dir)(error)),
    }
}

/// The offset that the name of a file with this path states.
fn base_of(path: &str) -> Option<u64> {
    parse_file_name(path.rsplit('/').next()?)
}

/// The entries of `dir`; none when it is not there.
pub(crate) async fn list<R: Runtime>(rt: &R, dir: &str) -> Result<Vec<DirEntry>, RecoverError> {
    match rt.list(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(RecoverError::io("list", dir)),
    }
}

/// Names the files that are of no use. `files` ends at the first of them: what lies behind does not continue it.
fn refuse_files(files: &mut Vec<(u64, String, u64)>, file_bytes: u64, refusals: &mut Vec<RecoverError>) {
    let mut usable = None;
    let mut last = None;
    for (index, (base, path, len)) in files.iter().enumerate() {
        let before = refusals.len();
        if *len != file_bytes {
            refusals.push(RecoverError::FileLength { file: path.clone(), expected: file_bytes, found: *len });
        } else if base % file_bytes != 0 {
            refusals.push(RecoverError::FileBase { file: path.clone(), base: *base, file_bytes });
        } else if last == Some(*base) {
            let expected = base.saturating_add(file_bytes);
            refusals.push(RecoverError::FileMissing { file: path.clone(), expected, found: *base });
        }
        if refusals.len() > before && usable.is_none() {
            // A file that is only too short or too long can still be read to its end.
            let readable = *len != file_bytes && *len > 0 && base % file_bytes == 0 && last != Some(*base);
            usable = Some(if readable { index + 1 } else { index });
        }
        last = Some(*base);
    }
    files.truncate(usable.unwrap_or(files.len()));
}

async fn is_zero<R: Runtime>(rt: &R, path: &str, len: u64) -> Result<bool, RecoverError> {
    use crate::runtime::storage::File;
    let file = rt.open_file(path, true).await.map_err(RecoverError::io("open", path))?;
    let mut bytes = vec![0; 64 << 10];
    let mut at = 0;
    while at < len {
        let count = bytes.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        let part = bytes.get_mut(..count).expect("at most its length");
        file.read_at(at, part).map_err(RecoverError::io("read", path))?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

fn first_timestamp<R: Runtime>(file: &MappedFile<R>) -> Option<i64> {
    let head = file.view(file.base, BLANK_BYTES).ok()?;
    let Head::Record { size } = codec::head(head.as_ref()) else { return None };
    let view = file.view(file.base, usize::try_from(size).ok()?).ok()?;
    let check = Check::Whole { position: file.base, record_crc: RecordCrc::Foreign };
    codec::decode(view.as_ref(), check).ok().map(|record| record.store_timestamp)
}

enum Step {
    /// The window is used up.
    Window,
    FileEnd,
    LogEnd(ScanEnd),
    /// The visitor broke off.
    Broken,
}

fn scan_window<R: Runtime>(
    rt: &R,
    file: &MappedFile<R>,
    scan: &mut Scan,
    trust: Trust,
    visit: &mut impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> io::Result<Step> {
    let left = file.end() - scan.end;
    if left < BLANK_BYTES as u64 {
        scan.end = file.end();
        return Ok(Step::FileEnd);
    }
    let window = window(file, scan.end, left)?;
    let mut rest = window.as_ref();
    loop {
        let left = file.end() - scan.end;
        if left < BLANK_BYTES as u64 {
            scan.end = file.end();
            return Ok(Step::FileEnd);
        }
        if rest.len() < BLANK_BYTES {
            return Ok(Step::Window);
        }
        match codec::head(rest) {
            // Java looks at the magic alone; the length is always the rest of the file.
            Head::Blank { size } if u64::from(size) == left => {
                scan.end = file.end();
                return Ok(Step::FileEnd);
            }
            Head::Blank { size } => return Ok(Step::LogEnd(ScanEnd::Blank { size, remaining: left })),
            Head::Nothing { magic: 0 } if rest.starts_with(&[0; BLANK_BYTES]) => {
                return Ok(Step::LogEnd(ScanEnd::Clean));
            }
            Head::Nothing { magic } => return Ok(Step::LogEnd(RecordError::Magic { found: magic }.into())),
            Head::Record { size } if u64::from(size) > left => {
                let short = RecordError::Short { needed: size as usize, have: left as usize };
                return Ok(Step::LogEnd(short.into()));
            }
            Head::Record { size } if size as usize > rest.len() => return Ok(Step::Window),
            Head::Record { .. } => {}
        }
        let record = match trust.decode(rt, rest, (scan.end, file.base)) {
            Ok(record) => record,
            Err(why) => return Ok(Step::LogEnd(why.into())),
        };
        if visit(&record).is_break() {
            return Ok(Step::Broken);
        }
        scan.records += 1;
        scan.last_timestamp = scan.last_timestamp.max(record.store_timestamp);
        scan.end += u64::from(record.size);
        rest = rest.get(record.size as usize..).unwrap_or(&[]);
    }
}

/// A view from `at` on that holds at least one whole record, if there is one.
fn window<R: Runtime>(file: &MappedFile<R>, at: u64, left: u64) -> io::Result<R::View> {
    let whole = match codec::head(file.view(at, BLANK_BYTES)?.as_ref()) {
        Head::Record { size } => u64::from(size).min(left),
        _ => BLANK_BYTES as u64,
    };
    let len = usize::try_from(whole.max(WINDOW_BYTES.min(left))).unwrap_or(usize::MAX);
    match file.view(at, len) {
        Ok(view) => Ok(view),
        // A sector that nothing was written to may be the one that cannot be read.
        Err(_) => file.view(at, usize::try_from(whole).unwrap_or(usize::MAX)),
    }
}

async fn make_durable<R: Runtime>(
    rt: &R,
    file: &MappedFile<R>,
    writer: &mut R::SegmentWriter,
    from: u64,
    end: u64,
) -> io::Result<()> {
    let start = (from.max(file.base) - file.base) as usize;
    let stop = (end.min(file.end()) - file.base) as usize;
    let trusts = rt.mutant(Mutant::RecoverTrustsPageCache);
    if !trusts {
        writer.redirty(start..stop);
    }
    let flushed = file.reader.flush(start..stop).await;
    if flushed.is_ok() || trusts {
        return flushed;
    }
    // See `recovery`: it may be what the process before has lost.
    writer.redirty(start..stop);
    file.reader.flush(start..stop).await
}

/// The file anew, with its tail at `end`.
async fn reopen<R: Runtime>(
    rt: &R,
    (file, writer): (MappedFile<R>, R::SegmentWriter),
    end: u64,
    backing: Backing,
) -> io::Result<(MappedFile<R>, R::SegmentWriter)> {
    let MappedFile { base, path, reader } = file;
    drop((writer, reader));
    let writer = rt.open_segment(&path, (end - base) as usize, backing).await?;
    Ok((MappedFile { base, path, reader: writer.reader() }, writer))
}

/// The last file with its tail at `end`, ready for appends.
async fn cut<R: Runtime>(
    rt: &R,
    file: MappedFile<R>,
    mut writer: R::SegmentWriter,
    end: u64,
    untouched: bool,
) -> io::Result<(MappedFile<R>, R::SegmentWriter)> {
    let to = (end - file.base) as usize;
    let MappedFile { base, path, reader } = file;
    if untouched || rt.mutant(Mutant::TruncateInMemory) {
        return reopen(rt, (MappedFile { base, path, reader }, writer), end, Backing::Mapped).await;
    }
    if rt.mutant(Mutant::RecoverByRewrite) {
        let valid = reader.view(0, to)?.as_ref().to_vec();
        writer.truncate(0, CUT_PATIENCE).await?;
        writer.append(to, |into| into.copy_from_slice(&valid));
        reader.flush(0..to).await?;
    } else {
        writer.truncate(to, CUT_PATIENCE).await?;
    }
    rt.probe("store.truncated", end, base + reader.capacity() as u64);
    Ok((MappedFile { base, path, reader }, writer))
}

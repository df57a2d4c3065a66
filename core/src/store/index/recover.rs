//! Opening the index: which files are believed, up to which entry, and from where on the log is filed again.
//!
//! Believed are the entries that our own checkpoint claims, or, where Java wrote last, what its rules let stand: all of it
//! after a clean stop, else the files that end no later than its checkpoint says. Of the file that is added to, the slots are
//! taken as they are after a clean stop of ours that claims all of it; else its entries are read, and its slots follow from
//! them. Entries of records that are filed again, or that the log has lost, are cut off; a file that is not what it must be is
//! deleted with all behind it, since the log has what they held.
//!
//! Invariant: what stays is a prefix of what the log gives, ordered, without an entry at or behind the log's end.

use std::io;
use std::sync::Arc;

use super::format::{
    ENTRY_BYTES, EntryDamage, Geometry, HEADER_BYTES, Header, IndexEntry, PAGE_SLOTS, SLOT_BYTES, Table,
};
use super::{Files, IndexFile, Last, Sealed};
use crate::runtime::{File, Mark, Mutant, Runtime};
use crate::store::checkpoint::IndexClaim;
use crate::store::error::RecoverError;
use crate::store::recover_log::list;

/// Entries are read in pieces of this many.
const READ_ENTRIES: u32 = 3_200;
/// Digits of a file's name.
const NAME_DIGITS: usize = 17;

/// What is known of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// We wrote last, and claimed this.
    Claim(IndexClaim),
    /// Java wrote last.
    Java { index_ms: i64 },
    /// We wrote the log last, without an index.
    Nothing,
}

/// The log as recovery leaves it.
pub(crate) struct LogRange<F> {
    pub min: u64,
    pub end: u64,
    /// The last process ended in order.
    pub clean: bool,
    /// Whether a record begins at a position.
    pub is_record: F,
}

/// The index as recovery leaves it.
pub(crate) struct Recovered<R: Runtime> {
    pub(super) files: Files<R>,
    pub(super) enabled: bool,
    /// Everything below is in the index.
    pub(super) resume: u64,
    pub(super) in_part: Option<u64>,
    /// What the checkpoint may say.
    pub claim: Option<IndexClaim>,
    pub end_ms: i64,
}

impl<R: Runtime> Recovered<R> {
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Of a store without an index. What was claimed before stays true for the log that is kept.
    pub fn disabled(known: Known, log_end: u64, index_ms: i64) -> Recovered<R> {
        let claim = match known {
            Known::Claim(claim) => Some(IndexClaim { position: claim.position.min(log_end), ..claim }),
            Known::Java { .. } | Known::Nothing => None,
        };
        Recovered { files: Files::none(), enabled: false, resume: 0, in_part: None, claim, end_ms: index_ms }
    }
}

/// The file that is added to, as it is in memory.
struct Loaded<R: Runtime> {
    last: Last<R>,
    /// Slots and header in the file are those in memory.
    as_in_file: bool,
    /// Some of what was believed is left out: it points behind the log, which has lost its end, or a bit has turned there.
    is_cut: bool,
}

/// A file whose header looks well.
struct Candidate<R: Runtime> {
    file: IndexFile<R>,
    header: Header,
}

#[derive(Debug, thiserror::Error)]
enum FileDamage {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it has {found} bytes instead of {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its header says {0:?}")]
    Header(Header),
    #[error("the file before it has room for more entries")]
    Early,
    #[error("it is newer than the checkpoint")]
    Unclaimed,
    #[error(transparent)]
    Entry(#[from] EntryDamage),
    #[error("its first entry is at {found} in the log, its header says {stated}")]
    Begin { found: u64, stated: u64 },
}

/// Opens the files in `dir`.
///
/// # Errors
/// Of the folder, and `Repair`: of removing or writing a file.
pub(crate) async fn recover<R: Runtime, F: Fn(u64) -> bool>(
    rt: &R,
    dir: &str,
    geometry: Geometry,
    known: Known,
    log: &LogRange<F>,
) -> Result<Recovered<R>, RecoverError> {
    let mut recovery = Recovery { rt, dir, geometry, known, clean: log.clean, removed: false, whole: true };
    let mut kept = recovery.candidates(log.min).await?;
    let limit = match known {
        Known::Claim(_) if rt.mutant(Mutant::IndexKeepsTail) => u64::MAX,
        Known::Claim(claim) => log.end.min(claim.position),
        _ => log.end,
    };
    if rt.mutant(Mutant::IndexLastDeleted)
        && !log.clean
        && let Some(newest) = kept.pop()
    {
        recovery.remove(&newest.file.path).await?;
    }
    let mut last = None;
    while let Some(candidate) = kept.pop() {
        let path = candidate.file.path.clone();
        match recovery.load(candidate, limit).await {
            Ok(Some(loaded)) => {
                recovery.whole &= !loaded.is_cut || rt.mutant(Mutant::IndexCutIsWhole);
                last = Some(loaded);
                break;
            }
            Ok(None) => {
                recovery.whole = false;
                recovery.remove_claimed(vec![path]).await?;
            }
            Err(why) => {
                recovery.rt.mark(Mark::IndexFileUnfit);
                tracing::warn!(%path, %why, "the index file is made again");
                recovery.whole = false;
                recovery.remove_claimed(vec![path]).await?;
            }
        }
    }
    let whole_claim = match known {
        Known::Claim(claim) if recovery.whole => Some(log.end.min(claim.position)),
        _ => None,
    };
    let mut resume =
        whole_claim.unwrap_or_else(|| last.as_ref().map_or(0, |loaded| loaded.last.table.header().end));
    if whole_claim.is_none() && resume > log.min && !(log.is_record)(resume) {
        recovery.rt.mark(Mark::IndexUnfit);
        tracing::warn!(resume, "the index does not fit the log: it is made again");
        let last = last.take().map(|loaded| loaded.last.file.path.clone());
        recovery.remove_claimed(kept.drain(..).map(|kept| kept.file.path).chain(last).collect()).await?;
        resume = 0;
    }
    let in_part = last.is_some().then_some(resume);
    let refile = rt.mutant(Mutant::IndexRefiles) && !log.clean;
    let resume = if refile { log.min } else { resume.max(log.min) };
    let last = match last {
        Some(Loaded { mut last, as_in_file, .. }) => {
            if !as_in_file {
                recovery.repair(&mut last).await.map_err(RecoverError::repair(&last.file.path))?;
            }
            Some(last)
        }
        None => None,
    };
    if recovery.removed {
        rt.sync_dir(dir).await.map_err(RecoverError::repair(dir))?;
    }
    let sealed = kept.into_iter().map(|Candidate { file, header }| Sealed {
        file: Arc::new(file),
        header,
        unflushed: false,
    });
    let files = Files { sealed: sealed.collect(), last };
    let newest = files.last.as_ref().map(|last| (last.file.name, *last.table.header()));
    let claim = newest.map_or(IndexClaim { position: resume, file: 0, next: 1 }, |(file, header)| {
        IndexClaim { position: resume, file, next: header.next }
    });
    rt.probe("store.index_recovered", resume, u64::from(claim.next));
    let end_ms = newest.map_or(0, |(_, header)| header.end_ms);
    Ok(Recovered { files, enabled: true, resume, in_part, claim: Some(claim), end_ms })
}

struct Recovery<'a, R: Runtime> {
    rt: &'a R,
    dir: &'a str,
    geometry: Geometry,
    known: Known,
    clean: bool,
    removed: bool,
    /// All that was claimed is there.
    whole: bool,
}

impl<R: Runtime> Recovery<'_, R> {
    async fn remove(&mut self, path: &str) -> Result<(), RecoverError> {
        self.removed = true;
        self.rt.remove(path).await.map_err(RecoverError::repair(path))
    }

    /// Removes files that the checkpoint may claim, of which the oldest comes first: the newest goes first, and its name durably.
    /// A start that finds the last that is claimed takes all before it for complete.
    async fn remove_claimed(&mut self, paths: Vec<String>) -> Result<(), RecoverError> {
        for path in paths.iter().rev() {
            self.remove(path).await?;
            self.rt.sync_dir(self.dir).await.map_err(RecoverError::repair(self.dir))?;
        }
        Ok(())
    }

    /// The files that may be believed, oldest first; the others are deleted.
    async fn candidates(&mut self, log_min: u64) -> Result<Vec<Candidate<R>>, RecoverError> {
        let mut names = Vec::new();
        for entry in list(self.rt, self.dir).await? {
            let digits =
                entry.name.len() == NAME_DIGITS && entry.name.bytes().all(|digit| digit.is_ascii_digit());
            match entry.name.parse::<u64>() {
                Ok(name) if digits && !entry.is_dir => names.push((name, entry.name)),
                _ => tracing::warn!(dir = self.dir, name = %entry.name, "not an index file"),
            }
        }
        names.sort_unstable();
        let mut kept: Vec<Candidate<R>> = Vec::new();
        let mut damaged = Vec::new();
        for (name, text) in names {
            let path = format!("{}/{text}", self.dir);
            if self.is_behind_the_claim(name) {
                self.remove(&path).await?;
                continue;
            }
            if !damaged.is_empty() {
                damaged.push(path);
                continue;
            }
            match self.candidate(name, &path, kept.last().map(|before| before.header)).await {
                // Without an entry: a crash while it was made.
                Ok(candidate) if candidate.header.next == 1 => self.remove(&path).await?,
                Ok(candidate) => kept.push(candidate),
                Err(why) => {
                    self.rt.mark(Mark::IndexFileLost);
                    tracing::warn!(%path, %why, "the index is made again from this file on");
                    self.whole = false;
                    damaged.push(path);
                }
            }
        }
        self.remove_claimed(damaged).await?;
        while kept.len() > 1
            && let Some(first) = kept.first()
            && first.header.end < log_min
        {
            let path = kept.remove(0).file.path;
            self.remove(&path).await?;
        }
        if let Known::Claim(claim) = self.known {
            self.whole &= claim.next <= 1 || kept.last().is_some_and(|newest| newest.file.name == claim.file);
        }
        Ok(kept)
    }

    fn is_behind_the_claim(&self, name: u64) -> bool {
        match self.known {
            Known::Claim(claim) => name > claim.file,
            Known::Java { .. } => false,
            Known::Nothing => true,
        }
    }

    async fn candidate(
        &self,
        name: u64,
        path: &str,
        before: Option<Header>,
    ) -> Result<Candidate<R>, FileDamage> {
        let file = self.rt.open_file(path, false).await?;
        let file: IndexFile<R> = IndexFile { name, path: path.to_owned(), file };
        let (found, expected) = (file.file.len()?, self.geometry.file_bytes());
        if found == 0 {
            return Ok(Candidate { file, header: Header::following(0, 0) });
        }
        if found != expected {
            return Err(FileDamage::Length { found, expected });
        }
        let header = file.read_header()?;
        if self.rt.mutant(Mutant::IndexDamageBelieved) {
            return Ok(Candidate { file, header });
        }
        let sane = header.next <= self.geometry.entries
            && header.begin <= header.end
            && before.is_none_or(|before| before.end <= header.begin);
        if !sane {
            return Err(FileDamage::Header(header));
        }
        if before.is_some_and(|before| before.next < self.geometry.entries) && header.next > 1 {
            return Err(FileDamage::Early);
        }
        match self.known {
            Known::Java { index_ms } if !self.clean && header.end_ms > index_ms => Err(FileDamage::Unclaimed),
            _ => Ok(Candidate { file, header }),
        }
    }

    /// Reads the file that is added to, as far as it is believed and lies below `limit`; `None` when nothing of it does.
    async fn load(&self, candidate: Candidate<R>, limit: u64) -> Result<Option<Loaded<R>>, FileDamage> {
        let Candidate { file, header } = candidate;
        let believed = match self.known {
            Known::Claim(claim) if claim.file == file.name => claim.next,
            _ => header.next,
        };
        let is_claimed = matches!(self.known, Known::Claim(claim) if claim.file == file.name);
        if self.clean
            && is_claimed
            && header.next == believed
            && header.end < limit
            && let Some(table) = self.load_slots(&file, header)?
        {
            let last = Last { file: Arc::new(file), table };
            return Ok(Some(Loaded { last, as_in_file: true, is_cut: false }));
        }
        let mut table = Table::new(self.geometry, Header { end: 0, ..header });
        let mut newest = None;
        'file: while table.header().next < believed {
            let first = table.header().next;
            let count = READ_ENTRIES.min(believed - first);
            let mut bytes = vec![0; count as usize * ENTRY_BYTES];
            file.file.read_at(self.geometry.entry_at(first), &mut bytes)?;
            for bytes in bytes.as_chunks::<ENTRY_BYTES>().0 {
                if IndexEntry::decode(bytes).is_some_and(|entry| entry.position >= limit) {
                    break 'file;
                }
                newest = Some(table.take(bytes)?);
                if first == 1 && table.header().next == 2 && table.header().end != header.begin {
                    return Err(FileDamage::Begin { found: table.header().end, stated: header.begin });
                }
            }
            self.rt.yield_now().await;
        }
        let Some(newest) = newest else { return Ok(None) };
        let taken = *table.header();
        let whole = taken.next == header.next && taken.end == header.end;
        // An entry knows its time to the second.
        let about = header.begin_ms.saturating_add(i64::from(newest.seconds).saturating_mul(1_000) + 999);
        let end_ms = if whole { header.end_ms } else { about.min(header.end_ms) };
        table.set_header(Header { begin: header.begin, begin_ms: header.begin_ms, end_ms, ..taken });
        let is_cut = taken.next < believed;
        Ok(Some(Loaded { last: Last { file: Arc::new(file), table }, as_in_file: false, is_cut }))
    }

    /// The slots as they are in the file; `None` when they are not those of the header.
    fn load_slots(&self, file: &IndexFile<R>, header: Header) -> io::Result<Option<Table>> {
        let mut bytes = vec![0; self.geometry.slots as usize * SLOT_BYTES];
        file.file.read_at(self.geometry.slot_at(0), &mut bytes)?;
        let table = Table::in_file(self.geometry, header, &bytes);
        Ok(table.slots_fit().then_some(table))
    }

    /// Brings slots and header of the file that is added to in accord with its entries.
    async fn repair(&self, last: &mut Last<R>) -> io::Result<()> {
        let Last { file, table } = last;
        for page in 0..table.pages() {
            let first = page * PAGE_SLOTS as u32;
            let count = (self.geometry.slots - first).min(PAGE_SLOTS as u32);
            let mut bytes = vec![0; count as usize * 4];
            file.file.read_at(self.geometry.slot_at(first), &mut bytes)?;
            table.compare_slots(page, &bytes);
        }
        let mut bytes = [0; HEADER_BYTES];
        file.file.read_at(0, &mut bytes)?;
        table.compare_header(&bytes);
        if table.is_dirty() {
            file.write_back(table)?;
            if file.file.flush(0..self.geometry.file_bytes()).await.is_err() {
                // See `recovery`: it may be what the process before has lost.
                file.file.redirty(0..self.geometry.file_bytes())?;
                file.file.flush(0..self.geometry.file_bytes()).await?;
            }
            self.rt.probe("store.index_repaired", table.header().end, u64::from(table.header().next));
        }
        Ok(())
    }
}

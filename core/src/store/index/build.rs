//! From the log into the files, and from the files to the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::format::{Header, Key, Table};
use super::handed::add_keys;
use super::{Index, IndexFile, Last, Sealed};
use crate::message::codec::{self, BLANK_BYTES, Check, Head};
use crate::runtime::storage::{Allocation, File};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mutant, Runtime};
use crate::store::checkpoint::IndexClaim;
use crate::store::filing::Filing;

/// Of the log at most this many bytes are read at once, or one record.
const BATCH_BYTES: u64 = 128 << 10;
/// So many keys are written at once, and the rest of the record.
const BATCH_KEYS: usize = 512;
/// From one batch to the next: under load a batch is then many records, and its wake-up and its write cost little each.
/// A look-up waits for what was dispatched before it.
const PACE: Duration = Duration::from_millis(10);
/// Between two tries on a disk that is full.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stop waits for the index; the next start goes on where it ends. Java gives dispatch as long.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

impl<R: Runtime> Index<R> {
    /// The task: runs until `stop` is true, or the log cannot be read.
    pub async fn run(&self, mut stop: Receiver<bool>) {
        if !self.enabled {
            return;
        }
        let mut keys = Vec::new();
        loop {
            let position = self.indexed.get();
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                reached = self.dispatched.reached(position + 1) => if reached.is_err() { return },
            }
            match self.batch(position, self.dispatched.get(), &mut keys).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(position, %error, "read the CommitLog: nothing more can be found by key");
                    return;
                }
            }
            if self.indexed.get() < self.dispatched.get() {
                // An index that is made again has much to read.
                self.rt.yield_now().await;
                continue;
            }
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(PACE) => {}
            }
        }
    }

    /// Files what is dispatched, to the end, if that does not take too long; used when the store stops.
    pub async fn catch_up(&self) {
        if !self.enabled || self.gave_up.load(Ordering::Acquire) {
            return;
        }
        let rest = async {
            let mut keys = Vec::new();
            loop {
                let (position, limit) = (self.indexed.get(), self.dispatched.get());
                if position >= limit || !matches!(self.batch(position, limit, &mut keys).await, Ok(true)) {
                    return;
                }
                self.rt.yield_now().await;
            }
        };
        if self.rt.timeout(STOP_PATIENCE, rest).await.is_err() {
            tracing::info!(
                position = self.indexed.get(),
                "the index is not complete: the next start goes on"
            );
        }
    }

    /// Files the next records below `limit`. `keys` is room that is used again.
    async fn batch(&self, from: u64, limit: u64, keys: &mut Vec<Key>) -> io::Result<bool> {
        let log_min = self.log.min();
        if from < log_min {
            self.indexed.advance(log_min);
            return Ok(true);
        }
        keys.clear();
        let skips = self.rt.mutant(Mutant::IndexSkipsUnhanded);
        let end = match self.handed.take(if skips { from.max(self.handed.begin()) } else { from }, keys) {
            Some(end) => end,
            None => self.collect(from, limit, keys)?,
        };
        assert!(end > from, "dispatched bytes at {from} are read");
        if self.in_part.is_some_and(|in_part| (from..end).contains(&in_part)) {
            while let Err(error) = self.leave_out_filed(keys) {
                tracing::warn!(from, %error, "read the index");
                if self.stopping.load(Ordering::Acquire) {
                    self.gave_up.store(true, Ordering::Release);
                    return Ok(false);
                }
                self.rt.sleep(RETRY).await;
            }
        }
        let mut keys = keys.as_slice();
        while !keys.is_empty() {
            let (some, rest) = keys.split_at(whole_records(keys, BATCH_KEYS));
            if !self.write(some).await {
                return Ok(false);
            }
            keys = rest;
            if let Some(next) = keys.first() {
                self.indexed.advance(next.position);
                self.rt.yield_now().await;
            }
        }
        self.indexed.advance(end);
        self.rt.probe("store.indexed", from, end);
        Ok(true)
    }

    /// Of the record that may be in the index in part, only what is missing; after a crash Java files all of it again.
    fn leave_out_filed(&self, keys: &mut Vec<Key>) -> io::Result<()> {
        let mut missing = Vec::with_capacity(keys.len());
        for key in keys.iter() {
            if self.in_part != Some(key.position) || !self.has(key.hash, key.position)? {
                missing.push(*key);
            }
        }
        *keys = missing;
        Ok(())
    }

    /// Reads the keys of the records from `from` on, and gives where they end.
    fn collect(&self, from: u64, limit: u64, keys: &mut Vec<Key>) -> io::Result<u64> {
        let file = self.log.files().find(from).ok_or(io::ErrorKind::NotFound)?;
        let upto = limit.min(file.end()).min(file.written_end());
        if file.end() - from < BLANK_BYTES as u64 {
            return Ok(file.end());
        }
        let first_bytes = match codec::head(file.view(from, BLANK_BYTES)?.as_ref()) {
            Head::Record { size } => u64::from(size),
            Head::Blank { .. } => return Ok(file.end()),
            Head::Nothing { .. } => return Err(io::ErrorKind::InvalidData.into()),
        };
        let len = BATCH_BYTES.max(first_bytes).min(upto - from);
        let view = file.view(from, usize::try_from(len).unwrap_or(usize::MAX))?;
        let (mut rest, mut end) = (view.as_ref(), from);
        while let Head::Record { size } = codec::head(rest)
            && size as usize <= rest.len()
        {
            let record = codec::decode(rest, Check::Lengths)
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            add_keys(&record, &Filing::of(&record), keys);
            end += u64::from(size);
            rest = rest.get(size as usize..).unwrap_or(&[]);
        }
        if end == from {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(end)
    }

    /// Adds `keys` to the files; goes on trying while the disk takes nothing. False when it gave up.
    async fn write(&self, mut keys: &[Key]) -> bool {
        let mut tries = 0;
        while !keys.is_empty() {
            let added = match self.add(keys) {
                Ok(0) => self.begin_file().await.map(|()| 0),
                added => added,
            };
            match added {
                Ok(count) => keys = keys.get(count..).unwrap_or(&[]),
                Err(error) => {
                    tries += 1;
                    tracing::warn!(tries, %error, "write index entries");
                    if self.stopping.load(Ordering::Acquire) {
                        self.gave_up.store(true, Ordering::Release);
                        return false;
                    }
                    self.rt.sleep(RETRY).await;
                }
            }
        }
        true
    }

    /// Adds as many of `keys` as the last file takes: 0 when it is full, or there is none.
    fn add(&self, keys: &[Key]) -> io::Result<usize> {
        let mut files = self.files();
        let Some(Last { file, table }) = &mut files.last else { return Ok(0) };
        let header = *table.header();
        let planted = self.rt.mutant(Mutant::IndexRefiles) || self.rt.mutant(Mutant::IndexKeepsTail);
        let first = keys.first().map_or(header.end, |key| key.position);
        assert!(first >= header.end || planted, "a record at {first} is filed behind one at {}", header.end);
        let (bytes, count) = table.add(keys);
        // Nobody sees an entry before it is in the file: look-ups need the lock to find it.
        if let Err(error) = file.file.write_at(self.geometry.entry_at(header.next), &bytes) {
            table.take_back(header, &bytes);
            return Err(error);
        }
        Ok(count)
    }

    /// Begins the next file; the one before it takes no more.
    async fn begin_file(&self) -> io::Result<()> {
        let (before, header) = self.seal()?;
        let wall_ms = self.rt.wall_ms();
        let name = file_name(wall_ms, self.rt.utc_offset_s(wall_ms)).max(before + 1);
        let path = format!("{}/{name:017}", self.dir);
        if before == 0 {
            self.rt.create_dir_all(&self.dir).await?;
        }
        let bytes = self.geometry.file_bytes();
        let file = match self.rt.create_sized(&path, bytes, Allocation::Sparse).await {
            // Left by a try that failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.rt.open_file(&path, false).await?;
                file.set_len(bytes, Allocation::Sparse).await?;
                file
            }
            created => created?,
        };
        self.names_unsynced.store(true, Ordering::Release);
        let file = Arc::new(IndexFile { name, path, file });
        self.rt.probe("store.index_file", name, header.end);
        self.files().last = Some(Last { file, table: Table::new(self.geometry, header) });
        Ok(())
    }

    /// Brings the last file into its final state. Its name, or 0, and what the header of the next one begins with.
    fn seal(&self) -> io::Result<(u64, Header)> {
        let mut files = self.files();
        if let Some(Last { file, table }) = &mut files.last {
            assert!(table.is_full(), "{} takes more", file.path);
            file.write_back(table)?;
            let (file, header) = (file.clone(), *table.header());
            files.sealed.push(Sealed { file, header, unflushed: true });
            files.last = None;
        }
        let before = files.sealed.last();
        let header = before.map_or(Header::following(0, 0), |before| {
            Header::following(before.header.end, before.header.end_ms)
        });
        Ok((before.map_or(0, |before| before.file.name), header))
    }

    /// Makes durable what is filed; what may be claimed then is [`Self::claim`].
    pub async fn flush(&self) {
        if !self.enabled || self.failed.load(Ordering::Acquire) {
            return;
        }
        let (position, written) = (self.indexed.get(), self.write_back());
        let (unflushed, mut claim, end_ms) = match written {
            Ok(written) => written,
            Err(error) => {
                // A full disk: later.
                self.rt.mark(Mark::IndexUnwritten);
                tracing::warn!(%error, "write the slots of the index");
                return;
            }
        };
        claim.position = position;
        let unflushed = if self.rt.mutant(Mutant::IndexClaimedUnflushed) { Vec::new() } else { unflushed };
        if let Err(error) = self.flush_files(&unflushed).await {
            self.failed.store(true, Ordering::Release);
            self.rt.mark(Mark::IndexFlushFailed);
            tracing::error!(%error, "flush the index: what is filed from now on is filed again at the next start");
            return;
        }
        *self.claim.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (Some(claim), end_ms);
        self.rt.probe("store.index_flushed", position, u64::from(claim.next));
    }

    /// Writes all that is in memory only: the files to flush, and the entry at which they end.
    #[expect(clippy::type_complexity, reason = "one caller")]
    fn write_back(&self) -> io::Result<(Vec<Arc<IndexFile<R>>>, IndexClaim, i64)> {
        let mut files = self.files();
        let mut unflushed = Vec::new();
        let mut claim = (IndexClaim::default(), 0);
        if let Some(Last { file, table }) = &mut files.last {
            if table.is_dirty() {
                file.write_back(table)?;
                unflushed.push(file.clone());
            }
            let Header { next, end_ms, .. } = *table.header();
            claim = (IndexClaim { position: 0, file: file.name, next }, end_ms);
        } else if let Some(Sealed { file, header, .. }) = files.sealed.last() {
            claim = (IndexClaim { position: 0, file: file.name, next: header.next }, header.end_ms);
        }
        for sealed in &mut files.sealed {
            if std::mem::take(&mut sealed.unflushed) {
                unflushed.push(sealed.file.clone());
            }
        }
        Ok((unflushed, claim.0, claim.1))
    }

    async fn flush_files(&self, files: &[Arc<IndexFile<R>>]) -> io::Result<()> {
        for file in files {
            file.file.flush(0..self.geometry.file_bytes()).await?;
        }
        if self.names_unsynced.swap(false, Ordering::AcqRel) && self.rt.stat(&self.dir).await.is_ok() {
            self.rt.sync_dir(&self.dir).await?;
            self.rt.sync_dir(&self.root).await?;
        }
        Ok(())
    }
}

/// The least number of `keys`, at least `count` where there are so many, that ends with a whole record.
fn whole_records(keys: &[Key], count: usize) -> usize {
    let Some(last) = keys.get(..count).and_then(<[Key]>::last) else { return keys.len() };
    count + keys[count..].iter().take_while(|key| key.position == last.position).count()
}

/// The name of a file that is made now: year to millisecond as digits, on the operator's clock.
fn file_name(wall_ms: i64, utc_offset_s: i32) -> u64 {
    let ms = wall_ms.saturating_add(i64::from(utc_offset_s) * 1_000);
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    let fields =
        [(month, 100), (day, 100), (hour, 100), (minute, 100), (second, 100), (of_day % 1_000, 1_000)];
    let name = fields.iter().fold(year, |name, (field, width)| name * width + field);
    u64::try_from(name).unwrap_or(0)
}

/// Year, month and day of a number of days since 1970, by the rule of the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted in eras of 400 years that begin with a March, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_end_with_whole_records() {
        let keys = |positions: &[u64]| -> Vec<Key> {
            positions.iter().map(|position| Key { hash: 1, position: *position, store_ms: 0 }).collect()
        };
        assert_eq!(whole_records(&keys(&[1, 2]), 3), 2);
        assert_eq!(whole_records(&keys(&[1, 2, 3]), 2), 2);
        assert_eq!(whole_records(&keys(&[1, 2, 2, 2, 3]), 2), 4);
        assert_eq!(whole_records(&keys(&[2, 2, 2]), 2), 3);
    }

    #[test]
    fn files_are_named_by_the_operators_clock() {
        // As case `a` of the golden directories, made in UTC.
        assert_eq!(file_name(1_795_435_137_418, 0), 20_261_123_115_857_418);
        assert_eq!(file_name(0, 8 * 3_600), 19_700_101_080_000_000);
        assert_eq!(file_name(1_709_251_199_999, 0), 20_240_229_235_959_999);
        assert_eq!(file_name(1_709_251_199_999, 60), 20_240_301_000_059_999);
        assert_eq!(file_name(951_782_400_000, 0), 20_000_229_000_000_000);
    }
}

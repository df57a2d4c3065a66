//! Behind a damaged place of the log: where whole records go on.
//!
//! A record is recognised by its magic, by the position it states, and by its checksums, so that bytes of a body, or of an
//! earlier life of the file, are not taken for one. Recovery never does this: what lies behind damage after a crash is cut.

use std::ops::ControlFlow;

use super::error::{RecoverError, ScanEnd};
use super::mapped_file::MappedFile;
use super::recover_log::{LogFiles, Trust};
use crate::message::codec::{self, BLANK_BYTES, Check, Head, Record, RecordCrc};
use crate::runtime::Runtime;

const WINDOW_BYTES: u64 = 1 << 20;
/// From a record's first byte to the end of the field that states its position.
const POSITION_END: usize = 36;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A damaged range of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    pub at: u64,
    /// Where whole records go on, or the file ends.
    pub end: u64,
    pub why: ScanEnd,
}

/// What a walk meets.
pub(crate) enum Seen<'a> {
    /// A whole one.
    Record(&'a Record<'a>),
    Hole(Hole),
}

impl<R: Runtime> LogFiles<R> {
    /// The first place behind `at` where a whole record begins, or the blank one; else where the file ends. `None` when no
    /// file holds `at`.
    ///
    /// # Errors
    /// Of reading the file.
    pub async fn resync(&self, rt: &R, at: u64) -> Result<Option<u64>, RecoverError> {
        let Some(file) = self.file_at(at).filter(|file| (file.base..file.end()).contains(&at)) else {
            return Ok(None);
        };
        let mut from = at + 1;
        while from < file.end() {
            let len = (file.end() - from).min(WINDOW_BYTES);
            let window = file.view(from, usize::try_from(len).unwrap_or(usize::MAX));
            let window = window.map_err(RecoverError::io("read", &file.path))?;
            if let Some(found) = find_in(file, from, window.as_ref()) {
                return Ok(Some(found));
            }
            // A record's first bytes may lie in this window and its position in the next.
            from += len.saturating_sub(POSITION_END as u64).max(1);
            if len < WINDOW_BYTES {
                break;
            }
            rt.yield_now().await;
        }
        Ok(Some(file.end()))
    }

    /// Walks the log from `from` up to `limit`, past damage, until `visit` breaks off.
    ///
    /// # Errors
    /// Of reading the files.
    pub async fn walk(
        &self,
        rt: &R,
        from: u64,
        limit: u64,
        trust: Trust,
        mut visit: impl FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), RecoverError> {
        let mut at = from;
        loop {
            let mut broken = false;
            let scan = self.scan(rt, at, trust, |record| {
                broken = record.physical_offset >= limit || visit(Seen::Record(record)).is_break();
                if broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let scan = scan.await?;
            if broken || scan.end >= limit {
                return Ok(());
            }
            let Some(end) = self.resync(rt, scan.end).await? else { return Ok(()) };
            if visit(Seen::Hole(Hole { at: scan.end, end, why: scan.why })).is_break() {
                return Ok(());
            }
            at = end;
        }
    }
}

/// Where the window, which begins at `from` of the log, holds the first byte of a whole record.
fn find_in<R: Runtime>(file: &MappedFile<R>, from: u64, window: &[u8]) -> Option<u64> {
    // Most of a file that is not full; a comparison with zeros is much faster than a look at each place.
    if window.chunks(ZEROS.len()).all(|part| ZEROS.get(..part.len()) == Some(part)) {
        return None;
    }
    let heads = window.windows(BLANK_BYTES).enumerate();
    let mut places = heads.filter_map(|(inside, head)| match codec::head(head) {
        Head::Nothing { .. } => None,
        head => Some((from + inside as u64, inside, head)),
    });
    places.find_map(|(at, inside, head)| {
        let left = file.end() - at;
        match head {
            Head::Blank { size } => (u64::from(size) == left).then_some(at),
            Head::Record { size } if u64::from(size) <= left => {
                let position = window.get(inside + POSITION_END - 8..inside + POSITION_END);
                if position? != at.to_be_bytes() {
                    return None;
                }
                let view = file.view(at, usize::try_from(size).ok()?).ok()?;
                codec::decode(view.as_ref(), Check::Whole { position: at, record_crc: RecordCrc::Foreign })
                    .ok()?;
                Some(at)
            }
            _ => None,
        }
    })
}

//! The records of the log, file by file.

use std::ops::ControlFlow;

use super::{Filter, Line, Out, RecordLine};
use crate::message::codec::Record;
use crate::runtime::Runtime;
use crate::store::config::StoreConfig;
use crate::store::error::{RecoverError, ScanEnd};
use crate::store::mapped_file::parse_file_name;
use crate::store::recover_log::{LogFiles, Trust, list};
use crate::store::recovery::Paths;
use crate::store::resync::{Hole, Seen};

pub(super) async fn show<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    paths: &Paths,
    filter: &Filter,
    out: &mut Out<'_>,
) -> Result<(), RecoverError> {
    let mut files = Vec::new();
    for dir in paths.log_folders() {
        for entry in list(rt, dir).await?.into_iter().filter(|entry| !entry.is_dir) {
            let path = format!("{dir}/{}", entry.name);
            match parse_file_name(&entry.name) {
                Some(base) => files.push((base, path)),
                None if out.damaged(&path, 0, "not a name of 20 digits".to_owned()).is_break() => {
                    return Ok(());
                }
                None => {}
            }
        }
    }
    files.sort();
    let mut expected = files.first().map_or(0, |(base, _)| *base);
    for (base, path) in files {
        let len = rt.stat(&path).await.map_err(RecoverError::io("look at", &path))?.len;
        let end = base.saturating_add(len);
        if base > expected && base > filter.from {
            let why = format!("the log has nothing from {expected} on up to here");
            if out.damaged(&path, base, why).is_break() {
                return Ok(());
            }
        }
        expected = base.saturating_add(len.max(config.commit_log_file_bytes));
        if len == 0 || end <= filter.from {
            continue;
        }
        let file = LogFiles::open_one(rt, base, &path, len).await?;
        let mut shown = Shown { path: &path, filter, unused: None, out: &mut *out };
        let from = base.max(filter.from);
        let walk = file.walk(rt, from, end, Trust::unknown(), |seen| match seen {
            Seen::Record(record) => shown.record(record),
            Seen::Hole(hole) => shown.hole(hole, end),
        });
        walk.await?;
        if !out.is_open() {
            return Ok(());
        }
    }
    Ok(())
}

struct Shown<'a, 'b> {
    path: &'a str,
    filter: &'a Filter,
    /// Where nothing is written: no damage unless records follow.
    unused: Option<u64>,
    out: &'a mut Out<'b>,
}

impl Shown<'_, '_> {
    fn record(&mut self, record: &Record<'_>) -> ControlFlow<()> {
        if let Some(at) = self.unused.take() {
            self.out.damaged(
                self.path,
                at,
                format!("nothing is written up to {}", record.physical_offset),
            )?;
        }
        if self.filter.topic.as_ref().is_some_and(|topic| topic != record.topic) {
            return ControlFlow::Continue(());
        }
        self.out.line(Line::Record(Box::new(RecordLine::of(record))))
    }

    fn hole(&mut self, hole: Hole, file_end: u64) -> ControlFlow<()> {
        let Hole { at, end, why } = hole;
        if at == self.filter.from && at > 0 && end < file_end {
            // Whoever asks for a place may not know where a record begins.
            return ControlFlow::Continue(());
        }
        if why == ScanEnd::Clean {
            self.unused = Some(at);
            return ControlFlow::Continue(());
        }
        self.out.damaged(self.path, at, format!("{why}; damaged up to {end}"))
    }
}

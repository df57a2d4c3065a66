//! The entries of the queues.

use std::ops::ControlFlow;

use super::{Filter, Line, Out};
use crate::runtime::Runtime;
use crate::runtime::storage::File;
use crate::store::config::StoreConfig;
use crate::store::error::RecoverError;
use crate::store::mapped_file::parse_file_name;
use crate::store::queue_entry::{ENTRY_BYTES, Unit, units};
use crate::store::recover_log::list;
use crate::store::recovery::Paths;

const ENTRY: u64 = ENTRY_BYTES as u64;
/// Whole entries.
const CHUNK_BYTES: u64 = 64_000;

pub(super) async fn show<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    paths: &Paths,
    filter: &Filter,
    out: &mut Out<'_>,
) -> Result<(), RecoverError> {
    for topic in list(rt, &paths.consume_queue).await?.into_iter().filter(|topic| topic.is_dir) {
        if filter.topic.as_ref().is_some_and(|wanted| *wanted != topic.name) {
            continue;
        }
        let topic_dir = format!("{}/{}", paths.consume_queue, topic.name);
        let mut queues: Vec<i32> = Vec::new();
        for queue in list(rt, &topic_dir).await?.into_iter().filter(|queue| queue.is_dir) {
            match queue.name.parse() {
                Ok(number) => queues.push(number),
                Err(_) => {
                    let path = format!("{topic_dir}/{}", queue.name);
                    if out.damaged(&path, 0, "not the number of a queue".to_owned()).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        queues.sort_unstable();
        for queue in queues {
            let shown = show_queue(rt, config, (&topic.name, queue), &topic_dir, filter, out).await?;
            if shown.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn show_queue<R: Runtime>(
    rt: &R,
    config: &StoreConfig,
    (topic, queue): (&str, i32),
    topic_dir: &str,
    filter: &Filter,
    out: &mut Out<'_>,
) -> Result<ControlFlow<()>, RecoverError> {
    let dir = format!("{topic_dir}/{queue}");
    let first = filter.from.saturating_mul(ENTRY);
    let mut expected = None;
    for entry in list(rt, &dir).await?.into_iter().filter(|entry| !entry.is_dir) {
        let path = format!("{dir}/{}", entry.name);
        let Some(base) = parse_file_name(&entry.name) else {
            if out.damaged(&path, 0, "not a name of 20 digits".to_owned()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            continue;
        };
        let file = rt.open_file(&path, true).await.map_err(RecoverError::io("open", &path))?;
        let len = file.len().map_err(RecoverError::io("look at", &path))?;
        if expected.is_some_and(|expected| expected != base) && base >= first {
            let why = format!("the queue has nothing from byte {} on up to here", expected.unwrap_or(0));
            if out.damaged(&path, base, why).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        expected = Some(base.saturating_add(config.consume_queue_file_bytes));
        let mut at = first.saturating_sub(base);
        while at + ENTRY <= len {
            let count = CHUNK_BYTES.min(len - at);
            let count = count - count % ENTRY;
            let mut bytes = vec![0; count as usize];
            file.read_at(at, &mut bytes).map_err(RecoverError::io("read", &path))?;
            let number = base.saturating_add(at) / ENTRY;
            let (shown, ended) = show_units(&bytes, (topic, queue), number, (&path, base), out);
            if shown.is_break() {
                return Ok(shown);
            }
            if ended {
                break;
            }
            at += count;
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Shows the units in `bytes`, the first of which has that number. Tells too whether the queue's entries end in them.
fn show_units(
    bytes: &[u8],
    (topic, queue): (&str, i32),
    number: u64,
    (path, base): (&str, u64),
    out: &mut Out<'_>,
) -> (ControlFlow<()>, bool) {
    let raw_units = bytes.chunks(ENTRY_BYTES);
    for ((unit, raw), number) in units(bytes).zip(raw_units).zip(number..) {
        let shown = match unit {
            Unit::PreBlank => ControlFlow::Continue(()),
            Unit::Entry(entry) => out.line(Line::QueueEntry {
                topic,
                queue,
                offset: i64::try_from(number).unwrap_or(i64::MAX),
                at: entry.physical_offset,
                size: entry.size,
                tags_code: entry.tags_code,
            }),
            Unit::Nothing if raw.iter().all(|byte| *byte == 0) => return (ControlFlow::Continue(()), true),
            Unit::Nothing => {
                let at = number.saturating_mul(ENTRY);
                let why = format!("no entry at byte {} of the file", at.saturating_sub(base));
                return (out.damaged(path, at, why), true);
            }
        };
        if shown.is_break() {
            return (shown, true);
        }
    }
    (ControlFlow::Continue(()), false)
}

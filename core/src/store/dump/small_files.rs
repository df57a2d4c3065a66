//! The checkpoint and the JSON files.

use super::{Line, Out};
use crate::runtime::Runtime;
use crate::store::check::config_files::{self, Bytes};
use crate::store::checkpoint;
use crate::store::error::RecoverError;
use crate::store::recovery::Paths;

pub(super) async fn show_checkpoint<R: Runtime>(
    rt: &R,
    paths: &Paths,
    out: &mut Out<'_>,
) -> Result<(), RecoverError> {
    let path = &paths.checkpoint;
    if rt.stat(path).await.is_err() {
        return Ok(());
    }
    let read = checkpoint::load(rt, path).await.map_err(RecoverError::io("read", path))?;
    let own = read.positions();
    // The last line of its part: whether more is wanted is asked by the next one.
    let _ = out.line(Line::Checkpoint {
        physic_ms: read.physic_ms,
        logic_ms: read.logic_ms,
        index_ms: read.index_ms,
        master_flushed_offset: read.master_flushed_offset,
        confirm_offset: read.confirm_offset,
        scan_from: own.map(|own| own.scan_from),
        queues_durable: own.map(|own| own.queues_durable),
    });
    Ok(())
}

pub(super) async fn show_config<R: Runtime>(rt: &R, dir: &str, out: &mut Out<'_>) {
    for entry in rt.list(dir).await.unwrap_or_default() {
        if entry.is_dir || !config_files::is_read(&entry.name) {
            continue;
        }
        let path = format!("{dir}/{}", entry.name);
        let shown = match config_files::look(rt, &path).await {
            Bytes::Good(value) => out.line(Line::Config { file: &entry.name, value }),
            Bytes::Bad(why) => out.damaged(&path, 0, why),
            Bytes::Empty => out.damaged(&path, 0, "it is empty".to_owned()),
            Bytes::Missing => continue,
        };
        if shown.is_break() {
            return;
        }
    }
}

//! The entries of the index files.

use std::ops::ControlFlow;

use super::{Filter, Line, Out};
use crate::runtime::Runtime;
use crate::store::check::index::{Header, entries, layout};
use crate::store::error::RecoverError;
use crate::store::index::Geometry;
use crate::store::recover_log::list;

pub(super) async fn show<R: Runtime>(
    rt: &R,
    dir: &str,
    set: Geometry,
    filter: &Filter,
    out: &mut Out<'_>,
) -> Result<(), RecoverError> {
    for entry in list(rt, dir).await?.into_iter().filter(|entry| !entry.is_dir) {
        let path = format!("{dir}/{}", entry.name);
        let file = rt.open_file(&path, true).await.map_err(RecoverError::io("open", &path))?;
        let read = Header::read(&file).and_then(|header| Ok((header, layout(&file, &header, set)?)));
        let shown = match read {
            Ok((header, Some(layout))) => {
                let mut shown = ControlFlow::Continue(());
                let read = entries(&file, layout, &header, |number, found| {
                    let at = u64::try_from(found.at).unwrap_or(0);
                    if at >= filter.from {
                        shown = out.line(Line::IndexEntry {
                            file: &entry.name,
                            entry: number,
                            key_hash: found.hash,
                            at,
                            stored_ms: header
                                .begin_ms
                                .saturating_add(i64::from(found.seconds).saturating_mul(1_000)),
                            previous: found.previous,
                        });
                    }
                    shown
                });
                read.map_err(RecoverError::io("read", &path))?;
                shown
            }
            Ok((header, None)) if header.next == 1 => ControlFlow::Continue(()),
            Ok((header, None)) => {
                let why = format!("no number of slots makes sense of its {} entries", header.next - 1);
                out.damaged(&path, 0, why)
            }
            Err(error) => out.damaged(&path, 0, error.to_string()),
        };
        if shown.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

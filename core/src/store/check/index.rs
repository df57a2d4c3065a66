//! The index files: whether their entries can be reached and point at records.

use std::io;

use super::IndexReport;
use crate::runtime::Runtime;
use crate::runtime::storage::File;

/// The header of an index file: 40 bytes; bytes 36..40 are the number of the next entry, counted from 1.
const INDEX_HEADER_BYTES: usize = 40;

pub(super) async fn report<R: Runtime>(rt: &R, dir: &str) -> IndexReport {
    let mut report = IndexReport::default();
    for entry in rt.list(dir).await.unwrap_or_default() {
        if entry.is_dir {
            continue;
        }
        report.files += 1;
        match index_entries(rt, &format!("{dir}/{}", entry.name)).await {
            Ok(entries) => report.entries += entries,
            Err(why) => report.problems.push(format!("{}: {why}", entry.name)),
        }
    }
    report
}

async fn index_entries<R: Runtime>(rt: &R, path: &str) -> io::Result<u64> {
    let file = rt.open_file(path, true).await?;
    let mut header = [0; INDEX_HEADER_BYTES];
    file.read_at(0, &mut header)?;
    let [.., a, b, c, d] = header;
    // A count of 0 or less is read as 1: the file is new.
    let next = i32::from_be_bytes([a, b, c, d]).max(1);
    let entries = u64::try_from(next - 1).unwrap_or(0);
    if entries.saturating_mul(20) > file.len()?.saturating_sub(INDEX_HEADER_BYTES as u64) {
        return Err(io::Error::other(format!("it says {entries} entries and is too short for them")));
    }
    Ok(entries)
}

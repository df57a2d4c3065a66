//! What a flush costs on this disk, in turns with the servers: the floors of a synchronous flush are stated in it.
//!
//! An append of 4 KiB to a file with reserved blocks and its fdatasync, which is what a log that does nothing for speed pays.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::fcntl::{FallocateFlags, fallocate};

const APPEND_BYTES: usize = 4096;
const APPENDS: usize = 200;
const FILE_BYTES: i64 = 256 << 20;

pub struct Probe {
    file: File,
    flushes_us: Vec<u64>,
}

impl Probe {
    /// A file in `dir`, which should be on the servers' disk.
    pub fn new(dir: &Path) -> Result<Probe> {
        let file = File::create(dir.join("probe")).context("create the probe's file")?;
        fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES).context("reserve blocks")?;
        file.sync_all().context("flush the probe's file")?;
        Ok(Probe { file, flushes_us: Vec::new() })
    }

    /// One round of appends.
    pub fn measure(&mut self) -> Result<()> {
        for _ in 0..APPENDS {
            if self.file.stream_position()? + APPEND_BYTES as u64 > FILE_BYTES as u64 {
                self.file.rewind()?;
            }
            let begun = Instant::now();
            self.file.write_all(&[b'x'; APPEND_BYTES]).context("append")?;
            self.file.sync_data().context("fdatasync")?;
            self.flushes_us.push(begun.elapsed().as_micros() as u64);
        }
        Ok(())
    }

    pub fn summary(&mut self) -> String {
        self.flushes_us.sort_unstable();
        let at = |percent: usize| {
            self.flushes_us.get(self.flushes_us.len() * percent / 100).copied().unwrap_or_default()
        };
        format!(
            "fdatasync of {APPEND_BYTES} bytes appended, {} times between the points: p50 {} us, p99 {} us",
            self.flushes_us.len(),
            at(50),
            at(99)
        )
    }
}

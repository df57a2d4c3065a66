//! What a flush costs on this disk and a page of memory on this machine, in turns with the servers: the floors of a
//! synchronous flush are stated in the first, and the second bounds how many bytes a second any log can take.
//!
//! A flush is an append of 4 KiB to a file with reserved blocks and its fdatasync, which is what a log that does nothing for
//! speed pays. A page is new when no file had it before: a virtual machine may get it from its host only then.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::fcntl::{FallocateFlags, fallocate};

const APPEND_BYTES: usize = 4096;
const APPENDS: usize = 200;
const FILE_BYTES: i64 = 256 << 20;
const PAGES_BYTES: usize = 16 << 20;
static PIECE: [u8; 256 << 10] = [b'x'; 256 << 10];

pub struct Probe {
    file: File,
    flushes_us: Vec<u64>,
    pages: PathBuf,
    /// Nanoseconds a KiB: written into new pages, and into the same ones again.
    new_pages: Vec<u64>,
    same_pages: Vec<u64>,
}

impl Probe {
    /// A file in `dir`, which should be on the servers' disk.
    pub fn new(dir: &Path) -> Result<Probe> {
        let file = File::create(dir.join("probe")).context("create the probe's file")?;
        fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES).context("reserve blocks")?;
        file.sync_all().context("flush the probe's file")?;
        let pages = dir.join("pages");
        Ok(Probe { file, flushes_us: Vec::new(), pages, new_pages: Vec::new(), same_pages: Vec::new() })
    }

    /// One round of appends, and one of new pages.
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
        let mut file = File::create(&self.pages).context("create the file of new pages")?;
        self.new_pages.push(fill(&mut file)?);
        self.same_pages.push(fill(&mut file)?);
        fs::remove_file(&self.pages).context("remove the file of new pages")
    }

    pub fn summary(&mut self) -> String {
        let flushes = self.flushes_us.len();
        let us_a_kib = |ns: &mut Vec<u64>| percentile(ns, 50) as f64 / 1_000.0;
        format!(
            "fdatasync of {APPEND_BYTES} bytes appended, {flushes} times between the points: p50 {} us, p99 {} us\n  \
             written to the page cache: {:.2} us a KiB into new pages, {:.2} into the same ones again",
            percentile(&mut self.flushes_us, 50),
            percentile(&mut self.flushes_us, 99),
            us_a_kib(&mut self.new_pages),
            us_a_kib(&mut self.same_pages),
        )
    }
}

/// Writes the file from its beginning: nanoseconds a KiB.
fn fill(file: &mut File) -> Result<u64> {
    file.rewind()?;
    let begun = Instant::now();
    for _ in 0..PAGES_BYTES / PIECE.len() {
        file.write_all(&PIECE).context("write pages")?;
    }
    Ok(begun.elapsed().as_nanos() as u64 / (PAGES_BYTES as u64 >> 10))
}

fn percentile(figures: &mut [u64], percent: usize) -> u64 {
    figures.sort_unstable();
    figures.get(figures.len() * percent / 100).copied().unwrap_or_default()
}

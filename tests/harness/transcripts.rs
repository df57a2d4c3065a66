//! Reads what original clients and servers said to each other: `tests/golden/transcripts`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::project_dir;

/// One frame that crossed a connection.
pub struct Line {
    /// File and line, to find it again.
    pub place: String,
    /// One name for each TCP connection.
    pub connection: String,
    /// `c2s` or `s2c`.
    pub direction: String,
    /// What the other end was, where that was recorded.
    pub peer: String,
    /// The frame with its length word.
    pub frame: Vec<u8>,
}

#[derive(Deserialize)]
struct Recorded {
    conn: String,
    dir: String,
    #[serde(default)]
    peer: String,
    frame: String,
}

/// The paths of all transcripts of frames, sorted.
///
/// # Errors
/// Of the system.
pub fn all() -> Result<Vec<PathBuf>> {
    let folder = project_dir().join("tests/golden/transcripts");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .context("list transcripts")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(".jsonl.gz"));
    // Raw chunks of the replication stream, which has no frames.
    paths.retain(|path| !path.to_string_lossy().contains(".raw."));
    paths.sort();
    Ok(paths)
}

/// # Errors
/// When it is not a whole transcript; the text names the line.
pub fn lines(path: &Path) -> Result<Vec<Line>> {
    let mut text = String::new();
    let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .with_context(|| format!("read {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parse = |(index, line)| {
        let place = format!("{name}:{}", index + 1);
        let recorded: Recorded = serde_json::from_str(line).with_context(|| place.clone())?;
        let frame = base64(&recorded.frame).with_context(|| format!("{place}: base64"))?;
        Ok(Line { place, connection: recorded.conn, direction: recorded.dir, peer: recorded.peer, frame })
    };
    text.lines().enumerate().map(parse).collect()
}

/// Every frame of every transcript.
///
/// # Errors
/// As [`lines`].
pub fn frames() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for path in all()? {
        frames.extend(lines(&path)?.into_iter().map(|line| line.frame));
    }
    Ok(frames)
}

/// Standard base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xFF) as u8);
        }
    }
    Some(bytes)
}

//! Reads the golden data.

use anyhow::{Context, Result};
use bytes::BytesMut;
use hotfire_core::remoting::{RemotingCommand, frame};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fs, io::Read, path::PathBuf};

/// One frame of a transcript.
pub struct Recorded {
    /// File and line, to find it again.
    pub place: String,
    /// The frame with its length word.
    pub bytes: Vec<u8>,
    /// The frame as we read it.
    pub command: RemotingCommand,
    /// Of a response, the code and version of its request, if that was not cut.
    pub asked: Option<(i32, i32)>,
}

/// A request of a client to a broker, with its answer, if that was not cut and there was one.
pub struct Exchange {
    pub place: String,
    /// One name for each TCP connection.
    pub connection: String,
    pub request: RemotingCommand,
    pub answer: Option<RemotingCommand>,
}

#[derive(Deserialize)]
struct Line {
    conn: String,
    dir: String,
    #[serde(default)]
    peer: String,
    frame: String,
}

fn golden_dir() -> PathBuf {
    hotfire_tests::project_dir().join("tests/golden")
}

/// The answers in one file of `known-answers`.
pub fn known_answers(name: &str) -> Value {
    let path = golden_dir().join("known-answers").join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    serde_json::from_slice(&text).expect("known answers are JSON")
}

/// What each client's recording asked a broker, in order.
pub fn conversations() -> Result<Vec<Vec<Exchange>>> {
    let mut conversations = Vec::new();
    for path in transcripts()? {
        let mut exchanges: Vec<Exchange> = Vec::new();
        let mut open = BTreeMap::new();
        for (place, line) in lines(&path)? {
            if line.peer != "broker" {
                continue;
            }
            let command = decode(&place, &line)?.1;
            let key = (line.conn.clone(), command.opaque);
            if line.dir == "c2s" && !command.is_response() {
                open.insert(key, exchanges.len());
                let connection = line.conn;
                exchanges.push(Exchange { place, connection, request: command, answer: None });
            } else if line.dir == "s2c" && command.is_response() {
                let asked = open.remove(&key).and_then(|index| exchanges.get_mut(index));
                if let Some(exchange) = asked {
                    exchange.answer = Some(command);
                }
            }
        }
        exchanges.retain(|exchange| !exchange.request.is_oneway());
        conversations.push(exchanges);
    }
    conversations.retain(|exchanges| !exchanges.is_empty());
    Ok(conversations)
}

/// Every frame of every transcript, decoded.
pub fn frames() -> Result<Vec<Recorded>> {
    let mut frames = Vec::new();
    for path in transcripts()? {
        read_transcript(&path, &mut frames).with_context(|| format!("read {}", path.display()))?;
    }
    Ok(frames)
}

/// Their paths, sorted.
fn transcripts() -> Result<Vec<PathBuf>> {
    let folder = golden_dir().join("transcripts");
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

/// The lines of a transcript, each with file and number to find it again.
fn lines(path: &PathBuf) -> Result<Vec<(String, Line)>> {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let place = |index: usize| format!("{name}:{}", index + 1);
    let parse = |(index, line)| Ok((place(index), serde_json::from_str(line).with_context(|| place(index))?));
    text.lines().enumerate().map(parse).collect()
}

fn decode(place: &str, line: &Line) -> Result<(Vec<u8>, RemotingCommand)> {
    let bytes = base64(&line.frame).with_context(|| format!("{place}: base64"))?;
    let mut buf = BytesMut::from(bytes.as_slice());
    let command = frame::decode(&mut buf).with_context(|| place.to_owned())?;
    let command = command.with_context(|| format!("{place}: partial frame"))?;
    assert!(buf.is_empty(), "{place}: {} bytes too many", buf.len());
    Ok((bytes, command))
}

fn read_transcript(path: &PathBuf, frames: &mut Vec<Recorded>) -> Result<()> {
    let mut requests = BTreeMap::new();
    for (place, line) in lines(path)? {
        let (bytes, command) = decode(&place, &line)?;
        let key = |dir: &str| (line.conn.clone(), dir.to_owned(), command.opaque);
        let asked = if command.is_response() {
            // Each side counts its own requests, so the answer goes the other way.
            requests.get(&key(if line.dir == "c2s" { "s2c" } else { "c2s" })).copied()
        } else {
            requests.insert(key(&line.dir), (command.code, command.version));
            None
        };
        frames.push(Recorded { place, bytes, command, asked });
    }
    Ok(())
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

/// Hex of either case.
pub fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

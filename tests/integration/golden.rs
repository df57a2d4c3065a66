//! Reads the golden data.

use anyhow::{Context, Result};
use bytes::BytesMut;
use hotfire_core::remoting::{RemotingCommand, frame};
use hotfire_tests::transcripts::{self, Line};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, path::PathBuf};

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
    for path in transcripts::all()? {
        let mut exchanges: Vec<Exchange> = Vec::new();
        let mut open = BTreeMap::new();
        for line in transcripts::lines(&path)? {
            if line.peer != "broker" {
                continue;
            }
            let command = decode(&line)?;
            let key = (line.connection.clone(), command.opaque);
            if line.direction == "c2s" && !command.is_response() {
                open.insert(key, exchanges.len());
                let Line { place, connection, .. } = line;
                exchanges.push(Exchange { place, connection, request: command, answer: None });
            } else if line.direction == "s2c" && command.is_response() {
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
    for path in transcripts::all()? {
        read_transcript(&path, &mut frames)?;
    }
    Ok(frames)
}

fn decode(line: &Line) -> Result<RemotingCommand> {
    let place = &line.place;
    let mut buf = BytesMut::from(line.frame.as_slice());
    let command = frame::decode(&mut buf).with_context(|| place.clone())?;
    let command = command.with_context(|| format!("{place}: partial frame"))?;
    assert!(buf.is_empty(), "{place}: {} bytes too many", buf.len());
    Ok(command)
}

fn read_transcript(path: &Path, frames: &mut Vec<Recorded>) -> Result<()> {
    let mut requests = BTreeMap::new();
    for line in transcripts::lines(path)? {
        let command = decode(&line)?;
        let key = |dir: &str| (line.connection.clone(), dir.to_owned(), command.opaque);
        let asked = if command.is_response() {
            // Each side counts its own requests, so the answer goes the other way.
            requests.get(&key(if line.direction == "c2s" { "s2c" } else { "c2s" })).copied()
        } else {
            requests.insert(key(&line.direction), (command.code, command.version));
            None
        };
        frames.push(Recorded { place: line.place, bytes: line.frame, command, asked });
    }
    Ok(())
}

/// Hex of either case.
pub fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

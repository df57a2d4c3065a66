//! Bytes that no client would send: random ones, and recorded frames with something wrong in them.
//!
//! The seed is fixed and every choice comes from it; a failure names the frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use hotfire_core::remoting::frame;

use crate::transcripts;

/// Frames sent on one connection at most. What is no frame ends a connection and takes unsent answers with it: it goes alone.
const FRAMES_PER_CONNECTION: usize = 16;
/// No request of the protocol, and an opaque that no recorded client reached.
const SENTINEL_CODE: i32 = 29_999;
const SENTINEL_OPAQUE: i32 = 1_234_567_891;
const SEED: u64 = 0x1d0f_f1ae;
/// What memory may grow by: topics and groups that mutated names create are kept, frames are not.
pub const GROWTH_KIB_MAX: u64 = 24 * 1024;

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What numbers are tried with.
const WRONG_NUMBERS: [&[u8]; 6] =
    [b"-1", b"0", b"99999999999999999999", b"2147483648", b"-9223372036854775808", b"1e999"];

/// Damages `bytes` in up to four places.
fn damage(draws: &mut Draws, bytes: &mut Vec<u8>) {
    for _ in 0..=draws.below(4) {
        let at = draws.below(bytes.len());
        match draws.below(7) {
            _ if bytes.is_empty() => {
                let len = 1 + draws.below(64);
                *bytes = draws.bytes(len);
            }
            0 => bytes[at] ^= 1 << draws.below(8),
            1 => bytes[at] = draws.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let len = draws.below(200);
                let more = draws.bytes(len);
                bytes.splice(at..at, more);
            }
            4 => {
                let end = (at + draws.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let wrong = [b"\"".as_slice(), b"{", b"[", b"null", b"\\u0000", b",", b":"];
                bytes.splice(at..at, wrong[draws.below(wrong.len())].iter().copied());
            }
            _ => wrong_number(draws, bytes, at),
        }
    }
}

/// Replaces the first number behind `at`.
fn wrong_number(draws: &mut Draws, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let start = at + start;
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let wrong = WRONG_NUMBERS[draws.below(WRONG_NUMBERS.len())];
    bytes.splice(start..start + digits, wrong.iter().copied());
}

/// A frame as its parts: the serialize type, header and body.
struct Parts {
    serialize_type: u8,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Parts {
    fn of(frame: &[u8]) -> Parts {
        let word = u32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
        let (header, body) = frame[8..].split_at((word & 0x00FF_FFFF) as usize);
        Parts { serialize_type: frame[4], header: header.to_vec(), body: body.to_vec() }
    }

    /// With lengths that are right.
    fn frame(self) -> Vec<u8> {
        let header_bytes = u32::try_from(self.header.len()).expect("a short header");
        let body_bytes = u32::try_from(self.body.len()).expect("a short body");
        let mut frame = (4 + header_bytes + body_bytes).to_be_bytes().to_vec();
        frame.extend((u32::from(self.serialize_type) << 24 | header_bytes).to_be_bytes());
        frame.extend(self.header);
        frame.extend(self.body);
        frame
    }
}

/// A frame whose length word is right and whose inside is damaged: its other lengths too, only its header, only its body, or the
/// header of one request before the body of another.
fn damaged_inside(draws: &mut Draws, originals: &[Vec<u8>]) -> Vec<u8> {
    let original = &originals[draws.below(originals.len())];
    let mut parts = Parts::of(original);
    match draws.below(5) {
        0 => {
            let mut inside = original[4..].to_vec();
            damage(draws, &mut inside);
            let mut frame = u32::try_from(inside.len()).expect("a short frame").to_be_bytes().to_vec();
            frame.extend(inside);
            return frame;
        }
        1 => damage(draws, &mut parts.header),
        2 => {
            let at = draws.below(parts.header.len());
            wrong_number(draws, &mut parts.header, at);
        }
        3 => damage(draws, &mut parts.body),
        _ => parts.body = Parts::of(&originals[draws.below(originals.len())]).body,
    }
    parts.frame()
}

/// Bytes that are no frame, or whose lengths lie.
fn broken_framing(draws: &mut Draws, original: &[u8]) -> Vec<u8> {
    match draws.below(6) {
        0 => {
            let len = 1 + draws.below(600);
            draws.bytes(len)
        }
        1 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        2 => [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01].to_vec(),
        3 => {
            let mut frame = original.to_vec();
            frame[..4].copy_from_slice(&(draws.next() as u32).to_be_bytes());
            frame
        }
        4 => {
            let mut frame = original.to_vec();
            frame[4..8].copy_from_slice(&(draws.next() as u32).to_be_bytes());
            frame
        }
        _ => original[..draws.below(original.len())].to_vec(),
    }
}

/// A request that every server answers: with "not supported".
fn sentinel() -> Vec<u8> {
    let header =
        format!(r#"{{"code":{SENTINEL_CODE},"opaque":{SENTINEL_OPAQUE},"language":"JAVA","version":0}}"#);
    Parts { serialize_type: 0, header: header.into_bytes(), body: Vec::new() }.frame()
}

/// What bytes must lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// They are frames: whatever they say, the connection goes on and answers what is asked behind them.
    Answers,
    /// They are none, or end in the middle of one.
    Close,
}

/// Sends all of it and returns how many answers came.
fn deliver(address: &str, mut bytes: Vec<u8>, expect: Expect) -> Result<usize> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    if expect == Expect::Answers {
        bytes.extend(sentinel());
    }
    // The node may close while we still write: that is its right.
    let _ = stream.write_all(&bytes);
    if expect == Expect::Close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut count = 0;
    let (mut answers, mut chunk) = (BytesMut::new(), vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => answers.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).with_context(|| format!("{address} neither answers nor closes")),
        }
        while let Some(answer) =
            frame::decode(&mut answers).with_context(|| format!("an answer of {address}"))?
        {
            if expect == Expect::Answers && answer.is_response() && answer.opaque == SENTINEL_OPAQUE {
                return Ok(count);
            }
            count += 1;
        }
    }
    ensure!(expect == Expect::Close, "{address} closed a connection on which frames came");
    Ok(count)
}

fn anonymous_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}

/// What a flood was, and what it did to the servers.
#[derive(Default)]
pub struct Flood {
    pub connections: usize,
    pub answers: usize,
    /// By process.
    pub memory: Vec<Memory>,
}

/// A process's anonymous memory after a quarter of the flood and at its end; zeros where the system does not say.
pub struct Memory {
    pub settled_kib: u64,
    pub end_kib: u64,
}

/// Sends `count` malformed frames to the two servers, each where it is looked at, and holds the memory of the `processes`
/// behind them against [`GROWTH_KIB_MAX`].
///
/// # Errors
/// When a server accepts no connection, neither answers nor closes one, answers with what is no frame, or has grown.
pub fn flood(count: usize, name_server: &str, broker: &str, processes: &[u32]) -> Result<Flood> {
    let originals = transcripts::frames()?;
    let mut draws = Draws(SEED);
    let mut flood = Flood::default();
    let mut sent = 0;
    let mut settled = None;
    while sent < count {
        let address = if draws.below(3) == 0 { name_server } else { broker };
        let first = sent;
        let (mut frames, mut broken) = (Vec::new(), None);
        while broken.is_none() && sent < count && sent - first < FRAMES_PER_CONNECTION {
            let bytes = match draws.below(16) {
                0 => {
                    let original = &originals[draws.below(originals.len())];
                    broken_framing(&mut draws, original)
                }
                _ => damaged_inside(&mut draws, &originals),
            };
            match frame::decode(&mut BytesMut::from(bytes.as_slice())) {
                Ok(Some(_)) => frames.extend(bytes),
                _ => broken = Some(bytes),
            }
            sent += 1;
        }
        let place = || format!("frames {first} to {sent}");
        if !frames.is_empty() {
            flood.answers += deliver(address, frames, Expect::Answers).with_context(place)?;
            flood.connections += 1;
        }
        if let Some(bytes) = broken {
            deliver(address, bytes, Expect::Close).with_context(place)?;
            flood.connections += 1;
        }
        if settled.is_none() && sent > count / 4 {
            settled = Some(anonymous(processes));
        }
    }
    let settled = settled.expect("more than a quarter was sent");
    let memory = settled.into_iter().zip(anonymous(processes));
    flood.memory = memory.map(|(settled_kib, end_kib)| Memory { settled_kib, end_kib }).collect();
    for Memory { settled_kib, end_kib } in &flood.memory {
        ensure!(
            *end_kib <= settled_kib + GROWTH_KIB_MAX,
            "anonymous memory grew from {settled_kib} to {end_kib} KiB"
        );
    }
    Ok(flood)
}

fn anonymous(processes: &[u32]) -> Vec<u64> {
    processes.iter().map(|pid| anonymous_kib(*pid).unwrap_or(0)).collect()
}

//! Bytes that no client would send: random ones, and recorded frames with something wrong in them. The nodes answer or close the
//! connection, live, keep their memory, and serve real requests afterwards.
//!
//! The seed is fixed and every choice comes from it; a failure names the frame.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hotfire_tests::{Node, TempDir, hotfire_program};

use crate::golden;

const FRAMES: usize = 100_000;
/// Frames sent on one connection when their lengths are right, so that the next one is found.
const FRAMES_PER_CONNECTION: usize = 16;
const SEED: u64 = 0x1d0f_f1ae;
/// What memory may grow by: topics and groups that mutated names create are kept, frames are not.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

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

/// A frame whose length prefix is right and whose inside is damaged.
fn damaged_inside(draws: &mut Draws, original: &[u8]) -> Vec<u8> {
    let mut inside = original[4..].to_vec();
    for _ in 0..=draws.below(4) {
        let at = draws.below(inside.len());
        match draws.below(6) {
            0 => inside[at] ^= 1 << draws.below(8),
            1 => inside[at] = draws.next() as u8,
            2 => inside.truncate(at.max(4)),
            3 => {
                let more = draws.below(200);
                let more = draws.bytes(more);
                inside.splice(at..at, more);
            }
            4 => {
                let end = (at + draws.below(64)).min(inside.len());
                inside.drain(at..end);
                if inside.len() < 4 {
                    inside = draws.bytes(16);
                }
            }
            _ => {
                // Digits into the extremes that numbers are tried with.
                let wrong = [
                    b"-1".as_slice(),
                    b"99999999999999999999",
                    b"2147483648",
                    b"-9223372036854775808",
                    b"\"",
                    b"{",
                ];
                inside.splice(at..at, wrong[draws.below(wrong.len())].iter().copied());
            }
        }
    }
    let mut frame = u32::try_from(inside.len()).expect("a short frame").to_be_bytes().to_vec();
    frame.extend(inside);
    frame
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

fn deliver(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the node accepts connections");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a timeout");
    // The node may close while we still write: that is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "{address} neither answered nor closed: {error}"
        );
    }
}

fn anonymous_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}

fn run(program: &Path, words: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(words).current_dir(dir).output().expect("run hotfire");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_hundred_thousand_malformed_frames_leave_the_nodes_alive_and_small() {
    let originals: Vec<Vec<u8>> =
        golden::frames().expect("the transcripts are whole").into_iter().map(|frame| frame.bytes).collect();
    let program = hotfire_program();
    let dir = TempDir::new("malformed");
    let words =
        ["standalone", "--data", "data", "--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0"];
    let node = Node::start(&program, "standalone", &words, dir.path()).expect("the nodes start");
    let name_server = node.address("namesrv").expect("its address").to_owned();
    let broker = node.address("broker").expect("its address").to_owned();

    let mut draws = Draws(SEED);
    let mut sent = 0;
    let mut settled_kib = None;
    while sent < FRAMES {
        let address = if draws.below(3) == 0 { &name_server } else { &broker };
        let mut bytes = Vec::new();
        if draws.below(4) == 0 {
            bytes = broken_framing(&mut draws, &originals[sent % originals.len()]);
            sent += 1;
        } else {
            for _ in 0..FRAMES_PER_CONNECTION {
                let original = &originals[draws.below(originals.len())];
                bytes.extend(damaged_inside(&mut draws, original));
                sent += 1;
            }
        }
        deliver(address, &bytes);
        if settled_kib.is_none() && sent > FRAMES / 4 {
            settled_kib = anonymous_kib(node.pid());
        }
    }
    if let (Some(before), Some(after)) = (settled_kib, anonymous_kib(node.pid())) {
        assert!(after <= before + GROWTH_KIB_MAX, "anonymous memory grew from {before} to {after} KiB");
    }

    std::fs::write(dir.path().join("lines"), "after the storm\n").expect("write the message");
    run(&program, &["produce", "-n", &name_server, "-t", "AfterTheStorm", "lines"], dir.path());
    let words = [
        "consume",
        "-n",
        &name_server,
        "-t",
        "AfterTheStorm",
        "-g",
        "after",
        "--from",
        "earliest",
        "--count",
        "1",
    ];
    assert_eq!(run(&program, &words, dir.path()), "after the storm\n");
    let status = node.stop(Duration::from_secs(20)).expect("an ordered stop");
    assert!(status.success(), "it stopped with {status}");
}

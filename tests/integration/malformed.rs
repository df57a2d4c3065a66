//! Bytes that no client would send: the nodes answer or close the connection, live, keep their memory, and serve real
//! requests afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hotfire_tests::{Node, TempDir, hotfire_program, malformed};

/// For a program with its assertions on. `cargo interop` sends five times as many to the release build.
const FRAMES: usize = 20_000;

fn run(program: &Path, words: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(words).current_dir(dir).output().expect("run hotfire");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn malformed_frames_leave_the_nodes_alive_and_small() {
    let program = hotfire_program();
    let dir = TempDir::new("malformed");
    let words =
        ["standalone", "--data", "data", "--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0"];
    let node = Node::start(&program, "standalone", &words, dir.path()).expect("the nodes start");
    let name_server = node.address("namesrv").expect("its address").to_owned();
    let broker = node.address("broker").expect("its address").to_owned();

    malformed::flood(FRAMES, &name_server, &broker, &[node.pid()]).expect("it withstands the flood");

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

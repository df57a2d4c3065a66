//! The contract of core's Runtime, on real files and sockets; then what core leaves to each runtime.

use std::net::{IpAddr, Ipv4Addr};

use hotfire_core::runtime::conformance::{Env, cases};
use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{Runtime, Task};
use hotfire_runtime::TokioRuntime;

fn env(rt: &TokioRuntime, dir: &str) -> Env<TokioRuntime> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Env {
        peer: rt.clone(),
        ip: loopback,
        // Kept free for examples: nobody's own.
        foreign_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        known_host: ("localhost".to_owned(), loopback),
        unknown_host: Some("no-such-host.invalid".to_owned()),
        unread_bytes_max: 64 << 20,
        disk_is_bounded: true,
        dir: dir.to_owned(),
    }
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime")
}

fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn run_all(tokio: &tokio::runtime::Runtime) {
    let mut failed = Vec::new();
    for case in cases::<TokioRuntime>() {
        let folder = tempfile::tempdir().expect("a folder");
        let rt = TokioRuntime::new(folder.path());
        let env = env(&rt, "case");
        if tokio.block_on(tokio.spawn(case.run(rt, env))).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "broken: {failed:?}, messages above");
}

#[test]
fn the_contract_holds_on_many_threads() {
    run_all(&multi_thread());
}

#[test]
fn the_contract_holds_on_one_thread() {
    run_all(&one_thread());
}

#[test]
fn the_contract_holds_for_absolute_paths() {
    let tokio = multi_thread();
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("case");
    let rt = TokioRuntime::new("/nonexistent");
    let env = env(&rt, dir.to_str().expect("a name in UTF-8"));
    let case = cases().into_iter().find(|case| case.name == "storage::rename_replaces_and_handles_stay");
    tokio.block_on(case.expect("the case").run(rt, env));
}

#[test]
fn a_panic_in_a_task_reaches_who_joins_it() {
    let tokio = multi_thread();
    let joined = tokio.block_on(tokio.spawn(async {
        let rt = TokioRuntime::new(".");
        let task = rt.spawn("panics", async { panic!("as this test wants") });
        let _: Result<(), _> = task.join().await;
    }));
    assert!(joined.expect_err("a panic").is_panic());
}

#[test]
fn two_runtimes_of_one_process_exclude_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokio = multi_thread();
    tokio.block_on(async {
        let (one, other) = (TokioRuntime::new(folder.path()), TokioRuntime::new(folder.path()));
        let held = one.lock_file("lock").await.expect("lock");
        let error = other.lock_file("lock").await.expect_err("lock twice");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        drop(held);
        other.lock_file("lock").await.expect("lock once it is free");
    });
}

/// Run as a child by the test below: takes the lock, says so, and holds it until its input ends.
#[test]
fn child_holds_the_lock() {
    let Ok(path) = std::env::var("HOTFIRE_TEST_LOCK") else {
        return;
    };
    one_thread().block_on(async {
        let _held = TokioRuntime::new("/").lock_file(&path).await.expect("lock");
        println!("\nlocked");
        let _ = std::io::read_to_string(std::io::stdin());
    });
}

#[test]
fn another_process_is_named_and_its_death_frees_the_lock() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lock");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["child_holds_the_lock", "--exact", "--nocapture"])
        .env("HOTFIRE_TEST_LOCK", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("output of the child") == "locked"), "the child did not lock");

    let tokio = multi_thread();
    tokio.block_on(async {
        let rt = TokioRuntime::new(folder.path());
        for _ in 0..2 {
            let error = rt.lock_file("lock").await.expect_err("lock held by a child");
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            assert!(error.to_string().ends_with(&format!("pid {}", child.id())), "{error}");
        }
        child.kill().expect("kill the child");
        child.wait().expect("wait for the child");
        rt.lock_file("lock").await.expect("lock after the holder's death");
    });
}

/// Run as a child by the test below.
#[test]
fn child_meets_a_fatal_state() {
    if std::env::var_os("HOTFIRE_TEST_FATAL").is_some() {
        one_thread().block_on(async {
            TokioRuntime::new(".").fatal("as the test wants").await;
        });
    }
}

#[test]
fn fatal_ends_the_process_and_says_why() {
    use std::os::unix::process::ExitStatusExt;
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["child_meets_a_fatal_state", "--exact", "--nocapture"])
        .env("HOTFIRE_TEST_FATAL", "1")
        .output()
        .expect("a child");
    assert!(output.status.signal().is_some(), "{:?}", output.status);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("fatal: as the test wants"), "{said}");
}

//! The log of a slave: what it has copied survives the death of its process, whoever its master is.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hotfire_core::ha::follower::Follower;
use hotfire_core::store::{FlushMode, Piece, StoreConfig};
use hotfire_tests::TempDir;

use crate::store::{Store, config, message, open, read_all, run};

const MESSAGES: usize = 100;
const FRAME_BYTES: usize = 1_000;

fn slave_config() -> StoreConfig {
    StoreConfig { slave: true, ..config(FlushMode::Async) }
}

/// Appends to the slave's log what its master has beyond it.
async fn copy(master: &Store, slave: &Store) {
    let mut follower = Follower::new(slave.commit_log_max(), slave.config().commit_log_file_bytes);
    let mut at = slave.commit_log_max();
    while let Some(bytes) = master.log_bytes(master.commit_log_max(), at, FRAME_BYTES).expect("readable") {
        follower.frame(at, &bytes).expect("it continues");
        at += bytes.len() as u64;
        loop {
            let end = follower.end();
            let Some(ready) = follower.ready().expect("records") else { break };
            slave.append_copy(end, ready.piece()).await.expect("appended");
        }
    }
    slave.dispatched().reached(slave.commit_log_max()).await.expect("dispatched");
}

/// The folder as the kernel has it now, which is what the death of a process leaves.
fn as_it_is(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => as_it_is(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

/// Java's masters write no checksum of the whole record unless they are told to.
#[test]
fn a_slave_that_dies_keeps_records_that_carry_no_checksum_of_their_own() {
    run(async {
        let dirs = ["plain-master", "plain-slave", "plain-left", "plain-again"].map(TempDir::new);
        let plain = StoreConfig { record_crc: false, ..config(FlushMode::Async) };
        let master = open(dirs[0].path(), plain).await.expect("opens");
        for n in 0..MESSAGES {
            master.put(&message("T", 0, &[n as u8; 300])).await.expect("put");
        }
        let slave = open(dirs[1].path(), slave_config()).await.expect("opens");
        copy(&master, &slave).await;
        let end = slave.commit_log_max();
        assert!(end > 16 << 10 && end == master.commit_log_max());
        as_it_is(dirs[1].path(), dirs[2].path());
        // It follows again, and dies again.
        let left = open(dirs[2].path(), slave_config()).await.expect("opens");
        assert_eq!(left.commit_log_max(), end);
        master.put(&message("T", 0, b"one more")).await.expect("put");
        copy(&master, &left).await;
        let end = left.commit_log_max();
        as_it_is(dirs[2].path(), dirs[3].path());
        // And is the master now, whose own records carry one.
        let promoted = open(dirs[3].path(), config(FlushMode::Async)).await.expect("opens");
        assert_eq!(promoted.commit_log_max(), end);
        assert_eq!(read_all(&promoted, "T", 0).await.len(), MESSAGES + 1);
        for store in [&master, &slave, &left, &promoted] {
            store.stop().await.expect("stops");
        }
    });
}

/// Its master's log begins far behind: nothing has come, and there may be a file for it or none.
#[test]
fn a_slave_that_stops_before_anything_has_come_starts_again() {
    run(async {
        let base = 4 * slave_config().commit_log_file_bytes;
        for with_file in [false, true] {
            let dir = TempDir::new("begun-elsewhere");
            let slave = open(dir.path(), slave_config()).await.expect("opens");
            assert!(slave.begin_at(base).await);
            if with_file {
                // The link ends while the first record waits for its file.
                let piece = Piece::Records { bytes: &[0; 100], timestamp: 1, checksummed: true };
                let mut first = pin!(slave.append_copy(base, piece));
                let waits = poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await;
                assert!(waits.is_pending(), "{waits:?}");
                let file = dir.path().join(format!("store/commitlog/{base:020}"));
                let made = async {
                    while !file.exists() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(30), made).await.expect("no file is made");
            }
            slave.stop().await.expect("stops");
            let again = open(dir.path(), slave_config()).await.expect("opens again");
            // Where a file says so, its log begins there; without one it may begin anywhere.
            assert_eq!(again.commit_log_max(), if with_file { base } else { 0 });
            again.stop().await.expect("stops");
        }
    });
}

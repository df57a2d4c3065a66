//! The log of a slave: what it has copied survives the death of its process, whoever its master is.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hotfire_core::ha::follower::Follower;
use hotfire_core::message::MessageToStore;
use hotfire_core::store::{FlushMode, Piece, RecoverError, StoreConfig};
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
    let mut seen = [0; MARK.len()];
    while let Some(bytes) = master.log_bytes(master.commit_log_max(), at, FRAME_BYTES).expect("readable") {
        let mut as_java = bytes.to_vec();
        for byte in &mut as_java {
            seen.rotate_left(1);
            seen[MARK.len() - 1] = *byte;
            *byte = if seen == *MARK { 0 } else { *byte };
        }
        follower.frame(at, &as_java).expect("it continues");
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
pub fn as_it_is(from: &Path, to: &Path) {
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

/// What a producer has put into a property. On its way to the slave the mark becomes a zero, which our own master would not
/// store without a checksum: where one is expected it looks like what a loss of power has left.
const PLAIN_PROPERTIES: &str = "TAGS\u{1}TagA\u{2}BINARY\u{1}aaaa\u{7F}\u{2}";
const MARK: &[u8; 5] = b"aaaa\x7F";

fn plain_message(body: &[u8]) -> MessageToStore<'_> {
    MessageToStore { properties: PLAIN_PROPERTIES, ..message("T", 0, body) }
}

/// Java's masters write no checksum of the whole record unless they are told to.
#[test]
fn a_slave_that_dies_keeps_records_that_carry_no_checksum_of_their_own() {
    run(async {
        let dirs = ["plain-master", "plain-slave", "plain-left", "plain-again"].map(TempDir::new);
        let plain = StoreConfig { record_crc: false, ..config(FlushMode::Async) };
        let master = open(dirs[0].path(), plain).await.expect("opens");
        for n in 0..MESSAGES {
            master.put(&plain_message(&[b'0' + n as u8 % 10; 300])).await.expect("put");
        }
        let slave = open(dirs[1].path(), slave_config()).await.expect("opens");
        copy(&master, &slave).await;
        let end = slave.commit_log_max();
        assert!(end > 16 << 10 && end == master.commit_log_max());
        as_it_is(dirs[1].path(), dirs[2].path());
        // It follows again, and dies again.
        let left = open(dirs[2].path(), slave_config()).await.expect("opens");
        assert_eq!(left.commit_log_max(), end);
        master.put(&plain_message(b"one more")).await.expect("put");
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

/// The link ends while the first record of an empty log waits for its file.
async fn wait_for_file(slave: &Store, dir: &Path, base: u64) {
    let piece = Piece::Records { bytes: &[0; 100], timestamp: 1, checksummed: true };
    let mut first = pin!(slave.append_copy(base, piece));
    let waits = poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await;
    assert!(waits.is_pending(), "{waits:?}");
    let file = dir.join(format!("store/commitlog/{base:020}"));
    let made = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), made).await.expect("no file is made");
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
                wait_for_file(&slave, dir.path(), base).await;
            }
            slave.stop().await.expect("stops");
            let again = open(dir.path(), slave_config()).await.expect("opens again");
            // Where a file says so, its log begins there; without one it may begin anywhere.
            assert_eq!(again.commit_log_max(), if with_file { base } else { 0 });
            again.stop().await.expect("stops");
        }
    });
}

/// Its log begins at a file that holds nothing yet, behind all that its queues point at: the checkpoint says so, and nothing
/// is missing.
#[test]
fn an_empty_log_that_begins_where_the_checkpoint_says_is_not_missed_for_old_queue_entries() {
    run(async {
        let base = 4 * slave_config().commit_log_file_bytes;
        for half_made in [false, true] {
            let dirs = ["emptied-old", "emptied"].map(TempDir::new);
            let old = open(dirs[0].path(), config(FlushMode::Async)).await.expect("opens");
            for n in 0..7_u8 {
                old.put(&message("T", 0, &[n])).await.expect("put");
            }
            old.stop().await.expect("stops");
            let slave = open(dirs[1].path(), slave_config()).await.expect("opens");
            assert!(slave.begin_at(base).await);
            wait_for_file(&slave, dirs[1].path(), base).await;
            slave.stop().await.expect("stops");
            let queues = "store/consumequeue";
            as_it_is(&dirs[0].path().join(queues), &dirs[1].path().join(queues));
            let file = dirs[1].path().join(format!("store/commitlog/{base:020}"));
            if half_made {
                std::fs::write(&file, b"").expect("written");
            }
            for _ in 0..2 {
                let again = open(dirs[1].path(), slave_config()).await.expect("opens again");
                assert_eq!((again.commit_log_min(), again.commit_log_max()), (base, base));
                // All seven are gone, and their offsets are not given again.
                assert_eq!((again.min_offset("T", 0), again.max_offset("T", 0)), (7, 7));
                again.stop().await.expect("stops");
            }
            // A file that begins elsewhere says nothing of the kind.
            std::fs::remove_file(&file).expect("removed");
            std::fs::write(file.with_file_name(format!("{:020}", 2 * base)), b"").expect("written");
            let refused =
                open(dirs[1].path(), slave_config()).await.map(|_| ()).expect_err("the log is gone");
            assert!(matches!(refused, RecoverError::LogMissing { .. }), "{refused}");
        }
    });
}

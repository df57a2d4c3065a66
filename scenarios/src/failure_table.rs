//! The failure table of `spec/ha.md`, section 6, for classic replication: each row a plan, under an ASYNC_MASTER (A), a
//! SYNC_MASTER as of Java 4.x (S4), and one as of 5.x that waits for two copies (S5), with what must come of it.
//!
//! Each run is held against every oracle as well: a loss that its settings do not excuse fails it before its row is looked at.
//! Rows of the table that need a controller are not here (15, 16, 19, 21, 28 to 30), nor those that other scenarios are about
//! (25: delay, 33: retention), nor 27: whoever reports what the log holds is counted as a slave here too.

use crate::options;
use crate::plan::{Fault, InSync, Plan, Planned, Pool, Replication};
use crate::report::{Outcome, VerdictKind};
use crate::runner::{self, Limits};

const A: &str = "broker-a";
const S: &str = "slave-a";

/// What a run must have come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    /// Something answered SEND_OK is not on the master's disk at the end, or its heir's; else nothing is missing.
    Lost,
    /// Perhaps.
    MayLose,
    /// FLUSH_SLAVE_TIMEOUT was answered.
    Late,
    /// SLAVE_NOT_AVAILABLE was answered.
    Alone,
    /// The slave has said that its master's history is another one; else it follows at the end.
    Diverged,
    /// Perhaps.
    MayDiverge,
    /// Consumers were given messages while the master was down.
    ReadFromSlave,
}

use Told::{Alone, Diverged, Late, Lost, MayDiverge, MayLose, ReadFromSlave};

struct Row {
    /// Of `spec/ha.md`.
    row: &'static str,
    set: fn(&mut Plan),
    faults: Vec<Planned>,
    /// Under A, S4 and S5.
    told: [&'static [Told]; 3],
    /// What Java does instead, where ours is better.
    java: &'static str,
}

fn at(at_ms: u64, fault: Fault) -> Planned {
    Planned { at_ms, fault }
}

fn async_flush(_: &mut Plan) {}

fn sync_flush(plan: &mut Plan) {
    plan.settings.sync_flush = true;
}

fn java_slave(plan: &mut Plan) {
    replication(plan).java_slaves = true;
    // It tries again when the master has grown past it, under load.
    plan.workload.load_ms = 34_000;
}

fn pooled(plan: &mut Plan) {
    plan.settings.pool = Some(Pool {
        buffers: 5,
        fast_fail: false,
        interval_ms: 200,
        least_pages: 4,
        thorough_interval_ms: 200,
    });
}

fn master_lost(plan: &mut Plan) {
    replication(plan).masters_lost = true;
    // Soon after the faults.
    plan.workload.load_ms = plan.workload.faults_end_ms + 100;
}

/// A second slave, and two of three copies are not enough for S5.
fn two_slaves(plan: &mut Plan) {
    sync_flush(plan);
    let replication = replication(plan);
    replication.slaves = 2;
    // The master notices late that a slave is silent.
    (replication.heartbeat_ms, replication.housekeeping_ms) = (2_000, 8_000);
    replication.in_sync = replication.in_sync.map(|in_sync| InSync { replicas: 3, ..in_sync });
}

fn replication(plan: &mut Plan) -> &mut Replication {
    plan.settings.replication.as_mut().expect("the scenario has slaves")
}

fn crash(node: &str, down_ms: u64) -> Fault {
    Fault::Crash { node: node.into(), down_ms }
}

fn power_loss(node: &str, down_ms: u64) -> Fault {
    Fault::PowerLoss { node: node.into(), down_ms }
}

fn cut(from: &str, to: &[&str], for_ms: u64) -> Fault {
    let to = to.iter().map(|&node| node.to_owned()).collect();
    Fault::Partition { from: vec![from.into()], to, one_way: false, for_ms }
}

#[rustfmt::skip]
fn table() -> Vec<Row> {
    vec![
        Row { row: "6.1 row 1: the master's process dies", set: async_flush,
            faults: vec![at(6_000, crash(A, 1_000))],
            told: [&[], &[Alone], &[Late]], java: "" },
        Row { row: "6.1 row 2: the same with the transient pool", set: pooled,
            faults: vec![at(6_000, crash(A, 1_000))],
            told: [&[MayLose], &[Alone], &[Late]], java: "" },
        Row { row: "6.1 row 3: the master loses power, flushes are not waited for", set: async_flush,
            faults: vec![at(8_000, power_loss(A, 1_000))],
            told: [&[Lost, Diverged], &[Lost, Diverged, Alone], &[Lost, Diverged, Late]],
            java: "the slave follows with another history; S4 and S5 answer SEND_OK for what it does not have" },
        Row { row: "6.1 row 3, with a Java slave: it compares nothing, and the master grows past it", set: java_slave,
            faults: vec![at(8_000, power_loss(A, 1_000))],
            told: [&[Lost, Diverged], &[Lost, Diverged, Alone], &[Lost, Diverged, Late]],
            java: "as in row 3" },
        Row { row: "6.1 row 4: the same, flushes are waited for", set: sync_flush,
            faults: vec![at(9_000, power_loss(A, 1_000))],
            told: [&[], &[Alone], &[Late]], java: "" },
        Row { row: "6.1 row 5: the same as row 3, for long", set: async_flush,
            faults: vec![
                at(4_000, Fault::Pause { node: "consumer-0".into(), for_ms: 4_000 }),
                at(6_000, power_loss(A, 14_000)),
            ],
            told: [&[Lost, Diverged, ReadFromSlave], &[Lost, Diverged, ReadFromSlave], &[Lost, Diverged, ReadFromSlave]],
            java: "as in row 3" },
        Row { row: "6.1 row 6: the master's disk is lost", set: master_lost,
            faults: vec![],
            told: [&[MayLose], &[], &[]], java: "" },
        Row { row: "6.1 row 7: the slave's process dies", set: async_flush,
            faults: vec![at(6_000, crash(S, 3_000))],
            told: [&[], &[Alone], &[Late]], java: "" },
        Row { row: "6.1 row 8: the slave loses power", set: async_flush,
            faults: vec![at(6_000, power_loss(S, 3_000))],
            told: [&[], &[Late], &[Late]], java: "" },
        Row { row: "6.1 row 9: the slave's disk is lost", set: async_flush,
            faults: vec![at(6_000, Fault::DiskLoss { node: S.into(), down_ms: 500 })],
            told: [&[], &[Late], &[Late]],
            java: "S4 and S5 answer SEND_OK for messages that lie before the file with which the slave begins" },
        Row { row: "6.1 row 11: a flush of the master fails, later its power", set: sync_flush,
            faults: vec![
                at(6_000, Fault::FlushError { node: A.into(), permille: 1_000, for_ms: 500 }),
                at(9_000, power_loss(A, 1_000)),
            ],
            told: [&[], &[], &[]],
            java: "before Sept 2025 a failed flush counts, and the loss of power takes what was acknowledged" },
        Row { row: "6.2 row 12: all lose power, flushes are not waited for", set: async_flush,
            faults: vec![at(8_000, Fault::PowerLossAll { down_ms: 500 })],
            told: [&[Lost, MayDiverge], &[Lost, MayDiverge], &[Lost, MayDiverge]], java: "" },
        Row { row: "6.2 row 13: the same, flushes are waited for", set: sync_flush,
            faults: vec![at(9_000, Fault::PowerLossAll { down_ms: 500 })],
            told: [&[], &[], &[]],
            java: "a slave's flush is not waited for: what only it should keep may be lost" },
        Row { row: "6.2 row 14: the slave is behind, and the master is lost", set: master_lost,
            faults: vec![at(9_000, cut(A, &[S], 5_000))],
            told: [&[Lost], &[Late], &[Late]], java: "" },
        Row { row: "6.3 row 17: the master is cut from the slave", set: async_flush,
            faults: vec![at(3_000, cut(A, &[S], 8_000))],
            told: [&[], &[Late, Alone], &[Late]], java: "" },
        Row { row: "6.3 row 18: and from the name server", set: async_flush,
            faults: vec![at(3_000, cut(A, &[S, "ns-0"], 8_000))],
            told: [&[], &[Late, Alone], &[Late]], java: "" },
        Row { row: "6.3 row 20: a slave's old connection stays, while another slave is cut off", set: two_slaves,
            faults: vec![at(5_000, cut(A, &["slave-a2"], 5_000)), at(7_000, power_loss(S, 100))],
            told: [&[], &[], &[Late]],
            java: "S5 counts the old connection and the new one as two slaves: SEND_OK with two copies of three" },
        Row { row: "6.3 row 22: the master stands still", set: async_flush,
            faults: vec![at(3_000, Fault::Pause { node: A.into(), for_ms: 11_000 })],
            told: [&[], &[], &[]], java: "" },
        Row { row: "6.3 row 23: the master's clock is set back, and its process dies", set: async_flush,
            faults: vec![
                at(5_000, Fault::ClockJump { node: A.into(), by_ms: -60_000 }),
                at(9_000, crash(A, 1_000)),
            ],
            told: [&[], &[Alone], &[Late]],
            java: "recovery may begin in too new a file, and queues are incomplete" },
        Row { row: "6.3 row 24: the master's clock is set forward", set: async_flush,
            faults: vec![at(5_000, Fault::ClockJump { node: A.into(), by_ms: 3_600_000 })],
            told: [&[], &[], &[]],
            java: "files may be deleted before their time" },
        Row { row: "6.3 row 26: the master is cut from the name server", set: async_flush,
            faults: vec![at(3_000, cut(A, &["ns-0"], 10_000))],
            told: [&[], &[], &[]], java: "" },
        Row { row: "6.4 row 31: the master loses power after dispatch, flushes are waited for", set: |plan| {
                sync_flush(plan);
                plan.settings.queue_flush_thorough_interval_ms = 60_000;
            },
            faults: vec![at(9_000, power_loss(A, 1_000))],
            told: [&[], &[Alone], &[Late]],
            java: "the checkpoint may be newer than the queues, and entries are missing" },
        Row { row: "6.4 row 32: committed offsets reach beyond a lost tail", set: |plan| {
                plan.settings.offset_persist_interval_ms = 500;
            },
            faults: vec![at(8_000, power_loss(A, 1_000))],
            told: [&[Lost, Diverged], &[Lost, Diverged], &[Lost, Diverged]],
            java: "a group's offset stays beyond the queue, and messages are skipped" },
    ]
}

/// The plan of a row under the master of that number.
fn plan(row: &Row, master: usize) -> Plan {
    let mut plan = options::draw("replication", 1).expect("a listed scenario").undisturbed();
    let settings = &mut plan.settings;
    (settings.name_servers, settings.producers, settings.consumers, settings.groups) = (1, 2, 1, 1);
    (settings.sync_flush, settings.pool, settings.sql) = (false, None, None);
    (settings.flush_interval_ms, settings.flush_thorough_interval_ms) = (500, 10_000);
    (settings.network_latency_us, settings.flush_latency_us) = (300, 1_000);
    settings.commit_log_file_bytes = 16 * 1_024;
    settings.rest_ms = 5_000;
    settings.replication = Some(Replication {
        slaves: 1,
        sync_master: master > 0,
        in_sync: (master == 2).then_some(InSync { replicas: 2, min: 1, all: false }),
        sync_flush: None,
        masters_lost: false,
        java_slaves: false,
        promoted_at_ms: None,
        batch_bytes: 32_768,
        heartbeat_ms: 500,
        housekeeping_ms: 2_000,
        slave_timeout_ms: 500,
        behind_max: None,
    });
    let workload = &mut plan.workload;
    (workload.messages, workload.in_flight, workload.gap_ms) = (240, 4, 600);
    (workload.topics, workload.late_topics, workload.slow_topic) = (1, 0, false);
    (workload.batch_percent, workload.one_way_percent, workload.no_wait_percent) = (0, 0, 0);
    (workload.body_bytes, workload.property_bytes) = (200, 0);
    (workload.load_ms, workload.faults_end_ms) = (20_000, 14_000);
    (row.set)(&mut plan);
    let end_ms = |planned: &Planned| planned.at_ms + planned.fault.lasts_ms();
    plan.faults = row.faults.clone();
    plan.workload.faults_end_ms = row.faults.iter().map(end_ms).max().unwrap_or(0).max(14_000);
    plan.workload.load_ms = plan.workload.load_ms.max(plan.workload.faults_end_ms + 100);
    plan
}

/// What is wrong with a run that was to come to `told`.
fn differs(outcome: &Outcome, told: &[Told]) -> Option<String> {
    if outcome.verdict != VerdictKind::Ok {
        return Some(format!("{:?}", outcome.failure));
    }
    let history = &outcome.history;
    let down = |at_ms: u64| {
        let losses = history.power_losses.iter().filter(|loss| loss.node == A);
        losses.into_iter().any(|loss| (loss.at_ms + 500..loss.at_ms + 14_000).contains(&at_ms))
    };
    let read = history.deliveries.iter().filter(|delivery| down(delivery.at_ms)).count();
    let facts = [
        (Lost, !history.lost.is_empty()),
        (Late, history.slave_timeouts > 0),
        (Alone, history.slaves_missing > 0),
        (Diverged, !history.diverged.is_empty()),
        (ReadFromSlave, read > 0),
    ];
    let wrong = facts.into_iter().find(|(fact, is_so)| match fact {
        Lost if told.contains(&MayLose) => false,
        Diverged if told.contains(&MayDiverge) => false,
        Lost | Diverged => told.contains(fact) != *is_so,
        fact => told.contains(fact) && !is_so,
    });
    wrong.map(|(fact, is_so)| {
        let (ok, late, alone) = (outcome.acked, history.slave_timeouts, history.slaves_missing);
        format!(
            "{fact:?} is {is_so} ({} lost of {ok}, {late} late, {alone} alone, {read} read)",
            history.lost.len()
        )
    })
}

#[test]
fn every_row_of_the_failure_table_comes_to_what_it_says() {
    let columns = ["A", "S4", "S5"].into_iter().enumerate().map(|(master, name)| {
        std::thread::spawn(move || {
            let wrong = table().into_iter().filter_map(|row| {
                let outcome = runner::run(&plan(&row, master), &Limits::default());
                let why = differs(&outcome, row.told[master])?;
                Some(format!("{} ({name}): {why}", row.row))
            });
            wrong.collect::<Vec<String>>()
        })
    });
    let columns: Vec<_> = columns.collect();
    let wrong: Vec<String> =
        columns.into_iter().flat_map(|column| column.join().expect("a run does not panic here")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_java_slave_that_follows_once_its_master_has_grown_past_it_breaks_its_row() {
    let rows = table();
    let row = rows.iter().find(|row| row.row.contains("Java slave")).expect("a row with a Java slave");
    for master in 0..3 {
        let planted = Plan { mutant: Some("GrownPastIsBehind".to_owned()), ..plan(row, master) };
        let outcome = runner::run(&planted, &Limits::default());
        assert!(differs(&outcome, row.told[master]).is_some(), "column {master}");
    }
}

#[test]
fn a_row_that_says_something_else_is_told_apart() {
    let rows = table();
    let outcome = runner::run(&plan(&rows[2], 0), &Limits::default());
    assert_eq!(differs(&outcome, rows[2].told[0]), None);
    assert!(differs(&outcome, &[]).is_some() && differs(&outcome, &[Lost]).is_some());
    assert!(differs(&outcome, &[Lost, Diverged, Late]).is_some(), "nothing is waited for");
    assert!(rows.iter().any(|row| !row.java.is_empty()));
}

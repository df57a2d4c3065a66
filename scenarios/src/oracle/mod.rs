//! The promises, one file each. I-numbers are those of `spec/ha.md`, section 5.
//!
//! | Promise | File | Judged |
//! |---|---|---|
//! | I1 ACK-DURABLE | `acked_not_lost` | at each acknowledgement on the raw disk or as the kernel shows it, by what is promised, and at the end |
//! | I2 VISIBLE, I3 CQ-MAP | `queue_matches_log` | after each stop in order on the raw disk, after each recovery (I3), on the healed cluster, where bits that have turned in entries are read back, at the end |
//! | I4 CQ-DENSE, I5 OFFSET-UNIQUE | `queue_order` | at the end |
//! | I6 PREFIX, I11 CONFIRM | `replica` | at each acknowledgement of a SYNC_MASTER on the slave's disk, at the first report of each link on both disks, on the healed cluster, at the end |
//! | I7 NO-RESURRECT, I20 ACK-HONEST | `no_phantom` | at each delivery, after each recovery, at the end |
//! | I8 STABLE-READ | `stable_read` | at each delivery on the raw disk, and at the end |
//! | I9 FLUSH-TRUE | `position_order` | at each flush, on the raw disk; at each commit, as the kernel shows it; that each comes in time, from the end of the faults on |
//! | I10 CHECKPOINT-TRUE | `position_order` | at each checkpoint on the raw disk, after each loss of power, and after each stop in order |
//! | I13 RETENTION | `retention` | when a log file is chosen, before each removal of a name, before each start; minima as readers are told them |
//! | I14 TX | `transaction` | at each delivery, after each recovery, on the healed cluster, at the end |
//! | I15 DELAY | `delay` | at each delivery, before each start, at the end |
//! | DLQ, by README: dead exactly after too many tries | `dead_letters` | on the healed cluster, at the end |
//! | DELETED, by README: what an operator has deleted is never seen again | `deleted_topic` | at each answer to a deletion on the raw disk, after each recovery, by pulls and deliveries after a deletion, at the end |
//! | I16 COFFSET | `consumer_offset` | before each start, after each recovery, on the healed cluster after its rest, by requests and deliveries after the last start, and at the end |
//! | ORDER, by README: in order, by one member; SHARE: one holder for each queue | `in_order` | when a listener is called, and when all have settled |
//! | I17 ROUTE | `routes_converge` | while the healed cluster rests |
//! | I18 META, of the abort marker | `abort_marker` | at each append, on the raw disk |
//! | I18 META, of topics and groups | `tables` | when a client first uses one, on the raw disk; whenever a slave writes what it has copied |
//! | INDEX, by README: each record is found by its keys, once | `index_matches_log` | at each checkpoint on the raw disk, on the healed cluster by requests, at the end |
//! | REFUSE, by product.md: no start on files that lack what was durable, which stay as they are | `refused_start` | while such a fault is on |
//! | SEARCH: what a queue has of a time, and what a pull by tags is given | `search` | on the healed cluster, by requests |
//! | MOVED: where groups are, and where an operator has moved them | `group_offsets` | on the healed cluster, by requests |
//! | BOUNDS: where queues begin and end, and what a pull is given of them | `bounds` | on the healed cluster, by requests |
//! | FILTER, by README: a SQL92 subscription is given what it asks for | `sql_filter` | at each delivery; that nothing is missing by I19 |
//! | PROTOCOL: every request is answered by the specification, and what is refused is not stored | `protocol` | at each answer to the examining program, and on the raw disk at the end |
//! | ENDS: a process ends when it is struck or told to stop, and a second one finds its directory in use | `ends` | at all times |
//! | I19 LIVE | `progress` | while the healed cluster rests |
//!
//! Each oracle is a function from what was seen to a verdict, and is tested by a hand-made history that it must reject.

pub mod abort_marker;
pub mod acked_not_lost;
pub mod bounds;
pub mod consumer_offset;
pub mod dead_letters;
pub mod delay;
pub mod deleted_topic;
pub mod ends;
pub mod group_offsets;
pub mod in_order;
pub mod index_matches_log;
pub mod no_phantom;
pub mod position_order;
pub mod progress;
pub mod protocol;
pub mod queue_matches_log;
pub mod queue_order;
pub mod refused_start;
pub mod replica;
pub mod retention;
pub mod routes_converge;
pub mod search;
pub mod sql_filter;
pub mod stable_read;
pub mod tables;
pub mod transaction;

use std::collections::BTreeMap;

use crate::history::History;
use crate::platter::BrokerDisk;

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// `I1`, or `I7/I20` where one check stands for two.
    pub promise: &'static str,
    pub detail: String,
}

impl Broken {
    #[must_use]
    pub fn new(promise: &'static str, detail: impl Into<String>) -> Broken {
        Broken { promise, detail: detail.into() }
    }
}

pub type Verdict = Result<(), Broken>;

/// What the end of a run is judged on: every broker was stopped in order, after its last recovery.
#[derive(Clone, Copy, Debug)]
pub struct Final<'a> {
    pub history: &'a History,
    pub sync_flush: bool,
    /// With the transient store pool: an acknowledged record has come into its file after so long.
    pub committed_within_ms: Option<u64>,
    /// A flush that nobody waited for has covered a record after so long, on a disk that is well.
    pub flushed_within_ms: u64,
    pub brokers: &'a BTreeMap<String, BrokerDisk>,
}

/// Every end-of-run oracle, in the order of the table. A file of a log has `log_file_bytes`.
///
/// # Errors
/// The first broken promise.
pub fn judge(end: Final<'_>, log_file_bytes: u64) -> Verdict {
    for (name, disk) in end.brokers {
        deleted_topic::queues(end.history, name, disk)?;
        deleted_topic::numbers(end.history, name, disk)?;
        queue_matches_log::judge(name, disk)?;
        queue_order::dense(name, disk)?;
        no_phantom::log(end.history, name, disk)?;
        index_matches_log::judge(name, disk)?;
        let deaths = end.history.unclean_starts.get(name).copied().unwrap_or(0);
        delay::copies(name, disk, deaths, end.history.clock_jumps.iter().all(|jump| jump.node != *name))?;
    }
    acked_not_lost::at_end(end)?;
    queue_order::unique(end)?;
    no_phantom::copies(end)?;
    stable_read::at_end(end)?;
    transaction::at_end(end, log_file_bytes)
}

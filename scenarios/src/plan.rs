//! One run, written down: what a seed drew, as JSON. The plan is what replays; the seed alone only draws it anew.
//!
//! Invariant: a run is a function of the plan and of the code. Everything a seed decided stands here, or is a keyed draw
//! from `seed` that concerns one message or one fault alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What one run does. `faults` is at the top level, so that a script can count and cut them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub scenario: String,
    pub seed: u64,
    /// The planted bug, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    pub settings: Settings,
    pub workload: Workload,
    pub faults: Vec<Planned>,
    /// What the run that wrote this file came to; absent in a plan that has not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

/// The cluster and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub name_servers: u32,
    pub brokers: u32,
    /// How a slave follows each broker; none: there are no slaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<Replication>,
    pub producers: u32,
    pub consumers: u32,
    pub groups: u32,
    /// One broker's store, with puts and reads beside it; no network, name servers or clients.
    pub store_alone: bool,
    /// SYNC_FLUSH, else ASYNC_FLUSH.
    pub sync_flush: bool,
    /// How long a put waits for its flush.
    #[serde(default = "sync_flush_timeout_ms")]
    pub sync_flush_timeout_ms: u64,
    /// The transient store pool of ASYNC_FLUSH; none: appends go into the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Which records carry a checksum of all of them.
    #[serde(default, skip_serializing_if = "RecordCrc::is_on")]
    pub record_crc: RecordCrc,
    pub commit_log_file_bytes: u64,
    /// Folders among which the files of the log are spread.
    #[serde(default = "one_folder", skip_serializing_if = "is_one")]
    pub log_folders: usize,
    pub queue_file_bytes: u64,
    /// Files of queues that a store alone keeps open; none: as many as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_queue_files: Option<usize>,
    /// Slots and entries of an index file.
    #[serde(default = "index_file")]
    pub index_file: (u32, u32),
    pub flush_interval_ms: u64,
    pub flush_thorough_interval_ms: u64,
    pub queue_flush_interval_ms: u64,
    pub queue_flush_thorough_interval_ms: u64,
    pub offset_persist_interval_ms: u64,
    pub register_interval_ms: u64,
    pub queues_per_topic: u32,
    /// One way, between any two nodes.
    pub network_latency_us: u64,
    pub flush_latency_us: u64,
    /// Chance that a rare branch is taken where the code offers one.
    pub buggify_permille: u32,
    /// How long the healed cluster is watched for routes that vanish again.
    pub rest_ms: u64,
    /// When files are deleted, and how small the disk is; none: never, and the disk is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// The last group subscribes by SQL92, with the expression of that number in [`crate::oracle::sql_filter::FORMS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<u32>,
    /// Half messages and how they are asked about; none: no message is one of a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Transactions>,
    /// What is delivered later; none: nothing, and consumers never fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delays: Option<Delays>,
    /// How consumers consume, where that is what the run is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumption: Option<Consumption>,
    /// Topics that an operator deletes again and again; none: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passing: Option<Passing>,
    /// Nothing disturbs the run: no read or write is cut in two, and at its end brokers stop in order instead of failing
    /// once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undisturbed: bool,
}

/// `enabledAppendPropCRC` of the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordCrc {
    #[default]
    On,
    /// As Java's brokers have it by default.
    Off,
    /// Slaves, which write nothing of their own, have it on.
    OffOnMasters,
    /// A broker's first life has it, its second has not, and so on: somebody cannot decide.
    InTurns,
}

impl RecordCrc {
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self == RecordCrc::On
    }

    /// The setting of a life of a broker; lives are counted from 1.
    #[must_use]
    pub fn of(self, is_slave: bool, life: u64) -> bool {
        match self {
            RecordCrc::On => true,
            RecordCrc::Off => false,
            RecordCrc::OffOnMasters => is_slave,
            RecordCrc::InTurns => life % 2 == 1,
        }
    }
}

/// Below a store's folder: where the files of a log are, the first alone or spread over several.
pub const LOG_FOLDERS: [&str; 3] = ["commitlog", "commitlog-b", "commitlog-c"];

/// How the slaves of each broker follow it, and what it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replication {
    /// Of each broker.
    #[serde(default = "one_slave")]
    pub slaves: u32,
    /// SYNC_MASTER, else ASYNC_MASTER.
    pub sync_master: bool,
    /// Copies that a SYNC_MASTER asks for as Java 5.x does; none: as Java 4.x does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sync: Option<InSync>,
    /// Whether slaves flush before they report; none: as their masters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_flush: Option<bool>,
    /// At the end, under load, masters lose their disks for good, and slaves take over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masters_lost: bool,
    /// Slaves do as Java's do: they compare nothing before they follow, and report when a heartbeat is due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub java_slaves: bool,
    /// Under load and among the faults the master is lost for good, and its slave made the master; its own machine comes back
    /// as a slave, with an empty disk. Not where the slave is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_at_ms: Option<u64>,
    pub batch_bytes: u32,
    pub heartbeat_ms: u64,
    pub housekeeping_ms: u64,
    pub slave_timeout_ms: u64,
    /// Bytes that a slave may be behind that is waited for, or counts as in sync; none: Java's, which no run comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_max: Option<u64>,
}

/// Java's `inSyncReplicas`, `minInSyncReplicas` and `allAckInSyncStateSet`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InSync {
    pub replicas: u32,
    pub min: u32,
    pub all: bool,
}

impl Replication {
    /// Slaves that have what is answered SEND_OK, at least.
    #[must_use]
    pub fn slaves_confirming(&self) -> usize {
        let copies = self.in_sync.map_or(2, |in_sync| in_sync.replicas.max(in_sync.min));
        if self.sync_master { copies as usize - 1 } else { 0 }
    }
}

impl Replication {
    /// Whether that slave's disk may be lost. Where masters lose theirs, one that holds what was answered SEND_OK must be left.
    #[must_use]
    pub fn may_lose_disk(&self, slave: &str) -> bool {
        let spare = self.slaves_confirming().saturating_sub(1) as u32;
        !self.masters_lost || names::nth_of_slave(slave) < spare
    }
}

/// For plans that were recorded before there could be two.
fn one_slave() -> u32 {
    1
}

/// For plans that were recorded before there could be several.
fn one_folder() -> usize {
    1
}

fn is_one(folders: &usize) -> bool {
    *folders == 1
}

/// For plans that were recorded before there was an index.
fn index_file() -> (u32, u32) {
    (16, 200)
}

/// For plans that were recorded before it was drawn: Java's.
fn sync_flush_timeout_ms() -> u64 {
    5_000
}

impl Settings {
    /// The folders with files of the log, below the store's.
    pub fn log_folders(&self) -> impl Iterator<Item = &'static str> {
        LOG_FOLDERS.into_iter().take(self.log_folders)
    }

    /// SYNC_FLUSH on slaves.
    #[must_use]
    pub fn slaves_sync_flush(&self) -> bool {
        let own = self.replication.as_ref().and_then(|replication| replication.sync_flush);
        own.unwrap_or(self.sync_flush)
    }
}

/// As [`hotfire_core::store::TransientPool`] has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    pub buffers: u64,
    pub fast_fail: bool,
    pub interval_ms: u64,
    pub least_pages: u64,
    pub thorough_interval_ms: u64,
}

impl Pool {
    /// A record is in its file so long after its put, on a machine that is well.
    #[must_use]
    pub fn committed_within_ms(&self) -> u64 {
        self.interval_ms + self.thorough_interval_ms + 50
    }
}

/// How a broker asks about half messages, and how many there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transactions {
    /// Of the messages that are sent one by one.
    pub percent: u32,
    pub timeout_ms: u64,
    pub check_interval_ms: u64,
    pub check_max: u32,
    /// Each producer is a group of its own: while it is down nobody can answer for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lone_producers: bool,
    /// So many half messages fill a record, or nearly, so that a copy, which says more, has no room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub full_percent: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// When a broker deletes files, as [`hotfire_core::store::Retention`] has it, and the disk that they are on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    /// Bytes of each broker's partition: much more than the workload needs.
    pub disk_bytes: u64,
    pub reserved_ms: u64,
    /// Hours of the day, as Java's `deleteWhen` names them. A run begins in none of them.
    pub delete_when: String,
    pub interval_ms: u64,
    pub first_ms: u64,
    pub log_file_pause_ms: u64,
    pub queue_file_pause_ms: u64,
    pub held_max_ms: u64,
    pub held_retry_ms: u64,
    /// Whether files of any age go when the disk is nearly full.
    pub forcibly: bool,
}

/// Messages that are delivered later, because they were sent so or because their consumers failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    /// Java's `messageDelayLevel`, in seconds.
    pub levels: String,
    /// Between two saves of the delay offsets.
    pub save_interval_ms: u64,
    /// Of the messages that are sent alone.
    pub delayed_percent: u32,
    /// Messages with which consumers fail, each so often as its number draws.
    pub failing_percent: u32,
    /// Tries after the first.
    pub reconsume_max: i32,
}

/// Consumers whose turns are watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consumption {
    /// One message of a queue after the other; messages have keys, and those of one key go to one queue.
    pub in_order: bool,
    /// The last group broadcasts.
    pub broadcast: bool,
    /// A group without an offset begins at the end. Brokers know one for each group of these runs: 0, while a queue begins there.
    pub from_last: bool,
    pub commit_interval_ms: u64,
    /// Messages for which listeners take seconds.
    pub slow_percent: u32,
    /// Messages with which listeners fail once or twice.
    pub failing_percent: u32,
}

/// Topics that do not stay. To the even ones nothing is sent while they are gone; to the odd ones producers send at any time,
/// and so make them again themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passing {
    pub topics: u32,
    /// Of all messages.
    pub percent: u32,
    /// Mean pause between two deletions.
    pub gap_ms: u64,
    /// How long a topic is gone, at most.
    pub gone_ms: u64,
}

/// What clients do. Each message's own choices are keyed draws from the seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Messages of all producers together.
    pub messages: u32,
    /// Sends of one producer that wait for their answer at once.
    pub in_flight: u32,
    /// Mean pause of one sender between two sends.
    pub gap_ms: u64,
    pub topics: u32,
    /// Topics that are used only from the middle of the run on, so that brokers create and register them under faults.
    pub late_topics: u32,
    /// Bodies are all of `body_bytes`, else of 20 to `body_bytes`. Equal sizes let stale records line up with new ones.
    pub equal_sizes: bool,
    pub body_bytes: u32,
    /// Length of a filler property, so that records have much outside their body.
    pub property_bytes: u32,
    pub batch_percent: u32,
    pub one_way_percent: u32,
    /// `WAIT=false`: the broker need not wait for the flush.
    pub no_wait_percent: u32,
    /// One more topic that gets one message a second: its queue pages stay unflushed for long.
    pub slow_topic: bool,
    /// Messages of each producer on the healed cluster, all of which must be answered at once.
    pub proof_messages: u32,
    /// All faults have ended by then: 70 % of the load.
    pub faults_end_ms: u64,
    /// Producers have begun their last message by then, unless faults held them up.
    pub load_ms: u64,
}

/// A fault and when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub at_ms: u64,
    #[serde(flatten)]
    pub fault: Fault,
}

/// What is done to the world. Nodes are named as in the node table: `ns-0`, `broker-a`, `producer-0`, `consumer-0`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// The process dies; the page cache stays.
    Crash {
        node: String,
        down_ms: u64,
    },
    /// The process dies inside its `step`th storage step from now, which may be half done.
    CrashInStep {
        node: String,
        step: u64,
        down_ms: u64,
    },
    /// The machine loses power: what was not flushed is there, gone or torn, page by page.
    PowerLoss {
        node: String,
        down_ms: u64,
    },
    /// The machine loses power, and its disk; it comes back with an empty one.
    DiskLoss {
        node: String,
        down_ms: u64,
    },
    /// The machine loses power inside its `step`th storage step from now.
    PowerLossInStep {
        node: String,
        step: u64,
        down_ms: u64,
    },
    /// The process is asked to stop in order and started again; one that has not stopped by then is killed.
    Restart {
        node: String,
        down_ms: u64,
    },
    /// The machine loses power, and while it is off a file is gone that it needs: one of those, or all of a log.
    LostFile {
        node: String,
        of: Loss,
        /// Which of those that there are.
        pick: u64,
        down_ms: u64,
    },
    /// The machine loses power, and while it is off a bit turns in a record that was durable.
    BitRot {
        node: String,
        pick: u64,
        down_ms: u64,
    },
    /// The machine loses power, and while it is off a bit turns in what can be made again.
    Rot {
        node: String,
        of: Rotten,
        pick: u64,
        down_ms: u64,
    },
    /// Every broker and name server loses power at the same moment.
    PowerLossAll {
        down_ms: u64,
    },
    /// No packet passes from a node of `from` to one of `to`; nor back, unless `one_way`.
    Partition {
        from: Vec<String>,
        to: Vec<String>,
        one_way: bool,
        for_ms: u64,
    },
    Latency {
        from: String,
        to: String,
        add_ms: u64,
        for_ms: u64,
    },
    Loss {
        permille: u32,
        for_ms: u64,
    },
    /// Each flush takes so much longer.
    SlowDisk {
        node: String,
        add_ms: u64,
        for_ms: u64,
    },
    /// No flush ends before the stall does.
    StalledDisk {
        node: String,
        for_ms: u64,
    },
    /// Flushes fail and drop their pages from the list of dirty ones; afterwards the operator restarts the broker.
    FlushError {
        node: String,
        permille: u32,
        for_ms: u64,
    },
    FullDisk {
        node: String,
        for_ms: u64,
    },
    /// Somebody else leaves so little of the disk: one kind of file can still be made, the next cannot.
    LittleRoom {
        node: String,
        free_bytes: u64,
        for_ms: u64,
    },
    /// Files, but for what is mapped, cannot be read where they may have left memory.
    ReadError {
        node: String,
        permille: u32,
        for_ms: u64,
    },
    /// Pages that the kernel writes by itself get lost, and the next flush of their file says so, once; afterwards the
    /// operator restarts the broker.
    WritebackError {
        node: String,
        permille: u32,
        for_ms: u64,
    },
    /// The kernel has made the file system read-only; afterwards the operator mounts it anew and restarts the broker.
    ReadOnlyDisk {
        node: String,
        for_ms: u64,
    },
    /// Somebody else fills the disk until so much of it is used.
    TightDisk {
        node: String,
        percent: u64,
        for_ms: u64,
    },
    /// A reader takes bytes of the oldest file and holds them.
    SlowReader {
        node: String,
        /// Consumers read nothing meanwhile, and find what they have not read deleted.
        stands_still: bool,
        for_ms: u64,
    },
    ClockJump {
        node: String,
        by_ms: i64,
    },
    /// The process stands still, the world goes on.
    Pause {
        node: String,
        for_ms: u64,
    },
}

/// What is lost with [`Fault::LostFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// A file of the log that is not its first, below what was durable: a start must refuse.
    LogFile,
    /// The whole log: a start must refuse.
    Log,
    /// A file in the middle of a queue, which must be made again.
    QueueFile,
    /// The index file that was added to last, which must be made again.
    IndexFile,
}

/// What a bit turns in with [`Fault::Rot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotten {
    /// A durable queue entry of a record that the log has.
    QueueEntry,
    /// The header of an index file.
    IndexFile,
    /// An entry that the checkpoint claims of the index file that is added to.
    IndexEntry,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub commit: String,
    pub digest: String,
    pub verdict: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The last events before the end, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

impl Fault {
    /// The word that counts it in reports and names it in the plan.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Crash { .. } => "crash",
            Fault::CrashInStep { .. } => "crash_in_step",
            Fault::PowerLoss { .. } => "power_loss",
            Fault::DiskLoss { .. } => "disk_loss",
            Fault::PowerLossInStep { .. } => "power_loss_in_step",
            Fault::Restart { .. } => "restart",
            Fault::LostFile { .. } => "lost_file",
            Fault::BitRot { .. } => "bit_rot",
            Fault::Rot { .. } => "rot",
            Fault::PowerLossAll { .. } => "power_loss_all",
            Fault::Partition { .. } => "partition",
            Fault::Latency { .. } => "latency",
            Fault::Loss { .. } => "loss",
            Fault::SlowDisk { .. } => "slow_disk",
            Fault::StalledDisk { .. } => "stalled_disk",
            Fault::FlushError { .. } => "flush_error",
            Fault::FullDisk { .. } => "full_disk",
            Fault::LittleRoom { .. } => "little_room",
            Fault::ReadError { .. } => "read_error",
            Fault::WritebackError { .. } => "writeback_error",
            Fault::ReadOnlyDisk { .. } => "read_only_disk",
            Fault::TightDisk { .. } => "tight_disk",
            Fault::SlowReader { .. } => "slow_reader",
            Fault::ClockJump { .. } => "clock_jump",
            Fault::Pause { .. } => "pause",
        }
    }

    /// The node whose process or disk it strikes.
    #[must_use]
    pub fn troubles(&self) -> Option<&str> {
        match self {
            Fault::Crash { node, .. }
            | Fault::CrashInStep { node, .. }
            | Fault::PowerLoss { node, .. }
            | Fault::DiskLoss { node, .. }
            | Fault::PowerLossInStep { node, .. }
            | Fault::LostFile { node, .. }
            | Fault::BitRot { node, .. }
            | Fault::Rot { node, .. }
            | Fault::Restart { node, .. }
            | Fault::SlowDisk { node, .. }
            | Fault::StalledDisk { node, .. }
            | Fault::FlushError { node, .. }
            | Fault::FullDisk { node, .. }
            | Fault::LittleRoom { node, .. }
            | Fault::ReadError { node, .. }
            | Fault::WritebackError { node, .. }
            | Fault::ReadOnlyDisk { node, .. }
            | Fault::Pause { node, .. } => Some(node),
            Fault::PowerLossAll { .. }
            | Fault::TightDisk { .. }
            | Fault::SlowReader { .. }
            | Fault::Partition { .. }
            | Fault::Latency { .. }
            | Fault::Loss { .. }
            | Fault::ClockJump { .. } => None,
        }
    }

    /// Whether what one process tells another may go unheard while both live, or be told too late: over a connection that is
    /// half open, by a process that stands still, by a broker whose disk does.
    #[must_use]
    pub fn muffles(&self) -> bool {
        match self {
            Fault::Partition { .. }
            | Fault::Latency { .. }
            | Fault::Loss { .. }
            | Fault::SlowDisk { .. }
            | Fault::StalledDisk { .. }
            | Fault::FlushError { .. }
            | Fault::FullDisk { .. }
            | Fault::LittleRoom { .. }
            | Fault::ReadError { .. }
            | Fault::WritebackError { .. }
            | Fault::ReadOnlyDisk { .. }
            | Fault::TightDisk { .. }
            | Fault::Pause { .. } => true,
            Fault::Crash { .. }
            | Fault::CrashInStep { .. }
            | Fault::PowerLoss { .. }
            | Fault::PowerLossInStep { .. }
            | Fault::DiskLoss { .. }
            | Fault::LostFile { .. }
            | Fault::BitRot { .. }
            | Fault::Rot { .. }
            | Fault::Restart { .. }
            | Fault::PowerLossAll { .. }
            | Fault::SlowReader { .. }
            | Fault::ClockJump { .. } => false,
        }
    }

    /// How long it is on, in ms; what is over at once has 0.
    #[must_use]
    pub fn lasts_ms(&self) -> u64 {
        match *self {
            Fault::Crash { down_ms, .. }
            | Fault::CrashInStep { down_ms, .. }
            | Fault::PowerLoss { down_ms, .. }
            | Fault::DiskLoss { down_ms, .. }
            | Fault::PowerLossInStep { down_ms, .. }
            | Fault::LostFile { down_ms, .. }
            | Fault::BitRot { down_ms, .. }
            | Fault::Rot { down_ms, .. }
            | Fault::Restart { down_ms, .. }
            | Fault::PowerLossAll { down_ms } => down_ms,
            Fault::Partition { for_ms, .. }
            | Fault::Latency { for_ms, .. }
            | Fault::Loss { for_ms, .. }
            | Fault::SlowDisk { for_ms, .. }
            | Fault::StalledDisk { for_ms, .. }
            | Fault::FlushError { for_ms, .. }
            | Fault::FullDisk { for_ms, .. }
            | Fault::LittleRoom { for_ms, .. }
            | Fault::ReadError { for_ms, .. }
            | Fault::WritebackError { for_ms, .. }
            | Fault::ReadOnlyDisk { for_ms, .. }
            | Fault::TightDisk { for_ms, .. }
            | Fault::SlowReader { for_ms, .. }
            | Fault::Pause { for_ms, .. } => for_ms,
            Fault::ClockJump { .. } => 0,
        }
    }
}

impl Plan {
    /// How many faults of each kind it holds.
    #[must_use]
    pub fn fault_counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for planned in &self.faults {
            *counts.entry(planned.fault.kind().to_owned()).or_insert(0) += 1;
        }
        counts
    }

    /// The same cluster and the same load in a world where nothing goes wrong.
    #[must_use]
    pub fn undisturbed(&self) -> Plan {
        let mut settings = Settings { undisturbed: true, buggify_permille: 0, ..self.settings.clone() };
        if let Some(replication) = &mut settings.replication {
            replication.masters_lost = false;
            replication.promoted_at_ms = None;
        }
        Plan { settings, faults: Vec::new(), record: None, ..self.clone() }
    }

    /// # Errors
    /// Where the text is not a plan.
    pub fn from_json(text: &str) -> Result<Plan, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan has only string keys")
    }
}

/// Names of the cluster's nodes.
pub mod names {
    use super::Settings;

    #[must_use]
    pub fn name_server(index: u32) -> String {
        format!("ns-{index}")
    }

    #[must_use]
    pub fn broker(index: u32) -> String {
        format!("broker-{}", char::from(b'a' + (index % 26) as u8))
    }

    /// The `nth` slave of a broker: `slave-a`, then `slave-a2`.
    #[must_use]
    pub fn slave(broker: &str, nth: u32) -> String {
        let letter = broker.trim_start_matches("broker-");
        if nth == 0 { format!("slave-{letter}") } else { format!("slave-{letter}{}", nth + 1) }
    }

    /// Which slave of its broker it is, from 0.
    #[must_use]
    pub fn nth_of_slave(slave: &str) -> u32 {
        let number = slave.trim_start_matches(|c: char| !c.is_ascii_digit());
        number.parse().map_or(0, |number: u32| number.saturating_sub(1))
    }

    /// The broker that `slave` follows.
    #[must_use]
    pub fn master_of(slave: &str) -> String {
        let letter = slave.trim_start_matches("slave-").trim_end_matches(|c: char| c.is_ascii_digit());
        format!("broker-{letter}")
    }

    #[must_use]
    pub fn producer(index: u32) -> String {
        format!("producer-{index}")
    }

    #[must_use]
    pub fn consumer(index: u32) -> String {
        format!("consumer-{index}")
    }

    #[must_use]
    pub fn name_servers(settings: &Settings) -> Vec<String> {
        (0..settings.name_servers).map(name_server).collect()
    }

    #[must_use]
    pub fn brokers(settings: &Settings) -> Vec<String> {
        (0..settings.brokers).map(broker).collect()
    }

    #[must_use]
    pub fn slaves(settings: &Settings) -> Vec<String> {
        brokers(settings).iter().flat_map(|broker| slaves_of(settings, broker)).collect()
    }

    /// Those that follow one broker.
    #[must_use]
    pub fn slaves_of(settings: &Settings, broker: &str) -> Vec<String> {
        let count = settings.replication.as_ref().map_or(0, |replication| replication.slaves);
        (0..count).map(|nth| slave(broker, nth)).collect()
    }

    /// Nodes with a broker's store, masters first.
    #[must_use]
    pub fn stores(settings: &Settings) -> Vec<String> {
        [brokers(settings), slaves(settings)].concat()
    }

    #[must_use]
    pub fn clients(settings: &Settings) -> Vec<String> {
        if settings.store_alone {
            return Vec::new();
        }
        let producers = (0..settings.producers).map(producer);
        producers.chain((0..settings.consumers).map(consumer)).collect()
    }

    /// Name servers, then brokers, their slaves, clients: the order of the node table.
    #[must_use]
    pub fn all(settings: &Settings) -> Vec<String> {
        [name_servers(settings), stores(settings), clients(settings)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slaves_are_named_after_their_brokers() {
        assert_eq!(
            (names::slave("broker-b", 0), names::slave("broker-b", 1)),
            ("slave-b".into(), "slave-b2".into())
        );
        for nth in 0..3 {
            let slave = names::slave("broker-c", nth);
            assert_eq!((names::master_of(&slave), names::nth_of_slave(&slave)), ("broker-c".into(), nth));
        }
    }

    #[test]
    fn a_plan_survives_its_own_json_and_has_its_faults_at_the_top() {
        let plan = crate::options::draw("power_loss", 3).expect("a known scenario");
        let text = plan.to_json();
        assert_eq!(Plan::from_json(&text).expect("its own text"), plan);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["faults"].as_array().map(Vec::len), Some(plan.faults.len()));
    }
}

//! Hooks for the simulator: planted bugs, rare branches, probes. In production each compiles to nothing.
//!
//! A mutant recreates the mechanism of an entry of the field's bug history. One simulator build holds all of them, one is
//! chosen per run. A mutant passes the unit tests and dies only under its fault.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $entry:literal),* $(,)?) => {
        /// Planted bugs, chosen at run time in simulation only.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, serde::Serialize, serde::Deserialize)]
        pub enum Mutant { $($(#[$doc])* $name),* }

        impl Mutant {
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name),*];

            /// The entry of the bug history whose mechanism it recreates, or the part it breaks.
            #[must_use]
            pub fn entry(self) -> &'static str {
                match self { $(Mutant::$name => $entry),* }
            }

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$name => stringify!($name)),* }
            }

            #[must_use]
            pub fn parse(name: &str) -> Option<Mutant> {
                Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
            }
        }
    };
}

mutants! {
    /// A SYNC_FLUSH put is answered before the flush that covers it.
    AckBeforeFlush = "store: group commit",
    /// A failed flush advances the flushed position.
    IgnoreFlushError = "S-06",
    /// A failed flush is tried again and the second answer believed.
    RetryFailedFlush = "S-06",
    /// A failed flush of a queue is not looked at, and the checkpoint moves on.
    QueueFlushErrorIgnored = "S-06",
    /// After a slow flush the flushed position is read anew, so that it covers what was appended meanwhile.
    FlushWatermarkRace = "store: flush",
    /// With ASYNC_FLUSH a few dirty pages wait for more of them, however long.
    ThoroughFlushForgotten = "S-20",
    /// Recovery takes records by length and magic only.
    RecoverWithoutCrc = "S-01",
    /// A log that ends below what was durable is taken as it is.
    DamageIsTheEnd = "store: recovery",
    /// Recovery does not mark what it read dirty before it counts it as durable.
    RecoverTrustsPageCache = "S-06",
    /// Recovery rewrites the valid part in place instead of cutting behind it.
    RecoverByRewrite = "store: recovery",
    /// Queue entries behind the recovered end of the log are kept.
    RecoverKeepsQueueTail = "S-01",
    /// What stands behind a hole behind the last queue entry stays there.
    QueueResidueStays = "S-05",
    /// The names of queue files that recovery has removed or made are not durable when the store opens.
    QueueFilesUnsynced = "S-44",
    /// What a recovery that died has cut, written and removed is taken for durable by the next one.
    DeathInRecoveryForgotten = "S-44",
    /// A queue that recovery leaves counts as flushed to the end of its last file.
    CutQueueUnflushed = "S-45",
    /// A queue entry that the disk has not kept is served as it is.
    EntryUnhealed = "store: queue rot",
    /// Whatever an entry says is believed when the beginning of a queue is looked for.
    DamagedEntryMovesBegin = "store: queue rot",
    /// Where a queue cannot be read its consumers are told that there is a hole, and go on behind it.
    UnreadableIsHole = "store: read errors",
    /// A cut moves positions only; the cut bytes stay on disk.
    TruncateInMemory = "S-04",
    /// Dispatch goes up to the written position in SYNC_FLUSH mode.
    UnflushedVisible = "S-08",
    /// A put that does not wait for its flush is answered while it is in no file yet.
    AckInThePool = "store: pool",
    /// What waits in memory for the end of a file is dropped when the next file takes over.
    RollLosesPool = "store: pool",
    /// A put whose wait for the flush has timed out is answered "stored" while it is in no file.
    TimeoutLosesPool = "store: pool",
    /// Few bytes in the transient pool wait for more of them, however long.
    CommitWaitsForPages = "S-20",
    /// A commit writes one file and counts what was appended to all.
    CommitCountsAll = "S-20",
    /// A write of what is pooled that fails in part counts as whole.
    ShortWriteIgnored = "S-43",
    /// A message for which no file can be made takes its queue offset all the same.
    RejectedTakesOffset = "S-19",
    /// Redispatch appends an entry that the queue already has, of a record that the checkpoint does not cover.
    RedispatchRepeats = "S-12",
    /// Recovery checks the body alone, not header, topic and properties.
    BodyCrcOnly = "S-09",
    /// The blocks of a new CommitLog file are not reserved.
    LogFileSparse = "store: allocation",
    /// A start reads the first of several folders of the log alone.
    OneFolderRead = "store: folders",
    /// A second process may open a directory that is in use.
    LockNotTaken = "store: lock",
    /// The name of a new CommitLog file is not made durable before acknowledgements.
    SegmentNameNotSynced = "S-44",
    /// The abort marker is created, but neither it nor its folder is flushed.
    AbortNotSynced = "S-22",
    /// The checkpoint is written between two flushes of the queues, up to what was dispatched.
    CheckpointAheadOfQueues = "S-10",
    /// A file look-up computes its index from a base that a deletion has moved already, or not yet.
    StaleFirstFile = "S-03",
    /// Deletion goes on with the next file when the first cannot be deleted yet.
    DeleteGoesOn = "S-17",
    /// Files go for a need of the disk that was seen before others were deleted.
    DeleteForPastNeed = "store: retention",
    /// Files age by their modification time and the wall clock.
    AgeByFileTime = "S-21",
    /// A start after a crash files the log again from its first byte, over what the index has.
    IndexRefiles = "S-12",
    /// Index entries of records that the log has lost are kept.
    IndexKeepsTail = "S-05",
    /// After a crash the newest index file is deleted, and the index goes on where it had come to.
    IndexLastDeleted = "S-16",
    /// Index files are taken as they are.
    IndexDamageBelieved = "store: index",
    /// Where a claimed entry of the index points behind the log all before the claim counts as filed.
    IndexCutIsWhole = "store: index",
    /// The index takes what dispatch has handed over wherever that begins, and leaves out what lies before.
    IndexSkipsUnhanded = "S-24",
    /// The checkpoint claims the index without a flush of it.
    IndexClaimedUnflushed = "S-10",
    /// A reason to refuse puts stays when its cause has passed.
    DiskFullSticks = "S-28",
    /// Puts that were refused since queue entries could not be written stay refused.
    QueueWriteSticks = "S-28",
    /// A stop in order does not wait for dispatch, and removes the marker all the same.
    StopForgetsDispatch = "S-02",
    /// The folder is not flushed between two deletions.
    DeleteUnsynced = "S-44",
    /// CommitLog files go before the queue entries of their records are durable.
    DeleteBeforeQueues = "store: retention",
    /// A queue's minimum stays where it was when its records are deleted.
    MinimumStays = "store: retention",
    /// The hours of `deleteWhen` come and go, and nothing is deleted.
    HourNeverComes = "store: retention",
    /// Queue files stay when their records have gone.
    QueueFilesStay = "store: retention",
    /// A deletion of a topic is answered, and its record written a second later.
    DroppedUnwritten = "store: deleted topics",
    /// Recovery files what the log has of a deleted topic.
    DroppedRefiled = "store: deleted topics",
    /// After a start a deleted topic's queue offsets begin at 0 again.
    DroppedBeginsAnew = "store: deleted topics",
    /// The record of a deletion is not cut with a log that has lost its end.
    DroppedUncut = "store: deleted topics",
    /// What groups have committed on a deleted topic stays.
    DeletionKeepsOffsets = "broker: deleted topics",
    /// A SYNC_MASTER put is answered before a slave has it.
    AckBeforeSlave = "ha: master",
    /// A slave that is ahead of its master does not compare, and is believed.
    SlaveAheadGoesOn = "H-02",
    /// A slave that needs what was deleted stays connected, and is given heartbeats.
    TooFarBehindFed = "H-01",
    /// A slave that could not append once follows no more.
    SlaveGivesUp = "H-11",
    /// A slave empties a table before it puts what its master has.
    TablesOneByOne = "H-12",
    /// A slave takes over how far its master has delivered before it has the copies.
    DelayOffsetsAtOnce = "D-02",
    /// A slave that is ahead of a restarted master follows once that has grown past it.
    GrownPastIsBehind = "H-02",
    /// What an earlier life of the master has learned of its slaves is not read.
    LivesForgotten = "H-02",
    /// Where a life begins is not kept before a slave is fed.
    LivesUnkept = "H-02",
    /// A slave that refuses its master's log copies its tables all the same, as Java does.
    TablesOfAnyMaster = "H-06",
    /// A slave takes what groups have committed at its master in the place of what they have committed here since.
    MasterOffsetsWin = "H-06",
    /// A slave copies everything of its master but what groups have committed.
    SlaveOffsetsUncopied = "ha: tables",
    /// The store times of copied records are not looked at.
    CopyTimeForgotten = "ha: slave",
    /// A SYNC_FLUSH master pushes what it has not flushed.
    PushUnflushed = "H-02",
    /// A SYNC_FLUSH slave reports what it has not flushed.
    SlaveReportsUnflushed = "ha: slave",
    /// What the slave receives counts as its own report, so that a slave of an idle master is silent.
    HeartbeatsSilenceReports = "H-03",
    /// A slave keeps the part of a record that it has over the end of the connection, and asks for it again.
    PartKeptOverReconnect = "H-09",
    /// A wait for a slave ends when a part of its time is over.
    SlaveWaitEndsEarly = "H-04",
    /// `allAckInSyncStateSet` is not looked at.
    AllInSyncIgnored = "ha: acks",
    /// A slave counts however many bytes it is behind.
    FarSlaveCounts = "ha: acks",
    /// Slaves are counted by connection, so that one and what its last life has left behind are two.
    SlaveCountsTwice = "ha: acks",
    /// Who waits for a second slave is told when the first one has more.
    SecondSlaveUnheard = "H-08",
    /// The end of a connection does not take its slave from those that are counted.
    EndedLinkCounts = "H-05",
    /// A file that a slave has made for another place stays in its folder when its log begins elsewhere.
    SlaveEmptyFileStays = "ha: first connection",
    /// A slave that becomes the master does not look for topics that its table lacks.
    TopicsOfLogUnknown = "ha: promotion",
    /// A slave that begins anew with the last file confirms what lies before it.
    EmptySlaveCounts = "ha: first connection",
    /// The delay offsets are saved without waiting for the flush of the copies that they count.
    DelayOffsetAhead = "D-09",
    /// The saved delay offsets count one message more than was delivered.
    DelayOffsetOneFurther = "D-04",
    /// The saved delay offsets count one message less than was delivered.
    DelayOffsetOneBehind = "D-04",
    /// Delay offsets beyond the end of their queues are loaded as they are.
    DelayOffsetBeyond = "D-01",
    /// A delayed message that cannot be put when it is due is left out.
    DelayPutDropped = "D-06",
    /// A start writes an empty table of delay offsets over what it has read of them.
    DelayTableEmptied = "D-03",
    /// The delay offsets are not saved when the broker stops.
    DelayOffsetUnsaved = "D-05",
    /// A delay level that was idle looks again as late as one that could not be read.
    DelayLevelDozes = "D-12",
    /// Messages of a delay level whose queue cannot be read are passed.
    UnreadableLevelPassed = "broker: delay",
    /// A pull that is held is never told that its time is over.
    HeldForEver = "broker: long polling",
    /// A message wakes no held pull: it is found by the look at all of them every five seconds.
    ArrivalWakesNobody = "broker: long polling",
    /// Recovery gives the queue entry of a delayed message the hash of its tag for its due time.
    RecoverForgetsDueTime = "store: recovery",
    /// A send-back is answered before the flush that covers it, as in Java.
    SendBackUnflushed = "broker: send-back",
    /// A message that is handed back comes again one level too early.
    RetryLevelLower = "broker: send-back",
    /// A SYNC_MASTER answers a send-back before a slave has it, as Java does.
    SendBackOnMasterAlone = "O-04",
    /// A consumer that is not told its group's offset begins as if there were none.
    OffsetErrorIsNone = "O-06",
    /// A broker sends a consumer that asks beyond the end of a queue to its beginning.
    OverflowGoesToMin = "O-08",
    /// A broadcasting consumer keeps for consumed what it has pulled.
    BroadcastKeepsPulled = "client: broadcasting",
    /// A consumer gives the lock of a queue back while its listener runs.
    OrderlyUnlocksEarly = "client: in order",
    /// A consumer takes and consumes a queue whose lock its broker has refused or that has run out.
    OrderlyIgnoresLocks = "client: in order",
    /// The folder of the configuration files is not made durable.
    ConfigFolderNotSynced = "S-44",
    /// A broker begins without the offsets that its file holds.
    OffsetsNotLoaded = "broker: offsets",
    /// Committed offsets beyond the end of their queues are loaded as they are.
    OffsetsUncutAtLoad = "broker: offsets",
    /// A commit beyond the end of its queue is kept as it comes.
    CommitUncut = "broker: offsets",
    /// A group that an operator has moved is not told, and goes on where it was.
    MovedUntold = "O-07",
    /// Who asks for a committed offset is told that there is none.
    CommittedNotFound = "broker: offsets",
    /// Who asks where a queue ends is told where it begins.
    EndToldAsBegin = "broker: offsets",
    /// A consumer that its broker sends to a member of which its route does not know waits for the route to be asked for anyway.
    MissingMemberUnsought = "client: pull",
    /// The number that the application gave a message is not stored with it.
    FlagLost = "broker: send",
    /// What a member of a batch asks for that batches do not have is not looked at.
    MemberDelayForgotten = "broker: send",
    /// A batch counts as one message.
    BatchCountedOnce = "broker: counts",
    /// Properties that concern the send, or are the broker's to say, are stored as they came.
    ReservedKept = "broker: send",
    /// A reply counts as taken whatever its requester answers.
    ReplyTakenAnyway = "broker: replies",
    /// The members of a group are not told when one leaves in order.
    LeaverNotTold = "broker: clients",
    /// A setting of a name server is answered and not written.
    SettingUnwritten = "name server: settings",
    /// A body travels compressed and is not marked so.
    CompressedUnmarked = "client: send",
    /// A consumer is given messages whose tag has only the hash of one that it wants.
    OtherTagsGiven = "client: filter",
    /// A pull is given one message more than it asks for.
    OneMoreThanAsked = "broker: pull",
    /// Configuration files are overwritten in place, and flushed afterwards.
    ConfigInPlace = "S-22",
    /// Where a configuration file is damaged its backup is not looked at.
    BackupUntaken = "S-22",
    /// A look-up by key does not look at the time that was asked for.
    QueryOfAnyTime = "store: index",
    /// A search by time takes the message behind those of that time for the first of them.
    TimeLowerIsBehind = "S-30",
    /// A pull by tags is given every message.
    TagsNotAsked = "broker: filter",
    /// A message of which a filter says "unknown" is given to the consumer.
    UnknownIsTrue = "broker: filter",
    /// Whether a half message is immune is read from the clock twice; one whose time ends in between is passed.
    ImmunityReadTwice = "T-01",
    /// That there is no new op record counts as an error, and what was read of them is dropped.
    OverflowOneIsIllegal = "T-02",
    /// A half message whose question no producer takes is passed as if it had been asked.
    CheckDroppedPasses = "T-03",
    /// A half message counts as asked about when its group has nobody to be asked.
    UnaskedCounts = "T-03",
    /// No producer is ever asked about a half message.
    NobodyIsAsked = "broker: transaction",
    /// Producers are asked about a half message however young it is.
    AskedAtOnce = "broker: transaction",
    /// Producers are asked about a half message once more than the setting says.
    AskedOnceMore = "broker: transaction",
    /// An op record for a half message that was passed before stays open for ever.
    OpOfPassedHalfStays = "T-05",
    /// A half message that can never be put again is tried again for ever, and those behind it wait.
    HalfForGoodWaits = "T-05",
    /// How far the check loop has come is saved before what that relies on is on disk.
    TransactionProgressUnflushed = "T-06",
    /// The op record is put before the final message.
    OpBeforeFinal = "T-07",
    /// The op record is put though the final message was not.
    OpWithoutFinal = "T-07",
    /// The read that completes a frame which came in parts is taken for that frame alone.
    OneReadOneFrame = "remoting: framing",
    /// The name server takes the version of an unknown broker's one-topic registration for the whole table's.
    PartialRegistrationIsWhole = "N-01",
    /// A single topic gives the whole table its version, whatever was missed before.
    SingleTopicMovesVersion = "N-01",
    /// The end of an old connection removes the broker that has registered again on a new one.
    LateCloseUnregisters = "N-03",
    /// A broker that one look has found silent is removed at the next, though it has registered again.
    LateExpiry = "N-03",
}

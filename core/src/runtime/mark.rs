//! Rare branches that a simulation must come through now and then: what no run reaches is not tested by any.
//!
//! [`Runtime::mark`] notes that one was taken, in simulation; a sweep adds up what its runs have noted and names what none of
//! them has come to. In production it compiles to nothing.
//!
//! [`Runtime::mark`]: super::Runtime::mark

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A rare branch.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum Mark { $($(#[$doc])* $name),* }

        impl Mark {
            pub const ALL: &'static [Mark] = &[$(Mark::$name),*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Mark::$name => stringify!($name)),* }
            }
        }
    };
}

marks! {
    /// A queue has lost entries before others: the whole log is read.
    QueueTornApart,
    /// The log is damaged before the place where the scan needed to begin.
    DamagedBeforeStart,
    /// A queue does not reach the place where the scan began: the whole log is read.
    QueueIncomplete,
    /// The log ended at a record that is not whole.
    LogCut,
    /// A start found that the last one did not end in order.
    RecoveredAfterCrash,
    /// An index file contradicts its header.
    IndexFileUnfit,
    /// The index speaks of places that are no records of the log.
    IndexUnfit,
    /// An index file is missing, or its header is wrong.
    IndexFileLost,
    /// A configuration file cannot be decoded: the one before is taken.
    ConfigDamaged,
    /// A flush of the log has failed.
    FlushFailed,
    /// A flush of the queues has failed.
    QueueFlushFailed,
    /// Queue entries cannot be read.
    QueueUnreadable,
    /// Dispatch cannot read the log.
    LogUnreadable,
    /// The files of a deleted queue cannot be deleted at once.
    QueueFilesUndeleted,
    /// Queue entries cannot be written at once.
    QueueUnwritten,
    /// A damaged queue entry was made again from the log.
    EntryHealed,
    /// Expired files of the log cannot be deleted.
    LogFileUndeleted,
    /// The disk takes no more messages.
    WritesRefused,
    /// The disk takes messages again.
    WritesAgain,
    /// The next file of the log cannot be made at once.
    LogFileUnmade,
    /// What was left of a file that could not be made cannot be removed.
    HalfMadeFileStays,
    /// The index cannot be written.
    IndexUnwritten,
    /// A flush of the index has failed.
    IndexFlushFailed,
    /// An empty log begins where its master says.
    EmptyLogBegunElsewhere,
    /// A slave has records that its master does not have.
    SlaveDiverged,
    /// A slave cannot store what its master gives.
    CopyNotTaken,
    /// A master serves a slave no further.
    SlaveRefused,
    /// A slave reports more than it was given.
    SlaveAhead,
    /// A slave cannot copy a table of its master.
    TableUncopied,
    /// A name server does not take a registration.
    Unregistered,
    /// A name server tells a slave of another master.
    MasterTold,
    /// Delayed messages were deleted before they were due.
    DelayedGone,
    /// The queue of a delay level cannot be read.
    DelayUnreadable,
    /// A delayed message cannot be read.
    DelayedUnreadable,
    /// A delayed message cannot be stored when it is due.
    DelayedLater,
    /// A commit or rollback is refused.
    TransactionNotEnded,
    /// An op record cannot be put.
    OpUnwritten,
    /// The connection of a producer takes no question.
    ProducerUnasked,
    /// A half message cannot be put again now.
    HalfLater,
    /// A half message that nobody settles is discarded.
    HalfDiscarded,
    /// Committed offsets cannot be written.
    OffsetsUnwritten,
    /// A broker's connection has ended.
    BrokerGone,
    /// A broker was silent for too long.
    BrokerSilent,
    /// A broker that is not registered registers one topic.
    TopicOfUnknownBroker,
    /// A node stops before all was answered.
    StoppedUnanswered,
    /// A peer sends what is no frame.
    MalformedFrame,
    /// A send is tried again, at another broker if there is one.
    SendTriedAgain,
    /// A broadcasting consumer passes messages that it could not consume.
    BroadcastPassed,
    /// A consumer stops while its listeners run.
    StoppedWhileConsuming,
    /// A broker refuses a lock.
    QueuesNotLocked,
    /// An orderly consumer loses a queue.
    QueueLost,
    /// An orderly consumer makes a dead letter.
    OrderlyGivenUp,
    /// A broadcasting consumer cannot save its offsets.
    LocalOffsetsUnsaved,
    /// A broker refuses a heartbeat.
    HeartbeatRefused,
    /// A broker refuses to take a message back.
    NotTakenBack,
    /// Whether a message was taken back is not known.
    MaybeTakenBack,
    /// A broker moves a consumer to another offset.
    PullMoved,
    /// A start is refused: the directory is not what it must be.
    StartRefused,
}

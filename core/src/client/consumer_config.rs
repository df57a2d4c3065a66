//! What a consumer is told before it starts.

use std::time::Duration;

use super::rebalance::AllocateStrategy;
use crate::filter::ParseError;

/// Tries after the first, where nothing else is said.
const RECONSUME_TIMES_MAX: i32 = 16;

/// Where a group begins on a queue for which it has no offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConsumeFrom {
    /// Behind what is there.
    #[default]
    Last,
    First,
    /// At what was stored from then on, in ms since 1970.
    Time(i64),
}

#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub group: String,
    /// Topic and tag expression.
    pub subscriptions: Vec<(String, String)>,
    /// Topic and SQL92 expression; brokers serve these if `enablePropertyFilter` is on.
    pub sql: Vec<(String, String)>,
    pub from: ConsumeFrom,
    pub strategy: AllocateStrategy,
    /// The messages of a queue one after the other, each until it is consumed; a broker's lock keeps other members away.
    pub in_order: bool,
    /// Every member reads all queues. Its offsets are in this file of the runtime, which is its alone.
    pub broadcast: Option<String>,
    /// Batches that are consumed side by side.
    pub concurrency: usize,
    pub consume_batch_max: usize,
    pub pull_batch_max: i32,
    /// How long a broker may hold a pull for a message to come.
    pub pull_suspend: Duration,
    /// Before a `Later` batch comes again, or one that could not be handed back.
    pub retry_delay: Duration,
    /// The same in order.
    pub suspend: Duration,
    /// A message that was handed back so often goes into the group's dead letter queue at the next time.
    /// -1: 16, and without end in order.
    pub max_reconsume_times: i32,
    /// The delay level with which messages are handed back; 0: it rises with the tries.
    pub retry_level: i32,
    pub commit_interval: Duration,
    pub rebalance_interval: Duration,
    /// Before the committed offset of a new queue is asked for, so that its last owner has told it.
    pub takeover_delay: Duration,
    /// What running listeners may still take at a stop.
    pub stop_patience: Duration,
}

impl ConsumerConfig {
    #[must_use]
    pub fn new(group: impl Into<String>, topic: impl Into<String>, expression: impl Into<String>) -> Self {
        ConsumerConfig {
            group: group.into(),
            subscriptions: vec![(topic.into(), expression.into())],
            sql: Vec::new(),
            from: ConsumeFrom::Last,
            strategy: AllocateStrategy::Average,
            in_order: false,
            broadcast: None,
            concurrency: 20,
            consume_batch_max: 1,
            pull_batch_max: 32,
            pull_suspend: Duration::from_secs(15),
            retry_delay: Duration::from_secs(5),
            suspend: Duration::from_secs(1),
            max_reconsume_times: -1,
            retry_level: 0,
            commit_interval: Duration::from_secs(5),
            rebalance_interval: Duration::from_secs(20),
            takeover_delay: Duration::from_millis(500),
            stop_patience: Duration::from_secs(5),
        }
    }

    /// Tries after the first.
    #[must_use]
    pub fn tries_max(&self) -> i32 {
        match self.max_reconsume_times {
            -1 if self.in_order => i32::MAX,
            -1 => RECONSUME_TIMES_MAX,
            given => given,
        }
    }
}

/// Why a consumer did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("the consumer group is empty")]
    NoGroup,
    #[error("the group {group} subscribes to nothing")]
    NoSubscription { group: String },
    #[error("this client already has a consumer of the group {group}")]
    GroupInUse { group: String },
    #[error("the expression for {topic}: {error}")]
    Expression { topic: String, error: ParseError },
}

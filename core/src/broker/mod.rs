//! The broker: request code to handler.
//!
//! `node` is a running broker. `send_message`, `send_back`, `reply`, `pull_message` (with `long_polling` and `held_pulls`),
//! `offset_requests`, `client_requests`, `topic_requests`, `stats_requests`, `assignment`, `admin` and `transaction` carry requests out; `schedule` delivers what waits;
//! `topic_config`, `subscription_group` (both in a `durable_table`), `committed_offsets`, `consumer_filters`, `client_table`, `lock_table` and `counts` hold what
//! they look at; `registration` tells the name servers; `replication` and `slave_sync` are what a role adds.
//!
//! Invariant: a request code without a line in [`BrokerHandler::dispatch`] is answered as not supported, never as done.
//! Invariant: tables of clients, locks and held pulls are bounded by live connections; those of topics, groups and
//! offsets survive a restart.

mod address;
mod admin;
mod assignment;
mod attributes;
mod client_requests;
mod client_table;
mod committed_offsets;
mod consumer_filters;
mod counts;
mod durable_table;
mod filter;
mod held_pulls;
mod lock_table;
mod long_polling;
mod moved_offsets;
mod names;
mod node;
mod offset_file;
mod offset_requests;
mod pull_message;
mod refusal;
mod registration;
mod replication;
mod reply;
mod schedule;
mod send_back;
mod send_message;
mod slave_sync;
mod stats_requests;
mod subscription_group;
mod topic_config;
mod topic_requests;
mod transaction;
mod view_message;

pub use durable_table::TableError;
pub use node::{Broker, BrokerStopError, CLIENT_SCAN_INTERVAL, StartError};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::BrokerConfig;
use crate::remoting::codes::{request as codes, response};
use crate::remoting::connection::{Answer, ConnectionHandle, Handler, InFlightLimit, unsupported};
use crate::remoting::{RemotingCommand, V5_0_0};
use crate::runtime::Runtime;

use admin::{AdminRequests, is_admin};
use assignment::Assignments;
use client_requests::ClientRequests;
use long_polling::LongPolling;
use offset_requests::OffsetRequests;
use pull_message::PullMessage;
use refusal::{Refusal, answer, answer_of};
use replication::HaRequests;
use reply::Replies;
use schedule::Schedule;
use send_back::SendBack;
use send_message::SendMessage;
use stats_requests::StatsRequests;
use topic_requests::TopicRequests;
use transaction::Transactions;
use view_message::ViewMessage;

/// What kind of work a request is: each has its own limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Send,
    SendBack,
    Reply,
    Pull,
    LitePull,
    Heartbeat,
    EndTransaction,
    Admin,
    Assignment,
    Other,
}

impl Class {
    fn of(code: i32) -> Class {
        match code {
            codes::SEND_MESSAGE | codes::SEND_MESSAGE_V2 | codes::SEND_BATCH_MESSAGE => Class::Send,
            codes::CONSUMER_SEND_MSG_BACK => Class::SendBack,
            codes::SEND_REPLY_MESSAGE | codes::SEND_REPLY_MESSAGE_V2 => Class::Reply,
            codes::PULL_MESSAGE => Class::Pull,
            codes::LITE_PULL_MESSAGE => Class::LitePull,
            codes::HEART_BEAT => Class::Heartbeat,
            codes::END_TRANSACTION => Class::EndTransaction,
            codes::QUERY_ASSIGNMENT => Class::Assignment,
            code if is_admin(code) => Class::Admin,
            _ => Class::Other,
        }
    }
}

/// How long a request may wait for its turn, in ms, by class; the greatest number stands for as long as it takes. Changes act at once.
#[derive(Default)]
pub(crate) struct WaitLimits {
    send: AtomicU64,
    pull: AtomicU64,
    lite_pull: AtomicU64,
    heartbeat: AtomicU64,
    end_transaction: AtomicU64,
}

impl WaitLimits {
    pub fn set(&self, config: &BrokerConfig) {
        for (limit, ms) in [
            (&self.send, config.send.wait_limit_ms),
            (&self.pull, config.pull.wait_limit_ms),
            (&self.lite_pull, config.pull.lite_wait_limit_ms),
            (&self.heartbeat, config.clients.heartbeat_wait_limit_ms),
            (&self.end_transaction, config.transactions.wait_limit_ms),
        ] {
            limit.store(if config.send.fast_failure { ms } else { u64::MAX }, Ordering::Relaxed);
        }
    }

    fn of(&self, class: Class) -> Option<u64> {
        let limit = match class {
            Class::Send => &self.send,
            Class::Pull => &self.pull,
            Class::LitePull => &self.lite_pull,
            Class::Heartbeat => &self.heartbeat,
            Class::EndTransaction => &self.end_transaction,
            Class::SendBack | Class::Reply | Class::Admin | Class::Assignment | Class::Other => return None,
        };
        Some(limit.load(Ordering::Relaxed)).filter(|ms| *ms < u64::MAX)
    }
}

struct BrokerHandler<R: Runtime> {
    sends: Arc<SendMessage<R>>,
    send_backs: SendBack<R>,
    replies: Replies<R>,
    pulls: Arc<PullMessage<R>>,
    offsets: OffsetRequests<R>,
    clients: Arc<ClientRequests<R>>,
    assignments: Arc<Assignments<R>>,
    topics: TopicRequests<R>,
    views: ViewMessage<R>,
    stats: StatsRequests<R>,
    admin: Arc<AdminRequests<R>>,
    transactions: Arc<Transactions<R>>,
    schedule: Arc<Schedule<R>>,
    ha: HaRequests<R>,
    held: Arc<LongPolling<R>>,
    wait_limits: Arc<WaitLimits>,
    sends_in_flight: InFlightLimit,
    replies_in_flight: InFlightLimit,
    is_slave: bool,
}

impl<R: Runtime> BrokerHandler<R> {
    /// The table of everything but sends and pulls, whose answers may come later.
    async fn dispatch(
        &self,
        connection: &ConnectionHandle,
        request: &RemotingCommand,
    ) -> Result<RemotingCommand, Refusal> {
        match request.code {
            codes::QUERY_CONSUMER_OFFSET => self.offsets.query(request).await,
            codes::UPDATE_CONSUMER_OFFSET => self.offsets.update(request),
            codes::GET_ALL_CONSUMER_OFFSET => Ok(self.offsets.all()),
            codes::GET_ALL_DELAY_OFFSET => Ok(self.schedule.all()),
            codes::GET_BROKER_HA_STATUS => Ok(self.ha.status()),
            codes::RESET_MASTER_FLUSH_OFFSET => {
                Ok(self.ha.reset_master_flush_offset().unwrap_or_else(|| unsupported(request)))
            }
            codes::SET_MESSAGE_REQUEST_MODE => self.assignments.set_mode(request).await,
            codes::GET_ALL_MESSAGE_REQUEST_MODE => Ok(self.ha.request_modes()),
            codes::GET_COLD_DATA_FLOW_CTR_INFO => {
                Ok(answer(response::SUCCESS).with_body(NO_COLD_DATA_CONTROL.to_vec()))
            }
            codes::QUERY_CORRECTION_OFFSET => self.offsets.correction(request),
            codes::GET_MAX_OFFSET => self.offsets.max(request),
            codes::GET_MIN_OFFSET => self.offsets.min(request),
            codes::SEARCH_OFFSET_BY_TIMESTAMP => self.offsets.by_time(request).await,
            codes::GET_EARLIEST_MSG_STORETIME => self.offsets.earliest_store_time(request).await,
            codes::VIEW_MESSAGE_BY_ID => self.views.by_offset(connection.peer(), request),
            codes::QUERY_MESSAGE => self.views.by_key(request).await,
            codes::HEART_BEAT => self.clients.heartbeat(connection, request).await,
            codes::UNREGISTER_CLIENT => self.clients.unregister(connection, request),
            codes::GET_CONSUMER_LIST_BY_GROUP => self.clients.consumer_list(request),
            codes::LOCK_BATCH_MQ => self.clients.lock(request),
            codes::UNLOCK_BATCH_MQ => self.clients.unlock(request),
            codes::CHECK_CLIENT_CONFIG => self.clients.check_config(request),
            codes::GET_CONSUMER_CONNECTION_LIST => self.clients.consumer_connections(request),
            codes::GET_PRODUCER_CONNECTION_LIST => self.clients.producer_connections(request),
            codes::UPDATE_AND_CREATE_TOPIC => self.topics.create_or_update(request).await,
            codes::UPDATE_AND_CREATE_TOPIC_LIST => self.topics.create_or_update_list(request).await,
            codes::GET_ALL_TOPIC_CONFIG => Ok(self.topics.all_topics()),
            codes::GET_TOPIC_CONFIG => self.topics.topic(request),
            codes::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => Ok(self.topics.system_topics()),
            codes::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => self.topics.create_or_update_group(request).await,
            codes::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => {
                self.topics.create_or_update_groups(request).await
            }
            codes::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Ok(self.topics.all_groups()),
            codes::GET_SUBSCRIPTIONGROUP_CONFIG => self.topics.group(request),
            codes::CHECK_ROCKSDB_CQ_WRITE_PROGRESS => Ok(queues_compared()),
            codes::UPDATE_AND_GET_GROUP_FORBIDDEN => self.topics.group_forbidden(request).await,
            codes::GET_TOPIC_STATS_INFO => self.stats.topic(request).await,
            codes::GET_CONSUME_STATS => self.stats.group(request).await,
            _ => Ok(unsupported(request)),
        }
    }
}

/// What 2003 is answered with: no group is held back from what is no longer in memory. The thresholds are Java's defaults.
///
/// # Source
/// apache/rocketmq 5.4, `ColdDataCgCtrService#getColdDataFlowCtrInfo`.
const NO_COLD_DATA_CONTROL: &[u8] = br#"{"runtimeTable":{},"configTable":{},"cgColdReadThreshold":3145728,"globalColdReadThreshold":104857600,"globalAcc":0}"#;

/// How far the comparison of queues in files with those in RocksDB is: there are none of the latter, and it never ends, as it does
/// not in a Java broker that has none.
///
/// # Source
/// apache/rocketmq 5.4, `AdminBrokerProcessor#checkRocksdbCqWriteProgress`: CHECK_IN_PROGRESS.
fn queues_compared() -> RemotingCommand {
    answer(response::SUCCESS).with_body(br#"{"checkStatus":2}"#.to_vec())
}

/// Requests that change what a slave copies from its master.
fn changes_tables(request: &RemotingCommand) -> bool {
    if request.code == codes::UPDATE_AND_GET_GROUP_FORBIDDEN {
        return request.ext.get("readable").is_some();
    }
    matches!(
        request.code,
        codes::UPDATE_AND_CREATE_TOPIC
            | codes::UPDATE_AND_CREATE_TOPIC_LIST
            | codes::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP
            | codes::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST
            | codes::DELETE_TOPIC_IN_BROKER
            | codes::DELETE_SUBSCRIPTIONGROUP
            | codes::RESUME_CHECK_HALF_MESSAGE
    )
}

/// Deletions that tools of 5.x ask each broker of a name for. On a slave they are done when its copy of the table is.
///
/// # Source
/// apache/rocketmq 5.4, `DeleteSubscriptionGroupCommand` and `DeleteTopicSubCommand`, which stop at the first refusal.
fn is_deletion_by_5(request: &RemotingCommand) -> bool {
    let deletes = matches!(request.code, codes::DELETE_TOPIC_IN_BROKER | codes::DELETE_SUBSCRIPTIONGROUP);
    deletes && request.version >= V5_0_0
}

impl<R: Runtime> Handler<R> for BrokerHandler<R> {
    fn closed(&self, connection: &ConnectionHandle) {
        self.held.remove_connection(connection.id());
        self.clients.closed(connection);
    }

    fn wait_limit_ms(&self, code: i32) -> Option<u64> {
        self.wait_limits.of(Class::of(code))
    }

    fn in_flight_limit(&self, code: i32) -> Option<&InFlightLimit> {
        match Class::of(code) {
            Class::Send => Some(&self.sends_in_flight),
            Class::Reply => Some(&self.replies_in_flight),
            _ => None,
        }
    }

    fn runs_beside(&self, code: i32) -> bool {
        matches!(Class::of(code), Class::Reply | Class::Admin | Class::Assignment)
    }

    async fn handle(&self, connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        if self.is_slave && is_deletion_by_5(&request) {
            return Answer::Now(answer(response::SUCCESS));
        }
        if self.is_slave && changes_tables(&request) {
            let remark = "Can't modify topic or subscription group from slave broker, \
                          please execute it from master broker.";
            return Answer::Now(Refusal::new(response::SYSTEM_ERROR, remark).answer());
        }
        if self.is_slave && request.code == codes::END_TRANSACTION {
            let remark = "Message store is slave mode, so end transaction is forbidden.";
            return Answer::Now(Refusal::new(response::SLAVE_NOT_AVAILABLE, remark).answer());
        }
        match Class::of(request.code) {
            Class::Send => self.sends.handle((connection.peer(), connection.last_read()), &request).await,
            Class::SendBack => self.send_backs.handle(&request).await,
            Class::Reply => self.replies.handle(connection.peer(), request).await,
            Class::Pull | Class::LitePull => self.pulls.handle(connection, &request).await,
            Class::EndTransaction => self.transactions.end(&request).await,
            Class::Admin => {
                let admin = self.admin.clone();
                Answer::Later(Box::pin(async move { answer_of(admin.dispatch(&request).await) }))
            }
            // It may wait for a name server.
            Class::Assignment => {
                let assignments = self.assignments.clone();
                Answer::Later(Box::pin(async move { answer_of(assignments.query(&request).await) }))
            }
            Class::Heartbeat | Class::Other => {
                Answer::Now(answer_of(self.dispatch(connection, &request).await))
            }
        }
    }
}

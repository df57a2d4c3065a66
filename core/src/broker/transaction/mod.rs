//! Transactions: half messages, how they are settled, and how producers are asked about those that are not.
//!
//! A half message waits in [`HALF_TOPIC`], under the name of its real topic in properties (`half`). END_TRANSACTION settles it
//! (`end`): a commit puts the final message into the real topic, and either answer then puts an op record into
//! [`OP_HALF_TOPIC`], whose body names the half message's queue offset (`ops`). The check loop (`check`) walks through the half
//! topic: what an op record names is passed, what is young is waited for, what is old is put again at the end of the half topic
//! and its producers are asked (`ask`), and what was asked for too often goes to `TRANS_CHECK_MAX_TIME_TOPIC`.
//!
//! How far the loop has come in both topics stands, as in Java, in the committed offsets of the group [`GROUP`].
//!
//! Invariant: the final message stands before its op record in the log, so that no loss of the log's end leaves the one
//! without the other (T-07).
//! Invariant: the loop passes a half message only when its op record, its copy or its discarded copy is stored, and commits
//! that it has passed it only when these are on stable storage. `consumerOffset.json` is flushed by itself: it would outlive them.
//! Invariant: consumers of the real topic see final messages only.

mod ask;
mod check;
mod end;
pub(super) mod half;
mod ops;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::config::{Live, TransactionSettings};
use crate::runtime::Runtime;
use crate::store::MessageStore;

use super::client_table::ClientTable;
use super::committed_offsets::CommittedOffsets;
use super::names::{HALF_TOPIC, OP_HALF_TOPIC};
use super::send_message::SendMessage;
use super::topic_config::Topics;

/// The group whose committed offsets say how far the check loop has come.
pub(super) const GROUP: &str = "CID_RMQ_SYS_TRANS";
/// The tag of op records.
const OP_TAG: &str = "d";

pub(crate) struct Transactions<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub topics: Arc<Topics<R>>,
    pub clients: Arc<ClientTable>,
    pub offsets: Arc<CommittedOffsets>,
    pub sends: Arc<SendMessage<R>>,
    pub settings: Live<TransactionSettings>,
    /// An older half message is discarded: its file may go any time.
    pub reserved_ms: u64,
    /// Which of a group's producers is asked first.
    pub turn: AtomicUsize,
}

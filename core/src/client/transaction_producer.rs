//! Transactions: a half message is sent, the local transaction is run, and the broker is told what came of it. A broker that
//! was not told asks, any producer of the group, and gets the answer of the listener's check.
//!
//! Guarantees: the local transaction is run only for a half message that is stored as safely as the broker's mode promises;
//! one that is stored less safely is rolled back without it, as Java's client does (T-08). What the listener says is told once,
//! one way: when it is lost, the broker asks.
//!
//! A send that was tried twice may have left two half messages. The listener settles the second when it is asked about it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::message::Received;
use super::producer::{Producer, ProducerConfig, SendOutcome, SendResult, SendStatus};
use super::{Client, Message, Shared};
use crate::message::{StoredMessage, id, properties, sys_flag};
use crate::remoting::RemotingCommand;
use crate::remoting::codes::request;
use crate::remoting::connection::ConnectionHandle;
use crate::remoting::headers::{CheckTransactionStateHeader, EndTransactionHeader};
use crate::runtime::{Runtime, Task};

/// Questions that wait for the listener; more are dropped, and come again. Java's client takes as many.
const CHECKS_MAX: usize = 2_000;
/// How long the broker may take to be connected to.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// What became of the local transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalState {
    Commit,
    Rollback,
    /// Not known yet: the broker will ask.
    Unknown,
}

impl LocalState {
    fn code(self) -> i32 {
        match self {
            LocalState::Commit => sys_flag::TRANSACTION_COMMIT,
            LocalState::Rollback => sys_flag::TRANSACTION_ROLLBACK,
            LocalState::Unknown => sys_flag::TRANSACTION_NONE,
        }
    }
}

/// The application.
pub trait TransactionListener: Send + Sync + 'static {
    /// Runs the local transaction; the half message is stored.
    fn execute(&self, message: &Message, half: &SendResult) -> impl Future<Output = LocalState> + Send;

    /// Says what became of the local transaction, which perhaps another producer of the group has run, or nobody.
    fn check(&self, message: Received) -> impl Future<Output = LocalState> + Send;
}

/// What came of a send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionOutcome {
    /// Of the half message.
    pub sent: SendOutcome,
    /// What the broker was told; `None` when no half message is known to be stored.
    pub told: Option<LocalState>,
}

/// A broker's question about a half message.
pub(super) struct Check {
    connection: ConnectionHandle,
    header: CheckTransactionStateHeader,
    message: StoredMessage,
}

impl Check {
    /// # Errors
    /// What is wrong with it.
    pub fn read(connection: &ConnectionHandle, request: &RemotingCommand) -> Result<Check, String> {
        let header = request.header::<CheckTransactionStateHeader>().map_err(|error| error.to_string())?;
        let message = StoredMessage::decode(&request.body.to_bytes()).map_err(|error| error.to_string())?;
        Ok(Check { connection: connection.clone(), header, message })
    }

    /// Empty when the message names none: no producer has that group.
    pub fn group(&self) -> &str {
        properties::find(&self.message.properties, properties::PGROUP).unwrap_or_default()
    }

    /// Tells the broker over the connection that it has asked over.
    fn answer(&self, group: &str, state: LocalState) {
        let unique_key = properties::find(&self.message.properties, properties::UNIQ_KEY);
        let msg_id = unique_key.map_or_else(|| self.message.offset_message_id(), str::to_owned);
        let end = EndTransactionHeader {
            topic: None,
            producer_group: group.to_owned(),
            tran_state_table_offset: self.header.tran_state_table_offset,
            commit_log_offset: self.header.commit_log_offset,
            commit_or_rollback: state.code(),
            from_transaction_check: true,
            msg_id,
            transaction_id: self.header.transaction_id.clone(),
        };
        let command = RemotingCommand::request(request::END_TRANSACTION).with_header(&end);
        if let Err(error) = self.connection.send_oneway(command) {
            tracing::debug!(%error, "answer a question about a transaction");
        }
    }
}

/// A producer of transactions. Calls run side by side.
pub struct TransactionProducer<R: Runtime, L: TransactionListener> {
    shared: Arc<Shared<R>>,
    producer: Producer<R>,
    group: String,
    listener: Arc<L>,
    checker: R::Task<()>,
}

impl<R: Runtime, L: TransactionListener> TransactionProducer<R, L> {
    /// Registers the group; `None` when this client has a producer of transactions of that group already.
    #[must_use]
    pub fn start(client: &Client<R>, config: ProducerConfig, listener: L) -> Option<Self> {
        let (shared, listener, group) = (client.shared().clone(), Arc::new(listener), config.group.clone());
        let (checks, asked) = mpsc::channel(CHECKS_MAX);
        if !shared.add_checker(&group, checks) {
            return None;
        }
        let checker =
            shared.rt.spawn("client: transaction checks", check_all(asked, listener.clone(), group.clone()));
        let producer = Producer::start(client, config);
        Some(TransactionProducer { shared, producer, group, listener, checker })
    }

    /// Tells the brokers that the producer is gone.
    pub async fn stop(self) {
        self.shared.remove_checker(&self.group);
        self.checker.abort();
        self.producer.stop().await;
    }

    /// Sends the half message, runs the local transaction and tells the broker.
    pub async fn send(&self, message: &Message) -> TransactionOutcome {
        let sent = self.producer.send(&half(message, &self.group)).await;
        let SendOutcome::Sent(half) = &sent else { return TransactionOutcome { sent, told: None } };
        let state = match half.status {
            SendStatus::Ok => self.listener.execute(message, half).await,
            _ => LocalState::Rollback,
        };
        self.tell(half, state).await;
        TransactionOutcome { told: Some(state), sent }
    }

    async fn tell(&self, half: &SendResult, state: LocalState) {
        let Ok((_, physical_offset)) = id::parse(&half.offset_msg_id) else {
            return tracing::warn!(half.offset_msg_id, "the broker's id of a half message is none");
        };
        let Some(addr) = self.shared.routes.master(&half.broker_name) else {
            return tracing::debug!(half.broker_name, "no broker to tell: it will ask");
        };
        let end = EndTransactionHeader {
            topic: None,
            producer_group: self.group.clone(),
            tran_state_table_offset: half.queue_offset,
            commit_log_offset: i64::try_from(physical_offset).unwrap_or(i64::MAX),
            commit_or_rollback: state.code(),
            from_transaction_check: false,
            msg_id: half.msg_id.clone(),
            transaction_id: None,
        };
        let command = RemotingCommand::request(request::END_TRANSACTION).with_header(&end);
        if let Err(error) = self.shared.peers.oneway(&addr, command, END_TIMEOUT).await {
            tracing::debug!(addr, %error, "the end of a transaction is not told: the broker will ask");
        }
    }
}

/// The half message of `message`; it cannot be delayed.
fn half(message: &Message, group: &str) -> Message {
    let mut half = message.clone();
    half.properties.retain(|(name, _)| name != properties::DELAY);
    half.with_property(properties::TRAN_MSG, "true").with_property(properties::PGROUP, group)
}

/// Answers questions, one after the other.
async fn check_all<L: TransactionListener>(
    mut asked: mpsc::Receiver<Check>,
    listener: Arc<L>,
    group: String,
) {
    while let Some(check) = asked.recv().await {
        let shown = Received::new(check.message.clone(), "");
        let state = match shown {
            Ok(received) => listener.check(received).await,
            Err(error) => {
                tracing::warn!(%error, "a question about a message that cannot be read");
                LocalState::Unknown
            }
        };
        check.answer(&group, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_message_names_its_group_and_is_not_delayed() {
        let message = Message::new("T", "x").with_property("DELAY", "3").with_property("a", "1");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expect = [pair("a", "1"), pair("TRAN_MSG", "true"), pair("PGROUP", "G")];
        assert_eq!(half(&message, "G").properties, expect);
    }

    #[test]
    fn states_are_told_in_the_bits_of_the_transaction_type() {
        let states = [LocalState::Unknown, LocalState::Commit, LocalState::Rollback];
        assert_eq!(states.map(LocalState::code), [0x0, 0x8, 0xC]);
    }
}

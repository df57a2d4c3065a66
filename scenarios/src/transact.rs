//! Transactions of a producer's program: what its local transactions come to, and what it says when a broker asks.
//!
//! Decisions stand in the history, as in a database that outlives processes: whoever of the group is asked knows them. What
//! was not decided when its process died is rolled back by whoever is asked.

use std::time::Duration;

use hotfire_core::client::producer::{SendOutcome, SendResult, SendStatus};
use hotfire_core::client::transaction_producer::{LocalState, TransactionListener, TransactionProducer};
use hotfire_core::client::{Message, Received};
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use crate::cluster::Cluster;
use crate::history::{Decision, Outcome};
use crate::plan::Settings;
use crate::workload::{Fate, Identity, MessageId, Says, fate, identify};

/// The group of a producer of transactions: all producers are in one, so that each can answer for the others, or each is
/// alone.
#[must_use]
pub fn group(settings: &Settings, producer: &str) -> String {
    let alone = settings.transactions.as_ref().is_some_and(|transactions| transactions.lone_producers);
    if alone { format!("transactions-of-{producer}") } else { "transaction-group".to_owned() }
}

/// A producer's application.
pub struct Settler {
    pub rt: SimRuntime,
    pub cluster: Cluster,
}

impl Settler {
    fn fate(&self, body: &[u8]) -> Option<(MessageId, Fate)> {
        match identify(body) {
            Identity::Whole(id) => Some((id, fate(&self.cluster.plan, id))),
            Identity::Damaged(_) | Identity::Foreign => None,
        }
    }

    /// Says it, and remembers that it was said.
    fn say(&self, id: MessageId, decision: Option<Decision>) -> LocalState {
        self.cluster.witness.says(id, decision);
        match decision {
            Some(Decision::Commit) => LocalState::Commit,
            Some(Decision::Rollback) => LocalState::Rollback,
            None => LocalState::Unknown,
        }
    }
}

impl TransactionListener for Settler {
    async fn execute(&self, message: &Message, _half: &SendResult) -> LocalState {
        let (id, fate) = self.fate(&message.body).expect("our own message");
        if let Says::Late(ms) = fate.says {
            self.rt.sleep(Duration::from_millis(ms)).await;
        }
        let Some(decision) = fate.decision else { return self.say(id, None) };
        self.cluster.witness.decided(id, decision);
        match fate.says {
            Says::AtOnce | Says::Late(_) => self.say(id, Some(decision)),
            Says::Nothing => self.say(id, None),
            Says::Dies => match self.rt.fatal("died between half message and commit").await {},
        }
    }

    async fn check(&self, message: Received) -> LocalState {
        let Some((id, fate)) = self.fate(&message.message.body) else { return LocalState::Unknown };
        let asked = self.cluster.witness.asked(id);
        let (decided, outcome) = self.cluster.witness.history(|history| {
            (history.transaction(id).decided, history.sends.get(&id).map(|sent| sent.outcome.clone()))
        });
        let decided = match (decided, outcome) {
            (Some(decided), _) => decided,
            // Its sender is still at work, or never comes to a decision.
            (None, Some(Outcome::Started)) => return self.say(id, None),
            (None, _) if fate.decision.is_none() => return self.say(id, None),
            (None, _) => {
                self.cluster.witness.decided(id, Decision::Rollback);
                Decision::Rollback
            }
        };
        let knows = asked > fate.unknown_checks;
        self.say(id, knows.then_some(decided))
    }
}

/// Sends a message as a transaction.
pub async fn send(
    cluster: &Cluster,
    producer: &TransactionProducer<SimRuntime, Settler>,
    id: MessageId,
    message: Message,
) -> SendOutcome {
    let message = match fate(&cluster.plan, id).immunity_s {
        Some(seconds) => message.with_property("CHECK_IMMUNITY_TIME_IN_SECONDS", seconds.to_string()),
        None => message,
    };
    let outcome = producer.send(&message).await;
    if matches!(&outcome.sent, SendOutcome::Sent(half) if half.status != SendStatus::Ok) {
        // The client has rolled it back without asking us (T-08).
        cluster.witness.decided(id, Decision::Rollback);
        cluster.witness.says(id, Some(Decision::Rollback));
    }
    outcome.sent
}

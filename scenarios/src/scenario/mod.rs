//! The list of scenarios. A scenario says what may happen to the cluster; what must hold then is said by the oracles.

pub mod broker_crash;
pub mod canary;
pub mod delay;
pub mod disk_trouble;
pub mod ordered;
pub mod partition;
pub mod power_loss;
pub mod promote_by_hand;
pub mod rebalance;
pub mod replication;
pub mod retention;
pub mod retry_dlq;
pub mod slave_restart;
pub mod store;
pub mod transaction;

use crate::oracle::Verdict;

/// What a scenario draws its plans from.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Kinds of fault that a seed may put into its run, each in `kind_percent` of the runs.
    pub kinds: &'static [&'static str],
    /// The kind that gives the scenario its name: it is in every run.
    pub always: &'static str,
    pub kind_percent: u64,
    pub sync_flush_percent: u64,
    pub two_name_servers: bool,
    /// Faults may go on for at least so long.
    pub faults_end_ms_min: u64,
    /// How long the healed cluster is watched for routes that vanish again.
    pub rest_ms: u64,
    /// One broker's store, without network and clients.
    pub store_alone: bool,
    /// Files are deleted, on a small disk.
    pub deletes: bool,
    /// The broker has a slave.
    pub replicates: bool,
}

pub trait Scenario: Sync {
    fn name(&self) -> &'static str;

    /// One line: what happens and what is checked.
    fn summary(&self) -> &'static str;

    fn profile(&self) -> Profile;

    /// The scenario's own demand at the end, beside the oracles'.
    ///
    /// # Errors
    /// When it is not met.
    fn at_end(&self) -> Verdict {
        Ok(())
    }
}

/// In the order of the list. `all` leaves the canary out.
pub const ALL: &[&dyn Scenario] = &[
    &canary::Canary,
    &store::Store,
    &disk_trouble::DiskTrouble,
    &retention::Retention,
    &broker_crash::BrokerCrash,
    &power_loss::PowerLoss,
    &partition::Partition,
    &transaction::Transaction,
    &replication::Replication,
    &slave_restart::SlaveRestart,
    &promote_by_hand::PromoteByHand,
    &delay::Delay,
    &retry_dlq::RetryDlq,
    &ordered::Ordered,
    &rebalance::Rebalance,
];

#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Scenario> {
    ALL.iter().copied().find(|scenario| scenario.name() == name)
}

/// The scenarios that `all` stands for.
#[must_use]
pub fn swept() -> Vec<&'static dyn Scenario> {
    ALL.iter().copied().filter(|scenario| scenario.name() != canary::NAME).collect()
}

//! The list of scenarios. A scenario says what may happen to the cluster; what must hold then is said by the oracles.

pub mod broker_crash;
pub mod canary;
pub mod delay;
pub mod disk_loss_of_one_node;
pub mod disk_trouble;
pub mod mixed_flush;
pub mod operators;
pub mod ordered;
pub mod partition;
pub mod power_loss;
pub mod promote_by_hand;
pub mod rebalance;
pub mod replication;
pub mod retention;
pub mod retry_dlq;
pub mod rolling_restart;
pub mod slave_restart;
pub mod slave_retention;
pub mod store;
pub mod topic_deletion;
pub mod transaction;

use crate::oracle::Verdict;

/// What a scenario draws its plans from. Each says what is its own, and takes the rest from one of the first three.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The kind that gives the scenario its name: it is in every run.
    pub always: &'static str,
    /// Kinds of fault that a seed may put into its run, each in `kind_percent` of the runs.
    pub kinds: &'static [&'static str],
    pub kind_percent: u64,
    pub sync_flush_percent: u64,
    pub two_name_servers: bool,
    /// Runs with two brokers, each with its slaves where there are any.
    pub two_brokers_percent: u64,
    /// How long the healed cluster is watched for routes that vanish again.
    pub rest_ms: u64,
    /// One broker's store, without network and clients.
    pub store_alone: bool,
    /// Files are deleted, on a small disk.
    pub deletes: bool,
    /// Slaves of each broker, at most.
    pub slaves_max: u32,
    /// Slaves flush before they report where their masters do not wait for it, and the other way round.
    pub mixed_flush: bool,
    /// Runs whose slaves do as Java's do.
    pub java_slaves_percent: u64,
    /// Masters that wait for slaves may lose their disks at the end, under load: their slaves take over.
    pub loses_masters: bool,
    /// Slaves may become masters under load and among the faults.
    pub promotes: bool,
    /// How long producers send, in about; faults come in the first seven tenths of it.
    pub load_ms: &'static [u64],
    /// The last blow takes the power of all brokers, else their processes die.
    pub ends_by_power_loss: bool,
}

impl Profile {
    /// Brokers and their clients.
    #[must_use]
    pub fn of_brokers(always: &'static str, kinds: &'static [&'static str]) -> Profile {
        Profile {
            always,
            kinds,
            kind_percent: 40,
            sync_flush_percent: 50,
            two_name_servers: false,
            two_brokers_percent: 35,
            rest_ms: 5_000,
            store_alone: false,
            deletes: false,
            slaves_max: 0,
            mixed_flush: false,
            java_slaves_percent: 0,
            loses_masters: false,
            promotes: false,
            load_ms: &[12_000, 20_000, 30_000],
            ends_by_power_loss: true,
        }
    }

    /// One broker's store, alone.
    #[must_use]
    pub fn of_store(always: &'static str, kinds: &'static [&'static str]) -> Profile {
        let brokers = Profile::of_brokers(always, kinds);
        Profile { sync_flush_percent: 70, two_brokers_percent: 0, rest_ms: 0, store_alone: true, ..brokers }
    }

    /// A master with a slave, and their clients.
    #[must_use]
    pub fn of_replicas(always: &'static str, kinds: &'static [&'static str]) -> Profile {
        let brokers = Profile::of_brokers(always, kinds);
        Profile { kind_percent: 50, two_brokers_percent: 0, rest_ms: 20_000, slaves_max: 1, ..brokers }
    }

    #[must_use]
    pub fn replicates(&self) -> bool {
        self.slaves_max > 0
    }
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
    &slave_retention::SlaveRetention,
    &rolling_restart::RollingRestart,
    &mixed_flush::MixedFlush,
    &disk_loss_of_one_node::DiskLossOfOneNode,
    &promote_by_hand::PromoteByHand,
    &delay::Delay,
    &retry_dlq::RetryDlq,
    &ordered::Ordered,
    &rebalance::Rebalance,
    &topic_deletion::TopicDeletion,
    &operators::Operators,
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

//! Scenarios over the simulator: what may happen to a cluster, what clients do meanwhile, and what must hold.
//!
//! | Module | What |
//! |---|---|
//! | `draw`, `options`, `plan` | a seed into a plan: settings, workload, faults; the plan is what replays |
//! | `faults`, `workload` | what is done to the cluster, and by its clients |
//! | `cluster`, `nodes`, `produce`, `transact`, `consume`, `operate` | the nodes, what each is now, and the programs on them |
//! | `examine`, `wire` | a program that asks nodes for everything the protocol has, by bytes of its own |
//! | `history`, `witness` | what clients saw; held against raw disks as it happens, deletions too |
//! | `platter` | an independent reader of a broker's raw disk |
//! | `restarted` | what brokers know of groups after their last start, and where consumers go on then |
//! | `oracle` | the promises, one file each |
//! | `scenario` | the list |
//! | `runner`, `routes`, `commits`, `shares` | one plan, from boot to verdict; what name servers know; which offsets are on disk, and when they must be; who holds which queue |
//! | `report`, `command` | how it is told, exit codes; the command line |
//!
//! Invariant: oracles judge by what clients saw and by raw bytes. What the code under test says about itself is a claim to be
//! checked (I9), never evidence.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod command;
pub mod commits;
pub mod consume;
pub mod draw;
pub mod examine;
#[cfg(test)]
mod failure_table;
pub mod faults;
pub mod history;
pub mod look_ups;
pub mod marks;
pub mod nodes;
pub mod operate;
pub mod options;
pub mod oracle;
pub mod page;
pub mod plan;
pub mod platter;
pub mod produce;
pub mod report;
pub mod restarted;
pub mod routes;
pub mod runner;
pub mod scenario;
pub mod shares;
pub mod store_alone;
pub mod transact;
pub mod wire;
pub mod witness;
pub mod workload;

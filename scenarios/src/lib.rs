//! Scenarios over the simulator: what may happen to a cluster, what clients do meanwhile, and what must hold.
//!
//! | Module | What |
//! |---|---|
//! | `draw`, `options`, `plan` | a seed into a plan: settings, workload, faults; the plan is what replays |
//! | `faults`, `workload` | what is done to the cluster, and by its clients |
//! | `history` | what clients saw |
//! | `platter` | an independent reader of a broker's raw disk |
//! | `oracle` | the promises, one file each |
//! | `scenario` | the list |
//! | `runner` | one plan, from boot to verdict |
//! | `report` | how it is told; exit codes |
//!
//! Invariant: oracles judge by what clients saw and by raw bytes, never by what the code under test says about itself.
#![forbid(unsafe_code)]

pub mod draw;
pub mod faults;
pub mod history;
pub mod options;
pub mod oracle;
pub mod plan;
pub mod platter;
pub mod report;
pub mod scenario;
pub mod workload;

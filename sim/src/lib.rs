//! core's Runtime inside a seeded simulator: one thread, a virtual clock, our own TCP, our own page cache.
//!
//! ```no_run
//! use hotfire_sim::{Limits, SimRuntime, run_seed};
//! use hotfire_core::runtime::Runtime;
//! use std::time::Duration;
//!
//! let result = run_seed(42, Limits::default(), |world| async move {
//!     let broker = world.add_node("broker", [10, 0, 0, 1]);
//!     world.boot(broker, |rt: SimRuntime| async move {
//!         rt.probe("started", 1, 2);
//!         std::future::pending::<()>().await;
//!     });
//!     world.sleep(Duration::from_secs(1)).await;
//!     world.power_off(broker);
//!     world.restart(broker);
//!     world.sleep(Duration::from_secs(1)).await;
//! });
//! let fingerprint = result.fingerprint();
//! # let _ = fingerprint;
//! ```
//!
//! Map: `run` (a seed, a scenario, a verdict), `world` (event heap, timers, images of disks), `cluster` (nodes: boot, crash, power
//! off, pause, restart, death at a storage step), `network`, `disk`, `clock` (what they show, and their faults), `runtime` (core's
//! traits), `seed` (keyed draws), `trace` (digest and last events).
//!
//! # Determinism
//! A seed replays in another process, after other seeds, in debug and in release, because:
//! * scheduling is madsim's uniformly random pick among ready tasks, drawn from the seed;
//! * every other draw is keyed by seed, entity and a counter of that entity (`seed`);
//! * nothing walks a `HashMap`; nothing uses an address, a thread id, a process id or the wall clock;
//! * every run has a fresh thread, for std's hash keys are per thread;
//! * `tokio::sync::watch` and `select!` without `biased` are not used: both draw from a process-wide source.
//!
//! [`RunResult::fingerprint`] of two runs of a seed differs when one of these was broken.
#![forbid(unsafe_code)]

#[cfg(not(madsim))]
compile_error!(
    "hotfire-sim needs `--cfg madsim`, which .cargo/config.toml sets under [target.'cfg(all())'].\n\
     It is missing because the RUSTFLAGS (or CARGO_ENCODED_RUSTFLAGS) variable replaces the file's flags, or because cargo \
     was started outside the project (its configuration is found from the current folder, not from --manifest-path).\n\
     Fix: unset RUSTFLAGS; give extra flags with CARGO_TARGET_<TRIPLE>_RUSTFLAGS, which are joined."
);

#[cfg(madsim)]
pub mod clock;
#[cfg(madsim)]
pub mod cluster;
#[cfg(madsim)]
pub mod disk;
#[cfg(madsim)]
pub mod network;
#[cfg(madsim)]
pub mod run;
#[cfg(madsim)]
pub mod runtime;
#[cfg(madsim)]
pub mod seed;
#[cfg(madsim)]
mod task;
#[cfg(madsim)]
pub mod trace;
#[cfg(madsim)]
pub mod world;

#[cfg(madsim)]
pub use cluster::NodeId;
#[cfg(madsim)]
pub use disk::Image;
#[cfg(madsim)]
pub use network::Link;
#[cfg(madsim)]
pub use run::{Limits, Outcome, Panic, RunResult, run_seed};
#[cfg(madsim)]
pub use runtime::SimRuntime;
#[cfg(madsim)]
pub use trace::TraceEvent;
#[cfg(madsim)]
pub use world::{Marks, ProbeEvent, World};

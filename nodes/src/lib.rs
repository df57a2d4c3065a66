//! The `hotfire` program: flags, settings, signals, printing. Everything that serves or speaks the protocol is in `core`.
//!
//! Promises to users and scripts: ready lines and results on stdout, logs on stderr; exit code 2 for a wrong command line
//! or a bad setting (nothing was created), 1 for what went wrong while running, 0 after an ordered stop.
//!
//! Invariant: nothing here links the simulator.
#![forbid(unsafe_code)]

pub mod bench;
mod cli;
mod client;
mod config_file;
mod failure;
mod logging;
mod output;
mod progress;
mod signals;
mod table;

pub use cli::main;

/// The commit that this program was built from.
pub(crate) const COMMIT: &str = env!("HOTFIRE_COMMIT");

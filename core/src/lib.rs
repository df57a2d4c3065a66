//! Hotfire's protocol logic, written once against [`runtime::Runtime`].
//!
//! Map: `runtime` (the one abstraction over clock, tasks, network and storage), `message` (the CommitLog record),
//! `remoting` (frames, headers, bodies, connections), `store` (CommitLog, ConsumeQueue, flush, recovery),
//! `filter` (SQL92 expressions over properties), `ha` (replication), `name_server`, `broker`, `client`.
//!
//! Invariant: nothing here names a clock, a thread, a socket, a file, an unseeded random source or hash order; all of
//! it comes through `Runtime`. `core/clippy.toml` and the dependency check of `cargo verify` hold that.
//! Invariant: bytes from network or disk never meet `unwrap`, indexing or unchecked arithmetic.
#![forbid(unsafe_code)]

pub mod broker;
pub mod client;
pub mod config;
pub mod filter;
pub mod ha;
pub mod message;
pub mod name_server;
pub mod remoting;
pub mod runtime;
pub mod store;

#[doc(hidden)]
pub use tokio as __tokio;

//! The name server: brokers tell it what they serve, clients ask it where to go.
//!
//! Everything but the KV configuration is in memory: brokers register again every 30 s, so a restarted name server fills
//! itself. Name servers do not know of each other; a broker registers with all of them.
//!
//! Parts: `route_info` (the rules of registration and removal), `broker_live` (signs of life), `route_query` (what is
//! answered), `kv_config` (the persisted table), `requests` (one method per
//! request code), `node` (start, accept, expire, stop).
//!
//! Invariant: all route tables are behind one lock that is never held over an await, so every answer shows one moment.

pub mod broker_live;
pub mod kv_config;
mod node;
mod requests;
pub mod route_info;
mod route_query;

pub use node::{NameServer, StartError};

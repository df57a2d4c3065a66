//! The name server: brokers tell it what they serve, clients ask it where to go.
//!
//! Everything but the KV configuration is in memory: brokers register again every 30 s, so a restarted name server fills
//! itself. Name servers do not know of each other; a broker registers with all of them.
//!
//! Parts: `route_info` (the rules of registration and removal), `broker_live` (signs of life), `route_query` (what is
//! answered).

pub mod broker_live;
pub mod route_info;
mod route_query;

pub use route_query::UnitKind;

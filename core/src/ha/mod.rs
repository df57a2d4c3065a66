//! Classic replication: a slave copies its master's log, byte for byte, at the same places.
//!
//! A slave connects to its master's HA port and reports where its log ends; the master pushes from there on, woken by each
//! append or flush, and hears from reports how far the slave has come. With SYNC_MASTER a send is answered once one slave
//! has it, or as many as the settings say.
//!
//! Decisions are pure types without I/O: `wire` (bytes), `replicas` (where a push begins, who has acknowledged what),
//! `lives` (who may have what of a log that was cut), `copies` (how many of them a send waits for), `follower` (what a slave takes, and what not). `master` and `slave` are
//! loops around them; `explore` (tests) walks through every order of appends, frames, reports, crashes and losses of power
//! of a small cluster of these types, and `explore_acks` of what several slaves say over old and new connections.
//!
//! Stricter than Java, on the same wire: a report beyond the master's end, or below its beginning, is refused; slaves are
//! counted by host, two of one host once both acknowledge what comes; a slave appends only whole records that state the place where they are to lie, and before it asks for
//! bytes it compares its last record with its master's, so that one that is ahead of a restarted master stops instead of
//! going on with another history; a SYNC_FLUSH master pushes only what is flushed, so that no loss of power makes that so.
//!
//! Guarantees: what is confirmed is in the log of a slave, as its flush mode promises; the log of a slave is its master's
//! from some file's beginning on, up to a whole record or the end of a file.
//! Not in this protocol: promotion, and going back to a common point once histories differ: such a slave must be set up anew.

pub mod copies;
#[cfg(test)]
mod explore;
#[cfg(test)]
mod explore_acks;
mod flow;
pub mod follower;
pub mod lives;
pub mod master;
pub mod replicas;
pub mod slave;
pub mod wire;

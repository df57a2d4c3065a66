//! The message store in Java RocketMQ's format.
//!
//! `CommitLog` files hold the records of all queues in the order of their puts, `ConsumeQueue` files the place of each of a
//! queue's records; the latter follow from the former, so that only the log has to be durable before an answer.
//!
//! Queue files are opened when somebody reads them and a bounded number is open, so what reads a queue (`get`,
//! `offset_by_time`, `store_time`) is async; offsets known in memory (`min_offset`, `max_offset`) and the log (`message_at`) are not.

pub mod answer;
pub mod config;
pub mod error;

pub use answer::{Appended, AppendedBatch, ArrivalListener, Boundary, GetStatus, Read};
pub use config::{FlushMode, StoreConfig};
pub use error::{PutError, RecoverError, StopError, WhyNot};

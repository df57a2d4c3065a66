//! core's Runtime on tokio and memmap2.

pub mod bench;

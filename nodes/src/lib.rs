//! core's Runtime on tokio and memmap2.

//! Tests that hold the code against what the original programs sent and answered (`tests/golden`), and nodes over real sockets.
#![forbid(unsafe_code)]

mod golden;
mod known_answers;
mod name_server;
mod store;
mod store_crash;
mod store_golden;
mod transcripts;

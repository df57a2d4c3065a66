//! Tests that hold the code against what the original programs sent and answered (`tests/golden`), and nodes over real sockets.
#![forbid(unsafe_code)]

mod admin;
mod admin_commands;
mod broker;
mod broker_node;
mod broker_stats;
mod client;
mod command_line;
mod config_file;
mod consumer;
mod golden;
mod known_answers;
mod malformed;
mod name_server;
mod name_server_faults;
mod registration;
mod replay;
mod replication;
mod reply;
mod send_back;
mod sql_filter;
mod store;
mod store_check;
mod store_copy;
mod store_crash;
mod store_disk;
mod store_dropped;
mod store_dump;
mod store_exhaustive;
mod store_golden;
mod store_index;
mod store_pool;
mod store_repair;
mod store_retention;
mod transaction;
mod transcripts;

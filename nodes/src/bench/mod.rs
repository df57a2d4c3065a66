//! Load on any server that speaks the protocol, and what it answers.
//!
//! Closed loop: each connection keeps a fixed number of requests in flight and sends the next one for each answer. Frames are built
//! once and patched (opaque, queue, unique key), answers are scanned for code and opaque alone, so that the generator, which shares the
//! machine with the server, costs little. The header is that of a Java producer (code 310, one-letter names).
//!
//! Latency is from the moment a request is handed to the socket's buffer to the moment its answer was read.

mod consumer;
mod frames;
mod latency;
mod lookup;
mod null_server;
mod producer;
mod report;

pub use consumer::{ConsumeOptions, consume};
pub use latency::{LatencyOptions, latency};
pub use lookup::{Target, find_target};
pub use null_server::serve_null;
pub use producer::{ProduceOptions, produce};
pub use report::{Report, cpu_time_ms};

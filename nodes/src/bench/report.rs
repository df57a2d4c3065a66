//! What a load run found, for people and for programs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Stands for the code of an answer that has none, and of one that never came.
pub const NO_CODE: u32 = u32::MAX;

#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3)
        .expect("3 digits up to a minute are within the histogram's range")
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub messages: u64,
    pub msg_per_s: f64,
    pub mb_per_s: f64,
    pub errors: u64,
    /// How many of them by response code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors_by_code: BTreeMap<u32, u64>,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// CPU time of the server for one message, when its process is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_msg: Option<f64>,
}

impl Report {
    #[must_use]
    pub fn new(
        messages: u64,
        payload_bytes: u64,
        errors_by_code: BTreeMap<u32, u64>,
        measured: Duration,
        latency_us: &Histogram<u64>,
        server_cpu_ms: Option<u64>,
    ) -> Report {
        let seconds = measured.as_secs_f64();
        Report {
            messages,
            msg_per_s: messages as f64 / seconds,
            mb_per_s: payload_bytes as f64 / 1e6 / seconds,
            errors: errors_by_code.values().sum(),
            errors_by_code,
            p50_us: latency_us.value_at_quantile(0.5),
            p99_us: latency_us.value_at_quantile(0.99),
            p999_us: latency_us.value_at_quantile(0.999),
            max_us: latency_us.max(),
            server_cpu_us_per_msg: server_cpu_ms
                .filter(|_| messages > 0)
                .map(|ms| ms as f64 * 1000.0 / messages as f64),
        }
    }
}

/// Adds up the counts of several connections.
pub fn add_errors(all: &mut BTreeMap<u32, u64>, some: BTreeMap<u32, u64>) {
    for (code, count) in some {
        *all.entry(code).or_default() += count;
    }
}

/// CPU time of a process, in ms, between two moments.
pub async fn cpu_time_between(pid: Option<u32>, begin: Instant, end: Instant) -> Option<u64> {
    let pid = pid?;
    tokio::time::sleep_until(begin.into()).await;
    let before = cpu_time_ms(pid)?;
    tokio::time::sleep_until(end.into()).await;
    Some(cpu_time_ms(pid)?.saturating_sub(before))
}

/// User and system time of a process so far, in ms. `None` where the system does not tell (it does on Linux).
#[must_use]
pub fn cpu_time_ms(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces: fields are counted behind it. utime and stime are fields 14 and 15.
    let behind = stat.rsplit_once(')')?.1;
    let mut fields = behind.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // Linux counts them in hundredths of a second for every program.
    Some(ticks * 10)
}

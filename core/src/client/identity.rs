//! Names that must be unique: of a client, and of each message it sends.
//!
//! A unique key is upper-case hex:
//!   0..4 or 0..16  the client's IP
//!   +2             instead of Java's process id: random
//!   +4             instead of Java's class loader hash: a random start, counted up when the counter below wraps
//!   +4             ms since the month began (UTC)
//!   +2             counter
//! Tools read the time from it; everybody else compares it.
//! Invariant: one generator repeats no key within 2^48 messages, whatever its clock does.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::Runtime;

/// `ip@instance`; without a given instance one that no other client has.
#[must_use]
pub fn client_id<R: Runtime>(rt: &R, ip: IpAddr, instance: Option<&str>) -> String {
    match instance {
        Some(instance) => format!("{ip}@{instance}"),
        None => {
            let random = rt.random_u64();
            format!("{ip}@{}#{}", random & 0xFFFF, random >> 16)
        }
    }
}

/// Makes unique keys for the messages of one client.
#[derive(Debug)]
pub struct UniqueKeys {
    prefix: String,
    start: u32,
    count: AtomicU64,
}

impl UniqueKeys {
    #[must_use]
    pub fn new<R: Runtime>(rt: &R, ip: IpAddr) -> UniqueKeys {
        let random = rt.random_u64();
        let mut prefix = match ip {
            IpAddr::V4(ip) => hex(&ip.octets()),
            IpAddr::V6(ip) => hex(&ip.octets()),
        };
        prefix.push_str(&hex(&(random as u16).to_be_bytes()));
        UniqueKeys { prefix, start: (random >> 32) as u32, count: AtomicU64::new(0) }
    }

    /// A new key; `wall_ms` is the time it tells.
    #[must_use]
    pub fn next(&self, wall_ms: i64) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut key = self.prefix.clone();
        let wrapped = self.start.wrapping_add((count >> 16) as u32);
        // Writing to a String does not fail.
        let _ = write!(key, "{wrapped:08X}{:08X}{:04X}", ms_in_month(wall_ms) as u32, count & 0xFFFF);
        key
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Milliseconds since the first day of the month, UTC.
fn ms_in_month(wall_ms: i64) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    // Day of the month by the civil calendar, from days since 1970 (Howard Hinnant, "chrono-compatible low-level date
    // algorithms"): the year begins in March, so that the leap day comes last.
    let days = wall_ms.div_euclid(DAY_MS) + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5;
    day_of_month * DAY_MS + wall_ms.rem_euclid(DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn keys(count: u64) -> UniqueKeys {
        UniqueKeys { prefix: "7F0000013887".to_owned(), start: u32::MAX, count: AtomicU64::new(count) }
    }

    #[test]
    fn a_key_tells_its_time_as_javas_does() {
        // Known answer: made in the millisecond 1795438563199 by the Java class.
        let key = keys(0).next(1_795_438_563_199);
        assert_eq!(key.len(), 32);
        assert_eq!(&key[20..28], "7412677F");
    }

    #[test]
    fn a_month_begins_at_its_first_day() {
        for (wall_ms, expected) in [
            (0, 0),
            // 2024-02-29 and 2024-03-01.
            (1_709_164_800_000, 28 * 86_400_000),
            (1_709_251_200_000, 0),
            // 1999-12-31 23:59:59.999.
            (946_684_799_999, 31 * 86_400_000 - 1),
        ] {
            assert_eq!(ms_in_month(wall_ms), expected, "{wall_ms}");
        }
    }

    #[test]
    fn keys_differ_though_the_clock_stands_and_the_counter_wraps() {
        let keys = keys(0xFFF0);
        let made: BTreeSet<String> = (0..0x20).map(|_| keys.next(5)).collect();
        assert_eq!(made.len(), 0x20);
    }
}

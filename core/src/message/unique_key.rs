//! The unique key that a client gives a message: upper-case hex of
//!   0..4 or 0..16  the client's address, IPv4 or IPv6
//!   +2             low half of its process id
//!   +4             a number that tells processes with equal ids apart
//!   +4             ms since the start of the month, UTC
//!   +2             counter
//! 32 characters for IPv4, 56 for IPv6. Brokers take any text; only tools read the time out of it.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A unique key in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueKey {
    /// The client's address.
    pub ip: IpAddr,
    /// Low half of the client's process id.
    pub pid: u16,
    /// Tells processes with equal ids apart.
    pub salt: u32,
    /// Since the start of the month.
    pub elapsed_ms: u32,
    /// Tells messages of one ms apart.
    pub counter: u16,
}

impl UniqueKey {
    /// Reads a key. None if the text is none of ours or Java's: other clients make up other texts.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 28];
        if !text.len().is_multiple_of(2) || text.len() / 2 > bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return None };
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        let (ip, rest) = match text.len() {
            32 => (IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)), bytes.get(4..16)?),
            56 => (IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?)), bytes.get(16..28)?),
            _ => return None,
        };
        let (pid, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (elapsed_ms, rest) = rest.split_first_chunk()?;
        Some(Self {
            ip,
            pid: u16::from_be_bytes(*pid),
            salt: u32::from_be_bytes(*salt),
            elapsed_ms: u32::from_be_bytes(*elapsed_ms),
            counter: u16::from_be_bytes(*rest.first_chunk()?),
        })
    }

    /// When the key was made, in ms since 1970, as seen at `now_ms`: in this month, or if that would not be in the past,
    /// in the month before. Java's decoder errs in the same way for a key that is looked at in its own millisecond.
    pub fn born_ms(&self, now_ms: i64) -> i64 {
        let month = month_start_ms(now_ms);
        let born = month + i64::from(self.elapsed_ms);
        if born < now_ms {
            return born;
        }
        month_start_ms(month - 1) + i64::from(self.elapsed_ms)
    }
}

impl Display for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{:08X}", u32::from(ip))?,
            IpAddr::V6(ip) => write!(f, "{:032X}", u128::from(ip))?,
        }
        write!(f, "{:04X}{:08X}{:08X}{:04X}", self.pid, self.salt, self.elapsed_ms, self.counter)
    }
}

/// The first millisecond of the month of `now_ms`, UTC.
pub fn month_start_ms(now_ms: i64) -> i64 {
    let days = now_ms.div_euclid(DAY_MS);
    // Years are counted from March, so that the leap day is the last of its year: then the day of the month follows
    // from a line through the months, five of which have 153 days.
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5;
    (days - day_of_month) * DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_start_where_the_calendar_says() {
        let cases = [
            (0, 0),
            (-1, -31 * DAY_MS),
            (1_709_210_096_000, 1_706_745_600_000), // 29 February 2024
            (1_709_251_200_000, 1_709_251_200_000), // 1 March 2024
            (1_795_438_563_199, 1_793_491_200_000), // November 2026
        ];
        for (now_ms, start_ms) in cases {
            assert_eq!(month_start_ms(now_ms), start_ms, "{now_ms}");
        }
    }

    #[test]
    fn a_key_reads_back_from_its_text() {
        let key = UniqueKey {
            ip: IpAddr::V6(Ipv6Addr::LOCALHOST),
            pid: 0xFFEE,
            salt: 1,
            elapsed_ms: 0x9F00_0000,
            counter: 0xA0,
        };
        assert_eq!(UniqueKey::parse(&key.to_string()), Some(key));
        let text = "7F00000138875FFD2B277412677F0000";
        assert_eq!(UniqueKey::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", "7F", "XF00000138875FFD2B277412677F0000", "中中中中中中中中中中", &"0".repeat(58)]
        {
            assert_eq!(UniqueKey::parse(text), None, "{text}");
        }
    }
}

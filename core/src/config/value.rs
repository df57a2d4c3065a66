//! The types of settings: how each is read, and how it is shown again.

use std::net::IpAddr;

use crate::store::{DelayLevels, DeleteHours};

/// A type that a setting can have. `show` and `parse` are inverse.
pub(super) trait Value: Sized {
    /// # Errors
    /// What was expected, in the words of an error message.
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

/// `flushDiskType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushDisk {
    /// A message is acknowledged when it is in the page cache.
    Async,
    /// A message is acknowledged when it is on stable storage.
    Sync,
}

/// `brokerRole`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Answers a send by its own flush alone.
    AsyncMaster,
    /// Answers a send when a slave has the message too.
    SyncMaster,
    /// Copies its master and takes no writes.
    Slave,
}

/// `brokerPermission`, Java's bits: 2 write, 4 read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permission(pub i32);

impl Permission {
    #[must_use]
    pub fn can_read(self) -> bool {
        self.0 & 4 != 0
    }

    #[must_use]
    pub fn can_write(self) -> bool {
        self.0 & 2 != 0
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            _ if text.eq_ignore_ascii_case("true") => Ok(true),
            _ if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! numbers {
    ($($number:ty: $words:literal),*) => {
        $(impl Value for $number {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{} from {} to {}", $words, <$number>::MIN, <$number>::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

numbers!(u16: "a number", u32: "a number", u64: "a number", i32: "a number", i64: "a number");

impl Value for usize {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "a number from 0".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "an IP address".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for FlushDisk {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ASYNC_FLUSH" => Ok(FlushDisk::Async),
            "SYNC_FLUSH" => Ok(FlushDisk::Sync),
            _ => Err("ASYNC_FLUSH or SYNC_FLUSH".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            FlushDisk::Async => "ASYNC_FLUSH",
            FlushDisk::Sync => "SYNC_FLUSH",
        }
        .to_owned()
    }
}

impl Value for Role {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ASYNC_MASTER" => Ok(Role::AsyncMaster),
            "SYNC_MASTER" => Ok(Role::SyncMaster),
            "SLAVE" => Ok(Role::Slave),
            _ => Err("ASYNC_MASTER, SYNC_MASTER or SLAVE".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Role::AsyncMaster => "ASYNC_MASTER",
            Role::SyncMaster => "SYNC_MASTER",
            Role::Slave => "SLAVE",
        }
        .to_owned()
    }
}

impl Value for Permission {
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(bits @ (2 | 4 | 6)) => Ok(Permission(bits)),
            _ => Err("2 (write), 4 (read) or 6 (both)".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Value for DelayLevels {
    fn parse(text: &str) -> Result<Self, String> {
        DelayLevels::parse(text)
            .ok_or_else(|| "numbers with s, m, h or d and a space between them".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for DeleteHours {
    fn parse(text: &str) -> Result<Self, String> {
        DeleteHours::parse(text).ok_or_else(|| "hours from 00 to 23 with ; between them".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// `fileReservedTime`, read and shown in hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedTime {
    pub ms: u64,
}

const HOUR_MS: u64 = 3_600_000;

impl ReservedTime {
    pub(super) const fn hours(hours: u64) -> ReservedTime {
        ReservedTime { ms: hours * HOUR_MS }
    }
}

impl Value for ReservedTime {
    fn parse(text: &str) -> Result<Self, String> {
        let ms = text.parse().ok().and_then(|hours: u64| hours.checked_mul(HOUR_MS));
        ms.map(|ms| ReservedTime { ms }).ok_or_else(|| "a number of hours".to_owned())
    }

    fn show(&self) -> String {
        (self.ms / HOUR_MS).to_string()
    }
}

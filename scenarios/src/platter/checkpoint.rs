//! The checkpoint file: five big-endian longs in 4,096 bytes; at 64 a mark, at 72 where a scan begins, at 80 how far log and
//! queues are durable, at 96 the sum of all before; at 104 what is claimed of the index, with a sum of all before.

use super::crc::crc32;
use super::{i32_at, i64_at};

/// Where the claim of the index ends, and its sum begins.
const CLAIM_END: usize = 124;
/// The same of the positions.
const OWN_END: usize = 96;

/// Times in ms, 0 when never set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    pub physic_ms: i64,
    pub logic_ms: i64,
    pub index_ms: i64,
    pub index: Option<IndexClaim>,
    pub own: Option<Own>,
}

/// What a start relies on: log and queues are durable and complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Own {
    /// A record begins there.
    pub scan_from: u64,
    pub durable: u64,
}

impl Own {
    fn decode(bytes: &[u8]) -> Option<Own> {
        if bytes.get(64..72)? != b"HOTFIRE1" || i32_at(bytes, OWN_END)? as u32 != crc32(bytes.get(..OWN_END)?)
        {
            return None;
        }
        Some(Own { scan_from: i64_at(bytes, 72)? as u64, durable: i64_at(bytes, 80)? as u64 })
    }
}

/// Records below `position` are in the index, durably: in files before `file`, and in its entries below `next`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IndexClaim {
    pub position: u64,
    pub file: u64,
    pub next: u32,
}

impl IndexClaim {
    fn decode(bytes: &[u8]) -> Option<IndexClaim> {
        if i32_at(bytes, CLAIM_END)? as u32 != crc32(bytes.get(..CLAIM_END)?) {
            return None;
        }
        Some(IndexClaim {
            position: i64_at(bytes, 104)? as u64,
            file: i64_at(bytes, 112)? as u64,
            next: i32_at(bytes, 120)? as u32,
        })
    }
}

impl Checkpoint {
    /// None when the file is too short to hold it.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        Some(Checkpoint {
            physic_ms: i64_at(bytes, 0)?,
            logic_ms: i64_at(bytes, 8)?,
            index_ms: i64_at(bytes, 16)?,
            index: IndexClaim::decode(bytes),
            own: Own::decode(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_are_read_in_their_order() {
        let bytes = [1i64, 2, 3].map(i64::to_be_bytes).concat();
        let times = Checkpoint { physic_ms: 1, logic_ms: 2, index_ms: 3, index: None, own: None };
        assert_eq!(Checkpoint::decode(&bytes), Some(times));
        let mut claimed = [bytes.as_slice(), &[0; 80]].concat();
        for claim in [5_i64, 6] {
            claimed.extend(claim.to_be_bytes());
        }
        claimed.extend(7_i32.to_be_bytes());
        claimed.extend(crc32(&claimed).to_be_bytes());
        let index = Some(IndexClaim { position: 5, file: 6, next: 7 });
        assert_eq!(Checkpoint::decode(&claimed), Some(Checkpoint { index, ..times }));
        claimed[111] ^= 1;
        assert_eq!(Checkpoint::decode(&claimed), Some(times));
        assert_eq!(Checkpoint::decode(&bytes[..20]), None);
    }
}

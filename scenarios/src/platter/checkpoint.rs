//! The checkpoint file: five big-endian longs in 4,096 bytes.

use super::i64_at;

/// Times in ms, 0 when never set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    pub physic_ms: i64,
    pub logic_ms: i64,
    pub index_ms: i64,
}

impl Checkpoint {
    /// None when the file is too short to hold it.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        Some(Checkpoint {
            physic_ms: i64_at(bytes, 0)?,
            logic_ms: i64_at(bytes, 8)?,
            index_ms: i64_at(bytes, 16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_are_read_in_their_order() {
        let bytes = [1i64, 2, 3].map(i64::to_be_bytes).concat();
        assert_eq!(Checkpoint::decode(&bytes), Some(Checkpoint { physic_ms: 1, logic_ms: 2, index_ms: 3 }));
        assert_eq!(Checkpoint::decode(&bytes[..20]), None);
    }
}

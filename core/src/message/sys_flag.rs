//! The bits of sysFlag, of a message and of a pull request.

/// The body is compressed.
pub const COMPRESSED: i32 = 0x1;
/// The message has several tags.
pub const MULTI_TAGS: i32 = 0x2;
/// Where the transaction type is.
pub const TRANSACTION_MASK: i32 = 0xC;
/// Not part of a transaction.
pub const TRANSACTION_NONE: i32 = 0x0;
/// A half message.
pub const TRANSACTION_PREPARED: i32 = 0x4;
/// Committed.
pub const TRANSACTION_COMMIT: i32 = 0x8;
/// Rolled back.
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// The born host has 16 bytes of address.
pub const BORN_HOST_V6: i32 = 0x10;
/// The store host has 16 bytes of address.
pub const STORE_HOST_V6: i32 = 0x20;
/// An inner batch that clients must take apart.
pub const NEED_UNWRAP: i32 = 0x40;
/// One record that takes several queue offsets.
pub const INNER_BATCH: i32 = 0x80;
/// Where the compression type is; 0 with [`COMPRESSED`] set is zlib, as old clients write it.
pub const COMPRESSION_MASK: i32 = 0x700;
/// LZ4 frames.
pub const COMPRESSION_LZ4: i32 = 0x100;
/// Zstandard.
pub const COMPRESSION_ZSTD: i32 = 0x200;
/// zlib.
pub const COMPRESSION_ZLIB: i32 = 0x300;

/// The transaction type of a message.
pub fn transaction_type(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}

/// The same flags with another transaction type.
pub fn with_transaction_type(sys_flag: i32, transaction_type: i32) -> i32 {
    sys_flag & !TRANSACTION_MASK | transaction_type & TRANSACTION_MASK
}

/// The bits of a pull request.
pub mod pull {
    /// The request carries an offset to commit.
    pub const COMMIT_OFFSET: i32 = 0x1;
    /// The request may be held when there is nothing to answer.
    pub const SUSPEND: i32 = 0x2;
    /// The request carries the subscription.
    pub const SUBSCRIPTION: i32 = 0x4;
    /// The subscription is a filter class.
    pub const CLASS_FILTER: i32 = 0x8;
    /// From a lite pull consumer.
    pub const LITE_PULL: i32 = 0x10;
}

const _: () = assert!(
    COMPRESSED | MULTI_TAGS | TRANSACTION_MASK | BORN_HOST_V6 | STORE_HOST_V6 | NEED_UNWRAP | INNER_BATCH
        == 0xFF
        && COMPRESSION_MASK & 0xFF == 0,
    "no bit has two meanings"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transaction_type_is_replaced_alone() {
        let flag = COMPRESSED | TRANSACTION_PREPARED | BORN_HOST_V6;
        assert_eq!(transaction_type(flag), TRANSACTION_PREPARED);
        let committed = with_transaction_type(flag, TRANSACTION_COMMIT);
        assert_eq!(committed, COMPRESSED | TRANSACTION_COMMIT | BORN_HOST_V6);
        assert_eq!(with_transaction_type(committed, TRANSACTION_NONE), COMPRESSED | BORN_HOST_V6);
    }
}

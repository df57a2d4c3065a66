//! How many copies a send to a SYNC_MASTER is answered by. Pure: told how many there are, it decides.
//!
//! | settings | before it is stored | afterwards |
//! |---|---|---|
//! | as Java 4.x, where none of the three is set | nothing | waits for one slave, if one is near; else SLAVE_NOT_AVAILABLE |
//! | `inSyncReplicas=n` | nothing | waits for `n` copies, the master's among them; 1 waits for no slave |
//! | `minInSyncReplicas=m` | refused with fewer than `m` copies in sync | waits for `m` at least |
//! | `allAckInSyncStateSet` | nothing | waits for as many as are in sync, and for what the other two say at least |
//!
//! Stricter than Java 5.x, which heeds the last two in controller mode alone, and there answers by one copy while it asks for
//! `m` in sync.
//!
//! # Source
//! `spec/ha.md`, section 1.7.

/// Slaves that a send waits for, at most.
pub const SLAVES_MAX: usize = 15;

/// Java 5.x's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSync {
    /// Copies to wait for, with the master's.
    pub replicas: usize,
    /// With fewer that are in sync nothing is stored.
    pub min: usize,
    /// Whether all that are in sync are waited for.
    pub all: bool,
    /// A slave that is so many bytes behind is not in sync.
    pub gap_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Java 4.x's: one slave, which must not be so many bytes behind.
    OneSlave {
        fall_behind_max: u64,
    },
    InSync(InSync),
}

/// What a send waits for when it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// One slave, if one is near by then.
    OneIfNear,
    /// Distinct ones.
    Slaves(usize),
}

/// The message must not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("in-sync replicas not enough: {in_sync} of {min}")]
pub struct TooFew {
    pub in_sync: usize,
    pub min: usize,
}

impl Rule {
    /// A slave that is so many bytes behind does not count.
    #[must_use]
    pub fn behind_max(self) -> u64 {
        match self {
            Rule::OneSlave { fall_behind_max } => fall_behind_max,
            Rule::InSync(InSync { gap_max, .. }) => gap_max,
        }
    }

    /// What a send needs, where so many copies are `in_sync`, the master's among them.
    ///
    /// # Errors
    /// When there are too few.
    pub fn need(self, in_sync: impl FnOnce() -> usize) -> Result<Need, TooFew> {
        let Rule::InSync(InSync { replicas, min, all, .. }) = self else { return Ok(Need::OneIfNear) };
        let in_sync = if all || min > 1 { in_sync() } else { 1 };
        if in_sync < min {
            return Err(TooFew { in_sync, min });
        }
        let least = replicas.max(min);
        let copies = if all { in_sync.max(least) } else { least };
        Ok(Need::Slaves(copies.saturating_sub(1).min(SLAVES_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_settings_decide_as_the_table_says() {
        let of = |replicas, min, all, in_sync| {
            Rule::InSync(InSync { replicas, min, all, gap_max: 1 }).need(|| in_sync)
        };
        let waits = |slaves| Ok(Need::Slaves(slaves));
        assert_eq!(Rule::OneSlave { fall_behind_max: 1 }.need(|| 1), Ok(Need::OneIfNear));
        // Copies to wait for, however many there are.
        assert_eq!(
            (of(1, 1, false, 3), of(2, 1, false, 1), of(3, 1, false, 2)),
            (waits(0), waits(1), waits(2))
        );
        // Enough must be in sync, and they are waited for.
        assert_eq!(of(1, 2, false, 1), Err(TooFew { in_sync: 1, min: 2 }));
        assert_eq!(
            (of(1, 2, false, 2), of(1, 2, false, 3), of(3, 2, false, 2)),
            (waits(1), waits(1), waits(2))
        );
        // All that are in sync, and the least that the others say.
        assert_eq!((of(1, 1, true, 1), of(1, 1, true, 3), of(2, 1, true, 1)), (waits(0), waits(2), waits(1)));
        assert_eq!(of(1, 2, true, 1), Err(TooFew { in_sync: 1, min: 2 }));
        assert_eq!((of(1, 2, true, 3), of(1, 1, true, 99)), (waits(2), waits(SLAVES_MAX)));
    }
}

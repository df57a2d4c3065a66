//! Where the part of a queue begins whose records the log still has: a binary search by entries of which the disk may have
//! turned a bit.
//!
//! Records lie in the log in the order of their queue, so behind an entry whose record is kept all are. An entry that says
//! otherwise between two that agree is damaged, and one that no record has says nothing: the next one speaks for it.
//!
//! Guarantee: one damaged entry, wherever it is, does not move the answer past another whose record is kept. Of the first that
//! is kept, or the last that is gone, what it says is believed, and one that no record has is kept: a look at the log makes it
//! again, or finds nothing.

use std::io;
use std::ops::Range;

use super::queue_entry::Unit;

/// What an entry says of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Kept,
    Gone,
    /// The entry has bytes that none has.
    Damaged,
}

impl Seen {
    pub fn of(unit: Unit, log_min: u64) -> Seen {
        match unit {
            Unit::Entry(entry) if entry.physical_offset >= log_min => Seen::Kept,
            Unit::Entry(_) | Unit::PreBlank => Seen::Gone,
            Unit::Nothing => Seen::Damaged,
        }
    }
}

/// The first of `entries` whose record is kept; their end when none is.
///
/// # Errors
/// Of `look`.
pub(super) async fn first_kept<L, F>(entries: Range<i64>, look: L) -> io::Result<i64>
where
    L: Fn(i64) -> F,
    F: Future<Output = io::Result<Seen>>,
{
    if entries.is_empty() || is_kept(entries.start, entries.end, &look).await? {
        return Ok(entries.start);
    }
    let is_kept = |n| is_kept(n, entries.end, &look);
    let (mut low, mut high) = (entries.start, entries.end);
    loop {
        let first = search(low..high, &is_kept).await?;
        if first > low + 1 && is_kept(first - 2).await? {
            // Either it or the one behind it is damaged: rather a record too many than one too few.
            high = first - 2;
        } else if first + 2 < high && !is_kept(first + 1).await? && !is_kept(first + 2).await? {
            low = first + 1;
        } else {
            return Ok(first);
        }
    }
}

/// The same where each entry is believed that is looked at: a planted bug.
pub(super) async fn first_kept_believed<L, F>(entries: Range<i64>, look: L) -> io::Result<i64>
where
    L: Fn(i64) -> F,
    F: Future<Output = io::Result<Seen>>,
{
    let look = &look;
    let is_kept = |n| async move { Ok::<_, io::Error>(look(n).await? == Seen::Kept) };
    let kept_at_once = !entries.is_empty() && is_kept(entries.start).await?;
    if kept_at_once { Ok(entries.start) } else { search(entries, &is_kept).await }
}

async fn search<K, F>(Range { start: mut low, end: mut high }: Range<i64>, is_kept: &K) -> io::Result<i64>
where
    K: Fn(i64) -> F,
    F: Future<Output = io::Result<bool>>,
{
    while low < high {
        let middle = low + (high - low) / 2;
        if is_kept(middle).await? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

async fn is_kept<L, F>(n: i64, end: i64, look: &L) -> io::Result<bool>
where
    L: Fn(i64) -> F,
    F: Future<Output = io::Result<Seen>>,
{
    for n in n..end {
        match look(n).await? {
            Seen::Kept => return Ok(true),
            Seen::Gone => return Ok(false),
            Seen::Damaged => {}
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn found(entries: &[Seen]) -> i64 {
        let look = |n: i64| ready(Ok(entries[n as usize]));
        let search = pin!(first_kept(0..entries.len() as i64, look));
        match search.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(first) => first.expect("nothing fails"),
            Poll::Pending => panic!("it waits for nothing"),
        }
    }

    #[test]
    fn one_damaged_entry_moves_nothing_past_a_record_that_is_kept() {
        for count in 0..20_i64 {
            for kept in 0..=count {
                let whole: Vec<Seen> =
                    (0..count).map(|n| if n < kept { Seen::Gone } else { Seen::Kept }).collect();
                assert_eq!(found(&whole), kept, "{count} entries");
                for at in 0..count {
                    let with = |seen| {
                        let mut entries = whole.clone();
                        entries[at as usize] = seen;
                        found(&entries)
                    };
                    let unknown = with(Seen::Damaged);
                    let at_the_edge = at + 1 == kept;
                    assert_eq!(unknown, if at_the_edge { at } else { kept }, "{at} of {count} is damaged");
                    let kept_too = with(Seen::Kept);
                    let at_the_end = at == 0 || at + 2 >= kept;
                    assert!(
                        kept_too == kept || kept_too == at && at < kept && at_the_end,
                        "{at} of {count} says kept: {kept_too}, not {kept}"
                    );
                    // The first that is kept is as likely the last that is gone.
                    let gone_too = with(Seen::Gone);
                    assert_eq!(
                        gone_too,
                        if at == kept { kept + 1 } else { kept },
                        "{at} of {count} says gone"
                    );
                }
            }
        }
    }
}

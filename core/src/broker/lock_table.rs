//! Locks of queues for orderly consumers: who may consume a queue, for a minute after the last request.
//!
//! Invariant: at any moment at most one client holds a (group, queue). In memory only: after a restart every client asks
//! again before it consumes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::remoting::body::MessageQueue;
use crate::runtime::Mono;

/// A lock that its holder has not asked for again is free after this.
const LIFE: Duration = Duration::from_secs(60);

struct Holder {
    client_id: String,
    asked: Mono,
}

#[derive(Default)]
pub(crate) struct LockTable {
    groups: Mutex<BTreeMap<String, BTreeMap<MessageQueue, Holder>>>,
}

impl LockTable {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<MessageQueue, Holder>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks what is free, or held by `client_id` itself; answers what that client now holds of `queues`.
    pub fn lock(
        &self,
        group: &str,
        client_id: &str,
        queues: BTreeSet<MessageQueue>,
        now: Mono,
    ) -> BTreeSet<MessageQueue> {
        let mut groups = self.groups();
        let table = groups.entry(group.to_owned()).or_default();
        queues
            .into_iter()
            .filter(|queue| {
                let free = match table.get(queue) {
                    None => true,
                    Some(holder) => holder.client_id == client_id || now.since(holder.asked) > LIFE,
                };
                if free {
                    let holder = Holder { client_id: client_id.to_owned(), asked: now };
                    table.insert(queue.clone(), holder);
                }
                free
            })
            .collect()
    }

    /// Frees what `client_id` holds of `queues`.
    pub fn unlock(&self, group: &str, client_id: &str, queues: &BTreeSet<MessageQueue>) {
        let mut groups = self.groups();
        let Some(table) = groups.get_mut(group) else { return };
        for queue in queues {
            if table.get(queue).is_some_and(|holder| holder.client_id == client_id) {
                table.remove(queue);
            }
        }
        if table.is_empty() {
            groups.remove(group);
        }
    }

    /// Forgets locks that nobody asks for any more, so that the table stays as large as what is in use.
    pub fn expire(&self, now: Mono) {
        let mut groups = self.groups();
        groups.retain(|_, table| {
            table.retain(|_, holder| now.since(holder.asked) <= LIFE);
            !table.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue_id: i32) -> MessageQueue {
        MessageQueue { topic: "T".to_owned(), broker_name: "b".to_owned(), queue_id }
    }

    fn set(queues: &[MessageQueue]) -> BTreeSet<MessageQueue> {
        queues.iter().cloned().collect()
    }

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn one_client_holds_a_queue_until_it_is_silent_for_a_minute() {
        let table = LockTable::default();
        assert_eq!(table.lock("g", "a", set(&[queue(0), queue(1)]), at(0)), set(&[queue(0), queue(1)]));
        assert_eq!(table.lock("g", "b", set(&[queue(0), queue(2)]), at(1)), set(&[queue(2)]));
        assert_eq!(table.lock("other", "b", set(&[queue(0)]), at(1)), set(&[queue(0)]));
        assert_eq!(table.lock("g", "a", set(&[queue(0)]), at(30)), set(&[queue(0)]));
        assert_eq!(table.lock("g", "b", set(&[queue(0)]), at(90)), set(&[]));
        assert_eq!(table.lock("g", "b", set(&[queue(0)]), at(91)), set(&[queue(0)]));
        assert_eq!(table.lock("g", "a", set(&[queue(0)]), at(91)), set(&[]));
    }

    #[test]
    fn only_the_holder_unlocks() {
        let table = LockTable::default();
        table.lock("g", "a", set(&[queue(0)]), at(0));
        table.unlock("g", "b", &set(&[queue(0)]));
        assert_eq!(table.lock("g", "b", set(&[queue(0)]), at(1)), set(&[]));
        table.unlock("g", "a", &set(&[queue(0)]));
        assert_eq!(table.lock("g", "b", set(&[queue(0)]), at(1)), set(&[queue(0)]));
    }

    #[test]
    fn expired_locks_leave_nothing_behind() {
        let table = LockTable::default();
        table.lock("g", "a", set(&[queue(0)]), at(0));
        table.expire(at(60));
        assert!(!table.groups().is_empty());
        table.expire(at(61));
        assert!(table.groups().is_empty());
    }
}

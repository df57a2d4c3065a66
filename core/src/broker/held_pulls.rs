//! The table of held pulls: who waits for which queue, from which offset, until when.
//!
//! An arrival costs a look at its own queue; a closed connection costs what that connection held. The table is bounded.
//!
//! Invariant: an entry is in `held`, `by_queue` and `by_connection`, or in none of them.

use std::collections::{BTreeMap, BTreeSet};

use super::filter::Filter;
use crate::filter::Expression;
use crate::runtime::Mono;

/// One pull that waits; `payload` is what answers it.
pub(crate) struct Held<P> {
    pub topic: String,
    pub queue: i32,
    /// It wants the message at this queue offset, or a later one.
    pub offset: i64,
    pub filter: Filter,
    pub deadline: Mono,
    /// The connection that asked.
    pub connection: u64,
    pub payload: P,
}

pub(crate) struct HeldPulls<P> {
    held: BTreeMap<u64, Held<P>>,
    by_queue: BTreeMap<String, BTreeMap<i32, BTreeSet<u64>>>,
    by_connection: BTreeMap<u64, BTreeSet<u64>>,
    next_id: u64,
    max: usize,
}

impl<P> HeldPulls<P> {
    pub fn new(max: usize) -> HeldPulls<P> {
        HeldPulls {
            held: BTreeMap::new(),
            by_queue: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            next_id: 0,
            max,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Holds it; the number by which it can be taken back. Gives it back when the table is full.
    ///
    /// # Errors
    /// The pull itself.
    pub fn hold(&mut self, pull: Held<P>) -> Result<u64, Box<Held<P>>> {
        if self.held.len() >= self.max {
            return Err(Box::new(pull));
        }
        self.next_id += 1;
        let id = self.next_id;
        let queues = match self.by_queue.get_mut(&pull.topic) {
            Some(queues) => queues,
            None => self.by_queue.entry(pull.topic.clone()).or_default(),
        };
        queues.entry(pull.queue).or_default().insert(id);
        self.by_connection.entry(pull.connection).or_default().insert(id);
        self.held.insert(id, pull);
        Ok(id)
    }

    /// Takes one out, if it is still there.
    pub fn take(&mut self, id: u64) -> Option<Held<P>> {
        let pull = self.held.remove(&id)?;
        if let Some(queues) = self.by_queue.get_mut(&pull.topic) {
            if let Some(ids) = queues.get_mut(&pull.queue) {
                ids.remove(&id);
                if ids.is_empty() {
                    queues.remove(&pull.queue);
                }
            }
            if queues.is_empty() {
                self.by_queue.remove(&pull.topic);
            }
        }
        if let Some(ids) = self.by_connection.get_mut(&pull.connection) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_connection.remove(&pull.connection);
            }
        }
        Some(pull)
    }

    /// An entry with this tag hash can now be read, `next_offset` is one past it: takes out the pulls that want it. `wanted`
    /// says so where the record must be asked.
    pub fn arrived(
        &mut self,
        topic: &str,
        queue: i32,
        next_offset: i64,
        tags_code: i64,
        wanted: impl Fn(&Expression) -> bool,
    ) -> Vec<Held<P>> {
        let Some(ids) = self.by_queue.get(topic).and_then(|queues| queues.get(&queue)) else {
            return Vec::new();
        };
        let woken: Vec<u64> = ids
            .iter()
            .filter(|id| {
                self.held.get(id).is_some_and(|pull| {
                    pull.offset < next_offset
                        && pull.filter.matches_entry(tags_code)
                        && pull.filter.by_record().is_none_or(&wanted)
                })
            })
            .copied()
            .collect();
        woken.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Takes out the pulls whose time is up, and those whose queue has grown past their offset.
    pub fn due(&mut self, now: Mono, max_offset: impl Fn(&str, i32) -> i64) -> Vec<Held<P>> {
        let mut due = Vec::new();
        for (topic, queues) in &self.by_queue {
            for (queue, ids) in queues {
                let max = max_offset(topic, *queue);
                for id in ids {
                    if self.held.get(id).is_some_and(|pull| pull.offset < max || pull.deadline <= now) {
                        due.push(*id);
                    }
                }
            }
        }
        due.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Forgets what a connection held.
    pub fn remove_connection(&mut self, connection: u64) {
        let ids = self.by_connection.get(&connection).cloned().unwrap_or_default();
        for id in ids {
            self.take(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::TagFilter;
    use super::*;

    const ALL: Filter = Filter::Tag(TagFilter::All);

    fn pull(name: &'static str, queue: i32, offset: i64, filter: Filter) -> Held<&'static str> {
        let connection = name.len() as u64;
        Held { topic: "T".to_owned(), queue, offset, filter, deadline: Mono(100), connection, payload: name }
    }

    fn names(pulls: Vec<Held<&'static str>>) -> Vec<&'static str> {
        pulls.into_iter().map(|pull| pull.payload).collect()
    }

    #[test]
    fn an_arrival_wakes_only_those_of_its_queue_that_want_it() {
        let mut table = HeldPulls::new(10);
        let tagged = Filter::Tag(TagFilter::from_codes(vec![7]));
        for pull in [
            pull("all", 0, 5, ALL),
            pull("tagged", 0, 5, tagged),
            pull("other queue", 1, 5, ALL),
            pull("later", 0, 6, ALL),
        ] {
            table.hold(pull).ok().expect("room");
        }
        assert_eq!(names(table.arrived("U", 0, 6, 7, |_| true)), Vec::<&str>::new());
        assert_eq!(names(table.arrived("T", 0, 6, 1, |_| true)), ["all"]);
        assert_eq!(names(table.arrived("T", 0, 7, 7, |_| true)), ["tagged", "later"]);
        assert_eq!(table.held.len(), 1);
    }

    #[test]
    fn a_record_is_asked_about_only_where_the_entry_does_not_say() {
        let mut table = HeldPulls::new(10);
        let expression = std::sync::Arc::new(Expression::parse("a > 1").expect("an expression"));
        table.hold(pull("sql", 0, 5, Filter::Sql(expression))).ok().expect("room");
        table.hold(pull("sql, later", 0, 6, ALL)).ok().expect("room");
        assert_eq!(names(table.arrived("T", 0, 6, 1, |_| false)), Vec::<&str>::new());
        assert_eq!(names(table.arrived("T", 0, 6, 1, |_| true)), ["sql"]);
        assert_eq!(names(table.arrived("T", 0, 7, 1, |_| panic!("no pull asks for it"))), ["sql, later"]);
    }

    #[test]
    fn a_pull_is_due_at_its_deadline_or_when_its_queue_has_grown() {
        let mut table = HeldPulls::new(10);
        table.hold(pull("grown", 0, 5, Filter::Tag(TagFilter::from_codes(vec![7])))).ok().expect("room");
        table.hold(pull("waits", 1, 5, ALL)).ok().expect("room");
        let max = |_: &str, queue: i32| if queue == 0 { 6 } else { 5 };
        assert_eq!(names(table.due(Mono(99), max)), ["grown"]);
        assert_eq!(names(table.due(Mono(99), max)), Vec::<&str>::new());
        assert_eq!(names(table.due(Mono(100), max)), ["waits"]);
        assert!(table.by_queue.is_empty() && table.by_connection.is_empty());
    }

    #[test]
    fn a_full_table_takes_no_more_and_a_closed_connection_makes_room() {
        let mut table = HeldPulls::new(2);
        let id = table.hold(pull("aa", 0, 0, ALL)).ok().expect("room");
        table.hold(pull("bb", 0, 0, ALL)).ok().expect("room");
        let refused = table.hold(pull("c", 0, 0, ALL)).map_err(|pull| pull.payload);
        assert_eq!(refused, Err("c"));
        table.remove_connection(2);
        assert_eq!(table.held.len(), 0);
        assert!(table.take(id).is_none());
        assert!(table.by_queue.is_empty() && table.by_connection.is_empty());
    }
}

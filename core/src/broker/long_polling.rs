//! Holding pulls that have nothing to read, and waking them.
//!
//! What wakes a held pull: an entry of its queue that its filter wants (at once); at each look of the table, any growth of
//! its queue or the end of its time, and all of them on a slave whose master has another history, where nothing arrives any
//! more. A woken pull is checked and read as if it had just come, and answered whatever that gives, on a task of its own, so
//! that dispatch does not wait for it.
//!
//! Invariant: a pull is put into the table before the queue's end is looked at for the last time, so an entry that
//! arrives in between is seen by one of the two.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::PullSettings;
use crate::filter::Expression;
use crate::remoting::connection::{ConnectionHandle, RequestKey};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mono, Mutant, Runtime};
use crate::store::{ArrivalListener, MessageStore};

use super::filter::is_wanted;
use super::held_pulls::{Held, HeldPulls};
use super::pull_message::{Asked, PullMessage};

/// Between two looks of the table, where a pull may be held for as long as its client says.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Where the answer to a held pull goes, and what was asked: what it may read is decided when it is answered.
pub(crate) struct HeldAnswer {
    pub connection: ConnectionHandle,
    pub key: RequestKey,
    pub asked: Asked,
}

struct Tables {
    held: HeldPulls<HeldAnswer>,
    woken: Vec<Held<HeldAnswer>>,
}

pub(crate) struct LongPolling<R> {
    rt: R,
    tables: Mutex<Tables>,
    wake: Notify,
    check_interval: Duration,
}

impl<R: Runtime> LongPolling<R> {
    /// # Source
    /// apache/rocketmq 4.9.7, `PullRequestHoldService#run`: with short polling the table is looked at as often as a pull is held.
    pub fn new(rt: R, settings: &PullSettings) -> Self {
        let tables = Tables { held: HeldPulls::new(settings.held_max), woken: Vec::new() };
        let check_interval = match settings.long_polling {
            true => CHECK_INTERVAL,
            false => Duration::from_millis(settings.short_polling_ms.max(1)),
        };
        LongPolling { rt, tables: Mutex::new(tables), wake: Notify::new(), check_interval }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a pull; false when too many are held.
    pub fn hold(&self, pull: Held<HeldAnswer>, store: &MessageStore<R>) -> bool {
        let (topic, queue, offset) = (pull.topic.clone(), pull.queue, pull.offset);
        let Ok(id) = self.tables().held.hold(pull) else {
            return false;
        };
        if store.max_offset(&topic, queue) > offset {
            let mut tables = self.tables();
            if let Some(pull) = tables.held.take(id) {
                tables.woken.push(pull);
                self.wake.notify_one();
            }
        }
        true
    }

    pub fn remove_connection(&self, connection: u64) {
        self.tables().held.remove_connection(connection);
    }

    /// Answers pulls as they wake, until `stop` is true.
    pub async fn run(self: Arc<Self>, pulls: Arc<PullMessage<R>>, mut stop: Receiver<bool>) {
        let mut next_check = self.rt.now().after(self.check_interval);
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.wake.notified() => {}
                () = self.rt.sleep_until(next_check) => {}
            }
            // Whatever woke it: where pulls wake without end, those of quiet queues still have their time limit.
            let now = self.rt.now();
            if now >= next_check {
                next_check = now.after(self.check_interval);
                let mut tables = self.tables();
                let max_offset = |topic: &str, queue| pulls.store.max_offset(topic, queue);
                let upto = if pulls.has_diverged() { Mono(u64::MAX) } else { now };
                let upto = if self.rt.mutant(Mutant::HeldForEver) { Mono(0) } else { upto };
                let due = tables.held.due(upto, max_offset);
                tables.woken.extend(due);
            }
            let woken = std::mem::take(&mut self.tables().woken);
            for Held { payload: HeldAnswer { connection, key, asked }, .. } in woken {
                if connection.is_closed() {
                    continue;
                }
                let answer = pulls.answer_woken(&asked).await;
                // A client that is gone asks again elsewhere.
                let _ = connection.respond(&key, answer);
            }
        }
    }
}

impl<R: Runtime> ArrivalListener for LongPolling<R> {
    fn is_waiting(&self) -> bool {
        !self.tables().held.is_empty()
    }

    fn on_arrival(
        &self,
        topic: &str,
        queue: i32,
        next_offset: i64,
        tags_code: i64,
        properties: &dyn Fn() -> Option<String>,
    ) {
        let read = OnceCell::new();
        // A record that cannot be read is left to the pull.
        let wanted = |expression: &Expression| {
            let raw = read.get_or_init(properties).as_deref();
            raw.is_none_or(|raw| is_wanted(&self.rt, expression, raw))
        };
        let mut tables = self.tables();
        let woken = tables.held.arrived(topic, queue, next_offset, tags_code, wanted);
        if woken.is_empty() || self.rt.mutant(Mutant::ArrivalWakesNobody) {
            tables.woken.extend(woken);
            return;
        }
        tables.woken.extend(woken);
        drop(tables);
        self.wake.notify_one();
    }
}

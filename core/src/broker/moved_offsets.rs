//! Consumers that were sent to another offset than they asked for: a message about each in a topic of its own.
//!
//! A pull only notes it. A task writes, some a second; what comes faster than that is left out, as a consumer that asks again
//! and again would else fill the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::message::MessageToStore;
use crate::message::properties::{self, Properties};
use crate::remoting::body::OffsetMovedEvent;
use crate::runtime::Runtime;
use crate::runtime::sync::Receiver;

use super::names;
use super::send_message::SendMessage;

/// Notes that wait to be written.
const NOTES_MAX: usize = 64;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct MovedOffsets {
    notes: Mutex<VecDeque<OffsetMovedEvent>>,
    noted: Notify,
}

impl MovedOffsets {
    fn notes(&self) -> MutexGuard<'_, VecDeque<OffsetMovedEvent>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, event: OffsetMovedEvent) {
        let mut notes = self.notes();
        if notes.len() < NOTES_MAX {
            notes.push_back(event);
            self.noted.notify_one();
        }
    }

    /// Writes what is noted, until `stop` is true.
    pub async fn run<R: Runtime>(
        self: Arc<Self>,
        rt: R,
        sends: Arc<SendMessage<R>>,
        mut stop: Receiver<bool>,
    ) {
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.noted.notified() => {}
            }
            loop {
                let Some(event) = self.notes().pop_front() else { break };
                write(&rt, &sends, &event).await;
                crate::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = rt.sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// # Source
/// apache/rocketmq 4.9.7, `PullMessageProcessor#generateOffsetMovedEvent`.
async fn write<R: Runtime>(rt: &R, sends: &SendMessage<R>, event: &OffsetMovedEvent) {
    let Ok(host) = sends.store_host() else { return };
    let mut of_group = Properties::default();
    of_group.set(properties::TAGS, &event.consumer_group);
    of_group.set(properties::KEYS, &event.consumer_group);
    let message = MessageToStore {
        topic: names::OFFSET_MOVED_TOPIC,
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: rt.wall_ms(),
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &event.to_json(),
        properties: &of_group.encode(false),
        wait_for_flush: true,
    };
    if let Err(error) = sends.put(&message, false).await {
        tracing::warn!(?event, %error, "note that an offset has moved");
    }
}

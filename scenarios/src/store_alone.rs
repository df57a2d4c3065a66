//! A broker's store without network, clients and name servers: puts and reads from tasks beside it.
//!
//! Most promises are the store's. Alone it runs many more crashes a minute than in a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hotfire_core::message::batch::BatchItem;
use hotfire_core::message::{MessageToStore, StoredMessage};
use hotfire_core::runtime::{Runtime as _, Task as _};
use hotfire_core::store::index::Geometry;
use hotfire_core::store::{DeleteHours, FlushMode, MessageStore, Retention, StoreConfig, TransientPool};
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, address, try_again};
use crate::consume::{group, tell};
use crate::draw::Draw;
use crate::history::{Outcome, Place, Status};
use crate::look_ups;
use crate::oracle::ends;
use crate::plan::Deletion;
use crate::produce::{Series, take};
use crate::witness::STORE;
use crate::workload::{self, Draft, FILLER, Operation, flag_of};

type Store = Arc<MessageStore<SimRuntime>>;

/// Between two looks of the reader.
const READ_AGAIN: Duration = Duration::from_millis(15);
/// Between two looks whether an operator has asked.
const DELETE_AGAIN: Duration = Duration::from_millis(100);
/// Lives of the process in which somebody else tries to open its store, and how long that is after its start.
const SECOND_OPEN_PERCENT: u64 = 30;
const SECOND_OPEN_MS: u64 = 1_500;
/// A refused put is not tried again at once.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

pub async fn run(rt: SimRuntime, cluster: Cluster, name: String) {
    cluster.witness.abandoned(|_| true);
    cluster.witness.before_start(&name);
    let store = match MessageStore::open(rt.clone(), store_config(&cluster, &name)).await {
        Ok(store) => store,
        Err(error) => {
            tracing::debug!(%error, name, "the store does not open");
            return try_again(&rt).await;
        }
    };
    store.start();
    cluster.witness.ready(&name);
    for producer in 0..cluster.plan.settings.producers {
        for series in [Series::Usual, Series::Slow, Series::Proof] {
            for _ in 0..if series == Series::Usual { cluster.plan.workload.in_flight } else { 1 } {
                let put =
                    put_series(rt.clone(), cluster.clone(), store.clone(), name.clone(), producer, series);
                rt.spawn("puts", put);
            }
        }
    }
    rt.spawn("reads", read(rt.clone(), cluster.clone(), store.clone(), name.clone()));
    if cluster.plan.settings.deletion.is_some() {
        rt.spawn("slow reads", hold(rt.clone(), cluster.clone(), store.clone()));
        rt.spawn("deletions", delete(rt.clone(), cluster.clone(), store.clone()));
    }
    rt.spawn("look-ups", look_ups::ask_store(rt.clone(), cluster.clone(), store.clone()));
    let second = rt.spawn("second open", open_again(rt.clone(), cluster.clone(), name));
    rt.stop_requested().await;
    second.abort();
    let _ = second.join().await;
    // An error leaves the abort marker where it is; the raw disk is judged, not this answer.
    drop(store.stop().await);
}

/// Tries to open the store once more, as an operator who has forgotten that it is open; in some lives, at some moment.
async fn open_again(rt: SimRuntime, cluster: Cluster, name: String) {
    let boots = cluster.world.boots(cluster.node(&name));
    let key = Draw::new(cluster.plan.seed).key("second open", boots);
    if !key.branch("some").percent(SECOND_OPEN_PERCENT) {
        return;
    }
    rt.sleep(Duration::from_millis(key.branch("after").exponential(SECOND_OPEN_MS))).await;
    let opened = MessageStore::open(rt, store_config(&cluster, &name)).await;
    cluster.witness.note(ends::second_open(&name, &opened));
}

fn store_config(cluster: &Cluster, name: &str) -> StoreConfig {
    let settings = &cluster.plan.settings;
    let mut config = StoreConfig::new(STORE);
    config.record_crc = cluster.record_crc(name, false);
    config.commit_log_file_bytes = settings.commit_log_file_bytes;
    if settings.log_folders > 1 {
        config.commit_log_dirs = settings.log_folders().map(|folder| format!("{STORE}/{folder}")).collect();
    }
    config.consume_queue_file_bytes = settings.queue_file_bytes;
    config.open_queue_files_max = settings.open_queue_files.unwrap_or(config.open_queue_files_max);
    let (slots, entries) = settings.index_file;
    config.index_geometry = Geometry { slots, entries };
    config.flush = if settings.sync_flush { FlushMode::Sync } else { FlushMode::Async };
    config.sync_flush_timeout_ms = settings.sync_flush_timeout_ms;
    config.transient_pool = settings.pool.as_ref().map(|pool| TransientPool {
        buffers: pool.buffers,
        fast_fail: pool.fast_fail,
        commit_interval_ms: pool.interval_ms,
        commit_least_pages: pool.least_pages,
        commit_thorough_interval_ms: pool.thorough_interval_ms,
    });
    config.flush_interval_ms = settings.flush_interval_ms;
    config.flush_thorough_interval_ms = settings.flush_thorough_interval_ms;
    config.queue_flush_interval_ms = settings.queue_flush_interval_ms;
    config.queue_flush_thorough_interval_ms = settings.queue_flush_thorough_interval_ms;
    if let Some(deletion) = &settings.deletion {
        config.retention = retention(deletion);
    }
    config
}

fn retention(deletion: &Deletion) -> Retention {
    Retention {
        reserved_ms: deletion.reserved_ms,
        delete_hours: DeleteHours::parse(&deletion.delete_when).expect("the plan holds hours"),
        interval_ms: deletion.interval_ms,
        first_ms: deletion.first_ms,
        log_file_pause_ms: deletion.log_file_pause_ms,
        queue_file_pause_ms: deletion.queue_file_pause_ms,
        held_max_ms: deletion.held_max_ms,
        held_retry_ms: deletion.held_retry_ms,
        forcibly: deletion.forcibly,
        ..Retention::default()
    }
}

async fn put_series(
    rt: SimRuntime,
    cluster: Cluster,
    store: Store,
    name: String,
    producer: u32,
    series: Series,
) {
    let plan = cluster.plan.clone();
    let (end, draw): (u32, Box<dyn Fn(u32) -> Operation + Send + Sync>) = match series {
        Series::Usual => (
            workload::messages_of(&plan, producer),
            Box::new(move |next| workload::operation(&plan, producer, next)),
        ),
        Series::Slow if producer == 0 && plan.workload.slow_topic => (
            (plan.workload.load_ms / 1_000) as u32,
            Box::new(move |next| workload::slow_operation(&plan, next)),
        ),
        Series::Slow => return,
        Series::Proof => {
            while cluster.progress(|progress| progress.proofs) == 0 {
                rt.sleep(Duration::from_millis(100)).await;
            }
            (
                plan.workload.proof_messages,
                Box::new(move |next| workload::proof_operation(&plan, producer, next)),
            )
        }
    };
    while let Some(operation) = take(&rt, &cluster, producer, series, end, &draw).await {
        put(&rt, &cluster, &store, &name, operation).await;
    }
}

fn properties(draft: &Draft) -> String {
    let (key, tag, id) = (&draft.key, &draft.tag, draft.id.0);
    let mut text = format!("KEYS\u{1}{key}\u{2}TAGS\u{1}{tag}\u{2}UNIQ_KEY\u{1}U{id}");
    if !draft.filler.is_empty() {
        text += &format!("\u{2}{FILLER}\u{1}{}", draft.filler);
    }
    if !draft.wait {
        text += "\u{2}WAIT\u{1}false";
    }
    text
}

async fn put(rt: &SimRuntime, cluster: &Cluster, store: &Store, name: &str, operation: Operation) {
    let drafts = &operation.drafts;
    let Some(first) = drafts.first() else { return };
    for draft in drafts {
        cluster.witness.started(draft, operation.kind);
    }
    let queue = (first.id.0 % u64::from(cluster.plan.settings.queues_per_topic)) as i32;
    let texts: Vec<String> = drafts.iter().map(properties).collect();
    let store_host = SocketAddr::from((address(name), 10_911));
    let born_host = SocketAddr::from((address("producer-0"), 40_000));
    let message = MessageToStore {
        topic: &first.topic,
        queue_id: queue,
        flag: flag_of(first.id),
        sys_flag: 0,
        born_timestamp: rt.wall_ms(),
        born_host,
        store_host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &first.body,
        properties: &texts[0],
        wait_for_flush: first.wait,
    };
    let appended = if drafts.len() == 1 {
        store.put(&message).await.map(|one| (vec![one.physical_offset], one.end, one.queue_offset))
    } else {
        let item =
            |(draft, text): (&'_ Draft, &'_ String)| (flag_of(draft.id), draft.body.clone(), text.clone());
        let owned: Vec<_> = drafts.iter().zip(&texts).map(item).collect();
        let items: Vec<BatchItem<'_>> = owned
            .iter()
            .map(|(flag, body, properties)| BatchItem { flag: *flag, body, properties })
            .collect();
        let batch = store.put_batch(&message, &items).await;
        batch.map(|batch| (batch.physical_offsets, batch.end, batch.queue_offset))
    };
    let Ok((physical_offsets, end, queue_offset)) = appended else {
        drafts.iter().for_each(|draft| cluster.witness.ended(draft, Outcome::Refused { code: 14 }));
        return rt.sleep(REFUSED_PAUSE).await;
    };
    let mut status = Status::Ok;
    if store.must_wait() {
        let mark = if first.wait { store.durable() } else { store.committed() };
        let waited =
            rt.timeout(Duration::from_millis(store.config().sync_flush_timeout_ms), mark.reached(end)).await;
        if !matches!(waited, Ok(Ok(()))) && !store.keep(end) {
            drafts.iter().for_each(|draft| cluster.witness.ended(draft, Outcome::Refused { code: 14 }));
            return rt.sleep(REFUSED_PAUSE).await;
        }
        match waited {
            Ok(Ok(())) => {}
            _ if !first.wait => {}
            Ok(Err(_)) => {
                return drafts.iter().for_each(|draft| cluster.witness.ended(draft, Outcome::Unknown));
            }
            Err(_) => status = Status::StoredOnly,
        }
    }
    for (nth, (draft, physical_offset)) in drafts.iter().zip(physical_offsets).enumerate() {
        let place = Place {
            broker: name.to_owned(),
            topic: first.topic.clone(),
            queue,
            queue_offset: queue_offset + nth as i64,
            physical_offset: Some(physical_offset),
        };
        cluster.witness.ended(draft, Outcome::Acked { place, status });
    }
}

/// Reads each queue from where the last life of the reader came to.
async fn read(rt: SimRuntime, cluster: Cluster, store: Store, name: String) {
    let topics = cluster.topics();
    // An asynchronous flush may have lost what was read: new messages then stand at those offsets.
    cluster.progress(|progress| {
        for ((topic, queue), position) in &mut progress.read {
            *position = (*position).min(store.max_offset(topic, *queue));
        }
    });
    loop {
        if cluster.progress(|progress| progress.still_readers > 0) {
            rt.sleep(READ_AGAIN).await;
            continue;
        }
        for (topic, queue) in store.queues().into_iter().filter(|(topic, _)| topics.contains(topic)) {
            let key = (topic.clone(), queue);
            let from = cluster.progress(|progress| progress.read.get(&key).copied().unwrap_or(0));
            let found = store.get(&topic, queue, from, 32, &|_| true).await;
            cluster.witness.told_min(&name, &topic, queue, (found.min, found.max));
            for message in found.messages.iter().flat_map(records) {
                tell(&cluster, &group(0), &name, &message);
            }
            cluster.progress(|progress| progress.read.insert(key, found.next_begin));
        }
        rt.sleep(READ_AGAIN).await;
    }
}

/// While the plan wants it, holds bytes of the oldest file.
async fn hold(rt: SimRuntime, cluster: Cluster, store: Store) {
    let mut held = None;
    loop {
        let wanted = cluster.progress(|progress| progress.slow_readers > 0);
        if !wanted && held.is_some() {
            // The blocks of a file that has no name any more become free.
            cluster.witness.before_change();
            held = None;
        } else if wanted && held.is_none() {
            held = store.message_at(store.commit_log_min());
        }
        rt.sleep(READ_AGAIN).await;
    }
}

/// An operator's requests to delete what is old.
async fn delete(rt: SimRuntime, cluster: Cluster, store: Store) {
    let mut done = 0;
    loop {
        let asked = cluster.progress(|progress| progress.deletions_asked);
        if asked > done {
            done = asked;
            store.delete_expired();
        }
        rt.sleep(DELETE_AGAIN).await;
    }
}

/// The records of a run.
fn records(run: &bytes::Bytes) -> Vec<StoredMessage> {
    let mut rest = run.clone();
    let mut found = Vec::new();
    while let Ok(message) = StoredMessage::decode(&rest) {
        let size = message.store_size as usize;
        found.push(message);
        rest = rest.slice(size.min(rest.len())..);
    }
    found
}

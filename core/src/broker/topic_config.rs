//! Topics: their queues and permissions, which exist from the start, and how a send or a heartbeat creates one.
//!
//! Kept in `config/topics.json`, Java's file. Readers see a topic once that file holds it (see `durable_table`); who has created
//! one goes on when the name servers have it too, or have had time to take it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::durable_table::{DurableTable, Entries, Stored, TableError};
use super::names;
use crate::config::{BrokerIdentity, Role, TopicSettings};
use crate::remoting::body::{BodyError, DataVersion, TopicConfig, TopicConfigSerializeWrapper};
use crate::runtime::Runtime;
use crate::runtime::sync::Watermark;

/// How long a new topic waits for the name servers.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(1);

/// Bits of a topic's permission.
pub(crate) mod perm {
    /// New topics may take their settings from it.
    pub const INHERIT: i32 = 0x1;
    pub const WRITE: i32 = 0x2;
    pub const READ: i32 = 0x4;
}

pub(crate) const READ_WRITE: i32 = perm::READ | perm::WRITE;
/// Set in a topic's flags when it was created by a client of a unit.
const UNIT: i32 = 0x1;
/// Its consumers are those of a unit.
const UNIT_SUBSCRIBED: i32 = 0x2;

impl Stored for TopicConfig {
    fn read_file(bytes: &[u8]) -> Result<(Entries<Self>, DataVersion), BodyError> {
        let file = TopicConfigSerializeWrapper::parse(bytes)?;
        let entries = file.topic_config_table.into_iter().map(|(name, topic)| (name, Arc::new(topic)));
        Ok((entries.collect(), file.data_version))
    }

    fn write_file(entries: &Entries<Self>, version: &DataVersion) -> Vec<u8> {
        wrapper(entries, version).to_java_json()
    }
}

fn wrapper(entries: &Entries<TopicConfig>, version: &DataVersion) -> TopicConfigSerializeWrapper {
    TopicConfigSerializeWrapper {
        topic_config_table: entries.iter().map(|(name, topic)| (name.clone(), (**topic).clone())).collect(),
        data_version: version.clone(),
    }
}

/// A topic with single tags.
pub(crate) fn topic(name: &str, queues: i32, perm: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        ..Default::default()
    }
}

/// Topics that every broker has.
///
/// The retry topic of `group`, which says whether its consumers are those of a unit.
pub(crate) fn retry_topic(group: &str, queues: i32, unit: bool) -> TopicConfig {
    let topic_sys_flag = if unit { UNIT_SUBSCRIBED } else { 0 };
    TopicConfig { topic_sys_flag, ..topic(&names::retry_topic(group), queues, READ_WRITE) }
}

/// # Source
/// apache/rocketmq, `TopicConfigManager` constructor.
pub(crate) fn boot_topics(identity: &BrokerIdentity, settings: &TopicSettings) -> Vec<TopicConfig> {
    let whole = |enabled: bool| if enabled { READ_WRITE | perm::INHERIT } else { perm::INHERIT };
    let (cluster, name) = (identity.cluster.as_str(), identity.name.as_str());
    let mut topics = vec![
        topic(names::SELF_TEST_TOPIC, 1, READ_WRITE),
        topic(names::BENCHMARK_TOPIC, 1024, READ_WRITE),
        topic(cluster, 16, whole(settings.cluster_topic)),
        topic(name, 1, whole(settings.broker_topic)),
        topic(names::OFFSET_MOVED_TOPIC, 1, READ_WRITE),
        topic(names::SCHEDULE_TOPIC, 18, READ_WRITE),
        topic(&names::reply_topic(cluster), 1, READ_WRITE),
        topic(&format!("rmq_sys_REVIVE_LOG_{cluster}"), 8, READ_WRITE),
        topic(&format!("rmq_sys_SYNC_BROKER_MEMBER_{name}"), 1, perm::INHERIT),
        topic(names::HALF_TOPIC, 1, READ_WRITE),
        topic(names::OP_HALF_TOPIC, 1, READ_WRITE),
    ];
    if settings.auto_create {
        let queues = settings.default_queue_count;
        topics.push(topic(names::AUTO_CREATE_TOPIC, queues, READ_WRITE | perm::INHERIT));
    }
    if settings.trace_topic {
        topics.push(topic(&settings.trace_topic_name, 1, READ_WRITE));
    }
    topics
}

/// What a send wants of a topic that is not there.
#[derive(Clone, Copy)]
pub(crate) struct NewTopic<'a> {
    pub topic: &'a str,
    /// The topic to take settings from.
    pub default_topic: &'a str,
    pub queue_count: i32,
    pub unit: bool,
}

/// The topic that a send creates, `None` when it may not.
fn created_by_send(
    wanted: NewTopic<'_>,
    auto_create: bool,
    existing: &Entries<TopicConfig>,
) -> Option<TopicConfig> {
    let auto_create_off = wanted.default_topic == names::AUTO_CREATE_TOPIC && !auto_create;
    let default = existing.get(wanted.default_topic).filter(|_| !auto_create_off);
    if let Some(default) = default.filter(|default| default.perm & perm::INHERIT != 0) {
        let queues = wanted.queue_count.min(default.write_queue_nums).max(0);
        return Some(TopicConfig {
            topic_name: wanted.topic.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: default.perm & !perm::INHERIT,
            topic_filter_type: default.topic_filter_type,
            topic_sys_flag: if wanted.unit { UNIT } else { 0 },
            ..Default::default()
        });
    }
    wanted.topic.starts_with(names::RETRY_PREFIX).then(|| topic(wanted.topic, 1, READ_WRITE))
}

/// The topics of those queues that the table of `table_ms` does not have and that a message was sent to since, or in the same millisecond.
fn topics_of(
    queues: &[LastOfQueue],
    table_ms: i64,
    queue_count: i32,
    existing: &Entries<TopicConfig>,
) -> Vec<TopicConfig> {
    let mut found: BTreeMap<&str, (i32, i64)> = BTreeMap::new();
    for LastOfQueue { topic, queue, store_ms } in queues {
        let least = if names::is_of_group(topic) { 1 } else { queue_count };
        let (count, last_ms) = found.entry(topic).or_insert((least, *store_ms));
        (*count, *last_ms) = (queue.saturating_add(1).max(*count), *store_ms.max(last_ms));
    }
    let is_new =
        |(name, (_, last_ms)): &(&str, (i32, i64))| *last_ms >= table_ms && !existing.contains_key(*name);
    found.into_iter().filter(is_new).map(|(name, (count, _))| topic(name, count, READ_WRITE)).collect()
}

/// A queue of the log, and when its last message was stored, in ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastOfQueue {
    pub topic: String,
    pub queue: i32,
    pub store_ms: i64,
}

pub(crate) struct Topics<R> {
    table: DurableTable<R, TopicConfig>,
    auto_create: AtomicBool,
    /// The table is the master's: nothing is created here.
    copied: bool,
    system: BTreeSet<String>,
    /// When the table that was read was changed last, by the clock of the master that changed it, in ms.
    read_ms: i64,
    /// Changed since somebody last told the name servers.
    unregistered: Mutex<Unregistered>,
    /// Topics whose deletion goes on: nobody makes them anew before it has ended.
    going: Mutex<BTreeSet<String>>,
    changed: Notify,
    /// Changes that every name server has been told of, or that it could not be told of.
    announced: Watermark,
    /// A name server was waited for in vain: nobody waits until it has caught up.
    behind: AtomicBool,
    rt: R,
}

#[derive(Default)]
struct Unregistered {
    topics: BTreeSet<String>,
    /// Of all changes so far.
    count: u64,
}

/// Topics that have changed.
pub(crate) struct Changed {
    pub topics: BTreeSet<String>,
    /// The number of changes up to the last of these.
    pub count: u64,
}

/// A topic whose deletion goes on, until this is dropped.
pub(crate) struct Going<'a, R: Runtime> {
    topics: &'a Topics<R>,
    name: &'a str,
}

impl<R: Runtime> Drop for Going<'_, R> {
    fn drop(&mut self) {
        self.topics.going().remove(self.name);
    }
}

impl<R: Runtime> Topics<R> {
    /// Reads the file and adds the topics that every broker has.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn open(
        rt: R,
        path: String,
        identity: &BrokerIdentity,
        settings: &TopicSettings,
    ) -> Result<Self, TableError> {
        let table = DurableTable::open(rt.clone(), path).await?;
        let read_ms = table.version().timestamp;
        let boot = boot_topics(identity, settings);
        let own = boot.iter().map(|topic| topic.topic_name.clone());
        let system = names::SYSTEM_TOPICS.iter().map(|&name| name.to_owned()).chain(own).collect();
        table
            .change(|existing| {
                let absent = boot.into_iter().filter(|topic| !existing.contains_key(&topic.topic_name));
                absent.map(|topic| (topic.topic_name.clone(), Some(topic))).collect()
            })
            .await?;
        let (auto_create, copied) = (AtomicBool::new(settings.auto_create), identity.role == Role::Slave);
        Ok(Topics {
            table,
            auto_create,
            copied,
            system,
            read_ms,
            unregistered: Mutex::default(),
            going: Mutex::default(),
            changed: Notify::new(),
            announced: Watermark::new(0),
            behind: AtomicBool::new(false),
            rt,
        })
    }

    pub fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.table.get(topic)
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.table.contains(topic)
    }

    /// Whether people and clients may not change it.
    pub fn is_system(&self, topic: &str) -> bool {
        self.system.contains(topic) || names::is_system_topic(topic)
    }

    pub fn version(&self) -> DataVersion {
        self.table.version()
    }

    pub fn wrapper(&self) -> TopicConfigSerializeWrapper {
        let (entries, version) = self.table.snapshot();
        wrapper(&entries, &version)
    }

    /// The system topics by name.
    pub fn system_topics(&self) -> Vec<String> {
        self.system.iter().cloned().collect()
    }

    /// The topic that a send names, created if the rules allow it; `None` if not.
    ///
    /// # Errors
    /// [`TableError`]: the file could not be written.
    pub async fn for_send(&self, wanted: NewTopic<'_>) -> Result<Option<Arc<TopicConfig>>, TableError> {
        if let Some(topic) = self.get(wanted.topic) {
            return Ok(Some(topic));
        }
        self.change(|existing| {
            if existing.contains_key(wanted.topic) {
                return Vec::new();
            }
            let created = created_by_send(wanted, self.auto_create.load(Ordering::Relaxed), existing);
            created.map(|topic| (wanted.topic.to_owned(), Some(topic))).into_iter().collect()
        })
        .await?;
        self.announced().await;
        Ok(self.get(wanted.topic))
    }

    /// Puts a topic unless one of the name is there.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn create_if_absent(&self, topic: TopicConfig) -> Result<(), TableError> {
        if self.copied || self.contains(&topic.topic_name) {
            return Ok(());
        }
        self.change(|existing| match existing.contains_key(&topic.topic_name) {
            true => Vec::new(),
            false => vec![(topic.topic_name.clone(), Some(topic))],
        })
        .await?;
        self.announced().await;
        Ok(())
    }

    /// Makes the topics that the log knows and the table does not, of those that have a message no older than the table: each with
    /// `queue_count` queues, or as many as it has there. A slave that has become the master has them, since it copies its
    /// master's table every few seconds, and nobody would find the messages. A topic that was deleted has none: its
    /// deletion is younger.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn make_those_of(&self, queues: &[LastOfQueue], queue_count: i32) -> Result<(), TableError> {
        if self.copied {
            return Ok(());
        }
        self.change(|existing| {
            let made = topics_of(queues, self.read_ms, queue_count, existing);
            made.into_iter().map(|topic| (topic.topic_name.clone(), Some(topic))).collect()
        })
        .await
    }

    /// Puts or replaces a topic.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn put(&self, topic: TopicConfig) -> Result<(), TableError> {
        self.change(|_| vec![(topic.topic_name.clone(), Some(topic))]).await?;
        self.announced().await;
        Ok(())
    }

    /// Puts or replaces several topics.
    ///
    /// # Errors
    /// [`TableError`]: none is.
    pub async fn put_all(&self, topics: Vec<TopicConfig>) -> Result<(), TableError> {
        let topics = topics.into_iter().map(|topic| (topic.topic_name.clone(), Some(topic)));
        self.change(|_| topics.collect()).await?;
        self.announced().await;
        Ok(())
    }

    /// From now on, as long as the answer is kept, nobody makes `topic` anew: what is deleted with it is all of one topic, and
    /// a message sent in between is refused instead of going down with the old ones. `None` while another deletion of it goes on.
    pub fn begin_deletion<'a>(&'a self, topic: &'a str) -> Option<Going<'a, R>> {
        // Made only for whoever has begun: to drop one ends the deletion, and takes the lock.
        let is_first = self.going().insert(topic.to_owned());
        is_first.then(|| Going { topics: self, name: topic })
    }

    fn going(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic that is not there is fine.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn delete(&self, topic: &str) -> Result<(), TableError> {
        self.change(|_| vec![(topic.to_owned(), None)]).await
    }

    pub fn set_auto_create(&self, enabled: bool) {
        self.auto_create.store(enabled, Ordering::Relaxed);
    }

    /// The name servers are told everything again, under a new version: of one that they know they take nothing.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn register_again(&self) -> Result<(), TableError> {
        self.table.touch().await?;
        // As if a topic had gone: nothing smaller than the whole table says that.
        self.note_changed([String::new()]);
        Ok(())
    }

    /// Takes over the master's table, as it is; true when it was another one.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn copy(&self, of_master: TopicConfigSerializeWrapper) -> Result<bool, TableError> {
        let TopicConfigSerializeWrapper { topic_config_table, data_version } = of_master;
        let entries = topic_config_table.into_iter().map(|(name, topic)| (name, Arc::new(topic)));
        self.table.replace(entries.collect(), data_version).await
    }

    /// Takes over what a name server says about ordered topics: never back.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn mark_ordered(&self, ordered: &BTreeMap<String, String>) -> Result<(), TableError> {
        let is_new = |topic: &TopicConfig| !topic.order && ordered.contains_key(&topic.topic_name);
        if self.copied || !self.table.snapshot().0.values().any(|topic| is_new(topic)) {
            return Ok(());
        }
        self.change(|existing| {
            let changed = existing.iter().filter(|(_, topic)| is_new(topic));
            changed
                .map(|(name, topic)| (name.clone(), Some(TopicConfig { order: true, ..(**topic).clone() })))
                .collect()
        })
        .await
    }

    async fn change(
        &self,
        decide: impl FnOnce(&Entries<TopicConfig>) -> Vec<(String, Option<TopicConfig>)>,
    ) -> Result<(), TableError> {
        let mut refused = None;
        let decide = |existing: &Entries<TopicConfig>| {
            let decided = decide(existing);
            let going = self.going();
            let puts = decided.iter().filter(|(_, topic)| topic.is_some());
            refused = puts.map(|(name, _)| name.clone()).find(|name| going.contains(name));
            if refused.is_some() { Vec::new() } else { decided }
        };
        let changed = self.table.change(decide).await?;
        if let Some(name) = refused {
            return Err(TableError::Going { name });
        }
        if !changed.is_empty() {
            self.note_changed(changed);
        }
        Ok(())
    }

    fn note_changed(&self, topics: impl IntoIterator<Item = String>) {
        let mut unregistered = self.unregistered();
        unregistered.topics.extend(topics);
        unregistered.count += 1;
        drop(unregistered);
        self.changed.notify_one();
    }

    /// Waits until the name servers know all topics: who has created one asks for its route next. Not for long, and not
    /// again for one that does not answer.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `TopicConfigManager#createTopicInSendMessageMethod`: a topic is registered before the answer.
    async fn announced(&self) {
        let count = self.unregistered().count;
        if self.announced.get() >= count || self.behind.load(Ordering::Relaxed) {
            return;
        }
        if self.rt.timeout(ANNOUNCE_PATIENCE, self.announced.reached(count)).await.is_err() {
            self.behind.store(true, Ordering::Relaxed);
            tracing::warn!("a name server does not take new topics");
        }
    }

    /// Every name server was told of so many changes, or could not be.
    pub fn set_announced(&self, count: u64) {
        self.announced.advance(count);
        if count >= self.unregistered().count {
            self.behind.store(false, Ordering::Relaxed);
        }
    }

    /// How many changes there have been.
    pub fn change_count(&self) -> u64 {
        self.unregistered().count
    }

    fn unregistered(&self) -> MutexGuard<'_, Unregistered> {
        self.unregistered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for topics that changed since the last call, and takes them. One caller at a time.
    pub async fn changed(&self) -> Changed {
        loop {
            {
                let mut unregistered = self.unregistered();
                if !unregistered.topics.is_empty() {
                    let topics = std::mem::take(&mut unregistered.topics);
                    return Changed { topics, count: unregistered.count };
                }
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing(topics: Vec<TopicConfig>) -> Entries<TopicConfig> {
        topics.into_iter().map(|topic| (topic.topic_name.clone(), Arc::new(topic))).collect()
    }

    #[test]
    fn a_send_creates_a_topic_by_the_settings_of_its_default_topic() {
        let settings = TopicSettings::default();
        let topics = existing(vec![topic("TBW102", 8, 7), topic("plain", 4, 6), topic("wide", 16, 7)]);
        let off = TopicSettings { auto_create: false, ..settings.clone() };
        let cases = [
            ("T", "TBW102", 4, &settings, Some((4, 6))),
            ("T", "TBW102", 100, &settings, Some((8, 6))),
            ("T", "TBW102", -1, &settings, Some((0, 6))),
            ("T", "plain", 4, &settings, None),
            ("T", "missing", 4, &settings, None),
            ("T", "TBW102", 4, &off, None),
            ("T", "wide", 4, &off, Some((4, 6))),
            ("%RETRY%g", "missing", 4, &settings, Some((1, 6))),
            ("%RETRY%g", "TBW102", 4, &off, Some((1, 6))),
        ];
        for (name, default_topic, queue_count, settings, expect) in cases {
            let wanted = NewTopic { topic: name, default_topic, queue_count, unit: false };
            let created = created_by_send(wanted, settings.auto_create, &topics);
            let shape = created.map(|topic| {
                assert_eq!(topic.read_queue_nums, topic.write_queue_nums);
                (topic.write_queue_nums, topic.perm)
            });
            assert_eq!(shape, expect, "{name} from {default_topic} with {queue_count}");
        }
    }

    #[test]
    fn a_new_master_makes_the_topics_that_its_table_is_too_old_to_have() {
        let queue = |topic: &str, queue, store_ms| LastOfQueue { topic: topic.to_owned(), queue, store_ms };
        let queues = [
            queue("known", 0, 200),
            // Of its queues one has nothing new.
            queue("made", 0, 90),
            queue("made", 5, 200),
            queue("small", 0, 100),
            queue("%RETRY%g", 0, 200),
            queue("deleted", 0, 99),
        ];
        let made = topics_of(&queues, 100, 4, &existing(vec![topic("known", 8, 6)]));
        let shape: Vec<(&str, i32, i32)> =
            made.iter().map(|topic| (topic.topic_name.as_str(), topic.read_queue_nums, topic.perm)).collect();
        assert_eq!(shape, [("%RETRY%g", 1, 6), ("made", 6, 6), ("small", 4, 6)]);
    }

    #[test]
    fn the_topics_of_the_start_are_javas() {
        let identity = BrokerIdentity { name: "b".to_owned(), cluster: "c".to_owned(), ..Default::default() };
        let topics = boot_topics(&identity, &TopicSettings::default());
        let shape: BTreeMap<&str, (i32, i32)> = topics
            .iter()
            .map(|topic| (topic.topic_name.as_str(), (topic.write_queue_nums, topic.perm)))
            .collect();
        let expect = BTreeMap::from([
            ("SELF_TEST_TOPIC", (1, 6)),
            ("TBW102", (8, 7)),
            ("BenchmarkTest", (1024, 6)),
            ("c", (16, 7)),
            ("b", (1, 7)),
            ("OFFSET_MOVED_EVENT", (1, 6)),
            ("SCHEDULE_TOPIC_XXXX", (18, 6)),
            ("c_REPLY_TOPIC", (1, 6)),
            ("rmq_sys_REVIVE_LOG_c", (8, 6)),
            ("rmq_sys_SYNC_BROKER_MEMBER_b", (1, 1)),
            ("RMQ_SYS_TRANS_HALF_TOPIC", (1, 6)),
            ("RMQ_SYS_TRANS_OP_HALF_TOPIC", (1, 6)),
        ]);
        assert_eq!(shape, expect);
        let closed = TopicSettings {
            auto_create: false,
            cluster_topic: false,
            broker_topic: false,
            ..Default::default()
        };
        let topics = boot_topics(&identity, &closed);
        assert!(topics.iter().all(|topic| topic.topic_name != "TBW102"));
        assert!(topics.iter().filter(|topic| topic.perm == 1).count() == 3);
    }
}

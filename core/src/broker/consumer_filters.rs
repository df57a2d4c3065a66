//! The SQL filters of consumer groups, by topic: registered by heartbeats, looked up by pulls that do not carry their own.
//! Kept in `config/consumerFilter.json`, Java's file, so that a Java broker on this directory finds them.
//!
//! A group that is gone keeps its filters for a day, dead; a heartbeat brings them back to life.
//!
//! Invariant: an expression in the table is compiled; one that cannot be is not registered, and pulls are answered that
//! there is none.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::FilterSettings;
use crate::filter::{BloomFilter, Expression, SQL92};
use crate::remoting::body::{
    BloomFilterData, ConsumerFilterData, ConsumerFilterWrapper, FilterDataByTopic, SubscriptionData,
};
use crate::runtime::Runtime;
use crate::runtime::sync::Receiver;
use crate::store::config_file::ConfigFile;

/// Between two looks whether the file is to be written; Java's.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// Groups found in the file count as gone since so long before the start.
const GONE_BEFORE_START_MS: i64 = 30_000;

/// A filter as a pull finds it.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub version: i64,
    pub expression: Arc<Expression>,
}

struct Entry {
    data: ConsumerFilterData,
    expression: Arc<Expression>,
}

#[derive(Default)]
struct Table {
    /// Topic, then group.
    topics: BTreeMap<String, BTreeMap<String, Entry>>,
    changes: u64,
}

pub(crate) struct ConsumerFilters<R> {
    rt: R,
    path: String,
    bloom: BloomFilter,
    dead_kept_ms: u64,
    table: Mutex<Table>,
    /// The count of changes that the file holds.
    written: AtomicU64,
    writing: tokio::sync::Mutex<()>,
}

impl<R: Runtime> ConsumerFilters<R> {
    /// Reads the file; an absent one is an empty table.
    ///
    /// # Errors
    /// Of reading; `InvalidData` when neither the file nor its backup can be decoded.
    pub async fn open(rt: R, path: String, settings: &FilterSettings) -> io::Result<Self> {
        let mut table = Table::default();
        let good = |bytes: &[u8]| ConsumerFilterWrapper::parse(bytes).is_ok();
        if let Some((bytes, _)) = ConfigFile::load_checked(&rt, &path, good).await? {
            let file = ConsumerFilterWrapper::parse(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            table.load(file, rt.wall_ms());
        }
        Ok(ConsumerFilters {
            rt,
            path,
            bloom: BloomFilter::new(settings.bloom_error_percent, settings.bloom_groups),
            dead_kept_ms: settings.dead_kept_ms,
            table: Mutex::new(table),
            written: AtomicU64::new(0),
            writing: tokio::sync::Mutex::new(()),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, topic: &str, group: &str) -> Option<Registered> {
        let table = self.table();
        let entry = table.topics.get(topic)?.get(group)?;
        Some(Registered { version: entry.data.client_version, expression: entry.expression.clone() })
    }

    /// A group's filter of a topic as tools show it.
    pub fn describe(&self, topic: &str, group: &str) -> Option<String> {
        let table = self.table();
        let data = &table.topics.get(topic)?.get(group)?.data;
        Some(String::from_utf8_lossy(&crate::remoting::json::to_standard(data)).into_owned())
    }

    /// Takes in all that a group subscribes to; its filters of other topics die.
    pub fn register(&self, group: &str, subscriptions: &[SubscriptionData]) {
        let now_ms = self.rt.wall_ms();
        let mut table = self.table();
        for data in subscriptions.iter().filter(|data| data.expression_type == SQL92) {
            let bloom = BloomFilterData {
                bit_num: self.bloom.bits(),
                bit_pos: self.bloom.positions(group, &data.topic),
            };
            table.register(group, data, bloom, now_ms);
        }
        let is_wanted = |topic: &str| subscriptions.iter().any(|data| data.topic == topic);
        table.die(now_ms, |topic, of| of == group && !is_wanted(topic));
    }

    /// The filters of groups that are not live any more die.
    pub fn retire(&self, is_live: impl Fn(&str) -> bool) {
        self.table().die(self.rt.wall_ms(), |_, group| !is_live(group));
    }

    /// Writes the filters, unless the file holds them already. Those that are dead for too long are forgotten.
    ///
    /// # Errors
    /// Of writing; the next call writes again.
    pub async fn save(&self) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        let (file, changes) = {
            let mut table = self.table();
            table.forget(self.rt.wall_ms(), self.dead_kept_ms);
            if self.written.load(Ordering::Relaxed) == table.changes {
                return Ok(());
            }
            (table.file(), table.changes)
        };
        ConfigFile::save(&self.rt, &self.path, &file.to_java_json()).await?;
        self.written.store(changes, Ordering::Relaxed);
        Ok(())
    }

    pub async fn run(self: Arc<Self>, mut stop: Receiver<bool>) {
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(SAVE_INTERVAL) => {}
            }
            if let Err(error) = self.save().await {
                tracing::error!(path = %self.path, %error, "write the consumers' filters");
            }
        }
    }
}

impl Table {
    fn load(&mut self, file: ConsumerFilterWrapper, now_ms: i64) {
        for (topic, filters) in file.filter_data_by_topic {
            for (group, mut data) in filters.group_filter_data {
                let Ok(expression) = Expression::parse(&data.expression) else {
                    tracing::warn!(
                        topic,
                        group,
                        expression = data.expression,
                        "a filter that cannot be read"
                    );
                    continue;
                };
                if data.dead_time == 0 {
                    data.dead_time = data.born_time.max(now_ms.saturating_sub(GONE_BEFORE_START_MS));
                }
                let entry = Entry { data, expression: Arc::new(expression) };
                self.topics.entry(topic.clone()).or_default().insert(group, entry);
            }
        }
    }

    /// An older version than the one of a living group is left out; of two groups of that name the newer one counts.
    fn register(&mut self, group: &str, data: &SubscriptionData, bloom: BloomFilterData, now_ms: i64) {
        let groups = self.topics.entry(data.topic.clone()).or_default();
        if let Some(old) = groups.get_mut(group) {
            let is_dead = old.data.dead_time != 0;
            if old.data.expression == data.sub_string && data.sub_version == old.data.client_version {
                if is_dead {
                    old.data.dead_time = 0;
                    self.changes += 1;
                }
                return;
            }
            if !is_dead && data.sub_version <= old.data.client_version {
                return;
            }
        }
        let expression = match Expression::parse(&data.sub_string) {
            Ok(expression) => Arc::new(expression),
            Err(error) => {
                tracing::warn!(group, topic = data.topic, expression = data.sub_string, %error, "a filter is refused");
                return;
            }
        };
        let entry = Entry {
            data: ConsumerFilterData {
                bloom_filter_data: Some(bloom),
                born_time: now_ms,
                client_version: data.sub_version,
                consumer_group: group.to_owned(),
                dead_time: 0,
                expression: data.sub_string.clone(),
                expression_type: data.expression_type.clone(),
                topic: data.topic.clone(),
            },
            expression,
        };
        groups.insert(group.to_owned(), entry);
        self.changes += 1;
    }

    fn die(&mut self, now_ms: i64, is_gone: impl Fn(&str, &str) -> bool) {
        for (topic, groups) in &mut self.topics {
            for (group, entry) in groups {
                if entry.data.dead_time == 0 && is_gone(topic, group) {
                    entry.data.dead_time = now_ms.max(1);
                    self.changes += 1;
                }
            }
        }
    }

    fn forget(&mut self, now_ms: i64, dead_kept_ms: u64) {
        let mut forgotten = 0;
        for groups in self.topics.values_mut() {
            let before = groups.len();
            groups.retain(|_, entry| {
                let dead_for_ms = now_ms.saturating_sub(entry.data.dead_time);
                entry.data.dead_time == 0 || u64::try_from(dead_for_ms).unwrap_or(0) < dead_kept_ms
            });
            forgotten += (before - groups.len()) as u64;
        }
        self.topics.retain(|_, groups| !groups.is_empty());
        self.changes += forgotten;
    }

    fn file(&self) -> ConsumerFilterWrapper {
        let by_group = |groups: &BTreeMap<String, Entry>| {
            groups.iter().map(|(group, entry)| (group.clone(), entry.data.clone())).collect()
        };
        let by_topic = |(topic, groups): (&String, &BTreeMap<String, Entry>)| {
            let filters = FilterDataByTopic { group_filter_data: by_group(groups), topic: topic.clone() };
            (topic.clone(), filters)
        };
        ConsumerFilterWrapper { filter_data_by_topic: self.topics.iter().map(by_topic).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(expression: &str, version: i64) -> SubscriptionData {
        SubscriptionData {
            class_filter_mode: false,
            code_set: Default::default(),
            expression_type: SQL92.to_owned(),
            sub_string: expression.to_owned(),
            sub_version: version,
            tags_set: Default::default(),
            topic: "T".to_owned(),
        }
    }

    fn register(table: &mut Table, expression: &str, version: i64, now_ms: i64) {
        table.register("g", &subscribed(expression, version), BloomFilterData::default(), now_ms);
    }

    fn expression(table: &Table) -> &str {
        &table.topics["T"]["g"].data.expression
    }

    #[test]
    fn a_living_group_takes_newer_expressions_and_a_dead_one_takes_any() {
        let mut table = Table::default();
        register(&mut table, "a >", 1, 10);
        assert!(table.topics["T"].is_empty(), "it cannot be read");
        register(&mut table, "a > 1", 5, 10);
        register(&mut table, "a > 2", 4, 11);
        assert_eq!(expression(&table), "a > 1");
        register(&mut table, "a > 3", 6, 12);
        assert_eq!(expression(&table), "a > 3");
        table.die(20, |_, _| true);
        let changes = table.changes;
        register(&mut table, "a > 3", 6, 30);
        assert_eq!((table.topics["T"]["g"].data.dead_time, table.changes), (0, changes + 1));
        table.die(40, |_, _| true);
        register(&mut table, "a > 4", 2, 50);
        assert_eq!(expression(&table), "a > 4");
    }

    #[test]
    fn what_is_written_is_loaded_dead_and_forgotten_after_its_time() {
        let mut table = Table::default();
        register(&mut table, "a > 1", 5, 100_000);
        let file = ConsumerFilterWrapper::parse(&table.file().to_java_json()).expect("its own file");
        let mut again = Table::default();
        again.load(file, 200_000);
        assert_eq!(again.topics["T"]["g"].data.dead_time, 170_000);
        assert!(again.topics["T"]["g"].expression.matches(|_| Some("2")));
        again.forget(1_169_999, 1_000_000);
        assert_eq!(again.topics.len(), 1);
        again.forget(1_170_000, 1_000_000);
        assert!(again.topics.is_empty());
        assert_eq!(again.changes, 1);
    }
}

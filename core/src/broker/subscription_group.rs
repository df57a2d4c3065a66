//! Subscription groups: whether and how a group may consume. Kept in `config/subscriptionGroup.json`, Java's file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::durable_table::{DurableTable, Entries, Stored, TableError};
use super::names;
use crate::remoting::body::{BodyError, DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper};
use crate::runtime::Runtime;

impl Stored for SubscriptionGroupConfig {
    fn read_file(bytes: &[u8]) -> Result<(Entries<Self>, DataVersion), BodyError> {
        let file = SubscriptionGroupWrapper::parse(bytes)?;
        let groups = file.subscription_group_table.into_iter().map(|(name, group)| (name, Arc::new(group)));
        Ok((groups.collect(), file.data_version))
    }

    fn write_file(entries: &Entries<Self>, version: &DataVersion) -> Vec<u8> {
        wrapper(entries, version).to_java_json()
    }
}

fn wrapper(entries: &Entries<SubscriptionGroupConfig>, version: &DataVersion) -> SubscriptionGroupWrapper {
    SubscriptionGroupWrapper {
        subscription_group_table: entries
            .iter()
            .map(|(name, group)| (name.clone(), (**group).clone()))
            .collect(),
        data_version: version.clone(),
        ..Default::default()
    }
}

pub(crate) struct SubscriptionGroups<R> {
    table: DurableTable<R, SubscriptionGroupConfig>,
    auto_create: AtomicBool,
    /// The table is the master's: nothing is created here.
    copied: bool,
}

impl<R: Runtime> SubscriptionGroups<R> {
    /// # Errors
    /// [`TableError`].
    pub async fn open(rt: R, path: String, auto_create: bool, copied: bool) -> Result<Self, TableError> {
        Ok(SubscriptionGroups {
            table: DurableTable::open(rt, path).await?,
            auto_create: AtomicBool::new(auto_create),
            copied,
        })
    }

    pub fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.table.get(group)
    }

    /// The group, created if it may be; `None` if not. A slave creates none in its table, which is its master's, and serves
    /// it by the settings of a new one: its consumers may have come because the master is away.
    ///
    /// # Errors
    /// [`TableError`]: the file could not be written.
    pub async fn get_or_create(
        &self,
        group: &str,
    ) -> Result<Option<Arc<SubscriptionGroupConfig>>, TableError> {
        if let Some(found) = self.get(group) {
            return Ok(Some(found));
        }
        if !self.may_create(group) {
            return Ok(None);
        }
        let created = SubscriptionGroupConfig { group_name: group.to_owned(), ..Default::default() };
        if self.copied {
            return Ok(Some(Arc::new(created)));
        }
        self.table
            .change(|existing| match existing.contains_key(group) {
                true => Vec::new(),
                false => vec![(group.to_owned(), Some(created))],
            })
            .await?;
        Ok(self.get(group))
    }

    /// Whether the group is there, or is served by a slave as if it were.
    pub fn is_served(&self, group: &str) -> bool {
        self.table.contains(group) || (self.copied && self.may_create(group))
    }

    fn may_create(&self, group: &str) -> bool {
        (self.auto_create.load(Ordering::Relaxed) || names::is_system_group(group))
            && names::check_group(group).is_ok()
    }

    /// Takes over the master's table, as it is; true when it was another one.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn copy(&self, of_master: SubscriptionGroupWrapper) -> Result<bool, TableError> {
        let entries =
            of_master.subscription_group_table.into_iter().map(|(name, group)| (name, Arc::new(group)));
        self.table.replace(entries.collect(), of_master.data_version).await
    }

    /// Puts or replaces a group.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn put(&self, group: SubscriptionGroupConfig) -> Result<(), TableError> {
        self.table.change(|_| vec![(group.group_name.clone(), Some(group))]).await.map(drop)
    }

    /// Puts or replaces several groups.
    ///
    /// # Errors
    /// [`TableError`]: none is.
    pub async fn put_all(&self, groups: Vec<SubscriptionGroupConfig>) -> Result<(), TableError> {
        let groups = groups.into_iter().map(|group| (group.group_name.clone(), Some(group)));
        self.table.change(|_| groups.collect()).await.map(drop)
    }

    /// A group that is not there is fine.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn delete(&self, group: &str) -> Result<(), TableError> {
        self.table.change(|_| vec![(group.to_owned(), None)]).await.map(drop)
    }

    pub fn set_auto_create(&self, enabled: bool) {
        self.auto_create.store(enabled, Ordering::Relaxed);
    }

    pub fn names(&self) -> Vec<String> {
        self.table.snapshot().0.keys().cloned().collect()
    }

    pub fn wrapper(&self) -> SubscriptionGroupWrapper {
        let (entries, version) = self.table.snapshot();
        wrapper(&entries, &version)
    }
}

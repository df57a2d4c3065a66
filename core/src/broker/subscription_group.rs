//! Subscription groups: whether and how a group may consume, and which topics it may not. Kept in
//! `config/subscriptionGroup.json`, Java's file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::durable_table::{DurableTable, Entries, Stored, TableError};
use super::names;
use crate::remoting::body::{BodyError, DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper};
use crate::runtime::Runtime;

/// What is known of one name.
#[derive(Default, Clone, PartialEq, Debug)]
struct Known {
    /// `None`: there is no such group, and yet something is forbidden to it.
    group: Option<Arc<SubscriptionGroupConfig>>,
    /// By topic, as bits.
    forbidden: BTreeMap<String, i32>,
}

impl Known {
    fn with(&self, group: SubscriptionGroupConfig) -> Known {
        Known { group: Some(Arc::new(group)), forbidden: self.forbidden.clone() }
    }
}

/// Java's `PermName.INDEX_PERM_READ`.
const READ_FORBIDDEN: i32 = 1 << 2;

impl Stored for Known {
    fn read_file(bytes: &[u8]) -> Result<(Entries<Self>, DataVersion), BodyError> {
        let file = SubscriptionGroupWrapper::parse(bytes)?;
        let version = file.data_version.clone();
        Ok((entries(file), version))
    }

    fn write_file(entries: &Entries<Self>, version: &DataVersion) -> Vec<u8> {
        wrapper(entries, version).to_java_json()
    }
}

fn entries(file: SubscriptionGroupWrapper) -> Entries<Known> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for (name, group) in file.subscription_group_table {
        known.entry(name).or_default().group = Some(Arc::new(group));
    }
    for (name, forbidden) in file.forbidden_table {
        known.entry(name).or_default().forbidden = forbidden;
    }
    known.into_iter().map(|(name, known)| (name, Arc::new(known))).collect()
}

fn wrapper(entries: &Entries<Known>, version: &DataVersion) -> SubscriptionGroupWrapper {
    let mut wrapper = SubscriptionGroupWrapper { data_version: version.clone(), ..Default::default() };
    for (name, known) in entries {
        if let Some(group) = &known.group {
            wrapper.subscription_group_table.insert(name.clone(), (**group).clone());
        }
        if !known.forbidden.is_empty() {
            wrapper.forbidden_table.insert(name.clone(), known.forbidden.clone());
        }
    }
    wrapper
}

/// A change that puts `group`, to which the same is forbidden as before.
fn put_one(existing: &Entries<Known>, group: SubscriptionGroupConfig) -> (String, Option<Known>) {
    let name = group.group_name.clone();
    let known = existing
        .get(&name)
        .map_or_else(|| Known::default().with(group.clone()), |old| old.with(group.clone()));
    (name, Some(known))
}

pub(crate) struct SubscriptionGroups<R> {
    table: DurableTable<R, Known>,
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
        self.table.get(group)?.group.clone()
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
            .change(|existing| match existing.get(group).is_some_and(|known| known.group.is_some()) {
                true => Vec::new(),
                false => vec![put_one(existing, created)],
            })
            .await?;
        Ok(self.get(group))
    }

    /// Whether the group is there, or is served by a slave as if it were.
    pub fn is_served(&self, group: &str) -> bool {
        self.get(group).is_some() || (self.copied && self.may_create(group))
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
        let version = of_master.data_version.clone();
        self.table.replace(entries(of_master), version).await
    }

    /// Whether `group` may read `topic`, as far as an operator has not forbidden it.
    pub fn may_read(&self, group: &str, topic: &str) -> bool {
        let forbidden = self.table.get(group).and_then(|known| known.forbidden.get(topic).copied());
        forbidden.is_none_or(|bits| bits & READ_FORBIDDEN == 0)
    }

    /// Lets `group` read `topic`, or forbids it, whether or not they are there.
    ///
    /// # Errors
    /// [`TableError`].
    ///
    /// # Source
    /// apache/rocketmq 5.4, `SubscriptionGroupManager#updateForbidden`.
    pub async fn set_may_read(&self, group: &str, topic: &str, may: bool) -> Result<(), TableError> {
        let change = |existing: &Entries<Known>| {
            let mut known = existing.get(group).map(|known| (**known).clone()).unwrap_or_default();
            let bits = known.forbidden.get(topic).copied().unwrap_or_default().max(0);
            match if may { bits & !READ_FORBIDDEN } else { bits | READ_FORBIDDEN } {
                0 => known.forbidden.remove(topic),
                bits => known.forbidden.insert(topic.to_owned(), bits),
            };
            let is_empty = known == Known::default();
            vec![(group.to_owned(), (!is_empty).then_some(known))]
        };
        self.table.change(change).await.map(drop)
    }

    /// Puts or replaces a group.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn put(&self, group: SubscriptionGroupConfig) -> Result<(), TableError> {
        self.table.change(|existing| vec![put_one(existing, group)]).await.map(drop)
    }

    /// Puts or replaces several groups.
    ///
    /// # Errors
    /// [`TableError`]: none is.
    pub async fn put_all(&self, groups: Vec<SubscriptionGroupConfig>) -> Result<(), TableError> {
        let put =
            |existing: &Entries<Known>| groups.into_iter().map(|group| put_one(existing, group)).collect();
        self.table.change(put).await.map(drop)
    }

    /// And what was forbidden to it. A group that is not there is fine.
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
        let known = self.table.snapshot().0.into_iter();
        known.filter(|(_, known)| known.group.is_some()).map(|(name, _)| name).collect()
    }

    pub fn wrapper(&self) -> SubscriptionGroupWrapper {
        let (entries, version) = self.table.snapshot();
        wrapper(&entries, &version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_is_read_and_written_with_or_without_its_group() {
        let file = br#"{"dataVersion":{"counter":3,"timestamp":7},
            "forbiddenTable":{"G":{"T":4,"U":2},"Gone":{"T":4}},
            "subscriptionGroupTable":{"G":{"groupName":"G"},"H":{"groupName":"H"}}}"#;
        let (entries, version) = Known::read_file(file).expect("a file");
        assert_eq!(entries.len(), 3);
        let written = Known::write_file(&entries, &version);
        let again = SubscriptionGroupWrapper::parse(&written).expect("what was written");
        assert_eq!(again, SubscriptionGroupWrapper::parse(file).expect("what was read"));
        let (name, changed) = put_one(
            &entries,
            SubscriptionGroupConfig { group_name: "G".to_owned(), retry_max_times: 1, ..Default::default() },
        );
        let changed = changed.expect("it is put");
        assert_eq!(
            (name.as_str(), changed.forbidden.len()),
            ("G", 2),
            "a group that is changed may no more than before"
        );
    }
}

//! Key-value configuration by namespace, kept in one small file.
//!
//! The file is Java's `kvConfig.json`: `{"configTable":{"NAMESPACE":{"key":"value"}}}`.
//!
//! Invariant: a change is visible only after it is durable, and changes reach the file in the order in which they were made;
//! a change whose write failed has not happened.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::remoting::json;
use crate::runtime::{Mutant, Runtime};
use crate::store::config_file::ConfigFile;

/// Namespace of order configurations: topic to `broker:queues;broker:queues`.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Namespace, key, value.
pub type Table = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Serialize, Deserialize, Default)]
struct FileForm {
    #[serde(rename = "configTable", default)]
    config_table: Table,
}

/// The file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {cause}")]
pub struct KvConfigError {
    action: &'static str,
    path: String,
    cause: io::Error,
}

/// The table in memory and its file.
pub struct KvConfig<R: Runtime> {
    rt: R,
    path: String,
    table: Mutex<Table>,
    /// Held from the copy of the table to the end of its write.
    writing: tokio::sync::Mutex<()>,
}

impl<R: Runtime> KvConfig<R> {
    /// Reads the file; an absent one is an empty table.
    ///
    /// # Errors
    /// [`KvConfigError`]: the name server does not start, since its order configurations would be forgotten.
    pub async fn load(rt: R, path: String) -> Result<KvConfig<R>, KvConfigError> {
        let loaded = ConfigFile::load_checked(&rt, &path, |bytes| parse(bytes).is_some()).await;
        let table = match loaded {
            Ok(loaded) => loaded.and_then(|(bytes, _)| parse(&bytes)).unwrap_or_default(),
            Err(cause) => return Err(KvConfigError { action: "read", path, cause }),
        };
        Ok(KvConfig { rt, path, table: Mutex::new(table), writing: tokio::sync::Mutex::new(()) })
    }

    #[must_use]
    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.read(|table| table.get(namespace)?.get(key).cloned())
    }

    /// All keys of a namespace; `None` when there never was a key in it.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.read(|table| table.get(namespace).cloned())
    }

    /// # Errors
    /// [`KvConfigError`]: nothing has changed.
    pub async fn put(&self, namespace: &str, key: &str, value: &str) -> Result<(), KvConfigError> {
        self.change(|table| {
            table.entry(namespace.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        })
        .await
    }

    /// Removes a key; an absent one is fine.
    ///
    /// # Errors
    /// [`KvConfigError`]: nothing has changed.
    pub async fn delete(&self, namespace: &str, key: &str) -> Result<(), KvConfigError> {
        self.change(|table| {
            if let Some(keys) = table.get_mut(namespace) {
                keys.remove(key);
            }
        })
        .await
    }

    async fn change(&self, change: impl FnOnce(&mut Table)) -> Result<(), KvConfigError> {
        let _writing = self.writing.lock().await;
        let mut table = self.read(Table::clone);
        change(&mut table);
        self.save(&to_json(&table)).await.map_err(|cause| KvConfigError {
            action: "write",
            path: self.path.clone(),
            cause,
        })?;
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    async fn save(&self, bytes: &[u8]) -> io::Result<()> {
        if self.rt.mutant(Mutant::SettingUnwritten) {
            return Ok(());
        }
        if let Some((dir, _)) = self.path.rsplit_once('/') {
            self.make_dir(dir).await?;
        }
        ConfigFile::save(&self.rt, &self.path, bytes).await
    }

    /// The first save makes the folder, with durable names up to the data folder.
    async fn make_dir(&self, dir: &str) -> io::Result<()> {
        match self.rt.stat(dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(|_| ()),
        }
        self.rt.create_dir_all(dir).await?;
        let mut inside = dir;
        while let Some((parent, _)) = inside.rsplit_once('/') {
            self.rt.sync_dir(if parent.is_empty() { "/" } else { parent }).await?;
            inside = parent;
        }
        if inside.is_empty() { Ok(()) } else { self.rt.sync_dir(".").await }
    }

    fn read<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        read(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `None` when it is not a KV configuration.
fn parse(bytes: &[u8]) -> Option<Table> {
    let value = json::parse_without_nulls(bytes).ok()?;
    let form: FileForm = serde_json::from_value(value).ok()?;
    Some(form.config_table)
}

fn to_json(table: &Table) -> Vec<u8> {
    let form = FileForm { config_table: table.clone() };
    serde_json::to_vec(&form).expect("a map of strings is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_form_is_javas() {
        let mut table = Table::new();
        table.entry("ns".into()).or_default().insert("k".into(), "v".into());
        let bytes = to_json(&table);
        assert_eq!(bytes, br#"{"configTable":{"ns":{"k":"v"}}}"#);
        assert_eq!(parse(&bytes), Some(table));
        assert_eq!(parse(b"{}"), Some(Table::new()));
        assert_eq!(parse(b"[1]"), None);
    }
}

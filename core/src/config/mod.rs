//! Settings of the servers: Java's `key=value` files, flags, defaults.
//!
//! Each setting has one owner, a group of [`groups`], and there one field, typed, with its unit in its name and Java's key
//! in its doc line. A key that is read acts. A key that Java knows and we do not implement gets one warning that names it,
//! an unknown one gets one warning with the nearest known key. A bad value is an error and nothing is started; so is a key
//! that asks for access control.
//!
//! Invariant: after `read` every value is valid; nobody checks it again.

mod error;
mod groups;
mod java_keys;
mod live;
mod properties;
mod value;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use error::{ConfigError, Warning};
pub use groups::{
    BrokerIdentity, ClientSettings, DelaySettings, FilterSettings, HaSettings, IndexSettings,
    NameServerSettings, PullSettings, ReadSettings, Registration, RetentionSettings, SendSettings,
    StoreSettings, TopicSettings, TransactionSettings,
};
pub use live::Live;
pub(crate) use live::{load as load_changes, save as save_changes};
pub use value::{FlushDisk, Permission, ReservedTime, Role};

/// Whether Java's broker has a setting of this name that does nothing here.
pub(crate) fn is_key_of_java(key: &str) -> bool {
    java_keys::BROKER.contains(&key)
}

use crate::runtime::Runtime;
use groups::Group;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Default,
    File,
    Flag,
}

impl Source {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::File => "file",
            Source::Flag => "flag",
        }
    }
}

/// One line of `--print-config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Java's key.
    pub key: &'static str,
    pub value: String,
    pub default: String,
    pub source: Source,
}

/// All settings of a broker.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BrokerConfig {
    pub identity: BrokerIdentity,
    pub registration: Registration,
    pub ha: HaSettings,
    pub topics: TopicSettings,
    pub send: SendSettings,
    pub pull: PullSettings,
    pub filters: FilterSettings,
    pub clients: ClientSettings,
    pub transactions: TransactionSettings,
    pub delay: DelaySettings,
    pub store: StoreSettings,
    pub index: IndexSettings,
    pub reads: ReadSettings,
    pub retention: RetentionSettings,
    sources: BTreeMap<&'static str, Source>,
    file: Option<String>,
}

/// All settings of a name server.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NameServerConfig {
    pub server: NameServerSettings,
    sources: BTreeMap<&'static str, Source>,
    file: Option<String>,
}

impl BrokerConfig {
    /// Reads a `broker.conf`; `file` is the name used in messages.
    ///
    /// # Errors
    /// The first line that is not `key=value`, or whose value its key does not take.
    pub fn read(file: &str, text: &str) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
        read(file, text)
    }

    /// Sets one key as a flag of the command line does, over what a file said.
    ///
    /// # Errors
    /// When the key does not take the value, or is not one of ours.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        set_flag(self, key, value)
    }

    /// Every setting with its value, its default and where the value comes from, in the order of the keys.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        settings(self)
    }

    /// The file that these settings came from, as the program gives it at its start.
    pub fn set_file(&mut self, file: String) {
        self.file = Some(file);
    }

    /// Where settings go that are changed while the broker runs: the file that they came from, else one in the data folder,
    /// which the next start without a file reads.
    #[must_use]
    pub fn changes_file(&self) -> String {
        self.file.clone().unwrap_or_else(|| format!("{}/config/broker.properties", self.store.root))
    }

    /// Takes over what was changed while an earlier process ran, but for what flags say.
    ///
    /// # Errors
    /// When the file cannot be read, or a line has a bad value.
    pub(crate) async fn with_changes<R: Runtime>(mut self, rt: &R) -> io::Result<BrokerConfig> {
        if self.file.is_none() {
            let path = self.changes_file();
            take_changes(&mut self, rt, &path).await?;
        }
        Ok(self)
    }

    /// Where to listen.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.identity.bind_address, self.identity.listen_port)
    }

    pub fn set_listen(&mut self, at: SocketAddr) {
        self.identity.bind_address = at.ip();
        self.identity.listen_port = at.port();
        self.sources.insert("bindAddress", Source::Flag);
        self.sources.insert("listenPort", Source::Flag);
    }
}

impl NameServerConfig {
    /// As [`BrokerConfig::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(file: &str, text: &str) -> Result<(NameServerConfig, Vec<Warning>), ConfigError> {
        read(file, text)
    }

    /// As [`BrokerConfig::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        set_flag(self, key, value)
    }

    /// As [`BrokerConfig::settings`].
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        settings(self)
    }

    /// As [`BrokerConfig::set_file`].
    pub fn set_file(&mut self, file: String) {
        self.file = Some(file);
    }

    /// As [`BrokerConfig::changes_file`]; without a file it is that of `configStorePath`.
    #[must_use]
    pub fn changes_file(&self) -> String {
        self.file.clone().unwrap_or_else(|| self.server.config_store_path.clone())
    }

    /// As [`BrokerConfig::with_changes`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn with_changes<R: Runtime>(mut self, rt: &R) -> io::Result<NameServerConfig> {
        if self.file.is_none() {
            let path = self.changes_file();
            take_changes(&mut self, rt, &path).await?;
        }
        Ok(self)
    }

    /// Where to listen.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.server.bind_address, self.server.listen_port)
    }

    pub fn set_listen(&mut self, at: SocketAddr) {
        self.server.bind_address = at.ip();
        self.server.listen_port = at.port();
        self.sources.insert("bindAddress", Source::Flag);
        self.sources.insert("listenPort", Source::Flag);
    }
}

/// Keys and values of a text in the form of Java's `Properties`, in order.
#[must_use]
pub fn properties(text: &str) -> Vec<(String, String)> {
    properties::entries(text).into_iter().map(|entry| (entry.key, entry.value)).collect()
}

/// A server's settings as a list of groups; what follows is the same for both servers.
trait Groups: Default {
    /// Keys of Java's server that do nothing here.
    const NOT_IMPLEMENTED: &'static [&'static str];
    fn groups(&self) -> Vec<&dyn Group>;
    fn groups_mut(&mut self) -> Vec<&mut dyn Group>;
    fn sources(&self) -> &BTreeMap<&'static str, Source>;
    fn sources_mut(&mut self) -> &mut BTreeMap<&'static str, Source>;
}

impl Groups for BrokerConfig {
    const NOT_IMPLEMENTED: &'static [&'static str] = java_keys::BROKER;

    fn groups(&self) -> Vec<&dyn Group> {
        vec![
            &self.identity,
            &self.registration,
            &self.ha,
            &self.topics,
            &self.send,
            &self.pull,
            &self.filters,
            &self.clients,
            &self.transactions,
            &self.delay,
            &self.store,
            &self.index,
            &self.reads,
            &self.retention,
        ]
    }

    fn groups_mut(&mut self) -> Vec<&mut dyn Group> {
        vec![
            &mut self.identity,
            &mut self.registration,
            &mut self.ha,
            &mut self.topics,
            &mut self.send,
            &mut self.pull,
            &mut self.filters,
            &mut self.clients,
            &mut self.transactions,
            &mut self.delay,
            &mut self.store,
            &mut self.index,
            &mut self.reads,
            &mut self.retention,
        ]
    }

    fn sources(&self) -> &BTreeMap<&'static str, Source> {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut BTreeMap<&'static str, Source> {
        &mut self.sources
    }
}

impl Groups for NameServerConfig {
    const NOT_IMPLEMENTED: &'static [&'static str] = java_keys::NAME_SERVER;

    fn groups(&self) -> Vec<&dyn Group> {
        vec![&self.server]
    }

    fn groups_mut(&mut self) -> Vec<&mut dyn Group> {
        vec![&mut self.server]
    }

    fn sources(&self) -> &BTreeMap<&'static str, Source> {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut BTreeMap<&'static str, Source> {
        &mut self.sources
    }
}

fn read<C: Groups>(file: &str, text: &str) -> Result<(C, Vec<Warning>), ConfigError> {
    let mut config = C::default();
    let mut warnings = Vec::new();
    for entry in properties::entries(text) {
        let place = || (file.to_owned(), entry.line);
        if entry.key.is_empty() || !entry.has_separator {
            let (file, line) = place();
            return Err(ConfigError::NotASetting { file, line, text: entry.key });
        }
        match assign(&mut config, &entry.key, &entry.value, Source::File) {
            Some(Ok(())) => {}
            Some(Err(expected)) => {
                let (file, line) = place();
                return Err(ConfigError::BadValue {
                    file,
                    line,
                    key: entry.key,
                    expected,
                    found: entry.value,
                });
            }
            None if keeps_people_out(&entry.key, &entry.value) => {
                let (file, line) = place();
                return Err(ConfigError::NoAccessControl { file, line, key: entry.key });
            }
            None => {
                let (file, line) = place();
                warnings.push(not_ours::<C>(file, line, entry.key, &config));
            }
        }
    }
    Ok((config, warnings))
}

fn keeps_people_out(key: &str, value: &str) -> bool {
    java_keys::ACCESS_CONTROL.contains(&key) && value.eq_ignore_ascii_case("true")
}

async fn take_changes<C: Groups, R: Runtime>(config: &mut C, rt: &R, path: &str) -> io::Result<()> {
    for (key, value) in load_changes(rt, path).await? {
        if config.sources().get(key.as_str()) == Some(&Source::Flag) {
            continue;
        }
        if let Some(Err(expected)) = assign(config, &key, &value, Source::File) {
            let why = format!("{path}: {key} expects {expected}, found {value}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    }
    Ok(())
}

fn set_flag<C: Groups>(config: &mut C, key: &str, value: &str) -> Result<(), ConfigError> {
    match assign(config, key, value, Source::Flag) {
        Some(Ok(())) => Ok(()),
        Some(Err(expected)) => {
            Err(ConfigError::BadFlag { key: key.to_owned(), expected, found: value.to_owned() })
        }
        None => {
            Err(ConfigError::UnknownFlag { key: key.to_owned(), nearest: nearest(key, known_keys(config)) })
        }
    }
}

/// `None` when no group has the key.
fn assign<C: Groups>(config: &mut C, key: &str, value: &str, source: Source) -> Option<Result<(), String>> {
    let mut answer = None;
    let mut owner = None;
    for group in config.groups_mut() {
        if let Some((name, result)) = group.set(key, value) {
            assert!(owner.is_none(), "two groups own {name}");
            owner = Some(name);
            answer = Some(result);
        }
    }
    if let (Some(name), Some(Ok(()))) = (owner, &answer) {
        config.sources_mut().insert(name, source);
    }
    answer
}

fn settings<C: Groups>(config: &C) -> Vec<Setting> {
    let mut all = Vec::new();
    for group in config.groups() {
        group.list(&mut |key, value, default| {
            let source = config.sources().get(key).copied().unwrap_or(Source::Default);
            all.push(Setting { key, value, default, source });
        });
    }
    all.sort_by_key(|setting| setting.key);
    all
}

fn known_keys<C: Groups>(config: &C) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for group in config.groups() {
        group.list(&mut |key, _, _| keys.push(key));
    }
    keys
}

fn not_ours<C: Groups>(file: String, line: usize, key: String, config: &C) -> Warning {
    if C::NOT_IMPLEMENTED.contains(&key.as_str()) {
        return Warning::NotImplemented { file, line, key };
    }
    let nearest = nearest(&key, known_keys(config));
    Warning::Unknown { file, line, key, nearest }
}

/// The key that a person most likely meant, if one is near.
fn nearest(key: &str, known: Vec<&'static str>) -> Option<&'static str> {
    let limit = (key.len() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (edit_distance(&key.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *slot;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

/// Listening on every interface, as Java does.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;

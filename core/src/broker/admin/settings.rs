//! Settings in force (26), and changed while the broker runs (25).
//!
//! Invariant: a setting that is changed acts at once and is in the file that the next start reads; one that would act only
//! after a restart is refused by name.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::config::{
    self, BrokerConfig, ConfigError, Live, Permission, PullSettings, TopicSettings, TransactionSettings,
};
use crate::remoting::RemotingCommand;
use crate::remoting::body::DataVersion;
use crate::remoting::codes::response;
use crate::remoting::headers::GetBrokerConfigResponse;
use crate::runtime::Runtime;
use crate::store::MessageStore;

use super::super::WaitLimits;
use super::super::durable_table::TableError;
use super::super::names;
use super::super::node::{pace, retention};
use super::super::refusal::Refusal;
use super::super::subscription_group::SubscriptionGroups;
use super::super::topic_config::{READ_WRITE, Topics, perm, topic};
use super::{AdminRequests, Result, done};

/// What [`Changeable`] can change.
const CHANGEABLE: [&str; 34] = [
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerFastFailureEnable",
    "brokerPermission",
    "cleanFileForciblyEnable",
    "defaultTopicQueueNums",
    "deleteWhen",
    "diskMaxUsedSpaceRatio",
    "diskSpaceCleanForciblyRatio",
    "diskSpaceWarningLevelRatio",
    "fileReservedTime",
    "flushCommitLogLeastPages",
    "flushCommitLogThoroughInterval",
    "flushConsumeQueueLeastPages",
    "flushConsumeQueueThoroughInterval",
    "flushIntervalCommitLog",
    "flushIntervalConsumeQueue",
    "litePullMessageEnable",
    "longPollingEnable",
    "maxMessageSize",
    "msgTraceTopicName",
    "rejectTransactionMessage",
    "shortPollingTimeMills",
    "slaveReadEnable",
    "traceOn",
    "traceTopicEnable",
    "transactionCheckInterval",
    "transactionCheckMax",
    "transactionTimeOut",
    "waitTimeMillsInHeartbeatQueue",
    "waitTimeMillsInLitePullQueue",
    "waitTimeMillsInPullQueue",
    "waitTimeMillsInSendQueue",
    "waitTimeMillsInTransactionQueue",
];
/// No settings here, but Java's `exportConfigs` fails without them; the values are what this broker does.
const NEVER_OTHERWISE: [(&str, &str); 2] = [("filterServerNums", "0"), ("useTLS", "false")];
/// Java does not let these be changed from afar.
const FORBIDDEN: [&str; 2] = ["brokerConfigPath", "configBlackList"];

/// Where the broker listens.
#[derive(Debug)]
pub(crate) struct Places {
    /// What clients are told.
    pub requests: SocketAddr,
    pub ha_port: u16,
}

/// Where changed settings go.
pub(crate) struct Changeable<R: Runtime> {
    pub permission: Live<Permission>,
    pub transactions: Live<TransactionSettings>,
    pub pulling: Live<PullSettings>,
    pub trace_on: Live<bool>,
    pub wait_limits: Arc<WaitLimits>,
    pub topics: Arc<Topics<R>>,
    pub groups: Arc<SubscriptionGroups<R>>,
    pub store: Arc<MessageStore<R>>,
}

impl<R: Runtime> Changeable<R> {
    async fn apply(
        &self,
        before: &BrokerConfig,
        config: &BrokerConfig,
    ) -> std::result::Result<(), TableError> {
        let TopicSettings { auto_create, default_queue_count, trace_topic, trace_topic_name, .. } =
            &config.topics;
        if *auto_create {
            // New topics take their settings from it; a broker that started without it has none.
            let default = topic(names::AUTO_CREATE_TOPIC, *default_queue_count, READ_WRITE | perm::INHERIT);
            match *default_queue_count == before.topics.default_queue_count {
                true => self.topics.create_if_absent(default).await?,
                false => self.topics.put(default).await?,
            }
        }
        if *trace_topic {
            self.topics.create_if_absent(topic(trace_topic_name, 1, READ_WRITE)).await?;
        }
        self.trace_on.set(config.topics.trace_on);
        self.store.set_pace(pace(&config.store));
        self.topics.set_auto_create(config.topics.auto_create);
        self.groups.set_auto_create(config.topics.auto_create_group);
        self.transactions.set(config.transactions.clone());
        self.pulling.set(config.pull.clone());
        self.wait_limits.set(config);
        self.store.set_retention(retention(&config.retention, &self.store.config().retention));
        if self.permission.get() != config.identity.permission {
            self.permission.set(config.identity.permission);
            self.topics.register_again().await?;
        }
        Ok(())
    }
}

pub(crate) struct Settings<R: Runtime> {
    current: Mutex<(BrokerConfig, DataVersion)>,
    changing: tokio::sync::Mutex<()>,
    changeable: Changeable<R>,
    /// Where it listens, known once it does.
    places: OnceLock<Places>,
}

impl<R: Runtime> Settings<R> {
    pub fn new(config: &BrokerConfig, changeable: Changeable<R>, now_ms: i64) -> Settings<R> {
        let version = DataVersion { timestamp: now_ms, ..Default::default() };
        Settings {
            current: Mutex::new((config.clone(), version)),
            changing: tokio::sync::Mutex::new(()),
            changeable,
            places: OnceLock::new(),
        }
    }

    fn current(&self) -> MutexGuard<'_, (BrokerConfig, DataVersion)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once, when the broker listens.
    pub fn set_places(&self, places: Places) {
        self.places.set(places).expect("the broker listens once");
    }

    /// What is in force of a setting that stands for something else, as empty and 0 do.
    fn in_force(&self, config: &BrokerConfig, key: &str) -> Option<String> {
        let places = self.places.get()?;
        match key {
            "brokerIP1" => Some(places.requests.ip().to_string()),
            "listenPort" => Some(places.requests.port().to_string()),
            "haListenPort" => Some(places.ha_port.to_string()),
            "storePathCommitLog" if config.store.commit_log_dirs.is_empty() => {
                Some(format!("{}/commitlog", config.store.root))
            }
            _ => None,
        }
    }

    /// Empty before the broker listens.
    pub fn address(&self) -> String {
        self.places.get().map(|places| places.requests.to_string()).unwrap_or_default()
    }

    pub fn accept_from_ms(&self) -> i64 {
        self.current().0.send.accept_from_ms
    }

    pub fn sends_in_flight_max(&self) -> usize {
        self.current().0.send.in_flight_max
    }

    pub fn held_max(&self) -> usize {
        self.current().0.pull.held_max
    }
}

/// `config` with `changes`, all of which may be made now, and those of them that are something else than what `shown` says.
fn changed<'a>(
    config: &BrokerConfig,
    changes: &'a [(String, String)],
    shown: impl Fn(&str) -> Option<String>,
) -> Result<(BrokerConfig, Vec<&'a (String, String)>)> {
    let mut changed = config.clone();
    let mut real = Vec::new();
    for change in changes {
        let (key, value) = change;
        // All that a broker shows may come back, as it does from who has read it to change some of it.
        if shown(key).is_some_and(|shown| shown == *value) {
            continue;
        }
        if FORBIDDEN.contains(&key.as_str()) {
            let remark = format!("Can not update config in black list: {key}");
            return Err(Refusal::new(response::NO_PERMISSION, remark));
        }
        // Java's pools of threads. There are none here, so that whatever number it is acts at once.
        if key.ends_with("ThreadPoolNums") && config::is_key_of_java(key) && value.parse::<u32>().is_ok() {
            tracing::warn!(key, value, "a setting of Java's that nothing depends on here");
            real.push(change);
            continue;
        }
        let before = changed.settings();
        changed.set(key, value).map_err(|error| {
            let remark = match error {
                ConfigError::UnknownFlag { key, nearest } => {
                    let hint = nearest.map_or_else(String::new, |near| format!(", did you mean {near}?"));
                    format!("{key} is no setting of this broker{hint}")
                }
                other => other.to_string(),
            };
            Refusal::new(response::SYSTEM_ERROR, remark)
        })?;
        let of = |settings: Vec<config::Setting>| {
            settings.into_iter().find(|setting| setting.key == key).map(|setting| setting.value)
        };
        if !CHANGEABLE.contains(&key.as_str()) && of(before) != of(changed.settings()) {
            let remark =
                format!("{key} can not change while the broker runs: set it in its file and start it again");
            return Err(Refusal::new(response::NO_PERMISSION, remark));
        }
        real.push(change);
    }
    Ok((changed, real))
}

impl<R: Runtime> AdminRequests<R> {
    pub(super) fn config(&self) -> RemotingCommand {
        let (mut lines, version) = (String::new(), self.settings.current().1.clone());
        let config = self.settings.current().0.clone();
        for setting in config.settings() {
            let value = self.settings.in_force(&config, setting.key).unwrap_or(setting.value);
            writeln!(lines, "{}={value}", setting.key).expect("a String takes all text");
        }
        for (key, value) in NEVER_OTHERWISE {
            writeln!(lines, "{key}={value}").expect("a String takes all text");
        }
        let version = String::from_utf8_lossy(&version.to_json()).into_owned();
        done().with_header(&GetBrokerConfigResponse { version }).with_body(lines.into_bytes())
    }

    /// All of the changes or none.
    pub(super) async fn update_config(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let body = request.body.to_bytes();
        let text = std::str::from_utf8(&body)
            .map_err(|_| Refusal::new(response::SYSTEM_ERROR, "the settings are not UTF-8 text"))?;
        let changes = config::properties(text);
        let _changing = self.settings.changing.lock().await;
        let (before, version) = self.settings.current().clone();
        let shown = |key: &str| {
            let otherwise = NEVER_OTHERWISE.iter().find(|(known, _)| *known == key);
            otherwise.map(|(_, value)| (*value).to_owned()).or_else(|| self.settings.in_force(&before, key))
        };
        let (after, changes) = changed(&before, &changes, shown)?;
        let changes: Vec<_> = changes.into_iter().cloned().collect();
        let path = after.changes_file();
        config::save_changes(&self.rt, &path, &changes).await.map_err(|error| {
            Refusal::new(response::SYSTEM_ERROR, format!("write the changed settings to {path}: {error}"))
        })?;
        self.settings.changeable.apply(&before, &after).await?;
        *self.settings.current() = (after, version.next(self.rt.wall_ms()));
        tracing::info!(?changes, "settings changed");
        Ok(done())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: &str) -> Result<BrokerConfig> {
        let changes = [(key.to_owned(), value.to_owned())];
        changed(&BrokerConfig::default(), &changes, |_| None).map(|(after, _)| after)
    }

    #[test]
    fn only_what_acts_at_once_is_changed_and_the_rest_refused_by_name() {
        let after = change("brokerPermission", "4").expect("it may change");
        assert_eq!(after.identity.permission, Permission(4));
        for (key, value, code) in [
            ("flushDiskType", "SYNC_FLUSH", response::NO_PERMISSION),
            ("brokerConfigPath", "/etc/passwd", response::NO_PERMISSION),
            ("brokerPermision", "4", response::SYSTEM_ERROR),
            ("sentMessageThreadPoolNums", "4", response::SYSTEM_ERROR),
            ("sendMessageThreadPoolNums", "many", response::SYSTEM_ERROR),
            ("brokerPermission", "lots", response::SYSTEM_ERROR),
        ] {
            let refusal = change(key, value).expect_err("refused");
            assert_eq!(refusal.code, code, "{key}");
            assert!(refusal.remark.contains(key), "{} names {key}", refusal.remark);
        }
        assert!(change("sendMessageThreadPoolNums", "4").is_ok(), "no threads, no difference");
        // What it is already is no change.
        assert!(change("flushDiskType", "ASYNC_FLUSH").is_ok());
    }

    #[test]
    fn what_is_shown_of_a_setting_that_stands_for_it_may_come_back() {
        let changes = [("brokerIP1", "192.0.2.7"), ("brokerPermission", "4")];
        let changes = changes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let shown = |address: &'static str| {
            let of = move |key: &str| (key == "brokerIP1").then(|| address.to_owned());
            changed(&BrokerConfig::default(), &changes, of)
        };
        let (after, real) = shown("192.0.2.7").expect("it may change");
        assert_eq!((after.identity.ip1.as_str(), real), ("", vec![&changes[1]]));
        assert!(shown("192.0.2.8").is_err_and(|refusal| refusal.remark.contains("brokerIP1")));
    }

    #[test]
    fn each_changeable_key_is_a_setting() {
        let known: Vec<_> = BrokerConfig::default().settings().iter().map(|setting| setting.key).collect();
        for key in CHANGEABLE {
            assert!(known.contains(&key), "{key}");
        }
    }
}

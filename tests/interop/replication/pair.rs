//! Two brokers of one name, each at a place of its own: what they are started with, and what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotfire_core::remoting::body::{
    ConsumerOffsetWrapper, DelayOffsetWrapper, SubscriptionGroupWrapper, TopicConfigSerializeWrapper,
};
use hotfire_core::remoting::codes::request;
use hotfire_tests::{free_ports, wait_until};

use super::sender::Sender;
use crate::brokers::{Broker, LOG_FILE_BYTES, SMALL_FILES, Who};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    AsyncMaster,
    SyncMaster,
    Slave,
}

/// Where one of the two lives, whatever its role.
pub struct Seat {
    pub who: Who,
    pub port: u16,
    dir: PathBuf,
}

pub struct Pair<'a> {
    pub version: &'static str,
    pub program: &'a Path,
    pub name_server: &'a str,
    /// The first master and the first slave.
    pub seats: [Seat; 2],
}

impl Seat {
    pub fn new(who: Who, dir: PathBuf) -> Result<Seat> {
        std::fs::create_dir(&dir)?;
        Ok(Seat { who, port: free_ports()?, dir })
    }

    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The files of the log by name, without those that were made ahead.
    ///
    /// # Errors
    /// Of reading.
    pub fn log(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let folder = self.data().join("commitlog");
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(files) };
        for entry in entries {
            let path = entry?.path();
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
            if bytes.iter().any(|byte| *byte != 0) {
                files.insert(name, bytes);
            }
        }
        Ok(files)
    }

    /// How far each delay level has been delivered, as its file says.
    pub fn delay_offsets(&self) -> Option<BTreeMap<i32, i64>> {
        let bytes = std::fs::read(self.data().join("config/delayOffset.json")).ok()?;
        Some(DelayOffsetWrapper::parse(&bytes).ok()?.offset_table)
    }
}

impl Pair<'_> {
    /// Starts the broker of a seat. The role alone differs between its lives.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn start(&self, seat: usize, role: Role) -> Result<Broker> {
        let Seat { who, port, dir } = &self.seats[seat];
        let (name, id) = match role {
            Role::AsyncMaster => ("ASYNC_MASTER", 0),
            Role::SyncMaster => ("SYNC_MASTER", 0),
            Role::Slave => ("SLAVE", 1),
        };
        let data = dir.join("data");
        let mut settings = format!(
            "brokerName=broker-a\nbrokerId={id}\nbrokerRole={name}\nbrokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\n\
             bindAddress=127.0.0.1\nlistenPort={port}\nhaListenPort={}\nnamesrvAddr={}\nstorePathRootDir={}\n\
             storePathCommitLog={}\nmappedFileSizeCommitLog={LOG_FILE_BYTES}\nwaitTimeMillsInSendQueue=5000\n\
             slaveReadEnable=true\nslaveTimeout=1000\nflushDelayOffsetInterval=1000\n{SMALL_FILES}",
            port + 1,
            self.name_server,
            data.display(),
            data.join("commitlog").display(),
        );
        if *who == Who::Java && self.version.starts_with("5.") {
            // Without it 5.x waits for no slave.
            settings.push_str("inSyncReplicas=2\n");
        }
        match who {
            Who::Hotfire => Broker::hotfire(self.program, &settings, *port, dir),
            Who::Java => Broker::java(self.version, &settings, dir),
        }
        .with_context(|| format!("start {who:?} as {role:?}"))
    }

    /// Waits until both logs are the same, byte by byte, where both have files, and end alike. Gives the count of those files.
    ///
    /// # Errors
    /// Where they differ after `patience`.
    pub fn logs_agree(&self, master: usize, patience: Duration) -> Result<usize> {
        let slave = 1 - master;
        let mut files = 0;
        let agree = || -> Result<()> {
            let (own, copy) = (self.seats[master].log()?, self.seats[slave].log()?);
            let firsts = own.keys().next().zip(copy.keys().next());
            let (one, other) = firsts.context("one of the two has no log")?;
            let first = one.max(other).clone();
            let names = |log: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
                log.keys().filter(|name| **name >= first).cloned().collect()
            };
            let (theirs, copied) = (names(&own), names(&copy));
            ensure!(theirs == copied, "the master has the files {theirs:?}, the slave {copied:?}");
            for name in &copied {
                let differ = own[name].iter().zip(&copy[name]).position(|(own, copied)| own != copied);
                ensure!(own[name].len() == copy[name].len(), "{name} has {} bytes", copy[name].len());
                ensure!(differ.is_none(), "{name} differs at {differ:?}");
            }
            files = copied.len();
            Ok(())
        };
        let mut agree = agree;
        let mut last = None;
        wait_until(patience, || {
            last = Some(agree());
            matches!(last, Some(Ok(())))
        });
        last.context("a look")?.context("the logs differ")?;
        Ok(files)
    }

    /// Waits until the slave has the master's topics, groups, committed offsets and delay offsets, as far as they are of
    /// `topics` and `group`.
    ///
    /// # Errors
    /// What is missing after `patience`.
    pub fn tables_agree(
        &self,
        sender: &Sender,
        (topics, group): (&[&str], &str),
        patience: Duration,
    ) -> Result<()> {
        let mut last = None;
        wait_until(patience, || {
            last = Some(self.same_tables(sender, topics, group));
            matches!(last, Some(Ok(())))
        });
        last.context("a look")?.context("the tables differ")
    }

    fn same_tables(&self, sender: &Sender, topics: &[&str], group: &str) -> Result<()> {
        let [master, slave] = [&self.seats[0], &self.seats[1]];
        let both = |code| -> Result<[Vec<u8>; 2]> {
            Ok([sender.ask(&master.address(), code)?, sender.ask(&slave.address(), code)?])
        };
        let [own, copy] = both(request::GET_ALL_TOPIC_CONFIG)?;
        let (own, copy) =
            (TopicConfigSerializeWrapper::parse(&own)?, TopicConfigSerializeWrapper::parse(&copy)?);
        for topic in topics {
            let (own, copy) = (own.topic_config_table.get(*topic), copy.topic_config_table.get(*topic));
            ensure!(own.is_some() && own == copy, "topic {topic}: {own:?} and {copy:?}");
        }
        let [own, copy] = both(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG)?;
        let (own, copy) = (SubscriptionGroupWrapper::parse(&own)?, SubscriptionGroupWrapper::parse(&copy)?);
        let (own, copy) = (own.subscription_group_table.get(group), copy.subscription_group_table.get(group));
        ensure!(own.is_some() && own == copy, "group {group}: {own:?} and {copy:?}");
        let [own, copy] = both(request::GET_ALL_CONSUMER_OFFSET)?;
        let (own, copy) = (ConsumerOffsetWrapper::parse(&own)?, ConsumerOffsetWrapper::parse(&copy)?);
        for topic in topics {
            let key = format!("{topic}@{group}");
            let (own, copy) = (own.offset_table.get(&key), copy.offset_table.get(&key));
            ensure!(own == copy, "offsets {key}: {own:?} and {copy:?}");
        }
        ensure!(own.offset_table.keys().any(|key| key.ends_with(group)), "{group} has committed nothing");
        let (own, copy) = (master.delay_offsets(), slave.delay_offsets());
        ensure!(own.is_some() && own == copy, "delay offsets: {own:?} and {copy:?}");
        Ok(())
    }
}

//! What makes a broker a master or a slave: its HA port or its link, and what a send waits for.
//!
//! | role | listens on the HA port | takes sends | a send is answered |
//! |---|---|---|---|
//! | ASYNC_MASTER | yes | yes | by its own flush |
//! | SYNC_MASTER | yes | yes | when one slave has it too, or as many as [`Rule`] says |
//! | SLAVE | no | no: code 14 | |
//!
//! # Source
//! `spec/ha.md`, sections 1.1 and 1.7.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{BrokerConfig, Role};
use crate::ha::copies::{InSync, Need, Rule, SLAVES_MAX, TooFew};
use crate::ha::lives::Lives;
use crate::ha::master::{FeedSettings, HaServer, Replication, begin_life};
use crate::ha::slave::{FollowSettings, LinkState, MasterPlace, Slave};
use crate::remoting::RemotingCommand;
use crate::remoting::body::{HaClientRuntimeInfo, HaConnectionRuntimeInfo, HaRuntimeInfo};
use crate::remoting::codes::response;
use crate::remoting::connection::{Answer, Reached, Response};
use crate::remoting::peer::Peers;
use crate::runtime::sync::{Receiver, Sender, watch};
use crate::runtime::{Mono, Mutant, Runtime, Task};
use crate::store::MessageStore;

use super::counts::Counts;
use super::node::{StartError, Tables};
use super::refusal::answer;
use super::slave_sync::SlaveSync;

/// Whether role and number agree: a broker that is half a slave must not start as a second master. And whether as many
/// slaves can be counted as are asked for.
///
/// # Errors
/// [`StartError::Role`].
pub(super) fn check(config: &BrokerConfig) -> Result<(), StartError> {
    let (role, id) = (config.identity.role, config.identity.id);
    let copies = config.ha.in_sync_replicas.max(config.ha.in_sync_min) as usize;
    if copies > 1 + SLAVES_MAX {
        let why = format!("{copies} copies cannot be waited for, at most {}", 1 + SLAVES_MAX);
        return Err(StartError::Role(why));
    }
    match (role, id) {
        (Role::Slave, 0) => Err(StartError::Role("a SLAVE needs a brokerId above 0".to_owned())),
        (Role::AsyncMaster | Role::SyncMaster, 1..) => {
            Err(StartError::Role(format!("a master has the brokerId 0, not {id}")))
        }
        _ => Ok(()),
    }
}

/// Where slaves of this broker connect, or would.
pub(super) fn ha_listen(config: &BrokerConfig) -> SocketAddr {
    let main = config.identity.listen_port;
    let port = match (config.ha.listen_port, main) {
        (0, 0) => 0,
        (0, main) => main.saturating_add(1),
        (port, _) => port,
    };
    SocketAddr::new(config.identity.bind_address, port)
}

fn lives_file(config: &BrokerConfig) -> String {
    format!("{}/config/slaves.json", config.store.root)
}

/// Begins to find out what is known of slaves, and to keep that this process has begun; `None` on a slave.
pub(super) fn begin<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    store: &Arc<MessageStore<R>>,
) -> Option<R::Task<io::Result<Lives>>> {
    if config.identity.role == Role::Slave {
        return None;
    }
    let (dir, file) = (format!("{}/config", config.store.root), lives_file(config));
    let (rt_of_task, end) = (rt.clone(), store.pushable().get());
    Some(rt.spawn("begin a life of the master", async move {
        rt_of_task.create_dir_all(&dir).await?;
        begin_life(&rt_of_task, &file, end).await
    }))
}

/// Listens for slaves, once it is known what is known of them; `None` on a slave.
///
/// # Errors
/// [`StartError::Listen`].
pub(super) async fn listen<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    store: &Arc<MessageStore<R>>,
    begun: Option<R::Task<io::Result<Lives>>>,
) -> Result<Option<HaServer<R>>, StartError> {
    let Some(begun) = begun else { return Ok(None) };
    let path = lives_file(config);
    let begun = async { begun.join().await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())) };
    let address = ha_listen(config);
    let settings = FeedSettings {
        heartbeat: Duration::from_millis(config.ha.heartbeat_ms.max(1)),
        housekeeping: Duration::from_millis(config.ha.housekeeping_ms.max(1)),
        batch_bytes: config.ha.batch_bytes as usize,
        wait_ms: config.ha.slave_timeout_ms,
    };
    let server = HaServer::bind(rt.clone(), address, store.clone(), settings, (begun, path)).await;
    server.map(Some).map_err(|source| StartError::Listen { address, source })
}

/// What a broker knows of the other side.
#[derive(Clone, Default)]
pub(super) struct OtherSide {
    /// Of the slaves; `None` on a slave.
    pub slaves: Option<Arc<Replication>>,
    /// Where the master is, as name servers tell it; `None` on a master.
    pub master: Option<Sender<MasterPlace>>,
    /// Of a slave.
    pub link: Arc<LinkState>,
}

impl OtherSide {
    pub fn new<R: Runtime>(config: &BrokerConfig, server: Option<&HaServer<R>>) -> OtherSide {
        let slaves = server.map(|server| server.replication().clone());
        OtherSide { slaves, master: master_place(config), link: Arc::default() }
    }
}

fn master_place(config: &BrokerConfig) -> Option<Sender<MasterPlace>> {
    let fixed = Some(config.ha.master_address.clone()).filter(|address| !address.is_empty());
    (config.identity.role == Role::Slave).then(|| watch(MasterPlace { ha: fixed, remoting: None }).0)
}

/// Starts what a slave does beside its requests: the copy of the log, and that of the tables.
pub(super) fn follow<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    store: &Arc<MessageStore<R>>,
    tables: &Tables<R>,
    peers: &Peers<R>,
    (master, link): (&Sender<MasterPlace>, &Arc<LinkState>),
    stop: &Receiver<bool>,
) -> Vec<R::Task<()>> {
    let slave = Slave {
        rt: rt.clone(),
        store: store.clone(),
        peers: peers.clone(),
        settings: FollowSettings {
            heartbeat: Duration::from_millis(config.ha.heartbeat_ms.max(1)),
            housekeeping: Duration::from_millis(config.ha.housekeeping_ms.max(1)),
        },
        link: link.clone(),
    };
    let sync = SlaveSync {
        rt: rt.clone(),
        store: store.clone(),
        peers: peers.clone(),
        topics: tables.topics.clone(),
        groups: tables.groups.clone(),
        offsets: tables.offsets.clone(),
        schedule: tables.schedule.clone(),
        link: link.clone(),
    };
    vec![
        rt.spawn("follow the master", slave.run(master.subscribe(), stop.clone())),
        rt.spawn("copy the master's tables", sync.run(master.subscribe(), stop.clone())),
    ]
}

/// What is asked about replication: codes 907 and 908, and 402, which slaves of Java 5.x ask.
pub(crate) struct HaRequests<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub other: OtherSide,
    pub rule: Rule,
}

impl<R: Runtime> HaRequests<R> {
    /// # Source
    /// apache/rocketmq 5.x, `DefaultHAService#getRuntimeInfo`.
    pub fn status(&self) -> RemotingCommand {
        let end = self.store.commit_log_max();
        let signed = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
        let OtherSide { slaves, master, link } = &self.other;
        let now = self.rt.now();
        let connections = slaves.as_ref().map(|slaves| slaves.connections(now)).unwrap_or_default();
        let described = connections.into_iter().map(|link| {
            let behind = end.saturating_sub(link.acknowledged);
            HaConnectionRuntimeInfo {
                addr: link.peer.to_string(),
                diff: signed(behind),
                in_sync: behind < self.rule.behind_max(),
                slave_ack_offset: signed(link.acknowledged),
                transfer_from_where: link.next,
                transferred_byte_in_second: signed(link.bytes_per_second),
            }
        });
        let ha_connection_info: Vec<_> = described.collect();
        let in_sync = ha_connection_info.iter().filter(|connection| connection.in_sync).count();
        let of_slave = master.as_ref().map(|master| HaClientRuntimeInfo {
            activated: link.open().is_some(),
            last_read_timestamp: link.last_read_ms(),
            last_write_timestamp: link.last_write_ms(),
            master_flush_offset: 0,
            transferred_byte_in_second: signed(link.bytes_per_second(now)),
            master_addr: master.get().ha,
            max_offset: signed(end),
        });
        let body = HaRuntimeInfo {
            master: slaves.is_some(),
            master_commit_log_max_offset: if slaves.is_some() { signed(end) } else { 0 },
            in_sync_slave_nums: i32::try_from(in_sync).unwrap_or(i32::MAX),
            ha_connection_info,
            ha_client_runtime_info: of_slave.unwrap_or_default(),
        };
        answer(response::SUCCESS).with_body(body.to_json())
    }

    /// Of a master nothing is to be set. `None` on a slave, which believes no caller about its master.
    ///
    /// # Source
    /// apache/rocketmq 5.3, `AdminBrokerProcessor#resetMasterFlushOffset`.
    pub fn reset_master_flush_offset(&self) -> Option<RemotingCommand> {
        self.other.slaves.as_ref().map(|_| answer(response::SUCCESS))
    }

    /// By which groups a topic is popped instead of pulled: by none, as nobody can ask for it here.
    pub fn request_modes(&self) -> RemotingCommand {
        answer(response::SUCCESS).with_body(br#"{"messageRequestModeMap":{}}"#.to_vec())
    }
}

/// Which copies a SYNC_MASTER of these settings asks for.
#[must_use]
pub(super) fn rule(config: &BrokerConfig) -> Rule {
    let ha = &config.ha;
    if ha.in_sync_replicas == 0 && ha.in_sync_min == 0 && !ha.ack_by_all_in_sync {
        return Rule::OneSlave { fall_behind_max: ha.fall_behind_max };
    }
    Rule::InSync(InSync {
        replicas: ha.in_sync_replicas.max(1) as usize,
        min: ha.in_sync_min.max(1) as usize,
        all: ha.ack_by_all_in_sync,
        gap_max: ha.in_sync_gap_max,
    })
}

/// What sends to a SYNC_MASTER wait for.
pub(crate) struct SlaveWait {
    replication: Arc<Replication>,
    rule: Rule,
    timeout_ms: u64,
}

impl SlaveWait {
    pub fn new<R: Runtime>(
        rt: &R,
        config: &BrokerConfig,
        server: Option<&Arc<Replication>>,
    ) -> Option<SlaveWait> {
        let replication = server.filter(|_| config.identity.role == Role::SyncMaster)?.clone();
        let rule = match rule(config) {
            Rule::InSync(in_sync) if rt.mutant(Mutant::AllInSyncIgnored) => {
                Rule::InSync(InSync { all: false, ..in_sync })
            }
            Rule::InSync(in_sync) if rt.mutant(Mutant::FarSlaveCounts) => {
                Rule::InSync(InSync { gap_max: u64::MAX, ..in_sync })
            }
            Rule::OneSlave { .. } if rt.mutant(Mutant::FarSlaveCounts) => {
                Rule::OneSlave { fall_behind_max: u64::MAX }
            }
            rule => rule,
        };
        Some(SlaveWait { replication, rule, timeout_ms: config.ha.slave_timeout_ms })
    }

    /// What a send will wait for that is to be stored in a log which ends at `end`.
    ///
    /// # Errors
    /// It must not be stored.
    pub fn need(&self, end: u64) -> Result<Need, TooFew> {
        self.rule.need(|| self.replication.in_sync(end, self.rule.behind_max()))
    }

    /// How many slaves a send waits for that is stored up to `end`; `None` when it would wait in vain.
    pub fn slaves(&self, need: Need, end: u64) -> Option<usize> {
        match need {
            Need::Slaves(slaves) => Some(slaves),
            Need::OneIfNear => self.is_near(need, end).then_some(1),
        }
    }

    /// Whether those that are waited for are there now, and not far behind.
    pub fn is_near(&self, need: Need, end: u64) -> bool {
        let behind_max = self.rule.behind_max();
        match need {
            Need::Slaves(slaves) => self.replication.in_sync(end, behind_max) > slaves,
            Need::OneIfNear => self.replication.is_available(end, behind_max),
        }
    }

    /// `answer` when so many `slaves` have the log up to `end`. A slave is given flushed bytes only where the master waits
    /// for its flush, so that one wait stands for both. The request came at `came`.
    pub fn answer<R: Runtime>(
        &self,
        rt: &R,
        store: &Arc<MessageStore<R>>,
        answer: Response,
        (slaves, end): (usize, u64),
        (counts, came): (Arc<Counts>, Mono),
    ) -> Answer {
        if rt.mutant(Mutant::AckBeforeSlave) {
            return now(answer);
        }
        let store = store.clone();
        let finish = move |reached| {
            counts.put_since(came);
            match reached {
                Reached::Yes => answer,
                _ if !store.keep(end) => super::send_message::not_kept(),
                Reached::TimedOut | Reached::Failed => with_status(
                    answer,
                    response::FLUSH_SLAVE_TIMEOUT,
                    "stored, but not enough slaves have said that they have it",
                ),
            }
        };
        let early = rt.mutant(Mutant::SlaveWaitEndsEarly);
        let timeout_ms = if early { self.timeout_ms / 8 } else { self.timeout_ms };
        Answer::WhenReached {
            mark: self.replication.confirmed(slaves).clone(),
            position: end,
            deadline: rt.now().after_ms(timeout_ms),
            finish: Box::new(finish),
        }
    }
}

/// The answer of a send that is stored, and of which less is known than was asked for.
pub(super) fn with_status(mut answer: Response, status: i32, why: &str) -> Response {
    let (code, remark) = match &mut answer {
        Response::Command(answer) => (&mut answer.code, &mut answer.remark),
        Response::Json(answer) => (&mut answer.code, &mut answer.remark),
    };
    *code = status;
    *remark = Some(why.to_owned());
    answer
}

/// `answer` without any wait.
pub(super) fn now(answer: Response) -> Answer {
    match answer {
        Response::Command(answer) => Answer::Now(answer),
        Response::Json(answer) => Answer::NowJson(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HaSettings;

    #[test]
    fn role_and_number_must_agree() {
        let of = |role, id| {
            let mut config = BrokerConfig::default();
            (config.identity.role, config.identity.id) = (role, id);
            check(&config).is_ok()
        };
        assert!(of(Role::AsyncMaster, 0) && of(Role::SyncMaster, 0) && of(Role::Slave, 1));
        assert!(!of(Role::AsyncMaster, 1) && !of(Role::SyncMaster, 1) && !of(Role::Slave, 0));
    }

    #[test]
    fn one_slave_is_waited_for_unless_a_setting_of_java_5_is_there() {
        let of = |set: &[(&str, &str)]| {
            let mut config = BrokerConfig::default();
            set.iter().for_each(|(key, value)| config.set(key, value).expect("a key with its value"));
            (check(&config).is_ok(), rule(&config))
        };
        let in_sync = |replicas, min, all| {
            let gap_max = HaSettings::default().in_sync_gap_max;
            (true, Rule::InSync(InSync { replicas, min, all, gap_max }))
        };
        assert_eq!(of(&[("haSlaveFallbehindMax", "7")]), (true, Rule::OneSlave { fall_behind_max: 7 }));
        assert_eq!(of(&[("inSyncReplicas", "1")]), in_sync(1, 1, false));
        assert_eq!(of(&[("inSyncReplicas", "3")]), in_sync(3, 1, false));
        assert_eq!(of(&[("minInSyncReplicas", "2")]), in_sync(1, 2, false));
        assert_eq!(of(&[("allAckInSyncStateSet", "true")]), in_sync(1, 1, true));
        assert!(!of(&[("minInSyncReplicas", "17")]).0);
    }

    #[test]
    fn the_ha_port_follows_the_main_one_unless_it_is_set() {
        let of = |main, ha| {
            let mut config = BrokerConfig::default();
            (config.identity.listen_port, config.ha.listen_port) = (main, ha);
            ha_listen(&config).port()
        };
        assert_eq!((of(10_911, 0), of(10_911, 9_000), of(0, 0)), (10_912, 9_000, 0));
    }
}

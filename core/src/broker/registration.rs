//! Telling the name servers about this broker, each by a task of its own, so that a dead one delays no other.
//!
//! A full registration goes out at the start and every period; a changed topic alone at once, and who has changed it waits for that. A name server that refuses
//! or misses anything gets a full one. A host name stands for all its addresses; they are looked up each time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use crate::remoting::RemotingCommand;
use crate::remoting::body::{KvTable, RegisterBrokerBody, TopicConfigSerializeWrapper, body_crc32};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::CallError;
use crate::remoting::headers::{RegisterBrokerHeader, RegisterBrokerResponse, UnregisterBrokerHeader};
use crate::remoting::peer::Peers;
use crate::runtime::sync::{Receiver, Sender};
use crate::runtime::{Mark, Runtime};

use super::topic_config::{Changed, Topics};
use crate::config::{Live, Permission};
use crate::ha::slave::MasterPlace;

/// The first full registration after that of the start.
const SECOND_AFTER: Duration = Duration::from_secs(10);
/// The next one of a slave that has not been told where its master is. Java's waits as long as others do.
const MASTER_AFTER: Duration = Duration::from_secs(1);
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(1);
const PERIOD_MS: std::ops::RangeInclusive<u64> = 10_000..=60_000;

/// How the broker presents itself.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    pub name: String,
    pub cluster: String,
    pub address: String,
    /// 0 for a master.
    pub id: i64,
    pub ha_address: String,
    pub permission: Live<Permission>,
    pub period_ms: u64,
    pub timeout: Duration,
}

/// One name server of the configuration.
struct Target {
    host: String,
    port: u16,
    /// What it has not been told of.
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Default)]
struct Pending {
    topics: BTreeSet<String>,
    /// Changes of the topics up to the last of these.
    asked: u64,
    /// Changes that it was told of, or that it could not be told of.
    tried: u64,
}

pub(crate) struct Registration<R: Runtime> {
    rt: R,
    peers: Peers<R>,
    topics: Arc<Topics<R>>,
    presence: Presence,
    /// Told to a slave: where its master is. The last name server that knows one is believed.
    master: Option<Sender<MasterPlace>>,
    /// Where a slave finds its master's HA port, whatever name servers say.
    fixed_ha: Option<String>,
    targets: Vec<Arc<Target>>,
}

/// A name server was not told.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("resolve: {0}")]
    Resolve(std::io::Error),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("refused with code {code}: {remark}")]
    Refused { code: i32, remark: String },
}

/// Splits `host:port;host:port`.
///
/// # Errors
/// The part that is not `host:port`.
pub(crate) fn parse_name_servers(list: &str) -> Result<Vec<(String, u16)>, String> {
    let parts = list.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (host, port) = part.rsplit_once(':').ok_or_else(|| part.to_owned())?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            match port.parse() {
                Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
                _ => Err(part.to_owned()),
            }
        })
        .collect()
}

impl<R: Runtime> Registration<R> {
    pub fn new(
        rt: R,
        peers: Peers<R>,
        topics: Arc<Topics<R>>,
        presence: Presence,
        master: Option<Sender<MasterPlace>>,
        name_servers: Vec<(String, u16)>,
    ) -> Self {
        let target =
            |(host, port)| Arc::new(Target { host, port, pending: Mutex::default(), wake: Notify::new() });
        let targets = name_servers.into_iter().map(target).collect();
        let fixed_ha = master.as_ref().and_then(|master| master.get().ha);
        Registration { rt, peers, topics, presence, master, fixed_ha, targets }
    }

    /// Registers with every name server and keeps at it until `stop` is true. Waits for the first attempts, but not longer
    /// than `patience`.
    pub async fn start(self: &Arc<Self>, stop: &Receiver<bool>, patience: Duration) -> Vec<R::Task<()>> {
        let (first, mut done) = crate::runtime::sync::watch(0_usize);
        let mut tasks = Vec::new();
        for target in &self.targets {
            let (this, target, mut stop) = (self.clone(), target.clone(), stop.clone());
            let first = first.clone();
            tasks.push(self.rt.spawn("register", async move {
                let first_done = || first.modify(|count| *count += 1);
                // A stop does not wait for a name server that does not answer.
                crate::select! {
                    _ = stop.wait_for(|stop| *stop) => {}
                    () = this.keep_registered(&target, first_done) => {}
                }
            }));
        }
        let (this, mut stop) = (self.clone(), stop.clone());
        tasks.push(self.rt.spawn("spread topic changes", async move {
            loop {
                crate::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    changed = this.topics.changed() => this.spread(&changed),
                }
            }
        }));
        let count = self.targets.len();
        let all = async move { done.wait_for(|finished| *finished >= count).await };
        if self.rt.timeout(patience, all).await.is_err() {
            tracing::warn!("not every name server has answered yet");
        }
        tasks
    }

    fn spread(&self, changed: &Changed) {
        for target in &self.targets {
            let mut pending = target.pending();
            pending.topics.extend(changed.topics.iter().cloned());
            pending.asked = changed.count;
            drop(pending);
            target.wake.notify_one();
        }
        self.note_tried();
    }

    /// Lets those go on that wait for the name servers.
    fn note_tried(&self) {
        let tried = self.targets.iter().map(|target| target.pending().tried);
        self.topics.set_announced(tried.min().unwrap_or_else(|| self.topics.change_count()));
    }

    async fn keep_registered(&self, target: &Target, first_done: impl FnOnce()) {
        let period_ms = self.presence.period_ms.clamp(*PERIOD_MS.start(), *PERIOD_MS.end());
        let mut whole = self.register_all(target).await;
        first_done();
        let mut next = self.rt.now().after(self.second_after());
        loop {
            crate::select! {
                // Without a whole table there, one topic would be taken for all of it.
                () = target.wake.notified() => whole = whole && self.register_changed(target).await,
                () = self.rt.sleep_until(next) => whole = false,
            }
            if !whole {
                whole = self.register_all(target).await;
                let period = Duration::from_millis(period_ms);
                next = self.rt.now().after(if self.lacks_master() { self.second_after() } else { period });
            }
        }
    }

    /// A slave that nobody has told where its master is.
    fn lacks_master(&self) -> bool {
        self.master.as_ref().is_some_and(|master| master.get().remoting.is_none())
    }

    fn second_after(&self) -> Duration {
        if self.lacks_master() { MASTER_AFTER } else { SECOND_AFTER }
    }

    /// Tells it everything; whether that worked at each of its addresses.
    async fn register_all(&self, target: &Target) -> bool {
        let asked = target.pending().take().1;
        let told = self.register(target, self.registered(self.topics.wrapper())).await;
        target.pending().tried = asked;
        self.note_tried();
        told
    }

    /// Tells it each changed topic in a registration of its own.
    async fn register_changed(&self, target: &Target) -> bool {
        let (changed, asked) = target.pending().take();
        let told = self.register_each(target, changed).await;
        if told {
            target.pending().tried = asked;
            self.note_tried();
        }
        told
    }

    async fn register_each(&self, target: &Target, changed: BTreeSet<String>) -> bool {
        for name in changed {
            let Some(topic) = self.topics.get(&name) else {
                // A topic that is gone cannot be told alone.
                return false;
            };
            let wrapper = TopicConfigSerializeWrapper {
                data_version: self.topics.version(),
                topic_config_table: BTreeMap::from([(name, (*topic).clone())]),
            };
            if !self.register(target, self.registered(wrapper)).await {
                return false;
            }
        }
        true
    }

    /// What a name server is told of topics: no more than the broker permits.
    fn registered(&self, mut wrapper: TopicConfigSerializeWrapper) -> TopicConfigSerializeWrapper {
        let permission = self.presence.permission.get();
        if !(permission.can_read() && permission.can_write()) {
            for topic in wrapper.topic_config_table.values_mut() {
                topic.perm &= permission.0;
            }
        }
        wrapper
    }

    async fn register(&self, target: &Target, wrapper: TopicConfigSerializeWrapper) -> bool {
        let body =
            RegisterBrokerBody { filter_server_list: Vec::new(), topic_config_serialize_wrapper: wrapper };
        let body = body.to_json();
        let header = RegisterBrokerHeader {
            broker_name: self.presence.name.clone(),
            broker_addr: self.presence.address.clone(),
            cluster_name: self.presence.cluster.clone(),
            ha_server_addr: self.presence.ha_address.clone(),
            broker_id: self.presence.id,
            compressed: false,
            body_crc32: Some(body_crc32(&body)),
            ..Default::default()
        };
        let request = RemotingCommand::request(request::REGISTER_BROKER).with_header(&header).with_body(body);
        let answers = match self.ask(target, &request, self.presence.timeout).await {
            Ok(answers) => answers,
            Err(error) => {
                self.rt.mark(Mark::Unregistered);
                tracing::warn!(name_server = %target.host, %error, "register this broker");
                return false;
            }
        };
        let mut all = true;
        for (address, answer) in answers {
            match answer {
                Ok(answer) => {
                    self.take_master(&answer);
                    self.take_order_config(&answer).await;
                }
                Err(error) => {
                    self.rt.mark(Mark::Unregistered);
                    tracing::warn!(name_server = %address, %error, "register this broker");
                    all = false;
                }
            }
        }
        all
    }

    /// Sends `request` to every address of `target` at once.
    async fn ask(
        &self,
        target: &Target,
        request: &RemotingCommand,
        timeout: Duration,
    ) -> Result<Vec<(SocketAddr, Result<RemotingCommand, RegisterError>)>, RegisterError> {
        let resolve = self.rt.resolve(&target.host, target.port);
        let addresses = match self.rt.timeout(timeout, resolve).await {
            Ok(addresses) => addresses.map_err(RegisterError::Resolve)?,
            Err(_) => return Err(RegisterError::Resolve(std::io::ErrorKind::TimedOut.into())),
        };
        let calls = addresses.into_iter().map(|address| {
            let request = request.clone();
            async move {
                let answer = self.peers.call(&address.to_string(), request, timeout).await;
                let answer = answer.map_err(RegisterError::from).and_then(|answer| match answer.code {
                    response::SUCCESS => Ok(answer),
                    code => Err(RegisterError::Refused { code, remark: answer.remark.unwrap_or_default() }),
                });
                (address, answer)
            }
        });
        Ok(join_all(calls).await)
    }

    /// A name server tells a slave where its master is, as long as it knows one.
    fn take_master(&self, answer: &RemotingCommand) {
        let Some(master) = &self.master else { return };
        let Ok(RegisterBrokerResponse { ha_server_addr, master_addr }) = answer.header() else { return };
        let known = |address: Option<String>| address.filter(|address| !address.is_empty());
        let ha = self.fixed_ha.clone().or_else(|| known(ha_server_addr));
        let told = MasterPlace { ha, remoting: known(master_addr) };
        if told.ha.is_some() && told.remoting.is_some() && told != master.get() {
            self.rt.mark(Mark::MasterTold);
            tracing::info!(?told, "the master is here");
            master.send(told);
        }
    }

    /// A name server may say which topics are ordered.
    async fn take_order_config(&self, answer: &RemotingCommand) {
        if answer.body.is_empty() {
            return;
        }
        match KvTable::parse(&answer.body.to_bytes()) {
            Ok(ordered) => {
                if let Err(error) = self.topics.mark_ordered(&ordered.table).await {
                    tracing::warn!(%error, "mark ordered topics");
                }
            }
            Err(error) => tracing::warn!(%error, "read the ordered topics of a name server"),
        }
    }

    /// Takes this broker out of every name server's routes.
    pub async fn unregister(&self) {
        let header = UnregisterBrokerHeader {
            broker_name: self.presence.name.clone(),
            broker_addr: self.presence.address.clone(),
            cluster_name: self.presence.cluster.clone(),
            broker_id: self.presence.id,
        };
        let request = RemotingCommand::request(request::UNREGISTER_BROKER).with_header(&header);
        let told = self.targets.iter().map(|target| self.ask(target, &request, UNREGISTER_TIMEOUT));
        for (target, told) in self.targets.iter().zip(join_all(told).await) {
            let failed = match told {
                Ok(answers) => answers.into_iter().find_map(|(_, answer)| answer.err()),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                tracing::info!(name_server = %target.host, %error, "unregister this broker");
            }
        }
    }
}

/// Runs all of them at once, in this task: dropping it drops them all.
async fn join_all<F: Future + Send>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F::Output: Send,
{
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        let unfinished = running.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none());
        let mut all = true;
        for (future, output) in unfinished {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => all = false,
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

impl Target {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn take(&mut self) -> (BTreeSet<String>, u64) {
        (std::mem::take(&mut self.topics), self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_hosts_with_ports() {
        let read = parse_name_servers("a:1; 10.0.0.1:9876;[::1]:2;");
        let expect = [("a", 1), ("10.0.0.1", 9876), ("::1", 2)];
        let expect: Vec<(String, u16)> =
            expect.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        assert_eq!(read, Ok(expect));
        assert_eq!(parse_name_servers("a:1;b"), Err("b".to_owned()));
        assert_eq!(parse_name_servers("a:x"), Err("a:x".to_owned()));
        assert_eq!(parse_name_servers(""), Ok(vec![]));
    }
}

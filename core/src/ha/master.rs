//! A master's side: the HA port, and one task for each connection, which reads reports and pushes the log.
//!
//! A push waits for the log to grow, never for time. What connections learn is in [`Replication`]: puts that wait for a slave
//! wait there for a position, as those that wait for a flush do.
//!
//! Invariant: a connection is counted from its first good report until its task ends, however it ends (H-05).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::copies::SLAVES_MAX;
use super::flow::Flow;
use super::lives::Lives;
use super::replicas::{Extent, Refused, Replicas, Reported};
use super::wire::{self, PUSH_BYTES_MAX};
use crate::runtime::sync::{Receiver, Sender, Watermark, watch};
use crate::runtime::{Listener, Mark, Mono, Mutant, ReadHalf, Runtime, Task, WriteHalf};
use crate::store::MessageStore;
use crate::store::config_file::ConfigFile;

/// After an error of `accept`, such as no descriptors left, before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 4096;

/// What is known of all slaves.
pub struct Replication {
    replicas: Mutex<Replicas>,
    /// As `replicas` has them, for who must not wait for its lock.
    slaves: AtomicUsize,
    /// At place `n`: what `n + 1` slaves have.
    confirmed: [Watermark; SLAVES_MAX],
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    /// What was learned of slaves that must survive this process.
    lives_file: String,
    /// Held while that is written.
    writing: tokio::sync::Mutex<()>,
    next_connection: AtomicU64,
}

/// Who is at the other end of a connection, and what goes over it.
struct Peer {
    addr: SocketAddr,
    /// Where the next body begins; -1 before the slave has said where its log ends.
    next: AtomicI64,
    flow: Flow,
}

impl Peer {
    fn pushes(&self, next: Option<u64>) {
        let next = next.and_then(|next| i64::try_from(next).ok());
        self.next.store(next.unwrap_or(-1), Ordering::Relaxed);
    }
}

/// A slave as it is seen over one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlaveLink {
    pub peer: SocketAddr,
    pub acknowledged: u64,
    /// Where the next push begins; -1 before the first.
    pub next: i64,
    pub bytes_per_second: u64,
}

impl Replication {
    fn new(lives: Lives, lives_file: String) -> Replication {
        Replication {
            replicas: Mutex::new(Replicas::new(lives)),
            slaves: AtomicUsize::new(0),
            confirmed: std::array::from_fn(|_| Watermark::new(0)),
            peers: Mutex::default(),
            lives_file,
            writing: tokio::sync::Mutex::default(),
            next_connection: AtomicU64::new(1),
        }
    }

    /// So many slaves have everything below, as their flush modes promise.
    ///
    /// # Panics
    /// For none, and for more than [`SLAVES_MAX`].
    #[must_use]
    pub fn confirmed(&self, slaves: usize) -> &Watermark {
        &self.confirmed[slaves - 1]
    }

    /// Whether a put into a log that ends at `end` may wait for a slave: one is connected, and not `behind_max` bytes behind.
    #[must_use]
    pub fn is_available(&self, end: u64, behind_max: u64) -> bool {
        self.slaves.load(Ordering::Acquire) > 0 && end.saturating_sub(self.confirmed(1).get()) < behind_max
    }

    /// As [`Replicas::in_sync`].
    #[must_use]
    pub fn in_sync(&self, end: u64, gap_max: u64) -> usize {
        self.replicas().in_sync(end, gap_max)
    }

    /// Slaves that are connected and have reported.
    #[must_use]
    pub fn slaves(&self) -> usize {
        self.slaves.load(Ordering::Acquire)
    }

    /// Each connection that has reported.
    #[must_use]
    pub fn connections(&self, now: Mono) -> Vec<SlaveLink> {
        let peers = self.peers().clone();
        let replicas = self.replicas();
        let links = peers.into_iter().filter_map(|(number, peer)| {
            Some(SlaveLink {
                peer: peer.addr,
                acknowledged: replicas.acknowledged(number)?,
                next: peer.next.load(Ordering::Relaxed),
                bytes_per_second: peer.flow.bytes_per_second(now),
            })
        });
        links.collect()
    }

    /// As [`Replicas::compares`].
    pub fn compares(&self, host: IpAddr, end: u64) {
        self.replicas().compares(host, end);
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replicas(&self) -> MutexGuard<'_, Replicas> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection among the counted ones while it lives.
struct Counted<'a, R: Runtime> {
    feeder: &'a Feeder<R>,
    connection: u64,
}

impl<R: Runtime> Drop for Counted<'_, R> {
    fn drop(&mut self) {
        self.feeder.replication.peers().remove(&self.connection);
        if !self.feeder.rt.mutant(Mutant::EndedLinkCounts) {
            self.feeder.change(|replicas| replicas.closed(self.connection));
        }
    }
}

/// How a master feeds its slaves.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    pub heartbeat: Duration,
    pub housekeeping: Duration,
    pub batch_bytes: usize,
    /// So long a send waits for slaves.
    pub wait_ms: u64,
}

/// The listening HA port.
pub struct HaServer<R: Runtime> {
    local_addr: SocketAddr,
    replication: Arc<Replication>,
    stop: Sender<bool>,
    accepting: R::Task<()>,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the slave has closed it")]
    Closed,
    #[error("the slave has been silent for {0:?}")]
    Silent(Duration),
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<R: Runtime> HaServer<R> {
    /// Listens at `addr` (port 0: any free one). `begun` is [`begin_life`] of the file that is named.
    ///
    /// # Errors
    /// Of [`crate::runtime::network::Network::listen`], and of `begun`.
    pub async fn bind(
        rt: R,
        addr: SocketAddr,
        store: Arc<MessageStore<R>>,
        settings: FeedSettings,
        (begun, lives_file): (impl Future<Output = io::Result<Lives>>, String),
    ) -> io::Result<HaServer<R>> {
        let listener = rt.listen(addr).await?;
        // Whoever connects meanwhile waits.
        let lives = begun.await?;
        let local_addr = listener.local_addr();
        let (stop, stopping) = watch(false);
        let replication = Arc::new(Replication::new(lives, lives_file));
        let feeder = Feeder { rt: rt.clone(), store, settings, replication: replication.clone() };
        let accepting = rt.spawn("ha: accept", accept_loop(Arc::new(feeder), listener, stopping));
        Ok(HaServer { local_addr, replication, stop, accepting })
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    #[must_use]
    pub fn replication(&self) -> &Arc<Replication> {
        &self.replication
    }

    /// Ends all connections and frees the port.
    pub async fn stop(self) {
        self.stop.send(true);
        // A task that died with its node has nothing more to say.
        let _ = self.accepting.join().await;
    }
}

/// What is known of slaves as the process begins with a log that ends at `end`; kept before anything more is appended. The
/// file's folder must be there.
///
/// # Errors
/// Of reading and writing; `InvalidData` where neither the file nor its backup can be read.
pub async fn begin_life<R: Runtime>(rt: &R, file: &str, end: u64) -> io::Result<Lives> {
    let good = |bytes: &[u8]| Lives::parse(bytes).is_some();
    let mut lives = match ConfigFile::load_checked(rt, file, good).await? {
        Some((bytes, _)) if !rt.mutant(Mutant::LivesForgotten) => {
            Lives::parse(&bytes).ok_or(io::ErrorKind::InvalidData)?
        }
        Some(_) | None => Lives::default(),
    };
    let before = lives.clone();
    lives.begin(end);
    if lives != before && !rt.mutant(Mutant::LivesUnkept) {
        ConfigFile::save(rt, file, &lives.to_json()).await?;
    }
    Ok(lives)
}

async fn accept_loop<R: Runtime>(
    feeder: Arc<Feeder<R>>,
    mut listener: R::Listener,
    mut stopping: Receiver<bool>,
) {
    let rt = &feeder.rt;
    let mut running: Vec<R::Task<()>> = Vec::new();
    loop {
        let accepted = crate::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        running.retain(|task| !task.is_finished());
        match accepted {
            Ok((read, write, peer)) => {
                let (feeder, stop) = (feeder.clone(), stopping.clone());
                running
                    .push(rt.spawn("ha: slave", async move { feeder.serve(read, write, peer, stop).await }));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a slave");
                crate::select! {
                    _ = stopping.wait_for(|stop| *stop) => break,
                    () = rt.sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    for task in running {
        let _ = task.join().await;
    }
}

/// A host for each connection: a planted bug.
fn somebody(connection: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(u128::from(connection)))
}

/// The host as a number, for probes.
fn of_host(peer: SocketAddr) -> u64 {
    match peer.ip() {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => u128::from(ip) as u64,
    }
}

struct Feeder<R: Runtime> {
    rt: R,
    store: Arc<MessageStore<R>>,
    settings: FeedSettings,
    replication: Arc<Replication>,
}

impl<R: Runtime> Feeder<R> {
    async fn serve(&self, read: R::Read, write: R::Write, peer: SocketAddr, mut stop: Receiver<bool>) {
        let connection = self.replication.next_connection.fetch_add(1, Ordering::Relaxed);
        let host = if self.rt.mutant(Mutant::SlaveCountsTwice) { somebody(connection) } else { peer.ip() };
        self.change(|replicas| replicas.connected(connection, host));
        let seen = Arc::new(Peer { addr: peer, next: AtomicI64::new(-1), flow: Flow::default() });
        self.replication.peers().insert(connection, seen.clone());
        self.rt.probe("ha.accepted", connection, of_host(peer));
        let _counted = Counted { feeder: self, connection };
        crate::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            ended = self.feed(read, write, (connection, &seen)) => {
                self.rt.probe("ha.master_closed", connection, 0);
                match ended {
                    Ended::Refused(refused) => {
                        self.rt.mark(Mark::SlaveRefused);
                        tracing::error!(%peer, %refused, "a slave cannot follow");
                    }
                    ended => tracing::warn!(%peer, %ended, "the connection to a slave has ended"),
                }
            }
        }
    }

    /// Changes what is known of slaves, and tells those who wait for it.
    fn change<T>(&self, change: impl FnOnce(&mut Replicas) -> T) -> T {
        let Replication { slaves, confirmed: marks, .. } = &*self.replication;
        let mut replicas = self.replication.replicas();
        let answer = change(&mut replicas);
        slaves.store(replicas.slaves(), Ordering::Release);
        let confirmed: [u64; SLAVES_MAX] = std::array::from_fn(|nth| replicas.confirmed(nth + 1));
        drop(replicas);
        if confirmed[0] <= marks[0].get() && self.rt.mutant(Mutant::SecondSlaveUnheard) {
            return answer;
        }
        for (mark, position) in marks.iter().zip(confirmed) {
            mark.advance(position);
        }
        answer
    }

    fn extent(&self) -> Extent {
        Extent {
            min: if self.rt.mutant(Mutant::TooFarBehindFed) { 0 } else { self.store.commit_log_min() },
            end: self.pushable().get(),
            file_bytes: self.store.config().commit_log_file_bytes,
            now: self.rt.now(),
            wait_ms: if self.rt.mutant(Mutant::EmptySlaveCounts) { 0 } else { self.settings.wait_ms },
        }
    }

    fn pushable(&self) -> &Watermark {
        if self.rt.mutant(Mutant::PushUnflushed) { self.store.committed() } else { self.store.pushable() }
    }

    async fn feed(&self, mut read: R::Read, mut write: R::Write, (connection, peer): (u64, &Peer)) -> Ended {
        let rt = &self.rt;
        let mut input = BytesMut::with_capacity(READ_BYTES);
        // The frame that is on its way out.
        let mut frame = Bytes::new().chain(Bytes::new());
        // Where the next body begins, once the slave has said where its log ends.
        let mut next = None;
        let (mut last_read, mut last_write) = (rt.now(), rt.now());
        loop {
            let sending = frame.has_remaining();
            if let Some(at) = next.filter(|_| !sending) {
                match self.frame(at) {
                    Ok(Some(body)) => {
                        next = Some(at + body.len() as u64);
                        peer.pushes(next);
                        self.replication.replicas().pushes(connection, at + body.len() as u64);
                        frame = wire::frame_header(at, body.len()).chain(body);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => return error.into(),
                }
            }
            crate::select! {
                got = read.read_buf(&mut input) => {
                    match got {
                        Ok(0) => return Ended::Closed,
                        Ok(_) => last_read = rt.now(),
                        Err(error) => return error.into(),
                    }
                    if let Some(value) = wire::take_last_report(&mut input) {
                        let heard = self.reported(connection, value);
                        if let Err(error) = self.keep(connection, &heard).await {
                            return error.into();
                        }
                        match heard {
                            Ok(Reported::Begins(at)) => {
                                next = Some(at);
                                peer.pushes(next);
                            }
                            Ok(Reported::Continues) => {}
                            Err(refused) => return refused.into(),
                        }
                    }
                }
                sent = write.write_some(&mut frame), if sending => {
                    last_write = rt.now();
                    match sent {
                        Ok(bytes) => peer.flow.add(last_write, bytes),
                        Err(error) => return error.into(),
                    }
                }
                () = self.grown(next), if !sending => {}
                () = rt.sleep_until(last_write.after(self.settings.heartbeat)), if !sending && next.is_some() => {
                    last_write = rt.now();
                    frame = wire::frame_header(next.unwrap_or(0), 0).chain(Bytes::new());
                }
                () = rt.sleep_until(last_read.after(self.settings.housekeeping)) => {
                    return Ended::Silent(self.settings.housekeeping);
                }
            }
        }
    }

    fn reported(&self, connection: u64, value: i64) -> Result<Reported, Refused> {
        let log = self.extent();
        let grown_past = self.rt.mutant(Mutant::GrownPastIsBehind);
        let reported = self.change(|replicas| {
            if grown_past {
                replicas.pushes(connection, log.end);
            }
            replicas.reported(connection, value, log)
        });
        if let Err(Refused::Ahead { value, .. } | Refused::NotGiven { value, .. }) = reported
            && self.rt.mutant(Mutant::SlaveAheadGoesOn)
        {
            return Ok(self.change(|replicas| replicas.believed(connection, value, log.now)));
        }
        match reported {
            Ok(_) => self.rt.probe("ha.reported", connection, value.unsigned_abs()),
            Err(Refused::Ahead { value, .. } | Refused::NotGiven { value, .. }) => {
                self.rt.mark(Mark::SlaveAhead);
                self.rt.probe("ha.ahead", connection, value);
            }
            Err(Refused::TooFarBehind { value, .. }) => self.rt.probe("ha.too_far_behind", connection, value),
            Err(_) => {}
        }
        reported
    }

    /// Keeps what was learned of a slave by its report, before it is fed.
    async fn keep(&self, connection: u64, heard: &Result<Reported, Refused>) -> io::Result<()> {
        let Replication { lives_file, writing, .. } = &*self.replication;
        if !self.replication.replicas().learns(connection, heard) {
            return Ok(());
        }
        let _writing = writing.lock().await;
        let lives = self.replication.replicas().lives().to_json();
        ConfigFile::save(&self.rt, lives_file, &lives).await
    }

    /// What can be pushed from `at`.
    fn frame(&self, at: u64) -> io::Result<Option<Bytes>> {
        if self.starves(at) {
            return Ok(None);
        }
        let bytes_max = self.settings.batch_bytes.clamp(1, PUSH_BYTES_MAX);
        self.store.log_bytes(self.pushable().get(), at, bytes_max)
    }

    /// Waits until there is something to push from `next` on; for ever when nothing will be.
    async fn grown(&self, next: Option<u64>) {
        let grown = match next {
            Some(next) if !self.starves(next) => self.pushable().reached(next + 1).await.is_ok(),
            _ => false,
        };
        if !grown {
            std::future::pending::<()>().await;
        }
    }

    /// What it needs next was deleted, and nobody minds: a planted bug.
    fn starves(&self, next: u64) -> bool {
        self.rt.mutant(Mutant::TooFarBehindFed) && next < self.store.commit_log_min()
    }
}

//! A slave's side: follows its master over one connection at a time, and connects again when that ends.
//!
//! Before it says where its log ends it compares its last record, and the end of a file behind it, with what the master has in
//! those places: a master that has lost its tail, or another one, has other records there or none. While it does not know where
//! the master takes requests, it asks at the port below its HA port, where Java puts them. Histories that differ are not reconciled: the slave
//! says so, appends nothing, gives nobody what it has, takes none of its master's tables and tries again, until it is set up anew.
//!
//! Invariant: a report is below what the slave's flush mode promises, and the bytes below it are the master's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::flow::Flow;
use super::follower::{Follower, NotTaken};
use super::wire::{self, BODY_BYTES_MAX, BadFrame};
use crate::message::codec::{self, Head};
use crate::remoting::RemotingCommand;
use crate::remoting::codes::{request, response};
use crate::remoting::connection::CallError;
use crate::remoting::headers::ViewMessageHeader;
use crate::remoting::peer::Peers;
use crate::runtime::sync::{Receiver, Watermark, WatermarkFailed};
use crate::runtime::{Mark, Mono, Mutant, ReadHalf, Runtime, WriteHalf};
use crate::store::{CopyError, MessageStore};

/// After the end of a connection, and before the next try. Java's.
const RECONNECT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const COMPARE_TIMEOUT: Duration = Duration::from_secs(3);
/// Read at once; more while a longer frame is on its way.
const READ_BYTES: usize = 64 << 10;

/// Where the master is, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MasterPlace {
    /// `host:port` of its HA port.
    pub ha: Option<String>,
    /// `host:port` for requests.
    pub remoting: Option<String>,
}

impl MasterPlace {
    /// Where requests go: as long as nobody says where, one port below its HA port, where Java puts them.
    #[must_use]
    pub fn requests(&self) -> Option<String> {
        self.remoting.clone().or_else(|| below(self.ha.as_deref()?))
    }
}

#[derive(Debug, Clone)]
pub struct FollowSettings {
    /// Time between two reports of one position.
    pub heartbeat: Duration,
    pub housekeeping: Duration,
}

/// Whether the slave follows. Every link has a number of its own: what was learned of a master over one of them holds of what
/// comes over the same, and perhaps not of what comes over the next.
#[derive(Debug, Default)]
pub struct LinkState {
    changes: AtomicU64,
    diverged: AtomicBool,
    /// When something came last over the link that is open, and when a report went, in ms since 1970; 0: not yet.
    last_read_ms: AtomicI64,
    last_write_ms: AtomicI64,
    flow: Flow,
}

impl LinkState {
    /// When something came last; 0 without a link.
    #[must_use]
    pub fn last_read_ms(&self) -> i64 {
        self.last_read_ms.load(Ordering::Relaxed)
    }

    /// When a report went last; 0 before the first.
    #[must_use]
    pub fn last_write_ms(&self) -> i64 {
        self.last_write_ms.load(Ordering::Relaxed)
    }

    /// What came in the last whole second.
    #[must_use]
    pub fn bytes_per_second(&self, now: Mono) -> u64 {
        self.flow.bytes_per_second(now)
    }

    /// The number of the link that is open now.
    #[must_use]
    pub fn open(&self) -> Option<u64> {
        let changes = self.changes.load(Ordering::Acquire);
        (changes % 2 == 1).then_some(changes)
    }

    /// Whether the master was found to have another history, and none was followed since. What this slave has may be what its
    /// master has lost: nobody should be given it.
    #[must_use]
    pub fn has_diverged(&self) -> bool {
        self.diverged.load(Ordering::Acquire)
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// Why the slave does not follow, or no longer.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("look up {addr}: {source}")]
    Resolve { addr: String, source: io::Error },
    #[error("nobody says where the master takes requests")]
    Unknown,
    #[error("connect to {addr}: {source}")]
    Connect { addr: String, source: io::Error },
    #[error("ask the master for the record at {at}: {source}")]
    Compare { at: u64, source: CallError },
    /// The histories differ.
    #[error("the master has another record at {at}, or none: this slave must be set up anew")]
    Diverged { at: u64 },
    #[error("the master has closed it")]
    Closed,
    #[error("the master has been silent for {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Frame(#[from] BadFrame),
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("append: {0}")]
    Append(#[from] CopyError),
    #[error("this log is not empty and cannot begin at {0}")]
    Begin(u64),
    #[error("a flush has failed")]
    Flush(#[from] WatermarkFailed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A slave's link to its master.
pub struct Slave<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub peers: Peers<R>,
    pub settings: FollowSettings,
    pub link: Arc<LinkState>,
}

/// What one connection has come to.
struct Link {
    follower: Follower,
    /// Received and not read yet.
    input: BytesMut,
    /// Reports on their way out.
    output: Bytes,
    reported: u64,
}

impl<R: Runtime> Slave<R> {
    /// Follows the master wherever `place` says it is, until `stop` is true.
    pub async fn run(self, mut place: Receiver<MasterPlace>, mut stop: Receiver<bool>) {
        let mut kept = None;
        loop {
            let at = place.get();
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                ended = self.follow(&at, &mut kept) => {
                    self.tell(&at, &ended);
                    if matches!(ended, Ended::Append(_)) && self.rt.mutant(Mutant::SlaveGivesUp) {
                        return;
                    }
                }
                () = self.moved(&mut place, &at) => continue,
            }
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.rt.sleep(RECONNECT) => {}
            }
        }
    }

    /// Ends when the master is elsewhere, and no link is open: one that is fed is not cut for what a name server says.
    async fn moved(&self, place: &mut Receiver<MasterPlace>, before: &MasterPlace) {
        place.wait_for(|now| now.ha != before.ha).await;
        while self.link.open().is_some() {
            self.rt.sleep(RECONNECT).await;
        }
    }

    fn tell(&self, master: &MasterPlace, ended: &Ended) {
        let ha = master.ha.as_deref().unwrap_or_default();
        match ended {
            Ended::Diverged { at } => {
                self.link.diverged.store(true, Ordering::Release);
                self.rt.mark(Mark::SlaveDiverged);
                self.rt.probe("ha.diverged", *at, self.store.commit_log_max());
                tracing::error!(master = ha, %ended, "the slave does not follow");
            }
            Ended::NotTaken(_) | Ended::Begin(_) => {
                self.rt.mark(Mark::CopyNotTaken);
                tracing::error!(master = ha, %ended, "the slave does not follow")
            }
            ended => tracing::warn!(master = ha, %ended, "the slave does not follow"),
        }
    }

    /// One connection, from its beginning to its end.
    async fn follow(&self, master: &MasterPlace, kept: &mut Option<Follower>) -> Ended {
        let Some(ha) = &master.ha else { return std::future::pending().await };
        match self.follow_at(ha, master.requests().as_deref(), kept).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn follow_at(
        &self,
        ha: &str,
        remoting: Option<&str>,
        kept: &mut Option<Follower>,
    ) -> Result<std::convert::Infallible, Ended> {
        // What was appended last is reported first, and must be as safe as any report says.
        let end = self.store.commit_log_max();
        self.store.kept().reached(end).await?;
        let (mut read, mut write) = self.connect(ha).await?;
        // Behind the connection: should the master lose something and start again, this one has ended.
        let java = self.rt.plays_java();
        if !self.rt.mutant(Mutant::SlaveAheadGoesOn) && !java {
            let Some(remoting) = remoting else { return Err(Ended::Unknown) };
            self.compare(remoting, end).await?;
        }
        let file_bytes = self.store.config().commit_log_file_bytes;
        let follower = match kept.take() {
            Some(follower) if self.rt.mutant(Mutant::PartKeptOverReconnect) => follower,
            _ => Follower::new(end, file_bytes),
        };
        self.rt.probe("ha.connected", end, 0);
        let mut link = Link {
            follower,
            input: BytesMut::new(),
            // A Java slave reports for the first time when a heartbeat is due.
            output: if java { Bytes::new() } else { Bytes::copy_from_slice(&wire::report(end)) },
            reported: end,
        };
        let opened = Opened::new(&self.link);
        self.link.last_read_ms.store(self.rt.wall_ms(), Ordering::Relaxed);
        let ended = self.keep_following(&mut link, &mut read, &mut write).await;
        drop(opened);
        *kept = Some(link.follower);
        self.rt.probe("ha.slave_closed", link.reported, 0);
        ended
    }

    async fn connect(&self, addr: &str) -> Result<(R::Read, R::Write), Ended> {
        let refused = |source| Ended::Resolve { addr: addr.to_owned(), source };
        let (host, port) =
            addr.rsplit_once(':').ok_or_else(|| refused(io::ErrorKind::InvalidInput.into()))?;
        let port = port.parse().map_err(|_| refused(io::ErrorKind::InvalidInput.into()))?;
        let found = self.rt.timeout(CONNECT_TIMEOUT, self.rt.resolve(host, port)).await;
        let found = found.map_err(|_| refused(io::ErrorKind::TimedOut.into()))?.map_err(refused)?;
        let first: SocketAddr = *found.first().ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
        let failed = |source| Ended::Connect { addr: addr.to_owned(), source };
        match self.rt.timeout(CONNECT_TIMEOUT, self.rt.connect(first)).await {
            Ok(connected) => connected.map_err(failed),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Whether the master has this slave's last record in the same place, and no record where a file of this slave ends behind it.
    async fn compare(&self, remoting: &str, end: u64) -> Result<(), Ended> {
        let Some((at, own)) = self.store.last_record() else { return Ok(()) };
        if self.record_of_master(remoting, at, Some(end)).await?.is_none_or(|record| record != own) {
            return Err(Ended::Diverged { at });
        }
        let behind = at + own.len() as u64;
        // A blank record, whose master may have lost it and put a shorter message in its place.
        if behind < self.store.commit_log_max()
            && let Some(found) = self.record_of_master(remoting, behind, None).await?
            && matches!(codec::head(&found), Head::Record { .. })
        {
            return Err(Ended::Diverged { at: behind });
        }
        Ok(())
    }

    /// What the master has at `at`; `None` when it says that no record begins there.
    async fn record_of_master(
        &self,
        remoting: &str,
        at: u64,
        compares: Option<u64>,
    ) -> Result<Option<Bytes>, Ended> {
        let offset = i64::try_from(at).unwrap_or(i64::MAX);
        let compares = compares.and_then(|end| i64::try_from(end).ok());
        let request = RemotingCommand::request(request::VIEW_MESSAGE_BY_ID).with_header(&ViewMessageHeader {
            offset,
            compares,
            ..Default::default()
        });
        let answer = self.peers.call(remoting, request, COMPARE_TIMEOUT).await;
        let answer = answer.map_err(|source| Ended::Compare { at, source })?;
        Ok((answer.code == response::SUCCESS).then(|| answer.body.to_bytes()))
    }

    async fn keep_following(
        &self,
        link: &mut Link,
        read: &mut R::Read,
        write: &mut R::Write,
    ) -> Result<std::convert::Infallible, Ended> {
        let (rt, FollowSettings { heartbeat, housekeeping }) = (&self.rt, &self.settings);
        let (mut last_read, mut last_report) = (rt.now(), rt.now());
        loop {
            self.take(link).await?;
            let sending = !link.output.is_empty();
            // What comes does not keep what is to be said waiting: a slave that catches up has always more to read.
            crate::select! {
                sent = write.write_some(&mut link.output), if sending => {
                    sent?;
                    self.link.last_write_ms.store(rt.wall_ms(), Ordering::Relaxed);
                }
                reached = self.reportable().reached(link.reported + 1), if !sending => {
                    reached?;
                    link.report(self.reportable().get());
                    last_report = rt.now();
                }
                () = rt.sleep_until(last_report.after(*heartbeat)), if !sending => {
                    link.report(link.reported);
                    last_report = rt.now();
                }
                got = read.read_buf(reserved(&mut link.input)) => {
                    let bytes = got?;
                    if bytes == 0 {
                        return Err(Ended::Closed);
                    }
                    last_read = rt.now();
                    self.link.last_read_ms.store(rt.wall_ms(), Ordering::Relaxed);
                    self.link.flow.add(last_read, bytes);
                    if rt.mutant(Mutant::HeartbeatsSilenceReports) {
                        last_report = last_read;
                    }
                }
                () = rt.sleep_until(last_read.after(*housekeeping)) => {
                    return Err(Ended::Silent(*housekeeping));
                }
            }
        }
    }

    fn reportable(&self) -> &Watermark {
        if self.rt.mutant(Mutant::SlaveReportsUnflushed) { self.store.written() } else { self.store.kept() }
    }

    /// Appends everything whole that has been received.
    async fn take(&self, link: &mut Link) -> Result<(), Ended> {
        while let Some((at, body)) = wire::take_frame(&mut link.input)? {
            if let Some(base) = link.follower.frame(at, &body)?
                && !self.store.begin_at(base).await
            {
                return Err(Ended::Begin(base));
            }
            loop {
                let at = link.follower.end();
                let Some(ready) = link.follower.ready()? else { break };
                let end = self.store.append_copy(at, ready.piece()).await?;
                self.rt.probe("ha.copied", at, end);
                debug_assert_eq!(end, link.follower.end());
            }
        }
        Ok(())
    }
}

/// A link that is open, however it ends.
struct Opened<'a>(&'a LinkState);

impl<'a> Opened<'a> {
    fn new(state: &'a LinkState) -> Opened<'a> {
        assert_eq!(state.open(), None, "a slave has one link at a time");
        state.change();
        state.diverged.store(false, Ordering::Release);
        Opened(state)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.last_read_ms.store(0, Ordering::Relaxed);
        self.0.change();
    }
}

impl Link {
    fn report(&mut self, end: u64) {
        self.output = Bytes::copy_from_slice(&wire::report(end));
        self.reported = end;
    }
}

/// The address one port below that of `ha`.
fn below(ha: &str) -> Option<String> {
    let (host, port) = ha.rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?.checked_sub(1).filter(|port| *port > 0)?;
    Some(format!("{host}:{port}"))
}

/// Room for the next read, which is bounded by what a frame may have.
fn reserved(input: &mut BytesMut) -> &mut BytesMut {
    debug_assert!(input.len() <= BODY_BYTES_MAX + READ_BYTES);
    input.reserve(READ_BYTES);
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_one_port_below_unless_somebody_knows_better() {
        assert_eq!(below("127.0.0.1:10912").as_deref(), Some("127.0.0.1:10911"));
        assert_eq!(below("[::1]:2").as_deref(), Some("[::1]:1"));
        assert_eq!((below("host:1"), below("host:0"), below("host")), (None, None, None));
    }

    #[test]
    fn requests_go_where_name_servers_say_that_the_master_is() {
        let at = |remoting: Option<&str>| MasterPlace {
            ha: Some("h:10912".to_owned()),
            remoting: remoting.map(str::to_owned),
        };
        assert_eq!(at(None).requests().as_deref(), Some("h:10911"));
        assert_eq!(at(Some("g:1")).requests().as_deref(), Some("g:1"));
        assert_eq!(MasterPlace::default().requests(), None);
    }

    #[test]
    fn every_link_has_a_number_of_its_own_while_it_is_open() {
        let state = LinkState::default();
        assert_eq!(state.open(), None);
        state.diverged.store(true, Ordering::Release);
        let first = Opened::new(&state);
        assert!(!state.has_diverged(), "it follows");
        let number = state.open();
        assert!(number.is_some());
        drop(first);
        assert_eq!(state.open(), None);
        let _second = Opened::new(&state);
        assert!(state.open() > number);
    }
}

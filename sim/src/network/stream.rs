//! core's [`Network`] on the simulated TCP: listeners and the two halves of a connection.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hotfire_core::runtime::network::Network;
use hotfire_core::runtime::{Listener, ReadHalf, WriteHalf};

use super::handshake::{Attempt, Stage};
use super::{Listener as ListenerState, Payload, ResolverFault, close, reopen_window, send, travel};
use crate::cluster::NodeId;
use crate::runtime::SimRuntime;
use crate::seed::hash_bytes;
use crate::world::{Event, Inner};

/// Of a process that is dead: nobody sees it but destructors.
fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

/// One end of a connection, as a process holds it.
struct Socket {
    runtime: SimRuntime,
    connection: u32,
    end: usize,
    local: SocketAddr,
}

impl Socket {
    fn node(&self) -> NodeId {
        self.runtime.node()
    }

    fn label(&self) -> u64 {
        u64::from(self.connection) << 1 | self.end as u64
    }
}

/// The kernel's socket is closed with the second half.
fn drop_half(socket: &Socket) {
    let Some(mut inner) = socket.runtime.world().lock_in_drop() else { return };
    if !inner.alive(socket.node(), socket.runtime.incarnation()) {
        return;
    }
    let Some(connection) = inner.network.connection(socket.connection) else { return };
    let end = &mut connection.ends[socket.end];
    end.halves -= 1;
    if end.halves == 0 {
        close(&mut inner, socket.connection, socket.end);
    }
}

/// The receiving half of a connection.
pub struct SimRead(Socket);

/// The sending half of a connection.
pub struct SimWrite(Socket);

fn halves(runtime: &SimRuntime, connection: u32, end: usize, local: SocketAddr) -> (SimRead, SimWrite) {
    let socket = || Socket { runtime: runtime.clone(), connection, end, local };
    (SimRead(socket()), SimWrite(socket()))
}

impl ReadHalf for SimRead {
    fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let socket = &self.0;
            let mut inner = socket.runtime.world().lock();
            if !inner.alive(socket.node(), socket.runtime.incarnation()) {
                return Poll::Pending;
            }
            let Some(connection) = inner.network.connection(socket.connection) else {
                return Poll::Ready(Ok(()));
            };
            let way = &connection.directions[1 - socket.end];
            let end = &mut connection.ends[socket.end];
            let there = way.received_bytes > 0 || way.end_of_stream;
            if there || end.maybe_readable || end.error.is_some() || end.broken {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn try_read(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        let socket = &self.0;
        let spare = buf.capacity() - buf.len();
        assert!(spare > 0, "a read needs room");
        let mut inner = socket.runtime.world().lock();
        if !inner.alive(socket.node(), socket.runtime.incarnation()) {
            return Err(dead());
        }
        let split = inner.network.config.split_read;
        let Some(connection) = inner.network.connection(socket.connection) else { return Ok(0) };
        let way = &mut connection.directions[1 - socket.end];
        let end = &mut connection.ends[socket.end];
        if let Some(kind) = end.error.take() {
            end.broken = true;
            return Err(kind.into());
        }
        if way.received_bytes == 0 {
            end.maybe_readable = false;
            return if way.end_of_stream || end.broken {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        way.reads += 1;
        let mut draws = way.key.with(2).draws(way.reads);
        let there = spare.min(way.received_bytes);
        let wanted = if draws.chance(split) { 1 + draws.below(there as u64) as usize } else { there };
        let mut left = wanted;
        while left > 0 {
            let chunk = way.received.front_mut().expect("received bytes are in chunks");
            let part = chunk.split_to(left.min(chunk.len()));
            if chunk.is_empty() {
                way.received.pop_front();
            }
            left -= part.len();
            buf.put_slice(&part);
        }
        way.received_bytes -= wanted;
        reopen_window(&mut inner, socket.connection, 1 - socket.end);
        inner.trace("net.read", socket.node(), socket.label(), wanted as u64);
        Ok(wanted)
    }
}

impl Drop for SimRead {
    fn drop(&mut self) {
        drop_half(&self.0);
    }
}

impl WriteHalf for SimWrite {
    async fn writable(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let socket = &self.0;
            let mut inner = socket.runtime.world().lock();
            if !inner.alive(socket.node(), socket.runtime.incarnation()) {
                return Poll::Pending;
            }
            let limit = inner.network.config.send_buffer;
            let Some(connection) = inner.network.connection(socket.connection) else {
                return Poll::Ready(Ok(()));
            };
            let room = connection.directions[socket.end].buffered < limit;
            let end = &mut connection.ends[socket.end];
            if room || end.error.is_some() || end.broken || end.fin_sent {
                return Poll::Ready(Ok(()));
            }
            end.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn try_write<B: Buf + Send>(&mut self, buf: &mut B) -> io::Result<usize> {
        let socket = &self.0;
        let mut inner = socket.runtime.world().lock();
        if !inner.alive(socket.node(), socket.runtime.incarnation()) {
            return Err(dead());
        }
        let config = inner.network.config;
        let Some(connection) = inner.network.connection(socket.connection) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let end = &mut connection.ends[socket.end];
        if let Some(kind) = end.error.take() {
            end.broken = true;
            return Err(kind.into());
        }
        if end.broken || end.fin_sent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !buf.has_remaining() {
            return Ok(0);
        }
        let way = &connection.directions[socket.end];
        let room = config.send_buffer.saturating_sub(way.buffered);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut draws = way.key.with(3).draws(way.sent);
        let there = room.min(buf.remaining());
        let (partly, twice) = (draws.chance(config.split_write), draws.chance(config.split_write));
        let taken = if partly { 1 + draws.below(there as u64) as usize } else { there };
        let border = draws.below(taken as u64) as usize;
        // The kernel copies at this moment: later changes of a view do not travel.
        let mut data = take(buf, taken);
        inner.trace("net.write", socket.node(), socket.label(), hash_bytes(0, &data));
        if twice && border > 0 {
            let head = data.split_to(border);
            send(&mut inner, socket.connection, socket.end, Payload::Data(head));
        }
        send(&mut inner, socket.connection, socket.end, Payload::Data(data));
        Ok(taken)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        let socket = &self.0;
        let mut inner = socket.runtime.world().lock();
        if !inner.alive(socket.node(), socket.runtime.incarnation()) {
            return Err(dead());
        }
        let Some(connection) = inner.network.connection(socket.connection) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let end = &mut connection.ends[socket.end];
        if end.broken || end.error.is_some() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !end.fin_sent {
            end.fin_sent = true;
            inner.trace("net.shutdown", socket.node(), socket.label(), 0);
            send(&mut inner, socket.connection, socket.end, Payload::Fin);
        }
        Ok(())
    }
}

impl Drop for SimWrite {
    fn drop(&mut self) {
        drop_half(&self.0);
    }
}

fn take(buf: &mut impl Buf, len: usize) -> Bytes {
    let mut data = BytesMut::with_capacity(len);
    data.put(buf.take(len));
    data.freeze()
}

/// A listening socket.
pub struct SimListener {
    runtime: SimRuntime,
    at: SocketAddr,
}

impl Listener for SimListener {
    type Read = SimRead;
    type Write = SimWrite;

    fn local_addr(&self) -> SocketAddr {
        self.at
    }

    async fn accept(&mut self) -> io::Result<(SimRead, SimWrite, SocketAddr)> {
        let (id, local, peer) = poll_fn(|context| {
            let mut inner = self.runtime.world().lock();
            if !inner.alive(self.runtime.node(), self.runtime.incarnation()) {
                return Poll::Pending;
            }
            loop {
                let key = (self.runtime.node(), self.at.port());
                let Some(listener) = inner.network.listeners.get_mut(&key) else { return Poll::Pending };
                let Some(id) = listener.queue.pop_front() else {
                    listener.waker = Some(context.waker().clone());
                    return Poll::Pending;
                };
                let Some(connection) = inner.network.connection(id) else { continue };
                connection.ends[1].accepted = true;
                let (local, peer) = (connection.ends[1].address, connection.ends[0].address);
                inner.trace("net.accept", self.runtime.node(), u64::from(id), 0);
                return Poll::Ready((id, local, peer));
            }
        })
        .await;
        let (read, write) = halves(&self.runtime, id, 1, local);
        Ok((read, write, peer))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let Some(mut inner) = self.runtime.world().lock_in_drop() else { return };
        if !inner.alive(self.runtime.node(), self.runtime.incarnation()) {
            return;
        }
        let key = (self.runtime.node(), self.at.port());
        let Some(listener) = inner.network.listeners.remove(&key) else { return };
        for id in listener.queue {
            close(&mut inner, id, 1);
        }
    }
}

/// A connect that is given up when dropped.
struct Connecting<'a> {
    runtime: &'a SimRuntime,
    number: u32,
}

impl Connecting<'_> {
    fn poll(&self, waker: &Waker) -> Poll<Result<u32, io::ErrorKind>> {
        let mut inner = self.runtime.world().lock();
        let Some(attempt) = inner.network.attempts.get_mut(&self.number) else { return Poll::Pending };
        if let Stage::Done(result) = attempt.stage {
            inner.network.attempts.remove(&self.number);
            return Poll::Ready(result);
        }
        attempt.waker = Some(waker.clone());
        Poll::Pending
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        let Some(mut inner) = self.runtime.world().lock_in_drop() else { return };
        let Some(attempt) = inner.network.attempts.remove(&self.number) else { return };
        if let Stage::Done(Ok(id)) = attempt.stage {
            close(&mut inner, id, 0);
        }
    }
}

fn begin_connect(inner: &mut Inner, runtime: &SimRuntime, to: SocketAddr) -> u32 {
    let from = runtime.node();
    let target = match to.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => Some(from),
        IpAddr::V4(ip) => inner.node_at(ip),
        IpAddr::V6(_) => None,
    };
    let number = inner.network.next_attempt;
    inner.network.next_attempt += 1;
    let pair = (from, target.unwrap_or(NodeId::SUPERVISOR));
    let count = inner.network.pair_counts.entry(pair).or_insert(0);
    *count += 1;
    let count = *count;
    let key = inner.key("connection", u64::from(pair.0.0) << 32 | u64::from(pair.1.0)).with(count);
    let at = match target {
        Some(target) => travel(inner, from, target, 0, &mut key.draws(0)),
        // Nobody answers for this address on the local network.
        None => inner.now() + 3 * super::SECOND_NS,
    };
    let attempt = Attempt {
        from,
        incarnation: runtime.incarnation(),
        to,
        target,
        tries: 0,
        stage: Stage::Outward,
        key,
        waker: None,
    };
    inner.network.attempts.insert(number, attempt);
    inner.trace("net.syn", from, u64::from(pair.1.0), u64::from(to.port()));
    inner.at(at, Event::Syn { attempt: number });
    number
}

impl Network for SimRuntime {
    type Listener = SimListener;
    type Read = SimRead;
    type Write = SimWrite;

    async fn listen(&self, at: SocketAddr) -> io::Result<SimListener> {
        let mut inner = self.world().lock();
        if !inner.alive(self.node(), self.incarnation()) {
            return Err(dead());
        }
        let own = IpAddr::V4(inner.node(self.node()).ip);
        if at.ip() != own && !at.ip().is_loopback() && !at.ip().is_unspecified() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if at.port() == 0 { inner.network.free_port(self.node()) } else { at.port() };
        let key = (self.node(), port);
        if inner.network.listeners.contains_key(&key) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let state = ListenerState {
            ip: at.ip(),
            incarnation: self.incarnation(),
            queue: std::collections::VecDeque::new(),
            waker: None,
        };
        inner.network.listeners.insert(key, state);
        inner.trace("net.listen", self.node(), u64::from(port), 0);
        Ok(SimListener { runtime: self.clone(), at: SocketAddr::new(at.ip(), port) })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<(SimRead, SimWrite)> {
        let number = {
            let mut inner = self.world().lock();
            if !inner.alive(self.node(), self.incarnation()) {
                return Err(dead());
            }
            begin_connect(&mut inner, self, to)
        };
        let connecting = Connecting { runtime: self, number };
        let id = poll_fn(|context| connecting.poll(context.waker())).await?;
        let local = self.world().lock().network.connection(id).map(|connection| connection.ends[0].address);
        Ok(halves(self, id, 0, local.ok_or(io::ErrorKind::ConnectionReset)?))
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let (fault, wait) = {
            let mut inner = self.world().lock();
            inner.network.lookups += 1;
            let lookups = inner.network.lookups;
            let wait =
                inner.key("resolve", u64::from(self.node().0)).draws(lookups).between(50_000, 2_000_000);
            (inner.network.resolvers.get(&self.node()).copied(), Duration::from_nanos(wait))
        };
        if let Some(ResolverFault::TimedOut(after)) = fault {
            self.world().sleep(after).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.world().sleep(wait).await;
        let inner = self.world().lock();
        let table = inner.network.names.get(host).cloned();
        let addresses = table.unwrap_or_else(|| match host {
            "localhost" => vec![IpAddr::from([127, 0, 0, 1])],
            _ => inner.node_named(host).map(|node| inner.node(node).ip.into()).into_iter().collect(),
        });
        if fault.is_some() || addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("unknown host {host}")));
        }
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

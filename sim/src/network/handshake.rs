//! How a connection comes about: SYN, its answer, retries.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Waker;

use super::{BACKLOG, Connection, Direction, End, Payload, SECOND_NS, send, travel};
use crate::cluster::NodeId;
use crate::seed::Key;
use crate::world::{Event, Inner};

/// SYN retries: 1 + 2 + .. + 64 s = 127 s.
const SYN_RETRIES: u32 = 6;

pub(super) enum Stage {
    /// The SYN reaches the other host.
    Outward,
    /// The answer reaches ours.
    Back {
        refused: bool,
    },
    Done(Result<u32, io::ErrorKind>),
}

/// A connect in progress.
pub(super) struct Attempt {
    pub(super) from: NodeId,
    pub(super) incarnation: u32,
    pub(super) to: SocketAddr,
    pub(super) target: Option<NodeId>,
    pub(super) tries: u32,
    pub(super) stage: Stage,
    pub(super) key: Key,
    pub(super) waker: Option<Waker>,
}

/// A connection attempt reaches the other host, or its answer reaches ours.
pub(crate) fn on_syn(inner: &mut Inner, number: u32) {
    let Some(attempt) = inner.network.attempts.get(&number) else { return };
    let (from, to, target, tries, key) =
        (attempt.from, attempt.to, attempt.target, attempt.tries, attempt.key);
    if !inner.alive(from, attempt.incarnation) {
        inner.network.attempts.remove(&number);
        return;
    }
    let Some(target) = target else {
        return finish_attempt(inner, number, Err(io::ErrorKind::HostUnreachable));
    };
    match attempt.stage {
        Stage::Outward => {
            let listener = inner.network.listeners.get(&(target, to.port()));
            let full = listener.is_some_and(|listener| listener.queue.len() >= BACKLOG);
            let refused = inner.network.refusing.get(&target).copied().unwrap_or(false)
                || !listener.is_some_and(|listener| {
                    inner.alive(target, listener.incarnation) && accepts(listener.ip, to.ip())
                });
            if inner.network.link(from, target).cut || !inner.node(target).powered || (full && !refused) {
                return retry_attempt(inner, number, tries);
            }
            let mut draws = key.draws(u64::from(tries) * 2 + 1);
            let at = travel(inner, target, from, 0, &mut draws);
            if let Some(attempt) = inner.network.attempts.get_mut(&number) {
                attempt.stage = Stage::Back { refused };
            }
            inner.at(at, Event::Syn { attempt: number });
        }
        Stage::Back { refused } => {
            if inner.network.link(target, from).cut {
                return retry_attempt(inner, number, tries);
            }
            if refused {
                inner.count("net.refused");
                return finish_attempt(inner, number, Err(io::ErrorKind::ConnectionRefused));
            }
            let id = establish(inner, from, target, to, key);
            finish_attempt(inner, number, Ok(id));
        }
        Stage::Done(_) => {}
    }
}

fn accepts(listening: IpAddr, called: IpAddr) -> bool {
    listening.is_unspecified() || listening == called
}

fn establish(inner: &mut Inner, from: NodeId, target: NodeId, to: SocketAddr, key: Key) -> u32 {
    let id = inner.network.connections.len() as u32;
    let port = inner.network.ephemeral_port(from);
    let ip: Ipv4Addr = if to.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { inner.node(from).ip };
    let from_address = SocketAddr::new(ip.into(), port);
    let mut connection = Connection {
        ends: [End::new(from, from_address, true), End::new(target, to, false)],
        directions: [Direction::new(key.with(0)), Direction::new(key.with(1))],
    };
    // The listener may have gone while the answer travelled; the handshake then meets nobody.
    let listener = inner.network.listeners.get(&(target, to.port()));
    connection.ends[1].open = listener.is_some_and(|listener| inner.alive(target, listener.incarnation));
    inner.network.connections.push(Some(Box::new(connection)));
    inner.count("net.connect");
    inner.trace("net.connect", from, u64::from(id), u64::from(target.0));
    send(inner, id, 0, Payload::Handshake);
    id
}

/// Nobody answered: the SYN is sent again, with twice the patience.
fn retry_attempt(inner: &mut Inner, number: u32, tries: u32) {
    if tries > SYN_RETRIES {
        return finish_attempt(inner, number, Err(io::ErrorKind::TimedOut));
    }
    let now = inner.now();
    let Some(attempt) = inner.network.attempts.get_mut(&number) else { return };
    attempt.tries = tries + 1;
    attempt.stage = Stage::Outward;
    inner.count("net.syn_retry");
    inner.at(now + (SECOND_NS << tries), Event::Syn { attempt: number });
}

fn finish_attempt(inner: &mut Inner, number: u32, result: Result<u32, io::ErrorKind>) {
    let Some(attempt) = inner.network.attempts.get_mut(&number) else { return };
    attempt.stage = Stage::Done(result);
    if let Some(waker) = attempt.waker.take() {
        waker.wake();
    }
}

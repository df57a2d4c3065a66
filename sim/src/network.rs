//! TCP as applications see it.
//!
//! Per direction of a connection: bytes in order, in segments that arrive after the link's latency; a send buffer that frees
//! as the peer's kernel acknowledges; a receive buffer that frees as the peer reads, and closes the window when full.
//!
//! | what happens | what the other end sees |
//! |---|---|
//! | both halves dropped, process death | FIN after what was sent; RST instead when bytes were left unread |
//! | data for a closed or unknown socket of a live host | RST back |
//! | power loss | nothing; segments on the wire arrive, later data meets silence, RST after the reboot |
//! | a cut, lost segments | retransmission with backoff, `TimedOut` after [`NetworkConfig::user_timeout_ns`] |
//! | a cut on the way back | bytes arrive, acknowledgements do not: the sender's buffer fills, then as above |
//! | SYN across a cut, to a host that is off, to a full backlog | it hangs; retries after 1, 2, 4, .. s; `TimedOut` after 127 s |
//! | SYN to a port without listener | `ConnectionRefused`, one round trip later |
//!
//! Reads and writes are split and merged at random bytes. Order holds within a direction; between connections it is free.

mod handshake;
mod link;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use bytes::Bytes;

use crate::cluster::{Down, NodeId};
use crate::seed::Key;
use crate::world::{Event, Inner};

use handshake::Attempt;

pub(crate) use handshake::on_syn;
pub use link::{Link, NetworkConfig, NetworkControl, ResolverFault};
pub use stream::{SimListener, SimRead, SimWrite};

const SECOND_NS: u64 = 1_000_000_000;
/// Connections that wait for `accept` before further attempts are left unanswered.
const BACKLOG: usize = 128;
const EPHEMERAL_FIRST: u16 = 32_768;
const EPHEMERAL_COUNT: u16 = 28_000;

enum Payload {
    /// The client's last step of the handshake: the connection enters the accept queue.
    Handshake,
    Data(Bytes),
    Fin,
    Reset,
}

struct Segment {
    at_ns: u64,
    payload: Payload,
}

/// From end `d` to end `1 - d`.
struct Direction {
    key: Key,
    sent: u64,
    reads: u64,
    /// In flight, or waiting for window, cut or host.
    queue: VecDeque<Segment>,
    /// An event for the head of the queue is on its way.
    armed: bool,
    last_arrival_ns: u64,
    /// Bytes in the sender's buffer: in the queue, or delivered and not acknowledged.
    buffered: usize,
    unacknowledged: usize,
    /// The head waits for room in the receive buffer.
    window_closed: bool,
    blocked_since_ns: Option<u64>,
    retries: u32,
    /// The sender's host has lost its power: nothing is sent again.
    sender_lost: bool,
    received: VecDeque<Bytes>,
    received_bytes: usize,
    end_of_stream: bool,
}

struct End {
    node: NodeId,
    address: SocketAddr,
    /// The socket exists: neither closed nor gone with its process.
    open: bool,
    /// Handed to the application.
    accepted: bool,
    halves: u8,
    /// To be reported once.
    error: Option<io::ErrorKind>,
    /// After an error was reported: reads end, writes break.
    broken: bool,
    fin_sent: bool,
    /// Taken for readable until a read has found nothing, as a poller takes a new socket.
    maybe_readable: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Connection {
    ends: [End; 2],
    directions: [Direction; 2],
}

struct Listener {
    ip: IpAddr,
    incarnation: u32,
    /// Connection numbers.
    queue: VecDeque<u32>,
    waker: Option<Waker>,
}

pub(crate) struct Network {
    seed: u64,
    config: NetworkConfig,
    default: Link,
    links: BTreeMap<(NodeId, NodeId), Link>,
    line_busy_ns: BTreeMap<(NodeId, NodeId), u64>,
    connections: Vec<Option<Box<Connection>>>,
    listeners: BTreeMap<(NodeId, u16), Listener>,
    attempts: BTreeMap<u32, Attempt>,
    next_attempt: u32,
    /// Attempts made per pair of nodes, to key the draws of each connection.
    pair_counts: BTreeMap<(NodeId, NodeId), u64>,
    ephemeral: BTreeMap<NodeId, u16>,
    refusing: BTreeMap<NodeId, bool>,
    names: BTreeMap<String, Vec<IpAddr>>,
    resolvers: BTreeMap<NodeId, ResolverFault>,
    lookups: u64,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Network {
        Network {
            seed,
            config: NetworkConfig::default(),
            default: Link::default(),
            links: BTreeMap::new(),
            line_busy_ns: BTreeMap::new(),
            connections: Vec::new(),
            listeners: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            pair_counts: BTreeMap::new(),
            ephemeral: BTreeMap::new(),
            refusing: BTreeMap::new(),
            names: BTreeMap::new(),
            resolvers: BTreeMap::new(),
            lookups: 0,
        }
    }

    fn link(&self, from: NodeId, to: NodeId) -> Link {
        if from == to {
            return Link::LOOPBACK;
        }
        self.links.get(&(from, to)).copied().unwrap_or(self.default)
    }

    fn connection(&mut self, id: u32) -> Option<&mut Connection> {
        self.connections.get_mut(id as usize)?.as_deref_mut()
    }

    fn ephemeral_port(&mut self, node: NodeId) -> u16 {
        let seed = self.seed;
        let next = self.ephemeral.entry(node).or_insert_with(|| {
            let mut draws = Key::new(seed, "ephemeral", u64::from(node.0)).draws(0);
            draws.below(u64::from(EPHEMERAL_COUNT)) as u16
        });
        *next = (*next + 1) % EPHEMERAL_COUNT;
        EPHEMERAL_FIRST + *next
    }

    /// A port for `listen` on port 0.
    fn free_port(&mut self, node: NodeId) -> u16 {
        loop {
            let port = self.ephemeral_port(node);
            if !self.listeners.contains_key(&(node, port)) {
                return port;
            }
        }
    }
}

impl Direction {
    fn new(key: Key) -> Direction {
        Direction {
            key,
            sent: 0,
            reads: 0,
            queue: VecDeque::new(),
            armed: false,
            last_arrival_ns: 0,
            buffered: 0,
            unacknowledged: 0,
            window_closed: false,
            blocked_since_ns: None,
            retries: 0,
            sender_lost: false,
            received: VecDeque::new(),
            received_bytes: 0,
            end_of_stream: false,
        }
    }

    fn drop_received(&mut self) {
        self.received.clear();
        self.received_bytes = 0;
    }
}

impl End {
    fn new(node: NodeId, address: SocketAddr, accepted: bool) -> End {
        End {
            node,
            address,
            open: true,
            accepted,
            halves: 2,
            error: None,
            broken: false,
            fin_sent: false,
            maybe_readable: true,
            reader: None,
            writer: None,
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn fail(&mut self, kind: io::ErrorKind) {
        if self.open && !self.broken {
            self.error = Some(kind);
        }
        self.wake_reader();
        self.wake_writer();
    }
}

/// Time over the wire for something of `len` bytes that is sent now, loss and its retransmissions included.
fn travel(inner: &mut Inner, from: NodeId, to: NodeId, len: usize, draws: &mut crate::seed::Draws) -> u64 {
    let now = inner.now();
    let network = &mut inner.network;
    let link = network.link(from, to);
    let mut at = now;
    if link.bytes_per_s > 0 && len > 0 {
        let busy = network.line_busy_ns.entry((from, to)).or_insert(0);
        *busy = now.max(*busy) + len as u64 * SECOND_NS / link.bytes_per_s;
        at = *busy;
    }
    at += link.latency_ns + draws.exponential(link.jitter_ns);
    if draws.chance(link.burst) {
        at += link.burst_ns;
    }
    // Last, since it takes as many draws as segments are lost.
    let mut timeout = network.config.retransmit_ns;
    let mut lost = 0;
    while lost < 16 && draws.chance(link.loss) {
        at += timeout;
        timeout = (timeout * 2).min(network.config.retransmit_max_ns);
        lost += 1;
    }
    if lost > 0 {
        inner.count_many("net.lost", lost);
    }
    at
}

fn send(inner: &mut Inner, id: u32, direction: usize, payload: Payload) {
    let Some(connection) = inner.network.connection(id) else { return };
    let (from, to) = (connection.ends[direction].node, connection.ends[1 - direction].node);
    let way = &mut connection.directions[direction];
    way.sent += 1;
    let mut draws = way.key.draws(way.sent);
    let len = if let Payload::Data(bytes) = &payload { bytes.len() } else { 0 };
    let at_ns = travel(inner, from, to, len, &mut draws);
    let Some(connection) = inner.network.connection(id) else { return };
    let way = &mut connection.directions[direction];
    let at_ns = at_ns.max(way.last_arrival_ns);
    way.last_arrival_ns = at_ns;
    way.buffered += len;
    way.queue.push_back(Segment { at_ns, payload });
    if !way.armed && !way.window_closed {
        way.armed = true;
        inner.at(at_ns, Event::Segment { connection: id, direction: direction as u8 });
    }
}

/// The head of a direction's queue arrives, or is tried again.
pub(crate) fn on_segment(inner: &mut Inner, id: u32, direction: usize) {
    let now = inner.now();
    let Some(connection) = inner.network.connection(id) else { return };
    let (from, to) = (connection.ends[direction].node, connection.ends[1 - direction].node);
    connection.directions[direction].armed = false;
    let blocked = inner.network.link(from, to).cut || !inner.node(to).powered;
    if blocked {
        return retry(inner, id, direction);
    }
    let deaf = inner.network.link(to, from).cut;
    let (mut delivered, mut bytes) = (0u64, 0usize);
    loop {
        let Some(connection) = inner.network.connection(id) else { return };
        let way = &mut connection.directions[direction];
        if way.queue.front().is_none_or(|segment| segment.at_ns > now) {
            break;
        }
        let Some(segment) = way.queue.pop_front() else { break };
        delivered += 1;
        match segment.payload {
            Payload::Data(data) => {
                let (taken, rest) = deliver_data(inner, id, direction, data);
                bytes += taken;
                if let Some(rest) = rest {
                    let Some(connection) = inner.network.connection(id) else { return };
                    let way = &mut connection.directions[direction];
                    way.queue.push_front(Segment { at_ns: now, payload: Payload::Data(rest) });
                    way.window_closed = true;
                    break;
                }
            }
            Payload::Fin => {
                let Some(connection) = inner.network.connection(id) else { return };
                connection.directions[direction].end_of_stream = true;
                connection.ends[1 - direction].wake_reader();
            }
            Payload::Reset => {
                let Some(connection) = inner.network.connection(id) else { return };
                connection.directions[direction].drop_received();
                connection.ends[1 - direction].fail(io::ErrorKind::ConnectionReset);
                inner.count("net.reset");
            }
            Payload::Handshake => {
                if !offer(inner, id) {
                    let Some(connection) = inner.network.connection(id) else { return };
                    let way = &mut connection.directions[direction];
                    way.queue.push_front(Segment { at_ns: now, payload: Payload::Handshake });
                    return retry(inner, id, direction);
                }
            }
        }
    }
    inner.trace("net.deliver", to, u64::from(id) << 1 | direction as u64, delivered << 32 | bytes as u64);
    let Some(connection) = inner.network.connection(id) else { return };
    let way = &mut connection.directions[direction];
    way.unacknowledged += bytes;
    if deaf && way.unacknowledged > 0 {
        // The bytes are there, but the sender does not learn it and sends again and again.
        return retry(inner, id, direction);
    }
    way.buffered -= std::mem::take(&mut way.unacknowledged);
    way.blocked_since_ns = None;
    way.retries = 0;
    let next = way.queue.front().map(|segment| segment.at_ns);
    let closed = way.window_closed;
    connection.ends[direction].wake_writer();
    if let Some(at_ns) = next
        && !closed
    {
        let Some(connection) = inner.network.connection(id) else { return };
        connection.directions[direction].armed = true;
        inner.at(at_ns.max(now), Event::Segment { connection: id, direction: direction as u8 });
    }
    free_if_over(inner, id);
}

/// Puts data into the receive buffer: how much of it, and what had no room. Data for a closed socket is answered by RST.
fn deliver_data(inner: &mut Inner, id: u32, direction: usize, mut data: Bytes) -> (usize, Option<Bytes>) {
    let limit = inner.network.config.receive_buffer;
    let Some(connection) = inner.network.connection(id) else { return (data.len(), None) };
    if !connection.ends[1 - direction].open {
        let back = connection.ends[direction].open && !connection.ends[direction].broken;
        let len = data.len();
        if back {
            send(inner, id, 1 - direction, Payload::Reset);
        }
        return (len, None);
    }
    let way = &mut connection.directions[direction];
    let room = limit.saturating_sub(way.received_bytes);
    if room == 0 {
        return (0, Some(data));
    }
    let taken = data.len().min(room);
    let now = data.split_to(taken);
    way.received_bytes += taken;
    way.received.push_back(now);
    connection.ends[1 - direction].wake_reader();
    (taken, if data.is_empty() { None } else { Some(data) })
}

/// The server's side of the handshake. False when the backlog is full: the client's kernel tries again.
fn offer(inner: &mut Inner, id: u32) -> bool {
    let Some(connection) = inner.network.connection(id) else { return true };
    if !connection.ends[1].open {
        // The server's process has died since.
        send(inner, id, 1, Payload::Reset);
        return true;
    }
    let (node, port) = (connection.ends[1].node, connection.ends[1].address.port());
    let incarnation = inner.node(node).incarnation;
    match inner.network.listeners.get_mut(&(node, port)) {
        Some(listener) if listener.incarnation == incarnation => {
            if listener.queue.len() >= BACKLOG {
                return false;
            }
            listener.queue.push_back(id);
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
            inner.trace("net.offer", node, u64::from(id), u64::from(port));
        }
        _ => {
            let Some(connection) = inner.network.connection(id) else { return true };
            connection.ends[1].open = false;
            send(inner, id, 1, Payload::Reset);
        }
    }
    true
}

/// Nothing gets through: try again later, or give up.
fn retry(inner: &mut Inner, id: u32, direction: usize) {
    let now = inner.now();
    let config = inner.network.config;
    let Some(connection) = inner.network.connection(id) else { return };
    let from = connection.ends[direction].node;
    let way = &mut connection.directions[direction];
    let since = *way.blocked_since_ns.get_or_insert(now);
    let given_up = now - since > config.user_timeout_ns;
    if way.sender_lost || given_up {
        way.queue.clear();
        way.buffered = 0;
        way.unacknowledged = 0;
        if given_up {
            connection.ends[direction].fail(io::ErrorKind::TimedOut);
            inner.count("net.timed_out");
            inner.trace("net.timed_out", from, u64::from(id), 0);
        }
        return free_if_over(inner, id);
    }
    let wait = (config.retransmit_ns << way.retries.min(8)).min(config.retransmit_max_ns);
    way.retries += 1;
    way.armed = true;
    inner.at(now + wait, Event::Segment { connection: id, direction: direction as u8 });
}

/// The kernel closes a socket whose application is done with it, or dead.
fn close(inner: &mut Inner, id: u32, end: usize) {
    let Some(connection) = inner.network.connection(id) else { return };
    let unread = connection.directions[1 - end].received_bytes > 0;
    connection.directions[1 - end].drop_received();
    let socket = &mut connection.ends[end];
    if !socket.open {
        return;
    }
    socket.open = false;
    socket.reader = None;
    socket.writer = None;
    let (fin_sent, broken) = (socket.fin_sent, socket.broken || socket.error.is_some());
    let reset = unread || !socket.accepted;
    socket.fin_sent = true;
    reopen_window(inner, id, 1 - end);
    if broken {
        return free_if_over(inner, id);
    }
    if reset {
        send(inner, id, end, Payload::Reset);
    } else if !fin_sent {
        send(inner, id, end, Payload::Fin);
    }
    free_if_over(inner, id);
}

/// There is room again in the receive buffer of `direction`: the window update is on its way to the sender.
fn reopen_window(inner: &mut Inner, id: u32, direction: usize) {
    let now = inner.now();
    let Some(connection) = inner.network.connection(id) else { return };
    let way = &mut connection.directions[direction];
    if !way.window_closed {
        return;
    }
    way.window_closed = false;
    if !way.armed {
        way.armed = true;
        let (from, to) = (connection.ends[direction].node, connection.ends[1 - direction].node);
        let round_trip = inner.network.link(from, to).latency_ns + inner.network.link(to, from).latency_ns;
        inner.at(now + round_trip, Event::Segment { connection: id, direction: direction as u8 });
    }
}

fn free_if_over(inner: &mut Inner, id: u32) {
    let Some(slot) = inner.network.connections.get_mut(id as usize) else { return };
    let over = slot.as_ref().is_some_and(|connection| {
        connection.ends.iter().all(|end| !end.open)
            && connection.directions.iter().all(|way| way.queue.is_empty() && !way.armed)
    });
    if over {
        *slot = None;
    }
}

/// The node's process, and with [`Down::Power`] its kernel, are gone.
pub(crate) fn node_down(inner: &mut Inner, node: NodeId, down: Down) {
    let gone: Vec<u16> =
        inner.network.listeners.range((node, 0)..=(node, u16::MAX)).map(|((_, port), _)| *port).collect();
    for port in gone {
        inner.network.listeners.remove(&(node, port));
    }
    inner.network.attempts.retain(|_, attempt| attempt.from != node);
    for id in 0..inner.network.connections.len() as u32 {
        for end in 0..2 {
            let Some(connection) = inner.network.connection(id) else { continue };
            if connection.ends[end].node != node {
                continue;
            }
            match down {
                Down::Process => close(inner, id, end),
                Down::Power => vanish(inner, id, end),
            }
        }
    }
}

/// A host without power: what is on the wire arrives, nothing else is ever sent.
fn vanish(inner: &mut Inner, id: u32, end: usize) {
    let now = inner.now();
    let Some(connection) = inner.network.connection(id) else { return };
    connection.directions[1 - end].drop_received();
    connection.directions[1 - end].window_closed = false;
    let socket = &mut connection.ends[end];
    socket.open = false;
    socket.reader = None;
    socket.writer = None;
    let way = &mut connection.directions[end];
    way.sender_lost = true;
    let on_the_wire = if way.window_closed || way.blocked_since_ns.is_some() {
        0
    } else {
        way.key.with(1).draws(way.sent).below(way.queue.len() as u64 + 1) as usize
    };
    way.queue.truncate(on_the_wire);
    way.window_closed = false;
    let rearm = !connection.directions[1 - end].armed && !connection.directions[1 - end].queue.is_empty();
    if rearm {
        connection.directions[1 - end].armed = true;
        inner.at(now, Event::Segment { connection: id, direction: (1 - end) as u8 });
    }
    free_if_over(inner, id);
}

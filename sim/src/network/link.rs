//! Links, and the network's faults.

use std::net::IpAddr;
use std::time::Duration;

use super::{Payload, send};
use crate::cluster::NodeId;
use crate::world::World;

/// One way between two nodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    pub latency_ns: u64,
    /// Mean of an exponential addition to the latency.
    pub jitter_ns: u64,
    /// Probability that a segment is lost; TCP turns it into retransmission delay.
    pub loss: f64,
    /// 0: no limit.
    pub bytes_per_s: u64,
    /// Probability that a segment meets a latency burst of `burst_ns`.
    pub burst: f64,
    pub burst_ns: u64,
    /// Nothing passes.
    pub cut: bool,
}

impl Link {
    pub(super) const LOOPBACK: Link = Link {
        latency_ns: 20_000,
        jitter_ns: 5_000,
        loss: 0.0,
        bytes_per_s: 0,
        burst: 0.0,
        burst_ns: 0,
        cut: false,
    };
}

impl Default for Link {
    /// A quiet local network: 0.2 ms and 0.1 ms of jitter.
    fn default() -> Link {
        Link { latency_ns: 200_000, jitter_ns: 100_000, ..Link::LOOPBACK }
    }
}

/// What holds for every connection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NetworkConfig {
    /// First retransmission timeout; doubled at each further one.
    pub retransmit_ns: u64,
    pub retransmit_max_ns: u64,
    /// Unacknowledged data for this long: `TimedOut`.
    pub user_timeout_ns: u64,
    /// Bytes.
    pub send_buffer: usize,
    /// Bytes.
    pub receive_buffer: usize,
    /// Probability that a read gets only a part of what is there.
    pub split_read: f64,
    /// Probability that a write is taken in part, and that what was taken travels as two segments.
    pub split_write: f64,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            retransmit_ns: 200_000_000,
            retransmit_max_ns: 10_000_000_000,
            user_timeout_ns: 60_000_000_000,
            send_buffer: 128 << 10,
            receive_buffer: 128 << 10,
            split_read: 0.05,
            split_write: 0.05,
        }
    }
}

/// What a node's resolver answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResolverFault {
    /// Every name is unknown.
    NotFound,
    /// No answer; the caller gets `TimedOut` after this long.
    TimedOut(Duration),
}

/// Faults of the network.
pub struct NetworkControl<'a> {
    pub(crate) world: &'a World,
}

impl NetworkControl<'_> {
    #[must_use]
    pub fn link(&self, from: NodeId, to: NodeId) -> Link {
        self.world.lock().network.link(from, to)
    }

    /// Changes one way. Segments that are on it keep their time of arrival; a cut takes them too.
    ///
    /// # Panics
    /// When both are the same node: loopback has no faults.
    pub fn change(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Link)) {
        assert_ne!(from, to, "loopback has no faults");
        let mut link = self.link(from, to);
        change(&mut link);
        let mut inner = self.world.lock();
        inner.network.links.insert((from, to), link);
        inner.count("net.link_changed");
        inner.trace("net.link", from, u64::from(to.0), u64::from(link.cut));
    }

    /// Changes the ways between every two nodes, those of nodes added later included.
    pub fn change_all(&self, mut change: impl FnMut(&mut Link)) {
        let (mut default, mut links) = {
            let inner = self.world.lock();
            (inner.network.default, inner.network.links.clone())
        };
        change(&mut default);
        links.values_mut().for_each(&mut change);
        let mut inner = self.world.lock();
        inner.network.default = default;
        inner.network.links = links;
        inner.count("net.link_changed");
        inner.trace("net.links", NodeId::SUPERVISOR, 0, 0);
    }

    /// Cuts both ways.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts one way only: `from` is not heard by `to`.
    pub fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.change(from, to, |link| link.cut = true);
        self.world.lock().count("net.cut");
    }

    /// Ends the cuts between two nodes.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        self.change(a, b, |link| link.cut = false);
        self.change(b, a, |link| link.cut = false);
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, node: NodeId) {
        for other in (0..self.world.node_count()).map(NodeId).filter(|other| *other != node) {
            self.cut(node, other);
        }
    }

    /// Cuts every node of `left` off from every node of `right`, both ways.
    pub fn partition(&self, left: &[NodeId], right: &[NodeId]) {
        for a in left {
            for b in right {
                self.cut(*a, *b);
            }
        }
    }

    /// Ends all cuts; latency and loss stay.
    pub fn heal_all(&self) {
        self.change_all(|link| link.cut = false);
    }

    /// All links as at the start, connects accepted, resolvers well.
    pub fn calm(&self) {
        let mut inner = self.world.lock();
        inner.network.default = Link::default();
        inner.network.links.clear();
        inner.network.refusing.clear();
        inner.network.resolvers.clear();
        inner.trace("net.calm", NodeId::SUPERVISOR, 0, 0);
    }

    pub fn configure(&self, change: impl FnOnce(&mut super::NetworkConfig)) {
        let mut config = self.world.lock().network.config;
        change(&mut config);
        self.world.lock().network.config = config;
    }

    /// New connections to the node are refused, whoever listens; those that exist stay.
    pub fn refuse_connects(&self, node: NodeId) {
        let mut inner = self.world.lock();
        inner.network.refusing.insert(node, true);
        inner.trace("net.refuse", node, 1, 0);
    }

    pub fn accept_connects(&self, node: NodeId) {
        let mut inner = self.world.lock();
        inner.network.refusing.remove(&node);
        inner.trace("net.refuse", node, 0, 0);
    }

    /// Resets every connection between two nodes, as a firewall that lost its state does. Returns how many.
    pub fn reset_connections(&self, a: NodeId, b: NodeId) -> u32 {
        let mut inner = self.world.lock();
        let mut count = 0;
        for id in 0..inner.network.connections.len() as u32 {
            let Some(connection) = inner.network.connection(id) else { continue };
            let nodes = [connection.ends[0].node, connection.ends[1].node];
            if nodes == [a, b] || nodes == [b, a] {
                send(&mut inner, id, 0, Payload::Reset);
                send(&mut inner, id, 1, Payload::Reset);
                count += 1;
            }
        }
        inner.count_many("net.reset_injected", u64::from(count));
        count
    }

    /// What `host` resolves to. Names of nodes resolve by themselves; an empty list makes a name unknown.
    pub fn set_name(&self, host: &str, addresses: Vec<IpAddr>) {
        self.world.lock().network.names.insert(host.to_owned(), addresses);
    }

    /// Breaks a node's resolver, or mends it with `None`.
    pub fn set_resolver(&self, node: NodeId, fault: Option<ResolverFault>) {
        let mut inner = self.world.lock();
        match fault {
            Some(fault) => inner.network.resolvers.insert(node, fault),
            None => inner.network.resolvers.remove(&node),
        };
        inner.trace("net.resolver", node, u64::from(fault.is_some()), 0);
    }

    /// Connections between the two nodes that are open on at least one end.
    #[must_use]
    pub fn connections(&self, a: NodeId, b: NodeId) -> usize {
        let inner = self.world.lock();
        let all = inner.network.connections.iter().flatten();
        all.filter(|connection| {
            let nodes = [connection.ends[0].node, connection.ends[1].node];
            (nodes == [a, b] || nodes == [b, a]) && connection.ends.iter().any(|end| end.open)
        })
        .count()
    }
}

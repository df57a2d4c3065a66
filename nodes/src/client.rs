//! This process as a client of a cluster.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use hotfire_core::client::{Client, ClientConfig};
use hotfire_runtime::TokioRuntime;

/// Shorter than an application's: a person waits for the first message of a topic that is only now created.
pub const ROUTE_INTERVAL: Duration = Duration::from_secs(2);

/// Starts a client of the cluster behind `name_servers` (`HOST:PORT;HOST:PORT`); without an instance its id is unique.
pub fn start(name_servers: &str, instance: Option<String>) -> Client<TokioRuntime> {
    let list: Vec<String> = name_servers.split(';').map(str::to_owned).collect();
    let ip = list.iter().find_map(|addr| own_ip(addr)).unwrap_or(Ipv4Addr::LOCALHOST.into());
    let config = ClientConfig { route_interval: ROUTE_INTERVAL, instance, ..ClientConfig::new(list, ip) };
    Client::start(TokioRuntime::new("."), config)
}

/// The address of ours that faces `addr`. Nothing is sent.
fn own_ip(addr: &str) -> Option<IpAddr> {
    let to = addr.to_socket_addrs().ok()?.next()?;
    let from: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

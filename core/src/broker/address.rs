//! The address a broker tells clients, and writes into its messages.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::BrokerConfig;
use crate::runtime::{ReadHalf, Runtime};

const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// The configured address (`brokerIP1`; a host name is looked up); else the one listened on; else, when that is every
/// interface, the one by which a name server is reached; else loopback.
///
/// # Errors
/// Of looking up the configured name.
pub(super) async fn advertised<R: Runtime>(
    rt: &R,
    config: &BrokerConfig,
    name_servers: &[(String, u16)],
) -> io::Result<IpAddr> {
    let configured = config.identity.ip1.trim();
    if !configured.is_empty() {
        if let Ok(ip) = configured.parse() {
            return Ok(ip);
        }
        let found = rt.resolve(configured, config.identity.listen_port).await?;
        return found.first().map(SocketAddr::ip).ok_or_else(|| io::ErrorKind::NotFound.into());
    }
    if !config.identity.bind_address.is_unspecified() {
        return Ok(config.identity.bind_address);
    }
    for (host, port) in name_servers {
        let Ok(Ok(addresses)) = rt.timeout(CONNECT_PATIENCE, rt.resolve(host, *port)).await else {
            continue;
        };
        for address in addresses {
            if let Ok(Ok((read, _write))) = rt.timeout(CONNECT_PATIENCE, rt.connect(address)).await {
                return Ok(read.local_addr().ip());
            }
        }
    }
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    tracing::warn!(%loopback, "no name server is reachable and brokerIP1 is not set: clients are told loopback");
    Ok(loopback)
}

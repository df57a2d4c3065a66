//! `hotfire standalone`: a name server and one broker in one process, with nothing to configure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use hotfire_core::broker::Broker;
use hotfire_core::config::{BrokerConfig, NameServerConfig};
use hotfire_core::name_server::NameServer;
use hotfire_runtime::TokioRuntime;

use super::{not_started, path_text};
use crate::config_file;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::signals::Signals;

#[derive(clap::Args)]
pub struct Args {
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = "./hotfire-data")]
    data: PathBuf,
    /// Where the broker listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10911", value_parser = super::listen_addr)]
    listen: SocketAddr,
    /// Where the name server listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9876", value_parser = super::listen_addr)]
    namesrv_listen: SocketAddr,
    /// Settings of the broker, as Java's broker.conf
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting of the broker, over what the file says; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub async fn run(args: Args) -> Outcome {
    let mut broker_config = config_file::broker(args.config.as_deref())?;
    config_file::set_all(&mut broker_config, &args.set)?;
    broker_config.set("storePathRootDir", path_text(&args.data)?).map_err(Failure::usage)?;
    broker_config.set_listen(args.listen);
    let name_server_config = name_server_config(&args.data, args.namesrv_listen)?;

    let signals = Signals::catch().context("catch signals")?;
    let rt = TokioRuntime::new(".");
    let name_server =
        NameServer::start(rt.clone(), name_server_config).await.context("start the name server")?;
    let broker = match start_broker(rt, broker_config, name_server.local_addr(), args.config.as_deref()).await
    {
        Ok(broker) => broker,
        Err(failure) => {
            name_server.stop().await;
            return Err(failure);
        }
    };
    output::line(format!(
        "ready: namesrv {}, broker {} {}, data {}",
        name_server.local_addr(),
        broker.name(),
        broker.local_addr(),
        args.data.display()
    ));
    signals.stop().await;
    tracing::info!("stopping");
    let stopped = broker.stop().await.context("stop the broker");
    name_server.stop().await;
    Ok(stopped?)
}

fn name_server_config(data: &Path, listen: SocketAddr) -> Result<NameServerConfig, Failure> {
    let mut config = NameServerConfig::default();
    config.set_listen(listen);
    let kv_path = data.join("namesrv").join("kvConfig.json");
    config.set("kvConfigPath", path_text(&kv_path)?).map_err(Failure::usage)?;
    Ok(config)
}

async fn start_broker(
    rt: TokioRuntime,
    mut config: BrokerConfig,
    name_server: SocketAddr,
    file: Option<&Path>,
) -> Result<Broker<TokioRuntime>, Failure> {
    config.set("namesrvAddr", &reachable(name_server).to_string()).map_err(Failure::usage)?;
    let root = config.store.root.clone();
    let started = Broker::start(rt, config).await;
    Ok(started.map_err(|error| not_started(error, &root, file))?)
}

/// Where a listener on every interface is reached from its own process.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), addr.port())
        }
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_interface_is_reached_on_loopback() {
        let at = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(at("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(at("[::]:1"), "[::1]:1");
        assert_eq!(at("10.0.0.1:1"), "10.0.0.1:1");
    }
}

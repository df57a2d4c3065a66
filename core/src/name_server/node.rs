//! The name server as a node: start, accept, look for silent brokers, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::kv_config::{KvConfig, KvConfigError};
use super::requests::Requests;
use crate::config::NameServerConfig;
use crate::remoting::connection::ConnectionLimits;
use crate::remoting::server::Server;
use crate::runtime::{Mutant, Runtime, Task};

/// How long an ordered stop waits for answers on their way.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// The name server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error(transparent)]
    KvConfig(#[from] KvConfigError),
    #[error("read the changed settings in {path}: {source}")]
    Changes { path: String, source: io::Error },
}

/// A running name server.
pub struct NameServer<R: Runtime> {
    server: Server<R>,
    expiry: R::Task<()>,
}

impl<R: Runtime> NameServer<R> {
    /// Reads the settings that were changed in an earlier run and the KV configuration, then listens.
    ///
    /// # Errors
    /// [`StartError`]: the address is taken, or the KV configuration cannot be read.
    pub async fn start(rt: R, config: NameServerConfig) -> Result<NameServer<R>, StartError> {
        let path = config.changes_file();
        let config = config.with_changes(&rt).await.map_err(|source| StartError::Changes { path, source })?;
        let addr = config.listen();
        let limits = ConnectionLimits {
            idle: Duration::from_secs(config.server.connection_idle_s),
            ..ConnectionLimits::default()
        };
        let kv = KvConfig::load(rt.clone(), config.server.kv_config_path.clone()).await?;
        let requests = Arc::new(Requests::new(rt.clone(), config, kv));
        let server = Server::bind(rt.clone(), addr, requests.clone(), limits)
            .await
            .map_err(|source| StartError::Listen { addr, source })?;
        let expiry = rt.spawn("name server expiry", expire_in_turn(rt.clone(), requests));
        Ok(NameServer { server, expiry })
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// No new connections, requests on their way answered, then all closed.
    pub async fn stop(self) {
        self.expiry.abort();
        self.server.stop(STOP_PATIENCE).await;
    }
}

async fn expire_in_turn<R: Runtime>(rt: R, requests: Arc<Requests<R>>) {
    loop {
        rt.sleep(requests.scan_interval()).await;
        if rt.mutant(Mutant::LateExpiry) {
            let silent = requests.silent();
            rt.sleep(requests.scan_interval()).await;
            requests.remove(silent);
            continue;
        }
        requests.expire();
    }
}

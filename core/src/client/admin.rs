//! What operators ask name servers and brokers, for the command line.
//!
//! A change that concerns a cluster is asked of each of its masters, one that concerns routes of each name server, in turn; the
//! first that refuses ends it, and its error says who it was.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::message::{Received, UnreadableBody};
use crate::message::StoredMessage;
use crate::message::codec::RecordError;
use crate::remoting::RemotingCommand;
use crate::remoting::body::{BodyError, ClusterInfo, TopicRouteData};
use crate::remoting::codes::{request, response, response_name};
use crate::remoting::connection::{CallError, ConnectionLimits, NoHandler};
use crate::remoting::headers::GetRouteInfoHeader;
use crate::remoting::peer::Peers;
use crate::runtime::Runtime;

/// Why an operator's request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("no name server is given")]
    NoNameServer,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{addr} answers {}: {remark}", response_name(*code))]
    Refused { addr: String, code: i32, remark: String },
    #[error("the answer of {addr}: {error}")]
    Malformed { addr: String, error: BodyError },
    #[error("the cluster {cluster} has no master, known clusters: {known}")]
    NoCluster { cluster: String, known: String },
    #[error("read a message of the answer: {0}")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Body(#[from] UnreadableBody),
}

impl AdminError {
    /// `answer` of the server at `addr` as a refusal.
    #[must_use]
    pub fn refused(addr: &str, answer: RemotingCommand) -> AdminError {
        let remark = answer.remark.unwrap_or_default();
        AdminError::Refused { addr: addr.to_owned(), code: answer.code, remark }
    }

    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            AdminError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The messages in the body of an answer, one record behind the other, their bodies plain.
///
/// # Errors
/// [`AdminError`]: one of them cannot be read.
pub fn messages(body: &Bytes) -> Result<Vec<StoredMessage>, AdminError> {
    let (mut rest, mut messages) = (body.clone(), Vec::new());
    while !rest.is_empty() {
        let stored = StoredMessage::decode(&rest)?;
        let size = usize::try_from(stored.store_size).unwrap_or(usize::MAX);
        rest = rest.split_off(size.min(rest.len()));
        messages.push(Received::new(stored, "")?.message);
    }
    Ok(messages)
}

/// One operator's connections.
pub struct Admin<R: Runtime> {
    peers: Peers<R>,
    name_servers: Vec<String>,
    timeout: Duration,
}

impl<R: Runtime> Admin<R> {
    /// Talks to the cluster behind `name_servers`, each `host:port`; every request may take `timeout`.
    pub fn new(rt: R, name_servers: Vec<String>, timeout: Duration) -> Admin<R> {
        let peers = Peers::new(rt, std::sync::Arc::new(NoHandler), ConnectionLimits::default());
        Admin { peers, name_servers, timeout }
    }

    #[must_use]
    pub fn name_servers(&self) -> &[String] {
        &self.name_servers
    }

    /// Closes all connections.
    pub async fn stop(&self) {
        self.peers.stop().await;
    }

    /// Asks the server at `addr`.
    ///
    /// # Errors
    /// [`AdminError`]: it was not reached, or refuses.
    pub async fn ask(&self, addr: &str, request: RemotingCommand) -> Result<RemotingCommand, AdminError> {
        match self.answer(addr, request).await? {
            answer if answer.code == response::SUCCESS => Ok(answer),
            answer => Err(AdminError::refused(addr, answer)),
        }
    }

    /// What the server at `addr` answers, whatever its code.
    ///
    /// # Errors
    /// [`AdminError::Call`].
    pub async fn answer(&self, addr: &str, request: RemotingCommand) -> Result<RemotingCommand, AdminError> {
        Ok(self.peers.call(addr, request, self.timeout).await?)
    }

    /// Asks, and reads the answer's body by `parse`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn read<T>(
        &self,
        addr: &str,
        request: RemotingCommand,
        parse: impl FnOnce(&[u8]) -> Result<T, BodyError>,
    ) -> Result<T, AdminError> {
        let answer = self.ask(addr, request).await?;
        parse(&answer.body.to_bytes()).map_err(|error| AdminError::Malformed { addr: addr.to_owned(), error })
    }

    /// Asks the name servers in turn until one is reached, and reads its answer.
    ///
    /// # Errors
    /// [`AdminError`]: what the first that was reached says, or why the last was not.
    pub async fn of_name_server<T>(
        &self,
        request: RemotingCommand,
        parse: impl Fn(&[u8]) -> Result<T, BodyError>,
    ) -> Result<T, AdminError> {
        let mut last = AdminError::NoNameServer;
        for addr in &self.name_servers {
            match self.read(addr, request.clone(), &parse).await {
                Err(error @ AdminError::Call(_)) => last = error,
                said => return said,
            }
        }
        Err(last)
    }

    /// Asks every name server.
    ///
    /// # Errors
    /// [`AdminError`]: of the first that did not do it; those behind it were not asked.
    pub async fn every_name_server(
        &self,
        request: RemotingCommand,
    ) -> Result<Vec<(String, RemotingCommand)>, AdminError> {
        let mut answers = Vec::new();
        for addr in &self.name_servers {
            answers.push((addr.clone(), self.ask(addr, request.clone()).await?));
        }
        if answers.is_empty() { Err(AdminError::NoNameServer) } else { Ok(answers) }
    }

    /// # Errors
    /// [`AdminError`].
    pub async fn cluster(&self) -> Result<ClusterInfo, AdminError> {
        let request = RemotingCommand::request(request::GET_BROKER_CLUSTER_INFO);
        self.of_name_server(request, ClusterInfo::parse).await
    }

    /// # Errors
    /// [`AdminError`]; a topic without a route is refused with TOPIC_NOT_EXIST.
    pub async fn route(&self, topic: &str) -> Result<TopicRouteData, AdminError> {
        let header = GetRouteInfoHeader { topic: topic.to_owned(), ..Default::default() };
        let request = RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC).with_header(&header);
        self.of_name_server(request, TopicRouteData::parse).await
    }

    /// The masters of `cluster`, by broker name.
    ///
    /// # Errors
    /// [`AdminError::NoCluster`], and those of asking.
    pub async fn masters(&self, cluster: &str) -> Result<BTreeMap<String, String>, AdminError> {
        let info = self.cluster().await?;
        let names = info.cluster_addr_table.get(cluster).cloned().unwrap_or_default();
        let masters: BTreeMap<String, String> = names
            .into_iter()
            .filter_map(|name| {
                let master = info.broker_addr_table.get(&name)?.broker_addrs.get(&0)?.clone();
                Some((name, master))
            })
            .collect();
        if masters.is_empty() {
            let known: Vec<&str> = info.cluster_addr_table.keys().map(String::as_str).collect();
            return Err(AdminError::NoCluster { cluster: cluster.to_owned(), known: known.join(", ") });
        }
        Ok(masters)
    }
}

//! Looking messages up: by where one lies (code 33), and by key (code 12).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::ha::master::Replication;
use crate::remoting::RemotingCommand;
use crate::remoting::codes::response;
use crate::remoting::headers::{QueryMessageHeader, QueryMessageResponse, ViewMessageHeader};
use crate::runtime::Runtime;
use crate::store::MessageStore;
use crate::store::index::By;

use super::refusal::{Refusal, answer};

pub(crate) struct ViewMessage<R: Runtime> {
    pub store: Arc<MessageStore<R>>,
    /// `None` on a slave.
    pub slaves: Option<Arc<Replication>>,
    /// Messages that a look-up by unique key gives at most, whatever it asks for.
    pub unique_count_max: usize,
}

impl<R: Runtime> ViewMessage<R> {
    pub fn by_offset(&self, peer: SocketAddr, request: &RemotingCommand) -> Result<RemotingCommand, Refusal> {
        let header: ViewMessageHeader = request.header()?;
        let record = u64::try_from(header.offset).ok().and_then(|offset| self.store.message_at(offset));
        let Some(record) = record else {
            let remark = format!("can not find message by the offset, {}", header.offset);
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        };
        if let (Some(slaves), Some(end)) =
            (&self.slaves, header.compares.and_then(|end| u64::try_from(end).ok()))
        {
            slaves.compares(peer.ip(), end);
        }
        Ok(answer(response::SUCCESS).with_body(record))
    }

    /// The newest messages that have the key; in the body the oldest of them comes first.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `QueryMessageProcessor#queryMessage` and `DefaultMessageStore#queryMessage`.
    pub async fn by_key(&self, request: &RemotingCommand) -> Result<RemotingCommand, Refusal> {
        let header: QueryMessageHeader = request.header()?;
        let (by, count_max) = match header.unique_key {
            true => (By::UniqueKey, self.unique_count_max),
            false => (By::Key, usize::try_from(header.max_num).unwrap_or(0)),
        };
        let times = (header.begin_timestamp, header.end_timestamp);
        let found = self.store.query(by, &header.topic, &header.key, times, count_max).await;
        let mut found = found
            .map_err(|error| Refusal::new(response::SYSTEM_ERROR, format!("read the index: {error}")))?;
        if found.records.is_empty() {
            let nothing =
                QueryMessageResponse { index_last_update_timestamp: 0, index_last_update_phyoffset: 0 };
            return Ok(answer(response::QUERY_NOT_FOUND)
                .with_header(&nothing)
                .with_remark("can not find message, maybe time range not correct"));
        }
        found.records.reverse();
        let last_update = QueryMessageResponse {
            index_last_update_timestamp: found.last_update_ms,
            index_last_update_phyoffset: i64::try_from(found.last_update).unwrap_or(i64::MAX),
        };
        Ok(answer(response::SUCCESS).with_header(&last_update).with_body(found.records))
    }
}

//! What a consumer is asked through the broker: its state (307), to consume one message now (309), how far it is (223).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::message::id;
use crate::remoting::RemotingCommand;
use crate::remoting::body::GetConsumerStatusBody;
use crate::remoting::codes::{request as codes, response};
use crate::remoting::connection::CallError;
use crate::remoting::headers::{
    ConsumeMessageDirectlyHeader, GetConsumerRunningInfoHeader, GetConsumerStatusHeader,
};
use crate::runtime::Runtime;

use super::super::client_table::{Kind, Member};
use super::super::refusal::Refusal;
use super::{AdminRequests, Result, done};

/// How long a client may take to answer.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// The same for how far it is, of which several may be asked.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// Clients below do not know 307 and 309: V3_1_8_SNAPSHOT.
const ASKABLE_FROM: i32 = 62;
/// Clients below do not know 220 and 221: V3_0_7_SNAPSHOT.
pub(super) const RESETTABLE_FROM: i32 = 28;

impl<R: Runtime> AdminRequests<R> {
    pub(super) async fn running_info(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: GetConsumerRunningInfoHeader = request.header()?;
        let asked = RemotingCommand::request(codes::GET_CONSUMER_RUNNING_INFO).with_header(&header);
        self.ask_consumer(&header.consumer_group, &header.client_id, asked).await
    }

    pub(super) async fn consume_directly(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let mut header: ConsumeMessageDirectlyHeader = request.header()?;
        let msg_id = header.msg_id.clone().unwrap_or_default();
        let place = id::parse(&msg_id)
            .map_err(|error| Refusal::new(response::SYSTEM_ERROR, format!("msgId {msg_id}: {error}")))?;
        let record = self.store.message_at(place.1).ok_or_else(|| {
            let remark = format!("can not find message by the offset, {}", place.1);
            Refusal::new(response::SYSTEM_ERROR, remark)
        })?;
        header.broker_name = Some(self.broker_name.clone());
        let client = header.client_id.clone().unwrap_or_default();
        let asked = RemotingCommand::request(codes::CONSUME_MESSAGE_DIRECTLY);
        let asked = asked.with_header(&header).with_body(record);
        self.ask_consumer(&header.consumer_group, &client, asked).await
    }

    /// The answer of the client, whatever it is.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#callConsumer`.
    async fn ask_consumer(
        &self,
        group: &str,
        client: &str,
        asked: RemotingCommand,
    ) -> Result<RemotingCommand> {
        let failed = |remark: String| Refusal::new(response::SYSTEM_ERROR, remark);
        let members = self.clients.members(Kind::Consumer, group);
        let Some(member) = members.into_iter().find(|member| member.client_id == client) else {
            return Err(failed(format!("The Consumer <{group}> <{client}> not online")));
        };
        if member.version < ASKABLE_FROM {
            return Err(failed(format!(
                "The Consumer <{group}> <{client}> has version {}, {ASKABLE_FROM} is needed",
                member.version
            )));
        }
        match self.call(&member, asked, CALL_PATIENCE).await {
            Ok(said) => Ok(RemotingCommand { remark: said.remark, ext: said.ext, ..done_as(said.code) }
                .with_body(said.body)),
            Err(CallError::Timeout { .. }) => {
                let remark = format!("consumer <{group}> <{client}> Timeout after {CALL_PATIENCE:?}");
                Err(Refusal::new(response::CONSUME_MSG_TIMEOUT, remark))
            }
            Err(error) => Err(failed(format!("invoke consumer <{group}> <{client}> Exception: {error}"))),
        }
    }

    /// # Source
    /// apache/rocketmq 4.9.7, `Broker2Client#getConsumeStatus`.
    pub(super) async fn consumer_status(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let mut header: GetConsumerStatusHeader = request.header()?;
        let wanted = header.client_addr.take();
        let members = self.clients.members(Kind::Consumer, &header.group);
        if members.is_empty() {
            let remark = format!("No Any Consumer online in the consumer group: [{}]", header.group);
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        }
        let mut consumer_table = BTreeMap::new();
        for member in members {
            if wanted.as_ref().is_some_and(|wanted| *wanted != member.client_id) {
                continue;
            }
            if member.version < RESETTABLE_FROM {
                let remark = format!(
                    "the client {} has version {}, {RESETTABLE_FROM} is needed",
                    member.client_id, member.version
                );
                return Err(Refusal::new(response::SYSTEM_ERROR, remark));
            }
            let asked = RemotingCommand::request(codes::GET_CONSUMER_STATUS_FROM_CLIENT).with_header(&header);
            match self.call(&member, asked, STATUS_PATIENCE).await {
                Ok(said) if said.code == response::SUCCESS => {
                    let body = GetConsumerStatusBody::parse(&said.body.to_bytes())?;
                    consumer_table.insert(member.client_id, body.message_queue_table);
                }
                Ok(said) => {
                    tracing::warn!(client = member.client_id, code = said.code, "ask how far a client is");
                }
                Err(error) => tracing::warn!(client = member.client_id, %error, "ask how far a client is"),
            }
        }
        let body = GetConsumerStatusBody { consumer_table, message_queue_table: BTreeMap::new() };
        Ok(done().with_body(body.to_json()))
    }

    async fn call(
        &self,
        member: &Member,
        asked: RemotingCommand,
        patience: Duration,
    ) -> std::result::Result<RemotingCommand, CallError> {
        let addr = || member.connection.peer().to_string();
        let call = member.connection.call(asked).map_err(|error| match error {
            crate::remoting::connection::SendError::Closed => CallError::Closed { addr: addr(), sent: false },
            crate::remoting::connection::SendError::Full => CallError::Full { addr: addr() },
        })?;
        match self.rt.timeout(patience, call).await {
            Ok(said) => said,
            Err(_) => Err(CallError::Timeout { addr: addr(), sent: true }),
        }
    }
}

fn done_as(code: i32) -> RemotingCommand {
    super::super::refusal::answer(code)
}

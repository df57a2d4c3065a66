//! Replies, codes 324 and 325: to the client that has asked, over its own connection (code 326), and into the reply topic.
//!
//! A request is an ordinary message that names its sender's client in `REPLY_TO_CLIENT`. Who consumes it sends the reply to the
//! broker that stored the request, where that client is registered as a producer.
//!
//! SUCCESS means: whoever asked has taken the reply. A reply that nobody took is answered so and not stored; the request then ends
//! by its own time limit. What is stored afterwards is a record of the exchange, and no promise.
//!
//! # Source
//! Broker semantics 20; apache/rocketmq 4.9.7, `ReplyMessageProcessor`. There a reply that nobody took is stored as well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::message::properties;
use crate::remoting::codes::{request as codes, response};
use crate::remoting::connection::{Answer, Reached, Response};
use crate::remoting::headers::{ReplyMessageHeader, SendMessageHeader, SendMessageResponse};
use crate::remoting::{RemotingCommand, SerializeType};
use crate::runtime::{Mutant, Runtime};

use super::client_table::ClientTable;
use super::refusal::{Refusal, answer};
use super::send_message::SendMessage;

/// How long a client may take to say that it has a reply.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Replies<R: Runtime> {
    pub rt: R,
    pub sends: Arc<SendMessage<R>>,
    pub clients: Arc<ClientTable>,
    /// Whether a reply that was handed over is stored too.
    pub stored: bool,
}

impl<R: Runtime> Replies<R> {
    pub async fn handle(&self, peer: SocketAddr, request: RemotingCommand) -> Answer {
        match self.hand_over(peer, request).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::Now(self.sends.decorate(refusal.answer())),
        }
    }

    async fn hand_over(&self, peer: SocketAddr, mut request: RemotingCommand) -> Result<Answer, Refusal> {
        let store_host = self.sends.store_host()?;
        let header = SendMessageHeader::decode_send(request.code, &request.ext)?;
        let queue_id = self.sends.check(&header).await?;
        let asked = header.properties.and_then(|raw| properties::find(raw, properties::REPLY_TO_CLIENT));
        let client_id =
            asked.ok_or_else(|| not_taken("REPLY_TO_CLIENT is null, nobody is named"))?.to_owned();
        let connection = self.clients.producer(&client_id);
        let connection = connection.ok_or_else(|| {
            not_taken(format!("push reply message fail, channel of <{client_id}> not found."))
        })?;
        let push = push(&header, queue_id, [peer, store_host], self.rt.wall_ms());
        let call = connection.call(push.with_body(request.body.to_bytes()));
        let call =
            call.map_err(|error| not_taken(format!("push reply message to {client_id} fail: {error}")))?;
        let (rt, sends, stored) = (self.rt.clone(), self.sends.clone(), self.stored);
        Ok(Answer::Later(Box::pin(async move {
            let refused = match rt.timeout(PATIENCE, call).await {
                Ok(Ok(taken)) if taken.code == response::SUCCESS || rt.mutant(Mutant::ReplyTakenAnyway) => {
                    None
                }
                Ok(Ok(refused)) => Some(format!("it answered {}", refused.code)),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("it did not answer within {} s", PATIENCE.as_secs())),
            };
            if let Some(why) = refused {
                let refusal = not_taken(format!("push reply message to {client_id} fail: {why}"));
                return sends.decorate(refusal.answer());
            }
            if stored {
                // Its fields are looked at here before they are written.
                request.serialize_type = SerializeType::RocketMq;
                let answer = settled(&rt, sends.handle((peer, rt.now()), &request).await).await;
                if let Some(answer) = answer.filter(|answer| is_stored(answer.code)) {
                    return answer;
                }
                tracing::warn!(client_id, "a reply was handed over and could not be stored");
            }
            let place = SendMessageResponse { msg_id: "0".to_owned(), queue_id, ..Default::default() };
            sends.decorate(answer(response::SUCCESS).with_header(&place))
        })))
    }
}

fn not_taken(remark: impl Into<String>) -> Refusal {
    Refusal::new(response::SYSTEM_ERROR, remark)
}

/// The reply as a request to the client that has asked.
fn push(
    header: &SendMessageHeader<'_>,
    queue_id: i32,
    [born_host, store_host]: [SocketAddr; 2],
    now_ms: i64,
) -> RemotingCommand {
    let mut properties = properties::decode(header.properties.unwrap_or_default());
    properties.set(properties::PUSH_REPLY_TIME, now_ms.to_string());
    RemotingCommand::request(codes::PUSH_REPLY_MESSAGE_TO_CLIENT).with_header(&ReplyMessageHeader {
        producer_group: header.producer_group.to_owned(),
        topic: header.topic.to_owned(),
        default_topic: header.default_topic.to_owned(),
        default_topic_queue_nums: header.default_topic_queue_nums,
        queue_id,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        flag: header.flag,
        properties: Some(properties.encode(false)),
        reconsume_times: header.reconsume_times,
        unit_mode: header.unit_mode,
        born_host: born_host.to_string(),
        store_host: store_host.to_string(),
        store_timestamp: now_ms,
    })
}

fn is_stored(code: i32) -> bool {
    matches!(
        code,
        response::SUCCESS
            | response::FLUSH_DISK_TIMEOUT
            | response::FLUSH_SLAVE_TIMEOUT
            | response::SLAVE_NOT_AVAILABLE
    )
}

/// The answer to a send, once it is known.
async fn settled<R: Runtime>(rt: &R, answer: Answer) -> Option<RemotingCommand> {
    match answer {
        Answer::Now(answer) => Some(answer),
        Answer::Later(answer) => Some(answer.await),
        Answer::WhenReached { mark, position, deadline, finish } => {
            let wait = rt.timeout(deadline.since(rt.now()), mark.reached(position));
            let reached = match wait.await {
                Ok(Ok(())) => Reached::Yes,
                Ok(Err(_)) => Reached::Failed,
                Err(_) => Reached::TimedOut,
            };
            match finish(reached) {
                Response::Command(answer) => Some(answer),
                Response::Json(_) => None,
            }
        }
        Answer::NowJson(_) | Answer::Never | Answer::Held => None,
    }
}

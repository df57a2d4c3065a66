//! Send-backs: a consumer hands a message back that it could not handle. Code 36.
//!
//! Delay levels and dead letter queues are not supported, so the answer is a refusal, on which Java and Node keep the
//! message and handle it again themselves. The Go and C++ clients commit past the message whatever the answer is. For them
//! it is put into the group's retry topic, a moment later and as often as they hand it back: no message is lost to its
//! group, and none goes round without a pause.
//!
//! Guarantees: SUCCESS means that the retry topic has the message, in SYNC_FLUSH mode on stable storage.

use std::sync::Arc;
use std::time::Duration;

use crate::message::StoredMessage;
use crate::message::properties;
use crate::remoting::RemotingCommand;
use crate::remoting::codes::{request as codes, response};
use crate::remoting::connection::{Answer, Reached, Response, unsupported};
use crate::remoting::headers::{ConsumerSendMsgBackHeader, SendMessageHeader};
use crate::remoting::language::LanguageCode;
use crate::runtime::Runtime;
use crate::store::MessageStore;

use super::names;
use super::refusal::{Refusal, answer, answer_of};
use super::send_message::SendMessage;

/// The pause before the next try. These clients wait three seconds for the answer.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct SendBack<R: Runtime> {
    pub rt: R,
    pub store: Arc<MessageStore<R>>,
    pub sends: Arc<SendMessage<R>>,
}

/// Whether a client commits past a message whose send-back is refused.
///
/// # Source
/// apache/rocketmq-client-go v2.1.2, `pushConsumer#sendMessageBack`; apache/rocketmq-client-cpp 1.x,
/// `ConsumeMessageConcurrentlyService::ConsumeRequest`.
fn loses_what_is_refused(language: LanguageCode) -> bool {
    language == LanguageCode::GO || language == LanguageCode::CPP
}

impl<R: Runtime> SendBack<R> {
    pub fn handle(&self, request: &RemotingCommand) -> Answer {
        if !loses_what_is_refused(request.language) {
            return Answer::Now(unsupported(request));
        }
        let header = match request.header::<ConsumerSendMsgBackHeader>() {
            Ok(header) => header,
            Err(error) => return Answer::Now(Refusal::from(error).answer()),
        };
        let (rt, store, sends) = (self.rt.clone(), self.store.clone(), self.sends.clone());
        Answer::Later(Box::pin(async move {
            rt.sleep(PAUSE).await;
            answer_of(put_back(&rt, &store, &sends, &header).await)
        }))
    }
}

async fn put_back<R: Runtime>(
    rt: &R,
    store: &MessageStore<R>,
    sends: &SendMessage<R>,
    header: &ConsumerSendMsgBackHeader,
) -> Result<RemotingCommand, Refusal> {
    let record = u64::try_from(header.offset).ok().and_then(|offset| store.message_at(offset));
    let message = record.and_then(|record| StoredMessage::decode(&record).ok()).ok_or_else(|| {
        let remark = format!("look message by offset failed, {}", header.offset);
        Refusal::new(response::SYSTEM_ERROR, remark)
    })?;
    let mut done = match sends.handle(message.born_host, &retry(&message, header)).await {
        Answer::Now(answer) => answer,
        Answer::NowJson(fields) => answer(fields.code),
        Answer::WhenReached { mark, position, deadline, finish } => {
            let left = deadline.since(rt.now());
            let reached = match rt.timeout(left, mark.reached(position)).await {
                Ok(Ok(())) => Reached::Yes,
                Ok(Err(_)) => Reached::Failed,
                Err(_) => Reached::TimedOut,
            };
            match finish(reached) {
                Response::Command(answer) => answer,
                Response::Json(fields) => RemotingCommand { remark: fields.remark, ..answer(fields.code) },
            }
        }
        Answer::Never | Answer::Later(_) | Answer::Held => {
            unreachable!("a send is answered in one of two ways")
        }
    };
    done.ext = Default::default();
    Ok(done)
}

/// The send that puts `message` into the retry topic of the group.
fn retry(message: &StoredMessage, header: &ConsumerSendMsgBackHeader) -> RemotingCommand {
    let mut properties = properties::decode(&message.properties);
    if properties.get(properties::RETRY_TOPIC).is_none() {
        properties.set(properties::RETRY_TOPIC, message.topic.clone());
    }
    if properties.get(properties::ORIGIN_MESSAGE_ID).is_none() {
        properties.set(properties::ORIGIN_MESSAGE_ID, message.offset_message_id());
    }
    let (topic, properties) = (names::retry_topic(&header.group), properties.encode(false));
    let send = SendMessageHeader {
        producer_group: &header.group,
        topic: &topic,
        default_topic: "",
        default_topic_queue_nums: 1,
        queue_id: -1,
        sys_flag: message.sys_flag,
        born_timestamp: message.born_timestamp,
        flag: message.flag,
        properties: Some(&properties),
        reconsume_times: Some(message.reconsume_times.saturating_add(1)),
        max_reconsume_times: Some(i32::MAX),
        ..Default::default()
    };
    let mut request = RemotingCommand::request(codes::SEND_MESSAGE).with_body(message.body.clone());
    send.encode(&mut request.ext);
    request
}

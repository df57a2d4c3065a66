//! A half message that was asked about too often, asked about once more (323).

use crate::message::{StoredMessage, id, properties};
use crate::remoting::RemotingCommand;
use crate::remoting::codes::response;
use crate::remoting::headers::ResumeCheckHalfMessageHeader;
use crate::runtime::Runtime;

use super::super::names;
use super::super::refusal::Refusal;
use super::super::transaction::half::Half;
use super::{AdminRequests, Result, done};

impl<R: Runtime> AdminRequests<R> {
    /// Puts the message again at the end of the half topic, as one that nobody was asked about.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#resumeCheckHalfMessage`. It takes any message; here it must be one that was
    /// a half message.
    pub(super) async fn resume_check(&self, request: &RemotingCommand) -> Result<RemotingCommand> {
        let header: ResumeCheckHalfMessageHeader = request.header()?;
        let msg_id = header.msg_id.unwrap_or_default();
        let failed = |remark: String| Refusal::new(response::SYSTEM_ERROR, remark);
        let (_, offset) = id::parse(&msg_id).map_err(|error| failed(format!("msgId {msg_id}: {error}")))?;
        let record = self.store.message_at(offset);
        let record = record.ok_or_else(|| failed(format!("can not find message by the offset, {offset}")))?;
        let message = StoredMessage::decode(&record).map_err(|error| failed(error.to_string()))?;
        if !matches!(message.topic.as_str(), names::HALF_TOPIC | names::CHECK_MAX_TIME_TOPIC) {
            let remark = format!("{msg_id} is no half message, it is of the topic {}", message.topic);
            return Err(failed(remark));
        }
        let half = Half::new(message);
        if half.real_queue().is_none() {
            return Err(failed(format!("the half message {msg_id} does not say where it is to go")));
        }
        let mut again = half.properties.clone();
        again.remove(properties::CRC32);
        again.set(properties::TRANSACTION_CHECK_TIMES, "0");
        again.set(properties::WAIT, "false");
        let again = again.encode(false);
        let store_host = self.sends.store_host()?;
        let copy = half.stored_again(names::HALF_TOPIC, 0, store_host);
        let copy = crate::message::MessageToStore { properties: &again, ..copy };
        self.store.put_again(&copy).await?;
        Ok(done())
    }
}

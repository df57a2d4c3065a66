//! Handing messages back to the broker that they came from, which delivers them again later, or gives them up.

use std::sync::Arc;

use super::{Received, Shared};
use crate::remoting::RemotingCommand;
use crate::remoting::codes::{request, response};
use crate::remoting::headers::ConsumerSendMsgBackHeader;
use crate::runtime::{Mark, Runtime};

/// The delay level of a message that nobody is to try again.
pub(super) const DEAD_LETTER: i32 = -1;

/// Whose messages are handed back, and how often they may come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub group: &'a str,
    pub max_reconsume_times: i32,
    /// 0: the broker decides by the number of tries.
    pub delay_level: i32,
}

/// Hands `received` back. True when the broker has it: the message is consumed here.
pub(super) async fn send_back<R: Runtime>(
    shared: &Arc<Shared<R>>,
    terms: Terms<'_>,
    received: &Received,
) -> bool {
    let message = &received.message;
    let (Some(addr), Ok(offset)) =
        (shared.routes.master(&received.broker_name), i64::try_from(message.physical_offset))
    else {
        return false;
    };
    let header = ConsumerSendMsgBackHeader {
        offset,
        group: terms.group.to_owned(),
        delay_level: terms.delay_level,
        origin_msg_id: Some(received.msg_id()),
        origin_topic: Some(message.topic.clone()),
        unit_mode: false,
        max_reconsume_times: Some(terms.max_reconsume_times),
    };
    let back = RemotingCommand::request(request::CONSUMER_SEND_MSG_BACK).with_header(&header);
    match shared.peers.call(&addr, back, shared.config.request_timeout).await {
        Ok(answer) if answer.code == response::SUCCESS => true,
        Ok(answer) => {
            shared.rt.mark(Mark::NotTakenBack);
            tracing::warn!(addr, code = answer.code, remark = ?answer.remark, "a message is not taken back");
            false
        }
        Err(error) => {
            shared.rt.mark(Mark::MaybeTakenBack);
            tracing::debug!(addr, %error, "a message may not have been taken back");
            false
        }
    }
}

//! Looking one message up by where it lies: code 33. By key needs the index, which is not there: 12 is not supported.

use std::sync::Arc;

use crate::remoting::RemotingCommand;
use crate::remoting::codes::response;
use crate::remoting::headers::ViewMessageHeader;
use crate::runtime::Runtime;
use crate::store::MessageStore;

use super::refusal::{Refusal, answer};

pub(crate) struct ViewMessage<R: Runtime> {
    pub store: Arc<MessageStore<R>>,
}

impl<R: Runtime> ViewMessage<R> {
    pub fn by_offset(&self, request: &RemotingCommand) -> Result<RemotingCommand, Refusal> {
        let header: ViewMessageHeader = request.header()?;
        let record = u64::try_from(header.offset).ok().and_then(|offset| self.store.message_at(offset));
        let Some(record) = record else {
            let remark = format!("can not find message by the offset, {}", header.offset);
            return Err(Refusal::new(response::SYSTEM_ERROR, remark));
        };
        Ok(answer(response::SUCCESS).with_body(record))
    }
}

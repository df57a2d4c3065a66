//! What brokers ask a consumer for, on behalf of operators: to go on elsewhere (220), how far it is (221), what it does
//! (307), to consume one message now (309).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::consumer::{ConsumeStatus, Inner, Listener};
use super::{Received, Registry};
use crate::message::StoredMessage;
use crate::remoting::body::{
    ConsumeMessageDirectlyResult, ConsumeResult, ConsumerRunningInfo, GetConsumerStatusBody, MessageQueue,
    ResetOffsetBody,
};
use crate::remoting::codes::{request, response};
use crate::remoting::connection::{Answer, unsupported};
use crate::remoting::headers::{
    ConsumeMessageDirectlyHeader, GetConsumerRunningInfoHeader, GetConsumerStatusHeader, ResetOffsetHeader,
};
use crate::remoting::{OUR_VERSION, RemotingCommand};
use crate::runtime::Runtime;

/// The name of [`OUR_VERSION`].
const VERSION_NAME: &str = "V4_9_8";
const _: () = assert!(OUR_VERSION == 409, "the name is of another version");

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A consumer, whatever its listener is.
pub(super) trait Asked: Send + Sync {
    /// Goes on at these offsets in what it has of `topic`.
    fn reset(self: Arc<Self>, topic: &str, offsets: BTreeMap<MessageQueue, i64>);

    /// What it consumes next in each of its queues of `topic`.
    fn status(&self, topic: &str) -> BTreeMap<MessageQueue, i64>;

    fn running_info(&self, stacks: bool) -> ConsumerRunningInfo;

    fn consume_directly(self: Arc<Self>, message: Received) -> Boxed<ConsumeMessageDirectlyResult>;
}

impl Registry {
    /// Answers what a broker asks of a consumer.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `ClientRemotingProcessor`.
    pub(super) fn answer(&self, request: &RemotingCommand) -> Answer {
        match request.code {
            request::RESET_CONSUMER_CLIENT_OFFSET => {
                if let Err(error) = self.reset(request) {
                    tracing::warn!(error, "a malformed reset of offsets");
                }
                Answer::Never
            }
            request::GET_CONSUMER_STATUS_FROM_CLIENT => now(request, self.status(request)),
            request::GET_CONSUMER_RUNNING_INFO => now(request, self.running_info(request)),
            request::CONSUME_MESSAGE_DIRECTLY => match self.consume_directly(request) {
                Ok(result) => {
                    let done = RemotingCommand::response_to(request, response::SUCCESS);
                    Answer::Later(Box::pin(async move { done.with_body(result.await.to_json()) }))
                }
                Err(why) => now(request, Err(why)),
            },
            _ => Answer::Now(unsupported(request)),
        }
    }

    /// The consumer of that group.
    fn asked(&self, group: &str) -> Result<Arc<dyn Asked>, String> {
        let asked = self.groups().consumers.get(group).and_then(|entry| entry.asked.upgrade());
        asked.ok_or_else(|| format!("The Consumer Group <{group}> not exist in this consumer"))
    }

    fn reset(&self, request: &RemotingCommand) -> Result<(), String> {
        let header: ResetOffsetHeader = request.header().map_err(text)?;
        let body = ResetOffsetBody::parse(&request.body.to_bytes()).map_err(text)?;
        self.asked(&header.group)?.reset(&header.topic, body.offset_table);
        Ok(())
    }

    /// Of a group that is not here nothing is told, which is no error.
    fn status(&self, request: &RemotingCommand) -> Result<Vec<u8>, String> {
        let header: GetConsumerStatusHeader = request.header().map_err(text)?;
        let message_queue_table =
            self.asked(&header.group).map(|asked| asked.status(&header.topic)).unwrap_or_default();
        let body = GetConsumerStatusBody { message_queue_table, consumer_table: BTreeMap::new() };
        Ok(body.to_json())
    }

    fn running_info(&self, request: &RemotingCommand) -> Result<Vec<u8>, String> {
        let header: GetConsumerRunningInfoHeader = request.header().map_err(text)?;
        Ok(self.asked(&header.consumer_group)?.running_info(header.jstack_enable).to_json())
    }

    fn consume_directly(
        &self,
        request: &RemotingCommand,
    ) -> Result<Boxed<ConsumeMessageDirectlyResult>, String> {
        let header: ConsumeMessageDirectlyHeader = request.header().map_err(text)?;
        let asked = self.asked(&header.consumer_group)?;
        let message = StoredMessage::decode(&request.body.to_bytes()).map_err(text)?;
        let broker_name = header.broker_name.unwrap_or_default();
        Ok(asked.consume_directly(Received::new(message, &broker_name).map_err(text)?))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn now(request: &RemotingCommand, said: Result<Vec<u8>, String>) -> Answer {
    Answer::Now(match said {
        Ok(body) => RemotingCommand::response_to(request, response::SUCCESS).with_body(body),
        Err(why) => RemotingCommand::response_to(request, response::SYSTEM_ERROR).with_remark(why),
    })
}

impl<R: Runtime, L: Listener> Asked for Inner<R, L> {
    fn reset(self: Arc<Self>, topic: &str, offsets: BTreeMap<MessageQueue, i64>) {
        let topic = topic.to_owned();
        let rt = self.shared.rt.clone();
        rt.spawn("client: reset offsets", async move {
            for (queue, offset) in offsets.into_iter().filter(|(queue, _)| queue.topic == topic) {
                self.begin_again(&queue, offset).await;
            }
        });
    }

    fn status(&self, topic: &str) -> BTreeMap<MessageQueue, i64> {
        let queues = self.queues().into_iter().filter(|queue| topic.is_empty() || queue.topic == topic);
        queues.filter_map(|queue| Some((queue.clone(), self.offsets.get(&queue)?))).collect()
    }

    fn running_info(&self, stacks: bool) -> ConsumerRunningInfo {
        let rt = &self.shared.rt;
        let data = self.data();
        let properties = [
            ("PROP_NAMESERVER_ADDR", self.shared.config.name_servers.join(";")),
            ("PROP_THREADPOOL_CORE_SIZE", self.config.concurrency.to_string()),
            ("PROP_CONSUMEORDERLY", self.config.in_order.to_string()),
            ("PROP_CONSUME_TYPE", data.consume_type.name().to_owned()),
            ("PROP_CLIENT_VERSION", VERSION_NAME.to_owned()),
            ("PROP_CONSUMER_START_TIMESTAMP", self.started_ms.to_string()),
            ("consumerGroup", data.group_name),
            ("messageModel", data.message_model.name().to_owned()),
            ("consumeFromWhere", data.consume_from_where.name().to_owned()),
            ("instanceName", self.shared.client_id.clone()),
        ];
        let topics = self.subscriptions.keys();
        ConsumerRunningInfo {
            // There is no thread per listener whose stack could be shown.
            jstack: stacks.then(|| format!("{} listeners run\n", self.running())),
            mq_table: self.queue_infos(),
            properties: properties.map(|(name, value)| (name.to_owned(), value)).into(),
            status_table: topics.map(|topic| (topic.clone(), self.counts.topic(topic, rt.now()))).collect(),
            subscription_set: data.subscription_data_set,
        }
    }

    /// Beside whatever is consumed now, as in Java: an operator asks for one message, out of its turn.
    fn consume_directly(self: Arc<Self>, message: Received) -> Boxed<ConsumeMessageDirectlyResult> {
        Box::pin(async move {
            let rt = &self.shared.rt;
            let begun = rt.now();
            let status = self.listen(vec![message]).await;
            ConsumeMessageDirectlyResult {
                auto_commit: true,
                consume_result: match status {
                    ConsumeStatus::Success => ConsumeResult::Success,
                    ConsumeStatus::Later | ConsumeStatus::Retry => ConsumeResult::Later,
                },
                order: self.config.in_order,
                remark: None,
                spent_time_mills: i64::try_from(rt.now().since(begun).as_millis()).unwrap_or(i64::MAX),
            }
        })
    }
}

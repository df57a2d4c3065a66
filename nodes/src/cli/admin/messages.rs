//! Commands about single messages.

use anyhow::anyhow;
use bytes::Bytes;
use hotfire_core::client::admin::{AdminError, messages};
use hotfire_core::message::{StoredMessage, id, properties};
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::{PullMessageHeader, QueryMessageHeader, ViewMessageHeader};
use serde_json::Value;

use super::report::Report;
use super::topics::{broker_address, masters};
use super::{Operator, Told, failed};
use crate::cli::moment;
use crate::failure::Failure;

/// The group that mqadmin reads with; every broker knows it.
pub(super) const TOOLS_GROUP: &str = "TOOLS_CONSUMER";
/// Messages that a look-up by key shows, at most.
const SHOWN_MAX: i32 = 64;
/// In the flags of a pull: the subscription is in the request.
pub(super) const WITH_SUBSCRIPTION: i32 = 4;

#[derive(clap::Args)]
pub struct ById {
    /// The offset message id, which says where the message is
    #[arg(short = 'i', long)]
    msg_id: String,
}

#[derive(clap::Args)]
pub struct ByKey {
    #[arg(short, long)]
    topic: String,
    #[arg(short = 'k', long)]
    msg_key: String,
}

#[derive(clap::Args)]
pub struct ByUniqueKey {
    #[arg(short, long)]
    topic: String,
    /// The id that a producer was told
    #[arg(short = 'i', long)]
    msg_id: String,
}

#[derive(clap::Args)]
pub struct ByOffset {
    #[arg(short, long)]
    topic: String,
    /// The name of the broker
    #[arg(short, long)]
    broker_name: String,
    #[arg(short = 'i', long)]
    queue_id: i32,
    #[arg(short, long)]
    offset: i64,
}

pub(super) fn report() -> Report {
    Report::rows(&["Offset Id", "Msg Id", "Topic", "QID", "Queue Offset", "Tags", "Keys", "Stored", "Body"])
}

/// The messages of `body`, one record behind the other.
fn tell(report: &mut Report, body: &Bytes) -> Result<(), Failure> {
    for message in messages(body).map_err(failed)? {
        tell_one(report, &message, true);
    }
    Ok(())
}

pub(super) fn tell_one(report: &mut Report, message: &StoredMessage, with_body: bool) {
    let properties = properties::decode(&message.properties);
    let of = |name: &str| properties.get(name).map_or(Value::Null, Value::from);
    report.row([
        message.offset_message_id().into(),
        of(properties::UNIQ_KEY),
        message.topic.clone().into(),
        message.queue_id.into(),
        message.queue_offset.into(),
        of(properties::TAGS),
        of(properties::KEYS),
        moment::text(message.store_timestamp).into(),
        if with_body { String::from_utf8_lossy(&message.body).into() } else { Value::Null },
    ]);
}

/// At the broker that the id names.
pub async fn by_id(operator: &Operator, args: &ById) -> Told {
    let (addr, offset) = id::parse(&args.msg_id).map_err(Failure::usage)?;
    let header =
        ViewMessageHeader { offset: i64::try_from(offset).unwrap_or(i64::MAX), ..Default::default() };
    let asked = RemotingCommand::request(request::VIEW_MESSAGE_BY_ID).with_header(&header);
    let answer = operator.ask(&addr.to_string(), asked).await.map_err(failed)?;
    let mut report = report();
    tell(&mut report, &answer.body.to_bytes())?;
    Ok(report)
}

pub async fn by_key(operator: &Operator, args: &ByKey) -> Told {
    query(operator, &args.topic, &args.msg_key, false).await
}

pub async fn by_unique_key(operator: &Operator, args: &ByUniqueKey) -> Told {
    query(operator, &args.topic, &args.msg_id, true).await
}

async fn query(operator: &Operator, topic: &str, key: &str, unique_key: bool) -> Told {
    let header = QueryMessageHeader {
        topic: topic.to_owned(),
        key: key.to_owned(),
        max_num: SHOWN_MAX,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        unique_key,
    };
    let asked = RemotingCommand::request(request::QUERY_MESSAGE).with_header(&header);
    let mut report = report();
    for addr in masters(operator, topic).await? {
        match operator.ask(&addr, asked.clone()).await {
            Ok(answer) => tell(&mut report, &answer.body.to_bytes())?,
            Err(AdminError::Refused { code: response::QUERY_NOT_FOUND, .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(report)
}

pub async fn by_offset(operator: &Operator, args: &ByOffset) -> Told {
    let addr = broker_address(operator, &args.topic, &args.broker_name).await?;
    let header = PullMessageHeader {
        consumer_group: TOOLS_GROUP.to_owned(),
        topic: args.topic.clone(),
        queue_id: args.queue_id,
        queue_offset: args.offset,
        max_msg_nums: 1,
        sys_flag: WITH_SUBSCRIPTION,
        subscription: Some("*".to_owned()),
        ..Default::default()
    };
    let asked = RemotingCommand::request(request::PULL_MESSAGE).with_header(&header);
    match operator.ask(&addr, asked).await {
        Ok(answer) => {
            let mut report = report();
            tell(&mut report, &answer.body.to_bytes())?;
            Ok(report)
        }
        Err(AdminError::Refused { code: response::PULL_NOT_FOUND | response::PULL_OFFSET_MOVED, .. }) => {
            let ByOffset { topic, broker_name, queue_id, offset } = args;
            Err(Failure::Run(anyhow!(
                "queue {queue_id} of {topic} at {broker_name} has no message at {offset}"
            )))
        }
        Err(error) => Err(failed(error)),
    }
}

//! Commands that read along queues.
//!
//! They take part in no group: nothing is committed, and a queue is read by pulls that return at once.

use anyhow::anyhow;
use hotfire_core::client::admin::AdminError;
use hotfire_core::message::StoredMessage;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{BrokerData, QueryConsumeQueueBody};
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::{
    GetMaxOffsetHeader, GetMinOffsetHeader, OffsetResponse, PullMessageHeader, PullMessageResponse,
    QueryConsumeQueueHeader, SearchOffsetHeader,
};

use super::messages::{self, TOOLS_GROUP, WITH_SUBSCRIPTION};
use super::report::Report;
use super::topics::broker_address;
use super::{Operator, Told, failed};
use crate::cli::moment;
use crate::failure::Failure;

/// Messages of one pull, at most.
const PULL_MAX: i32 = 32;

#[derive(clap::Args)]
pub struct Print {
    #[arg(short, long)]
    topic: String,
    /// Only messages with these tags, `a || b`
    #[arg(short = 's', long, default_value = "*")]
    sub_expression: String,
    /// Only messages stored from then on: ms since 1970, or a date with time in UTC
    #[arg(short, long, value_parser = parse_time)]
    begin_timestamp: Option<i64>,
    /// Only messages stored before
    #[arg(short, long, value_parser = parse_time)]
    end_timestamp: Option<i64>,
    /// Whether bodies are shown
    #[arg(short = 'd', long, action = clap::ArgAction::Set, default_value_t = true)]
    print_body: bool,
}

#[derive(clap::Args)]
pub struct PrintQueue {
    #[command(flatten)]
    print: Print,
    /// The name of the broker
    #[arg(short = 'a', long)]
    broker_name: String,
    #[arg(short = 'i', long)]
    queue_id: i32,
}

#[derive(clap::Args)]
pub struct Consume {
    #[arg(short, long)]
    topic: String,
    /// Only of the broker of this name
    #[arg(short, long)]
    broker_name: Option<String>,
    /// Only of this queue of that broker
    #[arg(short = 'i', long, requires = "broker_name")]
    queue_id: Option<i32>,
    /// Where in that queue to begin
    #[arg(short, long, requires = "queue_id")]
    offset: Option<i64>,
    /// So many messages of a queue, at most
    #[arg(short = 'c', long, value_name = "N", default_value_t = 128)]
    message_number: usize,
    /// Only messages stored from then on
    #[arg(short = 's', long, value_parser = parse_time)]
    begin_timestamp: Option<i64>,
    /// Only messages stored before
    #[arg(short, long, value_parser = parse_time)]
    end_timestamp: Option<i64>,
    /// The group whose name the reads carry; it commits nothing
    #[arg(short = 'g', long, default_value = TOOLS_GROUP)]
    consumer_group: String,
}

#[derive(clap::Args)]
pub struct QueueEntries {
    #[arg(short, long)]
    topic: String,
    #[arg(short, long)]
    queue: i32,
    /// The first entry
    #[arg(short, long)]
    index: i64,
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    count: i32,
    /// Address of the broker, where more than one has the topic
    #[arg(short, long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// The group whose filter is tried on each
    #[arg(short = 'g', long)]
    consumer: Option<String>,
}

fn parse_time(text: &str) -> Result<i64, String> {
    moment::parse_ms(text).ok_or_else(|| "expected ms since 1970 or a date".to_owned())
}

/// What is read of one queue.
struct Reading<'a> {
    operator: &'a Operator,
    addr: &'a str,
    group: &'a str,
    topic: &'a str,
    queue_id: i32,
    tags: &'a str,
    begin: Option<i64>,
    end: Option<i64>,
}

impl Reading<'_> {
    async fn offset(&self, asked: RemotingCommand) -> Result<i64, Failure> {
        let answer = self.operator.ask(self.addr, asked).await.map_err(failed)?;
        Ok(answer.header::<OffsetResponse>().map_err(|error| Failure::Run(error.into()))?.offset)
    }

    /// Where the messages of the wanted time begin.
    async fn first(&self) -> Result<i64, Failure> {
        let (topic, queue_id) = (self.topic.to_owned(), self.queue_id);
        let asked = match self.begin {
            Some(timestamp) => RemotingCommand::request(request::SEARCH_OFFSET_BY_TIMESTAMP)
                .with_header(&SearchOffsetHeader { topic, queue_id, timestamp, ..Default::default() }),
            None => RemotingCommand::request(request::GET_MIN_OFFSET)
                .with_header(&GetMinOffsetHeader { topic, queue_id }),
        };
        self.offset(asked).await
    }

    /// Hands over up to `max` messages from `next` on, up to where the queue ended when it was asked.
    async fn read(
        &self,
        mut next: i64,
        mut max: usize,
        mut take: impl FnMut(&StoredMessage),
    ) -> Result<(), Failure> {
        let header = GetMaxOffsetHeader {
            topic: self.topic.to_owned(),
            queue_id: self.queue_id,
            ..Default::default()
        };
        let end = self.offset(RemotingCommand::request(request::GET_MAX_OFFSET).with_header(&header)).await?;
        while next < end && max > 0 {
            let header = PullMessageHeader {
                consumer_group: self.group.to_owned(),
                topic: self.topic.to_owned(),
                queue_id: self.queue_id,
                queue_offset: next,
                max_msg_nums: PULL_MAX,
                sys_flag: WITH_SUBSCRIPTION,
                subscription: Some(self.tags.to_owned()),
                ..Default::default()
            };
            let asked = RemotingCommand::request(request::PULL_MESSAGE).with_header(&header);
            let (answer, found) = match self.operator.answer(self.addr, asked).await.map_err(failed)? {
                answer if answer.code == response::SUCCESS => (answer, true),
                answer
                    if matches!(
                        answer.code,
                        response::PULL_NOT_FOUND
                            | response::PULL_RETRY_IMMEDIATELY
                            | response::PULL_OFFSET_MOVED
                    ) =>
                {
                    (answer, false)
                }
                answer => return Err(failed(AdminError::refused(self.addr, answer))),
            };
            if found {
                for message in
                    hotfire_core::client::admin::messages(&answer.body.to_bytes()).map_err(failed)?
                {
                    let stored = message.store_timestamp;
                    let wanted = self.begin.is_none_or(|begin| stored >= begin)
                        && self.end.is_none_or(|end| stored < end)
                        && message.queue_offset < end;
                    if wanted && max > 0 {
                        take(&message);
                        max -= 1;
                    }
                }
            }
            let told = answer.header::<PullMessageResponse>();
            let after = told.map_err(|error| Failure::Run(error.into()))?.next_begin_offset;
            if after <= next {
                // Nothing behind it can be read now.
                break;
            }
            next = after;
        }
        Ok(())
    }
}

pub async fn print(operator: &Operator, args: &Print) -> Told {
    let mut report = messages::report();
    let route = operator.route(&args.topic).await.map_err(failed)?;
    for queues in &route.queue_datas {
        let broker = route.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name);
        let Some(addr) = broker.and_then(readable_address) else { continue };
        for queue_id in 0..queues.read_queue_nums {
            print_one(operator, addr, queue_id, args, &mut report).await?;
        }
    }
    Ok(report)
}

/// The master, or a slave where there is none.
fn readable_address(broker: &BrokerData) -> Option<&String> {
    broker.broker_addrs.values().next()
}

pub async fn print_queue(operator: &Operator, args: &PrintQueue) -> Told {
    let mut report = messages::report();
    let addr = broker_address(operator, &args.print.topic, &args.broker_name).await?;
    print_one(operator, &addr, args.queue_id, &args.print, &mut report).await?;
    Ok(report)
}

async fn print_one(
    operator: &Operator,
    addr: &str,
    queue_id: i32,
    args: &Print,
    report: &mut Report,
) -> Result<(), Failure> {
    let reading = Reading {
        operator,
        addr,
        group: TOOLS_GROUP,
        topic: &args.topic,
        queue_id,
        tags: &args.sub_expression,
        begin: args.begin_timestamp,
        end: args.end_timestamp,
    };
    let first = reading.first().await?;
    reading.read(first, usize::MAX, |message| messages::tell_one(report, message, args.print_body)).await
}

pub async fn consume(operator: &Operator, args: &Consume) -> Told {
    let mut report = messages::report();
    let route = operator.route(&args.topic).await.map_err(failed)?;
    let mut some = false;
    for queues in &route.queue_datas {
        if args.broker_name.as_ref().is_some_and(|name| *name != queues.broker_name) {
            continue;
        }
        let broker = route.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name);
        let Some(addr) = broker.and_then(readable_address) else { continue };
        for queue_id in 0..queues.read_queue_nums {
            if args.queue_id.is_some_and(|wanted| wanted != queue_id) {
                continue;
            }
            some = true;
            let reading = Reading {
                operator,
                addr,
                group: &args.consumer_group,
                topic: &args.topic,
                queue_id,
                tags: "*",
                begin: args.begin_timestamp,
                end: args.end_timestamp,
            };
            let first = match args.offset {
                Some(offset) => offset,
                None => reading.first().await?,
            };
            let take = |message: &StoredMessage| messages::tell_one(&mut report, message, true);
            reading.read(first, args.message_number, take).await?;
        }
    }
    if some { Ok(report) } else { Err(Failure::Run(anyhow!("no broker has such a queue of {}", args.topic))) }
}

pub async fn queue_entries(operator: &Operator, args: &QueueEntries) -> Told {
    let addr = match &args.broker {
        Some(addr) => addr.clone(),
        None => {
            let route = operator.route(&args.topic).await.map_err(failed)?;
            let addr = route.broker_datas.iter().find_map(readable_address);
            addr.cloned().ok_or_else(|| Failure::Run(anyhow!("no broker has the topic {}", args.topic)))?
        }
    };
    let header = QueryConsumeQueueHeader {
        topic: args.topic.clone(),
        queue_id: args.queue,
        index: args.index,
        count: args.count,
        consumer_group: args.consumer.clone(),
    };
    let asked = RemotingCommand::request(request::QUERY_CONSUME_QUEUE).with_header(&header);
    let body = operator.read(&addr, asked, QueryConsumeQueueBody::parse).await.map_err(failed)?;
    let mut report = Report::rows(&["Queue Offset", "Log Offset", "Bytes", "Tags Code", "Passes Filter"]);
    for (at, entry) in (args.index.max(body.min_queue_index)..).zip(body.queue_data) {
        report.row([
            at.into(),
            entry.physic_offset.into(),
            entry.physic_size.into(),
            entry.tags_code.into(),
            entry.eval.into(),
        ]);
    }
    Ok(report)
}

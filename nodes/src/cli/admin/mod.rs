//! `hotfire admin`: mqadmin's commands by their names and flags, as tables or as JSON.

mod clients;
mod messages;
mod reading;
mod report;
mod sending;
mod servers;
mod topics;

use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;
use hotfire_core::client::admin::Admin;
use hotfire_core::remoting::RemotingCommand;
use hotfire_runtime::TokioRuntime;

use crate::failure::{Failure, Outcome};
use report::Report;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

type Operator = Admin<TokioRuntime>;
type Told = Result<Report, Failure>;

#[derive(clap::Args)]
pub struct Args {
    /// Name servers [default: NAMESRV_ADDR of the environment, else 127.0.0.1:9876]
    #[arg(short, long, global = true, value_name = "ADDR;ADDR", value_parser = super::name_servers)]
    namesrv: Option<String>,
    /// One JSON document in the place of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// One broker, or all masters of a cluster.
#[derive(clap::Args)]
struct Target {
    /// Address of a broker
    #[arg(short, long, value_name = "HOST:PORT", required_unless_present = "cluster")]
    broker: Option<String>,
    /// All masters of a cluster
    #[arg(short, long, value_name = "NAME", conflicts_with = "broker")]
    cluster: Option<String>,
}

impl Target {
    async fn addresses(&self, operator: &Operator) -> Result<Vec<String>, Failure> {
        match (&self.broker, &self.cluster) {
            (Some(broker), _) => Ok(vec![broker.clone()]),
            (None, Some(cluster)) => {
                Ok(operator.masters(cluster).await.map_err(failed)?.into_values().collect())
            }
            (None, None) => Err(Failure::Usage(anyhow!("expected -b or -c"))),
        }
    }

    /// Asks each broker, and tells of each that it is done.
    async fn each(&self, operator: &Operator, request: RemotingCommand, what: &str) -> Told {
        let mut report = Report::done();
        for addr in self.addresses(operator).await? {
            operator.ask(&addr, request.clone()).await.map_err(failed)?;
            report.tell(format!("{what}: done at {addr}"));
        }
        Ok(report)
    }
}

#[derive(Subcommand)]
#[command(rename_all = "camelCase")]
enum Command {
    /// All topics
    TopicList(topics::List),
    /// Which brokers have a topic
    TopicRoute(topics::Name),
    /// How full the queues of a topic are
    TopicStatus(topics::Name),
    /// The clusters that have a topic
    TopicClusterList(topics::Name),
    /// Creates or changes a topic
    UpdateTopic(topics::Update),
    /// Changes the permission of a topic
    UpdateTopicPerm(topics::UpdatePerm),
    /// How many queues of which brokers an ordered topic has
    UpdateOrderConf(topics::OrderConf),
    /// Deletes a topic and its messages
    DeleteTopic(topics::Delete),
    /// Creates or changes a consumer group
    UpdateSubGroup(clients::UpdateGroup),
    /// Deletes a consumer group
    DeleteSubGroup(clients::DeleteGroup),
    /// How far a group is
    ConsumerProgress(clients::Group),
    /// The live members of a group
    ConsumerConnection(clients::Group),
    /// The live producers of a group
    ProducerConnection(clients::Producers),
    /// Sets a group back, or forth, to a time
    ResetOffsetByTime(clients::Reset),
    /// Sets a group to the end of a topic
    SkipAccumulatedMessage(clients::Skip),
    /// What the members of a group do
    ConsumerStatus(clients::ConsumerStatus),
    /// Which queues each of these members would get
    #[command(name = "allocateMQ")]
    AllocateMq(clients::Allocate),
    /// What comes into topics, and goes out to groups
    StatsAll(clients::Stats),
    /// Gives a group what another one has committed on a topic
    CloneGroupOffset(clients::CloneOffset),
    /// The live producers of a broker
    Producer(clients::OfBroker),
    /// What all groups of a broker are behind
    BrokerConsumeStats(clients::OfBroker),
    /// The settings of a group
    GetConsumerConfig(clients::Group),
    /// One message by its offset message id
    QueryMsgById(messages::ById),
    /// Messages by one of their keys
    QueryMsgByKey(messages::ByKey),
    /// Messages by the id that the producer was told
    QueryMsgByUniqueKey(messages::ByUniqueKey),
    /// One message by its place in a queue
    QueryMsgByOffset(messages::ByOffset),
    /// Messages of a topic, queue by queue
    PrintMsg(reading::Print),
    /// Messages of a queue
    PrintMsgByQueue(reading::PrintQueue),
    /// Messages of a topic, without a group
    ConsumeMessage(reading::Consume),
    /// Entries of a ConsumeQueue
    QueryCq(reading::QueueEntries),
    /// Sends one message
    SendMessage(sending::Send),
    /// Sends to a broker, and shows how each went
    SendMsgStatus(sending::SendStatusArgs),
    /// Sends to each queue of a topic in turn, and shows how long that took
    #[command(name = "checkMsgSendRT")]
    CheckMsgSendRt(sending::CheckRt),
    /// How replication stands
    HaStatus(Target),
    /// The brokers, with their load
    ClusterList,
    /// The state of brokers
    BrokerStatus(Target),
    /// Settings of brokers
    GetBrokerConfig(Target),
    /// Changes a setting of brokers
    UpdateBrokerConfig(servers::UpdateBrokerConfig),
    /// Settings of the name servers
    GetNamesrvConfig,
    /// Changes a setting of the name servers
    UpdateNamesrvConfig(servers::Setting),
    /// Sets a value in the name servers
    UpdateKvConfig(servers::PutKv),
    /// Deletes a value in the name servers
    DeleteKvConfig(servers::DeleteKv),
    /// Takes a broker out of all routes for sending
    WipeWritePerm(servers::BrokerName),
    /// Takes a broker into all routes for sending again
    AddWritePerm(servers::BrokerName),
    /// Deletes queue files that hold nothing of the log
    #[command(name = "cleanExpiredCQ")]
    CleanExpiredCq(Target),
    /// Deletes the queues of topics that are gone
    CleanUnusedTopic(Target),
    /// Deletes expired CommitLog files now
    DeleteExpiredCommitLog(Target),
}

pub async fn run(args: Args) -> Outcome {
    let from_environment = || std::env::var("NAMESRV_ADDR").ok();
    let list = args.namesrv.or_else(from_environment).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let list = list.split(';').map(str::to_owned).collect();
    let operator = Admin::new(TokioRuntime::new("."), list, PATIENCE);
    let told = tell(&operator, &args.command).await;
    operator.stop().await;
    told?.print(args.json);
    Ok(())
}

async fn tell(operator: &Operator, command: &Command) -> Told {
    match command {
        Command::TopicList(args) => topics::list(operator, args).await,
        Command::TopicRoute(args) => topics::route(operator, args).await,
        Command::TopicStatus(args) => topics::status(operator, args).await,
        Command::TopicClusterList(args) => topics::clusters(operator, args).await,
        Command::UpdateTopic(args) => topics::update(operator, args).await,
        Command::UpdateTopicPerm(args) => topics::update_perm(operator, args).await,
        Command::UpdateOrderConf(args) => topics::order_conf(operator, args).await,
        Command::DeleteTopic(args) => topics::delete(operator, args).await,
        Command::UpdateSubGroup(args) => clients::update_group(operator, args).await,
        Command::DeleteSubGroup(args) => clients::delete_group(operator, args).await,
        Command::ConsumerProgress(args) => clients::progress(operator, args).await,
        Command::ConsumerConnection(args) => clients::consumers(operator, args).await,
        Command::ProducerConnection(args) => clients::producers(operator, args).await,
        Command::ResetOffsetByTime(args) => clients::reset(operator, args).await,
        Command::SkipAccumulatedMessage(args) => clients::skip(operator, args).await,
        Command::ConsumerStatus(args) => clients::consumer_status(operator, args).await,
        Command::AllocateMq(args) => clients::allocate(operator, args).await,
        Command::StatsAll(args) => clients::stats(operator, args).await,
        Command::CloneGroupOffset(args) => clients::clone_offset(operator, args).await,
        Command::Producer(args) => clients::producers_of_broker(operator, args).await,
        Command::BrokerConsumeStats(args) => clients::all_progress(operator, args).await,
        Command::GetConsumerConfig(args) => clients::group_config(operator, args).await,
        Command::QueryMsgById(args) => messages::by_id(operator, args).await,
        Command::QueryMsgByKey(args) => messages::by_key(operator, args).await,
        Command::QueryMsgByUniqueKey(args) => messages::by_unique_key(operator, args).await,
        Command::QueryMsgByOffset(args) => messages::by_offset(operator, args).await,
        Command::PrintMsg(args) => reading::print(operator, args).await,
        Command::PrintMsgByQueue(args) => reading::print_queue(operator, args).await,
        Command::ConsumeMessage(args) => reading::consume(operator, args).await,
        Command::QueryCq(args) => reading::queue_entries(operator, args).await,
        Command::SendMessage(args) => sending::send(operator, args).await,
        Command::SendMsgStatus(args) => sending::send_status(operator, args).await,
        Command::CheckMsgSendRt(args) => sending::check_rt(operator, args).await,
        Command::HaStatus(target) => servers::ha_status(operator, target).await,
        Command::ClusterList => servers::clusters(operator).await,
        Command::BrokerStatus(target) => servers::broker_status(operator, target).await,
        Command::GetBrokerConfig(target) => servers::broker_config(operator, target).await,
        Command::UpdateBrokerConfig(args) => servers::update_broker_config(operator, args).await,
        Command::GetNamesrvConfig => servers::name_server_config(operator).await,
        Command::UpdateNamesrvConfig(args) => servers::update_name_server_config(operator, args).await,
        Command::UpdateKvConfig(args) => servers::put_kv(operator, args).await,
        Command::DeleteKvConfig(args) => servers::delete_kv(operator, args).await,
        Command::WipeWritePerm(args) => servers::wipe_write_perm(operator, args).await,
        Command::AddWritePerm(args) => servers::add_write_perm(operator, args).await,
        Command::CleanExpiredCq(target) => servers::clean_queues(operator, target).await,
        Command::CleanUnusedTopic(target) => servers::clean_topics(operator, target).await,
        Command::DeleteExpiredCommitLog(target) => servers::delete_log(operator, target).await,
    }
}

fn failed(error: hotfire_core::client::admin::AdminError) -> Failure {
    Failure::Run(error.into())
}

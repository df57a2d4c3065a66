//! An operator's program: deletes topics and makes them again while clients go on, and looks at what brokers give then.
//!
//! His machine is never struck, but his brokers are: a request without an answer is sent again until one comes. To some topics
//! producers send nothing meanwhile, so that whoever finds one knows that nobody has made it again.

use std::sync::Arc;
use std::time::Duration;

use hotfire_core::message::StoredMessage;
use hotfire_core::message::sys_flag::pull;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::connection::{ConnectionLimits, NoHandler};
use hotfire_core::remoting::headers::{
    DeleteTopicHeader, DeleteTopicInNameServerHeader, GetMinOffsetHeader, OffsetResponse, PullMessageHeader,
};
use hotfire_core::remoting::peer::Peers;
use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, name_servers};
use crate::draw::{Draw, Key};
use crate::history::Place;
use crate::plan::{Passing, names};
use crate::produce::{MAKE_TIMEOUT, make_topic};
use crate::workload;

/// A broker deletes a topic within this, or is asked again.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two requests of which the first had no good answer.
const AGAIN: Duration = Duration::from_millis(300);
/// Between two looks whether the last sends to a topic have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// So often it is looked for that.
const LOOKS: u32 = 200;
/// Nothing is deleted before clients have found their brokers.
const FIRST_MS: u64 = 1_500;

struct Operator {
    rt: SimRuntime,
    cluster: Cluster,
    peers: Peers<SimRuntime>,
}

pub async fn run(rt: SimRuntime, cluster: Cluster) {
    let peers = Peers::new(rt.clone(), Arc::new(NoHandler), ConnectionLimits::default());
    let operator = Operator { rt: rt.clone(), cluster, peers };
    if let Some(passing) = operator.cluster.plan.settings.passing.clone() {
        operator.operate(&passing).await;
    }
    rt.stop_requested().await;
    operator.peers.stop().await;
}

impl Operator {
    async fn operate(&self, passing: &Passing) {
        let (plan, world) = (self.cluster.plan.clone(), &self.cluster.world);
        let topics = workload::passing(&plan);
        self.rt.sleep(Duration::from_millis(FIRST_MS)).await;
        for counter in 0.. {
            let key = Draw::new(plan.seed).key("deletion", counter);
            self.rt.sleep(Duration::from_millis(key.branch("gap").exponential(passing.gap_ms))).await;
            if world.now_ms() >= plan.workload.faults_end_ms {
                break;
            }
            let nth = key.branch("topic").range(0, topics.len() as u64 - 1);
            let Some(topic) = topics.get(nth as usize) else { break };
            self.pass(topic, nth.is_multiple_of(2), passing, key).await;
        }
        // As everybody expects to find it.
        for topic in &topics {
            self.make(topic).await;
        }
        self.cluster.progress(|progress| progress.operated = true);
    }

    /// One topic goes and comes back. While it is gone nobody sends to it, or producers go on and make it again.
    async fn pass(&self, topic: &str, closed: bool, passing: &Passing, key: Key) {
        if closed {
            self.cluster.progress(|progress| progress.closed.insert(topic.to_owned()));
            for _ in 0..LOOKS {
                if self.cluster.witness.is_quiet(topic) {
                    break;
                }
                self.rt.sleep(LOOK_AGAIN).await;
            }
        }
        for broker in names::brokers(&self.cluster.plan.settings) {
            self.delete(&broker, topic).await;
        }
        self.forget(topic).await;
        self.rt.sleep(Duration::from_millis(key.branch("gone").range(0, passing.gone_ms))).await;
        if closed || key.branch("made").percent(50) {
            self.make(topic).await;
        }
        self.cluster.progress(|progress| progress.closed.remove(topic));
        self.rt.sleep(Duration::from_millis(key.branch("look").range(0, passing.gone_ms))).await;
        for broker in names::brokers(&self.cluster.plan.settings) {
            self.read(&broker, topic).await;
        }
    }

    /// Deletes a topic of a broker: asks until the answer is that it is gone.
    async fn delete(&self, broker: &str, topic: &str) {
        let (addr, witness) = (self.cluster.broker_socket(broker).to_string(), &self.cluster.witness);
        let header = DeleteTopicHeader { topic: topic.to_owned() };
        loop {
            let command = RemotingCommand::request(request::DELETE_TOPIC_IN_BROKER).with_header(&header);
            let asked = witness.deletion_asked(broker, topic);
            match self.peers.call(&addr, command, DELETE_TIMEOUT).await {
                Ok(answer) if answer.code == response::SUCCESS => return witness.deletion_done(&asked),
                Ok(_) => witness.deletion_refused(&asked),
                Err(_) => {}
            }
            self.rt.sleep(AGAIN).await;
        }
    }

    /// Tells the name servers, as `mqadmin` does; what they miss brokers tell them.
    async fn forget(&self, topic: &str) {
        let header = DeleteTopicInNameServerHeader { topic: topic.to_owned(), cluster_name: None };
        for addr in name_servers(&self.cluster.plan.settings) {
            let command = RemotingCommand::request(request::DELETE_TOPIC_IN_NAMESRV).with_header(&header);
            drop(self.peers.call(&addr, command, DELETE_TIMEOUT).await);
        }
    }

    /// Makes a topic on all brokers.
    async fn make(&self, topic: &str) {
        for broker in names::brokers(&self.cluster.plan.settings) {
            let addr = self.cluster.broker_socket(&broker).to_string();
            loop {
                let answer = self.peers.call(&addr, make_topic(&self.cluster, topic), MAKE_TIMEOUT).await;
                match answer {
                    Ok(answer) if answer.code == response::SUCCESS => break,
                    Ok(_) => {}
                    Err(_) => self.cluster.witness.half_made(topic),
                }
                self.rt.sleep(AGAIN).await;
            }
        }
    }

    /// Reads what a broker has of a topic, from the minimum on that it says: below that it would note that an offset has moved.
    async fn read(&self, broker: &str, topic: &str) {
        let addr = self.cluster.broker_socket(broker).to_string();
        for queue_id in 0..self.cluster.plan.settings.queues_per_topic as i32 {
            let header = GetMinOffsetHeader { topic: topic.to_owned(), queue_id };
            let command = RemotingCommand::request(request::GET_MIN_OFFSET).with_header(&header);
            let Ok(answer) = self.peers.call(&addr, command, DELETE_TIMEOUT).await else { return };
            let Ok(OffsetResponse { offset }) = answer.header() else { return };
            let header = PullMessageHeader {
                consumer_group: "operators".to_owned(),
                topic: topic.to_owned(),
                queue_id,
                queue_offset: offset,
                max_msg_nums: 32,
                sys_flag: pull::SUBSCRIPTION,
                subscription: Some("*".to_owned()),
                ..PullMessageHeader::default()
            };
            let command = RemotingCommand::request(request::PULL_MESSAGE).with_header(&header);
            let Ok(answer) = self.peers.call(&addr, command, DELETE_TIMEOUT).await else { return };
            let mut rest = answer.body.to_bytes();
            while let Ok(message) = StoredMessage::decode(&rest) {
                self.cluster.witness.served(&Place {
                    broker: broker.to_owned(),
                    topic: topic.to_owned(),
                    queue: queue_id,
                    queue_offset: message.queue_offset,
                    physical_offset: Some(message.physical_offset),
                });
                rest = rest.slice((message.store_size as usize).min(rest.len())..);
            }
        }
    }
}

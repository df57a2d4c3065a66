//! A program that asks brokers and name servers for everything the protocol has, by bytes of its own (`wire`), and knows what
//! each answer must be.
//!
//! While there are faults it goes in rounds: what has no answer may have happened. When all is well it examines every node once,
//! and then an answer that does not come is a finding too. Its topics are its own: nobody else sends to them.

mod clients;
mod customers;
mod dead_letters;
mod name_servers;
mod pulls;
mod rounds;
mod sends;
mod topics;

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use hotfire_sim::SimRuntime;

use crate::cluster::{Cluster, NAME_SERVER_PORT, address};
use crate::draw::{Draw, Key};
use crate::oracle::protocol::{self, Post};
use crate::oracle::{Broken, Verdict};
use crate::plan::names;
use crate::platter::BrokerDisk;
use crate::wire::{Connection, Fields, Form, Frame, NoAnswer};

/// The name of the node.
pub const NODE: &str = "operator-1";
/// An answer on a cluster that is well.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether the cluster is well.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The broker's settings that it must know.
const CLUSTER: &str = "DefaultCluster";

/// What is to be done and was found; outlives the program.
#[derive(Default, Debug)]
pub struct Examination {
    /// The cluster is well.
    pub wanted: bool,
    pub done: bool,
    /// By broker.
    pub post: BTreeMap<String, Post>,
}

type Step<T = ()> = Result<T, Broken>;

pub async fn run(rt: SimRuntime, cluster: Cluster) {
    let rounds = rounds::run(&rt, &cluster).await;
    let verdict = match rounds {
        Ok(()) => examine(&rt, &cluster).await,
        broken => broken,
    };
    cluster.witness.note(verdict);
    cluster.progress(|progress| progress.examination.done = true);
    rt.stop_requested().await;
}

async fn examine(rt: &SimRuntime, cluster: &Cluster) -> Step {
    for broker in names::brokers(&cluster.plan.settings) {
        let mut desk = Desk::of_broker(rt, cluster, &broker);
        topics::examine(&mut desk).await?;
        sends::examine(&mut desk).await?;
        pulls::examine(&mut desk).await?;
        clients::examine(&mut desk).await?;
        dead_letters::examine(&mut desk).await?;
    }
    customers::examine(rt, cluster).await?;
    for name_server in names::name_servers(&cluster.plan.settings) {
        let at = SocketAddr::from((address(&name_server), NAME_SERVER_PORT));
        name_servers::examine(&mut Desk::new(rt, cluster, &name_server, at)).await?;
    }
    Ok(())
}

/// At the end, on the raw disk of one broker.
///
/// # Errors
/// As [`protocol::at_end`].
pub fn at_end(cluster: &Cluster, broker: &str, disk: &BrokerDisk) -> Verdict {
    let post = cluster.progress(|progress| progress.examination.post.get(broker).cloned());
    post.map_or(Ok(()), |post| protocol::at_end(broker, &post, disk))
}

/// Where one node is asked.
struct Desk {
    rt: SimRuntime,
    cluster: Cluster,
    /// The node that is asked.
    name: String,
    at: SocketAddr,
    connection: Option<Connection>,
    draws: u64,
}

impl Desk {
    fn new(rt: &SimRuntime, cluster: &Cluster, name: &str, at: SocketAddr) -> Desk {
        let (rt, cluster) = (rt.clone(), cluster.clone());
        Desk { rt, cluster, name: name.to_owned(), at, connection: None, draws: 0 }
    }

    fn of_broker(rt: &SimRuntime, cluster: &Cluster, broker: &str) -> Desk {
        Desk::new(rt, cluster, broker, cluster.broker_socket(broker))
    }

    /// The address that it tells of itself.
    fn host(&self) -> SocketAddrV4 {
        match self.at {
            SocketAddr::V4(at) => at,
            SocketAddr::V6(at) => panic!("nobody here is at {at}"),
        }
    }

    /// The next choice of this run.
    fn draw(&mut self, label: &str) -> Key {
        self.draws += 1;
        Draw::new(self.cluster.plan.seed).key(&format!("examine {} {label}", self.name), self.draws)
    }

    /// A number that no message before has had.
    fn number(&mut self) -> u64 {
        self.draws += 1;
        self.draws
    }

    fn form(&mut self) -> Form {
        self.draw("form").pick(&[Form::Json, Form::Binary])
    }

    fn broken(&self, detail: impl Into<String>) -> Broken {
        Broken::new("PROTOCOL", format!("{}: {}", self.name, detail.into()))
    }

    fn unanswered(&self, what: &str, why: NoAnswer) -> Broken {
        match why {
            NoAnswer::Missing(why) => Broken::new("I19", format!("{}: {what}: no answer: {why}", self.name)),
            NoAnswer::Wrong(why) => self.broken(format!("{what}: {why}")),
        }
    }

    /// A new connection.
    async fn open(&mut self) -> Result<Connection, NoAnswer> {
        let opaque = self.draw("opaque").pick(&[0, 1, 1_000, -5, i32::MAX - 3]);
        Connection::open(&self.rt, self.at, opaque, PATIENCE).await
    }

    async fn connect(&mut self) -> Step<Connection> {
        let opened = self.open().await;
        opened.map_err(|why| self.unanswered("a connection", why))
    }

    /// Asks over the connection that there is, or a new one.
    async fn call(
        &mut self,
        code: i32,
        fields: Fields,
        body: &[u8],
        patience: Duration,
    ) -> Result<Frame, NoAnswer> {
        let form = self.form();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let answer = connection.call(Frame::request(form, code, fields, body.to_vec()), patience).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn ask(&mut self, what: &str, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Step<Frame> {
        let answer = self.call(code, to_fields(fields), body, PATIENCE).await;
        answer.map_err(|why| self.unanswered(what, why))
    }

    /// Asks, and the answer has that code and those fields.
    async fn expect(
        &mut self,
        what: &str,
        (code, fields, body): (i32, &[(&str, &str)], &[u8]),
        expected: i32,
        answered: &[(&str, String)],
    ) -> Step<Frame> {
        let answer = self.ask(what, code, fields, body).await?;
        protocol::answer(&format!("{}: {what}", self.name), &answer, expected, answered)?;
        Ok(answer)
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&self, what: &str, found: T, expected: T) -> Step {
        protocol::equal(&format!("{}: {what}", self.name), &found, &expected)
    }

    /// The body as JSON.
    fn json(&self, what: &str, answer: &Frame) -> Step<serde_json::Value> {
        serde_json::from_slice(&answer.body).map_err(|error| self.broken(format!("{what}: no JSON: {error}")))
    }

    fn post(&self, note: impl FnOnce(&mut Post)) {
        self.cluster
            .progress(|progress| note(progress.examination.post.entry(self.name.clone()).or_default()));
    }
}

fn to_fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The texts of a list, sorted.
fn texts(list: &serde_json::Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut texts: Vec<String> = items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    texts.sort();
    texts
}

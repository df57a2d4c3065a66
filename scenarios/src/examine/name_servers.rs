//! A name server: brokers that there are not come, change, fall silent and go, and each answer tells of them as they are.

use std::time::Duration;

use hotfire_core::runtime::Runtime as _;
use serde_json::{Value, json};

use super::{Desk, PATIENCE, Step, texts, to_fields};
use crate::wire::{Connection, Frame};

const PUT_KV_CONFIG: i32 = 100;
const DELETE_KV_CONFIG: i32 = 102;
const REGISTER: i32 = 103;
const UNREGISTER: i32 = 104;
const ROUTE: i32 = 105;
const CLUSTER_INFO: i32 = 106;
const WIPE_WRITE: i32 = 205;
const ALL_TOPICS: i32 = 206;
const DELETE_TOPIC: i32 = 216;
const REGISTER_TOPIC: i32 = 217;
const KV_LIST: i32 = 219;
const TOPICS_OF_CLUSTER: i32 = 224;
const SYSTEM_TOPICS: i32 = 304;
const UNIT_TOPICS: i32 = 311;
const SUBSCRIBED_BY_UNITS: i32 = 312;
const SUBSCRIBED_BY_UNITS_ALONE: i32 = 313;
const UPDATE_CONFIG: i32 = 318;
const DATA_VERSION: i32 = 322;
const ADD_WRITE: i32 = 327;

const NO_ROUTE: i32 = 17;
const NOTHING: i32 = 22;
const FAILED: i32 = 1;

/// A name server looks for silent brokers every five seconds.
const SCAN: Duration = Duration::from_secs(5);
const SILENT_MS: u64 = 4_000;
/// Or as often as it is told to; who comes back is silent for longer than this, and then tells of himself so often.
const SCAN_OFTEN_MS: u64 = 500;
const SILENT_OFTEN_MS: u64 = 200;
const TELLS_EVERY: Duration = Duration::from_millis(40);
/// Times that one comes back.
const RETURNS: u64 = 4;
/// An end of a connection is seen within this.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// A broker as it tells of itself.
#[derive(Clone, Debug)]
struct Pretended {
    cluster: String,
    name: String,
    id: i64,
    host: String,
    /// By name: read and write queues, permission, flags.
    topics: Vec<(String, i32, i32, i32, i32)>,
    counter: i64,
    state: i64,
    silent_ms: Option<u64>,
}

impl Pretended {
    fn version(&self) -> Value {
        json!({ "counter": self.counter, "stateVersion": self.state, "timestamp": 1_600_000_000_000_i64 })
    }

    fn body(&self) -> Vec<u8> {
        let topics: serde_json::Map<String, Value> = self
            .topics
            .iter()
            .map(|(name, read, write, perm, flags)| {
                let topic = json!({
                    "attributes": {},
                    "order": false,
                    "perm": perm,
                    "readQueueNums": read,
                    "topicFilterType": "SINGLE_TAG",
                    "topicName": name,
                    "topicSysFlag": flags,
                    "writeQueueNums": write,
                });
                (name.clone(), topic)
            })
            .collect();
        let wrapper = json!({ "dataVersion": self.version(), "topicConfigTable": topics });
        let body = json!({ "filterServerList": [], "topicConfigSerializeWrapper": wrapper });
        body.to_string().into_bytes()
    }

    fn who(&self) -> Vec<(&'static str, String)> {
        vec![
            ("brokerName", self.name.clone()),
            ("brokerAddr", self.host.clone()),
            ("clusterName", self.cluster.clone()),
            ("brokerId", self.id.to_string()),
        ]
    }

    fn request(&self, crc: Option<i64>) -> (i32, crate::wire::Fields, Vec<u8>) {
        let body = self.body();
        let crc = crc.unwrap_or_else(|| i64::from(crate::platter::crc::crc32(&body) & 0x7FFF_FFFF));
        let mut fields = self.who();
        fields.push(("haServerAddr", format!("{}9", self.host)));
        fields.push(("compressed", "false".to_owned()));
        fields.push(("bodyCrc32", crc.to_string()));
        if let Some(silent_ms) = self.silent_ms {
            fields.push(("heartbeatTimeoutMillis", silent_ms.to_string()));
        }
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        (REGISTER, to_fields(&fields), body)
    }

    fn queues(&self, topic: &str) -> Option<Value> {
        let found = self.topics.iter().find(|(name, ..)| name == topic)?;
        let (_, read, write, perm, flags) = found;
        Some(json!({
            "brokerName": self.name,
            "perm": perm,
            "readQueueNums": read,
            "topicSysFlag": flags,
            "writeQueueNums": write,
        }))
    }
}

/// Registers over a connection of its own.
async fn register(
    desk: &mut Desk,
    connection: &mut Connection,
    broker: &Pretended,
    code: i32,
) -> Step<Frame> {
    register_as(desk, connection, broker, None, code).await
}

async fn register_as(
    desk: &mut Desk,
    connection: &mut Connection,
    broker: &Pretended,
    crc: Option<i64>,
    code: i32,
) -> Step<Frame> {
    let (request, fields, body) = broker.request(crc);
    let what = format!("the registration of {broker:?}");
    let frame = Frame::request(desk.form(), request, fields, body);
    let answer = connection.call(frame, PATIENCE).await.map_err(|why| desk.unanswered(&what, why))?;
    crate::oracle::protocol::answer(&format!("{}: {what}", desk.name), &answer, code, &[])?;
    Ok(answer)
}

/// The queues and the brokers of a topic's route; null where there is none.
async fn route(desk: &mut Desk, topic: &str) -> Step<Value> {
    let answer = desk.ask("a route", ROUTE, &[("topic", topic)], &[]).await?;
    match answer.code {
        0 => desk.json("a route", &answer),
        NO_ROUTE => Ok(Value::Null),
        code => Err(desk.broken(format!("the route of {topic} is answered with {code}"))),
    }
}

/// The route of a topic has the queues of these brokers, with these addresses.
async fn routed(desk: &mut Desk, topic: &str, queues: &[Value], addresses: &Value) -> Step {
    let found = route(desk, topic).await?;
    if queues.is_empty() {
        return desk.equal(&format!("the route of {topic}"), found, Value::Null);
    }
    desk.equal(&format!("the queues of {topic}"), &found["queueDatas"], &json!(queues))?;
    let brokers = found["brokerDatas"].as_array().cloned().unwrap_or_default();
    let named =
        |broker: &Value| Some((broker["brokerName"].as_str()?.to_owned(), broker["brokerAddrs"].clone()));
    let found: serde_json::Map<String, Value> = brokers.iter().filter_map(named).collect();
    desk.equal(&format!("the brokers of {topic}"), &Value::Object(found), addresses)
}

async fn list(desk: &mut Desk, code: i32, fields: &[(&str, &str)]) -> Step<Vec<String>> {
    let what = format!("the list {code} {fields:?}");
    let answer = desk.expect(&what, (code, fields, &[]), 0, &[]).await?;
    let body = desk.json(&what, &answer)?;
    Ok(texts(&body["topicList"]))
}

/// Those of a list that are ours.
fn ours(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).filter(|name| name.starts_with("pre-")).collect()
}

fn pretended(desk: &mut Desk, name: &str, id: i64, port: u16) -> Pretended {
    let flags = desk.draw("flags").pick(&[0, 1, 2, 3]);
    let queues = |desk: &mut Desk| desk.draw("queues").range(1, 9) as i32;
    let topics = vec![
        ("pre-both".to_owned(), queues(desk), queues(desk), 6, flags),
        (format!("pre-{name}"), queues(desk), queues(desk), 6, 0),
    ];
    Pretended {
        cluster: "pre-cluster".to_owned(),
        name: format!("pre-{name}"),
        id,
        host: format!("10.1.0.1:{port}"),
        topics,
        counter: 5,
        state: 1,
        silent_ms: None,
    }
}

pub(super) async fn examine(desk: &mut Desk) -> Step {
    come_and_go(desk).await?;
    masters_and_slaves(desk).await?;
    silent(desk).await?;
    back(desk).await?;
    settings(desk).await
}

async fn come_and_go(desk: &mut Desk) -> Step {
    let (mut a, b) = (pretended(desk, "a", 0, 1), pretended(desk, "b", 0, 2));
    let (mut at_a, mut at_b) = (desk.connect().await?, desk.connect().await?);
    // One topic of a broker that nobody knows, and a body that is another.
    let alone = Pretended { topics: a.topics[..1].to_vec(), ..a.clone() };
    register(desk, &mut at_a, &alone, FAILED).await?;
    register_as(desk, &mut at_a, &a, Some(1), FAILED).await?;
    routed(desk, "pre-both", &[], &Value::Null).await?;
    changed(desk, &mut at_a, &a, true).await?;
    register(desk, &mut at_a, &a, 0).await?;
    changed(desk, &mut at_a, &a, false).await?;
    register(desk, &mut at_b, &b, 0).await?;
    let addresses = json!({ "pre-a": { "0": a.host }, "pre-b": { "0": b.host } });
    let queues = |brokers: &[&Pretended]| -> Vec<Value> {
        brokers.iter().filter_map(|broker| broker.queues("pre-both")).collect()
    };
    routed(desk, "pre-both", &queues(&[&a, &b]), &addresses).await?;
    lists(desk, &[&a, &b]).await?;
    // One topic changes, under the next version.
    a.topics[0].1 += 1;
    a.counter += 1;
    let single = Pretended { topics: a.topics[..1].to_vec(), ..a.clone() };
    register(desk, &mut at_a, &single, 0).await?;
    routed(desk, "pre-both", &queues(&[&a, &b]), &addresses).await?;
    changed(desk, &mut at_a, &a, false).await?;
    // One of a later version: what came in between is missing, and the next question is answered so.
    let skipped = Pretended { counter: a.counter + 2, ..single };
    register(desk, &mut at_a, &skipped, 0).await?;
    changed(desk, &mut at_a, &skipped, true).await?;
    // All of them, under the same version: nothing is new.
    let other =
        Pretended { topics: vec![("pre-both".into(), 15, 15, 6, 0), a.topics[1].clone()], ..a.clone() };
    register(desk, &mut at_a, &other, 0).await?;
    routed(desk, "pre-both", &queues(&[&a, &b]), &addresses).await?;
    permissions(desk, &mut a).await?;
    routed(desk, "pre-both", &queues(&[&a, &b]), &addresses).await?;
    by_hand(desk, &a).await?;
    // The connection of one ends; the other one says that it goes.
    drop(at_a);
    gone(desk, "pre-pre-a").await?;
    let b_alone = json!({ "pre-b": { "0": b.host } });
    let seen = desk.rt.now().after(SEEN_WITHIN);
    while route(desk, "pre-both").await?["queueDatas"] != json!(queues(&[&b])) && desk.rt.now() < seen {
        desk.rt.sleep(Duration::from_millis(50)).await;
    }
    routed(desk, "pre-both", &queues(&[&b]), &b_alone).await?;
    let who = b.who();
    let fields: Vec<(&str, &str)> = who.iter().map(|(name, value)| (*name, value.as_str())).collect();
    desk.expect("a broker that goes", (UNREGISTER, &fields, &[]), 0, &[]).await?;
    routed(desk, "pre-both", &[], &Value::Null).await?;
    drop(at_b);
    Ok(())
}

/// Nobody knows that topic any more, soon.
async fn gone(desk: &mut Desk, topic: &str) -> Step {
    let until = desk.rt.now().after(SEEN_WITHIN);
    while route(desk, topic).await? != Value::Null {
        if desk.rt.now() > until {
            return Err(desk.broken(format!("{topic} has a route, and its broker is gone")));
        }
        desk.rt.sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Whether its topics are others than those that it has told of.
async fn changed(desk: &mut Desk, connection: &mut Connection, broker: &Pretended, is: bool) -> Step {
    let who = broker.who();
    let fields: Vec<(&str, &str)> = who.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let later = Pretended { counter: broker.counter + 1, ..broker.clone() };
    for (version, is) in [(broker.version(), is), (later.version(), true)] {
        let what = format!("whether {version} of {} is another", broker.name);
        let body = version.to_string().into_bytes();
        let frame = Frame::request(desk.form(), DATA_VERSION, to_fields(&fields), body);
        let answer = connection.call(frame, PATIENCE).await.map_err(|why| desk.unanswered(&what, why))?;
        let fields = [("changed", is.to_string())];
        crate::oracle::protocol::answer(&format!("{}: {what}", desk.name), &answer, 0, &fields)?;
    }
    Ok(())
}

async fn lists(desk: &mut Desk, brokers: &[&Pretended]) -> Step {
    let mut all: Vec<&str> =
        brokers.iter().flat_map(|broker| broker.topics.iter().map(|topic| topic.0.as_str())).collect();
    all.sort_unstable();
    all.dedup();
    let found = list(desk, ALL_TOPICS, &[]).await?;
    desk.equal("all topics that are ours", ours(&found), all.clone())?;
    let found = list(desk, TOPICS_OF_CLUSTER, &[("cluster", "pre-cluster")]).await?;
    desk.equal("the topics of a cluster", ours(&found), all)?;
    let found = list(desk, TOPICS_OF_CLUSTER, &[("cluster", "DefaultCluster")]).await?;
    desk.equal("the topics of another cluster", ours(&found), Vec::new())?;
    let found = list(desk, SYSTEM_TOPICS, &[]).await?;
    desk.equal("clusters and brokers", ours(&found), vec!["pre-a", "pre-b", "pre-cluster"])?;
    let flags = brokers[0].topics[0].4;
    for (code, wanted) in [
        (UNIT_TOPICS, flags & 1 != 0),
        (SUBSCRIBED_BY_UNITS, flags & 2 != 0),
        (SUBSCRIBED_BY_UNITS_ALONE, flags & 3 == 2),
    ] {
        let found = list(desk, code, &[]).await?;
        let expected = if wanted { vec!["pre-both"] } else { Vec::new() };
        desk.equal(&format!("the list {code} of a topic with the flags {flags}"), ours(&found), expected)?;
    }
    let answer = desk.expect("the clusters", (CLUSTER_INFO, &[], &[]), 0, &[]).await?;
    let info = desk.json("the clusters", &answer)?;
    desk.equal(
        "the brokers of a cluster",
        texts(&info["clusterAddrTable"]["pre-cluster"]),
        vec!["pre-a".to_owned(), "pre-b".to_owned()],
    )?;
    for broker in brokers {
        let found = &info["brokerAddrTable"][&broker.name]["brokerAddrs"];
        desk.equal(&format!("the addresses of {}", broker.name), found, &json!({ "0": broker.host }))?;
    }
    Ok(())
}

/// Nobody may write to a broker, and then everybody again.
async fn permissions(desk: &mut Desk, broker: &mut Pretended) -> Step {
    let name = broker.name.clone();
    for (code, field, perm) in [(WIPE_WRITE, "wipeTopicCount", 4), (ADD_WRITE, "addTopicCount", 6)] {
        let count = broker.topics.len().to_string();
        desk.expect("permissions", (code, &[("brokerName", &name)], &[]), 0, &[(field, count)]).await?;
        broker.topics.iter_mut().for_each(|topic| topic.3 = perm);
        for topic in broker.topics.clone() {
            let found = route(desk, &topic.0).await?;
            let queues = found["queueDatas"].as_array().cloned().unwrap_or_default();
            let mine = queues.into_iter().find(|queues| queues["brokerName"] == json!(name));
            desk.equal(&format!("{} of {name}", topic.0), mine, broker.queues(&topic.0))?;
            let others = found["queueDatas"].as_array().cloned().unwrap_or_default();
            let mut others = others.into_iter().filter(|queues| queues["brokerName"] != json!(name));
            desk.equal(
                "permission of another broker",
                others.all(|queues| queues["perm"] == json!(6)),
                true,
            )?;
        }
    }
    Ok(())
}

/// A topic is told of by hand, and forgotten.
async fn by_hand(desk: &mut Desk, broker: &Pretended) -> Step {
    let queues = json!({
        "brokerName": broker.name, "perm": 4, "readQueueNums": 3, "topicSysFlag": 0, "writeQueueNums": 2,
    });
    let unknown = json!({
        "brokerName": "pre-nobody", "perm": 6, "readQueueNums": 3, "topicSysFlag": 0, "writeQueueNums": 2,
    });
    let body = json!({ "brokerDatas": [], "filterServerTable": {}, "queueDatas": [queues, unknown] });
    let body = body.to_string().into_bytes();
    desk.expect("a topic by hand", (REGISTER_TOPIC, &[("topic", "pre-hand")], &body), 0, &[]).await?;
    let addresses = json!({ &broker.name: { "0": broker.host } });
    routed(desk, "pre-hand", std::slice::from_ref(&queues), &addresses).await?;
    let other = [("topic", "pre-hand"), ("clusterName", "DefaultCluster")];
    desk.expect("a topic of another cluster", (DELETE_TOPIC, &other, &[]), 0, &[]).await?;
    routed(desk, "pre-hand", &[queues], &addresses).await?;
    let fields = [("topic", "pre-hand"), ("clusterName", "pre-cluster")];
    let fields = if desk.draw("everywhere").percent(50) { &fields[..1] } else { &fields[..] };
    desk.expect("a topic that is forgotten", (DELETE_TOPIC, fields, &[]), 0, &[]).await?;
    routed(desk, "pre-hand", &[], &Value::Null).await
}

/// A slave is told of its master, and stays when that goes; an old connection's end takes nobody.
async fn masters_and_slaves(desk: &mut Desk) -> Step {
    let (master, slave) = (pretended(desk, "c", 0, 3), pretended(desk, "c", 1, 4));
    let (mut old, mut at_master, mut at_slave) =
        (desk.connect().await?, desk.connect().await?, desk.connect().await?);
    let answer = register(desk, &mut at_slave, &slave, 0).await?;
    desk.equal("the master of a slave that has none", answer.field("masterAddr"), "")?;
    // Slaves do not say what topics there are.
    routed(desk, "pre-c", &[], &Value::Null).await?;
    register(desk, &mut old, &master, 0).await?;
    register(desk, &mut at_master, &master, 0).await?;
    let answer = register(desk, &mut at_slave, &slave, 0).await?;
    desk.equal("the master of a slave", answer.field("masterAddr"), master.host.as_str())?;
    desk.equal("where it is followed", answer.field("haServerAddr"), format!("{}9", master.host).as_str())?;
    let queues = [master.queues("pre-c").unwrap_or_default()];
    let both = json!({ "pre-c": { "0": master.host, "1": slave.host } });
    routed(desk, "pre-c", &queues, &both).await?;
    drop(old);
    desk.rt.sleep(SEEN_WITHIN).await;
    routed(desk, "pre-c", &queues, &both).await?;
    // Another one of an earlier epoch is not the master.
    let former = Pretended { host: "10.1.0.1:5".to_owned(), state: 0, ..master.clone() };
    let mut at_former = desk.connect().await?;
    register(desk, &mut at_former, &former, 0).await?;
    routed(desk, "pre-c", &queues, &both).await?;
    let who = master.who();
    let fields: Vec<(&str, &str)> = who.iter().map(|(name, value)| (*name, value.as_str())).collect();
    desk.expect("a master that goes", (UNREGISTER, &fields, &[]), 0, &[]).await?;
    routed(desk, "pre-c", &queues, &json!({ "pre-c": { "1": slave.host } })).await?;
    drop((at_former, at_master, at_slave));
    gone(desk, "pre-c").await
}

/// One that says nothing any more is forgotten when its time is up, and not before.
async fn silent(desk: &mut Desk) -> Step {
    let broker = Pretended { silent_ms: Some(SILENT_MS), ..pretended(desk, "d", 0, 6) };
    let mut connection = desk.connect().await?;
    register(desk, &mut connection, &broker, 0).await?;
    let patient = pretended(desk, "e", 0, 7);
    let mut other = desk.connect().await?;
    register(desk, &mut other, &patient, 0).await?;
    desk.rt.sleep(Duration::from_millis(SILENT_MS * 3 / 4)).await;
    let queues = |broker: &Pretended| [broker.queues(&broker.name).unwrap_or_default()];
    let at = |broker: &Pretended| json!({ &broker.name: { "0": broker.host } });
    routed(desk, "pre-d", &queues(&broker), &at(&broker)).await?;
    let closed = connection.is_closed(SCAN + Duration::from_millis(SILENT_MS)).await;
    desk.equal("the end of a silent broker's connection", closed, true)?;
    routed(desk, "pre-d", &[], &Value::Null).await?;
    routed(desk, "pre-e", &queues(&patient), &at(&patient)).await?;
    drop(other);
    gone(desk, "pre-e").await
}

/// One that was silent for too long and is back stays, whether a look has found it silent before or not.
async fn back(desk: &mut Desk) -> Step {
    let scan = |ms: u128| format!("scanNotActiveBrokerInterval={ms}\n");
    let often = scan(SCAN_OFTEN_MS.into());
    desk.expect("looks for silent brokers", (UPDATE_CONFIG, &[], often.as_bytes()), 0, &[]).await?;
    desk.rt.sleep(SCAN).await;
    let broker = Pretended { silent_ms: Some(SILENT_OFTEN_MS), ..pretended(desk, "g", 0, 9) };
    let queues = [broker.queues(&broker.name).unwrap_or_default()];
    let at = json!({ &broker.name: { "0": broker.host } });
    for _ in 0..RETURNS {
        let mut before = desk.connect().await?;
        register(desk, &mut before, &broker, 0).await?;
        let silent_ms = desk.draw("silent").range(SILENT_OFTEN_MS, 2 * SCAN_OFTEN_MS);
        desk.rt.sleep(Duration::from_millis(silent_ms)).await;
        let mut connection = desk.connect().await?;
        let watched = desk.rt.now().after(Duration::from_millis(2 * SCAN_OFTEN_MS));
        while desk.rt.now() < watched {
            register(desk, &mut connection, &broker, 0).await?;
            desk.rt.sleep(TELLS_EVERY).await;
            routed(desk, "pre-g", &queues, &at).await?;
        }
        drop((before, connection));
        gone(desk, "pre-g").await?;
    }
    let usual = scan(SCAN.as_millis());
    desk.expect("looks for silent brokers", (UPDATE_CONFIG, &[], usual.as_bytes()), 0, &[]).await?;
    Ok(())
}

/// Settings by namespace, and those of ordered topics.
async fn settings(desk: &mut Desk) -> Step {
    for (key, value) in [("one", "1"), ("two", "2"), ("one", "3 = \"three\"")] {
        let fields = [("namespace", "pre-space"), ("key", key), ("value", value)];
        desk.expect("a setting", (PUT_KV_CONFIG, &fields, &[]), 0, &[]).await?;
    }
    let what = "the settings of a namespace";
    let of = [("namespace", "pre-space")];
    let answer = desk.expect(what, (KV_LIST, &of, &[]), 0, &[]).await?;
    let found = desk.json(what, &answer)?["table"].clone();
    desk.equal(what, found, json!({ "one": "3 = \"three\"", "two": "2" }))?;
    let fields = [("namespace", "pre-space"), ("key", "one")];
    desk.expect("a setting that goes", (DELETE_KV_CONFIG, &fields, &[]), 0, &[]).await?;
    let answer = desk.expect(what, (KV_LIST, &of, &[]), 0, &[]).await?;
    let found = desk.json(what, &answer)?["table"].clone();
    desk.equal(what, found, json!({ "two": "2" }))?;
    desk.expect(what, (KV_LIST, &[("namespace", "pre-none")], &[]), NOTHING, &[]).await?;
    ordered(desk).await
}

/// Brokers are told of ordered topics when they register, and clients in routes where that is wanted.
async fn ordered(desk: &mut Desk) -> Step {
    let fields = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "pre-f"), ("value", "pre-f:3")];
    desk.expect("an ordered topic", (PUT_KV_CONFIG, &fields, &[]), 0, &[]).await?;
    let broker = pretended(desk, "f", 0, 8);
    let mut connection = desk.connect().await?;
    let answer = register(desk, &mut connection, &broker, 0).await?;
    let told = desk.json("the ordered topics", &answer)?["table"]["pre-f"].clone();
    desk.equal("the ordered topic", told, json!("pre-f:3"))?;
    for (wanted, expected) in [(true, json!("pre-f:3")), (false, Value::Null)] {
        let lines = format!("orderMessageEnable={wanted}\n");
        desk.expect("a setting of its own", (UPDATE_CONFIG, &[], lines.as_bytes()), 0, &[]).await?;
        let found = route(desk, "pre-f").await?["orderTopicConf"].clone();
        desk.equal(&format!("the order in a route with {lines}"), found, expected)?;
    }
    drop(connection);
    gone(desk, "pre-f").await
}

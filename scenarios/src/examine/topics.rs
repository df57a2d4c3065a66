//! Topics, groups and settings: made, changed, read back, told to name servers; refused with the right code.

use std::net::SocketAddr;
use std::time::Duration;

use hotfire_core::runtime::Runtime as _;
use serde_json::{Value, json};

use super::{CLUSTER, Desk, Step, to_fields};
use crate::cluster::{NAME_SERVER_PORT, address};
use crate::plan::names;
use crate::wire::{Fields, Frame};

pub(super) const PUT_TOPIC: i32 = 17;
pub(super) const GET_TOPIC: i32 = 351;
const ALL_TOPICS: i32 = 21;
const SYSTEM_TOPICS: i32 = 305;
pub(super) const PUT_GROUP: i32 = 200;
const GET_GROUP: i32 = 352;
const DELETE_GROUP: i32 = 207;
const UPDATE_CONFIG: i32 = 25;
const GET_CONFIG: i32 = 26;
const ROUTE: i32 = 105;

pub(super) const NO_TOPIC: i32 = 17;
const NO_GROUP: i32 = 26;
const INVALID: i32 = 29;
const FORBIDDEN: i32 = 16;

/// A new topic is in every route within this.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a topic is like.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Shape {
    pub read: i32,
    pub write: i32,
    pub perm: i32,
    pub multi_tag: bool,
    pub order: bool,
    pub system_flag: i32,
}

impl Shape {
    pub fn draw(desk: &mut Desk) -> Shape {
        Shape {
            read: desk.draw("read queues").range(1, 5) as i32,
            write: desk.draw("write queues").range(1, 5) as i32,
            perm: desk.draw("perm").pick(&[2, 4, 6, 6, 7]),
            multi_tag: desk.draw("multi tag").percent(30),
            order: desk.draw("order").percent(30),
            system_flag: desk.draw("system flag").pick(&[0, 0, 1, 2, 3]),
        }
    }

    pub fn fields(&self, topic: &str) -> Fields {
        let Shape { read, write, perm, multi_tag, order, system_flag } = self;
        to_fields(&[
            ("topic", topic),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", &read.to_string()),
            ("writeQueueNums", &write.to_string()),
            ("perm", &perm.to_string()),
            ("topicFilterType", if *multi_tag { "MULTI_TAG" } else { "SINGLE_TAG" }),
            ("topicSysFlag", &system_flag.to_string()),
            ("order", &order.to_string()),
        ])
    }

    /// Of the answer to [`GET_TOPIC`].
    pub fn read(desk: &Desk, answer: &Frame) -> Step<Shape> {
        let body = desk.json("a topic", answer)?;
        Shape::of(&body).ok_or_else(|| desk.broken(format!("a topic that is none: {body}")))
    }

    fn of(body: &Value) -> Option<Shape> {
        let number = |name: &str| body.get(name)?.as_i64().and_then(|number| i32::try_from(number).ok());
        Some(Shape {
            read: number("readQueueNums")?,
            write: number("writeQueueNums")?,
            perm: number("perm")?,
            multi_tag: body.get("topicFilterType")?.as_str()? == "MULTI_TAG",
            order: body.get("order")?.as_bool()?,
            system_flag: number("topicSysFlag")?,
        })
    }
}

pub(super) async fn put(desk: &mut Desk, topic: &str, shape: &Shape) -> Step {
    let fields = shape.fields(topic);
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    desk.expect(&format!("make {topic}"), (PUT_TOPIC, &fields, &[]), 0, &[]).await.map(drop)
}

/// The shape of a topic that the broker has.
pub(super) async fn get(desk: &mut Desk, topic: &str) -> Step<Shape> {
    let answer =
        desk.expect(&format!("the topic {topic}"), (GET_TOPIC, &[("topic", topic)], &[]), 0, &[]).await?;
    Shape::read(desk, &answer)
}

pub(super) async fn examine(desk: &mut Desk) -> Step {
    for nth in 0..3 {
        let topic = format!("op-{}-{nth}", desk.name);
        let shape = Shape::draw(desk);
        put(desk, &topic, &shape).await?;
        is(desk, &topic, &shape).await?;
        let changed = Shape::draw(desk);
        put(desk, &topic, &changed).await?;
        is(desk, &topic, &changed).await?;
    }
    refused(desk).await?;
    listed(desk).await?;
    groups(desk).await?;
    settings(desk).await
}

/// The topic is like that, as the broker and every name server have it.
async fn is(desk: &mut Desk, topic: &str, shape: &Shape) -> Step {
    let found = get(desk, topic).await?;
    desk.equal(&format!("the topic {topic}"), &found, shape)?;
    told(desk, topic, shape, shape.perm).await
}

/// Every name server has it like that, soon.
async fn told(desk: &Desk, topic: &str, shape: &Shape, perm: i32) -> Step {
    for name in names::name_servers(&desk.cluster.plan.settings) {
        let at = SocketAddr::from((address(&name), NAME_SERVER_PORT));
        let mut server = Desk::new(&desk.rt, &desk.cluster, &name, at);
        let expected = json!([{
            "brokerName": desk.name,
            "perm": perm,
            "readQueueNums": shape.read,
            "topicSysFlag": shape.system_flag,
            "writeQueueNums": shape.write,
        }]);
        let until = desk.rt.now().after(TOLD_WITHIN);
        loop {
            let what = format!("the route of {topic}");
            let answer = server.ask(&what, ROUTE, &[("topic", topic)], &[]).await?;
            let route = if answer.code == 0 { server.json(&what, &answer)? } else { Value::Null };
            if route.get("queueDatas") == Some(&expected) {
                let brokers = json!({ "0": desk.at.to_string() });
                let found = route.pointer("/brokerDatas/0/brokerAddrs").cloned().unwrap_or_default();
                server.equal(&format!("{what}: its brokers"), &found, &brokers)?;
                break;
            }
            if desk.rt.now() > until {
                return Err(server.broken(format!("{what} is {route}, and {} has {expected}", desk.name)));
            }
            desk.rt.sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

/// What no topic can be is refused, and none is made.
async fn refused(desk: &mut Desk) -> Step {
    let usual = Shape { read: 2, write: 2, perm: 6, multi_tag: false, order: false, system_flag: 0 };
    let (fine, long) = (format!("op-{}-none", desk.name), "x".repeat(128));
    let broker = desk.name.clone();
    let cases = [
        ("TBW102", usual.clone()),
        ("SCHEDULE_TOPIC_XXXX", usual.clone()),
        ("rmq_sys_x", usual.clone()),
        (broker.as_str(), usual.clone()),
        (CLUSTER, usual.clone()),
        ("", usual.clone()),
        ("op a", usual.clone()),
        ("op/a", usual.clone()),
        (long.as_str(), usual.clone()),
        (fine.as_str(), Shape { read: -1, ..usual.clone() }),
        (fine.as_str(), Shape { write: -1, ..usual.clone() }),
        (fine.as_str(), Shape { read: 65_537, ..usual.clone() }),
        (fine.as_str(), Shape { perm: 8, ..usual.clone() }),
    ];
    for (topic, shape) in cases {
        let before = desk.ask("a topic", GET_TOPIC, &[("topic", topic)], &[]).await?;
        let fields = shape.fields(topic);
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        desk.expect(&format!("make {topic:?} as {shape:?}"), (PUT_TOPIC, &fields, &[]), INVALID, &[]).await?;
        let after = desk.ask("a topic", GET_TOPIC, &[("topic", topic)], &[]).await?;
        desk.equal(&format!("the topic {topic} after a refusal"), after.body, before.body)?;
    }
    let longest = format!("{:x<127}", format!("op-{}-", desk.name));
    put(desk, &longest, &usual).await?;
    is(desk, &longest, &usual).await
}

/// The lists of topics.
async fn listed(desk: &mut Desk) -> Step {
    let all = desk.expect("all topics", (ALL_TOPICS, &[], &[]), 0, &[]).await?;
    let all = desk.json("all topics", &all)?;
    let topic = format!("op-{}-0", desk.name);
    let one = get(desk, &topic).await?;
    let listed = all.pointer(&format!("/topicConfigTable/{topic}")).and_then(Shape::of);
    desk.equal("a topic in the list", listed, Some(one))?;
    let system = desk.expect("system topics", (SYSTEM_TOPICS, &[], &[]), 0, &[]).await?;
    let system = super::texts(&desk.json("system topics", &system)?["topicList"]);
    for name in ["TBW102", "SCHEDULE_TOPIC_XXXX", &desk.name, CLUSTER] {
        desk.equal(
            &format!("{name} among the system topics"),
            system.iter().any(|topic| topic == name),
            true,
        )?;
    }
    desk.equal("ours among the system topics", system.contains(&topic), false)
}

/// A group as the protocol has it, with those members changed.
pub(super) fn group(name: &str, changed: &[(&str, Value)]) -> Value {
    let mut group = json!({
        "groupName": name,
        "consumeEnable": true,
        "consumeFromMinEnable": true,
        "consumeBroadcastEnable": true,
        "notifyConsumerIdsChangedEnable": true,
        "retryQueueNums": 1,
        "retryMaxTimes": 16,
        "brokerId": 0,
        "whichBrokerWhenConsumeSlowly": 1,
    });
    for (member, value) in changed {
        group[*member] = value.clone();
    }
    group
}

pub(super) async fn put_group(desk: &mut Desk, group: &Value) -> Step {
    let body = group.to_string().into_bytes();
    desk.expect(&format!("make the group {}", group["groupName"]), (PUT_GROUP, &[], &body), 0, &[])
        .await
        .map(drop)
}

async fn groups(desk: &mut Desk) -> Step {
    let name = format!("op-group-{}", desk.name);
    let tries = desk.draw("tries").range(0, 20);
    let queues = desk.draw("retry queues").range(1, 3);
    let wanted = group(
        &name,
        &[
            ("consumeBroadcastEnable", json!(desk.draw("broadcast").percent(50))),
            ("consumeFromMinEnable", json!(desk.draw("from min").percent(50))),
            ("notifyConsumerIdsChangedEnable", json!(desk.draw("notify").percent(50))),
            ("retryMaxTimes", json!(tries)),
            ("retryQueueNums", json!(queues)),
            ("brokerId", json!(desk.draw("near").range(0, 1))),
            ("whichBrokerWhenConsumeSlowly", json!(desk.draw("far").range(0, 2))),
        ],
    );
    put_group(desk, &wanted).await?;
    let found = desk.expect("a group", (GET_GROUP, &[("group", &name)], &[]), 0, &[]).await?;
    let found = desk.json("a group", &found)?;
    for (member, value) in wanted.as_object().into_iter().flatten() {
        desk.equal(&format!("{member} of the group {name}"), &found[member], value)?;
    }
    let long = "g".repeat(121);
    for bad in ["", "a b", &long] {
        let body = group(bad, &[]).to_string().into_bytes();
        desk.expect(&format!("make the group {bad:?}"), (PUT_GROUP, &[], &body), INVALID, &[]).await?;
    }
    desk.expect(
        "delete a group",
        (DELETE_GROUP, &[("groupName", &name), ("removeOffset", "true")], &[]),
        0,
        &[],
    )
    .await?;
    desk.expect("a deleted group", (GET_GROUP, &[("group", &name)], &[]), NO_GROUP, &[]).await.map(drop)
}

pub(super) async fn set(desk: &mut Desk, lines: &str, code: i32) -> Step {
    desk.expect(&format!("the setting {lines}"), (UPDATE_CONFIG, &[], lines.as_bytes()), code, &[])
        .await
        .map(drop)
}

async fn settings_text(desk: &mut Desk) -> Step<String> {
    let answer = desk.expect("the settings", (GET_CONFIG, &[], &[]), 0, &[]).await?;
    String::from_utf8(answer.body).map_err(|_| desk.broken("the settings are no text"))
}

/// What a broker permits, and whether it makes topics: each changed, and changed back.
async fn settings(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-permitted", desk.name);
    let shape = Shape { read: 1, write: 2, perm: 6, multi_tag: false, order: true, system_flag: 0 };
    put(desk, &topic, &shape).await?;
    let plain = format!("op-{}-unordered", desk.name);
    put(desk, &plain, &Shape { order: false, ..shape.clone() }).await?;
    for (permission, sent, pulled) in [(4, FORBIDDEN, 0), (2, 0, FORBIDDEN), (6, 0, 0)] {
        set(desk, &format!("brokerPermission={permission}\n"), 0).await?;
        let text = settings_text(desk).await?;
        let line = format!("brokerPermission={permission}");
        desk.equal(&format!("{line} among the settings"), text.lines().any(|found| found == line), true)?;
        told(desk, &topic, &shape, 6 & permission).await?;
        super::sends::sent(desk, &topic, sent).await?;
        // Routes hide it, and who knows it all the same is served, as in Java.
        super::sends::sent(desk, &plain, 0).await?;
        super::pulls::pulled(desk, &topic, pulled).await?;
    }
    let unknown = format!("op-{}-unmade", desk.name);
    set(desk, "autoCreateTopicEnable=false\n", 0).await?;
    super::sends::sent(desk, &unknown, NO_TOPIC).await?;
    set(desk, "autoCreateTopicEnable=true\nautoCreateSubscriptionGroup=false\n", 0).await?;
    super::sends::sent(desk, &unknown, 0).await?;
    super::pulls::pulled_by(desk, &topic, "op-unknown-group", NO_GROUP).await?;
    set(desk, "autoCreateSubscriptionGroup=true\n", 0).await?;
    super::pulls::pulled_by(desk, &topic, "op-unknown-group", 0).await?;
    // All or none.
    set(desk, "autoCreateTopicEnable=false\nbrokerPermission=9\n", 1).await?;
    set(desk, "flushDiskType=ASYNC_FLUSH\n", FORBIDDEN).await?;
    let another = format!("op-{}-another", desk.name);
    super::sends::sent(desk, &another, 0).await
}

//! What a broker knows of its clients, what it tells them, and how it takes what is no request.

use std::time::Duration;

use hotfire_core::runtime::Runtime as _;
use serde_json::{Value, json};

use super::pulls::{Pull, records};
use super::sends::{Draft, store};
use super::topics::{self, Shape, group, put_group};
use super::{Desk, PATIENCE, Step, texts, to_fields};
use crate::oracle::protocol;
use crate::wire::{Connection, Fields, Form, Frame, NoAnswer, encode};

const PULL: i32 = 11;
const MAX_OFFSET: i32 = 30;
const HEARTBEAT: i32 = 34;
const UNREGISTER: i32 = 35;
const CONSUMERS: i32 = 38;
const CHANGED: i32 = 40;
const LOCK: i32 = 41;
const UNLOCK: i32 = 42;
const CHECK_FILTER: i32 = 46;
const CONSUMER_CONNECTIONS: i32 = 203;
const PRODUCER_CONNECTIONS: i32 = 204;
const CONSUMERS_OF_TOPIC: i32 = 300;
const REPLY: i32 = 324;
const REPLY_V2: i32 = 325;
const REPLY_TO_CLIENT: i32 = 326;

const FAILED: i32 = 1;
const NOT_SUPPORTED: i32 = 3;
const NO_MATCH: i32 = 20;
const NO_FILTER: i32 = 23;
const NO_SUBSCRIPTION: i32 = 24;
const OLD_SUBSCRIPTION: i32 = 25;
const FORBIDDEN: i32 = 16;
const NOT_ONLINE: i32 = 206;

/// What is told of a change is there within this.
const TOLD_WITHIN: Duration = Duration::from_millis(300);
/// A pull waits so long, in ms.
const SUSPENDED_MS: u64 = 4_000;
/// What came into the queue of a pull that waits is given within this.
const GIVEN_WITHIN: Duration = Duration::from_millis(1_500);
/// Of V4_9_4.
const VERSION: i32 = 401;

/// One client: its connection and its name.
struct Client {
    connection: Connection,
    id: String,
}

impl Client {
    async fn new(desk: &mut Desk, name: &str) -> Step<Client> {
        let connection = desk.connect().await?;
        Ok(Client { connection, id: format!("{name}-{}", desk.number()) })
    }

    async fn call(
        &mut self,
        desk: &mut Desk,
        what: &str,
        code: i32,
        fields: Fields,
        body: &[u8],
    ) -> Step<Frame> {
        let frame = Frame::request(desk.form(), code, fields, body.to_vec());
        self.connection.call(frame, PATIENCE).await.map_err(|why| desk.unanswered(what, why))
    }

    async fn beat(&mut self, desk: &mut Desk, heartbeat: &Value) -> Step {
        let mut heartbeat = heartbeat.clone();
        heartbeat["clientID"] = json!(self.id);
        let body = heartbeat.to_string().into_bytes();
        let answer = self.call(desk, "a heartbeat", HEARTBEAT, Fields::new(), &body).await?;
        protocol::answer(&format!("{}: a heartbeat", desk.name), &answer, 0, &[])
    }

    /// Whether it is told that its group has changed: so often.
    async fn told(&mut self, desk: &Desk, when: &str, group: &str, times: usize) -> Step {
        let mut found = 0;
        while let Some(asked) =
            self.connection.asked(TOLD_WITHIN).await.map_err(|why| desk.unanswered("a change", why))?
        {
            protocol::answer(
                &format!("{}: what is told of a change", desk.name),
                &asked,
                CHANGED,
                &[("consumerGroup", group.to_owned())],
            )?;
            found += 1;
        }
        desk.equal(&format!("how often {} is told of a change when {when}", self.id), found, times)
    }
}

fn subscription(topic: &str, filter: &str, version: i64) -> Value {
    json!({
        "classFilterMode": false, "codeSet": [], "expressionType": "TAG", "subString": filter,
        "subVersion": version, "tagsSet": [], "topic": topic,
    })
}

fn consumer(group: &str, model: &str, subscriptions: &[Value]) -> Value {
    json!({
        "consumerDataSet": [{
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
            "consumeType": "CONSUME_PASSIVELY",
            "groupName": group,
            "messageModel": model,
            "subscriptionDataSet": subscriptions,
            "unitMode": false,
        }],
        "producerDataSet": [],
        "heartbeatFingerprint": 0,
        "withoutSub": false,
    })
}

fn producer(group: &str) -> Value {
    json!({ "consumerDataSet": [], "producerDataSet": [{ "groupName": group }] })
}

pub(super) async fn examine(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-clients", desk.name);
    let shape = Shape { read: 2, write: 2, perm: 6, multi_tag: false, order: false, system_flag: 0 };
    topics::put(desk, &topic, &shape).await?;
    members(desk, &topic).await?;
    subscriptions(desk, &topic).await?;
    waiting(desk, &topic).await?;
    producers(desk, &topic).await?;
    locks(desk, &topic).await?;
    filters(desk, &topic).await?;
    frames(desk, &topic).await
}

/// The members of a group by their ids.
async fn listed(desk: &mut Desk, group: &str) -> Step<Vec<String>> {
    let answer = desk.ask("a group's members", CONSUMERS, &[("consumerGroup", group)], &[]).await?;
    match answer.code {
        0 => Ok(texts(&desk.json("a group's members", &answer)?["consumerIdList"])),
        FAILED => Ok(Vec::new()),
        code => Err(desk.broken(format!("the members of {group} are answered with {code}"))),
    }
}

/// A group has these members, sorted.
async fn are(desk: &mut Desk, what: &str, group: &str, members: Vec<String>) -> Step {
    let found = listed(desk, group).await?;
    desk.equal(what, found, members)
}

fn ids(clients: &[&Client]) -> Vec<String> {
    let mut ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
    ids.sort();
    ids
}

/// Members come, stay, change what they want, leave and vanish; each of the others is told once.
async fn members(desk: &mut Desk, topic: &str) -> Step {
    let name = format!("op-members-{}", desk.name);
    let plain = consumer(&name, "CLUSTERING", &[subscription(topic, "*", 1)]);
    let (mut one, mut two) = (Client::new(desk, "one").await?, Client::new(desk, "two").await?);
    are(desk, "the members of nobody's group", &name, Vec::new()).await?;
    one.beat(desk, &plain).await?;
    one.told(desk, "it comes", &name, 1).await?;
    one.beat(desk, &plain).await?;
    one.told(desk, "nothing changes", &name, 0).await?;
    two.beat(desk, &plain).await?;
    one.told(desk, "another comes", &name, 1).await?;
    two.told(desk, "it comes", &name, 1).await?;
    are(desk, "the members of a group", &name, ids(&[&one, &two])).await?;
    connections(desk, &name, topic, &[&one, &two]).await?;
    let answer = desk.expect("who consumes", (CONSUMERS_OF_TOPIC, &[("topic", topic)], &[]), 0, &[]).await?;
    let groups = texts(&desk.json("who consumes", &answer)?["groupList"]);
    desk.equal("a group among those of its topic", groups.contains(&name), true)?;
    // Another version alone is no change of what is wanted; another topic is.
    let newer = consumer(&name, "CLUSTERING", &[subscription(topic, "*", 2)]);
    one.beat(desk, &newer).await?;
    two.told(desk, "a version changes", &name, 0).await?;
    let more = consumer(&name, "CLUSTERING", &[subscription(topic, "*", 2), subscription("op-more", "*", 2)]);
    one.beat(desk, &more).await?;
    two.told(desk, "another wants more", &name, 1).await?;
    one.told(desk, "it wants more", &name, 1).await?;
    two.beat(desk, &more).await?;
    one.told(desk, "another wants the same", &name, 0).await?;
    let fields = to_fields(&[("clientID", &two.id), ("consumerGroup", &name)]);
    let answer = two.call(desk, "a member that leaves", UNREGISTER, fields, &[]).await?;
    protocol::answer(&format!("{}: a member that leaves", desk.name), &answer, 0, &[])?;
    one.told(desk, "another leaves", &name, 1).await?;
    are(desk, "the members when one has left", &name, ids(&[&one])).await?;
    two.beat(desk, &more).await?;
    one.told(desk, "another comes again", &name, 1).await?;
    put_group(desk, &group(&name, &[("notifyConsumerIdsChangedEnable", json!(false))])).await?;
    drop(two);
    desk.rt.sleep(TOLD_WITHIN).await;
    one.told(desk, "another vanishes and nobody is to be told", &name, 0).await?;
    are(desk, "the members when one has vanished", &name, ids(&[&one])).await?;
    put_group(desk, &group(&name, &[])).await?;
    let mut two = Client::new(desk, "two").await?;
    two.beat(desk, &more).await?;
    one.told(desk, "another comes", &name, 1).await?;
    drop(two);
    one.told(desk, "another vanishes", &name, 1).await?;
    drop(one);
    desk.rt.sleep(TOLD_WITHIN).await;
    are(desk, "the members when all have vanished", &name, Vec::new()).await?;
    let of = [("consumerGroup", name.as_str())];
    desk.expect("a group that has gone", (CONSUMER_CONNECTIONS, &of, &[]), NOT_ONLINE, &[]).await.map(drop)
}

/// What is told of the connections of a group.
async fn connections(desk: &mut Desk, group: &str, topic: &str, clients: &[&Client]) -> Step {
    let what = "the connections of a group";
    let answer = desk.expect(what, (CONSUMER_CONNECTIONS, &[("consumerGroup", group)], &[]), 0, &[]).await?;
    let body = desk.json(what, &answer)?;
    let mut found = body["connectionSet"].as_array().cloned().unwrap_or_default();
    let mut wanted: Vec<Value> = clients.iter().map(|client| connection(client)).collect();
    found.sort_by_key(ToString::to_string);
    wanted.sort_by_key(ToString::to_string);
    desk.equal(what, found, wanted)?;
    for (member, value) in [
        ("consumeFromWhere", "CONSUME_FROM_FIRST_OFFSET"),
        ("consumeType", "CONSUME_PASSIVELY"),
        ("messageModel", "CLUSTERING"),
    ] {
        desk.equal(member, &body[member], &json!(value))?;
    }
    desk.equal("what the group wants", &body["subscriptionTable"][topic]["subString"], &json!("*"))
}

fn connection(client: &Client) -> Value {
    json!({
        "clientAddr": client.connection.local().to_string(),
        "clientId": client.id,
        "language": "GO",
        "version": VERSION,
    })
}

/// Pulls that go by what their group has subscribed to.
async fn subscriptions(desk: &mut Desk, topic: &str) -> Step {
    let name = format!("op-subscribed-{}", desk.name);
    for _ in 0..6 {
        let draft = Draft::new(desk, topic, 0);
        store(desk, &draft).await?;
    }
    let mut one = Client::new(desk, "one").await?;
    let pull = Pull { group: name.clone(), flags: 0, version: 5, ..Pull::new(topic, 0, 0) };
    one.beat(desk, &consumer(&name, "CLUSTERING", &[subscription(topic, "red || Aa", 5)])).await?;
    for (version, code) in [(6, OLD_SUBSCRIPTION), (5, 0), (4, 0)] {
        let pull = Pull { version, ..pull.clone() };
        let what = format!("{pull:?}");
        let answer = one.call(desk, &what, PULL, pull.fields(), &[]).await?;
        let fine = answer.code == code || (code == 0 && answer.code == NO_MATCH);
        desk.equal(&format!("the answer to {what} being {code}"), fine, true)?;
        for record in records(desk, &answer.body)? {
            let tag =
                crate::platter::properties::find(&record.properties, "TAGS").unwrap_or_default().to_owned();
            desk.equal(
                &format!("the tag {tag} being wanted"),
                ["red", "Aa", "BB"].contains(&tag.as_str()),
                true,
            )?;
        }
    }
    let elsewhere = Pull { topic: format!("op-{}-counted", desk.name), ..pull.clone() };
    let answer = one.call(desk, "a topic that is not wanted", PULL, elsewhere.fields(), &[]).await?;
    protocol::answer(&format!("{}: a topic that is not wanted", desk.name), &answer, NO_SUBSCRIPTION, &[])?;
    one.beat(desk, &consumer(&name, "BROADCASTING", &[subscription(topic, "*", 6)])).await?;
    for (may, code) in [(false, FORBIDDEN), (true, 0)] {
        put_group(desk, &group(&name, &[("consumeBroadcastEnable", json!(may))])).await?;
        let answer = one.call(desk, "a pull of one that broadcasts", PULL, pull.fields(), &[]).await?;
        protocol::answer(&format!("{}: a pull of one that broadcasts", desk.name), &answer, code, &[])?;
    }
    Ok(())
}

/// A pull that waits is answered by what comes into its queue and has its tag, and by nothing else before its time is up.
async fn waiting(desk: &mut Desk, topic: &str) -> Step {
    let mut one = Client::new(desk, "one").await?;
    let answer =
        desk.expect("an end", (MAX_OFFSET, &[("topic", topic), ("queueId", "1")], &[]), 0, &[]).await?;
    let end: i64 = answer.field("offset").parse().map_err(|_| desk.broken("no end"))?;
    let pull =
        Pull { flags: 2 | 4, suspend_ms: SUSPENDED_MS, filter: "red".to_owned(), ..Pull::new(topic, 1, end) };
    let form = desk.form();
    let sent = one.connection.send(Frame::request(form, PULL, pull.fields(), Vec::new())).await;
    let opaque = sent.map_err(|why| desk.unanswered("a pull", why))?;
    let begun = desk.rt.now();
    for (queue, tag) in [(0, "red"), (1, "green")] {
        let draft = Draft::new(desk, topic, queue).tagged(tag);
        store(desk, &draft).await?;
    }
    let early = one.connection.answer((opaque, form), Duration::from_millis(500)).await;
    // The broker looks at all queues now and then, and then any message ends the wait.
    if let Ok(early) = early {
        return protocol::answer(&format!("{}: a pull that waits", desk.name), &early, NO_MATCH, &[]);
    }
    let draft = Draft::new(desk, topic, 1).tagged("red");
    let stored = store(desk, &draft).await?;
    let answer = one.connection.answer((opaque, form), GIVEN_WITHIN).await;
    let answer = answer.map_err(|why| desk.unanswered(&format!("a pull that waits since {begun:?}"), why))?;
    let what = format!("{}: a pull that waits", desk.name);
    if answer.code == NO_MATCH {
        // That look, between the two.
        return protocol::answer(&what, &answer, NO_MATCH, &[("nextBeginOffset", (end + 1).to_string())]);
    }
    protocol::answer(&what, &answer, 0, &[("nextBeginOffset", (end + 2).to_string())])?;
    let found = records(desk, &answer.body)?;
    desk.equal("what it is given", found.len(), 1)?;
    protocol::record(&what, &stored[0], &found[0])
}

/// Producers, and replies to what they ask others.
async fn producers(desk: &mut Desk, topic: &str) -> Step {
    let name = format!("op-producers-{}", desk.name);
    let of = [("producerGroup", name.as_str())];
    let mut one = Client::new(desk, "asks").await?;
    desk.expect("nobody's producers", (PRODUCER_CONNECTIONS, &of, &[]), FAILED, &[]).await?;
    replied(desk, topic, &mut one, None).await?;
    one.beat(desk, &producer(&name)).await?;
    let what = "the connections of producers";
    let answer = desk.expect(what, (PRODUCER_CONNECTIONS, &of, &[]), 0, &[]).await?;
    let found = desk.json(what, &answer)?["connectionSet"].clone();
    desk.equal(what, found, json!([connection(&one)]))?;
    for taken in [0, FAILED] {
        replied(desk, topic, &mut one, Some(taken)).await?;
    }
    let fields = to_fields(&[("clientID", &one.id), ("producerGroup", &name)]);
    let answer = one.call(desk, "a producer that leaves", UNREGISTER, fields, &[]).await?;
    protocol::answer(&format!("{}: a producer that leaves", desk.name), &answer, 0, &[])?;
    desk.expect("producers that have left", (PRODUCER_CONNECTIONS, &of, &[]), FAILED, &[]).await?;
    replied(desk, topic, &mut one, None).await
}

/// Somebody replies to `to`, who takes it with that code; `None`: nobody of that name is there.
async fn replied(desk: &mut Desk, topic: &str, to: &mut Client, taken: Option<i32>) -> Step {
    let what = "a reply";
    let mut other = Client::new(desk, "answers").await?;
    let mut draft = Draft::new(desk, topic, 0);
    draft.properties.push(("REPLY_TO_CLIENT".to_owned(), to.id.clone()));
    let letters = desk.draw("letters").percent(50);
    draft.code = if letters { 310 } else { 10 };
    let (_, fields, body) = draft.request(desk);
    let form = desk.form();
    let frame = Frame::request(form, if letters { REPLY_V2 } else { REPLY }, fields, body.clone());
    let opaque = other.connection.send(frame).await.map_err(|why| desk.unanswered(what, why))?;
    if let Some(taken) = taken {
        let asked = to.connection.asked(PATIENCE).await.map_err(|why| desk.unanswered(what, why))?;
        let asked = asked.ok_or_else(|| desk.broken("a reply that does not come to who has asked"))?;
        let fields = [
            ("topic", topic.to_owned()),
            ("queueId", "0".to_owned()),
            ("flag", draft.flag.to_string()),
            ("bornTimestamp", draft.born_ms.to_string()),
            ("bornHost", other.connection.local().to_string()),
            ("storeHost", desk.at.to_string()),
        ];
        protocol::answer(&format!("{}: {what}", desk.name), &asked, REPLY_TO_CLIENT, &fields)?;
        desk.equal("the body of a reply", &asked.body, &body)?;
        for (name, value) in &draft.properties {
            let found = crate::platter::properties::find(asked.field("properties"), name).map(str::to_owned);
            desk.equal(&format!("{name} of a reply"), found.as_ref(), Some(value))?;
        }
        to.connection.reply(&asked, taken).await.map_err(|why| desk.unanswered(what, why))?;
    }
    let answer = other.connection.answer((opaque, form), PATIENCE).await;
    let answer = answer.map_err(|why| desk.unanswered(what, why))?;
    let code = if taken == Some(0) { 0 } else { FAILED };
    protocol::answer(&format!("{}: {what} that is taken with {taken:?}", desk.name), &answer, code, &[])?;
    if code != 0 {
        // Where a reply is stored it is one that was taken.
        desk.post(|post| post.refused.extend([draft.body]));
    }
    Ok(())
}

/// Queues are one member's at a time.
async fn locks(desk: &mut Desk, topic: &str) -> Step {
    let name = format!("op-lockers-{}", desk.name);
    let queue = |id: i32| json!({ "brokerName": desk.name, "queueId": id, "topic": topic });
    let both = [queue(0), queue(1)];
    let body = |client: &str, queues: &[Value]| {
        json!({ "clientId": client, "consumerGroup": name, "mqSet": queues }).to_string().into_bytes()
    };
    let steps: [(&str, &[Value], &[Value]); 4] = [
        ("one", &both[..1], &both[..1]),
        ("two", &both, &both[1..]),
        ("one", &both, &both[..1]),
        ("two", &both[1..], &both[1..]),
    ];
    for (client, queues, expected) in steps {
        let answer = desk.expect("a lock", (LOCK, &[], &body(client, queues)), 0, &[]).await?;
        let found = desk.json("a lock", &answer)?["lockOKMQSet"].clone();
        desk.equal(&format!("what {client} gets of {queues:?}"), found, json!(expected))?;
    }
    // Nobody gives back what another one holds.
    desk.expect("an unlock", (UNLOCK, &[], &body("two", &both[..1])), 0, &[]).await?;
    let answer = desk.expect("a lock", (LOCK, &[], &body("two", &both[..1])), 0, &[]).await?;
    let found = desk.json("a lock", &answer)?["lockOKMQSet"].clone();
    desk.equal("what another one holds", found, json!([]))?;
    desk.expect("an unlock", (UNLOCK, &[], &body("one", &both[..1])), 0, &[]).await?;
    let answer = desk.expect("a lock", (LOCK, &[], &body("two", &both[..1])), 0, &[]).await?;
    let found = desk.json("a lock", &answer)?["lockOKMQSet"].clone();
    desk.equal("what was given back", found, json!(both[..1]))
}

/// Whether a filter would be served.
async fn filters(desk: &mut Desk, topic: &str) -> Step {
    let by_property = desk.cluster.plan.settings.sql.is_some();
    let cases = [
        ("TAG", "a || b", 0),
        ("SQL92", "a > 1", if by_property { 0 } else { FAILED }),
        ("SQL92", "a > ", if by_property { NO_FILTER } else { FAILED }),
        ("SQL93", "a > 1", if by_property { NO_FILTER } else { FAILED }),
    ];
    for (kind, filter, code) in cases {
        let mut wanted = subscription(topic, filter, 1);
        wanted["expressionType"] = json!(kind);
        let body = json!({ "clientId": "one", "group": "op-filters", "subscriptionData": wanted });
        let body = body.to_string().into_bytes();
        desk.expect(&format!("the filter {kind} {filter}"), (CHECK_FILTER, &[], &body), code, &[]).await?;
    }
    Ok(())
}

/// Requests that nobody waits for, several at once, and what is no request.
async fn frames(desk: &mut Desk, topic: &str) -> Step {
    desk.expect("what there is not", (9_999, &[], &[]), NOT_SUPPORTED, &[]).await?;
    let mut one = Client::new(desk, "one").await?;
    let draft = Draft::new(desk, topic, 1);
    let end = |desk: &Desk, answer: &Frame| -> Step<i64> {
        answer.field("offset").parse().map_err(|_| desk.broken("no end"))
    };
    let of = to_fields(&[("topic", topic), ("queueId", "1")]);
    let before = one.call(desk, "an end", MAX_OFFSET, of.clone(), &[]).await?;
    let before = end(desk, &before)?;
    // An answer to it would come first, under a number that nobody waits for.
    let (code, fields, body) = draft.request(desk);
    let frame = Frame::request(desk.form(), code, fields, body);
    one.connection.send_one_way(frame).await.map_err(|why| desk.unanswered("a send", why))?;
    let mut after = before;
    for _ in 0..20 {
        let answer = one.call(desk, "an end", MAX_OFFSET, of.clone(), &[]).await?;
        after = end(desk, &answer)?;
        if after > before {
            break;
        }
        desk.rt.sleep(Duration::from_millis(50)).await;
    }
    desk.equal("the messages of a send that nobody waits for", after - before, 1)?;
    // Two requests in one go, and both forms on one connection.
    let mut sent = Vec::new();
    for form in [Form::Binary, Form::Json] {
        let frame = Frame::request(form, MAX_OFFSET, of.clone(), Vec::new());
        sent.push((one.connection.send(frame).await.map_err(|why| desk.unanswered("two", why))?, form));
    }
    for waited in sent {
        let answer = one.connection.answer(waited, PATIENCE).await;
        let answer = answer.map_err(|why| desk.unanswered("two requests", why))?;
        desk.equal("the end of a queue", end(desk, &answer)?, after)?;
    }
    broken_frames(desk).await
}

/// Each ends its own connection, and nothing else.
async fn broken_frames(desk: &mut Desk) -> Step {
    let whole = encode(&Frame::request(Form::Json, MAX_OFFSET, Fields::new(), Vec::new()));
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        ("a frame of two gigabytes", changed(0, 0x7F)),
        ("a frame of a negative length", changed(0, 0xFF)),
        ("a header longer than its frame", changed(6, 0xFF)),
        ("a header of a third form", changed(4, 2)),
        ("a header that is no JSON", changed(8, b'!')),
        ("a binary header that is none", changed(4, 1)),
    ];
    for (what, bytes) in cases {
        let mut one = Client::new(desk, "one").await?;
        one.connection.write(bytes).await.map_err(|why| desk.unanswered(what, why))?;
        let closed = one.connection.is_closed(PATIENCE).await;
        desk.equal(&format!("the end of a connection after {what}"), closed, true)?;
    }
    match desk.call(MAX_OFFSET, to_fields(&[("topic", "op-nowhere"), ("queueId", "0")]), &[], PATIENCE).await
    {
        Ok(_) => Ok(()),
        Err(NoAnswer::Missing(why)) => Err(desk.broken(format!("another connection has ended: {why}"))),
        Err(why) => Err(desk.unanswered("an end", why)),
    }
}

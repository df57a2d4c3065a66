//! Among the faults: settings of name servers and topics of brokers are changed and read, messages are sent; what was answered
//! is there, whatever has died meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hotfire_core::runtime::Runtime as _;
use hotfire_sim::SimRuntime;

use super::sends::Draft;
use super::topics::Shape;
use super::{Desk, LOOK_AGAIN, Step, sends, to_fields, topics};
use crate::cluster::{Cluster, NAME_SERVER_PORT, address};
use crate::oracle::protocol::Known;
use crate::plan::names;
use crate::wire::NoAnswer;

/// A request among the faults is answered by then, or counts as unanswered.
const PATIENCE: Duration = Duration::from_millis(600);
/// Between two rounds, on average.
const GAP_MS: u64 = 250;
const NAMESPACE: &str = "operators";
const KEYS: u64 = 3;

const PUT_KV_CONFIG: i32 = 100;
const GET_KV_CONFIG: i32 = 101;
const DELETE_KV_CONFIG: i32 = 102;
const NOTHING: i32 = 22;

/// A setting of a name server: by name server and key.
type Settings = BTreeMap<(String, String), Known<Option<String>>>;
/// The topic that changes: by broker.
type Topics = BTreeMap<String, Known<Option<Shape>>>;

/// Goes on until the cluster is well.
pub(super) async fn run(rt: &SimRuntime, cluster: &Cluster) -> Step {
    let mut settings = Settings::new();
    let mut topics = Topics::new();
    let mut servers: Vec<Desk> = names::name_servers(&cluster.plan.settings)
        .into_iter()
        .map(|name| {
            let at = SocketAddr::from((address(&name), NAME_SERVER_PORT));
            Desk::new(rt, cluster, &name, at)
        })
        .collect();
    let mut brokers: Vec<Desk> = names::brokers(&cluster.plan.settings)
        .into_iter()
        .map(|name| Desk::of_broker(rt, cluster, &name))
        .collect();
    while !cluster.progress(|progress| progress.examination.wanted) {
        // When the load has ended there is nothing to meet any more.
        if cluster.progress(|progress| progress.proofs) > 0 {
            rt.sleep(LOOK_AGAIN).await;
            continue;
        }
        for desk in &mut servers {
            setting(desk, &mut settings).await?;
        }
        for desk in &mut brokers {
            topic(desk, &mut topics).await?;
            letter(desk).await?;
        }
        let gap_ms = brokers.first_mut().map_or(GAP_MS, |desk| desk.draw("gap").exponential(GAP_MS));
        rt.sleep(Duration::from_millis(gap_ms)).await;
    }
    for desk in &mut servers {
        for key in 0..KEYS {
            read_setting(desk, &mut settings, &format!("key-{key}")).await?;
        }
    }
    for desk in &mut brokers {
        read_topic(desk, &mut topics).await?;
    }
    Ok(())
}

/// `None`: no answer.
fn answered<T>(desk: &Desk, what: &str, answer: Result<T, NoAnswer>) -> Step<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(NoAnswer::Missing(_)) => Ok(None),
        Err(why) => Err(desk.unanswered(what, why)),
    }
}

async fn setting(desk: &mut Desk, settings: &mut Settings) -> Step {
    let key = format!("key-{}", desk.draw("key").range(0, KEYS - 1));
    let (name, now_ms) = (desk.name.clone(), desk.cluster.world.now_ms());
    let value = match desk.draw("what").range(0, 3) {
        0 => return read_setting(desk, settings, &key).await,
        1 => None,
        _ => Some(format!("value-{}", desk.number())),
    };
    let mut fields = to_fields(&[("namespace", NAMESPACE), ("key", &key)]);
    let code = match &value {
        Some(value) => {
            fields.insert("value".to_owned(), value.clone());
            PUT_KV_CONFIG
        }
        None => DELETE_KV_CONFIG,
    };
    let answer = desk.call(code, fields, &[], PATIENCE).await;
    let known = settings.entry((name, key)).or_insert_with(|| Known::new(None));
    match answered(desk, "a setting", answer)? {
        Some(answer) if answer.code == 0 => known.is(value),
        // Its disk may be in trouble.
        Some(_) => {}
        None => known.may_become(value, now_ms),
    }
    Ok(())
}

async fn read_setting(desk: &mut Desk, settings: &mut Settings, key: &str) -> Step {
    let fields = to_fields(&[("namespace", NAMESPACE), ("key", key)]);
    let answer = desk.call(GET_KV_CONFIG, fields, &[], PATIENCE).await;
    let Some(answer) = answered(desk, "a setting", answer)? else { return Ok(()) };
    let value = match answer.code {
        0 => Some(answer.field("value").to_owned()),
        NOTHING => None,
        code => return Err(desk.broken(format!("the setting {key} is answered with {code}"))),
    };
    let what = format!("{}: the setting {key}", desk.name);
    let known = settings.entry((desk.name.clone(), key.to_owned())).or_insert_with(|| Known::new(None));
    known.read(&what, value, desk.cluster.world.now_ms())
}

fn changing(desk: &Desk) -> String {
    format!("op-{}-changes", desk.name)
}

async fn topic(desk: &mut Desk, topics: &mut Topics) -> Step {
    if desk.draw("read").percent(40) {
        return read_topic(desk, topics).await;
    }
    let (name, shape, now_ms) = (changing(desk), Shape::draw(desk), desk.cluster.world.now_ms());
    let answer = desk.call(topics::PUT_TOPIC, shape.fields(&name), &[], PATIENCE).await;
    let known = topics.entry(desk.name.clone()).or_insert_with(|| Known::new(None));
    match answered(desk, "a topic", answer)? {
        Some(answer) if answer.code == 0 => known.is(Some(shape)),
        // Not written, or written and not told of: an error of its disk does not say.
        Some(_) | None => known.may_become(Some(shape), now_ms),
    }
    Ok(())
}

async fn read_topic(desk: &mut Desk, topics: &mut Topics) -> Step {
    let name = changing(desk);
    let answer = desk.call(topics::GET_TOPIC, to_fields(&[("topic", &name)]), &[], PATIENCE).await;
    let Some(answer) = answered(desk, "a topic", answer)? else { return Ok(()) };
    let shape = match answer.code {
        0 => Some(Shape::read(desk, &answer)?),
        topics::NO_TOPIC => None,
        code => return Err(desk.broken(format!("the topic {name} is answered with {code}"))),
    };
    let what = format!("{}: the topic {name}", desk.name);
    let known = topics.entry(desk.name.clone()).or_insert_with(|| Known::new(None));
    known.read(&what, shape, desk.cluster.world.now_ms())
}

/// One message to a topic that it makes, if it is not there.
async fn letter(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-rounds", desk.name);
    let draft = Draft::new(desk, &topic, 0);
    let asked = draft.request(desk);
    let born = desk.connection.as_ref().map(crate::wire::Connection::local);
    let answer = desk.call(asked.0, asked.1, &asked.2, PATIENCE).await;
    let Some(answer) = answered(desk, "a send", answer)? else { return Ok(()) };
    let born = born.or_else(|| desk.connection.as_ref().map(crate::wire::Connection::local));
    sends::note(desk, &draft, &answer, born)
}

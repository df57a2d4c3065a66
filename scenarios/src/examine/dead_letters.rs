//! Messages that are handed back for good: at a negative delay level, or when they have been tried as often as their consumer
//! says. Each becomes a dead letter at once, and whole.

use hotfire_core::runtime::Runtime as _;

use super::pulls::{Pull, records};
use super::sends::{Draft, store};
use super::topics::{self, Shape};
use super::{Desk, LOOK_AGAIN, PATIENCE, Step};
use crate::platter::record::Record;

const HAND_BACK: i32 = 36;
const PULL: i32 = 11;

pub(super) async fn examine(desk: &mut Desk) -> Step {
    let topic = format!("op-{}-given-up", desk.name);
    let shape = Shape { read: 1, write: 1, perm: 6, multi_tag: false, order: false, system_flag: 0 };
    topics::put(desk, &topic, &shape).await?;
    let group = format!("op-gives-up-{}", desk.name);
    topics::put_group(desk, &topics::group(&group, &[])).await?;
    let dead = format!("%DLQ%{group}");
    for (given_up, (level, tries)) in [("-1", "16"), ("0", "0"), ("-1", "0")].into_iter().enumerate() {
        let draft = Draft::new(desk, &topic, 0);
        let letter = store(desk, &draft).await?.remove(0);
        let at = letter.at.to_string();
        let fields = [
            ("offset", at.as_str()),
            ("group", group.as_str()),
            ("delayLevel", level),
            ("originMsgId", ""),
            ("originTopic", topic.as_str()),
            ("unitMode", "false"),
            ("maxReconsumeTimes", tries),
        ];
        let what = format!("a message handed back at level {level} with {tries} tries");
        desk.expect(&what, (HAND_BACK, &fields, &[]), 0, &[]).await?;
        let found = first_of(desk, &dead, given_up as i64).await?;
        let found = found.as_ref().map(|record| (&record.body, record.reconsume_times));
        desk.equal(&format!("the dead letter of {what}"), found, Some((&letter.body, 1)))?;
    }
    Ok(())
}

/// What stands at that offset, once it is there.
async fn first_of(desk: &mut Desk, topic: &str, offset: i64) -> Step<Option<Record>> {
    let until = desk.rt.now().after(PATIENCE);
    while desk.rt.now() < until {
        let pull = Pull::new(topic, 0, offset);
        let answer = desk.call(PULL, pull.fields(), &[], PATIENCE).await;
        let answer = answer.map_err(|why| desk.unanswered("a pull of dead letters", why))?;
        if answer.code == 0 {
            return Ok(records(desk, &answer.body)?.into_iter().next());
        }
        desk.rt.sleep(LOOK_AGAIN).await;
    }
    Ok(None)
}

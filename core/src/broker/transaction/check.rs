//! The check loop: walks through the half topic and sees to it that every half message is settled.
//!
//! A round walks from where the last one has come to what was the end when it began; copies that it puts are left to the next
//! one, whatever the clock says. It stops at the first half message that is too young to be asked about: those behind it are
//! younger still.
//!
//! A half message that is immune (`CHECK_IMMUNITY_TIME_IN_SECONDS`) is put again too, so that it holds up nobody. That is no
//! check and does not count as one. So is one whose group has no live producer: there is nobody to be asked, and a group that
//! is down must not lose its half messages for it. The age of the log bounds it.
//!
//! # Source
//! Broker semantics 13.4; apache/rocketmq 4.9.7, `TransactionalMessageServiceImpl#check`. Stricter than there: all op records
//! that can be read are known before anybody is asked or anything is discarded (T-02), one reading of the clock decides (T-01),
//! and what the store does not take is not passed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::codec::{self, Head};
use crate::message::{StoredMessage, properties};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mark, Mutant, Runtime};
use crate::store::{Appended, GetStatus, PutError};

use super::super::client_table::Kind;
use super::super::names::CHECK_MAX_TIME_TOPIC;
use super::super::topic_config::{READ_WRITE, topic};
use super::ask::{Question, question};
use super::half::Half;
use super::ops::{Known, Ops, halves_of};
use super::{GROUP, HALF_TOPIC, OP_HALF_TOPIC, OP_TAG, Transactions};

/// A round that takes longer goes on in the next one.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// Op records of one read.
const OPS_AT_ONCE: usize = 32;
/// Half messages of one read, when all ahead are read at the start.
const HALVES_AT_ONCE: usize = 32;
/// So many questions wait together until their copies can be read, or so many bytes.
const QUESTIONS_MAX: usize = 64;
const QUESTION_BYTES_MAX: usize = 4 << 20;
/// How long they wait at most: then the next round asks.
const QUESTIONS_PATIENCE: Duration = Duration::from_secs(5);
/// Queues of the half topic that are walked through; half messages go to the first.
const QUEUES_MAX: i32 = 64;

/// How far the walk through one queue has come.
struct Walk {
    queue: i32,
    /// The half message that is looked at next.
    half: i64,
    ops: Ops,
    /// What may be committed once the log is durable up to there.
    pending: Option<Pending>,
    /// The copies ahead that an earlier process has put without a question: up to there they are known, since an op record may
    /// name the half message that such a copy is of, and which was passed. `None` when all are.
    recalled: Option<i64>,
}

struct Pending {
    /// Where everything ends that it relies on.
    end: u64,
    half: i64,
    op: i64,
}

enum Step {
    Passed,
    /// Half messages up to there are no more.
    GoTo(i64),
    /// The next round looks at it again.
    Wait,
}

/// What is due for a half message that nothing settles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Discard,
    Wait,
    PutAgain,
    Ask,
}

struct Rules {
    timeout_ms: u64,
    check_max: u32,
    reserved_ms: u64,
}

/// `now_ms` is the broker's clock, ages are counted from the producer's. One that is ahead makes a message due at once, as in
/// Java. An age that is exactly the limit is young.
fn due(half: &Half, now_ms: i64, rules: &Rules) -> Due {
    let age_ms = now_ms.saturating_sub(half.message.born_timestamp);
    let is_within = |limit_ms: u64| age_ms <= i64::try_from(limit_ms).unwrap_or(i64::MAX);
    if half.check_times() >= rules.check_max || !is_within(rules.reserved_ms) {
        return Due::Discard;
    }
    match half.immunity_ms(rules.timeout_ms) {
        Some(immunity_ms) if is_within(immunity_ms) => Due::PutAgain,
        None if age_ms >= 0 && is_within(rules.timeout_ms) => Due::Wait,
        _ => Due::Ask,
    }
}

impl<R: Runtime> Transactions<R> {
    /// The task: a round every `transactionCheckInterval`, until `stop` is true.
    pub async fn run(self: Arc<Self>, mut stop: Receiver<bool>) {
        let mut walks = BTreeMap::new();
        while self.rest(&mut walks, &mut stop).await {
            let queues = self.topics.get(HALF_TOPIC).map_or(1, |half| half.read_queue_nums);
            for queue in 0..queues.clamp(1, QUEUES_MAX) {
                let walk = walks.entry(queue).or_insert_with(|| self.begin(queue));
                self.round(walk, &mut stop).await;
            }
        }
        self.commit_durable(&mut walks);
    }

    /// Where a walk begins: at the committed offsets, or where the queues do.
    fn begin(&self, queue: i32) -> Walk {
        let of = |topic: &str| {
            let committed = self.offsets.get(topic, GROUP, queue);
            committed.unwrap_or_else(|| self.store.min_offset(topic, queue))
        };
        let half = of(HALF_TOPIC);
        Walk { queue, half, ops: Ops::new(of(OP_HALF_TOPIC)), pending: None, recalled: Some(half) }
    }

    /// Reads ahead what an earlier process has put again without asking. False when a part cannot be read now.
    async fn recall(&self, walk: &mut Walk) -> bool {
        while let Some(next) = walk.recalled {
            let read = self.store.get(HALF_TOPIC, walk.queue, next, HALVES_AT_ONCE, &|_| true).await;
            match read.status {
                GetStatus::OffsetOverflowOne
                | GetStatus::NoMatchedLogicQueue
                | GetStatus::NoMessageInQueue => {
                    walk.recalled = None;
                    return true;
                }
                GetStatus::Unreadable | GetStatus::OffsetFoundNull => return false,
                _ => {}
            }
            for copy in records(&read.messages).into_iter().map(Half::new) {
                if let Some(half) = copy.prepared_offset() {
                    walk.ops.expect(copy.message.queue_offset, half);
                }
            }
            if read.next_begin <= next {
                return false;
            }
            walk.recalled = Some(read.next_begin);
        }
        true
    }

    /// Waits for the next round and commits meanwhile what has become durable. False at a stop.
    async fn rest(&self, walks: &mut BTreeMap<i32, Walk>, stop: &mut Receiver<bool>) -> bool {
        let round_at = self.rt.now().after_ms(self.settings.get().check_interval_ms.max(1));
        loop {
            self.commit_durable(walks);
            let next_end = walks.values().filter_map(|walk| Some(walk.pending.as_ref()?.end)).min();
            let durable = async {
                match next_end {
                    Some(end) if self.store.durable().reached(end).await.is_ok() => {}
                    // Nothing to wait for, or it never will be.
                    _ => std::future::pending().await,
                }
            };
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return false,
                () = self.rt.sleep_until(round_at) => return true,
                () = durable => {}
            }
        }
    }

    fn commit_durable(&self, walks: &mut BTreeMap<i32, Walk>) {
        let durable = match self.rt.mutant(Mutant::TransactionProgressUnflushed) {
            true => u64::MAX,
            false => self.store.durable().get(),
        };
        for walk in walks.values_mut() {
            let Some(pending) = walk.pending.take_if(|pending| pending.end <= durable) else { continue };
            for (topic, offset) in [(HALF_TOPIC, pending.half), (OP_HALF_TOPIC, pending.op)] {
                let max = self.store.max_offset(topic, walk.queue);
                self.offsets.commit(topic, GROUP, walk.queue, offset, max);
            }
        }
    }

    async fn round(&self, walk: &mut Walk, stop: &mut Receiver<bool>) {
        let end = self.store.max_offset(HALF_TOPIC, walk.queue);
        let began = self.rt.now();
        let mut questions = Vec::new();
        // Also where no half message is left: what comes late must not stay open.
        if !self.recall(walk).await || !self.read_ops(walk).await {
            return;
        }
        while walk.half < end && !stop.get() && self.rt.now().since(began) <= ROUND_MAX {
            match self.step(walk, &mut questions).await {
                Step::Passed => walk.half += 1,
                Step::GoTo(next) => {
                    tracing::warn!(from = walk.half, to = next, "half messages are deleted");
                    walk.ops.pass_below(next);
                    walk.half = next;
                }
                Step::Wait => break,
            }
            let bytes: usize = questions.iter().map(|question: &Question| question.command.body.len()).sum();
            if questions.len() >= QUESTIONS_MAX || bytes >= QUESTION_BYTES_MAX {
                self.ask_all(&mut questions, stop).await;
            }
        }
        self.ask_all(&mut questions, stop).await;
        if walk.pending.is_none() {
            let end = self.store.commit_log_max();
            walk.pending = Some(Pending { end, half: walk.half, op: walk.ops.done() });
        }
    }

    /// Looks at one half message.
    async fn step(&self, walk: &mut Walk, questions: &mut Vec<Question>) -> Step {
        if walk.ops.take(walk.half) {
            return Step::Passed;
        }
        if !self.read_ops(walk).await {
            return Step::Wait;
        }
        if walk.ops.take(walk.half) {
            return Step::Passed;
        }
        let read = self.store.get(HALF_TOPIC, walk.queue, walk.half, 1, &|_| true).await;
        let message = match read.status {
            GetStatus::Found => records(&read.messages).pop(),
            GetStatus::OffsetTooSmall | GetStatus::MessageWasRemoving if read.next_begin > walk.half => {
                return Step::GoTo(read.next_begin);
            }
            _ => return Step::Wait,
        };
        let Some(message) = message else {
            tracing::error!(offset = walk.half, "a half message is damaged and can never be committed");
            return Step::Passed;
        };
        let half = Half::new(message);
        let prepared = half.prepared_offset();
        let known = prepared.map_or(Known::Open, |prepared| walk.ops.known(prepared));
        let mut done = match known {
            Known::Copied | Known::Settled => Ok(Step::Passed),
            Known::Open => self.carry_out(walk, &half, questions).await,
        };
        let waits = self.rt.mutant(Mutant::HalfForGoodWaits);
        if let Err(error) = &done
            && error.is_for_good()
            && !waits
        {
            // Its copy says more than it does, and there is no room for that. Those behind it do not wait for it.
            tracing::warn!(offset = walk.half, %error, "a half message can never be put again");
            done = self.discard(&half).await;
        }
        let step = match done {
            Ok(step) => step,
            Err(error) if error.is_for_good() && !waits => {
                tracing::error!(offset = walk.half, %error, "a half message can be put nowhere; it is left out");
                Step::Passed
            }
            Err(error) => {
                self.rt.mark(Mark::HalfLater);
                tracing::warn!(offset = walk.half, %error, "a half message is not put again");
                Step::Wait
            }
        };
        if matches!(step, Step::Passed) {
            walk.ops.leave(walk.half);
        }
        step
    }

    async fn carry_out(
        &self,
        walk: &mut Walk,
        half: &Half,
        questions: &mut Vec<Question>,
    ) -> Result<Step, PutError> {
        match due(half, self.rt.wall_ms(), &self.rules()) {
            Due::Wait => return Ok(Step::Wait),
            Due::Discard => return self.discard(half).await,
            Due::PutAgain => {
                if self.rt.mutant(Mutant::ImmunityReadTwice) && self.is_due_by_now(half).await {
                    return Ok(Step::Passed);
                }
                self.put_again_uncounted(walk, half).await?;
            }
            Due::Ask => {
                if self.rt.mutant(Mutant::CheckDroppedPasses) && self.is_nobody_there(half) {
                    return Ok(Step::Passed);
                }
                if self.is_nobody_there(half) && !self.rt.mutant(Mutant::UnaskedCounts) {
                    self.put_again_uncounted(walk, half).await?;
                    return Ok(Step::Passed);
                }
                let properties = half.asked_properties();
                let put = self.put_again(half, &properties).await?;
                if let Some(prepared) = half.prepared_offset() {
                    walk.ops.expect(put.queue_offset, prepared);
                }
                if let Ok(store_host) = self.sends.store_host() {
                    questions.extend(question(half, &half.copy(&properties, store_host), &put));
                }
            }
        }
        Ok(Step::Passed)
    }

    fn rules(&self) -> Rules {
        let settings = self.settings.get();
        Rules {
            timeout_ms: if self.rt.mutant(Mutant::AskedAtOnce) { 0 } else { settings.timeout_ms },
            check_max: settings.check_max + u32::from(self.rt.mutant(Mutant::AskedOnceMore)),
            reserved_ms: self.reserved_ms,
        }
    }

    /// A planted bug's second look at the clock.
    async fn is_due_by_now(&self, half: &Half) -> bool {
        self.rt.sleep(Duration::from_millis(50)).await;
        due(half, self.rt.wall_ms(), &self.rules()) != Due::PutAgain
    }

    fn is_nobody_there(&self, half: &Half) -> bool {
        self.clients.members(Kind::Producer, half.group().unwrap_or_default()).is_empty()
    }

    /// Nobody learns where the copy lies: an end still names the half message that it is of.
    async fn put_again_uncounted(&self, walk: &mut Walk, half: &Half) -> Result<(), PutError> {
        let put = self.put_again(half, &half.uncounted_properties()).await?;
        walk.ops.expect(put.queue_offset, half.prepared_offset().unwrap_or(half.message.queue_offset));
        Ok(())
    }

    async fn put_again(&self, half: &Half, properties: &str) -> Result<Appended, PutError> {
        let store_host = self.sends.store_host().unwrap_or(half.message.store_host);
        self.store.put_again(&half.copy(properties, store_host)).await
    }

    /// Puts the half message where operators look for what nobody has settled.
    async fn discard(&self, half: &Half) -> Result<Step, PutError> {
        let discarded = topic(CHECK_MAX_TIME_TOPIC, 1, READ_WRITE);
        if let Err(error) = self.topics.create_if_absent(discarded).await {
            tracing::error!(%error, "create the topic of discarded half messages");
            return Ok(Step::Wait);
        }
        let store_host = self.sends.store_host().unwrap_or(half.message.store_host);
        let put = self.store.put_again(&half.stored_again(CHECK_MAX_TIME_TOPIC, 0, store_host)).await?;
        self.rt.mark(Mark::HalfDiscarded);
        self.rt.probe("broker.half_discarded", put.physical_offset, half.check_times().into());
        tracing::warn!(
            offset = half.message.queue_offset,
            times = half.check_times(),
            at = put.physical_offset,
            "a half message is discarded: nobody has settled it"
        );
        Ok(Step::Passed)
    }

    /// Takes in every op record that can be read. False when one cannot: nothing may be decided then.
    async fn read_ops(&self, walk: &mut Walk) -> bool {
        loop {
            let next = walk.ops.next();
            let read = self.store.get(OP_HALF_TOPIC, walk.queue, next, OPS_AT_ONCE, &|_| true).await;
            match read.status {
                GetStatus::OffsetOverflowOne
                | GetStatus::NoMatchedLogicQueue
                | GetStatus::NoMessageInQueue => {
                    if self.rt.mutant(Mutant::OverflowOneIsIllegal) {
                        walk.ops.forget();
                    }
                    return true;
                }
                GetStatus::Unreadable | GetStatus::OffsetFoundNull => return false,
                _ => {}
            }
            for op in records(&read.messages) {
                self.take_in(walk, &op);
            }
            if read.next_begin == next {
                return false;
            }
            walk.ops.go_on_at(read.next_begin);
        }
    }

    fn take_in(&self, walk: &mut Walk, op: &StoredMessage) {
        if properties::find(&op.properties, properties::TAGS) != Some(OP_TAG) {
            return;
        }
        let passed = walk.half;
        let is_late = || halves_of(&op.body).any(|half| half < passed);
        if self.rt.mutant(Mutant::OpOfPassedHalfStays) && is_late() {
            walk.ops.keep_open(op.queue_offset);
        }
        walk.ops.add(op.queue_offset, halves_of(&op.body), passed);
    }

    /// Asks, once answers would find the copies.
    async fn ask_all(&self, questions: &mut Vec<Question>, stop: &mut Receiver<bool>) {
        let Some(end) = questions.iter().map(|question| question.end).max() else { return };
        let read = self.rt.timeout(QUESTIONS_PATIENCE, self.store.dispatched().reached(end));
        let readable = crate::select! {
            _ = stop.wait_for(|stop| *stop) => false,
            reached = read => matches!(reached, Ok(Ok(()))),
        };
        for question in questions.drain(..).filter(|_| readable) {
            self.ask(&question);
        }
    }
}

/// The whole records in what was read; damaged ones are left out.
fn records(runs: &[Bytes]) -> Vec<StoredMessage> {
    let mut found = Vec::new();
    for run in runs {
        let mut rest = run.clone();
        while let Head::Record { size } = codec::head(&rest) {
            if size as usize > rest.len() || size == 0 {
                break;
            }
            let record = rest.split_to(size as usize);
            match StoredMessage::decode(&record) {
                Ok(message) => found.push(message),
                Err(error) => tracing::error!(%error, "read a record of a transaction topic"),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::half::tests::half;
    use super::*;

    const RULES: Rules = Rules { timeout_ms: 6_000, check_max: 3, reserved_ms: 100_000 };

    /// Of a half message that was born at 1,000 ms.
    fn due_at(now_ms: i64, properties: &str) -> Due {
        due(&half(properties), now_ms, &RULES)
    }

    #[test]
    fn a_half_message_is_asked_about_when_it_is_older_than_the_timeout() {
        assert_eq!(due_at(1_000, ""), Due::Wait);
        assert_eq!(due_at(7_000, ""), Due::Wait);
        assert_eq!(due_at(7_001, ""), Due::Ask);
        assert_eq!(due_at(999, ""), Due::Ask, "its producer's clock is ahead");
    }

    #[test]
    fn an_immune_one_is_put_again_until_its_own_time_is_over() {
        let immune = "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}20";
        assert_eq!(due_at(900, immune), Due::PutAgain);
        assert_eq!(due_at(21_000, immune), Due::PutAgain);
        assert_eq!(due_at(21_001, immune), Due::Ask);
        assert_eq!(due_at(1_001, "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}0"), Due::Ask);
    }

    #[test]
    fn what_was_asked_for_too_often_or_is_too_old_is_discarded() {
        assert_eq!(due_at(7_001, "TRANSACTION_CHECK_TIMES\u{1}2"), Due::Ask);
        assert_eq!(due_at(1_001, "TRANSACTION_CHECK_TIMES\u{1}3"), Due::Discard);
        assert_eq!(due_at(101_001, ""), Due::Discard);
        assert_eq!(due_at(101_001, "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}200"), Due::Discard);
    }
}

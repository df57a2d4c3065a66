//! Sends: check, store, answer. Codes 10, 310 and 320; whether it is a batch is said by the header, not by the code.
//!
//! A SUCCESS means: stored, and in SYNC_FLUSH mode on stable storage. FLUSH_DISK_TIMEOUT means: stored, but nobody knows
//! whether durably. That is also the answer when the flush that was to cover the message has failed, since its bytes
//! may have reached the disk and the next start may find them. With SYNC_MASTER a SUCCESS means that a slave has it too,
//! or as many have as the settings ask for, and FLUSH_SLAVE_TIMEOUT and SLAVE_NOT_AVAILABLE mean: stored, and nobody knows
//! on how many slaves. Every other code means: not stored, and it never will be.
//!
//! A half message is stored in the half topic (`transaction`), a delayed one in the delay topic, and one that its group has
//! tried too often in the group's dead letter queue.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::config::{BrokerConfig, Live, Permission, Role, SendSettings, TransactionSettings};
use crate::ha::copies::Need;
use crate::message::batch;
use crate::message::properties::{self, NAME_SEPARATOR, PROPERTY_SEPARATOR, Segment};
use crate::message::{MessageToStore, id, sys_flag};
use crate::remoting::body::{SubscriptionGroupConfig, TopicConfig, TopicFilterType};
use crate::remoting::codes::response;
use crate::remoting::connection::{Answer, Reached, Response};
use crate::remoting::headers::SendMessageHeader;
use crate::remoting::{JsonAnswer, JsonFields, RemotingCommand, SerializeType};
use crate::runtime::sync::Watermark;
use crate::runtime::{Mono, Mutant, Runtime};
use crate::store::{Appended, AppendedBatch, MessageStore, PutError, WhyNot};

use super::counts::Counts;
use super::names;
use super::refusal::{Refusal, answer};
use super::replication::{SlaveWait, now, with_status};
use super::schedule::Delayed;
use super::subscription_group::SubscriptionGroups;
use super::topic_config::{NewTopic, READ_WRITE, Topics, topic};
use super::transaction::half;

/// Properties that a send may carry and that no stored message keeps: `WAIT` concerns the send, `POP_CK` the answer to a
/// pop, `CLUSTER` is ours to say, and `INNER_MULTI_QUEUE_OFFSET` where the record stands in other queues than its own: recovery
/// believes it.
const NOT_STORED: [&str; 4] =
    [properties::WAIT, "POP_CK", properties::CLUSTER, properties::INNER_MULTI_QUEUE_OFFSET];

/// Those of a batch's member, which keeps its own `WAIT` as it does with Java.
const NOT_STORED_OF_MEMBER: [&str; 2] = [properties::CLUSTER, properties::INNER_MULTI_QUEUE_OFFSET];

/// Properties of features that this broker does not have.
const TIMER_PROPERTIES: [&str; 3] =
    [properties::TIMER_DELAY_SEC, properties::TIMER_DELAY_MS, properties::TIMER_DELIVER_MS];

/// The first version of clients (3.4.9) whose `maxReconsumeTimes` counts.
const TELLS_RECONSUME_MAX: i32 = 121;

/// Fields of every answer.
const MSG_REGION: &str = "MSG_REGION";
const TRACE_ON: &str = "TRACE_ON";

fn on_or_off(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

pub(crate) struct SendMessage<R: Runtime> {
    rt: R,
    store: Arc<MessageStore<R>>,
    topics: Arc<Topics<R>>,
    groups: Arc<SubscriptionGroups<R>>,
    settings: SendSettings,
    permission: Live<Permission>,
    counts: Arc<Counts>,
    /// The address told to clients, part of every message id. Known once the broker listens.
    store_host: OnceLock<SocketAddr>,
    cluster: String,
    region: String,
    trace_on: Live<bool>,
    /// Both, as every answer to a send has them, without traces and with them.
    common_fields: [JsonFields; 2],
    transactions: Live<TransactionSettings>,
    append_busy_ms: u64,
    flush_timeout_ms: u64,
    is_slave: bool,
    /// `Some` on a SYNC_MASTER.
    slave_wait: Option<SlaveWait>,
}

impl<R: Runtime> SendMessage<R> {
    pub fn new(
        rt: R,
        store: Arc<MessageStore<R>>,
        (topics, groups): (Arc<Topics<R>>, Arc<SubscriptionGroups<R>>),
        slave_wait: Option<SlaveWait>,
        (permission, transactions, trace_on): (Live<Permission>, Live<TransactionSettings>, Live<bool>),
        counts: &Arc<Counts>,
        config: &BrokerConfig,
    ) -> Self {
        let region = config.identity.region.clone();
        let common_fields = [false, true].map(|traced| {
            let mut fields = JsonFields::default();
            fields.text(MSG_REGION, &region);
            fields.plain(TRACE_ON, on_or_off(traced));
            fields
        });
        SendMessage {
            rt,
            store,
            topics,
            groups,
            settings: config.send.clone(),
            permission,
            counts: counts.clone(),
            store_host: OnceLock::new(),
            cluster: config.identity.cluster.clone(),
            region,
            trace_on,
            common_fields,
            transactions,
            append_busy_ms: config.store.append_busy_ms,
            flush_timeout_ms: config.store.sync_flush_timeout_ms,
            is_slave: config.identity.role == Role::Slave,
            slave_wait,
        }
    }

    /// Sends are taken from here on.
    ///
    /// # Panics
    /// When called twice.
    pub fn set_store_host(&self, address: SocketAddr) {
        self.store_host.set(address).expect("the address is set once");
    }

    /// What records say of where they were stored, by a broker that may store them.
    ///
    /// # Errors
    /// On a slave, and before the broker listens.
    pub fn store_host(&self) -> Result<SocketAddr, Refusal> {
        if self.is_slave {
            return Err(PutError::NotWritable(WhyNot::Slave).into());
        }
        let starting = || Refusal::new(response::SERVICE_NOT_AVAILABLE, "the broker is starting");
        self.store_host.get().copied().ok_or_else(starting)
    }

    /// A request of `peer` that came at `came`.
    pub async fn handle(&self, (peer, came): (SocketAddr, Mono), request: &RemotingCommand) -> Answer {
        match self.send((peer, came), request).await {
            Ok(answer) => answer,
            Err(refusal) => {
                self.counts.put_failed();
                Answer::Now(self.decorate(refusal.answer()))
            }
        }
    }

    /// Every answer to a send says the region and whether traces are wanted.
    pub fn decorate(&self, mut answer: RemotingCommand) -> RemotingCommand {
        answer.ext.set_str(MSG_REGION, &self.region);
        answer.ext.set_str(TRACE_ON, on_or_off(self.trace_on.get()));
        answer
    }

    async fn send(
        &self,
        (peer, came): (SocketAddr, Mono),
        request: &RemotingCommand,
    ) -> Result<Answer, Refusal> {
        let store_host = self.store_host()?;
        let header = SendMessageHeader::decode_send(request.code, &request.ext)?;
        let topic = self.topic_of(&header).await?;
        let queue_id = choose_queue(&header, &topic, || self.rt.random_u64())?;
        let raw = header.properties.unwrap_or_default();
        let (mut wants, mut stored_properties) =
            if header.batch { (Wants::read(raw), String::new()) } else { self.stored_properties(raw) };
        check_features(&header, &wants)?;
        let by_priority = wants.priority.filter(|priority| *priority >= 0 && !header.batch);
        let queue_id = match by_priority {
            Some(priority) if wants.is_of_priority() => {
                queue_of_priority(priority, &topic).unwrap_or(queue_id)
            }
            Some(_) => {
                stored_properties = without_priority(&stored_properties);
                queue_id
            }
            None => queue_id,
        };
        let mut target = (Cow::Borrowed(header.topic), queue_id);
        if let Some(group) = header.topic.strip_prefix(names::RETRY_PREFIX)
            && self.is_dead_letter(&header, group, request.version).await?
        {
            target = (Cow::Owned(self.dead_letter_topic(group).await?), 0);
            stored_properties = undelayed(&stored_properties);
            wants.delay_level = 0;
        }
        let body = request.body.to_bytes();
        if body.is_empty() {
            return Err(Refusal::new(response::MESSAGE_ILLEGAL, "the message has no body"));
        }
        if self.store.append_blocked_ms() > self.append_busy_ms {
            return Err(Refusal::new(
                response::SYSTEM_BUSY,
                "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
            ));
        }
        let multi_tags = topic.topic_filter_type == TopicFilterType::MultiTag;
        let mut message = MessageToStore {
            topic: &target.0,
            queue_id: target.1,
            flag: if self.rt.mutant(Mutant::FlagLost) { 0 } else { header.flag },
            sys_flag: header.sys_flag | if multi_tags { sys_flag::MULTI_TAGS } else { 0 },
            born_timestamp: header.born_timestamp,
            born_host: peer,
            store_host,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            body: &body,
            properties: &stored_properties,
            wait_for_flush: wants.flush,
        };
        let half_properties;
        if wants.transaction {
            if wants.is_half(&header) {
                self.check_half_allowed()?;
                half_properties = half::properties_of(&stored_properties, raw, header.topic, queue_id);
                message = half::record(message, &half_properties);
                // It is not given to anybody before it is committed.
                wants.delay_level = 0;
            } else {
                message.sys_flag =
                    sys_flag::with_transaction_type(message.sys_flag, sys_flag::TRANSACTION_NONE);
            }
        }
        let need = self.need(wants.flush)?;
        let mut ids = String::new();
        let (queue_offset, end) = if header.batch {
            let put = self.put_batch(message, raw).await?;
            ids.reserve(put.physical_offsets.len() * 33);
            for offset in &put.physical_offsets {
                if !ids.is_empty() {
                    ids.push(',');
                }
                id::push_offset_message_id(&mut ids, store_host, *offset);
            }
            let members = put.physical_offsets.len();
            let members = if self.rt.mutant(Mutant::BatchCountedOnce) { 1 } else { members };
            self.counts.put(&target.0, members, put.bytes());
            (put.queue_offset, put.end)
        } else {
            let put = self.put(&message, wants.delay_level > 0).await?;
            ids = id::offset_message_id(store_host, put.physical_offset);
            (put.queue_offset, put.end)
        };
        let place = Place { ids: &ids, queue_id, queue_offset };
        if self.store.must_wait() || self.slave_wait.is_some() {
            let answer = match request.serialize_type {
                SerializeType::Json => Response::Json(self.sent_json(place, &wants)),
                SerializeType::RocketMq => Response::Command(self.sent(place, &wants)),
            };
            return Ok(self.when_safe(answer, (end, came), (wants.flush, need)));
        }
        self.counts.put_since(came);
        Ok(match request.serialize_type {
            SerializeType::Json => Answer::NowJson(self.sent_json(place, &wants)),
            SerializeType::RocketMq => Answer::Now(self.sent(place, &wants)),
        })
    }

    /// The queue of a message that could be stored as its header and properties say.
    ///
    /// # Errors
    /// What a send of it would be refused with before its body is looked at.
    pub async fn check(&self, header: &SendMessageHeader<'_>) -> Result<i32, Refusal> {
        let topic = self.topic_of(header).await?;
        let queue_id = choose_queue(header, &topic, || self.rt.random_u64())?;
        check_features(header, &Wants::read(header.properties.unwrap_or_default()))?;
        Ok(queue_id)
    }

    /// The topic of a send, created if need be.
    async fn topic_of(&self, header: &SendMessageHeader<'_>) -> Result<Arc<TopicConfig>, Refusal> {
        let known = self.topics.get(header.topic);
        let before = BeforeTopic {
            // Almost always from the first day on: no need for a clock.
            now_ms: if self.settings.accept_from_ms > 0 { self.rt.wall_ms() } else { 0 },
            accept_from_ms: self.settings.accept_from_ms,
            can_write: self.permission.get().can_write(),
            ordered: known.as_ref().is_some_and(|topic| topic.order),
        };
        check_before_topic(header, before)?;
        match known {
            Some(topic) => Ok(topic),
            None => self.create_topic(header).await,
        }
    }

    /// The answer to a send that is stored at `place`.
    fn sent(&self, place: Place<'_>, wants: &Wants<'_>) -> RemotingCommand {
        let mut answer = self.decorate(answer(response::SUCCESS));
        answer.ext.set_str("msgId", place.ids);
        answer.ext.set_int("queueId", place.queue_id);
        answer.ext.set_int("queueOffset", place.queue_offset);
        if let Some(unique_key) = wants.unique_key {
            answer.ext.set_str("transactionId", unique_key);
        }
        answer
    }

    /// As [`Self::sent`], without the detour through a command's fields.
    fn sent_json(&self, place: Place<'_>, wants: &Wants<'_>) -> JsonAnswer {
        let unique_key = wants.unique_key.unwrap_or_default();
        let common = &self.common_fields[usize::from(self.trace_on.get())];
        let mut fields = JsonFields::beginning_with(common, place.ids.len() + unique_key.len() + 100);
        fields.plain("msgId", place.ids);
        fields.int("queueId", place.queue_id);
        fields.int("queueOffset", place.queue_offset);
        if !unique_key.is_empty() {
            fields.text("transactionId", unique_key);
        }
        JsonAnswer { code: response::SUCCESS, remark: None, fields }
    }

    /// Stores `message`, where it waits if it is delayed, and counts it there; its properties are looked at only when
    /// `may_be_delayed`.
    ///
    /// # Errors
    /// As of a put.
    pub async fn put(
        &self,
        message: &MessageToStore<'_>,
        may_be_delayed: bool,
    ) -> Result<Appended, PutError> {
        let level_count = self.store.config().delay_levels_ms.len();
        let delayed = may_be_delayed.then(|| Delayed::by_property(message, level_count)).flatten();
        let stored = delayed.as_ref().map_or(*message, |delayed| delayed.message(message));
        let put = self.store.put(&stored).await?;
        self.counts.put(stored.topic, 1, put.bytes());
        Ok(put)
    }

    /// Puts a message that its producer has committed, where it waits if it is to be delayed.
    ///
    /// # Errors
    /// As [`MessageStore::put_again`].
    pub async fn put_committed(&self, message: &MessageToStore<'_>) -> Result<Appended, PutError> {
        let delayed = Delayed::by_property(message, self.store.config().delay_levels_ms.len());
        let stored = delayed.as_ref().map_or(*message, |delayed| delayed.message(message));
        let put = self.store.put_again(&stored).await?;
        self.counts.put(stored.topic, 1, put.bytes());
        Ok(put)
    }

    async fn put_batch(&self, message: MessageToStore<'_>, raw: &str) -> Result<AppendedBatch, Refusal> {
        let body_bytes_max = self.store.pace().message_bytes_max;
        if message.body.len() > body_bytes_max {
            let remark =
                format!("the batch has {} bytes, at most {body_bytes_max} are allowed", message.body.len());
            return Err(Refusal::new(response::MESSAGE_ILLEGAL, remark));
        }
        let illegal = |error: batch::BatchError| Refusal::new(response::MESSAGE_ILLEGAL, error.to_string());
        let mut items = batch::items(message.body).collect::<Result<Vec<_>, _>>().map_err(illegal)?;
        let of_batch = kept_of_batch(raw);
        // The property strings of all members, one behind the other.
        let mut stored = String::with_capacity(
            items.iter().map(|item| item.properties.len()).sum::<usize>()
                + items.len() * (raw.len() + self.cluster.len() + 16),
        );
        let mut ends = Vec::with_capacity(items.len());
        let mut unsupported = None;
        for item in &items {
            let wants = self.push_member_properties(&mut stored, item.properties, &of_batch);
            if unsupported.is_none() {
                unsupported = check_features_of_member(&wants).err();
            }
            ends.push(stored.len());
        }
        if let Some(refusal) = unsupported.filter(|_| !self.rt.mutant(Mutant::MemberDelayForgotten)) {
            return Err(refusal);
        }
        let mut begin = 0;
        for (item, end) in items.iter_mut().zip(ends) {
            item.properties = stored.get(begin..end).unwrap_or_default();
            begin = end;
        }
        Ok(self.store.put_batch(&message, &items).await?)
    }

    fn check_half_allowed(&self) -> Result<(), Refusal> {
        if !self.transactions.get().reject {
            return Ok(());
        }
        Err(Refusal::new(response::NO_PERMISSION, "sending transaction messages to this broker is forbidden"))
    }

    /// `answer` when what was put without waiting for its flush is stored, up to `end`; its request came at `came`.
    pub fn stored(&self, answer: RemotingCommand, end: u64, came: Mono) -> Answer {
        self.when_safe(answer.into(), (end, came), (false, None))
    }

    /// What a send needs of slaves, before it is stored; `None` when it does not wait for any.
    ///
    /// # Errors
    /// When too few are in sync. The code is Java's.
    fn need(&self, waits: bool) -> Result<Option<Need>, Refusal> {
        let Some(slaves) = self.slave_wait.as_ref().filter(|_| waits) else { return Ok(None) };
        let need = slaves.need(self.store.commit_log_max());
        need.map(Some).map_err(|few| Refusal::new(response::SYSTEM_ERROR, few.to_string()))
    }

    /// As [`Self::need`], for what had better not be stored where no slave is near.
    ///
    /// # Errors
    /// That too.
    pub fn need_of_near(&self, waits: bool) -> Result<Option<Need>, Refusal> {
        let need = self.need(waits)?;
        match (&self.slave_wait, need) {
            (Some(slaves), Some(need)) if !slaves.is_near(need, self.store.commit_log_max()) => {
                Err(Refusal::new(response::SYSTEM_ERROR, "too few slaves are near"))
            }
            _ => Ok(need),
        }
    }

    /// `answer` when the log up to `end` is as safe as the settings say; a message that does not wait is safe when it
    /// outlives the process. Its request came at `came`.
    pub fn when_safe(
        &self,
        mut answer: Response,
        (end, came): (u64, Mono),
        (waits, need): (bool, Option<Need>),
    ) -> Answer {
        if let (Some(slave_wait), Some(need)) = (&self.slave_wait, need) {
            match slave_wait.slaves(need, end) {
                Some(0) => {}
                Some(slaves) => {
                    let since = (self.counts.clone(), came);
                    return slave_wait.answer(&self.rt, &self.store, answer, (slaves, end), since);
                }
                None => {
                    answer =
                        with_status(answer, response::SLAVE_NOT_AVAILABLE, "stored, but no slave is near");
                }
            }
        }
        match (self.store.must_wait(), waits) {
            (true, true) => self.when_durable(answer, end, came),
            (true, false) => self.when_kept(answer, end, came),
            (false, _) => {
                self.counts.put_since(came);
                now(answer)
            }
        }
    }

    /// `answer` when the log is durable up to `end`.
    fn when_durable(&self, answer: Response, end: u64, came: Mono) -> Answer {
        let store = self.store.clone();
        let finish = move |reached| match reached {
            Reached::Yes => answer,
            _ if !store.keep(end) => not_kept(),
            Reached::TimedOut => not_known_durable(answer, "the flush did not end in time"),
            Reached::Failed => not_known_durable(answer, "the flush failed"),
        };
        self.when_reached(self.store.durable(), (end, came), finish)
    }

    /// `answer` when the log outlives the process up to `end`.
    fn when_kept(&self, answer: Response, end: u64, came: Mono) -> Answer {
        let store = self.store.clone();
        let finish =
            move |reached| if reached == Reached::Yes || store.keep(end) { answer } else { not_kept() };
        self.when_reached(self.store.committed(), (end, came), finish)
    }

    fn when_reached(
        &self,
        mark: &Watermark,
        (end, came): (u64, Mono),
        finish: impl FnOnce(Reached) -> Response + Send + 'static,
    ) -> Answer {
        let counts = self.counts.clone();
        Answer::WhenReached {
            mark: mark.clone(),
            position: end,
            deadline: self.rt.now().after_ms(self.flush_timeout_ms),
            finish: Box::new(move |reached| {
                counts.put_since(came);
                finish(reached)
            }),
        }
    }

    async fn create_topic(&self, header: &SendMessageHeader<'_>) -> Result<Arc<TopicConfig>, Refusal> {
        let wanted = NewTopic {
            topic: header.topic,
            default_topic: header.default_topic,
            queue_count: header.default_topic_queue_nums,
            unit: header.unit_mode,
        };
        self.topics.for_send(wanted).await?.ok_or_else(|| {
            let remark = format!("topic[{}] not exist, apply first please!", header.topic);
            Refusal::new(response::TOPIC_NOT_EXIST, remark)
        })
    }

    /// Whether a message that is sent to the retry topic of `group` has been tried too often.
    async fn is_dead_letter(
        &self,
        header: &SendMessageHeader<'_>,
        group: &str,
        version: i32,
    ) -> Result<bool, Refusal> {
        let Some(group_config) = self.groups.get_or_create(group).await? else {
            let remark = format!("subscription group not exist, {group}");
            return Err(Refusal::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        };
        let max = reconsume_max(header.max_reconsume_times, version, &group_config);
        Ok(header.reconsume_times.unwrap_or(0) >= max)
    }

    /// The dead letter queue of `group`, created if need be.
    ///
    /// # Errors
    /// When its topic cannot be created.
    pub async fn dead_letter_topic(&self, group: &str) -> Result<String, Refusal> {
        let name = names::dlq_topic(group);
        self.topics.create_if_absent(topic(&name, 1, READ_WRITE)).await?;
        Ok(name)
    }

    /// What the properties ask for, and the string as it is stored: what came, without what is not kept, and with the
    /// cluster's name.
    fn stored_properties<'a>(&self, raw: &'a str) -> (Wants<'a>, String) {
        let mut stored = String::with_capacity(raw.len() + self.cluster.len() + 16);
        let mut wants = Wants::of_none();
        for segment in properties::segments(raw) {
            wants.add(segment);
            if !NOT_STORED.contains(&segment.name) || self.rt.mutant(Mutant::ReservedKept) {
                push_segment(&mut stored, 0, segment.whole);
            }
        }
        self.push_cluster(&mut stored, 0);
        (wants, stored)
    }

    /// Appends those of a batch's member: its own, then the batch's that it lacks. Answers what its string then asks for.
    fn push_member_properties<'a>(
        &self,
        stored: &mut String,
        raw: &'a str,
        of_batch: &[Segment<'a>],
    ) -> Wants<'a> {
        let start = stored.len();
        let mut wants = Wants::of_none();
        for segment in properties::segments(raw) {
            wants.add(segment);
            if !NOT_STORED_OF_MEMBER.contains(&segment.name) {
                push_segment(stored, start, segment.whole);
            }
        }
        for segment in of_batch {
            if properties::find(raw, segment.name).is_none() {
                wants.add(*segment);
                push_segment(stored, start, segment.whole);
            }
        }
        self.push_cluster(stored, start);
        wants
    }

    fn push_cluster(&self, stored: &mut String, start: usize) {
        push_segment(stored, start, properties::CLUSTER);
        stored.push(NAME_SEPARATOR);
        stored.push_str(&self.cluster);
    }
}

/// How often a consumer may try a message: what its client says, if that can say it, else what its group has.
///
/// # Source
/// apache/rocketmq 4.9.7, `SendMessageProcessor#handleRetryAndDLQ`.
pub(crate) fn reconsume_max(said: Option<i32>, version: i32, group: &SubscriptionGroupConfig) -> i32 {
    said.filter(|_| version >= TELLS_RECONSUME_MAX).unwrap_or(group.retry_max_times)
}

/// The property string of a message that is not to wait, whatever it asked for.
fn undelayed(stored: &str) -> String {
    let mut properties = properties::decode(stored);
    properties.set(properties::DELAY, "-1");
    properties.encode(false)
}

/// What members take over from their batch. Its unique key is not theirs.
fn kept_of_batch(raw: &str) -> Vec<Segment<'_>> {
    let kept =
        |segment: &Segment<'_>| segment.name != properties::UNIQ_KEY && !NOT_STORED.contains(&segment.name);
    properties::segments(raw).filter(kept).collect()
}

/// Appends one property to the string that begins at `start`.
fn push_segment(into: &mut String, start: usize, segment: &str) {
    if into.len() > start {
        into.push(PROPERTY_SEPARATOR);
    }
    into.push_str(segment);
}

/// A status of replication, if the answer has one already, stays: it is the one that is told of the two.
fn not_known_durable(answer: Response, why: &str) -> Response {
    let code = match &answer {
        Response::Command(answer) => answer.code,
        Response::Json(answer) => answer.code,
    };
    match code {
        response::SUCCESS => {
            let remark = format!("stored, but not known to be on disk: {why}");
            with_status(answer, response::FLUSH_DISK_TIMEOUT, &remark)
        }
        _ => answer,
    }
}

/// It is not whole in its file, and as no write succeeds any more it never will be.
pub(super) fn not_kept() -> Response {
    answer(response::SERVICE_NOT_AVAILABLE).with_remark("not stored: the log could not be written").into()
}

fn unsupported(feature: &str) -> Refusal {
    Refusal::new(
        response::MESSAGE_ILLEGAL,
        format!("{feature} are not supported by this version; the message was not stored"),
    )
}

/// Where a message, or a batch, was stored.
struct Place<'a> {
    /// Offset message ids, joined by commas.
    ids: &'a str,
    queue_id: i32,
    /// Of the first.
    queue_offset: i64,
}

/// What is known before the topic is looked at.
#[derive(Clone, Copy)]
struct BeforeTopic {
    now_ms: i64,
    accept_from_ms: i64,
    can_write: bool,
    ordered: bool,
}

/// # Source
/// Broker semantics 9.1, steps 1 to 3.
fn check_before_topic(header: &SendMessageHeader<'_>, known: BeforeTopic) -> Result<(), Refusal> {
    if known.now_ms < known.accept_from_ms {
        return Err(Refusal::new(
            response::SYSTEM_ERROR,
            format!("broker unable to service, until {} ms since 1970", known.accept_from_ms),
        ));
    }
    if !known.can_write && known.ordered {
        return Err(Refusal::new(response::NO_PERMISSION, "sending to this broker is forbidden"));
    }
    if let Err(error) = names::check_topic(header.topic) {
        return Err(Refusal::new(response::INVALID_PARAMETER, format!("the topic's name {error}")));
    }
    if !names::is_sendable(header.topic) {
        let remark = format!("sending message to topic[{}] is forbidden.", header.topic);
        return Err(Refusal::new(response::NO_PERMISSION, remark));
    }
    Ok(())
}

/// # Source
/// Broker semantics 9.1, step 5.
fn choose_queue(
    header: &SendMessageHeader<'_>,
    topic: &TopicConfig,
    random: impl FnOnce() -> u64,
) -> Result<i32, Refusal> {
    let known = topic.write_queue_nums.max(topic.read_queue_nums);
    let writable = u64::try_from(topic.write_queue_nums).unwrap_or(0);
    if header.queue_id >= known || (header.queue_id < 0 && writable == 0) {
        let remark = format!("request queueId[{}] is illegal, topic[{}]", header.queue_id, header.topic);
        return Err(Refusal::new(response::INVALID_PARAMETER, remark));
    }
    if header.queue_id >= 0 {
        return Ok(header.queue_id);
    }
    Ok(i32::try_from(random() % writable).expect("a remainder of a positive i32"))
}

/// The queue of a message that has this priority and no other type; `None` where nothing can be written.
///
/// # Source
/// apache/rocketmq 5.4, `SendMessageProcessor#sendMessage`: for topics of every type.
fn queue_of_priority(priority: i32, topic: &TopicConfig) -> Option<i32> {
    (topic.write_queue_nums > 0).then(|| priority.min(topic.write_queue_nums - 1))
}

/// The property string of a message of another type, which has no priority.
fn without_priority(stored: &str) -> String {
    let mut properties = properties::decode(stored);
    properties.remove(properties::PRIORITY);
    properties.encode(false)
}

/// What the properties of a message ask for, and what its answer repeats, read in one walk.
#[derive(Default)]
struct Wants<'a> {
    flush: bool,
    delay_level: i32,
    /// A delay is there, of whatever level.
    delayed: bool,
    sharded: bool,
    priority: Option<i32>,
    transaction: bool,
    timer: Option<&'a str>,
    inner_count: bool,
    unique_key: Option<&'a str>,
}

impl<'a> Wants<'a> {
    /// Without a property: the answer waits for the flush.
    fn of_none() -> Wants<'a> {
        Wants { flush: true, ..Wants::default() }
    }

    fn read(raw: &'a str) -> Wants<'a> {
        let mut wants = Wants::of_none();
        properties::segments(raw).for_each(|segment| wants.add(segment));
        wants
    }

    /// # Source
    /// apache/rocketmq 5.4, `TopicMessageType#parseFromMessageProperty`.
    fn is_of_priority(&self) -> bool {
        !(self.transaction || self.delayed || self.timer.is_some() || self.sharded)
    }

    fn is_half(&self, header: &SendMessageHeader<'_>) -> bool {
        half::is_half(self.transaction, header.topic, header.reconsume_times, self.delay_level)
    }

    #[inline]
    fn add(&mut self, Segment { name, value, .. }: Segment<'a>) {
        match name {
            properties::WAIT => self.flush = value.eq_ignore_ascii_case("true"),
            properties::DELAY => {
                self.delay_level = value.parse().unwrap_or(0);
                self.delayed = true;
            }
            properties::SHARDING_KEY => self.sharded = true,
            properties::PRIORITY => self.priority = value.parse().ok(),
            properties::TRAN_MSG => self.transaction = value.eq_ignore_ascii_case("true"),
            properties::UNIQ_KEY => self.unique_key = Some(value),
            properties::INNER_NUM => self.inner_count = true,
            _ if TIMER_PROPERTIES.contains(&name) => self.timer = Some(name),
            _ => {}
        }
    }
}

fn check_features(header: &SendMessageHeader<'_>, wants: &Wants<'_>) -> Result<(), Refusal> {
    let in_transaction = sys_flag::transaction_type(header.sys_flag) != sys_flag::TRANSACTION_NONE;
    if header.batch {
        let why = if header.topic.starts_with(names::RETRY_PREFIX) {
            Some("batch request does not support retry group")
        } else if wants.delay_level > 0 {
            Some("batch request does not support delayed messages")
        } else if in_transaction || wants.transaction {
            Some("batch request does not support transactions")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(Refusal::new(response::MESSAGE_ILLEGAL, why));
        }
    }
    // Nobody would ever see it.
    if in_transaction && !wants.transaction {
        return Err(unsupported("messages with a transaction type that are no half messages"));
    }
    if header.sys_flag & (sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP) != 0 {
        return Err(unsupported("inner batches"));
    }
    check_kind(wants)
}

fn check_features_of_member(wants: &Wants<'_>) -> Result<(), Refusal> {
    if wants.delay_level > 0 {
        return Err(Refusal::new(
            response::MESSAGE_ILLEGAL,
            "batch request does not support delayed messages (DELAY)",
        ));
    }
    check_kind(wants)
}

fn check_kind(wants: &Wants<'_>) -> Result<(), Refusal> {
    if wants.inner_count {
        return Err(unsupported("inner batches (INNER_NUM)"));
    }
    if let Some(name) = wants.timer {
        return Err(unsupported(&format!("timer messages ({name})")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

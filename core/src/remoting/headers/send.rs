//! Sending, sending back, transactions.

use super::{FieldValue, HeaderError, typed_header};
use crate::remoting::{ExtFields, codes::request};

/// SEND_MESSAGE (10), SEND_REPLY_MESSAGE (324) by long names; SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320),
/// SEND_REPLY_MESSAGE_V2 (325) by letters. Borrows from the command, since it is read once per message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SendMessageHeader<'a> {
    /// Who sends.
    pub producer_group: &'a str,
    /// Where to.
    pub topic: &'a str,
    /// The topic whose settings a new topic takes.
    pub default_topic: &'a str,
    /// How many queues a new topic gets.
    pub default_topic_queue_nums: i32,
    /// Which queue; negative lets the broker choose.
    pub queue_id: i32,
    /// Bits of `message::sys_flag`.
    pub sys_flag: i32,
    /// The sender's time, in ms since 1970.
    pub born_timestamp: i64,
    /// The user's own flag.
    pub flag: i32,
    /// The property string.
    pub properties: Option<&'a str>,
    /// How often a consumer has tried it already.
    pub reconsume_times: Option<i32>,
    /// Whether it is a message of a unit.
    pub unit_mode: bool,
    /// How often a consumer may try it.
    pub max_reconsume_times: Option<i32>,
    /// Whether the body holds a batch. This decides, not the request code.
    pub batch: bool,
    /// The broker meant by the sender.
    pub broker_name: Option<&'a str>,
}

/// The fields of a send header as they came.
#[derive(Default)]
struct RawSend<'a> {
    fields: [Option<&'a str>; 14],
}

/// The names of the fields in the order of [`RawSend::fields`].
type SendNames = [&'static str; 14];

const LONG_NAMES: SendNames = [
    "producerGroup",
    "topic",
    "defaultTopic",
    "defaultTopicQueueNums",
    "queueId",
    "sysFlag",
    "bornTimestamp",
    "flag",
    "properties",
    "reconsumeTimes",
    "unitMode",
    "maxReconsumeTimes",
    "batch",
    "bname",
];

const LETTERS: SendNames = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];

impl<'a> SendMessageHeader<'a> {
    /// Reads the header of a send request: by long names for codes 10 and 324, by letters for the others.
    ///
    /// # Errors
    /// [`HeaderError`] as in [`super::TypedHeader::decode`].
    pub fn decode_send(code: i32, ext: &'a ExtFields) -> Result<Self, HeaderError> {
        if matches!(code, request::SEND_MESSAGE | request::SEND_REPLY_MESSAGE) {
            Self::decode(ext)
        } else {
            Self::decode_v2(ext)
        }
    }

    /// Reads the long form.
    ///
    /// # Errors
    /// [`HeaderError`] as in [`super::TypedHeader::decode`].
    pub fn decode(ext: &'a ExtFields) -> Result<Self, HeaderError> {
        let mut raw = RawSend::default();
        for (field, name) in raw.fields.iter_mut().zip(LONG_NAMES) {
            *field = ext.get(name);
        }
        Self::from_raw(&raw, &LONG_NAMES)
    }

    /// Reads the form with one letter per field.
    ///
    /// # Errors
    /// [`HeaderError`] as in [`super::TypedHeader::decode`].
    pub fn decode_v2(ext: &'a ExtFields) -> Result<Self, HeaderError> {
        let mut raw = RawSend::default();
        // One walk instead of one search per field: this is on the path of every message.
        for (name, value) in ext.iter() {
            let [letter @ b'a'..=b'n'] = name.as_bytes() else { continue };
            if let Some(field) = raw.fields.get_mut(usize::from(letter - b'a')) {
                *field = Some(value);
            }
        }
        Self::from_raw(&raw, &LETTERS)
    }

    fn from_raw(raw: &RawSend<'a>, names: &SendNames) -> Result<Self, HeaderError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = raw.fields;
        let [na, nb, nc, nd, ne, nf, ng, nh, _, nj, nk, nl, nm, _] = *names;
        let required = |value: Option<&'a str>, field| value.ok_or(HeaderError::Missing { field });
        Ok(Self {
            producer_group: required(a, na)?,
            topic: required(b, nb)?,
            default_topic: required(c, nc)?,
            default_topic_queue_nums: FieldValue::read(d, nd)?,
            queue_id: FieldValue::read(e, ne)?,
            sys_flag: FieldValue::read(f, nf)?,
            born_timestamp: FieldValue::read(g, ng)?,
            flag: FieldValue::read(h, nh)?,
            properties: i.filter(|properties| !properties.is_empty()),
            reconsume_times: FieldValue::read(j, nj)?,
            unit_mode: FieldValue::read(k, nk)?,
            max_reconsume_times: FieldValue::read(l, nl)?,
            batch: FieldValue::read(m, nm)?,
            broker_name: n.filter(|name| !name.is_empty()),
        })
    }

    /// Sets the fields by long names.
    pub fn encode(&self, ext: &mut ExtFields) {
        self.encode_as(ext, &LONG_NAMES);
    }

    /// Sets the fields by letters.
    pub fn encode_v2(&self, ext: &mut ExtFields) {
        self.encode_as(ext, &LETTERS);
    }

    fn encode_as(&self, ext: &mut ExtFields, names: &SendNames) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *names;
        ext.set_str(a, self.producer_group);
        ext.set_str(b, self.topic);
        ext.set_str(c, self.default_topic);
        ext.set_int(d, self.default_topic_queue_nums);
        ext.set_int(e, self.queue_id);
        ext.set_int(f, self.sys_flag);
        ext.set_int(g, self.born_timestamp);
        ext.set_int(h, self.flag);
        if let Some(properties) = self.properties {
            ext.set_str(i, properties);
        }
        self.reconsume_times.write(j, ext);
        self.unit_mode.write(k, ext);
        self.max_reconsume_times.write(l, ext);
        self.batch.write(m, ext);
        if let Some(broker_name) = self.broker_name {
            ext.set_str(n, broker_name);
        }
    }
}

typed_header! {
    /// The answer to every send that was stored: codes SUCCESS, FLUSH_DISK_TIMEOUT, SLAVE_NOT_AVAILABLE and
    /// FLUSH_SLAVE_TIMEOUT. Beside it every answer to a send has `MSG_REGION` and `TRACE_ON`.
    pub struct SendMessageResponse {
        /// Offset message id; of a batch, all of them, joined by commas.
        msg_id: String = "msgId",
        /// The queue it went to.
        queue_id: i32 = "queueId",
        /// Its place there, of a batch that of the first.
        queue_offset: i64 = "queueOffset",
        /// The unique key; 4.9 never sends it.
        transaction_id: Option<String> = "transactionId",
    }

    /// PUSH_REPLY_MESSAGE_TO_CLIENT (326).
    pub struct ReplyMessageHeader {
        producer_group: String = "producerGroup",
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<String> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode",
        /// `ip:port` of the client that sent the reply.
        born_host: String = "bornHost",
        store_host: String = "storeHost",
        store_timestamp: i64 = "storeTimestamp",
    }

    /// CONSUMER_SEND_MSG_BACK (36).
    pub struct ConsumerSendMsgBackHeader {
        /// Physical offset of the record, in bytes.
        offset: i64 = "offset",
        group: String = "group",
        /// Negative: straight to the dead letter queue; 0: by the number of tries.
        delay_level: i32 = "delayLevel",
        origin_msg_id: Option<String> = "originMsgId",
        origin_topic: Option<String> = "originTopic",
        unit_mode: bool = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }

    /// END_TRANSACTION (37).
    pub struct EndTransactionHeader {
        topic: Option<String> = "topic",
        producer_group: String = "producerGroup",
        /// Queue offset of the half message.
        tran_state_table_offset: i64 = "tranStateTableOffset",
        /// Physical offset of the half message.
        commit_log_offset: i64 = "commitLogOffset",
        /// 0x0 unknown, 0x8 commit, 0xC roll back.
        commit_or_rollback: i32 = "commitOrRollback",
        from_transaction_check: bool = "fromTransactionCheck",
        msg_id: String = "msgId",
        transaction_id: Option<String> = "transactionId",
    }

    /// CHECK_TRANSACTION_STATE (39).
    pub struct CheckTransactionStateHeader {
        topic: Option<String> = "topic",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        msg_id: Option<String> = "msgId",
        transaction_id: Option<String> = "transactionId",
        offset_msg_id: Option<String> = "offsetMsgId",
    }

    /// RECALL_MESSAGE (370).
    pub struct RecallMessageHeader {
        producer_group: Option<String> = "producerGroup",
        topic: String = "topic",
        recall_handle: String = "recallHandle",
    }

    /// The answer to RECALL_MESSAGE.
    pub struct RecallMessageResponse {
        msg_id: String = "msgId",
    }
}

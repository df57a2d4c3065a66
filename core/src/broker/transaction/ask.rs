//! CHECK_TRANSACTION_STATE, code 39: asks a producer of the group what is to become of a half message.
//!
//! One way, over the connection that a live producer has opened. The request carries the half message as it stands in the
//! log, under its real topic. Nobody live, or nobody who takes it: the next round asks again.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::message::codec::{self, Place};
use crate::message::{MessageToStore, id};
use crate::remoting::RemotingCommand;
use crate::remoting::codes::request;
use crate::remoting::headers::CheckTransactionStateHeader;
use crate::runtime::{Mark, Mutant, Runtime};
use crate::store::Appended;

use super::super::client_table::Kind;
use super::Transactions;
use super::half::Half;

/// A question ready to be asked.
pub(super) struct Question {
    pub group: String,
    pub command: RemotingCommand,
    /// Where its half record ends: before that can be read, an answer finds nothing.
    pub end: u64,
}

/// The question about `half`, whose `copy` was put at `put`. `None` when nobody can be asked: no group, or no real topic.
pub(super) fn question(half: &Half, copy: &MessageToStore<'_>, put: &Appended) -> Option<Question> {
    let (topic, queue_id) = half.real_queue()?;
    let shown = MessageToStore { topic, queue_id, ..*copy };
    let prepared = codec::prepare(shown, false).ok()?;
    let mut body = vec![0; prepared.size() as usize];
    let place = Place {
        queue_offset: put.queue_offset,
        physical_offset: put.physical_offset,
        store_timestamp: half.message.store_timestamp,
    };
    prepared.encode(&mut body, place);
    let unique_key = half.unique_key().map(str::to_owned);
    let header = CheckTransactionStateHeader {
        topic: None,
        tran_state_table_offset: put.queue_offset,
        commit_log_offset: i64::try_from(put.physical_offset).ok()?,
        msg_id: unique_key.clone(),
        transaction_id: unique_key,
        offset_msg_id: Some(id::offset_message_id(copy.store_host, put.physical_offset)),
    };
    let command = RemotingCommand::request(request::CHECK_TRANSACTION_STATE)
        .with_header(&header)
        .with_body(Bytes::from(body));
    Some(Question { group: half.group()?.to_owned(), command, end: put.end })
}

impl<R: Runtime> Transactions<R> {
    /// Asks the group's producers in turn until one takes the question. False when none does (T-03).
    pub(super) fn ask(&self, question: &Question) -> bool {
        if self.rt.mutant(Mutant::NobodyIsAsked) {
            return false;
        }
        let members = self.clients.members(Kind::Producer, &question.group);
        if members.is_empty() {
            tracing::debug!(question.group, "no producer of the group can be asked");
            return false;
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        let in_turn = members.iter().skip(first).chain(members.iter().take(first));
        in_turn.filter(|member| !member.connection.is_closed()).any(|member| {
            let asked = member.connection.send_oneway(question.command.clone());
            if let Err(error) = &asked {
                self.rt.mark(Mark::ProducerUnasked);
                tracing::warn!(member.client_id, %error, "ask a producer about a transaction");
            }
            asked.is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::half::tests::half;
    use super::*;
    use crate::message::StoredMessage;

    #[test]
    fn a_question_shows_the_message_as_its_sender_knew_it_and_where_its_copy_lies() {
        let half = half("REAL_TOPIC\u{1}T\u{2}REAL_QID\u{1}2\u{2}PGROUP\u{1}g\u{2}UNIQ_KEY\u{1}U");
        let properties = half.asked_properties();
        let copy = half.copy(&properties, "10.0.0.1:10911".parse().expect("an address"));
        let put = Appended { physical_offset: 9_000, end: 9_300, queue_offset: 8, store_timestamp: 5_000 };
        let question = question(&half, &copy, &put).expect("a whole half message");
        assert_eq!((question.group.as_str(), question.end), ("g", 9_300));
        let shown = StoredMessage::decode(&question.command.body.to_bytes()).expect("a record");
        assert_eq!((shown.topic.as_str(), shown.queue_id, shown.flag), ("T", 2, 3));
        assert_eq!((shown.queue_offset, shown.physical_offset), (8, 9_000));
        let header: CheckTransactionStateHeader = question.command.header().expect("its header");
        assert_eq!((header.tran_state_table_offset, header.commit_log_offset), (8, 9_000));
        assert_eq!((header.msg_id.as_deref(), header.transaction_id.as_deref()), (Some("U"), Some("U")));
        assert_eq!(header.offset_msg_id.as_deref(), Some("0A00000100002A9F0000000000002328"));
    }
}

//! END_TRANSACTION, code 37: a producer says what is to become of a half message.
//!
//! An answer of the producer that is lost costs nothing: the half message is asked about again. One that comes twice
//! commits twice, as in Java.
//!
//! # Source
//! Broker semantics 13.2; apache/rocketmq 4.9.7, `EndTransactionProcessor`. Stricter than there: what the request points at
//! must be a half message, and the one whose unique key it names.

use crate::message::properties::{self, NAME_SEPARATOR};
use crate::message::{MessageToStore, StoredMessage, sys_flag};
use crate::remoting::RemotingCommand;
use crate::remoting::codes::response;
use crate::remoting::connection::Answer;
use crate::remoting::headers::EndTransactionHeader;
use crate::runtime::{Mark, Mutant, Runtime};

use super::super::refusal::{Refusal, answer};
use super::half::Half;
use super::{HALF_TOPIC, OP_HALF_TOPIC, OP_TAG, Transactions};

impl<R: Runtime> Transactions<R> {
    pub async fn end(&self, request: &RemotingCommand) -> Answer {
        let came = self.rt.now();
        let header = match request.header::<EndTransactionHeader>() {
            Ok(header) => header,
            Err(error) => return Answer::Now(Refusal::from(error).answer()),
        };
        let ended = match header.commit_or_rollback {
            sys_flag::TRANSACTION_COMMIT => self.commit(&header).await,
            sys_flag::TRANSACTION_ROLLBACK => self.roll_back(&header).await,
            // The producer does not know yet.
            _ => return Answer::Never,
        };
        match ended {
            Ok(end) => self.sends.stored(answer(response::SUCCESS), end, came),
            Err(refusal) => {
                self.rt.mark(Mark::TransactionNotEnded);
                tracing::warn!(?header, remark = refusal.remark, "a transaction is not ended");
                Answer::Now(refusal.answer())
            }
        }
    }

    /// Puts the final message, then the op record. Answers where the latter ends.
    async fn commit(&self, header: &EndTransactionHeader) -> Result<u64, Refusal> {
        let half = self.half(header)?;
        let Some((topic, queue_id)) = half.real_queue() else {
            return Err(system_error("the half message does not name its real topic"));
        };
        let store_host = self.sends.store_host()?;
        let op_first = self.rt.mutant(Mutant::OpBeforeFinal);
        if op_first {
            self.settle(&half).await?;
        }
        // Where it waits, should its sender have asked for a delay.
        let put = self.sends.put_committed(&half.committed(topic, queue_id, store_host)).await;
        if put.is_err() && self.rt.mutant(Mutant::OpWithoutFinal) {
            return self.settle(&half).await;
        }
        let put = put?;
        if op_first {
            return Ok(put.end);
        }
        // Without its op record the producer is asked again, and the message comes twice.
        Ok(self.settle(&half).await.unwrap_or(put.end))
    }

    async fn roll_back(&self, header: &EndTransactionHeader) -> Result<u64, Refusal> {
        let half = self.half(header)?;
        self.settle(&half).await
    }

    /// The half message that the request is about.
    fn half(&self, header: &EndTransactionHeader) -> Result<Half, Refusal> {
        let record = u64::try_from(header.commit_log_offset).ok();
        let record = record.and_then(|offset| self.store.message_at(offset));
        let message = record.and_then(|record| StoredMessage::decode(&record).ok());
        let message = message.ok_or_else(|| system_error("Find prepared transaction message failed"))?;
        let half = Half::new(message);
        check(&half, header)?;
        Ok(half)
    }

    /// Puts the op record that says: this half message is settled. Answers where the record ends.
    async fn settle(&self, half: &Half) -> Result<u64, Refusal> {
        let store_host = self.sends.store_host()?;
        let body = half.message.queue_offset.to_string();
        let properties = format!("{}{NAME_SEPARATOR}{OP_TAG}", properties::TAGS);
        let op = MessageToStore {
            topic: OP_HALF_TOPIC,
            queue_id: half.message.queue_id,
            flag: 0,
            sys_flag: 0,
            born_timestamp: self.rt.wall_ms(),
            born_host: store_host,
            store_host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: body.as_bytes(),
            properties: &properties,
            wait_for_flush: false,
        };
        let put = self.store.put(&op).await;
        if let Err(error) = &put {
            self.rt.mark(Mark::OpUnwritten);
            tracing::error!(half = half.message.queue_offset, %error, "put an op record");
        }
        Ok(put?.end)
    }
}

fn system_error(remark: &str) -> Refusal {
    Refusal::new(response::SYSTEM_ERROR, remark)
}

fn check(half: &Half, header: &EndTransactionHeader) -> Result<(), Refusal> {
    let wrong = |what: &str| Err(system_error(what));
    if half.message.topic != HALF_TOPIC {
        return wrong("the record at the commit log offset is no half message");
    }
    if half.group() != Some(header.producer_group.as_str()) {
        return wrong("The producer group wrong");
    }
    if half.message.queue_offset != header.tran_state_table_offset {
        return wrong("The transaction state table offset wrong");
    }
    if i64::try_from(half.message.physical_offset) != Ok(header.commit_log_offset) {
        return wrong("The commit log offset wrong");
    }
    // Where a loss of power has shortened the log, another half message may stand at the very place.
    let is_meant =
        |unique_key| unique_key == header.msg_id || half.message.offset_message_id() == header.msg_id;
    if !half.unique_key().is_none_or(is_meant) {
        return wrong("the half message at that place has another unique key");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::half::tests::half;
    use super::*;

    #[test]
    fn a_request_must_name_the_half_message_and_its_group() {
        let right = EndTransactionHeader {
            producer_group: "g".to_owned(),
            tran_state_table_offset: 7,
            commit_log_offset: 4_096,
            msg_id: "U".to_owned(),
            ..Default::default()
        };
        let half = half("PGROUP\u{1}g\u{2}UNIQ_KEY\u{1}U");
        assert_eq!(check(&half, &right), Ok(()));
        let wrong = [
            EndTransactionHeader { producer_group: "h".to_owned(), ..right.clone() },
            EndTransactionHeader { tran_state_table_offset: 8, ..right.clone() },
            EndTransactionHeader { commit_log_offset: 4_097, ..right.clone() },
            EndTransactionHeader { msg_id: "V".to_owned(), ..right.clone() },
        ];
        for header in wrong {
            assert_eq!(check(&half, &header).map_err(|refusal| refusal.code), Err(response::SYSTEM_ERROR));
        }
        let mut ordinary = half;
        ordinary.message.topic = "T".to_owned();
        assert!(check(&ordinary, &right).is_err());
    }
}

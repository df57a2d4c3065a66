//! Why a request is not carried out: a code for the client's program, a remark for its reader.

use crate::remoting::codes::response;
use crate::remoting::{HeaderError, RemotingCommand, body::BodyError};
use crate::store::{PutError, WhyNot};

use super::durable_table::TableError;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub code: i32,
    pub remark: String,
    /// What is forbidden, where the code alone does not tell.
    pub forbidden: Option<Forbidden>,
}

/// What a pull may not do; clients of 5.x are told by this number.
///
/// # Source
/// apache/rocketmq 5.4, `ForbiddenType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

impl Refusal {
    pub fn new(code: i32, remark: impl Into<String>) -> Refusal {
        Refusal { code, remark: remark.into(), forbidden: None }
    }

    /// NO_PERMISSION for a pull.
    pub fn forbidden(what: Forbidden, remark: impl Into<String>) -> Refusal {
        Refusal { forbidden: Some(what), ..Refusal::new(response::NO_PERMISSION, remark) }
    }

    pub fn answer(self) -> RemotingCommand {
        let mut answer = answer(self.code).with_remark(self.remark);
        if let Some(what) = self.forbidden {
            answer.ext.set_int("forbiddenType", what as i32);
        }
        answer
    }
}

/// An answer; the connection gives it the opaque and the serialization of its request.
pub(crate) fn answer(code: i32) -> RemotingCommand {
    RemotingCommand::response_to(&RemotingCommand::default(), code)
}

/// A queue could not be searched: its disk gives no answer, and no offset would be true.
pub(crate) fn unsearched(topic: &str, queue: i32, error: &std::io::Error) -> Refusal {
    Refusal::new(response::SYSTEM_ERROR, format!("search queue {queue} of {topic}: {error}"))
}

/// Either way an answer.
pub(crate) fn answer_of(result: Result<RemotingCommand, Refusal>) -> RemotingCommand {
    result.unwrap_or_else(Refusal::answer)
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Refusal {
        Refusal::new(response::SYSTEM_ERROR, error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        Refusal::new(response::SYSTEM_ERROR, error.to_string())
    }
}

impl From<TableError> for Refusal {
    fn from(error: TableError) -> Refusal {
        Refusal::new(response::SYSTEM_ERROR, error.to_string())
    }
}

/// Of a topic for which [`crate::store::MessageStore::is_of_batches`].
pub(crate) fn of_batches(topic: &str) -> Refusal {
    let error = PutError::QueuesOfBatches { topic: topic.to_owned() };
    Refusal::new(response::SYSTEM_ERROR, error.to_string())
}

/// # Source
/// Store format, section 16: what each outcome of a put is answered with. All of these mean: not stored, and it never will be.
impl From<PutError> for Refusal {
    fn from(error: PutError) -> Refusal {
        let code = match &error {
            PutError::Illegal(_)
            | PutError::BodyTooLarge { .. }
            | PutError::RecordTooLarge { .. }
            | PutError::EmptyBatch
            | PutError::QueuesOfBatches { .. } => response::MESSAGE_ILLEGAL,
            PutError::NotWritable(why) => return not_writable(*why),
            PutError::SegmentFailed { .. } | PutError::SegmentTimeout { .. } => response::SYSTEM_ERROR,
        };
        Refusal::new(code, error.to_string())
    }
}

fn not_writable(why: WhyNot) -> Refusal {
    if why == WhyNot::PoolFull {
        return Refusal::new(response::SYSTEM_BUSY, format!("[REJECTREQUEST]system busy: {why}"));
    }
    Refusal::new(response::SERVICE_NOT_AVAILABLE, format!("service not available now: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_is_busy_and_a_full_disk_is_no_service() {
        let code = |why| Refusal::from(PutError::NotWritable(why)).code;
        assert_eq!(code(WhyNot::PoolFull), response::SYSTEM_BUSY);
        assert_eq!(code(WhyNot::DiskFull), response::SERVICE_NOT_AVAILABLE);
        assert_eq!(code(WhyNot::FlushBehind), response::SERVICE_NOT_AVAILABLE);
    }
}

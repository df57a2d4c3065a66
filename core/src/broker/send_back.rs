//! Send-backs: a consumer hands a message back that it could not handle. Code 36.
//!
//! They are not supported, and no client may take the refusal for success, since it would then commit past its message
//! and the group would never see it again.

use crate::remoting::RemotingCommand;
use crate::remoting::connection::{Answer, unsupported};
use crate::remoting::language::LanguageCode;

/// Java, C++ and Node keep a message whose send-back is refused, and handle it again after five seconds.
///
/// Go's client does not look at an answer's code: any answer means success to it. Left without one it gives up after
/// three seconds, keeps the message, and handles it again five seconds later.
///
/// # Source
/// apache/rocketmq-client-go v2.1.2, `pushConsumer#sendMessageBack`.
pub(crate) fn refuse(request: &RemotingCommand) -> Answer {
    match request.language {
        LanguageCode::GO => Answer::Never,
        _ => Answer::Now(unsupported(request)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remoting::codes::{request as ask, response};

    #[test]
    fn a_client_that_would_take_a_refusal_for_success_gets_none() {
        let from = |language| {
            let mut request = RemotingCommand::request(ask::CONSUMER_SEND_MSG_BACK);
            request.language = language;
            refuse(&request)
        };
        assert!(matches!(from(LanguageCode::GO), Answer::Never));
        for language in [LanguageCode::JAVA, LanguageCode::CPP, LanguageCode::OTHER] {
            let Answer::Now(answer) = from(language) else { panic!("{language:?} is answered") };
            assert_eq!(answer.code, response::REQUEST_CODE_NOT_SUPPORTED);
        }
    }
}

//! What becomes of a message that a consumer hands back.

use crate::broker_node::*;
use hotfire_core::message::properties;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_core::remoting::language::LanguageCode;
use hotfire_tests::TempDir;

/// Hands back the record at `offset`, as a client in `language`.
fn send_back(offset: u64, language: LanguageCode) -> RemotingCommand {
    let header = ConsumerSendMsgBackHeader {
        offset: i64::try_from(offset).expect("a small offset"),
        group: "CG".to_owned(),
        ..Default::default()
    };
    let mut request = RemotingCommand::request(ask::CONSUMER_SEND_MSG_BACK).with_header(&header);
    request.language = language;
    request
}

#[test]
fn a_client_that_commits_past_a_refused_send_back_finds_its_message_in_the_retry_topic() {
    run(async {
        for config in [config(), sync_flush()] {
            let dir = TempDir::new("send-back");
            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            client.done(send(&send_header("Life", 0, "KEYS\u{1}k\u{2}TAGS\u{1}A"), "again")).await;
            let mut wait = pull_header("Life", 0, 0, "*");
            (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
            let sent = messages(&client.done(pull(&wait)).await).remove(0);

            for (times, language) in [(1, LanguageCode::GO), (2, LanguageCode::CPP)] {
                let before = match times {
                    1 => sent.clone(),
                    _ => messages(&client.done(pull(&pull_header("%RETRY%CG", 0, 0, "*"))).await).remove(0),
                };
                let answer = client.done(send_back(before.physical_offset, language)).await;
                assert_eq!(answer.ext.len(), 0, "an answer to 36 has no fields");
                let mut wait = pull_header("%RETRY%CG", 0, times - 1, "*");
                (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
                let retried = messages(&client.done(pull(&wait)).await).remove(0);
                assert_eq!((&retried.body[..], retried.reconsume_times), (&b"again"[..], times as i32));
                let kept = properties::decode(&retried.properties);
                assert_eq!(kept.get(properties::RETRY_TOPIC), Some("Life"));
                let origin = sent.offset_message_id();
                assert_eq!(kept.get(properties::ORIGIN_MESSAGE_ID), Some(origin.as_str()));
                assert_eq!((kept.get(properties::KEYS), kept.get(properties::TAGS)), (Some("k"), Some("A")));
            }
            broker.stop().await.expect("a clean stop");
        }
    });
}

#[test]
fn a_client_that_keeps_a_refused_message_is_refused() {
    run(async {
        let dir = TempDir::new("send-back-refused");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        let answer = client.ask(send_back(0, LanguageCode::JAVA)).await;
        assert_eq!(answer.code, response::REQUEST_CODE_NOT_SUPPORTED);
        let answer = client.ask(send_back(123, LanguageCode::GO)).await;
        assert_eq!(answer.code, response::SYSTEM_ERROR, "there is no such record");
        broker.stop().await.expect("a clean stop");
    });
}

//! What one message costs in the codec: reading its request, writing its answer, reading a pull.
//!
//! The headers are those of the Java 4.9.7 client in `tests/golden`.

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hotfire_core::remoting::{
    FLAG_RESPONSE, RemotingCommand, SerializeType, TypedHeader, frame,
    headers::{PullMessageHeader, SendMessageHeader, SendMessageResponse},
};
use std::hint::black_box;

const SEND: &str = r#"{"code":310,"extFields":{"a":"WPG_A","b":"WireA","c":"TBW102","d":"4","e":"1","f":"0","g":"1795435738325","h":"0","i":"KEYS\u0001k1\u0002UNIQ_KEY\u00017F000001454A5FFD2B2773E74CD20000\u0002WAIT\u0001true\u0002TAGS\u0001TagA","j":"0","k":"false","m":"false","n":"golden-a"},"flag":0,"language":"JAVA","opaque":5,"serializeTypeCurrentRPC":"JSON","version":407}"#;

const PULL: &str = r#"{"code":11,"extFields":{"queueId":"3","maxMsgNums":"32","sysFlag":"2","suspendTimeoutMillis":"15000","commitOffset":"0","bname":"golden-a","topic":"WireA","queueOffset":"0","expressionType":"TAG","subVersion":"1795435743610","consumerGroup":"WCG_A"},"flag":0,"language":"JAVA","opaque":26,"serializeTypeCurrentRPC":"JSON","version":407}"#;

/// Frames of one request in a row, as they lie in a read buffer.
fn frames(header: &str, body: &[u8], count: usize) -> BytesMut {
    let mut buf = BytesMut::new();
    for _ in 0..count {
        buf.extend_from_slice(&((4 + header.len() + body.len()) as u32).to_be_bytes());
        buf.extend_from_slice(&(header.len() as u32).to_be_bytes());
        buf.extend_from_slice(header.as_bytes());
        buf.extend_from_slice(body);
    }
    buf
}

fn next(buf: &mut BytesMut) -> RemotingCommand {
    frame::decode(buf).expect("a frame").expect("whole")
}

fn send_response(opaque: i32) -> RemotingCommand {
    let mut response = RemotingCommand::request(0);
    response.flag = FLAG_RESPONSE;
    response.opaque = opaque;
    response.ext.set_str("MSG_REGION", "DefaultRegion");
    response.ext.set_str("TRACE_ON", "true");
    response.with_header(&SendMessageResponse {
        msg_id: "7F000001000051AF0000000000000000".into(),
        queue_id: 1,
        queue_offset: 123_456,
        transaction_id: None,
    })
}

fn codec(criterion: &mut Criterion) {
    const BURST: usize = 64;
    let send = frames(SEND, &[b'x'; 128], BURST);
    let pull = frames(PULL, &[], BURST);

    // A burst of pipelined requests in one buffer, per request.
    criterion.bench_function("decode 64 send requests with their headers", |bench| {
        bench.iter_batched_ref(
            || BytesMut::from(&send[..]),
            |buf| {
                for _ in 0..BURST {
                    let command = next(buf);
                    black_box(
                        SendMessageHeader::decode_send(command.code, &command.ext).expect("a send header"),
                    );
                }
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("decode 64 send requests", |bench| {
        bench.iter_batched_ref(
            || BytesMut::from(&send[..]),
            |buf| {
                for _ in 0..BURST {
                    black_box(next(buf));
                }
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("decode 64 pull requests with their headers", |bench| {
        bench.iter_batched_ref(
            || BytesMut::from(&pull[..]),
            |buf| {
                for _ in 0..BURST {
                    black_box(PullMessageHeader::decode(&next(buf).ext).expect("a pull header"));
                }
            },
            BatchSize::SmallInput,
        );
    });
    let mut head = BytesMut::with_capacity(1024);
    for serialize_type in [SerializeType::Json, SerializeType::RocketMq] {
        let mut response = send_response(5);
        response.serialize_type = serialize_type;
        criterion.bench_function(&format!("encode a send response, {serialize_type:?}"), |bench| {
            bench.iter(|| {
                head.clear();
                frame::encode(black_box(&response), &mut head);
            });
        });
    }
    criterion.bench_function("build and encode a send response", |bench| {
        bench.iter(|| {
            head.clear();
            frame::encode(&send_response(black_box(5)), &mut head);
        });
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);

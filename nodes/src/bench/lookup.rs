//! Finds the broker to load, and makes sure that the topic is there.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GET_ROUTE: i32 = 105;
const GET_CLUSTER: i32 = 106;
const CREATE_TOPIC: i32 = 17;

#[derive(Clone, Debug)]
pub struct Target {
    pub broker: SocketAddr,
    pub queues: u8,
}

/// The first master that the name server knows; the topic is created there with `queues` queues if it has no route.
///
/// # Errors
/// When the name server or the broker does not answer as expected.
pub async fn find_target(name_server: &str, topic: &str, queues: u8) -> Result<Target> {
    let found =
        call(name_server, GET_ROUTE, &json!({"topic": topic, "acceptStandardJsonOnly": "true"})).await?;
    if found.code == 0 {
        let broker = master(&found.body["brokerDatas"][0]["brokerAddrs"]).context("a master in the route")?;
        let there = found.body["queueDatas"][0]["writeQueueNums"].as_u64().unwrap_or(1).min(10);
        return Ok(Target {
            broker: resolve(&broker).await?,
            queues: u8::try_from(there)?.min(queues).max(1),
        });
    }
    let cluster = call(name_server, GET_CLUSTER, &json!({})).await?;
    let brokers = cluster.body["brokerAddrTable"].as_object().context("brokers of the cluster")?;
    let first = brokers.values().next().context("no broker has registered")?;
    let broker = master(&first["brokerAddrs"]).context("a master of the cluster")?;
    let count = queues.to_string();
    let ext = json!({"topic": topic, "defaultTopic": "TBW102", "readQueueNums": count, "writeQueueNums": count,
        "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"});
    let created = call(&broker, CREATE_TOPIC, &ext).await?;
    ensure!(created.code == 0, "the broker did not create {topic}: code {} {}", created.code, created.remark);
    Ok(Target { broker: resolve(&broker).await?, queues })
}

fn master(addresses: &Value) -> Option<String> {
    addresses.get("0").and_then(Value::as_str).map(str::to_owned)
}

async fn resolve(address: &str) -> Result<SocketAddr> {
    tokio::net::lookup_host(address)
        .await
        .with_context(|| format!("resolve {address}"))?
        .next()
        .with_context(|| format!("{address} has no address"))
}

struct Answer {
    code: i64,
    remark: String,
    body: Value,
}

async fn call(address: &str, code: i32, ext: &Value) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    let header =
        json!({"code": code, "extFields": ext, "flag": 0, "language": "JAVA", "opaque": 1, "version": 409})
            .to_string();
    let mut frame = (4 + u32::try_from(header.len())?).to_be_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(header.len())?.to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    stream.write_all(&frame).await?;
    let length = stream.read_u32().await.with_context(|| format!("{address} did not answer"))? as usize;
    ensure!((4..16 * 1024 * 1024).contains(&length), "{address} answered a frame of {length} bytes");
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    let (word, rest) = frame.split_at(4);
    let header_bytes = (u32::from_be_bytes(word.try_into()?) & 0x00FF_FFFF) as usize;
    if header_bytes > rest.len() {
        bail!("{address} answered a header of {header_bytes} bytes in a frame of {length}");
    }
    let (header, body) = rest.split_at(header_bytes);
    let header: Value = serde_json::from_slice(header).context("read the answer's header")?;
    Ok(Answer {
        code: header["code"].as_i64().unwrap_or(1),
        remark: header["remark"].as_str().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&quoted_keys(body)).unwrap_or(Value::Null),
    })
}

/// Puts quotes around integer keys, as 4.9 writes them in answers to 106.
fn quoted_keys(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 16);
    let mut at = 0;
    while at < body.len() {
        let byte = body[at];
        out.push(byte);
        at += 1;
        if byte == b'{' || byte == b',' {
            let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits > 0 && body.get(at + digits) == Some(&b':') {
                out.push(b'"');
                out.extend_from_slice(&body[at..at + digits]);
                out.push(b'"');
                at += digits;
            }
        }
    }
    out
}

//! The ceiling: a server that reads frames and answers each with a fixed send response, storing nothing.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEAD: &[u8] = br#"{"code":0,"extFields":{"queueId":"0","msgId":"7F00000100002A9F0000000000000000","TRACE_ON":"true","MSG_REGION":"DefaultRegion","queueOffset":"0"},"flag":1,"language":"JAVA","opaque":"#;
const TAIL: &[u8] = br#","serializeTypeCurrentRPC":"JSON","version":409}"#;

/// Serves until the task is dropped; `ready` is told the address.
///
/// # Errors
/// When it cannot listen.
pub async fn serve_null(listen: SocketAddr, ready: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream));
    }
}

async fn connection(mut stream: TcpStream) {
    let (mut input, mut output) = (BytesMut::with_capacity(64 * 1024), BytesMut::new());
    loop {
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Some(length) = frame_length(&input) {
            answer(&input[..length], &mut output);
            input.advance(length);
        }
        if stream.write_all_buf(&mut output).await.is_err() {
            return;
        }
        output.clear();
    }
}

fn frame_length(input: &[u8]) -> Option<usize> {
    let length = 4 + u32::from_be_bytes(input.get(..4)?.try_into().ok()?) as usize;
    (input.len() >= length).then_some(length)
}

fn answer(frame: &[u8], output: &mut BytesMut) {
    let key = b"\"opaque\":";
    let Some(at) = memchr::memmem::find(frame, key) else { return };
    let digits = frame[at + key.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let opaque = &frame[at + key.len()..at + key.len() + digits];
    let header_bytes = HEAD.len() + digits + TAIL.len();
    output.extend_from_slice(&(4 + header_bytes as u32).to_be_bytes());
    output.extend_from_slice(&(header_bytes as u32).to_be_bytes());
    output.extend_from_slice(HEAD);
    output.extend_from_slice(opaque);
    output.extend_from_slice(TAIL);
}

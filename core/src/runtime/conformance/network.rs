//! Byte streams: what a kernel shows of TCP.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::{Env, QUIET, expect_kind, pattern, within};
use crate::runtime::{Listener, ReadHalf, Runtime, Task, WriteHalf};

struct End<R: Runtime> {
    read: R::Read,
    write: R::Write,
}

async fn listen<R: Runtime>(rt: &R, env: &Env<R>) -> R::Listener {
    rt.listen(SocketAddr::new(env.ip, 0)).await.expect("listen on a free port")
}

/// The accepted end and the connecting end.
async fn pair<R: Runtime>(rt: &R, env: &Env<R>) -> (End<R>, End<R>) {
    let mut listener = listen(rt, env).await;
    let (read, write) =
        within(rt, "connect", env.peer.connect(listener.local_addr())).await.expect("connect");
    let near = End { read, write };
    let (read, write, _) = within(rt, "accept", listener.accept()).await.expect("accept");
    (End { read, write }, near)
}

async fn read_exactly<R: Runtime>(rt: &R, read: &mut R::Read, len: usize) -> BytesMut {
    let mut all = BytesMut::new();
    while all.len() < len {
        let count = within(rt, "read", read.read_buf(&mut all)).await.expect("read");
        assert_ne!(count, 0, "the stream ended after {} of {len} bytes", all.len());
    }
    assert_eq!(all.len(), len, "more arrived than was sent");
    all
}

async fn expect_end<R: Runtime>(rt: &R, read: &mut R::Read) {
    let mut rest = BytesMut::new();
    for _ in 0..2 {
        let count = within(rt, "end of stream", read.read_buf(&mut rest)).await.expect("end of stream");
        assert_eq!(count, 0, "bytes instead of the end: {rest:?}");
    }
}

async fn expect_silence<R: Runtime>(rt: &R, read: &mut R::Read) {
    let mut buf = BytesMut::with_capacity(16);
    let got = rt.timeout(QUIET, read.read_buf(&mut buf)).await;
    assert!(got.is_err(), "expected silence, got {got:?} {buf:?}");
}

pub async fn a_connection_knows_both_its_addresses<R: Runtime>(rt: R, env: Env<R>) {
    let mut listener = listen(&rt, &env).await;
    let at = listener.local_addr();
    assert_eq!(at.ip(), env.ip);
    assert_ne!(at.port(), 0, "port 0 was not replaced");
    let (client, _write) = within(&rt, "connect", env.peer.connect(at)).await.expect("connect");
    let (server, _write, from) = within(&rt, "accept", listener.accept()).await.expect("accept");
    assert_eq!(server.local_addr(), at);
    assert_eq!(client.local_addr(), from);
    assert_ne!(from.port(), 0);
}

pub async fn port_zero_gives_each_listener_its_own<R: Runtime>(rt: R, env: Env<R>) {
    let (first, second) = (listen(&rt, &env).await, listen(&rt, &env).await);
    assert_ne!(first.local_addr(), second.local_addr());
}

pub async fn a_taken_address_is_in_use_until_the_listener_is_dropped<R: Runtime>(rt: R, env: Env<R>) {
    let first = listen(&rt, &env).await;
    let at = first.local_addr();
    expect_kind(rt.listen(at).await, ErrorKind::AddrInUse, "listen twice");
    drop(first);
    let again = rt.listen(at).await.expect("listen again");
    assert_eq!(again.local_addr(), at);
}

pub async fn an_address_of_another_node_is_not_available<R: Runtime>(rt: R, env: Env<R>) {
    if let Some(ip) = env.foreign_ip {
        let listened = rt.listen(SocketAddr::new(ip, 0)).await;
        expect_kind(listened, ErrorKind::AddrNotAvailable, "listen on a foreign address");
    }
}

pub async fn connect_is_refused_where_nobody_listens<R: Runtime>(rt: R, env: Env<R>) {
    let listener = listen(&rt, &env).await;
    let at = listener.local_addr();
    drop(listener);
    let connected = within(&rt, "refusal", env.peer.connect(at)).await;
    expect_kind(connected, ErrorKind::ConnectionRefused, "connect to nobody");
}

pub async fn connections_wait_for_accept<R: Runtime>(rt: R, env: Env<R>) {
    let mut listener = listen(&rt, &env).await;
    let mut ends = Vec::new();
    for number in 0..20u8 {
        let connected = within(&rt, "connect", env.peer.connect(listener.local_addr())).await;
        let (read, mut write) = connected.expect("connect before accept");
        within(&rt, "write", write.write_all(&[number][..])).await.expect("write before accept");
        ends.push((read, write));
    }
    let mut heard = Vec::new();
    for _ in 0..20 {
        let (mut read, _write, _) = within(&rt, "accept", listener.accept()).await.expect("accept");
        heard.extend_from_slice(&read_exactly(&rt, &mut read, 1).await);
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..20).collect::<Vec<u8>>());
}

pub async fn a_connection_outlives_its_listener<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await; // the listener is dropped there
    within(&rt, "write", client.write.write_all(&b"still here"[..])).await.expect("write");
    assert_eq!(read_exactly(&rt, &mut server.read, 10).await, &b"still here"[..]);
}

pub async fn bytes_arrive_in_order_both_ways<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    let sent = pattern(1 << 20, 1);
    let (there, expected) = (sent.clone(), sent.clone());
    let echo = rt.spawn("echo", async move {
        let mut buf = BytesMut::with_capacity(1000);
        loop {
            match server.read.read_buf(&mut buf).await.expect("read of the echo") {
                0 => break,
                _ => server.write.write_all(buf.split()).await.expect("write of the echo"),
            }
        }
        server.write.shutdown().await.expect("shutdown of the echo");
        server
    });
    let mut write = client.write;
    let writer = env.peer.spawn("writer", async move {
        let mut size = 1;
        let mut rest = &there[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(size));
            write.write_all(now).await.expect("write");
            (rest, size) = (later, size * 7 % 65_521 + 1);
        }
        write.shutdown().await.expect("shutdown");
        write
    });
    let got = read_exactly(&rt, &mut client.read, sent.len()).await;
    assert!(got == expected[..], "the echo differs from what was sent");
    expect_end(&rt, &mut client.read).await;
    within(&rt, "writer", writer.join()).await.expect("writer");
    within(&rt, "echo", echo.join()).await.expect("echo");
}

pub async fn a_read_takes_no_more_than_the_spare_capacity<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    let sent = pattern(5000, 3);
    within(&rt, "write", client.write.write_all(&sent[..])).await.expect("write");
    let mut all = Vec::new();
    while all.len() < sent.len() {
        let mut buf = BytesMut::with_capacity(7);
        let spare = buf.capacity();
        let count = within(&rt, "read", server.read.read_buf(&mut buf)).await.expect("read");
        assert!(count >= 1 && count <= spare, "{count} bytes into a spare capacity of {spare}");
        assert_eq!(buf.len(), count);
        assert_eq!(buf.capacity(), spare, "the buffer grew");
        all.extend_from_slice(&buf);
    }
    assert!(all == sent, "bytes were lost between reads");
}

pub async fn try_read_would_block_when_nothing_is_there<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    let mut buf = BytesMut::with_capacity(64);
    expect_kind(server.read.try_read(&mut buf), ErrorKind::WouldBlock, "read of nothing");
    within(&rt, "write", client.write.write_all(&b"x"[..])).await.expect("write");
    let count = within(&rt, "byte", server.read.read_buf(&mut buf)).await.expect("read");
    assert_eq!((count, &buf[..]), (1, &b"x"[..]));
    expect_kind(server.read.try_read(&mut buf), ErrorKind::WouldBlock, "read after the last byte");
}

pub async fn chunks_of_one_buffer_arrive_joined<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    let (head, body, tail) = (pattern(10, 0), pattern(70_000, 10), pattern(3, 70_010));
    let whole = pattern(70_013, 0);
    let buf = head.as_slice().chain(Bytes::from(body)).chain(Bytes::new()).chain(tail.as_slice());
    let (wrote, got) = {
        let write = client.write.write_all(buf);
        let read = read_exactly(&rt, &mut server.read, whole.len());
        both(&rt, write, read).await
    };
    wrote.expect("write");
    assert!(got == whole[..], "the chunks arrived in another order or not whole");

    // More chunks than one vectored write takes.
    let many: Vec<Bytes> = pattern(300, 5).chunks(1).map(Bytes::copy_from_slice).collect();
    within(&rt, "write of many chunks", client.write.write_all(Chunks(many.into()))).await.expect("write");
    assert_eq!(read_exactly(&rt, &mut server.read, 300).await, pattern(300, 5)[..]);
}

/// Polls both to their ends; `select!` in a loop would drop one.
async fn both<R: Runtime, A, B>(rt: &R, a: A, b: B) -> (A::Output, B::Output)
where
    A: Future + Send,
    B: Future + Send,
    A::Output: Send,
    B::Output: Send,
{
    use std::pin::pin;
    use std::task::Poll;
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    let joined = std::future::poll_fn(move |context| {
        if first.is_none() {
            first = match a.as_mut().poll(context) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            };
        }
        if second.is_none() {
            second = match b.as_mut().poll(context) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            };
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    });
    within(rt, "both ends", joined).await
}

struct Chunks(std::collections::VecDeque<Bytes>);

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, chunk) in into.iter_mut().zip(&self.0) {
            *slot = std::io::IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let front = self.0.front_mut().expect("advance stays inside");
            let step = count.min(front.len());
            front.advance(step);
            count -= step;
            if front.is_empty() {
                self.0.pop_front();
            }
        }
    }
}

pub async fn an_empty_write_writes_nothing<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    let mut empty = Bytes::new();
    assert_eq!(client.write.try_write(&mut empty).expect("empty write"), 0);
    within(&rt, "empty write", client.write.write_all(Bytes::new())).await.expect("empty write");
    expect_silence(&rt, &mut server.read).await;
}

pub async fn a_closed_peer_is_the_end_of_the_stream<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    within(&rt, "write", client.write.write_all(&b"last words"[..])).await.expect("write");
    drop(client);
    assert_eq!(read_exactly(&rt, &mut server.read, 10).await, &b"last words"[..]);
    within(&rt, "readable at the end", server.read.readable()).await.expect("readable");
    expect_end(&rt, &mut server.read).await;
}

pub async fn after_a_shutdown_the_other_direction_goes_on<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    within(&rt, "write", client.write.write_all(&b"question"[..])).await.expect("write");
    within(&rt, "shutdown", client.write.shutdown()).await.expect("shutdown");
    assert_eq!(read_exactly(&rt, &mut server.read, 8).await, &b"question"[..]);
    expect_end(&rt, &mut server.read).await;
    let answer = pattern(100_000, 9);
    let (wrote, got) = {
        let write = server.write.write_all(&answer[..]);
        both(&rt, write, read_exactly(&rt, &mut client.read, answer.len())).await
    };
    wrote.expect("write after the peer's shutdown");
    assert!(got == answer[..]);
    let refused = within(&rt, "write after shutdown", client.write.write_all(&b"more"[..])).await;
    expect_kind(refused, ErrorKind::BrokenPipe, "write after shutdown");
}

pub async fn one_dropped_half_does_not_close<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, client) = pair(&rt, &env).await;
    let End { mut read, write } = client;
    drop(write);
    expect_silence(&rt, &mut server.read).await;
    within(&rt, "write", server.write.write_all(&b"hello"[..])).await.expect("write");
    assert_eq!(read_exactly(&rt, &mut read, 5).await, &b"hello"[..]);
    drop(read);
    expect_end(&rt, &mut server.read).await;
}

pub async fn closing_with_unread_bytes_resets<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    within(&rt, "write", client.write.write_all(&b"never read"[..])).await.expect("write");
    let mut buf = BytesMut::with_capacity(1);
    let count = within(&rt, "arrival", server.read.read_buf(&mut buf)).await.expect("read a part");
    assert!(count < 10, "more than the spare capacity was read");
    drop(server);
    let read = within(&rt, "reset", client.read.read_buf(&mut buf)).await;
    expect_kind(read, ErrorKind::ConnectionReset, "read after the peer closed with unread bytes");
}

pub async fn writing_to_a_closed_peer_fails<R: Runtime>(rt: R, env: Env<R>) {
    let (server, mut client) = pair(&rt, &env).await;
    drop(server);
    let error = within(&rt, "failure of writes", async {
        loop {
            match client.write.write_all(&b"anybody there?"[..]).await {
                Ok(()) => rt.sleep(Duration::from_millis(1)).await,
                Err(error) => return error,
            }
        }
    })
    .await;
    let kind = error.kind();
    assert!(
        kind == ErrorKind::BrokenPipe || kind == ErrorKind::ConnectionReset,
        "expected BrokenPipe or ConnectionReset, got {error:?}"
    );
    // Whoever waits to write learns of the end too.
    let _ = within(&rt, "writable after the end", client.write.writable()).await;
}

pub async fn a_peer_that_never_reads_makes_writes_wait<R: Runtime>(rt: R, env: Env<R>) {
    let (mut server, mut client) = pair(&rt, &env).await;
    let piece = pattern(65_521, 2);
    let mut taken = 0;
    let mut rest = Bytes::new();
    loop {
        if rest.is_empty() {
            rest = Bytes::copy_from_slice(&piece);
        }
        let before = rest.len();
        match client.write.try_write(&mut rest) {
            Ok(count) => {
                assert!(count > 0, "a write of {before} bytes took none and gave no error");
                assert_eq!(before - rest.len(), count, "the buffer was not advanced by what was taken");
                taken += count;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                assert_eq!(rest.len(), before, "a write that would block took bytes");
                if rt.timeout(QUIET, client.write.writable()).await.is_err() {
                    break;
                }
            }
        }
        assert!(taken <= env.unread_bytes_max, "{taken} bytes were taken with nobody reading");
    }
    assert!(taken > 0, "nothing was taken at all");

    // Once the peer reads, the wait ends and nothing is missing.
    let End { read: _client_read, mut write } = client;
    let writer = env.peer.spawn("rest", async move { write.write_all(rest).await.map(|()| write) });
    let whole = taken.div_ceil(piece.len()) * piece.len();
    let got = read_exactly(&rt, &mut server.read, whole).await;
    for (number, part) in got.chunks(piece.len()).enumerate() {
        assert!(part == &piece[..], "piece {number} differs");
    }
    within(&rt, "writer", writer.join()).await.expect("writer").expect("write of the rest");
}

pub async fn waits_can_be_given_up<R: Runtime>(rt: R, env: Env<R>) {
    let mut listener = listen(&rt, &env).await;
    assert!(rt.timeout(QUIET, listener.accept()).await.is_err(), "accepted nobody");
    let connected = within(&rt, "connect", env.peer.connect(listener.local_addr())).await;
    let (_client_read, mut write) = connected.expect("connect");
    let (mut read, _server_write, _) = within(&rt, "accept", listener.accept()).await.expect("accept");
    let mut buf = BytesMut::with_capacity(64);
    assert!(rt.timeout(QUIET, read.read_buf(&mut buf)).await.is_err(), "read without bytes");
    // Nothing has come since that read found nothing, so nothing is readable.
    assert!(rt.timeout(QUIET, read.readable()).await.is_err(), "readable without bytes");
    assert!(buf.is_empty());
    within(&rt, "write", write.write_all(&b"abc"[..])).await.expect("write");
    assert_eq!(read_exactly(&rt, &mut read, 3).await, &b"abc"[..]);
}

pub async fn names_and_literals_resolve<R: Runtime>(rt: R, env: Env<R>) {
    let literal = within(&rt, "resolve", rt.resolve("192.0.2.7", 9876)).await.expect("a literal");
    assert_eq!(literal, [SocketAddr::from(([192, 0, 2, 7], 9876))]);
    let (name, ip) = &env.known_host;
    let known = within(&rt, "resolve", rt.resolve(name, 10_911)).await.expect("a known name");
    assert!(known.contains(&SocketAddr::new(*ip, 10_911)), "{name} is {known:?}, without {ip}");
    if let Some(name) = &env.unknown_host {
        let error = within(&rt, "resolve", rt.resolve(name, 1)).await.expect_err("an unknown name");
        let kind = error.kind();
        assert!(
            kind == ErrorKind::NotFound || kind == ErrorKind::TimedOut,
            "expected NotFound or TimedOut, got {error:?}"
        );
    }
}

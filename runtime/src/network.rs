//! Byte streams on tokio sockets.
//!
//! Both halves share one socket, which is closed when the second of them is dropped. Tokio's own halves would send FIN
//! when the writing one is dropped.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use hotfire_core::runtime::network::{self, Network};
use nix::sys::socket::{self, Shutdown};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::TokioRuntime;

/// Connections that the kernel holds for an `accept` to come.
const BACKLOG: u32 = 1024;

/// Chunks given to the kernel in one write; the rest follows in the next.
const WRITE_CHUNKS_MAX: usize = 64;

impl Network for TokioRuntime {
    type Listener = Listener;
    type Read = ReadHalf;
    type Write = WriteHalf;

    async fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the connections of the process before it to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Listener { local: listener.local_addr()?, listener })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<(ReadHalf, WriteHalf)> {
        split(TcpStream::connect(to).await?)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| io::Error::new(resolve_error_kind(&error), format!("resolve {host}: {error}")))?
            .collect();
        if found.is_empty() {
            return Err(io::Error::new(ErrorKind::NotFound, format!("resolve {host}: no address")));
        }
        Ok(found)
    }
}

/// The standard library passes getaddrinfo's verdict on as a text only; the C libraries' words for EAI_AGAIN ("no answer
/// for now") are known, everything else means that the name has no address.
fn resolve_error_kind(error: &io::Error) -> ErrorKind {
    if error.raw_os_error().is_some() {
        return error.kind();
    }
    let text = error.to_string();
    let no_answer = ["Temporary failure", "Try again", "temporarily"];
    if no_answer.iter().any(|words| text.contains(words)) { ErrorKind::TimedOut } else { ErrorKind::NotFound }
}

fn split(stream: TcpStream) -> io::Result<(ReadHalf, WriteHalf)> {
    // Answers are written whole, so there is nothing to wait for.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream = Arc::new(stream);
    Ok((ReadHalf { stream: stream.clone(), local }, WriteHalf(stream)))
}

pub struct Listener {
    listener: TcpListener,
    local: SocketAddr,
}

impl network::Listener for Listener {
    type Read = ReadHalf;
    type Write = WriteHalf;

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    async fn accept(&mut self) -> io::Result<(ReadHalf, WriteHalf, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        let (read, write) = split(stream)?;
        Ok((read, write, peer))
    }
}

pub struct ReadHalf {
    stream: Arc<TcpStream>,
    local: SocketAddr,
}

impl network::ReadHalf for ReadHalf {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    async fn readable(&mut self) -> io::Result<()> {
        self.stream.readable().await
    }

    #[inline]
    fn try_read(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        let room = buf.capacity() - buf.len();
        debug_assert!(room > 0, "a read into a buffer without spare capacity");
        // A read that did not fill its room has emptied the socket. Tokio is told so, or the next `readable` would resolve at
        // once and cost a system call that finds nothing. Bytes that come meanwhile are a new event, which this cannot clear.
        let mut taken = None;
        let result = self.stream.try_io(Interest::READABLE, || {
            let count = self.stream.try_read_buf(buf)?;
            taken = Some(count);
            if 0 < count && count < room { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
        });
        taken.map_or(result, Ok)
    }
}

pub struct WriteHalf(Arc<TcpStream>);

impl network::WriteHalf for WriteHalf {
    async fn writable(&mut self) -> io::Result<()> {
        self.0.writable().await
    }

    #[inline]
    fn try_write<B: Buf + Send>(&mut self, buf: &mut B) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); WRITE_CHUNKS_MAX];
        let taken = match buf.chunks_vectored(&mut slices) {
            0 => return Ok(0),
            1 => self.0.try_write(&slices[0])?,
            count => self.0.try_write_vectored(&slices[..count])?,
        };
        buf.advance(taken);
        Ok(taken)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        socket::shutdown(self.0.as_raw_fd(), Shutdown::Write)?;
        Ok(())
    }
}

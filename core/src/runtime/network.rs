//! Byte streams. Framing is protocol code and is tested as such.
//!
//! What both runtimes show, as a kernel does: bytes arrive in order, split and merged at any byte; a write into full buffers
//! waits; a peer that dies sends FIN or RST, a host that dies sends nothing; a connect across a cut hangs until the
//! system gives up, so callers put a timeout around it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};

pub trait Network {
    type Listener: Listener<Read = Self::Read, Write = Self::Write>;
    type Read: ReadHalf;
    type Write: WriteHalf;

    /// Listens at `at`; port 0 picks a free one, see [`Listener::local_addr`].
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there, `AddrNotAvailable` when the address is not this node's.
    fn listen(&self, at: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Connects. Both halves belong to one connection; it is closed when both are dropped.
    ///
    /// # Errors
    /// `ConnectionRefused` when nobody listens, `TimedOut` after the system's own limit, `HostUnreachable`.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<(Self::Read, Self::Write)>> + Send;

    /// All addresses of `host` (a name or a literal) with `port`, in the resolver's order, at least one.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `TimedOut` when the resolver did not answer.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

pub trait Listener: Send + 'static {
    type Read: ReadHalf;
    type Write: WriteHalf;

    fn local_addr(&self) -> SocketAddr;

    /// The next connection, and the peer's address. Cancel-safe.
    ///
    /// # Errors
    /// Of the system, such as no descriptors left: the caller waits a little and goes on.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Read, Self::Write, SocketAddr)>> + Send;
}

pub trait ReadHalf: Send + 'static {
    /// The address of our end.
    fn local_addr(&self) -> SocketAddr;

    /// Resolves when [`Self::try_read`] would not answer `WouldBlock` (bytes, end of stream or an error), now and then
    /// too early: then it does, and the caller waits again. Cancel-safe. An idle connection waits here and holds no buffer.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Appends what is there to `buf`, at most its spare capacity (at least 1 byte must be spare); 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, `ConnectionReset` and `TimedOut` from the connection. A reset discards unread bytes.
    fn try_read(&mut self, buf: &mut BytesMut) -> io::Result<usize>;

    /// Waits for bytes and appends them; 0 at the end of the stream. Cancel-safe.
    fn read_buf(&mut self, buf: &mut BytesMut) -> impl Future<Output = io::Result<usize>> + Send {
        async move {
            loop {
                self.readable().await?;
                if buf.capacity() == buf.len() {
                    buf.reserve(4096);
                }
                match self.try_read(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
            }
        }
    }
}

pub trait WriteHalf: Send + 'static {
    /// Resolves when [`Self::try_write`] would take at least one byte, or answer an error; now and then too early, as
    /// [`ReadHalf::readable`]. Cancel-safe.
    fn writable(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Gives the system what it takes of `buf` now (several chunks in one call), advances `buf` and returns the count.
    ///
    /// # Errors
    /// `WouldBlock` when the buffers are full, `BrokenPipe` or `ConnectionReset` when the peer is gone, `TimedOut`
    /// when it stopped acknowledging.
    fn try_write<B: Buf + Send>(&mut self, buf: &mut B) -> io::Result<usize>;

    /// Waits until at least one byte was taken. Cancel-safe: `buf` is advanced by exactly what was taken.
    fn write_some<B: Buf + Send>(&mut self, buf: &mut B) -> impl Future<Output = io::Result<usize>> + Send {
        async move {
            loop {
                self.writable().await?;
                match self.try_write(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
            }
        }
    }

    /// Writes all of `buf`.
    fn write_all<B: Buf + Send>(&mut self, mut buf: B) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            while buf.has_remaining() {
                self.write_some(&mut buf).await?;
            }
            Ok(())
        }
    }

    /// Sends FIN after what was written. The other direction stays open.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

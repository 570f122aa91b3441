//! The system's side of a client's connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A stream of the kernel's: TCP's, or one of the file system.
pub(super) type Socket = Either<TcpStream, UnixStream>;

/// One of TCP's.
pub(super) fn tcp(stream: TcpStream) -> Socket {
    // A connection that is gone already says so at its first read.
    let _ = stream.set_nodelay(true);
    // The system's probes end tunnels whose client is gone without a word.
    let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
    Either::Left(stream)
}

/// Its descriptor.
pub(super) fn descriptor(socket: &Socket) -> BorrowedFd<'_> {
    match socket {
        Either::Left(stream) => stream.as_fd(),
        Either::Right(stream) => stream.as_fd(),
    }
}

/// Has its close be a reset. One in the file system knows none: there the end is an end.
pub(super) fn reset_at_close(socket: &Socket) {
    if let Either::Left(stream) = socket {
        // If it can't be set, the close that follows is all that is left.
        let _ = stream.set_zero_linger();
    }
}

/// Ready when a write may find room.
pub(super) fn poll_write_ready(socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match socket {
        Either::Left(stream) => stream.poll_write_ready(cx),
        Either::Right(stream) => stream.poll_write_ready(cx),
    }
}

/// Does a write that may find no room.
pub(super) fn try_write(socket: &Socket, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    match socket {
        Either::Left(stream) => stream.try_io(Interest::WRITABLE, write),
        Either::Right(stream) => stream.try_io(Interest::WRITABLE, write),
    }
}

/// Writes what there is room for, whether the kernel has said that there is any: it does so only once a third of its
/// buffer is free, which a slow reader of megabytes takes long to bring about.
pub(super) fn write_now(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(descriptor(socket), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

//! Where clients connect: addresses and sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, UnixListener};
use tokio_util::either::Either;

use super::socket::{self, Socket};

/// Who may connect to a socket in the file system: larder's user and group.
const MODE: u32 = 0o660;

/// A place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp {
        /// The address; port 0 is a free one.
        at: SocketAddr,
        /// Whether it stays without TLS where there are certificates.
        plain: bool,
    },
    /// A socket in the file system, without TLS.
    Unix(PathBuf),
}

/// A text isn't the address of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an IP address and a port nor unix: and an absolute path")]
pub struct BadAddress;

/// Longest path of a socket (`unix(7)`, `sun_path` with its final NUL).
const LONGEST_PATH: usize = 107;

impl FromStr for ListenAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.starts_with('/') && path.len() <= LONGEST_PATH && !path.contains('\0');
            return if fits { Ok(Self::Unix(path.into())) } else { Err(BadAddress) };
        }
        let (plain, at) = match text.strip_prefix("plain:") {
            Some(at) => (true, at),
            None => (false, text),
        };
        at.parse().map(|at| Self::Tcp { at, plain }).map_err(|_| BadAddress)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { at, plain: false } => write!(f, "{at}"),
            Self::Tcp { at, plain: true } => write!(f, "plain:{at}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// Its address and port, if it has one.
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { at, .. } => Some(*at),
            Self::Unix(_) => None,
        }
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody has the port.
    #[error(
        "server.listen {address} is in use by another process, or another entry listens there too ([::] takes 0.0.0.0 as well); stop that one or choose another (server.listen)"
    )]
    InUse {
        /// The address.
        address: ListenAddress,
    },
    /// The address can't be had.
    #[error(
        "can't listen on {address}: {reason}; choose an address of this machine, or a path that larder may write (server.listen)"
    )]
    Listen {
        /// The address.
        address: ListenAddress,
        /// Why not.
        reason: io::Error,
    },
}

/// Everything that listens.
#[derive(Debug)]
pub(crate) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    bound: Bound,
    plain: bool,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// What came.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    /// `None`: through the file system.
    pub(super) address: Option<IpAddr>,
    /// Whether it stays without TLS in any case.
    pub(super) plain: bool,
}

impl Listeners {
    /// Opens all, or none.
    pub(crate) async fn bind(addresses: &[ListenAddress]) -> Result<Self, Error> {
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(Listener::bind(address).await.map_err(|reason| {
                let address = address.clone();
                match reason.kind() {
                    io::ErrorKind::AddrInUse => Error::InUse { address },
                    _ => Error::Listen { address, reason },
                }
            })?);
        }
        Ok(Self(listeners))
    }

    /// Where they are; a port 0 has become another one.
    pub(crate) fn addresses(&self) -> io::Result<Vec<ListenAddress>> {
        self.0.iter().map(Listener::address).collect()
    }

    /// The next connection of any, the listener after `last` first; also which one it came to.
    pub(super) async fn accept(&self, last: usize) -> (usize, io::Result<Accepted>) {
        std::future::poll_fn(|cx| {
            for step in 1..=self.0.len() {
                let at = (last + step) % self.0.len();
                if let Some(Poll::Ready(accepted)) = self.0.get(at).map(|listener| listener.poll_accept(cx)) {
                    return Poll::Ready((at, accepted));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Listener {
    async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp { at, plain } => {
                Ok(Self { bound: Bound::Tcp(TcpListener::bind(at).await?), plain: *plain })
            }
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
                Ok(Self { bound: Bound::Unix(listener, SocketFile::at(path)?), plain: true })
            }
        }
    }

    fn address(&self) -> io::Result<ListenAddress> {
        match &self.bound {
            Bound::Tcp(listener) => Ok(ListenAddress::Tcp { at: listener.local_addr()?, plain: self.plain }),
            Bound::Unix(_, file) => Ok(ListenAddress::Unix(file.path.clone())),
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let (socket, address) = match &self.bound {
            Bound::Tcp(listener) => match std::task::ready!(listener.poll_accept(cx)) {
                Ok((stream, peer)) => (socket::tcp(stream), Some(peer.ip().to_canonical())),
                Err(error) => return Poll::Ready(Err(error)),
            },
            Bound::Unix(listener, _) => match std::task::ready!(listener.poll_accept(cx)) {
                Ok((stream, _)) => (Either::Right(stream), None),
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        Poll::Ready(Ok(Accepted { socket, address, plain: self.plain }))
    }
}

/// Removes a socket that nobody listens to any more; a process that was killed leaves it behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

/// A socket's file: removed with its listener, unless it has become somebody else's.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // A file that stays is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:80", "[::1]:0", "plain:127.0.0.1:80", "unix:/run/larder.sock", "unix:/a b"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(LONGEST_PATH));
        for text in ["", "80", "localhost:80", "unix:", "unix:run/x", "plain:unix:/x", "unix:/a\0b", &long] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_in_the_file_system_comes_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("larder.sock");
        let addresses = [ListenAddress::Unix(path.clone())];
        let first = Listeners::bind(&addresses).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let second = Listeners::bind(&addresses).await.unwrap_err();
        assert!(matches!(second, Error::InUse { .. }), "{second}");
        assert!(path.exists(), "it is the first one's");
        drop(first);
        assert!(!path.exists());
        // What a killed one leaves.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let third = Listeners::bind(&addresses).await.unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(third);
        assert!(path.exists());
        assert!(Listeners::bind(&addresses).await.is_err(), "no socket: nothing of ours");
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's");
    }
}

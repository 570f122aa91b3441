//! A listening socket that can be shut, slammed and opened again on the same port.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// How many connections the kernel may queue.
const BACKLOG: u32 = 1024;

/// How long a copy of a listener that was closed may live on.
const COPIES_GO: Duration = Duration::from_secs(1);

/// How a server treats those who connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listening {
    /// As usual.
    #[default]
    Open,
    /// Nobody listens: connecting is refused. Connections that are open already are cut.
    Refuse,
    /// Connections are accepted and closed at once.
    Slam,
}

/// One server's entrance and the connections that came through it.
pub(crate) struct Door {
    address: SocketAddr,
    runtime: Handle,
    state: Mutex<State>,
}

struct State {
    listening: Listening,
    socket: Socket,
    waker: Option<Waker>,
    connections: JoinSet<()>,
}

enum Socket {
    Listening(TcpListener),
    /// Bound and silent: the port stays ours and refuses.
    Bound(TcpSocket),
    Gone,
}

impl Door {
    /// Listens at `address`.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(address).await?;
        let state = State {
            listening: Listening::Open,
            socket: Socket::Gone,
            waker: None,
            connections: JoinSet::new(),
        };
        let address = listener.local_addr()?;
        let state = Mutex::new(State { socket: Socket::Listening(listener), ..state });
        Ok(Arc::new(Self { address, runtime: Handle::current(), state }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn listening(&self) -> Listening {
        self.state.lock().listening
    }

    /// Changes how callers are treated, before it returns.
    pub(crate) fn set(&self, listening: Listening) -> io::Result<()> {
        let mut state = self.state.lock();
        state.listening = listening;
        let refuse = listening == Listening::Refuse;
        state.socket = match std::mem::replace(&mut state.socket, Socket::Gone) {
            Socket::Listening(listener) if refuse => {
                drop(listener);
                state.connections.abort_all();
                Socket::Bound(self.hold()?)
            }
            Socket::Bound(socket) if !refuse => {
                let _context = self.runtime.enter();
                Socket::Listening(socket.listen(BACKLOG)?)
            }
            same => same,
        };
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Ends listening and every connection, for good.
    pub(crate) fn tear_down(&self) {
        let mut state = self.state.lock();
        state.listening = Listening::Refuse;
        state.socket = Socket::Gone;
        state.connections.abort_all();
    }

    fn hold(&self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        let begun = Instant::now();
        loop {
            match socket.bind(self.address) {
                // A program that is being started has a copy of our listener between its fork and its exec.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < COPIES_GO => {
                    std::thread::yield_now();
                }
                bound => return bound.map(|()| socket),
            }
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let mut state = self.state.lock();
        state.waker = Some(context.waker().clone());
        match &state.socket {
            Socket::Listening(listener) => listener.poll_accept(context),
            Socket::Bound(_) | Socket::Gone => Poll::Pending,
        }
    }

    /// Accepts for ever, each connection served in a task that ends with the door.
    pub(crate) async fn accept<S, F>(self: Arc<Self>, serve: S)
    where
        S: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            // An accept that fails (out of descriptors) must not starve those who could free some.
            let Ok((stream, peer)) = poll_fn(|context| self.poll_accept(context)).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let connection = serve(stream, peer);
            let mut state = self.state.lock();
            while state.connections.try_join_next().is_some() {}
            if state.listening == Listening::Open {
                state.connections.spawn(connection);
            }
        }
    }
}

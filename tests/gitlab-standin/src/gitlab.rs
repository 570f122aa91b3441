//! The stand-in as tests hold it.

mod people;
mod pipelines;
mod watch;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::counters::Tally;
use crate::net::{Door, Listening};
use crate::seen::Log;
use crate::server::{self, Server, Shared};
use crate::settings::{Identity, Setup};
use crate::world::World;

/// A running GitLab with its object store. Both end when it is dropped.
pub struct GitLab {
    shared: Arc<Shared>,
    gitlab: Arc<Door>,
    store: Arc<Door>,
    tls: Option<Arc<Door>>,
    tasks: Vec<AbortHandle>,
}

impl GitLab {
    /// Starts both servers on the current tokio runtime. Fails if an address can't be had or the TLS identity is
    /// none.
    pub async fn start(setup: Setup) -> io::Result<Self> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (gitlab, store) = (Door::bind(setup.listen).await?, Door::bind(free).await?);
        let identity = setup.identity.as_ref().map(|identity| acceptor(identity, setup.http2)).transpose()?;
        let shared = Arc::new(Shared {
            root: setup.root.clone(),
            bare: setup.bare,
            world: Mutex::new(World::new(setup, format!("http://{}", store.address()))),
            tally: Tally::default(),
            faults: Arc::default(),
            log: Log::default(),
        });
        let mut tasks = vec![
            spawn(server::plain(Arc::clone(&shared), Arc::clone(&gitlab), Server::Gitlab)),
            spawn(server::plain(Arc::clone(&shared), Arc::clone(&store), Server::Store)),
        ];
        let mut tls = None;
        if let Some(acceptor) = identity {
            let door = Door::bind(free).await?;
            tasks.push(spawn(secure(Arc::clone(&shared), Arc::clone(&door), acceptor)));
            tls = Some(door);
        }
        Ok(Self { shared, gitlab, store, tls, tasks })
    }

    /// `http://127.0.0.1:PORT` with the relative root, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.gitlab.address(), self.shared.root)
    }

    /// The same over TLS, if [`Setup::tls`] was given: `https://localhost:PORT` with the relative root. The listener
    /// itself is at 127.0.0.1.
    pub fn tls_url(&self) -> Option<String> {
        let port = self.tls.as_ref()?.address().port();
        Some(format!("https://localhost:{port}{}", self.shared.root))
    }

    /// `http://127.0.0.1:PORT` of the object store.
    pub fn store_url(&self) -> String {
        format!("http://{}", self.store.address())
    }

    /// GitLab's address.
    pub fn address(&self) -> SocketAddr {
        self.gitlab.address()
    }

    /// The address of the TLS listener.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|door| door.address())
    }

    /// The object store's address.
    pub fn store_address(&self) -> SocketAddr {
        self.store.address()
    }

    /// Shuts, slams or opens a server's door; effective when it returns. Unreachable is
    /// [`Listening::Refuse`]; the port stays the same. Fails if the system refuses to bind or listen again.
    pub fn set_listening(&self, server: Server, listening: Listening) -> io::Result<()> {
        match server {
            Server::Gitlab => {
                self.gitlab.set(listening)?;
                self.tls.as_ref().map_or(Ok(()), |door| door.set(listening))
            }
            Server::Store => {
                self.shared.world.lock().store_down = listening != Listening::Open;
                self.store.set(listening)
            }
        }
    }

    pub(crate) fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.shared.world.lock())
    }
}

impl Drop for GitLab {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        [Some(&self.gitlab), Some(&self.store), self.tls.as_ref()].into_iter().flatten().for_each(|door| {
            door.tear_down();
        });
    }
}

fn spawn(server: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(server).abort_handle()
}

/// Keeps serving what comes through `door`, over TLS.
async fn secure(shared: Arc<Shared>, door: Arc<Door>, acceptor: TlsAcceptor) {
    let inside = Arc::clone(&door);
    door.accept(move |stream, peer| {
        let conn = server::accepted(&shared, Server::Gitlab, &stream, peer, true);
        let (shared, door, acceptor) = (Arc::clone(&shared), Arc::clone(&inside), acceptor.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                server::connection(shared, door, Server::Gitlab, stream, conn).await;
            }
        }
    })
    .await;
}

fn acceptor(identity: &Identity, http2: bool) -> io::Result<TlsAcceptor> {
    let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::try_from(identity.key.clone()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    if http2 {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

//! A GitLab by TLS that offers HTTP/2 beside HTTP/1.1, as its nginx does, and answers as a test has it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use gitlab_standin::Certificate;
use http::{Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::config::Config;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::{Larder, pem};

/// It, and a larder before it.
pub(crate) struct Offered {
    asked: Mutex<UnboundedReceiver<Asked>>,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    pub(crate) larder: Larder,
    _trusted: TempDir,
}

/// One request, all of it.
pub(crate) struct Asked {
    pub(crate) request: Request<Bytes>,
    answer: oneshot::Sender<Response<Plain>>,
}

impl Asked {
    pub(crate) fn version(&self) -> Version {
        self.request.version()
    }

    /// Answers with this body, whose length is told if the fields tell it.
    pub(crate) fn answer(self, head: http::response::Builder, body: impl Into<Bytes>) {
        let body = body.into();
        let body = Plain((!body.is_empty()).then_some(body));
        // A client that has left is the test's business.
        let _ = self.answer.send(head.body(body).unwrap());
    }
}

impl Offered {
    /// It offers these protocols.
    pub(crate) async fn start(protocols: &[&[u8]], change: impl FnOnce(&mut Config)) -> Self {
        let certificate = Certificate::self_signed(&["localhost"]).unwrap();
        let trusted = tempfile::tempdir().unwrap();
        let ca = trusted.path().join("ca.pem");
        std::fs::write(&ca, pem("CERTIFICATE", &certificate.der)).unwrap();
        let acceptor = acceptor(&certificate, protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (sender, asked) = unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(acceptor.clone(), stream, sender.clone()));
            }
        });
        let larder = Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |config| {
            config.upstream.ca_file = Some(ca);
            change(config);
        })
        .await;
        Self { asked: Mutex::new(asked), connections, serving, larder, _trusted: trusted }
    }

    /// The next request, over whichever connection.
    pub(crate) async fn asked(&self) -> Asked {
        self.asked.lock().await.recv().await.unwrap()
    }

    /// How many connections larder has made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn acceptor(certificate: &Certificate, protocols: &[&[u8]]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.key.clone()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate.der.clone())], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, asked: UnboundedSender<Asked>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let shared = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| respond(asked.clone(), request));
    let io = TokioIo::new(stream);
    // How a connection ends is larder's business.
    if shared {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

async fn respond(
    asked: UnboundedSender<Asked>,
    request: Request<Incoming>,
) -> Result<Response<Plain>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (answer, answered) = oneshot::channel();
    let _ = asked.send(Asked { request: Request::from_parts(parts, body), answer });
    Ok(answered.await.unwrap_or_else(|_| Response::new(Plain(None))))
}

/// A body that doesn't tell its length.
pub(crate) struct Plain(Option<Bytes>);

impl Body for Plain {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

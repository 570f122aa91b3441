//! One pooled HTTP/1.1 client.

use std::time::Duration;

use http::{Method, Request, Response};
use http_body::Body as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::body::{self, Body, Fetched};
use super::error::{Error, Kind};
use super::resolve::Resolver;

/// How long a connection is kept for the next request: below the 65 to 75 s after which servers in front of GitLab
/// close theirs, so that few requests meet a closing one.
const IDLE: Duration = Duration::from_secs(50);

/// Idle connections kept; as many as GitLab's front needs to see at a steady load, a few MiB.
const MAX_IDLE: usize = 128;

/// A pooled client.
#[derive(Debug)]
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Body>,
    connect_timeout: Duration,
}

impl Client {
    /// A client that gives up connecting after `connect_timeout` and reads through a buffer of `buffer` bytes.
    /// `guarded`: names that resolve to forbidden addresses don't resolve.
    pub(super) fn new(tls: &ClientConfig, connect_timeout: Duration, guarded: bool, buffer: usize) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver { guarded });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_http1();
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(buffer)
            .http1_preserve_header_case(true)
            .http1_title_case_headers(true)
            .build(connector.wrap_connector(tcp));
        Self { inner, connect_timeout }
    }

    /// Sends a request and waits for the head of its answer for `wait`, then allows its body to pause for `silence`.
    ///
    /// A kept connection may turn out closed just when it is used. A request without a body that changes nothing is
    /// then sent once more; anything else isn't, as GitLab may have begun to act on it.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        let again = repeatable(&request).then(|| copy(&request));
        match (self.attempt(request, wait, silence).await, again) {
            (Err(error), Some(again)) if error.kind() == Kind::Terminated => {
                self.attempt(again, wait, silence).await
            }
            (result, _) => result,
        }
    }

    async fn attempt(
        &self,
        request: Request<Body>,
        wait: Duration,
        silence: Duration,
    ) -> Result<Response<Fetched>, Error> {
        // The wait begins once there is a connection; TLS isn't part of the connector's own time-out.
        let answer =
            tokio::time::timeout(wait.saturating_add(self.connect_timeout), self.inner.request(request));
        match answer.await {
            Ok(Ok(response)) => Ok(response.map(|inner| Fetched::new(inner, silence))),
            Ok(Err(error)) => {
                let connecting = error.is_connect();
                Err(Error::classify(error, connecting))
            }
            Err(_) => Err(Error::from_kind(Kind::ReadTimeout)),
        }
    }
}

fn repeatable(request: &Request<Body>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && request.body().is_end_stream()
}

/// The same request again; it has no body.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut again = Request::new(body::empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    again
}

//! Connections that are there in time, TLS included, or not at all.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use tower_service::Service;

use super::connect::Dial;
use super::request_body::BoxError;

/// A connector that gives up after a while. The dialler's own time-out ends with the handshake of TCP.
#[derive(Debug, Clone)]
pub(super) struct Timely {
    connector: HttpsConnector<Dial>,
    wait: Duration,
}

impl Timely {
    pub(super) const fn new(connector: HttpsConnector<Dial>, wait: Duration) -> Self {
        Self { connector, wait }
    }
}

impl Service<Uri> for Timely {
    type Response = <HttpsConnector<Dial> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, wait) = (self.connector.call(to), self.wait);
        Box::pin(async move {
            let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
            tokio::time::timeout(wait, connecting).await.unwrap_or_else(late)
        })
    }
}

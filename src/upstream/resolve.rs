//! Names to addresses, with the addresses that no object store has left out.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::grant::storage::is_forbidden;

/// The system's resolver. Where `guarded`, a name that resolves to a link-local or metadata address doesn't resolve:
/// the name in a redirect is not ours to trust.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    pub(super) guarded: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guarded = self.guarded;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|at| !(guarded && is_forbidden(at.ip()))).collect();
            if allowed.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the name has no address that may be asked",
                ));
            }
            Ok(allowed.into_iter())
        })
    }
}

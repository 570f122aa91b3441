//! Names to addresses, with the addresses at which no object store is left out.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::gitlab::grant::storage::special::{Host, is_special};

/// Longest wait for a name behind a proxy, which may know names that this machine doesn't: it is a second look, and nobody
/// shall feel it where the answer never comes.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Keeps connections from special addresses: a host in a redirect is not ours to trust.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressGuard {
    wait: Duration,
}

impl AddressGuard {
    /// One whose look-ups take no longer than a connection may.
    pub(super) fn new(connect_timeout: Duration) -> Self {
        Self { wait: connect_timeout.min(SECOND_LOOK) }
    }

    /// Looks where a name leads that a proxy resolves: an error if that is a special address, as far as can be seen from
    /// here. What isn't found here, or not in time, is the proxy's to decide.
    pub(super) async fn look_up(self, to: &Uri) -> io::Result<()> {
        let Host::Name(name) = Host::read(to.host().unwrap_or_default()) else {
            return Ok(());
        };
        let Ok(Ok(mut found)) = tokio::time::timeout(self.wait, tokio::net::lookup_host((name, 0))).await
        else {
            return Ok(());
        };
        // Which of them the proxy takes isn't known.
        if found.any(|at| is_special(at.ip())) { Err(forbidden()) } else { Ok(()) }
    }
}

/// Whether a URL's host is special by its spelling.
pub(super) fn is_refused(to: &Uri) -> bool {
    Host::read(to.host().unwrap_or_default()).is_special()
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Unresolved(#[from] io::Error);

/// Why a connection isn't made.
pub(super) fn forbidden() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the host has no address that may be asked")
}

/// The system's resolver. Where there is a guard, special addresses of a name aren't found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    pub(super) guard: Option<AddressGuard>,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guarded = self.guard.is_some();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|at| !(guarded && is_special(at.ip()))).collect();
            if allowed.is_empty() { Err(forbidden().into()) } else { Ok(allowed.into_iter()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::client::legacy::connect::HttpConnector;

    use super::*;
    use crate::upstream::{Error, FailureKind};

    async fn resolved(name: &str, guard: Option<AddressGuard>) -> Option<Vec<SocketAddr>> {
        Resolver { guard }.call(name.parse().unwrap()).await.ok().map(Iterator::collect)
    }

    #[tokio::test]
    async fn what_a_name_leads_to_is_judged_as_addresses_are() {
        let guard = Some(AddressGuard::new(Duration::from_secs(1)));
        // The system's resolver reads numbers without asking anybody.
        for (name, special) in
            [("127.0.0.1", false), ("127.1", false), ("169.254.169.254", true), ("0xa9fea9fe", true)]
        {
            assert_eq!(resolved(name, guard).await.is_none(), special, "{name}");
            assert!(resolved(name, None).await.is_some(), "{name}: without a guard");
        }
    }

    #[tokio::test]
    async fn a_name_that_only_the_proxy_knows_is_the_proxys_to_decide() {
        let guard = AddressGuard::new(Duration::from_secs(1));
        for (to, refused) in
            [("http://localhost/x", false), ("http://store.invalid/x", false), ("http://10.0.0.1/x", false)]
        {
            let to: Uri = to.parse().unwrap();
            assert!(!is_refused(&to) && guard.look_up(&to).await.is_err() == refused, "{to}");
        }
        for to in [
            "http://169.254.169.254/x",
            "http://0xa9fea9fe/x",
            "http://[fd00:ec2::254]/x",
            "http://1.2.3.256/x",
        ] {
            assert!(is_refused(&to.parse().unwrap()), "{to}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_told_from_a_host_that_refuses() {
        let mut connector = HttpConnector::new_with_resolver(Resolver { guard: None });
        for (to, kind) in
            [("http://nowhere.invalid/", FailureKind::Dns), ("http://127.0.0.1:1/", FailureKind::Refused)]
        {
            let error = connector.call(to.parse().unwrap()).await.unwrap_err();
            assert_eq!(Error::connecting(error.into()).kind(), kind, "{to}");
        }
        let mut guarded =
            HttpConnector::new_with_resolver(Resolver { guard: Some(AddressGuard::new(SECOND_LOOK)) });
        // As the system's resolver reads it, and nobody else.
        let error = guarded.call("http://0xa9fea9fe/".parse().unwrap()).await.unwrap_err();
        assert_eq!(Error::connecting(error.into()).kind(), FailureKind::Dns);
    }
}

//! What can go wrong between larder and GitLab, and what a client is told of it.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use super::resolve::Unresolved;

/// What went wrong, in the words of RFC 9209, 2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// The name doesn't resolve.
    Dns,
    /// Nobody listens.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// No connection for another reason (no route, no descriptors).
    Unavailable,
    /// The certificate isn't one we believe.
    TlsCertificate,
    /// The handshake failed otherwise.
    TlsProtocol,
    /// The connection ended before the answer did.
    Terminated,
    /// The answer's head or its next bytes didn't come in time.
    ReadTimeout,
    /// Too many questions were waiting before this one.
    QueueTimeout,
    /// The answer wasn't HTTP.
    Protocol,
    /// The answer's body is in a coding that isn't known here.
    Coding,
    /// Our client gave its request up.
    ClientGone,
}

impl FailureKind {
    /// The error type of `Proxy-Status`, which is also its name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns_error",
            Self::Refused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::Unavailable => "destination_unavailable",
            Self::TlsCertificate => "tls_certificate_error",
            Self::TlsProtocol => "tls_protocol_error",
            Self::Terminated => "connection_terminated",
            Self::ReadTimeout => "connection_read_timeout",
            Self::QueueTimeout => "connection_limit_reached",
            Self::Protocol => "http_protocol_error",
            Self::Coding => "http_response_transfer_coding",
            Self::ClientGone => "http_request_error",
        }
    }

    /// The status a client gets.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::ReadTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::QueueTimeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::ClientGone => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether GitLab may be down: neither was its answer there, nor is it the client's fault.
    pub(crate) const fn may_be_outage(self) -> bool {
        !matches!(self, Self::ClientGone | Self::Coding)
    }

    /// A sentence for the client. It names no address, no name and no file of ours.
    pub(crate) const fn for_client(self) -> &'static str {
        match self {
            Self::Dns => "GitLab's name does not resolve",
            Self::Refused => "GitLab refuses connections",
            Self::ConnectTimeout => "GitLab did not accept a connection in time",
            Self::Unavailable => "GitLab can't be reached",
            Self::TlsCertificate => "GitLab's certificate is not trusted",
            Self::TlsProtocol => "no TLS session with GitLab",
            Self::Terminated => "GitLab closed the connection before it had answered",
            Self::ReadTimeout => "GitLab did not answer in time",
            Self::QueueTimeout => "too many requests are waiting for GitLab",
            Self::Protocol => "GitLab's answer was not HTTP",
            Self::Coding => "GitLab's answer is in a coding that is not known here",
            Self::ClientGone => "the request ended before its body did",
        }
    }
}

/// A failed exchange with GitLab or its object store. Its sources say more than a client may know.
#[derive(Debug, thiserror::Error)]
#[error("{}", kind.for_client())]
pub(crate) struct Error {
    kind: FailureKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(super) const fn from_kind(kind: FailureKind) -> Self {
        Self { kind, source: None }
    }

    /// What was found out a moment ago.
    pub(crate) const fn known(kind: FailureKind) -> Self {
        Self::from_kind(kind)
    }

    /// A question whose answer never came, for a reason of our own.
    pub(crate) const fn unanswered() -> Self {
        Self::from_kind(FailureKind::Terminated)
    }

    /// It isn't this client's turn, and won't be soon.
    pub(crate) const fn no_turn() -> Self {
        Self::from_kind(FailureKind::QueueTimeout)
    }

    /// A change of protocol that nobody asked for.
    pub(crate) const fn unasked_upgrade() -> Self {
        Self::from_kind(FailureKind::Protocol)
    }

    /// Reads the chain of an error of the HTTP client's.
    pub(super) fn classify(error: impl StdError + Send + Sync + 'static, connecting: bool) -> Self {
        Self { kind: kind_of(&error, connecting), source: Some(Box::new(error)) }
    }

    /// The same of a connection that couldn't be made.
    pub(super) fn connecting(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self { kind: kind_of(&*error, true), source: Some(error) }
    }

    /// What went wrong.
    pub(crate) const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether such an error is somewhere behind it.
    pub(crate) fn is_caused_by<E: StdError + 'static>(&self) -> bool {
        StdError::source(self).is_some_and(is_behind::<E>)
    }

    /// Whether a connection, or its TLS, has ended without a word where more could have followed. Of a body whose end is its
    /// connection's that is all that an end looks like to many servers.
    pub(crate) fn is_bare_close(&self) -> bool {
        let cause = StdError::source(self).and_then(find::<io::Error>);
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof)
    }

    /// The client gave its request up, for this reason.
    pub(super) fn client_gone(reason: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind: FailureKind::ClientGone, source: Some(Box::new(reason)) }
    }

    /// The whole chain, for the log.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = StdError::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = deeper(error);
        }
        text
    }
}

/// Whether such an error is this one or somewhere behind it.
pub(super) fn is_behind<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    find::<E>(error).is_some()
}

/// The first error of this type, from this one on.
pub(super) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        link = deeper(error);
    }
    None
}

fn kind_of(error: &(dyn StdError + 'static), connecting: bool) -> FailureKind {
    let mut link = Some(error);
    let mut kind = if connecting { FailureKind::Unavailable } else { FailureKind::Terminated };
    while let Some(error) = link {
        if let Some(found) = one_link(error, connecting) {
            kind = found;
        }
        link = deeper(error);
    }
    kind
}

/// The next error of a chain. An I/O error that wraps another one doesn't name it as its source.
fn deeper<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// What one error of a chain says by itself; deeper ones know better.
fn one_link(error: &(dyn StdError + 'static), connecting: bool) -> Option<FailureKind> {
    if error.is::<Unresolved>() {
        return Some(FailureKind::Dns);
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return if error.is_parse() {
            Some(FailureKind::Protocol)
        } else if error.is_user() || error.is_body_write_aborted() {
            Some(FailureKind::ClientGone)
        } else if error.is_timeout() {
            // A ping that wasn't answered.
            Some(FailureKind::ReadTimeout)
        } else {
            None
        };
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return if error.is_library() {
            Some(FailureKind::Protocol)
        } else if error.is_reset() && !error.is_remote() {
            // We reset the stream ourselves: the request's body broke off.
            Some(FailureKind::ClientGone)
        } else {
            None
        };
    }
    let error = error.downcast_ref::<io::Error>()?;
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let certificate = matches!(tls, rustls::Error::InvalidCertificate(_));
        return Some(if certificate { FailureKind::TlsCertificate } else { FailureKind::TlsProtocol });
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(FailureKind::Refused),
        io::ErrorKind::TimedOut if connecting => Some(FailureKind::ConnectTimeout),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_cause_decides() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let tls = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, connecting, kind) in [
            (io(io::ErrorKind::ConnectionRefused), true, FailureKind::Refused),
            (io(io::ErrorKind::TimedOut), true, FailureKind::ConnectTimeout),
            (io(io::ErrorKind::NetworkUnreachable), true, FailureKind::Unavailable),
            (io(io::ErrorKind::ConnectionReset), false, FailureKind::Terminated),
            (
                tls(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)),
                true,
                FailureKind::TlsCertificate,
            ),
            (tls(rustls::Error::DecryptError), true, FailureKind::TlsProtocol),
            (io::Error::other(Unresolved::from(io(io::ErrorKind::NotFound))), true, FailureKind::Dns),
        ] {
            let wrapped = io::Error::other(error);
            assert_eq!(Error::classify(wrapped, connecting).kind(), kind);
        }
    }

    #[test]
    fn names_are_distinct_and_statuses_are_a_gateways() {
        let all = [
            FailureKind::Dns,
            FailureKind::Refused,
            FailureKind::ConnectTimeout,
            FailureKind::Unavailable,
            FailureKind::TlsCertificate,
            FailureKind::TlsProtocol,
            FailureKind::Terminated,
            FailureKind::ReadTimeout,
            FailureKind::QueueTimeout,
            FailureKind::Protocol,
            FailureKind::Coding,
            FailureKind::ClientGone,
        ];
        let names: std::collections::HashSet<_> = all.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|kind| matches!(kind.status().as_u16(), 400 | 502..=504)));
    }
}

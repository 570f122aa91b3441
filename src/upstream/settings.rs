//! What the operator decides about GitLab and its object store.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::Scheme;

use super::way::Sharing;
use super::{ProxySettings, TlsSettings};
use crate::gitlab::urls::Origin;

/// What the operator decides about GitLab.
#[derive(Debug, Clone)]
pub struct Settings {
    /// GitLab's base URL; its path is the relative root.
    pub url: Origin,
    /// The URL by which GitLab knows itself (its `external_url`), if that is another one.
    pub external_url: Option<Origin>,
    /// Certificates trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How GitLab is believed, and believes larder.
    pub tls: TlsSettings,
    /// Certificates trusted for the object store besides those, PEM.
    pub storage_ca_file: Option<PathBuf>,
    /// The way out.
    pub proxy: ProxySettings,
    /// Whether HTTP/2 is spoken with GitLab.
    pub http2: Http2,
    /// Object stores that redirects may lead to; `None`: any but those at special addresses.
    pub storage_hosts: Option<Vec<String>>,
    /// Longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest silence while an answer is passed through.
    pub read_timeout: Duration,
    /// Longest wait for the head of an answer to a question larder asks itself, its turn and its connection included.
    pub answer_timeout: Duration,
    /// How long a transfer that broke off is tried again without a byte of progress; zero: not at all.
    pub resume_timeout: Duration,
    /// How long a connection takes further requests.
    pub max_connection_age: Duration,
    /// How long an object store that was found failing is left alone; zero: not at all.
    pub retry_store: Duration,
    /// Requests under way to GitLab at once, questions of larder's own aside; as many more may wait. As many again are
    /// runners' that wait for a job, calls of gRPC, and transfers from the object store.
    pub max_connections: usize,
}

/// Whether HTTP/2 is spoken with GitLab. Whatever is said here, a change of protocol and a request that waits for 100 go
/// by HTTP/1.1, and so does all with the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// Over TLS, where GitLab offers it: for requests with a small body or none, and for gRPC. Archives that are fetched,
    /// long bodies and what is known to be answered by one have connections of their own.
    Auto,
    /// Not at all.
    Off,
    /// Without asking, also in the clear, for all that it can carry.
    PriorKnowledge,
}

impl Http2 {
    /// What shares connections of those that pass requests on or ask questions, and of those that fetch archives.
    pub(super) fn sharing(self, url: &Origin) -> (Option<Sharing>, Option<Sharing>) {
        match self {
            Self::Auto if *url.scheme() == Scheme::HTTPS => (Some(Sharing::Small), None),
            Self::Auto | Self::Off => (None, None),
            Self::PriorKnowledge => (Some(Sharing::All), Some(Sharing::All)),
        }
    }
}

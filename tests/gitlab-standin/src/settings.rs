//! How this GitLab is installed: storage, age, address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The entity tag that GitLab's Rails side puts on artifact answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etag {
    /// Older: one constant weak tag on everything that Workhorse sends (issue 371991).
    Weak,
    /// Newest (MR 238127): the archive's SHA-256, strong; none on the runner's route.
    Sha256,
}

/// Where artifacts lie and who sends them (`lib/api/helpers.rb`, `present_carrierwave_file!`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On GitLab's disk: Workhorse's `sendfile` answers with Go's `http.ServeContent`.
    Local {
        /// What Rails puts into `ETag`.
        etag: Etag,
    },
    /// In an object store that clients are sent to: 302, or 303 for HEAD. The runner's route does so only
    /// with `direct_download=true`.
    Redirect {
        /// Older GitLab has the job id in the object's path; newer (`use_final_store_path`) has not. It also
        /// decides which [`Etag`] the answers have that are not redirects.
        job_id_in_path: bool,
    },
    /// In an object store that Workhorse reads for the client (`proxy_download`, send-url).
    Proxied {
        /// What Rails compares `If-None-Match` with; the client sees the storage's tag.
        etag: Etag,
    },
}

impl Storage {
    pub(crate) fn etag(self) -> Etag {
        match self {
            Self::Local { etag } | Self::Proxied { etag } => etag,
            Self::Redirect { job_id_in_path: true } => Etag::Weak,
            Self::Redirect { job_id_in_path: false } => Etag::Sha256,
        }
    }
}

/// Whom `GET /jobs/:id/artifacts` lets in; it changed over the years (`lib/api/ci/runner.rb`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerAuth {
    /// 2022: also the producing job's own token after that job has finished.
    ProducerToken,
    /// Mid 2025: any user with `read_build`, by whatever credential.
    AnyUser,
    /// Newest: a running job's token; a personal token gets 403.
    JobToken,
}

/// A private key and its certificate chain, all DER, for the TLS listener.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Vec<u8>,
}

/// What [`GitLab::start`](crate::GitLab::start) needs to know.
#[derive(Clone)]
pub struct Setup {
    pub(crate) storage: Storage,
    pub(crate) root: String,
    pub(crate) listen: SocketAddr,
    pub(crate) identity: Option<Identity>,
    pub(crate) http2: bool,
    pub(crate) runner_auth: RunnerAuth,
    pub(crate) read_api_head: bool,
    pub(crate) set_cookie: bool,
    pub(crate) link_lifetime: Duration,
    pub(crate) seed: u64,
}

impl Default for Setup {
    /// A newest GitLab with local storage at `/`, on a free port of 127.0.0.1.
    fn default() -> Self {
        Self {
            storage: Storage::Local { etag: Etag::Sha256 },
            root: String::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity: None,
            http2: false,
            runner_auth: RunnerAuth::JobToken,
            read_api_head: true,
            set_cookie: false,
            // GitLab signs for ten minutes (`X-Amz-Expires=600`).
            link_lifetime: Duration::from_secs(600),
            seed: 1,
        }
    }
}

impl Setup {
    /// Where artifacts lie.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// A relative URL root such as `/gitlab`; `/` or nothing for none.
    #[must_use]
    pub fn relative_root(mut self, root: &str) -> Self {
        let root = root.trim_matches('/');
        self.root = if root.is_empty() { String::new() } else { format!("/{root}") };
        self
    }

    /// The address of the GitLab server instead of a free port of 127.0.0.1 (IPv4).
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// A second, TLS listener for GitLab: certificate chain (leaf first) and PKCS #8 key, all DER.
    #[must_use]
    pub fn tls(mut self, chain: Vec<Vec<u8>>, key: Vec<u8>) -> Self {
        self.identity = Some(Identity { chain, key });
        self
    }

    /// Whether the TLS listener offers HTTP/2, as the bundled nginx does. To those who don't ask (RFC 9113, 3.3) it is
    /// spoken on each listener.
    #[must_use]
    pub fn http2(mut self, offered: bool) -> Self {
        self.http2 = offered;
        self
    }

    /// Whom the runner's download route lets in.
    #[must_use]
    pub fn runner_auth(mut self, auth: RunnerAuth) -> Self {
        self.runner_auth = auth;
        self
    }

    /// Whether a `read_api` token may HEAD: not in older releases (issue 296476).
    #[must_use]
    pub fn read_api_head(mut self, allowed: bool) -> Self {
        self.read_api_head = allowed;
        self
    }

    /// Whether each answer sets a cookie.
    #[must_use]
    pub fn set_cookie(mut self, set: bool) -> Self {
        self.set_cookie = set;
        self
    }

    /// For how long signed URLs are good.
    #[must_use]
    pub fn link_lifetime(mut self, lifetime: Duration) -> Self {
        self.link_lifetime = lifetime;
        self
    }

    /// Tokens, object paths and signatures are made from this.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

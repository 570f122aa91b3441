//! How this GitLab is installed: storage, age, address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The entity tag that GitLab's Rails side puts on artifact answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etag {
    /// One constant weak tag on everything that Workhorse sends (issue 371991): every self-managed GitLab, up to now.
    Weak,
    /// With the flag `workhorse_download_etag_caching` of 19.1, off by default (MR 238127): the archive's SHA-256, strong;
    /// none on the runner's route.
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
        /// Older GitLab has the job id in the object's path; newer (`use_final_store_path`) has not.
        job_id_in_path: bool,
    },
    /// In an object store that Workhorse reads for the client (`proxy_download`, send-url).
    Proxied {
        /// What Rails compares `If-None-Match` with; the client sees the storage's tag.
        etag: Etag,
    },
}

/// What an entry is called on the routes that look at its content (A5, W3), if it is no SVG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachments {
    /// 15.0 to 15.3 (MR 83515): what it looks like, text as plain text.
    Sniffed,
    /// Since 15.4 (MR 95859): bytes.
    Opaque,
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
#[expect(clippy::struct_excessive_bools, reason = "each is an installation's own, and set by name")]
pub struct Setup {
    pub(crate) storage: Storage,
    pub(crate) digests: bool,
    pub(crate) mime_table: bool,
    pub(crate) attachments: Attachments,
    pub(crate) root: String,
    pub(crate) listen: SocketAddr,
    pub(crate) identity: Option<Identity>,
    pub(crate) http2: bool,
    pub(crate) runner_auth: RunnerAuth,
    pub(crate) read_api_head: bool,
    pub(crate) set_cookie: bool,
    pub(crate) link_lifetime: Duration,
    pub(crate) bare: bool,
    pub(crate) seed: u64,
}

impl Default for Setup {
    /// A newest GitLab as it is installed, with local storage at `/`, on a free port of 127.0.0.1; its host has a table of
    /// MIME types.
    fn default() -> Self {
        Self {
            storage: Storage::Local { etag: Etag::Weak },
            digests: false,
            mime_table: true,
            attachments: Attachments::Opaque,
            root: String::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity: None,
            http2: false,
            runner_auth: RunnerAuth::JobToken,
            read_api_head: true,
            set_cookie: false,
            // GitLab signs for ten minutes (`X-Amz-Expires=600`).
            link_lifetime: Duration::from_secs(600),
            bare: false,
            seed: 1,
        }
    }
}

impl Setup {
    pub(crate) fn etag(&self) -> Etag {
        match self.storage {
            Storage::Local { etag } | Storage::Proxied { etag } => etag,
            Storage::Redirect { .. } if self.digests => Etag::Sha256,
            Storage::Redirect { .. } => Etag::Weak,
        }
    }

    /// Whether answers that are no redirects have digests for tags where others are redirects to the object store.
    #[must_use]
    pub fn digests(mut self, known: bool) -> Self {
        self.digests = known;
        self
    }

    /// Whether the host has a table of MIME types; the official image most likely hasn't.
    #[must_use]
    pub fn mime_table(mut self, there: bool) -> Self {
        self.mime_table = there;
        self
    }

    /// What files are called whose content is looked at.
    #[must_use]
    pub fn attachments(mut self, attachments: Attachments) -> Self {
        self.attachments = attachments;
        self
    }

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

    /// Whether Puma is reached without the bundled nginx, which drops names of fields with `_`: Rack reads it as `-`, and
    /// of two fields of one name the later counts.
    #[must_use]
    pub fn bare(mut self, bare: bool) -> Self {
        self.bare = bare;
        self
    }

    /// Tokens, object paths and signatures are made from this.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

//! Certificates that clients are shown.
//!
//! Read from files at the start, again when the operator says so, and whenever a look at the files shows other contents:
//! certificates of a few weeks are replaced by programs that tell nobody. Files that make no sense leave the old ones in
//! use, with a word in the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, SupportedProtocolVersion};

use crate::base::clock::{Clock, Moment};

/// What the operator decides about TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificates, at least one; the first one is shown to clients that name no server of another one's.
    pub pairs: Vec<Pair>,
    /// The oldest version that is spoken.
    pub min_version: Version,
}

/// A certificate and its key, each a file of PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those that lead from it to a root.
    pub cert: PathBuf,
    /// Its private key, unencrypted.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// Each version and its name in the configuration.
    pub(crate) const NAMES: &[(&str, Self)] = &[("1.2", Self::Tls12), ("1.3", Self::Tls13)];

    /// The versions from this one on.
    fn on(self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => TLS13,
        }
    }
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("{key} {path}: {reason}; give a file that larder may read", path = path.display())]
    Unreadable {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        reason: io::Error,
    },
    /// A file isn't PEM, or holds nothing of what it should.
    #[error("{key} {path}: {reason}", path = path.display())]
    Unusable {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was wrong and what is expected.
        reason: String,
    },
    /// Certificate and key don't belong together.
    #[error(
        "server.tls.cert {cert} and server.tls.key {key} don't belong together: {reason}; give the key that the certificate was made for",
        cert = cert.display(), key = key.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The library's word.
        reason: rustls::Error,
    },
    /// The provider has none of the versions; a build without them.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

const CERT: &str = "server.tls.cert";
const KEY: &str = "server.tls.key";

/// Largest PEM file: a chain has some 10 KiB.
const LARGEST: u64 = 1 << 20;

/// How old a look at the files may be when a client comes.
const LOOK: Duration = Duration::from_secs(10);

/// HTTP/2 before HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// What a handshake calls HTTP/2 (RFC 9113, 3.2).
pub(super) const HTTP2: &[u8] = b"h2";

/// Certificates in use, renewed while clients come and go: a handshake that has begun keeps what it began with.
#[derive(Debug)]
pub(crate) struct Certificates {
    settings: ServerTls,
    clock: Clock,
    held: Mutex<LoadedTls>,
}

#[derive(Debug)]
struct LoadedTls {
    config: Arc<ServerConfig>,
    /// The files' contents at the last look, whether they could be used or not.
    seen: Contents,
    looked: Moment,
}

/// What the files hold, in the order of the pairs; a file that couldn't be read holds nothing.
#[derive(Debug, PartialEq, Eq)]
struct Contents(Vec<[Option<Vec<u8>>; 2]>);

impl Certificates {
    /// Reads the files. Blocks.
    pub(crate) fn load(settings: ServerTls, clock: Clock) -> Result<Self, Error> {
        let looked = clock.now();
        let seen = Contents::of(&settings.pairs);
        let config = Arc::new(config(&settings)?);
        Ok(Self { settings, clock, held: Mutex::new(LoadedTls { config, seen, looked }) })
    }

    /// What a handshake goes by that begins now.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.held.lock().config)
    }

    /// Whether it is time to look at the files again. Whoever is told so is the one to do it.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.clock.now();
        let mut held = self.held.lock();
        let due = now.since(held.looked) >= LOOK;
        if due {
            held.looked = now;
        }
        due
    }

    /// Looks at the files, and takes what they hold if that is new and makes sense. Blocks.
    pub(crate) fn look(&self) {
        let seen = Contents::of(&self.settings.pairs);
        if self.held.lock().seen == seen {
            return;
        }
        let config = config(&self.settings);
        let mut held = self.held.lock();
        held.seen = seen;
        match config {
            Ok(config) => {
                held.config = Arc::new(config);
                tracing::info!("the certificates have changed and are in use");
            }
            Err(error) => tracing::error!(%error, "the certificates have changed; the old ones stay in use"),
        }
    }
}

impl Contents {
    fn of(pairs: &[Pair]) -> Self {
        let content = |path: &Path| read(CERT, path).ok();
        Self(pairs.iter().map(|pair| [content(&pair.cert), content(&pair.key)]).collect())
    }
}

/// Whether a file is what its key wants it to be: a chain, or a private key. Blocks.
pub(crate) fn check_file(key: &str, path: &Path) -> Result<(), Error> {
    match key {
        CERT => chain(path).map(drop),
        KEY => private_key(path).map(drop),
        _ => Ok(()),
    }
}

/// Whether a certificate and a key can be used together. Blocks.
pub(crate) fn check_pair(pair: &Pair) -> Result<(), Error> {
    certified(pair, &rustls::crypto::ring::default_provider()).map(drop)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |reason| Error::Unreadable { key, path: path.to_owned(), reason };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > LARGEST {
        return Err(unusable(key, path, "it is longer than 1 MiB; expected a PEM file"));
    }
    fs::read(path).map_err(unreadable)
}

fn unusable(key: &'static str, path: &Path, reason: impl Into<String>) -> Error {
    Error::Unusable { key, path: path.to_owned(), reason: reason.into() }
}

fn config(settings: &ServerTls) -> Result<ServerConfig, Error> {
    // Named, since a second provider that some crate brings along would make rustls' own choice a panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pairs: Result<Vec<_>, _> = settings.pairs.iter().map(|pair| certified(pair, &provider)).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(settings.min_version.on())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(pairs?)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn certified(pair: &Pair, provider: &rustls::crypto::CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let (chain, key) = (chain(&pair.cert)?, private_key(&pair.key)?);
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        let reason =
            "no key of its kind can be used; expected ECDSA with P-256 or P-384, RSA from 2048 bits on, or Ed25519";
        unusable(KEY, &pair.key, reason)
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(reason) => Err(Error::Mismatch { cert: pair.cert.clone(), key: pair.key.clone(), reason }),
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(CERT, path)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| unusable(CERT, path, format!("{error}; expected PEM")))?;
    match chain.first() {
        None => Err(unusable(CERT, path, "no certificate in it; expected PEM with a BEGIN CERTIFICATE")),
        Some(first) => match ParsedCertificate::try_from(first) {
            Ok(_) => Ok(chain),
            Err(error) => Err(unusable(CERT, path, format!("the first certificate can't be read: {error}"))),
        },
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let reason = match error {
            // An encrypted key looks like none at all to the reader.
            _ if is_encrypted(&text) => {
                "the key is encrypted; expected one without a passphrase, readable by larder alone".to_owned()
            }
            pem::Error::NoItemsFound => {
                "no private key in it; expected PEM with a BEGIN PRIVATE KEY".to_owned()
            }
            // The reader's word may hold a line of the file.
            _ => "it isn't well-formed; expected PEM with a BEGIN PRIVATE KEY".to_owned(),
        };
        unusable(KEY, path, reason)
    })
}

/// The marks of PKCS #8 (RFC 7468, 11) and of the older form (RFC 1421, 4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// Certificates, chosen by the name that a client asks for (SNI, RFC 6066, 3).
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = asked.and_then(|name| self.0.iter().find(|held| is_for(held, &name)));
        named.or(self.0.first()).cloned()
    }
}

fn is_for(held: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = held.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| rustls::client::verify_server_name(&certificate, name).is_ok())
}

#[cfg(test)]
mod tests;

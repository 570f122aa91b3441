//! Whom we believe to be GitLab, and who we say we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What the operator decides about TLS to GitLab.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Any certificate is taken for GitLab's.
    pub insecure: bool,
    /// The certificate that larder shows GitLab, with its chain, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// Why no TLS client could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read or isn't what it should be.
    #[error("{key} {path}: {reason}; give a readable PEM file of {what}", path = path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
        /// What should be in it.
        what: &'static str,
    },
    /// One without the other.
    #[error("upstream.tls.cert and upstream.tls.key go together; give both or neither")]
    HalfIdentity,
    /// The certificate and the key don't belong together, or aren't of a kind that can be used.
    #[error(
        "upstream.tls.cert and upstream.tls.key can't be used together: {0}; give a chain, leaf first, and its key"
    )]
    Identity(rustls::Error),
    /// The protocol versions aren't supported by the provider; a build without them.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

const CERT: &str = "upstream.tls.cert";
const KEY: &str = "upstream.tls.key";

/// The system's roots and those in `upstream.ca_file`.
pub(super) fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a system root certificate can't be read");
    }
    roots.add_parsable_certificates(system.certs);
    add_file(&mut roots, "upstream.ca_file", ca_file)?;
    Ok(roots)
}

/// A client for the object store. It shows nobody a certificate, and checks those it is shown.
pub(super) fn for_storage(
    mut roots: RootCertStore,
    ca_file: Option<&Path>,
) -> Result<ClientConfig, TlsError> {
    add_file(&mut roots, "storage.ca_file", ca_file)?;
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// A client for GitLab.
pub(super) fn for_gitlab(roots: RootCertStore, settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let builder = if settings.insecure {
        tracing::warn!(
            "GitLab's certificate isn't checked (upstream.tls.insecure): anybody on the way can be GitLab"
        );
        builder()?.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider())))
    } else {
        builder()?.with_root_certificates(roots)
    };
    let (cert, key) = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return Ok(builder.with_no_client_auth()),
        _ => return Err(TlsError::HalfIdentity),
    };
    let chain = certificates(CERT, cert)?;
    builder.with_client_auth_cert(chain, private_key(key)?).map_err(TlsError::Identity)
}

/// Whether a file is what its key says: certificates to be trusted, a chain, a private key.
pub(super) fn check_file(key: &'static str, path: &Path) -> Result<(), TlsError> {
    match key {
        "upstream.ca_file" | "storage.ca_file" => add_file(&mut RootCertStore::empty(), key, Some(path)),
        CERT => certificates(CERT, path).map(drop),
        KEY => private_key(path).map(drop),
        _ => Ok(()),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The reader's word may hold a line of the file.
    let bad = |error: pem::Error| match error {
        pem::Error::Io(error) => error.to_string(),
        _ => "no unencrypted private key can be read in it".to_owned(),
    };
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| wrong(KEY, path, bad(error), "an unencrypted private key"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?)
}

fn wrong(key: &'static str, path: &Path, reason: String, what: &'static str) -> TlsError {
    TlsError::File { key, path: path.to_owned(), reason, what }
}

fn add_file(roots: &mut RootCertStore, key: &'static str, path: Option<&Path>) -> Result<(), TlsError> {
    let Some(path) = path else { return Ok(()) };
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| wrong(key, path, error.to_string(), "certificates"))?;
    }
    Ok(())
}

/// At least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| wrong(key, path, reason, "certificates");
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?.collect();
    let found = found.map_err(|error| bad(error.to_string()))?;
    if found.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(found) }
}

/// Believes any certificate; that its owner has the key is checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! Certificates in files, and handshakes in memory.

use std::io::Cursor;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use tempfile::TempDir;

use super::*;

/// A directory of certificates.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a new certificate for a name, and its key.
    fn make(&self, file: &str, name: &str) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(self.path(&format!("{file}.pem")), cert.pem()).unwrap();
        fs::write(self.path(&format!("{file}.key")), signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn settings(&self, files: &[&str]) -> ServerTls {
        let pair = |file: &&str| Pair {
            cert: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        ServerTls { pairs: files.iter().map(pair).collect(), min_version: Version::Tls12 }
    }
}

/// What a client with these versions gets that asks for `name` and trusts `roots`: the certificate and the protocol.
fn handshake(
    server: &Arc<ServerConfig>,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
    roots: &[CertificateDer<'static>],
) -> Result<(CertificateDer<'static>, Option<Vec<u8>>), rustls::Error> {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut Cursor::new(wire)).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut Cursor::new(wire)).unwrap();
        client.process_new_packets()?;
    }
    let shown = client.peer_certificates().unwrap()[0].clone().into_owned();
    Ok((shown, client.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn the_certificate_is_the_one_for_the_name_and_else_the_first() {
    let files = Files::new();
    let one = files.make("one", "one.example");
    let two = files.make("two", "*.two.example");
    let certificates = Certificates::load(files.settings(&["one", "two"]), Clock::manual(0)).unwrap();
    let server = certificates.current();
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        for (name, shown) in [("one.example", &one), ("a.two.example", &two)] {
            let (found, protocol) = handshake(&server, name, versions, &[one.clone(), two.clone()]).unwrap();
            assert!(found == *shown, "{name}");
            assert_eq!(protocol.as_deref(), Some(PROTOCOLS[0]));
        }
        // The client refuses the first one under another name, which shows that it was the first.
        let error = handshake(&server, "three.example", versions, &[one.clone(), two.clone()]).unwrap_err();
        assert!(error.to_string().contains("one.example"), "{error}");
    }
}

#[test]
fn an_older_version_than_the_least_is_refused() {
    let files = Files::new();
    let one = files.make("one", "one.example");
    let settings = ServerTls { min_version: Version::Tls13, ..files.settings(&["one"]) };
    let server = Certificates::load(settings, Clock::manual(0)).unwrap().current();
    assert!(
        handshake(&server, "one.example", &[&rustls::version::TLS13], std::slice::from_ref(&one)).is_ok()
    );
    assert!(handshake(&server, "one.example", &[&rustls::version::TLS12], &[one]).is_err());
}

#[test]
fn files_that_make_no_sense_are_refused_with_a_clear_word() {
    let files = Files::new();
    files.make("good", "good.example");
    let other = KeyPair::generate().unwrap().serialize_pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let garbled = "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n";
    for (file, content, said) in [
        ("key", other.as_str(), "don't belong together"),
        ("key", encrypted, "the key is encrypted"),
        ("key", legacy, "the key is encrypted"),
        ("key", garbled, "isn't well-formed"),
        ("key", "", "no private key"),
        // As one on a curve that isn't known here.
        ("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no key of its kind"),
        ("pem", "", "no certificate"),
        ("pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"),
        ("pem", &other, "no certificate"),
    ] {
        let kept = fs::read(files.path(&format!("good.{file}"))).unwrap();
        fs::write(files.path(&format!("good.{file}")), content).unwrap();
        let error = Certificates::load(files.settings(&["good"]), Clock::manual(0)).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(&format!("good.{file}")), "{said}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        fs::write(files.path(&format!("good.{file}")), kept).unwrap();
    }
    fs::remove_file(files.path("good.key")).unwrap();
    let error = Certificates::load(files.settings(&["good"]), Clock::manual(0)).unwrap_err().to_string();
    assert!(error.starts_with("server.tls.key") && error.contains("may read"), "{error}");
}

#[test]
fn changed_files_are_taken_at_the_next_look_and_wrong_ones_are_not() {
    let files = Files::new();
    let clock = Clock::manual(0);
    let first = files.make("one", "one.example");
    let certificates = Certificates::load(files.settings(&["one"]), clock.clone()).unwrap();
    let shown = |roots: &CertificateDer<'static>| {
        let versions = [&rustls::version::TLS13];
        handshake(&certificates.current(), "one.example", &versions, std::slice::from_ref(roots))
            .map(|shown| shown.0)
    };
    assert!(!certificates.is_due(), "a look is younger than that");
    clock.advance(LOOK);
    assert!(certificates.is_due() && !certificates.is_due(), "one looks for all");
    certificates.look();
    assert!(shown(&first).unwrap() == first);

    fs::write(files.path("one.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    certificates.look();
    assert!(shown(&first).unwrap() == first, "a key came without its certificate");
    fs::remove_file(files.path("one.pem")).unwrap();
    certificates.look();
    assert!(shown(&first).unwrap() == first, "the certificate is gone");

    let second = files.make("one", "one.example");
    certificates.look();
    assert!(shown(&second).unwrap() == second);
    assert!(shown(&first).is_err());
}

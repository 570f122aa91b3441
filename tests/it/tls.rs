//! TLS towards clients.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gitlab_standin::{Effect, Ending, Fault, GitLab, Setup};
use http::Method;
use larder::config::Config;
use larder::server::tls::{Pair, ServerTls, Version};
use rcgen::generate_simple_self_signed;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::raw;
use crate::scene::{MODES, Scene, archive};
use crate::support::{Larder, Reply, exchange};

/// The name that tests ask for.
pub(crate) const NAME: &str = "larder.test";

/// Certificates in a directory.
pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Writes a new certificate for a name, and its key.
    pub(crate) fn make(&self, name: &str) -> CertificateDer<'static> {
        let made = generate_simple_self_signed([name.to_owned()]).unwrap();
        let Pair { cert, key } = self.pair(name);
        fs::write(cert, made.cert.pem()).unwrap();
        fs::write(key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    pub(crate) fn pair(&self, name: &str) -> Pair {
        let path = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        Pair { cert: path("pem"), key: path("key") }
    }

    /// Has larder show the certificates of these names.
    pub(crate) fn configure(&self, config: &mut Config, names: &[&str]) {
        let pairs = names.iter().map(|name| self.pair(name)).collect();
        config.server.tls = Some(ServerTls { pairs, min_version: Version::Tls12 });
    }
}

/// A client that trusts these certificates and speaks these protocols.
pub(crate) fn connector(roots: &[CertificateDer<'static>], protocols: &[&[u8]]) -> TlsConnector {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Connects, or says why there is no session.
pub(crate) async fn connect(
    larder: &Larder,
    connector: &TlsConnector,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(larder.address).await?;
    connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

pub(crate) async fn get(
    larder: &Larder,
    connector: &TlsConnector,
    target: &str,
    fields: &[(&str, &str)],
) -> Reply {
    let stream = connect(larder, connector, NAME).await.unwrap();
    let answer = exchange(stream, Method::GET, (NAME, target), fields, "").await;
    answer.expect("a head").rest().await
}

/// The path and query of a URL at larder.
pub(crate) fn target<'a>(larder: &Larder, url: &'a str) -> &'a str {
    url.strip_prefix(&larder.url()).unwrap()
}

#[tokio::test]
async fn archives_come_by_tls_cold_hot_and_in_parts() {
    for storage in MODES {
        let files = Files::new();
        let root = files.make(NAME);
        let bytes = archive(3_000_000, 1);
        let scene = Scene::with(storage, bytes.clone(), |config| files.configure(config, &[NAME])).await;
        let client = connector(&[root], &[b"http/1.1"]);
        let (url, bytes) = (scene.url(), bytes.bytes().unwrap());
        let path = target(&scene.larder, &url);
        let token = ("private-token", scene.token.as_str());
        let cold = get(&scene.larder, &client, path, &[token]).await;
        assert!(scene.is_archive(&cold), "{storage:?}");
        scene.larder.stored(1).await;
        // The first reading compares chunks; the second only reads.
        for _ in 0..2 {
            let hot = get(&scene.larder, &client, path, &[token]).await;
            assert!(scene.is_archive(&hot), "{storage:?}");
            assert_eq!(hot.cache(), "larder; hit", "{storage:?}");
        }
        let part = get(&scene.larder, &client, path, &[token, ("range", "bytes=65530-1200000")]).await;
        assert!(part.status == 206 && part.body == bytes[65_530..=1_200_000], "{storage:?}");
        let parts = get(&scene.larder, &client, path, &[token, ("range", "bytes=0-9,100000-299999")]).await;
        assert!(parts.status == 206 && parts.whole, "{storage:?}");
        assert!(parts.body.windows(200_000).any(|window| window == &bytes[100_000..300_000]), "{storage:?}");
    }
}

#[tokio::test]
async fn gitlab_learns_that_the_client_came_by_tls() {
    let files = Files::new();
    let root = files.make(NAME);
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| files.configure(config, &[NAME])).await;
    let echo = get(&larder, &connector(&[root], &[]), "/echo", &[]).await;
    let told: serde_json::Value = serde_json::from_slice(&echo.body).unwrap();
    let proto = serde_json::json!(["X-Forwarded-Proto", "https"]);
    let fields = told["headers"].as_array().unwrap();
    let same = |field: &&serde_json::Value| {
        field[0].as_str().unwrap().eq_ignore_ascii_case("x-forwarded-proto") && field[1] == proto[1]
    };
    assert_eq!(fields.iter().filter(same).count(), 1, "{fields:?}");
}

#[tokio::test]
async fn a_name_chooses_the_certificate_and_the_first_one_is_for_all_others() {
    let files = Files::new();
    let roots = [files.make("one.test"), files.make("two.test")];
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| files.configure(config, &["one.test", "two.test"])).await;
    for (name, root) in [("one.test", 0), ("two.test", 1)] {
        let client = connector(&[roots[root].clone()], &[]);
        assert!(connect(&larder, &client, name).await.is_ok(), "{name}");
    }
    let error = connect(&larder, &connector(&roots, &[]), "three.test").await.unwrap_err().to_string();
    assert!(error.contains("one.test"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_as_tls_says_goodbye() {
    let files = Files::new();
    let root = files.make(NAME);
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| files.configure(config, &[NAME])).await;
    gitlab.fault(Fault::new(Effect::Chunked));
    gitlab.fault(Fault::new(Effect::Cut { after: 100_000, ending: Ending::Close }));
    let mut stream = connect(&larder, &connector(&[root], &[]), NAME).await.unwrap();
    // To HTTP/1.0 an answer without a length ends with its connection.
    stream.write_all(b"GET /bytes/250000 HTTP/1.0\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    assert!(stream.read_to_end(&mut read).await.is_err(), "{} bytes and a clean end", read.len());
}

#[tokio::test]
async fn what_is_no_tls_is_counted_and_cut_off_and_silence_is_not_waited_for() {
    let files = Files::new();
    files.make(NAME);
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| {
        files.configure(config, &[NAME]);
        config.server.header_timeout = Duration::from_millis(50);
    })
    .await;
    let mut plain = raw::Wire::to(larder.address).await;
    plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let told = plain.answer(false).await;
    assert_eq!((told.status(), told.field("connection")), (400, Some("close")));
    let message = "400 Bad Request - this port speaks HTTPS, and the request came as plain HTTP";
    assert_eq!(told.json()["message"], message);
    assert_eq!(plain.end().await, raw::End::Closed);
    larder.counted("larder_connections_cut_total{why=\"tls\"}", 1).await;
    let mut silent = TcpStream::connect(larder.address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(larder.count("larder_connections_cut_total{why=\"tls_timeout\"}"), 1);
    // What still comes is read, so that the answer isn't lost with it.
    for begins in
        [&b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n"[..], b"\r\nGET / HTTP/1.0\r\n\r\n"]
    {
        let mut plain = raw::Wire::to(larder.address).await;
        plain.send(begins).await;
        plain.send_what_is_taken(&vec![b'x'; 50_000]).await;
        assert_eq!(plain.answer(false).await.status(), 400);
    }
    // What is neither gets no words that it couldn't read.
    let mut neither = raw::Wire::to(larder.address).await;
    neither.send(&[0x80, 0x2e, 1, 0, 2, 0, 21]).await;
    assert!(neither.next_answer(false).await.is_err());
    // Whoever only looks whether somebody listens is neither.
    drop(TcpStream::connect(larder.address).await.unwrap());
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_connections_live_on() {
    let files = Files::new();
    let old = files.make(NAME);
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::with(&gitlab, |config| files.configure(config, &[NAME])).await;
    let before = connect(&larder, &connector(std::slice::from_ref(&old), &[]), NAME).await.unwrap();
    let new = files.make(NAME);
    assert!(
        connect(&larder, &connector(std::slice::from_ref(&old), &[]), NAME).await.is_ok(),
        "nobody has looked yet"
    );
    larder.clock.advance(Duration::from_secs(10));
    assert!(connect(&larder, &connector(std::slice::from_ref(&new), &[]), NAME).await.is_ok());
    assert!(connect(&larder, &connector(&[old], &[]), NAME).await.is_err());
    let answer = exchange(before, Method::GET, (NAME, "/echo"), &[], "").await.unwrap();
    assert_eq!(answer.rest().await.status, 200);

    fs::write(files.pair(NAME).key, "not a key").unwrap();
    larder.clock.advance(Duration::from_secs(10));
    assert!(connect(&larder, &connector(&[new], &[]), NAME).await.is_ok(), "the old ones stay");
}

#[tokio::test]
async fn larder_does_not_start_with_certificates_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::support::config("http://127.0.0.1:9", dir.path());
    let pair =
        Pair { cert: Path::new("/nonexistent/a.pem").into(), key: Path::new("/nonexistent/a.key").into() };
    config.server.tls = Some(ServerTls { pairs: vec![pair], min_version: Version::Tls12 });
    let started = larder::app::App::start(config, larder::base::clock::Clock::manual(0)).await;
    let error = started.unwrap_err().to_string();
    assert!(error.contains("server.tls.cert /nonexistent/a.pem"), "{error}");
}

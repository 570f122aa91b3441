//! The way out: certificates on both sides, and a proxy in between.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use gitlab_standin::{Certificate, GitLab, Setup};
use larder::config::Config;
use larder::upstream::{Settings, TlsSettings};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::raw::{self, Wire, request};
use crate::support::{Larder, get, pem};

fn dir() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn any_certificate_is_taken_where_the_operator_insists() {
    let certificate = Certificate::self_signed(&["elsewhere.test"]).unwrap();
    let setup = Setup::default().tls(vec![certificate.der.clone()], certificate.key.clone());
    let gitlab = GitLab::start(setup).await.unwrap();
    let url = gitlab.tls_url().unwrap();
    for (insecure, status) in [(false, 502), (true, 200)] {
        let change = |config: &mut Config| config.upstream.tls.insecure = insecure;
        let larder = Larder::on(&url, dir(), change).await;
        assert_eq!(get(&format!("{}/echo", larder.url()), &[]).await.status, status);
    }
}

/// A GitLab that wants to see this certificate. It ends with the test's runtime.
async fn wants(client: &Certificate, server: &Certificate) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(client.der.clone())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server.key.clone()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![CertificateDer::from(server.der.clone())], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One that shows none is refused; the next may be better.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") && stream.read_buf(&mut read).await.is_ok_and(|n| n > 0) {}
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

#[tokio::test]
async fn larder_shows_gitlab_its_certificate() {
    let (client, server) = (
        Certificate::self_signed(&["larder.test"]).unwrap(),
        Certificate::self_signed(&["localhost"]).unwrap(),
    );
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| -> PathBuf {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.pem", pem("CERTIFICATE", &server.der));
    let cert = file("client.pem", pem("CERTIFICATE", &client.der));
    let key = file("client.key", pem("PRIVATE KEY", &client.key));
    let url = wants(&client, &server).await;
    for (shown, status) in [(true, 200), (false, 502)] {
        let (ca, cert, key) = (ca.clone(), cert.clone(), key.clone());
        let change = move |config: &mut Config| {
            config.upstream.ca_file = Some(ca);
            if shown {
                (config.upstream.tls.cert, config.upstream.tls.key) = (Some(cert), Some(key));
            }
        };
        let larder = Larder::on(&url, dir(), change).await;
        assert_eq!(get(&format!("{}/x", larder.url()), &[]).await.status, status, "shown: {shown}");
    }
}

#[tokio::test]
async fn certificates_that_can_not_be_used_keep_larder_from_starting() {
    let (one, other) =
        (Certificate::self_signed(&["a.test"]).unwrap(), Certificate::self_signed(&["b.test"]).unwrap());
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| Some(files.path().join(name));
    fs::write(path("cert").unwrap(), pem("CERTIFICATE", &one.der)).unwrap();
    fs::write(path("key").unwrap(), pem("PRIVATE KEY", &one.key)).unwrap();
    fs::write(path("other").unwrap(), pem("PRIVATE KEY", &other.key)).unwrap();
    let tls = |cert, key| TlsSettings { insecure: false, cert, key };
    for (tls, storage_ca_file, said) in [
        (tls(path("cert"), None), None, "upstream.tls.cert and upstream.tls.key go together"),
        (tls(None, path("key")), None, "upstream.tls.cert and upstream.tls.key go together"),
        (tls(path("cert"), path("other")), None, "can't be used together"),
        (tls(path("gone"), path("key")), None, "upstream.tls.cert "),
        (tls(path("cert"), path("cert")), None, "upstream.tls.key "),
        (tls(None, None), path("key"), "storage.ca_file "),
        (tls(None, None), path("gone"), "storage.ca_file "),
    ] {
        let dir = dir();
        let config = crate::support::config("https://gitlab.test", dir.path());
        let settings = Settings { tls, storage_ca_file, ..config.upstream };
        let hop = larder::http::hop::Hop::new("1");
        let error = larder::upstream::Upstream::new(settings, &larder::telemetry::Metrics::default(), hop);
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// A larder whose way out is a listener of the test's.
async fn behind_a_proxy(upstream: &str, credentials: Option<&str>) -> (Larder, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("auth");
    fs::write(&file, credentials.unwrap_or_default()).unwrap();
    let change = |config: &mut Config| {
        config.upstream.proxy.url = Some(proxy.parse().unwrap());
        config.upstream.proxy.auth_file = credentials.map(|_| file);
    };
    (Larder::on(upstream, dir(), change).await, listener)
}

#[tokio::test]
async fn gitlab_is_reached_through_a_tunnel_of_the_proxys() {
    let (larder, proxy) = behind_a_proxy("http://gitlab.invalid", Some("user:pass\n")).await;
    let mut client = Wire::to(larder.address).await;
    client.send(&request("GET", b"/x", &[b"Proxy-Authorization: Basic c2VjcmV0"], b"")).await;
    let mut tunnel = Wire::of(proxy.accept().await.unwrap().0);
    let asked = tunnel.request().await;
    assert_eq!(asked.line, "CONNECT gitlab.invalid:80 HTTP/1.1");
    assert_eq!(
        asked.field("proxy-authorization"),
        Some("Basic dXNlcjpwYXNz"),
        "the operator's, not the client's"
    );
    tunnel.send(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    let inside = tunnel.request().await;
    assert_eq!((inside.line.as_str(), inside.field("host")), ("GET /x HTTP/1.1", Some("gitlab.invalid")));
    assert_eq!(inside.field("proxy-authorization"), None);
    tunnel.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer(false).await.body, b"ok");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_a_gitlab_that_can_not_be_reached() {
    for refusal in ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"] {
        let (larder, proxy) = behind_a_proxy("https://gitlab.invalid", None).await;
        let mut client = Wire::to(larder.address).await;
        client.send(&request("GET", b"/x", &[], b"")).await;
        let mut tunnel = Wire::of(proxy.accept().await.unwrap().0);
        assert_eq!(tunnel.request().await.line, "CONNECT gitlab.invalid:443 HTTP/1.1");
        tunnel.send(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        let answer = client.answer(false).await;
        assert_eq!(answer.status(), 502, "{refusal}");
        assert_eq!(answer.field("proxy-status"), Some("larder; error=destination_unavailable"), "{refusal}");
    }
}

#[tokio::test]
async fn this_machine_is_reached_without_the_proxy() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let (larder, _proxy) = behind_a_proxy(&gitlab.url(), None).await;
    assert_eq!(raw::exchange(larder.address, &request("GET", b"/echo", &[], b"")).await.status(), 200);
}

#[tokio::test]
async fn no_spelling_of_a_special_address_goes_through_the_proxy() {
    for host in [
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.254.169.254.",
        "metadata.google.internal",
    ] {
        let (larder, proxy) = behind_a_proxy("http://gitlab.invalid", None).await;
        let location = format!("http://{host}/latest?X-Amz-Signature=0a1b");
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let asked = tokio::spawn(async move {
            // The question, and then the client's own request.
            for _ in 0..2 {
                let mut tunnel = Wire::of(proxy.accept().await.unwrap().0);
                assert_eq!(tunnel.request().await.line, "CONNECT gitlab.invalid:80 HTTP/1.1");
                tunnel.send(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
                tunnel.request().await;
                tunnel.send(answer.as_bytes()).await;
            }
            proxy
        });
        let ours = get(&format!("{}/api/v4/projects/7/jobs/42/artifacts", larder.url()), &[]).await;
        assert_eq!((ours.status.as_u16(), ours.field("location")), (302, Some(location.as_str())));
        let proxy = asked.await.unwrap();
        larder.stop().await;
        let more = std::future::poll_fn(|context| std::task::Poll::Ready(proxy.poll_accept(context))).await;
        assert!(more.is_pending(), "{host}: nobody else is asked for");
    }
}

#[tokio::test]
async fn a_private_address_is_an_object_store_behind_the_proxy() {
    let (larder, proxy) = behind_a_proxy("http://gitlab.invalid", None).await;
    let answer = b"HTTP/1.1 302 Found\r\nLocation: http://10.1.2.3:9000/b/k?X-Amz-Signature=0a1b\r\nContent-Length: 0\r\n\r\n";
    let url = format!("{}/api/v4/projects/7/jobs/42/artifacts", larder.url());
    let client = tokio::spawn(async move { get(&url, &[]).await });
    let mut tunnel = Wire::of(proxy.accept().await.unwrap().0);
    assert_eq!(tunnel.request().await.line, "CONNECT gitlab.invalid:80 HTTP/1.1");
    tunnel.send(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    tunnel.request().await;
    tunnel.send(answer).await;
    let mut store = Wire::of(proxy.accept().await.unwrap().0);
    assert_eq!(store.request().await.line, "CONNECT 10.1.2.3:9000 HTTP/1.1");
    client.abort();
}

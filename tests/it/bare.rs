//! Bodies over TLS whose end is the connection's, which closes without a word (`close_notify`; RFC 8446, 6.1): anybody on
//! the way could have cut them.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use gitlab_standin::Certificate;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::scene::{archive, zips};
use crate::support::{Larder, get, pem};

/// Answers everything with this body and no length, and is gone.
async fn server(certificate: &Certificate, body: Bytes) -> String {
    let key = PrivateKeyDer::try_from(certificate.key.clone()).unwrap();
    let chain = vec![CertificateDer::from(certificate.der.clone())];
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, body) = (acceptor.clone(), body.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nConnection: close\r\n\r\n",
                    )
                    .await
                    .unwrap();
                stream.write_all(&body).await.unwrap();
                stream.flush().await.unwrap();
                // The stream below is closed; TLS doesn't hear of it.
                let (mut below, _) = stream.into_inner();
                below.shutdown().await.unwrap();
                let _ = below.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn what_ends_so_breaks_its_answer_but_a_whole_zip_proves_itself_and_is_stored() {
    let certificate = Certificate::self_signed(&["localhost"]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    fs::write(&ca_file, pem("CERTIFICATE", &certificate.der)).unwrap();
    let zip = archive(300_000, 1).bytes().unwrap();
    let cut = zip.slice(..200_000);
    for (body, path, whole) in [
        (zip.clone(), "/api/v4/projects/1/jobs/2/artifacts", true),
        (cut, "/api/v4/projects/1/jobs/2/artifacts", false),
        (Bytes::from_static(b"a page, or its beginning"), "/page", false),
        (zip, "/page.zip", false),
    ] {
        let upstream = server(&certificate, body.clone()).await;
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let larder = Larder::on(&upstream, Arc::clone(&dir), |config| {
            config.upstream.ca_file = Some(ca_file.clone());
            config.upstream.http2 = larder::upstream::Http2::Off;
        })
        .await;
        let reply = get(&format!("{}{path}", larder.url()), &[("private-token", "t")]).await;
        assert_eq!((reply.status.as_u16(), reply.whole), (200, whole), "{path} {}", body.len());
        if whole {
            assert!(reply.body == body);
            larder.stored(1).await;
        } else {
            assert_eq!(zips(dir.path()).len(), 0, "{path} {}", body.len());
        }
    }
}

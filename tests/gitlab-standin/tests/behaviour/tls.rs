//! The TLS listener.

use std::sync::Arc;

use gitlab_standin::{Certificate, Class, Effect, Ending, Fault, GitLab, Setup};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::client::{Answer, exchange};

async fn get(gitlab: &GitLab, certificate: &Certificate, name: &'static str, target: &str) -> Answer {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.der.clone())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(gitlab.tls_address().unwrap()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap();
    exchange(stream, &format!("GET {target} HTTP/1.1\r\nHost: h\r\n"), &[], b"").await
}

#[tokio::test]
async fn gitlab_also_speaks_tls_and_breaks_over_it() {
    let certificate = Certificate::self_signed(&["localhost", "127.0.0.1"]).unwrap();
    let setup = Setup::default().tls(vec![certificate.der.clone()], certificate.key.clone());
    let gitlab = GitLab::start(setup).await.unwrap();
    for name in ["localhost", "127.0.0.1"] {
        assert!(get(&gitlab, &certificate, name, "/bytes/100000").await.is_whole());
    }
    gitlab.fault(Fault::new(Effect::SignIn).on(Class::Echo));
    let sign_in = get(&gitlab, &certificate, "localhost", "/echo").await;
    assert_eq!(sign_in.header("location"), Some("https://h/users/sign_in"));
    gitlab.fault(Fault::new(Effect::Cut { after: 50_000, ending: Ending::Close }));
    assert_eq!(get(&gitlab, &certificate, "localhost", "/bytes/100000").await.body.len(), 50_000);
    assert_eq!(gitlab.counters().connections, 4);
}

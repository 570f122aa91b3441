//! Addresses and certificates move: connections have a longest life, and SIGHUP takes new files.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gitlab_standin::{Certificate, GitLab, Setup};
use larder::config::{File, Loaded, Sources, load};
use larder::upstream::Http2;

use crate::support::{Larder, get, pem};

const AGE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_kept_connection_takes_no_request_once_it_is_too_old() {
    let certificate = Certificate::self_signed(&["localhost"]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    fs::write(&ca_file, pem("CERTIFICATE", &certificate.der)).unwrap();
    for http2 in [Http2::Off, Http2::Auto] {
        let setup = Setup::default().tls(vec![certificate.der.clone()], certificate.key.clone()).http2(true);
        let gitlab = GitLab::start(setup).await.unwrap();
        let larder =
            Larder::on(&gitlab.tls_url().unwrap(), Arc::new(tempfile::tempdir().unwrap()), |config| {
                config.upstream.ca_file = Some(ca_file.clone());
                config.upstream.http2 = http2;
            })
            .await;
        let url = format!("{}/echo", larder.url());
        let ask = async || {
            assert_eq!(get(&url, &[]).await.status, 200);
            gitlab.counters().connections
        };
        let first = ask().await;
        assert_eq!(ask().await, first, "{http2:?}: it is kept");
        larder.clock.advance(AGE.checked_sub(Duration::from_secs(1)).unwrap());
        assert_eq!(ask().await, first, "{http2:?}: it is not too old");
        larder.clock.advance(Duration::from_secs(1));
        assert_eq!(ask().await, first + 1, "{http2:?}");
        assert_eq!(ask().await, first + 1, "{http2:?}: and the new one is kept");
    }
}

fn loaded(text: &str) -> Loaded {
    let file = File { path: "l.toml".into(), text: Ok(text.to_owned()) };
    load(&Sources { file: Some(file), ..Sources::default() }).unwrap()
}

#[tokio::test]
async fn new_certificates_to_believe_come_with_a_reload_and_wrong_ones_change_nothing() {
    let [one, other] = [0; 2].map(|_| Certificate::self_signed(&["localhost"]).unwrap());
    let setup = Setup::default().tls(vec![one.der.clone()], one.key.clone());
    let gitlab = GitLab::start(setup).await.unwrap();
    let url = gitlab.tls_url().unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    fs::write(&ca_file, pem("CERTIFICATE", &other.der)).unwrap();
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let larder = Larder::on(&url, dir, |config| config.upstream.ca_file = Some(ca_file.clone())).await;
    let text = format!("[upstream]\nurl = \"{url}\"\nca_file = \"{}\"\n", ca_file.display());
    let mut held = loaded(&text);
    let echo = format!("{}/echo", larder.url());
    let refused = get(&echo, &[]).await;
    assert_eq!(refused.field("proxy-status"), Some("larder; error=tls_certificate_error"));
    // The file has changed, its name has not.
    fs::write(&ca_file, pem("CERTIFICATE", &one.der)).unwrap();
    larder.reload.apply(&mut held, loaded(&text), None).await.unwrap();
    assert_eq!(get(&echo, &[]).await.status, 200);
    fs::write(&ca_file, "no certificate").unwrap();
    let error = larder.reload.apply(&mut held, loaded(&text), None).await.unwrap_err();
    assert!(error.to_string().contains("upstream.ca_file"), "{error}");
    let tls = format!("{text}[upstream.tls]\ncert = \"/nonexistent\"\nkey = \"/nonexistent\"\n");
    fs::write(&ca_file, pem("CERTIFICATE", &one.der)).unwrap();
    let error = larder.reload.apply(&mut held, loaded(&tls), None).await.unwrap_err();
    assert!(error.to_string().contains("upstream.tls.cert"), "{error}");
    assert_eq!(get(&echo, &[]).await.status, 200, "as before");
    let moved = files.path().join("moved.pem");
    fs::write(&moved, pem("CERTIFICATE", &one.der)).unwrap();
    let text = format!("[upstream]\nurl = \"{url}\"\nca_file = \"{}\"\n", moved.display());
    let changed = larder.reload.apply(&mut held, loaded(&text), None).await.unwrap();
    assert_eq!(changed.now, ["upstream.ca_file"]);
    assert_eq!(get(&echo, &[]).await.status, 200);
}

//! A configuration that changes while larder serves.

use std::time::Duration;

use gitlab_standin::{Effect, Fault, Gate, GitLab, Setup};
use larder::app::Changed;
use larder::config::{File, Loaded, Sources, load};

use crate::raw::{End, Wire};
use crate::scene::{MODES, Scene, archive};
use crate::support::{Larder, get};
use crate::tls::{Files, NAME, connect, connector};

fn loaded(text: &str) -> Loaded {
    let text = format!("[upstream]\nurl = \"http://gitlab.test\"\n{text}");
    let file = File { path: "l.toml".into(), text: Ok(text) };
    load(&Sources { file: Some(file), ..Sources::default() }).unwrap()
}

const ASKED: &str = "larder_grants_total{result=\"asked\"}";
const REMEMBERED: &str = "larder_grants_total{result=\"remembered\"}";

#[tokio::test]
async fn access_is_judged_by_the_new_times_at_once() {
    let scene = Scene::start(MODES[1], archive(10_000, 1)).await;
    let mut held = loaded("[access]\nttl = \"60s\"");
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.stored(1).await;
    scene.get().await;
    let (asked, remembered) = (scene.larder.count(ASKED), scene.larder.count(REMEMBERED));
    let new = loaded("[access]\nttl = \"0s\"\n[admin]\nlisten = \"127.0.0.1:7\"\n[server]\ndrain = \"30s\"");
    let changed = scene.larder.reload.apply(&mut held, new.clone(), None).await.unwrap();
    assert_eq!(changed, Changed { now: vec!["access.ttl"], later: vec!["admin.listen"] });
    for more in 1..3 {
        assert!(scene.is_archive(&scene.get().await));
        assert_eq!(scene.larder.count(ASKED), asked + more, "a grant that was given counts no more");
    }
    // What can't change is named again as long as it differs; what has changed isn't.
    let changed = scene.larder.reload.apply(&mut held, new, None).await.unwrap();
    assert_eq!(changed, Changed { now: vec![], later: vec!["admin.listen"] });
    let changed = scene.larder.reload.apply(&mut held, loaded("[access]\nttl = \"1h\""), None).await.unwrap();
    assert_eq!(changed.now, ["access.ttl"]);
    // What is asked in the same moment may have been asked before.
    scene.larder.clock.advance(Duration::from_millis(1));
    scene.get().await;
    scene.larder.clock.advance(Duration::from_secs(3000));
    scene.get().await;
    assert_eq!(scene.larder.count(REMEMBERED), remembered + 1);
}

#[tokio::test]
async fn limits_hold_for_the_next_connection_and_what_runs_goes_on() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    let mut held = loaded("");
    let gate = Gate::new();
    gate.release(10);
    gitlab.fault(Fault::new(Effect::Slow(gate.clone())).once());
    let mut running = Wire::to(larder.address).await;
    running.send(b"GET /bytes/100000 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    larder.counted("larder_connections", 1).await;
    let new = loaded("[server]\nmax_connections_per_address = 1\nmax_connections = 5");
    let changed = larder.reload.apply(&mut held, new, None).await.unwrap();
    assert_eq!(changed.now, ["server.max_connections", "server.max_connections_per_address"]);
    assert_eq!(Wire::to(larder.address).await.end().await, End::Reset);
    let new = loaded("[server]\nmax_connections_per_address = 0");
    larder.reload.apply(&mut held, new, None).await.unwrap();
    assert_eq!(get(&format!("{}/echo", larder.url()), &[]).await.status, 200);
    gate.open();
    let answer = running.answer(false).await;
    assert_eq!((answer.body.len(), answer.end), (100_000, End::Framed));
}

#[tokio::test]
async fn fewer_connections_than_there_are_drop_none_and_more_let_those_in_that_wait() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    let mut held = loaded("");
    let request = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut wires = [Wire::to(larder.address).await, Wire::to(larder.address).await];
    for wire in &mut wires {
        wire.send(request).await;
        assert_eq!(wire.answer(false).await.status(), 200);
    }
    larder.reload.apply(&mut held, loaded("[server]\nmax_connections = 1"), None).await.unwrap();
    for wire in &mut wires {
        wire.send(request).await;
        assert_eq!(wire.answer(false).await.status(), 200, "it is still there");
    }
    // One is let in that larder had begun to wait for; the next one waits in the kernel.
    let mut more = [Wire::to(larder.address).await, Wire::to(larder.address).await];
    for wire in &mut more {
        wire.send(request).await;
    }
    larder.reload.apply(&mut held, loaded("[server]\nmax_connections = 10"), None).await.unwrap();
    for wire in &mut more {
        assert_eq!(wire.answer(false).await.status(), 200);
    }
}

#[tokio::test]
async fn tls_comes_with_a_reload_and_wrong_certificates_change_nothing() {
    let files = Files::new();
    let root = files.make(NAME);
    let pair = files.pair(NAME);
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let larder = Larder::start(&gitlab).await;
    let mut held = loaded("");
    let tls = |key: &str| {
        let cert = pair.cert.display();
        loaded(&format!("[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n[access]\nttl = \"7s\""))
    };
    let error = larder.reload.apply(&mut held, tls("/nonexistent"), None).await.unwrap_err();
    assert!(error.to_string().contains("server.tls.key /nonexistent"), "{error}");
    assert_eq!(get(&format!("{}/echo", larder.url()), &[]).await.status, 200, "plain, as before");
    let key = pair.key.display().to_string();
    let changed = larder.reload.apply(&mut held, tls(&key), None).await.unwrap();
    assert_eq!(
        changed.now,
        ["server.tls.cert", "server.tls.key", "access.ttl"],
        "all of it, as none was taken"
    );
    assert!(connect(&larder, &connector(&[root], &[]), NAME).await.is_ok());
}

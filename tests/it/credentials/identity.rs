//! Whoever GitLab would refuse isn't let in on somebody else's yes, whatever it is that makes the difference to GitLab.

use std::net::IpAddr;
use std::time::Duration;

use gitlab_standin::{
    Class, Effect, Ending, Etag, Fault, Gate, GitLab, JobStatus, Level, PipelineStatus, Scope, Setup,
    Storage, Visibility,
};
use http::Method;
use larder::config::Config;

use super::HOUR;
use crate::raw;
use crate::scene::{Scene, archive};
use crate::support::{Larder, Reply, get, open, send};

const LOCAL: Storage = Storage::Local { etag: Etag::Weak };

fn behind_a_trusted_proxy(config: &mut Config) {
    config.access.ttl = HOUR;
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

async fn scene() -> Scene {
    Scene::with(LOCAL, archive(20_000, 1), behind_a_trusted_proxy).await
}

/// Refuses whoever says so, as what stands before GitLab may.
fn firewall(scene: &Scene, name: &'static str, effect: Effect) {
    let blocked = move |seen: &gitlab_standin::Seen| {
        let values = seen.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.into_iter().any(|(_, value)| value.contains("blocked"))
    };
    scene.gitlab.fault(Fault::new(effect).when(blocked));
}

fn forbidden() -> Effect {
    Effect::Answer { status: 403, content_type: "text/plain", body: "blocked".into() }
}

#[tokio::test]
async fn the_whole_chain_of_proxies_is_the_callers() {
    let scene = scene().await;
    let (job, project) = (scene.job, scene.project);
    let pipeline = scene.gitlab.pipeline(project, "main", PipelineStatus::Success);
    let built = scene.gitlab.job_in(pipeline, "build", JobStatus::Success);
    scene.gitlab.put_archive(built, archive(20_000, 2));
    let office: IpAddr = "203.0.113.5".parse().unwrap();
    scene.gitlab.set_allowed_ips(project, Some(vec![office]));
    for path in [
        format!("/projects/{project}/jobs/{job}/artifacts"),
        format!("/projects/{project}/jobs/{job}/artifacts/data.bin"),
        format!("/projects/{project}/jobs/artifacts/main/download?job=build"),
    ] {
        let url = scene.api(&path);
        let ask = |chain: &'static str| {
            let (url, token) = (url.clone(), scene.token.clone());
            async move { get(&url, &[("private-token", &token), ("x-forwarded-for", chain)]).await }
        };
        for _ in 0..2 {
            assert_eq!(ask("203.0.113.5, 10.1.1.1").await.status, 200, "{path}");
            for elsewhere in ["198.51.100.1, 10.1.1.1", "10.1.1.1", "203.0.113.5, 198.51.100.1,10.1.1.1"] {
                assert_eq!(ask(elsewhere).await.status, 404, "{path} {elsewhere}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_sent_of_a_request_belongs_to_its_yes() {
    for name in
        ["User-Agent", "Accept", "Via", "Forwarded", "X-Forwarded-User", "Origin", "Cookie", "X-Custom"]
    {
        let scene = scene().await;
        let ask = |value: &'static str| {
            let (url, token) = (scene.url(), scene.token.clone());
            async move { get(&url, &[("private-token", &token), (name, value)]).await }
        };
        for _ in 0..2 {
            assert!(scene.is_archive(&ask("welcome").await), "{name}");
        }
        firewall(&scene, name, forbidden());
        assert_eq!(ask("welcome").await.cache(), "larder; hit", "{name}");
        for _ in 0..2 {
            assert_eq!(ask("blocked").await.status, 403, "{name}");
        }
        assert_eq!(ask("welcome").await.cache(), "larder; hit", "{name}");
    }
}

#[tokio::test]
async fn what_is_not_sent_cannot_matter() {
    for name in [
        "tracestate",
        "traceparent",
        "Accept-Language",
        "If-Match",
        "Sec-Fetch-Site",
        "X-Forwarded-Host",
        "Priority",
    ] {
        let scene = scene().await;
        let fields = [("private-token", scene.token.as_str()), (name, "blocked")];
        assert!(scene.is_archive(&scene.get().await));
        scene.larder.clock.advance(HOUR);
        let reply = get(&scene.url(), &fields).await;
        assert!(reply.status == 200 || name == "If-Match", "{name}: {}", reply.status);
        let asked = scene.gitlab.requests_of(Class::JobArchive);
        assert!(asked.iter().all(|seen| !seen.carries("blocked")), "{name}");
    }
}

#[tokio::test]
async fn a_firewall_is_no_outage_and_grace_forgives_none() {
    for (name, effect) in [
        ("User-Agent", Effect::Drop(Ending::Reset)),
        ("Accept", Effect::Drop(Ending::Close)),
        ("Via", Effect::Drop(Ending::Reset)),
        ("X-Custom", Effect::Answer { status: 504, content_type: "text/plain", body: "late".into() }),
        ("Private-Token", Effect::Answer { status: 502, content_type: "text/plain", body: "bad".into() }),
    ] {
        let scene = Scene::with(LOCAL, archive(20_000, 1), |config| {
            config.access = larder::access::Settings { ttl: Duration::ZERO, grace: HOUR };
        })
        .await;
        let fields = [("private-token", scene.token.as_str()), (name, "blocked")];
        let own = [("private-token", "blocked")];
        let fields = if name == "Private-Token" { &fields[..1] } else { &fields[..] };
        assert!(scene.is_archive(&get(&scene.url(), fields).await), "{name}");
        let token = scene.token.clone();
        let blocked = move |seen: &gitlab_standin::Seen| seen.carries("blocked") || seen.carries(&token);
        scene.gitlab.fault(Fault::new(effect).when(blocked));
        let refused = get(&scene.url(), fields).await;
        assert!(refused.status == 502 || refused.status == 504, "{name}: {}", refused.status);
        assert!(!scene.is_archive(&get(&scene.url(), &own).await), "{name}");
        scene.gitlab.clear_faults();
        scene.gitlab.fault(Fault::new(Effect::Drop(Ending::Reset)));
        assert!(scene.is_archive(&get(&scene.url(), fields).await), "{name}: GitLab is down to all");
    }
}

#[tokio::test]
async fn a_trusted_proxys_word_that_is_no_address_is_a_bad_request() {
    let scene = scene().await;
    assert!(scene.is_archive(&scene.get().await));
    let (url, token) = (scene.url(), &scene.token);
    let path = url.strip_prefix(&scene.larder.url()).unwrap();
    for word in ["\u{ff}", "1.2.3.4,", "1.2.3.4, unknown", "", "unknown", "1.2.3.4, \u{ff}", "1.2.3.4,,"] {
        // Latin-1, a byte a letter.
        let word: Vec<u8> = word.chars().map(|letter| u8::try_from(letter).unwrap()).collect();
        for path in [path, "/api/v4/version"] {
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nPrivate-Token: {token}\r\nX-Forwarded-For: ");
            let request = [head.as_bytes(), &word, b"\r\nConnection: close\r\n\r\n"].concat();
            let mut wire = raw::Wire::to(scene.larder.address).await;
            wire.send(&request).await;
            let answer = wire.answer(false).await;
            assert_eq!(answer.status(), 400, "{word:?} {path}");
        }
    }
    let told = get(&url, &[("private-token", token), ("x-forwarded-for", "")]).await;
    assert_eq!(told.status, 400);
}

/// The same behind no nginx, which would have dropped names with `_`.
async fn bare(trusted: bool) -> Scene {
    let gitlab = GitLab::start(Setup::default().storage(LOCAL).bare(true)).await.unwrap();
    let alice = gitlab.user("alice");
    let project = gitlab.project("group/project", Visibility::Private);
    gitlab.member(project, alice, Level::Maintainer);
    let token = gitlab.personal_token(alice, Scope::Api);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, archive(20_000, 1));
    let larder = Larder::with(&gitlab, |config| {
        config.access.ttl = HOUR;
        if trusted {
            config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        }
    })
    .await;
    Scene { gitlab, larder, storage: LOCAL, project, alice, token, job, archive: archive(20_000, 1) }
}

#[tokio::test]
async fn no_spelling_of_a_claim_reaches_a_gitlab_that_reads_it() {
    for trusted in [false, true] {
        let scene = bare(trusted).await;
        let office: IpAddr = "203.0.113.5".parse().unwrap();
        scene.gitlab.set_allowed_ips(scene.project, Some(vec![office]));
        for name in ["X_Forwarded_For", "X-Forwarded_For", "x_forwarded-for", "X_Real-IP", "Client_IP"] {
            for url in [scene.url(), scene.api(&format!("/projects/{}", scene.project))] {
                let fields = [("private-token", scene.token.as_str()), (name, "203.0.113.5")];
                assert_eq!(get(&url, &fields).await.status, 404, "{name} {url} {trusted}");
            }
        }
        for name in ["X_Forwarded_Host", "X-Forwarded_Host", "X_Forwarded_Proto"] {
            let fields = [("private-token", scene.token.as_str()), (name, "7")];
            drop(get(&scene.url(), &fields).await);
            drop(get(&scene.api("/version"), &fields).await);
        }
        let strange = |seen: &gitlab_standin::Seen| {
            seen.headers.iter().any(|(field, _)| field.contains('_')) || seen.carries("203.0.113.5")
        };
        assert!(!scene.gitlab.requests().iter().any(strange), "{trusted}");
    }
}

#[tokio::test]
async fn a_condition_in_another_spelling_is_no_condition_of_a_question() {
    let scene = bare(false).await;
    let constant = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";
    for name in ["If_None_Match", "IF-NONE_MATCH", "If_Modified_Since", "If_Range", "Accept_Encoding"] {
        let fields = [("private-token", scene.token.as_str()), (name, constant)];
        assert!(scene.is_archive(&get(&scene.url(), &fields).await), "{name}");
        scene.larder.clock.advance(HOUR);
    }
    assert_eq!(scene.transfers(), 1);
}

#[tokio::test]
async fn a_credential_in_another_spelling_ends_with_the_credential() {
    let scene = bare(false).await;
    for (seen, told) in [("private_token", "private-token"), ("PRIVATE-TOKEN", "Private_Token")] {
        scene.larder.clock.advance(Duration::from_secs(1));
        let token = scene.gitlab.personal_token(scene.alice, Scope::Api);
        let download = || async { get(&scene.url(), &[(seen, token.as_str())]).await };
        assert!(scene.is_archive(&download().await), "{seen}");
        scene.gitlab.revoke(&token);
        assert_eq!(download().await.cache(), "larder; hit", "remembered");
        assert_eq!(get(&scene.api("/user"), &[(told, &token)]).await.status, 401);
        assert_eq!(download().await.status, 401, "{seen} after a 401 to {told}");
    }
}

#[tokio::test]
async fn the_fields_of_one_answer_go_to_the_request_that_asked() {
    let gitlab = GitLab::start(Setup::default().storage(LOCAL).set_cookie(true)).await.unwrap();
    let project = gitlab.project("group/open", Visibility::Public);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, archive(20_000, 1));
    let larder = Larder::with(&gitlab, |config| config.access.ttl = HOUR).await;
    let url = format!("{}/api/v4/projects/{project}/jobs/{job}/artifacts", larder.url());
    assert_eq!(get(&url, &[]).await.status, 200);
    larder.stored(1).await;
    for refused in [false, true] {
        larder.clock.advance(HOUR);
        if refused {
            gitlab.set_visibility(project, Visibility::Private);
        }
        let gate = Gate::new();
        gitlab.fault(Fault::new(Effect::Hold(gate.clone())).on(Class::JobArchive));
        let before = gitlab.counters().requests_of(Class::JobArchive);
        let asked: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { get(&url, &[]).await })
            })
            .collect();
        gate.arrived(1).await;
        larder.counted("larder_connections", 6).await;
        gate.open();
        let mut replies: Vec<Reply> = Vec::new();
        for reply in asked {
            replies.push(reply.await.unwrap());
        }
        gitlab.clear_faults();
        assert!(replies.iter().all(|reply| reply.status == if refused { 404 } else { 200 }));
        let cookies = replies.iter().filter(|reply| reply.field("set-cookie").is_some()).count();
        // One who comes late may have asked again, and then has one of its own.
        let questions = usize::try_from(gitlab.counters().requests_of(Class::JobArchive) - before).unwrap();
        assert_eq!(cookies, questions, "a session is one browser's; refused: {refused}");
        assert!(questions < 6, "they share an answer");
        let mut ids: Vec<&str> = replies.iter().map(|reply| reply.field("x-request-id").unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 6, "and so is a request's name; refused: {refused}");
    }
}

#[tokio::test]
async fn a_requests_name_does_not_count_requests() {
    let scene = scene().await;
    let mut names = Vec::new();
    for _ in 0..8 {
        let reply = send(Method::GET, &format!("{}//", scene.larder.url()), &[("host", "a b")]).await;
        names.push(reply.field("x-request-id").unwrap().to_owned());
    }
    let beginnings: std::collections::HashSet<&str> = names.iter().map(|name| &name[..8]).collect();
    let ends: std::collections::HashSet<&str> = names.iter().map(|name| &name[name.len() - 8..]).collect();
    assert_eq!((beginnings.len(), ends.len()), (8, 8), "{names:?}");
    let next = |name: &str| u128::from_str_radix(name, 16).unwrap();
    assert!(names.windows(2).all(|pair| next(&pair[1]).abs_diff(next(&pair[0])) > 1 << 32), "{names:?}");
    drop(open(Method::GET, &scene.url(), &[], "").await);
}

//! Object stores that fail, send on to another place, or know less of ranges than others.

use std::sync::Arc;
use std::time::Duration;

use gitlab_standin::{
    Class, Effect, Ending, Fault, Gate, JobStatus, Level, Listening, Scope, Seen, Server, Storage,
};
use http::Method;
use larder::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::scene::{Scene, archive};
use crate::support::{Reply, get, open, through};

const REDIRECTS: Storage = Storage::Redirect { job_id_in_path: false };
const HOUR: Duration = Duration::from_secs(3600);
const REST: Duration = Duration::from_secs(30);
const CROWD: usize = 12;

fn impatient(config: &mut Config) {
    config.upstream.connect_timeout = Duration::from_millis(500);
    config.upstream.answer_timeout = Duration::from_millis(500);
    config.upstream.read_timeout = HOUR;
}

/// Ways in which a store fails.
#[derive(Debug, Clone, Copy)]
enum Fails {
    Refuses,
    Silent,
    SilentAfterItsHead,
    Drops,
    Says(u16),
}

const ALL: [Fails; 7] = [
    Fails::Refuses,
    Fails::Silent,
    Fails::SilentAfterItsHead,
    Fails::Drops,
    Fails::Says(403),
    Fails::Says(503),
    Fails::Says(500),
];

impl Fails {
    fn begin(self, scene: &Scene) {
        let effect = match self {
            Self::Refuses => {
                return scene.gitlab.set_listening(Server::Store, Listening::Refuse).unwrap();
            }
            Self::Silent => Effect::Hold(Gate::new()),
            Self::SilentAfterItsHead => Effect::Slow(Gate::new()),
            Self::Drops => Effect::Drop(Ending::Reset),
            Self::Says(status) => {
                Effect::Answer { status, content_type: "application/xml", body: "<Error/>".into() }
            }
        };
        scene.gitlab.fault(Fault::new(effect).on_store());
    }

    fn end(scene: &Scene) {
        scene.gitlab.clear_faults();
        scene.gitlab.set_listening(Server::Store, Listening::Open).unwrap();
    }
}

fn store_requests(scene: &Scene) -> usize {
    scene.gitlab.requests_of(Class::Object).len()
}

async fn all_ask(scene: &Scene, tokens: &[String]) -> Vec<Reply> {
    let asking: Vec<_> = tokens
        .iter()
        .map(|token| {
            let (url, token) = (scene.url(), token.clone());
            tokio::spawn(async move { get(&url, &[("private-token", &*token)]).await })
        })
        .collect();
    let mut replies = Vec::new();
    for reply in asking {
        replies.push(reply.await.unwrap());
    }
    replies
}

#[tokio::test]
async fn a_store_that_fails_is_found_out_once_and_everybody_goes_to_gitlabs_redirect() {
    for fails in ALL {
        let scene = Scene::with(REDIRECTS, archive(300_000, 1), impatient).await;
        let tokens: Vec<String> =
            (0..CROWD).map(|n| scene.member(&format!("dev{n}"), Level::Developer)).collect();
        fails.begin(&scene);
        for _ in 0..3 {
            for reply in all_ask(&scene, &tokens).await {
                assert_eq!(reply.status, 302, "{fails:?}");
                let location = reply.field("location").unwrap();
                assert!(location.contains("X-Amz-Signature="), "{fails:?}: {location}");
            }
        }
        // Parts and heads wait for it no more than a whole does.
        let fields = [("private-token", scene.token.as_str()), ("range", "bytes=-100")];
        assert_eq!(get(&scene.url(), &fields).await.status, 302, "{fails:?}");
        let head = open(Method::HEAD, &scene.url(), &fields[..1], "").await.unwrap();
        assert_eq!(head.status, 303, "{fails:?}: as GitLab says it");
        drop(head);
        assert!(store_requests(&scene) <= 1, "{fails:?}: {}", store_requests(&scene));
        scene.larder.clock.advance(REST.checked_sub(Duration::from_secs(1)).unwrap());
        assert_eq!(scene.get().await.status, 302, "{fails:?}");
        assert!(store_requests(&scene) <= 1, "{fails:?}");
        Fails::end(&scene);
        scene.larder.clock.advance(Duration::from_secs(1));
        assert!(scene.is_archive(&scene.get().await), "{fails:?}: tried again");
        scene.larder.stored(1).await;
        assert_eq!(scene.get().await.cache(), "larder; hit", "{fails:?}");
    }
}

#[tokio::test]
async fn one_object_that_is_refused_is_no_failing_store() {
    let scene = Scene::with(REDIRECTS, archive(300_000, 2), impatient).await;
    let says = |status| Effect::Answer { status, content_type: "application/xml", body: "<Error/>".into() };
    scene.gitlab.fault(Fault::new(says(403)).on_store().once());
    assert_eq!(scene.get().await.status, 302);
    let other = scene.gitlab.job(scene.project, JobStatus::Success);
    scene.gitlab.put_archive(other, archive(300_000, 3));
    let url = through(&scene.gitlab, &scene.larder, &scene.gitlab.archive_url(other));
    assert_eq!(get(&url, &[("private-token", &scene.token)]).await.cache(), "larder; fwd=miss; stored");
}

#[tokio::test]
async fn a_crowd_that_gitlab_refuses_slowly_learns_it_in_two_turns() {
    let scene = Scene::start(REDIRECTS, archive(300_000, 4)).await;
    let gate = Gate::new();
    scene.gitlab.fault(Fault::new(Effect::Hold(gate.clone())).on(Class::JobArchive));
    let strangers =
        (0..CROWD).map(|n| scene.gitlab.personal_token(scene.gitlab.user(&format!("s{n}")), Scope::Api));
    let asking: Vec<_> = strangers
        .map(|token| {
            let url = scene.url();
            tokio::spawn(async move { get(&url, &[("private-token", &*token)]).await.status })
        })
        .collect();
    gate.arrived(1).await;
    scene.fence().await;
    gate.release(1);
    // All others are asked for at once, and nobody waits for one of them.
    gate.arrived(u64::try_from(CROWD).unwrap()).await;
    gate.open();
    for status in asking {
        assert_eq!(status.await.unwrap(), 404);
    }
}

/// A store's front that sends on to the real one, so often.
async fn region(scene: &Scene, status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = scene.gitlab.store_url();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let store = store.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let byte = stream.read_u8().await.unwrap();
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap();
                assert!(!head.to_ascii_lowercase().contains("token"), "{head}");
                // `/n/…` sends on to `/n-1/…`, and `/0/…` to the object.
                let (left, rest) = target.trim_start_matches('/').split_once('/').unwrap();
                let location = match left.parse::<u32>().unwrap() {
                    0 => format!("{store}/{rest}"),
                    left => format!("http://{address}/{}/{rest}", left - 1),
                };
                let answer = format!(
                    "HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_stores_own_redirect_to_its_region_is_followed_a_few_times_and_the_archive_is_kept() {
    for (status, steps, followed) in
        [(307, 0, true), (302, 0, true), (301, 0, true), (308, 0, true), (307, 2, true), (307, 3, false)]
    {
        let scene = Scene::start(REDIRECTS, archive(300_000, 5)).await;
        let region = region(&scene, status).await;
        let straight = get(&scene.straight_url(), &[("private-token", &scene.token)]).await;
        let object = straight.field("location").unwrap().replace(&scene.gitlab.store_url(), "");
        let location = format!("{region}/{steps}{object}");
        let everybody = Fault::new(Effect::Redirect { status: 302, location }).on(Class::JobArchive);
        scene.gitlab.fault(everybody);
        let first = scene.get().await;
        if !followed {
            assert_eq!(first.status, 302, "{status} {steps}");
            continue;
        }
        assert!(scene.is_archive(&first), "{status} {steps}: {}", first.status);
        scene.larder.stored(1).await;
        scene.larder.clock.advance(HOUR);
        let hit = scene.get().await;
        assert!(scene.is_archive(&hit) && hit.cache() == "larder; hit", "{status}");
        assert_eq!(store_requests(&scene), 1, "{status}");
    }
}

#[tokio::test]
async fn a_store_may_not_lead_back_to_gitlab_nor_to_special_addresses() {
    let scene = Scene::start(REDIRECTS, archive(300_000, 6)).await;
    for location in [
        format!("{}/api/v4/version?X-Amz-Signature=x", scene.gitlab.url()),
        "http://169.254.169.254/latest?X-Amz-Signature=x".to_owned(),
        "http://store.test/unsigned".to_owned(),
        "/relative?X-Amz-Signature=x".to_owned(),
    ] {
        scene.gitlab.clear_faults();
        scene.gitlab.reset_counters();
        scene
            .gitlab
            .fault(Fault::new(Effect::Redirect { status: 307, location: location.clone() }).on_store());
        assert_eq!(scene.get().await.status, 302, "{location}");
        assert_eq!(store_requests(&scene), 1, "{location}");
        let asked = scene.gitlab.requests();
        assert!(asked.iter().all(|seen| seen.class != Class::Version), "{location}");
    }
}

#[tokio::test]
async fn of_a_store_that_knows_no_suffix_ranges_a_few_bytes_cost_a_little() {
    let suffix = |seen: &Seen| seen.header("range").is_some_and(|range| range.starts_with("bytes=-"));
    let says = |status| Effect::Answer { status, content_type: "application/xml", body: "<Error/>".into() };
    for effect in [Effect::IgnoreRange, says(400), says(416), says(501)] {
        let scene = Scene::start(REDIRECTS, archive(100 << 20, 7)).await;
        scene.gitlab.fault(Fault::new(effect.clone()).on_store().when(suffix));
        let whole = scene.archive.bytes().unwrap();
        for (range, expected) in
            [("bytes=-100", &whole[whole.len() - 100..]), ("bytes=50-149", &whole[50..150])]
        {
            let fields = [("private-token", scene.token.as_str()), ("range", range)];
            let part = get(&scene.url(), &fields).await;
            assert_eq!(part.status, 206, "{effect:?} {range}");
            assert!(part.body == expected, "{effect:?} {range}");
        }
        let crossed = scene.gitlab.counters().store_bytes;
        // What was under way of a whole answer before its connection closed, in buffers on both sides.
        assert!(crossed < 24 << 20, "{effect:?}: {crossed}");
    }
}

#[tokio::test]
async fn a_store_on_gitlabs_own_host_at_another_port_is_used_signed_or_named() {
    let scene = Scene::start(REDIRECTS, archive(300_000, 8)).await;
    let host = scene.gitlab.address().ip();
    assert_eq!(host, scene.gitlab.store_address().ip(), "that is where the stand-in has it");
    assert!(scene.is_archive(&scene.get().await));
    let named = scene.gitlab.store_address().to_string();
    let change = |config: &mut Config| config.upstream.storage_hosts = Some(vec![named]);
    let larder =
        crate::support::Larder::on(&scene.gitlab.url(), Arc::new(tempfile::tempdir().unwrap()), change).await;
    let url = through(&scene.gitlab, &larder, &scene.straight_url());
    let reply = get(&url, &[("private-token", &scene.token)]).await;
    assert!(scene.is_archive(&reply) && reply.cache() == "larder; fwd=miss; stored");
}

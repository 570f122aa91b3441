//! GitLab is down: nobody gets in, unless the operator allows a grace and the caller's last answer was a yes.

use std::time::Duration;

use gitlab_standin::{Class, Effect, Ending, Etag, Fault, Level, Listening, Server, Storage};

use super::HOUR;
use crate::scene::{Scene, archive};

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };
const TTL: Duration = Duration::from_secs(60);

/// Ways of being down, and the status that somebody without a grant gets.
#[derive(Debug, Clone, Copy)]
enum Down {
    Refusing,
    Slamming,
    Dropping,
    Says(u16),
}

const ALL: [Down; 6] =
    [Down::Refusing, Down::Slamming, Down::Dropping, Down::Says(502), Down::Says(503), Down::Says(504)];

impl Down {
    fn begin(self, scene: &Scene) {
        let listening = |listening| scene.gitlab.set_listening(Server::Gitlab, listening).unwrap();
        match self {
            Self::Refusing => listening(Listening::Refuse),
            Self::Slamming => listening(Listening::Slam),
            Self::Dropping => drop(scene.gitlab.fault(Fault::new(Effect::Drop(Ending::Reset)))),
            Self::Says(status) => {
                let body = "<html>nginx</html>".into();
                let effect = Effect::Answer { status, content_type: "text/html", body };
                drop(scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive)));
            }
        }
    }

    fn end(scene: &Scene) {
        scene.gitlab.clear_faults();
        scene.gitlab.set_listening(Server::Gitlab, Listening::Open).unwrap();
    }

    const fn status(self) -> u16 {
        match self {
            Self::Says(status) => status,
            _ => 502,
        }
    }

    fn is_body(self, body: &[u8]) -> bool {
        match self {
            Self::Says(_) => body == b"<html>nginx</html>",
            _ => body.starts_with(br#"{"message":"502 Bad Gateway"#),
        }
    }
}

/// Alice had a yes, ttl ago; bob never asked; carol's last answer was a no.
async fn scene(ttl: Duration, grace: Duration) -> (Scene, String, String) {
    let scene = Scene::with(LOCAL, archive(20_000, 1), |config| {
        config.access = larder::access::Settings { ttl, grace };
    })
    .await;
    let bob = scene.member("bob", Level::Developer);
    let carol = scene.gitlab.user("carol");
    scene.gitlab.member(scene.project, carol, Level::Developer);
    let carols = scene.gitlab.personal_token(carol, gitlab_standin::Scope::Api);
    assert!(scene.is_archive(&scene.get_as(&carols).await));
    scene.gitlab.remove_member(scene.project, carol);
    scene.larder.clock.advance(ttl);
    assert_eq!(scene.get_as(&carols).await.status, 404);
    // Her 404 dropped the archive, as far as larder can tell it is gone.
    assert!(scene.is_archive(&scene.get().await));
    scene.larder.clock.advance(ttl);
    (scene, bob, carols)
}

#[tokio::test]
async fn without_grace_everybody_is_refused() {
    for down in ALL {
        let (scene, bob, carol) = scene(TTL, Duration::ZERO).await;
        down.begin(&scene);
        for token in [&scene.token, &bob, &carol] {
            let refused = scene.get_as(token).await;
            assert_eq!(refused.status, down.status(), "{down:?}");
            assert!(down.is_body(&refused.body), "{down:?}: {:?}", refused.body);
            let own = !matches!(down, Down::Says(_));
            assert_eq!(refused.field("proxy-status").is_some(), own, "{down:?}");
        }
        Down::end(&scene);
        assert_eq!(scene.get().await.cache(), "larder; hit", "{down:?}: and nothing was dropped");
    }
}

#[tokio::test]
async fn with_grace_those_get_in_whose_last_answer_was_a_yes() {
    for (down, ttl) in ALL.into_iter().zip([TTL, Duration::ZERO].into_iter().cycle()) {
        let (scene, bob, carol) = scene(ttl, HOUR).await;
        down.begin(&scene);
        let served = scene.get().await;
        assert!(scene.is_archive(&served) && served.cache() == "larder; hit", "{down:?}");
        for token in [&bob, &carol] {
            assert_eq!(scene.get_as(token).await.status, down.status(), "{down:?}");
        }
        assert!(scene.larder.metric("larder_grants_total{result=\"grace\"}") > 0.0, "{down:?}");
        scene.larder.clock.advance(HOUR);
        assert_eq!(scene.get().await.status, down.status(), "{down:?}: grace is over");
    }
}

#[tokio::test]
async fn grace_counts_from_the_last_yes_and_is_not_prolonged_by_use() {
    let (scene, ..) = scene(TTL, HOUR).await;
    Down::Refusing.begin(&scene);
    for _ in 0..59 {
        assert!(scene.is_archive(&scene.get().await));
        scene.larder.clock.advance(TTL);
    }
    assert_eq!(scene.get().await.status, 502);
}

#[tokio::test]
async fn a_401_ends_grace_and_so_does_any_refusal() {
    let (scene, bob, _) = scene(TTL, HOUR).await;
    assert!(scene.is_archive(&scene.get_as(&bob).await));
    scene.gitlab.revoke(&scene.token);
    let user = crate::support::get(&scene.api("/user"), &[("private-token", &scene.token)]).await;
    assert_eq!(user.status, 401);
    Down::Refusing.begin(&scene);
    assert_eq!(scene.get().await.status, 502, "GitLab's last word was a 401");
    scene.larder.clock.advance(TTL);
    assert!(scene.is_archive(&scene.get_as(&bob).await), "which was not about bob");
}

#[tokio::test]
async fn what_rails_says_itself_is_no_outage() {
    for status in [429, 500] {
        let (scene, ..) = scene(TTL, HOUR).await;
        let effect = Effect::Answer { status, content_type: "text/plain", body: "no".into() };
        scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive));
        let refused = scene.get().await;
        assert_eq!((refused.status.as_u16(), refused.body.as_ref()), (status, b"no".as_slice()));
        scene.gitlab.clear_faults();
        assert_eq!(scene.get().await.cache(), "larder; hit", "{status}: nothing was dropped");
    }
}

#[tokio::test]
async fn nothing_held_is_nothing_served_in_grace() {
    let (scene, ..) = scene(TTL, HOUR).await;
    let other = scene.gitlab.job(scene.project, gitlab_standin::JobStatus::Success);
    scene.gitlab.put_archive(other, archive(20_000, 2));
    Down::Refusing.begin(&scene);
    let url = scene.api(&format!("/projects/{}/jobs/{other}/artifacts", scene.project));
    let refused = crate::support::get(&url, &[("private-token", &scene.token)]).await;
    assert_eq!(refused.status, 502);
    assert_eq!(refused.field("proxy-status"), Some("larder; error=connection_refused"));
}

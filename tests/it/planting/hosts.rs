//! Names that a client chooses, and places that a redirect names.

use gitlab_standin::{Class, Effect, Fault, Level, Listening, Server, Storage};

use super::{LOCAL, Stage};
use crate::support::{get, send};

const FOREIGN: [(&str, &str); 5] = [
    ("host", "evil.example.com"),
    ("x-forwarded-host", "evil.example.com"),
    ("forwarded", "host=evil.example.com;proto=https"),
    ("x-forwarded-proto", "evil"),
    ("x-forwarded-server", "evil.example.com"),
];

#[tokio::test]
async fn a_foreign_name_reaches_no_question_and_stays_in_no_answer() {
    for storage in [LOCAL, Storage::Redirect { job_id_in_path: true }] {
        let mut scene = Stage::set(storage).await;
        for hot in [false, true] {
            for claim in FOREIGN {
                scene.next(hot).await;
                let mallory = scene.member("mallory", Level::Developer);
                let ours = get(&scene.url(), &[("private-token", &mallory), claim]).await;
                assert!(scene.is_archive(&ours), "{claim:?}");
                assert!(!format!("{:?}", ours.fields).contains("evil"), "{claim:?}");
                let asked = scene.gitlab.requests();
                assert!(!asked.iter().any(|seen| seen.carries("evil")), "{claim:?}");
                if !hot {
                    scene.has_stored_one().await;
                    scene.hot = true;
                }
                scene.is_unharmed(&format!("{claim:?}, hot: {hot}")).await;
            }
        }
    }
}

#[tokio::test]
async fn a_page_built_from_a_foreign_name_is_seen_by_its_sender_alone() {
    for hot in [false, true] {
        let mut scene = Stage::set(LOCAL).await;
        scene.next(hot).await;
        let mallory = scene.member("mallory", Level::Developer);
        scene.gitlab.fault(Fault::new(Effect::SignIn).on(Class::JobArchive));
        let fields = [("private-token", mallory.as_str()), ("host", "evil.example.com")];
        let hers = get(&scene.url(), &fields).await;
        assert_eq!(hers.field("location"), Some("http://evil.example.com/users/sign_in"));
        let ours = scene.get().await;
        assert_eq!(ours.field("location"), Some(format!("{}/users/sign_in", scene.larder.url()).as_str()));
        scene.is_unharmed("a foreign sign-in").await;
    }
}

/// What no redirect may make larder do: each place is one that it can reach, or would be harmed by reaching.
fn places(scene: &crate::scene::Scene) -> Vec<String> {
    let (store, gitlab) = (scene.gitlab.store_address(), scene.gitlab.url());
    let places = vec![
        format!("{gitlab}/users/sign_in"),
        format!("{gitlab}/bytes/100000"),
        format!("{}/users/sign_in", scene.larder.url()),
        format!("{}/api/v4/projects/1/jobs/1/artifacts", scene.larder.url()),
        format!("http://user@{store}/gitlab-artifacts/x"),
        format!("ftp://{store}/gitlab-artifacts/x"),
        format!("//{store}/gitlab-artifacts/x"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fe80::1]/x".to_owned(),
        "http://100.100.100.200/latest/meta-data/".to_owned(),
        "http://0.0.0.0/x".to_owned(),
        "http://2852039166/latest/meta-data/".to_owned(),
        "http://0xa9.0376.43518/latest/meta-data/".to_owned(),
        "http://169.254.169.254./latest/meta-data/".to_owned(),
        "http://[64:ff9b::a9fe:a9fe]/latest/meta-data/".to_owned(),
        "http://192.0.0.192/opc/v2/".to_owned(),
        "http://metadata.google.internal/computeMetadata/v1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/users/sign_in".to_owned(),
        "artifacts.zip".to_owned(),
        String::new(),
    ];
    let signed = places.iter().map(|place| format!("{place}?X-Amz-Expires=600&X-Amz-Signature=0a1b"));
    let signed: Vec<String> = signed.filter(|place| place.contains("://")).collect();
    places.into_iter().chain(signed).collect()
}

#[tokio::test]
async fn a_redirect_to_no_object_store_is_relayed_and_not_followed() {
    for hot in [false, true] {
        let mut scene = Stage::set(LOCAL).await;
        scene.next(hot).await;
        for location in places(&scene) {
            for status in [301, 302, 303, 307, 308] {
                let effect = Effect::Redirect { status, location: location.clone() };
                scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive));
                let before = scene.gitlab.requests().len();
                let ours = scene.get().await;
                let context = format!("{status} {location}, hot: {hot}");
                assert_eq!(ours.status, status, "{context}");
                // A place at GitLab is named as one at larder; any other is GitLab's word.
                let named = location.replace(&scene.gitlab.url(), &scene.larder.url());
                assert_eq!(ours.field("location"), Some(named.as_str()), "{context}");
                assert_eq!(ours.body, format!("Moved to {location}."), "{context}");
                let asked = scene.gitlab.requests().split_off(before);
                assert!(asked.iter().all(|seen| seen.class == Class::JobArchive), "{context}: {asked:?}");
                assert!(asked.len() <= 2, "{context}: {asked:?}");
                scene.gitlab.clear_faults();
            }
        }
        scene.is_unharmed("redirects").await;
    }
}

#[tokio::test]
async fn a_redirect_to_what_answers_with_no_zip_leaves_the_client_with_the_redirect() {
    for hot in [false, true] {
        let mut scene = Stage::set(LOCAL).await;
        scene.next(hot).await;
        let admin = scene.larder.admin;
        for location in [
            format!("http://{admin}/metrics?X-Amz-Signature=0a1b"),
            format!("http://{admin}/healthz?X-Amz-Signature=0a1b"),
            format!("http://{}/signed-by-nobody?X-Amz-Signature=0a1b", scene.gitlab.store_address()),
        ] {
            let effect = Effect::Redirect { status: 302, location: location.clone() };
            scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive));
            let ours = scene.get().await;
            assert_eq!((ours.status.as_u16(), ours.field("location")), (302, Some(location.as_str())));
            assert_eq!(ours.body, format!("Moved to {location}."));
            let head = send(http::Method::HEAD, &scene.url(), &[("private-token", &scene.token)]).await;
            assert_eq!((head.status.as_u16(), head.field("location")), (302, Some(location.as_str())));
            scene.gitlab.clear_faults();
        }
        scene.is_unharmed("a redirect to larder's own pages").await;
    }
}

#[tokio::test]
async fn a_redirect_to_larder_under_another_name_ends() {
    for hot in [false, true] {
        let mut scene = Stage::set(LOCAL).await;
        scene.next(hot).await;
        let location = format!("{}/users/sign_in", scene.larder.url());
        let effect = Effect::Redirect { status: 302, location: location.clone() };
        scene.gitlab.fault(Fault::new(effect).on(Class::JobArchive));
        let fields = [("private-token", scene.token.as_str()), ("host", "larder.internal")];
        let ours = get(&scene.url(), &fields).await;
        assert_eq!((ours.status.as_u16(), ours.field("location")), (302, Some(location.as_str())));
        scene.is_unharmed("a redirect to larder's other name").await;
    }
}

#[tokio::test]
async fn only_named_hosts_are_object_stores_where_the_operator_named_some() {
    for (hosts, followed) in [(vec!["storage.example.com"], false), (vec!["127.0.0.1"], true)] {
        let storage = Storage::Redirect { job_id_in_path: false };
        let scene = crate::scene::Scene::with(storage, crate::scene::archive(20_000, 1), |config| {
            let hosts = hosts.iter().map(ToString::to_string).collect();
            config.upstream.storage_hosts = Some(hosts);
        })
        .await;
        let ours = scene.get().await;
        assert_eq!(scene.is_archive(&ours), followed);
        assert_eq!(ours.status == 302, !followed);
        assert_eq!(scene.transfers(), usize::from(followed));
        scene.gitlab.set_listening(Server::Store, Listening::Refuse).unwrap();
        assert_eq!(scene.get().await.status == 302, !followed);
    }
}

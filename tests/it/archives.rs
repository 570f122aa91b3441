//! Archives by job: cold, hot, by both routes, in every storage mode.

use gitlab_standin::{Archive, Etag, GitLab, JobStatus, Level, Scope, Setup, Storage, Visibility};
use http::Method;

use crate::support::{Larder, get, send, through};

const MODES: [Storage; 6] = [
    Storage::Local { etag: Etag::Weak },
    Storage::Local { etag: Etag::Sha256 },
    Storage::Redirect { job_id_in_path: true },
    Storage::Redirect { job_id_in_path: false },
    Storage::Proxied { etag: Etag::Weak },
    Storage::Proxied { etag: Etag::Sha256 },
];

#[tokio::test]
async fn one_transfer_serves_both_routes_in_every_storage_mode() {
    for storage in MODES {
        for root in ["", "/gitlab"] {
            let gitlab = GitLab::start(Setup::default().storage(storage).relative_root(root)).await.unwrap();
            let alice = gitlab.user("alice");
            let project = gitlab.project("group/sub/project", Visibility::Private);
            gitlab.member(project, alice, Level::Developer);
            let token = gitlab.personal_token(alice, Scope::ReadApi);
            let job = gitlab.job(project, JobStatus::Success);
            let archive = Archive::sized(3_000_000).unwrap();
            gitlab.put_archive(job, archive.clone());
            let (_, job_token) = gitlab.running_job(project, alice);
            let larder = Larder::start(&gitlab).await;

            let a1 = through(&gitlab, &larder, &gitlab.archive_url(job));
            let r1 = through(&gitlab, &larder, &gitlab.runner_url(job));
            let private = [("private-token", token.as_str())];
            let runner = [("job-token", job_token.as_str())];
            let cold = get(&a1, &private).await;
            let hot = get(&a1, &private).await;
            let by_runner = get(&r1, &runner).await;
            let direct = get(&format!("{r1}?direct_download=true"), &runner).await;
            for (name, reply) in [("cold", &cold), ("hot", &hot), ("runner", &by_runner), ("direct", &direct)]
            {
                let context = format!("{storage:?} {root} {name}");
                assert_eq!(reply.status, 200, "{context}");
                assert!(reply.whole && reply.body == archive.bytes().unwrap(), "{context}");
                assert_eq!(reply.field("content-length"), Some("3000000"), "{context}");
                assert_eq!(reply.field("etag"), cold.field("etag"), "{context}");
                assert_eq!(reply.field("x-content-type-options"), Some("nosniff"), "{context}");
            }
            assert!(cold.field("etag").is_some_and(|etag| !etag.starts_with("W/")), "{storage:?}");
            assert_eq!(cold.cache(), "larder; fwd=miss; stored");
            for reply in [&hot, &by_runner, &direct] {
                assert_eq!(reply.cache(), "larder; hit", "{storage:?}");
            }
            let counters = gitlab.counters();
            let probes = 2 * 1024;
            assert!(counters.artifact_bytes() <= 3_000_000 + probes + 1000, "{storage:?}: {counters:?}");
            assert_eq!(counters.stray_credentials, 0);
            assert_eq!(counters.proxied_head_bytes, 0);
        }
    }
}

#[tokio::test]
async fn a_head_is_answered_like_a_get_and_starts_no_fill() {
    for storage in MODES {
        let gitlab = GitLab::start(Setup::default().storage(storage)).await.unwrap();
        let project = gitlab.project("group/project", Visibility::Public);
        let job = gitlab.job(project, JobStatus::Success);
        gitlab.put_archive(job, Archive::sized(100_000).unwrap());
        let larder = Larder::start(&gitlab).await;
        let url = through(&gitlab, &larder, &gitlab.archive_url(job));
        let cold = send(Method::HEAD, &url, &[]).await;
        assert!(gitlab.counters().artifact_bytes() < 2000, "{storage:?}");
        let whole = get(&url, &[]).await;
        let hot = send(Method::HEAD, &url, &[]).await;
        for head in [&cold, &hot] {
            assert_eq!(head.status, 200, "{storage:?}");
            assert!(head.body.is_empty());
            for name in ["content-length", "etag", "last-modified", "content-type", "content-disposition"] {
                assert_eq!(head.field(name), whole.field(name), "{storage:?} {name}");
            }
        }
        assert_eq!(gitlab.counters().proxied_head_bytes, 0, "{storage:?}");
    }
}

#[tokio::test]
async fn a_restart_forgets_grants_and_keeps_archives() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let project = gitlab.project("group/project", Visibility::Public);
    let job = gitlab.job(project, JobStatus::Success);
    gitlab.put_archive(job, Archive::sized(100_000).unwrap());
    let larder = Larder::start(&gitlab).await;
    let url = through(&gitlab, &larder, &gitlab.archive_url(job));
    let before = get(&url, &[]).await;
    let dir = larder.stop().await;
    gitlab.reset_counters();
    let larder = Larder::on(&gitlab.url(), dir, |_| ()).await;
    let url = through(&gitlab, &larder, &gitlab.archive_url(job));
    let after = get(&url, &[]).await;
    assert_eq!(after.cache(), "larder; hit");
    assert_eq!((after.body, after.fields["etag"].clone()), (before.body, before.fields["etag"].clone()));
    assert_eq!(gitlab.counters().requests.values().sum::<u64>(), 1, "asked once, as nothing was remembered");
}

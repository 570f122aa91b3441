//! The storage modes: who answers, with which fields, and how conditions and ranges go.

use gitlab_standin::{
    Archive, Class, Etag, GitLab, JobId, JobStatus, Member, Scope, Setup, Storage, Visibility,
};

use super::client::{Answer, ask, get};

const BOGUS: &str = "W/\"12ae32cb1ec02d01eda3581b127c1fee\"";

struct Scene {
    gitlab: GitLab,
    job: JobId,
    archive: Archive,
    field: String,
}

impl Scene {
    async fn archive(&self, lines: &[&str]) -> Answer {
        get(&self.gitlab.archive_url(self.job), lines).await
    }
}

async fn scene(storage: Storage) -> Scene {
    let gitlab = GitLab::start(Setup::default().storage(storage)).await.unwrap();
    let project = gitlab.project("g/p", Visibility::Public);
    let user = gitlab.user("u");
    let job = gitlab.job(project, JobStatus::Success);
    let members = [
        Member::directory("dir"),
        Member::file("dir/a b.txt", "text ".repeat(100)),
        Member::stored("raw.bin", vec![0u8, 1, 2, 3]),
        Member::file("raw.bin", "the second of that name"),
    ];
    let archive = Archive::runner(members);
    gitlab.put_archive(job, archive.clone());
    let (_, token) = gitlab.running_job(project, user);
    gitlab.personal_token(user, Scope::Api);
    Scene { gitlab, job, archive, field: format!("JOB-TOKEN: {token}") }
}

#[tokio::test]
async fn local_disk_answers_as_serve_content_does() {
    let scene = scene(Storage::Local { etag: Etag::Weak }).await;
    let whole = scene.archive(&[]).await;
    assert_eq!((whole.status, whole.header("etag")), (200, Some(BOGUS)));
    assert_eq!(whole.body, scene.archive.bytes().unwrap());
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-disposition", "attachment; filename=\"artifacts.zip\"; filename*=UTF-8''artifacts.zip"),
        ("content-transfer-encoding", "binary"),
        ("cache-control", "max-age=0, private, must-revalidate"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(whole.header(name), Some(value), "{name}");
    }
    let date = format!("If-Modified-Since: {}", whole.header("last-modified").unwrap());
    let range = format!("If-Range: {}", whole.header("last-modified").unwrap());
    let len = scene.archive.len();
    let past = format!("Range: bytes={len}-");
    let cases: [(&[&str], u16); 12] = [
        (&["Range: bytes=0-0"], 206),
        (&["Range: bytes=-1024"], 206),
        (&["Range: bytes=0-1,4-5"], 206),
        (&[&past], 416),
        (&["Range: bytes=5-4"], 416),
        (&["Range: bytes=0-0", &range], 206),
        (&["Range: bytes=0-0", "If-Range: \"x\""], 200),
        (&["Range: bytes=0-0", "If-Range: W/\"12ae32cb1ec02d01eda3581b127c1fee\""], 200),
        (&[&date], 304),
        (&["If-Match: \"x\""], 412),
        (&["If-None-Match: W/\"12ae32cb1ec02d01eda3581b127c1fee\""], 304),
        (&["If-None-Match: \"x\", W/\"12ae32cb1ec02d01eda3581b127c1fee\""], 304),
    ];
    for (lines, status) in cases {
        assert_eq!(scene.archive(lines).await.status, status, "{lines:?}");
    }
    let head = ask("HEAD", &scene.gitlab.archive_url(scene.job), &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some(len.to_string().as_str())));
    assert!(head.body.is_empty());
    let four = scene.archive(&["Range: bytes=4-7"]).await;
    assert_eq!(four.header("content-range"), Some(format!("bytes 4-7/{len}").as_str()));
    assert_eq!(four.body, scene.archive.read_at(4, 4).unwrap());
}

#[tokio::test]
async fn the_newest_has_the_digest_as_tag_but_not_for_runners() {
    let scene = scene(Storage::Local { etag: Etag::Sha256 }).await;
    let tag = format!("\"{}\"", scene.archive.sha256());
    let whole = scene.archive(&[]).await;
    assert_eq!((whole.header("etag"), whole.header("cache-control")), (Some(tag.as_str()), Some("no-cache")));
    let same = scene.archive(&[&format!("If-None-Match: {tag}")]).await;
    assert_eq!((same.status, same.header("etag")), (304, Some(tag.as_str())));
    let runner = get(&scene.gitlab.runner_url(scene.job), &[&scene.field]).await;
    assert_eq!((runner.status, runner.header("etag")), (200, None));
    assert_eq!(scene.archive(&[&format!("If-None-Match: {BOGUS}")]).await.status, 200);
}

#[tokio::test]
async fn redirects_lead_to_the_store_which_takes_no_credentials() {
    let scene = scene(Storage::Redirect { job_id_in_path: false }).await;
    let found = scene.archive(&[]).await;
    let location = found.header("location").unwrap().to_owned();
    assert_eq!((found.status, found.header("etag")), (302, None));
    assert!(found.text().contains(&location) && location.contains("X-Amz-Expires=600"), "{location}");
    let object = get(&location, &[]).await;
    assert_eq!((object.status, object.header("server")), (200, Some("AmazonS3")));
    assert_eq!(object.body, scene.archive.bytes().unwrap());
    let tag = format!("If-Range: {}", object.header("etag").unwrap());
    assert_eq!(get(&location, &["Range: bytes=1-2", &tag]).await.body.len(), 2);
    assert_eq!(get(&location, &["Range: bytes=0-1,4-5"]).await.status, 200, "S3 knows one range");
    for stray in [scene.field.as_str(), "Authorization: Bearer x", "Cookie: a=b", "PRIVATE-TOKEN: x"] {
        assert_eq!(get(&location, &[stray]).await.status, 400, "{stray}");
    }
    assert_eq!(scene.gitlab.counters().stray_credentials, 4);
    assert_eq!(ask("HEAD", &location, &[]).await.status, 403, "signed for GET");
    let wrong = get(&location.replace("Signature=", "Signature=0"), &[]).await;
    assert!(wrong.status == 403 && wrong.text().contains("SignatureDoesNotMatch"));
    scene.gitlab.advance(std::time::Duration::from_secs(601));
    let late = get(&location, &[]).await;
    assert!(late.status == 403 && late.text().contains("Request has expired"));
    let head = ask("HEAD", &scene.gitlab.archive_url(scene.job), &[]).await;
    assert_eq!(head.status, 303);
    assert_eq!(ask("HEAD", head.header("location").unwrap(), &[]).await.status, 200);
    scene.gitlab.lose_object(scene.job);
    let location = scene.archive(&[]).await.header("location").unwrap().to_owned();
    assert!(get(&location, &[]).await.text().contains("NoSuchKey"));
}

#[tokio::test]
async fn runners_are_redirected_only_when_they_ask() {
    let scene = scene(Storage::Redirect { job_id_in_path: true }).await;
    let url = scene.gitlab.runner_url(scene.job);
    let direct = get(&format!("{url}?direct_download=true"), &[&scene.field]).await;
    assert_eq!(direct.status, 302);
    assert!(
        direct.header("location").unwrap().contains(&format!("/{}/", scene.job)),
        "the job is in the path"
    );
    let proxied = get(&url, &[&scene.field]).await;
    assert_eq!((proxied.status, proxied.body.len()), (200, usize::try_from(scene.archive.len()).unwrap()));
    assert!(proxied.header("x-amz-request-id").is_some());
}

#[tokio::test]
async fn proxied_storage_leaks_its_fields_and_head_costs_the_whole() {
    let scene = scene(Storage::Proxied { etag: Etag::Weak }).await;
    let whole = scene.archive(&[]).await;
    assert_eq!(whole.body, scene.archive.bytes().unwrap());
    assert!(whole.header("x-amz-request-id").is_some() && !whole.header("etag").unwrap().starts_with("W/"));
    assert_eq!(whole.header("cache-control"), Some("max-age=0, private, must-revalidate"));
    assert_eq!(scene.archive(&["Range: bytes=0-0"]).await.status, 206);
    let tag = format!("If-None-Match: {}", whole.header("etag").unwrap());
    assert_eq!(scene.archive(&[&tag]).await.status, 304);
    assert_eq!(scene.archive(&[&format!("If-None-Match: {BOGUS}")]).await.status, 304);
    assert_eq!(scene.gitlab.counters().proxied_head_bytes, 0);
    let head = ask("HEAD", &scene.gitlab.archive_url(scene.job), &[]).await;
    assert!(head.status == 200 && head.body.is_empty());
    let counters = scene.gitlab.counters();
    assert_eq!(counters.proxied_head_bytes, scene.archive.len());
    assert_eq!(counters.store_bytes, 2 * scene.archive.len() + 1);
    assert_eq!((counters.store_requests, counters.requests_of(Class::Object)), (4, 0));
}

#[tokio::test]
async fn entries_are_cut_out_whole() {
    let scene = scene(Storage::Local { etag: Etag::Weak }).await;
    let entry = async |path: &str, lines: &[&str]| {
        get(&format!("{}/{path}", scene.gitlab.archive_url(scene.job)), lines).await
    };
    let text = entry("dir/a%20b.txt", &["Range: bytes=0-0"]).await;
    assert_eq!((text.status, text.text()), (200, "text ".repeat(100)));
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(text.header("content-disposition"), Some("attachment; filename=\"a b.txt\""));
    assert_eq!((text.header("accept-ranges"), text.header("last-modified")), (None, None));
    assert_eq!(entry("raw.bin", &[]).await.body, [0, 1, 2, 3], "the first of two wins");
    let missing = entry("./raw.bin", &[]).await;
    assert_eq!((missing.status, missing.text().as_str()), (404, "404 page not found\n"));
    assert_eq!(entry("a%00", &[]).await.status, 400);
    assert_eq!(entry("a%ff", &[]).await.status, 400);
    assert_eq!(entry("raw.bin", &[&format!("If-None-Match: {BOGUS}")]).await.status, 304);
    scene.gitlab.expire(scene.job);
    assert_eq!(entry("raw.bin", &[]).await.text(), "{\"message\":\"404 Not Found\"}");
    assert_eq!(scene.archive(&[]).await.status, 200, "an expired archive is there until swept");
    scene.gitlab.set_locked(scene.job, true);
    assert_eq!(entry("raw.bin", &[]).await.status, 200);
    scene.gitlab.put_archive(scene.job, Archive::from_bytes("no zip"));
    assert_eq!(entry("raw.bin", &[]).await.status, 500);
}

//! What browsers get: sessions, pages, redirects.

mod sign_in;

use gitlab_standin::{
    Archive, ArtifactsAccess, Class, Effect, Etag, Fault, GitLab, JobId, JobStatus, Level, Member,
    PipelineStatus, ProjectId, Setup, Storage, UserId, Visibility,
};

use super::client::{Answer, ask, get, put};

const LOCAL: Storage = Storage::Local { etag: Etag::Sha256 };
const DISPOSITION: &str = "attachment; filename=\"artifacts.zip\"; filename*=UTF-8''artifacts.zip";

struct Scene {
    gitlab: GitLab,
    project: ProjectId,
    user: UserId,
    job: JobId,
    archive: Archive,
    session: String,
    cookie: String,
}

impl Scene {
    async fn new(storage: Storage) -> Self {
        let gitlab = GitLab::start(Setup::default().storage(storage)).await.unwrap();
        let project = gitlab.project("Group/p", Visibility::Private);
        let user = gitlab.user("alice");
        gitlab.member(project, user, Level::Maintainer);
        let pipeline = gitlab.pipeline(project, "feature/x", PipelineStatus::Success);
        let job = gitlab.job_in(pipeline, "build", JobStatus::Success);
        let archive = Archive::runner([
            Member::file("dir/page.html", "<script>1</script>"),
            Member::file("dir/a b&.txt", "text"),
            Member::file("top", "top"),
        ]);
        gitlab.put_archive(job, archive.clone());
        let session = gitlab.session(user);
        let cookie = format!("Cookie: theme=dark; _gitlab_session={session}");
        Self { gitlab, project, user, job, archive, session, cookie }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}{rest}", self.gitlab.web_url(self.job))
    }

    async fn get(&self, rest: &str) -> Answer {
        get(&self.url(rest), &[&self.cookie]).await
    }

    async fn send(&self, method: &str, url: &str, form: &str) -> Answer {
        let lines = [self.cookie.as_str(), "Content-Type: application/x-www-form-urlencoded"];
        put(method, url, &lines, form.as_bytes()).await
    }
}

#[tokio::test]
async fn archives_come_under_their_name_from_disk() {
    let scene = Scene::new(LOCAL).await;
    let whole = scene.get("/artifacts/download").await;
    assert!(whole.status == 200 && whole.is_whole());
    assert_eq!(whole.body, scene.archive.bytes().unwrap());
    assert_eq!(whole.header("content-type"), Some("application/zip"));
    assert_eq!(whole.header("content-disposition"), Some(DISPOSITION));
    assert_eq!(whole.header("etag"), None);
    let part = get(&scene.url("/artifacts/download"), &[&scene.cookie, "Range: bytes=0-0"]).await;
    assert_eq!((part.status, part.body.len()), (206, 1));
    scene.gitlab.put_report(scene.job, "junit", Archive::from_bytes("<x/>"));
    let report = scene.get("/artifacts/download?file_type=junit").await;
    assert_eq!((report.status, report.text().as_str()), (200, "<x/>"));
    assert!(report.header("content-disposition").unwrap().contains("junit.xml.gz"));
    assert_eq!(scene.get("/artifacts/download?file_type=trace").await.status, 404);
    scene.gitlab.expire(scene.job);
    assert_eq!(scene.get("/artifacts/download").await.status, 200, "expired is not deleted");
    scene.gitlab.delete_archive(scene.job);
    let gone = scene.get("/artifacts/download").await;
    assert_eq!((gone.status, gone.header("content-type")), (404, Some("text/html; charset=utf-8")));
    let moved = scene.gitlab.counters().bytes_of(Class::WebDownload);
    assert!(moved > scene.archive.len() && scene.gitlab.counters().artifact_bytes() == moved);
}

#[tokio::test]
async fn redirects_name_the_file_in_the_signed_query() {
    let scene = Scene::new(Storage::Redirect { job_id_in_path: false }).await;
    let found = scene.get("/artifacts/download").await;
    let location = found.header("location").unwrap().to_owned();
    assert_eq!(found.status, 302);
    let query = "response-content-disposition=attachment%3B%20filename%3D%22artifacts.zip%22%3B%20\
                 filename%2A%3DUTF-8%27%27artifacts.zip&response-content-type=application%2Fzip&";
    assert!(location.contains(query), "{location}");
    let object = get(&location, &[]).await;
    assert_eq!((object.status, object.body), (200, scene.archive.bytes().unwrap().to_vec()));
    let part = get(&location, &["Range: bytes=1-2"]).await;
    assert_eq!((part.status, part.header("content-type")), (206, Some("application/zip")));
    assert_eq!(part.header("content-disposition"), Some(DISPOSITION));
    let forged = location.replace("application%2Fzip", "text%2Fhtml");
    assert_eq!(get(&forged, &[]).await.status, 403, "the signature covers them");
    let head = ask("HEAD", &scene.url("/artifacts/download"), &[&scene.cookie]).await;
    assert_eq!(head.status, 302, "not 303 as on the API");
    let proxied = scene.get("/artifacts/download?proxy=false").await;
    assert_eq!((proxied.status, proxied.header("content-type")), (200, Some("application/zip")));
    assert_eq!(proxied.header("content-disposition"), Some(DISPOSITION));
    assert!(proxied.header("x-amz-request-id").is_some() && proxied.is_whole());
}

#[tokio::test]
async fn entries_are_told_by_their_content() {
    let scene = Scene::new(LOCAL).await;
    let page = scene.get("/artifacts/raw/dir/page.html").await;
    assert_eq!((page.status, page.text().as_str()), (200, "<script>1</script>"));
    assert_eq!(page.header("content-type"), Some("application/octet-stream"));
    assert_eq!(page.header("content-disposition"), Some("attachment; filename=\"page.html\""));
    assert_eq!(scene.get("/artifacts/raw/nothing").await.text(), "404 page not found\n");
    assert_eq!(scene.get("/artifacts/raw/a%00").await.status, 400);
    assert_eq!(scene.get("/artifacts/raw/top?file_type=junit").await.status, 404);
    scene.gitlab.expire(scene.job);
    assert_eq!(scene.get("/artifacts/raw/top").await.status, 200, "expiry isn't tested here");
    assert_eq!(scene.gitlab.counters().artifact_bytes(), scene.gitlab.counters().bytes_of(Class::WebRaw));
}

#[tokio::test]
async fn pages_lead_to_every_file() {
    let scene = Scene::new(LOCAL).await;
    let base = format!("/Group/p/-/jobs/{}/artifacts", scene.job);
    let has = |answer: &Answer, link: &str| {
        assert!(answer.text().contains(&format!("<a href=\"{base}{link}")), "{link}: {}", answer.text());
    };
    let page = scene.get("").await;
    assert_eq!(page.header("content-security-policy"), None, "or no browser would do anything with it");
    has(&page, "/download\">Download</a>");
    let root = scene.get("/artifacts/browse").await;
    has(&root, "/download\">Download</a>");
    has(&root, "/browse/dir\">dir/</a>");
    has(&root, "/raw/top\">");
    let dir = scene.get("/artifacts/browse/dir").await;
    has(&dir, "/file/dir/a%20b%26.txt\">a b&amp;.txt</a>");
    let file = scene.get("/artifacts/file/dir/a%20b%26.txt").await;
    has(&file, "/raw/dir/a%20b%26.txt\">Download</a>");
    assert_eq!(scene.get("/artifacts/raw/dir/a%20b%26.txt").await.text(), "text");
    for missing in ["/artifacts/browse/nothing", "/artifacts/browse/top", "/artifacts/file/dir/"] {
        assert_eq!(scene.get(missing).await.status, 404, "{missing}");
    }
    scene.gitlab.expire(scene.job);
    assert_eq!(scene.get("/artifacts/browse").await.status, 404);
    assert_eq!(scene.get("/artifacts/file/top").await.status, 404);
    assert!(!scene.get("").await.text().contains("Download"));
}

#[tokio::test]
async fn a_ref_leads_to_the_job_by_commit_first() {
    let scene = Scene::new(LOCAL).await;
    let base = format!("http://gitlab.test/Group/p/-/jobs/{}/artifacts", scene.job);
    let sha = scene.gitlab.sha_of(scene.gitlab.pipeline_of(scene.job).unwrap()).unwrap();
    let by_ref = |rest: &str| format!("{}/Group/p/-/jobs/artifacts/{rest}", scene.gitlab.url());
    let cases = [
        ("feature/x/download?job=build".to_owned(), "/download"),
        ("feature%2Fx/browse?job=build&x=1".to_owned(), "/browse"),
        ("feature/x/raw/dir/a%20b%26.txt?job=build".to_owned(), "/raw/dir/a%20b%26.txt"),
        ("feature/x/file/top?job=build".to_owned(), "/file/top"),
        (format!("{sha}/download?job=build"), "/download"),
    ];
    for (rest, target) in &cases {
        let answer = get(&by_ref(rest), &[&scene.cookie]).await;
        let location = format!("{base}{target}");
        assert_eq!((answer.status, answer.header("location")), (302, Some(location.as_str())), "{rest}");
    }
    let fields = [scene.cookie.as_str(), "X-Forwarded-Host: ci.example.com", "X-Forwarded-Proto: https"];
    let outside = get(&by_ref(&cases[0].0), &fields).await;
    assert!(outside.header("location").unwrap().starts_with("https://ci.example.com/Group/p/-/"));
    for missing in ["feature/x/download", "feature/x/download?job=other", "nowhere/download?job=build"] {
        assert_eq!(get(&by_ref(missing), &[&scene.cookie]).await.status, 404, "{missing}");
    }
    scene.gitlab.pipeline(scene.project, "feature/x", PipelineStatus::Running);
    let status = async |rest: &str| get(&by_ref(rest), &[&scene.cookie]).await.status;
    assert_eq!(
        status("feature/x/download?job=build").await,
        302,
        "the head has no good pipeline, the ref has"
    );
    scene.gitlab.pipeline(scene.project, "feature/x", PipelineStatus::Success);
    assert_eq!(status("feature/x/download?job=build").await, 404, "the last good one lacks the job");
    assert_eq!(status(&cases[4].0).await, 302, "the commit's own pipeline has it");
    scene.gitlab.expire(scene.job);
    assert_eq!(status(&cases[4].0).await, 404);
}

#[tokio::test]
async fn who_is_not_allowed_in_learns_nothing() {
    let scene = Scene::new(LOCAL).await;
    let stranger = format!("Cookie: _gitlab_session={}", scene.gitlab.session(scene.gitlab.user("mallory")));
    let url = scene.url("/artifacts/download");
    let sign_in = "http://gitlab.test/users/sign_in";
    for address in [url.clone(), url.replace("Group/p", "no/such")] {
        let anonymous = get(&address, &[]).await;
        assert_eq!((anonymous.status, anonymous.header("location")), (302, Some(sign_in)), "{address}");
        assert_eq!(get(&address, &[&stranger]).await.status, 404, "{address}");
    }
    let token = scene.gitlab.personal_token(scene.user, gitlab_standin::Scope::Api);
    assert_eq!(get(&url, &[&format!("PRIVATE-TOKEN: {token}")]).await.status, 302, "tokens don't count");
    scene.gitlab.set_access(scene.job, ArtifactsAccess::None);
    assert_eq!(scene.get("/artifacts/download").await.status, 404);
    scene.gitlab.set_access(scene.job, ArtifactsAccess::All);
    scene.gitlab.set_visibility(scene.project, Visibility::Public);
    assert_eq!(get(&url, &[]).await.status, 200);
    scene.gitlab.set_public_builds(scene.project, false);
    assert_eq!(get(&url, &[]).await.status, 404);
    scene.gitlab.revoke(&scene.session);
    scene.gitlab.set_visibility(scene.project, Visibility::Private);
    assert_eq!(scene.get("/artifacts/download").await.status, 302);
}

#[tokio::test]
async fn other_spellings_of_a_project_lead_to_the_right_one() {
    let scene = Scene::new(LOCAL).await;
    let wrong = scene.url("/artifacts/raw/dir%2Fpage.html?x=1").replace("Group/p", "group/P");
    let right = format!("http://gitlab.test/Group/p/-/jobs/{}/artifacts/raw/dir%2Fpage.html?x=1", scene.job);
    let answer = get(&wrong, &[&scene.cookie]).await;
    assert_eq!((answer.status, answer.header("location")), (301, Some(right.as_str())));
    assert_eq!(ask("HEAD", &wrong, &[&scene.cookie]).await.status, 200, "only GET is sent on");
    assert_eq!(get(&wrong, &[]).await.status, 302, "first sign in");
    let old = scene.url("");
    scene.gitlab.move_project(scene.project, "new/home");
    let moved = get(&old, &[&scene.cookie]).await;
    let right = format!("http://gitlab.test/new/home/-/jobs/{}", scene.job);
    assert_eq!((moved.status, moved.header("location")), (301, Some(right.as_str())));
    assert_eq!(ask("HEAD", &old, &[&scene.cookie]).await.status, 404);
}

#[tokio::test]
async fn writes_need_the_sessions_own_token() {
    let scene = Scene::new(LOCAL).await;
    let keep = scene.url("/artifacts/keep");
    let token = scene.gitlab.csrf_token(&scene.session);
    let form = format!("authenticity_token={token}");
    for wrong in ["", "authenticity_token=x"] {
        assert_eq!(scene.send("POST", &keep, wrong).await.status, 422, "{wrong}");
    }
    let field = format!("X-CSRF-Token: {token}");
    let foreign = ["Origin: http://evil.test", scene.cookie.as_str(), field.as_str()];
    assert_eq!(put("POST", &keep, &foreign, b"").await.status, 422);
    let own = ["Origin: http://h", scene.cookie.as_str(), field.as_str()];
    let kept = put("POST", &keep, &own, b"").await;
    let page = format!("http://h/Group/p/-/jobs/{}", scene.job);
    assert_eq!((kept.status, kept.header("location")), (302, Some(page.as_str())));
    scene.gitlab.expire(scene.job);
    assert_eq!(scene.send("POST", &keep, &form).await.status, 404, "what has expired isn't kept");
    scene.gitlab.set_locked(scene.job, true);
    assert_eq!(scene.send("POST", &keep, &form).await.status, 302);
    scene.gitlab.set_locked(scene.job, false);
    assert_eq!(scene.get("/artifacts/browse").await.status, 200, "kept: the expiry is gone");
    scene.gitlab.member(scene.project, scene.user, Level::Reporter);
    assert_eq!(scene.send("POST", &keep, &form).await.status, 404);
    assert_eq!(scene.gitlab.requests_of(Class::WebKeep).len(), 7);
}

#[tokio::test]
async fn artifacts_are_deleted_by_their_row() {
    let scene = Scene::new(LOCAL).await;
    let token = scene.gitlab.csrf_token(&scene.session);
    let list = format!("{}/Group/p/-/artifacts", scene.gitlab.url());
    let row = format!("{list}/{}", scene.gitlab.artifact_id(scene.job).unwrap());
    let page = get(&list, &[&scene.cookie]).await;
    assert!(page.text().contains(row.split_once("Group").unwrap().1) && page.text().contains(&token));
    assert_eq!(scene.send("DELETE", &row, "").await.status, 422);
    let form = format!("authenticity_token={token}");
    assert_eq!(scene.send("POST", &row, &form).await.status, 404, "a POST that doesn't say delete");
    scene.gitlab.member(scene.project, scene.user, Level::Developer);
    assert_eq!(scene.send("DELETE", &row, &form).await.status, 404);
    scene.gitlab.member(scene.project, scene.user, Level::Maintainer);
    let deleted = scene.send("POST", &row, &format!("_method=delete&{form}")).await;
    assert_eq!((deleted.status, deleted.header("location")), (303, Some("http://h/Group/p/-/artifacts")));
    assert!(scene.gitlab.archive_of(scene.job).is_none());
    assert_eq!(scene.send("DELETE", &row, &form).await.status, 404);
    scene.gitlab.put_report(scene.job, "junit", Archive::from_bytes("x"));
    let page = get(&list, &[&scene.cookie]).await.text();
    let report = page.split_once("/-/artifacts/").unwrap().1.split_once('"').unwrap().0;
    assert_eq!(scene.send("DELETE", &format!("{list}/{report}"), &form).await.status, 303);
    assert_eq!(scene.get("/artifacts/download?file_type=junit").await.status, 404);
}

#[tokio::test]
async fn faults_hit_web_routes() {
    let scene = Scene::new(LOCAL).await;
    for (class, rest) in [
        (Class::WebDownload, "/artifacts/download"),
        (Class::WebRaw, "/artifacts/raw/top"),
        (Class::WebBrowse, "/artifacts/browse"),
        (Class::WebPage, ""),
    ] {
        let fault = scene.gitlab.fault(Fault::new(Effect::Html).on(class).once());
        assert!(scene.get(rest).await.text().contains("Back soon"), "{rest}");
        assert_eq!(fault.hits(), 1);
    }
}

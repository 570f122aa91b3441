//! A moved project: its old path redirects, through larder as without.

use gitlab_standin::{Class, Storage};
use http::Method;

use super::{LOCAL, Stage};
use crate::support::{get, send};

#[tokio::test]
async fn a_moved_project_redirects_to_where_the_client_came_from() {
    for storage in [LOCAL, Storage::Redirect { job_id_in_path: true }] {
        for hot in [false, true] {
            let mut scene = Stage::set(storage).await;
            scene.next(hot).await;
            scene.gitlab.move_project(scene.project, "group/elsewhere");
            let old = scene.api(&format!("/projects/group%2Fproject/jobs/{}/artifacts", scene.job));
            let fields = [("private-token", scene.token.as_str())];
            let moved = get(&old, &fields).await;
            assert_eq!(moved.status, 301);
            assert_eq!(moved.field("location"), Some(scene.url().as_str()));
            let named = get(&old, &[fields[0], ("host", "ci.example.com")]).await;
            let path = scene.url().replace(&scene.larder.url(), "http://ci.example.com");
            assert_eq!(named.field("location"), Some(path.as_str()), "by the name the client used");
            assert!(scene.is_archive(&get(moved.field("location").unwrap(), &fields).await));
            scene.hot = true;
            if !hot {
                scene.has_stored_one().await;
            }
            scene.is_unharmed("a moved project").await;
        }
    }
}

#[tokio::test]
async fn a_moved_projects_redirect_keeps_the_tokens_of_its_query() {
    let mut scene = Stage::set(LOCAL).await;
    scene.next(true).await;
    scene.gitlab.move_project(scene.project, "group/elsewhere");
    let query = format!("private_token={}", scene.token);
    let old = scene.api(&format!("/projects/group%2Fproject/jobs/{}/artifacts?{query}", scene.job));
    let moved = get(&old, &[]).await;
    assert_eq!(moved.field("location"), Some(format!("{}?{query}", scene.url()).as_str()));
    assert!(scene.is_archive(&get(moved.field("location").unwrap(), &[]).await));
}

#[tokio::test]
async fn a_head_on_a_moved_project_is_not_allowed_and_harms_nothing() {
    for hot in [false, true] {
        let mut scene = Stage::set(LOCAL).await;
        scene.next(hot).await;
        scene.gitlab.move_project(scene.project, "group/elsewhere");
        let path = format!("/api/v4/projects/group%2Fproject/jobs/{}/artifacts", scene.job);
        let fields = [("private-token", scene.token.as_str())];
        let direct = send(Method::HEAD, &format!("{}{path}", scene.gitlab.url()), &fields).await;
        let ours = send(Method::HEAD, &format!("{}{path}", scene.larder.url()), &fields).await;
        assert_eq!((ours.status, direct.status.as_u16()), (direct.status, 405));
        scene.is_unharmed("HEAD").await;
    }
}

#[tokio::test]
async fn a_path_that_became_another_projects_is_that_projects() {
    let mut scene = Stage::set(LOCAL).await;
    scene.next(true).await;
    let path = scene.api(&format!("/projects/group%2Fproject/jobs/{}/artifacts", scene.job));
    let fields = [("private-token", scene.token.as_str())];
    assert!(scene.is_archive(&get(&path, &fields).await));
    scene.gitlab.move_project(scene.project, "group/elsewhere");
    let heir = scene.gitlab.project("group/project", gitlab_standin::Visibility::Public);
    let gone = get(&path, &fields).await;
    assert_eq!(gone.status, 404, "the job isn't in project {heir}");
    assert!(scene.is_archive(&scene.get().await), "by number it is what it was");
    assert_eq!(scene.gitlab.counters().requests_of(Class::Other), 0);
}

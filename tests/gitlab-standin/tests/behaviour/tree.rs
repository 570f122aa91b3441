//! What lies in an archive, listed.

use gitlab_standin::{Archive, Class, GitLab, JobStatus, Member, Setup, Visibility};
use serde_json::Value;

use super::client::get;

#[tokio::test]
async fn a_tree_lists_directories_a_page_at_a_time_and_shadows_its_namesake() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let project = gitlab.project("g/p", Visibility::Public);
    let job = gitlab.job(project, JobStatus::Success);
    let files = (0..25).map(|index| Member::file(format!("many/{index:02}"), "x"));
    let others = [Member::directory("dir"), Member::file("dir/sub/a b", "abc"), Member::file("tree", "leaf")];
    gitlab.put_archive(job, Archive::runner(files.chain(others)));
    let url = format!("{}/tree", gitlab.archive_url(job));
    let list = async |query: &str| {
        let answer = get(&format!("{url}{query}"), &[]).await;
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer, json)
    };
    let (root, json) = list("").await;
    let expected = serde_json::json!([
        { "name": "dir", "path": "dir", "type": "directory" },
        { "name": "many", "path": "many", "type": "directory" },
        { "name": "tree", "path": "tree", "type": "file", "size": 4 },
    ]);
    assert_eq!(json, expected);
    assert_eq!(root.header("x-total"), Some("3"));
    let (_, json) = list("?path=dir&recursive=true").await;
    assert_eq!(json[1]["path"], "dir/sub/a b");
    let (second, json) = list("?path=many/&page=2").await;
    assert_eq!(json.as_array().unwrap().len(), 5);
    for (name, value) in [
        ("x-page", "2"),
        ("x-per-page", "20"),
        ("x-total", "25"),
        ("x-total-pages", "2"),
        ("x-prev-page", "1"),
        ("x-next-page", ""),
    ] {
        assert_eq!(second.header(name).unwrap_or_default(), value, "{name}");
    }
    assert!(
        second.header("link").unwrap().contains("path=many/>; rel=\"prev\""),
        "{:?}",
        second.header("link")
    );
    assert_eq!(get(&format!("{url}?path=nowhere"), &[]).await.status, 404);
    assert_eq!(get(&format!("{url}/x"), &[]).await.text(), "404 page not found\n", "below it are entries");
    assert_eq!(gitlab.counters().requests_of(Class::Tree), 4);
    gitlab.put_archive(job, Archive::from_bytes("no zip"));
    assert_eq!(get(&url, &[]).await.status, 404, "nothing without metadata");
}

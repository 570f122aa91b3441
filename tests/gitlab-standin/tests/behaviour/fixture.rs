//! The known content that the program starts with.

use gitlab_standin::{Fixture, GitLab, Setup};

use super::client::get;

#[tokio::test]
async fn every_ref_and_credential_of_the_fixture_leads_somewhere() {
    let gitlab = GitLab::start(Setup::default()).await.unwrap();
    let fixture = Fixture::install(&gitlab, 2, 4096).unwrap();
    let json = fixture.to_json();
    let session = format!("Cookie: {}", json["session_cookie"].as_str().unwrap());
    let refs = json["refs"].as_array().unwrap();
    let (main, site) = (fixture.jobs.last().unwrap(), &fixture.site);
    for (entry, (job, archive)) in refs.iter().zip([main, site]) {
        let url = format!("{}{}", gitlab.url(), entry["path"].as_str().unwrap());
        for field in ["PRIVATE-TOKEN: glpat-demo", "JOB-TOKEN: glcbt-demo", &session] {
            assert_eq!(get(&url, &[field]).await.body, archive.bytes().unwrap(), "{url} {field}");
        }
        assert_eq!(entry["id"], job.0);
        assert_eq!(
            gitlab.ref_url(fixture.project, entry["ref"].as_str().unwrap(), entry["job"].as_str().unwrap()),
            url
        );
    }
    assert_eq!(refs.len(), 2);
    let browse = get(&format!("{}/artifacts/browse/names", gitlab.web_url(site.0)), &[&session]).await;
    assert!(browse.text().contains("two words &amp; ä.txt"));
    let page = get(&format!("{}/artifacts/raw/public/pixel.gif", gitlab.web_url(site.0)), &[&session]).await;
    assert_eq!(page.header("content-type"), Some("application/octet-stream"));
    assert_eq!(json["password"], fixture.password());
}

//! What is asked: spellings of each route under its usual credential, then each route under each credential.

/// A route, as the tables in GitLab's documentation and sources group them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// An archive by job.
    Archive,
    /// A file by job.
    Entry,
    /// An archive by ref.
    RefArchive,
    /// A file by ref.
    RefEntry,
    /// An archive for a runner.
    Runner,
    /// An archive for a browser.
    Web,
    /// A file for a browser.
    WebEntry,
    /// What larder only passes on.
    Other,
}

/// Who asks, and how they say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    PrivateToken,
    PrivateTokenKey,
    Bearer,
    AccessTokenKey,
    JobToken,
    JobTokenKey,
    Session,
    Nobody,
    WrongToken,
    WrongTokenKey,
    WrongJobToken,
    WrongSession,
    Stranger,
    StrangersSession,
    SudoMember,
    SudoStranger,
    SudoNobody,
}

const EVERYBODY: [Who; 17] = [
    Who::PrivateToken,
    Who::PrivateTokenKey,
    Who::Bearer,
    Who::AccessTokenKey,
    Who::JobToken,
    Who::JobTokenKey,
    Who::Session,
    Who::Nobody,
    Who::WrongToken,
    Who::WrongTokenKey,
    Who::WrongJobToken,
    Who::WrongSession,
    Who::Stranger,
    Who::StrangersSession,
    Who::SudoMember,
    Who::SudoStranger,
    Who::SudoNobody,
];

/// Those who tell a public project from a private one.
const PASSERS_BY: [Who; 5] =
    [Who::Nobody, Who::Stranger, Who::StrangersSession, Who::WrongToken, Who::WrongJobToken];

/// One request, but for its method.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) route: Route,
    pub(super) target: String,
    pub(super) who: Who,
}

/// Every row. In a target `{p}` is the private project, `{s}` the public one, `{j}` and `{k}` their jobs; `{b}` is a job of the
/// private one whose archive's end record is wrong.
pub(super) fn rows() -> Vec<Row> {
    let spelled = SPELLINGS.iter().flat_map(|(route, who, targets)| {
        targets.iter().map(|target| Row { route: *route, target: expanded(target), who: *who })
    });
    let by_everybody = PRIVATE.iter().flat_map(|(route, target)| {
        EVERYBODY.iter().map(|who| Row { route: *route, target: expanded(target), who: *who })
    });
    let passing_by = PRIVATE.iter().flat_map(|(route, target)| {
        PASSERS_BY.iter().map(|who| Row { route: *route, target: public(&expanded(target)), who: *who })
    });
    spelled.chain(by_everybody).chain(passing_by).collect()
}

fn expanded(target: &str) -> String {
    target
        .replace("{a1}", "/api/v4/projects/{p}/jobs/{j}/artifacts")
        .replace("{a4}", "/api/v4/projects/{p}/jobs/artifacts")
        .replace("{r1}", "/api/v4/jobs/{j}/artifacts")
        .replace("{w}", "/group/project/-/jobs/{j}/artifacts")
}

/// The same question about the public project.
fn public(target: &str) -> String {
    target.replace("{p}", "{s}").replace("{j}", "{k}").replace("group/project", "group/site")
}

/// The plain spelling of each route.
const PRIVATE: &[(Route, &str)] = &[
    (Route::Archive, "{a1}"),
    (Route::Entry, "{a1}/d/a.txt"),
    (Route::RefArchive, "{a4}/feature%2Fx/download?job=build"),
    (Route::RefEntry, "{a4}/feature%2Fx/raw/d/a.txt?job=build"),
    (Route::Runner, "{r1}"),
    (Route::Web, "{w}/download"),
    (Route::WebEntry, "{w}/raw/d/a.txt"),
    (Route::Other, "{a1}/tree"),
];

const SPELLINGS: &[(Route, Who, &[&str])] = &[
    (Route::Archive, Who::PrivateToken, ARCHIVES),
    (Route::Entry, Who::PrivateToken, ENTRIES),
    (Route::RefArchive, Who::PrivateToken, REFS),
    (Route::RefEntry, Who::PrivateToken, REF_ENTRIES),
    (Route::Runner, Who::JobToken, RUNNERS),
    (Route::Web, Who::Session, PAGES),
    (Route::WebEntry, Who::Session, PAGE_ENTRIES),
    (Route::Other, Who::PrivateToken, OTHERS),
    (Route::Other, Who::Session, OTHER_PAGES),
];

const ARCHIVES: &[&str] = &[
    "/api/v4/projects/group%2Fproject/jobs/{j}/artifacts",
    "/api/v4/projects/group%2fproject/jobs/{j}/artifacts",
    "/api/v4/projects/GROUP%2FProject/jobs/{j}/artifacts",
    "/api/v4/projects/gr%6Fup%2Fproject/jobs/{j}/artifacts",
    "/api/v4/projects/group/project/jobs/{j}/artifacts",
    "/api/v4/projects/group%2Fearlier/jobs/{m}/artifacts",
    "/api/v4/projects/group%2Fnone/jobs/{j}/artifacts",
    "/api/v4/projects/{s}/jobs/{j}/artifacts",
    "/api/v4/projects/{p}/jobs/{e}/artifacts",
    "/api/v4/projects/{p}/jobs/{b}/artifacts",
    "/api/v4/projects/0{p}/jobs/{j}/artifacts",
    "/api/v4/projects/{p}/jobs/0{j}/artifacts",
    "/api/v4/projects/{p}/jobs/+{j}/artifacts",
    "/api/v4/projects/{p}/jobs/-{j}/artifacts",
    "/api/v4/projects/{p}/jobs/999999/artifacts",
    "/api/v4/projects/{p}/jobs/99999999999999999999/artifacts",
    "/api/v4/projects/{p}/jobs/x/artifacts",
    "/API/v4/projects/{p}/jobs/{j}/artifacts",
    "/api/v4/projects/{p}/jobs/{j}/Artifacts",
    "{a1}/",
    "{a1}.json",
    "{a1}.txt",
    "{a1}.zip",
    "{a1}?",
    "{a1}?unknown=1",
    "{a1}?unknown=1&unknown=2",
    "{a1}?private_token=",
    "{a1}?job_token=",
    "{a1}?a[]=1;b",
    "{a1}?%ff=%00",
    "//api/v4/projects/{p}/jobs/{j}/artifacts",
    "/api/v4/projects/{p}//jobs/{j}/artifacts",
    "/api/v4/projects/{p}/jobs/{j}//artifacts",
    "/api/v4/projects/{p}/./jobs/{j}/artifacts",
    "/api/v4/projects/9/../{p}/jobs/{j}/artifacts",
    "/api/v4/projects/9/%2e%2e/{p}/jobs/{j}/artifacts",
];

const ENTRIES: &[&str] = &[
    "/api/v4/projects/group%2Fproject/jobs/{j}/artifacts/d/a.txt",
    "/api/v4/projects/Group%2Fproject/jobs/{j}/artifacts/page.html",
    "{a1}/d%2Fa.txt",
    "{a1}/d/%61.txt",
    "{a1}/page.html",
    "{a1}/data.json",
    "{a1}/empty",
    "{a1}/empty.css",
    "{a1}/empty.txt",
    "{a1}/image.svg",
    "{a1}/image.txt",
    "{a1}/text.svg",
    "{a1}/build.log",
    "{a1}/build.LOG",
    "/api/v4/projects/{p}/jobs/{b}/artifacts/d/a.txt",
    "/api/v4/projects/{p}/jobs/{b}/artifacts/none",
    "{a1}/noise.bin",
    "{a1}/say%20%22x%22.txt",
    "{a1}/d/%C3%A9%20b.txt",
    "{a1}/d/%c3%a9+b.txt",
    "{a1}/none",
    "{a1}/d",
    "{a1}/d/",
    "{a1}/d/a.txt/",
    "{a1}/d/a.txt.json",
    "{a1}/D/A.TXT",
    "{a1}/d//a.txt",
    "{a1}//d/a.txt",
    "{a1}/d/./a.txt",
    "{a1}/d/../d/a.txt",
    "{a1}/%2e%2e/d/a.txt",
    "{a1}/d%2F..%2Fd%2Fa.txt",
    "{a1}/d%5Ca.txt",
    "{a1}/d/a.txt%00",
    "{a1}/d/a.txt%0a",
    "{a1}/%ff",
    "{a1}/d/a%",
    "{a1}/d/a.txt;b",
    "{a1}/d/a.txt?",
    "{a1}/d/a.txt?unknown=1",
    "{a1}/d/a.txt?path=none&path=d",
    "{a1}/keep",
    "{a1}/tree/d",
];

const REFS: &[&str] = &[
    "{a4}/feature/x/download?job=build",
    "{a4}/feature%2fx/download?job=build",
    "{a4}/feature%2Fx/download?job=buil%64",
    "{a4}/feature%2Fx/download?job=build&search_recent_successful_pipelines=true",
    "{a4}/feature%2Fx/download?job=build&search_recent_successful_pipelines=false",
    "{a4}/feature%2Fx/download?job=build&search_recent_successful_pipelines=1",
    "{a4}/feature%2Fx/download?job=build&search_recent_successful_pipelines=perhaps",
    "{a4}/feature%2Fx/download",
    "{a4}/feature%2Fx/download?job=",
    "{a4}/feature%2Fx/download?job=none",
    "{a4}/feature%2Fx/download?job=none&job=build",
    "{a4}/feature%2Fx/download?job[]=build",
    "{a4}/feature%2Fx/download?job=build&unknown=1",
    "{a4}/Feature%2Fx/download?job=build",
    "{a4}/feature%252Fx/download?job=build",
    "{a4}/none/download?job=build",
    "{a4}/feature//x/download?job=build",
    "{a4}/feature/./x/download?job=build",
    "{a4}/feature/../feature/x/download?job=build",
    "{a4}/feature%2Fx/download/?job=build",
    "{a4}/feature%2Fx/download.json?job=build",
    "{a4}/feature%2Fx%2Fdownload?job=build",
    "{a4}/download?job=build",
    "{a4}//download?job=build",
    "{a4}/%ff/download?job=build",
    "{a4}/x%00/download?job=build",
    "{a4}/main/raw/y/download?job=build",
    "/api/v4/projects/group%2Fproject/jobs/artifacts/feature%2Fx/download?job=build",
    "/api/v4/projects/Group%2FProject/jobs/artifacts/feature%2Fx/download?job=build",
];

const REF_ENTRIES: &[&str] = &[
    "{a4}/feature/x/raw/d/a.txt?job=build",
    "{a4}/feature/x/raw/d%2Fa.txt?job=build",
    "{a4}/feature%2Fx/raw/page.html?job=build",
    "{a4}/feature%2Fx/raw/empty.css?job=build",
    "{a4}/feature%2Fx/raw/empty.txt?job=build",
    "{a4}/feature%2Fx/raw/image.svg?job=build",
    "{a4}/feature%2Fx/raw/image.txt?job=build",
    "{a4}/feature%2Fx/raw/text.svg?job=build",
    "{a4}/feature%2Fx/raw/say%20%22x%22.txt?job=build",
    "{a4}/feature%2Fx/raw/d/%C3%A9%20b.txt?job=build",
    "{a4}/feature%2Fx/raw/d/a.txt?job=build&search_recent_successful_pipelines=true",
    "{a4}/feature%2Fx/raw/d/a.txt",
    "{a4}/feature%2Fx/raw/d/a.txt?job=none",
    "{a4}/feature%2Fx/raw/d/a.txt?job=build&job=build",
    "{a4}/feature%2Fx/raw/none?job=build",
    "{a4}/feature%2Fx/raw/?job=build",
    "{a4}/feature%2Fx/raw//d/a.txt?job=build",
    "{a4}/feature%2Fx/raw/d/../d/a.txt?job=build",
    "{a4}/feature%2Fx/raw/d/a.txt%00?job=build",
    "{a4}/feature%2Fx/raw/%ff?job=build",
    "{a4}/feature%2Fx%2Fraw%2Fd/raw/a.txt?job=build",
    "{a4}/main/raw/y/raw/d/a.txt?job=build",
];

const RUNNERS: &[&str] = &[
    "{r1}?",
    "{r1}?direct_download=true",
    "{r1}?direct_download=false",
    "{r1}?direct_download=1",
    "{r1}?direct_download=perhaps",
    "{r1}?direct_download",
    "{r1}?direct_download=false&direct_download=true",
    "{r1}?unknown=1",
    "{r1}/",
    "{r1}.json",
    "/api/v4/jobs/0{j}/artifacts",
    "/api/v4/jobs/x/artifacts",
    "/api/v4/jobs/999999/artifacts",
    "/api/v4/jobs/{e}/artifacts",
    "/api/v4//jobs/{j}/artifacts",
    "/api/v4/jobs/../jobs/{j}/artifacts",
];

const PAGES: &[&str] = &[
    "{w}/download?file_type=archive",
    "{w}/download?file_type=trace",
    "{w}/download?file_type=junit",
    "{w}/download?file_type=none",
    "{w}/download?proxy=true",
    "{w}/download?proxy=false",
    "{w}/download?unknown=1",
    "{w}/download?file_type=archive&file_type=trace",
    "{w}/download?private_token=unknown",
    "{w}/download/",
    "{w}/download.zip",
    "{w}//download",
    "/Group/project/-/jobs/{j}/artifacts/download",
    "/group//project/-/jobs/{j}/artifacts/download",
    "/group/../group/project/-/jobs/{j}/artifacts/download",
    "/group%2Fproject/-/jobs/{j}/artifacts/download",
    "/group/project/-/jobs/0{j}/artifacts/download",
    "/group/project/-/jobs/999999/artifacts/download",
    "/group/project/-/jobs/{e}/artifacts/download",
    "/group/none/-/jobs/{j}/artifacts/download",
    "/group/site/-/jobs/{j}/artifacts/download",
    "/group/earlier/-/jobs/{m}/artifacts/download",
];

const PAGE_ENTRIES: &[&str] = &[
    "{w}/raw/d%2Fa.txt",
    "{w}/raw/page.html",
    "{w}/raw/empty.css",
    "{w}/raw/empty.txt",
    "{w}/raw/image.svg",
    "{w}/raw/image.txt",
    "{w}/raw/text.svg",
    "{w}/raw/say%20%22x%22.txt",
    "{w}/raw/d/%C3%A9%20b.txt",
    "{w}/raw/d/a.txt?file_type=archive",
    "{w}/raw/d/a.txt?file_type=trace",
    "{w}/raw/d/a.txt?unknown=1",
    "{w}/raw/none",
    "{w}/raw/d",
    "{w}/raw/",
    "{w}/raw",
    "{w}/raw//d/a.txt",
    "{w}/raw/d/../d/a.txt",
    "{w}/raw/d/a.txt%00",
    "{w}/raw/%ff",
    "/GROUP/project/-/jobs/{j}/artifacts/raw/d/a.txt",
];

const OTHERS: &[&str] = &[
    "{a1}/tree/",
    "{a1}/tree.json",
    "{a1}/tree?path=d",
    "{a1}/tree?recursive=true",
    "{a1}/tree?page=1&per_page=2",
    "/api/v4/projects/{p}",
    "/api/v4/projects/{p}/artifacts",
    "/api/v4/projects/{p}/jobs/{j}",
    "/api/v4/projects/{p}/jobs/artifacts",
    "/api/v4/version",
    "/api/v4/none",
];

const OTHER_PAGES: &[&str] = &[
    "{w}",
    "{w}/browse",
    "{w}/browse/d",
    "{w}/browse/none",
    "{w}/file/d/a.txt",
    "{w}/file/none",
    "{w}/external_file/d/a.txt",
    "{w}/keep",
    "/group/project/-/jobs/{j}",
    "/group/project/-/artifacts",
    "/group/project/-/jobs/artifacts/feature/x/download?job=build",
    "/group/project/-/jobs/artifacts/feature/x/raw/d/a.txt?job=build",
    "/group/project/-/jobs/artifacts/feature/x/browse?job=build",
];

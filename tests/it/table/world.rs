//! What is asked about: three projects, their archives, and the people around them.

use gitlab_standin::{
    Archive, GitLab, JobId, JobStatus, Level, Member, PipelineStatus, ProjectId, Scope, Setup, Storage,
    Visibility,
};

use super::rows::Who;

/// A private, a public and a moved project, each with a job `build` on the ref `feature/x`.
pub(super) struct World {
    pub(super) gitlab: GitLab,
    pub(super) storage: Storage,
    places: Vec<(&'static str, String)>,
    private: String,
    strangers: String,
    admins: String,
    job: String,
    session: String,
    strangers_session: String,
}

impl World {
    pub(super) async fn start(setup: Setup, storage: Storage) -> Self {
        let gitlab = GitLab::start(setup.storage(storage)).await.unwrap();
        let (alice, stranger) = (gitlab.user("alice"), gitlab.user("stranger"));
        let place = |path, visibility| {
            let project = gitlab.project(path, visibility);
            gitlab.member(project, alice, Level::Maintainer);
            (project, built(&gitlab, project))
        };
        let (project, job) = place("group/project", Visibility::Private);
        let (site, site_job) = place("group/site", Visibility::Public);
        let (moved, moved_job) = place("group/earlier", Visibility::Private);
        gitlab.move_project(moved, "group/later");
        let places = vec![
            ("{p}", project.to_string()),
            ("{s}", site.to_string()),
            ("{j}", job.to_string()),
            ("{k}", site_job.to_string()),
            ("{m}", moved_job.to_string()),
            ("{e}", gitlab.job(project, JobStatus::Success).to_string()),
            ("{b}", broken(&gitlab, project).to_string()),
        ];
        Self {
            storage,
            places,
            private: gitlab.personal_token(alice, Scope::Api),
            strangers: gitlab.personal_token(stranger, Scope::Api),
            admins: gitlab.personal_token(gitlab.admin("root"), Scope::Sudo),
            job: gitlab.running_job(project, alice).1,
            session: gitlab.session(alice),
            strangers_session: gitlab.session(stranger),
            gitlab,
        }
    }

    /// A target at GitLab, with what is said in its query.
    pub(super) fn url(&self, target: &str, who: Who) -> String {
        let place = |target: String, (name, value): &(&str, String)| target.replace(name, value);
        let target = self.places.iter().fold(target.to_owned(), place);
        let pair = match who {
            Who::PrivateTokenKey => format!("private_token={}", self.private),
            Who::AccessTokenKey => format!("access_token={}", self.private),
            Who::JobTokenKey => format!("job_token={}", self.job),
            Who::WrongTokenKey => "private_token=glpat-unknown".to_owned(),
            _ => return format!("{}{target}", self.gitlab.url()),
        };
        let and = if target.contains('?') { '&' } else { '?' };
        format!("{}{target}{and}{pair}", self.gitlab.url())
    }

    /// What is said in fields.
    pub(super) fn fields(&self, who: Who) -> Vec<(&'static str, String)> {
        let private = |token: &str| vec![("private-token", token.to_owned())];
        let job = |token: &str| vec![("job-token", token.to_owned())];
        let session = |session: &str| vec![("cookie", format!("_gitlab_session={session}"))];
        let sudo = |name: &str| vec![("private-token", self.admins.clone()), ("sudo", name.to_owned())];
        match who {
            Who::PrivateToken => private(&self.private),
            Who::Bearer => vec![("authorization", format!("Bearer {}", self.private))],
            Who::JobToken => job(&self.job),
            Who::Session => session(&self.session),
            Who::WrongToken => private("glpat-unknown"),
            Who::WrongJobToken => job("glcbt-64_unknown"),
            Who::WrongSession => session("0123456789abcdef0123456789abcdef"),
            Who::Stranger => private(&self.strangers),
            Who::StrangersSession => session(&self.strangers_session),
            Who::SudoMember => sudo("alice"),
            Who::SudoStranger => sudo("stranger"),
            Who::SudoNobody => sudo("nobody"),
            Who::Nobody
            | Who::PrivateTokenKey
            | Who::AccessTokenKey
            | Who::JobTokenKey
            | Who::WrongTokenKey => Vec::new(),
        }
    }
}

/// A good pipeline's job and its archive.
fn built(gitlab: &GitLab, project: ProjectId) -> JobId {
    let pipeline = gitlab.pipeline(project, "feature/x", PipelineStatus::Success);
    let job = gitlab.job_in(pipeline, "build", JobStatus::Success);
    gitlab.put_archive(job, files(project));
    job
}

/// A job whose archive's end record says that the directory is a byte further on than it is: Go finds no file in it.
fn broken(gitlab: &GitLab, project: ProjectId) -> JobId {
    let job = gitlab.job(project, JobStatus::Success);
    let mut bytes = files(project).bytes().unwrap().to_vec();
    let offset = bytes.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap() + 16;
    bytes[offset] = bytes[offset].wrapping_add(1);
    gitlab.put_archive(job, Archive::from_bytes(bytes));
    job
}

/// Files with plain and odd names, then bytes enough for a fill to be held among them.
fn files(project: ProjectId) -> Archive {
    Archive::runner([
        Member::file("d/a.txt", format!("a of project {project}\n").repeat(100)),
        Member::file("page.html", "<html><body>page</body></html>"),
        Member::stored("data.json", "{\"a\":1}"),
        Member::stored("empty", ""),
        Member::stored("empty.css", ""),
        Member::stored("empty.txt", ""),
        Member::file("image.svg", SVG),
        Member::file("image.txt", SVG),
        Member::file("text.svg", "no image"),
        Member::file("build.log", "built"),
        Member::file("build.LOG", "built"),
        Member::file("say \"x\".txt", "quoted"),
        Member::file("d/\u{e9} b.txt", "in letters beyond ASCII"),
        Member::stored("noise.bin", gitlab_standin::pattern(0, HELD_AT * 3)),
    ])
}

const SVG: &str = "<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'></svg>";

/// After how many bytes a fill is held.
pub(super) const HELD_AT: usize = 64 << 10;

//! Every way of saying who one is, good and bad.

use gitlab_standin::{GitLab, JobId, JobStatus, Level, ProjectId, Scope, UserId, Visibility};

/// One way of saying who one is.
#[derive(Debug, Clone, Default)]
pub(super) struct Credential {
    pub(super) name: String,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) query: Vec<(&'static str, String)>,
}

impl Credential {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Its fields as requests take them.
    pub(super) fn fields(&self) -> Vec<(&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// `url` with its pairs and others.
    pub(super) fn url(&self, url: &str, more: &str) -> String {
        let own = self.query.iter().map(|(name, value)| format!("{name}={value}"));
        let pairs: Vec<String> = own.chain((!more.is_empty()).then(|| more.to_owned())).collect();
        if pairs.is_empty() { url.to_owned() } else { format!("{url}?{}", pairs.join("&")) }
    }
}

/// The forms in which a personal or OAuth token is passed.
pub(super) const PERSONAL: [&str; 5] =
    ["PRIVATE-TOKEN", "private_token=", "Bearer", "access_token=", "bearer_token="];

/// The forms in which a job token is passed.
pub(super) const JOB: [&str; 6] =
    ["JOB-TOKEN", "job_token=", "token=", "Bearer", "access_token=", "bearer_token="];

/// `token` in one form.
pub(super) fn pass(form: &'static str, token: &str) -> Credential {
    let credential = Credential::named(form);
    match form {
        "Bearer" => credential.field("authorization", format!("Bearer {token}")),
        "_gitlab_session" => {
            credential.field("cookie", format!("theme=dark; _gitlab_session={token}; preferred_language=en"))
        }
        _ => match form.strip_suffix('=') {
            Some(key) => credential.query(key, token),
            None => credential.field(form, token),
        },
    }
}

/// Who lives here.
pub(super) struct People {
    pub(super) project: ProjectId,
    pub(super) public: ProjectId,
    pub(super) developer: UserId,
    users: Vec<(&'static str, UserId)>,
    admin: UserId,
    neighbour: ProjectId,
    guest_of_list: ProjectId,
}

impl People {
    pub(super) fn settle(gitlab: &GitLab) -> Self {
        let project = gitlab.project("group/app", Visibility::Private);
        let public = gitlab.project("group/site", Visibility::Public);
        let neighbour = gitlab.project("group/neighbour", Visibility::Private);
        let guest_of_list = gitlab.project("group/listed", Visibility::Private);
        gitlab.set_public_builds(project, false);
        gitlab.allow_job_tokens(project, guest_of_list);
        let levels = [
            ("guest", Some(Level::Guest)),
            ("developer", Some(Level::Developer)),
            ("maintainer", Some(Level::Maintainer)),
            ("outsider", None),
        ];
        let users: Vec<_> = levels.iter().map(|(name, _)| (*name, gitlab.user(name))).collect();
        for ((_, user), (_, level)) in users.iter().zip(levels) {
            for project in [project, public, neighbour, guest_of_list] {
                if let Some(level) = level {
                    gitlab.member(project, *user, level);
                }
            }
        }
        let admin = gitlab.admin("root");
        Self { project, public, developer: users[1].1, users, admin, neighbour, guest_of_list }
    }

    /// All of them, each with tokens of its own.
    pub(super) fn credentials(&self, gitlab: &GitLab) -> Vec<Credential> {
        let mut all = self.personal(gitlab);
        all.extend(self.jobs(gitlab));
        all.extend(self.sessions(gitlab));
        all.extend(self.sudo(gitlab));
        all.extend(self.pairs(gitlab));
        all.extend(wrong());
        all
    }

    fn personal(&self, gitlab: &GitLab) -> Vec<Credential> {
        let mut all = Vec::new();
        for (who, user) in &self.users {
            for form in PERSONAL {
                let name = |kind: &str| format!("{who}'s {kind} token as {form}");
                let personal = gitlab.personal_token(*user, Scope::Api);
                all.push(Credential { name: name("personal"), ..pass(form, &personal) });
                if *user == self.developer {
                    let oauth = gitlab.oauth_token(*user, Scope::Api);
                    all.push(Credential { name: name("OAuth"), ..pass(form, &oauth) });
                }
            }
        }
        for (name, scope) in [("read_api", Scope::ReadApi), ("no scope", Scope::None)] {
            let personal = gitlab.personal_token(self.developer, scope);
            all.push(Credential { name: format!("personal, {name}"), ..pass("PRIVATE-TOKEN", &personal) });
            let oauth = gitlab.oauth_token(self.developer, scope);
            all.push(Credential { name: format!("OAuth, {name}"), ..pass("Bearer", &oauth) });
        }
        all
    }

    fn jobs(&self, gitlab: &GitLab) -> Vec<Credential> {
        let (guest, developer) = (self.users[0].1, self.developer);
        let mut all = Vec::new();
        for (whose, project, user) in [
            ("developer's own", self.project, developer),
            ("guest's own", self.project, guest),
            ("neighbour's", self.neighbour, developer),
            ("listed project's", self.guest_of_list, developer),
        ] {
            for form in JOB.into_iter().chain(["PRIVATE-TOKEN"]) {
                let (_, token) = gitlab.running_job(project, user);
                all.push(Credential { name: format!("{whose} job token as {form}"), ..pass(form, &token) });
            }
        }
        let (finished, token) = gitlab.running_job(self.project, developer);
        gitlab.finish_job(finished);
        all.extend(
            JOB.map(|form| Credential { name: format!("finished job as {form}"), ..pass(form, &token) }),
        );
        all
    }

    fn sessions(&self, gitlab: &GitLab) -> Vec<Credential> {
        let session = |(who, user): &(&str, UserId)| Credential {
            name: format!("{who}'s session"),
            ..pass("_gitlab_session", &gitlab.session(*user))
        };
        self.users.iter().map(session).collect()
    }

    fn sudo(&self, gitlab: &GitLab) -> Vec<Credential> {
        let admin = |scope, name: &str| {
            let token = gitlab.personal_token(self.admin, scope);
            Credential { name: format!("admin {name}"), ..pass("PRIVATE-TOKEN", &token) }
        };
        let developer = pass("PRIVATE-TOKEN", &gitlab.personal_token(self.developer, Scope::Sudo));
        let job = pass("JOB-TOKEN", &gitlab.running_job(self.project, self.developer).1);
        vec![
            admin(Scope::Sudo, "alone"),
            admin(Scope::Sudo, "as developer").field("sudo", "developer"),
            admin(Scope::Sudo, "as guest").field("sudo", "guest"),
            admin(Scope::Sudo, "as outsider by parameter").query("sudo", "outsider"),
            admin(Scope::Sudo, "as developer by parameter").query("sudo", "developer"),
            admin(Scope::Sudo, "as nobody").field("sudo", "nobody"),
            admin(Scope::Api, "without the scope").field("sudo", "developer"),
            developer.field("sudo", "root"),
            job.field("sudo", "root"),
        ]
    }

    fn pairs(&self, gitlab: &GitLab) -> Vec<Credential> {
        let personal = || gitlab.personal_token(self.developer, Scope::Api);
        let job = || gitlab.running_job(self.project, self.developer).1;
        let two = |name: &str, first: Credential, second: Credential| Credential {
            name: name.to_owned(),
            fields: [first.fields, second.fields].concat(),
            query: [first.query, second.query].concat(),
        };
        let wrong = "glpat-wrongwrongwrong";
        let session = || pass("_gitlab_session", &gitlab.session(self.developer));
        vec![
            two("wrong personal, good job", pass("PRIVATE-TOKEN", wrong), pass("JOB-TOKEN", &job())),
            two(
                "good personal, wrong job",
                pass("PRIVATE-TOKEN", &personal()),
                pass("JOB-TOKEN", "glcbt-64_x"),
            ),
            two("wrong job, good session", pass("JOB-TOKEN", "glcbt-64_x"), session()),
            two("wrong personal, good session", pass("private_token=", wrong), session()),
            two("wrong bearer, good personal", pass("Bearer", wrong), pass("PRIVATE-TOKEN", &personal())),
            two("wrong and good personal", pass("private_token=", wrong), pass("PRIVATE-TOKEN", &personal())),
            two("good and wrong personal", pass("private_token=", &personal()), pass("PRIVATE-TOKEN", wrong)),
            two("bearer twice", pass("access_token=", &personal()), pass("Bearer", &personal())),
            two("bearer and parameter", pass("bearer_token=", &job()), pass("Bearer", &personal())),
            two("job and session", pass("job_token=", &job()), session()),
        ]
    }
}

fn wrong() -> Vec<Credential> {
    let unknown =
        |form| Credential { name: format!("unknown as {form}"), ..pass(form, "unknown-token-1234") };
    let mut all: Vec<_> = PERSONAL.into_iter().chain(JOB).map(unknown).collect();
    all.extend([
        Credential::named("nobody"),
        Credential::named("Basic").field("authorization", "Basic ZGV2ZWxvcGVyOnBhc3N3b3Jk"),
        Credential::named("a field nobody knows").field("x-future-credential", "developer"),
        Credential::named("a deploy token").field("deploy-token", "gldt-unknown"),
        pass("_gitlab_session", "0123456789abcdef0123456789abcdef"),
    ]);
    all
}

/// A job that everything about a job token can be tried with.
pub(super) fn finished(gitlab: &GitLab, project: ProjectId) -> JobId {
    gitlab.job(project, JobStatus::Success)
}

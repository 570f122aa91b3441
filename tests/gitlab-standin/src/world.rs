//! GitLab's database: users, projects, jobs, tokens, objects.

mod artifact;
mod job;
mod pipeline;
mod project;
mod session;
mod token;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::archive::{Archive, sha256_hex};
use crate::ids::{JobId, PipelineId, ProjectId, UserId};
use crate::settings::Setup;
pub(crate) use artifact::Artifact;
pub(crate) use job::Job;
pub use job::{ArtifactsAccess, JobStatus};
pub(crate) use pipeline::Pipeline;
pub use pipeline::PipelineStatus;
pub(crate) use project::Project;
pub use project::{Level, Visibility};
use session::Session;
pub use token::Scope;
pub(crate) use token::Token;

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) name: String,
    pub(crate) admin: bool,
    /// For the sign-in page; without one there is no way in.
    pub(crate) password: Option<String>,
}

/// An object in the store.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) archive: Archive,
    pub(crate) modified: SystemTime,
}

/// Everything GitLab knows.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) store_url: String,
    pub(crate) store_down: bool,
    /// The only name it goes by, in redirects and cookies; otherwise the one it was reached by.
    pub(crate) own_origin: Option<String>,
    pub(crate) users: BTreeMap<UserId, User>,
    pub(crate) projects: BTreeMap<ProjectId, Project>,
    pub(crate) pipelines: BTreeMap<PipelineId, Pipeline>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) job_tokens: HashMap<String, JobId>,
    /// Authentication tokens of runners; without any, there is no work for anybody.
    pub(crate) runners: HashSet<String>,
    pub(crate) sessions: HashMap<String, Session>,
    pub(crate) objects: HashMap<String, Object>,
    clock_offset: Duration,
    serial: u64,
    answers: u64,
    next_job: u64,
    next_pipeline: u64,
    next_project: u64,
}

impl World {
    pub(crate) fn new(setup: Setup, store_url: String) -> Self {
        Self {
            setup,
            store_url,
            store_down: false,
            own_origin: None,
            users: BTreeMap::new(),
            projects: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            tokens: HashMap::new(),
            job_tokens: HashMap::new(),
            runners: HashSet::new(),
            sessions: HashMap::new(),
            objects: HashMap::new(),
            clock_offset: Duration::ZERO,
            serial: 0,
            answers: 0,
            next_job: 1,
            next_pipeline: 1,
            next_project: 1,
        }
    }

    /// The stand-in's time: the machine's, moved forward by tests.
    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now() + self.clock_offset
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock_offset += by;
    }

    /// The number of this answer. Answers count apart: what tests fill in stays the same in every run.
    pub(crate) fn next_answer(&mut self) -> u64 {
        self.answers += 1;
        self.answers
    }

    /// A number never handed out before.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Hex digits that look random and are the same in every run.
    pub(crate) fn hex(&mut self, purpose: &str) -> String {
        let serial = self.serial();
        sha256_hex(format!("{}:{purpose}:{serial}", self.setup.seed).as_bytes())
    }

    pub(crate) fn add_user(&mut self, name: &str, admin: bool) -> UserId {
        let id = UserId(self.users.keys().last().map_or(1, |last| last.0 + 1));
        self.users.insert(id, User { id, name: name.to_owned(), admin, password: None });
        id
    }

    pub(crate) fn is_admin(&self, user: UserId) -> bool {
        self.users.get(&user).is_some_and(|user| user.admin)
    }

    /// A user by id or name, as `Sudo` names one (`lib/api/helpers.rb`, `find_user`).
    pub(crate) fn find_user(&self, text: &str) -> Option<UserId> {
        let named = |user: &&User| user.id.to_string() == text || user.name.eq_ignore_ascii_case(text);
        self.users.values().find(named).map(|user| user.id)
    }
}

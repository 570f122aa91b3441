//! Projects, their members and their addresses.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::World;
use crate::ids::{ProjectId, UserId};
use crate::percent;

/// Who may see a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Members.
    Private,
    /// Whoever is signed in.
    Internal,
    /// Everyone.
    Public,
}

impl Visibility {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Internal => "internal",
            Self::Public => "public",
        }
    }
}

/// A member's role (`lib/gitlab/access.rb`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Sees the project; builds only with public pipelines.
    Guest,
    /// Reads builds.
    Reporter,
    /// Writes.
    Developer,
    /// Deletes artifacts.
    Maintainer,
    /// Deletes pipelines and the project.
    Owner,
}

/// A project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) path: String,
    pub(crate) old_paths: Vec<String>,
    pub(crate) visibility: Visibility,
    pub(crate) members: HashMap<UserId, Level>,
    /// "Public pipelines": on by default.
    pub(crate) public_builds: bool,
    /// Whose job tokens may come in, besides the project's own. `None`: the limit is off.
    pub(crate) inbound: Option<BTreeSet<ProjectId>>,
    pub(crate) allowed_ips: Option<Vec<IpAddr>>,
    /// Artifact statistics are being refreshed: deletes get 409.
    pub(crate) refreshing: bool,
}

/// A project and whether the path that led to it is an old one.
pub(crate) struct Found<'a> {
    pub(crate) project: &'a Project,
    pub(crate) moved: bool,
}

impl World {
    pub(crate) fn add_project(&mut self, path: &str, visibility: Visibility) -> ProjectId {
        let id = ProjectId(self.next_project);
        self.next_project += 1;
        let project = Project {
            id,
            path: path.to_owned(),
            old_paths: Vec::new(),
            visibility,
            members: HashMap::new(),
            public_builds: true,
            inbound: Some(BTreeSet::new()),
            allowed_ips: None,
            refreshing: false,
        };
        self.projects.insert(id, project);
        id
    }

    /// The project that a path segment names (`lib/api/helpers.rb`, `find_project`): digits are an id, anything
    /// else must be a path; case is ignored and old paths are followed.
    pub(crate) fn find_project(&self, segment: &str) -> Option<Found<'_>> {
        let text = percent::decode_text(segment)?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let id = ProjectId(text.parse().ok()?);
            return self.projects.get(&id).map(|project| Found { project, moved: false });
        }
        if text.contains('/') { self.find_path(&text) } else { None }
    }

    /// The project at a path: case is ignored and old paths are followed.
    pub(crate) fn find_path(&self, path: &str) -> Option<Found<'_>> {
        let now = self.projects.values().find(|project| project.path.eq_ignore_ascii_case(path));
        let before = |project: &&Project| project.old_paths.iter().any(|old| old.eq_ignore_ascii_case(path));
        let found = |moved| move |project| Found { project, moved };
        now.map(found(false)).or_else(|| self.projects.values().find(before).map(found(true)))
    }

    pub(crate) fn move_project(&mut self, id: ProjectId, path: &str) {
        if let Some(project) = self.projects.get_mut(&id) {
            let old = std::mem::replace(&mut project.path, path.to_owned());
            project.old_paths.push(old);
        }
    }

    pub(crate) fn delete_project(&mut self, id: ProjectId) {
        self.projects.remove(&id);
        self.delete_jobs(|job| job.project == id);
        self.pipelines.retain(|_, pipeline| pipeline.project != id);
    }
}

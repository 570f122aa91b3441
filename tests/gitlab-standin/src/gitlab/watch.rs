//! Breaking GitLab and looking at what it saw.

use super::GitLab;
use crate::counters::Counters;
use crate::fault::{Fault, FaultHandle};
use crate::ids::{JobId, ProjectId};
use crate::route::Class;
use crate::seen::Seen;

impl GitLab {
    /// Puts a fault in force.
    pub fn fault(&self, fault: Fault) -> FaultHandle {
        self.shared.faults.add(fault)
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Everything counted since the start or the last [`GitLab::reset_counters`].
    pub fn counters(&self) -> Counters {
        self.shared.tally.snapshot()
    }

    /// The last 10,000 requests to both servers, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.log.all()
    }

    /// Those of one class; [`Class::Object`] for the object store.
    pub fn requests_of(&self, class: Class) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.class == class).collect()
    }

    /// Sets all counters to zero and forgets the requests.
    pub fn reset_counters(&self) {
        self.shared.tally.reset();
        self.shared.log.clear();
    }

    /// The URL of `GET /projects/:id/jobs/:job_id/artifacts`, the project by number; more path can be appended.
    pub fn archive_url(&self, job: JobId) -> String {
        let project = self.world(|world| world.jobs.get(&job).map_or(0, |job| job.project.0));
        format!("{}/api/v4/projects/{project}/jobs/{job}/artifacts", self.url())
    }

    /// The URL of `…/-/jobs/:id` on the web; `/artifacts/download` and the like can be appended.
    pub fn web_url(&self, job: JobId) -> String {
        let path = self.world(|world| {
            let project = world.jobs.get(&job).and_then(|job| world.projects.get(&job.project));
            project.map(|project| project.path.clone()).unwrap_or_default()
        });
        format!("{}/{path}/-/jobs/{job}", self.url())
    }

    /// The URL of `…/projects/:id/jobs/artifacts/:ref_name/download?job=`, the project by number. Neither name is
    /// escaped.
    pub fn ref_url(&self, project: ProjectId, ref_name: &str, job: &str) -> String {
        format!("{}/api/v4/projects/{project}/jobs/artifacts/{ref_name}/download?job={job}", self.url())
    }

    /// The URL of `GET /jobs/:id/artifacts`.
    pub fn runner_url(&self, job: JobId) -> String {
        format!("{}/api/v4/jobs/{job}/artifacts", self.url())
    }
}

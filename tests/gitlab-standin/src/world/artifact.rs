//! Archives in the database and in the store.

use std::time::{Duration, SystemTime};

use super::{Object, World};
use crate::archive::{Archive, sha256_hex};
use crate::ids::{JobId, ProjectId};

/// Files get dates from here on, a minute apart, so that runs are alike: 2024-01-01 00:00:00 UTC.
const FIRST_DATE: Duration = Duration::from_secs(1_704_067_200);

/// A job's archive.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) archive: Archive,
    /// When the file was written.
    pub(crate) modified: SystemTime,
    /// Past its expiry, and not swept yet.
    pub(crate) expired: bool,
    /// Its object's path as older GitLab makes it, with project hash, date, job id, artifact id.
    pub(crate) job_path: String,
    /// Its object's path as newer GitLab makes it.
    pub(crate) final_path: String,
}

impl Artifact {
    pub(crate) fn path(&self, job_id_in_path: bool) -> &str {
        if job_id_in_path { &self.job_path } else { &self.final_path }
    }
}

impl World {
    pub(crate) fn put_artifact(&mut self, job: JobId, archive: Archive, modified: Option<SystemTime>) {
        let Some(project) = self.jobs.get(&job).map(|job| job.project) else {
            return;
        };
        let serial = self.serial();
        let modified = modified.unwrap_or_else(|| {
            SystemTime::UNIX_EPOCH + FIRST_DATE + Duration::from_secs(60 * (serial % 10_000))
        });
        let artifact = Artifact {
            job_path: job_path(project, job, serial),
            final_path: final_path(self.setup.seed, project, serial),
            archive: archive.clone(),
            modified,
            expired: false,
        };
        let object = Object { archive, modified };
        self.delete_artifact(job);
        self.objects.insert(artifact.job_path.clone(), object.clone());
        self.objects.insert(artifact.final_path.clone(), object);
        if let Some(job) = self.jobs.get_mut(&job) {
            job.artifact = Some(artifact);
        }
    }

    /// Removes row and object. Real GitLab removes the object a little later.
    pub(crate) fn delete_artifact(&mut self, job: JobId) {
        if let Some(artifact) = self.jobs.get_mut(&job).and_then(|job| job.artifact.take()) {
            self.objects.remove(&artifact.job_path);
            self.objects.remove(&artifact.final_path);
        }
    }

    /// Expires and sweeps all archives of a project that are not locked (`DELETE /projects/:id/artifacts`).
    pub(crate) fn sweep(&mut self, project: ProjectId) {
        let swept = self.jobs.values().filter(|job| job.project == project && !job.locked);
        let swept: Vec<JobId> = swept.map(|job| job.id).collect();
        for job in swept {
            self.delete_artifact(job);
        }
    }
}

fn job_path(project: ProjectId, job: JobId, serial: u64) -> String {
    format!("{}/2024_01_01/{job}/{serial}/artifacts.zip", hashed(&project.to_string()))
}

fn final_path(seed: u64, project: ProjectId, serial: u64) -> String {
    let (project, object) = (hashed(&project.to_string()), hashed(&format!("{seed}:{serial}")));
    format!("{project}/@final/{object}")
}

/// GitLab's hashed storage: two directories of two digits, then the whole digest.
fn hashed(text: &str) -> String {
    let hash = sha256_hex(text.as_bytes());
    let part = |range| hash.get(range).unwrap_or_default();
    format!("{}/{}/{hash}", part(0..2), part(2..4))
}

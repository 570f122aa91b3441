//! Archives in the database and in the store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::{Object, World};
use crate::archive::{Archive, sha256_hex};
use crate::ids::{JobId, ProjectId};
use crate::settings::Storage;

/// Files get dates from here on, a minute apart, so that runs are alike: 2024-01-01 00:00:00 UTC.
const FIRST_DATE: Duration = Duration::from_secs(1_704_067_200);

/// A job's archive, or a report of its.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    /// The row's id, as the list of artifacts on the web has it.
    pub(crate) id: u64,
    pub(crate) filename: String,
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
        let Some(artifact) = self.new_artifact(job, archive, modified, "artifacts.zip") else {
            return;
        };
        self.delete_artifact(job);
        if let Some(job) = self.jobs.get_mut(&job) {
            job.artifact = Some(artifact);
        }
    }

    /// Gives a job something that is no archive, in place of what it has of that type.
    pub(crate) fn put_report(&mut self, job: JobId, kind: &str, content: Archive) {
        let Some(report) = self.new_artifact(job, content, None, &report_name(kind)) else {
            return;
        };
        let old = self.jobs.get_mut(&job).and_then(|job| job.reports.insert(kind.to_owned(), report));
        self.remove_objects(old);
    }

    /// The row, with its object in the store already.
    fn new_artifact(
        &mut self,
        job: JobId,
        archive: Archive,
        modified: Option<SystemTime>,
        filename: &str,
    ) -> Option<Artifact> {
        let project = self.jobs.get(&job)?.project;
        let serial = self.serial();
        let modified = modified.unwrap_or_else(|| {
            SystemTime::UNIX_EPOCH + FIRST_DATE + Duration::from_secs(60 * (serial % 10_000))
        });
        let artifact = Artifact {
            id: serial,
            filename: filename.to_owned(),
            job_path: job_path(project, job, serial, filename),
            final_path: final_path(self.setup.seed, project, serial),
            archive: archive.clone(),
            modified,
            expired: false,
        };
        let object = Object { archive, modified };
        self.objects.insert(artifact.job_path.clone(), object.clone());
        self.objects.insert(artifact.final_path.clone(), object);
        Some(artifact)
    }

    /// Removes an archive, row and object. Real GitLab removes the object a little later.
    pub(crate) fn delete_artifact(&mut self, job: JobId) {
        let old = self.jobs.get_mut(&job).and_then(|job| job.artifact.take());
        self.remove_objects(old);
    }

    /// Removes all that a job has.
    pub(crate) fn delete_artifacts(&mut self, job: JobId) {
        self.delete_artifact(job);
        let reports = self.jobs.get_mut(&job).map(|job| std::mem::take(&mut job.reports));
        self.remove_objects(reports.into_iter().flat_map(BTreeMap::into_values));
    }

    /// Removes one file of a project by its row's id; whether there was one.
    pub(crate) fn delete_row(&mut self, project: ProjectId, id: u64) -> bool {
        let mut jobs = self.jobs.values_mut().filter(|job| job.project == project);
        let row = jobs.find_map(|job| {
            let kind = job.reports.iter().find(|(_, file)| file.id == id).map(|(kind, _)| kind.clone());
            let report = kind.and_then(|kind| job.reports.remove(&kind));
            report.or_else(|| job.artifact.take_if(|file| file.id == id))
        });
        let found = row.is_some();
        self.remove_objects(row);
        found
    }

    fn remove_objects(&mut self, artifacts: impl IntoIterator<Item = Artifact>) {
        for artifact in artifacts {
            self.objects.remove(&artifact.job_path);
            self.objects.remove(&artifact.final_path);
        }
    }

    /// The bytes that Workhorse unpacks entries from: GitLab's disk, or the object. None: the object is gone.
    pub(crate) fn bytes_of<'a>(&'a self, artifact: &'a Artifact) -> Option<&'a Archive> {
        match self.setup.storage {
            Storage::Local { .. } => Some(&artifact.archive),
            Storage::Redirect { .. } | Storage::Proxied { .. } => {
                self.objects.get(&artifact.final_path).map(|object| &object.archive)
            }
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

fn job_path(project: ProjectId, job: JobId, serial: u64, filename: &str) -> String {
    format!("{}/2024_01_01/{job}/{serial}/{filename}", hashed(&project.to_string()))
}

fn final_path(seed: u64, project: ProjectId, serial: u64) -> String {
    let (project, object) = (hashed(&project.to_string()), hashed(&format!("{seed}:{serial}")));
    format!("{project}/@final/{object}")
}

/// What uploads of a type are called (`enums/ci/job_artifact.rb`, the runner's `artifacts_uploader`).
fn report_name(kind: &str) -> String {
    match kind {
        "trace" => "job.log".to_owned(),
        "metadata" => "metadata.gz".to_owned(),
        "junit" => "junit.xml.gz".to_owned(),
        "cobertura" => "cobertura-coverage.xml.gz".to_owned(),
        "dotenv" => ".env.gz".to_owned(),
        // Any other type is a security report: JSON, not packed.
        _ => format!("gl-{}-report.json", kind.replace('_', "-")),
    }
}

/// GitLab's hashed storage: two directories of two digits, then the whole digest.
fn hashed(text: &str) -> String {
    let hash = sha256_hex(text.as_bytes());
    let part = |range| hash.get(range).unwrap_or_default();
    format!("{}/{}/{hash}", part(0..2), part(2..4))
}

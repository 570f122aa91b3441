//! Who may have what.
//!
//! Owns the questions to GitLab, the grants that come of them, and the epochs that void both. Knows GitLab as a
//! service and archives by their facts; knows nothing of files, nor of how anything is served. Access fails closed:
//! whatever isn't a yes by [`judge`] opens nothing.

mod admission;
pub mod caller;
pub mod epochs;
mod grants;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

pub use admission::{Admission, Asked, Granted, Other, Refusal, Said, Subject};
pub use caller::Caller;
pub use epochs::Epochs;
use grants::Grants;
use probe::{Probed, Probes};

use crate::clock::Clock;
use crate::fields::{self, Kept};
use crate::grant::{Facts, Grant, Location, Relation, StorageRules, Visitors, Yes, judge};
use crate::key::{ArchiveId, JobId};
use crate::route::Question;
use crate::secret::{Fingerprint, Fingerprinter};
use crate::telemetry::{Metrics, metrics};
use crate::upstream::{self, Upstream};

/// What the operator decides about grants.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long GitLab's yes may be remembered; zero asks GitLab for every request.
    pub ttl: Duration,
    /// How long a caller's last yes counts while GitLab is down; zero refuses.
    pub grace: Duration,
}
/// Access to archives.
#[derive(Debug)]
pub struct Access {
    settings: Settings,
    key: Fingerprinter,
    grants: Grants,
    epochs: Epochs,
    probes: Probes,
    rules: StorageRules,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Access {
    /// Access by the word of `upstream`.
    pub fn new(
        settings: Settings,
        rules: StorageRules,
        upstream: Arc<Upstream>,
        key: Fingerprinter,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let grants = Grants::new(settings.ttl.max(settings.grace));
        let probes = Probes::new(upstream, clock.clone());
        Self { settings, key, grants, epochs: Epochs::default(), probes, rules, clock, metrics }
    }

    /// The epochs by which answers are voided.
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Which redirects lead to an object store.
    pub const fn rules(&self) -> &StorageRules {
        &self.rules
    }

    /// Grants remembered now.
    pub fn remembered(&self) -> u64 {
        self.grants.len()
    }

    /// Lets go of what has expired.
    pub fn sweep(&self) {
        self.grants.sweep();
    }

    /// Asks whether a caller may have a subject: of what is remembered, else of GitLab.
    pub async fn admit(&self, caller: &Caller, question: &Question, subject: Subject<'_>) -> Admission {
        let asking = caller.asking(&self.key, question);
        if let Some(grant) = self.remembered_for(asking, question.job, subject, self.settings.ttl) {
            self.metrics.grant(metrics::Grant::Remembered);
            subject.visitors.admit(asking);
            return Admission::Granted(Granted { grant, said: None });
        }
        let epoch = self.epochs.now(question.job);
        let share = self.settings.ttl;
        let probed =
            self.probes.ask(asking, caller, question, Some((subject.id, subject.facts)), epoch, share).await;
        let probed = match probed {
            Ok(probed) if judge::is_outage(probed.status) => {
                return self.outage(asking, question, subject, Some(&probed), None);
            }
            Ok(probed) => probed,
            Err(error) => return self.outage(asking, question, subject, None, Some(error)),
        };
        self.conclude(caller, question, asking, subject, &probed)
    }

    /// Asks GitLab whether a caller may have an archive of which nothing is held; never a grant.
    pub async fn inquire(&self, caller: &Caller, question: &Question) -> Admission {
        let asking = caller.asking(&self.key, question);
        let epoch = self.epochs.now(question.job);
        let share = self.settings.ttl;
        match self.probes.ask(asking, caller, question, None, epoch, share).await {
            Err(error) => self.down(error),
            Ok(probed) => match judge::judge(None, probed.answer(), &self.rules, caller.host()) {
                // Nothing is held that a yes could name.
                judge::Verdict::Yes(_, facts) => self.other(Relation::Same, facts, None, &probed),
                judge::Verdict::Other(relation, facts, location) => {
                    self.other(relation, facts, location, &probed)
                }
                judge::Verdict::Refused => self.refuse(caller, question, asking, None, &probed),
                judge::Verdict::NotOurs => self.not_ours(),
            },
        }
    }

    /// Turns the yes to a leader's own GET into a grant for what it brings.
    pub fn grant_leader(
        &self,
        leader: &Caller,
        question: &Question,
        yes: Yes,
        to: ArchiveId,
        asked: Asked,
    ) -> Arc<Grant> {
        let asking = leader.asking(&self.key, question);
        self.metrics.grant(metrics::Grant::Asked);
        self.remember(leader, question, asking, Grant::new(yes, to, asked.at, asked.epoch, None))
    }

    /// Notes who was let in: if GitLab says 404 to them later, what they were let in to is gone.
    pub fn note(&self, caller: &Caller, question: &Question, visitors: &Visitors) {
        visitors.admit(caller.asking(&self.key, question));
    }

    /// A reading of clock and epoch, to be taken before a question is sent.
    pub fn about_to_ask(&self, job: JobId) -> Asked {
        Asked { at: self.clock.now(), epoch: self.epochs.now(job) }
    }

    /// Ends every grant that a caller's credentials helped to get: GitLab said 401 to them, or their job has ended.
    /// A caller without any that is visible ends all grants.
    pub fn revoke(&self, caller: &Caller, query: Option<&str>) {
        let fingerprints = caller.revocable(&self.key, query);
        if !self.grants.revoke(&fingerprints, self.clock.now()) {
            self.epochs.invalidate_all();
        }
    }

    /// Ends the grants of the credentials in a request that ended a job. If they can't be seen, ends all grants.
    pub fn end_job(&self, caller: &Caller, query: Option<&str>) {
        if caller.secrets(&self.key, query).is_empty() {
            self.epochs.invalidate_all();
        } else {
            self.revoke(caller, query);
        }
    }

    fn remembered_for(
        &self,
        asking: Fingerprint,
        job: JobId,
        subject: Subject<'_>,
        limit: Duration,
    ) -> Option<Arc<Grant>> {
        let grant = self.grants.find(asking)?;
        let (epoch, now) = (self.epochs.now(job), self.clock.now());
        grant.opens(subject.id, subject.facts.tail.as_deref(), epoch, now, limit).then_some(grant)
    }

    fn conclude(
        &self,
        caller: &Caller,
        question: &Question,
        asking: Fingerprint,
        subject: Subject<'_>,
        probed: &Probed,
    ) -> Admission {
        match judge::judge(Some(subject.facts), probed.answer(), &self.rules, caller.host()) {
            judge::Verdict::Yes(yes, facts) => {
                self.metrics.probe(metrics::Probe::Yes);
                self.metrics.grant(metrics::Grant::Asked);
                // Shown of an archive that is still growing: to be compared when its end is there.
                let tail = facts.tail.clone().filter(|_| subject.facts.tail.is_none());
                let grant = Grant::new(yes, subject.id, probed.asked_at, probed.epoch, tail);
                let grant = self.remember(caller, question, asking, grant);
                if self.epochs.now(question.job) != grant.epoch() {
                    return Admission::Overtaken;
                }
                subject.visitors.admit(asking);
                // A redirect's own type and a 304's silence say nothing of the archive.
                let describes = matches!(probed.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
                let kept = if describes { Kept::of(&probed.fields, &probed.fields) } else { Kept::default() };
                let said = Said { facts, kept, fresh: fields::fresh(&probed.fields) };
                Admission::Granted(Granted { grant, said: Some(said) })
            }
            judge::Verdict::Other(relation, facts, location) => {
                self.grants.forget(asking);
                self.other(relation, facts, location, probed)
            }
            judge::Verdict::Refused => self.refuse(caller, question, asking, Some(subject), probed),
            judge::Verdict::NotOurs => {
                self.grants.forget(asking);
                self.not_ours()
            }
        }
    }

    fn remember(
        &self,
        caller: &Caller,
        question: &Question,
        asking: Fingerprint,
        grant: Grant,
    ) -> Arc<Grant> {
        let grant = Arc::new(grant);
        let revoked_by = caller.revocable(&self.key, question.target.query());
        self.grants.insert(asking, Arc::clone(&grant), revoked_by);
        grant
    }

    fn refuse(
        &self,
        caller: &Caller,
        question: &Question,
        asking: Fingerprint,
        subject: Option<Subject<'_>>,
        probed: &Probed,
    ) -> Admission {
        self.metrics.probe(metrics::Probe::Refused);
        self.grants.forget(asking);
        if probed.status == StatusCode::UNAUTHORIZED {
            self.revoke(caller, question.target.query());
        }
        let Some(body) = probed.body.clone() else {
            return Admission::NotOurs;
        };
        let visited = subject.is_some_and(|subject| subject.visitors.knows(asking));
        let gone = visited && judge::is_gitlabs_404(probed.status, &probed.fields);
        Admission::Refused(Refusal { status: probed.status, fields: probed.fields.clone(), body, gone })
    }

    fn other(
        &self,
        relation: Relation,
        facts: Facts,
        location: Option<Location>,
        probed: &Probed,
    ) -> Admission {
        self.metrics.probe(metrics::Probe::Other);
        Admission::Other(Other { relation, facts, location, fields: probed.fields.clone() })
    }

    fn not_ours(&self) -> Admission {
        self.metrics.probe(metrics::Probe::NotOurs);
        Admission::NotOurs
    }

    fn down(&self, error: Arc<upstream::Error>) -> Admission {
        self.metrics.probe(metrics::Probe::Down);
        self.metrics.upstream_error(error.kind().as_str());
        Admission::Down(error)
    }

    /// GitLab is down: the caller's last answer may stand in, if it was a yes and the operator allows it.
    fn outage(
        &self,
        asking: Fingerprint,
        question: &Question,
        subject: Subject<'_>,
        said: Option<&Probed>,
        error: Option<Arc<upstream::Error>>,
    ) -> Admission {
        if let Some(grant) = self.remembered_for(asking, question.job, subject, self.settings.grace) {
            self.metrics.probe(metrics::Probe::Down);
            self.metrics.grant(metrics::Grant::Grace);
            return Admission::Granted(Granted { grant, said: None });
        }
        match (error, said) {
            (Some(error), _) => self.down(error),
            (None, Some(Probed { body: Some(body), status, fields, .. })) => {
                self.metrics.probe(metrics::Probe::Down);
                Admission::Refused(Refusal {
                    status: *status,
                    fields: fields.clone(),
                    body: body.clone(),
                    gone: false,
                })
            }
            (None, _) => self.not_ours(),
        }
    }
}

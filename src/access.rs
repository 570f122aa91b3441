//! Who may have what.
//!
//! Owns the questions to GitLab, the grants that come of them, and the epochs that void both. Knows GitLab as a
//! service and archives by their facts; knows nothing of files, nor of how anything is served. Access fails closed:
//! whatever isn't a yes by [`judge`] opens nothing.

mod admission;
pub mod caller;
mod conclusion;
mod entry;
pub mod epochs;
mod grants;
mod probe;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use admission::{Admission, Asked, Described, Granted, Other, Refusal, Said, Subject};
pub use caller::Caller;
pub use epochs::Epochs;
use grants::Grants;
use probe::{Ask, Conditions, Probed, Probes};

use parking_lot::RwLock;

use crate::clock::Clock;
use crate::grant::judge::Condition;
use crate::grant::{Epoch, Grant, Relation, StorageRules, Visitors, Yes, judge};
use crate::key::{ArchiveId, Key};
use crate::route::Question;
use crate::secret::{Fingerprint, Fingerprinter};
use crate::telemetry::{Metrics, metrics};
use crate::upstream::Upstream;

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
    settings: RwLock<Settings>,
    key: Fingerprinter,
    grants: Grants,
    epochs: Epochs,
    probes: Probes,
    /// Whether GitLab has shown that it knows archives by digest.
    digests: AtomicBool,
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
        let settings = RwLock::new(settings);
        let (epochs, digests) = (Epochs::default(), AtomicBool::new(false));
        Self { settings, key, grants, epochs, probes, digests, rules, clock, metrics }
    }

    /// What holds from now on. Grants that were given are judged by it as well.
    pub fn change(&self, settings: Settings) {
        // First what is remembered goes: not for a moment may it be judged by a longer time than it was given for.
        self.grants.change(settings.ttl.max(settings.grace), self.clock.now());
        *self.settings.write() = settings;
    }

    fn settings(&self) -> Settings {
        *self.settings.read()
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
        if let Some(grant) = self.remembered_for(asking, question.key, subject, self.settings().ttl) {
            self.metrics.grant(metrics::Grant::Remembered);
            subject.visitors.admit(asking);
            return Admission::Granted(Granted { grant, said: None });
        }
        let asker = Asker { caller, question, asking, subject, epoch: self.epochs.now(question.key) };
        match (&question.entry, subject.entry) {
            (Some(entry), Some(size)) => Box::pin(self.admit_entry(asker, &entry.name, size)).await,
            (Some(_), None) => self.not_ours(),
            (None, _) => Box::pin(self.admit_archive(asker)).await,
        }
    }

    /// Asks on the route of the whole archive.
    async fn admit_archive(&self, asker: Asker<'_>) -> Admission {
        match self.answered(&asker, self.probe_archive(&asker, asker.question).await) {
            Err(admission) => *admission,
            Ok(probed) => {
                let verdict = self.judged(&asker, &probed);
                self.conclude(&asker, verdict, &probed, probed.asked_at)
            }
        }
    }

    async fn probe_archive(&self, asker: &Asker<'_>, question: &Question) -> probe::Result {
        let condition = Condition::about(Some(asker.subject.facts));
        // Where the route was not described yet, the fields of the answer are wanted as well.
        let condition = if asker.subject.described { condition } else { condition.to_be_described() };
        let ask = Ask {
            asking: asker.caller.asking(&self.key, question),
            caller: asker.caller,
            target: &question.target,
            held: Some(asker.subject.id),
            asked: Conditions::Archive(condition),
            epoch: asker.epoch,
        };
        self.probes.ask(ask, self.settings().ttl).await
    }

    fn judged(&self, asker: &Asker<'_>, probed: &Probed) -> judge::Verdict {
        match &probed.asked {
            Conditions::Archive(condition) => judge::judge(
                Some(asker.subject.facts),
                condition,
                probed.answer(),
                &self.rules,
                asker.caller.host(),
            ),
            Conditions::Entry(_) => judge::Verdict::NotOurs,
        }
    }

    /// An answer that says something, or what comes of none.
    fn answered(&self, asker: &Asker<'_>, probed: probe::Result) -> Result<Arc<Probed>, Box<Admission>> {
        match probed {
            Ok(probed) if judge::is_outage(probed.status) => {
                Err(Box::new(self.outage(asker, Some(&probed), None)))
            }
            Ok(probed) => Ok(probed),
            Err(error) => Err(Box::new(self.outage(asker, None, Some(error)))),
        }
    }

    /// Asks GitLab whether a caller may have an archive of which nothing is held; never a grant.
    pub async fn inquire(&self, caller: &Caller, question: &Question) -> Admission {
        let asking = caller.asking(&self.key, question);
        let condition = Condition::about(None);
        let ask = Ask {
            asking,
            caller,
            target: &question.target,
            held: None,
            asked: Conditions::Archive(condition.clone()),
            epoch: self.epochs.now(question.key),
        };
        match self.probes.ask(ask, self.settings().ttl).await {
            Err(error) => self.down(error),
            Ok(probed) => match judge::judge(None, &condition, probed.answer(), &self.rules, caller.host()) {
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
    pub fn about_to_ask(&self, key: Key) -> Asked {
        Asked { at: self.clock.now(), epoch: self.epochs.now(key) }
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
        key: Key,
        subject: Subject<'_>,
        limit: Duration,
    ) -> Option<Arc<Grant>> {
        let grant = self.grants.find(asking)?;
        let (epoch, now) = (self.epochs.now(key), self.clock.now());
        grant.opens(subject.id, subject.facts.tail.as_deref(), epoch, now, limit).then_some(grant)
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
}

/// A caller with a question about something that is held.
#[derive(Clone, Copy)]
struct Asker<'a> {
    caller: &'a Caller,
    question: &'a Question,
    asking: Fingerprint,
    subject: Subject<'a>,
    /// Read before anything is asked.
    epoch: Epoch,
}

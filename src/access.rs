//! Who may have what.
//!
//! Owns the questions to GitLab, the grants that come of them, and the epochs that void both. Knows GitLab as a
//! service and archives by their facts; knows nothing of files, nor of how anything is served. Access fails closed:
//! whatever isn't a yes by [`judge`] opens nothing.

mod admission;
pub(crate) mod caller;
mod conclusion;
mod credentials;
mod entry;
pub(crate) mod epochs;
mod grants;
mod health;
mod probe;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(crate) use admission::{Admission, AskedAt, Candidate, Described, Granted, Mismatch, ProbeInfo, Refusal};
pub use caller::Caller;
use credentials::CallerCredentials;
pub use epochs::Epochs;
use grants::Grants;
use health::Health;
use probe::{Ask, Conditions, Heard, Probed, Probes};

use http::HeaderMap;
use parking_lot::RwLock;

use crate::base::clock::Clock;
use crate::base::key::{ArchiveId, Key};
use crate::base::secret::{Fingerprint, Fingerprinter};
use crate::gitlab::grant::judge::Condition;
use crate::gitlab::grant::{
    AskedPath, Epoch, Facts, Grant, RecentCallers, Relation, StorageRules, Yes, judge,
};
use crate::gitlab::route::Question;
use crate::http::fields;
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
pub(crate) struct Access {
    settings: RwLock<Settings>,
    key: Fingerprinter,
    grants: Grants,
    epochs: Epochs,
    probes: Probes,
    health: Health,
    /// Whether GitLab has shown that it knows archives by digest.
    digests: AtomicBool,
    rules: StorageRules,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Access {
    /// Access by the word of `upstream`.
    pub(crate) fn new(
        settings: Settings,
        rules: StorageRules,
        upstream: Arc<Upstream>,
        key: Fingerprinter,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let grants = Grants::new(settings.ttl.max(settings.grace));
        let probes = Probes::new(Arc::clone(&upstream), clock.clone());
        let health = Health::new(upstream, clock.clone());
        let settings = RwLock::new(settings);
        let (epochs, digests) = (Epochs::default(), AtomicBool::new(false));
        Self { settings, key, grants, epochs, probes, health, digests, rules, clock, metrics }
    }

    /// What holds from now on. Grants that were given are judged by it as well.
    pub(crate) fn change(&self, settings: Settings) {
        // First what is remembered goes: not for a moment may it be judged by a longer time than it was given for.
        self.grants.change(settings.ttl.max(settings.grace), self.clock.now());
        *self.settings.write() = settings;
    }

    fn settings(&self) -> Settings {
        *self.settings.read()
    }

    /// The epochs by which answers are voided.
    pub(crate) const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Which redirects lead to an object store.
    pub(crate) const fn rules(&self) -> &StorageRules {
        &self.rules
    }

    /// Grants remembered now.
    pub(crate) fn remembered(&self) -> u64 {
        self.grants.len()
    }

    /// Lets go of what has expired.
    pub(crate) fn sweep(&self) {
        self.grants.sweep();
    }

    /// Asks whether a caller may have a candidate: of what is remembered, else of GitLab.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        question: &Question,
        candidate: Candidate<'_>,
    ) -> Admission {
        let asking = caller.asking(&self.key, question);
        let remembered = self.remembered_for(asking, question.key, candidate, self.settings().ttl);
        if let Some(granted) = remembered.filter(|_| candidate.described || candidate.entry.is_none()) {
            self.metrics.grant(metrics::GrantLabel::Remembered);
            candidate.visitors.admit(asking);
            return Admission::Granted(granted);
        }
        let held = self.held(caller, question);
        let outage = self.health.known(Some(question.class)).await;
        let inquiry = Inquiry {
            caller,
            question,
            asking,
            held: &held,
            candidate,
            epoch: self.epochs.now(question.key),
        };
        if let Some(admission) = outage.and_then(|outage| self.without_asking(&inquiry, outage)) {
            return admission;
        }
        match (&question.entry, candidate.entry) {
            (Some(entry), Some(size)) => Box::pin(self.admit_entry(inquiry, &entry.name, size)).await,
            (Some(_), None) => self.not_ours(),
            (None, _) => Box::pin(self.admit_archive(inquiry)).await,
        }
    }

    /// Asks on the route of the whole archive.
    async fn admit_archive(&self, inquiry: Inquiry<'_>) -> Admission {
        match self.answered(&inquiry, self.probe_archive(&inquiry, inquiry.question).await).await {
            Err(admission) => *admission,
            Ok(probed) => {
                let verdict = self.judged(&inquiry, inquiry.question, &probed);
                self.conclude(&inquiry, verdict, &probed, probed.asked_at)
            }
        }
    }

    async fn probe_archive(&self, inquiry: &Inquiry<'_>, question: &Question) -> probe::ProbeResult {
        let condition = Condition::about(Some(inquiry.candidate.facts));
        // Where the route was not described yet, the fields of the answer are wanted as well.
        let silent = inquiry.candidate.described || inquiry.candidate.entry.is_some();
        let condition = if silent { condition } else { condition.without_validator() };
        let ask = Ask {
            asking: inquiry.caller.asking(&self.key, question),
            caller: inquiry.caller,
            target: &question.target,
            held: Some(inquiry.candidate.id),
            credentials: inquiry.held.clone(),
            asked: Conditions::Archive(condition),
            epoch: inquiry.epoch,
            expected: inquiry.candidate.facts.tail.clone(),
        };
        self.probes.ask(ask, self.settings().ttl).await
    }

    fn judged(&self, inquiry: &Inquiry<'_>, question: &Question, probed: &Probed) -> judge::Verdict {
        let Conditions::Archive(condition) = &probed.asked else {
            return judge::Verdict::NotOurs;
        };
        let sent = AskedPath::new(inquiry.caller.host(), &question.target);
        let under = |held: &Facts| judge::judge(Some(held), condition, probed.answer(), &self.rules, sent);
        let held = inquiry.candidate.facts;
        let verdict = under(held);
        if !matches!(verdict, judge::Verdict::Other(Relation::Different, ..)) {
            return verdict;
        }
        // What differs may be but another face of it.
        let faces = inquiry.candidate.faces.iter().map(|face| under(&face.of_held(held)));
        let mut known = faces.filter_map(|verdict| match verdict {
            judge::Verdict::Yes(yes, _) => Some(judge::Verdict::Yes(yes, held.clone())),
            _ => None,
        });
        known.next().unwrap_or(verdict)
    }

    /// An answer that says something, or what comes of none.
    async fn answered(
        &self,
        inquiry: &Inquiry<'_>,
        probed: probe::ProbeResult,
    ) -> Result<Heard, Box<Admission>> {
        match probed {
            Ok(probed) if judge::is_outage(probed.status) => {
                Err(Box::new(self.outage(inquiry, Some(&probed), None).await))
            }
            Ok(probed) => {
                self.health.heard(Some(inquiry.question.class));
                Ok(probed)
            }
            Err(error) => Err(Box::new(self.outage(inquiry, None, Some(error)).await)),
        }
    }

    /// Asks GitLab whether a caller may have an archive of which nothing is held; never a grant.
    pub(crate) async fn inquire(&self, caller: &Caller, question: &Question) -> Admission {
        if let Some(error) = self.known_down(Some(question.class)).await {
            return self.down(Arc::new(error));
        }
        let asking = caller.asking(&self.key, question);
        let condition = Condition::about(None);
        let ask = Ask {
            asking,
            caller,
            target: &question.target,
            held: None,
            credentials: self.held(caller, question),
            asked: Conditions::Archive(condition.clone()),
            epoch: self.epochs.now(question.key),
            expected: None,
        };
        match self.probes.ask(ask, self.settings().ttl).await {
            Err(error) => {
                self.unheard(question.class, &error).await;
                self.down(error)
            }
            Ok(probed) => {
                self.heard(Some(question.class), probed.status);
                let sent = AskedPath::new(caller.host(), &question.target);
                match judge::judge(None, &condition, probed.answer(), &self.rules, sent) {
                    // Nothing is held that a yes could name.
                    judge::Verdict::Yes(_, facts) => self.other(Relation::Same, facts, None, &probed),
                    judge::Verdict::Other(relation, facts, location) => {
                        self.other(relation, facts, location, &probed)
                    }
                    judge::Verdict::Refused => self.refuse(caller, question, asking, None, &probed),
                    judge::Verdict::NotOurs => self.not_ours(),
                }
            }
        }
    }

    /// Turns the yes to a leader's own GET into a grant for what it brings. `said`: the fields of GitLab's answer.
    pub(crate) fn grant_leader(
        &self,
        leader: &Caller,
        question: &Question,
        yes: Yes,
        to: ArchiveId,
        asked: &AskedAt,
        said: &HeaderMap,
    ) -> Arc<Grant> {
        let asking = leader.asking(&self.key, question);
        self.metrics.grant(metrics::GrantLabel::Asked);
        self.remember(asking, Grant::new(yes, to, asked.at, asked.epoch, None), asked.held.clone(), said)
    }

    /// Notes who was let in: if GitLab says 404 to them later, what they were let in to is gone.
    pub(crate) fn note(&self, caller: &Caller, question: &Question, visitors: &RecentCallers) {
        visitors.admit(caller.asking(&self.key, question));
    }

    /// A reading of clock and epoch, to be taken before a question is sent, and a hold on what it is asked with.
    pub(crate) fn about_to_ask(&self, caller: &Caller, question: &Question) -> AskedAt {
        let held = self.held(caller, question);
        AskedAt { at: self.clock.now(), epoch: self.epochs.now(question.key), held }
    }

    fn held(&self, caller: &Caller, question: &Question) -> CallerCredentials {
        self.grants.hold(&caller.revocable(&self.key, question.target.query()))
    }

    /// Ends every grant that a caller's credentials helped to get: GitLab said 401 to them, or their job has ended.
    pub(crate) fn revoke(&self, caller: &Caller, query: Option<&str>) {
        self.grants.revoke(&caller.revocable(&self.key, query), self.clock.now());
    }

    /// Ends the grants of the credentials in a request that ended a job, and of the token in its body.
    pub(crate) fn end_job(&self, caller: &Caller, query: Option<&str>, token: Option<&[u8]>) {
        self.revoke(caller, query);
        if let Some(token) = token {
            self.grants.revoke(&[self.key.of([token])], self.clock.now());
        }
    }

    fn remembered_for(
        &self,
        asking: Fingerprint,
        key: Key,
        candidate: Candidate<'_>,
        limit: Duration,
    ) -> Option<Granted> {
        let (grant, readers) = self.grants.find(asking)?;
        let (epoch, now) = (self.epochs.now(key), self.clock.now());
        let opens = grant.opens(candidate.id, candidate.facts.tail.as_deref(), epoch, now, limit);
        opens.then_some(Granted { grant, said: None, readers })
    }

    fn remember(
        &self,
        asking: Fingerprint,
        grant: Grant,
        held: CallerCredentials,
        said: &HeaderMap,
    ) -> Arc<Grant> {
        let grant = Arc::new(grant);
        self.grants.insert(asking, Arc::clone(&grant), held, fields::readers(said));
        grant
    }
}

/// A caller with a question about something that is held.
#[derive(Clone, Copy)]
struct Inquiry<'a> {
    caller: &'a Caller,
    question: &'a Question,
    asking: Fingerprint,
    /// What it is asked with.
    held: &'a CallerCredentials,
    candidate: Candidate<'a>,
    /// Read before anything is asked.
    epoch: Epoch,
}

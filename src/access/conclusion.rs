//! From GitLab's answer to what a caller is told.

use std::sync::Arc;

use http::StatusCode;

use super::probe::{Conditions, Probed};
use super::{Access, Admission, Asker, Caller, Described, Granted, Other, Refusal, Said, Subject};
use crate::clock::Moment;
use crate::fields::{self, Kept};
use crate::grant::{Facts, Grant, Location, Relation, judge};
use crate::route::Question;
use crate::secret::Fingerprint;
use crate::telemetry::metrics;
use crate::upstream;

impl Access {
    /// What comes of a verdict that rests on what was asked since `asked_at`, and of the answer to the caller's own
    /// question.
    pub(super) fn conclude(
        &self,
        asker: &Asker<'_>,
        verdict: judge::Verdict,
        probed: &Probed,
        asked_at: Moment,
    ) -> Admission {
        let Asker { caller, question, asking, subject, .. } = *asker;
        match verdict {
            judge::Verdict::Yes(yes, facts) => {
                self.metrics.probe(metrics::Probe::Yes);
                self.metrics.grant(metrics::Grant::Asked);
                // Shown of an archive that is still growing: to be compared when its end is there.
                let tail = facts.tail.clone().filter(|_| subject.facts.tail.is_none());
                let grant = Grant::new(yes, subject.id, asked_at, probed.epoch, tail);
                let grant = self.remember(caller, question, asking, grant);
                if self.epochs.now(question.key) != grant.epoch() {
                    return Admission::Overtaken;
                }
                subject.visitors.admit(asking);
                let said = Said {
                    facts,
                    described: self.described(caller, probed),
                    fresh: fields::fresh(&probed.fields),
                };
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

    fn described(&self, caller: &Caller, probed: &Probed) -> Described {
        match (&probed.asked, probed.status) {
            // The answer's type is the entry's; what else it says holds for all of them.
            (Conditions::Entry(_), _) => Described::By(Kept::protecting(&probed.fields)),
            (_, StatusCode::OK | StatusCode::PARTIAL_CONTENT) => {
                Described::By(Kept::of(&probed.fields, &probed.fields))
            }
            // A redirect's own type says nothing of the archive.
            (_, status) if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                match self.rules.location(&probed.fields, caller.host()) {
                    Some(location) => {
                        Described::Elsewhere(location.overrides(), Kept::protecting(&probed.fields))
                    }
                    None => Described::Silent,
                }
            }
            _ => Described::Silent,
        }
    }

    pub(super) fn refuse(
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
        // Of an entry GitLab also says so when the archive has expired, while it still gives the archive as a whole.
        let whole = subject.filter(|_| question.entry.is_none());
        let visited = whole.is_some_and(|subject| subject.visitors.knows(asking));
        let gone = visited && judge::is_gitlabs_404(probed.status, &probed.fields);
        Admission::Refused(Refusal { status: probed.status, fields: probed.fields.clone(), body, gone })
    }

    pub(super) fn other(
        &self,
        relation: Relation,
        facts: Facts,
        location: Option<Location>,
        probed: &Probed,
    ) -> Admission {
        self.metrics.probe(metrics::Probe::Other);
        Admission::Other(Other { relation, facts, location, fields: probed.fields.clone() })
    }

    pub(super) fn not_ours(&self) -> Admission {
        self.metrics.probe(metrics::Probe::NotOurs);
        Admission::NotOurs
    }

    pub(super) fn down(&self, error: Arc<upstream::Error>) -> Admission {
        self.metrics.probe(metrics::Probe::Down);
        self.metrics.upstream_error(error.kind().as_str());
        Admission::Down(error)
    }

    /// GitLab is down: the caller's last answer may stand in, if it was a yes and the operator allows it.
    pub(super) fn outage(
        &self,
        asker: &Asker<'_>,
        said: Option<&Probed>,
        error: Option<Arc<upstream::Error>>,
    ) -> Admission {
        let Asker { question, asking, subject, .. } = *asker;
        if let Some(grant) = self.remembered_for(asking, question.key, subject, self.settings().grace) {
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

//! From GitLab's answer to what a caller is told.

use std::sync::Arc;

use http::StatusCode;

use super::health::Outage;
use super::probe::{Conditions, Heard, Probed};
use super::{Access, Admission, Caller, Candidate, Described, Granted, Inquiry, Mismatch, ProbeInfo};
use crate::base::clock::Moment;
use crate::base::secret::Fingerprint;
use crate::gitlab::grant::{AskedPath, Facts, Grant, Location, Relation, Yes, judge};
use crate::gitlab::route::Question;
use crate::http::fields::StoredHeaders;
use crate::telemetry::metrics;
use crate::upstream;

impl Access {
    /// What comes of a verdict that rests on what was asked since `asked_at`, and of the answer to the caller's own
    /// question.
    pub(super) fn conclude(
        &self,
        inquiry: &Inquiry<'_>,
        verdict: judge::Verdict,
        probed: &Heard,
        asked_at: Moment,
    ) -> Admission {
        let Inquiry { caller, question, asking, held, candidate, .. } = *inquiry;
        match verdict {
            judge::Verdict::Yes(yes, facts) => {
                self.metrics.probe(metrics::ProbeLabel::Yes);
                self.metrics.grant(metrics::GrantLabel::Asked);
                // Shown of an archive that is still growing: to be compared when its end is there.
                let tail = facts.tail.clone().filter(|_| candidate.facts.tail.is_none());
                let grant = Grant::new(yes, candidate.id, asked_at, probed.epoch, tail);
                let grant = self.remember(asking, grant, held.clone(), &probed.fields);
                if self.epochs.now(question.key) != grant.epoch() {
                    return Admission::Overtaken;
                }
                candidate.visitors.admit(asking);
                let sent = AskedPath::new(caller.host(), &question.target);
                let described = self.described(sent, probed);
                let said = ProbeInfo { facts, described, kind: probed.kind(), fresh: probed.fresh() };
                Admission::Granted(Granted { grant, said: Some(said), readers: None })
            }
            judge::Verdict::Other(relation, facts, location) => {
                self.grants.forget(asking);
                self.other(relation, facts, location, probed)
            }
            judge::Verdict::Refused => self.refuse(caller, question, asking, Some(candidate), probed),
            judge::Verdict::NotOurs => {
                self.grants.forget(asking);
                self.not_ours()
            }
        }
    }

    fn described(&self, sent: AskedPath<'_>, probed: &Probed) -> Described {
        match (&probed.asked, probed.status) {
            // The answer's type is the entry's; what else it says holds for all of them.
            (Conditions::Entry(_), _) => Described::By(StoredHeaders::protecting(&probed.fields)),
            (_, StatusCode::OK | StatusCode::PARTIAL_CONTENT) => {
                Described::By(StoredHeaders::of(&probed.fields, &probed.fields))
            }
            // A redirect's own type says nothing of the archive.
            (_, status) if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                match self.rules.location(&probed.fields, sent) {
                    Some(location) => {
                        Described::Elsewhere(location.overrides(), StoredHeaders::protecting(&probed.fields))
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
        candidate: Option<Candidate<'_>>,
        probed: &Heard,
    ) -> Admission {
        self.metrics.probe(metrics::ProbeLabel::Refused);
        self.grants.forget(asking);
        if probed.status == StatusCode::UNAUTHORIZED {
            self.revoke(caller, question.target.query());
        }
        if probed.body.is_none() {
            return Admission::NotOurs;
        }
        // Of an entry GitLab also says so when the archive has expired, while it still gives the archive as a whole.
        let whole = candidate.filter(|_| question.entry.is_none());
        let visited = whole.is_some_and(|candidate| candidate.visitors.knows(asking));
        let gone = visited && judge::is_gitlabs_404(probed.status, &probed.fields);
        probed.refusal(gone).map_or(Admission::NotOurs, Admission::Refused)
    }

    pub(super) fn other(
        &self,
        relation: Relation,
        facts: Facts,
        location: Option<(Yes, Location)>,
        probed: &Heard,
    ) -> Admission {
        self.metrics.probe(metrics::ProbeLabel::Other);
        Admission::Other(Mismatch { relation, facts, location, fields: probed.told() })
    }

    pub(super) fn not_ours(&self) -> Admission {
        self.metrics.probe(metrics::ProbeLabel::NotOurs);
        Admission::NotOurs
    }

    pub(super) fn down(&self, error: Arc<upstream::Error>) -> Admission {
        self.metrics.probe(metrics::ProbeLabel::Down);
        self.metrics.upstream_error(error.kind().as_str());
        Admission::Down(error)
    }

    /// What a caller is told of an outage that is known, without being asked for; `None`: GitLab tells it itself.
    pub(super) fn without_asking(&self, inquiry: &Inquiry<'_>, outage: Outage) -> Option<Admission> {
        match (self.grace(inquiry), outage) {
            (Some(granted), _) => Some(granted),
            (None, Outage::Silent(kind)) => Some(self.down(Arc::new(upstream::Error::known(kind)))),
            (None, Outage::Said) => None,
        }
    }

    /// A caller's last yes, if it may stand in while GitLab is down.
    fn stand_in(&self, inquiry: &Inquiry<'_>) -> Option<Granted> {
        let Inquiry { question, asking, candidate, .. } = *inquiry;
        self.remembered_for(asking, question.key, candidate, self.settings().grace)
    }

    fn grace(&self, inquiry: &Inquiry<'_>) -> Option<Admission> {
        let granted = self.stand_in(inquiry)?;
        self.metrics.probe(metrics::ProbeLabel::Down);
        self.metrics.grant(metrics::GrantLabel::Grace);
        Some(Admission::Granted(granted))
    }

    /// The question came to nothing: if GitLab is down, the caller's last answer may stand in, if it was a yes and the
    /// operator allows it.
    pub(super) async fn outage(
        &self,
        inquiry: &Inquiry<'_>,
        said: Option<&Heard>,
        error: Option<Arc<upstream::Error>>,
    ) -> Admission {
        let Inquiry { question, asking, candidate, .. } = *inquiry;
        if let Some(granted) = self.remembered_for(asking, question.key, candidate, self.settings().ttl) {
            // It was asked for the sake of a description alone.
            self.metrics.grant(metrics::GrantLabel::Remembered);
            return Admission::Granted(granted);
        }
        let may_be = error.as_ref().is_none_or(|error| error.kind().may_be_outage());
        // What stands before GitLab says so to everybody itself; without a yes to stand in nobody need know.
        let concerns = error.is_some() || self.stand_in(inquiry).is_some();
        // The yes is looked up anew when it is known: it may have ended meanwhile.
        if may_be
            && concerns
            && self.health.failed(Some(inquiry.question.class)).await.is_some()
            && let Some(granted) = self.grace(inquiry)
        {
            return granted;
        }
        match (error, said.and_then(|said| said.refusal(false))) {
            (Some(error), _) => self.down(error),
            (None, Some(refusal)) => {
                self.metrics.probe(metrics::ProbeLabel::Down);
                Admission::Refused(refusal)
            }
            (None, None) => self.not_ours(),
        }
    }
}

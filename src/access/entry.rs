//! Asking about one entry of an archive.
//!
//! GitLab's yes to an entry names the archive only where GitLab knows it by its digest. Elsewhere, and by ref, the same
//! caller asks on the route for the whole archive as well, and what that answer names is what is opened. A yes on that route
//! which is remembered names it too: then one question is enough.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{StatusCode, header};

use super::probe::{Ask, Conditions, Heard, Probed};
use super::{Access, Admission, Granted, Inquiry};
use crate::base::clock::Moment;
use crate::gitlab::grant::judge::{self, EntryCondition, Proof, Verdict};
use crate::gitlab::grant::{Facts, Grant, Relation};
use crate::gitlab::route::Question;
use crate::http::Etag;

impl Access {
    /// Asks on the entry's own route, and beside it on the archive's where the first answer can't name the archive.
    pub(super) async fn admit_entry(&self, inquiry: Inquiry<'_>, name: &str, size: u64) -> Admission {
        let facts = inquiry.candidate.facts;
        let confirmed =
            facts.etag.as_ref().and_then(Etag::digest).is_some_and(|told| facts.sha256 == Some(told));
        let digests = confirmed || self.digests.load(Ordering::Relaxed);
        let condition = EntryCondition::about(name, size, facts.sha256, digests);
        // Whoever wants to know how GitLab describes it wants the answer about this very entry.
        let (condition, share) = if inquiry.candidate.described {
            (condition, self.settings().ttl)
        } else {
            (condition.without_validator(), Duration::ZERO)
        };
        let answer = self.probe_entry(&inquiry, condition, share);
        let probed = match self.answered(&inquiry, answer.await).await {
            Ok(probed) => probed,
            Err(admission) => return *admission,
        };
        let mut asked_at = probed.asked_at;
        let verdict = match self.proof(&probed) {
            Proof::Held(yes) => Verdict::Yes(yes, facts.clone()),
            Proof::Unnamed(access) => match self.named(&inquiry, access).await {
                Ok((verdict, at)) => {
                    asked_at = asked_at.earlier(at);
                    verdict
                }
                Err(admission) => return *admission,
            },
            Proof::Different => Verdict::Other(Relation::Different, Facts::default(), None),
            Proof::Refused => Verdict::Refused,
            Proof::NotOurs => Verdict::NotOurs,
        };
        self.conclude(&inquiry, verdict, &probed, asked_at)
    }

    /// Asks in the caller's name. A yes that was said of another entry of the same archive will do; anything else
    /// may have been about that entry alone.
    async fn probe_entry(
        &self,
        inquiry: &Inquiry<'_>,
        condition: EntryCondition,
        share: Duration,
    ) -> super::probe::ProbeResult {
        let conditions = Conditions::Entry(condition);
        let ask = || Ask {
            asking: inquiry.asking,
            caller: inquiry.caller,
            target: &inquiry.question.target,
            held: Some(inquiry.candidate.id),
            credentials: inquiry.held.clone(),
            asked: conditions.clone(),
            epoch: inquiry.epoch,
            expected: None,
        };
        let probed = self.probes.ask(ask(), share).await?;
        if probed.asked == conditions || matches!(self.proof(&probed), Proof::Held(_) | Proof::Unnamed(_)) {
            return Ok(probed);
        }
        self.probes.ask(ask(), Duration::ZERO).await
    }

    fn proof(&self, probed: &Probed) -> Proof {
        let Conditions::Entry(condition) = &probed.asked else {
            return Proof::NotOurs;
        };
        if probed.status == StatusCode::OK {
            let given = probed.fields.get(header::ETAG).and_then(|value| value.to_str().ok());
            let digest = given.and_then(Etag::strong).and_then(|tag| tag.digest());
            self.digests.store(digest.is_some(), Ordering::Relaxed);
        }
        judge::judge_entry(condition, probed.answer())
    }

    /// Which archive a yes to an entry is about, and when GitLab was asked for that: by its yes to the same caller about the
    /// archive as a whole, if that is remembered, else by a new one, which is remembered like any.
    async fn named(
        &self,
        inquiry: &Inquiry<'_>,
        access: judge::UnnamedYes,
    ) -> Result<(Verdict, Moment), Box<Admission>> {
        let question = inquiry.question.of_archive();
        let (candidate, asking) = (inquiry.candidate, inquiry.caller.asking(&self.key, &question));
        if let Some(Granted { grant, .. }) =
            self.remembered_for(asking, question.key, candidate, self.settings().ttl)
        {
            return Ok((access.granted(&grant, candidate.facts.clone()), grant.asked_at()));
        }
        let (verdict, heard) = self.archive_beside(inquiry, &question).await?;
        let asked_at = heard.asked_at;
        if let Verdict::Yes(yes, facts) = &verdict {
            let tail = facts.tail.clone().filter(|_| candidate.facts.tail.is_none());
            let grant = Grant::new(yes.clone(), candidate.id, asked_at, inquiry.epoch, tail);
            self.remember(asking, grant, inquiry.held.clone(), &heard.fields);
        }
        Ok((access.to(verdict), asked_at))
    }

    /// What GitLab says to the same caller about the archive as a whole.
    async fn archive_beside(
        &self,
        inquiry: &Inquiry<'_>,
        question: &Question,
    ) -> Result<(Verdict, Heard), Box<Admission>> {
        let probed = self.answered(inquiry, self.probe_archive(inquiry, question).await).await?;
        if probed.epoch != inquiry.epoch {
            // It was asked by another request, before something happened.
            return Err(Box::new(Admission::Overtaken));
        }
        Ok((self.judged(inquiry, question, &probed), probed))
    }
}

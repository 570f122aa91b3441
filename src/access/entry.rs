//! Asking about one entry of an archive.
//!
//! GitLab's yes to an entry names the archive only where GitLab knows it by its digest. Elsewhere, and by ref, the same
//! caller asks on the route for the whole archive as well, and what that answer names is what is opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{StatusCode, header};

use super::probe::{Ask, Conditions, Probed};
use super::{Access, Admission, Asker};
use crate::clock::Moment;
use crate::grant::judge::{self, EntryCondition, Proof, Verdict};
use crate::grant::{Etag, Facts, Relation};

impl Access {
    /// Asks on the entry's own route, and beside it on the archive's where the first answer can't name the archive.
    pub(super) async fn admit_entry(&self, asker: Asker<'_>, name: &str, size: u64) -> Admission {
        let facts = asker.subject.facts;
        let confirmed =
            facts.etag.as_ref().and_then(Etag::digest).is_some_and(|told| facts.sha256 == Some(told));
        let digests = confirmed || self.digests.load(Ordering::Relaxed);
        let condition = EntryCondition::about(name, size, facts.sha256, digests);
        let answer = self.probe_entry(&asker, condition, self.settings().ttl);
        let probed = match self.answered(&asker, answer.await) {
            Ok(probed) => probed,
            Err(admission) => return *admission,
        };
        let mut asked_at = probed.asked_at;
        let verdict = match self.proof(&probed) {
            Proof::Held(yes) => Verdict::Yes(yes, facts.clone()),
            Proof::Unnamed(access) => match self.archive_beside(&asker).await {
                Ok((verdict, at)) => {
                    asked_at = asked_at.earlier(at);
                    access.to(verdict)
                }
                Err(admission) => return *admission,
            },
            Proof::Different => Verdict::Other(Relation::Different, Facts::default(), None),
            Proof::Refused => Verdict::Refused,
            Proof::NotOurs => Verdict::NotOurs,
        };
        self.conclude(&asker, verdict, &probed, asked_at)
    }

    /// Asks in the caller's name. A yes that was said of another entry of the same archive will do; anything else
    /// may have been about that entry alone.
    async fn probe_entry(
        &self,
        asker: &Asker<'_>,
        condition: EntryCondition,
        share: Duration,
    ) -> super::probe::Result {
        let conditions = Conditions::Entry(condition);
        let ask = || Ask {
            asking: asker.asking,
            caller: asker.caller,
            target: &asker.question.target,
            held: Some(asker.subject.id),
            asked: conditions.clone(),
            epoch: asker.epoch,
        };
        let probed = self.probes.ask(ask(), share).await?;
        if probed.asked == conditions || matches!(self.proof(&probed), Proof::Held(_) | Proof::Unnamed(_)) {
            return Ok(probed);
        }
        self.probes.ask(ask(), Duration::ZERO).await
    }

    fn proof(&self, probed: &Arc<Probed>) -> Proof {
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

    /// What GitLab says to the same caller about the archive as a whole, and when it was asked.
    async fn archive_beside(&self, asker: &Asker<'_>) -> Result<(Verdict, Moment), Box<Admission>> {
        let question = asker.question.of_archive();
        let probed = self.answered(asker, self.probe_archive(asker, &question).await)?;
        if probed.epoch != asker.epoch {
            // It was asked by another request, before something happened.
            return Err(Box::new(Admission::Overtaken));
        }
        Ok((self.judged(asker, &probed), probed.asked_at))
    }
}

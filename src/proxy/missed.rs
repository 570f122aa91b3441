//! Somebody wants a file of an archive that isn't held, or that is left to GitLab: its own answer, what is learnt from it, and
//! the archive that is begun beside it.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode};

use super::body::Body;
use super::lookup::Lookup;
use super::request::{Answered, ArtifactRequest};
use super::{Exchange, OnFile, Proxy, pass};
use crate::access::{Admission, Caller};
use crate::base::clock::Moment;
use crate::base::key::{ArchiveId, Key};
use crate::base::singleflight::{Follow, Lead, Singleflight};
use crate::fill::{Leader, Requester, Strangers};
use crate::gitlab::grant::judge::content_length;
use crate::gitlab::route::Question;
use crate::telemetry::Outcome;
use crate::upstream::Insists;

/// Longest archive that is fetched for the sake of any file in it.
const WORTH_ANY: u64 = 64 << 20;

/// How long somebody waits for the one before it: a GitLab that takes longer to begin its answer is asked by everybody.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many times the length of the file that was asked for a longer archive may have to be fetched beside it.
const WORTH_TIMES: u64 = 256;

/// A request for an entry of an archive that isn't held.
pub(super) struct Miss {
    pub(super) question: Question,
    pub(super) caller: Caller,
    pub(super) known: Option<ArchiveId>,
    /// Its being the first one; `None`: it was kept waiting by another, or begins nothing.
    pub(super) first: Option<FirstMiss>,
}

/// What a request for an entry of an archive that isn't held comes to.
pub(super) enum MissTurn {
    /// It goes to GitLab.
    Now(Option<FirstMiss>),
    /// It has waited for another one, who may have begun the archive.
    Waited,
}

/// GitLab's own answer goes out at once; the archive is fetched beside it, for those who ask next.
pub(super) async fn missed(proxy: &Arc<Proxy>, exchange: Exchange, mut miss: Miss) -> Answered {
    let name = miss.question.entry.as_ref().map(|entry| entry.name.clone());
    let wanted = begins_archives(proxy, &exchange);
    let (outcome, response) = pass::read(proxy, exchange, Outcome::Missed).await;
    if response.status() != StatusCode::OK
        && let Some(first) = miss.first.take()
    {
        proxy.first_misses.refuse(miss.question.key, first, proxy.clock.now());
    }
    learn_type(proxy, &miss.question, &response);
    if response.status() == StatusCode::OK && wanted && outcome == Outcome::Missed {
        let length = content_length(response.headers()).unwrap_or_default();
        let leader = Leader {
            caller: miss.caller,
            question: miss.question.of_archive(),
            takes_redirect: true,
            longest: Some(WORTH_ANY.max(length.saturating_mul(WORTH_TIMES))),
            part: true,
            // To the file, which may be had by those who can't have the archive.
            let_in: false,
        };
        begin_beside(proxy, leader, (miss.known, miss.first), name.unwrap_or_default());
    }
    (outcome, response)
}

/// What larder doesn't answer goes to GitLab; what that says of a file is noted.
pub(super) async fn passed(
    proxy: &Arc<Proxy>,
    exchange: Exchange,
    question: &Question,
    outcome: Outcome,
) -> Answered {
    let (outcome, response) = pass::read(proxy, exchange, outcome).await;
    learn_type(proxy, question, &response);
    (outcome, response)
}

fn learn_type(proxy: &Proxy, question: &Question, response: &Response<Body>) {
    if let (StatusCode::OK, Some(entry)) = (response.status(), &question.entry) {
        proxy.types.learn(question.class, &entry.name, response.headers());
    }
}

/// Whether an archive is begun beside the answer to a request for an entry of it.
fn begins_archives(proxy: &Proxy, exchange: &Exchange) -> bool {
    exchange.parts.method == Method::GET && proxy.serving.on_file == OnFile::Archive
}

/// Begins the archive of an entry that was just had from GitLab, with its end and that entry's own bytes, for those who ask
/// next.
fn begin_beside(
    proxy: &Arc<Proxy>,
    leader: Leader,
    (known, first): (Option<ArchiveId>, Option<FirstMiss>),
    name: String,
) {
    let proxy = Arc::clone(proxy);
    crate::base::rt::spawn(async move {
        let requester = Requester { caller: leader.caller.clone(), question: leader.question.clone() };
        let begun = proxy.fills.begin_beside(leader, known).await;
        // Those who have waited fetch what they want of it themselves.
        drop(first);
        if !begun {
            return;
        }
        let Some(archive) = proxy.store.find(requester.question.key).await else {
            return;
        };
        if let Some(listed) = proxy.entries.listed(&archive, &name).await {
            // Whoever wants it and doesn't find it fetches it himself.
            let _ = proxy.fills.ensure(&requester, &archive, listed.span, Insists::No).await;
        }
    });
}

/// Those who are first to want a file of an archive that isn't held, each until the archive is begun or isn't going to be: at
/// most one a request under way.
///
/// The first one's answer comes from GitLab, and with it the archive is begun. Whoever wants a file of the same archive
/// meanwhile waits for that instead of having its own from GitLab too. It waits once; and once more, behind somebody whom
/// GitLab let in, if it was one whom GitLab refused: nobody is held up by one stranger after the other.
#[derive(Debug, Default)]
pub(crate) struct FirstMisses {
    /// Noted of each: whether GitLab is known to let it in.
    leading: Singleflight<Key, FirstRefused, bool>,
    /// Archives of which GitLab refused the first one a file lately: behind the next one nobody waits who is let in.
    refused: Strangers,
}

/// GitLab refused whoever was first. One that goes without saying so has begun the archive, or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstRefused;

/// Being the first.
pub(super) type FirstMiss = Lead<Key, FirstRefused, bool>;

/// What became of somebody who was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Predecessor {
    /// It has begun the archive, or left, or took long.
    Over,
    /// GitLab refused it.
    Refused,
}

impl FirstMisses {
    /// Is first for a key, also before a stranger if it is `let_in`; or learns who is.
    fn take(&self, key: Key, let_in: bool) -> Result<FirstMiss, Follow<FirstRefused>> {
        self.leading.lead_or_follow(key, let_in, |other_let_in| *other_let_in || !let_in)
    }

    /// Notes that GitLab refused the first one.
    fn refuse(&self, key: Key, first: FirstMiss, now: Moment) {
        self.refused.came(key, now);
        first.finish(FirstRefused);
    }
}

impl Predecessor {
    /// Waits until somebody else is no longer the first.
    async fn of(other: Follow<FirstRefused>) -> Self {
        match tokio::time::timeout(PATIENCE, other.word()).await {
            Ok(Some(FirstRefused)) => Self::Refused,
            // It is gone, or takes long.
            Ok(None) | Err(_) => Self::Over,
        }
    }
}

/// One that wants a file of an archive that isn't held, behind the first.
#[derive(Default)]
pub(super) struct MissQueue {
    /// What became of another that this one has waited for.
    waited: Option<Predecessor>,
}

impl MissQueue {
    /// Lets one at a time be the first to want a file of an archive; the others wait for it. Behind one whom GitLab refused
    /// they are asked for at once, and those who are let in have one of theirs go first. Nobody waits more than twice.
    pub(super) async fn turn(&mut self, lookup: &Lookup<'_>) -> MissTurn {
        let request = lookup.request;
        let (firsts, key) = (&request.proxy.first_misses, request.question.key);
        if !begins_archives(request.proxy, request.exchange) {
            return MissTurn::Now(None);
        }
        let before = match self.waited.take() {
            Some(before) => before,
            None => match firsts.take(key, false) {
                Ok(first) => return self.goes(first, lookup),
                Err(_) if firsts.refused.came_lately(key, request.proxy.clock.now()) => Predecessor::Refused,
                Err(other) => return self.waited_for(Predecessor::of(other).await),
            },
        };
        match before {
            // The one before came to nothing; perhaps this one does better.
            Predecessor::Over => MissTurn::Now(firsts.take(key, false).ok()),
            Predecessor::Refused if !is_let_in_to_archive(request).await => MissTurn::Now(None),
            Predecessor::Refused => match firsts.take(key, true) {
                Ok(first) => self.goes(first, lookup),
                Err(other) => {
                    let _ = Predecessor::of(other).await;
                    // Whatever became of that one, this one has waited twice.
                    self.waited_for(Predecessor::Over)
                }
            },
        }
    }

    /// One that is first goes to GitLab, unless the one before it has begun the archive since this one looked.
    fn goes(&mut self, first: FirstMiss, lookup: &Lookup<'_>) -> MissTurn {
        let request = lookup.request;
        let held = request.proxy.store.holds(request.question.key);
        if held.is_some_and(|id| Some(id) != lookup.replaced()) {
            return self.waited_for(Predecessor::Over);
        }
        MissTurn::Now(Some(first))
    }

    const fn waited_for(&mut self, before: Predecessor) -> MissTurn {
        self.waited = Some(before);
        MissTurn::Waited
    }
}

async fn is_let_in_to_archive(request: &ArtifactRequest<'_>) -> bool {
    let asked = request.inquire_about_archive().await;
    matches!(asked, Admission::Other(mismatch) if mismatch.shows_archive())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::key::JobId;

    fn key(job: &str) -> Key {
        Key::Job(JobId::parse(job).unwrap())
    }

    async fn waits(firsts: &FirstMisses, job: &str) -> Option<Predecessor> {
        match firsts.take(key(job), false) {
            Ok(_) => None,
            Err(other) => Some(Predecessor::of(other).await),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_first_and_the_others_wait_for_that_one_alone() {
        for refused in [false, true] {
            let (firsts, now) = (Arc::new(FirstMisses::default()), Clock::manual(0).now());
            let first = firsts.take(key("1"), false).unwrap();
            assert!(firsts.take(key("2"), false).is_ok(), "of another archive");
            let others = [(); 3].map(|()| {
                let firsts = Arc::clone(&firsts);
                tokio::spawn(async move { waits(&firsts, "1").await })
            });
            tokio::task::yield_now().await;
            assert!(others.iter().all(|other| !other.is_finished()));
            if refused {
                firsts.refuse(key("1"), first, now);
            } else {
                drop(first);
            }
            for other in others {
                let before = if refused { Predecessor::Refused } else { Predecessor::Over };
                assert_eq!(other.await.unwrap(), Some(before));
            }
            assert!(firsts.take(key("1"), false).is_ok(), "nobody is first any more");
            assert_eq!(firsts.refused.came_lately(key("1"), now), refused);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_let_in_comes_before_strangers_and_waits_for_its_like() {
        let firsts = FirstMisses::default();
        let stranger = firsts.take(key("1"), false).unwrap();
        let known = firsts.take(key("1"), true).unwrap();
        assert!(firsts.take(key("1"), true).is_err() && firsts.take(key("1"), false).is_err());
        drop(stranger);
        assert!(firsts.take(key("1"), true).is_err(), "one that isn't first any more takes nobody along");
        drop(known);
        assert!(firsts.take(key("1"), false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let firsts = FirstMisses::default();
        let _first = firsts.take(key("1"), false).unwrap();
        assert_eq!(waits(&firsts, "1").await, Some(Predecessor::Over));
    }
}

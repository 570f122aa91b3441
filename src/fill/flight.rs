//! A fill as those see it who wait for it.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::Requester;
use super::waiters::{WaiterGuard, Waiters};
use crate::base::clock::Moment;
use crate::base::key::Key;
use crate::base::num::to_u64;
use crate::base::secret::hex;
use crate::gitlab::grant::Facts;
use crate::http::Etag;
use crate::store::{Archive, Availability, State};
use crate::telemetry::metrics;

/// How far a fill has come.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// GitLab hasn't answered its leader yet.
    Asking,
    /// The archive is arriving.
    Growing(Arc<FillBody>),
    /// All of it is here, and it is an archive; it is on its way to the store.
    Whole(Arc<FillBody>),
    /// The archive arrives under another key.
    DuplicateOf(Arc<Fill>),
    /// It is over: what it brought is in the store, or lost.
    Landed,
    /// It brought no archive, for this reason: whoever waited asks for himself.
    Ended(metrics::FillLabel),
}

impl Stage {
    /// Whether the fill has ended and the archive, or some of it, is in the store.
    pub(super) const fn is_held(&self) -> bool {
        matches!(self, Self::Landed | Self::Ended(metrics::FillLabel::Begun | metrics::FillLabel::Joined))
    }
}

/// A fill.
#[derive(Debug)]
pub(crate) struct Fill {
    key: Key,
    /// Whether its leader had been let in by GitLab before.
    let_in: bool,
    stage: watch::Sender<Stage>,
    /// What GitLab said of it before its first byte.
    announced: OnceLock<Facts>,
}

impl Fill {
    pub(super) fn new(key: Key, let_in: bool) -> Self {
        Self { key, let_in, stage: watch::Sender::new(Stage::Asking), announced: OnceLock::new() }
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    /// Whether its leader had been let in by GitLab before it led.
    pub(crate) const fn was_let_in(&self) -> bool {
        self.let_in
    }

    pub(super) fn set(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Its task has ended, well or not, and it is off the list. Those who still wait for its first word, or for more
    /// bytes, get a last one.
    pub(super) fn end(&self) {
        self.stage.send_modify(|stage| {
            *stage = match stage {
                Stage::Asking => Stage::Ended(metrics::FillLabel::Broken),
                Stage::Growing(arrival) => {
                    arrival.archive.break_off();
                    Stage::Landed
                }
                Stage::Whole(_) | Stage::DuplicateOf(_) | Stage::Landed => Stage::Landed,
                Stage::Ended(why) => Stage::Ended(*why),
            };
        });
    }

    /// All of it is here, and it is an archive.
    pub(super) fn is_whole(&self) {
        self.stage.send_if_modified(|stage| {
            let Stage::Growing(arrival) = stage else { return false };
            *stage = Stage::Whole(Arc::clone(arrival));
            true
        });
    }

    pub(super) fn announce(&self, facts: &Facts) {
        // Set once, by the one task that fills.
        let _ = self.announced.set(facts.clone());
    }

    /// Whether it brings the archive that GitLab speaks of under another key: by its place, or by the digest that GitLab gave
    /// for both, which nobody gets to the end of it without.
    pub(super) fn brings(&self, seen: &Facts) -> bool {
        let told = |facts: &Facts| facts.etag.as_ref().and_then(Etag::digest);
        let same = |announced: &Facts| {
            announced.proves(seen) || (told(seen).is_some() && told(announced) == told(seen))
        };
        self.announced.get().is_some_and(same)
    }

    /// Waits until it is known whether what arrives is an archive, and which: a moment after its last byte.
    pub(crate) async fn settled(&self) {
        let mut stage = self.stage.subscribe();
        // The sender lives in `self`: there is always a last word.
        let _ = stage.wait_for(|stage| !matches!(stage, Stage::Asking | Stage::Growing(_))).await;
    }

    /// Waits until GitLab has answered the leader.
    pub(crate) async fn answered(&self) -> Stage {
        let mut stage = self.stage.subscribe();
        let answered = stage.wait_for(|stage| !matches!(stage, Stage::Asking)).await;
        // The sender lives in `self`: there is always a last word.
        answered.map_or(Stage::Ended(metrics::FillLabel::Broken), |stage| stage.clone())
    }

    /// Where all of it is here already, waits until it is over and off the list: a moment after its last byte. Returns whether
    /// it arrives under another key.
    pub(crate) async fn lands(&self) -> bool {
        let stage = self.stage.borrow().clone();
        let is_under_another = matches!(stage, Stage::DuplicateOf(_));
        let is_here = match stage {
            Stage::Growing(arrival) => arrival.is_all_here(),
            Stage::Whole(_) => true,
            Stage::DuplicateOf(other) => other.is_all_here(),
            Stage::Asking | Stage::Landed | Stage::Ended(_) => false,
        };
        if is_here {
            self.landed().await;
        }
        is_under_another
    }

    /// Whether its last byte is here.
    fn is_all_here(&self) -> bool {
        match &*self.stage.borrow() {
            Stage::Growing(arrival) => arrival.is_all_here(),
            Stage::Whole(_) | Stage::Landed => true,
            Stage::Asking | Stage::DuplicateOf(_) | Stage::Ended(_) => false,
        }
    }

    /// Waits until it is over and off the list.
    pub(crate) async fn landed(&self) {
        let mut stage = self.stage.subscribe();
        let _ = stage.wait_for(|stage| matches!(stage, Stage::Landed | Stage::Ended(_))).await;
    }
}

/// An archive that is arriving, and those who wait for it.
#[derive(Debug)]
pub(crate) struct FillBody {
    archive: Arc<Archive>,
    began: Moment,
    waiters: Arc<Waiters>,
}

impl FillBody {
    pub(super) fn new(archive: &Arc<Archive>, leader: Requester, began: Moment) -> Self {
        Self { archive: Arc::clone(archive), began, waiters: Arc::new(Waiters::led_by(leader)) }
    }

    /// What arrives.
    pub(crate) const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// Whether a part of it can be told from one of another archive: by its job, or by what GitLab says of it. What a ref leads
    /// to may be another job's the next time.
    pub(super) fn can_be_told(&self) -> bool {
        !self.archive.class().is_by_ref() || self.archive.facts().identifies()
    }

    /// Whether it may stay as a part, to which more is added later.
    pub(super) fn may_stay_partial(&self) -> bool {
        self.archive.length().is_some() && self.can_be_told() && self.archive.facts().tell_parts()
    }

    /// Whether all of it is here and was found to be an archive.
    pub(crate) fn is_complete(&self) -> bool {
        self.archive.facts().sha256.is_some()
            && matches!(self.archive.state(), State::Complete | State::Whole)
    }

    /// Whether all of its bytes are here, though it may not be known yet what they are.
    pub(crate) fn is_all_here(&self) -> bool {
        match self.archive.length() {
            Some(length) => self.archive.have(&(0..length)) == Availability::All,
            None => false,
        }
    }

    /// In whose name the rest of it may be asked for.
    pub(super) const fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// Somebody waits for its bytes, in whose name the rest may be asked for if they break off.
    pub(crate) fn awaited_by(self: &Arc<Self>, requester: Requester) -> FillFollower {
        FillFollower { _arrival: Arc::clone(self), _waiting: WaiterGuard::new(&self.waiters, requester) }
    }

    /// When its leader's question was sent.
    pub(crate) const fn began(&self) -> Moment {
        self.began
    }
}

/// An arrival that somebody waits for, until this is dropped. It also keeps the archive counted, once it is stored.
#[derive(Debug)]
pub(crate) struct FillFollower {
    _arrival: Arc<FillBody>,
    _waiting: WaiterGuard,
}

/// The entity tag of an archive: GitLab's strong one, else a hash of what doesn't change while the archive doesn't, and
/// does with another one of its key; else none.
pub(super) fn entity_tag(instance: &str, key: Key, facts: &Facts) -> Option<Etag> {
    if let Some(etag) = &facts.etag {
        return Some(etag.clone());
    }
    let length = facts.length?;
    let fixed = match (&facts.object, facts.modified, key) {
        (Some(object), ..) => object.as_str().to_owned(),
        (None, Some(modified), Key::Job(_)) => modified.to_string(),
        // Two jobs of one ref may have archives of one length and date, and a tag would say that they are one.
        (None, Some(_), Key::Ref(_)) | (None, None, _) => return None,
    };
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let key = key.to_bytes();
    for part in [instance.as_bytes(), &key, &length.to_be_bytes(), fixed.as_bytes()] {
        context.update(&to_u64(part.len()).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    Etag::quoting(&hex(digest.as_ref().get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{JobId, RefId};
    use crate::gitlab::grant::ObjectPath;

    #[test]
    fn entity_tags_are_gitlabs_or_of_what_is_fixed() {
        let key = |n: &str| Key::Job(JobId::parse(n).unwrap());
        let facts = Facts { length: Some(10), modified: Some(7), ..Facts::default() };
        let base = entity_tag("i", key("1"), &facts).unwrap();
        assert_eq!(entity_tag("i", key("1"), &facts).as_ref(), Some(&base), "the same after a restart");
        for other in [
            entity_tag("j", key("1"), &facts),
            entity_tag("i", key("2"), &facts),
            entity_tag("i", key("1"), &Facts { length: Some(11), ..facts.clone() }),
            entity_tag("i", key("1"), &Facts { modified: Some(8), ..facts.clone() }),
        ] {
            assert_ne!(other.as_ref(), Some(&base));
        }
        let by_ref = Key::Ref(RefId::of([b"main".as_slice()]));
        assert_eq!(entity_tag("i", by_ref, &facts), None, "another job's may be as long, and as old");
        let placed = Facts { object: Some(ObjectPath::for_test("http://store/a")), ..facts.clone() };
        assert!(entity_tag("i", by_ref, &placed).is_some());
        let strong = Facts { etag: Etag::quoting("sha"), ..facts.clone() };
        assert_eq!(entity_tag("i", key("1"), &strong), Etag::quoting("sha"));
        assert_eq!(entity_tag("i", key("1"), &Facts { modified: None, ..facts.clone() }), None);
        assert_eq!(entity_tag("i", key("1"), &Facts { length: None, ..facts }), None);
    }
}

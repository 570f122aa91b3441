//! A fill as those see it who wait for it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::open::Opened;
use super::waiters::{Waiters, Waiting};
use super::{Asker, Means};
use crate::clock::Moment;
use crate::fields::Kept;
use crate::grant::{Etag, Facts, Sha256, Visitors};
use crate::key::{ArchiveId, Key};
use crate::num::to_u64;
use crate::route::Class;
use crate::secret::hex;
use crate::store::{Archive, Draft, End};

/// How far a fill has come.
#[derive(Debug, Clone)]
pub enum Stage {
    /// GitLab hasn't answered its leader yet.
    Asking,
    /// The archive is arriving.
    Growing(Arc<Arrival>),
    /// All of it is here, and it is an archive; it is on its way to the store.
    Whole(Arc<Arrival>),
    /// The archive arrives under another key.
    Under(Arc<Flight>),
    /// It is over: what it brought is in the store, or lost.
    Landed,
    /// It brought no archive: whoever waited asks for himself.
    Ended {
        /// It was an archive, for which there is no room: asking again changes nothing.
        no_room: bool,
    },
}

/// A fill.
#[derive(Debug)]
pub struct Flight {
    key: Key,
    stage: watch::Sender<Stage>,
    /// What GitLab said of it before its first byte.
    announced: OnceLock<Facts>,
}

impl Flight {
    pub(super) fn new(key: Key) -> Self {
        Self { key, stage: watch::Sender::new(Stage::Asking), announced: OnceLock::new() }
    }

    pub(super) const fn key(&self) -> Key {
        self.key
    }

    pub(super) fn set(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Its task has ended, well or not, and it is off the list. Those who still wait for its first word, or for more
    /// bytes, get a last one.
    pub(super) fn end(&self) {
        self.stage.send_modify(|stage| {
            *stage = match stage {
                Stage::Asking => Stage::Ended { no_room: false },
                Stage::Growing(arrival) => {
                    arrival.draft.break_off_if_growing();
                    Stage::Landed
                }
                Stage::Whole(_) | Stage::Under(_) | Stage::Landed => Stage::Landed,
                Stage::Ended { no_room } => Stage::Ended { no_room: *no_room },
            };
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
    pub async fn settled(&self) {
        let mut stage = self.stage.subscribe();
        // The sender lives in `self`: there is always a last word.
        let _ = stage.wait_for(|stage| !matches!(stage, Stage::Asking | Stage::Growing(_))).await;
    }

    /// Waits until GitLab has answered the leader.
    pub async fn answered(&self) -> Stage {
        let mut stage = self.stage.subscribe();
        let answered = stage.wait_for(|stage| !matches!(stage, Stage::Asking)).await;
        // The sender lives in `self`: there is always a last word.
        answered.map_or(Stage::Ended { no_room: false }, |stage| stage.clone())
    }

    /// Waits until it is over and off the list.
    pub async fn landed(&self) {
        let mut stage = self.stage.subscribe();
        let _ = stage.wait_for(|stage| matches!(stage, Stage::Landed | Stage::Ended { .. })).await;
    }
}

/// An archive that is arriving: what may be said of it before its last byte is there.
pub struct Arrival {
    draft: Arc<Draft>,
    facts: Facts,
    kept: Kept,
    etag: Option<Etag>,
    class: Class,
    began: Moment,
    waiters: Arc<Waiters>,
    /// All that is known of it once it is here, its end included.
    complete: OnceLock<Facts>,
    /// Keeps the stored archive's bytes counted while anyone follows.
    stored: OnceLock<Arc<Archive>>,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival").field("id", &self.draft.id()).finish_non_exhaustive()
    }
}

impl Arrival {
    pub(super) fn new(
        draft: &Arc<Draft>,
        opened: &Opened,
        leader: Asker,
        means: &Means,
        began: Moment,
    ) -> Self {
        let class = leader.question.class;
        Self {
            draft: Arc::clone(draft),
            etag: entity_tag(&means.instance, draft.key(), &opened.facts),
            facts: opened.facts.clone(),
            kept: opened.kept.clone(),
            class,
            began,
            waiters: Arc::new(Waiters::led_by(leader)),
            complete: OnceLock::new(),
            stored: OnceLock::new(),
        }
    }

    /// Its bytes, as they come.
    pub const fn draft(&self) -> &Arc<Draft> {
        &self.draft
    }

    /// Its name, also after it is stored.
    pub fn id(&self) -> ArchiveId {
        self.draft.id()
    }

    /// What is known of it; its end only once all of it is here.
    pub fn facts(&self) -> &Facts {
        self.complete.get().unwrap_or(&self.facts)
    }

    /// Whether a part of it can be told from one of another archive: by its job, or by what GitLab says of it. What a ref leads
    /// to may be another job's the next time.
    pub(super) const fn can_be_told(&self) -> bool {
        !self.class.is_by_ref() || self.facts.identifies()
    }

    /// Whether it may stay as a part, to which more is added later.
    pub(super) const fn may_rest(&self) -> bool {
        self.can_be_told() && self.facts.tell_parts()
    }

    /// The digest that GitLab gave with it. An object store's own tag isn't one.
    pub(super) fn told(&self) -> Option<Sha256> {
        self.facts.etag.as_ref().and_then(Etag::digest)
    }

    /// Whether all of it is here and was found to be an archive.
    pub fn is_complete(&self) -> bool {
        self.complete.get().is_some()
    }

    pub(super) fn completed(&self, facts: Facts) {
        // Set once, by the one task that fills.
        let _ = self.complete.set(facts);
    }

    /// The fields GitLab gave with it.
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The route on which it was asked for.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The entity tag clients get, now and when it is stored.
    pub const fn etag(&self) -> Option<&Etag> {
        self.etag.as_ref()
    }

    /// Whether all of its bytes are here, though it may not be known yet what they are.
    pub fn is_all_here(&self) -> bool {
        let progress = self.draft.progress();
        progress.end == End::Whole || self.facts.length == Some(progress.written)
    }

    /// In whose name the rest of it may be asked for.
    pub(super) const fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// Somebody waits for its bytes, in whose name the rest may be asked for if they break off.
    pub fn awaited_by(self: &Arc<Self>, asker: Asker) -> Awaited {
        Awaited { arrival: Arc::clone(self), _waiting: Waiting::new(&self.waiters, asker) }
    }

    /// When its leader's question was sent.
    pub const fn began(&self) -> Moment {
        self.began
    }

    /// Who was let in.
    pub fn visitors(&self) -> &Arc<Visitors> {
        self.draft.visitors()
    }

    pub(super) fn landed(&self, archive: Arc<Archive>) {
        // Set once, by the one task that fills.
        let _ = self.stored.set(archive);
    }
}

/// An arrival that somebody waits for, until this is dropped. It also keeps the archive counted, once it is stored.
#[derive(Debug)]
pub struct Awaited {
    arrival: Arc<Arrival>,
    _waiting: Waiting,
}

impl Awaited {
    /// What is awaited.
    pub const fn arrival(&self) -> &Arc<Arrival> {
        &self.arrival
    }
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
    use crate::grant::ObjectPath;
    use crate::key::{JobId, RefId};

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

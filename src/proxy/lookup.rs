//! What a request is answered from: whether its archive is held, whether this caller is let in to it, and if not, what next.
//!
//! Owns the order of these steps, for whole archives ([`archive`](super::archive)) and for single files
//! ([`entry`](super::entry)) alike, and knows neither. A [`Lookup`] finds the archive: [`HeldArchive`], which is [`Recognised`] before
//! anybody is let in to it; or [`AbsentArchive`], which may arrive ([`lead`](super::lead)). Each is used up by the step that follows
//! it, and the last is [`Admitted`] or a [`NextStep`].

use std::sync::Arc;
use std::time::Duration;

use super::refs;
use super::request::{Admitted, ArtifactRequest, NextStep, Rejected, Retry};
use crate::access::{Candidate, Mismatch};
use crate::base::key::ArchiveId;
use crate::gitlab::grant::Facts;
use crate::store::Archive;

/// How often a request looks again because something happened to its archive while it asked. Then it is passed on.
const LOOKS: usize = 4;

/// How often it may find that somebody whom GitLab didn't let in was before it, without that being a look. After the first
/// such one those are let in first who are known to be: nobody meets many.
const STRANGERS: usize = 64;

/// How long a request for a file waits for an archive whose last byte is here to be found in the store: as long as a slow
/// disk takes to bring a large one down.
const LANDING: Duration = Duration::from_secs(10);

/// The search for what a request is answered from, and what it has learnt so far.
pub(super) struct Lookup<'a> {
    pub(super) request: &'a ArtifactRequest<'a>,
    /// An archive that we hold and GitLab no longer has.
    replaced: Option<ArchiveId>,
    /// Whether GitLab has let the caller in on a question of its own, to what isn't held: it goes before those who were never
    /// seen.
    let_in: bool,
    looks: usize,
    strangers: usize,
}

/// What a look finds.
pub(super) enum ArchiveFound<'l, 'a> {
    Held(HeldArchive<'l, 'a>),
    Absent(AbsentArchive<'l, 'a>),
}

/// The archive is in the store, and not known to be another than GitLab's.
pub(super) struct HeldArchive<'l, 'a> {
    lookup: &'l mut Lookup<'a>,
    archive: Arc<Archive>,
}

/// The same, and by what it is told from another one.
pub(super) struct Recognised<'l, 'a> {
    lookup: &'l mut Lookup<'a>,
    archive: Arc<Archive>,
    facts: Arc<Facts>,
}

/// The archive isn't held, or not by what GitLab has: it is arriving, or to be fetched.
pub(super) struct AbsentArchive<'l, 'a>(&'l mut Lookup<'a>);

impl<'a> Lookup<'a> {
    pub(super) const fn new(request: &'a ArtifactRequest<'a>) -> Self {
        Self { request, replaced: None, let_in: false, looks: 0, strangers: 0 }
    }

    /// An archive that we hold and GitLab no longer has.
    pub(super) const fn replaced(&self) -> Option<ArchiveId> {
        self.replaced
    }

    /// Notes that GitLab has another archive than this one.
    pub(super) const fn replace(&mut self, held: ArchiveId) {
        self.replaced = Some(held);
    }

    /// Notes why to look again; whether to.
    pub(super) const fn again(&mut self, why: &Retry) -> bool {
        match why {
            Retry::AfterStranger if self.strangers < STRANGERS => {
                self.strangers += 1;
                return true;
            }
            Retry::Replaced(held) => self.replace(*held),
            Retry::Changed | Retry::AfterStranger => {}
        }
        self.looks += 1;
        self.looks < LOOKS
    }

    /// Looks for the archive.
    pub(super) async fn find(&mut self) -> ArchiveFound<'_, 'a> {
        match self.stored().await {
            Some(archive) => ArchiveFound::Held(HeldArchive { lookup: self, archive }),
            None => ArchiveFound::Absent(AbsentArchive(self)),
        }
    }

    async fn stored(&self) -> Option<Arc<Archive>> {
        let found = self.request.proxy.store.find(self.request.question.key).await;
        found.filter(|archive| Some(archive.id()) != self.replaced)
    }

    /// Notes what GitLab has where nothing of it is held.
    pub(super) fn saw(&mut self, mismatch: &Mismatch) {
        self.let_in = mismatch.shows_archive();
    }

    /// Whether what GitLab has is held under another key.
    pub(super) async fn is_held_as(&self, mismatch: &Mismatch) -> bool {
        self.joins(mismatch, self.replaced).await
    }

    async fn joins(&self, mismatch: &Mismatch, known: Option<ArchiveId>) -> bool {
        refs::is_held_as(self.request.proxy, self.request.question.key, mismatch, known).await
    }

    /// Whether GitLab has let the caller in to what isn't held.
    pub(super) const fn is_let_in(&self) -> bool {
        self.let_in
    }

    /// GitLab has another archive than the one that is held: perhaps one that is held as well.
    async fn replaced_by(&mut self, held: ArchiveId, mismatch: &Mismatch) -> NextStep {
        if self.joins(mismatch, Some(held)).await {
            return Retry::Changed.into();
        }
        self.saw(mismatch);
        Retry::Replaced(held).into()
    }
}

impl<'l, 'a> HeldArchive<'l, 'a> {
    pub(super) const fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// Sees by what it is told from another one.
    pub(super) async fn recognise(self) -> Recognised<'l, 'a> {
        let Self { lookup, archive } = self;
        let facts = refs::recognised(lookup.request.proxy, lookup.request.class(), &archive).await;
        Recognised { lookup, archive, facts }
    }
}

impl Recognised<'_, '_> {
    /// Asks whether the caller may have all of it.
    pub(super) async fn admit(self) -> Result<Admitted<Arc<Archive>>, NextStep> {
        let described = self.archive.is_described(self.lookup.request.class());
        self.admit_as(described, None).await
    }

    /// Asks whether the caller may have a file of this length in it. `described`: it is known what GitLab calls that.
    pub(super) async fn admit_to_entry(
        self,
        size: u64,
        described: bool,
    ) -> Result<Admitted<Arc<Archive>>, NextStep> {
        self.admit_as(described, Some(size)).await
    }

    async fn admit_as(self, described: bool, entry: Option<u64>) -> Result<Admitted<Arc<Archive>>, NextStep> {
        let Self { lookup, archive, facts } = self;
        let candidate = Candidate {
            id: archive.id(),
            facts: &facts,
            faces: archive.faces(),
            visitors: archive.visitors(),
            described,
            entry,
        };
        match lookup.request.admit(Arc::clone(&archive), candidate).await {
            Ok(admitted) => Ok(admitted),
            Err(Rejected::Mismatch(mismatch)) => {
                Err(Box::pin(lookup.replaced_by(archive.id(), &mismatch)).await)
            }
            Err(Rejected::Next(next)) => Err(next),
        }
    }
}

impl<'l, 'a> AbsentArchive<'l, 'a> {
    pub(super) const fn request(&self) -> &'a ArtifactRequest<'a> {
        self.0.request
    }

    /// The search itself, for whoever brings the archive.
    pub(super) const fn into_lookup(self) -> &'l mut Lookup<'a> {
        self.0
    }

    /// Whether what GitLab has is held under another key.
    pub(super) async fn is_held_as(&self, mismatch: &Mismatch) -> bool {
        self.0.is_held_as(mismatch).await
    }

    /// The archive, once it has landed if its last byte is here: who has just had that wants a file of it next.
    pub(super) async fn landed(self) -> Option<HeldArchive<'l, 'a>> {
        let lookup = self.0;
        let request = lookup.request;
        let landing = request.proxy.fills.lands(request.question.key);
        // Where the disk takes long GitLab is faster.
        let elsewhere = tokio::time::timeout(LANDING, landing).await.unwrap_or_default();
        let mut archive = lookup.stored().await;
        if archive.is_none()
            && elsewhere
            && lookup.replaced.is_none()
            && refs::is_another_keys(request.proxy, &request.caller, &request.question).await
        {
            archive = lookup.stored().await;
        }
        archive.map(|archive| HeldArchive { lookup, archive })
    }
}

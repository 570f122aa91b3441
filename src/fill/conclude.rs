//! The end of a fill: whether an archive that is all here is right, and its place in the store. What decides blocks.

use std::io;
use std::sync::Arc;

use super::open::Before;
use super::{Fill, Fills};
use crate::gitlab::grant::{Epoch, Facts};
use crate::http::{Etag, Sha256};
use crate::store::{Archive, Error};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::FillLabel;
use crate::zip::{self, NotWhole, ReadAt};

/// What the fill of a whole archive has to say in the end.
pub(super) struct Fresh {
    pub(super) flight: Arc<Fill>,
    /// Whether the body's end could be told from a cut.
    pub(super) delimited: bool,
    /// What the store has had of this key.
    pub(super) before: Option<Before>,
    /// When its leader asked: what has happened to the key since makes it void.
    pub(super) epoch: Epoch,
}

/// Why an archive isn't proven.
pub(super) enum Unproven {
    /// It is no archive, or its parts aren't of one.
    NotWhole(NotWhole),
    /// Its bytes aren't those whose digest GitLab gave.
    OtherDigest,
    /// A chunk that was damaged since is missing again.
    Disk(io::Error),
}

/// Reads what must be read of an archive: its chunks must be as they came, its directory an archive's, its digest GitLab's,
/// and where GitLab gave none, it must fit together where transfers met.
fn prove(archive: &Arc<Archive>, metrics: &Metrics) -> Result<Sha256, Unproven> {
    let (length, eyes) = (archive.stored_length(), UncheckedBytes(archive, metrics));
    zip::check(&eyes, length).map_err(Unproven::NotWhole)?;
    fits_together(&archive.facts(), &eyes, length, archive).map_err(Unproven::NotWhole)?;
    let sha256 = archive.sha256().map_err(Unproven::Disk)?;
    match archive.facts().etag.as_ref().and_then(Etag::digest) {
        Some(told) if told != sha256 => Err(Unproven::OtherDigest),
        _ => Ok(sha256),
    }
}

/// Whether what came in several transfers is of one archive. Its digest will tell if GitLab gave one. Where each transfer
/// was of the same tag or place, the entries that lie across are looked at. Where only a date says so, all are: two
/// archives of one second may be alike where they meet.
fn fits_together(
    facts: &Facts,
    source: &impl ReadAt,
    length: u64,
    archive: &Archive,
) -> Result<(), NotWhole> {
    match facts.etag.as_ref().and_then(Etag::digest) {
        Some(_) => Ok(()),
        None if !archive.is_seamed() => Ok(()),
        None if facts.identifies() => zip::check_seams(source, length, &archive.seams()),
        None => zip::check_entries(source, length),
    }
}

impl Fills {
    /// All chunks of an archive may be here: finds out whether it is right, and makes it one of the store's, or drops it.
    pub(crate) async fn conclude(&self, archive: &Arc<Archive>) {
        if let Some(result) = self.conclude_as(archive, None).await {
            self.deps.metrics.fill(result);
        }
    }

    /// The same of one that may have come in this very fill. `None`: it isn't all here, or somebody else is at it.
    pub(super) async fn conclude_as(
        &self,
        archive: &Arc<Archive>,
        fresh: Option<Fresh>,
    ) -> Option<FillLabel> {
        if !archive.begin_to_prove() {
            return None;
        }
        let conclusion = Conclusion {
            store: Arc::clone(&self.deps.store),
            access: Arc::clone(&self.deps.access),
            metrics: Arc::clone(&self.deps.metrics),
            archive: Arc::clone(archive),
        };
        let concluded = crate::base::rt::blocking(move || conclusion.conclude(fresh)).await;
        Some(concluded.unwrap_or_else(|_| {
            // Whoever waits for a word must get one.
            archive.prove_later();
            FillLabel::Unstored
        }))
    }
}

struct Conclusion {
    store: Arc<crate::store::Store>,
    access: Arc<crate::access::Access>,
    metrics: Arc<Metrics>,
    archive: Arc<Archive>,
}

impl Conclusion {
    fn conclude(self, fresh: Option<Fresh>) -> FillLabel {
        match prove(&self.archive, &self.metrics) {
            Ok(sha256) => self.commit(sha256, fresh.as_ref()),
            // It may not have been looked at to its end: it is found out after the next start.
            Err(_) if self.store.is_stopping() => self.later(),
            Err(Unproven::Disk(error)) => {
                tracing::warn!(key = %self.archive.key(), %error, "an archive can't be read");
                self.later()
            }
            Err(Unproven::OtherDigest) => {
                tracing::error!(key = %self.archive.key(), reason = %Error::OtherDigest, "not stored");
                self.drop_it(FillLabel::Damaged)
            }
            Err(Unproven::NotWhole(reason)) => self.no_archive(&reason, fresh),
        }
    }

    fn later(&self) -> FillLabel {
        self.archive.prove_later();
        FillLabel::Broken
    }

    /// What isn't right leaves, and whoever reads it to its end breaks off.
    fn drop_it(&self, why: FillLabel) -> FillLabel {
        if self.archive.is_found() {
            self.store.give_up(&self.archive);
        }
        self.archive.break_off();
        why
    }

    /// What came as one body that ended where it should is relayed, whatever it is. Of what else it is the end can't be told
    /// from a cut, or its halves don't fit.
    fn no_archive(&self, reason: &NotWhole, fresh: Option<Fresh>) -> FillLabel {
        let key = self.archive.key();
        if self.archive.is_found() {
            tracing::error!(%key, %reason, "a partial archive is dropped: it isn't right");
            return self.drop_it(FillLabel::Damaged);
        }
        tracing::info!(%key, %reason, "not stored");
        if fresh.is_some_and(|fresh| fresh.delimited) && !self.archive.is_seamed() {
            if self.is_as_told() {
                self.archive.relay_whole();
                return FillLabel::NotArchive;
            }
            tracing::error!(%key, reason = %Error::OtherDigest, "not stored");
            return self.drop_it(FillLabel::Damaged);
        }
        self.drop_it(FillLabel::Broken)
    }

    /// Whether its digest is GitLab's, if GitLab gave one.
    fn is_as_told(&self) -> bool {
        let told = self.archive.facts().etag.as_ref().and_then(Etag::digest);
        told.is_none_or(|told| self.archive.sha256().is_ok_and(|sha256| sha256 == told))
    }

    fn commit(&self, sha256: Sha256, fresh: Option<&Fresh>) -> FillLabel {
        let Ok(known) = self.archive.complete(sha256) else {
            return self.later();
        };
        let key = self.archive.key();
        if let Some(Fresh { flight, before, .. }) = fresh {
            let faces = before.as_ref().map(|before| before.faces(&known)).unwrap_or_default();
            self.archive.has_faces(faces);
            // Bringing it to the disk may take a while; whoever comes now need not wait for that.
            flight.is_whole();
        }
        let still = || self.access.epochs().hold(key, fresh?.epoch);
        match self.store.commit(&self.archive, still) {
            Ok(true) => FillLabel::Stored,
            Ok(false) => FillLabel::Overtaken,
            Err(error) => {
                tracing::debug!(%error, "an archive that is all here isn't stored");
                if let Some(why) = error.unstored() {
                    self.metrics.unstored(why);
                }
                if self.archive.is_found() {
                    self.archive.prove_later();
                }
                FillLabel::Unstored
            }
        }
    }
}

/// An archive's bytes for larder's own eyes.
pub(super) struct UncheckedBytes<'a>(pub(super) &'a Arc<Archive>, pub(super) &'a Metrics);

impl ReadAt for UncheckedBytes<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if self.0.is_retired() {
            return Err(io::Error::other("the archive has left the store"));
        }
        self.0.read_at(buffer, at)
    }

    fn unpacked(&self, bytes: u64) {
        self.1.unpacked(bytes);
    }
}

//! Missing bytes of a sparse archive, fetched as they are wanted.
//!
//! Whoever reads asks for what he needs, in his own name; each missing chunk is fetched by one at a time, and whoever else
//! needs it waits for that. When more than a share of an archive is wanted, all of it is fetched; when all is here, it is
//! found right or dropped.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use http_body_util::BodyExt;

use super::part::{Asker, Denied, Part};
use super::patience::Patience;
use super::write::fits_together;
use super::{Fills, resume};
use crate::archive::{self, ReadAt};
use crate::grant::judge::Span;
use crate::grant::{Etag, Sha256};
use crate::num::{to_u64, to_usize};
use crate::store::{Archive, Claim, Have};
use crate::telemetry::metrics::Fill;

/// Longest archive that is fetched as a whole when any of it is wanted, bytes: a few seconds of a slow line, and most
/// archives are shorter.
pub(super) const WHOLE_UP_TO: u64 = 64 << 20;

/// Of a longer one all is fetched when more than one part in so many is here or on its way: what is still missing would be
/// asked for in pieces otherwise.
const SHARE: u64 = 2;

/// How often a reader takes on what others have given up, before he gives up too.
const TURNS: u32 = 3;

/// Chunks that are put in before it is written down which are here.
const NOTE_EVERY: u32 = 16;

/// Why a span didn't come.
enum Cut {
    /// GitLab has another archive.
    Changed,
    /// What came may be of another archive, or of none: a page in GitLab's place has a length as well.
    Unproven,
    /// Not in this caller's name.
    Refused,
    /// Not in time.
    Denied,
    /// The disk or the budget takes no more.
    Store(crate::store::Error),
}

impl Fills {
    /// Sees to it that the first bytes of a range are here or that they can't be had; what follows them in the range is on
    /// its way then.
    pub async fn bring(
        self: &Arc<Self>,
        asker: &Asker,
        archive: &Arc<Archive>,
        range: Range<u64>,
    ) -> io::Result<()> {
        let first = range.start..(range.start + 1).min(range.end);
        for _ in 0..TURNS {
            let own = self.begin_span(asker, archive, &range).await?;
            match archive.arrived(&first).await {
                Ok(()) => return Ok(()),
                // What couldn't be had in this caller's name can't be had in it a moment later.
                Err(error) if own || archive.is_retired() => return Err(error),
                Err(_) => {}
            }
        }
        archive.arrived(&first).await
    }

    /// Sees to it that all bytes of a range are here.
    pub async fn ensure(
        self: &Arc<Self>,
        asker: &Asker,
        archive: &Arc<Archive>,
        range: Range<u64>,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end && archive.have(&range) != Have::All {
            self.bring(asker, archive, at..range.end).await?;
            let chunk = crate::store::record::CHUNK;
            at = (at / chunk + 1) * chunk;
        }
        Ok(())
    }

    /// Begins to fetch what nobody fetches of a range, once there is room for all of that; an error if there isn't. Then all,
    /// if so much is wanted. Returns whether the range's first bytes are among what was begun.
    pub async fn begin_span(
        self: &Arc<Self>,
        asker: &Asker,
        archive: &Arc<Archive>,
        range: &Range<u64>,
    ) -> io::Result<bool> {
        let own = self.begin_claims(asker, archive, range).await?;
        let (wanted, all) = archive.wanted();
        if archive.record().length <= WHOLE_UP_TO || wanted.saturating_mul(SHARE) > all {
            // Where there is no room for all, parts have to do.
            let _ = self.begin_claims(asker, archive, &(0..archive.record().length)).await;
        }
        Ok(own)
    }

    async fn begin_claims(
        self: &Arc<Self>,
        asker: &Asker,
        archive: &Arc<Archive>,
        range: &Range<u64>,
    ) -> io::Result<bool> {
        let mut claims: Vec<Claim> = std::iter::from_fn(|| archive.claim(range)).collect();
        let Some(first) = claims.first().map(|claim| claim.bytes().start) else {
            return Ok(false);
        };
        let reserved = crate::rt::blocking(move || {
            claims.iter_mut().try_for_each(Claim::reserve)?;
            Ok::<_, crate::store::Error>(claims)
        });
        for claim in reserved.await?.map_err(io::Error::other)? {
            self.spawn_span(asker, claim);
        }
        Ok(first <= range.start)
    }

    fn spawn_span(self: &Arc<Self>, asker: &Asker, claim: Claim) {
        let (fills, asker) = (Arc::clone(self), asker.clone());
        crate::rt::spawn(async move {
            // The semaphore is never closed.
            let Ok(_permit) = Arc::clone(&fills.permits).acquire_owned().await else {
                return;
            };
            let archive = Arc::clone(claim.archive());
            match fills.fetch_span(&asker, claim).await {
                Ok(()) => fills.finish(&archive).await,
                Err(Cut::Changed) => {
                    tracing::warn!(key = %archive.key(), "a sparse archive is dropped: GitLab has another by now");
                    let _ = crate::rt::blocking(move || archive.give_up()).await;
                }
                Err(Cut::Unproven) => {
                    // Whoever asks next is let in by a new answer of GitLab's, which says what it has.
                    fills.means.access.epochs().invalidate(archive.key(), || ());
                }
                Err(Cut::Denied | Cut::Refused) => {}
                Err(Cut::Store(error)) => tracing::warn!(%error, "a part of an archive can't be stored"),
            }
        });
    }

    /// Fetches claimed chunks, across cuts.
    async fn fetch_span(&self, asker: &Asker, mut claim: Claim) -> Result<(), Cut> {
        let archive = Arc::clone(claim.archive());
        let mut patience = Patience::new(self.means.upstream.resume_timeout());
        let mut part = Box::pin(self.ask_span(asker, &archive, claim.bytes())).await;
        let mut buffer = BytesMut::new();
        loop {
            match part {
                Ok(body) => {
                    if self.take_in(&mut claim, body, &mut buffer).await? {
                        patience.progress();
                    }
                }
                Err(Cut::Denied) => {}
                Err(cut) => return Err(cut),
            }
            let left = claim.bytes();
            let store = Arc::clone(&self.means.store);
            let noted = Arc::clone(&archive);
            let _ = crate::rt::blocking(move || store.note(&noted)).await;
            if left.is_empty() {
                return Ok(());
            }
            let wait = patience.next(self.means.clock.now(), resume::chance()).ok_or(Cut::Denied)?;
            tokio::time::sleep(wait).await;
            let from = left.start + to_u64(buffer.len());
            part = Box::pin(self.ask_span(asker, &archive, from..left.end)).await;
        }
    }

    /// Asks for bytes of an archive, which must be of that very one.
    async fn ask_span(&self, asker: &Asker, archive: &Archive, range: Range<u64>) -> Result<Part, Cut> {
        let part = self.ask_part(asker, Span::Between(range.start, range.end), None).await;
        match part {
            Ok(part) => match part.is_of(&archive.facts()) {
                // A source that gives no parts any more: all of it, of which what isn't wanted is let go of.
                Some(true) => Ok(part.from(range.start)),
                Some(false) if !part.is_whole() => Err(Cut::Changed),
                Some(false) | None => Err(Cut::Unproven),
            },
            Err(Denied::NoPart) => Err(Cut::Unproven),
            Err(Denied::Refused) => Err(Cut::Refused),
            Err(Denied::Later) => Err(Cut::Denied),
        }
    }

    /// Puts a body's bytes in, chunk by chunk; whether any came.
    async fn take_in(&self, claim: &mut Claim, part: Part, buffer: &mut BytesMut) -> Result<bool, Cut> {
        let (mut body, mut skip) = (part.body, part.skip);
        let (mut came, mut unnoted) = (false, 0);
        while claim.next_length() > 0 {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            let mut data = frame.into_data().unwrap_or_default();
            self.means.metrics.fetched(to_u64(data.len()));
            let over = to_usize(skip).min(data.len());
            skip -= to_u64(over);
            data = data.split_off(over);
            came |= !data.is_empty();
            buffer.extend_from_slice(&data);
            while claim.next_length() > 0 && to_u64(buffer.len()) >= claim.next_length() {
                let chunk = buffer.split_to(to_usize(claim.next_length())).freeze();
                put(claim, chunk).await?;
                unnoted += 1;
            }
            if unnoted >= NOTE_EVERY {
                unnoted = 0;
                let (store, archive) = (Arc::clone(&self.means.store), Arc::clone(claim.archive()));
                let _ = crate::rt::blocking(move || store.note(&archive)).await;
            }
        }
        Ok(came)
    }

    /// All chunks of an archive may be here: finds out whether it is right, and makes it a whole one or drops it.
    pub async fn finish(&self, archive: &Arc<Archive>) {
        if !archive.begin_to_finish() {
            return;
        }
        let (store, finished) = (Arc::clone(&self.means.store), Arc::clone(archive));
        let result = crate::rt::blocking(move || {
            let sha256 = match prove(&finished) {
                Ok(sha256) => sha256,
                Err(Wrong::Bytes(reason)) => {
                    tracing::error!(key = %finished.key(), reason, "a sparse archive is dropped: it isn't right");
                    finished.give_up();
                    return Fill::Damaged;
                }
                // A chunk that was damaged since is missing again.
                Err(Wrong::Disk) => {
                    finished.finish_later();
                    return Fill::Broken;
                }
            };
            match store.complete(&finished, sha256) {
                Ok(true) => Fill::Stored,
                Ok(false) => Fill::Overtaken,
                Err(error) => {
                    tracing::warn!(%error, "an archive that is all here can't be stored");
                    finished.finish_later();
                    Fill::Unstored
                }
            }
        });
        let result = result.await.unwrap_or_else(|_| {
            // Whoever waits for a word must get one.
            archive.finish_later();
            Fill::Unstored
        });
        self.means.metrics.fill(result);
    }
}

async fn put(claim: &mut Claim, chunk: bytes::Bytes) -> Result<(), Cut> {
    let next = claim.split();
    let put = crate::rt::blocking(move || {
        let mut next = next;
        next.put(&chunk)
    });
    put.await.map_err(|_| Cut::Denied)?.map_err(Cut::Store)
}

/// Why an archive isn't proven.
enum Wrong {
    Bytes(String),
    Disk,
}

/// Reads all of an archive: its chunks must be as they came, its digest GitLab's, and where GitLab gave none, it must fit
/// together where transfers met.
fn prove(archive: &Arc<Archive>) -> Result<Sha256, Wrong> {
    let sha256 = archive.digest().map_err(|_| Wrong::Disk)?;
    let (length, eyes) = (archive.record().length, Eyes(archive));
    archive::check(&eyes, length).map_err(|reason| Wrong::Bytes(reason.to_string()))?;
    match archive.facts().etag.as_ref().and_then(Etag::digest) {
        Some(told) if told != sha256 => {
            Err(Wrong::Bytes("its SHA-256 isn't the one that GitLab gave".to_owned()))
        }
        _ => match fits_together(&archive.facts(), &eyes, length, &archive.seams()) {
            Ok(()) => Ok(sha256),
            Err(reason) => Err(Wrong::Bytes(reason.to_string())),
        },
    }
}

/// An archive's bytes for larder's own eyes.
pub(super) struct Eyes<'a>(pub(super) &'a Arc<Archive>);

impl ReadAt for Eyes<'_> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }
}

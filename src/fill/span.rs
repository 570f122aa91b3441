//! Missing bytes of a sparse archive, fetched as they are wanted.
//!
//! Whoever reads asks for what he needs, in his own name; each missing chunk is fetched by one at a time, and whoever else
//! needs it waits for that. When more than a share of an archive is wanted, all of it is fetched; when all is here, it is
//! found right or dropped.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::transfer::{Ended, Identity, Lost, Transfer};
use super::waiters::Waiters;
use super::{ByteRequest, Fills, Requester};
use crate::gitlab::grant::judge::Span;
use crate::store::{Archive, Availability, ChunkClaim};
use crate::upstream::Insists;

/// Longest archive that is fetched as a whole when any of it is wanted, bytes: a few seconds of a slow line, and most
/// archives are shorter.
pub(super) const WHOLE_UP_TO: u64 = 64 << 20;

/// Of a longer one all is fetched when more than one part in so many is here or on its way: what is still missing would be
/// asked for in pieces otherwise.
const SHARE: u64 = 2;

/// How often a reader takes on what others have given up, before he gives up too.
const TURNS: u32 = 3;

impl Fills {
    /// Sees to it that the first bytes of a range are here or that they can't be had; what follows them in the range is on
    /// its way then. Who `insists` can't be sent to the object store any more, and waits for one that fails.
    pub(crate) async fn bring(
        self: &Arc<Self>,
        requester: &Requester,
        archive: &Arc<Archive>,
        range: Range<u64>,
        insists: Insists,
    ) -> io::Result<()> {
        let first = range.start..(range.start + 1).min(range.end);
        for _ in 0..TURNS {
            let own = self.begin_span(requester, archive, &range, insists).await?;
            match archive.arrived(&first).await {
                Ok(()) => return Ok(()),
                // What couldn't be had in this caller's name can't be had in it a moment later.
                Err(error) if own || archive.is_retired() => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(archive.arrived(&first).await?)
    }

    /// Sees to it that all bytes of a range are here.
    pub(crate) async fn ensure(
        self: &Arc<Self>,
        requester: &Requester,
        archive: &Arc<Archive>,
        range: Range<u64>,
        insists: Insists,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end && archive.have(&range) != Availability::All {
            self.bring(requester, archive, at..range.end, insists).await?;
            let chunk = crate::store::record::CHUNK;
            at = (at / chunk + 1) * chunk;
        }
        Ok(())
    }

    /// Begins to fetch what nobody fetches of a range, once there is room for all of that; an error if there isn't. Then all,
    /// if so much is wanted. Returns whether the range's first bytes are among what was begun.
    pub(crate) async fn begin_span(
        self: &Arc<Self>,
        requester: &Requester,
        archive: &Arc<Archive>,
        range: &Range<u64>,
        insists: Insists,
    ) -> io::Result<bool> {
        let own = self.begin_claims(requester, archive, range, insists).await?;
        let (wanted, all) = archive.wanted();
        if archive.stored_length() <= WHOLE_UP_TO || wanted.saturating_mul(SHARE) > all {
            // Where there is no room for all, parts have to do.
            let _ = self.begin_claims(requester, archive, &(0..archive.stored_length()), insists).await;
        }
        Ok(own)
    }

    async fn begin_claims(
        self: &Arc<Self>,
        requester: &Requester,
        archive: &Arc<Archive>,
        range: &Range<u64>,
        insists: Insists,
    ) -> io::Result<bool> {
        let store = &self.deps.store;
        let mut claims: Vec<ChunkClaim> = std::iter::from_fn(|| store.claim(archive, range)).collect();
        let Some(first) = claims.first().map(|claim| claim.left().start) else {
            return Ok(false);
        };
        let reserved = crate::base::rt::blocking(move || {
            claims.iter_mut().try_for_each(ChunkClaim::reserve)?;
            Ok::<_, crate::store::Error>(claims)
        });
        for claim in reserved.await?.map_err(io::Error::other)? {
            self.spawn_span(requester, claim, insists);
        }
        Ok(first <= range.start)
    }

    fn spawn_span(self: &Arc<Self>, requester: &Requester, claim: ChunkClaim, insists: Insists) {
        let (fills, requester, part) = (Arc::clone(self), requester.clone(), Arc::clone(&self.parts));
        crate::base::rt::spawn(async move {
            // The semaphore is never closed.
            let Ok(_permit) = Arc::clone(&fills.permits).acquire_owned().await else {
                return;
            };
            let archive = Arc::clone(claim.archive());
            let transfer = Transfer {
                fills: &fills,
                archive: Arc::clone(&archive),
                waiters: Arc::new(Waiters::led_by(requester)),
                identity: Identity::Part { insists },
                noted: true,
            };
            let ended = Box::pin(transfer.run(claim, None)).await;
            fills.span_ended(&archive, ended).await;
            drop(part);
        });
    }

    async fn span_ended(&self, archive: &Arc<Archive>, ended: Ended) {
        let (store, noted) = (Arc::clone(&self.deps.store), Arc::clone(archive));
        let why = match ended {
            Ended::All(claim) => claim.finish().err(),
            Ended::Lost(_claim, Lost::Changed) => {
                tracing::warn!(key = %archive.key(), "a partial archive is dropped: GitLab has another by now");
                let _ = crate::base::rt::blocking(move || store.give_up(&noted)).await;
                return;
            }
            Ended::Lost(_claim, Lost::Unproven) => {
                // Whoever asks next is let in by a new answer of GitLab's, which says what it has.
                self.deps.access.epochs().invalidate(archive.key(), || ());
                None
            }
            Ended::Lost(..) | Ended::Died => None,
            Ended::Wrong(_claim, error) | Ended::Full(_claim, error, _) => Some(error),
        };
        if let Some(error) = why {
            tracing::warn!(%error, "a part of an archive can't be stored");
        }
        let _ = crate::base::rt::blocking(move || store.note(&noted)).await;
        self.conclude(archive).await;
    }

    /// Asks for these bytes of an archive of `length` bytes; `None` if they can't be had. What comes must still be
    /// compared with their checksum.
    pub(crate) async fn fetch_part(
        &self,
        requester: &Requester,
        range: Range<u64>,
        length: u64,
    ) -> Option<Bytes> {
        let span = Span::Between(range.start, range.end);
        let part = self.deps.origin.fetch(ByteRequest::part(requester, span, Insists::No)).await.ok()?;
        let fits = part.facts.length == Some(length) && part.range == range;
        if fits { part.collect().await } else { None }
    }
}

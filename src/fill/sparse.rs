//! An archive of which only a part is wanted: its end is fetched first, which says what is in it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::conclude::UncheckedBytes;
use super::{ByteRequest, Fill, Fills, JoinResult, Leader, LeaderResult, NoBytes, OriginResponse, Requester};
use crate::access::{Admission, AskedAt};
use crate::base::key::ArchiveId;
use crate::base::num::{to_u64, to_usize};
use crate::gitlab::grant::Facts;
use crate::gitlab::grant::facts::TAIL;
use crate::gitlab::grant::judge::Span;
use crate::http::Etag;
use crate::store::record::CHUNK;
use crate::store::{Archive, Record};
use crate::telemetry::metrics::FillLabel;
use crate::upstream::Insists;
use crate::zip::{self, ReadAt};

/// How much of its end is fetched first: more than the longest end record with the window that it is looked for in, and
/// the whole directory of some thousand entries.
const FIRST: u64 = 256 << 10;

/// Longest directory that an archive is begun with, some 50,000 entries: it is held in memory until it is on the disk, by as
/// many as begin at once.
const LONGEST_DIRECTORY: u64 = 4 << 20;

/// What holding the end of an archive takes: the longest directory from its chunk on, and once more while it is put together.
const END: usize = 2 * ((4 << 20) + (1 << 20)) + (256 << 10);

impl Fills {
    /// Begins the archive of an entry that was just had from GitLab, for those who ask next, unless it is under way or known
    /// to be longer than the leader finds worth it. Returns whether some of it is held now.
    pub(crate) async fn begin_beside(self: &Arc<Self>, mut leader: Leader, known: Option<ArchiveId>) -> bool {
        let length = self.too_large.get(&leader.question.key);
        let is_worth_it = |longest| length.is_none_or(|length| length <= longest);
        if !leader.longest.is_none_or(is_worth_it) {
            return false;
        }
        let mut joined = self.join_or_lead(leader.clone(), known);
        if matches!(joined, JoinResult::AskFirst) {
            let asked = self.deps.access.inquire(&leader.caller, &leader.question).await;
            leader.let_in = matches!(asked, Admission::Other(other) if other.shows_archive());
            joined = self.join_or_lead(leader, known);
        }
        match joined {
            JoinResult::Lead(led) => matches!(led.await, Ok(LeaderResult::Joined)),
            JoinResult::Follow(flight) => flight.answered().await.is_held(),
            JoinResult::Landed => true,
            JoinResult::AskFirst | JoinResult::Full | JoinResult::Refusing => false,
        }
    }

    /// Begins an archive with its end. `None`: it can't be had in parts, or isn't worth it; the leader's flight goes on with
    /// all of it.
    pub(super) async fn open_sparse(
        self: &Arc<Self>,
        leader: &Leader,
        known: Option<ArchiveId>,
        asked: &AskedAt,
    ) -> Option<(LeaderResult, FillLabel)> {
        let led_by = leader.requester();
        if let Some(error) = self.deps.access.known_down(Some(leader.question.class)).await {
            return Some((LeaderResult::Failed(error), FillLabel::Refused));
        }
        let part = match self.ask_last(&led_by).await {
            Ok(part) => part,
            // Nobody waits for two answers that don't come.
            Err(NoBytes::Unanswered(error)) => {
                return Some((LeaderResult::Failed(error), FillLabel::Refused));
            }
            Err(NoBytes::StoreDown | NoBytes::StoreRefused) => {
                return Some((LeaderResult::Pass(FillLabel::StoreDown), FillLabel::StoreDown));
            }
            Err(_) => return None,
        };
        let length = part.facts.length?;
        if part.range.end != length || (part.range.start == 0 && length > FIRST) {
            return None;
        }
        let by_ref = leader.question.class.is_by_ref();
        if if by_ref { !part.facts.identifies() } else { !part.facts.tell_parts() } {
            // Later parts could be another archive's, and nothing would tell.
            return None;
        }
        if self.deps.store.join(leader.question.key, &part.facts, known).await {
            return Some((LeaderResult::Joined, FillLabel::Joined));
        }
        let Ok(_place) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Some((LeaderResult::Pass(FillLabel::NoRoom), FillLabel::NoRoom));
        };
        let (yes, record) = (part.yes.clone(), self.record(&leader.question, &part));
        // It is all in memory until it is on the disk; where there is no room for that, it is had as a whole.
        let _room = self.deps.memory.try_take(END)?;
        let said = part.said.clone();
        let end = self.collect_end(&led_by, part, length).await?;
        let tail = end.bytes.get(end.bytes.len().saturating_sub(to_usize(TAIL))..).unwrap_or_default();
        let facts = Facts { tail: Some(Bytes::copy_from_slice(tail)), ..record.facts };
        let record = Record { facts, ..record };
        let archive = self.place(record, end, asked).await?;
        let access = &self.deps.access;
        access.note(&leader.caller, &leader.question, archive.visitors());
        // Remembered for as long as any yes is.
        drop(access.grant_leader(&leader.caller, &leader.question, yes, archive.id(), asked, &said));
        if length <= super::span::WHOLE_UP_TO {
            drop(self.bring_all(&led_by, &archive));
        }
        Some((LeaderResult::Joined, FillLabel::Begun))
    }

    /// The last bytes of an archive. Not every store knows how to give so many from the end (Azure): where one gives none,
    /// or all of a long one, its length is learnt and they are asked for by their place.
    async fn ask_last(&self, requester: &Requester) -> Result<OriginResponse, NoBytes> {
        let origin = &self.deps.origin;
        let part = |span| ByteRequest::part(requester, span, Insists::No);
        let (facts, validator, length) = match origin.fetch(part(Span::Last(FIRST))).await {
            Ok(part) => {
                let length = part.facts.length.unwrap_or_default();
                if !part.is_whole() || length <= FIRST {
                    return Ok(part);
                }
                // Its connection closes with the little that has come.
                (part.facts, part.validator, length)
            }
            Err(NoBytes::NoPart | NoBytes::Later) => {
                let first = origin.fetch(part(Span::Between(0, 1))).await?;
                let length = first.facts.length.ok_or(NoBytes::NoPart)?;
                (first.facts, first.validator, length)
            }
            Err(none) => return Err(none),
        };
        let span = Span::Between(length.saturating_sub(FIRST), length);
        origin.fetch(part(span).more_of(&facts, validator.as_ref())).await
    }

    /// The end of an archive from a chunk's beginning on, its directory included.
    async fn collect_end(&self, requester: &Requester, part: OriginResponse, length: u64) -> Option<Tail> {
        let (first, facts, validator) = (part.range.start, part.facts.clone(), part.validator.clone());
        let last = self.counted(part.collect().await?);
        let shown = Tail { from: first, bytes: last, length };
        let directory = zip::directory_begins_at(&shown, length).ok()?;
        if length.saturating_sub(directory) > LONGEST_DIRECTORY {
            return None;
        }
        let from = directory.min(first) / CHUNK * CHUNK;
        if from == first {
            return Some(shown);
        }
        let request = ByteRequest::part(requester, Span::Between(from, first), Insists::No)
            .more_of(&facts, validator.as_ref());
        let more = self.deps.origin.fetch(request).await.ok()?;
        if more.is_of(&facts) != Some(true) || more.range != (from..first) {
            return None;
        }
        let mut bytes = BytesMut::from(&*self.counted(more.collect().await?));
        bytes.extend_from_slice(&shown.bytes);
        Some(Tail { from, bytes: bytes.freeze(), length })
    }

    fn counted(&self, bytes: Bytes) -> Bytes {
        self.deps.metrics.fetched(to_u64(bytes.len()));
        bytes
    }

    /// Stores the end, and lets the archive be found if it is one and nothing has overtaken it.
    async fn place(&self, record: Record, end: Tail, asked: &AskedAt) -> Option<Arc<Archive>> {
        let (store, access) = (Arc::clone(&self.deps.store), Arc::clone(&self.deps.access));
        let (epoch, metrics) = (asked.epoch, Arc::clone(&self.deps.metrics));
        let placed = crate::base::rt::blocking(move || {
            let (key, length) = (record.key, record.length);
            let told = record.facts.etag.as_ref().and_then(Etag::digest).is_some();
            let archive = store.begin_in_parts(record)?;
            if let Some(mut claim) = store.claim(&archive, &(end.from..length)) {
                claim.reserve()?;
                claim.write(end.within(claim.left()))?;
                claim.finish()?;
            }
            let eyes = UncheckedBytes(&archive, &metrics);
            let zip = zip::check(&eyes, length);
            // What its parts couldn't be found to fit together for is better had as a whole.
            let zip = zip.and_then(|_| if told { Ok(()) } else { zip::check_cost(&eyes, length) });
            if let Err(reason) = zip {
                tracing::info!(%key, %reason, "not stored");
                return Ok(None);
            }
            let placed = store.place(&archive, || access.epochs().hold(key, epoch))?;
            Ok::<_, crate::store::Error>(placed.then_some(archive))
        });
        match placed.await {
            Ok(Ok(placed)) => placed,
            Ok(Err(error)) => {
                tracing::debug!(%error, "an archive isn't begun with its end");
                None
            }
            Err(_) => None,
        }
    }

    /// Fetches all that is missing.
    fn bring_all(
        self: &Arc<Self>,
        requester: &Requester,
        archive: &Arc<Archive>,
    ) -> tokio::task::JoinHandle<()> {
        let (fills, requester, archive) = (Arc::clone(self), requester.clone(), Arc::clone(archive));
        let part = Arc::clone(&self.parts);
        crate::base::rt::spawn(async move {
            let all = 0..archive.stored_length();
            // Whoever wants it meanwhile fetches it himself.
            let _ = fills.bring(&requester, &archive, all, Insists::No).await;
            fills.conclude(&archive).await;
            drop(part);
        })
    }

    /// The sparse side of a flight.
    pub(super) async fn run_sparse(
        self: &Arc<Self>,
        flight: &Arc<Fill>,
        leader: &Leader,
        known: Option<ArchiveId>,
        tell: oneshot::Sender<LeaderResult>,
    ) -> Result<FillLabel, oneshot::Sender<LeaderResult>> {
        let asked = self.deps.access.about_to_ask(&leader.caller, &leader.question);
        match self.open_sparse(leader, known, &asked).await {
            Some((led, result)) => Ok(self.end(flight, tell, led, result)),
            None => Err(tell),
        }
    }

    /// Sees to it that the directory of a sparse archive is here.
    pub(crate) async fn ensure_directory(
        self: &Arc<Self>,
        requester: &Requester,
        archive: &Arc<Archive>,
    ) -> io::Result<()> {
        let length = archive.stored_length();
        self.ensure(requester, archive, length.saturating_sub(FIRST)..length, Insists::No).await?;
        let (looked_at, metrics) = (Arc::clone(archive), Arc::clone(&self.deps.metrics));
        let begins = crate::base::rt::blocking(move || {
            zip::directory_begins_at(&UncheckedBytes(&looked_at, &metrics), length)
        })
        .await?;
        let begins = begins.map_err(io::Error::other)?;
        self.ensure(requester, archive, begins..length, Insists::No).await
    }
}

/// The last bytes of an archive.
struct Tail {
    from: u64,
    bytes: Bytes,
    length: u64,
}

impl Tail {
    fn within(&self, range: Range<u64>) -> &[u8] {
        let (from, to) = (range.start.saturating_sub(self.from), range.end.saturating_sub(self.from));
        self.bytes.get(to_usize(from)..to_usize(to)).unwrap_or_default()
    }
}

impl ReadAt for Tail {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if at < self.from {
            return Err(io::Error::other("not the end of the archive"));
        }
        let there = self.within(at..self.length.min(at.saturating_add(to_u64(buffer.len()))));
        let (filled, _) = buffer.split_at_mut(there.len().min(buffer.len()));
        filled.copy_from_slice(there);
        Ok(there.len())
    }
}

//! An archive of which only a part is wanted: its end is fetched first, which says what is in it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::part::{Asker, Part};
use super::span::Eyes;
use super::{Fills, Flight, Leader, Led, flight};
use crate::access::Asked;
use crate::archive::{self, ReadAt};
use crate::grant::Facts;
use crate::grant::facts::TAIL;
use crate::grant::judge::Span;
use crate::key::ArchiveId;
use crate::num::{to_u64, to_usize};
use crate::store::record::CHUNK;
use crate::store::{Archive, Record};
use crate::telemetry::metrics::Fill;

/// How much of its end is fetched first: more than the longest end record with the window that it is looked for in, and
/// the whole directory of some thousand entries.
const FIRST: u64 = 256 << 10;

/// Longest directory that an archive is begun with, some 50,000 entries: it is held in memory until it is on the disk, by as
/// many as begin at once.
const LONGEST_DIRECTORY: u64 = 4 << 20;

impl Fills {
    /// Begins an archive with its end. `None`: it can't be had in parts, or isn't worth it; the leader's flight goes on with
    /// all of it.
    pub(super) async fn open_sparse(
        self: &Arc<Self>,
        leader: &Leader,
        known: Option<ArchiveId>,
        asked: Asked,
    ) -> Option<(Led, Fill)> {
        let led_by = Asker { caller: leader.caller.clone(), question: leader.question.clone() };
        let part = self.ask_part(&led_by, Span::Last(FIRST), None).await.ok()?;
        let length = part.facts.length?;
        if part.range.end != length || (part.range.start == 0 && length > FIRST) {
            return None;
        }
        let by_ref = leader.question.class.is_by_ref();
        if if by_ref { !part.facts.identifies() } else { !part.facts.tell_parts() } {
            // Later parts could be another archive's, and nothing would tell.
            return None;
        }
        if self.means.store.join(leader.question.key, &part.facts, known).await {
            return Some((Led::Joined, Fill::Joined));
        }
        let (facts, kept, yes) = (part.facts.clone(), part.kept.clone(), part.yes.clone());
        let end = self.collect_end(&led_by, part, length).await?;
        let tail = end.bytes.get(end.bytes.len().saturating_sub(to_usize(TAIL))..).unwrap_or_default();
        let facts = Facts { tail: Some(tail.to_vec()), ..facts };
        let record = Record {
            key: leader.question.key,
            id: ArchiveId::new(0),
            length,
            filled_at: self.means.clock.now().unix_seconds(),
            etag: flight::entity_tag(&self.means.instance, leader.question.key, &facts),
            facts,
            kept,
            class: leader.question.class,
            chunks: Vec::new(),
            present: None,
        };
        let archive = self.place(record, end, asked).await?;
        let access = &self.means.access;
        access.note(&leader.caller, &leader.question, archive.visitors());
        // Remembered for as long as any yes is.
        drop(access.grant_leader(&leader.caller, &leader.question, yes, archive.id(), asked));
        if length <= super::span::WHOLE_UP_TO {
            drop(self.bring_all(&led_by, &archive));
        }
        Some((Led::Joined, Fill::Begun))
    }

    /// The end of an archive from a chunk's beginning on, its directory included.
    async fn collect_end(&self, asker: &Asker, part: Part, length: u64) -> Option<End> {
        let (first, facts, validator) = (part.range.start, part.facts.clone(), part.validator.clone());
        let last = self.counted(part.collect().await?);
        let shown = End { from: first, bytes: last, length };
        let directory = archive::directory_begins_at(&shown, length).ok()?;
        if length.saturating_sub(directory) > LONGEST_DIRECTORY {
            return None;
        }
        let from = directory.min(first) / CHUNK * CHUNK;
        if from == first {
            return Some(shown);
        }
        let more = self.ask_part(asker, Span::Between(from, first), validator.as_ref()).await.ok()?;
        let same = !more.is_of_another(&facts, validator.as_ref()) && more.is_of(&facts) == Some(true);
        if !same || more.range != (from..first) {
            return None;
        }
        let mut bytes = BytesMut::from(&*self.counted(more.collect().await?));
        bytes.extend_from_slice(&shown.bytes);
        Some(End { from, bytes: bytes.freeze(), length })
    }

    fn counted(&self, bytes: Bytes) -> Bytes {
        self.means.metrics.fetched(to_u64(bytes.len()));
        bytes
    }

    /// Stores the end, and lets the archive be found if it is one and nothing has overtaken it.
    async fn place(&self, record: Record, end: End, asked: Asked) -> Option<Arc<Archive>> {
        let (store, access) = (Arc::clone(&self.means.store), Arc::clone(&self.means.access));
        let placed = crate::rt::blocking(move || {
            let (key, length) = (record.key, record.length);
            let archive = store.sparse(record)?;
            while let Some(mut claim) = archive.claim(&(end.from..length)) {
                let bytes = end.within(claim.bytes().start..claim.bytes().start + claim.next_length());
                claim.put(bytes)?;
                // What follows is claimed again.
            }
            if let Err(reason) = archive::check(&Eyes(&archive), length) {
                tracing::info!(%key, %reason, "not stored");
                return Ok(None);
            }
            let still = |place: &mut dyn FnMut()| {
                access.epochs().if_still(key, asked.epoch, place);
            };
            Ok::<_, crate::store::Error>(store.place(&archive, still)?.then_some(archive))
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
    fn bring_all(self: &Arc<Self>, asker: &Asker, archive: &Arc<Archive>) -> tokio::task::JoinHandle<()> {
        let (fills, asker, archive) = (Arc::clone(self), asker.clone(), Arc::clone(archive));
        crate::rt::spawn(async move {
            let all = 0..archive.record().length;
            // Whoever wants it meanwhile fetches it himself.
            let _ = fills.bring(&asker, &archive, all).await;
            fills.finish(&archive).await;
        })
    }

    /// The sparse side of a flight.
    pub(super) async fn run_sparse(
        self: &Arc<Self>,
        flight: &Arc<Flight>,
        leader: &Leader,
        known: Option<ArchiveId>,
        tell: oneshot::Sender<Led>,
    ) -> Result<Fill, oneshot::Sender<Led>> {
        let asked = self.means.access.about_to_ask(leader.question.key);
        match self.open_sparse(leader, known, asked).await {
            Some((led, result)) => Ok(self.end(flight, tell, led, result)),
            None => Err(tell),
        }
    }

    /// Sees to it that the directory of a sparse archive is here.
    pub async fn ensure_directory(self: &Arc<Self>, asker: &Asker, archive: &Arc<Archive>) -> io::Result<()> {
        let length = archive.record().length;
        self.ensure(asker, archive, length.saturating_sub(FIRST)..length).await?;
        let looked_at = Arc::clone(archive);
        let begins =
            crate::rt::blocking(move || archive::directory_begins_at(&Eyes(&looked_at), length)).await?;
        let begins = begins.map_err(io::Error::other)?;
        self.ensure(asker, archive, begins..length).await
    }
}

/// The last bytes of an archive.
struct End {
    from: u64,
    bytes: Bytes,
    length: u64,
}

impl End {
    fn within(&self, range: Range<u64>) -> &[u8] {
        let (from, to) = (range.start.saturating_sub(self.from), range.end.saturating_sub(self.from));
        self.bytes.get(to_usize(from)..to_usize(to)).unwrap_or_default()
    }
}

impl ReadAt for End {
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

//! The end of a fill: bytes to the disk, and the archive into the store. Everything here blocks.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Arrival, Flight, Stage};
use crate::access::Access;
use crate::archive::{self, NotWhole, ReadAt};
use crate::grant::{Epoch, Etag, Facts};
use crate::store::{Error, Record, Store, Writer, Written};

/// How much of an archive that arrives may be lost to a kill: a hundredth of that is written for it at most.
const NOTE_EVERY: u64 = 16 << 20;

/// What the writer says when it is done.
pub(super) enum Done {
    Stored,
    NotArchive,
    Overtaken,
    /// The disk took no more; these frames weren't written.
    Unstored(Error, Vec<Bytes>),
    /// All of it is there, and the store doesn't take it.
    Uncommitted(Error),
    /// Its bytes aren't those whose digest GitLab gave, or aren't all of one archive.
    Damaged,
    /// The source ended too early, or lied about its length.
    Broken,
}

/// What the writer is given.
pub(super) enum Item {
    Frame(Bytes),
    /// The next frame belongs here: the transfer was taken up again.
    Seam(u64),
    /// There is no more; `whole`: because that was all; `changed`: because the archive isn't any more.
    End {
        whole: bool,
        changed: bool,
    },
}

/// The writer's side.
pub(super) struct Job {
    pub(super) store: Arc<Store>,
    pub(super) access: Arc<Access>,
    pub(super) arrival: Arc<Arrival>,
    pub(super) flight: Arc<Flight>,
    pub(super) delimited: bool,
    pub(super) epoch: Epoch,
    pub(super) filled_at: u64,
}

impl Job {
    pub(super) fn write(self, mut writer: Writer, mut items: mpsc::Receiver<Item>) -> Done {
        let mut noted = 0;
        loop {
            match items.blocking_recv() {
                Some(Item::Frame(frame)) => {
                    if let Err(error) = writer.write(&frame) {
                        return self.stopped(error, writer.unwritten(&frame), items);
                    }
                    if writer.written().saturating_sub(noted) >= NOTE_EVERY {
                        noted = writer.written();
                        self.note(&writer);
                    }
                }
                Some(Item::Seam(at)) => writer.go_on_at(at),
                Some(Item::End { whole: true, .. }) => return self.finish(writer),
                Some(Item::End { whole: false, changed }) => return self.broken(&writer, changed),
                // The program ends.
                None => return self.broken(&writer, false),
            }
        }
    }

    /// What its record would say now.
    fn record(&self, facts: Facts, length: u64, chunks: Vec<u128>) -> Record {
        let (arrival, draft) = (&self.arrival, self.arrival.draft());
        Record {
            key: draft.key(),
            id: draft.id(),
            length,
            filled_at: self.filled_at,
            facts,
            etag: arrival.etag().cloned(),
            kept: arrival.kept().clone(),
            class: arrival.class(),
            chunks,
            present: None,
        }
    }

    fn note(&self, writer: &Writer) {
        let (facts, draft) = (self.arrival.facts().clone(), self.arrival.draft());
        let Some(length) = facts.length.filter(|_| self.arrival.may_rest()) else {
            return;
        };
        if let Err(error) = self.store.note_draft(draft, self.record(facts, length, Vec::new()), writer) {
            tracing::debug!(%error, "an archive that is arriving isn't written down");
        }
    }

    /// The rest doesn't come: what is here stays for whoever asks next, unless it is of an archive that is no more.
    fn broken(&self, writer: &Writer, changed: bool) -> Done {
        let (facts, draft) = (self.arrival.facts().clone(), self.arrival.draft());
        let lost = changed || !self.arrival.may_rest();
        if let (Some(length), false) = (facts.length, lost) {
            let still = |place: &mut dyn FnMut()| {
                self.access.epochs().if_still(draft.key(), self.epoch, place);
            };
            let record = self.record(facts, length, Vec::new());
            if let Err(error) = self.store.rest(draft, record, writer, still) {
                tracing::debug!(%error, "the beginning of an archive isn't kept");
            }
        }
        Done::Broken
    }

    /// All bytes are there. An archive goes to the store; what isn't one has been relayed, and is let go of.
    fn finish(self, writer: Writer) -> Done {
        let zip = self.check(&writer);
        if let Err(reason) = &zip {
            tracing::info!(key = %self.arrival.draft().key(), %reason, "not stored");
        }
        if zip.is_err() && (!self.delimited || writer.is_seamed()) {
            // Its end can't be told from a cut, or its halves don't fit, and it isn't whole by its own account either.
            return Done::Broken;
        }
        match (writer.finish(self.arrival.told()), zip) {
            (Ok(written), Ok(())) => self.commit(written),
            (Ok(_), Err(_)) => Done::NotArchive,
            (Err(reason @ Error::OtherDigest), _) => {
                tracing::error!(key = %self.arrival.draft().key(), %reason, "not stored");
                Done::Damaged
            }
            (Err(_), _) => Done::Broken,
        }
    }

    /// Whether it is an archive; one that came in several transfers must also fit together.
    fn check(&self, writer: &Writer) -> Result<(), NotWhole> {
        archive::check(writer, writer.written())?;
        fits_together(self.arrival.facts(), writer, writer.written(), writer.seams())
    }

    fn commit(self, written: Written) -> Done {
        let (arrival, draft) = (&self.arrival, self.arrival.draft());
        let facts = Facts {
            length: Some(written.length),
            tail: Some(written.tail),
            sha256: Some(written.sha256),
            ..arrival.facts().clone()
        };
        arrival.completed(facts.clone());
        // Bringing it to the disk may take a while; whoever comes now need not wait for that.
        self.flight.set(Stage::Whole(Arc::clone(arrival)));
        let record = self.record(facts, written.length, written.chunks);
        let still = |place: &mut dyn FnMut()| {
            self.access.epochs().if_still(draft.key(), self.epoch, place);
        };
        match self.store.commit(draft, &record, still) {
            Ok(Some(archive)) => {
                arrival.landed(archive);
                Done::Stored
            }
            Ok(None) => Done::Overtaken,
            Err(error) => Done::Uncommitted(error),
        }
    }

    /// The writer stops: what it was given and what is queued goes back to the source's end.
    fn stopped(self, error: Error, frame: Bytes, mut items: mpsc::Receiver<Item>) -> Done {
        match error {
            Error::TooLong | Error::TooShort => return Done::Broken,
            Error::OtherBytes => {
                tracing::warn!(key = %self.arrival.draft().key(), reason = %error, "not stored");
                return Done::Damaged;
            }
            _ => {}
        }
        items.close();
        let mut unwritten = vec![frame];
        while let Some(item) = items.blocking_recv() {
            match item {
                Item::Frame(frame) => unwritten.push(frame),
                // What follows was had before in part: nobody can go on from here.
                Item::Seam(_) => return Done::Broken,
                Item::End { .. } => {}
            }
        }
        Done::Unstored(error, unwritten)
    }
}

/// Whether what came in several transfers is of one archive. Its digest will tell if GitLab gave one. Where each transfer
/// was of the same tag or place, the entries that lie across are looked at. Where only a date says so, all are: two
/// archives of one second may be alike where they meet.
pub(super) fn fits_together(
    facts: &Facts,
    source: &impl ReadAt,
    length: u64,
    seams: &[u64],
) -> Result<(), NotWhole> {
    match facts.etag.as_ref().and_then(Etag::digest) {
        Some(_) => Ok(()),
        None if facts.identifies() => archive::check_seams(source, length, seams),
        None if seams.is_empty() => Ok(()),
        None => archive::check_entries(source, length),
    }
}

impl ReadAt for Writer {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.read_back(buffer, at)
    }
}

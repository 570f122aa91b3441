//! The middle and the end of a fill: bytes from the network to the disk, and the archive into the store.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::open::Opened;
use super::{Arrival, Fills, Flight, Stage};
use crate::archive::{self, ReadAt};
use crate::grant::{Epoch, Facts};
use crate::store::{Draft, Error, Record, Rest, Store, Writer};
use crate::telemetry::metrics::Fill;
use crate::upstream::Fetched;

/// Frames between the network and the disk; each is at most one read of a quarter of a MiB.
const QUEUE: usize = 4;

/// What the writer says when it is done.
enum Done {
    Stored,
    NotArchive,
    Overtaken,
    /// The disk took no more; these frames weren't written.
    Unstored(Error, Vec<Bytes>),
    /// Its bytes aren't those whose digest GitLab gave.
    Damaged,
    /// The source ended too early, or lied about its length.
    Broken,
}

/// What ends the writer's work.
struct Ending {
    /// Whether the source said that it was done.
    whole: bool,
}

enum Item {
    Frame(Bytes),
    End(Ending),
}

impl Fills {
    /// Moves the body to the disk and, if it is an archive, to the store.
    pub(super) async fn pump(
        &self,
        flight: Arc<Flight>,
        opened: Opened,
        draft: Arc<Draft>,
        arrival: Arc<Arrival>,
        epoch: Epoch,
    ) -> Fill {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let job = Job {
            store: Arc::clone(&self.means.store),
            access: Arc::clone(&self.means.access),
            arrival,
            flight,
            delimited: opened.delimited,
            epoch,
            filled_at: self.means.clock.now().unix_seconds(),
        };
        let writer = draft.writer();
        let writing = crate::rt::spawn_blocking(move || job.write(writer, receiver));
        let mut body = opened.body;
        let left = self.feed(opened.first, &mut body, sender).await;
        match writing.await {
            Ok(Done::Stored) => Fill::Stored,
            Ok(Done::NotArchive) => Fill::NotArchive,
            Ok(Done::Overtaken) => Fill::Overtaken,
            Ok(Done::Broken) => {
                draft.break_off();
                Fill::Broken
            }
            Ok(Done::Damaged) => {
                draft.break_off();
                Fill::Damaged
            }
            Ok(Done::Unstored(error, unwritten)) => {
                tracing::warn!(%error, "an archive can't be stored: whoever reads it gets the rest from GitLab");
                draft.leave(rest(unwritten.into_iter().chain(left).collect::<Vec<_>>().into_iter(), body));
                Fill::Unstored
            }
            Err(_) => {
                draft.break_off();
                Fill::Unstored
            }
        }
    }

    /// Feeds the writer until the body ends. Returns the frame that a writer who had stopped didn't take.
    async fn feed(&self, first: Bytes, body: &mut Fetched, sender: mpsc::Sender<Item>) -> Option<Bytes> {
        let mut next = Some(first).filter(|first| !first.is_empty());
        loop {
            let frame = match next.take() {
                Some(frame) => frame,
                None => match body.frame().await {
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => {
                        tracing::warn!(error = error.chain(), "a fill broke off");
                        self.means.metrics.upstream_error(error.kind().as_str());
                        let _ = sender.send(Item::End(Ending { whole: false })).await;
                        return None;
                    }
                    None => {
                        let _ = sender.send(Item::End(Ending { whole: true })).await;
                        return None;
                    }
                },
            };
            self.means.metrics.fetched(crate::num::to_u64(frame.len()));
            if let Err(mpsc::error::SendError(Item::Frame(frame))) = sender.send(Item::Frame(frame)).await {
                return Some(frame);
            }
        }
    }
}

/// What is left at the source, frame by frame.
fn rest(mut unwritten: std::vec::IntoIter<Bytes>, mut body: Fetched) -> Rest {
    Rest::new(async move {
        let piece = match unwritten.next() {
            Some(piece) => Ok(piece),
            None => match body.frame().await? {
                Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        Some((piece, Some(rest(unwritten, body))))
    })
}

/// The writer's side. Everything here blocks.
struct Job {
    store: Arc<Store>,
    access: Arc<crate::access::Access>,
    arrival: Arc<Arrival>,
    flight: Arc<Flight>,
    delimited: bool,
    epoch: Epoch,
    filled_at: u64,
}

impl Job {
    fn write(self, mut writer: Writer, mut items: mpsc::Receiver<Item>) -> Done {
        loop {
            match items.blocking_recv() {
                Some(Item::Frame(frame)) => {
                    if let Err(error) = writer.write(&frame) {
                        return stopped(error, frame, items);
                    }
                }
                Some(Item::End(Ending { whole: true })) => return self.finish(writer),
                Some(Item::End(_)) | None => return Done::Broken,
            }
        }
    }

    /// All bytes are there. An archive goes to the store; what isn't one has been relayed, and is let go of.
    fn finish(self, writer: Writer) -> Done {
        let zip = archive::check(&writer, writer.written());
        if let Err(reason) = &zip {
            tracing::info!(key = %self.arrival.draft().key(), %reason, "not stored");
        }
        if zip.is_err() && !self.delimited {
            // Its end can't be told from a cut, and it isn't whole by its own account either.
            return Done::Broken;
        }
        match (writer.finish(self.arrival.told()), zip) {
            (Ok(written), Ok(_)) => self.commit(written),
            (Ok(_), Err(_)) => Done::NotArchive,
            (Err(reason @ Error::OtherDigest), _) => {
                tracing::error!(key = %self.arrival.draft().key(), %reason, "not stored");
                Done::Damaged
            }
            (Err(_), _) => Done::Broken,
        }
    }

    fn commit(self, written: crate::store::Written) -> Done {
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
        let record = Record {
            key: draft.key(),
            id: draft.id(),
            length: written.length,
            filled_at: self.filled_at,
            facts,
            etag: arrival.etag().cloned(),
            kept: arrival.kept().clone(),
            class: arrival.class(),
            chunks: written.chunks,
        };
        let still = |place: &mut dyn FnMut()| {
            self.access.epochs().if_still(draft.key(), self.epoch, place);
        };
        match self.store.commit(draft, &record, still) {
            Ok(Some(archive)) => {
                arrival.landed(archive);
                Done::Stored
            }
            Ok(None) => Done::Overtaken,
            // Its readers have all of it; only the store goes without.
            Err(error) => {
                tracing::warn!(%error, "an archive can't be stored");
                Done::Overtaken
            }
        }
    }
}

/// The writer stops: what it was given and what is queued goes back to the source's end.
fn stopped(error: Error, frame: Bytes, mut items: mpsc::Receiver<Item>) -> Done {
    if matches!(error, Error::TooLong | Error::TooShort) {
        return Done::Broken;
    }
    items.close();
    let mut unwritten = vec![frame];
    while let Some(item) = items.blocking_recv() {
        if let Item::Frame(frame) = item {
            unwritten.push(frame);
        }
    }
    Done::Unstored(error, unwritten)
}

impl ReadAt for Writer {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.read_back(buffer, at)
    }
}

//! The middle of a fill: bytes from the network to whoever writes them, across cuts.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::open::Opened;
use super::patience::Patience;
use super::resume::{Line, Lost};
use super::write::{Done, Item, Job};
use super::{Arrival, Fills, Flight};
use crate::grant::Epoch;
use crate::num::to_u64;
use crate::store::{Draft, Rest};
use crate::telemetry::metrics::Fill;
use crate::upstream::{self, Fetched};

/// Frames between the network and the disk; each is at most one read of a quarter of a MiB.
const QUEUE: usize = 4;

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
            arrival: Arc::clone(&arrival),
            flight,
            delimited: opened.delimited,
            epoch,
            filled_at: self.means.clock.now().unix_seconds(),
        };
        let writer = draft.writer();
        let writing = crate::rt::spawn_blocking(move || job.write(writer, receiver));
        let patience = Patience::new(self.means.upstream.resume_timeout());
        let line = Line::new(patience, opened.validator);
        let mut body = opened.body;
        let left = Feed { fills: self, arrival: &arrival, line, sender }.run(opened.first, &mut body).await;
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
                self.not_stored(&error);
                draft.leave(rest(unwritten.into_iter().chain(left).collect::<Vec<_>>().into_iter(), body));
                Fill::Unstored
            }
            // Its readers have all of it.
            Ok(Done::Uncommitted(error)) => {
                self.not_stored(&error);
                Fill::Unstored
            }
            Err(_) => {
                draft.break_off();
                Fill::Unstored
            }
        }
    }
}

/// What feeds the writer.
struct Feed<'a> {
    fills: &'a Fills,
    arrival: &'a Arrival,
    line: Line,
    sender: mpsc::Sender<Item>,
}

impl Feed<'_> {
    /// Feeds the writer until the archive ends. Returns the frame that a writer who had stopped didn't take.
    async fn run(mut self, first: Bytes, body: &mut Fetched) -> Option<Bytes> {
        let mut next = Some(first).filter(|first| !first.is_empty());
        loop {
            let frame = match next.take() {
                Some(frame) => Some(Ok(frame)),
                None => {
                    body.frame().await.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
                }
            };
            match frame {
                Some(Ok(frame)) => {
                    let length = to_u64(frame.len());
                    self.fills.means.metrics.fetched(length);
                    self.line.came(length);
                    if let Err(mpsc::error::SendError(Item::Frame(frame))) =
                        self.sender.send(Item::Frame(frame)).await
                    {
                        return Some(frame);
                    }
                }
                ended => {
                    let again = self.after(ended.and_then(Result::err).as_ref()).await?;
                    *body = again;
                }
            }
        }
    }

    /// A body has ended: the archive is all here, or the rest is asked for.
    async fn after(&mut self, error: Option<&upstream::Error>) -> Option<Fetched> {
        let metrics = &self.fills.means.metrics;
        if let Some(error) = error {
            tracing::info!(error = error.chain(), at = self.line.at(), "a transfer broke off");
            metrics.upstream_error(error.kind().as_str());
        }
        let whole =
            error.is_none() && self.arrival.facts().length.is_none_or(|length| self.line.at() >= length);
        let resumed = if whole { None } else { Some(self.fills.resume(self.arrival, &mut self.line).await) };
        let resumed = match resumed {
            Some(Ok(resumed)) => resumed,
            lost => {
                let changed = matches!(lost, Some(Err(Lost::Changed)));
                let _ = self.sender.send(Item::End { whole, changed }).await;
                return None;
            }
        };
        let taken = self.sender.send(Item::Seam(resumed.at)).await;
        taken.ok().map(|()| resumed.body)
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

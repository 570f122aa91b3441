//! One transfer of an archive's bytes: from a source to whoever writes them, taken up again wherever it breaks off.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http_body_util::BodyExt;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::waiters::Waiters;
use super::writer::{Item, Stop, Writer};
use super::{ByteRequest, Fills, NoBytes, OriginResponse};
use crate::base::num::{to_u64, to_usize};
use crate::gitlab::grant::judge::Span;
use crate::store::{Archive, ChunkClaim, Error, Remainder};
use crate::telemetry::metrics::Resume;
use crate::upstream::{self, Fetched, Insists};

/// Frames that wait for the disk.
const QUEUE: usize = 4;

/// How many bytes before the cut are fetched again at most, to be compared with those that are there: where nothing else
/// tells, the two halves are of one archive only if they fit together.
const OVERLAP: u64 = 64 << 10;

/// How the bytes that come are known to be of the archive.
#[derive(Debug, Clone)]
pub(super) enum Identity {
    /// They are the archive: what came first has begun it, with this validator. What comes later must be more of the same.
    Beginning {
        /// `If-Range` of what is asked for again.
        validator: Option<HeaderValue>,
        /// Whether the body's end can be told from a cut.
        delimited: bool,
        /// Whether a part of it can be told from one of another archive.
        can_be_told: bool,
    },
    /// They are to be a part of an archive whose facts are known.
    Part {
        /// Whether a store that was found failing is asked all the same, the first time.
        insists: Insists,
    },
}

/// A body on its way.
pub(super) struct Incoming {
    /// What was read of it already.
    pub(super) first: Bytes,
    pub(super) body: Fetched,
    /// Bytes at its beginning that aren't wanted.
    pub(super) skip: u64,
}

/// Why the rest doesn't come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It isn't the same archive any more.
    Changed,
    /// What came may be of another archive, or of none: a page in GitLab's place has a length as well.
    Unproven,
    /// It can't be had in anybody's name, or not in time.
    GivenUp,
}

/// How a transfer ended.
pub(super) enum Ended {
    /// All that was claimed has come, or a body without a length has ended.
    All(ChunkClaim),
    /// The rest doesn't come.
    Lost(ChunkClaim, Lost),
    /// The source lied about its length, or what came again was different.
    Wrong(ChunkClaim, Error),
    /// The disk, or the budget, took no more. What remains is still to be had.
    Full(ChunkClaim, Error, Remainder),
    /// The writer is gone: the program ends, or it died.
    Died,
}

/// A transfer.
pub(super) struct Transfer<'a> {
    pub(super) fills: &'a Fills,
    pub(super) archive: Arc<Archive>,
    /// In whose name more may be asked for.
    pub(super) waiters: Arc<Waiters>,
    pub(super) identity: Identity,
    /// Whether what has come is written down for the next larder.
    pub(super) noted: bool,
}

impl Transfer<'_> {
    /// Brings what was claimed: out of a body that has begun to come, or of one that is asked for.
    pub(super) async fn run(self, claim: ChunkClaim, incoming: Option<Incoming>) -> Ended {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let left = claim.left();
        let writer =
            Writer { store: Arc::clone(&self.fills.deps.store), claim, noted: self.noted, stop: None };
        let writing = crate::base::rt::spawn_blocking(move || writer.write(receiver));
        let feed = Feed {
            backoff: Backoff::new(self.fills.deps.upstream.resume_timeout()),
            begun: left.start,
            at: left.start,
            reached: left.start,
            end: (left.end < u64::MAX).then_some(left.end),
            sender,
            transfer: &self,
        };
        let end = feed.run(incoming).await;
        match writing.await {
            Ok(Writer { claim, stop: None, .. }) => match end {
                Fed::All => Ended::All(claim),
                Fed::Lost(lost) => Ended::Lost(claim, lost),
                // It takes no more only where it says why.
                Fed::Refused(..) => Ended::Lost(claim, Lost::GivenUp),
            },
            Ok(Writer { claim, stop: Some(stop), .. }) => stop.ended(claim, end),
            Err(_) => Ended::Died,
        }
    }
}

impl Stop {
    fn ended(self, claim: ChunkClaim, fed: Fed) -> Ended {
        match (self.error, fed) {
            (error @ (Error::TooLong | Error::TooShort | Error::OtherBytes), _) => Ended::Wrong(claim, error),
            (error, Fed::Refused(frame, body)) if !self.is_seamed => {
                let unwritten = self.unwritten.into_iter().chain([frame]).collect::<Vec<_>>();
                Ended::Full(claim, error, remainder(unwritten.into_iter(), Some(body)))
            }
            (error, Fed::All) if !self.is_seamed => {
                Ended::Full(claim, error, remainder(self.unwritten.into_iter(), None))
            }
            (error, _) => Ended::Wrong(claim, error),
        }
    }
}

/// What the writer couldn't take, piece by piece: what was read already, then the body itself.
fn remainder(mut unwritten: std::vec::IntoIter<Bytes>, body: Option<Fetched>) -> Remainder {
    Remainder::new(async move {
        let Some(piece) = unwritten.next() else {
            let mut body = body?;
            let piece = match body.frame().await? {
                Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
                Err(error) => Err(io::Error::other(error)),
            };
            return Some((piece, Some(remainder(unwritten, Some(body)))));
        };
        Some((Ok(piece), Some(remainder(unwritten, body))))
    })
}

/// From the network to the writer.
struct Feed<'a> {
    backoff: Backoff,
    /// Where the present body began, where its next byte belongs, and how far any body has come.
    begun: u64,
    at: u64,
    reached: u64,
    /// Where what was claimed ends, if that is known.
    end: Option<u64>,
    sender: mpsc::Sender<Item>,
    transfer: &'a Transfer<'a>,
}

/// How the feeding ended.
enum Fed {
    All,
    Lost(Lost),
    /// The writer took no more: not this frame, and what follows it in the body.
    Refused(Bytes, Fetched),
}

/// How a body ended.
enum Poured {
    /// Where it should.
    Whole,
    /// Before.
    Cut,
    Refused(Bytes),
}

impl Feed<'_> {
    /// The sender goes with it: the writer ends when all is fed.
    async fn run(mut self, incoming: Option<Incoming>) -> Fed {
        let mut incoming = match incoming {
            Some(incoming) => incoming,
            None => match Box::pin(self.ask(false)).await {
                Ok(incoming) => incoming,
                Err(lost) => return Fed::Lost(lost),
            },
        };
        loop {
            match self.pour(&mut incoming).await {
                Poured::Whole => return Fed::All,
                Poured::Refused(frame) => return Fed::Refused(frame, incoming.body),
                Poured::Cut => {}
            }
            incoming = match Box::pin(self.ask(true)).await {
                Ok(incoming) => incoming,
                Err(lost) => return Fed::Lost(lost),
            };
            if self.sender.send(Item::Seam(self.at)).await.is_err() {
                return Fed::Refused(Bytes::new(), incoming.body);
            }
        }
    }

    /// Hands a body on to the writer.
    async fn pour(&mut self, incoming: &mut Incoming) -> Poured {
        let mut next = Some(std::mem::take(&mut incoming.first)).filter(|first| !first.is_empty());
        loop {
            if self.is_full() {
                return Poured::Whole;
            }
            let frame = match next.take() {
                Some(frame) => Some(Ok(frame)),
                None => incoming
                    .body
                    .frame()
                    .await
                    .map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())),
            };
            match frame {
                Some(Ok(frame)) => {
                    self.transfer.fills.deps.metrics.fetched(to_u64(frame.len()));
                    let frame = self.wanted(frame, &mut incoming.skip);
                    self.came(to_u64(frame.len()));
                    if let Err(mpsc::error::SendError(Item::Frame(frame))) =
                        self.sender.send(Item::Frame(frame)).await
                    {
                        return Poured::Refused(frame);
                    }
                }
                ended => return self.ended(ended.and_then(Result::err).as_ref()),
            }
        }
    }

    /// Whether a part has come as a whole. Of an archive's own body the end is waited for: it may be longer than it said.
    fn is_full(&self) -> bool {
        matches!(self.transfer.identity, Identity::Part { .. }) && self.end == Some(self.at)
    }

    /// What is wanted of a frame: not what lies before it in the body, nor, of a part, what lies behind it.
    fn wanted(&self, mut frame: Bytes, skip: &mut u64) -> Bytes {
        let over = to_usize(*skip).min(frame.len());
        *skip -= to_u64(over);
        frame = frame.split_off(over);
        if let (Identity::Part { .. }, Some(end)) = (&self.transfer.identity, self.end) {
            frame.truncate(to_usize(end.saturating_sub(self.at)));
        }
        frame
    }

    /// Bytes have come; those that were there before are no progress.
    fn came(&mut self, bytes: u64) {
        self.at = self.at.saturating_add(bytes);
        if self.at > self.reached {
            self.reached = self.at;
            self.backoff.progress();
        }
    }

    fn ended(&self, error: Option<&upstream::Error>) -> Poured {
        if let Some(error) = error {
            tracing::info!(error = error.chain(), at = self.at, "a transfer broke off");
            self.transfer.fills.deps.metrics.upstream_error(error.kind().as_str());
        }
        let delimited = match self.transfer.identity {
            Identity::Beginning { delimited, .. } => delimited,
            Identity::Part { .. } => true,
        };
        let ended = error.is_none_or(|error| !delimited && error.is_bare_close());
        let whole = ended && self.end.is_none_or(|end| self.at >= end);
        if whole { Poured::Whole } else { Poured::Cut }
    }

    /// Where to ask from: a little before the end of what is there, but less than what came last.
    fn from(&self) -> u64 {
        let overlap = self.reached.saturating_sub(self.begun) / 2;
        self.reached - overlap.min(OVERLAP)
    }

    /// Asks for what is missing, in the name of whoever waits for it; `again`: after a cut, so that it waits for its turn.
    async fn ask(&mut self, again: bool) -> Result<Incoming, Lost> {
        let can_be_told = match self.transfer.identity {
            Identity::Beginning { can_be_told, .. } => can_be_told,
            Identity::Part { .. } => true,
        };
        let end = self.end.filter(|_| can_be_told).ok_or(Lost::GivenUp)?;
        let from = self.from().min(end.saturating_sub(1));
        let mut again = again;
        loop {
            if again {
                self.wait().await?;
            }
            match self.ask_once(from, end, again).await? {
                Some(incoming) => {
                    if again {
                        self.count(Resume::Resumed);
                    }
                    return Ok(incoming);
                }
                None => again = true,
            }
        }
    }

    async fn wait(&mut self) -> Result<(), Lost> {
        let now = self.transfer.fills.deps.clock.now();
        let wait = self.backoff.next(now, chance()).ok_or_else(|| self.give_up())?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn give_up(&self) -> Lost {
        self.count(Resume::GivenUp);
        Lost::GivenUp
    }

    fn count(&self, how: Resume) {
        self.transfer.fills.deps.metrics.resume(how);
    }

    /// One question; `None`: another time perhaps.
    async fn ask_once(&mut self, from: u64, end: u64, again: bool) -> Result<Option<Incoming>, Lost> {
        let Transfer { fills, archive, waiters, identity, .. } = self.transfer;
        let Some((turn, requester)) = waiters.turn() else {
            return Err(self.give_up());
        };
        let facts = archive.facts();
        let request = match identity {
            Identity::Beginning { validator, .. } => {
                ByteRequest::part(&requester, Span::From(from), Insists::Yes)
                    .more_of(&facts, validator.as_ref())
            }
            // Whom GitLab can still send to its store doesn't wait for one that fails.
            Identity::Part { insists } => {
                let insists = if again { Insists::Yes } else { *insists };
                ByteRequest::part(&requester, Span::Between(from, end), insists)
            }
        };
        let insists = request.insists;
        match fills.deps.origin.fetch(request).await {
            Ok(response) => self.accept(response, from).map(Some),
            Err(NoBytes::NoPart | NoBytes::Changed) => Err(self.is_another()),
            Err(NoBytes::Refused(_)) => {
                waiters.refused(&turn);
                // Who asks for a part is alone, and has his answer.
                if matches!(identity, Identity::Part { .. }) { Err(Lost::GivenUp) } else { Ok(None) }
            }
            Err(NoBytes::StoreDown | NoBytes::StoreRefused) if insists == Insists::No => Err(Lost::GivenUp),
            Err(NoBytes::Later | NoBytes::StoreDown | NoBytes::StoreRefused | NoBytes::Unanswered(_)) => {
                Ok(None)
            }
        }
    }

    /// A body that goes on with what is there.
    fn accept(&mut self, response: OriginResponse, from: u64) -> Result<Incoming, Lost> {
        let (at, response) = match self.transfer.identity {
            Identity::Beginning { .. } => (response.range.start, response),
            Identity::Part { .. } => match response.is_of(&self.transfer.archive.facts()) {
                // A source that gives no parts any more: all of it, of which what isn't wanted is let go of.
                Some(true) => (from, response.from(from)),
                Some(false) if !response.is_whole() => return Err(Lost::Changed),
                Some(false) | None => return Err(Lost::Unproven),
            },
        };
        (self.begun, self.at) = (at, at);
        Ok(Incoming { first: Bytes::new(), body: response.body, skip: response.skip })
    }

    fn is_another(&self) -> Lost {
        if matches!(self.transfer.identity, Identity::Part { .. }) {
            return Lost::Unproven;
        }
        tracing::warn!(
            key = %self.transfer.archive.key(),
            "a transfer can't be resumed: GitLab has another archive by now, or gives no part of it"
        );
        self.count(Resume::Changed);
        Lost::Changed
    }
}

/// Any number; without random bytes, attempts are only less spread.
fn chance() -> u32 {
    let mut random = [0; 4];
    let _ = SystemRandom::new().fill(&mut random);
    u32::from_ne_bytes(random)
}

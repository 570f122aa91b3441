//! A transfer that broke off, taken up where it stopped.

use http::header::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};

use super::part::{Denied, Part};
use super::patience::Patience;
use super::{Arrival, Fills};
use crate::grant::judge::Span;
use crate::telemetry::metrics::Resume;
use crate::upstream::Fetched;

/// How many bytes before the cut are fetched again at most, to be compared with those that are there: where nothing else
/// tells, the two halves are of one archive only if they fit together.
const OVERLAP: u64 = 64 << 10;

/// A transfer that may break off.
pub(super) struct Line {
    patience: Patience,
    /// What the bytes so far are known by, where they came from.
    validator: Option<HeaderValue>,
    /// Where the present body began, where its next byte belongs, and how far any body has come.
    begun: u64,
    at: u64,
    reached: u64,
}

/// Where the transfer goes on.
pub(super) struct Resumed {
    /// The place of the new body's first byte.
    pub(super) at: u64,
    pub(super) body: Fetched,
}

/// Why it doesn't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It isn't the same archive any more.
    Changed,
    /// The rest can't be had in time.
    GivenUp,
}

impl Line {
    pub(super) const fn new(patience: Patience, validator: Option<HeaderValue>) -> Self {
        Self { patience, validator, begun: 0, at: 0, reached: 0 }
    }

    /// Bytes have come; those that were there before are no progress.
    pub(super) const fn came(&mut self, bytes: u64) {
        self.at = self.at.saturating_add(bytes);
        if self.at > self.reached {
            self.reached = self.at;
            self.patience.progress();
        }
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Where to ask from: a little before the end of what is there, but less than what came last.
    fn from(&self) -> u64 {
        let overlap = self.reached.saturating_sub(self.begun) / 2;
        self.reached - overlap.min(OVERLAP)
    }
}

impl Fills {
    /// Asks for the rest of an archive whose transfer has broken off, in the name of whoever waits for it.
    pub(super) async fn resume(&self, arrival: &Arrival, line: &mut Line) -> Result<Resumed, Lost> {
        let length = arrival.facts().length.filter(|_| arrival.can_be_told()).ok_or(Lost::GivenUp)?;
        let from = line.from().min(length.saturating_sub(1));
        loop {
            let Some(wait) = line.patience.next(self.means.clock.now(), chance()) else {
                self.means.metrics.resume(Resume::GivenUp);
                return Err(Lost::GivenUp);
            };
            tokio::time::sleep(wait).await;
            let Some((turn, asker)) = arrival.waiters().turn() else {
                self.means.metrics.resume(Resume::GivenUp);
                return Err(Lost::GivenUp);
            };
            match self.ask_part(&asker, Span::From(from), line.validator.as_ref()).await {
                Ok(part) if part.is_of_another(arrival.facts(), line.validator.as_ref()) => {
                    return Err(self.changed(arrival));
                }
                Ok(Part { range, body, .. }) => {
                    self.means.metrics.resume(Resume::Resumed);
                    (line.begun, line.at) = (range.start, range.start);
                    return Ok(Resumed { at: range.start, body });
                }
                Err(Denied::NoPart) => return Err(self.changed(arrival)),
                Err(Denied::Refused) => arrival.waiters().refused(&turn),
                Err(Denied::Later) => {}
            }
        }
    }

    fn changed(&self, arrival: &Arrival) -> Lost {
        tracing::warn!(
            key = %arrival.draft().key(),
            "a transfer can't be resumed: GitLab has another archive by now, or gives no part of it"
        );
        self.means.metrics.resume(Resume::Changed);
        Lost::Changed
    }
}

/// Any number; without random bytes, attempts are only less spread.
pub(super) fn chance() -> u32 {
    let mut random = [0; 4];
    let _ = SystemRandom::new().fill(&mut random);
    u32::from_ne_bytes(random)
}

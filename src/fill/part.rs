//! A part of an archive, asked for in a caller's name.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::{StatusCode, header};
use http_body_util::BodyExt;

use super::Fills;
use crate::access::Caller;
use crate::fields::Kept;
use crate::grant::judge::{self, Parted, Span};
use crate::grant::{Facts, Location, Relation, Yes};
use crate::num::{to_u64, to_usize};
use crate::route::Question;
use crate::upstream::Fetched;

/// In whose name larder asks, and with which question.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The caller.
    pub caller: Caller,
    /// His question about the whole archive.
    pub question: Question,
}

/// Bytes of an archive on their way.
pub(super) struct Part {
    pub(super) yes: Yes,
    /// What GitLab and its object store said of the archive.
    pub(super) facts: Facts,
    /// What clients get to see of that.
    pub(super) kept: Kept,
    /// What a question for more of the same can be made conditional on.
    pub(super) validator: Option<HeaderValue>,
    /// Which bytes they are: those that were asked for, or all.
    pub(super) range: Range<u64>,
    /// Bytes at the beginning of the body that aren't wanted.
    pub(super) skip: u64,
    pub(super) body: Fetched,
}

/// Why there is no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// GitLab refuses this caller.
    Refused,
    /// GitLab or its store couldn't be asked, or is busy: another time perhaps.
    Later,
    /// There is no such part: what GitLab has is shorter, or its store gives no parts.
    NoPart,
}

impl Fills {
    /// Asks GitLab in a caller's name for some bytes of an archive, and follows its redirect to the object store.
    /// `validator` is what the bytes are known by so far: if they have changed, all that there is now comes instead.
    pub(super) async fn ask_part(
        &self,
        asker: &Asker,
        span: Span,
        validator: Option<&HeaderValue>,
    ) -> Result<Part, Denied> {
        let range = span.range_value().ok_or(Denied::NoPart)?;
        let mut fields = asker.caller.sent();
        fields.insert(header::RANGE, range.clone());
        fields.extend(validator.map(|validator| (header::IF_RANGE, validator.clone())));
        let means = &self.means;
        let answer =
            means.upstream.fetch(&asker.question.target, fields).await.map_err(|e| self.later(&e))?;
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            means.access.revoke(&asker.caller, asker.question.target.query());
        }
        let rules = means.access.rules();
        let part = match judge::open_part(head.status, &head.headers, rules, asker.caller.host()) {
            Parted::Body(yes, facts, range) => {
                let kept = Kept::of(&head.headers, &head.headers);
                Part { yes, facts, kept, validator: judge::validator(&head.headers), range, skip: 0, body }
            }
            Parted::Elsewhere(yes, location) => {
                self.ask_store(yes, &location, &head.headers, range, validator).await?
            }
            Parted::Neither => return Err(denied(head.status)),
        };
        let length = part.facts.length.unwrap_or_default();
        if span.is_met_by(&part.range, length) { Ok(part) } else { Err(Denied::NoPart) }
    }

    async fn ask_store(
        &self,
        yes: Yes,
        location: &Location,
        led_by: &HeaderMap,
        range: HeaderValue,
        validator: Option<&HeaderValue>,
    ) -> Result<Part, Denied> {
        let asked = self.means.upstream.fetch_object(location.uri(), Some(range), validator.cloned()).await;
        let (head, body) = asked.map_err(|error| self.later(&error))?.into_parts();
        let Some((facts, range)) = judge::object_part(head.status, &head.headers, location) else {
            // A store that refuses says that a signature has expired: GitLab makes another one.
            let refused = denied(head.status) == Denied::Refused;
            return Err(if refused { Denied::Later } else { denied(head.status) });
        };
        let kept = Kept::of(&head.headers, led_by);
        Ok(Part { yes, facts, kept, validator: judge::validator(&head.headers), range, skip: 0, body })
    }

    /// Asks for these bytes of an archive of `length` bytes; `None` if they can't be had. What comes must still be
    /// compared with their checksum.
    pub async fn fetch_part(&self, asker: &Asker, range: Range<u64>, length: u64) -> Option<Bytes> {
        let part = self.ask_part(asker, Span::Between(range.start, range.end), None).await.ok()?;
        let fits = part.facts.length == Some(length) && part.range == range;
        if fits { part.collect().await } else { None }
    }

    pub(super) fn later(&self, error: &crate::upstream::Error) -> Denied {
        self.means.metrics.upstream_error(error.kind().as_str());
        Denied::Later
    }
}

impl Part {
    /// Whether these are bytes of the archive with `facts`, as far as larder asks for a proof anywhere; `None`: nothing
    /// that came with them says so.
    pub(super) fn is_of(&self, facts: &Facts) -> Option<bool> {
        match facts.relate_part(&self.facts) {
            Relation::Same => Some(true),
            Relation::Different => Some(false),
            Relation::Unproven => None,
        }
    }

    /// Whether all of an archive came, whatever was asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.range.start == 0 && self.facts.length == Some(self.range.end)
    }

    /// Whether these are bytes of another archive than the one with `facts`, whose answers had `validator`.
    pub(super) fn is_of_another(&self, facts: &Facts, validator: Option<&HeaderValue>) -> bool {
        let differ = validator.zip(self.validator.as_ref()).is_some_and(|(one, other)| one != other);
        let moved = facts.object.is_some() != self.facts.object.is_some();
        differ || moved || facts.relate(&self.facts) == Relation::Different
    }

    /// The same from a byte on.
    pub(super) fn from(mut self, at: u64) -> Self {
        self.skip = at.saturating_sub(self.range.start);
        self
    }

    /// All of its bytes; `None` if they don't come.
    pub(super) async fn collect(self) -> Option<Bytes> {
        let wanted = to_usize(self.range.end - self.range.start);
        let (mut body, mut bytes) = (self.body, BytesMut::with_capacity(wanted));
        while let Some(frame) = body.frame().await {
            let data = frame.ok()?.into_data().unwrap_or_default();
            if bytes.len() + data.len() > wanted {
                return None;
            }
            bytes.extend_from_slice(&data);
        }
        (to_u64(bytes.len()) == to_u64(wanted)).then(|| bytes.freeze())
    }
}

/// What a status says that brings no bytes.
fn denied(status: StatusCode) -> Denied {
    match status {
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::OK | StatusCode::PARTIAL_CONTENT => Denied::NoPart,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::NOT_MODIFIED => {
            Denied::Later
        }
        // A sign-in page, a moved project: this caller's question brings no bytes, however often it is asked.
        status if status.is_client_error() || status.is_redirection() => Denied::Refused,
        _ => Denied::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_bad_moment() {
        for (status, expected) in [
            (401, Denied::Refused),
            (403, Denied::Refused),
            (404, Denied::Refused),
            (408, Denied::Later),
            (429, Denied::Later),
            (500, Denied::Later),
            (502, Denied::Later),
            (301, Denied::Refused),
            (302, Denied::Refused),
            (304, Denied::Later),
            (416, Denied::NoPart),
            (200, Denied::NoPart),
        ] {
            assert_eq!(denied(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}

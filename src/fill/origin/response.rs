//! Bytes of an archive on their way.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http_body_util::BodyExt;

use super::MoreOf;
use crate::base::num::{to_u64, to_usize};
use crate::gitlab::grant::judge;
use crate::gitlab::grant::{Facts, Relation, Yes};
use crate::http::fields::{self, StoredHeaders};
use crate::upstream::{Error, Fetched};
use crate::zip::MAGIC;

/// An answer that brings bytes of an archive.
#[derive(Debug)]
pub(crate) struct OriginResponse {
    pub(in crate::fill) yes: Yes,
    /// What GitLab and its object store said of the archive.
    pub(in crate::fill) facts: Facts,
    /// What clients get to see of that.
    pub(in crate::fill) kept: StoredHeaders,
    /// What belonged to GitLab's own answer alone.
    pub(in crate::fill) said: HeaderMap,
    /// What a request for more of the same can be made conditional on.
    pub(in crate::fill) validator: Option<HeaderValue>,
    /// Which bytes they are: those that were asked for, or all; without end where nobody said how many.
    pub(in crate::fill) range: Range<u64>,
    /// Bytes at the beginning of the body that aren't wanted.
    pub(in crate::fill) skip: u64,
    /// The head of the answer that has the body.
    pub(in crate::fill) head: Parts,
    pub(in crate::fill) body: Fetched,
}

impl OriginResponse {
    /// Of an answer, and of GitLab's that led to it, if that is another one.
    pub(in crate::fill) fn new(
        yes: Yes,
        facts: Facts,
        range: Range<u64>,
        (head, body): (Parts, Fetched),
        led_by: Option<&HeaderMap>,
    ) -> Self {
        let gitlabs = led_by.unwrap_or(&head.headers);
        let (kept, said) = (StoredHeaders::of(&head.headers, gitlabs), fields::fresh(gitlabs));
        let validator = judge::validator(&head.headers);
        Self { yes, facts, kept, said, validator, range, skip: 0, head, body }
    }

    /// Whether the body's end can be told from a cut: it is part of its framing (RFC 9112, 6.3), as a length, or a last
    /// chunk.
    pub(in crate::fill) fn is_delimited(&self) -> bool {
        let fields = &self.head.headers;
        fields.contains_key(header::CONTENT_LENGTH) || fields.contains_key(header::TRANSFER_ENCODING)
    }

    /// Whether these are bytes of the archive with `facts`, as far as larder asks for a proof anywhere; `None`: nothing
    /// that came with them says so.
    pub(in crate::fill) fn is_of(&self, facts: &Facts) -> Option<bool> {
        match facts.relate_part(&self.facts) {
            Relation::Same => Some(true),
            Relation::Different => Some(false),
            Relation::Unproven => None,
        }
    }

    /// Whether all of an archive came, whatever was asked for.
    pub(in crate::fill) fn is_whole(&self) -> bool {
        self.range.start == 0 && self.facts.length == Some(self.range.end)
    }

    /// Whether these are bytes of another archive than the one that is known.
    pub(super) fn is_of_another(&self, known: MoreOf<'_>) -> bool {
        let differ = known.validator.zip(self.validator.as_ref()).is_some_and(|(one, other)| one != other);
        let moved = known.facts.object.is_some() != self.facts.object.is_some();
        differ || moved || known.facts.relate(&self.facts) == Relation::Different
    }

    /// The same from a byte on.
    pub(in crate::fill) fn from(mut self, at: u64) -> Self {
        self.skip = at.saturating_sub(self.range.start);
        self
    }

    /// All of its bytes; `None` if they don't come.
    pub(in crate::fill) async fn collect(self) -> Option<Bytes> {
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

/// The first bytes of a body, as far as they come, by which an archive is known; and with what it broke off before that.
pub(in crate::fill) async fn first_bytes(body: &mut Fetched) -> (Bytes, Option<Error>) {
    let mut first = BytesMut::new();
    while first.len() < MAGIC {
        match body.frame().await {
            Some(Ok(frame)) => first.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(error)) => return (first.freeze(), Some(error)),
            None => break,
        }
    }
    (first.freeze(), None)
}

//! The one way to ask for bytes of an archive.
//!
//! Two steps. [`ArchiveOrigin::locate`] asks whether a caller may have an archive: its yes comes with the bytes
//! themselves, or with the place in a store where they are. [`ArchiveOrigin::read`] reads them there, as often as it
//! takes and several at once, until the place's signature has expired. Nothing can be read but from a [`StoreSource`],
//! and no such source is made without GitLab's [`Yes`].

mod gitlab;
mod response;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::response::Parts;

pub(crate) use gitlab::GitLabOrigin;
pub(crate) use response::OriginResponse;
pub(super) use response::first_bytes;

use crate::access::Caller;
use crate::base::num::to_u64;
use crate::gitlab::grant::judge::Span;
use crate::gitlab::grant::{AskedPath, Facts, Location, Yes};
use crate::gitlab::route::Question;
use crate::upstream::{Error, Fetched, Insists};
use crate::zip::MAGIC;

/// In whose name larder asks, and with which question.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    /// The caller.
    pub caller: Caller,
    /// Its question about the whole archive.
    pub question: Question,
}

/// A request for bytes of an archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteRequest<'a> {
    /// In whose name.
    pub requester: &'a Requester,
    /// Which bytes; `None`: all.
    pub span: Option<Span>,
    /// The archive of which some bytes are here already: what comes must be more of it.
    pub more_of: Option<MoreOf<'a>>,
    /// Whether a store that was found failing is asked all the same.
    pub insists: Insists,
}

/// What an archive is known by of which more bytes are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MoreOf<'a> {
    /// What was said of it.
    pub facts: &'a Facts,
    /// The validator that its bytes came with (`If-Range`).
    pub validator: Option<&'a HeaderValue>,
}

/// GitLab's answer for one client: its head, what was read of its body already, and the rest.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// Status and fields.
    pub head: Parts,
    /// The first bytes, if any were read.
    pub first: Bytes,
    /// The rest.
    pub rest: Fetched,
}

/// A yes, and where the bytes are.
#[derive(Debug)]
pub(crate) enum ByteSource {
    /// In the answer: these, and once.
    Answer(Box<OriginResponse>),
    /// In a store. The redirect that led there is for a client that takes it.
    Store(Box<StoreSource>, Box<Relayed>),
}

/// A place in a store to which a yes has led. It may be read by several at once.
#[derive(Debug, Clone)]
pub(crate) struct StoreSource {
    yes: Yes,
    location: Location,
    /// The fields of the answer that led there.
    led_by: HeaderMap,
    facts: Facts,
}

/// Why no bytes come.
#[derive(Debug)]
pub(crate) enum NoBytes {
    /// GitLab's own answer to this caller, word for word. To a request for all that is each one that brings no bytes.
    Refused(Box<Relayed>),
    /// It is another archive by now.
    Changed,
    /// There is no such part: what GitLab has is shorter, or its store gives no parts.
    NoPart,
    /// GitLab or its store is busy: another time perhaps.
    Later,
    /// The store couldn't be asked: another time perhaps.
    StoreDown,
    /// The store refuses. Its place may have expired: GitLab knows a new one.
    StoreRefused,
    /// GitLab couldn't be asked: another time perhaps.
    Unanswered(Error),
}

/// What comes of a step.
pub(crate) type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<T, NoBytes>> + Send + 'a>>;

/// Who has archives, and says who may have them.
pub(crate) trait ArchiveOrigin: fmt::Debug + Send + Sync {
    /// Asks whether a caller may have an archive, and where the requested bytes of it are.
    fn locate<'a>(&'a self, request: ByteRequest<'a>) -> Asking<'a, ByteSource>;

    /// Reads bytes where a yes has led.
    fn read<'a>(&'a self, from: &'a StoreSource, request: ByteRequest<'a>) -> Asking<'a, OriginResponse>;

    /// The body of an answer from there has not begun in time.
    fn fell_silent(&self, from: &StoreSource);
}

impl dyn ArchiveOrigin {
    /// Both steps: the requested bytes, or all of the archive they are of.
    pub(crate) async fn fetch(&self, request: ByteRequest<'_>) -> Result<OriginResponse, NoBytes> {
        match self.locate(request).await? {
            ByteSource::Answer(response) => request.accept(*response),
            ByteSource::Store(from, _) => self.read_as_asked(&from, request).await,
        }
    }

    /// The second step alone.
    pub(crate) async fn read_as_asked(
        &self,
        from: &StoreSource,
        request: ByteRequest<'_>,
    ) -> Result<OriginResponse, NoBytes> {
        request.accept(self.read(from, request).await?)
    }
}

impl Requester {
    /// How GitLab is asked.
    pub(super) fn sent(&self) -> AskedPath<'_> {
        AskedPath::new(self.caller.host(), &self.question.target)
    }
}

impl<'a> ByteRequest<'a> {
    /// For the whole archive.
    pub(crate) const fn all(requester: &'a Requester) -> Self {
        Self { requester, span: None, more_of: None, insists: Insists::No }
    }

    /// For a part of it.
    pub(crate) const fn part(requester: &'a Requester, span: Span, insists: Insists) -> Self {
        Self { requester, span: Some(span), more_of: None, insists }
    }

    /// For its first bytes, by which an archive is known. A HEAD asks for them as well: a place that is signed for a GET
    /// answers to nothing else.
    pub(crate) fn beginning(requester: &'a Requester) -> Self {
        Self::part(requester, Span::Between(0, to_u64(MAGIC)), Insists::No)
    }

    /// The same, for more of an archive of which some is here.
    #[must_use]
    pub(crate) const fn more_of(self, facts: &'a Facts, validator: Option<&'a HeaderValue>) -> Self {
        Self { more_of: Some(MoreOf { facts, validator }), ..self }
    }

    /// The values of `Range` and `If-Range`; an error where there is nothing to ask for.
    fn conditions(&self) -> Result<(Option<HeaderValue>, Option<HeaderValue>), NoBytes> {
        let range = self.span.map(|span| span.range_value().ok_or(NoBytes::NoPart)).transpose()?;
        Ok((range, self.more_of.and_then(|known| known.validator).cloned()))
    }

    /// What came, if it answers to this.
    fn accept(&self, response: OriginResponse) -> Result<OriginResponse, NoBytes> {
        let length = response.facts.length.unwrap_or_default();
        if self.span.is_some_and(|span| !span.is_met_by(&response.range, length)) {
            return Err(NoBytes::NoPart);
        }
        if self.more_of.is_some_and(|known| response.is_of_another(known)) {
            return Err(NoBytes::Changed);
        }
        Ok(response)
    }
}

impl StoreSource {
    /// The place to which GitLab's answer with these fields has led a caller.
    pub(crate) fn new(yes: Yes, location: Location, led_by: HeaderMap) -> Self {
        let facts = Facts { object: Some(location.object()), ..Facts::default() };
        Self { yes, location, led_by, facts }
    }
}

impl ByteSource {
    /// What is known of the archive before any byte of it.
    pub(crate) const fn facts(&self) -> &Facts {
        match self {
            Self::Answer(response) => &response.facts,
            Self::Store(from, _) => &from.facts,
        }
    }
}

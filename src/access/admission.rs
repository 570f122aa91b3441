//! What is asked, and what comes of it.

use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, header};

use super::credentials::CallerCredentials;
use crate::base::clock::Moment;
use crate::base::key::ArchiveId;
use crate::gitlab::grant::storage::Override;
use crate::gitlab::grant::{Epoch, Face, Facts, Grant, Location, RecentCallers, Relation, Yes};
use crate::http::fields::StoredHeaders;
use crate::upstream;

/// What a caller asks to be let in to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// The archive.
    pub id: ArchiveId,
    /// What is known of it.
    pub facts: &'a Facts,
    /// Other faces under which GitLab shows it.
    pub faces: &'a [Face],
    /// Who was let in last.
    pub visitors: &'a RecentCallers,
    /// Whether it is known how GitLab describes it, or the entry, on this route; if not, GitLab is asked in a way that
    /// tells: about an entry also where a grant is remembered.
    pub described: bool,
    /// The length of the entry that was asked for, by the archive's directory.
    pub entry: Option<u64>,
}

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The caller may have the candidate.
    Granted(Granted),
    /// The caller may have what GitLab has now, which isn't proven to be the candidate.
    Other(Mismatch),
    /// GitLab refuses; its answer is the caller's.
    Refused(Refusal),
    /// The caller's own request must be passed on as it is.
    NotOurs,
    /// GitLab couldn't be asked.
    Down(Arc<upstream::Error>),
    /// Something happened to the job while GitLab was asked: look again.
    Overtaken,
}

/// What GitLab has now, as far as its answer to a probe tells.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// What it is to the candidate.
    pub relation: Relation,
    /// Its facts.
    pub facts: Facts,
    /// Where it is, if in an object store, and the yes to what lies there.
    pub location: Option<(Yes, Location)>,
    /// The answer's fields.
    pub fields: HeaderMap,
}

impl Mismatch {
    /// Whether GitLab spoke of an archive, and not of a page that it, or a gate before it, shows to anybody: it led to an
    /// object store, or gave a part, or all of something that is no page.
    pub(crate) fn shows_archive(&self) -> bool {
        let pages: [&[u8]; 3] = [b"text/html", b"application/xhtml", b"application/json"];
        let kind = self.fields.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
        let is_page = kind.is_some_and(|kind| pages.iter().any(|page| kind.starts_with(page)));
        self.location.is_some() || self.fields.contains_key(header::CONTENT_RANGE) || !is_page
    }
}

/// An admission.
#[derive(Debug)]
pub(crate) struct Granted {
    /// What opens the archive.
    pub grant: Arc<Grant>,
    /// What GitLab said just now, if it was asked just now.
    pub said: Option<ProbeInfo>,
    /// What GitLab said to this caller with a yes that was remembered, of [whose pages may read](crate::http::fields::readers)
    /// what it opens.
    pub readers: Option<Arc<HeaderMap>>,
}

/// What GitLab said besides yes.
#[derive(Debug)]
pub(crate) struct ProbeInfo {
    /// All facts known of the archive now.
    pub facts: Facts,
    /// How it describes the archive on this route.
    pub described: Described,
    /// The type of the very entry that was asked about, if GitLab said it.
    pub kind: Option<HeaderValue>,
    /// The fields that belong to this answer alone.
    pub fresh: HeaderMap,
}

/// How GitLab describes an archive on one route.
#[derive(Debug, Clone)]
pub(crate) enum Described {
    /// It doesn't say now: a 304.
    Silent,
    /// By these fields.
    By(StoredHeaders),
    /// As its object store does, but for what the redirect's query asks the store to say instead, and for what the
    /// redirect itself says about caching and protection.
    Elsewhere(Override, StoredHeaders),
}

/// A refusal, word for word.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// GitLab's status and fields, and what hyper noted beside them.
    pub head: Parts,
    /// GitLab's body.
    pub body: Bytes,
    /// Whether GitLab said how long that is.
    pub sized: bool,
    /// GitLab says of something that this caller was let in to that it isn't there.
    pub gone: bool,
}

/// When a question was about to be sent, and with what.
#[derive(Debug, Clone)]
pub(crate) struct AskedAt {
    /// The clock.
    pub at: Moment,
    /// The state of things.
    pub epoch: Epoch,
    /// The caller's credentials.
    pub(super) held: CallerCredentials,
}

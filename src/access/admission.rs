//! What is asked, and what comes of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::clock::Moment;
use crate::fields::Kept;
use crate::grant::storage::Override;
use crate::grant::{Epoch, Facts, Grant, Location, Relation, Visitors};
use crate::key::ArchiveId;
use crate::upstream;

/// What a caller asks to be let in to.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The archive.
    pub id: ArchiveId,
    /// What is known of it.
    pub facts: &'a Facts,
    /// Who was let in last.
    pub visitors: &'a Visitors,
    /// Whether it is known how GitLab describes it on this route; if not, GitLab is asked in a way that tells.
    pub described: bool,
    /// The length of the entry that was asked for, by the archive's directory.
    pub entry: Option<u64>,
}

/// What came of asking.
#[derive(Debug)]
pub enum Admission {
    /// The caller may have the subject.
    Granted(Granted),
    /// The caller may have what GitLab has now, which isn't proven to be the subject.
    Other(Other),
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
pub struct Other {
    /// What it is to the subject.
    pub relation: Relation,
    /// Its facts.
    pub facts: Facts,
    /// Where it is, if in an object store.
    pub location: Option<Location>,
    /// The answer's fields.
    pub fields: HeaderMap,
}

/// An admission.
#[derive(Debug)]
pub struct Granted {
    /// What opens the archive.
    pub grant: Arc<Grant>,
    /// What GitLab said just now, if it was asked just now.
    pub said: Option<Said>,
}

/// What GitLab said besides yes.
#[derive(Debug)]
pub struct Said {
    /// All facts known of the archive now.
    pub facts: Facts,
    /// How it describes the archive on this route.
    pub described: Described,
    /// The fields that belong to this answer alone.
    pub fresh: HeaderMap,
}

/// How GitLab describes an archive on one route.
#[derive(Debug, Clone)]
pub enum Described {
    /// It doesn't say now: a 304.
    Silent,
    /// By these fields.
    By(Kept),
    /// As its object store does, but for what the redirect's query asks the store to say instead, and for what the
    /// redirect itself says about caching and protection.
    Elsewhere(Override, Kept),
}

/// A refusal, word for word.
#[derive(Debug)]
pub struct Refusal {
    /// GitLab's status.
    pub status: StatusCode,
    /// GitLab's fields.
    pub fields: HeaderMap,
    /// GitLab's body.
    pub body: Bytes,
    /// GitLab says of something that this caller was let in to that it isn't there.
    pub gone: bool,
}

/// When a question was about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The clock.
    pub at: Moment,
    /// The state of things.
    pub epoch: Epoch,
}

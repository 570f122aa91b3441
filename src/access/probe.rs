//! One question to GitLab, and those who may share its answer.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::Refusal;
use super::caller::Caller;
use super::credentials::CallerCredentials;
use crate::base::clock::{Clock, Moment};
use crate::base::key::ArchiveId;
use crate::base::num::to_usize;
use crate::base::secret::Fingerprint;
use crate::base::singleflight::Singleflight;
use crate::gitlab::grant::judge::{Condition, EntryCondition, Validator};
use crate::gitlab::grant::{self, Epoch};
use crate::http::Etag;
use crate::http::fields;
use crate::http::hop::Sent;
use crate::upstream::{self, Fetched, Upstream};

/// How much of an answer is read. An archive's tail is 1 KiB, unless more of it was asked for, and GitLab's refusals
/// are small; what is longer (a page, a whole archive where a part was asked for) is cut off with its connection.
const LONGEST: usize = 64 << 10;

/// What a question is asked with, and its answer judged by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Conditions {
    /// About an archive as a whole.
    Archive(Condition),
    /// About an entry.
    Entry(EntryCondition),
}

impl Conditions {
    /// A head with them.
    fn on(&self, head: Sent) -> Sent {
        let (range, validator) = match self {
            Self::Archive(Condition { validator, .. }) => {
                (self.range(), validator.as_ref().map(Etag::as_str))
            }
            Self::Entry(EntryCondition { validator, .. }) => {
                (None, validator.as_ref().map(Validator::as_str))
            }
        };
        let validator = validator.and_then(|validator| HeaderValue::from_str(validator).ok());
        head.range(range).if_none_match(validator)
    }

    fn range(&self) -> Option<HeaderValue> {
        match self {
            Self::Archive(condition) => condition.range_value(),
            Self::Entry(_) => None,
        }
    }

    fn longest(&self) -> usize {
        match self {
            Self::Archive(condition) => LONGEST.max(to_usize(condition.longest())),
            Self::Entry(_) => LONGEST,
        }
    }
}

/// GitLab's answer to a probe.
#[derive(Debug)]
pub(super) struct Probed {
    /// What it answers.
    pub(super) asked: Conditions,
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// What hyper noted beside the fields: their spelling, and the reason phrase.
    pub(super) extensions: Extensions,
    /// The whole body, if it was short.
    pub(super) body: Option<Bytes>,
    /// How it was framed.
    pub(super) framing: BodyLength,
    /// When it was sent.
    pub(super) asked_at: Moment,
    /// The state of things when it was sent.
    pub(super) epoch: Epoch,
}

impl Probed {
    pub(super) fn answer(&self) -> grant::Answer<'_> {
        grant::Answer { status: self.status, fields: &self.fields, body: self.body.as_deref() }
    }
}

/// How a body came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// Its length was said before.
    Sized,
    /// It wasn't.
    Unsized,
    /// In pieces, or with trailers: it can't be said again as it came.
    Pieces,
}

/// What is shared among those who ask the same.
type SharedAnswer = Result<Arc<Probed>, Arc<upstream::Error>>;

/// An answer as one caller gets it.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    probed: Arc<Probed>,
    /// Whether it was this very request that asked.
    own: bool,
}

impl Deref for Heard {
    type Target = Probed;

    fn deref(&self) -> &Probed {
        &self.probed
    }
}

impl Heard {
    /// The fields that belong to this answer, as far as this request may have them.
    pub(super) fn fresh(&self) -> HeaderMap {
        fields::fresh(&self.told())
    }

    /// The answer's fields as this request may have them: those for one request alone go to the one that asked.
    pub(super) fn told(&self) -> HeaderMap {
        if self.own { self.fields.clone() } else { fields::shared(&self.fields) }
    }

    /// The type of the entry that this very request asked about; another's may have been about another one.
    pub(super) fn kind(&self) -> Option<HeaderValue> {
        let is_of_it =
            self.own && self.status == StatusCode::OK && matches!(self.asked, Conditions::Entry(_));
        self.fields.get(header::CONTENT_TYPE).filter(|_| is_of_it).cloned()
    }

    /// The same as an answer for this request, if it can be given as it came.
    pub(super) fn refusal(&self, gone: bool) -> Option<Refusal> {
        let body = self.body.clone().filter(|_| self.framing != BodyLength::Pieces)?;
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = self.status;
        head.headers = self.told();
        head.extensions = self.extensions.clone();
        Some(Refusal { head, body, sized: self.framing == BodyLength::Sized, gone })
    }
}

pub(super) type ProbeResult = Result<Heard, Arc<upstream::Error>>;

/// Who asks, about which archive, and how: an answer is judged by the condition that it answers. Questions about two
/// entries of one archive are the same to GitLab.
type Same = (Fingerprint, Option<ArchiveId>, Option<Condition>);

/// A question.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Who asks what, as grants are remembered.
    pub(super) asking: Fingerprint,
    pub(super) caller: &'a Caller,
    /// The target that asks it.
    pub(super) target: &'a PathAndQuery,
    /// The archive that is held, if any.
    pub(super) held: Option<ArchiveId>,
    /// What the caller asks with.
    pub(super) credentials: CallerCredentials,
    /// How.
    pub(super) asked: Conditions,
    /// The state of things, read before.
    pub(super) epoch: Epoch,
    /// What the answer's body will be if the archive is the one held: one that is isn't kept a second time.
    pub(super) expected: Option<Bytes>,
}

/// Questions under way, so that one caller's many parallel downloads ask once. Bounded by the connections there are.
#[derive(Debug)]
pub(super) struct Probes {
    upstream: Arc<Upstream>,
    clock: Clock,
    /// Each since when it is asked.
    running: Singleflight<Same, SharedAnswer, Moment>,
}

impl Probes {
    pub(super) fn new(upstream: Arc<Upstream>, clock: Clock) -> Self {
        Self { upstream, clock, running: Singleflight::default() }
    }

    /// Asks, or waits for the answer to the same question of the same caller if that was sent less than `share` ago:
    /// it is then no older than a grant that may be remembered.
    pub(super) async fn ask(&self, ask: Ask<'_>, share: Duration) -> ProbeResult {
        let sending = Sending {
            upstream: Arc::clone(&self.upstream),
            asked: ask.asked,
            expected: ask.expected,
            head: ask.caller.sent(),
            from: ask.caller.address(),
            target: ask.target.clone(),
            asked_at: self.clock.now(),
            epoch: ask.epoch,
            _credentials: ask.credentials,
        };
        if share.is_zero() {
            let probed = sending.send().await?;
            return Ok(Heard { probed, own: true });
        }
        let condition = match &sending.asked {
            Conditions::Archive(condition) => Some(condition.clone()),
            Conditions::Entry(_) => None,
        };
        let (same, now) = ((ask.asking, ask.held, condition), sending.asked_at);
        let is_young = |asked_at: &Moment| now.since(*asked_at) < share;
        let (answer, own) = self.running.run(same, now, is_young, || sending.send());
        let probed = answer.word().await.unwrap_or_else(gone)?;
        Ok(Heard { probed, own })
    }
}

/// The task that asked has died; whoever waited is told that GitLab said nothing.
fn gone() -> SharedAnswer {
    Err(Arc::new(upstream::Error::unanswered()))
}

struct Sending {
    upstream: Arc<Upstream>,
    asked: Conditions,
    expected: Option<Bytes>,
    head: Sent,
    /// Whose turn it takes.
    from: IpAddr,
    target: PathAndQuery,
    asked_at: Moment,
    epoch: Epoch,
    /// Held until the answer is there, for whoever joins.
    _credentials: CallerCredentials,
}

impl Sending {
    async fn send(self) -> SharedAnswer {
        let head = self.asked.on(self.head);
        let response = self.upstream.probe(&self.target, head, self.from).await.map_err(Arc::new)?;
        let (parts, body) = response.into_parts();
        let read = read_short(body, self.asked.longest(), self.expected).await;
        let (body, framing) = read.map_err(Arc::new)?;
        let (status, fields, extensions) = (parts.status, parts.headers, parts.extensions);
        let Self { asked, asked_at, epoch, .. } = self;
        Ok(Arc::new(Probed { asked, status, fields, extensions, body, framing, asked_at, epoch }))
    }
}

/// A body that is short; `None` for a longer one, whose connection is closed. As far as it is what is `expected` nothing
/// of it is kept but that: an archive's end may have some MiB, and as many may be asked for at once as there are callers.
async fn read_short(
    mut body: Fetched,
    longest: usize,
    expected: Option<Bytes>,
) -> Result<(Option<Bytes>, BodyLength), upstream::Error> {
    let mut framing =
        if body.size_hint().exact().is_some() { BodyLength::Sized } else { BodyLength::Unsized };
    let (mut read, expected) = (Read::Other(BytesMut::new()), expected.unwrap_or_default());
    if !expected.is_empty() {
        read = Read::Expected(0);
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            framing = BodyLength::Pieces;
            continue;
        };
        if read.length() + data.len() > longest {
            return Ok((None, framing));
        }
        if framing == BodyLength::Unsized && read.length() > 0 {
            framing = BodyLength::Pieces;
        }
        read = match read.and(&data, &expected) {
            Some(read) => read,
            // An end that differs proves as little as none.
            None => return Ok((None, framing)),
        };
    }
    let read = match read {
        Read::Expected(same) => expected.slice(..same),
        Read::Other(read) => read.freeze(),
    };
    Ok((Some(read), framing))
}

/// What has been read of a body.
enum Read {
    /// So many bytes, all as they were expected.
    Expected(usize),
    Other(BytesMut),
}

impl Read {
    fn length(&self) -> usize {
        match self {
            Self::Expected(same) => *same,
            Self::Other(read) => read.len(),
        }
    }

    /// With what follows; `None` if that is other than what was expected, and too long to be kept.
    fn and(self, data: &Bytes, expected: &Bytes) -> Option<Self> {
        let mut read = match self {
            Self::Expected(same) => {
                let end = same + data.len();
                if expected.get(same..end).is_some_and(|next| next == data) {
                    return Some(Self::Expected(end));
                }
                BytesMut::from(expected.get(..same).filter(|same| same.len() <= LONGEST)?)
            }
            Self::Other(read) => read,
        };
        if !expected.is_empty() && read.len() + data.len() > LONGEST {
            return None;
        }
        read.extend_from_slice(data);
        Some(Self::Other(read))
    }
}

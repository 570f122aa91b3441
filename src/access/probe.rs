//! One question to GitLab, and those who may share its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::caller::Caller;
use crate::clock::{Clock, Moment};
use crate::grant::judge::{Condition, EntryCondition};
use crate::grant::{Answer, Epoch, Etag};
use crate::key::ArchiveId;
use crate::num::to_usize;
use crate::secret::Fingerprint;
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
    fn fields(&self) -> [(HeaderName, Option<HeaderValue>); 2] {
        let (range, validator) = match self {
            Self::Archive(Condition { validator, .. }) => {
                (self.range(), validator.as_ref().map(Etag::as_str))
            }
            Self::Entry(EntryCondition { validator, .. }) => (None, Some(validator.as_str())),
        };
        // As a single validator: Rack compares the field as one string.
        let validator = validator.and_then(|validator| HeaderValue::from_str(validator).ok());
        [(header::RANGE, range), (header::IF_NONE_MATCH, validator)]
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
    /// The whole body, if it was short.
    pub(super) body: Option<Bytes>,
    /// When it was sent.
    pub(super) asked_at: Moment,
    /// The state of things when it was sent.
    pub(super) epoch: Epoch,
}

impl Probed {
    pub(super) fn answer(&self) -> Answer<'_> {
        Answer { status: self.status, fields: &self.fields, body: self.body.as_deref() }
    }
}

pub(super) type Result = std::result::Result<Arc<Probed>, Arc<upstream::Error>>;

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
    /// How.
    pub(super) asked: Conditions,
    /// The state of things, read before.
    pub(super) epoch: Epoch,
}

/// A question under way.
#[derive(Debug)]
struct Running {
    asked_at: Moment,
    answer: watch::Receiver<Option<Result>>,
}

type List = Arc<Mutex<HashMap<Same, Running>>>;

/// Questions under way, so that one caller's many parallel downloads ask once. Bounded by the connections there are.
#[derive(Debug)]
pub(super) struct Probes {
    upstream: Arc<Upstream>,
    clock: Clock,
    running: List,
}

impl Probes {
    pub(super) fn new(upstream: Arc<Upstream>, clock: Clock) -> Self {
        Self { upstream, clock, running: Arc::default() }
    }

    /// Asks, or waits for the answer to the same question of the same caller if that was sent less than `share` ago:
    /// it is then no older than a grant that may be remembered.
    pub(super) async fn ask(&self, ask: Ask<'_>, share: Duration) -> Result {
        let sending = Sending {
            upstream: Arc::clone(&self.upstream),
            asked: ask.asked,
            fields: ask.caller.sent(),
            target: ask.target.clone(),
            asked_at: self.clock.now(),
            epoch: ask.epoch,
        };
        if share.is_zero() {
            return sending.send().await;
        }
        let condition = match &sending.asked {
            Conditions::Archive(condition) => Some(condition.clone()),
            Conditions::Entry(_) => None,
        };
        let mut answer = self.join((ask.asking, ask.held, condition), sending, share);
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    fn join(&self, same: Same, sending: Sending, share: Duration) -> watch::Receiver<Option<Result>> {
        let mut running = self.running.lock();
        let young = |running: &&Running| sending.asked_at.since(running.asked_at) < share;
        if let Some(running) = running.get(&same).filter(young) {
            return running.answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        running.insert(same.clone(), Running { asked_at: sending.asked_at, answer: answer.clone() });
        drop(running);
        let leave = Leave { list: Arc::clone(&self.running), same, answer: answer.clone() };
        // A task of its own: whoever leaves takes nobody's answer along.
        crate::rt::spawn(async move {
            let result = sending.send().await;
            drop(leave);
            tell.send_replace(Some(result));
        });
        answer
    }
}

/// Takes a question off the list when its answer is there, or when its task dies; not the one that replaced it.
struct Leave {
    list: List,
    same: Same,
    answer: watch::Receiver<Option<Result>>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut list = self.list.lock();
        if list.get(&self.same).is_some_and(|running| running.answer.same_channel(&self.answer)) {
            list.remove(&self.same);
        }
    }
}

/// The task that asked has died; whoever waited is told that GitLab said nothing.
fn gone() -> Result {
    Err(Arc::new(upstream::Error::unanswered()))
}

struct Sending {
    upstream: Arc<Upstream>,
    asked: Conditions,
    fields: HeaderMap,
    target: PathAndQuery,
    asked_at: Moment,
    epoch: Epoch,
}

impl Sending {
    async fn send(self) -> Result {
        let mut fields = self.fields;
        for (name, value) in self.asked.fields() {
            if let Some(value) = value {
                fields.insert(name, value);
            }
        }
        let response = self.upstream.probe(&self.target, fields).await.map_err(Arc::new)?;
        let (parts, body) = response.into_parts();
        let body = read_short(body, self.asked.longest()).await.map_err(Arc::new)?;
        let (status, fields) = (parts.status, parts.headers);
        let Self { asked, asked_at, epoch, .. } = self;
        Ok(Arc::new(Probed { asked, status, fields, body, asked_at, epoch }))
    }
}

/// A body that is short; `None` for a longer one, whose connection is closed.
async fn read_short(
    mut body: Fetched,
    longest: usize,
) -> std::result::Result<Option<Bytes>, upstream::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > longest {
            return Ok(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(Some(read.freeze()))
}

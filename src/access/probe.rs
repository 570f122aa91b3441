//! One question to GitLab, and those who may share its answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::caller::Caller;
use crate::clock::{Clock, Moment};
use crate::grant::judge::Condition;
use crate::grant::{Answer, Epoch, Facts};
use crate::key::ArchiveId;
use crate::route::Question;
use crate::secret::Fingerprint;
use crate::upstream::{self, Fetched, Upstream};

/// How much of an answer is read. An archive's tail is 1 KiB and GitLab's refusals are small; what is longer (a page,
/// a whole archive where a part was asked for) is cut off with its connection.
const LONGEST: usize = 64 << 10;

/// GitLab's answer to a probe.
#[derive(Debug)]
pub(super) struct Probed {
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

/// Who asks, about which archive, and how: an answer is judged by the condition that it answers.
type Same = (Fingerprint, Option<ArchiveId>, Condition);

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
    pub(super) async fn ask(
        &self,
        asking: Fingerprint,
        caller: &Caller,
        question: &Question,
        held: Option<(ArchiveId, &Facts)>,
        epoch: Epoch,
        share: Duration,
    ) -> Result {
        let sending = Sending {
            upstream: Arc::clone(&self.upstream),
            condition: Condition::about(held.map(|(_, facts)| facts)),
            fields: caller.sent(),
            question: question.clone(),
            asked_at: self.clock.now(),
            epoch,
        };
        if share.is_zero() {
            return sending.send().await;
        }
        let same = (asking, held.map(|(id, _)| id), sending.condition.clone());
        let mut answer = self.join(same, sending, share);
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
    condition: Condition,
    fields: HeaderMap,
    question: Question,
    asked_at: Moment,
    epoch: Epoch,
}

impl Sending {
    async fn send(self) -> Result {
        let mut fields = self.fields;
        if let Some(range) = self.condition.range_value() {
            fields.insert(header::RANGE, range);
        }
        if let Some(validator) = self.condition.validator.as_ref().and_then(|tag| tag.as_str().parse().ok()) {
            // As a single validator: Rack compares the field as one string.
            fields.insert(header::IF_NONE_MATCH, validator);
        }
        let response = self.upstream.probe(&self.question.target, fields).await.map_err(Arc::new)?;
        let (parts, body) = response.into_parts();
        let body = read_short(body).await.map_err(Arc::new)?;
        let (status, fields) = (parts.status, parts.headers);
        Ok(Arc::new(Probed { status, fields, body, asked_at: self.asked_at, epoch: self.epoch }))
    }
}

/// A body that is short; `None` for a longer one, whose connection is closed.
async fn read_short(mut body: Fetched) -> std::result::Result<Option<Bytes>, upstream::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > LONGEST {
            return Ok(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(Some(read.freeze()))
}

//! Routes that read a body: uploads, job reports, traces.

mod multipart;

use std::io::Write;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Shared;
use crate::answer;
use crate::archive::{Archive, FileSink};
use crate::ask::Ask;
use crate::counters::Tally;
use crate::ids::JobId;
use crate::percent;
use crate::reply::Reply;
use crate::route::Class;
use multipart::Multipart;

/// A job's report is small JSON.
const REPORT: usize = 1 << 20;
/// What Workhorse reads of a runner's request (`workhorse/internal/builds/register.go`).
const REQUEST: usize = 32 << 10;
/// A form of ours has a few fields.
const FORM: usize = 64 << 10;

/// A request body, counted as it comes.
pub(super) struct Received<'a> {
    body: Incoming,
    tally: &'a Tally,
    class: Class,
}

impl<'a> Received<'a> {
    pub(super) fn new(body: Incoming, tally: &'a Tally, class: Class) -> Self {
        Self { body, tally, class }
    }

    /// The next piece; 400 when the body breaks, though nobody may be there to read it.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Reply> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|_| bad_request())?.into_data() {
                self.tally.received(self.class, data.len());
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

fn bad_request() -> Reply {
    Reply::message(StatusCode::BAD_REQUEST, "400 Bad request")
}

fn storage_failed() -> Reply {
    Reply::message(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error")
}

/// `POST /jobs/:id/artifacts`: authorised first, as Workhorse does, then streamed into a file.
pub(super) async fn upload(
    shared: &Shared,
    ask: &Ask,
    job: JobId,
    body: &mut Received<'_>,
) -> Result<Reply, Reply> {
    answer::authorize_upload(&shared.world.lock(), ask, job)?;
    let mut sink = FileSink::new().map_err(|_| storage_failed())?;
    let mut parts = ask.header(CONTENT_TYPE.as_str()).and_then(Multipart::of);
    while let Some(data) = body.next().await? {
        match &mut parts {
            Some(parts) => parts.feed(&data, &mut sink),
            None => sink.write_all(&data),
        }
        .map_err(|_| storage_failed())?;
    }
    if parts.is_some_and(|parts| !parts.has_file()) {
        return Err(bad_request());
    }
    let (content, sha256) = sink.finish();
    answer::accept_upload(&mut shared.world.lock(), ask, job, Archive::received(content, sha256))
}

/// The fields of a form; none where there is no form.
pub(super) async fn form(ask: &Ask, body: &mut Received<'_>) -> Result<Vec<(String, String)>, Reply> {
    let text = small(body, FORM).await?;
    let kind = ask.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_form = kind.starts_with("application/x-www-form-urlencoded");
    Ok(if is_form { percent::parameters(&String::from_utf8_lossy(&text)) } else { Vec::new() })
}

async fn small(body: &mut Received<'_>, most: usize) -> Result<Vec<u8>, Reply> {
    let mut all = Vec::new();
    while let Some(data) = body.next().await? {
        if all.len() + data.len() > most {
            return Err(Reply::message(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large"));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// `POST /jobs/request`.
pub(super) async fn request_job(shared: &Shared, ask: &Ask, body: &mut Received<'_>) -> Result<Reply, Reply> {
    let said = small(body, REQUEST).await?;
    answer::request_job(&mut shared.world.lock(), ask, &said)
}

/// `PUT /jobs/:id`.
pub(super) async fn update_job(
    shared: &Shared,
    ask: &Ask,
    job: JobId,
    body: &mut Received<'_>,
) -> Result<Reply, Reply> {
    let report = small(body, REPORT).await?;
    answer::update_job(&mut shared.world.lock(), ask, job, &report)
}

/// `PATCH /jobs/:id/trace`: counted and forgotten.
pub(super) async fn trace(
    shared: &Shared,
    ask: &Ask,
    job: JobId,
    body: &mut Received<'_>,
) -> Result<Reply, Reply> {
    let mut received = 0u64;
    while let Some(data) = body.next().await? {
        received += u64::try_from(data.len()).unwrap_or(u64::MAX);
    }
    answer::trace(&mut shared.world.lock(), ask, job, received)
}

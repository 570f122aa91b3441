//! What is written down of a request: one line, when its last byte has gone or its connection has.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Proxy;
use super::body::{Body, Error};
use super::held::Room;
use crate::base::clock::{Clock, Moment};
use crate::base::key::JobId;
use crate::base::num::to_u64;
use crate::gitlab::route::{Class, Route, Write};
use crate::server::{AnswerBody, Protocol};
use crate::store::Mapped;
use crate::telemetry::metrics::{self, BodySource};
use crate::telemetry::{Metrics, Outcome};

/// What is known of a request so far. Neither its query nor a field of it but its ID is kept.
#[derive(Debug)]
pub(super) struct Report {
    clock: Clock,
    metrics: Arc<Metrics>,
    method: Method,
    route: metrics::RouteLabel,
    project: Option<String>,
    job: Option<JobId>,
    client: IpAddr,
    request_id: HeaderValue,
    started: Moment,
    headed: Option<(Outcome, StatusCode, Moment)>,
    bytes: u64,
    from: BodySource,
    complete: bool,
}

impl Report {
    pub(super) fn new(
        proxy: &Proxy,
        parts: &Parts,
        id: &HeaderValue,
        client: IpAddr,
        started: Moment,
    ) -> Self {
        Self {
            clock: proxy.clock.clone(),
            metrics: Arc::clone(&proxy.metrics),
            method: parts.method.clone(),
            route: metrics::RouteLabel::Malformed,
            project: None,
            job: None,
            client,
            request_id: id.clone(),
            started,
            headed: None,
            bytes: 0,
            from: BodySource::Upstream,
            complete: false,
        }
    }

    /// The request's ID.
    fn name(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The request's route is known.
    pub(super) fn route(&mut self, route: &Route) {
        (self.route, self.job) = match route {
            Route::Read(question) => (named(question.class), question.key.job()),
            Route::Write(Write::Archive(job) | Write::Upload(job) | Write::Grants(job)) => {
                (metrics::RouteLabel::Write, Some(*job))
            }
            Route::Write(Write::Job | Write::Broad) => (metrics::RouteLabel::Write, None),
            Route::Pass => (metrics::RouteLabel::Pass, None),
        };
        if let Route::Read(question) = route {
            self.project.clone_from(&question.project);
        }
    }

    /// The answer's head is known.
    pub(super) fn head(&mut self, outcome: Outcome, status: StatusCode) {
        self.headed = Some((outcome, status, self.clock.now()));
    }
}

const fn named(class: Class) -> metrics::RouteLabel {
    match class {
        Class::Job => metrics::RouteLabel::JobArchive,
        Class::Runner => metrics::RouteLabel::RunnerArchive,
        Class::Ref => metrics::RouteLabel::RefArchive,
        Class::Web => metrics::RouteLabel::WebArchive,
        Class::JobEntry => metrics::RouteLabel::JobEntry,
        Class::RefEntry => metrics::RouteLabel::RefEntry,
        Class::WebEntry => metrics::RouteLabel::WebEntry,
    }
}

impl Drop for Report {
    /// The client has its last byte, or is gone; without a head it left before there was an answer.
    fn drop(&mut self) {
        let now = self.clock.now();
        let whole = now.since(self.started);
        self.metrics.served(self.from, self.bytes);
        let (outcome, status, head) = match self.headed {
            Some((outcome, status, at)) => {
                let head = at.since(self.started);
                self.metrics.request(self.route, outcome, head, whole);
                (outcome.as_str(), status.as_u16(), head)
            }
            None => ("gone", 0, whole),
        };
        tracing::info!(
            target: "larder::request",
            method = %self.method,
            route = self.route.as_str(),
            project = self.project.as_deref(),
            job = self.job.map(JobId::get),
            outcome,
            status,
            bytes = self.bytes,
            complete = self.complete,
            head_us = u64::try_from(head.as_micros()).unwrap_or(u64::MAX),
            total_us = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX),
            client = %self.client,
            request_id = self.name(),
            "request"
        );
    }
}

/// A body that is reported on.
#[derive(Debug)]
pub(crate) struct Reported {
    body: Body,
    report: Report,
    /// How long it is, where that is known.
    length: Option<u64>,
    /// Where what it hands out is counted, unless that is the kernel's.
    room: Option<Room>,
}

impl Reported {
    pub(super) fn new(mut body: Body, mut report: Report, protocol: Protocol, room: Option<Room>) -> Self {
        match protocol {
            Protocol::Http1 => body.allow_mapped(),
            Protocol::Http1Tls => {}
            Protocol::Http2 => body.keep_little(),
        }
        report.from = body.from();
        report.complete = body.is_end_stream();
        let length = body.size_hint().exact();
        Self { body, report, length, room }
    }
}

impl HttpBody for Reported {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = match self.room.as_mut().map(|room| room.poll(cx)) {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(Err(full))) => Poll::Ready(Some(Err(full.into()))),
            Some(Poll::Ready(Ok(()))) | None => Pin::new(&mut self.body).poll_frame(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| to_u64(data.len()));
                self.report.bytes += bytes;
                // Nothing is asked for behind trailers, nor behind the last byte of those that were announced.
                self.report.complete |= self.body.is_end_stream()
                    || frame.is_trailers()
                    || self.length.is_some_and(|length| self.report.bytes >= length);
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(%error, request_id = self.report.name(), "an answer breaks off");
            }
            Poll::Ready(None) => self.report.complete = true,
            Poll::Pending => {}
        }
        match &self.room {
            Some(room) => next.map_ok(|frame| frame.map_data(|data| room.hold(data))),
            None => next,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl AnswerBody for Reported {
    fn mapped(&self) -> Option<Mapped> {
        self.body.mapped()
    }

    fn is_complete(&self) -> bool {
        self.report.complete
    }
}

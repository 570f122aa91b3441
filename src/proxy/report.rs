//! What is written down of a request: one line, when its last byte has gone or its connection has.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::body::{Body, Error};
use super::stall::Stall;
use super::{Proxy, Wire};
use crate::clock::{Clock, Moment};
use crate::key::JobId;
use crate::num::to_u64;
use crate::route::{Class, Route, Write};
use crate::telemetry::metrics::{self, From};
use crate::telemetry::{Metrics, Outcome};

/// What is known of a request so far. Neither its query nor a field of it but its ID is kept.
#[derive(Debug)]
pub(super) struct Report {
    clock: Clock,
    metrics: Arc<Metrics>,
    wire: Arc<Wire>,
    method: Method,
    route: metrics::Route,
    project: Option<String>,
    job: Option<JobId>,
    client: IpAddr,
    request_id: HeaderValue,
    started: Moment,
    headed: Option<(Outcome, StatusCode, Moment)>,
    bytes: u64,
    from: From,
    complete: bool,
}

impl Report {
    pub(super) fn new(
        proxy: &Proxy,
        parts: &Parts,
        id: &HeaderValue,
        client: IpAddr,
        started: Moment,
        wire: Arc<Wire>,
    ) -> Self {
        wire.begin();
        Self {
            clock: proxy.clock.clone(),
            metrics: Arc::clone(&proxy.metrics),
            wire,
            method: parts.method.clone(),
            route: metrics::Route::Malformed,
            project: None,
            job: None,
            client,
            request_id: id.clone(),
            started,
            headed: None,
            bytes: 0,
            from: From::Upstream,
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
                (metrics::Route::Write, Some(*job))
            }
            Route::Write(Write::Job | Write::Broad) => (metrics::Route::Write, None),
            Route::Pass => (metrics::Route::Pass, None),
        };
        if let Route::Read(question) = route {
            self.project.clone_from(&question.project);
        }
    }

    /// Whether what is answered has a body (RFC 9110, 6.4.1): otherwise nobody asks for one.
    fn has_body(&self) -> bool {
        const NONE: [StatusCode; 3] =
            [StatusCode::SWITCHING_PROTOCOLS, StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        self.method != Method::HEAD && self.headed.is_some_and(|(_, status, _)| !NONE.contains(&status))
    }

    /// The last of its bytes has been taken.
    fn completed(&mut self) {
        self.complete = true;
        self.wire.answered();
    }

    /// The answer's head is known.
    pub(super) fn head(&mut self, outcome: Outcome, status: StatusCode) {
        self.headed = Some((outcome, status, self.clock.now()));
    }
}

const fn named(class: Class) -> metrics::Route {
    match class {
        Class::Job => metrics::Route::JobArchive,
        Class::Runner => metrics::Route::RunnerArchive,
        Class::Ref => metrics::Route::RefArchive,
        Class::Web => metrics::Route::WebArchive,
        Class::JobEntry => metrics::Route::JobEntry,
        Class::RefEntry => metrics::Route::RefEntry,
        Class::WebEntry => metrics::Route::WebEntry,
    }
}

impl Drop for Report {
    /// The client has its last byte, or is gone; without a head it left before there was an answer.
    fn drop(&mut self) {
        // A connection that has changed its protocol is never idle again: what is written to it isn't HTTP's.
        if self.headed.is_none_or(|(_, status, _)| status != StatusCode::SWITCHING_PROTOCOLS) {
            self.wire.end();
        }
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
pub struct Reported {
    body: Body,
    report: Report,
    /// How long it is, where that is known.
    length: Option<u64>,
    stall: Option<Stall>,
}

impl Reported {
    pub(super) fn new(mut body: Body, mut report: Report, stall: Option<Stall>) -> Self {
        if report.wire.is_direct() {
            body.allow_mapped();
        }
        report.from = body.from();
        report.wire.comes_from(body.mapped());
        report.complete = body.is_end_stream();
        if !report.complete && report.has_body() {
            report.wire.answers();
        }
        let length = body.size_hint().exact();
        Self { body, report, length, stall }
    }
}

impl HttpBody for Reported {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(stall) = &self.stall {
            stall.wants();
        }
        let next = Pin::new(&mut self.body).poll_frame(cx);
        match &next {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| to_u64(data.len()));
                self.report.bytes += bytes;
                // Nothing is asked for behind trailers, nor behind the last byte of those that were announced.
                let complete = self.body.is_end_stream()
                    || frame.is_trailers()
                    || self.length.is_some_and(|length| self.report.bytes >= length);
                if complete {
                    self.report.completed();
                }
                if let Some(stall) = self.stall.as_mut().filter(|_| !complete) {
                    stall.has(bytes);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(%error, request_id = self.report.name(), "an answer breaks off");
                self.report.wire.break_off();
            }
            Poll::Ready(None) => self.report.completed(),
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

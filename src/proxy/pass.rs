//! Requests that go to GitLab as they are.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use super::body::Body;
use super::left::Task;
use super::tunnel::Wish;
use super::{Exchange, Proxy, answer, is_head, relay};
use crate::base::household::Household;
use crate::base::key::Key;
use crate::base::pace::TooSlow;
use crate::gitlab::route::{OwnNames, Write};
use crate::http::hop::{self, Trailing};
use crate::telemetry::Outcome;
use crate::telemetry::metrics::CutLabel;
use crate::upstream::{self, FailureKind, Passed, Place};

/// Passes a request on and its answer back, once it is its client's turn.
pub(super) async fn pass(
    proxy: &Arc<Proxy>,
    exchange: Exchange,
    outcome: Outcome,
) -> (Outcome, Response<Body>) {
    match enter(proxy, &exchange).await {
        Ok(place) => pass_in(proxy, exchange, outcome, place).await,
        Err(error) => (outcome, failed(proxy, &error)),
    }
}

async fn enter(proxy: &Proxy, exchange: &Exchange) -> Result<Place, upstream::Error> {
    let (method, path) = (&exchange.parts.method, exchange.parts.uri.path());
    proxy.upstream.enter(method, path, exchange.way.client).await
}

async fn pass_in(
    proxy: &Arc<Proxy>,
    exchange: Exchange,
    outcome: Outcome,
    place: Place,
) -> (Outcome, Response<Body>) {
    let query = exchange.parts.uri.query().map(str::to_owned);
    let caller = exchange.caller();
    if let Some(error) = proxy.access.known_down(None).await {
        return (outcome, failed(proxy, &error));
    }
    match forward(proxy, exchange, place).await {
        Ok(response) => {
            proxy.access.heard(None, response.status());
            if response.status() == StatusCode::UNAUTHORIZED {
                proxy.access.revoke(&caller, query.as_deref());
            }
            (outcome, response)
        }
        Err(error) => (outcome, failed(proxy, &error)),
    }
}

/// Passes on a request on an artifact route that larder doesn't answer itself. The tag that older GitLab gives to
/// everything neither goes out nor comes in: a client that has it would be told that anything is unchanged.
pub(super) async fn read(
    proxy: &Arc<Proxy>,
    mut exchange: Exchange,
    outcome: Outcome,
) -> (Outcome, Response<Body>) {
    if relay::asks_by_constant(&exchange.fields) {
        let mut fields = HeaderMap::clone(&exchange.fields);
        fields.remove(header::IF_NONE_MATCH);
        exchange.fields = Arc::new(fields);
    }
    let (outcome, mut response) = pass(proxy, exchange, outcome).await;
    relay::forget_constant(response.headers_mut());
    // Whatever is held, or found in what is held, a refusal looks the same to whom it is said.
    let status = response.status();
    let outcome = match outcome {
        _ if status.is_client_error() || status.is_server_error() => Outcome::Refused,
        Outcome::Missed | Outcome::Refused if status.is_redirection() => Outcome::NotArchive,
        // A page: every file of an archive has one (`workhorse/internal/artifacts/entry.go`).
        Outcome::Missed if !response.headers().contains_key(header::CONTENT_DISPOSITION) => {
            Outcome::NotArchive
        }
        outcome => outcome,
    };
    (outcome, response)
}

/// Passes a change on, in a task of its own: a client who leaves before GitLab has answered has changed it all the
/// same. Who leaves before its turn hasn't: nothing is begun.
pub(super) async fn write(proxy: &Arc<Proxy>, exchange: Exchange, write: Write) -> (Outcome, Response<Body>) {
    let who = Household::of(exchange.way.client);
    let place = if proxy.left.may_begin(who, proxy.upstream.connect_timeout()).await {
        enter(proxy, &exchange).await
    } else {
        Err(upstream::Error::no_turn())
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => return (Outcome::Write, failed(proxy, &error)),
    };
    let (tell, told) = oneshot::channel();
    let (present, task) = proxy.left.begin(who);
    crate::base::rt::spawn(finish(Arc::clone(proxy), exchange, write, place, tell, task));
    let told = told.await;
    drop(present);
    told.unwrap_or_else(|_| (Outcome::Write, answer::failed(&upstream::Error::unanswered())))
}

type HeadSender = oneshot::Sender<(Outcome, Response<Body>)>;

/// Makes a change and tells its client. Once that has left, GitLab has as long as for a question, then it is given up:
/// whether it was made the next question shows.
async fn finish(
    proxy: Arc<Proxy>,
    exchange: Exchange,
    write: Write,
    place: Place,
    mut tell: HeadSender,
    task: Task,
) {
    let patience = proxy.upstream.answer_timeout();
    let done = tokio::select! {
        done = change(&proxy, exchange, write, place) => Some(done),
        () = async { tell.closed().await; tokio::time::sleep(patience).await } => None,
    };
    drop(task);
    if let Some(done) = done {
        // Whoever asked may have left.
        let _ = tell.send(done);
    }
}

/// What a change takes away is forgotten before the client learns that it is gone.
async fn change(
    proxy: &Arc<Proxy>,
    mut exchange: Exchange,
    write: Write,
    place: Place,
) -> (Outcome, Response<Body>) {
    let report = (write == Write::Job).then(|| exchange.body.keep_beginning());
    let query = exchange.parts.uri.query().map(str::to_owned);
    let caller = exchange.caller();
    let (asked, front) = (exchange.parts.uri.path().to_owned(), exchange.front.clone());
    let (outcome, response) = pass_in(proxy, exchange, Outcome::Write, place).await;
    let (origin, external) = (proxy.upstream.origin(), proxy.upstream.external());
    let client = front.host().and_then(|host| host.to_str().ok());
    let own = [Some(origin.authority().as_str()), Some(external.authority().as_str()), client];
    let places = OwnNames { root: origin.root(), asked: &asked, own };
    let location = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
    if write.was_done(response.status(), location, places) {
        match write {
            Write::Archive(job) => {
                proxy.fills.invalidate(Key::Job(job)).await;
                proxy.access.epochs().invalidate_refs();
            }
            Write::Upload(job) => proxy.fills.invalidate(Key::Job(job)).await,
            Write::Grants(job) => {
                proxy.access.epochs().invalidate(Key::Job(job), || ());
                proxy.access.epochs().invalidate_refs();
            }
            Write::Job => {
                let token = report.and_then(|report| report.token());
                proxy.access.end_job(&caller, query.as_deref(), token.as_deref());
            }
            Write::Broad => proxy.access.epochs().invalidate_all(),
        }
    }
    (outcome, response)
}

async fn forward(
    proxy: &Arc<Proxy>,
    exchange: Exchange,
    place: Place,
) -> Result<Response<Body>, upstream::Error> {
    let head = is_head(&exchange.parts);
    let silence = exchange.body.silence();
    let (request, wish) = outgoing(proxy, exchange);
    let Passed { response, call } = proxy.upstream.pass(place, request).await?;
    if call {
        silence.allow();
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let wish = wish.ok_or_else(upstream::Error::unasked_upgrade)?;
        return proxy.tunnels.switch(wish, response);
    }
    let (parts, body) = response.into_parts();
    Ok(relay::answer(parts, Body::Through(Bytes::new(), body), head))
}

/// The request as GitLab gets it, and the client's wish to speak another protocol then.
fn outgoing(proxy: &Proxy, exchange: Exchange) -> (Request<upstream::RequestBody>, Option<Wish>) {
    let Exchange { mut parts, fields, body, permit, front, way, shared, .. } = exchange;
    parts.headers = Arc::unwrap_or_clone(fields);
    // HTTP/1.0 knows neither (RFC 9110, 7.8 and 10.1.1), and HTTP/2 has no upgrade.
    let client = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.version == Version::HTTP_11);
    let wanted = hop::upgrade(&parts.headers).zip(client);
    if parts.version == Version::HTTP_10 {
        parts.headers.remove(header::EXPECT);
    }
    let trailing = Trailing::of(&parts.headers);
    hop::strip(&mut parts.headers);
    trailing.say(&mut parts.headers);
    let names = proxy.names(&front);
    names.rename_request(&mut parts.headers, wanted.is_some());
    hop::forward(&mut parts.headers, &way, names);
    let wish = wanted.map(|(protocol, client)| {
        hop::set_upgrade(&mut parts.headers, protocol);
        Wish { client, permit, id: parts.headers.get(super::REQUEST_ID).cloned() }
    });
    frame(&mut parts.headers, body.size_hint().exact());
    if shared {
        // Whether a client can be told 100 goes by how it came.
        parts.version = Version::HTTP_2;
    }
    (Request::from_parts(parts, body.map_err(Into::into).boxed_unsync()), wish)
}

/// Says how a body is framed, once, and however its sender wrote it: by its length; if there is none, by chunks, which
/// hyper of itself doesn't send with a GET or HEAD. A length of nothing is said where it was.
fn frame(fields: &mut HeaderMap, size: Option<u64>) {
    match (size, fields.remove(header::CONTENT_LENGTH)) {
        (Some(0), Some(_)) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        // hyper writes it.
        (Some(_), _) => {}
        (None, _) => {
            fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

fn failed(proxy: &Arc<Proxy>, error: &upstream::Error) -> Response<Body> {
    if error.is_caused_by::<TooSlow>() {
        proxy.metrics.cut(CutLabel::SlowBody);
        return answer::too_slow();
    }
    if error.kind() != FailureKind::ClientGone {
        proxy.metrics.upstream_error(error.kind().as_str());
    }
    answer::failed(error)
}

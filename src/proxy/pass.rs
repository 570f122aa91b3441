//! Requests that go to GitLab as they are.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use super::body::Body;
use super::tunnel::Wish;
use super::{Exchange, Proxy, answer, is_head};
use crate::access::Caller;
use crate::hop::{self, Trailing};
use crate::key::Key;
use crate::pace::TooSlow;
use crate::route::Write;
use crate::telemetry::Outcome;
use crate::telemetry::metrics::Cut;
use crate::upstream::{self, Kind};

/// Passes a request on and its answer back.
pub(super) async fn pass(
    proxy: &Arc<Proxy>,
    exchange: Exchange,
    outcome: Outcome,
) -> (Outcome, Response<Body>) {
    let query = exchange.parts.uri.query().map(str::to_owned);
    let caller = Caller::new(Arc::clone(&exchange.fields), exchange.client);
    match forward(proxy, exchange).await {
        Ok(response) => {
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
    if answer::asks_by_constant(&exchange.fields) {
        let mut fields = HeaderMap::clone(&exchange.fields);
        fields.remove(header::IF_NONE_MATCH);
        exchange.fields = Arc::new(fields);
    }
    let (outcome, mut response) = pass(proxy, exchange, outcome).await;
    answer::forget_constant(response.headers_mut());
    // Whatever is held, or found in what is held, a refusal looks the same to whom it is said.
    let status = response.status();
    let outcome = match outcome {
        _ if status.is_client_error() || status.is_server_error() => Outcome::Refused,
        Outcome::Missed | Outcome::Refused if status.is_redirection() => Outcome::NotArchive,
        outcome => outcome,
    };
    (outcome, response)
}

/// Passes a change on, in a task of its own: a client who leaves before GitLab has answered has changed it all the
/// same.
pub(super) async fn write(proxy: &Arc<Proxy>, exchange: Exchange, write: Write) -> (Outcome, Response<Body>) {
    let (tell, told) = oneshot::channel();
    let proxy = Arc::clone(proxy);
    crate::rt::spawn(async move {
        // Whoever asked may have left.
        let _ = tell.send(change(&proxy, exchange, write).await);
    });
    told.await.unwrap_or_else(|_| (Outcome::Write, answer::failed(&upstream::Error::unanswered())))
}

/// What a change takes away is forgotten before the client learns that it is gone.
async fn change(proxy: &Arc<Proxy>, exchange: Exchange, write: Write) -> (Outcome, Response<Body>) {
    let query = exchange.parts.uri.query().map(str::to_owned);
    let caller = Caller::new(Arc::clone(&exchange.fields), exchange.client);
    let (outcome, response) = pass(proxy, exchange, Outcome::Write).await;
    if write.was_done(response.status()) {
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
            Write::Job => proxy.access.end_job(&caller, query.as_deref()),
            Write::Broad => proxy.access.epochs().invalidate_all(),
        }
    }
    (outcome, response)
}

async fn forward(proxy: &Arc<Proxy>, exchange: Exchange) -> Result<Response<Body>, upstream::Error> {
    let head = is_head(&exchange.parts);
    let (request, wish) = outgoing(proxy, exchange);
    let response = proxy.upstream.pass(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let wish = wish.ok_or_else(upstream::Error::unasked_upgrade)?;
        return proxy.tunnels.switch(wish, response);
    }
    let (mut parts, body) = response.into_parts();
    let trailing = Trailing::of(&parts.headers);
    hop::strip(&mut parts.headers);
    hop::strip_internal(&mut parts.headers);
    trailing.say(&mut parts.headers);
    // A HEAD's length, and a 304's, is of a body that doesn't come.
    if !head && parts.status != StatusCode::NOT_MODIFIED {
        super::leave_length_to_body(&mut parts.headers);
    }
    let mut answer = Response::new(Body::Through(Bytes::new(), body));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    // The reason phrase and the case of field names travel here.
    *answer.extensions_mut() = parts.extensions;
    Ok(answer)
}

/// The request as GitLab gets it, and the client's wish to speak another protocol then.
fn outgoing(proxy: &Proxy, exchange: Exchange) -> (Request<upstream::Body>, Option<Wish>) {
    let Exchange { mut parts, fields, body, peer, seat, front, .. } = exchange;
    parts.headers = Arc::unwrap_or_clone(fields);
    // HTTP/1.0 knows neither (RFC 9110, 7.8 and 10.1.1), and HTTP/2 has no upgrade.
    let client = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.version == Version::HTTP_11);
    let wanted = hop::upgrade(&parts.headers).zip(client);
    if parts.version == Version::HTTP_10 {
        parts.headers.remove(header::EXPECT);
    }
    let trailing = Trailing::of(&parts.headers);
    hop::strip(&mut parts.headers);
    hop::strip_internal(&mut parts.headers);
    trailing.say(&mut parts.headers);
    let names = proxy.names(&front);
    names.rename_request(&mut parts.headers);
    hop::forward(&mut parts.headers, peer, names);
    let wish = wanted.map(|(protocol, client)| {
        hop::set_upgrade(&mut parts.headers, protocol);
        Wish { client, seat, id: parts.headers.get(super::REQUEST_ID).cloned() }
    });
    frame(&mut parts.headers, body.size_hint().exact());
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
        proxy.metrics.cut(Cut::SlowBody);
        return answer::too_slow();
    }
    if error.kind() != Kind::ClientGone {
        proxy.metrics.upstream_error(error.kind().as_str());
    }
    answer::failed(error)
}

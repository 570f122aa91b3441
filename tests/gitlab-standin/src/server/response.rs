//! From a reply to what hyper sends, bent by the effects that came with the request.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION};
use http::{Response, StatusCode, Version};

use super::{Shared, leaves_store};
use crate::ask::Ask;
use crate::fault::{Effect, Ending};
use crate::net::Conn;
use crate::payload::{Payload, Plan, Source};
use crate::reply::Reply;

/// The answer of an effect that leaves nothing of the real one.
pub(super) fn replaced(effects: &[Effect], ask: &Ask) -> Option<Reply> {
    effects.iter().find_map(|effect| match effect {
        Effect::Html => Some(page()),
        Effect::SignIn => {
            let url = format!("{}/users/sign_in", ask.base);
            let text = format!("<html><body>You are being <a href=\"{url}\">redirected</a>.</body></html>");
            let reply = Reply::typed(StatusCode::FOUND, "text/html; charset=utf-8", text);
            Some(reply.with(LOCATION, &url))
        }
        Effect::Redirect { status, location } => Some(moved(*status, location)),
        Effect::Front { status, location } => {
            let target = &ask.seen.target;
            let path = target.split('?').next().unwrap_or_default();
            Some(moved(*status, &location.replace("{path}", path).replace("{target}", target)))
        }
        Effect::Answer { status, content_type, body } => {
            Some(Reply::typed(code(*status), content_type, body.clone()))
        }
        _ => None,
    })
}

/// How the answer is to be sent.
struct Shape {
    plan: Plan,
    version: Version,
    /// A `Content-Length` that is set by hand.
    declared: Option<u64>,
}

/// The response on the wire.
pub(super) fn build(
    shared: &Shared,
    ask: &Ask,
    mut reply: Reply,
    effects: Vec<Effect>,
    conn: Arc<Conn>,
) -> Response<Payload> {
    let mut shape = Shape { plan: Plan::default(), version: Version::HTTP_11, declared: reply.declares };
    shape.plan.cut = reply.declares.map(|_| (reply.source.len(), Ending::Close));
    for effect in effects {
        bend(&mut shape, &mut reply, &conn, effect);
    }
    count(shared, &reply);
    if ask.is_head() {
        let length = reply.source.len();
        shape.declared = shape.declared.or_else(|| (!shape.plan.unsized_body).then_some(length));
        reply.source = Source::default();
        shape.plan = Plan::default();
    } else {
        // hyper holds a body of unknown length to a Content-Length that was set; a sized one must set it itself.
        shape.plan.unsized_body |= shape.declared.is_some();
    }
    if let Some(length) = shape.declared.filter(|_| reply.status != StatusCode::NOT_MODIFIED) {
        reply.set(CONTENT_LENGTH, &length.to_string());
    }
    let class = ask.seen.class;
    let meter = shared.tally.meter(class, leaves_store(class, &reply));
    let mut response = Response::new(Payload::new(reply.source, shape.plan, conn, meter));
    *response.status_mut() = reply.status;
    *response.version_mut() = shape.version;
    *response.headers_mut() = *reply.headers;
    response
}

fn bend(shape: &mut Shape, reply: &mut Reply, conn: &Conn, effect: Effect) {
    match effect {
        Effect::Slow(gate) => shape.plan.gate = Some(gate),
        Effect::Cut { after, ending } => shape.plan.cut = Some((after, ending)),
        Effect::Chunked => shape.plan.unsized_body = true,
        Effect::CloseDelimited => (shape.plan.unsized_body, shape.version) = (true, Version::HTTP_10),
        Effect::Garbage => {
            shape.plan.unsized_body = true;
            conn.garble();
        }
        Effect::DeclareMore(more) => {
            // A cut at the end: unlike a body that simply stops, it lets the queued bytes out first.
            let length = reply.source.len();
            shape.declared = Some(length.saturating_add(more));
            shape.plan.cut = Some((length, Ending::Close));
        }
        Effect::DeclareFewer(fewer) => shape.declared = Some(reply.source.len().saturating_sub(fewer)),
        Effect::Body(body) => {
            reply.status = StatusCode::OK;
            reply.headers.remove(CONTENT_RANGE);
            reply.source = Source::bytes(body);
        }
        Effect::Hold(_)
        | Effect::Drop(_)
        | Effect::IgnoreRange
        | Effect::Html
        | Effect::SignIn
        | Effect::Redirect { .. }
        | Effect::Front { .. }
        | Effect::Answer { .. } => {}
    }
}

fn count(shared: &Shared, reply: &Reply) {
    shared.tally.count(|counters| {
        *counters.statuses.entry(reply.status.as_u16()).or_default() += 1;
        counters.store_requests += u64::from(reply.proxied);
        counters.store_bytes += reply.head_cost;
        counters.proxied_head_bytes += reply.head_cost;
    });
}

fn moved(status: u16, location: &str) -> Reply {
    Reply::text(code(status), format!("Moved to {location}.")).with(LOCATION, location)
}

fn page() -> Reply {
    let page =
        "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body>Back soon.</body></html>\n";
    Reply::typed(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn code(status: u16) -> StatusCode {
    let code = StatusCode::from_u16(status).ok().filter(|code| (200..600).contains(&code.as_u16()));
    code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

//! What GitLab doesn't have and pass-through tests want: a mirror, a tap and a sink.

use http::StatusCode;
use serde_json::json;

use super::bodies::Received;
use crate::archive::{Content, hex};
use crate::ask::Ask;
use crate::counters::Counters;
use crate::payload::Source;
use crate::reply::Reply;

/// `/echo…`: method, target, fields in received order and spelling, length and digest of the body.
pub(super) async fn echo(ask: &Ask, body: &mut Received<'_>) -> Result<Reply, Reply> {
    let (length, sha256) = swallow(body).await?;
    let body = json!({
        "method": ask.seen.method,
        "target": ask.seen.target,
        "headers": ask.seen.headers,
        "peer": ask.seen.peer.to_string(),
        "length": length,
        "sha256": sha256,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `POST /sink`.
pub(super) async fn sink(body: &mut Received<'_>) -> Result<Reply, Reply> {
    let (length, sha256) = swallow(body).await?;
    Ok(Reply::json(StatusCode::OK, &json!({ "length": length, "sha256": sha256 })))
}

/// `GET /bytes/:n`: so many bytes of [`pattern`](crate::pattern).
pub(super) fn bytes(ask: &Ask, count: u64) -> Reply {
    if !ask.reads() {
        return Reply::no_route();
    }
    let mut reply = Reply::typed(StatusCode::OK, "application/octet-stream", "");
    reply.source = Source::whole(Content::Pattern(count));
    reply
}

/// `GET /standin/counters`.
pub(super) fn counters(counters: &Counters) -> Reply {
    let mut line = counters.to_json().to_string();
    line.push('\n');
    Reply::typed(StatusCode::OK, "application/json", line)
}

async fn swallow(body: &mut Received<'_>) -> Result<(u64, String), Reply> {
    let mut length = 0u64;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    while let Some(data) = body.next().await? {
        length += u64::try_from(data.len()).unwrap_or(u64::MAX);
        digest.update(&data);
    }
    Ok((length, hex(digest.finish().as_ref())))
}

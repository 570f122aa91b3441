//! GitLab's answers as clients get them.
//!
//! Owns the one form that they go out in. Whether an answer came to a question of larder's own, to a leader's request or
//! to the client's own, none of it shows: a refusal that looked otherwise would tell a stranger what is held.

use http::response::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use http_body::Body as _;

use super::body::Body;
use crate::access::Refusal;
use crate::fill::Relayed;
use crate::gitlab::grant::judge::CONSTANT;
use crate::http::hop;

/// Makes a client's answer of GitLab's: the same status, reason phrase and fields, in their order and spelling (hyper
/// keeps the last two beside the fields), without those of GitLab's own connection and of its parts among each other,
/// framed as GitLab framed it. `to_head`: the body doesn't come, whatever the fields say.
pub(super) fn answer(head: Parts, body: Body, to_head: bool) -> Response<Body> {
    let Parts { status, headers: mut fields, extensions, .. } = head;
    hop::strip_answer(&mut fields);
    // A HEAD's length, and a 304's, is of a body that doesn't come.
    if !to_head && status != StatusCode::NOT_MODIFIED {
        say_length(status, &mut fields, body.size_hint().exact());
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = fields;
    *answer.extensions_mut() = extensions;
    answer
}

/// Says a body's length once and plainly where GitLab said it; hyper adds one that is missing.
fn say_length(status: StatusCode, fields: &mut HeaderMap, length: Option<u64>) {
    match length {
        Some(length) if status != StatusCode::NO_CONTENT && fields.contains_key(header::CONTENT_LENGTH) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        _ => hop::leave_out(fields, |name| name == header::CONTENT_LENGTH),
    }
}

/// GitLab's refusal of a question, word for word.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    let Refusal { mut head, body, sized, .. } = refusal;
    forget_constant(&mut head.headers);
    answer(head, if sized { Body::Whole(body) } else { Body::Unsized(Some(body)) }, false)
}

/// GitLab's answer to a leader's own request. `shared`: such requests of clients go by HTTP/2, which knows neither reason
/// phrases nor spellings of names, whichever way the leader's went.
pub(super) fn relayed(relayed: Relayed, shared: bool) -> Response<Body> {
    let Relayed { mut head, first, rest } = relayed;
    forget_constant(&mut head.headers);
    if shared && head.version != Version::HTTP_2 {
        head.extensions = Extensions::new();
    }
    answer(head, Body::Through(first, rest), false)
}

/// Whether GitLab may answer a client's own request in another form than a question in its name, which carries none of
/// these fields: in another coding or language, or with trailers.
pub(super) fn may_differ(fields: &HeaderMap) -> bool {
    const OTHERS: [HeaderName; 5] =
        [header::ACCEPT_LANGUAGE, header::ACCEPT_CHARSET, header::TE, header::UPGRADE, header::EXPECT];
    let identity = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    !fields.get_all(header::ACCEPT_ENCODING).iter().all(identity)
        || OTHERS.iter().any(|name| fields.contains_key(name))
}

/// Whether a client asks for less than all, or for all on a condition.
pub(super) fn asks_for_part(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| name == header::RANGE || name.as_str().starts_with("if-"))
}

/// Whether a condition is one that older GitLab finds met whatever it has.
pub(super) fn asks_by_constant(fields: &HeaderMap) -> bool {
    let mut values = fields.get_all(header::IF_NONE_MATCH).iter();
    values.any(|value| value.to_str().is_ok_and(|value| value.contains(CONSTANT)))
}

/// Removes the tag that older GitLab gives to everything.
pub(super) fn forget_constant(fields: &mut HeaderMap) {
    if fields.get(header::ETAG).is_some_and(|tag| tag.as_bytes() == CONSTANT.as_bytes()) {
        hop::leave_out(fields, |name| name == header::ETAG);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_a_question_does_not_carry_may_make_another_answer() {
        for (pairs, differs) in [
            (&[][..], false),
            (&[("accept", "*/*"), ("range", "bytes=0-1"), ("if-none-match", "*")], false),
            (&[("accept-encoding", "identity")], false),
            (&[("accept-encoding", "gzip")], true),
            (&[("accept-encoding", "identity, br")], true),
            (&[("accept-encoding", "")], true),
            (&[("accept-language", "de")], true),
            (&[("te", "trailers")], true),
        ] {
            assert_eq!(may_differ(&map(pairs)), differs, "{pairs:?}");
        }
    }

    #[test]
    fn a_length_stands_where_gitlab_said_it() {
        let (mut head, ()) = Response::new(()).into_parts();
        head.headers =
            map(&[("server", "nginx"), ("content-length", "3"), ("connection", "close"), ("x-a", "1")]);
        let names = |answer: &Response<Body>| {
            answer.headers().keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        let sized = answer(head.clone(), Body::Whole(Bytes::from_static(b"abc")), false);
        assert_eq!(names(&sized), ["server", "content-length", "x-a"]);
        let unsized_ = answer(head.clone(), Body::Unsized(Some(Bytes::new())), false);
        assert_eq!(names(&unsized_), ["server", "x-a"]);
        let to_head = answer(head, Body::empty(), true);
        assert_eq!(to_head.headers()[header::CONTENT_LENGTH], "3");
    }
}

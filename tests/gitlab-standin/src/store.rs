//! The object store: signed URLs in, bytes or XML out (Amazon S3's REST API, `GetObject` and "Error responses").

mod sign;

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, SERVER,
};
use http::{HeaderMap, Method, StatusCode};

use crate::ask::Ask;
use crate::reply::{Reply, field};
use crate::serve::{self, Choice};
use crate::world::World;

/// The bucket, first in every object's URL.
const BUCKET: &str = "/gitlab-artifacts/";
/// Fields that hold credentials of GitLab's, or act like one. None has any business here.
const CREDENTIAL_FIELDS: [&str; 11] = [
    "authorization",
    "proxy-authorization",
    "private-token",
    "job-token",
    "deploy-token",
    "runner-token",
    "cookie",
    "sudo",
    "dpop",
    "x-gitlab-static-object-token",
    "x-csrf-token",
];
/// Parameters of the same kind.
const CREDENTIAL_PARAMS: [&str; 7] =
    ["private_token", "job_token", "token", "access_token", "bearer_token", "sudo", "rss_token"];

/// Fields that a signed URL sets on the answer (`response-content-type`, `response-content-disposition`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Override<'a> {
    pub(crate) content_type: &'a str,
    pub(crate) disposition: &'a str,
}

impl Override<'_> {
    /// Sets them where there is content.
    fn apply(self, reply: Reply) -> Reply {
        if matches!(reply.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            reply.with(CONTENT_TYPE, self.content_type).with(CONTENT_DISPOSITION, self.disposition)
        } else {
            reply
        }
    }
}

/// A URL that opens `object` for `method` for as long as links live.
pub(crate) fn signed_url(world: &World, object: &str, method: &Method, over: Option<Override<'_>>) -> String {
    let path = format!("{BUCKET}{object}");
    let signer = sign::Signer { key: &key(world), method, path: &path, over };
    format!("{}{path}?{}", world.store_url, signer.query(world.now(), world.setup.link_lifetime))
}

/// Whether the request carries what GitLab alone should see.
pub(crate) fn is_stray(ask: &Ask) -> bool {
    let field = CREDENTIAL_FIELDS.iter().any(|name| ask.headers.contains_key(*name));
    field || ask.params.iter().any(|(name, _)| CREDENTIAL_PARAMS.contains(&name.as_str()))
}

/// The store's answer to a client.
pub(crate) fn answer(world: &World, ask: &Ask) -> Reply {
    if is_stray(ask) {
        return error(StatusCode::BAD_REQUEST, "InvalidArgument", "Unsupported Authorization Type");
    }
    if !ask.reads() {
        return error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The method is not allowed.");
    }
    let over = ask.param("response-content-type").zip(ask.param("response-content-disposition"));
    let over = over.map(|(content_type, disposition)| Override { content_type, disposition });
    let signer = sign::Signer { key: &key(world), method: &ask.method, path: ask.path(), over };
    match signer.verify(ask, world.now()) {
        Ok(()) => {}
        Err(sign::Refused::Expired) => {
            return error(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
        }
        Err(sign::Refused::Wrong) => {
            let text = "The request signature we calculated does not match the signature you provided.";
            return error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", text);
        }
    }
    let path = ask.path().strip_prefix(BUCKET).unwrap_or_default();
    object(world, path, &ask.method, &ask.headers, over)
}

/// The object as the store serves it to whoever has access; Workhorse calls it as well.
pub(crate) fn object(
    world: &World,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
    over: Option<Override<'_>>,
) -> Reply {
    let reply = plain(world, path, method, headers);
    match over {
        Some(over) => over.apply(reply),
        None => reply,
    }
}

fn plain(world: &World, path: &str, method: &Method, headers: &HeaderMap) -> Reply {
    let Some(object) = world.objects.get(path) else {
        return error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    let content = object.archive.content();
    // Not the content's MD5, but as long, as strong and as opaque as a multipart upload's.
    let etag = format!("\"{}-1\"", object.archive.sha256().get(..32).unwrap_or_default());
    let choice = serve::choose(method, headers, Some(&etag), object.modified, content.len());
    let reply = marked(Reply::new(StatusCode::OK))
        .with(ETAG, &etag)
        .with(LAST_MODIFIED, &httpdate::fmt_http_date(object.modified))
        .with(CONTENT_TYPE, "application/octet-stream")
        .with(field("x-amz-server-side-encryption"), "AES256");
    match choice {
        Choice::Part(span) if span.len > 0 => serve::part(reply, content, span),
        Choice::NotModified => serve::not_modified(reply),
        Choice::PreconditionFailed => {
            let text = "At least one of the pre-conditions you specified did not hold";
            error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", text)
        }
        Choice::Unsatisfiable | Choice::Part(_) => {
            let text = "The requested range is not satisfiable";
            error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", text)
                .with(CONTENT_RANGE, &format!("bytes */{}", content.len()))
        }
        // S3 serves one range; a list or nonsense gets the whole object.
        Choice::Whole | Choice::Parts(_) | Choice::Malformed => serve::whole(reply, content),
    }
}

fn error(status: StatusCode, code: &str, text: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{text}</Message>\
         <RequestId>0A1B2C3D4E5F6071</RequestId></Error>"
    );
    marked(Reply::typed(status, "application/xml", body)).with(ACCEPT_RANGES, "bytes")
}

fn marked(reply: Reply) -> Reply {
    reply
        .with(SERVER, "AmazonS3")
        .with(field("x-amz-request-id"), "0A1B2C3D4E5F6071")
        .with(field("x-amz-id-2"), "c3RhbmQtaW4gc3RhbmQtaW4gc3RhbmQtaW4=")
}

fn key(world: &World) -> Vec<u8> {
    format!("object store key {}", world.setup.seed).into_bytes()
}

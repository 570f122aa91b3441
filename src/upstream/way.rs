//! Which requests may share a connection.
//!
//! HTTP/2 is for many small exchanges at once: 300 bytes came at 1.3 times the rate of HTTP/1.1, with 0.85 of its CPU time
//! (TLS, nginx, 32 clients, two cores). What is long has a connection of its own. 1 GiB came at 0.7 to 0.9 of the rate with
//! 1.4 times the CPU time, whatever the windows: each 8 KiB are a frame. And upwards, what GitLab's nginx lets a client send
//! ahead is 64 KiB (`http2_body_preread_size`), or less where it doesn't buffer (`proxy_request_buffering off`, as for
//! artifacts, pushes and LFS), which makes an upload as slow as the line is long.

use http::{Request, header};
use http_body::Body as _;

use super::again::KEPT;
use super::request_body::RequestBody;
use crate::base::num::to_u64;
use crate::http::content;

/// What goes over shared connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Requests without a body, or with one so small that it can be sent again, unless they are [known](is_long) to be
    /// answered by a long one; and gRPC, which needs HTTP/2.
    Small,
    /// All that HTTP/2 can carry.
    All,
}

impl Sharing {
    /// Whether it holds for a request. Never for a change of protocol, which is one of HTTP/1.1 alone, and not where the
    /// client waits for 100: nginx says it over HTTP/1.1 alone.
    pub(super) fn covers(self, request: &Request<RequestBody>) -> bool {
        let fields = request.headers();
        if fields.contains_key(header::UPGRADE) || fields.contains_key(header::EXPECT) {
            return false;
        }
        let is_small = || request.body().size_hint().exact().is_some_and(|size| size <= to_u64(KEPT));
        self == Self::All
            || content::is_grpc(fields)
            || (is_small() && self.covers_small(request.uri().path()))
    }

    /// Whether it holds for a small request for this path.
    pub(super) fn covers_small(self, path: &str) -> bool {
        self == Self::All || !is_long(path)
    }
}

/// Whether GitLab is known to answer with a long body: repositories as `git` fetches them, their files as one archive,
/// LFS objects, packages, layers of images. Wrong guesses cost speed alone.
fn is_long(path: &str) -> bool {
    const ENDS: [&str; 2] = ["/git-upload-pack", "/git-receive-pack"];
    const PARTS: [&str; 5] =
        ["/gitlab-lfs/objects/", "/-/archive/", "/repository/archive", "/packages/", "/blobs/sha256:"];
    ENDS.iter().any(|end| path.ends_with(end)) || PARTS.iter().any(|part| path.contains(part))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use http_body::{Body as HttpBody, Frame};
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::upstream::request_body::{self, BoxError};

    /// A body of unknown length.
    struct Unknown;

    impl HttpBody for Unknown {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    fn sized(size: usize) -> RequestBody {
        Full::new(Bytes::from(vec![0; size])).map_err(|never| match never {}).boxed_unsync()
    }

    #[test]
    fn what_is_small_or_grpc_is_shared_and_what_http2_cannot_carry_never() {
        for (body, name, value, small, all) in [
            (request_body::empty(), "accept", "*/*", true, true),
            (sized(KEPT), "accept", "*/*", true, true),
            (sized(KEPT + 1), "accept", "*/*", false, true),
            (Unknown.boxed_unsync(), "accept", "*/*", false, true),
            (Unknown.boxed_unsync(), "content-type", "application/grpc", true, true),
            (Unknown.boxed_unsync(), "content-type", "application/grpc+proto", true, true),
            (Unknown.boxed_unsync(), "content-type", "application/grpc-web", false, true),
            (request_body::empty(), "upgrade", "websocket", false, false),
            (sized(3), "expect", "100-continue", false, false),
        ] {
            let mut request = Request::new(body);
            *request.headers_mut() =
                HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]);
            let found = (Sharing::Small.covers(&request), Sharing::All.covers(&request));
            assert_eq!(found, (small, all), "{request:?}");
        }
    }

    #[test]
    fn what_is_known_to_be_long_is_told_by_its_path() {
        for (path, long) in [
            ("/g/p.git/git-upload-pack", true),
            ("/g/p.git/info/refs", false),
            ("/g/p.git/gitlab-lfs/objects/0123", true),
            ("/g/p/-/archive/main/p-main.zip", true),
            ("/api/v4/projects/1/repository/archive.zip", true),
            ("/api/v4/projects/1/packages/generic/a/1.0/a.tgz", true),
            ("/api/v4/projects/1/packages", false),
            ("/v2/g/dependency_proxy/containers/alpine/blobs/sha256:01", true),
            ("/api/v4/projects/1/jobs/2/artifacts", false),
            ("/api/v4/jobs/request", false),
            ("/", false),
        ] {
            assert_eq!(is_long(path), long, "{path}");
        }
    }
}

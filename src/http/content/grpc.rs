//! Calls of gRPC: GitLab's agent server (KAS) and its job router speak it.

use http::{HeaderMap, header};

/// Whether a request is one: it says so in its type (gRPC over HTTP/2, "Content-Type"). gRPC-Web, made for HTTP/1.1, is
/// another protocol.
pub(crate) fn is_grpc(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX));
    rest.is_some() && matches!(kind.as_bytes().get(PREFIX.len()), None | Some(b'+' | b';'))
}

const PREFIX: &str = "application/grpc";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_call_is_known_by_its_type() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC;x=y", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let fields = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc(&fields), call, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}

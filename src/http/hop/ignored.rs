//! Fields that the operator says don't matter to GitLab's answers.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};

use super::{is_forwarding, is_hop_by_hop, is_internal, read_name};

/// What the names of fields that pass credentials, or say in whose name, have in them.
const TELLING: [&str; 18] = [
    "auth",
    "token",
    "cookie",
    "session",
    "secret",
    "passw",
    "sudo",
    "dpop",
    "api-key",
    "apikey",
    "csrf",
    "cert",
    "user",
    "identity",
    "signature",
    "credential",
    "principal",
    "jwt",
];

/// Fields that are neither sent with questions nor count in them. A name goes by how it is [read](read_name).
#[derive(Debug, Default)]
pub struct Ignored(Vec<String>);

impl Ignored {
    /// Fields with these names.
    pub fn new(names: &[HeaderName]) -> Self {
        Self(names.iter().map(|name| read_name(name).into_owned()).collect())
    }

    /// Their names.
    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    /// A request's fields without them.
    pub(crate) fn without(&self, fields: &Arc<HeaderMap>) -> Arc<HeaderMap> {
        let is_one = |name: &HeaderName| self.0.iter().any(|ignored| *ignored == read_name(name));
        if self.0.is_empty() || !fields.keys().any(is_one) {
            return Arc::clone(fields);
        }
        let left = fields.iter().filter(|(name, _)| !is_one(name));
        Arc::new(left.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

/// Whether a field may be ignored by its name: it is none that passes a credential, that says in whose name or which way a
/// request came, or by which larder itself is led.
pub(crate) fn may_be_ignored(name: &HeaderName) -> bool {
    let read = read_name(name);
    let read = read.as_ref();
    let tells = read != "user-agent" && TELLING.iter().any(|part| read.contains(part));
    let leads = is_forwarding(read) || is_hop_by_hop(read) || is_internal(name);
    !tells && !leads && *name != header::HOST && !read.starts_with("content-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().unwrap()
    }

    #[test]
    fn no_credential_and_no_way_may_be_ignored() {
        for text in [
            "authorization",
            "Proxy-Authorization",
            "cookie",
            "private-token",
            "PRIVATE_TOKEN",
            "job-token",
            "job_token",
            "deploy-token",
            "runner-token",
            "sudo",
            "dpop",
            "x-gitlab-static-object-token",
            "x-csrf-token",
            "x-api-key",
            "x_forwarded_user",
            "remote-user",
            "x-ssl-client-cert",
            "x-amzn-oidc-identity",
            "x-forwarded-for",
            "x-real_ip",
            "forwarded",
            "via",
            "host",
            "connection",
            "transfer_encoding",
            "content-length",
            "gitlab-workhorse",
        ] {
            assert!(!may_be_ignored(&name(text)), "{text}");
        }
        for text in ["x-my-request-number", "X_Ticket", "user-agent", "accept", "x-edge-hop"] {
            assert!(may_be_ignored(&name(text)), "{text}");
        }
    }

    #[test]
    fn they_are_left_out_however_they_are_spelt() {
        let ignored = Ignored::new(&[name("x-edge_number")]);
        let mut fields = HeaderMap::new();
        for text in ["x-edge-number", "x_edge_number", "private-token", "x-edge"] {
            fields.append(name(text), "1".parse().unwrap());
        }
        fields.append(name("x-edge"), "2".parse().unwrap());
        let left = ignored.without(&Arc::new(fields.clone()));
        assert_eq!((left.len(), left.get_all("x-edge").iter().count()), (3, 2));
        assert!(left.contains_key("private-token"));
        let all = Arc::new(fields);
        assert!(Arc::ptr_eq(&all, &Ignored::default().without(&all)));
    }
}

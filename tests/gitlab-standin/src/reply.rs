//! An answer before it becomes a body on the wire.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::payload::Source;

/// Status, fields, body, and what to count.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Boxed: a refusal travels as the error of many a function.
    pub(crate) headers: Box<HeaderMap>,
    pub(crate) source: Source,
    /// `Content-Length` where the body is shorter: the connection ends short of it.
    pub(crate) declares: Option<u64>,
    /// GitLab asked its object store for it.
    pub(crate) proxied: bool,
    /// What a HEAD made GitLab read from its store.
    pub(crate) head_cost: u64,
}

impl Reply {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: Box::default(),
            source: Source::default(),
            declares: None,
            proxied: false,
            head_cost: 0,
        }
    }

    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self::typed(status, "application/json", body.to_string())
    }

    pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::typed(status, "text/plain", body)
    }

    pub(crate) fn typed(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::new(status).with(CONTENT_TYPE, content_type);
        reply.source = Source::bytes(body);
        reply
    }

    /// `{"message":"404 Not found"}` and the like (`lib/api/helpers.rb`, `render_api_error!`).
    pub(crate) fn message(status: StatusCode, text: &str) -> Self {
        Self::json(status, &json!({ "message": text }))
    }

    pub(crate) fn unauthorized() -> Self {
        Self::message(StatusCode::UNAUTHORIZED, "401 Unauthorized")
    }

    pub(crate) fn forbidden() -> Self {
        Self::message(StatusCode::FORBIDDEN, "403 Forbidden")
    }

    pub(crate) fn forbidden_because(reason: &str) -> Self {
        Self::message(StatusCode::FORBIDDEN, &format!("403 Forbidden - {reason}"))
    }

    pub(crate) fn no_project() -> Self {
        Self::message(StatusCode::NOT_FOUND, "404 Project Not Found")
    }

    /// No such record: lower-case f.
    pub(crate) fn no_record() -> Self {
        Self::message(StatusCode::NOT_FOUND, "404 Not found")
    }

    /// No such file: upper-case F.
    pub(crate) fn no_file() -> Self {
        Self::message(StatusCode::NOT_FOUND, "404 Not Found")
    }

    /// No such route.
    pub(crate) fn no_route() -> Self {
        Self::json(StatusCode::NOT_FOUND, &json!({ "error": "404 Not Found" }))
    }

    /// Sets a field, beyond ASCII as UTF-8. A value that no field can hold is left out.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(name, value);
        }
    }

    /// Adds a field beside those of its name.
    pub(crate) fn add(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.append(name, value);
        }
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A field name from lower-case text known to be one.
pub(crate) const fn field(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

//! What a request gets: pure, from its head and the state.

use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Method, Response, StatusCode, request::Parts};

use super::host::{self, Field, Stray};
use super::{Admin, Phase};

const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer before it becomes HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdminAnswer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    /// One more field, where the status asks for it.
    pub(super) field: Option<(HeaderName, &'static str)>,
    pub(super) body: String,
}

impl AdminAnswer {
    fn text(status: StatusCode, line: &str) -> Self {
        Self { status, content_type: TEXT, field: None, body: format!("{line}\n") }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.field = Some((name, value));
        self
    }

    /// As HTTP; nothing here is fit to be kept by a cache or to be guessed at by a browser.
    pub(super) fn head<B>(&self, body: B) -> Result<Response<B>, http::Error> {
        let mut head = Response::builder()
            .status(self.status)
            .header(CONTENT_TYPE, self.content_type)
            .header(CACHE_CONTROL, "no-store")
            .header(X_CONTENT_TYPE_OPTIONS, "nosniff");
        if let Some((name, value)) = &self.field {
            head = head.header(name, *value);
        }
        head.body(body)
    }
}

/// Answers a request. What is open is named here; everything else, existing or not, needs the token first.
pub(super) fn answer(request: &Parts, admin: &Admin) -> AdminAnswer {
    if let Err(stray) = host::check(&request.headers, request.uri.authority(), &admin.hosts) {
        return turn_away(stray);
    }
    let open: fn(&Admin) -> AdminAnswer = match request.uri.path() {
        "/healthz" => |_| AdminAnswer::text(StatusCode::OK, "ok"),
        "/readyz" => |admin| readiness(admin.readiness.stage()),
        "/metrics" => metrics,
        _ => return guarded(request, admin),
    };
    if matches!(request.method, Method::GET | Method::HEAD) {
        open(admin)
    } else {
        AdminAnswer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD").with(ALLOW, "GET, HEAD")
    }
}

fn turn_away(stray: Stray) -> AdminAnswer {
    match stray {
        Stray::Malformed => AdminAnswer::text(StatusCode::BAD_REQUEST, "one valid Host field is needed"),
        Stray::Foreign => AdminAnswer::text(
            StatusCode::FORBIDDEN,
            "this Host is neither an IP address nor localhost nor listed in admin.hosts",
        ),
        Stray::Origin => AdminAnswer::text(StatusCode::FORBIDDEN, "requests from other origins are refused"),
    }
}

fn readiness(stage: Phase) -> AdminAnswer {
    match stage {
        Phase::Starting => AdminAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Phase::Ready => AdminAnswer::text(StatusCode::OK, "ready"),
        Phase::Draining => AdminAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
    }
}

fn metrics(admin: &Admin) -> AdminAnswer {
    AdminAnswer { status: StatusCode::OK, content_type: OPENMETRICS, field: None, body: (admin.metrics)() }
}

fn guarded(request: &Parts, admin: &Admin) -> AdminAnswer {
    if bearer(request).is_some_and(|presented| admin.token.is(presented)) {
        AdminAnswer::text(StatusCode::NOT_FOUND, "no such page")
    } else {
        AdminAnswer::text(StatusCode::UNAUTHORIZED, "the token in <cache.dir>/admin.token is needed")
            .with(WWW_AUTHENTICATE, "Bearer realm=\"larder admin\"")
    }
}

fn bearer(request: &Parts) -> Option<&str> {
    let Field::Once(value) = host::single(&request.headers, &AUTHORIZATION) else {
        return None;
    };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

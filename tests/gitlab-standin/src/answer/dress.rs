//! The fields that every answer of GitLab's has, and what Rack does to JSON.

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, ORIGIN, REFERRER_POLICY, SERVER, SET_COOKIE, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::archive::{hex, sha256_hex};
use crate::ask::Ask;
use crate::payload::Source;
use crate::reply::{Reply, field};
use crate::route::Route;
use crate::world::World;

/// Adds what `Rack::ETag`, Grape, Workhorse and nginx add on the way out.
pub(crate) fn dress(world: &mut World, ask: &Ask, mut reply: Reply) -> Reply {
    rack_etag(ask, &mut reply);
    if !reply.headers.contains_key(CACHE_CONTROL) {
        reply.set(CACHE_CONTROL, "no-cache");
    }
    let serial = world.next_answer();
    let id = format!("01{}", hex(&serial.to_be_bytes()).to_uppercase());
    reply.set(field("x-request-id"), &format!("{id:0<26}"));
    reply.set(field("x-gitlab-meta"), &format!("{{\"correlation_id\":\"{id:0<26}\",\"version\":\"1\"}}"));
    reply.set(field("x-runtime"), "0.042042");
    reply.set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    reply.set(X_FRAME_OPTIONS, "SAMEORIGIN");
    if !matches!(ask.route, Route::Web { .. } | Route::SignIn | Route::Home) {
        reply.set(CONTENT_SECURITY_POLICY, "default-src 'none'");
    }
    reply.set(REFERRER_POLICY, "strict-origin-when-cross-origin");
    if !reply.headers.contains_key(SERVER) {
        reply.set(SERVER, "nginx");
    }
    rate_limits(&mut reply.headers, serial);
    if ask.headers.contains_key(ORIGIN) {
        reply.set(VARY, "Origin");
        reply.set(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        reply.set(ACCESS_CONTROL_EXPOSE_HEADERS, "Link, X-Total, X-Request-Id");
    }
    if world.setup.set_cookie {
        let cookie = format!("_gitlab_visit={serial}; path=/; HttpOnly; SameSite=None");
        reply.add(SET_COOKIE, &cookie);
    }
    if let Some(origin) = &world.own_origin {
        name_itself(origin, ask, &mut reply);
    }
    reply
}

/// Redirects lead to GitLab's one name, and cookies are for its domain.
fn name_itself(origin: &str, ask: &Ask, reply: &mut Reply) {
    let path = reply.header(&LOCATION).and_then(|to| to.strip_prefix(&ask.origin)).map(str::to_owned);
    if let Some(path) = path {
        reply.set(LOCATION, &format!("{origin}{path}"));
    }
    let domain = origin.split("://").nth(1).and_then(|authority| authority.split(':').next());
    let values = reply.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies: Vec<String> = values.map(str::to_owned).collect();
    reply.headers.remove(SET_COOKIE);
    for cookie in cookies {
        reply.add(SET_COOKIE, &format!("{cookie}; domain={}", domain.unwrap_or_default()));
    }
}

/// `Rack::ETag` on answers that have no tag: a weak one, 32 digits of the body's SHA-256 (`rack/lib/rack/etag.rb`),
/// and `Rack::ConditionalGet`'s 304 to exactly that.
fn rack_etag(ask: &Ask, reply: &mut Reply) {
    let json = reply.header(&CONTENT_TYPE) == Some("application/json");
    let status = matches!(reply.status, StatusCode::OK | StatusCode::CREATED);
    if !json || !status || reply.headers.contains_key(ETAG) {
        return;
    }
    let Ok(Some(body)) = reply.source.clone().read(u64::MAX) else {
        return;
    };
    let etag = format!("W/\"{}\"", sha256_hex(&body).get(..32).unwrap_or_default());
    reply.set(CACHE_CONTROL, "max-age=0, private, must-revalidate");
    reply.set(ETAG, &etag);
    if ask.reads() && ask.header(IF_NONE_MATCH.as_str()) == Some(etag.as_str()) {
        reply.status = StatusCode::NOT_MODIFIED;
        reply.headers.remove(CONTENT_TYPE);
        reply.source = Source::default();
    }
}

/// Made up, but different on each answer: nobody may replay them.
fn rate_limits(headers: &mut HeaderMap, serial: u64) {
    let spent = serial % 2000;
    for (name, value) in [
        ("ratelimit-limit", 2000),
        ("ratelimit-observed", spent + 1),
        ("ratelimit-remaining", 1999 - spent),
        ("ratelimit-reset", 1_704_067_260),
    ] {
        headers.insert(field(name), HeaderValue::from(value));
    }
    headers.insert(field("ratelimit-name"), HeaderValue::from_static("throttle_authenticated_api"));
}

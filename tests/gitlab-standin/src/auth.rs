//! Who asks: GitLab's credential forms in GitLab's order (`lib/api/api_guard.rb` `find_user_from_sources`,
//! `lib/gitlab/auth/auth_finders.rb`, `config/initializers/doorkeeper.rb`).

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use serde_json::json;

use crate::ask::Ask;
use crate::ids::{JobId, UserId};
use crate::reply::Reply;
use crate::world::{Scope, Token, World};

/// What newer GitLab starts its job tokens with; the personal forms ignore such values.
const JOB_TOKEN_PREFIX: &str = "glcbt-";

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Nobody when anonymous.
    pub(crate) user: Option<UserId>,
    /// The running job whose token it is.
    pub(crate) job: Option<JobId>,
    token: Option<Token>,
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        (self.user, self.scope, self.oauth) == (other.user, other.scope, other.oauth)
    }
}

impl Eq for Token {}

/// The caller, or GitLab's refusal. A wrong token is never anonymous.
pub(crate) fn identify(world: &World, ask: &Ask) -> Result<Caller, Reply> {
    let caller = find(world, ask)?;
    if let Some(token) = caller.token {
        check_scope(world, ask, token.scope)?;
    }
    match ask.param("sudo").or_else(|| ask.header("sudo")) {
        Some(name) => sudo(world, caller, name),
        None => Ok(caller),
    }
}

fn find(world: &World, ask: &Ask) -> Result<Caller, Reply> {
    let bearer = bearer(ask)?;
    let job_allowed = ask.seen.class.allows_job_token();
    if let Some(job) = bearer.filter(|_| job_allowed).and_then(|token| world.running_job(token)) {
        return Ok(Caller { user: job.user, job: Some(job.id), token: None });
    }
    if let Some(token) = bearer.and_then(|text| world.tokens.get(text)).filter(|token| token.oauth) {
        return by_token(token);
    }
    if let Some(text) = personal(ask).or(bearer) {
        let token = world.tokens.get(text).filter(|token| !token.oauth);
        return token.map_or_else(|| Err(Reply::unauthorized()), by_token);
    }
    if let Some(text) = job_token(ask).filter(|_| job_allowed) {
        let job = world.running_job(text).ok_or_else(Reply::unauthorized)?;
        return Ok(Caller { user: job.user, job: Some(job.id), token: None });
    }
    let user = session(ask).filter(|text| ask.reads() || has_csrf_token(world, ask, text));
    let user = user.and_then(|text| world.sessions.get(text)).and_then(|session| session.user);
    Ok(Caller { user, ..Caller::default() })
}

/// `access_token`, then the header, then `bearer_token`; rack-oauth2 refuses the first two together.
fn bearer(ask: &Ask) -> Result<Option<&str>, Reply> {
    let param = ask.param("access_token");
    let header = ask.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    if param.is_some() && header.is_some() {
        return Err(Reply::message(StatusCode::BAD_REQUEST, "400 Bad request"));
    }
    Ok(param.or(header).or_else(|| ask.param("bearer_token")))
}

fn personal(ask: &Ask) -> Option<&str> {
    let value = ask.param("private_token").or_else(|| ask.header("private-token"))?;
    if value.starts_with(JOB_TOKEN_PREFIX) { None } else { Some(value) }
}

/// The value of the three job token forms.
pub(crate) fn job_token(ask: &Ask) -> Option<&str> {
    ask.param("job_token").or_else(|| ask.param("token")).or_else(|| ask.header("job-token"))
}

/// Anything but a read needs the session's token (`lib/gitlab/request_forgery_protection.rb`).
fn has_csrf_token(world: &World, ask: &Ask, session: &str) -> bool {
    ask.header("x-csrf-token") == Some(world.csrf_token(session).as_str())
}

/// The value of the session cookie.
pub(crate) fn session(ask: &Ask) -> Option<&str> {
    let cookies = ask.headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == "_gitlab_session").map(|(_, value)| value)
}

fn by_token(token: &Token) -> Result<Caller, Reply> {
    if token.revoked {
        let text = "Token was revoked. You have to re-authorize from the user.";
        let body = json!({ "error": "invalid_token", "error_description": text });
        let challenge = format!(
            "Bearer realm=\"Protected by OAuth 2.0\", error=\"invalid_token\", error_description=\"{text}\""
        );
        return Err(Reply::json(StatusCode::UNAUTHORIZED, &body).with(WWW_AUTHENTICATE, &challenge));
    }
    Ok(Caller { user: Some(token.user), job: None, token: Some(*token) })
}

fn check_scope(world: &World, ask: &Ask, scope: Scope) -> Result<(), Reply> {
    let enough = match scope {
        Scope::Api | Scope::Sudo => true,
        Scope::ReadApi => ask.is_get() || (ask.is_head() && world.setup.read_api_head),
        Scope::None => false,
    };
    if enough { Ok(()) } else { Err(insufficient(if ask.reads() { "api read_api" } else { "api" })) }
}

fn insufficient(scope: &str) -> Reply {
    let text = "The request requires higher privileges than provided by the access token.";
    let body = json!({ "error": "insufficient_scope", "error_description": text, "scope": scope });
    Reply::json(StatusCode::FORBIDDEN, &body)
}

/// Acts as someone else (`lib/api/helpers.rb`, `sudo!`): admins, with a token of `sudo` scope.
fn sudo(world: &World, caller: Caller, name: &str) -> Result<Caller, Reply> {
    let user = caller.user.ok_or_else(Reply::unauthorized)?;
    if !world.is_admin(user) {
        return Err(Reply::forbidden_because("Must be admin to use sudo"));
    }
    match caller.token.map(|token| token.scope) {
        Some(Scope::Sudo) => {}
        Some(_) => return Err(insufficient("sudo")),
        None => {
            let reason = "Must be authenticated using an OAuth or personal access token to use sudo";
            return Err(Reply::forbidden_because(reason));
        }
    }
    let missing = || {
        let text = format!("404 User with ID or username '{name}' Not Found");
        Reply::message(StatusCode::NOT_FOUND, &text)
    };
    let user = world.find_user(name).ok_or_else(missing)?;
    Ok(Caller { user: Some(user), ..caller })
}

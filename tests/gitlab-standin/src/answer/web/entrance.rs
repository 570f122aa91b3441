//! From a path in the address bar to a project (`app/controllers/concerns/routable_actions.rb`): who may not see it
//! is asked to sign in, and learns nothing.

use http::StatusCode;
use http::header::SET_COOKIE;

use super::{pages, redirect};
use crate::ask::Ask;
use crate::auth;
use crate::ids::{ProjectId, UserId};
use crate::percent;
use crate::reply::Reply;
use crate::world::World;

/// The project and who looks at it. GET with an outdated path or another case is sent to the right one.
pub(super) fn enter(
    world: &mut World,
    ask: &Ask,
    segment: &str,
) -> Result<(ProjectId, Option<UserId>), Reply> {
    let user = auth::session(ask).and_then(|session| world.sessions.get(session)).and_then(|it| it.user);
    let text = percent::decode_text(segment).ok_or_else(malformed)?;
    let found = world.find_path(&text);
    // Old paths are followed for GET alone.
    let found = found.filter(|found| ask.is_get() || !found.moved).map(|found| found.project);
    let Some(project) = found.filter(|project| world.may_see(user, project, ask)) else {
        return Err(if user.is_some() { pages::not_found() } else { to_sign_in(world, ask) });
    };
    if ask.is_get() && project.path != text {
        let (wrong, right) = (format!("/{segment}/-/"), format!("/{}/-/", project.path));
        let url = format!("{}{}", ask.origin, ask.target.replacen(&wrong, &right, 1));
        return Err(redirect(StatusCode::MOVED_PERMANENTLY, &url));
    }
    Ok((project.id, user))
}

/// What `handle_malformed_strings.rb` answers before any controller.
pub(super) fn malformed() -> Reply {
    Reply::text(StatusCode::BAD_REQUEST, "Bad Request")
}

/// 302 to the sign-in page. What GET asked for is remembered, in a session that begins here.
pub(super) fn to_sign_in(world: &mut World, ask: &Ask) -> Reply {
    let reply = redirect(StatusCode::FOUND, &format!("{}/users/sign_in", ask.base));
    let return_to = ask.is_get().then(|| ask.target.clone());
    let known = auth::session(ask).filter(|session| world.sessions.contains_key(*session));
    if let Some(session) = known.and_then(|session| world.sessions.get_mut(session)) {
        session.return_to = return_to;
        return reply;
    }
    let session = world.add_visitor(return_to);
    reply.with(SET_COOKIE, &cookie(ask, &session))
}

/// `config/initializers/session_store.rb`.
pub(super) fn cookie(ask: &Ask, session: &str) -> String {
    let root = ask.base.strip_prefix(&ask.origin).filter(|root| !root.is_empty()).unwrap_or("/");
    let secure = if ask.origin.starts_with("https:") { "; secure; SameSite=None" } else { "" };
    format!("_gitlab_session={session}; path={root}; HttpOnly{secure}")
}

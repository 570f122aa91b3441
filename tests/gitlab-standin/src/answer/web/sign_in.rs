//! `/users/sign_in` (Devise's sessions controller, with GitLab's field names), and where one lands without a place
//! to go back to.

use http::StatusCode;
use http::header::SET_COOKIE;

use super::{Form, entrance, is_genuine, pages, redirect};
use crate::ask::Ask;
use crate::auth;
use crate::reply::Reply;
use crate::world::World;

/// The page, or the attempt.
pub(crate) fn sign_in(world: &mut World, ask: &Ask, form: &Form) -> Reply {
    if ask.reads() {
        return form_page(world, ask, "");
    }
    if !is_genuine(world, ask, form) {
        return pages::unprocessable();
    }
    let value = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (login, password) = (value("user[login]").unwrap_or_default(), value("user[password]"));
    let user = world.users.values().find(|user| user.name.eq_ignore_ascii_case(login));
    let user = user.filter(|user| password.is_some() && user.password.as_deref() == password);
    let Some(user) = user.map(|user| user.id) else {
        return form_page(world, ask, "Invalid login or password.");
    };
    // The id changes, or whoever had planted one would be in as well.
    let old = auth::session(ask).and_then(|session| world.sessions.remove(session));
    let session = world.add_session(user);
    let back = old.and_then(|session| session.return_to);
    let url = back.map_or_else(|| format!("{}/", ask.base), |target| format!("{}{target}", ask.origin));
    redirect(StatusCode::FOUND, &url).with(SET_COOKIE, &entrance::cookie(ask, &session))
}

/// `POST /users/sign_out`: the session ends, and another one begins with nobody in it.
pub(crate) fn sign_out(world: &mut World, ask: &Ask, form: &Form) -> Reply {
    if !is_genuine(world, ask, form) {
        return pages::unprocessable();
    }
    if let Some(session) = auth::session(ask) {
        world.sessions.remove(session);
    }
    let session = world.add_visitor(None);
    let reply = redirect(StatusCode::FOUND, &format!("{}/users/sign_in", ask.base));
    reply.with(SET_COOKIE, &entrance::cookie(ask, &session))
}

/// The form. A browser without a session gets one, for the form's token.
fn form_page(world: &mut World, ask: &Ask, alert: &str) -> Reply {
    let known = auth::session(ask).and_then(|session| Some((session, world.sessions.get(session)?)));
    if known.is_some_and(|(_, session)| session.user.is_some()) {
        return redirect(StatusCode::FOUND, &format!("{}/", ask.base));
    }
    let known = known.map(|(session, _)| session.to_owned());
    let new = known.is_none().then(|| world.add_visitor(None));
    let session = known.as_ref().or(new.as_ref()).map(String::as_str).unwrap_or_default();
    let page = pages::sign_in(ask, alert, &world.csrf_token(session));
    match new {
        Some(session) => page.with(SET_COOKIE, &entrance::cookie(ask, &session)),
        None => page,
    }
}

/// `/`: the projects that the session's user sees.
pub(in crate::answer) fn home(world: &mut World, ask: &Ask) -> Reply {
    let user = auth::session(ask).and_then(|session| world.sessions.get(session)).and_then(|it| it.user);
    if user.is_none() {
        return entrance::to_sign_in(world, ask);
    }
    let seen = world.projects.values().filter(|project| world.may_see(user, project, ask));
    pages::projects(ask, seen)
}

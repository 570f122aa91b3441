//! Small routes that clients ask first: who am I, which version, which project.

use http::StatusCode;
use serde_json::json;

use crate::ask::Ask;
use crate::auth::Caller;
use crate::reply::Reply;
use crate::world::World;

/// `GET /projects/:id`.
pub(super) fn project(world: &World, ask: &Ask, caller: Caller, segment: &str) -> Result<Reply, Reply> {
    let project = world.project(ask, caller, segment)?;
    let name = project.path.rsplit('/').next().unwrap_or_default();
    let body = json!({
        "id": project.id.0,
        "name": name,
        "path": name,
        "path_with_namespace": project.path,
        "visibility": project.visibility.as_str(),
        "public_jobs": project.public_builds,
        "web_url": format!("{}/{}", ask.base, project.path),
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET /user`.
pub(super) fn user(world: &World, caller: Caller) -> Result<Reply, Reply> {
    let user = caller.user.and_then(|user| world.users.get(&user)).ok_or_else(Reply::unauthorized)?;
    let body = json!({
        "id": user.id.0,
        "username": user.name,
        "name": user.name,
        "state": "active",
        "is_admin": user.admin,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET /version`: only for those who are signed in (`lib/api/metadata.rb`).
pub(super) fn version(caller: Caller) -> Result<Reply, Reply> {
    caller.user.ok_or_else(Reply::unauthorized)?;
    Ok(Reply::json(StatusCode::OK, &json!({ "version": "18.5.0-ee", "revision": "5a1d1d1e1f0" })))
}

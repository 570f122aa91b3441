//! When two answers are the same to whoever asked.

use gitlab_standin::GitLab;
use http::Method;

use crate::support::{Reply, send};

/// Fields that say what a body is; after a redirect those of the object.
const COMPARED: [&str; 3] = ["content-type", "content-disposition", "content-length"];

/// Fields that protect a browser: GitLab's own, which an object store doesn't set.
const SECURITY: [&str; 4] =
    ["x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"];

/// GitLab's answer, and the object's if that was a redirect to the object store.
pub(super) struct Answer {
    pub(super) first: Reply,
    pub(super) object: Option<Reply>,
}

impl Answer {
    /// Goes where GitLab's answer leads, as a client does: without its credentials.
    pub(super) async fn following(gitlab: &GitLab, method: &Method, first: Reply) -> Self {
        let place = first.field("location").filter(|place| place.starts_with(&gitlab.store_url()));
        let object = match place {
            Some(place) => Some(send(method.clone(), place, &[]).await),
            None => None,
        };
        Self { first, object }
    }

    /// What the client has in the end.
    pub(super) fn last(&self) -> &Reply {
        self.object.as_ref().unwrap_or(&self.first)
    }
}

/// In what `ours`, which came through larder at `larder`, isn't GitLab's answer; nothing if a client can't tell.
pub(super) fn differences(
    method: &Method,
    direct: &Answer,
    ours: &Reply,
    gitlab: &str,
    larder: &str,
) -> Vec<String> {
    // Ours may lead to the object as well: what isn't stored is GitLab's own answer.
    let resolved = direct.object.is_some() && !ours.status.is_redirection();
    if resolved && method == Method::HEAD {
        let refused = !ours.status.is_success();
        return refused
            .then(|| format!("status {} and not {}", ours.status, direct.first.status))
            .into_iter()
            .collect();
    }
    let to_store = direct.object.is_some() && !resolved;
    let expected = if resolved { direct.last() } else { &direct.first };
    let mut found = Vec::new();
    if ours.status != expected.status {
        found.push(format!("status {} and not {}", ours.status, expected.status));
    }
    let body = String::from_utf8_lossy(&ours.body).replace(larder, gitlab);
    let same = ours.body == expected.body || body.as_bytes() == expected.body;
    // A redirect to the store names a place that is signed anew each time.
    if !ours.whole || !(same || to_store && ours.body.len() == expected.body.len()) {
        found.push(format!("body {} and not {}", shown(ours), shown(expected)));
    }
    let meant =
        |name| if SECURITY.contains(&name) { field(&direct.first, name) } else { field(expected, name) };
    for name in COMPARED.into_iter().chain(SECURITY) {
        let (got, expected) = (field(ours, name), meant(name));
        if got != expected {
            found.push(format!("{name} {got:?} and not {expected:?}"));
        }
    }
    let place =
        |reply| field(reply, "location").map(|place| unsigned(&place.replace(larder, gitlab), to_store));
    if place(ours) != place(expected) {
        found.push(format!("location {:?} and not {:?}", place(ours), place(expected)));
    }
    found
}

/// A place without its signature, if it has one.
fn unsigned(place: &str, signed: bool) -> String {
    let end = place.find('?').filter(|_| signed).unwrap_or(place.len());
    place.chars().take(end).collect()
}

/// A field's value, which may go beyond ASCII.
fn field(reply: &Reply, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(reply.fields.get(name)?.as_bytes()).into_owned())
}

/// A body, short enough to read.
fn shown(reply: &Reply) -> String {
    let start: String = String::from_utf8_lossy(&reply.body).chars().take(80).collect();
    let cut = if reply.whole { "" } else { ", cut" };
    format!("{} bytes{cut} {start:?}", reply.body.len())
}

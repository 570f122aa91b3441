//! What lies in an archive: the API's `tree` (18.8 and later) and the web's browser read the same list, as GitLab
//! reads it from `metadata.gz` (`lib/gitlab/ci/build/artifacts/metadata.rb`).

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::LINK;
use serde_json::{Value, json};

use super::{download, zip_entry};
use crate::ask::Ask;
use crate::auth::Caller;
use crate::ids::JobId;
use crate::reply::{Reply, field};
use crate::world::{Artifact, World};

/// The API's page sizes (`lib/api/helpers/pagination.rb`).
const PER_PAGE: usize = 20;
const MOST_PER_PAGE: usize = 100;

/// What is in an archive, by path; a directory's path ends in a slash and it has no size.
pub(super) struct Listing(BTreeMap<String, u64>);

impl Listing {
    /// None where GitLab has no metadata: the file is no zip. Names that are no UTF-8 are not listed.
    pub(super) fn of(world: &World, artifact: &Artifact) -> Option<Self> {
        let members = zip_entry::list(world.bytes_of(artifact)?.content()).ok()?;
        let mut paths = BTreeMap::new();
        for member in members {
            let Ok(name) = String::from_utf8(member.name) else {
                continue;
            };
            // Directories need not have members of their own.
            for (slash, _) in name.match_indices('/') {
                paths.entry(name.get(..=slash).unwrap_or_default().to_owned()).or_insert(0);
            }
            paths.entry(name).or_insert(member.size);
        }
        paths.remove("/");
        Some(Self(paths))
    }

    /// The size of a file.
    pub(super) fn file(&self, path: &str) -> Option<u64> {
        self.0.get(path).copied().filter(|_| !path.ends_with('/'))
    }

    /// What lies in `directory` (empty or ending in a slash), directly or at any depth; none if there is none such.
    pub(super) fn below(&self, directory: &str, deep: bool) -> Option<Vec<(&str, u64)>> {
        if !directory.is_empty() && !self.0.contains_key(directory) {
            return None;
        }
        let within = |path: &&String| {
            let rest = path.strip_prefix(directory).unwrap_or_default();
            !rest.is_empty() && (deep || !rest.trim_end_matches('/').contains('/'))
        };
        let below = self.0.iter().filter(|(path, _)| within(path));
        Some(below.map(|(path, size)| (path.as_str(), *size)).collect())
    }
}

/// `GET /projects/:id/jobs/:job_id/artifacts/tree`: refused at expiry like an entry.
pub(super) fn show(
    world: &World,
    ask: &Ask,
    caller: Caller,
    segment: &str,
    job: JobId,
) -> Result<Reply, Reply> {
    let job = download::authorize(world, ask, caller, segment, job)?;
    let artifact = job.available().ok_or_else(Reply::no_file)?;
    let listing = Listing::of(world, artifact).ok_or_else(Reply::no_file)?;
    let directory = match ask.param("path").map(|path| path.trim_matches('/')) {
        None | Some("") => String::new(),
        Some(path) => format!("{path}/"),
    };
    let all = listing.below(&directory, ask.flag("recursive")).ok_or_else(Reply::no_file)?;
    Ok(page(ask, &all.into_iter().map(item).collect::<Vec<_>>()))
}

fn item((path, size): (&str, u64)) -> Value {
    let (path, directory) = (path.trim_end_matches('/'), path.ends_with('/'));
    let name = path.rsplit('/').next().unwrap_or_default();
    if directory {
        json!({ "name": name, "path": path, "type": "directory" })
    } else {
        json!({ "name": name, "path": path, "type": "file", "size": size })
    }
}

/// One page with the fields of `lib/gitlab/pagination/offset_header_builder.rb`.
fn page(ask: &Ask, all: &[Value]) -> Reply {
    let number = |name| ask.param(name).and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    let per_page = number("per_page").unwrap_or(PER_PAGE).min(MOST_PER_PAGE);
    let page = number("page").unwrap_or(1);
    let pages = all.len().div_ceil(per_page).max(1);
    let shown: Vec<_> = all.chunks(per_page).nth(page - 1).unwrap_or_default().to_vec();
    let mut reply = Reply::json(StatusCode::OK, &Value::Array(shown));
    let other = |wanted: Option<usize>| wanted.filter(|page| (1..=pages).contains(page));
    let (previous, next) = (other(page.checked_sub(1)), other(page.checked_add(1)));
    let text = |page: Option<usize>| page.map(|page| page.to_string()).unwrap_or_default();
    for (name, value) in [
        ("x-page", page.to_string()),
        ("x-per-page", per_page.to_string()),
        ("x-total", all.len().to_string()),
        ("x-total-pages", pages.to_string()),
        ("x-prev-page", text(previous)),
        ("x-next-page", text(next)),
    ] {
        reply.set(field(name), &value);
    }
    let links = [("prev", previous), ("next", next), ("first", Some(1)), ("last", Some(pages))];
    let links = links.into_iter().filter_map(|(rel, page)| Some(link(ask, rel, page?, per_page)));
    reply.with(LINK, &links.collect::<Vec<_>>().join(", "))
}

fn link(ask: &Ask, rel: &str, page: usize, per_page: usize) -> String {
    let mut query = format!("page={page}&per_page={per_page}");
    for name in ["path", "recursive"] {
        if let Some(value) = ask.param(name) {
            query = format!("{query}&{name}={}", crate::percent::encode(value));
        }
    }
    format!("<{}{}?{query}>; rel=\"{rel}\"", ask.origin, ask.path())
}

//! Small pages: enough for a browser to find its way from sign-in to a download.

use std::fmt::Write;

use http::StatusCode;

use super::{Visit, entrance, files};
use crate::answer::entry;
use crate::ask::Ask;
use crate::ids::JobId;
use crate::percent;
use crate::reply::Reply;
use crate::world::{Job, Project, World};

pub(super) const HTML: &str = "text/html; charset=utf-8";

/// Text in HTML, also inside quotes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(status: StatusCode, title: &str, body: &str) -> Reply {
    let title = escape(title);
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · GitLab</title></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    );
    Reply::typed(status, HTML, page)
}

/// What is missing, and what one may not know of.
pub(super) fn not_found() -> Reply {
    page(StatusCode::NOT_FOUND, "404: Page not found", "<p>Make sure the address is correct.</p>")
}

/// A form without the session's token.
pub(super) fn unprocessable() -> Reply {
    let text = "<p>The change you requested was rejected.</p>";
    page(StatusCode::UNPROCESSABLE_ENTITY, "422: The change you requested was rejected", text)
}

pub(super) fn sign_in(ask: &Ask, alert: &str, csrf: &str) -> Reply {
    let action = path(ask, "/users/sign_in");
    let body = format!(
        "<p role=\"alert\">{alert}</p><form action=\"{action}\" method=\"post\">\
         <input type=\"hidden\" name=\"authenticity_token\" value=\"{csrf}\">\
         <label>Username <input name=\"user[login]\" autocomplete=\"username\"></label>\
         <label>Password <input name=\"user[password]\" type=\"password\"></label>\
         <button type=\"submit\">Sign in</button></form>"
    );
    page(StatusCode::OK, "Sign in", &body)
}

pub(super) fn projects<'a>(ask: &Ask, projects: impl Iterator<Item = &'a Project>) -> Reply {
    let items = projects.map(|project| {
        link(&path(ask, &format!("/{}/-/artifacts", percent::encode(&project.path))), &project.path)
    });
    page(StatusCode::OK, "Projects", &list(items))
}

/// `/-/jobs/:id`: with its artifacts unless they have expired.
pub(super) fn job(ask: &Ask, visit: &Visit<'_>, job: &Job, csrf: &str) -> Reply {
    let mut body = format!("<p>{}: {}</p>", escape(&job.name), job.status.as_str());
    if job.available().is_some() {
        let base = artifacts_path(ask, visit, job.id);
        let links = [("download", "Download"), ("browse", "Browse")]
            .map(|(to, text)| link(&format!("{base}/{to}"), text));
        body += &list(links.into_iter());
        body += &button(&format!("{base}/keep"), "Keep", csrf, "");
    }
    body += &button(&path(ask, "/users/sign_out"), "Sign out", csrf, "");
    page(StatusCode::OK, &format!("Job #{}", job.id), &body)
}

/// `/-/artifacts`: every file of every job.
pub(super) fn artifacts(world: &World, ask: &Ask, visit: &Visit<'_>, csrf: &str) -> Reply {
    let jobs = world.jobs.values().filter(|job| job.project == visit.project.id);
    let rows = jobs.flat_map(|job| {
        let files = job.artifact.iter().map(|file| ("archive", file));
        files.chain(job.reports.iter().map(|(kind, file)| (kind.as_str(), file))).map(move |file| (job, file))
    });
    let items = rows.map(|(job, (kind, file))| {
        let base = artifacts_path(ask, visit, job.id);
        let job_page = base.trim_end_matches("/artifacts").to_owned();
        let delete = path(ask, &format!("/{}/-/artifacts/{}", percent::encode(&visit.project.path), file.id));
        let hidden = "<input type=\"hidden\" name=\"_method\" value=\"delete\">";
        [
            link(&job_page, &format!("Job #{}", job.id)),
            link(&format!("{base}/download?file_type={}", percent::encode(kind)), &file.filename),
            button(&delete, "Delete", csrf, hidden),
        ]
        .join(" ")
    });
    page(StatusCode::OK, "Artifacts", &list(items))
}

/// `…/artifacts/browse(/*path)`.
pub(super) fn browse(
    world: &World,
    ask: &Ask,
    visit: &Visit<'_>,
    job: JobId,
    directory: &str,
) -> Result<Reply, Reply> {
    let directory = entry::valid(directory).ok_or_else(entrance::malformed)?;
    let directory = match directory.trim_matches('/') {
        "" => String::new(),
        path => format!("{path}/"),
    };
    let listing = files::listing(world, visit, job)?;
    let below = listing.below(&directory, false).ok_or_else(not_found)?;
    let base = artifacts_path(ask, visit, job);
    let items = below.into_iter().map(|(path, size)| {
        let (shown, to) = (path.get(directory.len()..).unwrap_or_default(), percent::encode(path));
        if shown.ends_with('/') {
            return link(&format!("{base}/browse/{}", to.trim_end_matches('/')), shown);
        }
        let (page, raw) =
            (link(&format!("{base}/file/{to}"), shown), link(&format!("{base}/raw/{to}"), "Raw"));
        format!("{page} {size} bytes {raw}")
    });
    let download = link(&format!("{base}/download"), "Download");
    let title = format!("Artifacts of job #{job}: /{directory}");
    Ok(page(StatusCode::OK, &title, &format!("<p>{download}</p>{}", list(items))))
}

/// `…/artifacts/file/*path`: where to get it.
pub(super) fn file(
    world: &World,
    ask: &Ask,
    visit: &Visit<'_>,
    job: JobId,
    path: &str,
) -> Result<Reply, Reply> {
    let path = entry::valid(path).ok_or_else(entrance::malformed)?;
    let size = files::listing(world, visit, job)?.file(&path).ok_or_else(not_found)?;
    let raw = format!("{}/raw/{}", artifacts_path(ask, visit, job), percent::encode(&path));
    Ok(page(StatusCode::OK, &path, &format!("<p>{size} bytes {}</p>", link(&raw, "Download"))))
}

/// A path with the relative root.
fn path(ask: &Ask, rest: &str) -> String {
    format!("{}{rest}", ask.base.strip_prefix(&ask.origin).unwrap_or_default())
}

fn artifacts_path(ask: &Ask, visit: &Visit<'_>, job: JobId) -> String {
    path(ask, &format!("/{}/-/jobs/{job}/artifacts", percent::encode(&visit.project.path)))
}

fn link(to: &str, text: &str) -> String {
    format!("<a href=\"{}\">{}</a>", escape(to), escape(text))
}

fn button(action: &str, text: &str, csrf: &str, hidden: &str) -> String {
    format!(
        "<form action=\"{}\" method=\"post\">{hidden}<input type=\"hidden\" name=\"authenticity_token\" \
         value=\"{csrf}\"><button type=\"submit\">{text}</button></form>",
        escape(action)
    )
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items = items.fold(String::new(), |mut out, item| {
        // A String takes every write.
        let _ = write!(out, "<li>{item}</li>");
        out
    });
    format!("<ul>{items}</ul>")
}

//! What GitLab says of one file of an archive, which files may go out compressed, and what is a call of gRPC.
//!
//! Owns how Workhorse names types: by extension where it unpacks for the API's route by job
//! (`workhorse/internal/artifacts/entry.go`), as far as that holds on every host; by content where Rails asks it to look
//! (`workhorse/internal/headers/content_headers.go`). Pure.

mod coding;
mod grpc;
mod svg;

pub(crate) use coding::accepts_gzip;
pub(crate) use grpc::is_grpc;
pub(crate) use svg::{LOOKED_AT, is_svg};

/// The type of what nothing is known about.
pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// Longest extension that any host's table has, bytes, and more: what is longer has no type.
pub(crate) const LONGEST_EXTENSION: usize = 32;

/// Types by extension that Go knows by itself (`mime/type.go`), text with its charset. What else there is depends on
/// GitLab's host (`/usr/share/mime/globs2`, else `/etc/mime.types`, and neither in its official image); what GitLab is seen
/// to say of an extension counts more than this.
const BY_EXTENSION: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("xml", "text/xml; charset=utf-8"),
];

/// The extension of a name, without its dot: what follows the last dot of its last segment.
pub(crate) fn extension(name: &str) -> Option<&str> {
    base(name).rsplit_once('.').map(|(_, extension)| extension)
}

/// The type of a file by its name, in any case of letters; `None` where that depends on GitLab's host.
pub(crate) fn by_extension(name: &str) -> Option<&'static str> {
    let extension = extension(name).unwrap_or_default();
    if extension.is_empty() || extension.len() > LONGEST_EXTENSION {
        return Some(UNKNOWN);
    }
    let found = BY_EXTENSION.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    found.map(|(_, kind)| *kind)
}

/// `Content-Disposition` of a file: its last segment, quotes and backslashes escaped.
pub(crate) fn disposition(name: &str) -> String {
    let escaped = base(name).replace('\\', "\\\\").replace('"', "\\\"");
    format!("attachment; filename=\"{escaped}\"")
}

/// The last segment of a name.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The types that GitLab's own nginx compresses (`nginx['gzip_types']` of Omnibus; nginx adds `text/html` by itself).
const COMPRESSED: [&str; 9] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/xml",
    "text/javascript",
    "application/x-javascript",
    "application/xml",
    "application/xml+rss",
    "application/json",
];

/// Whether GitLab's nginx would compress a file of this type.
pub(crate) fn is_compressed_by_nginx(kind: &str) -> bool {
    let media = kind.split(';').next().unwrap_or_default().trim();
    COMPRESSED.iter().any(|known| media.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_last_extension_in_any_case() {
        for (name, kind) in [
            ("a.txt", None),
            ("d.d/A.HTML", Some("text/html; charset=utf-8")),
            ("report.tar.gz", None),
            ("coverage/index.mjs", Some("text/javascript; charset=utf-8")),
            ("a.json", Some("application/json")),
            ("dir.json/binary", Some(UNKNOWN)),
            ("dir.txt/", Some(UNKNOWN)),
            ("Makefile", Some(UNKNOWN)),
            (".json", Some("application/json")),
            (".txt", None),
            ("a.", Some(UNKNOWN)),
            ("a.an-extension-of-33-bytes-in-all-yes", Some(UNKNOWN)),
        ] {
            assert_eq!(by_extension(name), kind, "{name}");
        }
    }

    #[test]
    fn no_extension_is_in_the_table_twice() {
        for (index, (extension, _)) in BY_EXTENSION.iter().enumerate() {
            let first = BY_EXTENSION.iter().position(|(other, _)| other == extension);
            assert_eq!(first, Some(index), "{extension}");
        }
    }

    #[test]
    fn a_file_is_named_by_its_last_segment() {
        for (name, expected) in [
            ("a.txt", "attachment; filename=\"a.txt\""),
            ("d/e/é b.txt", "attachment; filename=\"é b.txt\""),
            ("say \"x\".txt", "attachment; filename=\"say \\\"x\\\".txt\""),
            ("back\\slash", "attachment; filename=\"back\\\\slash\""),
        ] {
            assert_eq!(disposition(name), expected, "{name}");
        }
    }

    #[test]
    fn only_nginxs_types_are_compressed() {
        for (kind, yes) in [
            ("text/plain; charset=utf-8", true),
            ("TEXT/HTML", true),
            ("application/json", true),
            ("image/svg+xml", false),
            ("application/octet-stream", false),
            ("text/csv; charset=utf-8", false),
            ("", false),
        ] {
            assert_eq!(is_compressed_by_nginx(kind), yes, "{kind}");
        }
    }
}

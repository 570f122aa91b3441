//! What GitLab says of one file of an archive, which files may go out compressed, and what is a call of gRPC.
//!
//! Owns the tables by which Workhorse names types: by extension where it unpacks for the API's route by job
//! (`workhorse/internal/artifacts/entry.go`), by content where Rails asks it to look
//! (`workhorse/internal/headers/content_headers.go`). Pure.

mod coding;
mod grpc;
mod sniff;

pub use coding::accepts_gzip;
pub use grpc::is_grpc;
pub use sniff::{SNIFFED, sniffed};

/// The type of what nothing is known about.
pub const UNKNOWN: &str = "application/octet-stream";

/// Types by extension: those that Go knows by itself (`mime/type.go`), and what Debian's `/etc/mime.types` adds for
/// files that jobs produce. Go gives text types a charset. A host with another table has other types for the second
/// half; what GitLab is seen to say of an extension counts more than this.
const BY_EXTENSION: &[(&str, &str)] = &[
    // Go's own.
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
    // Debian's.
    ("apk", "application/vnd.android.package-archive"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip"),
    ("c", "text/x-csrc; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("deb", "application/vnd.debian.binary-package"),
    ("gz", "application/gzip"),
    ("h", "text/x-chdr; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jar", "application/java-archive"),
    ("log", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("py", "text/x-python; charset=utf-8"),
    ("rpm", "application/x-redhat-package-manager"),
    ("sh", "application/x-sh"),
    ("tar", "application/x-tar"),
    ("text", "text/plain; charset=utf-8"),
    ("tgz", "application/x-gtar-compressed"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("webm", "video/webm"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xz", "application/x-xz"),
    ("zip", "application/zip"),
];

/// The extension of a name, without its dot: what follows the last dot of its last segment.
pub fn extension(name: &str) -> Option<&str> {
    base(name).rsplit_once('.').map(|(_, extension)| extension)
}

/// The type of a file by its name, in any case of letters.
pub fn by_extension(name: &str) -> &'static str {
    let extension = extension(name).unwrap_or_default();
    let found = BY_EXTENSION.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    found.map_or(UNKNOWN, |(_, kind)| kind)
}

/// `Content-Disposition` of a file: its last segment, quotes and backslashes escaped.
pub fn disposition(name: &str) -> String {
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
pub fn is_compressed_by_nginx(kind: &str) -> bool {
    let media = kind.split(';').next().unwrap_or_default().trim();
    COMPRESSED.iter().any(|known| media.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_last_extension_in_any_case() {
        for (name, kind) in [
            ("a.txt", "text/plain; charset=utf-8"),
            ("d.d/A.HTML", "text/html; charset=utf-8"),
            ("report.tar.gz", "application/gzip"),
            ("coverage/index.mjs", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("dir.json/binary", UNKNOWN),
            ("Makefile", UNKNOWN),
            (".txt", "text/plain; charset=utf-8"),
            ("a.", UNKNOWN),
            ("a.unheard-of", UNKNOWN),
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

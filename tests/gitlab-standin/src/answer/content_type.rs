//! What an entry says it is. By extension on A2 (`legacy_send_artifacts_entry` in `lib/api/ci/job_artifacts.rb`);
//! by content on A5 and W3 (`send_artifacts_entry` sets `Gitlab-Workhorse-Detect-Content-Type`, which
//! `workhorse/internal/headers/content_headers.go` obeys).

mod sniff;

use crate::settings::Attachments;

const UNKNOWN: &str = "application/octet-stream";

/// Go's `mime.TypeByExtension`: the built-in table of `mime/type.go`, then, where the host has one, what Go reads of its
/// `/etc/mime.types` (here a few lines of Debian's `media-types`; Go adds the charset to `text/`). The extension
/// runs from the last dot of the last path element, case is ignored.
pub(super) fn by_extension(path: &str, host_table: bool) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    built_in(&extension).or_else(|| host(&extension).filter(|_| host_table)).unwrap_or(UNKNOWN)
}

/// The type of what starts like this, where there is anything. Since 15.4 (MR 95859) all that isn't SVG is opaque.
pub(super) fn by_content(start: &[u8], attachments: Attachments) -> &'static str {
    match attachments {
        Attachments::Sniffed => sniff::sniffed(start),
        Attachments::Opaque if sniff::is_svg(start) => sniff::SVG,
        Attachments::Opaque => UNKNOWN,
    }
}

fn built_in(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "avif" => "image/avif",
        "css" => "text/css; charset=utf-8",
        "gif" => "image/gif",
        "htm" | "html" => "text/html; charset=utf-8",
        "jpeg" | "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        "webp" => "image/webp",
        "xml" => "text/xml; charset=utf-8",
        _ => return None,
    })
}

fn host(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "csv" => "text/csv; charset=utf-8",
        "gz" => "application/gzip",
        "log" | "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "tar" => "application/x-tar",
        "zip" => "application/zip",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dot_of_the_last_element_decides() {
        let cases = [
            ("a/b.HTML", "text/html; charset=utf-8"),
            (".json", "application/json"),
            ("a.json/b", "application/octet-stream"),
            ("dir.css/", "application/octet-stream"),
            ("a.tar.gz", "application/gzip"),
            ("a.", "application/octet-stream"),
        ];
        for (path, expected) in cases {
            assert_eq!(by_extension(path, true), expected, "{path}");
        }
    }

    #[test]
    fn a_host_without_a_table_knows_what_go_knows() {
        let cases = [("a.json", "application/json"), ("a.txt", UNKNOWN), ("a.zip", UNKNOWN), ("a", UNKNOWN)];
        for (path, expected) in cases {
            assert_eq!(by_extension(path, false), expected, "{path}");
        }
    }
}

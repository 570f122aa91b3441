//! What an entry says it is. By extension on A2 (`legacy_send_artifacts_entry` in `lib/api/ci/job_artifacts.rb`);
//! by content on A5 and W3 (`send_artifacts_entry` sets `Gitlab-Workhorse-Detect-Content-Type`, which
//! `workhorse/internal/headers/content_headers.go` obeys).

mod sniff;

pub(super) use sniff::sniffed;

/// Go's `mime.TypeByExtension`: the built-in table of `mime/type.go`, then what Go reads of the host's
/// `/etc/mime.types` (here a few lines of Debian's `media-types`; Go adds the charset to `text/`). The extension
/// runs from the last dot of the last path element, case is ignored.
pub(super) fn by_extension(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    built_in(&extension).or_else(|| host(&extension)).unwrap_or("application/octet-stream")
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
            assert_eq!(by_extension(path), expected, "{path}");
        }
    }
}

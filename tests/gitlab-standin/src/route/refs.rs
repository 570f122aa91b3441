//! What follows `/jobs/artifacts/`: a ref of any number of segments, then `download` or `raw/…`. GitLab declares
//! `download` first and lets `:ref_name` be `/.+/` (`lib/api/ci/job_artifacts.rb`): whatever ends in `/download` is
//! an archive request, and of several `/raw/` the last one splits.

/// The two questions about a ref. All parts are as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByRef<'a> {
    Archive { ref_name: &'a str },
    Entry { ref_name: &'a str, path: &'a str },
}

pub(super) fn parse(rest: &str) -> Option<ByRef<'_>> {
    // Grape strips `.json` and `.txt` where a route doesn't say `format: false`.
    let ending = ["/download", "/download.json", "/download.txt"].into_iter();
    if let Some(ref_name) = ending.filter_map(|end| rest.strip_suffix(end)).find(|name| !name.is_empty()) {
        return Some(ByRef::Archive { ref_name });
    }
    let (ref_name, path) = rest.rsplit_once("/raw/")?;
    (!ref_name.is_empty() && !path.is_empty()).then_some(ByRef::Entry { ref_name, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_greedy_and_download_comes_first() {
        let archive = |ref_name| Some(ByRef::Archive { ref_name });
        let entry = |ref_name, path| Some(ByRef::Entry { ref_name, path });
        let cases = [
            ("main/download", archive("main")),
            ("main/download.json", archive("main")),
            ("feature/a/b/download", archive("feature/a/b")),
            ("feature%2Fa/download", archive("feature%2Fa")),
            ("download/download", archive("download")),
            ("main/raw/dir/download", archive("main/raw/dir")),
            ("main/raw/a/b.txt", entry("main", "a/b.txt")),
            ("main/raw/x/raw/y", entry("main/raw/x", "y")),
            ("main/raw//x", entry("main", "/x")),
            ("main/raw/a%2Fdownload", entry("main", "a%2Fdownload")),
            ("main/raw/", None),
            ("download", None),
            ("/download", None),
            ("raw/x", None),
            ("main", None),
        ];
        for (rest, expected) in cases {
            assert_eq!(parse(rest), expected, "{rest}");
        }
    }
}

//! Which of GitLab's response fields are kept with an archive, and which belong to one answer only.
//!
//! Owns both lists. Pure; knows nothing of where fields are kept.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// What describes the archive and the way a browser may treat it. Everything else is a matter of one answer (ids,
/// rate limits, cookies, CORS) or of the object store, and is never replayed.
const KEPT: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_DISPOSITION,
    HeaderName::from_static("content-transfer-encoding"),
    header::CONTENT_LANGUAGE,
    header::LAST_MODIFIED,
    HeaderName::from_static("x-robots-tag"),
];

/// How long others may keep it: GitLab's word, never that of the object store behind it, whose address is another one for
/// each download.
const CACHING: [HeaderName; 3] = [header::CACHE_CONTROL, header::EXPIRES, header::PRAGMA];

/// What protects whoever opens the archive in a browser: always sent with hits.
const SECURITY: [HeaderName; 10] = [
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::CONTENT_SECURITY_POLICY,
    header::STRICT_TRANSPORT_SECURITY,
    header::REFERRER_POLICY,
    HeaderName::from_static("permissions-policy"),
    HeaderName::from_static("x-download-options"),
    HeaderName::from_static("x-permitted-cross-domain-policies"),
    HeaderName::from_static("cross-origin-resource-policy"),
    header::X_XSS_PROTECTION,
];

/// What belongs to the very answer it came with: it goes out once, with the request whose question it answered.
const FRESH: [&str; 10] = [
    "set-cookie",
    "ratelimit-",
    "x-request-id",
    "x-gitlab-meta",
    "x-runtime",
    "access-control-",
    "timing-allow-origin",
    "vary",
    "retry-after",
    "x-gitlab-",
];

/// What of that is for one request alone: a session above all. The rest goes by what was asked, which whoever shares an
/// answer asked as well.
const OWN: [&str; 6] =
    ["set-cookie", "ratelimit-", "x-request-id", "x-gitlab-meta", "x-runtime", "x-correlation-id"];

/// What says whose pages may read an answer, and by what else it would have been another one. It goes by `Origin` alone of
/// all that isn't asked about, and so it is said again to whoever asks the same with the same `Origin`.
const READERS: [&str; 3] = ["access-control-", "timing-allow-origin", "vary"];

/// Longest such fields, names and values together, that are kept with a yes: several times what GitLab says.
const LONGEST_READERS: usize = 2 << 10;

/// Response fields kept with an archive. Written as pairs of name and value, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FieldPairs", into = "FieldPairs")]
pub struct StoredHeaders(HeaderMap);

type FieldPairs = Vec<(String, Vec<u8>)>;

impl StoredHeaders {
    /// What is kept of an answer that brought the archive's bytes, and of the answer of GitLab's that led to it.
    pub(crate) fn of(bytes_from: &HeaderMap, led_by: &HeaderMap) -> Self {
        let described = bytes_from.iter().filter(|(name, _)| KEPT.contains(name));
        let protected = led_by.iter().filter(|(name, _)| SECURITY.contains(name) || CACHING.contains(name));
        let mut fields = HeaderMap::with_capacity(KEPT.len() + CACHING.len() + SECURITY.len());
        for (name, value) in described.chain(protected) {
            fields.append(name, value.clone());
        }
        // Without a word about it a browser would keep what only GitLab may hand out, and not ask again.
        if !fields.contains_key(header::CACHE_CONTROL) {
            fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        Self(fields)
    }

    /// What is kept of an answer about one entry, which describes that entry and protects all.
    pub(crate) fn protecting(led_by: &HeaderMap) -> Self {
        let kept = Self::of(led_by, led_by);
        kept.without(&[header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::LAST_MODIFIED])
            .without(&[HeaderName::from_static("content-transfer-encoding"), header::CONTENT_LANGUAGE])
    }

    /// The same without what describes one archive.
    fn without(mut self, names: &[HeaderName]) -> Self {
        for name in names {
            self.0.remove(name);
        }
        self
    }

    /// What describes the same object behind another redirect: with the type and disposition that this one asks for, and
    /// protected as it is.
    #[must_use]
    pub(crate) fn redirected(
        &self,
        disposition: Option<HeaderValue>,
        kind: Option<HeaderValue>,
        protecting: &Self,
    ) -> Self {
        let mut fields = protecting.0.clone();
        let described = self.0.iter().filter(|(name, _)| KEPT.contains(name));
        fields.extend(described.map(|(name, value)| (name.clone(), value.clone())));
        fields.remove(header::CONTENT_DISPOSITION);
        fields.extend(disposition.map(|value| (header::CONTENT_DISPOSITION, value)));
        if let Some(kind) = kind {
            fields.insert(header::CONTENT_TYPE, kind);
        }
        Self(fields)
    }

    /// The fields.
    pub(crate) const fn fields(&self) -> &HeaderMap {
        &self.0
    }

    /// Whether nothing describes the archive's bytes, as after a 304.
    pub(crate) fn describes_nothing(&self) -> bool {
        !self.0.contains_key(header::CONTENT_TYPE)
    }
}

impl From<FieldPairs> for StoredHeaders {
    /// What isn't a field any more is left out: a record's checksum says that nobody has changed it.
    fn from(pairs: FieldPairs) -> Self {
        let mut fields = HeaderMap::with_capacity(KEPT.len() + SECURITY.len());
        for (name, value) in pairs {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
                fields.append(name, value);
            }
        }
        Self(fields)
    }
}

impl From<StoredHeaders> for FieldPairs {
    fn from(kept: StoredHeaders) -> Self {
        kept.0.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
    }
}

/// Adds what belongs to one answer to what is said of the archive. What both say (`Vary`) is said once each.
pub(crate) fn add_fresh(fields: &mut HeaderMap, fresh: HeaderMap) {
    let mut last = None;
    for (name, value) in fresh {
        last = name.or(last);
        if let Some(name) = &last
            && !fields.get_all(name).iter().any(|said| *said == value)
        {
            fields.append(name, value);
        }
    }
}

/// An answer's fields without those that are for one request: what may be said again to others who asked the same.
pub(crate) fn shared(from: &HeaderMap) -> HeaderMap {
    let kept = from.iter().filter(|(name, _)| !is_one_of(&OWN, name));
    let mut fields = HeaderMap::with_capacity(from.keys_len());
    for (name, value) in kept {
        fields.append(name, value.clone());
    }
    fields
}

fn is_one_of(prefixes: &[&str], name: &HeaderName) -> bool {
    prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// What an answer says of [whose pages may read it](READERS); `None` if that is too long to be kept.
pub(crate) fn readers(from: &HeaderMap) -> Option<HeaderMap> {
    let (mut fields, mut length) = (HeaderMap::new(), 0_usize);
    for (name, value) in from.iter().filter(|(name, _)| is_one_of(&READERS, name)) {
        length = length.saturating_add(name.as_str().len()).saturating_add(value.len());
        fields.append(name, value.clone());
    }
    (length <= LONGEST_READERS).then_some(fields)
}

/// Copies what belongs to this very answer.
pub(crate) fn fresh(from: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in from {
        if is_one_of(&FRESH, name) {
            fields.append(name, value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_pages_may_read_an_answer_is_kept_if_it_is_short() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("access-control-allow-origin", "https://pages.test"),
            ("vary", "Origin"),
            ("vary", "Accept-Encoding"),
            ("set-cookie", "s=1"),
            ("etag", "\"x\""),
        ] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let kept = readers(&fields).unwrap();
        assert_eq!(kept.get_all("vary").iter().count(), 2);
        assert_eq!(
            (kept.len(), &kept["access-control-allow-origin"]),
            (3, &fields["access-control-allow-origin"])
        );
        let long = HeaderValue::try_from("X-Long, ".repeat(LONGEST_READERS / 8)).unwrap();
        fields.append("access-control-expose-headers", long);
        assert_eq!(readers(&fields), None);
    }

    #[test]
    fn each_field_has_one_fate() {
        let mut storage = HeaderMap::new();
        let mut gitlab = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/zip"),
            ("x-amz-request-id", "1"),
            ("server", "AmazonS3"),
            ("etag", "\"x\""),
            ("set-cookie", "s"),
        ] {
            storage.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in [
            ("x-frame-options", "SAMEORIGIN"),
            ("content-type", "text/plain"),
            ("set-cookie", "_gitlab_session=x"),
            ("ratelimit-remaining", "1"),
            ("access-control-allow-origin", "*"),
            ("x-request-id", "9"),
        ] {
            gitlab.insert(name, HeaderValue::from_static(value));
        }
        let kept = StoredHeaders::of(&storage, &gitlab);
        assert_eq!(StoredHeaders::from(FieldPairs::from(kept.clone())), kept);
        let out = kept.fields();
        let names: Vec<_> = out.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-frame-options", "cache-control"]);
        assert_eq!(out["content-type"], "application/zip");
        assert_eq!(out["cache-control"], "no-cache", "nobody keeps it without asking");
        storage.insert("cache-control", HeaderValue::from_static("public, max-age=3600"));
        gitlab.insert("cache-control", HeaderValue::from_static("no-store"));
        assert_eq!(
            StoredHeaders::of(&storage, &gitlab).fields()["cache-control"],
            "no-store",
            "GitLab's word"
        );
        let mut names: Vec<_> = fresh(&gitlab).keys().map(ToString::to_string).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["access-control-allow-origin", "ratelimit-remaining", "set-cookie", "x-request-id"]
        );
    }
}

//! By what a URL of an object store is told from any other: it is signed, and it is another one than was asked for.
//!
//! A front that sends everybody to another name (a new domain, a canonical host, a sign-in service) decides nothing about
//! anybody. Only what GitLab signed, it signed for somebody.

/// Fields of a query that are a signature by themselves: S3 (version 4), Google, Alibaba, Volcengine, Tencent.
const ALONE: [&str; 5] =
    ["x-amz-signature", "x-goog-signature", "x-oss-signature", "x-tos-signature", "q-signature"];

/// Fields that are a signature beside another one that says whose. Alone they may be anything: a request to sign in that a
/// SAML front sends to its provider has a `Signature` as well.
const WITH: [(&str, &[&str]); 3] = [
    // S3 (version 2), Google, Google's CDN, CloudFront, Alibaba, Huawei.
    (
        "signature",
        &["awsaccesskeyid", "googleaccessid", "keyname", "key-pair-id", "ossaccesskeyid", "accesskeyid"],
    ),
    // Azure: the version of its signatures, or their end.
    ("sig", &["sv", "se"]),
    // OpenStack.
    ("temp_url_sig", &["temp_url_expires"]),
];

/// Whether a query holds a signature of a kind that object stores take. Nobody but the store can tell whether it is a good one.
pub(super) fn is_signed(query: &str) -> bool {
    let pairs: Vec<(String, bool)> = query.split('&').map(read).collect();
    // What is there twice is read in two ways.
    let has = |name: &str| {
        let mut found = pairs.iter().filter(|(found, _)| found == name);
        matches!((found.next(), found.next()), (Some((_, true)), None))
    };
    ALONE.iter().any(|name| has(name))
        || WITH.iter().any(|(name, whose)| has(name) && whose.iter().any(|name| has(name)))
}

/// A pair's name in lower case, and whether there is a value.
fn read(pair: &str) -> (String, bool) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let text = |part| crate::gitlab::route::decode_value(part).unwrap_or_default();
    let value = text(value);
    (String::from_utf8_lossy(&text(name)).to_ascii_lowercase(), !value.trim_ascii().is_empty())
}

/// How often a path is decoded at most: who encodes it once more has been behind two servers.
const ROUNDS: usize = 4;

/// Whether a path leads to what was asked for, perhaps elsewhere: under another root, with something behind it, in another
/// spelling. Both are paths without their query; `root` is GitLab's relative root.
pub(super) fn is_as_asked(named: &str, asked: &str, root: &str) -> bool {
    let asked = plain(asked.strip_prefix(root).unwrap_or(asked));
    // Who decodes a path before it is written into a URL makes a query of what was none.
    let asked = asked.split(['?', '#', ';']).next().unwrap_or_default().trim_end_matches('/');
    let named = plain(named);
    if asked.is_empty() { named.is_empty() } else { named.contains(asked) }
}

/// A path in one spelling: decoded, in lower case, without empty and dot segments.
fn plain(path: &str) -> String {
    let mut text = path.to_owned();
    for _ in 0..ROUNDS {
        let Some(decoded) = crate::gitlab::route::decode_value(&text) else { break };
        let decoded = String::from_utf8_lossy(&decoded).into_owned();
        if decoded == text {
            break;
        }
        text = decoded;
    }
    let text = text.replace('\\', "/").to_lowercase();
    let mut segments = Vec::new();
    for segment in text.split('/').map(str::trim) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.iter().flat_map(|segment| ["/", segment]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signatures_of_stores_are_known() {
        for query in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260101%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20260101T000000Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature=0a1b",
            "X-Amz-Signature=0a1b",
            "x-amz-signature=0a1b",
            "AWSAccessKeyId=AKIA&Expires=1800000000&Signature=a%2Bb%3D",
            "Signature=x&Expires=1&AWSAccessKeyId=AKIA",
            "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=0a",
            "GoogleAccessId=a%40b&Expires=1&Signature=x",
            "Expires=1&KeyName=k&Signature=x",
            "Expires=1&Signature=x&Key-Pair-Id=K1",
            "Policy=p&Signature=x&Key-Pair-Id=K1",
            "sv=2024-05-04&se=2026-01-01T00%3A00%3A00Z&sr=b&sp=r&sig=x%3D",
            "OSSAccessKeyId=a&Expires=1&Signature=x",
            "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-signature=0a",
            "AccessKeyId=a&Expires=1&Signature=x",
            "q-sign-algorithm=sha1&q-ak=a&q-signature=0a",
            "temp_url_sig=0a&temp_url_expires=1",
            "response-content-type=a&X-Amz-Signature=x&z",
        ] {
            assert!(is_signed(query), "{query}");
        }
    }

    #[test]
    fn what_only_looks_like_a_signature_is_none() {
        for query in [
            "",
            "x=1",
            "Signature=x",
            "sig=x",
            "Signature",
            "X-Amz-Signature",
            "X-Amz-Signature=",
            "X-Amz-Signature=%20",
            "X-Amz-Signature=+",
            "X-Amz-Signature=%",
            "X-Amz-Signature=a&X-Amz-Signature=",
            "X-Amz-Signature=a&x-amz-signature=b",
            "X-Amz-Signatures=a",
            "a=X-Amz-Signature=x",
            "a;X-Amz-Signature=x",
            "X-Amz-Credential=x&X-Amz-Date=y",
            "X-Amz-SignedHeaders=host",
            "AWSAccessKeyId=&Signature=x",
            "AWSAccessKeyId=a&Signature=",
            "KeyName=a",
            "sv=1&se=2",
            "temp_url_sig=0a",
            "SAMLRequest=fZ&RelayState=%2F&SigAlg=http%3A%2F%2Fwww.w3.org%2F2001%2F04%2Fxmldsig-more%23rsa-sha256&Signature=x",
            "return_to=https%3A%2F%2Fs3%2Fa%3FX-Amz-Signature%3Dx",
            "job_token=secret",
        ] {
            assert!(!is_signed(query), "{query}");
        }
    }

    #[test]
    fn the_path_that_was_asked_for_is_known_in_another_spelling() {
        let asked = "/gitlab/api/v4/projects/Group%2Fproject/jobs/42/artifacts";
        for named in [
            "/gitlab/api/v4/projects/Group%2Fproject/jobs/42/artifacts",
            "/gitlab/api/v4/projects/group%2fproject/jobs/42/artifacts/",
            "/gitlab/api/v4/projects/Group/project/jobs/42/artifacts",
            "/api/v4/projects/Group%2Fproject/jobs/42/artifacts",
            "/other/root/api/v4/projects/Group%252Fproject/jobs/42/artifacts",
            "/API/v4//projects/Group%25252Fproject/./jobs/42/x/../artifacts",
            "/api/v4/projects/Group%2Fproject/jobs/42/artifacts.json",
            "/api/v4/projects/Group%2Fproject/jobs/42/artifacts;x=1",
            "/api/v4/projects/Group%2Fproject/jobs/42/artifacts%3F",
            "/api/v4/projects/Group%2Fproject/jobs/42/%61rtifacts%20",
            "/api/v4\\projects\\Group\\project/jobs/42/artifacts/download",
            "/login/gitlab/api/v4/projects/Group%2Fproject/jobs/42/artifacts",
        ] {
            assert!(is_as_asked(named, asked, "/gitlab"), "{named}");
        }
        for named in [
            "/",
            "",
            "/bucket/ab/cd/42/artifacts.zip",
            "/gitlab",
            "/jobs/42/artifacts",
            "/api/v4/projects/7/jobs/42/artifacts",
        ] {
            assert!(!is_as_asked(named, asked, "/gitlab"), "{named}");
        }
    }

    #[test]
    fn a_path_that_becomes_a_query_is_known_as_well() {
        let asked = "/api/v4/projects/7/jobs/artifacts/main%3FX-Amz-Signature=x/download";
        assert!(is_as_asked("/api/v4/projects/7/jobs/artifacts/main", asked, ""));
        let asked = "/api/v4/projects/7/jobs/artifacts/main%23x/download";
        assert!(is_as_asked("/api/v4/projects/7/jobs/artifacts/main", asked, ""));
        let asked = "/api/v4/projects/7/jobs/artifacts/a%20b/download";
        assert!(is_as_asked("/api/v4/projects/7/jobs/artifacts/a+b/download", asked, ""));
    }
}

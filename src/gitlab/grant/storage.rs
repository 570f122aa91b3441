//! Which redirects lead to an object store.
//!
//! One rule for all that GitLab answers with a redirect: to a question, to a fill, to what is asked for a part. A redirect
//! that it doesn't take for an object store's is GitLab's own answer, which says nothing of what anybody may have.

mod signed;
pub(crate) mod special;

use std::fmt;

use http::header::HeaderMap;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use crate::gitlab::urls::{self, Origin};
use special::Host;

/// Host, port and path of an object, without the query that holds its signature.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectPath(String);

impl ObjectPath {
    /// The object as text: `scheme://host[:port]/path`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn for_test(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Where GitLab redirects to for an object. Its query is a credential: it is never printed, stored or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    uri: Uri,
}

impl Location {
    /// The whole address, signature included.
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether what goes there is as well kept from others as at `before`.
    pub(crate) fn is_as_safe_as(&self, before: &Self) -> bool {
        before.uri.scheme() != Some(&Scheme::HTTPS) || self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// The part that names the object.
    pub fn object(&self) -> ObjectPath {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let host = self.uri.authority().map(|a| a.as_str().to_ascii_lowercase()).unwrap_or_default();
        ObjectPath(format!("{scheme}://{host}{}", self.uri.path()))
    }
}

/// What a redirect asks the object store to say of an object, instead of what the store knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Override {
    /// `Content-Disposition`.
    pub disposition: Option<HeaderValue>,
    /// `Content-Type`.
    pub kind: Option<HeaderValue>,
}

impl Location {
    /// What its query asks the store to say: S3 and Google (`response-content-disposition`), Azure (`rscd`).
    pub(crate) fn overrides(&self) -> Override {
        let query = self.uri.query().unwrap_or_default();
        let value = |names: [&str; 2]| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(name, _)| names.contains(name))?;
            HeaderValue::from_bytes(&crate::gitlab::route::decode_value(value)?).ok()
        };
        Override {
            disposition: value(["response-content-disposition", "rscd"]),
            kind: value(["response-content-type", "rsct"]),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.object().as_str())
    }
}

/// What was asked, as far as a redirect that answers it is judged by it.
#[derive(Debug, Clone, Copy, Default)]
pub struct AskedPath<'a> {
    /// The authority under which the client reached larder: where GitLab's external URL is larder's address, GitLab's own
    /// pages are there.
    pub own: Option<&'a str>,
    /// The path that GitLab was asked for.
    pub path: &'a str,
}

impl<'a> AskedPath<'a> {
    /// Of a client that reached larder as `own`, in whose name `target` was asked for.
    pub(crate) fn new(own: Option<&'a str>, target: &'a PathAndQuery) -> Self {
        Self { own, path: target.path() }
    }
}

/// What may be taken for an object store.
#[derive(Debug, Clone)]
pub struct StorageRules {
    /// GitLab itself: a redirect back to it is a sign-in page, a moved project or a canonical address.
    pub gitlab: Origin,
    /// The URL by which GitLab knows itself, if that is another one: its own pages are there as well.
    pub external: Option<Origin>,
    /// Hosts the operator named, as `host` or `host:port`; `None`: any to which GitLab signs a URL, but those at [special
    /// addresses](special).
    pub hosts: Option<Vec<String>>,
}

impl StorageRules {
    /// Reads the `Location` of a redirect that answers `sent`; `None` if it isn't an object store's.
    pub fn location(&self, fields: &HeaderMap, sent: AskedPath<'_>) -> Option<Location> {
        let mut locations = fields.get_all(http::header::LOCATION).iter();
        let (Some(value), None) = (locations.next(), locations.next()) else {
            return None;
        };
        let uri: Uri = value.to_str().ok()?.parse().ok()?;
        let place = UrlOrigin::of(&uri)?;
        let accepted = !self.is_ours(&place, sent.own)
            && !signed::is_as_asked(uri.path(), sent.path, self.gitlab.root())
            && self.allows(&uri, &place);
        accepted.then_some(Location { uri })
    }

    /// Whether GitLab or larder is there.
    fn is_ours(&self, place: &UrlOrigin, own: Option<&str>) -> bool {
        let mut gitlab = [Some(&self.gitlab), self.external.as_ref()].into_iter().flatten();
        let own = own.and_then(|own| own.parse::<Authority>().ok());
        // Nobody knows by which scheme the client came.
        let own = own.map(|own| UrlOrigin::at(&Scheme::HTTP, &own));
        gitlab.any(|origin| UrlOrigin::at(origin.scheme(), origin.authority()).is_beside(place))
            || own.is_some_and(|own| own.is_beside(place))
    }

    fn allows(&self, uri: &Uri, place: &UrlOrigin) -> bool {
        let Some(authority) = uri.authority() else {
            return false;
        };
        match &self.hosts {
            // The operator's word: it needs no signature, and may name any address.
            Some(hosts) => hosts.iter().any(|host| match host.parse::<Authority>() {
                Ok(named) if named.port().is_some() => same_authority(uri, host),
                _ => authority.host().eq_ignore_ascii_case(host),
            }),
            None => !place.host.is_special() && uri.query().is_some_and(signed::is_signed),
        }
    }
}

/// Where a URL leads: whose host, however it is spelt, and which port.
#[derive(Debug, PartialEq, Eq)]
struct UrlOrigin {
    host: Host,
    port: u16,
}

impl UrlOrigin {
    /// Of an absolute URL without a user, by HTTP or HTTPS.
    fn of(uri: &Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme()?, uri.authority()?);
        let web = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        // What is no port would be read as none.
        let written = authority.as_str().len() > authority.host().len();
        let plain = !authority.as_str().contains('@') && (!written || authority.port_u16().is_some());
        (web && plain).then(|| Self::at(scheme, authority))
    }

    fn at(scheme: &Scheme, authority: &Authority) -> Self {
        Self { host: Host::read(authority.host()), port: urls::port(scheme, authority) }
    }

    /// Whether two are one server's: where one speaks by a scheme's own port, the other scheme's is its as well.
    fn is_beside(&self, other: &Self) -> bool {
        let well_known = |port| matches!(port, 80 | 443);
        let alike = self.port == other.port || (well_known(self.port) && well_known(other.port));
        self.host == other.host && alike
    }
}

fn same_authority(uri: &Uri, other: &str) -> bool {
    let scheme = uri.scheme_str().unwrap_or("http");
    format!("{scheme}://{other}").parse::<Origin>().is_ok_and(|origin| origin.is_origin_of(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: Option<&[&str]>) -> StorageRules {
        StorageRules {
            gitlab: "https://gitlab.example.com/root".parse().unwrap(),
            external: None,
            hosts: hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect()),
        }
    }

    const ASKED: &str = "/root/api/v4/projects/7/jobs/42/artifacts";

    fn sent() -> AskedPath<'static> {
        AskedPath { own: Some("larder.example.com:8080"), path: ASKED }
    }

    fn accepts(rules: &StorageRules, location: &str) -> bool {
        let mut fields = HeaderMap::new();
        fields.insert(http::header::LOCATION, location.parse().unwrap());
        rules.location(&fields, sent()).is_some()
    }

    #[test]
    fn what_is_at_gitlabs_external_url_is_no_object_store() {
        let external = Some("https://gitlab.public.example".parse().unwrap());
        for hosts in [None, Some(&["gitlab.public.example"][..])] {
            let rules = StorageRules { external: external.clone(), ..rules(hosts) };
            for place in ["https://gitlab.public.example/x", "http://GitLab.public.example/x"] {
                assert!(!accepts(&rules, &format!("{place}?X-Amz-Signature=1")), "{place}");
            }
            assert!(
                accepts(&rules, "https://gitlab.public.example:9000/x?X-Amz-Signature=1"),
                "MinIO beside it"
            );
        }
    }

    #[test]
    fn only_signed_urls_of_object_stores_are_followed() {
        for (place, accepted) in [
            ("https://bucket.s3.amazonaws.com/a/b", true),
            ("http://minio:9000/artifacts/x", true),
            ("http://127.0.0.1:9000/artifacts/x", true),
            ("http://[::1]:9000/artifacts/x", true),
            ("http://10.0.0.7/artifacts/x", true),
            ("http://[fd00::7]/artifacts/x", true),
            ("https://gitlab.example.com/users/sign_in", false),
            ("https://GITLAB.example.com:443/x", false),
            ("https://gitlab.example.com./x", false),
            ("http://gitlab.example.com/x", false),
            ("http://gitlab.example.com:443/x", false),
            // Another port is another origin.
            ("http://gitlab.example.com:9000/minio", true),
            ("https://gitlab.example.com:9000/minio", true),
            ("http://larder.example.com:8080/users/sign_in", false),
            ("https://LARDER.example.com.:8080/users/sign_in", false),
            ("http://larder.example.com:9000/minio", true),
            ("https://user@bucket.example.com/x", false),
            ("https://bucket.example.com:/x", false),
            ("https://bucket.example.com:99999/x", false),
            ("ftp://bucket.example.com/x", false),
            ("/users/sign_in", false),
            ("//evil.example.com/x", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("http://0xa9fea9fe/latest/meta-data", false),
            ("http://2852039166/latest/meta-data", false),
            ("http://0251.0376.0251.0376/latest/meta-data", false),
            ("http://169.254.43518/latest/meta-data", false),
            ("http://169.254.169.254./latest/meta-data", false),
            ("http://[fe80::1]/x", false),
            ("http://[::ffff:169.254.169.254]/x", false),
            ("http://[::169.254.169.254]/x", false),
            ("http://[64:ff9b::a9fe:a9fe]/x", false),
            ("http://[2002:a9fe:a9fe::1]/x", false),
            ("http://[fd00:ec2::254]/x", false),
            ("http://[fd00:ec2::23]/x", false),
            ("http://[fd20:ce::254]/x", false),
            ("http://192.0.0.192/x", false),
            ("http://168.63.129.16/x", false),
            ("http://100.100.100.200/x", false),
            ("http://0.0.0.0/x", false),
            ("http://metadata.google.internal/x", false),
        ] {
            let signed = format!("{place}?X-Amz-Expires=600&X-Amz-Signature=x");
            assert_eq!(accepts(&rules(None), &signed), accepted, "{place}");
            for query in ["", "?", "?x=1", "?Signature=x", "?X-Amz-Signature="] {
                assert!(!accepts(&rules(None), &format!("{place}{query}")), "{place}{query}");
            }
        }
    }

    #[test]
    fn what_leads_to_the_very_path_that_was_asked_for_is_no_object_stores() {
        for hosts in [None, Some(&["new.example.com"][..])] {
            for path in [
                ASKED,
                "/api/v4/projects/7/jobs/42/artifacts",
                "/root/api/v4/projects/7/jobs/42/artifacts/",
                "/root/API/v4/projects/%37/jobs/42/artifacts",
                "/root//api/v4/projects/7/jobs/42/artifacts.json",
            ] {
                let location = format!("https://new.example.com{path}?a=1&X-Amz-Signature=x");
                assert!(!accepts(&rules(hosts), &location), "{location}");
            }
            assert!(accepts(&rules(hosts), "https://new.example.com/42/artifacts?X-Amz-Signature=x"));
        }
    }

    #[test]
    fn named_hosts_are_the_only_ones_and_need_no_signature() {
        let rules = rules(Some(&[
            "s3.example.com",
            "minio:9000",
            "169.254.7.7",
            "gitlab.example.com",
            "larder.example.com",
        ]));
        for (location, accepted) in [
            ("https://s3.example.com/x", true),
            ("https://s3.example.com:8443/x", true),
            ("https://bucket.s3.example.com/x?X-Amz-Signature=x", false),
            ("http://minio:9000/x", true),
            ("http://minio:9001/x", false),
            ("http://169.254.7.7/x", true),
            ("http://169.254.1799/x", false),
            ("http://169.254.169.254/x?X-Amz-Signature=x", false),
            ("https://gitlab.example.com:9000/x", true),
            ("https://gitlab.example.com/x", false),
            ("http://gitlab.example.com/x?X-Amz-Signature=x", false),
            ("http://larder.example.com:8080/x", false),
            ("http://larder.example.com:9000/x", true),
        ] {
            assert_eq!(accepts(&rules, location), accepted, "{location}");
        }
    }

    #[test]
    fn larder_at_a_schemes_own_port_is_at_the_other_schemes_too() {
        for (own, location, accepted) in [
            ("larder.example.com", "https://larder.example.com/x", false),
            ("larder.example.com", "http://larder.example.com/x", false),
            ("larder.example.com:443", "http://larder.example.com/x", false),
            ("larder.example.com", "http://larder.example.com:8080/x", true),
            ("10.0.0.1", "http://0xa000001/x", false),
            ("[::ffff:10.0.0.1]", "http://10.0.0.1/x", false),
            ("not a host", "http://10.0.0.1/x", true),
        ] {
            let fields = [(http::header::LOCATION, format!("{location}?X-Amz-Signature=x").parse().unwrap())];
            let sent = AskedPath { own: Some(own), path: ASKED };
            let found = rules(None).location(&fields.into_iter().collect(), sent);
            assert_eq!(found.is_some(), accepted, "{own} {location}");
        }
    }

    #[test]
    fn what_a_signed_query_asks_the_store_to_say_is_read() {
        let overrides = |query: &str| {
            let location = format!("https://s3.example.com/a?{query}&X-Amz-Signature=x");
            let fields = [(http::header::LOCATION, location.parse().unwrap())].into_iter().collect();
            rules(None).location(&fields, sent()).unwrap().overrides()
        };
        let named = HeaderValue::from_static("attachment; filename=\"a b.zip\"");
        for query in [
            "response-content-disposition=attachment%3B%20filename%3D%22a%20b.zip%22&response-content-type=application%2Fzip",
            "rscd=attachment%3B+filename%3D%22a+b.zip%22&rsct=application%2Fzip",
        ] {
            let expected = Override {
                disposition: Some(named.clone()),
                kind: Some(HeaderValue::from_static("application/zip")),
            };
            assert_eq!(overrides(query), expected);
        }
        assert_eq!(overrides("response-content-disposition=a%0d%0ab"), Override::default());
        assert_eq!(overrides("x=1"), Override::default());
    }

    #[test]
    fn two_locations_are_none_and_signatures_are_not_printed() {
        let mut fields = HeaderMap::new();
        fields.append(
            http::header::LOCATION,
            "https://S3.example.com/a?X-Amz-Signature=secret".parse().unwrap(),
        );
        let location = rules(None).location(&fields, sent()).unwrap();
        assert_eq!(format!("{location:?}"), "Location(https://s3.example.com/a)");
        fields.append(http::header::LOCATION, "https://s3.example.com/b?X-Amz-Signature=x".parse().unwrap());
        assert_eq!(rules(None).location(&fields, sent()), None);
    }
}

//! Which redirects lead to an object store.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::HeaderMap;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use crate::origin::Origin;

/// Host, port and path of an object, without the query that holds its signature.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectPath(String);

impl ObjectPath {
    /// The object as text: `scheme://host[:port]/path`.
    pub fn as_str(&self) -> &str {
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

    /// The part that names the object.
    pub fn object(&self) -> ObjectPath {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let host = self.uri.authority().map(|a| a.as_str().to_ascii_lowercase()).unwrap_or_default();
        ObjectPath(format!("{scheme}://{host}{}", self.uri.path()))
    }
}

/// What a redirect asks the object store to say of an object, instead of what the store knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Override {
    /// `Content-Disposition`.
    pub disposition: Option<HeaderValue>,
    /// `Content-Type`.
    pub kind: Option<HeaderValue>,
}

impl Location {
    /// What its query asks the store to say: S3 and Google (`response-content-disposition`), Azure (`rscd`).
    pub fn overrides(&self) -> Override {
        let query = self.uri.query().unwrap_or_default();
        let value = |names: [&str; 2]| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(name, _)| names.contains(name))?;
            HeaderValue::from_bytes(&crate::route::decode(&value.replace('+', " "))?).ok()
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

/// What may be taken for an object store.
#[derive(Debug, Clone)]
pub struct StorageRules {
    /// GitLab itself: a redirect back to it is a sign-in page, a moved project or a canonical address.
    pub gitlab: Origin,
    /// Hosts the operator named, as `host` or `host:port`; `None`: any but link-local and metadata addresses.
    pub hosts: Option<Vec<String>>,
}

impl StorageRules {
    /// Reads the `Location` of a redirect; `None` if it isn't an object store's.
    ///
    /// `own` is the authority under which the client reached larder: where GitLab's external URL is larder's
    /// address, its own pages live there.
    pub fn location(&self, fields: &HeaderMap, own: Option<&str>) -> Option<Location> {
        let mut locations = fields.get_all(http::header::LOCATION).iter();
        let (Some(value), None) = (locations.next(), locations.next()) else {
            return None;
        };
        let uri: Uri = value.to_str().ok()?.parse().ok()?;
        let authority = uri.authority()?;
        let scheme = uri.scheme()?;
        let web = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        let own = own.is_some_and(|own| same_authority(&uri, own));
        let accepted = web
            && !authority.as_str().contains('@')
            && !own
            && !self.gitlab.is_origin_of(&uri)
            && self.allows(&uri);
        accepted.then_some(Location { uri })
    }

    /// Whether names are resolved freely, so that the addresses behind them must be looked at as well.
    pub const fn any_host(&self) -> bool {
        self.hosts.is_none()
    }

    fn allows(&self, uri: &Uri) -> bool {
        let Some(authority) = uri.authority() else {
            return false;
        };
        match &self.hosts {
            Some(hosts) => hosts.iter().any(|host| match host.parse::<http::uri::Authority>() {
                Ok(named) if named.port().is_some() => same_authority(uri, host),
                _ => authority.host().eq_ignore_ascii_case(host),
            }),
            None => match literal(authority.host()) {
                Some(ip) => !is_forbidden(ip),
                // GitLab's own name with another scheme or port is more often GitLab than a store: say so by name.
                None => !authority.host().eq_ignore_ascii_case(self.gitlab.authority().host()),
            },
        }
    }
}

fn same_authority(uri: &Uri, other: &str) -> bool {
    let scheme = uri.scheme_str().unwrap_or("http");
    format!("{scheme}://{other}").parse::<Origin>().is_ok_and(|origin| origin.is_origin_of(uri))
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Link-local addresses and the clouds' metadata services: what answers there is the machine's own secrets.
pub fn is_forbidden(ip: IpAddr) -> bool {
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || ip == ALIBABA,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified() || ip == AWS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: Option<&[&str]>) -> StorageRules {
        StorageRules {
            gitlab: "https://gitlab.example.com/root".parse().unwrap(),
            hosts: hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect()),
        }
    }

    fn accepts(rules: &StorageRules, location: &str) -> bool {
        let mut fields = HeaderMap::new();
        fields.insert(http::header::LOCATION, location.parse().unwrap());
        rules.location(&fields, Some("larder.example.com:8080")).is_some()
    }

    #[test]
    fn only_object_stores_are_followed() {
        for (location, accepted) in [
            ("https://bucket.s3.amazonaws.com/a/b?X-Amz-Signature=x", true),
            ("http://minio:9000/artifacts/x", true),
            ("http://127.0.0.1:9000/artifacts/x", true),
            ("https://gitlab.example.com/users/sign_in", false),
            ("https://GITLAB.example.com:443/x", false),
            ("http://gitlab.example.com:9000/minio", false),
            ("http://larder.example.com:8080/users/sign_in", false),
            ("https://user@bucket.example.com/x", false),
            ("ftp://bucket.example.com/x", false),
            ("/users/sign_in", false),
            ("//evil.example.com/x", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("http://[fe80::1]/x", false),
            ("http://[::ffff:169.254.169.254]/x", false),
            ("http://[fd00:ec2::254]/x", false),
            ("http://100.100.100.200/x", false),
            ("http://0.0.0.0/x", false),
        ] {
            assert_eq!(accepts(&rules(None), location), accepted, "{location}");
        }
    }

    #[test]
    fn named_hosts_are_the_only_ones() {
        let rules = rules(Some(&["s3.example.com", "minio:9000"]));
        for (location, accepted) in [
            ("https://s3.example.com/x", true),
            ("https://s3.example.com:8443/x", true),
            ("https://bucket.s3.example.com/x", false),
            ("http://minio:9000/x", true),
            ("http://minio:9001/x", false),
        ] {
            assert_eq!(accepts(&rules, location), accepted, "{location}");
        }
    }

    #[test]
    fn what_a_signed_query_asks_the_store_to_say_is_read() {
        let overrides = |query: &str| {
            let location = format!("https://s3.example.com/a?{query}&X-Amz-Signature=x");
            let fields = [(http::header::LOCATION, location.parse().unwrap())].into_iter().collect();
            rules(None).location(&fields, None).unwrap().overrides()
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
        let location = rules(None).location(&fields, None).unwrap();
        assert_eq!(format!("{location:?}"), "Location(https://s3.example.com/a)");
        fields.append(http::header::LOCATION, "https://s3.example.com/b".parse().unwrap());
        assert_eq!(rules(None).location(&fields, None), None);
    }
}

//! Names in tables, and against a naive oracle.

use proptest::prelude::*;

use super::*;

const GITLAB: &str = "https://gitlab.example.com";
const CLIENT: &str = "http://larder.test:8080";

/// What `change` makes of a value between a GitLab and a client's name for larder.
fn named<T>(gitlab: &str, client: &str, change: impl FnOnce(Names<'_>) -> T) -> T {
    let (gitlab, client): (Uri, Uri) = (gitlab.parse().unwrap(), client.parse().unwrap());
    let host = client.authority().map(|authority| HeaderValue::try_from(authority.as_str()).unwrap());
    let front = Front { secure: client.scheme() == Some(&Scheme::HTTPS), host };
    let (scheme, authority) = (gitlab.scheme().unwrap(), gitlab.authority().unwrap());
    change(Names { scheme, authority, external: (scheme, authority), front: &front })
}

/// The same, of a GitLab that is reached by one URL and knows itself by another.
fn beside<T>(urls: [&str; 2], client: &str, change: impl FnOnce(Names<'_>) -> T) -> T {
    let external: Uri = urls[1].parse().unwrap();
    named(urls[0], client, |names| {
        change(Names { external: (external.scheme().unwrap(), external.authority().unwrap()), ..names })
    })
}

#[test]
fn what_gitlab_makes_of_its_external_url_names_larder_in_every_field() {
    let urls = ["http://10.0.0.7:8181", "https://gitlab.example.com"];
    for (name, value, renamed) in [
        ("location", "https://gitlab.example.com/a?b", "http://larder.test:8080/a?b"),
        ("location", "https://GITLAB.example.com:443/a", "http://larder.test:8080/a"),
        ("location", "http://10.0.0.7:8181/a", "http://larder.test:8080/a"),
        ("location", "//gitlab.example.com/a", "//larder.test:8080/a"),
        ("location", "https://gitlab.example.com:9000/a", "https://gitlab.example.com:9000/a"),
        ("location", "https://gitlab.example.com.evil.test/a", "https://gitlab.example.com.evil.test/a"),
        // A GitLab that wants https for this very page would be asked for ever.
        ("location", "https://gitlab.example.com/asked?q", "https://gitlab.example.com/asked?q"),
        ("content-location", "https://gitlab.example.com/a", "http://larder.test:8080/a"),
        ("refresh", "3; url='https://gitlab.example.com/a'", "3; url='http://larder.test:8080/a'"),
        (
            "link",
            "<https://gitlab.example.com/a?page=2>; rel=\"next\", <https://elsewhere.test/>; rel=\"x\"",
            "<http://larder.test:8080/a?page=2>; rel=\"next\", <https://elsewhere.test/>; rel=\"x\"",
        ),
        ("set-cookie", "a=b; Domain=.example.com; Secure; path=/", "a=b; path=/"),
        ("set-cookie", "a=b; domain=gitlab.example.com", "a=b"),
        ("set-cookie", "a=b; domain=elsewhere.test", "a=b; domain=elsewhere.test"),
    ] {
        let mut fields = HeaderMap::new();
        fields.insert(name, HeaderValue::from_str(value).unwrap());
        beside(urls, CLIENT, |names| names.rename_answer(&Method::GET, "/asked?q", &mut fields));
        assert_eq!(fields[name], renamed, "{name}: {value}");
    }
    assert_eq!(beside(urls, CLIENT, |names| names.told()), "https", "as its nginx would say");
}

#[test]
fn the_clients_own_origin_is_gitlabs_where_the_connection_is_to_be_changed() {
    let same = "http://larder.test:8080";
    for (gitlab, client, origin, sent) in [
        ("http://gitlab.test", CLIENT, same, "http://gitlab.test"),
        ("http://gitlab.test:80", CLIENT, "http://LARDER.test:8080", "http://gitlab.test"),
        ("http://gitlab.test:8181", CLIENT, same, "http://gitlab.test:8181"),
        ("https://gitlab.test:443", CLIENT, same, "https://gitlab.test"),
        ("https://gitlab.test", "https://l.test", "https://l.test:443", "https://gitlab.test"),
        // The scheme is the one that GitLab is told of.
        ("http://gitlab.test", "https://l.test", "https://l.test", "https://gitlab.test"),
        ("http://[::1]:8181", "http://[::2]", "http://[::2]:80", "http://[::1]:8181"),
        ("http://gitlab.test", CLIENT, "http://larder.test", "http://larder.test"),
        ("http://gitlab.test", CLIENT, "https://larder.test:8080", "https://larder.test:8080"),
        ("http://gitlab.test", CLIENT, "http://larder.test:8080/", "http://larder.test:8080/"),
        (
            "http://gitlab.test",
            CLIENT,
            "http://larder.test:8080.evil.test",
            "http://larder.test:8080.evil.test",
        ),
        ("http://gitlab.test", CLIENT, "http://evil.test", "http://evil.test"),
        ("http://gitlab.test", CLIENT, "http://gitlab.test", "http://gitlab.test"),
        ("http://gitlab.test", CLIENT, "http://u@larder.test:8080", "http://u@larder.test:8080"),
        ("http://gitlab.test", CLIENT, "null", "null"),
    ] {
        let mut fields = HeaderMap::new();
        fields.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        named(gitlab, client, |names| names.rename_request(&mut fields, true));
        assert_eq!(fields[header::ORIGIN], sent, "{gitlab} {client} {origin}");
    }
    let mut two = HeaderMap::new();
    for origin in [same, "http://evil.test"] {
        two.append(header::ORIGIN, HeaderValue::from_static(origin));
    }
    let before = two.clone();
    named(GITLAB, CLIENT, |names| names.rename_request(&mut two, true));
    assert_eq!(two, before, "nobody knows which of two counts");
}

fn answered(gitlab: &str, client: &str, name: &'static str, value: &str) -> String {
    let mut fields = HeaderMap::new();
    fields.insert(name, HeaderValue::from_str(value).unwrap());
    named(gitlab, client, |names| names.rename_answer(&Method::GET, "/asked?q", &mut fields));
    fields[name].to_str().unwrap().to_owned()
}

#[test]
fn places_at_gitlab_become_places_at_larder_and_others_stay() {
    for (value, renamed) in [
        ("https://gitlab.example.com/a?b=c#d", "http://larder.test:8080/a?b=c#d"),
        ("HTTPS://GitLab.Example.com/a", "http://larder.test:8080/a"),
        ("https://gitlab.example.com:443/a", "http://larder.test:8080/a"),
        ("https://gitlab.example.com", "http://larder.test:8080"),
        ("https://gitlab.example.com?x", "http://larder.test:8080?x"),
        ("http://gitlab.example.com/a", "http://larder.test:8080/a"),
        ("https://larder.test:8080/a", "http://larder.test:8080/a"),
        ("http://larder.test:8080/a", "http://larder.test:8080/a"),
        ("/a", "/a"),
        ("a/b", "a/b"),
        ("", ""),
        ("//gitlab.example.com/a", "//larder.test:8080/a"),
        ("//GITLAB.example.com:443", "//larder.test:8080"),
        ("//gitlab.example.com:8443/a", "//gitlab.example.com:8443/a"),
        ("//gitlab.example.com.evil.test/a", "//gitlab.example.com.evil.test/a"),
        ("//user@gitlab.example.com/a", "//user@gitlab.example.com/a"),
        ("///gitlab.example.com/a", "///gitlab.example.com/a"),
        ("//larder.test:8080/a", "//larder.test:8080/a"),
        ("//", "//"),
        ("https://gitlab.example.com:8443/a", "https://gitlab.example.com:8443/a"),
        ("https://gitlab.example.com.evil.test/a", "https://gitlab.example.com.evil.test/a"),
        ("https://evil.test/https://gitlab.example.com/", "https://evil.test/https://gitlab.example.com/"),
        ("https://user@gitlab.example.com/a", "https://user@gitlab.example.com/a"),
        ("https://gitlab.example.com\\@evil.test/", "https://gitlab.example.com\\@evil.test/"),
        ("https:/gitlab.example.com/a", "https:/gitlab.example.com/a"),
        ("ftp://gitlab.example.com/a", "ftp://gitlab.example.com/a"),
        (
            "https://storage.example.com/x?u=https://gitlab.example.com",
            "https://storage.example.com/x?u=https://gitlab.example.com",
        ),
        ("http://gitlab.example.com/asked?q", "http://gitlab.example.com/asked?q"),
    ] {
        assert_eq!(answered(GITLAB, CLIENT, "location", value), renamed, "{value}");
    }
}

#[test]
fn an_external_url_is_gitlabs_where_it_is_the_host_that_was_sent() {
    for (gitlab, client, value, renamed) in [
        ("http://gitlab.example.com", "http://l", "https://gitlab.example.com/a", "http://l/a"),
        ("http://gitlab.example.com:8080", "http://l", "https://gitlab.example.com:8080/a", "http://l/a"),
        (
            "http://gitlab.example.com:8080",
            "http://l",
            "https://gitlab.example.com/a",
            "https://gitlab.example.com/a",
        ),
        // A GitLab that wants https for this very page would be asked for ever.
        (
            "http://gitlab.example.com",
            "http://l",
            "https://gitlab.example.com/asked?q",
            "https://gitlab.example.com/asked?q",
        ),
        (
            "https://gitlab.example.com",
            "https://l",
            "https://gitlab.example.com/asked?q",
            "https://l/asked?q",
        ),
        ("https://a.test", "https://a.test", "https://a.test/x", "https://a.test/x"),
        ("https://gitlab.example.com", "/", "https://gitlab.example.com/x", "/x"),
        ("https://gitlab.example.com", "/", "https://gitlab.example.com?x", "/?x"),
        ("http://[::1]:80", "http://l", "http://[::1]/x", "http://l/x"),
    ] {
        assert_eq!(answered(gitlab, client, "location", value), renamed, "{gitlab} {client} {value}");
    }
}

#[test]
fn other_fields_that_hold_places() {
    for (name, value, renamed) in [
        ("content-location", "https://gitlab.example.com/a", "http://larder.test:8080/a"),
        ("refresh", "5; url=https://gitlab.example.com/a", "5; url=http://larder.test:8080/a"),
        ("refresh", "0;URL='https://gitlab.example.com/a'", "0;URL='http://larder.test:8080/a'"),
        ("refresh", "0; url=\"https://gitlab.example.com/a\" ", "0; url=\"http://larder.test:8080/a\" "),
        ("refresh", "5", "5"),
        ("refresh", "5; url=/a", "5; url=/a"),
        (
            "link",
            "<https://gitlab.example.com/api/v4/projects?page=2&x=a,b>; rel=\"next\", <https://gitlab.example.com/x>; rel=\"last\"",
            "<http://larder.test:8080/api/v4/projects?page=2&x=a,b>; rel=\"next\", <http://larder.test:8080/x>; rel=\"last\"",
        ),
        (
            "link",
            "<https://cdn.test/a.css>; rel=preload; title=\"<https://gitlab.example.com/>, \\\"\"",
            "<https://cdn.test/a.css>; rel=preload; title=\"<https://gitlab.example.com/>, \\\"\"",
        ),
        ("link", "<https://gitlab.example.com/a", "<http://larder.test:8080/a"),
        ("link", "<>, <", "<>, <"),
        ("x-other", "https://gitlab.example.com/a", "https://gitlab.example.com/a"),
    ] {
        assert_eq!(answered(GITLAB, CLIENT, name, value), renamed, "{name}: {value}");
    }
}

#[test]
fn cookies_are_for_the_host_that_the_client_knows() {
    for (client, value, renamed) in [
        (CLIENT, "a=b; path=/; domain=gitlab.example.com; HttpOnly", "a=b; path=/; HttpOnly"),
        (CLIENT, "a=b; Domain=.example.com", "a=b"),
        (CLIENT, "a=b; domain = example.com ;path=/x", "a=b;path=/x"),
        (CLIENT, "a=b; domain=other.test", "a=b; domain=other.test"),
        (CLIENT, "a=b; domain=ample.com", "a=b; domain=ample.com"),
        (CLIENT, "a=b; domain=", "a=b; domain="),
        (CLIENT, "a=b; path=/; secure; HttpOnly; SameSite=None", "a=b; path=/; HttpOnly"),
        (CLIENT, "a=b; Secure; SameSite=Lax", "a=b; SameSite=Lax"),
        (CLIENT, "__Host-a=b; path=/; secure", "__Host-a=b; path=/; secure"),
        (CLIENT, "domain=secure; path=/", "domain=secure; path=/"),
        ("https://larder.test", "a=b; secure; SameSite=None", "a=b; secure; SameSite=None"),
        (
            "https://larder.example.com",
            "a=b; domain=.example.com; secure",
            "a=b; domain=.example.com; secure",
        ),
        ("https://larder.example.com", "a=b; domain=gitlab.example.com", "a=b"),
    ] {
        assert_eq!(answered(GITLAB, client, "set-cookie", value), renamed, "{client} {value}");
    }
    let set = answered("http://gitlab.example.com", CLIENT, "set-cookie", "a=b; secure");
    assert_eq!(set, "a=b; secure", "a GitLab without https knows why");
}

#[test]
fn rails_finds_the_origin_that_it_expects() {
    for (gitlab, client, origin, sent) in [
        (GITLAB, CLIENT, "http://larder.test:8080", "https://larder.test:8080"),
        (GITLAB, CLIENT, "http://other.test", "http://other.test"),
        (GITLAB, CLIENT, "https://larder.test:8080", "https://larder.test:8080"),
        (GITLAB, CLIENT, "null", "null"),
        (GITLAB, "https://larder.test", "https://larder.test", "https://larder.test"),
        ("http://gitlab.test", CLIENT, "http://larder.test:8080", "http://larder.test:8080"),
        ("http://gitlab.test", "https://larder.test", "https://larder.test", "https://larder.test"),
    ] {
        let mut fields = HeaderMap::new();
        fields.insert("origin", HeaderValue::from_static(origin));
        named(gitlab, client, |names| names.rename_request(&mut fields, false));
        assert_eq!(fields["origin"], sent, "{gitlab} {client} {origin}");
    }
}

#[test]
fn a_trusted_proxy_says_by_which_scheme_its_client_came() {
    let address = "10.0.0.1".parse().unwrap();
    for (said, trusted, secure) in [
        ("https", true, true),
        ("HTTPS", true, true),
        ("https, http", true, true),
        ("http, https", true, false),
        ("https", false, false),
    ] {
        let mut fields = HeaderMap::new();
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(said));
        let front = Front::of(Peer { address, trusted, secure: false }, &fields, &Uri::from_static("/x"));
        assert_eq!(front.secure, secure, "{said} {trusted}");
    }
}

#[test]
fn https_on_either_side_is_what_gitlab_is_told() {
    for (gitlab, client, told, port) in [
        ("http://g", "http://l", "http", "80"),
        ("http://g", "http://l:8080", "http", "8080"),
        ("http://g", "https://l", "https", "443"),
        ("https://g", "http://l", "https", "443"),
        ("https://g", "https://l:8443", "https", "8443"),
    ] {
        let said = named(gitlab, client, |names| (names.told(), names.told_port()));
        assert_eq!(said, (told, HeaderValue::from_static(port)), "{gitlab} {client}");
    }
}

proptest! {
    /// The oracle: `http`'s own reader of URLs, with default ports filled in.
    #[test]
    fn a_place_is_renamed_if_and_only_if_it_is_gitlabs(
        secure: bool,
        host in "(gitlab\\.test|GITLAB\\.test|larder\\.test|gitlab\\.test\\.evil|x)",
        port in prop::option::of(prop::sample::select(vec![80_u16, 443, 8080])),
        path in "(/[a-z/%.]{0,8})?(\\?[a-z=&]{0,5})?",
    ) {
        let scheme = if secure { "https" } else { "http" };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let value = format!("{scheme}://{host}{port}{path}");
        let uri: Uri = value.parse().unwrap();
        let at = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        // GitLab at https, port 443; the same Host with http is port 80, without it being written.
        let gitlabs = host.eq_ignore_ascii_case("gitlab.test") && (at == 443 || (!secure && at == 80));
        // GitLab may call larder https as well, by the port in its name.
        let clients = host == "larder.test" && secure && at == 8080;
        let renamed = answered("https://gitlab.test", "http://larder.test:8080", "location", &value);
        let expected = format!("http://larder.test:8080{path}");
        prop_assert_eq!(renamed, if gitlabs || clients { expected } else { value });
    }

    #[test]
    fn nothing_is_renamed_twice_and_lists_keep_their_length(value in "[<>\"\\\\,;a-z =:/?.@]{0,40}|(<https://gitlab\\.example\\.com/[a-z]*>; rel=\"x\",? ?){0,4}") {
        for name in ["location", "refresh", "link", "set-cookie"] {
            let once = answered(GITLAB, CLIENT, name, &value);
            prop_assert_eq!(&answered(GITLAB, CLIENT, name, &once), &once);
            if name == "link" {
                prop_assert_eq!(once.matches('<').count(), value.matches('<').count());
            }
        }
    }
}

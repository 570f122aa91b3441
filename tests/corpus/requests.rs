//! What clients send.

use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use larder::gitlab::route::{Class, Question, RequestLine, Route, Write};
use larder::http::Etag;
use larder::http::conditional::{self, Decision, Validators};
use larder::http::hop::{self, Front, Head, Names, Peer, Way};
use larder::http::range::{self, Asked};

/// `METHOD target`, a space behind it if there is a body.
pub(crate) fn route(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return false };
    let (Ok(method), Ok(target)) = (Method::from_bytes(method), PathAndQuery::try_from(target)) else {
        return false;
    };
    let has_body = parts.next().is_some();
    let read = |root: &str, target: &PathAndQuery| {
        Route::of(root, RequestLine { method: &method, target, has_body })
    };
    let route = read("", &target);
    let rooted: PathAndQuery = format!("/gitlab{target}").parse().unwrap();
    match &route {
        Route::Pass => return false,
        Route::Read(question) => {
            assert!(!has_body && (method == Method::GET || method == Method::HEAD));
            assert_eq!(read("", &question.target), route, "asked again it is the same question");
            check_question(question, &target);
            let Route::Read(below) = read("/gitlab", &rooted) else { panic!("the root is part of the path") };
            assert_eq!(
                (below.class, below.key, &below.project),
                (question.class, question.key, &question.project)
            );
            assert_eq!(below.target.as_str(), format!("/gitlab{}", question.target));
        }
        Route::Write(write) => {
            assert!(method != Method::GET && method != Method::HEAD);
            assert!(!matches!(read("", &target), Route::Read(_)));
            if let Write::Archive(job) | Write::Upload(job) | Write::Grants(job) = write {
                assert!(target.path().split('/').any(|segment| segment == job.to_string()));
            }
        }
    }
    true
}

fn check_question(question: &Question, target: &PathAndQuery) {
    let segments: Vec<&str> = target.path().split('/').collect();
    assert!(segments.iter().skip(1).all(|segment| !matches!(*segment, "" | "." | "..")), "{target}");
    let beside = question.of_archive();
    assert_eq!((beside.key, beside.class.is_entry()), (question.key, false), "{target}");
    assert_eq!(beside.target.as_str(), question.about());
    assert_eq!(
        Route::of("", read_of(&beside.target)),
        Route::Read(beside.clone()),
        "it is a question itself"
    );
    if let Some(job) = question.key.job() {
        assert!(segments.contains(&job.to_string().as_str()), "{target}");
    }
    let project = question.project.as_deref().unwrap_or_default();
    assert!(target.path().contains(project), "{target}");
    if let Some(entry) = &question.entry {
        assert!(question.class.is_entry());
        let parts: Vec<&str> = entry.name.split('/').collect();
        assert!(parts.iter().all(|part| !matches!(*part, "" | "." | "..")) && !entry.name.contains('\0'));
    }
    assert_eq!(question.target.path(), target.path(), "byte for byte");
    let (asked, given) = (question.target.query().unwrap_or_default(), target.query().unwrap_or_default());
    if question.class == Class::Runner {
        let kept = given.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("direct_download="));
        let expected: Vec<&str> = kept.chain(["direct_download=true"]).collect();
        assert_eq!(asked, expected.join("&"), "every other pair, in order");
    } else {
        assert_eq!(asked, given);
    }
}

fn read_of(target: &PathAndQuery) -> RequestLine<'_> {
    RequestLine { method: &Method::GET, target, has_body: false }
}

/// Eight bytes of length, then the field's value.
pub(crate) fn byte_range(bytes: &[u8]) -> bool {
    let Some((length, value)) = bytes.split_first_chunk::<8>() else { return false };
    let (length, Ok(value)) = (u64::from_le_bytes(*length), std::str::from_utf8(value)) else { return false };
    match range::read(value, length) {
        Asked::Part(range) => {
            assert!(range.start < range.end && range.end <= length, "{value} of {length}");
            let exact = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(range::read(&exact, length), Asked::Part(range), "{value} is {exact}");
            true
        }
        Asked::Parts(parts) => {
            assert!(parts.len() > 1 && parts.iter().all(|part| part.start < part.end && part.end <= length));
            let exact: Vec<String> =
                parts.iter().map(|part| format!("{}-{}", part.start, part.end - 1)).collect();
            let exact = format!("bytes={}", exact.join(","));
            assert_eq!(range::read(&exact, length), Asked::Parts(parts), "{value} is {exact}");
            true
        }
        Asked::Nothing | Asked::Whole => false,
    }
}

/// Lines of `name: value`; what is none is left out.
pub(crate) fn fields(bytes: &[u8]) -> HeaderMap {
    let pair = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?))
    };
    let mut fields = HeaderMap::new();
    for (name, value) in bytes.split(|byte| *byte == b'\n').filter_map(pair) {
        fields.append(name, value);
    }
    fields
}

pub(crate) fn preconditions(bytes: &[u8]) -> bool {
    let fields = fields(bytes);
    let etag = Etag::quoting("e");
    let has = |names: &[HeaderName]| names.iter().any(|name| fields.contains_key(name));
    for validators in [
        Validators { etag: etag.as_ref(), modified: Some(1_800_000_000) },
        Validators { etag: None, modified: None },
    ] {
        let decision = conditional::decide(&fields, validators);
        match decision {
            Decision::Send => {}
            Decision::SendWhole => assert!(has(&[header::IF_RANGE])),
            Decision::NotModified => assert!(has(&[header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE])),
            Decision::Failed => assert!(has(&[header::IF_MATCH, header::IF_UNMODIFIED_SINCE])),
        }
        let mut without = fields.clone();
        without.remove(header::IF_RANGE);
        let same = conditional::decide(&without, validators);
        assert!(
            same == decision || (decision, same) == (Decision::SendWhole, Decision::Send),
            "{decision:?}"
        );
    }
    has(&[header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE])
}

/// A field's value in an answer, as GitLab might write it: what names GitLab comes to name larder, once and for all.
pub(crate) fn names(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let peer = Peer { address: std::net::Ipv4Addr::LOCALHOST.into(), trusted: false, secure: false };
    let front = Front::of(peer, &HeaderMap::new(), &"http://larder.test:8080/".parse().unwrap());
    let authority = "gitlab.example.com".parse().unwrap();
    let scheme = &http::uri::Scheme::HTTPS;
    let names = Names { scheme, authority: &authority, external: (scheme, &authority), front: &front };
    let fields = [
        header::LOCATION,
        header::CONTENT_LOCATION,
        header::LINK,
        header::SET_COOKIE,
        HeaderName::from_static("refresh"),
    ];
    let mut renamed = false;
    for name in fields {
        let mut answer = HeaderMap::new();
        answer.insert(name.clone(), value.clone());
        names.rename_answer(&Method::GET, "/asked", &mut answer);
        let once = answer.clone();
        names.rename_answer(&Method::GET, "/asked", &mut answer);
        assert_eq!(answer, once, "{name}: it is done at once");
        assert_eq!(answer.len(), 1);
        renamed |= answer[&name] != value;
        if name == header::LOCATION && answer[&name] != value {
            // A URL may leave its scheme to its reader.
            let url = answer[&name].as_bytes();
            let url = url.strip_prefix(b"http:").unwrap_or(url);
            assert!(url.starts_with(b"//larder.test:8080"), "{value:?}");
        }
    }
    renamed
}

/// Lines of `name: value`, as a client or a proxy before larder might send them: what goes on says where the request
/// came from by larder's word alone.
pub(crate) fn forwarding(bytes: &[u8]) -> bool {
    let given = fields(bytes);
    let authority = "gitlab.example.com".parse().unwrap();
    let address = std::net::Ipv4Addr::new(10, 0, 0, 1).into();
    for trusted in [false, true] {
        let peer = Peer { address, trusted, secure: false };
        let mut sent = given.clone();
        hop::admit(&mut sent, peer);
        let Ok(client) = peer.client(&sent) else {
            assert!(trusted, "nobody else is asked");
            continue;
        };
        let (way, front) = (Way::of(peer, client, &sent), Front::of(peer, &sent, &"/".parse().unwrap()));
        let question = Head::of(&sent, &way).to_sent().into_fields();
        let scheme = &http::uri::Scheme::HTTP;
        let names = Names { scheme, authority: &authority, external: (scheme, &authority), front: &front };
        hop::strip(&mut sent);
        hop::forward(&mut sent, &way, names);
        for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
            let both = [&sent, &question].map(|fields| fields.get_all(name).iter().collect::<Vec<_>>());
            let stays = hop::named_by_connection(&given).iter().any(|own| own == name);
            assert!(both[0] == both[1] || stays, "a question comes the same way: {name}");
        }
        let one = |name: &str| {
            let values: Vec<_> = sent.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{name}");
            String::from_utf8_lossy(values[0].as_bytes()).into_owned()
        };
        assert!(one("x-forwarded-for").ends_with("10.0.0.1"));
        assert_eq!(one("x-real-ip"), client.to_string());
        assert!(matches!(&*one("x-forwarded-proto"), "http" | "https"));
        for (name, value) in &sent {
            let read = name.as_str().replace('_', "-");
            assert!(!read.starts_with("gitlab-workhorse") && !read.starts_with("x-accel-"), "{name}");
            assert!(!hop::is_hop_by_hop(&read), "{name}");
            let claim = read.starts_with("x-forwarded-") || read == "forwarded" || read == "x-real-ip";
            if claim && !trusted {
                let own = value == "10.0.0.1" || value == "80" || value == "http";
                assert!(
                    own || Some(value) == front.host() || name == "x-forwarded-port",
                    "{name}: {value:?}"
                );
            }
        }
    }
    given.keys().any(|name| hop::is_forwarding(&hop::read_name(name)))
}

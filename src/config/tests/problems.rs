//! What is wrong is said, all of it, and no secret with it.

use super::*;

#[test]
fn all_problems_are_reported_at_once() {
    let mut sources = file(
        "max = 1\n[server]\nlisten = 8080\nlistne = 1\ndrain = [1]\n[cache]\nttl = \"1s\"\n[access]\nttl = {}\n\
         [serve]\n[log]\nlevel = 2020-01-01\n",
    );
    sources.environment = environment([
        ("LARDER__CACHE__MAX_SIZE", "1"),
        ("LARDER__CACHE", "x"),
        ("LARDER__SERVER__LISTNE", "x"),
        ("LARDER_ACCESS_TTL", "1s"),
        ("LARDER__access__ttl", "1s"),
        ("LARDER__NOTHING__LIKE__IT", "x"),
        ("LARDER_PORT", "tcp://10.0.0.1:80"),
        ("LARDER_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ]);
    sources.flags = vec![(spec("log.format"), "xml".into())];
    let found = lines(&sources);
    let expected = [
        "cache.ttl (file l.toml): unknown key; expected access.ttl",
        "max (file l.toml): unknown key; expected one of the keys that `larder --help` lists",
        "serve (file l.toml): unknown key; expected one of the keys that `larder --help` lists",
        "server.listne (file l.toml): unknown key; expected server.listen",
        "LARDER__CACHE (environment): unknown key; expected LARDER__SECTION__KEY as in `larder --help`",
        "LARDER__SERVER__LISTNE (environment): unknown key; expected LARDER__SERVER__LISTEN",
        "LARDER_ACCESS_TTL (environment): unknown key; expected LARDER__ACCESS__TTL",
        "LARDER__access__ttl (environment): unknown key; expected LARDER__ACCESS__TTL",
        "LARDER__NOTHING__LIKE__IT (environment): unknown key; expected LARDER__SECTION__KEY as in `larder --help`",
        "server.listen (file l.toml): found \"8080\"; expected an IP address and a port such as \"127.0.0.1:8080\", \"plain:127.0.0.1:8080\" or \"unix:/run/larder.sock\"",
        "server.drain (file l.toml): found a list; expected a duration from 0s to 24h such as \"30s\"",
        "upstream.url (default): not set; expected GitLab's URL such as \"https://gitlab.example.com\" or \
         \"https://example.com/gitlab\", without user name, password, query or fragment, from the file, \
         LARDER__UPSTREAM__URL or --upstream",
        "cache.max_size (environment LARDER__CACHE__MAX_SIZE): found \"1\"; expected a size from 64MiB to 1048576TiB \
         such as \"20GiB\" or \"500GB\", or a percentage from \"1%\" to \"100%\"",
        "access.ttl (file l.toml): found a table or a date; expected a duration from 0s to 24h such as \"30s\"",
        "log.format (flag --log-format): found \"xml\"; expected \"auto\", \"text\" or \"json\"",
        "log.level (file l.toml): found a table or a date; expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_section_must_be_one() {
    let found = lines(&with_url(spec("cache.dir"), file("server = 3\nlog = [\"info\"]\nadmin = {}\n")));
    let expected = [
        "log (file l.toml): found a list; expected a section with keys such as log.format",
        "server (file l.toml): found a number; expected a section with keys such as server.listen",
    ];
    assert_eq!(found, expected);
}

#[test]
fn lists_in_the_file_are_lists_of_strings() {
    for (text, found) in [("\"10.0.0.0/8\"", "a string"), ("[[]]", "a list that doesn't hold strings alone")]
    {
        let found_lines =
            lines(&with_url(spec("cache.dir"), file(&format!("[server]\ntrusted_proxies = {text}"))));
        assert!(
            found_lines.len() == 1 && found_lines[0].contains(&format!("found {found};")),
            "{found_lines:?}"
        );
    }
}

#[test]
fn a_dot_in_a_quoted_key_is_no_section() {
    let found =
        lines(&with_url(spec("cache.dir"), file("\"server.listen\" = 3\n[server]\n\"listen.x\" = 1")));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn an_unreadable_file_is_a_problem_among_others_and_hides_what_may_be_in_it() {
    let flags = vec![(spec("log.level"), "loud".into())];
    let missing = File::open(std::path::Path::new("/nonexistent/larder.toml"));
    let found = lines(&Sources { file: Some(missing), flags, ..Sources::default() });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("file /nonexistent/larder.toml: cannot be read: "), "{found:?}");
    assert!(found[1].starts_with("log.level (flag --log-level)"), "{found:?}");
    let found = lines(&file("[upstream]\nurl = \"https://gitlab.example.com\"\nca_file = \n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("file l.toml: line 3: "), "{found:?}");
}

#[test]
fn credentials_are_refused_and_never_shown() {
    let url = "https://user:hunter2@gitlab.example.com";
    let mut cases: Vec<Sources> =
        in_each_layer(spec("upstream.url"), url).into_iter().map(|(_, s)| s).collect();
    cases.extend([
        file("[upstream]\nurl = \"https://gitlab.example.com?private_token=hunter2\""),
        file("[upstream]\nurl = \"https://user:hunter2@gitlab.example.com\n"),
        file("[upstream]\nurl = https://user:hunter2@gitlab.example.com\n"),
        file("[upstream]\nurl = [\"https://user:hunter2@gitlab.example.com\"]\n"),
        file("[upstream]\nurl = { password = \"hunter2\" }\n"),
        file("upstream = \"https://user:hunter2@gitlab.example.com\"\n"),
        file("[upstream]\npassword = \"hunter2\"\n"),
        Sources { environment: environment([("LARDER__UPSTREAM__TOKEN", "hunter2")]), ..Sources::default() },
        Sources {
            environment: environment([("LARDER__UPSTREAM__STORAGE_HOSTS", "k:hunter2@s3")]),
            ..Sources::default()
        },
    ]);
    for sources in cases {
        let problems = load(&sources).unwrap_err();
        let shown = format!("{problems} {problems:?}");
        assert!(!problems.is_empty() && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn bytes_that_are_no_text_are_a_problem() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![b'/', 0xff]);
    let sources = Sources {
        environment: vec![
            ("LARDER__CACHE__DIR".into(), bytes()),
            (OsString::from_vec(b"LARDER__\xff".to_vec()), "x".into()),
            ("LARDER__UPSTREAM__URL".into(), URL.into()),
        ],
        flags: vec![(spec("access.ttl"), bytes())],
        ..Sources::default()
    };
    assert_eq!(lines(&sources).len(), 3, "{:?}", lines(&sources));
}

#[test]
fn each_certificate_needs_its_key() {
    let pair = |cert: &str, key: &str| {
        lines(&with_url(spec("cache.dir"), file(&format!("[server.tls]\n{cert}\n{key}\n"))))
    };
    for (cert, key) in
        [("", ""), ("cert = \"a\"", "key = [\"b\"]"), ("cert = [\"a\", \"b\"]", "key = [\"c\", \"d\"]")]
    {
        assert_eq!(pair(cert, key), Vec::<String>::new(), "{cert} {key}");
    }
    for (cert, key, layer, found, others) in [
        ("cert = \"a\"", "", "default", 0, 1),
        ("", "key = \"a\"", "file l.toml", 1, 0),
        ("cert = [\"a\", \"b\"]", "key = [\"c\"]", "file l.toml", 1, 2),
    ] {
        let said = format!(
            "server.tls.key ({layer}): found {found} for {others} of server.tls.cert; expected one for each"
        );
        assert_eq!(pair(cert, key), [said]);
    }
    let wrong = pair("cert = []", "key = [1, [2]]");
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    let unknown =
        lines(&with_url(spec("cache.dir"), file("[server.tls]\ncerts = 1\n[server]\n\"tls.key\" = 2")));
    assert_eq!(unknown.len(), 2, "{unknown:?}");
}

#[test]
fn listeners_must_not_share_a_port() {
    let cases = [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "[::]:80", true),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ];
    for (server, admin, clash) in cases {
        let variables = [("LARDER__SERVER__LISTEN", server), ("LARDER__ADMIN__LISTEN", admin)];
        let sources = Sources { environment: environment(variables), ..Sources::default() };
        let found = lines(&with_url(spec("cache.dir"), sources));
        let expected = format!(
            "admin.listen (environment LARDER__ADMIN__LISTEN): found {admin}, which server.listen (environment \
             LARDER__SERVER__LISTEN) occupies; expected another address"
        );
        assert_eq!(found, if clash { vec![expected] } else { vec![] }, "{server} {admin}");
    }
}

#[test]
fn upstream_must_not_be_larder_itself() {
    let cases = [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
        ("http://localhost:8080/gitlab", "127.0.0.1:8080", true),
        ("http://127.0.0.1:8080", "0.0.0.0:8080", true),
        ("http://[::1]:8080", "[::]:8080", true),
        ("http://127.0.0.1", "127.0.0.1:80", true),
        ("https://127.0.0.1", "127.0.0.1:443", true),
        ("https://127.0.0.1", "127.0.0.1:80", false),
        ("http://10.0.0.5:8080", "0.0.0.0:8080", false),
        ("http://gitlab.example.com:8080", "127.0.0.1:8080", false),
    ];
    for (url, listen, clash) in cases {
        let variables = [("LARDER__UPSTREAM__URL", url), ("LARDER__SERVER__LISTEN", listen)];
        let found = lines(&Sources { environment: environment(variables), ..Sources::default() });
        assert_eq!(found.len(), usize::from(clash), "{url} {listen}: {found:?}");
        assert!(
            found
                .iter()
                .all(|line| line.starts_with("upstream.url (environment LARDER__UPSTREAM__URL): found "))
        );
    }
}

//! The configuration as a function from layers to settings or problems.

use std::ffi::OsString;
use std::path::PathBuf;

use super::spec::Shape;
use super::*;

const URL: &str = "https://gitlab.example.com";

mod documents;
mod problems;

/// Texts for each key as the environment or a flag would bring them.
const VALUES: &[(&str, &[&str], &[&str])] = &[
    (
        "server.listen",
        &["0.0.0.0:80", "[::1]:8080", "127.0.0.1:0", "plain:127.0.0.1:1,unix:/run/larder.sock, [::]:2"],
        &["", "8080", ":8080", "localhost:80", "1.2.3.4", "unix:run", "1.2.3.4:1,"],
    ),
    (
        "server.trusted_proxies",
        &["", "10.0.0.0/8", "10.0.0.0/8, 192.0.2.7,fd00::/8"],
        &["10.0.0.0/33", "a", "1.2.3.4,"],
    ),
    ("server.max_connections", &["1", "1000000", "007"], &["0", "1000001", "-1", "1.5", "many", ""]),
    ("server.max_connections_per_address", &["0", "1000000"], &["-1", "1000001", ""]),
    ("server.header_timeout", &["1ms", "24h", "1h 30m"], &["0s", "30", "-1s", "24h 1s", ""]),
    ("server.idle_timeout", &["1ms", "24h", "75s"], &["0s", "75", "-1s", "24h 1s", ""]),
    ("server.min_rate", &["0", "1MiB"], &["-1", "fast", ""]),
    ("server.min_rate_for", &["1ms", "24h"], &["0s", "30", ""]),
    ("server.memory", &["16MiB", "1GiB"], &["15MiB", "much", ""]),
    ("server.shutdown_delay", &["0s", "10s", "24h"], &["25h", "soon"]),
    ("server.drain", &["0s", "0", "24h"], &["25h", "soon"]),
    ("server.tls.cert", &["/etc/tls.pem", "tls 1.pem"], &["", "a\0b"]),
    ("server.tls.key", &["/etc/tls.key"], &[""]),
    ("server.tls.min_version", &["1.2", "1.3"], &["1.1", "TLS 1.2", ""]),
    (
        "upstream.url",
        &["http://127.0.0.1:3000", "https://example.com/gitlab"],
        &["gitlab.example.com", "ftp://a", ""],
    ),
    (
        "upstream.external_url",
        &["https://gitlab.example.com", "https://example.com/gitlab"],
        &["gitlab.example.com", "https://u:p@a", ""],
    ),
    ("upstream.ca_file", &["/etc/ca.pem", "ca 1.pem"], &[""]),
    ("upstream.tls.insecure", &["true", "false"], &["1", "yes", "True", ""]),
    ("upstream.tls.cert", &["/etc/c.pem"], &[""]),
    ("upstream.tls.key", &["/etc/c.key"], &[""]),
    ("upstream.http2", &["auto", "off", "prior-knowledge"], &["", "on", "true", "h2c"]),
    (
        "upstream.proxy",
        &["http://proxy.example.com:3128", "http://192.0.2.1"],
        &["https://proxy", "proxy:3128", "http://user:secret@proxy", "http://proxy/path", ""],
    ),
    ("upstream.proxy_auth_file", &["/etc/auth"], &[""]),
    (
        "upstream.no_proxy",
        &["", "*", ".example.com, *.test,10.0.0.0/8,::1"],
        &["a b", "http://x", "a,,b", "10.0.0.0/33"],
    ),
    (
        "upstream.storage_hosts",
        &["", "s3.example.com", "a, b:9000,[::1]:9000"],
        &["https://a", "a/b", "a,,b"],
    ),
    ("upstream.connect_timeout", &["10s"], &["0ms", "x"]),
    ("upstream.read_timeout", &["1h"], &["0s"]),
    ("upstream.answer_timeout", &["60s"], &["0s"]),
    ("upstream.resume_timeout", &["60s", "0s"], &["-1s"]),
    ("upstream.max_connection_age", &["1s", "10m", "24h"], &["0s", "25h"]),
    ("upstream.retry_store", &["30s", "0s"], &["-1s", "25h"]),
    ("upstream.max_connections", &["1", "1000000"], &["0", "1000001", "many"]),
    ("storage.ca_file", &["/etc/s.pem", "s.pem"], &[""]),
    ("cache.dir", &["/srv/larder", "relative/\"dir\""], &["", "a\0b"]),
    (
        "cache.max_size",
        &["64MiB", "50 GiB", "1.5GiB", "100000000000", "1048576TiB", "1%", "80 %", "100%"],
        &["67108863", "50G", "0", "1048577TiB", "0%", "101%", "%", "+5%", "-1%", "0.5%", "1e1%", "256%"],
    ),
    ("cache.max_object", &["1", "10GiB"], &["0", "x", ""]),
    ("cache.min_free", &["0", "1GiB"], &["-1", ""]),
    ("cache.max_age", &["1s", "3650d"], &["0s", "3651d", "30"]),
    ("cache.instance", &["a", "1.3", "123", "true", "git-lab_1"], &["", "..", ".a", "a/b", "A", "ü"]),
    ("cache.read", &["mapped", "pread"], &["Mapped", "sendfile", ""]),
    ("cache.scrub", &["0%", "1%", "100%"], &["5", "%", "101%", "-1%", "+5%", "0.5%", ""]),
    ("cache.on_file", &["archive", "pass"], &["Archive", "fetch", ""]),
    ("cache.gzip", &["text", "all", "off"], &["TEXT", "true", ""]),
    ("access.ttl", &["0s", "24h", "1m"], &["25h", "30"]),
    ("access.grace", &["0s", "24h"], &["25h", "-1s"]),
    ("access.ignore_fields", &["", "X-Edge", "x-edge,X_Number"], &["Authorization", "private_token", "a b"]),
    ("admin.listen", &["[::]:9090"], &["9090"]),
    ("admin.hosts", &["", "larder", "a.example,B"], &["larder:9090", "a b", "*"]),
    ("log.format", &["auto", "text", "json"], &["JSON", "yaml"]),
    ("log.level", &["error", "warn", "info", "debug", "trace"], &["off", "5"]),
];

/// Neither without the other.
const TLS: (&str, &str) = ("server.tls.cert", "server.tls.key");

fn spec(path: &str) -> &'static Spec {
    keys::find(path).unwrap()
}

fn file(text: &str) -> Sources {
    Sources {
        file: Some(File { path: PathBuf::from("l.toml"), text: Ok(text.to_owned()) }),
        ..Sources::default()
    }
}

fn environment<const N: usize>(variables: [(&str, &str); N]) -> Vec<(OsString, OsString)> {
    variables.map(|(name, value)| (name.into(), value.into())).to_vec()
}

/// `text` for `spec` in a file, the way a person would write it.
fn toml(spec: &Spec, text: &str) -> String {
    let value = match spec.shape {
        Shape::List | Shape::OneOrMore if text.is_empty() => "[]".to_owned(),
        Shape::OneOrMore if !text.contains(',') => serde_json::to_string(text).unwrap(),
        Shape::List | Shape::OneOrMore => format!("{:?}", text.split(',').map(str::trim).collect::<Vec<_>>()),
        Shape::Text | Shape::Number => serde_json::to_string(text).unwrap(),
    };
    format!("[{}]\n{} = {value}\n", spec.section(), spec.name())
}

/// The same text in each layer that can hold it, with the name the layer should have.
fn in_each_layer(spec: &'static Spec, text: &str) -> Vec<(String, Sources)> {
    let variable = spec.variable();
    let env = Sources { environment: environment([(&variable, text)]), ..Sources::default() };
    let mut layers =
        vec![("file l.toml".to_owned(), file(&toml(spec, text))), (format!("environment {variable}"), env)];
    if let Some(flag) = spec.flag {
        let flags = Sources { flags: vec![(spec, text.into())], ..Sources::default() };
        layers.push((format!("flag --{}", flag.long), flags));
    }
    layers.into_iter().map(|(name, sources)| (name, with_url(spec, sources))).collect()
}

/// A URL in another layer, so that nothing is missing.
fn with_url(except: &Spec, mut sources: Sources) -> Sources {
    if except.path != "upstream.url" {
        sources.environment.push(("LARDER__UPSTREAM__URL".into(), URL.into()));
    }
    for (path, other) in [TLS, (TLS.1, TLS.0)] {
        if except.path == path || except.path == "server.tls.min_version" {
            sources.environment.push((spec(other).variable().into(), "other.pem".into()));
        }
    }
    sources
}

fn lines(sources: &Sources) -> Vec<String> {
    load(sources).map_or_else(|problems| problems.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

fn config(sources: &Sources) -> String {
    format!(
        "{:?}",
        load(sources).map(|loaded| loaded.config).map_err(|problems| problems.to_string()).unwrap()
    )
}

#[test]
fn each_key_has_values_in_the_table_of_these_tests() {
    let tested: Vec<&str> = VALUES.iter().map(|(path, ..)| *path).collect();
    let known: Vec<&str> = KEYS.iter().map(|spec| spec.path).collect();
    assert_eq!(tested, known);
}

#[test]
fn a_good_value_is_taken_from_each_layer_and_the_layer_is_named() {
    for (path, good, _) in VALUES {
        for text in *good {
            for (layer, sources) in in_each_layer(spec(path), text) {
                let loaded =
                    load(&sources).unwrap_or_else(|problems| panic!("{path} = {text:?}: {problems}"));
                let effective = loaded.effective.iter().find(|found| found.spec.path == *path).unwrap();
                assert_eq!(effective.layer, layer, "{path} = {text:?}");
            }
        }
    }
}

#[test]
fn a_bad_value_from_each_layer_is_one_problem_with_key_layer_and_expectation() {
    for (path, _, bad) in VALUES {
        for text in *bad {
            for (layer, sources) in in_each_layer(spec(path), text) {
                let lines = lines(&sources);
                let head = format!("{path} ({layer}): found ");
                let tail = format!("; expected {}", spec(path).expects);
                assert_eq!(lines.len(), 1, "{path} = {text:?} in {layer}: {lines:?}");
                assert!(lines[0].starts_with(&head) && lines[0].ends_with(&tail), "{lines:?}");
            }
        }
    }
}

#[test]
fn each_key_reaches_the_settings() {
    for (path, good, _) in VALUES {
        let spec = spec(path);
        let seen: std::collections::BTreeSet<String> = good
            .iter()
            .map(|text| with_url(spec, file(&toml(spec, text))))
            .chain(
                (!["upstream.url", TLS.0, TLS.1].contains(&spec.path))
                    .then(|| with_url(spec, Sources::default())),
            )
            .map(|sources| config(&sources))
            .collect();
        // `connect_timeout` and its like are tested with their default alone.
        assert!(seen.len() > 1 || good.len() == 1, "{path}");
    }
}

#[test]
fn later_layers_win() {
    let mut sources =
        file("[server]\nlisten = \"127.0.0.1:1\"\n[upstream]\nurl = \"http://file\"\n[cache]\ndir = \"/f\"");
    sources.environment =
        environment([("LARDER__SERVER__LISTEN", "127.0.0.1:2"), ("LARDER__CACHE__DIR", "/e")]);
    sources.flags = vec![(spec("server.listen"), "127.0.0.1:3".into())];
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.server.listen[0].tcp().unwrap().port(), 3);
    assert_eq!(loaded.config.store.dir, PathBuf::from("/e"));
    assert_eq!(loaded.config.upstream.url.to_string(), "http://file");
    let text = loaded.to_toml();
    for line in [
        "listen = \"127.0.0.1:3\" # flag --listen",
        "dir = \"/e\" # environment LARDER__CACHE__DIR",
        "url = \"http://file\" # file l.toml",
        "drain = \"30s\" # default",
        "max_connections = 10000 # default",
        "trusted_proxies = [] # default",
        "# ca_file is not set # default",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_all_programs_know_of_a_proxy_is_the_default_under_every_other_layer() {
    for (variables, proxy, layer) in [
        (&[("HTTPS_PROXY", "http://one:1")][..], Some("http://one:1"), "environment HTTPS_PROXY"),
        (
            &[("https_proxy", "two:2"), ("HTTPS_PROXY", "one:1")],
            Some("http://two:2"),
            "environment https_proxy",
        ),
        (
            &[("HTTPS_PROXY", "one:1"), ("LARDER__UPSTREAM__PROXY", "http://own:3")],
            Some("http://own:3"),
            "environment LARDER__UPSTREAM__PROXY",
        ),
        (&[("HTTPS_PROXY", "")], None, "default"),
        (&[("HTTP_PROXY", "http://one:1")], None, "default"),
    ] {
        let mut sources = with_url(spec("upstream.proxy"), Sources::default());
        sources.environment.extend(variables.iter().map(|(name, value)| (name.into(), value.into())));
        let loaded = load(&sources).unwrap();
        let found = loaded.config.upstream.proxy.url.as_ref().map(ToString::to_string);
        assert_eq!(found.as_deref(), proxy, "{variables:?}");
        let effective = loaded.effective.iter().find(|found| found.spec.path == "upstream.proxy").unwrap();
        assert_eq!(effective.layer, layer);
    }
    let mut sources = with_url(spec("upstream.proxy"), Sources::default());
    sources.environment.extend(environment([("no_proxy", "a.test, 10.0.0.0/8,")]));
    assert_eq!(load(&sources).unwrap().config.upstream.proxy.no_proxy, ["a.test", "10.0.0.0/8"]);
    sources.environment = environment([("LARDER__UPSTREAM__URL", URL), ("HTTPS_PROXY", "http://u:secret@p")]);
    let problems = lines(&sources);
    assert!(problems.len() == 1 && !problems[0].contains("secret"), "{problems:?}");
}

#[test]
fn a_table_within_a_section_holds_keys_as_well() {
    for text in ["tls.insecure = true", "tls = { insecure = \"true\" }", "[upstream.tls]\ninsecure = true"] {
        let text = format!("[upstream]\nurl = \"{URL}\"\n{text}\n");
        assert!(load(&file(&text)).unwrap().config.upstream.tls.insecure, "{text}");
    }
    for (text, key) in [("tls.insecur = true", "upstream.tls.insecur"), ("tls = true", "upstream.tls")] {
        let problems = lines(&file(&format!("[upstream]\nurl = \"{URL}\"\n{text}\n")));
        assert!(problems.len() == 1 && problems[0].starts_with(key), "{problems:?}");
    }
}

#[test]
fn every_key_that_is_a_path_says_what_it_leads_to() {
    for spec in KEYS {
        let is_path = ["path of a PEM", "path of a file", "path of a dir"]
            .iter()
            .any(|path| spec.expects.contains(path));
        assert_eq!(spec.names.is_some(), is_path, "{}: {}", spec.path, spec.expects);
    }
}

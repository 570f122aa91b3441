//! The program's configuration from outside: exit statuses, what is printed where.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `larder` with nothing in its environment but `environment`.
fn larder(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn file(dir: &tempfile::TempDir, content: &str) -> PathBuf {
    let path = dir.path().join("larder.toml");
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn check_prints_what_is_in_effect_and_which_layer_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "[upstream]\nurl = \"http://file.example\"\n[access]\nttl = \"1s\"\ngrace = \"1m\"\n");
    let path = path.to_str().unwrap();
    let environment = [("LARDER__ACCESS__TTL", "2s"), ("LARDER__CACHE__INSTANCE", "1.3")];
    let output = larder(&["check", "--config", path, "--ttl", "3s"], &environment);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let printed = text(&output.stdout);
    for line in [
        format!("url = \"http://file.example\" # file {path}"),
        "ttl = \"3s\" # flag --ttl".to_owned(),
        format!("grace = \"1m\" # file {path}"),
        "instance = \"1.3\" # environment LARDER__CACHE__INSTANCE".to_owned(),
        "listen = \"127.0.0.1:8080\" # default".to_owned(),
    ] {
        assert!(printed.lines().any(|found| found == line), "{line}\n{printed}");
    }
}

#[test]
fn what_check_prints_is_a_configuration_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = larder(&["check", "--upstream", "https://gitlab.example.com", "--cache-size", "1.5GiB"], &[]);
    let path = file(&dir, text(&first.stdout));
    let second = larder(&["check", "--config", path.to_str().unwrap()], &[]);
    let values = |output: &Output| {
        text(&output.stdout).lines().fold(String::new(), |mut all, line| {
            writeln!(all, "{}", line.split(" # ").next().unwrap()).unwrap();
            all
        })
    };
    assert_eq!((first.status.code(), second.status.code()), (Some(0), Some(0)));
    assert_eq!(values(&first), values(&second));
}

#[test]
fn all_problems_come_at_once_with_status_2_whatever_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "[server]\nlisten = \"nowhere\"\n[cache]\nsize = 1\n");
    for command in ["check", "serve"] {
        let arguments = [command, "--config", path.to_str().unwrap(), "--log-level", "loud"];
        let output = larder(&arguments, &[("LARDER__ACCESS__TTL", "30")]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        let printed = text(&output.stderr);
        let keys: Vec<&str> = printed.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(
            keys,
            ["cache.size", "server.listen", "upstream.url", "access.ttl", "log.level"],
            "{printed}"
        );
    }
}

#[test]
fn a_missing_file_is_a_problem() {
    let output = larder(&["check", "--config", "/nonexistent/larder.toml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("file /nonexistent/larder.toml: cannot be read"));
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    let url = "https://root:hunter2@gitlab.example.com";
    let runs =
        [larder(&["check", "--upstream", url], &[]), larder(&["check"], &[("LARDER__UPSTREAM__URL", url)])];
    for output in runs {
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        assert!(!text(&output.stderr).contains("hunter2"), "{}", text(&output.stderr));
    }
}

#[test]
fn help_and_version_succeed_and_name_what_there_is() {
    let help = larder(&["--help"], &[]);
    let serve = larder(&["serve", "--help"], &[]);
    let version = larder(&["--version"], &[]);
    assert_eq!([&help, &serve, &version].map(|output| output.status.code()), [Some(0); 3]);
    for spec in larder::config::KEYS {
        assert!(text(&help.stdout).contains(spec.path), "{}", spec.path);
        assert!(text(&serve.stdout).contains(spec.path), "{}", spec.path);
        let flag = spec.flag.map_or(String::new(), |flag| format!("--{} <{}>", flag.long, flag.value));
        assert!(text(&serve.stdout).contains(&flag), "{flag}");
    }
    assert_eq!(text(&version.stdout), concat!("larder ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn verify_says_what_it_found_in_words_and_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["--upstream", "http://127.0.0.1:9", "--cache-dir", dir.path().to_str().unwrap()];
    let verify = |more: &[&str]| larder(&[&["verify"], &settings[..], more].concat(), &[]);
    let empty = verify(&[]);
    assert_eq!(empty.status.code(), Some(0), "{}", text(&empty.stderr));
    assert_eq!(text(&empty.stdout), "0 archives of 0 bytes are sound, 0 are damaged\n");
    let mut instance = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let shard = instance.find(|path| path.is_dir()).unwrap().join("archives/2a");
    std::fs::create_dir(&shard).unwrap();
    std::fs::write(shard.join("42-0000000000000001.zip"), "no record").unwrap();
    let damaged = verify(&["--json"]);
    assert_eq!(damaged.status.code(), Some(1));
    let result: serde_json::Value = serde_json::from_str(text(&damaged.stdout)).unwrap();
    assert_eq!(
        (&result["sound"], &result["damaged"][0]["why"]),
        (&0.into(), &"the record is missing".into())
    );
    assert!(text(&damaged.stderr).contains("larder verify --repair"), "{}", text(&damaged.stderr));
    assert_eq!(verify(&["--repair"]).status.code(), Some(0));
    assert_eq!(verify(&[]).status.code(), Some(0));
    assert!(shard.read_dir().unwrap().next().is_none());
}

#[test]
fn wrong_arguments_end_with_status_2() {
    for arguments in [&[][..], &["bake"], &["serve", "--upstram", "x"], &["check", "--ttl"], &["check", "x"]]
    {
        let output = larder(arguments, &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_served_ends_with_status_1_and_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cache = dir.path().to_str().unwrap();
    let arguments =
        ["serve", "--upstream", "http://127.0.0.1:9", "--listen", &address, "--admin-listen", "127.0.0.1:0"];
    let output = larder(&[&arguments[..], &["--cache-dir", cache, "--log-level", "error"]].concat(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let sentences: Vec<&str> =
        text(&output.stderr).lines().filter(|line| line.starts_with("larder: ")).collect();
    assert!(sentences.len() == 1 && sentences[0].contains(&address), "{sentences:?}");
}

/// A file below a directory, as text.
fn below(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A certificate and its key, PEM.
fn certificate() -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (certified.cert.pem(), certified.signing_key.serialize_pem())
}

#[test]
fn all_that_is_wrong_with_files_comes_with_all_that_is_wrong_with_keys_whatever_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, other) = (certificate().0, certificate().1);
    let put = |name: &str, content: &str| below(dir.path(), name, content);
    let secret = "hunter2";
    let (garbage, cert, key) = (put("garbage", secret), put("cert", &cert), put("key", &other));
    let broken = put("broken", "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n");
    let folder = dir.path().to_str().unwrap();
    let environment = [
        ("LARDER__UPSTREAM__URL", "http://127.0.0.1:9"),
        ("LARDER__UPSTREAM__CA_FILE", "/nonexistent/ca.pem"),
        ("LARDER__UPSTREAM__TLS__CERT", &cert),
        ("LARDER__UPSTREAM__TLS__KEY", &garbage),
        ("LARDER__UPSTREAM__PROXY", "http://127.0.0.1:9"),
        ("LARDER__UPSTREAM__PROXY_AUTH_FILE", &garbage),
        ("LARDER__STORAGE__CA_FILE", &broken),
        ("LARDER__SERVER__TLS__CERT", &format!("{cert},{garbage},/nonexistent/cert")),
        ("LARDER__SERVER__TLS__KEY", &format!("{key},{folder},{key}")),
        ("LARDER__CACHE__DIR", &garbage),
    ];
    let keys = [
        "server.tls.cert",
        "server.tls.cert",
        "server.tls.key",
        "upstream.ca_file",
        "upstream.tls.key",
        "upstream.proxy_auth_file",
        "storage.ca_file",
        "cache.dir",
    ];
    for (wrong_too, first) in [(None, None), (Some(("LARDER__ACCESS__TTL", "30")), Some("access.ttl"))] {
        let environment: Vec<_> = environment.iter().copied().chain(wrong_too).collect();
        for command in ["check", "serve"] {
            let output = larder(&[command], &environment);
            let printed = text(&output.stderr);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{printed}");
            let found: Vec<&str> =
                printed.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
            assert_eq!(found, first.into_iter().chain(keys).collect::<Vec<_>>(), "{printed}");
            assert!(!printed.contains(secret) && !printed.contains("aHVudGVyMg"), "{printed}");
            assert!(printed.contains(
                "upstream.ca_file (environment LARDER__UPSTREAM__CA_FILE): /nonexistent/ca.pem: No such file"
            ));
        }
    }
}

#[test]
fn a_certificate_with_anothers_key_is_found_on_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (certificate().0, certificate().1);
    let (cert, key) = (below(dir.path(), "cert", &cert), below(dir.path(), "key", &key));
    for side in ["SERVER", "UPSTREAM"] {
        let [of_cert, of_key] = ["CERT", "KEY"].map(|what| format!("LARDER__{side}__TLS__{what}"));
        let cache = dir.path().join("cache");
        let environment =
            [(&*of_cert, &*cert), (&*of_key, &*key), ("LARDER__CACHE__DIR", cache.to_str().unwrap())];
        for command in ["check", "serve"] {
            let output = larder(&[command, "--upstream", "http://127.0.0.1:9"], &environment);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
            let named = format!("{}.tls.cert", side.to_lowercase());
            assert!(text(&output.stderr).contains(&named), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn check_tries_the_directory_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let check = |cache: &Path| {
        larder(&["check", "--upstream", "http://127.0.0.1:9", "--cache-dir", cache.to_str().unwrap()], &[])
    };
    let missing = dir.path().join("not/yet");
    for there in [&missing, dir.path()] {
        let output = check(there);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let inside = PathBuf::from(below(dir.path(), "file", "")).join("cache");
    for never in [&inside, Path::new("/proc/larder")] {
        let output = check(never);
        assert_eq!(output.status.code(), Some(2), "{never:?}");
        assert!(text(&output.stderr).contains("cache.dir (flag --cache-dir)"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_budget_beyond_the_file_system_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let check = |size| {
        let cache = dir.path().to_str().unwrap();
        larder(
            &["check", "--upstream", "http://127.0.0.1:9", "--cache-dir", cache, "--cache-size", size],
            &[],
        )
    };
    let (share, size) = (check("100%"), check("1048576TiB"));
    assert_eq!((share.status.code(), text(&share.stderr)), (Some(0), ""));
    assert_eq!(size.status.code(), Some(0));
    assert!(text(&size.stderr).contains("cache.max_size"), "{}", text(&size.stderr));
}

#[test]
fn verify_of_a_directory_that_is_not_there_is_an_error_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    for flags in [&[][..], &["--repair", "--json"]] {
        let cache = ["verify", "--upstream", "http://127.0.0.1:9", "--cache-dir", missing.to_str().unwrap()];
        let output = larder(&[&cache[..], flags].concat(), &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        assert!(text(&output.stderr).contains(missing.to_str().unwrap()), "{}", text(&output.stderr));
        assert!(!missing.exists());
    }
}

#[test]
fn a_mistyped_word_gets_a_suggestion() {
    for (typed, meant) in [
        (&["serv"][..], "'serve'"),
        (&["chekc"], "'check'"),
        (&["verfiy"], "'verify'"),
        (&["serve", "--upstraem", "x"], "'--upstream'"),
        (&["check", "--conect"], "'--connect'"),
    ] {
        let output = larder(typed, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(meant), "{}", text(&output.stderr));
    }
}

/// What answers each request with these bytes, and the fields that it was asked with. It ends with this process.
fn answering(answer: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = tell.send(String::from_utf8(request).unwrap());
        }
    });
    (url, asked)
}

/// `larder check --connect`, with nothing in the way.
fn connect(url: &str, more: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().to_str().unwrap();
    larder(&[&["check", "--connect", "--upstream", url, "--cache-dir", cache], more].concat(), &[])
}

macro_rules! answer {
    ($status:literal, $fields:literal, $body:literal) => {
        concat!("HTTP/1.1 ", $status, "\r\nConnection: close\r\n", $fields, "\r\n", $body)
    };
}

#[test]
fn check_connect_tells_gitlab_from_what_is_not_and_where_it_is() {
    let refused = answer!(
        "401 Unauthorized",
        "Content-Type: application/json\r\nContent-Length: 30\r\n",
        "{\"message\":\"401 Unauthorized\"}"
    );
    let page = answer!("200 OK", "Content-Type: text/html\r\nContent-Length: 2\r\n", "hi");
    let missing = answer!("404 Not Found", "Content-Type: text/html\r\nContent-Length: 2\r\n", "no");
    let moved = answer!(
        "301 Moved Permanently",
        "Location: https://gitlab.example.com/api/v4/version?s=hunter2\r\nContent-Length: 0\r\n",
        ""
    );
    let down = answer!("502 Bad Gateway", "Content-Length: 0\r\n", "");
    for (bytes, code, said) in [
        (refused, 0, "GitLab answers"),
        (page, 1, "as GitLab wouldn't"),
        (missing, 1, "as GitLab wouldn't"),
        (moved, 1, "redirects to https://gitlab.example.com/api/v4/version, "),
        (down, 1, "answers 502"),
    ] {
        let (url, asked) = answering(bytes);
        let output = connect(&url, &[]);
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(said) && !printed.contains("hunter2"), "{printed}");
        assert!(asked.recv().unwrap().starts_with("GET /api/v4/version HTTP/1.1\r\n"));
    }
    for (url, said) in
        [("http://127.0.0.1:9", "refuses connections"), ("http://larder.invalid", "larder.invalid")]
    {
        let output = connect(url, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
}

#[test]
fn check_connect_asks_with_a_token_and_repeats_it_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let token = below(dir.path(), "token", "glpat-secret\n");
    let version = answer!(
        "200 OK",
        "Content-Type: application/json\r\nContent-Length: 42\r\n",
        "{\"version\":\"19.1.0-ee\",\"revision\":\"12345\"}"
    );
    let refused = answer!(
        "401 Unauthorized",
        "Content-Type: application/json\r\nContent-Length: 30\r\n",
        "{\"message\":\"401 Unauthorized\"}"
    );
    for (bytes, code, said) in
        [(version, 0, "# GitLab 19.1.0-ee answers\n"), (refused, 1, "refuses this token")]
    {
        let (url, asked) = answering(bytes);
        let output = connect(&url, &["--token-file", &token]);
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(said) && !printed.contains("glpat"), "{printed}");
        let asked = asked.recv().unwrap().to_lowercase();
        assert!(asked.contains("\r\nprivate-token: glpat-secret\r\n"), "{asked}");
    }
    // A file that can't be used is said with all else, and nobody is asked.
    let several = below(dir.path(), "several", "glpat-one\nglpat-two\n");
    for (file, said) in [("/nonexistent/token", "No such file"), (&*several, "one line")] {
        let output = connect("http://127.0.0.1:9", &["--token-file", file, "--ttl", "30"]);
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(
            printed.contains(said) && printed.contains("access.ttl") && !printed.contains("glpat"),
            "{printed}"
        );
    }
    assert_eq!(larder(&["check", "--token-file", &token], &[]).status.code(), Some(2), "only with --connect");
}

#[test]
fn check_connect_looks_at_the_certificate() {
    let (stranger, own) = (certificate(), certificate());
    let dir = tempfile::tempdir().unwrap();
    let pem = below(dir.path(), "ca.pem", &own.0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (shown, code, said) in
        [(&own, 0, "its certificate is trusted"), (&stranger, 1, "certificate is not trusted")]
    {
        let der = |pem: &str| pem::decode(pem);
        let setup = gitlab_standin::Setup::default().tls(vec![der(&shown.0)], der(&shown.1));
        let gitlab = runtime.block_on(gitlab_standin::GitLab::start(setup)).unwrap();
        let url = gitlab.tls_url().unwrap();
        let output = connect(&url, &["--ca-file", &pem]);
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(said), "{printed}");
    }
}

/// PEM's inside.
mod pem {
    use rustls::pki_types::pem::{PemObject, SectionKind};

    pub(crate) fn decode(text: &str) -> Vec<u8> {
        <(SectionKind, Vec<u8>)>::from_pem_slice(text.as_bytes()).unwrap().1
    }
}

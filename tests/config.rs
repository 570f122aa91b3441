//! The program's configuration from outside: exit statuses, what is printed where.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fmt::Write;
use std::path::PathBuf;
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

//! A GitLab that is somewhere else than the configuration says.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::process::{Download, Process, command};

/// Answers every request as an nginx in front of GitLab does that sends all to `https`. It ends with this process.
fn to_https() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), Vec::new());
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let target = String::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned();
            let head = "HTTP/1.1 301 Moved Permanently\r\nConnection: close\r\nContent-Length: 0\r\n";
            write!(stream, "{head}Location: https://gitlab.example.com{target}\r\n\r\n").unwrap();
        }
    });
    url
}

#[test]
fn a_plain_gitlab_that_sends_all_to_https_is_said_once_and_what_it_was_asked_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let larder = Process::run(&mut command(&to_https(), dir.path()));
    for target in ["/", "/api/v4/projects/1/jobs/2/artifacts", "/users/sign_in?private_token=hunter2"] {
        for _ in 0..2 {
            let mut answer = Download::new(larder.address, "GET", target, &[("Private-Token", "hunter2")]);
            assert_eq!(answer.head(), 301, "{target}");
            answer.rest().unwrap();
        }
    }
    let log = larder.finish();
    let said: Vec<_> = log.iter().filter(|line| line["level"] == "WARN").collect();
    let [line] = &said[..] else { panic!("{said:#?}") };
    assert!(line["message"].as_str().unwrap().ends_with("should be https://gitlab.example.com"), "{line}");
    assert!(!log.iter().any(|line| line.to_string().contains("hunter2")));
}

//! Requests whose end one reader may see elsewhere than another: whatever larder makes of them, GitLab sees one framing,
//! and never a request that no client has sent (RFC 9112, 11.2).
//!
//! Each row of the corpus is sent as it is, with a second request right behind it on the same connection, to a larder
//! before a GitLab that notes what it is sent. What is written down for a row: the status; whether the connection goes on,
//! which is to say that the second request is answered; and the request that GitLab saw whole, if it did.

mod answers;
mod bodies;
mod frames;
mod heads;
mod http2;
mod recorder;

use std::sync::Arc;
use std::time::Duration;

use crate::raw::{End, Wire};
use crate::support::Larder;
use recorder::Recorder;

/// What follows each row.
const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: larder.test\r\n\r\n";

/// What is sent, and what comes of it.
type Row = (&'static [u8], &'static str);

/// A larder before a GitLab that takes notes.
pub(crate) struct Observed {
    pub(crate) recorder: Recorder,
    pub(crate) larder: Larder,
}

impl Observed {
    pub(crate) async fn start() -> Self {
        let recorder = Recorder::start().await;
        let larder = Larder::on(&recorder.url(), Arc::new(tempfile::tempdir().unwrap()), |_| ()).await;
        Self { recorder, larder }
    }

    /// Sends a row and what follows it.
    async fn outcome(&self, sent: &[u8], finish: bool) -> String {
        let mut wire = Wire::to(self.larder.address).await;
        wire.send_what_is_taken(&[sent, SECOND].concat()).await;
        if finish {
            wire.finish().await;
        }
        let answer = async {
            let to_head = sent.starts_with(b"HEAD ");
            let status = match wire.next_answer(to_head).await {
                Ok(answer) => answer.status().to_string(),
                Err(_) => "none".to_owned(),
            };
            let end = match wire.next_answer(false).await {
                Ok(second) => {
                    assert_eq!((second.status(), second.end), (200, End::Framed));
                    "goes on"
                }
                Err(_) => "closed",
            };
            (status, end)
        };
        let patience = Duration::from_secs(20);
        let Ok((status, end)) = tokio::time::timeout(patience, answer).await else {
            return "waits".to_owned();
        };
        let mut seen = self.recorder.take();
        if end == "goes on" && seen.last().is_some_and(|last| last == "GET /second") {
            seen.pop();
        }
        seen.iter().fold(format!("{status}, {end}"), |text, request| format!("{text}: {request}"))
    }

    /// Nothing has arrived besides what was told.
    pub(crate) async fn finish(self) {
        self.larder.stop().await;
        self.recorder.settled().await;
        assert_eq!(self.recorder.take(), [""; 0], "late arrivals");
    }
}

/// Sends all rows, and tells all that came out otherwise at once.
async fn check(rows: impl IntoIterator<Item = (Vec<u8>, String)>) {
    check_all(rows, false).await;
}

/// The same; `finish`: each row's client ends its side then.
async fn check_all(rows: impl IntoIterator<Item = (Vec<u8>, String)>, finish: bool) {
    let observed = Observed::start().await;
    let mut wrong = Vec::new();
    for (sent, expected) in rows {
        let found = observed.outcome(&sent, finish).await;
        if found != expected {
            let sent: String = sent[..sent.len().min(200)].escape_ascii().to_string();
            wrong.push(format!("{sent}\n    expected {expected}\n    found    {found}"));
        }
    }
    observed.finish().await;
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn owned(rows: &[Row]) -> impl Iterator<Item = (Vec<u8>, String)> {
    rows.iter().map(|(sent, expected)| (sent.to_vec(), (*expected).to_owned()))
}

#[tokio::test]
async fn lengths_and_codings_that_disagree_are_refused() {
    check(owned(bodies::LENGTHS).chain(owned(bodies::CODINGS))).await;
}

#[tokio::test]
async fn chunks_are_read_strictly_and_written_anew() {
    check(owned(bodies::CHUNKS).chain(bodies::large())).await;
}

#[tokio::test]
async fn what_has_no_end_is_no_request() {
    check_all(owned(bodies::UNENDED), true).await;
}

#[tokio::test]
async fn lines_and_fields_are_read_strictly() {
    check(owned(heads::LINES).chain(owned(heads::FIELDS)).chain(heads::large())).await;
}

#[tokio::test]
async fn targets_and_hosts_lead_to_gitlab_or_nowhere() {
    check(owned(heads::TARGETS).chain(owned(heads::HOSTS))).await;
}

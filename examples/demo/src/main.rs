//! larder before a stand-in for GitLab, with real archives, to play with: `cargo run --release -p demo`.
//!
//! Prints commands to copy and, while it runs, what moved. With `--once` it sends the requests itself, prints what
//! each of them moved, and ends.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gitlab_standin::{Archive, Class, Fixture, GitLab, JobId, JobStatus, Setup};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use larder::app::App;
use larder::base::clock::Clock;
use larder::config::{self, File, Sources};
use larder::telemetry::Metrics;
use larder::telemetry::metrics::Sizes;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SMALL: u64 = 5 << 20;
const LARGE: u64 = 100 << 20;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let demo = Demo::start().await?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            println!("{}", demo.introduction());
            tokio::select! {
                ended = tokio::signal::ctrl_c() => ended?,
                () = demo.watch() => {}
            }
        }
        ["--once"] => demo.once().await?,
        _ => return Err("usage: demo [--once]".into()),
    }
    demo.stop().await
}

/// Everything that runs.
struct Demo {
    gitlab: GitLab,
    fixture: Fixture,
    large: JobId,
    address: SocketAddr,
    admin: SocketAddr,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    /// larder's cache, gone at the end.
    _dir: TempDir,
}

impl Demo {
    async fn start() -> Outcome<Self> {
        let gitlab = GitLab::start(Setup::default()).await?;
        let fixture = Fixture::install(&gitlab, 2, SMALL)?;
        let large = gitlab.job(fixture.project, JobStatus::Success);
        gitlab.put_archive(large, Archive::sized(LARGE)?);
        let dir = tempfile::tempdir()?;
        let text = format!(
            "[upstream]\nurl = \"{}\"\n[cache]\ndir = '{}'\nmax_size = \"1GiB\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            gitlab.url(),
            dir.path().display(),
        );
        let file = File { path: "demo.toml".into(), text: Ok(text) };
        let loaded = config::load(&Sources { file: Some(file), ..Sources::default() });
        let config = loaded.map_err(|problems| problems.to_string())?.config;
        let app = App::start(config, Clock::system()).await?;
        let (address, admin) = app.addresses()?;
        let metrics = app.metrics();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(app.serve(async {
            // A sender that is gone means the same.
            let _ = stopped.await;
        }));
        Ok(Self { gitlab, fixture, large, address, admin, metrics, stop, serving, _dir: dir })
    }

    async fn stop(self) -> Outcome<()> {
        drop(self.stop);
        Ok(self.serving.await?)
    }

    /// A job's archive by the API's route.
    fn archive(job: JobId) -> String {
        format!("/api/v4/projects/group%2Fsub%2Fproject/jobs/{job}/artifacts")
    }

    fn introduction(&self) -> String {
        let (larder, token) = (format!("http://{}", self.address), self.fixture.personal_token());
        let small = self.fixture.jobs.first().map_or(self.large, |(job, _)| *job);
        let (archive, large) = (Self::archive(small), Self::archive(self.large));
        let curl = "curl --silent --show-error --output /dev/null --dump-header -";
        format!(
            r#"larder is at {larder}, before a stand-in for GitLab at {gitlab}.

# Cold: 5 MiB come from GitLab and are stored on the way. Then hot: the same command again.
{curl} --header "PRIVATE-TOKEN: {token}" "{larder}{archive}"

# The same archive as a runner asks for it, with another credential: one question to GitLab, no second transfer.
{curl} --header "JOB-TOKEN: {job_token}" "{larder}/api/v4/jobs/{small}/artifacts?direct_download=true"

# Its head, and a hundred bytes of it.
{curl} --head --header "PRIVATE-TOKEN: {token}" "{larder}{archive}"
{curl} --range 0-99 --header "PRIVATE-TOKEN: {token}" "{larder}{archive}"

# A wrong token: GitLab's own answer.
curl --include --header "PRIVATE-TOKEN: glpat-wrong" "{larder}{archive}"

# 100 MiB for ten clients at once.
for i in $(seq 10); do curl --silent --output /dev/null --header "PRIVATE-TOKEN: {token}" "{larder}{large}" & done; wait

# Deleted: gone from larder before the client knows.
curl --include --request DELETE --header "PRIVATE-TOKEN: {token}" "{larder}{archive}"

# python-gitlab
python3 - <<'END'
import gitlab
client = gitlab.Gitlab("{larder}", private_token="{token}")
job = client.projects.get("group/sub/project", lazy=True).jobs.get({large_job}, lazy=True)
print(sum(len(piece) for piece in job.artifacts(iterator=True)), "bytes")
END

# What larder counts.
curl "http://{admin}/metrics"

Ctrl-C ends it. What moves is shown here:"#,
            gitlab = self.gitlab.url(),
            job_token = self.fixture.job_token(),
            large_job = self.large,
            admin = self.admin,
        )
    }

    /// Prints what moved, whenever something did.
    async fn watch(&self) {
        let mut before = self.moved();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let now = self.moved();
            if now != before {
                println!("{}", now.since(before));
                before = now;
            }
        }
    }

    /// What has moved so far.
    fn moved(&self) -> Moved {
        let (counters, page) = (self.gitlab.counters(), self.metrics.render(Sizes::default()));
        let metric = |name: &str| -> u64 {
            let of_name = |line: &&str| line.starts_with(name);
            let values =
                page.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            values.sum()
        };
        let hits =
            |route: &str| metric(&format!("larder_requests_total{{route=\"{route}\",outcome=\"hit\"}}"));
        Moved {
            requests: metric("larder_requests_total"),
            hits: hits("job_archive") + hits("runner_archive"),
            served: metric("larder_served_bytes_total"),
            asked: counters.requests_of(Class::JobArchive) + counters.requests_of(Class::RunnerArchive),
            fetched: counters.artifact_bytes(),
        }
    }

    /// Sends the requests of the introduction, one after the other.
    async fn once(&self) -> Outcome<()> {
        println!(
            "{:<28} {:>6} {:>12} {:>12} {:>8} {:>9}  Cache-Status",
            "request", "status", "to client", "from GitLab", "asked", "ms"
        );
        let small = self.fixture.jobs.first().map_or(self.large, |(job, _)| *job);
        let (archive, large) = (Self::archive(small), Self::archive(self.large));
        let runner = format!("/api/v4/jobs/{small}/artifacts?direct_download=true");
        let mine = ("private-token", self.fixture.personal_token());
        let jobs = ("job-token", self.fixture.job_token());
        for (name, method, target, fields) in [
            ("5 MiB, cold", Method::GET, &archive, &[mine][..]),
            ("5 MiB, hot", Method::GET, &archive, &[mine]),
            ("by the runner's route", Method::GET, &runner, &[jobs]),
            ("its head", Method::HEAD, &archive, &[mine]),
            ("a hundred bytes", Method::GET, &archive, &[mine, ("range", "bytes=0-99")]),
            ("a wrong token", Method::GET, &archive, &[("private-token", "glpat-wrong")]),
            ("100 MiB, cold", Method::GET, &large, &[mine]),
            ("100 MiB, hot", Method::GET, &large, &[mine]),
            ("deleted", Method::DELETE, &archive, &[mine]),
            ("5 MiB, after that", Method::GET, &archive, &[mine]),
        ] {
            self.show(name, method, target, fields).await?;
        }
        Ok(())
    }

    /// Sends one request and prints what it moved.
    async fn show(&self, name: &str, method: Method, target: &str, fields: &[(&str, &str)]) -> Outcome<()> {
        let (before, begun) = (self.gitlab.counters(), Instant::now());
        let response = self.send(method, target, fields).await?;
        let (status, cache) = (response.status(), response.headers().get("cache-status").cloned());
        let (mut body, mut read) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        let (taken, after) = (begun.elapsed(), self.gitlab.counters());
        let asked = |counters: &gitlab_standin::Counters| counters.requests.values().sum::<u64>();
        println!(
            "{name:<28} {:>6} {:>12} {:>12} {:>8} {:>9.1}  {}",
            status.as_u16(),
            size(u64::try_from(read)?),
            size(after.artifact_bytes() - before.artifact_bytes()),
            asked(&after) - asked(&before),
            taken.as_secs_f64() * 1000.0,
            cache.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default(),
        );
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Outcome<Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(target).header("host", self.address.to_string());
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    }
}

/// Sums since the start.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Moved {
    requests: u64,
    hits: u64,
    served: u64,
    asked: u64,
    fetched: u64,
}

impl Moved {
    fn since(self, before: Self) -> String {
        format!(
            "+{} requests, {} of them hits: {} to clients; GitLab was asked {} times and sent {} of archives \
             (in all {} to clients, {} from GitLab)",
            self.requests - before.requests,
            self.hits - before.hits,
            size(self.served - before.served),
            self.asked - before.asked,
            size(self.fetched - before.fetched),
            size(self.served),
            size(self.fetched),
        )
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

//! The hot path as a whole, in one process: kept-alive connections over loopback to larder, archives in the store, a
//! grant looked up for each request. Client and server share the machine, so only the ratios count.

#![allow(missing_docs, reason = "criterion's macros make functions without")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gitlab_standin::{Fixture, GitLab, Setup};
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use larder::app::App;
use larder::base::clock::Clock;
use larder::config::{self, File, Sources};
use larder::store::ReadMode;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Connections at once.
const CLIENTS: usize = 8;

const SIZES: [(&str, u64); 2] = [("64KiB", 64 << 10), ("1MiB", 1 << 20)];

/// A larder that holds one archive, and the stand-in that it has it from.
struct Hot {
    address: SocketAddr,
    target: String,
    token: &'static str,
    length: u64,
    _gitlab: GitLab,
    _dir: TempDir,
}

impl Hot {
    async fn start(length: u64, read: ReadMode) -> Self {
        let gitlab = GitLab::start(Setup::default()).await.unwrap();
        let fixture = Fixture::install(&gitlab, 1, length).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[upstream]\nurl = \"{}\"\n[cache]\ndir = \"{}\"\n[access]\nttl = \"1d\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            gitlab.url(),
            dir.path().display(),
        );
        let file = File { path: "hot.toml".into(), text: Ok(text) };
        let mut config = config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap().config;
        config.store.read = read;
        let app = App::start(config, Clock::system()).await.unwrap();
        let (address, _) = app.addresses().unwrap();
        tokio::spawn(app.serve(std::future::pending()));
        let target = format!("/api/v4/projects/{}/jobs/{}/artifacts", fixture.project, fixture.jobs[0].0);
        let hot =
            Self { address, target, token: fixture.personal_token(), length, _gitlab: gitlab, _dir: dir };
        hot.warm().await;
        hot
    }

    /// Fills the store, and sees that it answers.
    async fn warm(&self) {
        let mut client = Client::connect(self).await;
        while !client.get().await {}
    }

    /// How long it takes all clients together to get the archive `count` times.
    async fn run(&self, clients: &mut Vec<Client>, count: u64) -> Duration {
        let each = usize::try_from(count).unwrap().div_ceil(CLIENTS);
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for mut client in clients.drain(..) {
            running.spawn(async move {
                for _ in 0..each {
                    assert!(client.get().await, "a hit");
                }
                client
            });
        }
        clients.extend(running.join_all().await);
        // Rounded up to whole rounds of all clients: as much less counts.
        begun.elapsed().mul_f64(ratio(count, each))
    }
}

fn ratio(count: u64, each: usize) -> f64 {
    let done = u32::try_from(each * CLIENTS).unwrap();
    f64::from(u32::try_from(count).unwrap()) / f64::from(done)
}

/// A kept-alive connection.
struct Client {
    sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    length: u64,
}

impl Client {
    async fn connect(hot: &Hot) -> Self {
        let stream = TcpStream::connect(hot.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(&hot.target)
            .header(header::HOST, hot.address.to_string())
            .header("private-token", hot.token)
            .body(Empty::new())
            .unwrap();
        Self { sender, request, length: hot.length }
    }

    /// Reads the whole archive; whether it came from the store.
    async fn get(&mut self) -> bool {
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(self.request.clone()).await.unwrap();
        let hit = response.headers().get("cache-status").is_some_and(|value| value == "larder; hit");
        let (mut body, mut read) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(u64::try_from(read), Ok(self.length));
        hit
    }
}

fn hot(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for (name, length) in SIZES {
        let mut group = criterion.benchmark_group(format!("hot/{name}"));
        group.throughput(Throughput::Bytes(length));
        for (mode, read) in [("mapped", ReadMode::Mapped), ("pread", ReadMode::Pread)] {
            let hot = runtime.block_on(Hot::start(length, read));
            let mut clients: Vec<Client> =
                (0..CLIENTS).map(|_| runtime.block_on(Client::connect(&hot))).collect();
            group.bench_function(BenchmarkId::from_parameter(mode), |bencher| {
                bencher.iter_custom(|count| runtime.block_on(hot.run(&mut clients, count)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hot);
criterion_main!(benches);

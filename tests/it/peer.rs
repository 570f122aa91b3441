//! Both ends of larder in HTTP/2: a GitLab and a client, stream by stream.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use larder::config::Config;
use larder::upstream::Http2;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::raw::Wire;
use crate::support::Larder;

/// A GitLab that is known to speak HTTP/2, and a larder before it.
pub(crate) struct Peer {
    listener: TcpListener,
    pub(crate) larder: Larder,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let larder = Larder::on(&url, Arc::new(tempfile::tempdir().unwrap()), |config| {
            config.upstream.http2 = Http2::PriorKnowledge;
            change(config);
        })
        .await;
        Self { listener, larder }
    }

    /// The authority by which larder knows it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection that larder makes.
    pub(crate) async fn accept(&self) -> Link {
        self.accept_with(&h2::server::Builder::new()).await
    }

    /// The same, with these settings.
    pub(crate) async fn accept_with(&self, settings: &h2::server::Builder) -> Link {
        Link::over(self.listener.accept().await.unwrap().0, settings, None)
    }

    /// The next connection, on which nothing is taken any more from its beginning on.
    pub(crate) async fn accept_and_leave(&self) -> Link {
        let stream = self.listener.accept().await.unwrap().0;
        Link::over(stream, &h2::server::Builder::new(), Some(Reason::NO_ERROR))
    }

    /// The next connection, as one of HTTP/1.1.
    pub(crate) async fn accept_http1(&self) -> Wire {
        Wire::of(self.listener.accept().await.unwrap().0)
    }

    /// A client's connection of HTTP/2.
    pub(crate) async fn client(&self) -> Client {
        Client::with(&self.larder, &h2::client::Builder::new()).await
    }
}

/// One connection from larder.
pub(crate) struct Link {
    calls: UnboundedReceiver<Call>,
    leave: UnboundedSender<Option<Reason>>,
    running: JoinHandle<()>,
}

impl Link {
    fn over(stream: TcpStream, settings: &h2::server::Builder, leave: Option<Reason>) -> Self {
        let (sender, calls) = unbounded_channel();
        let (leaving, mut told) = unbounded_channel();
        if let Some(reason) = leave {
            leaving.send(Some(reason)).unwrap();
        }
        let handshake = settings.handshake(stream);
        let running = tokio::spawn(async move {
            let mut connection = handshake.await.unwrap();
            loop {
                tokio::select! {
                    biased;
                    Some(reason) = told.recv() => match reason {
                        Some(reason) => connection.abrupt_shutdown(reason),
                        None => connection.graceful_shutdown(),
                    },
                    accepted = connection.accept() => match accepted {
                        Some(Ok((request, answer))) => {
                            let (parts, body) = request.into_parts();
                            let _ = sender.send(Call { request: Request::from_parts(parts, ()), body: Half(body), answer });
                        }
                        _ => break,
                    },
                }
            }
        });
        Self { calls, leave: leaving, running }
    }

    /// The next request on it, if there is one.
    pub(crate) async fn call(&mut self) -> Call {
        match self.calls.recv().await {
            Some(call) => call,
            None => std::future::pending().await,
        }
    }

    /// Whether no request has come that wasn't taken.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }

    /// Says that no further request will be looked at.
    pub(crate) fn retire(&self) {
        self.leave.send(None).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) {
        (&mut self.running).await.unwrap();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// One request as GitLab has it.
pub(crate) struct Call {
    pub(crate) request: Request<()>,
    pub(crate) body: Half,
    pub(crate) answer: SendResponse<Bytes>,
}

impl Call {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Sends the head of an answer.
    pub(crate) fn head(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.answer.send_response(head(status, fields), false).unwrap()
    }

    /// Sends an answer that is a head alone.
    pub(crate) fn finish(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.answer.send_response(head(status, fields), true).unwrap();
    }

    /// Answers 200 with this body.
    pub(crate) fn ok(&mut self, body: impl Into<Bytes>) {
        self.head(200, &[]).send_data(body.into(), true).unwrap();
    }

    /// Waits until larder takes it back.
    pub(crate) async fn taken_back(&mut self) -> Reason {
        poll_fn(|cx| self.answer.poll_reset(cx)).await.unwrap()
    }
}

fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut head = Response::builder().status(status);
    for (name, value) in fields {
        head = head.header(*name, *value);
    }
    head.body(()).unwrap()
}

/// What one side says.
pub(crate) struct Half(pub(crate) RecvStream);

impl Half {
    /// The next bytes; `None` at their end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let data = self.0.data().await?;
        Some(data.inspect(|data| self.0.flow_control().release_capacity(data.len()).unwrap()))
    }

    /// So many bytes that follow.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < length {
            read.extend(self.next().await.expect("more").unwrap());
        }
        assert_eq!(read.len(), length);
        read
    }

    /// All that follows, and the trailers.
    pub(crate) async fn rest(&mut self) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
        let mut read = Vec::new();
        while let Some(data) = self.next().await {
            read.extend(data?);
        }
        Ok((read, self.0.trailers().await?))
    }
}

/// A connection from one of this machine's own addresses, 127.0.0.0/8.
pub(crate) async fn connect_from(to: SocketAddr, address: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A client's connection.
pub(crate) struct Client {
    sender: h2::client::SendRequest<Bytes>,
    running: JoinHandle<()>,
}

impl Client {
    pub(crate) async fn with(larder: &Larder, settings: &h2::client::Builder) -> Self {
        Self::over(TcpStream::connect(larder.address).await.unwrap(), settings).await
    }

    /// One that comes from another address.
    pub(crate) async fn from(larder: &Larder, address: [u8; 4]) -> Self {
        Self::over(connect_from(larder.address, address).await, &h2::client::Builder::new()).await
    }

    async fn over(stream: TcpStream, settings: &h2::client::Builder) -> Self {
        let (sender, connection) = settings.handshake(stream).await.unwrap();
        let running = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender, running }
    }

    /// Sends a request whose body follows, or doesn't.
    pub(crate) async fn send(
        &mut self,
        line: &str,
        fields: &[(&str, &str)],
        ends: bool,
    ) -> (Answer, SendStream<Bytes>) {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(format!("http://larder.test{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        poll_fn(|cx| self.sender.poll_ready(cx)).await.unwrap();
        let (answer, body) = self.sender.send_request(request.body(()).unwrap(), ends).unwrap();
        (Answer(answer), body)
    }

    /// The same without a body.
    pub(crate) async fn ask(&mut self, line: &str) -> Answer {
        self.send(line, &[], true).await.0
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// An answer on its way.
pub(crate) struct Answer(ResponseFuture);

impl Answer {
    /// Its head, and its body as it comes.
    pub(crate) async fn head(self) -> Result<(Response<()>, Half), h2::Error> {
        let (parts, body) = self.0.await?.into_parts();
        Ok((Response::from_parts(parts, ()), Half(body)))
    }

    /// All of it.
    pub(crate) async fn whole(self) -> Result<(u16, Vec<u8>), h2::Error> {
        let (head, mut body) = self.head().await?;
        Ok((head.status().as_u16(), body.rest().await?.0))
    }
}

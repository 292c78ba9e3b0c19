//! A provider with a real socket that does what a script says, byte for byte, and remembers what
//! it saw: requests, their times, and when the peer closed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::script::{Request, Step, serve};
use super::{chat, now, until};

/// A running provider; it ends when it is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _accepting: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: Vec<Connection>,
    /// How many requests came; of each there is also what it said, unless that is forgotten.
    asked: usize,
    requests: Vec<Received>,
    forgets: bool,
}

/// A connection from its beginning to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    /// When the peer closed or reset it.
    pub(crate) closed: Option<Instant>,
    /// When the script was through with it.
    pub(crate) played: bool,
    /// How many bytes of endless steps the socket has taken.
    pub(crate) flood: usize,
}

/// A request, and where and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) connection: usize,
    pub(crate) request: Request,
    pub(crate) at: Instant,
}

type Scripts = Arc<dyn Fn(usize) -> Vec<Step> + Send + Sync>;

impl Upstream {
    /// Starts a provider; `scripts` gives the script of each connection by its number.
    pub(crate) async fn start(
        scripts: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), scripts).await.unwrap()
    }

    /// A provider that waits before each good answer.
    pub(crate) async fn answering_after(wait: Duration) -> Self {
        Self::start(move |_| {
            serve(move |request| {
                let mut steps = vec![Step::Pause(wait)];
                steps.extend(chat::answer(request));
                steps
            })
        })
        .await
    }

    /// A provider that takes one request per connection and never answers.
    pub(crate) async fn silent() -> Self {
        Self::start(|_| vec![Step::Expect]).await
    }

    /// A provider that answers every request with the same steps.
    pub(crate) async fn playing(steps: Vec<Step>) -> Self {
        Self::start(move |_| {
            let steps = steps.clone();
            serve(move |_| steps.clone())
        })
        .await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        scripts: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self::accept(listener, None, Arc::new(scripts)))
    }

    /// A provider behind TLS.
    pub(crate) async fn start_secure(
        tls: TlsAcceptor,
        scripts: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::accept(listener, Some(tls), Arc::new(scripts))
    }

    fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, scripts: Scripts) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut accepting = JoinSet::new();
        let book = seen.clone();
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut seen = lock(&book);
                    seen.connections.push(Connection::default());
                    seen.connections.len() - 1
                };
                stream.set_nodelay(true).unwrap();
                let player = Player { number, seen: book.clone(), inbox: Arc::default() };
                open.spawn(player.run(stream, tls.clone(), scripts(number)));
            }
        });
        Self { address, seen, _accepting: accepting }
    }

    /// The `api_base` that leads here.
    pub(crate) fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Only counts requests from now on, for tests that send more than can be remembered.
    pub(crate) fn forget(&self) {
        lock(&self.seen).forgets = true;
    }

    /// How many requests were received.
    pub(crate) fn asked(&self) -> usize {
        lock(&self.seen).asked
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        lock(&self.seen).requests.clone()
    }

    pub(crate) fn connections(&self) -> Vec<Connection> {
        lock(&self.seen).connections.clone()
    }

    /// Waits until so many requests were received.
    pub(crate) async fn received(&self, count: usize) {
        until("requests at the provider", async || {
            (lock(&self.seen).requests.len() >= count).then_some(())
        })
        .await;
    }

    /// Waits until the peer has closed a connection; when it did.
    pub(crate) async fn closed(&self, connection: usize) -> Instant {
        until("the connection to the provider to be closed", async || {
            lock(&self.seen).connections.get(connection)?.closed
        })
        .await
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap()
}

/// Plays one script on one connection.
struct Player {
    number: usize,
    seen: Arc<Mutex<Seen>>,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    bytes: Mutex<BytesMut>,
    came: Notify,
}

impl Player {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>, script: Vec<Step>) {
        let resets = script.iter().any(|step| matches!(step, Step::Reset));
        if resets {
            // Closing without lingering is what makes a reset of a close.
            stream.set_zero_linger().unwrap();
        }
        match tls {
            None => self.play(stream, script).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.play(stream, script).await,
                Err(_) => self.closed(),
            },
        }
    }

    async fn play(self, stream: impl AsyncRead + AsyncWrite, script: Vec<Step>) {
        let (mut input, mut output) = tokio::io::split(stream);
        let listen = async {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = input.read(&mut buffer).await {
                let mut bytes = self.inbox.bytes.lock().unwrap();
                bytes.extend_from_slice(buffer.get(..count).unwrap());
                drop(bytes);
                self.inbox.came.notify_one();
            }
            self.closed();
        };
        let talk = async {
            let ended = self.steps(&script, &mut output).await;
            if let Some(connection) = lock(&self.seen).connections.get_mut(self.number) {
                connection.played = true;
            }
            if ended == Ended::Open {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = listen => {}
            () = talk => {}
        }
    }

    async fn steps(&self, script: &[Step], output: &mut (impl AsyncWrite + Unpin)) -> Ended {
        for step in script {
            let sent = match step {
                Step::Close => {
                    let _ = output.shutdown().await;
                    return Ended::Closed;
                }
                Step::Reset => return Ended::Closed,
                Step::Expect => {
                    self.request().await;
                    Ok(())
                }
                Step::Gate(gate) => {
                    gate.pass().await;
                    Ok(())
                }
                Step::Pause(time) => {
                    tokio::time::sleep(*time).await;
                    Ok(())
                }
                Step::Send(bytes) => send(output, bytes).await,
                Step::Endless(bytes) => loop {
                    if let Err(error) = send(output, bytes).await {
                        break Err(error);
                    }
                    if let Some(connection) = lock(&self.seen).connections.get_mut(self.number) {
                        connection.flood += bytes.len();
                    }
                },
                Step::Serve(answer) => loop {
                    let request = self.request().await;
                    let steps = answer(&request);
                    if Box::pin(self.steps(&steps, output)).await == Ended::Closed {
                        return Ended::Closed;
                    }
                },
            };
            if sent.is_err() {
                self.closed();
                return Ended::Closed;
            }
        }
        Ended::Open
    }

    /// Waits for a whole request and writes it down.
    async fn request(&self) -> Request {
        loop {
            if let Some(request) = take(&mut self.inbox.bytes.lock().unwrap()) {
                let mut seen = lock(&self.seen);
                seen.asked += 1;
                if !seen.forgets {
                    let (connection, at) = (self.number, now());
                    seen.requests.push(Received { connection, request: request.clone(), at });
                }
                return request;
            }
            self.inbox.came.notified().await;
        }
    }

    fn closed(&self) {
        if let Some(connection) = lock(&self.seen).connections.get_mut(self.number) {
            connection.closed.get_or_insert_with(now);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Closed,
    Open,
}

async fn send(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    output.write_all(bytes).await?;
    output.flush().await
}

/// Takes a whole request off the front, if there is one; its length is announced or nought.
fn take(bytes: &mut BytesMut) -> Option<Request> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let whole = end + length.unwrap_or(0);
    if bytes.len() < whole {
        return None;
    }
    let mut request: Bytes = bytes.split_to(whole).freeze();
    let body = request.split_off(end);
    Some(Request { head, body })
}

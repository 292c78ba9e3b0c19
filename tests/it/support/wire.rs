//! A client that sends exactly the bytes it is told to and sees exactly those that come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{now, soon};

/// One connection to the gateway.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    /// How many bytes are read at once, where not all there are.
    sip: Option<usize>,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    text: String,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    pub(crate) fn length(&self) -> usize {
        self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn is_done(&self) -> bool {
        self.body.ends_with("data: [DONE]\n\n")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The events of a stream without its end mark; `None` where a client could not read one.
    pub(crate) fn events(&self) -> Option<Vec<serde_json::Value>> {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        let data = lines.map(str::trim).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).ok()).collect()
    }

    /// The message of an error.
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Wire {
    pub(crate) async fn open(to: SocketAddr) -> Self {
        let stream = soon("a connection to the gateway", TcpStream::connect(to)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new(), sip: None }
    }

    /// Reads no more than so many bytes at once from now on, with a rest after each.
    pub(crate) fn sip(&mut self, bytes: usize) {
        self.sip = Some(bytes);
    }

    /// Sends bytes. A peer that stopped reading is for the answer to tell of.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = soon("room for the request", self.stream.write_all(bytes.as_ref())).await;
    }

    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let body = self.body(&head).await;
        Answer { head, body }
    }

    /// The next answer's head; an interim one is passed over.
    pub(crate) async fn head(&mut self) -> Head {
        loop {
            let end = self.find(b"\r\n\r\n").await + 4;
            let text = String::from_utf8(self.buffer.split_to(end).to_vec()).unwrap();
            let status = text.split(' ').nth(1).unwrap().parse().unwrap();
            if status >= 200 {
                return Head { status, text };
            }
        }
    }

    pub(crate) async fn body(&mut self, head: &Head) -> String {
        let mut body = BytesMut::new();
        if head.is_chunked() {
            while let Some((chunk, _)) = self.chunk().await {
                body.extend_from_slice(&chunk);
            }
        } else {
            while self.buffer.len() < head.length() {
                assert!(self.more().await, "the answer broke off: {head:?}");
            }
            body = self.buffer.split_to(head.length());
        }
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// The next chunk of a body in chunks, and when it was read.
    pub(crate) async fn chunk(&mut self) -> Option<(Bytes, Instant)> {
        let line = self.find(b"\r\n").await;
        let size = self.buffer.split_to(line + 2);
        let size = std::str::from_utf8(size.get(..line).unwrap()).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        while self.buffer.len() < size + 2 {
            assert!(self.more().await, "the stream broke off inside of a chunk");
        }
        let chunk = self.buffer.split_to(size).freeze();
        let _ = self.buffer.split_to(2);
        (size > 0).then(|| (chunk, now()))
    }

    /// Reads on until some text has come.
    pub(crate) async fn until_text(&mut self, text: &str) {
        self.find(text.as_bytes()).await;
    }

    async fn find(&mut self, text: &[u8]) -> usize {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, text) {
                return at;
            }
            assert!(
                self.more().await,
                "the gateway closed the connection behind {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Reads up to the end of the connection: all that came, and when it ended.
    pub(crate) async fn rest(mut self) -> (String, Instant) {
        while self.more().await {}
        (String::from_utf8_lossy(&self.buffer).into_owned(), now())
    }

    /// Sends one byte after the other, over and over, until the peer closes: all that came, and
    /// when it ended.
    pub(crate) async fn drip(mut self, bytes: &[u8], pause: Duration) -> (String, Instant) {
        let (mut reader, mut writer) = self.stream.split();
        let dripping = async {
            for byte in bytes.iter().cycle() {
                // A peer that has closed is for the reader to tell of.
                let _ = writer.write_all(&[*byte]).await;
                tokio::time::sleep(pause).await;
            }
        };
        let reading = async { while let Ok(1..) = reader.read_buf(&mut self.buffer).await {} };
        tokio::select! {
            () = dripping => {}
            () = soon("the end of the connection", reading) => {}
        }
        (String::from_utf8_lossy(&self.buffer).into_owned(), now())
    }

    /// Reads some more; false at the end.
    async fn more(&mut self) -> bool {
        if let Some(bytes) = self.sip {
            tokio::time::sleep(SIP).await;
            self.buffer.reserve(bytes);
        }
        let mut room = (&mut self.buffer).limit(self.sip.unwrap_or(usize::MAX));
        let read = soon("bytes from the gateway", self.stream.read_buf(&mut room)).await;
        matches!(read, Ok(1..))
    }
}

/// The rest between the reads of who reads slowly.
const SIP: Duration = Duration::from_millis(1);

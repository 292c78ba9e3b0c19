//! Just enough HTTP/1.1 for the two ends of the benchmark: one blocking connection that reads
//! messages with a length or in chunks.
//!
//! Blocking and own, so that the ends cost little and time is taken right at the system call.
//! Promises nothing for peers that are not gateways on the loopback.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;

/// Nothing here takes longer; a gateway that hangs must not hang the benchmark.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

/// How long the body of a message is.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Chunked,
    Length(usize),
}

/// The start of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// Of an answer; zero for a request.
    pub(crate) status: u16,
    framing: Framing,
}

impl Connection {
    /// Connects to a port on the loopback.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::over(stream)
    }

    /// Takes an accepted connection.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 << 10], from: 0, to: 0 })
    }

    /// Writes all of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message's head; `None` where the peer closed between two messages.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(length) = memmem::find(self.unread(), b"\r\n\r\n") {
                let head = parse(self.unread().get(..length).unwrap_or_default())?;
                self.from += length + 4;
                return Ok(Some(head));
            }
            if !self.fill()? {
                return if self.unread().is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// Hands the message's body to `sink` as it comes, without the chunks' borders.
    pub(crate) fn body(&mut self, head: Head, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        match head.framing {
            Framing::Length(length) => self.take(length, &mut sink),
            Framing::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    return Ok(());
                }
                self.take(size, &mut sink)?;
                self.line()?;
            },
        }
    }

    fn take(&mut self, mut left: usize, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.unread().is_empty() && !self.fill()? {
                return Err(cut());
            }
            let unread = self.unread();
            let part = unread.get(..left.min(unread.len())).unwrap_or_default();
            let taken = part.len();
            sink(part);
            self.from += taken;
            left -= taken;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(length) = memmem::find(self.unread(), b"\r\n") {
                let line = self.unread().get(..length).unwrap_or_default();
                let line = String::from_utf8_lossy(line).into_owned();
                self.from += length + 2;
                return Ok(line);
            }
            if !self.fill()? {
                return Err(cut());
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }

    /// Reads once; says whether anything came.
    fn fill(&mut self) -> io::Result<bool> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.buffer.len() {
            self.buffer.resize(self.to * 2, 0);
        }
        let room = self.buffer.get_mut(self.to..).unwrap_or_default();
        let count = self.stream.read(room)?;
        self.to += count;
        Ok(count > 0)
    }
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let head = std::str::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let mut framing = Framing::Length(0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().map_err(io::Error::other)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        }
    }
    Ok(Head { status: status.unwrap_or(0), framing })
}

fn cut() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}

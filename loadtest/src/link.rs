//! One blocking TLS connection with as few system calls as there can be: a write for what is sent, a read of up to 64 KiB for
//! what comes. The generator must never be what is measured.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::ClientConnection;

use crate::door::Door;

/// Bytes of one read.
const READ: usize = 64 * 1024;

/// Nothing that is measured takes this long: a round that hangs ends with an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection inside TLS. What was read and not yet taken is in `plain[start..end]`.
pub(crate) struct Link {
    tls: ClientConnection,
    socket: TcpStream,
    cipher: Vec<u8>,
    fed: std::ops::Range<usize>,
    plain: Vec<u8>,
    start: usize,
    end: usize,
}

/// A socket to the door, before TLS.
pub(crate) fn dial(door: &Door) -> Result<TcpStream> {
    let socket = TcpStream::connect(door.address).with_context(|| format!("connect to {}", door.address))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

impl Link {
    /// The TLS handshake on a socket on which TLS is due.
    pub(crate) fn handshake(door: &Door, mut socket: TcpStream) -> Result<Self> {
        let mut tls = ClientConnection::new(Arc::clone(&door.tls), door.server_name.clone())?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).context("TLS handshake")?;
        }
        let (cipher, plain) = (vec![0; READ], vec![0; READ]);
        Ok(Self { tls, socket, cipher, fed: 0..0, plain, start: 0, end: 0 })
    }

    /// Sends in one write, where the socket takes it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).context("send")?;
        }
        Ok(())
    }

    /// What is there.
    pub(crate) fn available(&self) -> &[u8] {
        self.plain.get(self.start..self.end).unwrap_or_default()
    }

    /// So many bytes are done with.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits for more.
    pub(crate) fn fill(&mut self) -> Result<()> {
        if self.end == self.plain.len() {
            self.plain.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.plain.len() {
                self.plain.resize(self.plain.len() * 2, 0);
            }
        }
        loop {
            match self.tls.reader().read(self.plain.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => bail!("the connection was closed"),
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.feed()?,
                Err(error) => return Err(error).context("receive"),
            }
        }
    }

    /// Takes ciphertext: what is left of the last read, or another one.
    fn feed(&mut self) -> Result<()> {
        if self.fed.is_empty() {
            let bytes = self.socket.read(&mut self.cipher).context("receive")?;
            self.fed = 0..bytes;
        }
        let mut rest = self.cipher.get(self.fed.clone()).unwrap_or_default();
        let before = rest.len();
        // At the end of the stream this hears of it.
        self.tls.read_tls(&mut rest)?;
        self.fed.start += before - rest.len();
        self.tls.process_new_packets()?;
        Ok(())
    }

    /// So many bytes from the front, waiting for them.
    pub(crate) fn need(&mut self, bytes: usize) -> Result<&[u8]> {
        while self.end - self.start < bytes {
            self.fill()?;
        }
        Ok(self.available().get(..bytes).unwrap_or_default())
    }

    /// Goes past so many bytes without keeping them.
    pub(crate) fn skip(&mut self, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            let now = bytes.min(self.end - self.start);
            self.take(now);
            bytes -= now;
        }
        Ok(())
    }

    /// Gives the buffers back: an idle connection of the generator takes little.
    pub(crate) fn rest(&mut self) {
        if self.start == self.end && self.fed.is_empty() {
            (self.cipher, self.plain) = (vec![0; 512], vec![0; 512]);
        }
    }
}

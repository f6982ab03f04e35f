//! A lean MySQL client: login by certificate, text and prepared statements, and no more work than following the answers by
//! their headers.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Result, bail};

use crate::{
    door::Door,
    link::{self, Link},
    session::{Mode, Session},
};

/// LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const FLAGS: u32 = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
const SSL: u32 = 0x800;
/// Largest packet that we would take; UTF-8.
const MAX_PACKET: u32 = 1 << 24;
const CHARSET: u8 = 45;
const BY_KEY: &str = "SELECT c FROM sbtest1 WHERE id = ";
const MEGABYTE: usize = 1_000_000;

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

/// A session.
pub(crate) struct Connection {
    link: Link,
    /// What is sent next; kept for its space.
    out: Vec<u8>,
    prepared: Option<[u8; 4]>,
}

/// A packet's length and first byte.
struct Head {
    length: usize,
    first: u8,
}

impl Head {
    fn is_end(&self) -> bool {
        self.first == 0xFE && self.length < 9
    }
}

impl Connection {
    /// Connects, with TLS, and logs in.
    pub(crate) fn open(door: &Door) -> Result<Self> {
        let mut socket = link::dial(door)?;
        let greeting = read_packet(&mut socket)?;
        if greeting.first() == Some(&0xFF) {
            bail!("the server refuses: {}", greeting.escape_ascii());
        }
        let plugin = greeting.strip_suffix(b"\0").unwrap_or(&greeting);
        let plugin = plugin.rsplit(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        socket.write_all(&packet(1, &settings(FLAGS | SSL)))?;
        let link = Link::handshake(door, socket)?;
        let mut connection = Self { link, out: Vec::new(), prepared: None };
        connection.log_in(&door.user, &door.database, &plugin)?;
        Ok(connection)
    }

    fn log_in(&mut self, user: &str, database: &str, plugin: &[u8]) -> Result<()> {
        let response =
            [&settings(FLAGS | SSL)[..], user.as_bytes(), b"\0\0", database.as_bytes(), b"\0", plugin, b"\0"];
        self.link.send(&packet(2, &response.concat()))?;
        loop {
            let sequence = *self.link.need(4)?.last().unwrap_or(&0);
            let head = self.head()?;
            match head.first {
                0x00 => return self.skip(&head),
                0xFF => return Err(self.error(&head)),
                // AuthSwitchRequest: the certificate is the proof, and there is no password.
                0xFE => {
                    self.skip(&head)?;
                    self.link.send(&packet(sequence + 1, &[]))?;
                }
                _ => self.skip(&head)?,
            }
        }
    }

    /// The next packet's head; the packet is still there.
    fn head(&mut self) -> Result<Head> {
        let &[a, b, c, _, first] = self.link.need(5)? else { bail!("no header") };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, 0]))?;
        Ok(Head { length, first })
    }

    fn skip(&mut self, head: &Head) -> Result<()> {
        self.link.skip(head.length + 4)
    }

    fn error(&mut self, head: &Head) -> anyhow::Error {
        match self.link.need(head.length + 4) {
            Ok(packet) => anyhow::anyhow!("the database says: {}", packet.escape_ascii()),
            Err(error) => error,
        }
    }

    /// Goes past packets up to and with one that ends them; their bytes.
    fn until_end(&mut self) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let head = self.head()?;
            bytes += head.length as u64 + 4;
            if head.first == 0xFF {
                return Err(self.error(&head));
            }
            self.skip(&head)?;
            if head.is_end() {
                return Ok(bytes);
            }
        }
    }

    /// Goes past a whole answer; its bytes.
    fn result(&mut self) -> Result<u64> {
        let head = self.head()?;
        match head.first {
            0xFF => Err(self.error(&head)),
            0x00 => self.skip(&head).map(|()| head.length as u64 + 4),
            _ => {
                self.skip(&head)?;
                Ok(self.until_end()? + self.until_end()?)
            }
        }
    }

    fn ask(&mut self) -> Result<u64> {
        self.link.send(&self.out)?;
        self.out.clear();
        self.result()
    }

    fn simple(&mut self, text: &str) -> Result<u64> {
        command(&mut self.out, COM_QUERY, |out| out.extend_from_slice(text.as_bytes()));
        self.ask()
    }

    fn statement(&mut self) -> Result<[u8; 4]> {
        if let Some(id) = self.prepared {
            return Ok(id);
        }
        command(&mut self.out, COM_STMT_PREPARE, |out| {
            let _ = write!(out, "{BY_KEY}?");
        });
        self.link.send(&self.out)?;
        self.out.clear();
        let head = self.head()?;
        if head.first != 0 {
            return Err(self.error(&head));
        }
        let &[_, _, _, _, _, a, b, c, d, ..] = self.link.need(9)? else { bail!("no statement") };
        self.skip(&head)?;
        // One parameter, one column, each with its end.
        self.until_end()?;
        self.until_end()?;
        self.prepared = Some([a, b, c, d]);
        Ok([a, b, c, d])
    }
}

impl Session for Connection {
    fn query(&mut self, mode: Mode, key: u32) -> Result<()> {
        match mode {
            Mode::Simple | Mode::Extended => command(&mut self.out, COM_QUERY, |out| {
                // Writing to a vector cannot fail.
                let _ = write!(out, "{BY_KEY}{key}");
            }),
            Mode::Prepared => {
                let id = self.statement()?;
                command(&mut self.out, COM_STMT_EXECUTE, |out| {
                    out.extend_from_slice(&id);
                    // No cursor, once; no NULL; new types: one INT.
                    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 1, 3, 0]);
                    out.extend_from_slice(&key.to_le_bytes());
                });
            }
        }
        self.ask().map(drop)
    }

    fn download(&mut self, megabytes: u32) -> Result<u64> {
        self.simple(&format!("SELECT REPEAT('x', {MEGABYTE}) FROM seq_1_to_{megabytes}"))
    }

    fn upload(&mut self, megabytes: u32) -> Result<u64> {
        let mut bytes = 0;
        let text = format!("SELECT LENGTH('{}')", "x".repeat(MEGABYTE));
        for _ in 0..megabytes {
            self.simple(&text)?;
            bytes += text.len() as u64;
        }
        Ok(bytes)
    }

    fn blob(&mut self) -> Result<()> {
        self.simple("SELECT REPEAT('x', 200000)").map(drop)
    }

    fn rest(&mut self) {
        self.link.rest();
    }

    fn close(mut self: Box<Self>) {
        command(&mut self.out, COM_QUIT, |_| {});
        // It may be gone already.
        let _ = self.link.send(&self.out);
    }
}

/// What stands in front of a name, and is an SSLRequest alone.
fn settings(flags: u32) -> [u8; 32] {
    let mut settings = [0; 32];
    let values = flags.to_le_bytes().into_iter().chain(MAX_PACKET.to_le_bytes()).chain([CHARSET]);
    settings.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    settings
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

fn command(out: &mut Vec<u8>, command: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, command]);
    content(out);
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX).to_le_bytes();
    if let (Some(place), Some(length)) = (out.get_mut(at..at + 3), length.get(..3)) {
        place.copy_from_slice(length);
    }
}

/// The greeting, which comes before TLS: not a byte more is read.
fn read_packet(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut header = [0; 4];
    socket.read_exact(&mut header)?;
    let [a, b, c, _] = header;
    let mut payload = vec![0; usize::try_from(u32::from_le_bytes([a, b, c, 0]))?];
    socket.read_exact(&mut payload)?;
    Ok(payload)
}

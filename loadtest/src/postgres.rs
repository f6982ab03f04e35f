//! A lean PostgreSQL client: what a driver sends, byte for byte, and no more work than following the answers by their
//! headers.

use std::io::{Read, Write};

use anyhow::{Result, bail};

use crate::{
    door::{Door, Opening},
    link::{self, Link},
    session::{Mode, Session},
};

/// SSLRequest: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const STATEMENT: &str = "q";
const BY_KEY: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = ";
const MEGABYTE: usize = 1_000_000;

/// A session.
pub(crate) struct Connection {
    link: Link,
    /// What is sent next; kept for its space.
    out: Vec<u8>,
    prepared: bool,
}

impl Connection {
    /// Connects, with TLS, and logs in.
    pub(crate) fn open(door: &Door) -> Result<Self> {
        let mut socket = link::dial(door)?;
        if door.opening == Opening::Asked {
            socket.write_all(&SSL_REQUEST)?;
            let mut answer = [0];
            socket.read_exact(&mut answer)?;
            if answer != *b"S" {
                bail!("the server offers no TLS");
            }
        }
        let link = Link::handshake(door, socket)?;
        let mut connection = Self { link, out: Vec::new(), prepared: false };
        connection.start_up(&door.user, &door.database)?;
        Ok(connection)
    }

    fn start_up(&mut self, user: &str, database: &str) -> Result<()> {
        let mut content = 196_608_u32.to_be_bytes().to_vec();
        for word in ["user", user, "database", database, "application_name", "loadtest"] {
            content.extend_from_slice(word.as_bytes());
            content.push(0);
        }
        content.push(0);
        let mut packet = u32::try_from(content.len() + 4)?.to_be_bytes().to_vec();
        packet.extend_from_slice(&content);
        self.link.send(&packet)?;
        self.until_ready().map(drop)
    }

    /// Follows the answer to its end; bytes that came. An error of the database's is one here.
    fn until_ready(&mut self) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let &[kind, a, b, c, d] = self.link.need(5)? else { bail!("no header") };
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))? + 1;
            bytes += length as u64;
            match kind {
                b'E' => {
                    let text = self.link.need(length)?.escape_ascii().to_string();
                    bail!("the database says: {text}");
                }
                // CopyInResponse: whoever asked for it goes on.
                b'Z' | b'G' => {
                    self.link.skip(length)?;
                    return Ok(bytes);
                }
                b'R' if self.link.need(9)?.get(5..) != Some(&[0, 0, 0, 0]) => {
                    bail!("the server asks for more than a certificate");
                }
                _ => self.link.skip(length)?,
            }
        }
    }

    fn ask(&mut self) -> Result<u64> {
        self.link.send(&self.out)?;
        self.out.clear();
        self.until_ready()
    }

    fn simple(&mut self, text: &str) -> Result<u64> {
        message(&mut self.out, b'Q', |out| string(out, text));
        self.ask()
    }

    fn parse(&mut self, name: &str) {
        message(&mut self.out, b'P', |out| {
            string(out, name);
            string(out, &format!("{BY_KEY}$1"));
            out.extend_from_slice(&[0, 0]);
        });
    }

    fn bind_and_execute(&mut self, name: &str, key: u32) {
        message(&mut self.out, b'B', |out| {
            out.push(0);
            string(out, name);
            // One format code (binary) for all parameters, one parameter of four bytes, results as text.
            out.extend_from_slice(&[0, 1, 0, 1, 0, 1, 0, 0, 0, 4]);
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        });
        message(&mut self.out, b'D', |out| out.extend_from_slice(b"P\0"));
        message(&mut self.out, b'E', |out| out.extend_from_slice(&[0; 5]));
        message(&mut self.out, b'S', |_| {});
    }
}

impl Session for Connection {
    fn query(&mut self, mode: Mode, key: u32) -> Result<()> {
        match mode {
            Mode::Simple => {
                message(&mut self.out, b'Q', |out| {
                    // Writing to a vector cannot fail.
                    let _ = write!(out, "{BY_KEY}{key}\0");
                });
            }
            Mode::Extended => {
                self.parse("");
                self.bind_and_execute("", key);
            }
            Mode::Prepared => {
                if !self.prepared {
                    self.parse(STATEMENT);
                    self.prepared = true;
                }
                self.bind_and_execute(STATEMENT, key);
            }
        }
        self.ask().map(drop)
    }

    fn download(&mut self, megabytes: u32) -> Result<u64> {
        self.simple(&format!(
            "COPY (SELECT repeat('x', {MEGABYTE}) FROM generate_series(1, {megabytes})) TO STDOUT (FORMAT binary)"
        ))
    }

    fn upload(&mut self, megabytes: u32) -> Result<u64> {
        // Parsed and thrown away: what is measured is the way, not the disk.
        self.simple("COPY sink FROM STDIN WHERE false")?;
        let mut row = vec![b'x'; MEGABYTE - 1];
        row.push(b'\n');
        let mut data = Vec::new();
        for part in row.chunks(64 * 1024) {
            message(&mut data, b'd', |out| out.extend_from_slice(part));
        }
        for _ in 0..megabytes {
            self.link.send(&data)?;
        }
        message(&mut self.out, b'c', |_| {});
        self.ask()?;
        Ok(u64::from(megabytes) * data.len() as u64)
    }

    fn blob(&mut self) -> Result<()> {
        self.simple("SELECT repeat('x', 200000)").map(drop)
    }

    fn rest(&mut self) {
        self.link.rest();
    }

    fn close(mut self: Box<Self>) {
        message(&mut self.out, b'X', |_| {});
        // It may be gone already.
        let _ = self.link.send(&self.out);
    }
}

/// A message: its kind, its length, its content.
fn message(out: &mut Vec<u8>, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

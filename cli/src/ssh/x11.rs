//! Windows of the host's on our display, as OpenSSH's client does it (`clientloop.c`, `channels.c`).
//!
//! The host never learns what opens the display. It is given a cookie made for this session; whoever opens a window through the
//! host shows that, and only here it is replaced by the display's own (X11 protocol, 8: connection setup).
//!
//! With `-X` the display's cookie is one made for strangers (the SECURITY extension), good for 20 minutes: such a window cannot
//! read what is typed into others. With `-Y` it is our own, which may do everything.

use std::{
    env, fmt, io,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use russh::{
    Channel, ChannelOpenFailure,
    client::{ChannelOpenHandle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpStream, UnixStream},
    process::Command,
    time::timeout,
};
use zeroize::Zeroizing;

use super::forward::{Target, channel_stream};

/// The kind of cookie that every display knows.
const MIT: &str = "MIT-MAGIC-COOKIE-1";
/// Bytes of a cookie.
const COOKIE_BYTES: usize = 16;
/// Display 0 is at this port.
const FIRST_PORT: u16 = 6000;
/// Until when windows of strangers may be opened: `ForwardX11Timeout` of ssh_config(5).
const STRANGERS: Duration = Duration::from_secs(20 * 60);
/// The display forgets their cookie a minute later: nobody is let down by the clock.
const SLACK: Duration = Duration::from_secs(60);
/// `xauth` asks the display for a stranger's cookie.
const XAUTH_DEADLINE: Duration = Duration::from_secs(10);
/// What a window says first comes at once.
const SETUP_DEADLINE: Duration = Duration::from_secs(10);
/// Longest name of a kind of cookie, and longest cookie, that is read.
const MAX_FIELD: u16 = 256;

/// What windows may do on our display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// `-X`: no more than strangers.
    No,
    /// `-Y`: everything.
    Yes,
}

/// Why there is no display to lend.
#[derive(Debug, thiserror::Error)]
pub enum DisplayError {
    /// `DISPLAY` is not set.
    #[error("DISPLAY is not set")]
    Unset,
    /// It names none.
    #[error("DISPLAY is {0:?}, which is no display")]
    Name(String),
    /// No cookie for strangers: no such display, or one without the SECURITY extension.
    #[error("untrusted X11 forwarding setup failed: xauth key data not generated (-Y trusts the host)")]
    Strangers(#[source] io::Error),
}

/// A display, with the cookie that opens it and the one that the host gets.
pub struct Display {
    at: Target,
    screen: u32,
    /// The display's own.
    cookie: Zeroizing<Vec<u8>>,
    /// The host's.
    lent: Vec<u8>,
    until: Option<Instant>,
}

/// `DISPLAY`, read.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    at: Target,
    screen: u32,
    /// As `xauth` knows it.
    xauth: String,
}

impl Name {
    /// `[HOST]:NUMBER[.SCREEN]`; without a host, or with `unix`, a socket of this machine.
    fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ":/.-_".contains(c);
        if text.starts_with('-') || !text.chars().all(plain) {
            return None;
        }
        let (host, numbers) = text.rsplit_once(':')?;
        let (number, screen) = numbers.split_once('.').unwrap_or((numbers, "0"));
        let (display, screen): (u16, u32) = (number.parse().ok()?, screen.parse().ok()?);
        let at = match host {
            "" | "unix" => Target::Unix(format!("/tmp/.X11-unix/X{display}").into()),
            // As macOS has it: the socket itself.
            path if path.starts_with('/') => Target::Unix(format!("{path}:{number}").into()),
            host => Target::Tcp { host: host.to_owned(), port: FIRST_PORT.checked_add(display)? },
        };
        // A display that ssh lends is entered under the machine's own name.
        let local = text.strip_prefix("localhost:").map(|rest| format!("unix:{rest}"));
        Some(Self { at, screen, xauth: local.unwrap_or_else(|| text.to_owned()) })
    }
}

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Display({})", self.at)
    }
}

impl Display {
    /// The display of this terminal.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub async fn here(trusted: Trusted) -> Result<Self, DisplayError> {
        let name = env::var_os("DISPLAY").filter(|name| !name.is_empty()).ok_or(DisplayError::Unset)?;
        let text = name.to_string_lossy();
        let name = Name::parse(&text).ok_or_else(|| DisplayError::Name(text.into_owned()))?;
        let (cookie, until) = match trusted {
            Trusted::Yes => (cookie(None, &name.xauth).await.ok().flatten(), None),
            Trusted::No => {
                let cookie = strangers(&name.xauth).await.map_err(DisplayError::Strangers)?;
                (Some(cookie), Instant::now().checked_add(STRANGERS))
            }
        };
        let lent = random()?;
        // A display without cookies is open to this machine; it takes whatever is said.
        let cookie = cookie.unwrap_or_else(|| Zeroizing::new(lent.clone()));
        Ok(Self { at: name.at, screen: name.screen, cookie, lent, until })
    }

    /// What the host is asked for: the kind of cookie, the lent one in hexadecimal, the screen.
    pub(super) fn request(&self) -> (&'static str, String, u32) {
        (MIT, hex::encode(&self.lent), self.screen)
    }

    /// Connects a window that the host opens.
    pub(super) async fn serve(self: Arc<Self>, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        if self.until.is_some_and(|until| Instant::now() > until) {
            tracing::warn!("a window came after the 20 minutes that -X is good for");
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        }
        let shown = match &self.at {
            Target::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(|display| {
                let _ = display.set_nodelay(true);
                Socket::Tcp(display)
            }),
            Target::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        };
        match shown {
            Err(error) => {
                tracing::debug!(display = %self.at, %error, "a window finds no display");
                reply.reject(ChannelOpenFailure::ConnectFailed).await;
            }
            Ok(display) => {
                reply.accept().await;
                let window = channel_stream(channel);
                let ended = match display {
                    Socket::Tcp(display) => self.show(window, display).await,
                    Socket::Unix(display) => self.show(window, display).await,
                };
                tracing::debug!(?ended, "a window closed");
            }
        }
    }

    /// The setup with the right cookie in it, then everything as it is.
    async fn show(
        &self,
        mut window: impl AsyncRead + AsyncWrite + Unpin,
        mut display: impl AsyncRead + AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let setup = timeout(SETUP_DEADLINE, self.setup(&mut window)).await??;
        display.write_all(&setup).await?;
        copy_bidirectional(&mut window, &mut display).await.map(drop)
    }

    /// Reads what a window says first; an error where it does not have the cookie that was lent.
    async fn setup(&self, window: &mut (impl AsyncRead + Unpin)) -> io::Result<Zeroizing<Vec<u8>>> {
        let wrong = || {
            tracing::warn!("X11 connection rejected because of wrong authentication");
            io::Error::from(io::ErrorKind::PermissionDenied)
        };
        let mut head = [0; 12];
        window.read_exact(&mut head).await?;
        let number: fn([u8; 2]) -> u16 = match head[0] {
            b'B' => u16::from_be_bytes,
            b'l' => u16::from_le_bytes,
            _ => return Err(wrong()),
        };
        let (kind, cookie) = (number([head[6], head[7]]), number([head[8], head[9]]));
        if kind > MAX_FIELD || cookie > MAX_FIELD {
            return Err(wrong());
        }
        let mut kind_said = vec![0; padded(kind)];
        window.read_exact(&mut kind_said).await?;
        let mut cookie_said = vec![0; padded(cookie)];
        window.read_exact(&mut cookie_said).await?;
        let is_lent = kind_said.get(..kind.into()) == Some(MIT.as_bytes())
            && cookie_said.get(..cookie.into()).is_some_and(|said| {
                aws_lc_rs::constant_time::verify_slices_are_equal(said, &self.lent).is_ok()
            });
        if !is_lent {
            return Err(wrong());
        }
        Ok(Zeroizing::new([&head[..], &kind_said, &self.cookie].concat()))
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Fields of the setup fill words of four bytes.
fn padded(length: u16) -> usize {
    usize::from(length).next_multiple_of(4)
}

fn random() -> Result<Vec<u8>, DisplayError> {
    let mut bytes = vec![0; COOKIE_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| DisplayError::Strangers(io::Error::other("no randomness")))?;
    Ok(bytes)
}

/// A cookie for strangers, made by the display.
async fn strangers(display: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let directory = tempfile::Builder::new().prefix("tsh-x11-").tempdir()?;
    let file = directory.path().join("xauthority");
    let life = (STRANGERS + SLACK).as_secs().to_string();
    xauth(Some(&file), &["generate", display, MIT, "untrusted", "timeout", &life]).await?;
    cookie(Some(&file), display).await?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The cookie of a display; `None` where there is none.
async fn cookie(file: Option<&Path>, display: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let listed = xauth(file, &["list", display]).await?;
    Ok(listed.lines().find_map(read_cookie))
}

/// `host/unix:0  MIT-MAGIC-COOKIE-1  0123…`
fn read_cookie(line: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, cookie) = (words.next()?, words.next()?);
    let cookie = Zeroizing::new(hex::decode(cookie).ok()?);
    (kind == MIT && cookie.len() == COOKIE_BYTES).then_some(cookie)
}

/// Runs `xauth`; what it printed.
async fn xauth(file: Option<&Path>, words: &[&str]) -> io::Result<Zeroizing<String>> {
    let mut command = Command::new("xauth");
    command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::null());
    if let Some(file) = file {
        command.arg("-f").arg(file);
    }
    let output = timeout(XAUTH_DEADLINE, command.args(words).output()).await??;
    if !output.status.success() {
        return Err(io::Error::other(format!("xauth: {}", output.status)));
    }
    String::from_utf8(output.stdout).map(Zeroizing::new).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 16] = *b"display's own 16";

    fn display() -> Display {
        Display {
            at: Target::Unix("/nowhere".into()),
            screen: 0,
            cookie: Zeroizing::new(OURS.to_vec()),
            lent: b"what is lent 123".to_vec(),
            until: None,
        }
    }

    /// What a window says first, in the order of bytes of its machine.
    fn said(order: u8, kind: &str, cookie: &[u8]) -> Vec<u8> {
        let number = |number: usize| {
            let number = u16::try_from(number).unwrap();
            if order == b'B' { number.to_be_bytes() } else { number.to_le_bytes() }
        };
        let pad = |bytes: &[u8]| [bytes, &vec![0; bytes.len().next_multiple_of(4) - bytes.len()]].concat();
        let head =
            [&[order, 0][..], &number(11), &number(0), &number(kind.len()), &number(cookie.len()), &[0; 2]];
        [head.concat(), pad(kind.as_bytes()), pad(cookie)].concat()
    }

    async fn setup(said: &[u8]) -> io::Result<Vec<u8>> {
        display().setup(&mut &said[..]).await.map(|setup| setup.to_vec())
    }

    #[tokio::test]
    async fn the_cookie_that_was_lent_becomes_the_displays_own() {
        for order in [b'B', b'l'] {
            let shown = setup(&said(order, MIT, b"what is lent 123")).await.unwrap();
            assert_eq!(shown, said(order, MIT, &OURS));
        }
    }

    #[tokio::test]
    async fn who_does_not_have_it_is_shown_nowhere() {
        let good = said(b'l', MIT, b"what is lent 123");
        for wrong in [
            said(b'l', MIT, b"what is lent 124"),
            said(b'l', MIT, b"what is lent"),
            said(b'l', MIT, &OURS),
            said(b'l', MIT, b""),
            said(b'l', "", b""),
            said(b'l', "XDM-AUTHORIZATION-1", b"what is lent 123"),
            said(b'l', MIT, &[0; 300]),
            said(b'x', MIT, b"what is lent 123"),
        ] {
            assert!(setup(&wrong).await.is_err(), "{wrong:?}");
        }
        for end in 0..good.len() {
            assert!(setup(&good[..end]).await.is_err(), "{end}");
        }
    }

    #[test]
    fn a_display_is_named_as_x_names_it() {
        let read = |text| Name::parse(text).map(|name| (name.at.to_string(), name.screen, name.xauth));
        let unix = |screen, xauth: &str| Some(("/tmp/.X11-unix/X0".to_owned(), screen, xauth.to_owned()));
        assert_eq!(read(":0"), unix(0, ":0"));
        assert_eq!(read("unix:0.2"), unix(2, "unix:0.2"));
        assert_eq!(read("localhost:10.0"), Some(("localhost:6010".to_owned(), 0, "unix:10.0".to_owned())));
        let socket = "/tmp/launch-1/org.xquartz:0";
        assert_eq!(read(socket), Some((socket.to_owned(), 0, socket.to_owned())));
        for wrong in ["", "0", ":", ":x", "host:60000", ":0;reboot", "-f:0", "a b:0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn cookies_are_read_as_xauth_lists_them() {
        let line = format!("host/unix:0  {MIT}  {}", hex::encode(OURS));
        assert_eq!(read_cookie(&line).unwrap()[..], OURS);
        for wrong in ["", "host/unix:0", "host/unix:0  MIT-MAGIC-COOKIE-1  zz", "h:0 XDM-AUTHORIZATION-1 00"]
        {
            assert!(read_cookie(wrong).is_none(), "{wrong}");
        }
    }
}

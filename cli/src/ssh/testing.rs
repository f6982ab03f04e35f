//! A host for the tests of this crate: SSH with a certificate of choice, and a few commands.

use std::{collections::HashMap, net::Ipv4Addr, process::Stdio, sync::Arc, time::Duration};

use auth::proto::Target as Node;
use russh::{
    Channel, ChannelId, ChannelMsg, Disconnect, Sig,
    server::{self, Auth, ChannelOpenHandle, Handle, Handler, Msg, Session},
};
use ssh_key::{
    Certificate, PrivateKey,
    certificate::{Builder, CertType},
    private::Ed25519Keypair,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    sync::mpsc,
};

use super::HostAuthorities;
use crate::session::SshCredential;

/// The name of the host, and of the account there.
pub(crate) const NODE: &str = "prod-1";
pub(crate) const LOGIN: &str = "root";
/// What a session that is ended by the host hears.
pub(crate) const WORDS: &str = "session ended: a lock is in force";
/// What a refused login hears.
pub(crate) const NO_ENTRY: &str = "access to node denied. User does not have permissions. Confirm SSH login.";

pub(crate) fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// The cluster's host authority.
pub(crate) fn authority() -> PrivateKey {
    key(1)
}

/// A certificate, good unless it is changed.
pub(crate) struct Certified<'a> {
    pub(crate) kind: CertType,
    pub(crate) principals: &'a [&'a str],
    pub(crate) valid: (u64, u64),
    pub(crate) critical: &'a [&'a str],
    pub(crate) signer: PrivateKey,
}

impl Default for Certified<'_> {
    fn default() -> Self {
        Self {
            kind: CertType::Host,
            principals: &[NODE],
            valid: (0, u64::MAX >> 1),
            critical: &[],
            signer: authority(),
        }
    }
}

impl Certified<'_> {
    pub(crate) fn certificate(&self, subject: &PrivateKey) -> Certificate {
        let (after, before) = self.valid;
        let mut builder = Builder::new([7; 16], subject.public_key().clone(), after, before).unwrap();
        builder.serial(1).unwrap().key_id("test").unwrap().cert_type(self.kind).unwrap();
        for principal in self.principals {
            builder.valid_principal(*principal).unwrap();
        }
        if self.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for option in self.critical {
            builder.critical_option(*option, "").unwrap();
        }
        builder.sign(&self.signer).unwrap()
    }
}

/// What happened at a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Env(String, String),
    Pty(String, u32, u32),
    Resized(u32, u32),
    Agent,
    Direct(String, u32),
    Listen(String, u32),
}

/// A host that serves every connection until the test ends.
pub(crate) struct TestHost {
    pub(crate) address: String,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
}

impl TestHost {
    pub(crate) async fn start() -> Self {
        Self::with(Some(&Certified::default())).await
    }

    /// A host that presents this certificate; `None`: a plain key.
    pub(crate) async fn with(certified: Option<&Certified<'_>>) -> Self {
        let host_key = key(2);
        let mut config = server::Config {
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            ..server::Config::default()
        };
        config.certificates.extend(certified.map(|certified| certified.certificate(&host_key)));
        config.keys.push(host_key);
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let session = Serving { channels: HashMap::new(), tell: tell.clone() };
                let running = server::run_stream(Arc::clone(&config), socket, session);
                tokio::spawn(async move {
                    if let Ok(running) = running.await {
                        let _ = running.await;
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// What a user holds who may enter here.
    pub(crate) fn credential(&self) -> SshCredential {
        self.credential_as(LOGIN)
    }

    pub(crate) fn credential_as(&self, login: &str) -> SshCredential {
        let key = key(3);
        let user = Certified { kind: CertType::User, principals: &[login], ..Certified::default() };
        SshCredential {
            certificate: user.certificate(&key),
            key: Arc::new(key),
            target: Node {
                kind: "node".to_owned(),
                name: NODE.to_owned(),
                public_addr: self.address.clone(),
                ..Node::default()
            },
            login: login.to_owned(),
            authorities: HostAuthorities::parse(&[authority().public_key().to_openssh().unwrap()]).unwrap(),
        }
    }
}

struct Serving {
    channels: HashMap<ChannelId, Channel<Msg>>,
    tell: mpsc::UnboundedSender<Seen>,
}

impl Serving {
    fn tell(&self, seen: Seen) {
        let _ = self.tell.send(seen);
    }
}

impl Handler for Serving {
    type Error = russh::Error;

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, russh::Error> {
        let named = certificate.valid_principals().iter().any(|principal| principal == user);
        Ok(if named && user != "nobody" { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        let _ = session;
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(None)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.tell(Seen::Direct(host.to_owned(), port));
        if host == "forbidden" {
            return Ok(());
        }
        reply.accept().await;
        tokio::spawn(echo(channel));
        Ok(())
    }

    async fn env_request(
        &mut self,
        _: ChannelId,
        name: &str,
        value: &str,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.tell(Seen::Env(name.to_owned(), value.to_owned()));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.tell(Seen::Pty(term.to_owned(), columns, rows));
        session.channel_success(channel)
    }

    async fn window_change_request(
        &mut self,
        _: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.tell(Seen::Resized(columns, rows));
        Ok(())
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        self.tell(Seen::Agent);
        session.channel_success(channel)?;
        Ok(true)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        let channel = self.channels.remove(&channel).unwrap();
        tokio::spawn(run("cat".to_owned(), channel, session.handle()));
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let command = String::from_utf8(data.to_vec()).unwrap();
        if command == "forbidden" {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)?;
        let channel = self.channels.remove(&channel).unwrap();
        tokio::spawn(run(command, channel, session.handle()));
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if name != "sftp" {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)?;
        tokio::spawn(sftp_server(self.channels.remove(&channel).unwrap()));
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        self.tell(Seen::Listen(address.to_owned(), *port));
        if *port == 1 {
            return Ok(false);
        }
        if *port == 0 {
            *port = 40_000;
        }
        // Somebody comes at once, and somebody else to a port that nobody asked for.
        let (handle, address, port) = (session.handle(), address.to_owned(), *port);
        tokio::spawn(async move {
            for port in [port, 9] {
                tokio::spawn(knock(handle.clone(), address.clone(), port));
            }
        });
        Ok(true)
    }
}

/// A connection that comes to a port of the host.
async fn knock(handle: Handle, address: String, port: u32) {
    if let Ok(channel) = handle.channel_open_forwarded_tcpip(address, port, "10.0.0.9", 1).await {
        let _ = channel.data_bytes(format!("knock at {port}").into_bytes()).await;
        let _ = channel.eof().await;
    }
}

async fn echo(mut channel: Channel<Msg>) {
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => channel.data_bytes(data).await.unwrap(),
            ChannelMsg::Eof => break,
            _ => {}
        }
    }
    let _ = channel.eof().await;
    let _ = channel.close().await;
}

async fn run(command: String, mut channel: Channel<Msg>, handle: Handle) {
    let (word, rest) = command.split_once(' ').unwrap_or((&command, ""));
    let mut status = 0;
    match word {
        "exit" => status = rest.parse().unwrap(),
        "say" => channel.data_bytes(rest.as_bytes().to_vec()).await.unwrap(),
        "both" => {
            channel.data_bytes(&b"out\n"[..]).await.unwrap();
            channel.extended_data_bytes(1, &b"err\n"[..]).await.unwrap();
        }
        "cat" => {
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } => channel.data_bytes(data).await.unwrap(),
                    ChannelMsg::Eof => break,
                    _ => {}
                }
            }
        }
        "killed" => {
            let id = channel.id();
            let _ = handle.exit_signal_request(id, Sig::TERM, false, String::new(), String::new()).await;
            let _ = handle.close(id).await;
            return;
        }
        "kick" => {
            let words = format!("{WORDS}\x1b[2J");
            let _ = handle.disconnect(Disconnect::ByApplication, words, String::new()).await;
            return;
        }
        "agent" => {
            let mut agent = handle.channel_open_agent().await.unwrap().into_stream();
            agent.write_all(b"sign").await.unwrap();
            let mut answer = [0; 6];
            agent.read_exact(&mut answer).await.unwrap();
            channel.data_bytes(answer.to_vec()).await.unwrap();
        }
        "steal" => {
            // What a hostile host tries: the agent, unasked.
            let stolen = handle.channel_open_agent().await.is_ok();
            channel.data_bytes(stolen.to_string().into_bytes()).await.unwrap();
        }
        _ => status = 127,
    }
    let _ = channel.exit_status(status).await;
    let _ = channel.eof().await;
    let _ = channel.close().await;
}

/// OpenSSH's own, as a host has it.
async fn sftp_server(channel: Channel<Msg>) {
    let mut server = Command::new("/usr/lib/openssh/sftp-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut input, mut output) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let (mut from, to) = channel.split();
    let answers = tokio::spawn(async move {
        let mut chunk = vec![0; 32 * 1024];
        while let Ok(read @ 1..) = output.read(&mut chunk).await {
            to.data_bytes(chunk[..read].to_vec()).await.unwrap();
        }
        let _ = to.close().await;
    });
    while let Some(ChannelMsg::Data { data }) = from.wait().await {
        input.write_all(&data).await.unwrap();
    }
    drop(input);
    let _ = answers.await;
}

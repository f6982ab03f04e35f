//! An OpenSSH server with authorities of the test's own, a sidecar without policy before it, and what a client
//! needs to come in.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use protocols::ssh::{HostIdentity, HostKeys, Ssh, SshClient, SshKey};
use protocols::{
    Allowed, Client, Credential, End, Endpoint, Event, Prompt, Protocol, Refusal, RefusalCode, RelayError,
    Reply, SshAction, SshTerms, Tap, TapClosed, Transferred, UpstreamAddress, Verdict,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Authority, limits};

/// Who runs the tests: an unprivileged server logs in nobody else.
pub(crate) fn login() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn sshd() -> Option<&'static str> {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists())
}

/// What a test may change before anything starts.
pub(crate) struct Plan {
    pub(crate) allowed: Allowed,
    /// Lines for the server's configuration.
    pub(crate) sshd: String,
    pub(crate) new_keys_after: Option<u64>,
    /// Options of `ssh-keygen -s` for the certificate that we show the server.
    pub(crate) upstream_certificate: Vec<String>,
    /// By what the server is known.
    pub(crate) host_keys: Known,
    /// The code that clients are asked for.
    pub(crate) code: Option<&'static str>,
}

/// By what the server is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Pinned,
    Certified,
    /// By another server's key.
    Other,
    /// By another name's certificate.
    OtherName,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            allowed: Allowed::everything(),
            sshd: String::new(),
            new_keys_after: None,
            upstream_certificate: Vec::new(),
            host_keys: Known::Pinned,
            code: None,
        }
    }
}

/// What a session came to, as text.
pub(crate) type Outcome = Result<Transferred, String>;

pub(crate) struct House {
    pub(crate) files: TempDir,
    pub(crate) port: u16,
    pub(crate) sshd_port: u16,
    pub(crate) log: Log,
    end: watch::Sender<bool>,
    outcomes: watch::Receiver<Vec<Outcome>>,
    pub(crate) authority: Authority,
    _tasks: JoinSet<()>,
}

impl House {
    pub(crate) async fn open() -> Option<Self> {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Option<Self> {
        let sshd = sshd()?;
        let files = TempDir::new().unwrap();
        let path = files.path();
        for key in ["user_ca", "upstream_ca", "host_ca", "sidecar", "host", "other", "alice", "ours"] {
            keygen(&["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", &at(path, key)]).await;
        }
        let login = login();
        sign(path, "user_ca", "alice", &["-I", "alice", "-n", &login, "-V", "-1m:+1h"]).await;
        sign(path, "host_ca", "sidecar", &["-I", "sidecar", "-h", "-n", "target", "-V", "-1m:+1h"]).await;
        sign(path, "host_ca", "host", &["-I", "host", "-h", "-n", "server", "-V", "-1m:+1h"]).await;
        let mut options: Vec<&str> = vec!["-I", "alice", "-n", &login, "-V", "-1m:+1h"];
        options.extend(plan.upstream_certificate.iter().map(String::as_str));
        sign(path, "upstream_ca", "ours", &options).await;
        configure(path, &plan.sshd);
        let mut tasks = JoinSet::new();
        let servers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sshd_port = servers.local_addr().unwrap().port();
        tasks.spawn(serve_sshd(sshd, servers, path.to_owned()));

        let authority = Authority::new();
        let identity = HostIdentity::new(key(path, "sidecar"));
        identity.certify(&wire(path, "sidecar-cert.pub")).unwrap();
        let mut tls = rustls::ServerConfig::clone(&authority.server_config());
        tls.alpn_protocols = vec![protocols::ssh::ALPN.to_vec()];
        let mut ssh = Ssh::new(identity, Arc::new(tls), limits());
        if let Some(bytes) = plan.new_keys_after {
            ssh = ssh.with_new_keys_after(bytes);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, (end, ended)) = (Log::default(), watch::channel(false));
        let (tell, outcomes) = watch::channel(Vec::new());
        let endpoint = endpoint(path, sshd_port, &plan);
        tasks.spawn(serve(listener, Arc::new(ssh), (endpoint, plan.code), log.clone(), ended, tell));
        // As a client of the sidecar knows it.
        let ca = std::fs::read_to_string(path.join("host_ca.pub")).unwrap();
        std::fs::write(path.join("known_hosts"), format!("@cert-authority target {ca}")).unwrap();
        Some(Self { files, port, sshd_port, log, end, outcomes, authority, _tasks: tasks })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Options that every OpenSSH client gets.
    pub(crate) fn options(&self) -> Vec<String> {
        let known = self.path("known_hosts");
        let mut options: Vec<String> = vec!["-F".into(), "none".into()];
        for option in [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
            "HostKeyAlias=target".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "LogLevel=ERROR".to_owned(),
            format!("IdentityFile={}", self.path("alice").display()),
            format!("Port={}", self.port),
            format!("User={}", login()),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `ssh`, up to and without the command.
    pub(crate) fn ssh(&self, options: &[&str]) -> Command {
        self.client("ssh", options, &["127.0.0.1"])
    }

    pub(crate) fn client(&self, program: &str, options: &[&str], rest: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(self.options())
            .args(options)
            .args(rest)
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What a command prints, which must succeed.
    pub(crate) async fn says(&self, options: &[&str], command: &str) -> String {
        let output = self.ssh(options).arg(command).output().await.unwrap();
        self.succeeded(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn succeeded(&self, output: &Output) {
        assert!(output.status.success(), "{output:?}\n{:#?}\n{}", self.log.seen(), self.sshd_log());
    }

    pub(crate) fn sshd_log(&self) -> String {
        std::fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }

    /// The permit ends.
    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }

    /// What the first session came to.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        self.outcomes.wait_for(|outcomes| !outcomes.is_empty()).await.unwrap().first().unwrap().clone()
    }

    /// Waits for a session that the client has ended.
    pub(crate) async fn ended_by_client(&mut self) -> Transferred {
        let outcome = self.outcome().await.unwrap();
        assert_eq!(outcome.end, End::Client);
        outcome
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}

fn at(path: &Path, name: &str) -> String {
    path.join(name).display().to_string()
}

pub(crate) async fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A certificate for a key, beside it.
pub(crate) async fn sign(path: &Path, authority: &str, key: &str, options: &[&str]) {
    let (authority, key) = (at(path, authority), format!("{}.pub", at(path, key)));
    let arguments: Vec<&str> =
        ["-q", "-s", &authority].into_iter().chain(options.iter().copied()).chain([key.as_str()]).collect();
    keygen(&arguments).await;
}

pub(crate) fn key(path: &Path, name: &str) -> SshKey {
    SshKey::from_openssh(&std::fs::read(path.join(name)).unwrap()).unwrap()
}

/// A certificate file's content in its wire form.
pub(crate) fn wire(path: &Path, name: &str) -> Vec<u8> {
    let line = std::fs::read_to_string(path.join(name)).unwrap();
    ssh_key::Certificate::from_openssh(&line).unwrap().to_bytes().unwrap()
}

fn configure(path: &Path, more: &str) {
    // As root, the server wants it; it is there when the server was started by the system.
    let _ = std::fs::create_dir("/run/sshd");
    let config = format!(
        "HostKey {host}\nHostCertificate {host}-cert.pub\nTrustedUserCAKeys {ca}.pub\nAuthorizedKeysFile none\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n\
         PermitRootLogin yes\nAcceptEnv *\nMaxSessions 100\nX11Forwarding yes\nX11UseLocalhost yes\n\
         Subsystem sftp internal-sftp\nStreamLocalBindUnlink yes\nPrintMotd no\nLogLevel VERBOSE\n{more}\n",
        host = at(path, "host"),
        ca = at(path, "upstream_ca"),
    );
    std::fs::write(path.join("sshd_config"), config).unwrap();
}

/// One server for each connection, as inetd has it: no port is chosen by chance, and nothing is left behind.
async fn serve_sshd(program: &'static str, listener: TcpListener, path: PathBuf) {
    let mut children = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let socket = socket.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(path.join("sshd.log")).unwrap();
        let mut child = Command::new(program)
            .args(["-i", "-e", "-f"])
            .arg(path.join("sshd_config"))
            .stdin(OwnedFd::from(socket.try_clone().unwrap()))
            .stdout(OwnedFd::from(socket))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        children.spawn(async move { child.wait().await });
    }
}

fn endpoint(path: &Path, port: u16, plan: &Plan) -> Endpoint {
    let line = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let none = HostKeys::default();
    let host_keys = match plan.host_keys {
        Known::Pinned => none.with_pinned(&line("host.pub")).unwrap(),
        Known::Certified => none.with_authority(&line("host_ca.pub")).unwrap().with_name("server"),
        Known::Other => none.with_pinned(&line("other.pub")).unwrap(),
        Known::OtherName => none.with_authority(&line("host_ca.pub")).unwrap().with_name("another"),
    };
    let certificate = Some(wire(path, "ours-cert.pub"));
    Endpoint {
        address: UpstreamAddress::Tcp { host: "127.0.0.1".into(), port },
        tls: None,
        credential: Credential::Ssh { key: key(path, "ours"), certificate },
        settings: Vec::new(),
        replication_allowed: false,
        local_infile_allowed: false,
        ssh: Some(SshTerms { host_keys, allowed: plan.allowed }),
    }
}

async fn serve(
    listener: TcpListener,
    ssh: Arc<Ssh>,
    (endpoint, code): (Endpoint, Option<&'static str>),
    log: Log,
    ended: watch::Receiver<bool>,
    tell: watch::Sender<Vec<Outcome>>,
) {
    let mut sessions = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (ssh, endpoint, log, tell) = (ssh.clone(), endpoint.clone(), log.clone(), tell.clone());
        let mut ended = ended.clone();
        sessions.spawn(async move {
            let mut accepted = match ssh.accept(socket).await {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                Err(error) => return tell.send_modify(|all| all.push(Err(chain(&error)))),
            };
            log.push(format!("login {} {:?}", accepted.login.user, kind(&accepted.peer)));
            if let Some(code) = code
                && !is_given(&mut accepted.client, code, &log).await
            {
                let refusal = Refusal::new(RefusalCode::MfaRequired, "access to resource requires MFA");
                let told = accepted.client.refuse(refusal.with_hint("run: tsh ssh")).await;
                return tell.send_modify(|all| all.push(Err(format!("refused {told:?}"))));
            }
            let upstream = match ssh.dial(&endpoint, &accepted.login).await {
                Ok(upstream) => upstream,
                Err(error) => {
                    let refusal = Refusal::new(RefusalCode::UpstreamUnavailable, "no way to the host");
                    let _ = accepted.client.refuse(refusal).await;
                    return tell.send_modify(|all| all.push(Err(chain(&error))));
                }
            };
            let over = async move {
                let _ = ended.wait_for(|ended| *ended).await;
                Refusal::new(RefusalCode::SessionExpired, "the permit is over").with_hint("run: tsh login")
            };
            let outcome = accepted.client.relay(upstream, log, over).await;
            tell.send_modify(|all| all.push(outcome.map_err(|error: RelayError| chain(&error))));
        });
    }
}

/// Whether a client knows the code, which it is asked for twice at most.
async fn is_given(client: &mut SshClient, code: &str, log: &Log) -> bool {
    for instruction in ["MFA is required", "That was wrong"] {
        let prompt =
            Prompt { instruction: instruction.into(), question: "Enter an OTP code: ".into(), echo: false };
        match client.ask(&prompt).await {
            Reply::Given(given) if given.expose() == code.as_bytes() => return true,
            Reply::Given(given) => log.push(format!("wrong {}", given.expose().escape_ascii())),
            other => {
                log.push(format!("{other:?}"));
                return false;
            }
        }
    }
    false
}

fn kind(peer: &protocols::Peer) -> &'static str {
    match peer {
        protocols::Peer::None => "none",
        protocols::Peer::X509(_) => "x509",
        protocols::Peer::Ssh(_) => "ssh",
        protocols::Peer::SshInTls { .. } => "ssh in tls",
    }
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A tap that remembers as text; refuses a request that says `refuse me`, ends the session at `forbidden`.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, wanted: &str) -> bool {
        self.seen().iter().any(|line| line.contains(wanted))
    }
}

impl Tap for Log {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        let line = match event {
            Event::Ssh(ssh) => {
                let refused = if ssh.allowed { "" } else { "NOT ALLOWED " };
                let channel = ssh.channel.map(|number| number.to_string()).unwrap_or_default();
                match ssh.action {
                    SshAction::Exec { command, file_copy } => {
                        format!("{refused}{channel} exec {} copy={file_copy}", command.escape_ascii())
                    }
                    SshAction::Output { bytes } => format!("{channel} output {}", bytes.escape_ascii()),
                    SshAction::Env { name, value } => {
                        format!("{channel} env {}={}", name.escape_ascii(), value.escape_ascii())
                    }
                    SshAction::Sftp(file) => format!(
                        "{channel} sftp {:?} {} {} read={} written={} {:?}",
                        file.operation,
                        file.path.escape_ascii(),
                        file.target.unwrap_or_default().escape_ascii(),
                        file.read,
                        file.written,
                        file.outcome
                    ),
                    SshAction::Pty { term, size } => {
                        format!("{refused}{channel} pty {} {size:?}", term.escape_ascii())
                    }
                    action => format!("{refused}{channel} {action:?}"),
                }
            }
            other => format!("{other:?}"),
        };
        self.push(line.clone());
        let refusal = Refusal::new(RefusalCode::AccessDenied, "not this one");
        Ok(match line {
            line if line.contains("refuse me") => Verdict::Refuse(refusal),
            line if line.contains("forbidden") => Verdict::End(refusal),
            _ => Verdict::Forward,
        })
    }
}

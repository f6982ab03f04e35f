//! What the tap sees of SSH: requests before they are forwarded, what a terminal shows, and what became of files
//! and channels.

/// One thing in an SSH session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshEvent<'a> {
    /// The channel, counted from 0 in the order in which channels were opened by either side; never used twice.
    /// `None` for what belongs to the whole connection.
    pub channel: Option<u32>,
    /// Whether [`crate::Allowed`] allows it. What it does not allow is refused, whatever the verdict.
    pub allowed: bool,
    /// What.
    pub action: SshAction<'a>,
}

/// What is asked, or has happened, in an SSH session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshAction<'a> {
    /// A channel is asked for: by the client, or, where something was forwarded, by the upstream.
    Open(ChannelKind<'a>),
    /// The client wants a terminal.
    Pty {
        /// `xterm-256color`, as the client says.
        term: &'a [u8],
        /// Its size.
        size: TerminalSize,
    },
    /// The terminal has another size.
    WindowChange(TerminalSize),
    /// The client wants an environment variable.
    Env {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The client starts the login's shell.
    Shell,
    /// The client runs a command.
    Exec {
        /// The command, for the login's shell to read.
        command: &'a [u8],
        /// Whether it is one side of `scp` or an SFTP server.
        file_copy: bool,
    },
    /// The client starts a subsystem.
    Subsystem {
        /// `sftp`.
        name: &'a [u8],
        /// Whether it copies files.
        file_copy: bool,
    },
    /// The client lends its agent.
    Agent,
    /// The client lends its display.
    X11 {
        /// For one connection alone.
        single: bool,
    },
    /// The client sends a signal to what runs.
    Signal {
        /// Its name without SIG.
        name: &'a [u8],
    },
    /// The client wants the upstream to listen for it.
    Listen(Listener<'a>),
    /// The client wants that to end.
    CancelListen(Listener<'a>),
    /// Something that is not known here, and is refused.
    Unknown {
        /// The request's name.
        name: &'a [u8],
    },
    /// The upstream writes to a channel that has a terminal, or in which a shell runs without one. The client is shown it after the tap.
    Output {
        /// What.
        bytes: &'a [u8],
    },
    /// The client has typed into a channel that has a terminal.
    Input {
        /// How many bytes; not which.
        length: usize,
    },
    /// An SFTP operation is done, or its channel has ended in the middle of it.
    Sftp(SftpEvent<'a>),
    /// A channel has ended, or was asked for and the other side did not agree; nothing else comes with its number.
    Close {
        /// How what ran in it ended, where the upstream said so.
        exit: Option<Exit<'a>>,
        /// Bytes that the client wrote into it.
        from_client: u64,
        /// Bytes that the upstream wrote into it.
        from_upstream: u64,
    },
}

impl SshAction<'_> {
    /// Whether it starts what runs in a channel: at most one of these succeeds in each (RFC 4254 §6.5).
    pub(crate) fn starts(&self) -> bool {
        matches!(self, Self::Shell | Self::Exec { .. } | Self::Subsystem { .. })
    }
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind<'a> {
    /// A shell, command or subsystem.
    Session,
    /// A connection from the client's side to an address that the upstream reaches (`ssh -L`, `-D`, `-W`).
    DirectTcpip(TcpForward<'a>),
    /// The same, to a socket file of the upstream's.
    DirectStreamlocal {
        /// The file.
        path: &'a [u8],
    },
    /// A connection that came in where the upstream listens for the client (`ssh -R`). By the upstream.
    ForwardedTcpip(TcpForward<'a>),
    /// The same, at a socket file of the upstream's. By the upstream.
    ForwardedStreamlocal {
        /// The file.
        path: &'a [u8],
    },
    /// A question to the client's agent. By the upstream, as all that follows.
    Agent,
    /// A window on the client's display.
    X11,
    /// Something that is not known here, and is refused.
    Unknown {
        /// Its name.
        name: &'a [u8],
    },
    /// Something that is not for an upstream to open, by the upstream: it is refused.
    Uninvited {
        /// Its name.
        name: &'a [u8],
    },
}

/// Both ends of a forwarded TCP connection. For [`ChannelKind::ForwardedTcpip`] `host` and `port` are where the
/// upstream listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpForward<'a> {
    /// Where it goes: name or address.
    pub host: &'a [u8],
    /// Its port.
    pub port: u32,
    /// Where it comes from, as whoever opens it says.
    pub origin_host: &'a [u8],
    /// Its port.
    pub origin_port: u32,
}

/// Where the upstream listens for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener<'a> {
    /// A TCP port.
    Tcp {
        /// The address; empty for all.
        host: &'a [u8],
        /// The port; 0 lets the upstream choose.
        port: u32,
    },
    /// A socket file.
    Unix {
        /// The file.
        path: &'a [u8],
    },
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u32,
    /// Lines.
    pub rows: u32,
}

/// How what ran in a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// By itself.
    Status(u32),
    /// By a signal.
    Signal {
        /// Its name without SIG.
        name: &'a [u8],
    },
}

/// One operation on a file. A file that is read or written is told when it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SftpEvent<'a> {
    /// What was done.
    pub operation: SftpOperation,
    /// The file, as the client named it; empty where `unknown_handle` stands for it.
    pub path: &'a [u8],
    /// The other name, of a rename or a link; of [`SftpOperation::Copy`], the file that is written.
    pub target: Option<&'a [u8]>,
    /// The handle that the client named, where it has none such: nobody has seen which file that is.
    pub unknown_handle: Option<&'a [u8]>,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
    /// What an open file is for (`SSH_FXF_*`, draft-ietf-secsh-filexfer-02 §6.3): 1 read, 2 write, 4 append, 8 create,
    /// 16 truncate, 32 only where there is none.
    pub flags: Option<u32>,
    /// What a file is to have: of one that is set, created or opened.
    pub attributes: SftpAttributes,
    /// What came of it.
    pub outcome: SftpOutcome,
}

/// What a client wants a file to have (draft-ietf-secsh-filexfer-02 §5): what it does not name stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SftpAttributes {
    /// Bytes: more or less than there are cuts or fills it.
    pub size: Option<u64>,
    /// User and group, by their numbers.
    pub owner: Option<(u32, u32)>,
    /// Permissions, and the set-id bits.
    pub permissions: Option<u32>,
    /// Last access and last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// What SFTP can do to a file (draft-ietf-secsh-filexfer-02, and OpenSSH's extensions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SftpOperation {
    /// Open it, read or write, close it.
    File,
    /// List a directory.
    List,
    /// Change owner, times, permissions or size.
    SetAttributes,
    /// Delete a file.
    Remove,
    /// Make a directory.
    MakeDirectory,
    /// Delete a directory.
    RemoveDirectory,
    /// Rename.
    Rename,
    /// Make a symbolic link to `target`.
    Symlink,
    /// Make another name, `target`, for it.
    Hardlink,
    /// Copy data from one open file to another, on the upstream.
    Copy,
    /// An extension that is not known here.
    Extended,
}

/// What came of an SFTP operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SftpOutcome {
    /// It was done.
    Done,
    /// It was not: `SSH_FX_*`.
    Failed {
        /// 2 no such file, 3 permission denied, 4 failure, …
        code: u32,
    },
    /// The channel ended before the answer, or the file was never closed.
    Unfinished,
}

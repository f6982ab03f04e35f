//! What a client may read when it is turned away, in words that no protocol owns.
//!
//! A [`Refusal`] is written by the sidecar, in one place; each protocol only translates it (PostgreSQL:
//! SQLSTATE, message and hint). It never carries an inner error's text.

/// Why a client is turned away. A protocol maps each code to its own (SQLSTATE, MySQL error number, SSH
/// reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// No certificate, or one that proves nothing.
    NotAuthenticated,
    /// Known, but not allowed to do this.
    AccessDenied,
    /// Allowed, once the security key was touched for this very session.
    MfaRequired,
    /// The client tried to speak without TLS.
    TlsRequired,
    /// The client broke the protocol.
    ProtocolViolation,
    /// Too many sessions, here or for this user.
    TooManyConnections,
    /// The upstream cannot be reached, or is not what it should be.
    UpstreamUnavailable,
    /// The upstream was reached and said no.
    UpstreamRejected,
    /// The permit of a live session ended.
    SessionExpired,
    /// A live session was idle for too long.
    IdleTimeout,
    /// The sidecar is stopping.
    Shutdown,
    /// A feature that is not offered here.
    Unsupported,
    /// Our own failure.
    Internal,
}

/// A five-character SQLSTATE (SQL:2016 Part 2 §23.1), which PostgreSQL and MySQL share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The state, if it is five of `0-9A-Z`.
    #[must_use]
    pub fn parse(state: &[u8]) -> Option<Self> {
        let state: [u8; 5] = state.try_into().ok()?;
        state.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()).then_some(Self(state))
    }

    /// The state as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    pub(crate) const fn known(state: &[u8; 5]) -> Self {
        Self(*state)
    }
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The only thing that a client is told when it is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for machines.
    pub code: RefusalCode,
    /// Why, for people: one line.
    pub message: String,
    /// What to do next: `run: tsh db connect prod`.
    pub hint: Option<String>,
    /// The upstream's own SQLSTATE in place of the code's, where the client may know it
    /// (`3D000`: that database does not exist).
    pub sql_state: Option<SqlState>,
    /// MySQL's error number in place of the code's, where the client may know it (1049: unknown database).
    pub number: Option<u16>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, sql_state: None, number: None }
    }

    /// The same, saying what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with the upstream's own SQLSTATE.
    #[must_use]
    pub fn with_sql_state(mut self, state: SqlState) -> Self {
        self.sql_state = Some(state);
        self
    }

    /// The same, with MySQL's own error number.
    #[must_use]
    pub fn with_number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }
}

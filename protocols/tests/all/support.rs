//! Certificates, a hand-driven client, a scripted upstream and a tap that remembers.

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod mariadb;
pub(crate) mod mysql;
pub(crate) mod mysql9;
pub(crate) mod postgresql;
pub(crate) mod upstream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocols::postgres::{Postgres, PostgresClient, PostgresUpstream};
use protocols::{
    Accepted, Answer, Answers, Client, Endpoint, Event, Ledger, Limits, Login, MysqlEvent, Protocol, Refusal,
    RelayError, Tap, TapClosed, Transferred, Value, Verdict,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) use certificates::Authority;
pub(crate) use client::{RawClient, message};
pub(crate) use upstream::scripted;

/// Deadlines that tests can wait for.
pub(crate) fn limits() -> Limits {
    Limits {
        handshake: Duration::from_secs(10),
        dial: Duration::from_secs(10),
        close: Duration::from_secs(2),
        cancellable_sessions: 100,
    }
}

/// What a session came to.
pub(crate) type Session = JoinHandle<Result<Transferred, RelayError>>;

/// A sidecar without policy: accepts, dials, relays.
pub(crate) struct Sidecar {
    pub(crate) authority: Authority,
    pub(crate) postgres: Arc<Postgres>,
    listener: TcpListener,
}

impl Sidecar {
    pub(crate) async fn start() -> Self {
        Self::with_limits(limits()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        let authority = Authority::new();
        let postgres = Arc::new(Postgres::new(authority.server_config(), limits));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { authority, postgres, listener }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port())).await.unwrap()
    }

    /// The next connection, as it came.
    pub(crate) async fn socket(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// The next connection, which asks to log in.
    pub(crate) async fn accept(&self) -> Accepted<PostgresClient> {
        self.postgres.accept(self.socket().await).await.unwrap().unwrap()
    }

    /// A client and its session, just logged in.
    pub(crate) async fn session(
        &self,
        upstream: impl Future<Output = PostgresUpstream>,
        tap: impl Tap + 'static,
        ended: impl Future<Output = Refusal> + Send + 'static,
    ) -> (RawClient, Session) {
        let config = self.authority.client_config(&[]);
        let client = async { RawClient::log_in(self.connect().await, config, 0).await };
        let (client, accepted) = tokio::join!(client, self.accept());
        let upstream = upstream.await;
        let session = tokio::spawn(accepted.client.relay(upstream, tap, ended));
        (client, session)
    }

    pub(crate) async fn dial(&self, endpoint: &Endpoint) -> PostgresUpstream {
        self.postgres.dial(endpoint, &login()).await.unwrap()
    }
}

pub(crate) fn login() -> Login {
    Login {
        user: "alice".into(),
        database: Some("prod".into()),
        replication: Default::default(),
        carried: Default::default(),
    }
}

/// A permit that never ends.
pub(crate) fn never() -> impl Future<Output = Refusal> + Send + 'static {
    std::future::pending()
}

/// Remembers what it saw, as text; ends the session at a query that says `forbidden`.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    seen: Arc<Mutex<Vec<String>>>,
    heard: Arc<Mutex<Vec<String>>>,
    /// Of one session; a statement's note is its number.
    ledger: Arc<Mutex<Ledger<usize>>>,
    statements: Arc<AtomicUsize>,
    paired: Arc<Mutex<Vec<(usize, String)>>>,
    stray: Arc<AtomicUsize>,
}

impl Memory {
    /// What the client asked.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Begins anew.
    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// What the upstream answered.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Memory {
    /// How many answers belonged to no statement, and how many rounds were over with something still to be
    /// answered. Clients that do not pipeline leave none.
    pub(crate) fn stray(&self) -> usize {
        self.stray.load(Ordering::Relaxed)
    }

    /// Which statement each answer was about.
    pub(crate) fn paired(&self) -> Vec<(usize, String)> {
        self.paired.lock().unwrap().clone()
    }

    /// Whether the upstream has something to do in the session that began last.
    pub(crate) fn is_busy(&self) -> bool {
        self.ledger.lock().unwrap().is_busy()
    }

    fn pair(&self, answer: &Answer<'_>, text: &str) {
        let mut ledger = self.ledger.lock().unwrap();
        let note = ledger.answered(answer).copied();
        self.paired.lock().unwrap().extend(note.map(|number| (number, text.to_owned())));
        let found = note.is_some();
        let stray = match answer {
            Answer::Ready { .. } => ledger.is_busy(),
            // Of a message that only prepares; of none.
            Answer::Failed { .. } | Answer::Stepped | Answer::Encoding { .. } => false,
            _ => !found,
        };
        self.stray.fetch_add(usize::from(stray), Ordering::Relaxed);
    }
}

impl Answers for Memory {
    fn answered(&mut self, answer: Answer<'_>) {
        let text = match answer {
            Answer::Completed { tag } => tag.escape_ascii().to_string(),
            Answer::Failed { sql_state: Some(state), .. } => state.to_string(),
            Answer::Ready { .. } => "Ready".to_owned(),
            other => format!("{other:?}"),
        };
        self.pair(&answer, &text);
        self.heard.lock().unwrap().push(text);
    }
}

/// A value of MySQL's, as text.
fn describe(value: &Value<'_>) -> String {
    match value {
        Value::Text { bytes, .. } | Value::Bytes { bytes, .. } => bytes.escape_ascii().to_string(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

impl Tap for Memory {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        self.ledger.lock().unwrap().asked(&event, || self.statements.fetch_add(1, Ordering::Relaxed));
        let text = match event {
            Event::Query { text, cut } => format!("Q {} +{cut}", text.escape_ascii()),
            Event::Mysql(MysqlEvent::Prepare { text, cut }) => format!("P {} +{cut}", text.escape_ascii()),
            Event::Mysql(MysqlEvent::Execute { values, .. } | MysqlEvent::BulkExecute { values, .. }) => {
                format!("E {}", values.iter().map(|value| describe(&value)).collect::<Vec<_>>().join(" "))
            }
            other => format!("{other:?}"),
        };
        let forbidden = text.contains("forbidden");
        self.seen.lock().unwrap().push(text);
        if forbidden {
            let refusal = Refusal::new(protocols::RefusalCode::AccessDenied, "not this one");
            return Ok(Verdict::End(refusal));
        }
        Ok(Verdict::Forward)
    }

    fn answers(&mut self) -> Option<Box<dyn Answers>> {
        self.ledger = Arc::default();
        Some(Box::new(self.clone()))
    }
}

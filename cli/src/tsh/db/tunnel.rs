//! Tunnels of `tsh db connect` and `tsh proxy db`: what a local connection leads to.

use std::{future::Future, pin::Pin, sync::Arc};

use auth::{clock::Clock, proto::Route};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    connect::Connection,
    database::DatabaseProtocol,
    session::{self, Credential},
    tsh::context::Context,
    tunnel::{Renewal, Upstream, dial, dial_plain},
};

type Asking = Pin<Box<dyn Future<Output = anyhow::Result<Arc<Credential>>> + Send>>;

/// Leads to the sidecar with a session certificate; asks again when it has expired.
pub(in crate::tsh) struct Sessions {
    protocol: DatabaseProtocol,
    renewal: Renewal<Box<dyn Fn() -> Asking + Send + Sync>>,
}

impl Sessions {
    /// Asks for the first certificate now, so that a prompt comes at the start.
    pub(in crate::tsh) async fn open(
        context: &Context,
        connection: Connection,
        protocol: DatabaseProtocol,
        route: Route,
    ) -> anyhow::Result<Self> {
        let first = open(context, &connection, &route).await?;
        let asked = Arc::new((context.of(&connection.login.profile), route));
        let ask: Box<dyn Fn() -> Asking + Send + Sync> =
            Box::new(move || Box::pin(open_again(Arc::clone(&asked))));
        Ok(Self { protocol, renewal: Renewal::new(first, Clock::system(), ask) })
    }
}

async fn open(context: &Context, connection: &Connection, route: &Route) -> anyhow::Result<Arc<Credential>> {
    let prompter = context.prompter(&connection.login.profile.proxy, &connection.channel);
    session::open(connection, &prompter, route).await
}

/// With the login that the same person has now: that of the beginning may have expired and been renewed in another
/// terminal, and who logged out there is not logged in here either.
async fn open_again(asked: Arc<(Context, Route)>) -> anyhow::Result<Arc<Credential>> {
    let (context, route) = &*asked;
    open(context, &context.connect().await?, route).await
}

impl Upstream for Sessions {
    type Stream = TlsStream<TcpStream>;
    const GIVES_ACCESS: bool = true;

    async fn connect(&self) -> anyhow::Result<Self::Stream> {
        Ok(dial(&*self.renewal.current().await?).await?)
    }

    async fn connect_without_asking(&self) -> Option<Self::Stream> {
        dial(&*self.renewal.in_date()?).await.ok()
    }

    fn protocol(&self) -> DatabaseProtocol {
        self.protocol
    }
}

/// Leads to the sidecar as it is: the client brings its own TLS and certificate.
pub(in crate::tsh) struct PassThrough {
    /// HOST:PORT of the sidecar.
    pub(in crate::tsh) address: String,
    /// What it speaks.
    pub(in crate::tsh) protocol: DatabaseProtocol,
}

impl Upstream for PassThrough {
    type Stream = TcpStream;
    const GIVES_ACCESS: bool = false;

    async fn connect(&self) -> anyhow::Result<Self::Stream> {
        Ok(dial_plain(&self.address).await?)
    }

    async fn connect_without_asking(&self) -> Option<Self::Stream> {
        dial_plain(&self.address).await.ok()
    }

    fn protocol(&self) -> DatabaseProtocol {
        self.protocol
    }
}

//! The API on the wire: which call takes which caller, and who does the work.

mod admin;
pub(crate) mod caller;
mod public;
mod sidecars;
mod users;

use std::sync::Arc;

use auth::proto::{
    admin_server::AdminServer, public_server::PublicServer, sidecars_server::SidecarsServer,
    users_server::UsersServer,
};
use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::cluster::Cluster;

/// The longest request, in bytes.
pub(crate) const MAX_REQUEST: usize = 1024 * 1024;

/// Serves all four services.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) shutdown: CancellationToken,
}

impl Api {
    /// What the TLS port serves.
    pub(crate) fn router(&self) -> Router {
        Routes::new(PublicServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(UsersServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(SidecarsServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .add_service(AdminServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .into_axum_router()
            // Two fallbacks cannot be merged; what is no call of ours is a page that does not exist.
            .reset_fallback()
            .merge(crate::web::routes(Arc::clone(&self.cluster)))
    }

    /// What the Unix socket serves.
    pub(crate) fn admin_router(&self) -> Router {
        Routes::new(AdminServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST)).into_axum_router()
    }
}

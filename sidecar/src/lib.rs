//! In which order: the sidecar.
mod admission;
pub mod audit;
mod backoff;
mod chain;
pub mod config;
pub mod health;
pub mod metrics;
pub mod tls;

//! `tsh db …`.

pub(super) mod config;
pub(super) mod connect;
pub(super) mod environment;
pub(super) mod list;
pub(super) mod login;
pub(super) mod logout;
mod my_cnf;
mod mysql_options;
mod option_file;
mod pg_service;
pub(super) mod saved;
pub(super) mod target;
pub(super) mod tunnel;

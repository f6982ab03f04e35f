//! What a MySQL client needs to know of a database of `tsh db login`, in its own words.

use super::{
    my_cnf::Groups,
    saved::{Saved, SavedFiles},
};
use crate::client::mysql::Flavour;

/// Options for every MySQL program, by name. The sidecar's certificate is verified with its name; a client of the other
/// flavour does not know the option that says so, and stops instead of going on without.
pub(super) fn client(saved: &Saved, files: &SavedFiles, flavour: Flavour) -> Vec<(&'static str, String)> {
    let path = |path: &std::path::Path| path.display().to_string();
    let verify = match flavour {
        Flavour::Mariadb => ("ssl-verify-server-cert", "1"),
        Flavour::Mysql => ("ssl-mode", "VERIFY_IDENTITY"),
    };
    vec![
        ("host", saved.host.clone()),
        ("port", saved.port.to_string()),
        // `localhost` alone would mean a Unix socket.
        ("protocol", "TCP".to_owned()),
        ("user", saved.user.clone()),
        ("ssl-ca", path(&files.authorities)),
        ("ssl-cert", path(&files.certificate)),
        ("ssl-key", path(&files.key)),
        (verify.0, verify.1.to_owned()),
    ]
}

/// Options for the interactive client alone.
pub(super) fn interactive(saved: &Saved) -> Vec<(&'static str, String)> {
    match saved.database.as_str() {
        "" => vec![],
        database => vec![("database", database.to_owned())],
    }
}

/// The same as groups of an option file.
pub(super) fn groups(saved: &Saved, files: &SavedFiles, suffix: String, flavour: Flavour) -> Groups {
    Groups { suffix, client: client(saved, files, flavour), mysql: interactive(saved) }
}

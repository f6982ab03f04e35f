//! `tsh db env`: the clients' environment variables for a database of `tsh db login`.

use super::saved::Saved;
use crate::{database::DatabaseProtocol, output::print_text, profile::Profile, tsh::context::Context};

pub(in crate::tsh) fn run(context: &Context, name: Option<&str>) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let profile = Profile::load(&context.home, &context.selection)?;
    let saved = Saved::chosen(&context.home, &profile, name)?;
    let text = match saved.protocol {
        DatabaseProtocol::Postgres => exports(&saved.settings(&saved.files(&context.home, &profile)))?,
        DatabaseProtocol::Mysql => group_suffix(&saved.service(&profile))?,
    };
    Ok(print_text(&text)?)
}

/// Names the groups of `~/.my.cnf` that `tsh db login` wrote.
fn group_suffix(service: &str) -> anyhow::Result<String> {
    Ok(format!("export MYSQL_GROUP_SUFFIX={}", shlex::try_quote(&format!("_{service}"))?))
}

fn exports(settings: &[(&str, String)]) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for (name, value) in settings {
        let name = if *name == "dbname" { "DATABASE".to_owned() } else { name.to_uppercase() };
        lines.push(format!("export PG{name}={}", shlex::try_quote(value)?));
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_are_libpqs() {
        let settings = [
            ("host", "localhost"),
            ("port", "5432"),
            ("user", "alice"),
            ("dbname", "shop"),
            ("sslmode", "verify-full"),
            ("sslrootcert", "/h/cas/main.pem"),
            ("sslcert", "/h/pg-x509.pem"),
            ("sslkey", "/h/pg-x509.key"),
        ];
        let settings: Vec<_> = settings.map(|(name, value)| (name, value.to_owned())).into();
        let expected = "\
export PGHOST=localhost
export PGPORT=5432
export PGUSER=alice
export PGDATABASE=shop
export PGSSLMODE=verify-full
export PGSSLROOTCERT=/h/cas/main.pem
export PGSSLCERT=/h/pg-x509.pem
export PGSSLKEY=/h/pg-x509.key";
        assert_eq!(exports(&settings).unwrap(), expected);
    }

    #[test]
    fn mysql_clients_are_pointed_to_their_group() {
        assert_eq!(group_suffix("main-prod").unwrap(), "export MYSQL_GROUP_SUFFIX=_main-prod");
    }

    #[test]
    fn a_value_cannot_run_in_the_shell() {
        let text = exports(&[("user", "a;$(rm -rf /)`x` '".to_owned())]).unwrap();
        let words = shlex::split(&text).unwrap();
        assert_eq!(words, ["export", "PGUSER=a;$(rm -rf /)`x` '"]);
    }
}

//! `tsh db env`: libpq's environment variables for a database of `tsh db login`.

use super::saved::Saved;
use crate::{output::print_text, profile::Profile, tsh::context::Context};

pub(in crate::tsh) fn run(context: &Context, name: Option<&str>) -> anyhow::Result<()> {
    let profile = Profile::load(&context.home, &context.selection)?;
    let saved = Saved::chosen(&context.home, &profile, name)?;
    Ok(print_text(&exports(&saved.settings(&saved.files(&context.home, &profile)))?)?)
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
    fn a_value_cannot_run_in_the_shell() {
        let text = exports(&[("user", "a;$(rm -rf /)`x` '".to_owned())]).unwrap();
        let words = shlex::split(&text).unwrap();
        assert_eq!(words, ["export", "PGUSER=a;$(rm -rf /)`x` '"]);
    }
}

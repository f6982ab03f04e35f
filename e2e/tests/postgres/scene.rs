//! A sidecar that is started after the roles were changed: it knows them before it lets anybody in, so nobody has to wait
//! until a change has arrived.

use anyhow::{Context, Result};
use e2e::{ACCESS_DEV, Psql, Sidecar, SidecarOptions, Tsh, World, guard};
use tokio::sync::mpsc;
use tokio_postgres::{Client, Config, config::SslMode};

use crate::rust::{Rustls, listen};

/// Jerry and Olga's world, and in it one more sidecar in front of the database, with `env: dev`.
pub(crate) struct Scene {
    /// Stopped first.
    pub(crate) sidecar: Sidecar,
    pub(crate) world: World,
}

/// The role for development with these options, in YAML, one a line.
pub(crate) fn development(options: &[&str]) -> String {
    with_options(ACCESS_DEV, options)
}

/// A role that has no options yet, with these.
pub(crate) fn with_options(role: &str, options: &[&str]) -> String {
    let options: String = options.iter().map(|option| format!("    {option}\n")).collect();
    role.replacen("spec:\n", &format!("spec:\n  options:\n{options}"), 1)
}

impl Scene {
    /// With these roles in place of those of the same names.
    pub(crate) fn new(roles: &[String]) -> Result<Self> {
        Self::guarded(roles, |options| options)
    }

    /// The same with another kind of sidecar.
    pub(crate) fn guarded(
        roles: &[String],
        options: impl FnOnce(SidecarOptions) -> SidecarOptions,
    ) -> Result<Self> {
        let world = World::jerry_and_olga()?;
        for role in roles {
            world.tctl.create(role)?;
        }
        let options = options(guard("late-pg", "env=dev", &world.postgres));
        let sidecar = Sidecar::start(&world.path().join("late-pg"), &world.authd, &world.tctl, options)?;
        Ok(Self { sidecar, world })
    }

    /// psql with Jerry's login.
    pub(crate) fn psql(&self) -> Result<Psql> {
        self.world.psql_with_login(&self.sidecar)
    }

    /// Olga, who may do in development what Jerry may, and is logged in.
    pub(crate) fn olga(&self) -> Result<Tsh> {
        let olga = self.world.person("olga")?;
        olga.register(&self.world.invite("olga", "access-dev")?)?;
        olga.login(&self.world.authd.public_addr())?;
        Ok(olga)
    }
}

/// tokio-postgres in place of psql: it tells SQLSTATEs, also of what happens at the door.
pub(crate) async fn connect(psql: &Psql) -> Result<(Client, mpsc::UnboundedReceiver<String>)> {
    let mut config = Config::new();
    config.host(&word(psql, "host")?).port(word(psql, "port")?.parse()?);
    config.user(word(psql, "user")?).dbname(word(psql, "dbname")?).ssl_mode(SslMode::Require);
    let (client, connection) = config.connect(tls(psql)?).await?;
    Ok((client, listen(connection)))
}

/// The TLS that psql would use.
pub(crate) fn tls(psql: &Psql) -> Result<Rustls> {
    Rustls::new(&word(psql, "sslrootcert")?, &word(psql, "sslcert")?, &word(psql, "sslkey")?)
}

fn word(psql: &Psql, name: &str) -> Result<String> {
    let connection = psql.connection();
    let value = connection.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(value.with_context(|| format!("no {name} in {connection}"))?.to_owned())
}

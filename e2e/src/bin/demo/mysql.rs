//! The page's own example: `prod-mysql-instance`, here a real MariaDB.

use std::path::Path;

use anyhow::{Result, ensure};
use e2e::{Mariadb, MariadbClient, Sidecar, Terminal, guard};

use crate::{Stage, Story};

/// As it is called on the page.
pub(crate) const TARGET: &str = "prod-mysql-instance";

/// What the second half of the story needs, in the order in which it is stopped.
pub(crate) struct MysqlStage {
    prod: Sidecar,
    _mariadb: Mariadb,
}

impl Story {
    /// Olga: a database, and a sidecar.
    pub(crate) fn mysql_set_up(&self, stage: &Stage) -> Result<MysqlStage> {
        self.heading("The same for MySQL: Olga puts a sidecar in front of a MariaDB")?;
        let mariadb = Mariadb::start(&self.dir.join("mariadb"), &stage.tctl)?;
        self.background(mariadb.command());
        let options = guard(TARGET, "env=prod", &mariadb);
        let prod = Sidecar::start(&self.dir.join(TARGET), &stage.authd, &stage.tctl, options)?;
        self.background(prod.command());
        let said = self.tctl(&stage.tctl, &["db", "ls"])?;
        ensure!(said.contains(TARGET), "{said}");
        Ok(MysqlStage { prod, _mariadb: mariadb })
    }

    pub(crate) fn mysql_production(&self, stage: &Stage) -> Result<()> {
        self.heading("Jerry connects to prod-mysql-instance, and is asked to tap his security key")?;
        let mut mysql = self.at_terminal(&stage.jerry, &["db", "connect", TARGET])?;
        mysql.expect("Tap any security key")?;
        ask(mysql)
    }

    pub(crate) fn mysql_stolen_login(&self, mysql: &MysqlStage) -> Result<()> {
        self.heading("The certificate from Jerry's disk is refused here too")?;
        let thief = MariadbClient::to(&mysql.prod.public_addr(), Path::new("host-authorities.pem"))
            .certificate(Path::new("thief/jerry-x509.pem"), Path::new("thief/jerry-x509.key"));
        let refused = self.refused(thief.query_command("SELECT * FROM orders")?)?;
        ensure!(refused.contains("access to resource requires MFA"), "{refused}");
        ensure!(refused.contains("run: tsh db connect prod-mysql-instance"), "{refused}");
        Ok(())
    }
}

/// Asks a real question at the prompt, checks the answer, leaves.
fn ask(mut mysql: Terminal) -> Result<()> {
    mysql.expect("connection id is")?;
    mysql.expect("[(none)]> ")?;
    mysql.send("SELECT CURRENT_USER(), COUNT(*) AS orders FROM app.orders;")?;
    mysql.expect("jerry@%")?;
    mysql.expect("3 |")?;
    mysql.expect("[(none)]> ")?;
    mysql.send("\\q")?;
    mysql.succeed()?;
    Ok(())
}

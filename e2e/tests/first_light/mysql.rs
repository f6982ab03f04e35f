//! Jerry and Olga's story on a real MariaDB.

use anyhow::{Result, ensure};
use e2e::{Authd, Mariadb, MariadbClient, Tctl, directory};

#[test]
fn the_database_itself_knows_its_users_by_their_certificates() -> Result<()> {
    let dir = directory()?;
    let authd = Authd::start(&dir.path().join("authd"))?;
    let tctl = Tctl::new(authd.data_dir());
    let mariadb = Mariadb::start(&dir.path().join("mariadb"), &tctl)?;
    assert_eq!(mariadb.client().query("SELECT CURRENT_USER()")?.output()?, "jerry@localhost\n");

    // From anywhere else it knows nobody without a certificate.
    let authorities = dir.path().join("db-authorities.pem");
    std::fs::write(&authorities, tctl.export("db")?)?;
    let error = MariadbClient::to(&mariadb.address(), &authorities).query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 1045 (28000): Access denied for user 'jerry'@'127.0.0.1'"), "{error}");
    Ok(())
}

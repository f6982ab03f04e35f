//! mysql_async: prepared statements, and commands that only a driver sends.

use anyhow::{Context, Result, ensure};
use e2e::Way;
use mysql_async::{
    ClientIdentity, Conn, Opts, OptsBuilder, Params, SslOpts, Value,
    prelude::{BatchQuery, Query, Queryable, WithParams},
};
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage};

#[test]
fn mysql_async_sees_no_difference() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stage = Stage::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for compression in [false, true] {
        let transcript = stage.alike(|way| {
            runtime.block_on(async { timeout(PATIENCE, play(&stage, way, compression)).await? })
        })?;
        ensure!(transcript.contains("1317") && transcript.contains("long 20971520"), "{transcript}");
    }
    Ok(())
}

async fn connect(stage: &Stage, way: Way, compression: bool) -> Result<Conn> {
    let client = stage.mariadb(way)?;
    let option = |name: &str| client.option(name);
    let mut options = OptsBuilder::default()
        .user(option("user"))
        .db_name(option("database"))
        .prefer_socket(false)
        .max_allowed_packet(Some(64 * 1024 * 1024));
    if compression {
        options = options.compression(Some(mysql_async::Compression::fast()));
    }
    options = match option("socket") {
        Some(socket) => options.socket(Some(socket)),
        None => options
            .ip_or_hostname(option("host").context("host")?)
            .tcp_port(option("port").context("port")?.parse()?),
    };
    if let (Some(certificate), Some(key), Some(authorities)) =
        (option("ssl-cert"), option("ssl-key"), option("ssl-ca"))
    {
        let (certificate, key) = (std::path::PathBuf::from(certificate), std::path::PathBuf::from(key));
        let identity = ClientIdentity::new(certificate.into(), key.into());
        let authorities = vec![std::path::PathBuf::from(authorities).into()];
        let tls = SslOpts::default().with_root_certs(authorities).with_client_identity(Some(identity));
        options = options.ssl_opts(tls);
    }
    Ok(Conn::new(Opts::from(options)).await?)
}

async fn play(stage: &Stage, way: Way, compression: bool) -> Result<String> {
    let mut db = connect(stage, way, compression).await?;
    let mut said = Vec::new();
    let values = Params::Positional(vec![
        Value::Int(-3),
        Value::Double(1.5),
        Value::Bytes(b"zw\xc3\xb6lf".to_vec()),
        Value::NULL,
        Value::Date(2026, 1, 2, 3, 4, 5, 6),
    ]);
    let row: mysql_async::Row =
        db.exec_first("SELECT ?, ?, ?, ?, CAST(? AS DATETIME(6))", values).await?.context("a row")?;
    said.push(format!("values {:?}", row.unwrap()));
    // Longer than a packet: the driver sends it in parts (COM_STMT_SEND_LONG_DATA).
    let long = vec![b'l'; 20 * 1024 * 1024];
    let length: Option<(u64, String)> = db.exec_first("SELECT LENGTH(?), MD5('l')", (long,)).await?;
    let (length, digest) = length.context("a row")?;
    said.push(format!("long {length} {digest}"));
    let batch: Vec<(u32,)> = (0..200).map(|number| (number,)).collect();
    "DO SLEEP(0) + ?".with(batch).batch(&mut db).await?;
    for statement in ["SELECT nonsense", "SELECT ? FROM"] {
        let error = db.prep(statement).await.err().context("nothing was refused")?;
        said.push(format!("{error}"));
    }

    let mut results =
        "SELECT 1; SELECT 'two', 2; DO 1; CALL three_results(7); SELECT 'last'".run(&mut db).await?;
    while !results.is_empty() {
        let rows: Vec<mysql_async::Row> = results.collect().await?;
        said.push(format!("result {:?}", rows.into_iter().map(mysql_async::Row::unwrap).collect::<Vec<_>>()));
    }
    drop(results);

    db.query_drop("SET @left = 1").await?;
    ensure!(db.reset().await?, "no reset");
    said.push(format!("reset {:?}", db.query_first::<Value, _>("SELECT @left").await?));
    db.ping().await?;
    if way != Way::Plain {
        let other = mysql_async::ChangeUserOpts::default().with_user(Some("olga".into()));
        let error = db.change_user(other).await.err().context("another user was let in")?.to_string();
        ensure!(error.contains("a session is for one database user"), "{error}");
        let here: Option<String> = db.query_first("SELECT 'the same session'").await?;
        ensure!(here.as_deref() == Some("the same session"), "{here:?}");
    }
    said.push(killed(stage, way, &mut db).await?);
    db.disconnect().await?;
    Ok(said.join("\n"))
}

async fn killed(stage: &Stage, way: Way, db: &mut Conn) -> Result<String> {
    let mut other = connect(stage, way, false).await?;
    let number = db.id();
    let kill = async {
        let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
        while other.query_first::<u64, _>(running).await? != Some(1) {}
        other.query_drop(format!("KILL QUERY {number}")).await?;
        other.disconnect().await?;
        Ok::<_, anyhow::Error>(())
    };
    let (slept, kill) = tokio::join!(db.query_drop("SELECT SLEEP(30)"), kill);
    kill?;
    Ok(slept.err().context("it slept on")?.to_string())
}

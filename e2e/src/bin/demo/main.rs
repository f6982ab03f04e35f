//! `make demo`: Jerry and Olga's story on a real PostgreSQL, a real MariaDB and a real sshd, as a transcript.
//!
//! What stands after a `$` is what was run, what follows is what the program said. Each step checks what it shows; the
//! exit status is 0 only if all of them did what they say. With `KEEP=1` everything stays up until Ctrl-C.

use std::{
    env,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    ACCESS_DEV, ACCESS_PROD, Authd, PASSWORD, Postgres, Psql, Sidecar, Tctl, Terminal, Tsh, command_line,
    directory, guard, run,
};
use serde_json::Value;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

mod mysql;
mod ssh;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Width of a heading.
const WIDTH: usize = 96;

fn main() -> ExitCode {
    let result = directory().and_then(|dir| {
        let kept = dir.path().to_owned();
        let outcome = watch_over(&kept);
        dir.close().with_context(|| format!("remove {}", kept.display()))?;
        outcome
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the story in a thread of its own, and ends it early on Ctrl-C. Every child dies with that thread.
fn watch_over(dir: &Path) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = mpsc::channel();
    let (ended, mut end) = oneshot::channel();
    let story = Story::new(dir, Arc::clone(&interrupted), stopped);
    let player = thread::spawn(move || {
        // The other side is there until this has arrived.
        let _ = ended.send(story.play());
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = &mut end => return outcome.context("the story broke off")?,
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        interrupted.store(true, Ordering::Relaxed);
        drop(stop);
        // Well, if it was only kept running; else it was interrupted before every step was shown.
        end.await.context("the story broke off")?.context("interrupted")
    });
    let _ = player.join();
    outcome
}

/// What the story needs to go on, or to stop.
pub(crate) struct Story {
    dir: PathBuf,
    interrupted: Arc<AtomicBool>,
    /// Closed by Ctrl-C.
    stopped: Receiver<()>,
    bold: bool,
}

/// Everything that runs, in the order in which it is stopped.
pub(crate) struct Stage {
    dev: Sidecar,
    prod: Sidecar,
    _postgres: Postgres,
    authd: Authd,
    tctl: Tctl,
    jerry: Tsh,
}

impl Story {
    fn new(dir: &Path, interrupted: Arc<AtomicBool>, stopped: Receiver<()>) -> Self {
        Self { dir: dir.to_owned(), interrupted, stopped, bold: std::io::stdout().is_terminal() }
    }

    fn play(self) -> Result<()> {
        // Paths in the commands that are shown are relative to it.
        env::set_current_dir(&self.dir)?;
        let mut stage = self.set_up()?;
        self.jerry_arrives(&mut stage)?;
        self.development(&stage)?;
        self.production(&stage)?;
        self.stolen_login(&stage)?;
        self.stolen_session(&stage)?;
        let mysql = self.mysql_set_up(&stage)?;
        self.mysql_production(&stage)?;
        self.mysql_stolen_login(&mysql)?;
        let ssh = self.ssh_set_up(&stage)?;
        self.ssh_sessions(&mut stage, &ssh)?;
        self.ssh_stolen_login(&stage, &ssh)?;
        self.trail(&stage)?;
        self.heading("Every step did what it says.")?;
        if env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
            tell_how_to_go_on(&stage)?;
            // Ends with an error, when the other side hangs up.
            let _ = self.stopped.recv();
        }
        Ok(())
    }

    /// Olga: authd, roles, a database, two sidecars.
    fn set_up(&self) -> Result<Stage> {
        self.heading("Olga starts the auth service and loads two roles; production asks for a touch")?;
        let authd = Authd::start(&self.dir.join("authd"))?;
        self.background(authd.command());
        let tctl = Tctl::new(authd.data_dir());
        // The one account that the story's sshd can let in.
        let account = e2e::account()?;
        let with_account = |role: &str| match account.as_str() {
            "jerry" => role.to_owned(),
            account => role.replacen("logins:\n", &format!("logins:\n      - {account}\n"), 1),
        };
        for (name, yaml) in [
            ("cap.yaml", e2e::PREFERENCE.to_owned()),
            ("access-dev.yaml", with_account(ACCESS_DEV)),
            ("access-prod.yaml", with_account(ACCESS_PROD)),
        ] {
            std::fs::write(name, yaml)?;
        }
        self.shell("cat", &["access-prod.yaml"])?;
        let said = self.tctl(&tctl, &["create", "-f", "cap.yaml"])?;
        ensure!(said.contains("cluster auth preference has been updated"), "{said}");
        let said = self.tctl(&tctl, &["create", "access-dev.yaml"])?;
        ensure!(said.contains("role 'access-dev' has been created"), "{said}");
        let said = self.tctl(&tctl, &["create", "access-prod.yaml"])?;
        ensure!(said.contains("role 'access-prod' has been created"), "{said}");

        self.heading("She puts two sidecars in front of a PostgreSQL that trusts their certificates alone")?;
        let postgres = Postgres::start(&self.dir.join("postgres"), &tctl)?;
        self.background(postgres.command());
        let sidecar = |name: &str, labels: &str| {
            Sidecar::start(&self.dir.join(name), &authd, &tctl, guard(name, labels, &postgres))
        };
        let dev = sidecar("dev-pg", "env=dev")?;
        self.background(dev.command());
        let prod = sidecar("prod-pg", "env=prod")?;
        self.background(prod.command());
        let said = self.tctl(&tctl, &["db", "ls"])?;
        ensure!(said.contains("dev-pg") && said.contains("env=prod"), "{said}");
        let mut jerry = Tsh::new(&self.dir, "jerry")?;
        jerry.echo = true;
        Ok(Stage { dev, prod, _postgres: postgres, authd, tctl, jerry })
    }

    /// Jerry: password, security key, OTP device, login.
    fn jerry_arrives(&self, stage: &mut Stage) -> Result<()> {
        self.heading("She invites Jerry, who chooses a password and registers a security key")?;
        let said = self.tctl(&stage.tctl, &["users", "add", "--roles=access-dev,access-prod", "jerry"])?;
        let url = said.lines().find(|line| line.starts_with("https://")).context("no invitation")?.to_owned();
        self.typed(&stage.jerry, &["register", &url])?;
        stage.jerry.register(&url)?;

        self.heading("Jerry logs in for the day, and adds the OTP device in his pocket")?;
        let proxy = stage.authd.public_addr();
        self.typed(
            &stage.jerry,
            &["login", "--proxy", &proxy, "--user", "jerry", "--mfa-mode=cross-platform"],
        )?;
        let said = stage.jerry.login(&proxy)?;
        ensure!(said.contains("Logged in as:       jerry"), "{said}");
        self.typed(
            &stage.jerry,
            &["mfa", "add", "--type=TOTP", "--name", "phone", "--mfa-mode=cross-platform"],
        )?;
        stage.jerry.add_otp_device("phone")?;
        let said = self.at_terminal(&stage.jerry, &["mfa", "ls"])?.succeed()?;
        ensure!(said.contains("WebAuthn") && said.contains("TOTP"), "{said}");
        let said = self.at_terminal(&stage.jerry, &["db", "ls"])?.succeed()?;
        ensure!(said.contains("dev-pg") && said.contains("prod-pg"), "{said}");
        Ok(())
    }

    fn development(&self, stage: &Stage) -> Result<()> {
        self.heading("Development: nothing special happens")?;
        let psql = self.at_terminal(&stage.jerry, &["db", "connect", "dev-pg"])?;
        let shown = ask(psql)?;
        ensure!(!shown.contains("Tap any security key"), "development asked for a touch");
        Ok(())
    }

    fn production(&self, stage: &Stage) -> Result<()> {
        self.heading("Production: Jerry is asked to tap his security key")?;
        let mut psql = self.at_terminal(&stage.jerry, &["db", "connect", "prod-pg"])?;
        psql.expect("Tap any security key")?;
        ask(psql)?;
        Ok(())
    }

    fn stolen_login(&self, stage: &Stage) -> Result<()> {
        self.heading("A thief copies the certificate from Jerry's disk: production refuses it")?;
        let (certificate, key) = stage.jerry.login_files(&stage.authd.public_addr())?;
        std::fs::create_dir("thief")?;
        for file in [&certificate, &key] {
            self.shell("cp", &[&file.display().to_string(), "thief/"])?;
        }
        let psql = self
            .psql(stage, &stage.prod)?
            .certificate(Path::new("thief/jerry-x509.pem"), Path::new("thief/jerry-x509.key"));
        let refused = self.refused(psql.query_command("SELECT * FROM orders")?)?;
        ensure!(refused.contains("access to resource requires MFA"), "{refused}");
        ensure!(refused.contains("HINT:") && refused.contains("tsh db connect prod-pg"), "{refused}");
        Ok(())
    }

    fn stolen_session(&self, stage: &Stage) -> Result<()> {
        self.heading(
            "A better thief takes a session certificate while Jerry taps: it opens its own target only",
        )?;
        let (certificate, key) = (Path::new("jerry/stolen.crt"), Path::new("jerry/stolen.key"));
        self.step("session-thief prod-pg jerry app stolen")?;
        print!("{}", stage.jerry.steal_session("prod-pg")?);
        let psql = self.psql(stage, &stage.dev)?.certificate(certificate, key);
        let refused = self.refused(psql.query_command("SELECT * FROM orders")?)?;
        ensure!(refused.contains("the certificate is for target prod-pg, not dev-pg"), "{refused}");
        Ok(())
    }

    fn trail(&self, stage: &Stage) -> Result<()> {
        self.heading("Olga reads what happened")?;
        // A sidecar sends its events after the fact.
        let refused_by =
            |target| move |event: &Value| event["db_service"] == target && event["success"] == false;
        stage.tctl.wait_for_audit("db.session.start", refused_by("dev-pg"))?;
        stage.tctl.wait_for_audit("db.session.start", refused_by("prod-pg"))?;
        stage.tctl.wait_for_audit("db.session.start", refused_by(mysql::TARGET))?;
        let touched =
            |event: &Value| event["server_hostname"] == ssh::TARGET && event["with_mfa"].is_string();
        stage.tctl.wait_for_audit("session.start", touched)?;
        let said = self.tctl(&stage.tctl, &["audit", "ls"])?;
        for code in ["T1002I", "T1000I", "T1006I", "TDB00I", "TDB02I", "TDB01I", "TDB00W"] {
            ensure!(said.contains(code), "no event {code} in the trail");
        }
        for target in ["prod-pg", mysql::TARGET] {
            let touched = |event: &Value| event["db_service"] == target && event["with_mfa"].is_string();
            stage.tctl.wait_for_audit("db.session.start", touched)?;
        }
        Ok(())
    }

    /// psql as anybody can run it, over native TLS.
    fn psql(&self, stage: &Stage, sidecar: &Sidecar) -> Result<Psql> {
        let authorities = Path::new("host-authorities.pem");
        std::fs::write(authorities, stage.tctl.export("tls-host")?)?;
        Ok(Psql::to(&sidecar.public_addr(), authorities))
    }

    /// A client that is not let in, and what it says.
    fn refused(&self, command: Command) -> Result<String> {
        self.step(&command_line(&command))?;
        let finished = run(command, "", PATIENCE)?;
        print!("{}{}", finished.stdout, finished.stderr);
        finished.error()
    }

    fn tctl(&self, tctl: &Tctl, args: &[&str]) -> Result<String> {
        let command = tctl.command(args)?;
        self.step(&command_line(&command))?;
        let finished = run(command, "", PATIENCE)?;
        print!("{}{}", finished.stdout, finished.stderr);
        finished.output()
    }

    fn shell(&self, program: &str, args: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(args);
        self.step(&command_line(&command))?;
        print!("{}", run(command, "", PATIENCE)?.output()?);
        Ok(())
    }

    fn at_terminal(&self, tsh: &Tsh, args: &[&str]) -> Result<Terminal> {
        self.typed(tsh, args)?;
        tsh.at_terminal(args)
    }

    fn typed(&self, tsh: &Tsh, args: &[&str]) -> Result<()> {
        self.step(&command_line(&tsh.command(args)?))
    }

    /// Shows a command that runs on.
    fn background(&self, command: &str) {
        println!("$ {} &", self.shown(command));
    }

    /// Shows the command that is run next.
    fn step(&self, command: &str) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("`{command}` was not run any more");
        }
        println!("$ {}", self.shown(command));
        std::io::stdout().flush()?;
        Ok(())
    }

    /// A command with paths as seen from the world's directory, folded as a shell allows.
    fn shown(&self, command: &str) -> String {
        let mut lines = vec![String::new()];
        for word in command.replace(&format!("{}/", self.dir.display()), "").split(' ') {
            let full =
                lines.last().is_some_and(|line| line.chars().count() + word.chars().count() > WIDTH - 4);
            if full && lines.last().is_some_and(|line| !line.is_empty()) {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
        }
        lines.join(" \\\n    ")
    }

    fn heading(&self, text: &str) -> Result<()> {
        let line = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        if self.bold {
            println!("\n\x1b[1m── {text} {line}\x1b[0m\n");
        } else {
            println!("\n── {text} {line}\n");
        }
        std::io::stdout().flush()?;
        Ok(())
    }
}

/// Asks a real question at the prompt, checks the answer, leaves.
fn ask(mut psql: Terminal) -> Result<String> {
    psql.expect("app=> ")?;
    psql.send("SELECT current_user, count(*) AS orders FROM orders;")?;
    psql.expect("jerry        |      3")?;
    psql.expect("app=> ")?;
    psql.send("\\q")?;
    psql.succeed()
}

fn tell_how_to_go_on(stage: &Stage) -> Result<()> {
    let programs = env::current_exe()?.parent().context("no folder of programs")?.display().to_string();
    println!("It is all still running. In another terminal:\n");
    println!("  export PATH={programs}:$PATH");
    println!("  export TOUCHSTONE_DATA_DIR={}   # Olga: tctl", stage.authd.data_dir().display());
    for (name, value) in stage.jerry.environment() {
        if name != "HOME" {
            println!("  export {name}={}", value.display());
        }
    }
    println!("\n  tsh status");
    println!("  tsh db connect prod-pg");
    println!("  tsh --mfa-mode=otp db connect prod-pg");
    println!("  tsh proxy db --tunnel prod-pg");
    println!("  tsh db connect --db-name=app prod-mysql-instance");
    println!("  tsh ls");
    println!("  tctl access explain --user jerry --target prod-pg --db-user jerry --db-name app");
    println!("  tctl lock --user=jerry --message='Suspicious activity.' --ttl=10m");
    println!("  tctl audit ls");
    println!("\nJerry's password is: {PASSWORD}");
    println!("Ctrl-C stops everything and removes its files.");
    std::io::stdout().flush()?;
    Ok(())
}

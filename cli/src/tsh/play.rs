//! `tsh play`: a recorded session again, from the auth service or from a file.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Seek, SeekFrom, Write},
    path::Path,
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use auth::proto::{GetRecordingRequest, users_client::UsersClient};
use uuid::Uuid;

pub(super) mod arguments;
mod player;
mod screen;

use self::{
    arguments::{Play, PlayFormat},
    player::Player,
};
use super::context::Context;
use crate::{
    output::{OutputError, escaped_json, printable},
    recording::{Event, Plain, Recording},
    recordings::ListRecordings,
};

pub(super) async fn run(context: &Context, arguments: &Play) -> anyhow::Result<()> {
    let file = match Uuid::try_parse(&arguments.session) {
        Ok(session) => fetched(context, session).await?,
        Err(_) => local(&arguments.session)?,
    };
    let mut recording = Recording::open(file)?;
    match arguments.format {
        PlayFormat::Pty => {
            let player = Player::new(arguments.speed, arguments.skip_idle_time);
            tokio::task::spawn_blocking(move || player.play(&mut recording)).await?
        }
        PlayFormat::Text => text(&mut recording),
        PlayFormat::Json => each(&mut recording, json),
        PlayFormat::Yaml => each(&mut recording, yaml),
    }
}

/// `tsh recordings ls`.
pub(super) async fn list(context: &Context, list: &ListRecordings) -> anyhow::Result<()> {
    let request = list.request(SystemTime::now())?;
    let connection = context.connect().await?;
    let answer = UsersClient::new(connection.channel.clone()).list_recordings(request).await?;
    list.print(answer.into_inner().recordings)
}

fn local(path: &str) -> anyhow::Result<File> {
    if !Path::new(path).exists() {
        bail!("{} is neither the ID of a session nor a file, run: tsh recordings ls", printable(path));
    }
    File::open(path).with_context(|| format!("cannot read {}", printable(path)))
}

/// A recording from the auth service, in a file that has no name: only this process can read it, and it is gone with it.
async fn fetched(context: &Context, session: Uuid) -> anyhow::Result<File> {
    let connection = context.connect().await?;
    let request = GetRecordingRequest { session_id: session.to_string() };
    let answer = UsersClient::new(connection.channel.clone()).get_recording(request).await;
    let mut chunks = match answer {
        Err(status) if status.code() == tonic::Code::NotFound => {
            bail!("there is no recording of the session {session}, or it is not yours to see")
        }
        answer => answer?.into_inner(),
    };
    let mut file = BufWriter::new(tempfile::tempfile().context("cannot keep the recording")?);
    while let Some(chunk) = chunks.message().await? {
        file.write_all(&chunk.data).context("cannot keep the recording")?;
    }
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// What was printed, without what drives a terminal, at once.
fn text(recording: &mut Recording<File>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut plain = Plain::default();
    for index in 0..recording.len() {
        if let Some(event) = recording.event(index)?.filter(|event| event.code == "o") {
            out.write_all(plain.take(&event.data).as_bytes()).map_err(OutputError::Write)?;
        }
    }
    Ok(out.flush().map_err(OutputError::Write)?)
}

/// Every event, for programs.
fn each(recording: &mut Recording<File>, text: impl Fn(&Event) -> String) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for index in 0..recording.len() {
        let Some(event) = recording.event(index)? else { break };
        writeln!(out, "{}", text(&event)).map_err(OutputError::Write)?;
    }
    Ok(out.flush().map_err(OutputError::Write)?)
}

/// One line.
fn json(event: &Event) -> String {
    let Event { at, code, data } = event;
    let line = serde_json::json!({ "time": at.as_secs_f64(), "type": code, "data": data });
    escaped_json(&line.to_string())
}

/// One document. A text of JSON is one of YAML too, and says on one line whatever it holds.
fn yaml(event: &Event) -> String {
    let text = |text: &str| escaped_json(&serde_json::Value::from(text).to_string());
    let Event { at, code, data } = event;
    format!("---\ntime: {:?}\ntype: {}\ndata: {}", at.as_secs_f64(), text(code), text(data))
}

/// True where a person watches and can press keys.
fn watched() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_event_says_the_same_in_yaml_as_in_json_and_drives_no_terminal() {
        for data in ["\x1b[2J\u{9b}31m\r\n", "a: \"b\" # c", "---", "\u{202e}ü\u{1f600}", ""] {
            let event =
                Event { at: Duration::from_millis(1500), code: "o".to_owned(), data: data.to_owned() };
            let (json, yaml) = (json(&event), yaml(&event));
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["data"], data);
            let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(read, json, "{yaml}");
            assert!(yaml.lines().flat_map(str::chars).all(auth::text::may_stand), "{yaml:?}");
        }
    }
}

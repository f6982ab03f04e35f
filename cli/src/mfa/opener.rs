//! Whether a link can be opened here, and with what.

use std::{env, ffi::OsString, process::Stdio};

use tokio::process::Command;

/// Opens a link in the person's browser, where one is likely to be seen. True: a program was started for it, which does
/// not say that a page came up; so the link is shown as well, always.
pub(super) fn open(link: &str) -> bool {
    let Some(words) = opener(cfg!(target_os = "macos"), |name| env::var_os(name)) else { return false };
    let words: Vec<String> = with_link(words, link);
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A browser started by this stays when we are gone, and Ctrl-C here is not meant for it.
    command.process_group(0);
    match command.spawn() {
        Ok(mut child) => {
            tokio::spawn(async move { child.wait().await });
            true
        }
        Err(error) => {
            tracing::debug!(%error, program, "the browser cannot be opened");
            false
        }
    }
}

/// The command line that opens links: `$BROWSER`, else the desktop's own; nothing over SSH, where a browser would come up
/// before nobody, nor where there is no desktop, nor with `BROWSER=none`.
fn opener(mac: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<Vec<String>> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if set("SSH_CONNECTION").is_some() {
        return None;
    }
    if let Some(browser) = set("BROWSER") {
        let browser = browser.into_string().ok()?;
        // Several may be named, the best first.
        let first = browser.split(':').next().unwrap_or_default();
        return shlex::split(first).filter(|words| !words.is_empty() && first != "none");
    }
    let desktop = set("DISPLAY").or_else(|| set("WAYLAND_DISPLAY")).is_some();
    match (mac, desktop) {
        (true, _) => Some(vec!["open".to_owned()]),
        (false, true) => Some(vec!["xdg-open".to_owned()]),
        (false, false) => None,
    }
}

/// The link goes where `%s` stands, else last.
fn with_link(mut words: Vec<String>, link: &str) -> Vec<String> {
    if words.iter().any(|word| word.contains("%s")) {
        return words.iter().map(|word| word.replace("%s", link)).collect();
    }
    words.push(link.to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_linux(environment: &[(&str, &str)]) -> Option<Vec<String>> {
        opener(false, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_desktop_opens_links_its_own_way() {
        assert_eq!(on_linux(&[("DISPLAY", ":0")]).unwrap(), ["xdg-open"]);
        assert_eq!(on_linux(&[("WAYLAND_DISPLAY", "wayland-0")]).unwrap(), ["xdg-open"]);
        assert_eq!(opener(true, |_| None).unwrap(), ["open"]);
    }

    #[test]
    fn the_persons_own_choice_wins() {
        let chosen = |browser| on_linux(&[("DISPLAY", ":0"), ("BROWSER", browser)]);
        assert_eq!(chosen("firefox --new-window:lynx").unwrap(), ["firefox", "--new-window"]);
        assert_eq!(chosen("'/opt/my browser/run'").unwrap(), ["/opt/my browser/run"]);
        assert_eq!(chosen("none"), None);
        assert_eq!(chosen("").unwrap(), ["xdg-open"]);
    }

    #[test]
    fn nothing_is_opened_where_nobody_would_see_it() {
        assert_eq!(on_linux(&[]), None);
        let ssh = ("SSH_CONNECTION", "192.0.2.7 5000 192.0.2.8 22");
        assert_eq!(on_linux(&[ssh, ("DISPLAY", "localhost:10.0"), ("BROWSER", "firefox")]), None);
    }

    #[test]
    fn the_link_is_one_word_wherever_it_stands() {
        let words =
            |words: &[&str]| with_link(words.iter().map(|&word| word.to_owned()).collect(), "https://h/?a&b");
        assert_eq!(words(&["firefox"]), ["firefox", "https://h/?a&b"]);
        assert_eq!(words(&["sh", "-u=%s", "x"]), ["sh", "-u=https://h/?a&b", "x"]);
    }
}

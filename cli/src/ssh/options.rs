//! `-o Name=value`, as ssh_config(5) has it: what makes sense here is done; what would weaken the session is named and left; what
//! is unknown is a mistake.

use std::time::Duration;

/// What `-o` can say and tsh does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `User`
    pub login: Option<String>,
    /// `Port`
    pub port: Option<u16>,
    /// `ForwardAgent`
    pub forward_agent: Option<bool>,
    /// `ForwardX11`
    pub forward_x11: Option<bool>,
    /// `ForwardX11Trusted`
    pub forward_x11_trusted: Option<bool>,
    /// `RequestTTY`
    pub request_tty: Option<RequestTty>,
    /// `LocalForward`, as `-L` takes it.
    pub local: Vec<String>,
    /// `RemoteForward`, as `-R` takes it.
    pub remote: Vec<String>,
    /// `DynamicForward`, as `-D` takes it.
    pub dynamic: Vec<String>,
    /// `ExitOnForwardFailure`
    pub exit_on_forward_failure: bool,
    /// `SetEnv`
    pub set_env: Vec<(String, String)>,
    /// `SendEnv`: names, with `*` and `?`.
    pub send_env: Vec<String>,
    /// `ServerAliveInterval`; zero: never.
    pub alive_interval: Option<Duration>,
    /// `ServerAliveCountMax`
    pub alive_count: Option<usize>,
    /// `ConnectTimeout`
    pub connect_timeout: Option<Duration>,
    /// `EscapeChar`; `Some(None)`: none.
    pub escape: Option<Option<u8>>,
    /// `LogLevel=QUIET`
    pub quiet: bool,
    /// What is said about options that are left.
    pub warnings: Vec<String>,
}

/// `RequestTTY`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTty {
    /// Never.
    No,
    /// For a command too, where standard input is a terminal (`-t`).
    Yes,
    /// Whatever standard input is (`-tt`).
    Force,
    /// For a shell.
    Auto,
}

/// Why an option is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option, or none that this tsh knows what to do with.
    #[error("unsupported option \"{0}\"")]
    Unknown(String),
    /// The option has no such value.
    #[error("{value:?} is not a value of the option {name}")]
    Value {
        /// The option.
        name: &'static str,
        /// What was said.
        value: String,
    },
}

/// About how somebody is verified, or with what: settled by the cluster.
const SETTLED: &[(&str, &str)] = &[
    ("stricthostkeychecking", "hosts are always verified by the cluster's host authority"),
    ("userknownhostsfile", "hosts are always verified by the cluster's host authority"),
    ("globalknownhostsfile", "hosts are always verified by the cluster's host authority"),
    ("hostkeyalias", "hosts are always verified by the name of the node"),
    ("checkhostip", "hosts are always verified by the name of the node"),
    ("verifyhostkeydns", "hosts are always verified by the cluster's host authority"),
    ("hostkeyalgorithms", "algorithms are not chosen by hand"),
    ("kexalgorithms", "algorithms are not chosen by hand"),
    ("ciphers", "algorithms are not chosen by hand"),
    ("macs", "algorithms are not chosen by hand"),
    ("casignaturealgorithms", "algorithms are not chosen by hand"),
    ("identityfile", "the certificate is made for the session"),
    ("certificatefile", "the certificate is made for the session"),
    ("identityagent", "the certificate is made for the session"),
    ("proxycommand", "the sidecar of a node is reached directly"),
    ("proxyjump", "the sidecar of a node is reached directly"),
    ("hostname", "the sidecar of a node is reached where it says"),
    ("controlmaster", "every session is proved by itself"),
    ("controlpath", "every session is proved by itself"),
    ("controlpersist", "every session is proved by itself"),
    ("tunnel", "network tunnels are not opened by tsh"),
    ("permitlocalcommand", "local commands are not run"),
    ("localcommand", "local commands are not run"),
];

/// Makes no difference here.
const HARMLESS: &[&str] = &[
    "addkeystoagent",
    "addressfamily",
    "batchmode",
    "challengeresponseauthentication",
    "compression",
    "connectionattempts",
    "gssapiauthentication",
    "hashknownhosts",
    "hostbasedauthentication",
    "identitiesonly",
    "ipqos",
    "kbdinteractiveauthentication",
    "loglevel",
    "logverbose",
    "nohostauthenticationforlocalhost",
    "numberofpasswordprompts",
    "passwordauthentication",
    "preferredauthentications",
    "pubkeyacceptedalgorithms",
    "pubkeyauthentication",
    "rekeylimit",
    "tcpkeepalive",
    "updatehostkeys",
    "visualhostkey",
];

impl Options {
    /// Reads all of `-o`. As with ssh, the first value of an option that can have one counts.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn parse<S: AsRef<str>>(options: &[S]) -> Result<Self, OptionError> {
        let mut parsed = Self::default();
        for option in options {
            parsed.take(option.as_ref())?;
        }
        Ok(parsed)
    }

    fn take(&mut self, option: &str) -> Result<(), OptionError> {
        let end = option.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(option.len());
        let (name, rest) = option.split_at(end);
        let value = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        match name.to_ascii_lowercase().as_str() {
            "user" => first(&mut self.login, text("User", value)?),
            "port" => first(&mut self.port, number("Port", value)?),
            "forwardagent" => first(&mut self.forward_agent, flag("ForwardAgent", value)?),
            "forwardx11" => first(&mut self.forward_x11, flag("ForwardX11", value)?),
            "forwardx11trusted" => {
                first(&mut self.forward_x11_trusted, flag("ForwardX11Trusted", value)?);
            }
            "requesttty" => first(&mut self.request_tty, request_tty(value)?),
            "localforward" => self.local.push(forward("LocalForward", value)?),
            "remoteforward" => self.remote.push(forward("RemoteForward", value)?),
            "dynamicforward" => self.dynamic.push(text("DynamicForward", value)?),
            "exitonforwardfailure" => {
                self.exit_on_forward_failure = flag("ExitOnForwardFailure", value)?;
            }
            "setenv" => self.set_env.extend(variables(value)?),
            "sendenv" => self.send_env.extend(value.split_whitespace().map(str::to_owned)),
            "serveraliveinterval" => {
                first(&mut self.alive_interval, seconds("ServerAliveInterval", value)?);
            }
            "serveralivecountmax" => first(&mut self.alive_count, number("ServerAliveCountMax", value)?),
            "connecttimeout" => first(&mut self.connect_timeout, seconds("ConnectTimeout", value)?),
            "escapechar" => first(&mut self.escape, escape(value)?),
            "loglevel" if value.eq_ignore_ascii_case("quiet") => self.quiet = true,
            known if HARMLESS.contains(&known) => {}
            other => match SETTLED.iter().find(|(name, _)| *name == other) {
                Some((_, why)) => self.warnings.push(format!("{name} is ignored: {why}")),
                None => return Err(OptionError::Unknown(name.to_owned())),
            },
        }
        Ok(())
    }

    /// The variables of ours that `SendEnv` names, and those of `SetEnv`.
    pub fn environment(&self, ours: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
        let sent = ours.filter(|(name, _)| self.send_env.iter().any(|pattern| matches(pattern, name)));
        let set = |name: &str| self.set_env.iter().any(|(set, _)| set == name);
        let mut environment: Vec<_> = sent.filter(|(name, _)| !set(name)).collect();
        environment.extend(self.set_env.iter().cloned());
        environment
    }
}

fn first<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

fn wrong(name: &'static str, value: &str) -> OptionError {
    OptionError::Value { name, value: value.to_owned() }
}

fn text(name: &'static str, value: &str) -> Result<String, OptionError> {
    if value.is_empty() { Err(wrong(name, value)) } else { Ok(value.to_owned()) }
}

fn number<T: std::str::FromStr>(name: &'static str, value: &str) -> Result<T, OptionError> {
    value.parse().map_err(|_| wrong(name, value))
}

fn seconds(name: &'static str, value: &str) -> Result<Duration, OptionError> {
    number(name, value).map(|seconds: u32| Duration::from_secs(seconds.into()))
}

fn flag(name: &'static str, value: &str) -> Result<bool, OptionError> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(wrong(name, value)),
    }
}

fn request_tty(value: &str) -> Result<RequestTty, OptionError> {
    match value.to_ascii_lowercase().as_str() {
        "no" => Ok(RequestTty::No),
        "yes" => Ok(RequestTty::Yes),
        "force" => Ok(RequestTty::Force),
        "auto" => Ok(RequestTty::Auto),
        _ => Err(wrong("RequestTTY", value)),
    }
}

/// `[bind:]port host:hostport`, two words, is what `-L` writes with a colon.
fn forward(name: &'static str, value: &str) -> Result<String, OptionError> {
    let words: Vec<_> = value.split_whitespace().collect();
    match words.as_slice() {
        [one] => Ok((*one).to_owned()),
        [listen, to] => Ok(format!("{listen}:{to}")),
        _ => Err(wrong(name, value)),
    }
}

fn variables(value: &str) -> Result<Vec<(String, String)>, OptionError> {
    let words = shlex::split(value).ok_or_else(|| wrong("SetEnv", value))?;
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(wrong("SetEnv", &word)),
    };
    words.into_iter().map(pair).collect()
}

fn escape(value: &str) -> Result<Option<u8>, OptionError> {
    match value.as_bytes() {
        b"none" => Ok(None),
        [character] => Ok(Some(*character)),
        [b'^', letter @ b'@'..=b'_' | letter @ b'a'..=b'z'] => Ok(Some(letter & 0x1f)),
        _ => Err(wrong("EscapeChar", value)),
    }
}

/// ssh_config(5), PATTERNS: `*` is any text, `?` one character.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .any(|at| name.get(at..).is_some_and(|name| matches(rest, name)))
        }
        Some(wanted) => {
            let mut characters = name.chars();
            characters.next().is_some_and(|c| wanted == '?' || wanted == c)
                && matches(rest.as_str(), characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_sense_is_done() {
        let options = Options::parse(&[
            "User=root",
            "port 2222",
            "ForwardAgent = yes",
            "ForwardX11=yes",
            "ForwardX11Trusted=no",
            "LocalForward=8080 localhost:80",
            "ServerAliveInterval=15",
            "EscapeChar=none",
            "SetEnv=A=1 B=\"two words\"",
        ])
        .unwrap();
        assert_eq!(options.login.as_deref(), Some("root"));
        assert_eq!(options.port, Some(2222));
        assert_eq!(options.forward_agent, Some(true));
        assert_eq!((options.forward_x11, options.forward_x11_trusted), (Some(true), Some(false)));
        assert_eq!(options.local, ["8080:localhost:80"]);
        assert_eq!(options.alive_interval, Some(Duration::from_secs(15)));
        assert_eq!(options.escape, Some(None));
        assert_eq!(options.set_env.len(), 2);
        assert!(options.warnings.is_empty());
    }

    #[test]
    fn the_first_value_counts() {
        assert_eq!(Options::parse(&["User=a", "User=b"]).unwrap().login.as_deref(), Some("a"));
    }

    #[test]
    fn what_would_weaken_the_session_is_named_and_left() {
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "Ciphers=3des-cbc"] {
            let options = Options::parse(&[option]).unwrap();
            let name = option.split('=').next().unwrap();
            assert!(options.warnings[0].starts_with(&format!("{name} is ignored")), "{option}");
            assert_eq!(Options { warnings: Vec::new(), ..options }, Options::default());
        }
    }

    #[test]
    fn what_is_unknown_is_a_mistake() {
        let unknown = Options::parse(&["StrictHostKeyCheking=no"]).unwrap_err();
        assert_eq!(unknown.to_string(), "unsupported option \"StrictHostKeyCheking\"");
        for wrong in ["", "Port=x", "ForwardAgent=maybe", "LocalForward=a b c", "SetEnv==x", "User="] {
            assert!(Options::parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_are_sent_where_they_are_named() {
        let options = Options::parse(&["SendEnv=LANG LC_*", "SetEnv=LC_ALL=C"]).unwrap();
        let ours = [("LANG", "de"), ("LC_TIME", "fr"), ("LC_ALL", "ru"), ("SECRET", "x")];
        let sent = options.environment(ours.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())));
        let names: Vec<_> = sent.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["LANG=de", "LC_TIME=fr", "LC_ALL=C"]);
    }
}

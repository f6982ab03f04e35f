//! WebDriver commands that are no part of its core: by path, with JSON both ways.

use anyhow::{Context, Result};
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::Browser;

#[derive(Debug)]
struct Command {
    method: Method,
    /// Below the session.
    path: String,
    body: Option<Value>,
}

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(ToString::to_string))
    }
}

impl Browser {
    pub(super) async fn command(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let command = Command { method, path: path.to_owned(), body };
        self.client.issue_cmd(command).await.with_context(|| format!("WebDriver: {path}"))
    }

    /// A command of the DevTools protocol, such as `Emulation.setEmulatedMedia`.
    ///
    /// # Errors
    /// When Chromium refuses it.
    pub async fn devtools(&self, command: &str, params: Value) -> Result<Value> {
        let body = json!({"cmd": command, "params": params});
        self.command(Method::POST, "goog/cdp/execute", Some(body)).await.with_context(|| command.to_owned())
    }
}

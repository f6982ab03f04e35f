//! What a browser noted of its pages: what they asked for, and of whom; what went wrong in them.

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};

use super::Browser;

impl Browser {
    /// What the pages did since the last look that they should not have done.
    ///
    /// # Errors
    /// When the browser does not say.
    pub async fn misdeeds(&self) -> Result<Vec<String>> {
        let asked =
            self.log("performance").await?.into_iter().filter_map(|entry| self.asked_elsewhere(&entry));
        let asked: Vec<_> = asked.collect();
        let said = self.log("browser").await?.into_iter().filter(|entry| !self.is_refusal(entry));
        Ok(asked.into_iter().chain(said.map(|entry| entry.to_string())).collect())
    }

    async fn log(&self, kind: &str) -> Result<Vec<Value>> {
        let entries = self.command(Method::POST, "se/log", Some(json!({"type": kind}))).await?;
        serde_json::from_value(entries).context("a list")
    }

    /// The address of a request that went to somebody else.
    fn asked_elsewhere(&self, entry: &Value) -> Option<String> {
        let message: Value = serde_json::from_str(text(entry, "/message")?).ok()?;
        // Chromium shows a page of its own until it is sent elsewhere.
        if text(&message, "/message/params/documentURL").is_some_and(|page| page.starts_with("chrome:")) {
            return None;
        }
        let url = match text(&message, "/message/method")? {
            "Network.requestWillBeSent" => text(&message, "/message/params/request/url")?,
            "Network.webSocketCreated" => text(&message, "/message/params/url")?,
            _ => return None,
        };
        (!self.is_own(url)).then(|| format!("asked {url}"))
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.origin).is_some_and(|path| path.starts_with('/'))
    }

    /// Chromium notes each answer that is an error, also those that a story is about: of calls, and of pages whose link
    /// leads nowhere. A missing script or style is none of them.
    fn is_refusal(&self, entry: &Value) -> bool {
        let said = text(entry, "/message").unwrap_or_default();
        let url = said.split(' ').next().unwrap_or_default();
        let path = url.strip_prefix(&self.origin).unwrap_or_default();
        let refuses =
            ["/web/api/", "/web/invite/", "/web/approve/"].iter().any(|known| path.starts_with(known));
        text(entry, "/source") == Some("network")
            && refuses
            && said.contains("the server responded with a status of 4")
    }
}

/// The text at a place in a value.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

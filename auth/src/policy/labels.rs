//! Label selectors: which targets a role is about.

use std::collections::BTreeMap;

use regex::Regex;

use super::{
    go_regex,
    template::{Template, TemplateError},
};
use crate::{identity::Traits, resource::Labels};

/// One value of a selector, checked: a text, a glob with `*`, or a regular expression from `^` to `$`. It may hold a
/// `{{variable}}`.
#[derive(Clone, Debug)]
pub struct LabelPattern {
    template: Template,
    /// Compiled once, where there is no variable.
    fixed: Option<Pattern>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A `{{…}}` that does not parse.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A regular expression that does not compile.
    #[error("{pattern:?} is not a regular expression: {reason}")]
    Regex {
        /// What was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl LabelPattern {
    /// Checks a pattern from outside.
    ///
    /// # Errors
    /// [`LabelError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let template = Template::parse(text)?;
        let fixed = template.literal().map(Pattern::compile).transpose()?;
        Ok(Self { template, fixed })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.template.as_str()
    }
}

impl PartialEq for LabelPattern {
    fn eq(&self, other: &Self) -> bool {
        self.template == other.template
    }
}

/// A compiled pattern.
#[derive(Clone, Debug)]
enum Pattern {
    Any,
    Exact(String),
    Regex(Regex),
    /// A regular expression out of a trait that does not compile.
    Broken,
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, LabelError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let expression = if text.starts_with('^') && text.ends_with('$') {
            text.to_owned()
        } else if text.contains('*') {
            glob(text)
        } else {
            return Ok(Self::Exact(text.to_owned()));
        };
        go_regex::compile(&expression)
            .map(Self::Regex)
            .map_err(|reason| LabelError::Regex { pattern: text.to_owned(), reason })
    }
}

/// `*` is any run of characters, the rest is literal, both ends are anchored.
fn glob(text: &str) -> String {
    let parts: Vec<String> = text.split('*').map(regex::escape).collect();
    format!("^{}$", parts.join("(.*)"))
}

/// On which side of a role a selector stands. It decides what a pattern that cannot be judged means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It matches nothing.
    Allow,
    /// It matches everything.
    Deny,
}

/// A selector for one user: variables are expanded, patterns compiled.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    everything: bool,
    keys: Vec<(String, Key)>,
    side: Side,
}

#[derive(Clone, Debug)]
struct Key {
    patterns: Vec<Pattern>,
    /// For explanations.
    written: String,
}

/// Why a selector does not match, in Teleport's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mismatch<'s> {
    /// There is nothing to match.
    EmptySelector,
    /// The target has no such label.
    Key(&'s str),
    /// The target has another value.
    Value { got: &'s str, want: &'s str },
}

impl std::fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EmptySelector => f.write_str("no match, empty selector"),
            Self::Key(key) => write!(f, "no key match: '{key}'"),
            Self::Value { got, want } => write!(f, "no value match: got '{got}' want: '{want}'"),
        }
    }
}

impl Selector {
    /// Matches every target, labelled or not.
    pub(super) fn everything(side: Side) -> Self {
        Self { everything: true, keys: Vec::new(), side }
    }

    /// Matches no target.
    pub(super) fn nothing(side: Side) -> Self {
        Self { everything: false, keys: Vec::new(), side }
    }

    pub(super) fn compile(labels: &Labels, traits: &Traits, side: Side) -> Self {
        let everything =
            labels.0.get("*").is_some_and(|values| values.iter().map(LabelPattern::as_str).eq(["*"]));
        let keys = labels.0.iter().map(|(key, values)| (key.clone(), Key::compile(values, traits))).collect();
        Self { everything, keys, side }
    }

    /// Whether the selector matches a target's labels, and if not, why.
    pub(super) fn matches<'s>(&'s self, labels: &'s BTreeMap<String, String>) -> Result<(), Mismatch<'s>> {
        if self.everything {
            return Ok(());
        }
        if self.keys.is_empty() {
            return Err(Mismatch::EmptySelector);
        }
        for (name, key) in &self.keys {
            let Some(value) = labels.get(name) else {
                return Err(Mismatch::Key(name));
            };
            if !key.patterns.iter().any(|pattern| self.pattern_matches(pattern, value)) {
                return Err(Mismatch::Value { got: value, want: &key.written });
            }
        }
        Ok(())
    }

    fn pattern_matches(&self, pattern: &Pattern, value: &str) -> bool {
        match pattern {
            Pattern::Any => true,
            Pattern::Exact(text) => text == value,
            Pattern::Regex(regex) => regex.is_match(value),
            Pattern::Broken => self.side == Side::Deny,
        }
    }
}

impl Key {
    /// An empty value, as an unknown trait leaves it, matches nothing: it is dropped.
    fn compile(values: &[LabelPattern], traits: &Traits) -> Self {
        let mut patterns = Vec::new();
        for value in values {
            match &value.fixed {
                Some(pattern) => patterns.push(pattern.clone()),
                None => patterns.extend(
                    value
                        .template
                        .expand(traits)
                        .iter()
                        .map(|text| Pattern::compile(text).unwrap_or(Pattern::Broken)),
                ),
            }
        }
        let written: Vec<&str> = values.iter().map(LabelPattern::as_str).collect();
        Self { patterns, written: written.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_does_not_compile_is_refused_with_its_reason() {
        let LabelError::Regex { pattern, reason } = LabelPattern::parse("^(dev$").unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(pattern, "^(dev$");
        assert!(reason.contains("unclosed group"), "{reason}");
    }

    #[test]
    fn a_glob_quotes_everything_but_the_star() {
        assert_eq!(glob("a.b*(c)"), r"^a\.b(.*)\(c\)$");
    }

    #[test]
    fn a_malformed_template_is_refused() {
        assert!(matches!(LabelPattern::parse("{{x"), Err(LabelError::Template(_))));
    }
}

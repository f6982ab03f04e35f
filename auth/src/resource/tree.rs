//! A document before it means anything: texts, lists and maps, each with the line where it stands.
//!
//! Scalars keep the text that was written. Whether `on` is a truth value or the name of a second factor, and whether
//! `1.10` is a number or a label, is for the field to say, not for a guess at the syntax.

use serde_json::Value as Json;

use super::error::{Problem, ResourceError};

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// From 1; `None` for what came from JSON.
    pub(super) line: Option<usize>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Scalar {
        text: String,
        /// Written without quotes, so that `true` may mean a truth value.
        plain: bool,
    },
    List(Vec<Tree>),
    /// In the order written; keys are unique.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: Option<usize>,
    pub(super) value: Tree,
}

impl Tree {
    /// What to call the value in an error.
    pub(super) fn describe(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    pub(super) fn from_json(json: &str) -> Result<Self, ResourceError> {
        let value: Json = serde_json::from_str(json).map_err(|error| ResourceError {
            line: Some(error.line()),
            field: String::new(),
            problem: Problem::Syntax(error.to_string()),
        })?;
        Ok(Self::from(value))
    }

    /// The value with the meaning that YAML gives it, for fields that are kept and not read.
    pub(super) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Scalar { text, plain: false } => Json::from(text.as_str()),
            Value::Scalar { text, plain: true } => plain_to_json(text),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect(),
        }
    }
}

/// Numbers only where the text is what the number is written as, so that `0x10` and `007` stay what they were.
fn plain_to_json(text: &str) -> Json {
    match text {
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        _ => match serde_json::from_str::<Json>(text) {
            Ok(Json::Number(number)) if text == number.to_string().as_str() => Json::Number(number),
            _ => Json::from(text),
        },
    }
}

impl From<Json> for Tree {
    fn from(json: Json) -> Self {
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Scalar { text: truth.to_string(), plain: true },
            Json::Number(number) => Value::Scalar { text: number.to_string(), plain: true },
            Json::String(text) => Value::Scalar { text, plain: false },
            Json::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Json::Object(fields) => Value::Map(
                fields
                    .into_iter()
                    .map(|(key, value)| Entry { key, line: None, value: Self::from(value) })
                    .collect(),
            ),
        };
        Self { line: None, value }
    }
}

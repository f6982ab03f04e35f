//! A document before it means anything: texts, lists and maps, each with the line where it stands.
//!
//! Scalars keep the text that was written. Whether `on` is a truth value or the name of a second factor, and whether
//! `1.10` is a number or a label, is for the field to say, not for a guess at the syntax.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess},
};
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
        serde_json::from_str(json).map_err(|error| ResourceError {
            line: Some(error.line()),
            field: String::new(),
            problem: Problem::Syntax(error.to_string()),
        })
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

/// Not by way of [`Json`], which keeps the last of two equal keys: where one reader sees the first `deny`, and another the
/// last, nobody knows what was agreed to.
impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor).map(|value| Self { line: None, value })
    }
}

struct Visitor;

fn plain<E>(text: impl ToString) -> Result<Value, E> {
    Ok(Value::Scalar { text: text.to_string(), plain: true })
}

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        plain(truth)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        plain(number)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        plain(number)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        plain(Json::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Scalar { text: text.to_owned(), plain: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        while let Some((key, value)) = map.next_entry::<String, Tree>()? {
            if !keys.insert(key.clone()) {
                return Err(de::Error::custom(Problem::DuplicateField(key)));
            }
            entries.push(Entry { key, line: None, value });
        }
        Ok(Value::Map(entries))
    }
}

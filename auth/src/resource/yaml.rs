//! YAML text to trees and back.
//!
//! The reader works on the events of the YAML parser, not through serde: only so does every field keep its line and
//! every scalar its text. It bounds what it reads, because a file may come from a stranger: size, depth, and nodes
//! counted after aliases are expanded.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::{
    error::{Problem, ResourceError},
    tree::{Entry, Tree, Value},
};

/// Bytes of one file, and of all texts in it, those that aliases repeat included. A large role has a few thousand.
const MAX_BYTES: usize = 1 << 20;
/// Levels of nesting. A role needs six.
const MAX_DEPTH: usize = 32;
/// Values in one file, those that aliases repeat included.
const MAX_VALUES: usize = 50_000;

/// Every document of a text that is not empty.
pub(super) fn documents(text: &str) -> Result<Vec<Tree>, ResourceError> {
    if text.len() > MAX_BYTES {
        return Err(too_large(None, "bytes", MAX_BYTES));
    }
    let mut reader =
        Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), values: 0, bytes: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => reader.anchors.clear(),
            event => match reader.tree(event, span, 0)? {
                Tree { value: Value::Null, .. } => {}
                document => documents.push(document),
            },
        }
    }
    Ok(documents)
}

/// Writes a YAML document. JSON is YAML too, so the fallback is readable, if not pretty.
pub(super) fn write(value: &serde_json::Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value}\n"))
}

struct Reader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Tree>,
    values: usize,
    bytes: usize,
}

impl<'t> Reader<'t> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, ResourceError> {
        loop {
            match self.events.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(error)) => return Err(syntax(&error)),
            }
        }
    }

    /// The next event inside a collection, where the text may not end.
    fn inner(&mut self, line: usize) -> Result<(Event<'t>, Span), ResourceError> {
        self.next()?.ok_or_else(|| problem(Some(line), Problem::Syntax("unexpected end".to_owned())))
    }

    fn tree(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Tree, ResourceError> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(too_large(Some(line), "levels", MAX_DEPTH));
        }
        self.count(1, 0, line)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(0, text.len(), line)?;
                let plain =
                    style == ScalarStyle::Plain && !tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                (scalar(text.into_owned(), plain), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(line, depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(line, depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, line),
            _ => return Err(problem(Some(line), Problem::Syntax("a value is missing".to_owned()))),
        };
        let tree = Tree { line: Some(line), value };
        if anchor != 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        Ok(tree)
    }

    fn list(&mut self, line: usize, depth: usize) -> Result<Value, ResourceError> {
        let mut items = Vec::new();
        loop {
            match self.inner(line)? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.tree(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, line: usize, depth: usize) -> Result<Value, ResourceError> {
        let mut entries = Vec::new();
        let mut keys = HashSet::new();
        loop {
            let (event, span) = self.inner(line)?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Map(entries));
            }
            let key = self.tree(event, span, depth + 1)?;
            let Value::Scalar { text, .. } = key.value else {
                let found = key.describe();
                return Err(problem(key.line, Problem::Type { expected: "a field name", found }));
            };
            if !keys.insert(text.clone()) {
                return Err(problem(key.line, Problem::DuplicateField(text)));
            }
            let (event, span) = self.inner(line)?;
            let value = self.tree(event, span, depth + 1)?;
            entries.push(Entry { key: text, line: key.line, value });
        }
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<Tree, ResourceError> {
        let Some(tree) = self.anchors.get(&anchor) else {
            return Err(problem(Some(line), Problem::Syntax("an alias inside its own anchor".to_owned())));
        };
        let ((values, bytes), value) = (size(tree), tree.value.clone());
        self.count(values, bytes, line)?;
        Ok(Tree { line: Some(line), value })
    }

    fn count(&mut self, values: usize, bytes: usize, line: usize) -> Result<(), ResourceError> {
        self.values = self.values.saturating_add(values);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.values > MAX_VALUES {
            return Err(too_large(Some(line), "values", MAX_VALUES));
        }
        if self.bytes > MAX_BYTES { Err(too_large(Some(line), "bytes", MAX_BYTES)) } else { Ok(()) }
    }
}

fn scalar(text: String, plain: bool) -> Value {
    if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        Value::Null
    } else {
        Value::Scalar { text, plain }
    }
}

/// Values, and bytes of text.
fn size(tree: &Tree) -> (usize, usize) {
    let add = |(values, bytes): (usize, usize), (v, b): (usize, usize)| (values + v, bytes + b);
    match &tree.value {
        Value::Null => (1, 0),
        Value::Scalar { text, .. } => (1, text.len()),
        Value::List(items) => items.iter().map(size).fold((1, 0), add),
        Value::Map(entries) => {
            entries.iter().map(|entry| add((0, entry.key.len()), size(&entry.value))).fold((1, 0), add)
        }
    }
}

fn syntax(error: &ScanError) -> ResourceError {
    problem(Some(error.marker().line()), Problem::Syntax(error.info()))
}

fn too_large(line: Option<usize>, what: &'static str, limit: usize) -> ResourceError {
    problem(line, Problem::TooLarge { what, limit })
}

fn problem(line: Option<usize>, problem: Problem) -> ResourceError {
    ResourceError { line, field: String::new(), problem }
}

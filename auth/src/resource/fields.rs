//! Reading a map field by field, so that what nobody asked for is an error and what is merely kept is reported.

use std::cell::RefCell;

use super::{
    error::{Problem, ResourceError},
    metadata::{Kept, Name},
    scalar,
    tree::{Tree, Value},
};

/// One value, with the path to it.
#[derive(Clone)]
pub(super) struct Field<'n> {
    pub(super) tree: &'n Tree,
    path: String,
    line: Option<usize>,
    notices: &'n RefCell<Vec<String>>,
}

/// A map that is being read. [`Fields::finish`] refuses what is left over.
pub(super) struct Fields<'n> {
    path: String,
    line: Option<usize>,
    left: Vec<(&'n str, Field<'n>)>,
    known: Vec<&'static str>,
}

impl<'n> Field<'n> {
    pub(super) fn root(tree: &'n Tree, notices: &'n RefCell<Vec<String>>) -> Self {
        Self { tree, path: String::new(), line: tree.line, notices }
    }

    /// An error at this field.
    pub(super) fn error(&self, problem: Problem) -> ResourceError {
        ResourceError { line: self.line, field: self.path.clone(), problem }
    }

    /// The error that this is a text, but none of those that mean something here.
    pub(super) fn invalid(&self, expected: &'static str) -> ResourceError {
        match &self.tree.value {
            Value::Scalar { text, .. } => self.error(Problem::Value { value: text.clone(), expected }),
            _ => self.wrong_type(expected),
        }
    }

    fn wrong_type(&self, expected: &'static str) -> ResourceError {
        self.error(Problem::Type { expected, found: self.tree.describe() })
    }

    /// A text; numbers and truth values are taken as they are written.
    pub(super) fn text(&self) -> Result<&'n str, ResourceError> {
        match &self.tree.value {
            Value::Scalar { text, .. } => Ok(text),
            _ => Err(self.wrong_type("a text")),
        }
    }

    /// A truth value, also as YAML 1.1 writes it: yes, no, on, off.
    pub(super) fn truth(&self) -> Result<bool, ResourceError> {
        scalar::truth(self.text()?).ok_or_else(|| self.invalid("true or false"))
    }

    /// A count.
    pub(super) fn count(&self) -> Result<u32, ResourceError> {
        self.text()?.parse().map_err(|_| self.invalid("a number from 0 to 4294967295"))
    }

    /// A point in time, RFC 3339.
    pub(super) fn time(&self) -> Result<std::time::SystemTime, ResourceError> {
        scalar::read_time(self.text()?).ok_or_else(|| self.invalid("a time such as 2026-01-31T12:00:00Z"))
    }

    /// A length of time; `None` for `never` and for zero.
    pub(super) fn duration(&self) -> Result<Option<std::time::Duration>, ResourceError> {
        scalar::read_duration(self.text()?)
            .ok_or_else(|| self.invalid("a duration such as 12h, 1h30m, 90s or never"))
    }

    /// A name with its own rules.
    pub(super) fn name<N: Name>(&self) -> Result<N, ResourceError> {
        N::try_from(self.text()?.to_owned()).map_err(|error| self.error(Problem::Name(error)))
    }

    /// Each item of a list; a single value is a list of one, nothing is an empty list.
    pub(super) fn list<T>(
        &self,
        mut read: impl FnMut(&Self) -> Result<T, ResourceError>,
    ) -> Result<Vec<T>, ResourceError> {
        match &self.tree.value {
            Value::Null => Ok(Vec::new()),
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| read(&self.child(format!("{}[{index}]", self.path), item, item.line)))
                .collect(),
            Value::Scalar { .. } | Value::Map(_) => Ok(vec![read(self)?]),
        }
    }

    /// Each text of a list, or the only one.
    pub(super) fn texts(&self) -> Result<Vec<String>, ResourceError> {
        self.list(|item| item.text().map(str::to_owned))
    }

    /// Each entry of a map whose keys are data.
    pub(super) fn map<T, C: FromIterator<(String, T)>>(
        &self,
        mut read: impl FnMut(&str, &Self) -> Result<T, ResourceError>,
    ) -> Result<C, ResourceError> {
        let Value::Map(entries) = &self.tree.value else {
            return Err(self.wrong_type("a map"));
        };
        let one = |entry: &'n super::tree::Entry| {
            let field = self.child(join(&self.path, &entry.key), &entry.value, entry.line);
            Ok((entry.key.clone(), read(&entry.key, &field)?))
        };
        entries.iter().map(one).collect()
    }

    /// The fields of a map whose keys are ours.
    pub(super) fn fields(&self) -> Result<Fields<'n>, ResourceError> {
        let Value::Map(entries) = &self.tree.value else {
            return Err(self.wrong_type("a map"));
        };
        let left = entries
            .iter()
            .map(|e| (e.key.as_str(), self.child(join(&self.path, &e.key), &e.value, e.line)))
            .collect();
        Ok(Fields { path: self.path.clone(), line: self.line, left, known: Vec::new() })
    }

    /// Whether nothing is said: null, an empty text, list or map, or a plain `false`.
    pub(super) fn says_nothing(&self) -> bool {
        match &self.tree.value {
            Value::Null => true,
            Value::Scalar { text, .. } => text.is_empty() || scalar::truth(text) == Some(false),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    fn child(&self, path: String, tree: &'n Tree, line: Option<usize>) -> Field<'n> {
        Field { tree, path, line, notices: self.notices }
    }

    /// Reports that this field has no effect.
    pub(super) fn notice(&self) {
        let place = self.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        self.notices.borrow_mut().push(format!("{place}{} is kept but not acted on", self.path));
    }
}

impl<'n> Fields<'n> {
    /// Takes a field that may be absent; null is absent.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Field<'n>) -> Result<T, ResourceError>,
    ) -> Result<Option<T>, ResourceError> {
        match self.take(name) {
            Some(field) if !matches!(field.tree.value, Value::Null) => read(&field).map(Some),
            _ => Ok(None),
        }
    }

    /// Takes a field that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Result<Field<'n>, ResourceError> {
        match self.take(name) {
            Some(field) if !matches!(field.tree.value, Value::Null) => Ok(field),
            _ => Err(ResourceError {
                line: self.line,
                field: self.path.clone(),
                problem: Problem::MissingField(name),
            }),
        }
    }

    /// Takes fields that are known and not acted on, each with a notice.
    pub(super) fn keep(&mut self, names: &[&'static str]) -> Kept {
        self.kept(names, |field| {
            if !field.says_nothing() {
                field.notice();
            }
        })
    }

    /// Takes fields that carry no meaning for us and need no notice.
    pub(super) fn keep_silently(&mut self, names: &[&'static str]) -> Kept {
        self.kept(names, |_| {})
    }

    fn kept(&mut self, names: &[&'static str], report: impl Fn(&Field<'n>)) -> Kept {
        let mut kept = Kept::new();
        for &name in names {
            if let Some(field) = self.take(name) {
                report(&field);
                kept.insert(name.to_owned(), field.tree.to_json());
            }
        }
        kept
    }

    /// Takes fields whose being ignored would give people more than was meant: saying anything there is an error.
    /// What says nothing (`false`, an empty list) is kept.
    pub(super) fn refuse(
        &mut self,
        kept: &mut Kept,
        refused: &[(&'static str, &'static str)],
    ) -> Result<(), ResourceError> {
        for &(name, why) in refused {
            if let Some(field) = self.take(name) {
                if !field.says_nothing() {
                    return Err(field.error(Problem::Unsupported(why)));
                }
                kept.insert(name.to_owned(), field.tree.to_json());
            }
        }
        Ok(())
    }

    /// Refuses what nobody took.
    pub(super) fn finish(mut self) -> Result<(), ResourceError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, field)) => {
                self.known.sort_unstable();
                Err(ResourceError {
                    line: field.line,
                    field: self.path,
                    problem: Problem::UnknownField { field: (*name).to_owned(), known: self.known },
                })
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Field<'n>> {
        self.known.push(name);
        let position = self.left.iter().position(|(key, _)| *key == name)?;
        Some(self.left.remove(position).1)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

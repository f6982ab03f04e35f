//! Text to template.

use super::{Expression, INTERNAL, TemplateError, Variable};
use crate::policy::go_regex;

/// Functions within functions.
const MAX_DEPTH: usize = 8;

/// The variable of a template; `None` for a literal.
pub(super) fn template(source: &str) -> Result<Option<Variable>, TemplateError> {
    let brackets = || TemplateError::Brackets { text: source.to_owned() };
    let Some((prefix, rest)) = source.split_once("{{") else {
        return if source.contains("}}") { Err(brackets()) } else { Ok(None) };
    };
    let (inner, suffix) = rest.rsplit_once("}}").ok_or_else(brackets)?;
    if prefix.contains(['{', '}']) || suffix.contains(['{', '}']) {
        return Err(brackets());
    }
    let mut parser = Parser { source, rest: inner };
    let expression = parser.expression(0)?;
    if !parser.rest.trim().is_empty() {
        return Err(parser.error(format!("unexpected {:?}", parser.rest.trim())));
    }
    let (prefix, suffix) = (prefix.trim_start().to_owned(), suffix.trim_end().to_owned());
    Ok(Some(Variable { prefix, expression, suffix }))
}

struct Parser<'t> {
    source: &'t str,
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn error(&self, reason: impl Into<String>) -> TemplateError {
        TemplateError::Expression { text: self.source.to_owned(), reason: reason.into() }
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(self.error("too many functions within functions"));
        }
        let namespace = self.word()?;
        if matches!(namespace, "internal" | "external") {
            let name = if self.skip('[') {
                let name = self.string()?;
                self.expect(']')?;
                name
            } else {
                self.expect('.')?;
                self.word()?.to_owned()
            };
            return variable(namespace, name);
        }
        self.expect('.')?;
        match (namespace, self.word()?) {
            ("email", "local") => self.email_local(depth),
            ("regexp", "replace") => self.replace(depth),
            (namespace, name) => Err(self
                .error(format!("unknown function {namespace}.{name}; known: email.local, regexp.replace"))),
        }
    }

    fn email_local(&mut self, depth: usize) -> Result<Expression, TemplateError> {
        self.expect('(')?;
        let of = self.expression(depth + 1)?;
        self.expect(')')?;
        Ok(Expression::EmailLocal(Box::new(of)))
    }

    fn replace(&mut self, depth: usize) -> Result<Expression, TemplateError> {
        self.expect('(')?;
        let of = self.expression(depth + 1)?;
        self.expect(',')?;
        let pattern = self.string()?;
        self.expect(',')?;
        let replacement = self.string()?;
        self.expect(')')?;
        let pattern = go_regex::compile(&pattern).map_err(|reason| self.error(reason))?;
        Ok(Expression::Replace { of: Box::new(of), pattern, replacement })
    }

    fn word(&mut self) -> Result<&'t str, TemplateError> {
        let rest = self.rest.trim_start();
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if word.is_empty() {
            return Err(self.error("expected internal.NAME, external.NAME or a function"));
        }
        self.rest = tail;
        Ok(word)
    }

    fn skip(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(tail) => {
                self.rest = tail;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), TemplateError> {
        if self.skip(wanted) { Ok(()) } else { Err(self.error(format!("expected {wanted:?}"))) }
    }

    /// A string as Go writes it: in double quotes with escapes, or in back quotes without.
    fn string(&mut self) -> Result<String, TemplateError> {
        if self.skip('`') {
            let (text, tail) =
                self.rest.split_once('`').ok_or_else(|| self.error("a string is not closed"))?;
            self.rest = tail;
            return Ok(text.to_owned());
        }
        self.expect('"')?;
        let mut text = String::new();
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    self.rest = chars.as_str();
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some(c @ ('\\' | '"')) => text.push(c),
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    _ => return Err(self.error("unknown escape in a string; a backslash is written \\\\")),
                },
                c => text.push(c),
            }
        }
        Err(self.error("a string is not closed"))
    }
}

fn variable(namespace: &str, name: String) -> Result<Expression, TemplateError> {
    if namespace == "internal" && !INTERNAL.contains(&name.as_str()) {
        return Err(TemplateError::UnknownInternal { name });
    }
    Ok(Expression::Trait(name))
}

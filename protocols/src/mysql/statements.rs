//! HOT: the prepared statements of a session, as far as it takes to find the values in an execute: how many
//! parameters each has, of what types they were last, and which were sent in parts.

use std::collections::HashMap;

use crate::event::mysql::{Bound, Layout, Values};
use crate::reader::{Reader, Short};

/// Statements that are known at most: what MySQL allows in a whole server (`max_prepared_stmt_count`).
const MAX_STATEMENTS: usize = 16_382;
/// Bytes of types that are kept at most, over all of a session's statements.
const MAX_HELD: usize = 1024 * 1024;
/// "The statement that was prepared last" (MariaDB).
pub(super) const LAST: u32 = u32::MAX;

/// Execute: with attributes (`CLIENT_QUERY_ATTRIBUTES`) the number of values stands in front of them where the statement has
/// parameters, and where it has none if this says so (`PARAMETER_COUNT_AVAILABLE`).
const COUNT_GIVEN: u8 = 0x08;
/// Bulk: the types are in front of the rows (`STMT_BULK_FLAG_CLIENT_SEND_TYPES`).
const BULK_TYPES: u16 = 0x80;

/// The statements of one session. One that is not known has values that nobody can tell; its execute works all
/// the same.
#[derive(Debug, Default)]
pub(super) struct Statements {
    known: HashMap<u32, Statement>,
    /// The one that was prepared last.
    last: u32,
    /// Bytes of types and of lists of parts.
    held: usize,
}

#[derive(Debug, Default)]
struct Statement {
    parameters: u16,
    /// Types, as they were sent last.
    types: Vec<u8>,
    count: u16,
    named: bool,
    /// Parameters of which parts were sent.
    in_parts: Vec<u16>,
    /// They were used by an execute: what comes now is for the next one.
    spent: bool,
}

impl Statement {
    fn held(&self) -> usize {
        self.types.len() + 2 * self.in_parts.len()
    }

    fn renew(&mut self) {
        if self.spent {
            self.in_parts.clear();
            self.spent = false;
        }
    }
}

impl Statements {
    /// The upstream has prepared one.
    pub(super) fn prepared(&mut self, number: u32, parameters: u16) {
        self.last = number;
        if self.known.len() < MAX_STATEMENTS {
            self.known.insert(number, Statement { parameters, ..Statement::default() });
        }
    }

    /// It is closed.
    pub(super) fn close(&mut self, number: u32) {
        if let Some(statement) = self.known.remove(&self.resolve(number)) {
            self.held = self.held.saturating_sub(statement.held());
        }
    }

    /// What was sent in parts is forgotten.
    pub(super) fn reset(&mut self, number: u32) {
        let number = self.resolve(number);
        if let Some(statement) = self.known.get_mut(&number) {
            self.held = self.held.saturating_sub(2 * statement.in_parts.len());
            statement.in_parts.clear();
        }
    }

    /// All are closed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A part of a value was sent.
    pub(super) fn part(&mut self, number: u32, parameter: u16) {
        let number = self.resolve(number);
        let Some(statement) = self.known.get_mut(&number) else { return };
        let before = statement.held();
        statement.renew();
        if !statement.in_parts.contains(&parameter) {
            statement.in_parts.push(parameter);
        }
        self.holds(number, before);
    }

    /// The values of an execute: what is behind its statement's number.
    pub(super) fn execute<'a>(
        &'a mut self,
        number: u32,
        content: &'a [u8],
        attributes: bool,
        cut: u64,
    ) -> Values<'a> {
        let number = self.resolve(number);
        let Some(statement) = self.known.get_mut(&number) else { return Values::unknown() };
        let before = statement.held();
        statement.renew();
        statement.spent = true;
        let found = statement.execute(content, attributes);
        self.holds(number, before);
        let statement = self.known.get(&number);
        match (statement, found) {
            (Some(statement), Ok((nulls, data))) => {
                let layout = Layout::Row { nulls, in_parts: &statement.in_parts };
                Values::new(layout, statement.bound(), data, cut)
            }
            _ => Values::unknown(),
        }
    }

    /// The values of a bulk execute.
    pub(super) fn bulk<'a>(&'a mut self, number: u32, content: &'a [u8], cut: u64) -> Values<'a> {
        let number = self.resolve(number);
        let Some(statement) = self.known.get_mut(&number) else { return Values::unknown() };
        let before = statement.held();
        let found = statement.bulk(content);
        self.holds(number, before);
        match (self.known.get(&number), found) {
            (Some(statement), Ok(data)) => Values::new(Layout::Bulk, statement.bound(), data, cut),
            _ => Values::unknown(),
        }
    }

    fn resolve(&self, number: u32) -> u32 {
        if number == LAST { self.last } else { number }
    }

    /// Counts what a statement holds now. One that makes the session hold too much is forgotten.
    fn holds(&mut self, number: u32, before: usize) {
        let now = self.known.get(&number).map_or(0, Statement::held);
        self.held = self.held.saturating_sub(before) + now;
        if self.held > MAX_HELD {
            self.close(number);
        }
    }
}

impl Statement {
    fn bound(&self) -> Bound<'_> {
        Bound { count: self.count, types: &self.types, named: self.named }
    }

    /// NULLs and data (MySQL `COM_STMT_EXECUTE`).
    fn execute<'a>(&mut self, content: &'a [u8], attributes: bool) -> Result<(&'a [u8], &'a [u8]), Short> {
        let mut reader = Reader::new(content);
        let flags = reader.u8()?;
        reader.u32_le()?;
        let mut count = self.parameters;
        if attributes && (self.parameters > 0 || flags & COUNT_GIVEN != 0) {
            count = u16::try_from(reader.lenenc()?).map_err(|_| Short)?;
        }
        if count == 0 {
            self.keep(Bound::NONE);
            return Ok((&[], &[]));
        }
        let nulls = reader.take(usize::from(count).div_ceil(8))?;
        if reader.u8()? == 1 {
            let bound = Bound::read(&mut reader, count, attributes)?;
            self.keep(bound);
        }
        // Without types: as they were.
        if self.count == count { Ok((nulls, reader.rest())) } else { Err(Short) }
    }

    /// The rows (MariaDB `COM_STMT_BULK_EXECUTE`).
    fn bulk<'a>(&mut self, content: &'a [u8]) -> Result<&'a [u8], Short> {
        let mut reader = Reader::new(content);
        if reader.u16_le()? & BULK_TYPES != 0 {
            let bound = Bound::read(&mut reader, self.parameters, false)?;
            self.keep(bound);
        }
        if self.count == self.parameters { Ok(reader.rest()) } else { Err(Short) }
    }

    fn keep(&mut self, bound: Bound<'_>) {
        self.types.clear();
        self.types.extend_from_slice(bound.types);
        (self.count, self.named) = (bound.count, bound.named);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::mysql::Value;

    /// An execute without attributes: no cursor, one iteration.
    fn content(behind: &[u8]) -> Vec<u8> {
        [&[0, 1, 0, 0, 0][..], behind].concat()
    }

    #[test]
    fn types_are_remembered_from_one_execute_to_the_next() {
        let mut statements = Statements::default();
        statements.prepared(5, 1);
        let first = content(&[0, 1, 3, 0, 7, 0, 0, 0]);
        assert_eq!(statements.execute(5, &first, false, 0).iter().collect::<Vec<_>>(), [Value::Int(7)]);
        let again = content(&[0, 0, 8, 0, 0, 0]);
        assert_eq!(statements.execute(LAST, &again, false, 0).iter().collect::<Vec<_>>(), [Value::Int(8)]);
        statements.close(5);
        assert_eq!(statements.execute(5, &again, false, 0).count(), None);
    }

    #[test]
    fn what_was_sent_in_parts_counts_for_one_execute() {
        let mut statements = Statements::default();
        statements.prepared(1, 2);
        statements.part(1, 0);
        statements.part(1, 0);
        let execute = content(&[0, 1, 0xFC, 0, 1, 0, 9]);
        let values = statements.execute(1, &execute, false, 0).iter().collect::<Vec<_>>();
        assert_eq!(values, [Value::InParts, Value::Int(9)]);
        let again = content(&[1, 0, 9]);
        let values = statements.execute(1, &again, false, 0).iter().collect::<Vec<_>>();
        assert_eq!(values, [Value::Null, Value::Int(9)]);
        statements.part(1, 1);
        statements.reset(1);
        let values = statements.execute(1, &again, false, 0).iter().collect::<Vec<_>>();
        assert_eq!(values, [Value::Null, Value::Int(9)]);
    }

    #[test]
    fn attributes_of_an_execute_stand_behind_its_values() {
        let mut statements = Statements::default();
        statements.prepared(1, 1);
        // Two values: the parameter, and an attribute with a name.
        let execute = [&[8, 1, 0, 0, 0, 2, 0, 1][..], b"\x01\x00\x00\xfe\x00\x01n\x07\x02hi"].concat();
        let values = statements.execute(1, &execute, true, 0).iter().collect::<Vec<_>>();
        assert_eq!(values, [Value::Int(7), Value::Text { bytes: b"hi", cut: 0 }]);
    }

    /// MySQL looks at the flag only where a statement has no parameters.
    #[test]
    fn with_attributes_their_number_stands_in_front_of_the_values_whatever_the_flag_says() {
        for flags in [0, COUNT_GIVEN] {
            let mut statements = Statements::default();
            statements.prepared(1, 1);
            let execute = [&[flags, 1, 0, 0, 0, 1, 0, 1][..], b"\x01\x00\x00\x07"].concat();
            let values = statements.execute(1, &execute, true, 0).iter().collect::<Vec<_>>();
            assert_eq!(values, [Value::Int(7)], "{flags}");
        }
        let mut statements = Statements::default();
        statements.prepared(1, 0);
        assert_eq!(statements.execute(1, &[0, 1, 0, 0, 0], true, 0).count(), Some(0));
    }

    #[test]
    fn a_truncated_execute_tells_less_and_never_panics() {
        let mut statements = Statements::default();
        let execute = content(&[0, 1, 3, 0, 7, 0, 0, 0]);
        for end in 0..execute.len() {
            statements.prepared(5, 1);
            assert_eq!(statements.execute(5, &execute[..end], false, 0).iter().count(), 0, "{end}");
        }
    }

    #[test]
    fn no_more_is_held_than_the_bound() {
        let mut statements = Statements::default();
        let types = vec![3; 2 * 60_000];
        for number in 0..40 {
            statements.prepared(number, 60_000);
            let execute = content(&[&vec![0xFF; 7_500][..], &[1], &types].concat());
            statements.execute(number, &execute, false, 0);
            assert!(statements.held <= MAX_HELD);
        }
        assert_eq!(statements.known.values().map(Statement::held).sum::<usize>(), statements.held);
        for number in 0..20_000 {
            statements.prepared(number, 0);
        }
        assert!(statements.known.len() <= MAX_STATEMENTS);
    }
}

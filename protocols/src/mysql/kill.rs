//! `KILL`: the number of a connection in a query, and the same query with another number.
//!
//! Clients know their connection by our number (module `connection_id`), and kill by it: Ctrl-C in `mysql` and
//! `mariadb` sends `KILL QUERY n` on a second connection. The upstream knows its own numbers alone.
//! (MySQL "KILL Statement"; MariaDB "KILL [CONNECTION | QUERY]".)

use std::ops::Range;

/// Bytes of a statement at most that is looked into: an honest one has a tenth.
const MAX_LENGTH: usize = 512;

/// Where, in a query that is one `KILL [HARD | SOFT] [CONNECTION | QUERY] n` and nothing else, the number stands,
/// and what it is. `None` for any other query: a `KILL QUERY ID n` of MariaDB's names a query, not a connection.
pub(super) fn find(text: &[u8]) -> Option<(Range<usize>, u64)> {
    let mut words = Words { text: text.get(..).filter(|text| text.len() <= MAX_LENGTH)?, at: 0 };
    let is = |word: &[u8], expected: &str| word.eq_ignore_ascii_case(expected.as_bytes());
    if !is(words.next_word()?.1, "KILL") {
        return None;
    }
    let mut number = words.next_word()?;
    for choices in [["HARD", "SOFT"], ["CONNECTION", "QUERY"]] {
        if choices.iter().any(|choice| is(number.1, choice)) {
            number = words.next_word()?;
        }
    }
    let value = std::str::from_utf8(number.1).ok()?.parse().ok()?;
    words.is_over().then_some((number.0, value))
}

/// The query with another number.
pub(super) fn replace(text: &[u8], place: Range<usize>, number: u32) -> Vec<u8> {
    let (front, back) =
        (text.get(..place.start).unwrap_or_default(), text.get(place.end..).unwrap_or_default());
    [front, number.to_string().as_bytes(), back].concat()
}

/// Words of letters and digits, with blanks and comments between them.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next_word(&mut self) -> Option<(Range<usize>, &'a [u8])> {
        self.skip_blanks();
        let rest = self.rest();
        let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let word = rest.get(..length).filter(|word| !word.is_empty())?;
        let start = self.at;
        self.at += length;
        Some((start..self.at, word))
    }

    /// Nothing follows but an end.
    fn is_over(&mut self) -> bool {
        self.skip_blanks();
        if self.rest().first() == Some(&b';') {
            self.at += 1;
            self.skip_blanks();
        }
        // Some clients send the NUL behind a text, too.
        matches!(self.rest(), [] | [0])
    }

    /// Blanks, comments, and the brackets of what only some versions run (`/*!50000 … */`).
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            self.at += match rest {
                [byte, ..] if byte.is_ascii_whitespace() => 1,
                [b'*', b'/', ..] => 2,
                [b'/', b'*', b'!', digits @ ..] => {
                    3 + digits.iter().take_while(|byte| byte.is_ascii_digit()).count()
                }
                [b'/', b'*', comment @ ..] => match comment.windows(2).position(|end| end == b"*/") {
                    Some(end) => end + 4,
                    None => return,
                },
                _ => return,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<u64> {
        find(text.as_bytes()).map(|(_, number)| number)
    }

    #[test]
    fn a_kill_of_a_connection_is_found_as_clients_write_it() {
        for text in [
            "KILL 2147483649",
            "KILL QUERY 2147483649",
            "kill connection 2147483649;",
            "KILL /*!50000 QUERY */ 2147483649",
            "/* stop */ KILL HARD QUERY\n2147483649 ; ",
            "KILL SOFT 2147483649\0",
        ] {
            assert_eq!(number(text), Some(2_147_483_649), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_kill() {
        for text in [
            "",
            "KILL",
            "KILL QUERY",
            "KILL USER alice",
            "KILL QUERY ID 7",
            "KILL 7; SELECT 1",
            "SELECT 'KILL 7'",
            "KILL 7 8",
            "KILL @thread",
            "KILL 99999999999999999999999",
            "KILL /* 7",
            "/*",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(number(&format!("KILL{}7", " ".repeat(MAX_LENGTH))), None);
    }

    #[test]
    fn only_the_number_is_replaced() {
        let text = b"/* 7 */ KILL /*!50000 QUERY */ 2147483655; ";
        let (place, _) = find(text).unwrap();
        assert_eq!(replace(text, place, 42), b"/* 7 */ KILL /*!50000 QUERY */ 42; ");
    }
}

//! Which files a statement offers to the upstream (`LOAD DATA LOCAL INFILE 'name'`, `LOAD XML LOCAL INFILE`).
//!
//! The upstream asks for a file by name in its answer, and the client sends whatever it is asked for: an
//! upstream that is not what it should be could ask for any file, in answer to any statement (MySQL "Security
//! Considerations for LOAD DATA LOCAL"). So it gets what the statement names, and nothing else.

/// The names that a text offers, as an upstream would read them: every string behind the words LOCAL INFILE, with
/// backslashes as escapes and without (`NO_BACKSLASH_ESCAPES`).
pub(super) fn offered(text: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(place) = position(rest, b"infile") {
        let (front, behind) = rest.split_at(place);
        rest = behind.get(b"infile".len()..).unwrap_or_default();
        if ends_with_local(front)
            && let Some((quote @ (b'\'' | b'"'), string)) = rest.trim_ascii_start().split_first()
        {
            names.extend(
                [literal(string, *quote, true), literal(string, *quote, false)].into_iter().flatten(),
            );
        }
    }
    names
}

/// The word in front is LOCAL, with blanks between.
fn ends_with_local(front: &[u8]) -> bool {
    let word = front.trim_ascii_end();
    word.len() < front.len() && word.last_chunk::<5>().is_some_and(|word| word.eq_ignore_ascii_case(b"local"))
}

/// Without regard to case.
fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window.eq_ignore_ascii_case(word))
}

/// A string up to its closing quote; `None` when it is not closed. (MySQL "String Literals".)
fn literal(string: &[u8], quote: u8, escapes: bool) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut bytes = string.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if escapes => name.push(match bytes.next()? {
                b'0' => 0,
                b'b' => 8,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'Z' => 26,
                other => other,
            }),
            _ if byte == quote && bytes.peek() == Some(&quote) => name.extend(bytes.next()),
            _ if byte == quote => return Some(name),
            _ => name.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(text: &str, name: &str) -> bool {
        offered(text.as_bytes()).iter().any(|offered| offered == name.as_bytes())
    }

    #[test]
    fn a_file_is_offered_by_its_name_however_it_is_written() {
        for (text, name) in [
            ("LOAD DATA LOCAL INFILE '/tmp/a.csv' INTO TABLE t", "/tmp/a.csv"),
            ("load data low_priority local\n infile \"a b\" into table t", "a b"),
            ("LOAD XML LOCAL INFILE 'it''s' INTO TABLE t", "it's"),
            (r"LOAD DATA LOCAL INFILE 'C:\\a\tb' INTO TABLE t", "C:\\a\tb"),
            (r"LOAD DATA LOCAL INFILE 'C:\a' INTO TABLE t", r"C:\a"),
            (
                "SELECT 1; LOAD DATA LOCAL INFILE 'x' INTO TABLE t; LOAD DATA LOCAL INFILE 'y' INTO TABLE t",
                "y",
            ),
        ] {
            assert!(offers(text, name), "{text}");
            assert!(!offers(text, "/etc/passwd"), "{text}");
        }
    }

    #[test]
    fn what_names_no_file_offers_none() {
        for text in [
            "SELECT 1",
            "LOAD DATA INFILE '/tmp/a.csv' INTO TABLE t",
            "LOAD DATA LOCAL INFILE",
            "LOAD DATA LOCAL INFILE 'unclosed",
            "SELECT local_infile, 'x'",
            "LOCALINFILE 'x'",
        ] {
            assert_eq!(offered(text.as_bytes()), Vec::<Vec<u8>>::new(), "{text}");
        }
    }
}

//! Text from outside, for logs and for people: it shows as what it is.

/// Whether a character may stand in a line: no control characters (C0, DEL, C1), no line separators, and nothing that turns
/// the direction of writing, by which text reads as another than it is (Unicode TR 36, 3.7).
pub(crate) fn may_stand(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a peer said, as one line of at most so many characters.
pub(crate) fn one_line(text: &[u8], longest: usize) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| may_stand(*c)).take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_neither_drives_terminals_nor_reads_as_another_text() {
        assert_eq!(
            one_line("a\x1b[2J\n\u{9b}b\u{202e}c\u{2066}\u{2028}d\u{200f}".as_bytes(), 100),
            "a[2Jbcd"
        );
        assert_eq!(one_line("Olga 用户 שלום ü".as_bytes(), 100), "Olga 用户 שלום ü");
        assert_eq!(one_line(b"abc", 2), "ab");
    }
}

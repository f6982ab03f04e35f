//! Text from outside, for logs and for people: it shows as what it is.

/// Whether a character may stand in a name or a line: no control characters (C0, DEL, C1), no line separators, and nothing
/// that turns the direction of writing, by which text reads as another than it is (Unicode TR 36, 3.7).
#[must_use]
pub fn may_stand(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

//! What of a program's output may reach the terminal of somebody who only watches.
//!
//! A terminal obeys its output: some sequences make it answer (as if the watcher had typed), retitle the window, fill the
//! clipboard, report the mouse. A replay needs none of these. What is known to draw passes; everything else is left out.

use auth::text::may_stand;

/// Longest control sequence that passes.
const MAX_SEQUENCE: usize = 128;

const ESC: char = '\x1b';
const BELL: char = '\x07';

/// Private modes that only change how things look: cursor keys, origin, wrapping, cursor, alternate screens.
const MODES: &[&str] = &["1", "5", "6", "7", "12", "25", "45", "47", "1047", "1048", "1049"];

/// Passes what draws. Sequences may be cut anywhere between two pieces.
#[derive(Debug, Default)]
pub struct Shown(Parser);

/// Text alone: no sequences at all.
#[derive(Debug, Default)]
pub struct Plain {
    parser: Parser,
    /// A return that may yet be the first half of a line break.
    returned: bool,
}

#[derive(Debug, Default)]
struct Parser {
    state: State,
    sequence: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate character: one more.
    Charset,
    /// After ESC [.
    Control,
    /// After what begins a text for the terminal itself: to its end.
    Hidden,
    /// An ESC in there, which may begin the end.
    HiddenEscape,
}

/// One whole thing.
enum Piece<'a> {
    Character(char),
    /// ESC and one or two more.
    Escape(&'a str),
    /// ESC [ … final.
    Control(&'a str),
}

impl Parser {
    fn take(&mut self, c: char, mut found: impl FnMut(Piece<'_>)) {
        match self.state {
            State::Hidden | State::HiddenEscape => {
                let ended = matches!(c, BELL | '\u{9c}' | '\x18' | '\x1a')
                    || (self.state == State::HiddenEscape && c == '\\');
                self.state = match c {
                    _ if ended => State::Text,
                    ESC => State::HiddenEscape,
                    _ => State::Hidden,
                };
            }
            // A new sequence gives up an old one; CAN and SUB too.
            _ if c == ESC => self.begin(State::Escape),
            _ if matches!(c, '\x18' | '\x1a') => self.begin(State::Text),
            State::Text => match c {
                // The same in one character (C1).
                '\u{9b}' => self.begin(State::Control),
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.begin(State::Hidden),
                c => found(Piece::Character(c)),
            },
            State::Escape => match c {
                '[' => self.begin(State::Control),
                ']' | 'P' | 'X' | '^' | '_' => self.begin(State::Hidden),
                ' '..='/' => {
                    self.sequence.push(c);
                    self.state = State::Charset;
                }
                c => {
                    self.sequence.push(c);
                    found(Piece::Escape(&self.sequence));
                    self.begin(State::Text);
                }
            },
            State::Charset => {
                self.sequence.push(c);
                if !(' '..='/').contains(&c) {
                    found(Piece::Escape(&self.sequence));
                    self.begin(State::Text);
                } else if self.sequence.len() > MAX_SEQUENCE {
                    self.begin(State::Text);
                }
            }
            State::Control => match c {
                '@'..='~' => {
                    self.sequence.push(c);
                    found(Piece::Control(&self.sequence));
                    self.begin(State::Text);
                }
                ' '..='?' if self.sequence.len() < MAX_SEQUENCE => self.sequence.push(c),
                // Controls in the middle are done at once, as terminals do.
                c if c < ' ' => found(Piece::Character(c)),
                _ => self.begin(State::Text),
            },
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.sequence.clear();
    }
}

impl Shown {
    /// What of `text` may be shown.
    pub fn take(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            self.0.take(c, |piece| match piece {
                Piece::Character(c) if draws(c) => shown.push(c),
                Piece::Escape(sequence) if escape_draws(sequence) => {
                    shown.push(ESC);
                    shown.push_str(sequence);
                }
                Piece::Control(sequence) => shown.push_str(&control(sequence)),
                Piece::Character(_) | Piece::Escape(_) => {}
            });
        }
        shown
    }
}

/// ENQ makes a terminal answer; the other controls either draw or do nothing.
fn draws(c: char) -> bool {
    match c {
        BELL | '\x08' | '\t' | '\n' | '\x0b' | '\x0c' | '\r' | '\x0e' | '\x0f' => true,
        c => may_stand(c),
    }
}

fn escape_draws(sequence: &str) -> bool {
    let mut characters = sequence.chars();
    match (characters.next(), characters.next(), characters.next()) {
        // Save and restore, index, next line, tab stop, reverse index, keypad, reset.
        (Some('7' | '8' | 'D' | 'E' | 'H' | 'M' | '=' | '>' | 'c' | 'N' | 'O'), None, _) => true,
        // Character sets, and the test pattern.
        (Some('(' | ')' | '*' | '+'), Some('A' | 'B' | '0' | '1' | '2'), None) => true,
        (Some('#'), Some('3' | '4' | '5' | '6' | '8'), None) => true,
        _ => false,
    }
}

/// A control sequence, or as much of it as draws.
fn control(sequence: &str) -> String {
    let whole = || format!("\x1b[{sequence}");
    let Some((at, last)) = sequence.char_indices().next_back() else { return String::new() };
    let parameters = sequence.get(..at).unwrap_or_default();
    let plain = parameters.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':'));
    match (last, parameters.strip_prefix('?')) {
        // Cursor, erasing, inserting, deleting, scrolling, tabs, colours, margins.
        (
            '@'
            | 'A'..='M'
            | 'P'
            | 'S'
            | 'T'
            | 'X'
            | 'Z'
            | '`'
            | 'a'
            | 'b'
            | 'd'..='g'
            | 'm'
            | 'r'
            | 's'
            | 'u',
            None,
        ) if plain => whole(),
        // Erasing what is not protected.
        ('J' | 'K', Some(_)) => whole(),
        // Insert mode, and what a line break means.
        ('h' | 'l', None) if matches!(parameters, "4" | "20") => whole(),
        ('h' | 'l', Some(modes)) => {
            let modes: Vec<_> = modes.split(';').filter(|mode| MODES.contains(mode)).collect();
            if modes.is_empty() { String::new() } else { format!("\x1b[?{}{last}", modes.join(";")) }
        }
        // The shape of the cursor; a soft reset.
        ('q', None) if parameters.ends_with(' ') => whole(),
        ('p', None) if parameters == "!" => whole(),
        _ => String::new(),
    }
}

impl Plain {
    /// The text of `text`: lines, tabs, and nothing that moves.
    pub fn take(&mut self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let returned = &mut self.returned;
        for c in text.chars() {
            self.parser.take(c, |piece| {
                let Piece::Character(c) = piece else { return };
                match c {
                    '\r' => *returned = true,
                    '\n' | '\t' => plain.push(c),
                    c if !may_stand(c) => {}
                    c => {
                        // A line that is written over is a new line here.
                        if std::mem::take(returned) {
                            plain.push('\n');
                        }
                        plain.push(c);
                    }
                }
                if c != '\r' {
                    *returned = false;
                }
            });
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Shown::default().take(text)
    }

    #[test]
    fn what_draws_passes() {
        for text in [
            "plain ü 用户\r\n\ttab\x08\x07",
            "\x1b[1;31mred\x1b[0m\x1b[38:2::1:2:3m",
            "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b[1;24r",
            "\x1b[?1049h\x1b[?25l\x1b[?7h\x1b[4h",
            "\x1b7\x1b8\x1bM\x1b(0lqk\x1b(B\x1b[2 q\x1bc",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn what_makes_the_terminal_answer_does_not() {
        for text in [
            "\x05",
            "\x1b[c",
            "\x1b[>c",
            "\x1b[=c",
            "\x1b[0c",
            "\x1b[5n",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[x",
            "\x1b[18t",
            "\x1b[21t",
            "\x1b[?2026$p",
            "\x1b[>q",
            "\x1b[?u",
            "\x1bZ",
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1b[5i",
        ] {
            assert_eq!(shown(text), "", "{text:?}");
        }
    }

    #[test]
    fn titles_clipboards_links_and_mice_are_left_out() {
        for text in [
            "\x1b]0;evil\x07",
            "\x1b]2;evil\x1b\\",
            "\x1b]52;c;ZXZpbA==\x07",
            "\x1b]8;;http://evil\x07",
            "\u{9d}0;evil\u{9c}",
            "\x1b_G evil\x1b\\",
            "\x1b^pm\x1b\\",
            "\x1bXsos\x1b\\",
            "\x1b[?1000h",
            "\x1b[?1004h",
            "\x1b[?2004h",
            "\x1b[>4;2m",
            // What would turn the direction of what follows.
            "\u{202e}",
            "\u{2066}",
            "\u{200f}",
        ] {
            assert_eq!(shown(&format!("a{text}b")), "ab", "{text:?}");
        }
        assert_eq!(shown("\x1b[?1000;25;1006h"), "\x1b[?25h", "the rest of it passes");
        assert_eq!(shown("\u{9b}6n\u{9b}31mx"), "\x1b[31mx");
    }

    #[test]
    fn a_sequence_that_comes_in_pieces_is_the_same_sequence() {
        for text in ["\x1b[31mred\x1b]0;t\x1b\\x\x1b[6n", "\x1b]52;c;x\x07y", "\x1b(0q\x1bP1\x1b\\z"] {
            let mut filter = Shown::default();
            let pieces: String = text.chars().map(|c| filter.take(&c.to_string())).collect();
            assert_eq!(pieces, shown(text));
        }
    }

    #[test]
    fn a_sequence_without_end_is_not_kept() {
        let mut filter = Shown::default();
        assert_eq!(filter.take(&format!("\x1b[{}", "1;".repeat(1000))).len(), 1000 * 2 - MAX_SEQUENCE - 1);
        let mut filter = Shown::default();
        assert_eq!(filter.take(&format!("\x1b]{}", "x".repeat(100_000))), "");
        assert!(filter.0.sequence.is_empty());
        assert_eq!(filter.take("\x07shown"), "shown");
    }

    #[test]
    fn plain_text_has_lines_and_nothing_else() {
        let plain = |text: &str| Plain::default().take(text);
        assert_eq!(plain("\x1b[31mls\x1b[0m\r\na\tb\r\n"), "ls\na\tb\n");
        assert_eq!(plain("10%\r20%\r\n"), "10%\n20%\n");
        assert_eq!(plain("\x1b]0;t\x07x\x07\x08\u{9b}6n"), "x");
        let mut pieces = Plain::default();
        assert_eq!([pieces.take("a\r"), pieces.take("\nb")].concat(), "a\nb");
    }
}

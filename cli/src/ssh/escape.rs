//! What a person types to tsh itself in the middle of a shell: `~.` after a line break hangs up (ssh(1), ESCAPE CHARACTERS).

/// Watches what is typed. An escape is the escape character at the beginning of a line and the one after it.
#[derive(Debug)]
pub(super) struct Escapes {
    character: Option<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    Escape,
    Within,
}

/// What came of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// All of it is for the other end.
    Input,
    /// Hang up; what came before it was sent.
    HangUp,
    /// Show what can be typed.
    Help,
}

impl Escapes {
    /// With an escape character; `None`: everything is for the other end.
    pub(super) fn new(character: Option<u8>) -> Self {
        Self { character, state: State::LineStart }
    }

    /// Moves what is for the other end from `typed` to `input`, up to and without an escape; `typed` keeps what follows it.
    pub(super) fn take(&mut self, typed: &mut Vec<u8>, input: &mut Vec<u8>) -> Typed {
        let Some(character) = self.character else {
            input.append(typed);
            return Typed::Input;
        };
        let mut used = 0;
        let mut what = Typed::Input;
        for &byte in typed.iter() {
            used += 1;
            match (self.state, byte) {
                (State::LineStart, byte) if byte == character => self.state = State::Escape,
                (State::Escape, b'.') => what = Typed::HangUp,
                (State::Escape, b'?') => what = Typed::Help,
                // Twice is once.
                (State::Escape, byte) if byte == character => {
                    input.push(byte);
                    self.state = State::Within;
                }
                (state, byte) => {
                    if state == State::Escape {
                        input.push(character);
                    }
                    input.push(byte);
                    self.state = if matches!(byte, b'\r' | b'\n') { State::LineStart } else { State::Within };
                }
            }
            if what != Typed::Input {
                self.state = State::LineStart;
                break;
            }
        }
        typed.drain(..used);
        what
    }

    /// What is shown for `~?`.
    pub(super) fn help(&self) -> String {
        let shown = char::from(self.character.unwrap_or(b'~'));
        format!(
            "{shown}?\r\nSupported escape sequences:\r\n {shown}.   - terminate connection\r\n {shown}?   - this message\r\n \
             {shown}{shown}   - send the escape character by typing it twice\r\n(Note that escapes are only recognized immediately \
             after newline.)\r\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reaches the other end, and what came of it.
    fn typed(character: Option<u8>, pieces: &[&str]) -> (String, Typed) {
        let mut escapes = Escapes::new(character);
        let mut input = Vec::new();
        for piece in pieces {
            let what = escapes.take(&mut piece.as_bytes().to_vec(), &mut input);
            if what != Typed::Input {
                return (String::from_utf8(input).unwrap(), what);
            }
        }
        (String::from_utf8(input).unwrap(), Typed::Input)
    }

    #[test]
    fn a_tilde_and_a_dot_hang_up_at_the_beginning_of_a_line_alone() {
        assert_eq!(typed(Some(b'~'), &["~."]), (String::new(), Typed::HangUp));
        assert_eq!(typed(Some(b'~'), &["ls\r~.rest"]), ("ls\r".to_owned(), Typed::HangUp));
        assert_eq!(typed(Some(b'~'), &["ls\r", "~", "."]), ("ls\r".to_owned(), Typed::HangUp));
        assert_eq!(typed(Some(b'~'), &["a~."]), ("a~.".to_owned(), Typed::Input));
        assert_eq!(typed(Some(b'~'), &["~?"]), (String::new(), Typed::Help));
    }

    #[test]
    fn everything_else_is_for_the_other_end() {
        for text in ["~/bin\r", "~x", "cd ~\r\n", "a\r~\r"] {
            assert_eq!(typed(Some(b'~'), &[text]), (text.to_owned(), Typed::Input));
        }
        assert_eq!(typed(Some(b'~'), &["~~."]), ("~.".to_owned(), Typed::Input));
        assert_eq!(typed(None, &["~."]), ("~.".to_owned(), Typed::Input));
        assert_eq!(typed(Some(b'%'), &["~.\r%."]), ("~.\r".to_owned(), Typed::HangUp));
    }

    #[test]
    fn what_follows_an_escape_is_kept() {
        let mut escapes = Escapes::new(Some(b'~'));
        let (mut typed, mut input) = (b"~?ls\r".to_vec(), Vec::new());
        assert_eq!(escapes.take(&mut typed, &mut input), Typed::Help);
        assert_eq!(escapes.take(&mut typed, &mut input), Typed::Input);
        assert_eq!(input, b"ls\r");
    }
}

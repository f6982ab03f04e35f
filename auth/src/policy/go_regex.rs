//! Regular expressions as Teleport's users write them: Go's RE2 syntax, run by the `regex` crate.
//!
//! The two agree but for a few corners, and each corner would let a pattern match other texts than its author meant:
//! `\d`, `\w`, `\s` and `\b` are ASCII in Go and Unicode here; inside brackets `[`, `&&` and `~~` are plain characters in
//! Go and set operations here. They are rewritten. Everything that only one of the two knows is an error.

use regex::{Regex, RegexBuilder};

/// Bytes of a pattern. A label's pattern is a line.
const MAX_PATTERN: usize = 1024;
/// Bytes of a compiled pattern; bounds what nested repetitions can cost.
const MAX_COMPILED: usize = 256 << 10;

/// Compiles a pattern.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("longer than {MAX_PATTERN} bytes"));
    }
    RegexBuilder::new(&translate(pattern)?)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("compiled it is larger than {limit} bytes"),
            // The library draws the pattern over several lines; the last one says what is wrong.
            error => {
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        })
}

/// What stood last inside brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// A character that a range may begin with.
    Character,
    /// Its hyphen: a range is open.
    Hyphen,
    /// Nothing yet, a whole range, or a class.
    Whole,
}

impl Last {
    fn and_character(self) -> Self {
        if self == Self::Hyphen { Self::Whole } else { Self::Character }
    }

    /// A class ends no range. Put in its place here, it would close the brackets early, and the rest would be text.
    fn and_class(self) -> Result<Self, String> {
        match self {
            Self::Hyphen => Err("a range that ends with a class; escape the hyphen".to_owned()),
            Self::Character | Self::Whole => Ok(Self::Whole),
        }
    }
}

fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let (mut in_brackets, mut last) = (false, Last::Whole);
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => {
                    let is_class = "dDwWsS".contains(escaped);
                    last = if in_brackets && is_class { last.and_class()? } else { last.and_character() };
                    escape(escaped, in_brackets, &mut out)?;
                }
                None => return Err("ends with a backslash".to_owned()),
            },
            '[' if in_brackets && chars.peek() == Some(&':') => {
                // A class such as [:alpha:], up to its own closing bracket.
                last = last.and_class()?;
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' if in_brackets => {
                last = last.and_character();
                out.push_str(r"\[");
            }
            '[' => {
                (in_brackets, last) = (true, Last::Whole);
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // The first bracket is a character, as in []a].
                if chars.next_if_eq(&']').is_some() {
                    last = Last::Character;
                    out.push_str(r"\]");
                }
            }
            ']' if in_brackets => {
                in_brackets = false;
                out.push(']');
            }
            '&' | '~' if in_brackets => {
                last = last.and_character();
                out.extend(['\\', c]);
            }
            '-' if in_brackets && chars.peek() == Some(&'-') => {
                return Err("two hyphens inside brackets; escape one of them".to_owned());
            }
            '-' if in_brackets => {
                let opens = last == Last::Character && chars.peek() != Some(&']');
                last = if opens { Last::Hyphen } else { Last::Whole };
                out.push('-');
            }
            '(' if !in_brackets && chars.peek() == Some(&'?') => group(&mut chars, &mut out)?,
            _ => {
                last = last.and_character();
                out.push(c);
            }
        }
    }
    Ok(out)
}

fn escape(escaped: char, in_brackets: bool, out: &mut String) -> Result<(), String> {
    let class = match escaped {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'b' if !in_brackets => r"(?-u:\b)",
        'B' | 'b' => return Err(format!(r"\{escaped} is not supported there")),
        '<' | '>' => return Err(format!(r"\{escaped} is not known")),
        other => {
            out.extend(['\\', other]);
            return Ok(());
        }
    };
    out.push_str(class);
    Ok(())
}

/// The start of a group with flags or a name. Go knows the flags i, m, s and U.
fn group(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('(');
    for c in chars.by_ref() {
        out.push(c);
        match c {
            '?' | 'i' | 'm' | 's' | 'U' | '-' => {}
            ':' | ')' | 'P' | '<' => return Ok(()),
            other => return Err(format!("unknown flag {other:?}")),
        }
    }
    Err("a group is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().is_match(text)
    }

    #[test]
    fn classes_are_ascii_as_in_go() {
        assert!(matches(r"^\d+$", "12") && !matches(r"^\d+$", "١٢"));
        assert!(matches(r"^\w+$", "aZ_9") && !matches(r"^\w+$", "é"));
        assert!(matches(r"^\s$", "\t") && !matches(r"^\s$", "\u{a0}"));
        assert!(matches(r"^[\d.-]+$", "1.2-3") && !matches(r"^[^\d]$", "1"));
        assert!(matches(r"^\D\W\S$", "aéb") && !matches(r"^\D$", "1"));
        assert!(matches(r"\bdev\b", "a dev b") && !matches(r"\bdev\b", "devel"));
    }

    #[test]
    fn what_is_a_set_operation_here_is_plain_as_in_go() {
        assert!(matches("^[a&&b]$", "a") && matches("^[a&&b]$", "&"));
        assert!(matches("^[a~~b]$", "a") && matches("^[[a]$", "["));
        assert!(matches("^[]a]+$", "]a") && matches("^[^]a]$", "b") && !matches("^[^]a]$", "]"));
        assert!(matches("^[[:digit:]x]+$", "1x") && !matches("^[[:digit:]x]+$", ":"));
        assert!(compile("^[a--b]$").is_err());
    }

    #[test]
    fn a_range_that_ends_with_a_class_is_an_error_as_in_go() {
        for pattern in
            [r"^[.-\w]+$", r"^[+-\d]$", r"^[\\-\d]$", r"^[^A-\S]$", r"^[\[-\d]$", "^[+-[:alpha:]]$"]
        {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        for pattern in [r"^[-\d]+$", r"^[\w-]+$", r"^[a\-\d]+$", r"^[a-c-\d]+$", r"^[\w-\d]+$", r"^[\d.-]+$"]
        {
            assert!(matches(pattern, "-1") || matches(pattern, "-"), "{pattern}");
        }
        assert!(matches(r"^[a-c\d]+$", "b1") && !matches(r"^[a-c\d]+$", "-"));
    }

    #[test]
    fn what_only_one_of_the_two_knows_is_refused() {
        for pattern in
            [r"(?x) a b", r"(?-u:a)", r"(?u)a", r"\<a", r"a\B", r"\Qa\E", r"(?=a)", r"(a)\1", r"a\"]
        {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        for pattern in [r"(?i)A", r"(?is:a.b)", r"(?P<n>a)", r"(?:a)", r"\x41\n\.", r"\pL", r"a{2,3}?"] {
            assert!(compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn costly_patterns_are_refused() {
        assert!(compile("^((a{100}){100}){100}$").is_err());
        assert!(compile(&"a".repeat(MAX_PATTERN + 1)).is_err());
    }
}

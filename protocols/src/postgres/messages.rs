//! HOT: client messages after login, as borrowed views (PostgreSQL documentation, "Message Formats").
//!
//! A message is a type byte, a length that counts itself and what follows, and the content. Only the messages
//! that make the upstream do something, or end a round, are looked into; a message that PostgreSQL would not
//! accept is not forwarded either, because then what the tap saw and what the upstream reads could differ.

use crate::answer::{Answer, CAPTURED, Transaction};
use crate::event::{Event, Malformed, Parameters, PreparedKind};
use crate::frame::{Frame, Framing, Handling, Head};
use crate::reader::{Reader, Short};
use crate::refusal::Refusal;

use super::error_response;

/// PostgreSQL's own limits on the length field (`PQ_SMALL_MESSAGE_LIMIT`, `PQ_LARGE_MESSAGE_LIMIT`).
const SMALL: u32 = 10_000;
const LARGE: u32 = 0x3FFF_FFFE;

/// Type byte and length.
const HEADER: usize = 5;

/// Cuts PostgreSQL sessions into messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages;

impl Framing for Messages {
    const HEADER: usize = HEADER;

    fn head(&mut self, header: &[u8]) -> Result<Head, Malformed> {
        let [kind, length @ ..] = header else { return Err(Malformed::UnknownType(0)) };
        let (handling, limit) = match kind {
            b'B' | b'F' | b'P' | b'Q' => (Handling::Show, LARGE),
            b'C' | b'D' | b'E' | b'S' | b'c' | b'f' => (Handling::Show, SMALL),
            b'd' => (Handling::Pass, LARGE),
            // With content it fails, and what lies behind it is skipped.
            b'H' => (Handling::Pass, 4),
            b'X' => (Handling::Last, SMALL),
            _ => return Err(Malformed::UnknownType(*kind)),
        };
        let length = Reader::new(length).u32().unwrap_or(0);
        if !(4..=limit).contains(&length) {
            return Err(Malformed::Length { kind: *kind, length });
        }
        Ok(Head { length: u64::from(length) + 1, handling })
    }

    fn event<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>, Malformed> {
        let (header, content) = frame.bytes.split_at_checked(HEADER).unwrap_or_default();
        let kind = header.first().copied().unwrap_or(0);
        view(kind, content, frame.cut).map_err(|Short| Malformed::Content(kind))
    }

    fn text_end(bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|byte| *byte == 0)
    }

    fn text_ended(header: &[u8], behind: Option<u64>) -> Result<(), Malformed> {
        let kind = header.first().copied().unwrap_or(0);
        match (kind, behind) {
            // The NUL alone.
            (b'Q', Some(1)) => Ok(()),
            // The NUL, a number, and so many parameter types.
            (b'P', Some(behind)) if behind >= 3 && (behind - 3).is_multiple_of(4) => Ok(()),
            _ => Err(Malformed::Content(kind)),
        }
    }

    fn upstream_length(header: &[u8]) -> Option<u64> {
        let mut reader = Reader::new(header);
        reader.u8().ok()?;
        let length = reader.u32().ok().filter(|length| (4..=i32::MAX as u32).contains(length))?;
        Some(u64::from(length) + 1)
    }

    fn answer_bytes(header: &[u8]) -> Option<usize> {
        match header.first()? {
            b'C' | b'E' | b'S' => Some(CAPTURED),
            b'Z' => Some(1),
            b'I' | b's' | b'V' | b'G' | b'H' | b'W' | b'1' | b'2' | b'3' | b'n' | b'T' => Some(0),
            _ => None,
        }
    }

    fn answer<'a>(header: &[u8], content: &'a [u8]) -> Option<Answer<'a>> {
        Some(match header.first()? {
            b'C' => Answer::Completed { tag: content.split(|byte| *byte == 0).next().unwrap_or_default() },
            b'I' => Answer::Empty,
            // A statement is described by its parameters (`t`) and then by one of these; a portal by one of these.
            b'1' | b'2' | b'3' | b'n' | b'T' => Answer::Stepped,
            b's' => Answer::Suspended,
            b'V' => Answer::Returned,
            b'G' => Answer::CopyIn,
            b'H' => Answer::CopyOut,
            b'W' => Answer::CopyBoth,
            b'E' => Answer::Failed { sql_state: error_response::sql_state_in(content), number: None },
            b'S' => Answer::Encoding { name: encoding(content)? },
            b'Z' => Answer::Ready { transaction: transaction(content) },
            _ => return None,
        })
    }

    fn farewell(&self, refusal: &Refusal) -> Vec<u8> {
        error_response::fatal(refusal)
    }
}

/// What ParameterStatus says of `client_encoding`, if it is about that.
fn encoding(content: &[u8]) -> Option<&[u8]> {
    content.strip_prefix(b"client_encoding\0")?.split(|byte| *byte == 0).next()
}

/// The encodings that are told of in whole messages, such as those before the session begins.
pub(super) fn encodings(mut messages: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(Messages::upstream_length(messages.get(..HEADER)?)?).ok()?;
        let (message, rest) = messages.split_at_checked(length)?;
        messages = rest;
        message.split_at_checked(HEADER)
    })
    .filter_map(|(header, content)| Messages::answer(header, content))
    .filter(|answer| matches!(answer, Answer::Encoding { .. }))
}

/// What ReadyForQuery says.
fn transaction(content: &[u8]) -> Option<Transaction> {
    match content {
        b"I" => Some(Transaction::Idle),
        b"T" => Some(Transaction::Open),
        b"E" => Some(Transaction::Failed),
        _ => None,
    }
}

/// The view of one message. With `cut` > 0 its last field is there only in part.
fn view(kind: u8, content: &[u8], cut: u64) -> Result<Event<'_>, Short> {
    let mut reader = Reader::new(content);
    let event = match kind {
        b'Q' => return query(reader, cut),
        b'P' => return parse(reader, cut),
        b'B' => return bind(reader, cut),
        b'E' => Event::Execute { portal: reader.text()?, max_rows: reader.u32()? },
        b'C' => Event::Close { kind: prepared_kind(&mut reader)?, name: reader.text()? },
        b'D' => Event::Describe { kind: prepared_kind(&mut reader)?, name: reader.text()? },
        b'F' => return function_call(reader, cut),
        b'S' => Event::Sync,
        // PostgreSQL does not look further either.
        b'c' => return Ok(Event::CopyEnd { failed: false }),
        b'f' => return Ok(Event::CopyEnd { failed: true }),
        _ => return Err(Short),
    };
    reader.finish()?;
    Ok(event)
}

fn prepared_kind(reader: &mut Reader<'_>) -> Result<PreparedKind, Short> {
    match reader.u8()? {
        b'S' => Ok(PreparedKind::Statement),
        b'P' => Ok(PreparedKind::Portal),
        _ => Err(Short),
    }
}

fn query(mut reader: Reader<'_>, cut: u64) -> Result<Event<'_>, Short> {
    match (reader.text(), cut) {
        (Ok(text), 0) => {
            reader.finish()?;
            Ok(Event::Query { text, cut: 0 })
        }
        // The text is cut, and its last byte, which is not shown, is the NUL.
        (Err(Short), 1..) => Ok(Event::Query { text: reader.rest(), cut: cut - 1 }),
        _ => Err(Short),
    }
}

fn parse(mut reader: Reader<'_>, cut: u64) -> Result<Event<'_>, Short> {
    // A name that fills the whole view is longer than any name is.
    let statement = reader.text()?;
    match (reader.text(), cut) {
        (Ok(text), 0) => {
            let types = reader.u16()?;
            reader.take(usize::from(types) * 4)?;
            reader.finish()?;
            Ok(Event::Parse { statement, text, cut: 0 })
        }
        // Only parameter types are cut.
        (Ok(text), _) => Ok(Event::Parse { statement, text, cut: 0 }),
        (Err(Short), 1..) => Ok(Event::Parse { statement, text: reader.rest(), cut }),
        (Err(Short), 0) => Err(Short),
    }
}

fn bind(mut reader: Reader<'_>, cut: u64) -> Result<Event<'_>, Short> {
    let portal = reader.text()?;
    let statement = reader.text()?;
    let parameters = parameters(&mut reader, cut)?;
    if cut == 0 {
        let result_formats = reader.u16()?;
        reader.take(usize::from(result_formats) * 2)?;
        reader.finish()?;
    }
    Ok(Event::Bind { portal, statement, parameters, cut })
}

fn function_call(mut reader: Reader<'_>, cut: u64) -> Result<Event<'_>, Short> {
    let function = reader.u32()?;
    let arguments = parameters(&mut reader, cut)?;
    if cut == 0 {
        reader.u16()?;
        reader.finish()?;
    }
    Ok(Event::FunctionCall { function, arguments, cut })
}

/// Format codes, then values. Every value is walked over once, so that iterating later cannot fail. When the
/// message is cut, the values may end anywhere.
fn parameters<'a>(reader: &mut Reader<'a>, cut: u64) -> Result<Parameters<'a>, Short> {
    let formats = reader.u16()?;
    let formats = reader.take(usize::from(formats) * 2)?;
    let count = reader.u16()?;
    // One format for all, one for each, or none, which is text.
    if !matches!(formats.len() / 2, 0 | 1) && formats.len() / 2 != usize::from(count) {
        return Err(Short);
    }
    let values = reader.rest();
    for _ in 0..count {
        if let Err(Short) = value(reader) {
            if cut == 0 {
                return Err(Short);
            }
            reader.take(reader.rest().len())?;
            break;
        }
    }
    Ok(Parameters { formats, count, values })
}

/// One value: −1 is NULL, any other negative length is wrong.
fn value<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Short> {
    match reader.u32()? {
        u32::MAX => Ok(None),
        length => {
            let length =
                i32::try_from(length).ok().and_then(|length| usize::try_from(length).ok()).ok_or(Short)?;
            reader.take(length).map(Some)
        }
    }
}

#[cfg(test)]
mod tests;

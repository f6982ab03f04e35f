//! A refusal in MySQL's words: an ERR packet with number, SQLSTATE and message; and what an upstream's says.

use crate::error::UpstreamReport;
use crate::reader::{Reader, Short};
use crate::refusal::{Refusal, RefusalCode, SqlState};
use crate::text::one_line;

/// Bytes of a message at most: clients keep 512 with a NUL (`MYSQL_ERRMSG_SIZE`), and cut the rest wherever it
/// falls.
const MAX_MESSAGE: usize = 511;
/// Characters of an upstream's message that are kept for the log.
const KEPT: usize = 1_000;
/// The first byte of an ERR packet.
pub(super) const ERR: u8 = 0xFF;

/// Number and SQLSTATE of each code (MySQL "Server Error Message Reference").
fn number_and_state(code: RefusalCode) -> (u16, SqlState) {
    let (number, state) = match code {
        // ER_ACCESS_DENIED_ERROR
        RefusalCode::NotAuthenticated | RefusalCode::AccessDenied | RefusalCode::UpstreamRejected => {
            (1045, b"28000")
        }
        // ER_UNKNOWN_ERROR, as Teleport says it: no client takes it for a wrong password.
        RefusalCode::MfaRequired | RefusalCode::Internal => (1105, b"HY000"),
        // ER_SECURE_TRANSPORT_REQUIRED
        RefusalCode::TlsRequired => (3159, b"HY000"),
        // ER_MALFORMED_PACKET
        RefusalCode::ProtocolViolation => (1835, b"HY000"),
        // ER_CON_COUNT_ERROR
        RefusalCode::TooManyConnections => (1040, b"08004"),
        // ER_UNKNOWN_ERROR, with the state of a connection that failed.
        RefusalCode::UpstreamUnavailable => (1105, b"08S01"),
        // ER_SERVER_SHUTDOWN
        RefusalCode::SessionExpired | RefusalCode::Shutdown => (1053, b"08S01"),
        // ER_CLIENT_INTERACTION_TIMEOUT
        RefusalCode::IdleTimeout => (4031, b"HY000"),
        // ER_NOT_SUPPORTED_YET
        RefusalCode::Unsupported => (1235, b"42000"),
    };
    (number, SqlState::known(state))
}

/// The payload of the ERR packet.
pub(super) fn refusal(refusal: &Refusal) -> Vec<u8> {
    let (number, state) = number_and_state(refusal.code);
    let (number, state) = (refusal.number.unwrap_or(number), refusal.sql_state.unwrap_or(state));
    [&[ERR], &number.to_le_bytes()[..], b"#", state.as_str().as_bytes(), text(refusal).as_bytes()].concat()
}

/// The payload of the ERR packet that takes the place of the greeting. It has no SQLSTATE: a client does not know
/// yet that we would send one, and takes it for text.
pub(super) fn before_greeting(refusal: &Refusal) -> Vec<u8> {
    let (number, _) = number_and_state(refusal.code);
    [&[ERR], &number.to_le_bytes()[..], text(refusal).as_bytes()].concat()
}

/// The payload of an ERR packet in MySQL's own words.
pub(super) fn error(number: u16, state: &'static [u8; 5], message: &str) -> Vec<u8> {
    let said = Refusal::new(RefusalCode::Internal, message).with_number(number);
    refusal(&said.with_sql_state(SqlState::known(state)))
}

/// Message and hint. Where they are too long, the message is cut: the hint says what to do next.
fn text(refusal: &Refusal) -> String {
    let hint = refusal.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let hint = cut(&hint, MAX_MESSAGE);
    let message = cut(&refusal.message, MAX_MESSAGE - hint.len());
    // A NUL would end the text for clients that are written in C.
    format!("{message}{hint}").replace('\0', " ")
}

/// The longest beginning of so many bytes that ends with a character.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// What an upstream's ERR packet says, for the log. Before the handshake response it comes without a SQLSTATE.
pub(super) fn parse(payload: &[u8]) -> Result<UpstreamReport, Short> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != ERR {
        return Err(Short);
    }
    let number = reader.u16_le()?;
    let mut sql_state = None;
    if reader.rest().starts_with(b"#") {
        sql_state = SqlState::parse(reader.take(6)?.get(1..).unwrap_or_default());
    }
    Ok(UpstreamReport { sql_state, number: Some(number), message: one_line(reader.rest(), KEPT) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_number_state_message_and_hint() {
        let mfa = Refusal::new(RefusalCode::MfaRequired, "access to resource requires MFA")
            .with_hint("run: tsh db connect prod\0");
        assert_eq!(
            refusal(&mfa),
            b"\xff\x51\x04#HY000access to resource requires MFA; run: tsh db connect prod "
        );
    }

    #[test]
    fn the_upstreams_own_number_and_state_take_the_place_of_the_codes() {
        let unknown = Refusal::new(RefusalCode::UpstreamRejected, "Unknown database 'x'")
            .with_number(1049)
            .with_sql_state(SqlState::known(b"42000"));
        assert_eq!(refusal(&unknown), b"\xff\x19\x04#42000Unknown database 'x'");
    }

    #[test]
    fn a_text_that_clients_would_cut_loses_its_middle_and_keeps_its_hint() {
        let long = Refusal::new(RefusalCode::Internal, "\u{e9}".repeat(600)).with_hint("run: tsh login");
        let payload = refusal(&long);
        let text = std::str::from_utf8(&payload[9..]).unwrap();
        assert!((MAX_MESSAGE - 1..=MAX_MESSAGE).contains(&text.len()), "{}", text.len());
        assert!(text.ends_with("\u{e9}; run: tsh login"));
    }

    #[test]
    fn every_code_is_said_as_mysql_says_it_and_never_as_clients_themselves_do() {
        for (code, number, state) in [
            (RefusalCode::NotAuthenticated, 1045, "28000"),
            (RefusalCode::AccessDenied, 1045, "28000"),
            (RefusalCode::MfaRequired, 1105, "HY000"),
            (RefusalCode::TlsRequired, 3159, "HY000"),
            (RefusalCode::ProtocolViolation, 1835, "HY000"),
            (RefusalCode::TooManyConnections, 1040, "08004"),
            (RefusalCode::UpstreamUnavailable, 1105, "08S01"),
            (RefusalCode::UpstreamRejected, 1045, "28000"),
            (RefusalCode::SessionExpired, 1053, "08S01"),
            (RefusalCode::IdleTimeout, 4031, "HY000"),
            (RefusalCode::Shutdown, 1053, "08S01"),
            (RefusalCode::Unsupported, 1235, "42000"),
            (RefusalCode::Internal, 1105, "HY000"),
        ] {
            let said = refusal(&Refusal::new(code, "why"));
            let expected = [&[ERR], &u16::to_le_bytes(number)[..], b"#", state.as_bytes(), b"why"].concat();
            assert_eq!(said, expected, "{code:?}");
            // 2013 and its like: "lost connection", which nobody sends.
            assert!(!(2000..3000).contains(&number), "{number} is what clients say themselves");
        }
    }

    #[test]
    fn in_place_of_the_greeting_there_is_no_state() {
        let unavailable = Refusal::new(RefusalCode::UpstreamUnavailable, "not yet").with_hint("try again");
        assert_eq!(before_greeting(&unavailable), b"\xff\x51\x04not yet; try again");
    }

    #[test]
    fn an_upstream_error_is_read_with_and_without_its_state() {
        let report = parse(b"\xff\x15\x04#28000Access denied\x1b[2J").unwrap();
        assert_eq!(report.to_string(), "1045 28000 Access denied[2J");
        let report = parse(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!(report.to_string(), "1040 Too many connections");
    }

    #[test]
    fn a_truncated_upstream_error_never_panics() {
        let whole = b"\xff\x15\x04#28000Access denied";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]).is_ok(), end == 3 || end >= 9, "{end}");
        }
    }
}

//! A refusal in PostgreSQL's words: ErrorResponse with severity FATAL, SQLSTATE, message and hint.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::ErrorResponse;

use crate::error::UpstreamReport;
use crate::reader::{Reader, Short};
use crate::refusal::{Refusal, RefusalCode, SqlState};
use crate::text::one_line;

/// Characters of an upstream's message that are kept for the log.
const KEPT: usize = 1_000;

/// The SQLSTATE of each code (PostgreSQL documentation, "PostgreSQL Error Codes").
fn sql_state(code: RefusalCode) -> SqlState {
    SqlState::known(match code {
        // invalid_authorization_specification
        RefusalCode::NotAuthenticated
        | RefusalCode::AccessDenied
        | RefusalCode::MfaRequired
        | RefusalCode::TlsRequired
        | RefusalCode::UpstreamRejected => b"28000",
        // protocol_violation
        RefusalCode::ProtocolViolation => b"08P01",
        // too_many_connections
        RefusalCode::TooManyConnections => b"53300",
        // connection_failure
        RefusalCode::UpstreamUnavailable => b"08006",
        // admin_shutdown
        RefusalCode::SessionExpired | RefusalCode::Shutdown => b"57P01",
        // idle_session_timeout
        RefusalCode::IdleTimeout => b"57P05",
        // feature_not_supported
        RefusalCode::Unsupported => b"0A000",
        // internal_error
        RefusalCode::Internal => b"XX000",
    })
}

/// The whole message, header included.
pub(crate) fn fatal(refusal: &Refusal) -> Vec<u8> {
    let state = refusal.sql_state.unwrap_or_else(|| sql_state(refusal.code));
    let mut fields = vec![
        (b'S', "FATAL".to_owned()),
        (b'V', "FATAL".to_owned()),
        (b'C', state.as_str().to_owned()),
        (b'M', without_nul(&refusal.message)),
    ];
    if let Some(hint) = &refusal.hint {
        fields.push((b'H', without_nul(hint)));
    }
    let mut bytes = BytesMut::new();
    match ErrorResponse::new(fields).encode(&mut bytes) {
        Ok(()) => bytes.to_vec(),
        // Unreachable with pgwire's encoder; a close without a word is the worst that it may come to.
        Err(_) => Vec::new(),
    }
}

/// A NUL would end the field.
fn without_nul(text: &str) -> String {
    text.replace('\0', " ")
}

/// What an upstream's ErrorResponse says, for the log. Fields may be missing, in any order, in any encoding.
pub(crate) fn parse(content: &[u8]) -> Result<UpstreamReport, Short> {
    let mut reader = Reader::new(content);
    let mut report = UpstreamReport { sql_state: None, number: None, message: String::new() };
    loop {
        match reader.u8()? {
            0 => break,
            b'C' => report.sql_state = SqlState::parse(reader.text()?),
            b'M' => report.message = one_line(reader.text()?, KEPT),
            _ => {
                reader.text()?;
            }
        }
    }
    reader.finish()?;
    Ok(report)
}

/// The SQLSTATE of an ErrorResponse of which only the beginning may be there.
pub(crate) fn sql_state_in(content: &[u8]) -> Option<SqlState> {
    let mut reader = Reader::new(content);
    loop {
        match reader.u8().ok()? {
            0 => return None,
            b'C' => return SqlState::parse(reader.text().ok()?),
            _ => reader.text().ok()?,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_severity_state_message_and_hint() {
        let refusal = Refusal::new(RefusalCode::MfaRequired, "access to resource requires MFA")
            .with_hint("run: tsh db connect prod\0");
        let bytes = fatal(&refusal);
        assert_eq!(
            &bytes[5..],
            b"SFATAL\0VFATAL\0C28000\0Maccess to resource requires MFA\0Hrun: tsh db connect prod \0\0"
        );
        assert_eq!(bytes[0], b'E');
        assert_eq!(bytes[1..5], u32::to_be_bytes(bytes.len() as u32 - 1));
    }

    #[test]
    fn an_upstream_error_without_fields_is_still_an_error() {
        assert_eq!(
            parse(b"\0"),
            Ok(UpstreamReport { sql_state: None, number: None, message: String::new() })
        );
        let report = parse(b"SFATAL\0C3D000\0Mno \x1b[2Jsuch\xff database\0\0").unwrap();
        assert_eq!(report.to_string(), "3D000 no [2Jsuch\u{fffd} database");
    }

    #[test]
    fn a_truncated_upstream_error_never_panics() {
        let whole = b"SFATAL\0C3D000\0Mno such database\0\0";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Err(Short), "{end}");
        }
    }
}

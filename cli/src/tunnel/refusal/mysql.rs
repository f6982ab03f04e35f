//! MySQL: the server speaks first, so an error can stand where the greeting would.

/// `ER_UNKNOWN_ERROR`: what Teleport says its refusals by.
const CODE: u16 = 1105;

/// A MySQL client keeps no more of a message (`MYSQL_ERRMSG_SIZE`).
const MAX_MESSAGE_BYTES: usize = 511;

/// `Protocol::ERR_Packet` in place of the greeting. Before capabilities are agreed on it has no SQLSTATE.
pub(super) fn error_packet(reason: &str) -> Vec<u8> {
    let end = reason.floor_char_boundary(MAX_MESSAGE_BYTES);
    let message = reason.get(..end).unwrap_or_default().as_bytes();
    let [low, high] = CODE.to_le_bytes();
    // At most 514 bytes: the length's two lower bytes say it.
    let [length_low, length_high] = u16::try_from(3 + message.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&[length_low, length_high, 0, 0, 0xff, low, high][..], message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_the_protocols() {
        assert_eq!(error_packet("no way"), b"\x09\x00\x00\x00\xff\x51\x04no way");
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let packet = error_packet(&"é".repeat(300));
        assert_eq!(packet.len(), 4 + 3 + 510);
        assert_eq!(packet[..2], (3_u16 + 510).to_le_bytes());
        assert!(std::str::from_utf8(&packet[7..]).is_ok());
    }
}

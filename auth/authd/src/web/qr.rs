//! A QR code as a path: what a page draws needs no image, and so no exception in its policy.

use std::fmt::Write;

use qrcode::{Color, EcLevel, QrCode};

use crate::error::Refused;

/// Modules left white around it (ISO/IEC 18004, 5.3.8).
const QUIET: usize = 4;

/// A QR code as SVG: a square of `size` by `size`, and the `d` of one path.
pub(super) struct Drawing {
    pub(super) size: usize,
    pub(super) path: String,
}

pub(super) fn draw(text: &str) -> Result<Drawing, Refused> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)
        .map_err(|_| Refused::Internal("text too long for a QR code"))?;
    let width = code.width();
    let mut path = String::new();
    for (row, modules) in code.to_colors().chunks(width).enumerate() {
        let mut column = 0;
        // One stroke for neighbours that are dark.
        for run in modules.chunk_by(|one, other| one == other) {
            if run.first() == Some(&Color::Dark) {
                let (x, y, length) = (column + QUIET, row + QUIET, run.len());
                write!(path, "M{x} {y}h{length}v1h-{length}z").map_err(|_| Refused::Internal("QR code"))?;
            }
            column += run.len();
        }
    }
    Ok(Drawing { size: width + 2 * QUIET, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_begins_with_the_upper_edge_of_a_finder() {
        let drawing = draw("otpauth://totp/main:jerry?secret=ABCDEFGHIJKLMNOP").unwrap();
        assert!(drawing.path.starts_with("M4 4h7v1h-7z"), "{}", drawing.path);
        assert!(drawing.path.chars().all(|c| "Mhvz- 0123456789".contains(c)));
        assert_eq!((drawing.size - 8 - 21) % 4, 0);
    }

    #[test]
    fn what_no_code_can_hold_is_refused() {
        assert!(draw(&"x".repeat(5000)).is_err());
    }
}

//! Packing: what packs is a thread's own, so that no session holds its hundreds of kilobytes.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::bulk::Compressor;

use super::{Algorithm, HEADER};

/// What is shorter goes as it is (`MIN_COMPRESS_LENGTH`).
const WORTH_IT: usize = 50;

thread_local! {
    static ZLIB: RefCell<Option<Compress>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Appends one compressed packet. `piece` holds at most as much as a packet can.
pub(super) fn append(into: &mut Vec<u8>, algorithm: Algorithm, number: u8, piece: &[u8]) {
    let packed = packed(algorithm, piece).filter(|packed| packed.len() < piece.len());
    let (content, unpacked) = match &packed {
        Some(packed) => (packed.as_slice(), piece.len()),
        None => (piece, 0),
    };
    into.reserve(HEADER + content.len());
    header(into, content.len(), number, unpacked);
    into.extend_from_slice(content);
}

/// A compressed packet's header; lengths are at most 2^24 - 1.
pub(super) fn header(into: &mut Vec<u8>, length: usize, number: u8, unpacked: usize) {
    let [a, b, c, ..] = (length as u32).to_le_bytes();
    let [x, y, z, ..] = (unpacked as u32).to_le_bytes();
    into.extend_from_slice(&[a, b, c, number, x, y, z]);
}

/// `None` where it is not worth it, and where it cannot be done: a packet may go as it is.
fn packed(algorithm: Algorithm, piece: &[u8]) -> Option<Vec<u8>> {
    if piece.len() < WORTH_IT {
        return None;
    }
    match algorithm {
        Algorithm::Zlib => ZLIB.with_borrow_mut(|zlib| {
            let zlib = zlib.get_or_insert_with(|| Compress::new(Compression::default(), true));
            zlib.reset();
            let mut packed = Vec::with_capacity(piece.len());
            match zlib.compress_vec(piece, &mut packed, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => Some(packed),
                Ok(Status::Ok | Status::BufError) | Err(_) => None,
            }
        }),
        Algorithm::Zstd(level) => ZSTD.with_borrow_mut(|zstd| {
            if zstd.is_none() {
                *zstd = Compressor::new(level.into()).ok();
            }
            let zstd = zstd.as_mut()?;
            zstd.set_compression_level(level.into()).ok()?;
            let mut packed = vec![0; piece.len()];
            let length = zstd.compress_to_buffer(piece, packed.as_mut_slice()).ok()?;
            packed.truncate(length);
            Some(packed)
        }),
    }
}

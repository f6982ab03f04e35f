//! Unpacking, in constant space: a packet yields what its header says, no more and no less, as fast as it is asked for.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::Malformed;

use super::numbers::Numbers;
use super::{Algorithm, HEADER};

/// The window that a zstd packet may ask for is no longer than what it holds, but at least this (2 MiB, in bits): clients
/// that do not know beforehand how much they will pack ask for so much.
const LEAST_WINDOW: u32 = 21;

/// What a step came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Bytes that are done with.
    pub(super) taken: usize,
    /// Bytes that came out. 0: more bytes are needed.
    pub(super) given: usize,
}

/// The client's compressed packets.
#[derive(Debug)]
pub(super) struct Unpacking {
    algorithm: Algorithm,
    packet: Option<Packet>,
}

/// A packet that is being unpacked.
struct Packet {
    /// Bytes of it that are to come.
    left: usize,
    /// Bytes that it still has to yield.
    owed: usize,
    content: Content,
    /// All that can come out of what was taken has come out. Asked again with nothing new, zstd's decoder takes the packet for a
    /// broken one after a few times, and a session is polled for many reasons.
    dry: bool,
}

enum Content {
    /// As it is.
    Bare,
    Zlib(Decompress),
    Zstd(Decoder<'static>),
    /// Everything came out, and nothing may follow.
    Over,
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet").field("left", &self.left).field("owed", &self.owed).finish_non_exhaustive()
    }
}

impl Unpacking {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, packet: None }
    }

    /// In the middle of a packet: something may come out of what was taken already.
    pub(super) fn is_inside(&self) -> bool {
        self.packet.is_some()
    }

    /// Takes bytes that came, and fills `space` with ordinary packets.
    pub(super) fn unpack(
        &mut self,
        bytes: &[u8],
        space: &mut [u8],
        numbers: &mut Numbers,
    ) -> Result<Unpacked, Malformed> {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            let Some(packet) = &mut self.packet else {
                let Some(header) = rest.first_chunk::<HEADER>() else {
                    return Ok(Unpacked { taken, given: 0 });
                };
                self.packet = Some(Packet::begin(self.algorithm, *header, numbers)?);
                taken += HEADER;
                continue;
            };
            let step = packet.step(rest, space)?;
            taken += step.taken;
            if packet.is_over()? {
                self.packet = None;
            }
            if step.given > 0 {
                numbers.renumber(space.get_mut(..step.given).unwrap_or_default());
                return Ok(Unpacked { taken, given: step.given });
            }
            if step.taken == 0 && self.packet.is_some() {
                return Ok(Unpacked { taken, given: 0 });
            }
        }
    }
}

impl Packet {
    fn begin(
        algorithm: Algorithm,
        [a, b, c, number, x, y, z]: [u8; HEADER],
        numbers: &mut Numbers,
    ) -> Result<Self, Malformed> {
        numbers.arrive(number)?;
        let left = u32::from_le_bytes([a, b, c, 0]) as usize;
        let unpacked = u32::from_le_bytes([x, y, z, 0]);
        if left == 0 {
            return Err(Malformed::Compression("it is empty"));
        }
        let content = match algorithm {
            _ if unpacked == 0 => Content::Bare,
            Algorithm::Zlib => Content::Zlib(Decompress::new(true)),
            Algorithm::Zstd(_) => Content::Zstd(decoder(unpacked)?),
        };
        let owed = if unpacked == 0 { left } else { unpacked as usize };
        Ok(Self { left, owed, content, dry: false })
    }

    fn step(&mut self, bytes: &[u8], space: &mut [u8]) -> Result<Unpacked, Malformed> {
        let (bytes, _) = bytes.split_at(bytes.len().min(self.left));
        if bytes.is_empty() && self.dry && self.left > 0 {
            return Ok(Unpacked::default());
        }
        // With nothing owed, there must be nothing more: one byte would show it.
        let mut more = [0];
        let space = match self.owed {
            0 => &mut more[..],
            owed => {
                let length = space.len().min(owed);
                space.split_at_mut(length).0
            }
        };
        let (step, over) = self.content.run(bytes, space)?;
        self.dry = step.given < space.len();
        self.left -= step.taken;
        self.owed =
            self.owed.checked_sub(step.given).ok_or(Malformed::Compression("it holds more than it says"))?;
        if over {
            self.content = Content::Over;
        } else if self.left == 0 && step == Unpacked::default() {
            return Err(Malformed::Compression("it is cut short"));
        }
        Ok(step)
    }

    fn is_over(&self) -> Result<bool, Malformed> {
        match (&self.content, self.left, self.owed) {
            (Content::Bare, 0, _) | (Content::Over, 0, 0) => Ok(true),
            (Content::Over, _, 1..) => Err(Malformed::Compression("it holds less than it says")),
            (Content::Over, 1.., _) => Err(Malformed::Compression("something stands behind its end")),
            _ => Ok(false),
        }
    }
}

impl Content {
    /// Moves on, and says whether the end was seen.
    fn run(&mut self, bytes: &[u8], space: &mut [u8]) -> Result<(Unpacked, bool), Malformed> {
        let broken = Malformed::Compression("it cannot be unpacked");
        match self {
            Self::Bare => {
                let length = bytes.len().min(space.len());
                space.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
                Ok((Unpacked { taken: length, given: length }, false))
            }
            Self::Zlib(zlib) => {
                let before = (zlib.total_in(), zlib.total_out());
                let status = zlib.decompress(bytes, space, FlushDecompress::None).map_err(|_| broken)?;
                let taken = (zlib.total_in() - before.0) as usize;
                let given = (zlib.total_out() - before.1) as usize;
                Ok((Unpacked { taken, given }, status == Status::StreamEnd))
            }
            Self::Zstd(zstd) => {
                let status = zstd.run_on_buffers(bytes, space).map_err(|_| broken)?;
                let step = Unpacked { taken: status.bytes_read, given: status.bytes_written };
                Ok((step, status.remaining == 0))
            }
            Self::Over => Ok((Unpacked::default(), true)),
        }
    }
}

/// For a packet that holds so many bytes.
fn decoder(unpacked: u32) -> Result<Decoder<'static>, Malformed> {
    let unavailable = |_| Malformed::Compression("it cannot be unpacked");
    let mut decoder = Decoder::new().map_err(unavailable)?;
    let window = (u32::BITS - unpacked.leading_zeros()).max(LEAST_WINDOW);
    decoder.set_parameter(DParameter::WindowLogMax(window)).map_err(unavailable)?;
    Ok(decoder)
}

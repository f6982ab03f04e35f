//! HOT: cuts a stream into frames by their headers alone, without copying and without allocating.
//!
//! Client frames pass a [`Splitter`], which shows the few that audit wants and lets the others through by
//! length. What it shows does not depend on how the bytes were split on their way: a frame is shown when it
//! is complete, or when exactly [`SHOWN`] bytes of a longer one are there; a text that is longer than that is
//! hashed as it passes, and its hash shown before its last bytes are forwarded; so are values. Upstream frames pass a
//! [`Boundaries`], which knows where one ends, and hears the few that say how a statement came out. Protocols
//! whose two directions depend on each other bring halves of their own ([`Inspect`], [`Follow`]).

use crate::Malformed;
use crate::answer::{Answer, Answers, CAPTURED};
use crate::event::Event;
use crate::refusal::Refusal;

mod halves;
mod text;

pub use halves::{Course, Errand, Follow, Inspect, Step};
pub(crate) use text::LongText;

/// Bytes of a frame that are shown at most, header included; also the size of a relay buffer.
pub const SHOWN: usize = 64 * 1024;

/// How a protocol cuts its two directions into frames, and what it says about them.
pub trait Framing: Send {
    /// Bytes of header that decide about a client frame, 1 to 8.
    const HEADER: usize;

    /// What becomes of the client frame that starts with these [`Framing::HEADER`] bytes.
    ///
    /// # Errors
    /// No client frame starts like this, in this state of the session.
    fn head(&mut self, header: &[u8]) -> Result<Head, Malformed>;

    /// The view of a frame for which [`Framing::head`] said [`Handling::Show`].
    ///
    /// # Errors
    /// The frame does not hold what it says.
    fn event<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>, Malformed>;

    /// Where, in the bytes that follow a text that was shown cut, the text is over; `None` when all of them are
    /// text.
    fn text_end(bytes: &[u8]) -> Option<usize>;

    /// A frame whose text was shown cut is over. Of what lies behind the text, so many bytes came; `None` when
    /// the text did not end.
    ///
    /// # Errors
    /// No frame of this kind ends so.
    fn text_ended(header: &[u8], behind: Option<u64>) -> Result<(), Malformed>;

    /// Bytes of the upstream frame, header included, that starts with these [`Framing::HEADER`] bytes; `None`
    /// when none does.
    fn upstream_length(header: &[u8]) -> Option<u64>;

    /// Bytes of content, at most [`CAPTURED`], that say what the upstream frame with this header answers;
    /// `None` when it is no answer.
    fn answer_bytes(header: &[u8]) -> Option<usize>;

    /// What it answers, from so many bytes of its content, or fewer when it has fewer.
    fn answer<'a>(header: &[u8], content: &'a [u8]) -> Option<Answer<'a>>;

    /// The bytes that tell the client, between two upstream frames, why its session ends.
    fn farewell(&self, refusal: &Refusal) -> Vec<u8>;
}

/// What a header decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the whole frame, header included; at least [`Framing::HEADER`].
    pub length: u64,
    /// What to do with it.
    pub handling: Handling,
}

/// What to do with a client frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Forward it unseen.
    Pass,
    /// Show it to the tap, then forward it.
    Show,
    /// Forward it; the client says nothing after it.
    Last,
}

/// A client frame, or the first [`SHOWN`] bytes of one.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The bytes, header included.
    pub bytes: &'a [u8],
    /// Bytes of the frame that are not shown.
    pub cut: u64,
}

/// Walks through client bytes, frame by frame.
#[derive(Debug)]
pub struct Splitter<F> {
    framing: F,
    /// Bytes of the current frame that pass unseen.
    passing: u64,
    /// What of them is hashed, and the header of its frame.
    hashed: Option<(Hashed, [u8; 8])>,
}

/// What was shown in part and is hashed as it passes.
#[derive(Debug)]
enum Hashed {
    /// A text, up to its terminator.
    Text(LongText),
    /// Values, and whatever is behind them in their frame.
    Values(LongText),
}

impl Hashed {
    /// Of an event that shows a frame in part.
    fn begin(event: &Event<'_>) -> Option<Self> {
        match event {
            Event::Query { text, cut: 1.. } | Event::Parse { text, cut: 1.., .. } => {
                Some(Self::Text(LongText::begin(text)))
            }
            Event::Bind { parameters, cut: 1.., .. }
            | Event::FunctionCall { arguments: parameters, cut: 1.., .. } => {
                Some(Self::Values(LongText::begin(parameters.sent())))
            }
            _ => None,
        }
    }
}

impl<F: Framing> Splitter<F> {
    /// At the beginning of a frame.
    pub fn new(framing: F) -> Self {
        Self { framing, passing: 0, hashed: None }
    }

    /// Decides about the front of `bytes`. The caller comes back with what lies behind the step, or, starved,
    /// with the same bytes and more. Never starved when `bytes` holds [`SHOWN`] bytes.
    ///
    /// # Errors
    /// The client broke the protocol: nothing of `bytes` may be forwarded.
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        if self.passing > 0 && !bytes.is_empty() {
            return self.pass(bytes);
        }
        let Some((header, _)) = bytes.split_at_checked(F::HEADER) else { return Ok(Step::Starved) };
        let head = self.framing.head(header)?;
        match head.handling {
            Handling::Pass => {
                let now = clamp(head.length, bytes.len());
                self.passing = head.length - now as u64;
                Ok(Step::Pass(now))
            }
            Handling::Show => {
                let shown = clamp(head.length, SHOWN);
                let Some((frame, _)) = bytes.split_at_checked(shown) else { return Ok(Step::Starved) };
                let cut = head.length - shown as u64;
                let event = self.framing.event(Frame { bytes: frame, cut })?;
                self.passing = cut;
                if cut > 0 {
                    self.hashed = Hashed::begin(&event).map(|hashed| (hashed, widen(header)));
                }
                Ok(Step::Show(event, shown))
            }
            Handling::Last => {
                let whole = clamp(head.length, SHOWN);
                Ok(if bytes.len() < whole { Step::Starved } else { Step::Last(whole) })
            }
        }
    }

    /// More of a frame about which is decided; its text or its values, if they were shown cut, are shown to be
    /// complete before the last of it passes.
    fn pass<'a>(&mut self, bytes: &[u8]) -> Result<Step<'a>, Malformed> {
        let now = clamp(self.passing, bytes.len());
        self.passing -= now as u64;
        let passed = bytes.get(..now).unwrap_or_default();
        match &mut self.hashed {
            None => {}
            Some((Hashed::Text(text), _)) => text.pass(passed, F::text_end),
            Some((Hashed::Values(values), _)) => values.pass(passed, |_| None),
        }
        if self.passing > 0 {
            return Ok(Step::Pass(now));
        }
        match self.hashed.take() {
            None => Ok(Step::Pass(now)),
            Some((Hashed::Text(text), header)) => {
                let (sha256, length, behind) = text.finish();
                F::text_ended(header.get(..F::HEADER).unwrap_or_default(), behind)?;
                Ok(Step::Show(Event::TextEnd { sha256, length }, now))
            }
            Some((Hashed::Values(values), _)) => {
                let (sha256, length, _) = values.finish();
                Ok(Step::Show(Event::ValuesEnd { sha256, length }, now))
            }
        }
    }
}

/// Knows, while upstream bytes flow by, whether the last one ended a frame, and says what they answer.
pub struct Boundaries<F> {
    header: [u8; 8],
    /// Bytes of `header` that are there; 0 at a boundary.
    collected: usize,
    /// Bytes until the current frame ends, once its header is known. `u64::MAX` once the upstream broke the
    /// protocol.
    remaining: u64,
    /// The beginning of an answer's content, until enough of it is there.
    capture: Option<Capture>,
    answers: Option<Box<dyn Answers>>,
    framing: std::marker::PhantomData<fn() -> F>,
}

#[derive(Debug)]
struct Capture {
    bytes: [u8; CAPTURED],
    filled: usize,
    wanted: usize,
}

impl<F> std::fmt::Debug for Boundaries<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boundaries").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

impl<F: Framing> Boundaries<F> {
    /// At a boundary. `answers` hears what the frames answer.
    #[must_use]
    pub fn new(answers: Option<Box<dyn Answers>>) -> Self {
        Self {
            header: [0; 8],
            collected: 0,
            remaining: 0,
            capture: None,
            answers,
            framing: std::marker::PhantomData,
        }
    }

    /// True when everything seen so far ends with a frame.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.collected == 0 && self.remaining == 0
    }

    /// Follows these bytes. Returns where, in them, a frame ended last: 0 when the first byte starts one,
    /// `None` when they all lie within a frame.
    pub fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut last = self.at_boundary().then_some(0);
        let mut offset = 0;
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            if self.remaining > 0 {
                let now = clamp(self.remaining, rest.len());
                self.capture(rest.get(..now).unwrap_or_default());
                if self.remaining != u64::MAX {
                    self.remaining -= now as u64;
                }
                offset += now;
            } else {
                offset += self.collect(rest);
            }
            if self.at_boundary() {
                last = Some(offset);
            }
        }
        last
    }

    /// Takes header bytes from the front of `rest`, and their number.
    fn collect(&mut self, rest: &[u8]) -> usize {
        let slot = self.header.get_mut(self.collected..F::HEADER).unwrap_or_default();
        let now = slot.len().min(rest.len());
        for (to, from) in slot.iter_mut().zip(rest) {
            *to = *from;
        }
        self.collected += now;
        if self.collected == F::HEADER {
            let header = self.header.get(..F::HEADER).unwrap_or_default();
            self.remaining =
                F::upstream_length(header).map_or(u64::MAX, |length| length.saturating_sub(F::HEADER as u64));
            self.collected = 0;
            self.begin_capture();
        }
        now
    }

    /// A header is complete: is its frame an answer?
    fn begin_capture(&mut self) {
        if self.answers.is_none() {
            return;
        }
        let header = self.header.get(..F::HEADER).unwrap_or_default();
        if let Some(wanted) = F::answer_bytes(header) {
            let wanted = clamp(self.remaining, wanted.min(CAPTURED));
            self.capture = Some(Capture { bytes: [0; CAPTURED], filled: 0, wanted });
            self.capture(&[]);
        }
    }

    /// Content comes by. When enough of an answer is there, it is said.
    fn capture(&mut self, content: &[u8]) {
        let (Some(capture), Some(answers)) = (&mut self.capture, &mut self.answers) else { return };
        let room = capture.bytes.get_mut(capture.filled..capture.wanted).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(content) {
            *to = *from;
            capture.filled += 1;
        }
        if capture.filled == capture.wanted {
            let header = self.header.get(..F::HEADER).unwrap_or_default();
            let content = capture.bytes.get(..capture.filled).unwrap_or_default();
            if let Some(answer) = F::answer(header, content) {
                answers.answered(answer);
            }
            self.capture = None;
        }
    }
}

impl<F: Framing> Inspect for Splitter<F> {
    fn step<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        Self::step(self, bytes)
    }

    fn farewell(&self, refusal: &Refusal) -> Vec<u8> {
        self.framing.farewell(refusal)
    }
}

impl<F: Framing> Follow for Boundaries<F> {
    fn follow(&mut self, bytes: &[u8]) -> Course {
        Course::Forward { bytes: bytes.len(), boundary: Self::follow(self, bytes) }
    }

    fn at_boundary(&self) -> bool {
        Self::at_boundary(self)
    }
}

/// A header, with room for the longest.
fn widen(header: &[u8]) -> [u8; 8] {
    let mut wide = [0; 8];
    for (to, from) in wide.iter_mut().zip(header) {
        *to = *from;
    }
    wide
}

/// The smaller of the two: what is left of a frame, and what is there.
fn clamp(length: u64, available: usize) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX).min(available)
}

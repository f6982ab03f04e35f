//! Playing: each event in its time, faster or slower, back and ahead.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    time::{Duration, Instant},
};

use super::{
    screen::{CLEAR, Key, Keys, RESTORE},
    watched,
};
use crate::{
    output::OutputError,
    recording::{Recording, Shown},
};

/// How far a key goes.
const STEP: Duration = Duration::from_secs(5);
/// With `--skip-idle-time` no wait is longer.
const IDLE: Duration = Duration::from_millis(500);

/// How to play.
#[derive(Clone, Copy, Debug)]
pub(super) struct Player {
    speed: f64,
    skip_idle: bool,
}

/// Where playing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// The next event.
    next: usize,
    /// In the time of the recording.
    now: Duration,
    paused: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait(Duration),
    Show,
    End,
}

impl Player {
    pub(super) fn new(speed: f64, skip_idle: bool) -> Self {
        Self { speed, skip_idle }
    }

    pub(super) fn play(self, recording: &mut Recording<File>) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if !watched() {
            return self.play_on(recording, &mut out, |wait| {
                std::thread::sleep(wait);
                Ok(None)
            });
        }
        let keys = Keys::watch()?;
        let played = self.play_on(recording, &mut out, |wait| keys.within(wait));
        let _ = write!(out, "{RESTORE}\r\n").and_then(|()| out.flush());
        played
    }

    /// `pause` waits, no longer than it is told to, for a key.
    fn play_on(
        self,
        recording: &mut Recording<impl Read + Seek>,
        out: &mut impl Write,
        mut pause: impl FnMut(Duration) -> io::Result<Option<Key>>,
    ) -> anyhow::Result<()> {
        let mut shown = Shown::default();
        let mut head = Head { next: 0, now: Duration::ZERO, paused: false };
        loop {
            match self.step(recording.at(head.next), head) {
                Step::End => return Ok(()),
                Step::Show => {
                    show(recording, head.next, &mut shown, out)?;
                    out.flush().map_err(OutputError::Write)?;
                    head.now = head.now.max(recording.at(head.next).unwrap_or_default());
                    head.next += 1;
                }
                Step::Wait(wait) => {
                    let begun = Instant::now();
                    let key = pause(wait)?;
                    if !head.paused {
                        let passed = if key.is_some() { begun.elapsed().min(wait) } else { wait };
                        head.now = self.passed(recording, head, passed, wait);
                    }
                    match key {
                        Some(Key::Quit) => return Ok(()),
                        Some(Key::Pause) => head.paused = !head.paused,
                        Some(Key::Left) => {
                            head.now = head.now.saturating_sub(STEP);
                            head.next = redraw(recording, head.now, &mut shown, out)?;
                        }
                        Some(Key::Right) => {
                            head.now = (head.now + STEP).min(recording.duration());
                            head.next = catch_up(recording, head, &mut shown, out)?;
                        }
                        Some(Key::Other) | None => {}
                    }
                }
            }
        }
    }

    fn step(self, next: Option<Duration>, head: Head) -> Step {
        let Some(at) = next else { return Step::End };
        if head.paused {
            return Step::Wait(Duration::MAX);
        }
        if at <= head.now {
            return Step::Show;
        }
        let wait = (at - head.now).div_f64(self.speed);
        Step::Wait(if self.skip_idle { wait.min(IDLE) } else { wait })
    }

    /// The time of the recording after so much of a wait. A wait that was shortened takes all of the time that it stands for.
    fn passed(
        self,
        recording: &Recording<impl Read + Seek>,
        head: Head,
        passed: Duration,
        wait: Duration,
    ) -> Duration {
        let at = recording.at(head.next).unwrap_or(head.now);
        if passed >= wait { at.max(head.now) } else { (head.now + passed.mul_f64(self.speed)).min(at) }
    }
}

fn show(
    recording: &mut Recording<impl Read + Seek>,
    index: usize,
    shown: &mut Shown,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if let Some(event) = recording.event(index)?.filter(|event| event.code == "o") {
        out.write_all(shown.take(&event.data).as_bytes()).map_err(OutputError::Write)?;
    }
    Ok(())
}

/// Everything up to a time at once, on a screen that is empty; answers with what comes next.
fn redraw(
    recording: &mut Recording<impl Read + Seek>,
    until: Duration,
    shown: &mut Shown,
    out: &mut impl Write,
) -> anyhow::Result<usize> {
    *shown = Shown::default();
    out.write_all(CLEAR.as_bytes()).map_err(OutputError::Write)?;
    catch_up(recording, Head { next: 0, now: until, paused: false }, shown, out)
}

fn catch_up(
    recording: &mut Recording<impl Read + Seek>,
    head: Head,
    shown: &mut Shown,
    out: &mut impl Write,
) -> anyhow::Result<usize> {
    let end = recording.index_at(head.now).max(head.next);
    for index in head.next..end {
        show(recording, index, shown, out)?;
    }
    out.flush().map_err(OutputError::Write)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn recording() -> Recording<Cursor<Vec<u8>>> {
        let mut text = "{\"version\": 2, \"width\": 80, \"height\": 24}\n".to_owned();
        for (at, data) in [("1.0", "a"), ("2.0", "b\\u001b[6n"), ("20.0", "c"), ("21.0", "d")] {
            text.push_str(&format!("[{at}, \"o\", \"{data}\"]\n"));
        }
        text.push_str("[21.5, \"i\", \"secret\"]\n");
        Recording::open(Cursor::new(text.into_bytes())).unwrap()
    }

    /// What is shown, and how long was waited, with keys pressed at some of the waits.
    fn played(speed: f64, skip_idle: bool, keys: &[(usize, Key)]) -> (String, Vec<Duration>) {
        let (mut out, mut waits) = (Vec::new(), Vec::new());
        let player = Player::new(speed, skip_idle);
        player
            .play_on(&mut recording(), &mut out, |wait| {
                waits.push(wait);
                let at = waits.len() - 1;
                Ok(keys.iter().find(|(when, _)| *when == at).map(|(_, key)| *key))
            })
            .unwrap();
        (String::from_utf8(out).unwrap(), waits)
    }

    fn seconds(waits: &[Duration]) -> Vec<f64> {
        waits.iter().map(Duration::as_secs_f64).collect()
    }

    #[test]
    fn everything_comes_in_its_time_and_input_never() {
        let (shown, waits) = played(1.0, false, &[]);
        assert_eq!(shown, "abcd");
        assert_eq!(seconds(&waits), [1.0, 1.0, 18.0, 1.0, 0.5]);
    }

    #[test]
    fn faster_is_shorter_and_idle_time_can_be_skipped() {
        assert_eq!(seconds(&played(2.0, false, &[]).1), [0.5, 0.5, 9.0, 0.5, 0.25]);
        assert_eq!(seconds(&played(1.0, true, &[]).1), [0.5; 5]);
    }

    #[test]
    fn back_draws_everything_anew_and_ahead_draws_what_was_missed() {
        // At the third wait (after b, at 2 s) back to the beginning.
        let (shown, _) = played(1.0, false, &[(2, Key::Left)]);
        assert_eq!(shown, format!("ab{CLEAR}abcd"));
        let (shown, waits) = played(1.0, false, &[(2, Key::Right), (3, Key::Right)]);
        assert_eq!(shown, "abcd");
        assert!(seconds(&waits)[3] > 12.9, "{waits:?}");
    }

    #[test]
    fn a_pause_waits_for_a_key() {
        let (shown, waits) = played(1.0, false, &[(1, Key::Pause), (2, Key::Pause)]);
        assert_eq!(shown, "abcd");
        assert_eq!(waits[2], Duration::MAX);
        assert_eq!(played(1.0, false, &[(1, Key::Quit)]).0, "a");
    }
}

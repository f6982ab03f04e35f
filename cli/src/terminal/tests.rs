use std::thread;

use super::*;

struct Pair {
    terminal: Terminal,
    keyboard: File,
    screen: File,
}

fn pair() -> Pair {
    let (input, keyboard) = nix::unistd::pipe().unwrap();
    let (screen, output) = nix::unistd::pipe().unwrap();
    let terminal = Terminal::without_person(input, output);
    Pair { terminal, keyboard: keyboard.into(), screen: screen.into() }
}

fn shown(pair: Pair) -> String {
    let Pair { terminal, mut screen, .. } = pair;
    drop(terminal);
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_answer_ends_at_its_line_and_what_follows_is_left_for_psql() {
    let mut pair = pair();
    pair.keyboard.write_all(b"123456\nselect 1;\n").unwrap();
    assert_eq!(pair.terminal.ask("Code: ").unwrap(), "123456");
    let mut rest = [0; 10];
    (&pair.terminal.input).read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"select 1;\n");
    assert_eq!(shown(pair), "Code: ");
}

#[test]
fn a_hidden_prompt_stands_on_its_own_line() {
    let mut pair = pair();
    pair.keyboard.write_all("pässwörd\n".as_bytes()).unwrap();
    assert_eq!(pair.terminal.ask_hidden("Enter password:").unwrap().as_str(), "pässwörd");
    assert_eq!(shown(pair), "Enter password:\n");
}

#[test]
fn a_mistyped_answer_can_be_corrected() {
    let mut pair = pair();
    pair.keyboard.write_all("wrong\x15sö\x7fecreu\x08t\n".as_bytes()).unwrap();
    assert_eq!(pair.terminal.ask_hidden("?").unwrap().as_str(), "secret");
}

#[test]
fn the_end_of_input_is_no_answer() {
    let Pair { terminal, keyboard, screen } = pair();
    drop(keyboard);
    assert!(matches!(terminal.ask("?"), Err(TerminalError::Closed)));
    drop(screen);
}

#[test]
fn control_c_interrupts() {
    let mut pair = pair();
    pair.keyboard.write_all(b"abc\x03").unwrap();
    assert!(matches!(pair.terminal.ask_hidden("?"), Err(TerminalError::Interrupted)));
}

#[test]
fn an_endless_line_is_refused() {
    let mut pair = pair();
    pair.keyboard.write_all(&[b'x'; MAX_ANSWER_BYTES + 1]).unwrap();
    assert!(matches!(pair.terminal.ask("?"), Err(TerminalError::NotText)));
}

#[test]
fn a_withdrawn_question_stops_waiting() {
    let pair = pair();
    let withdraw = CancellationToken::new();
    let waiting = thread::spawn({
        let withdraw = withdraw.clone();
        move || pair.terminal.answer(&withdraw).map(|_| ())
    });
    withdraw.cancel();
    assert!(matches!(waiting.join().unwrap(), Err(TerminalError::Withdrawn)));
}

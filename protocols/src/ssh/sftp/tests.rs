use super::heads::HEAD;
use super::*;
use crate::ssh::wire::Put;

/// A message with its length.
fn message(number: u8, id: u32, fields: &[&[u8]], more: &[u8]) -> Vec<u8> {
    let mut content = vec![number];
    content.put_u32(id);
    for field in fields {
        content.put_string(field);
    }
    content.extend_from_slice(more);
    let mut message = Vec::new();
    message.put_string(&content);
    message
}

fn status(id: u32, code: u32) -> Vec<u8> {
    message(number::STATUS, id, &[], &code.to_be_bytes())
}

/// A write of so many bytes.
fn write(id: u32, handle: &[u8], length: usize) -> Vec<u8> {
    let mut rest = vec![0; 8];
    rest.put_string(&vec![b'x'; length]);
    message(number::WRITE, id, &[handle], &rest)
}

/// A read's answer.
fn data(id: u32, length: usize) -> Vec<u8> {
    message(number::DATA, id, &[&vec![b'y'; length]], &[])
}

/// A whole conversation: a file written, read and closed, another not found, a rename.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let mut asked = vec![0, 0, 0, 5, number::INIT, 0, 0, 0, 3];
    let mut answered = vec![0, 0, 0, 5, number::VERSION, 0, 0, 0, 3];
    asked.extend(message(number::OPEN, 1, &[b"/a"], &[0; 8]));
    answered.extend(message(number::HANDLE, 1, &[b"h"], &[]));
    asked.extend(write(2, b"h", 40_000));
    answered.extend(status(2, OK));
    asked.extend(message(number::READ, 3, &[b"h"], &[0; 12]));
    answered.extend(data(3, 30_000));
    asked.extend(message(number::READ, 4, &[b"h"], &[0; 12]));
    answered.extend(status(4, END_OF_FILE));
    asked.extend(message(number::CLOSE, 5, &[b"h"], &[]));
    answered.extend(status(5, OK));
    asked.extend(message(number::OPEN, 6, &[b"/missing"], &[0; 8]));
    answered.extend(status(6, 2));
    asked.extend(message(number::EXTENDED, 7, &[b"posix-rename@openssh.com", b"/a", b"/b"], &[]));
    answered.extend(status(7, OK));
    (asked, answered)
}

fn done(operation: SftpOperation, path: &[u8], target: Option<&[u8]>, outcome: SftpOutcome) -> Done {
    Done::change(operation, path.to_vec(), target.map(<[u8]>::to_vec), outcome)
}

/// An opened file, for nothing in particular.
fn opened(path: &[u8], outcome: SftpOutcome) -> Done {
    let wanted = Wanted { flags: Some(0), ..Wanted::default() };
    Done { wanted, ..done(SftpOperation::File, path, None, outcome) }
}

fn expected() -> Vec<Done> {
    vec![
        Done { read: 30_000, written: 40_000, ..opened(b"/a", SftpOutcome::Done) },
        opened(b"/missing", SftpOutcome::Failed { code: 2 }),
        done(SftpOperation::Rename, b"/a", Some(b"/b"), SftpOutcome::Done),
    ]
}

#[test]
fn files_are_told_however_the_bytes_are_cut() {
    let (asked, answered) = conversation();
    for step in [1, 2, 3, 5, 7, 100, 1_000, 32_768, 100_000] {
        let (mut view, mut over) = (View::default(), Vec::new());
        asked.chunks(step).for_each(|bytes| view.asked(bytes).unwrap());
        answered.chunks(step).for_each(|bytes| view.answered(bytes, &mut over).unwrap());
        assert_eq!(over, expected(), "in steps of {step}");
        assert!(view.end().is_empty());
    }
}

#[test]
fn a_failed_write_is_told_at_the_close() {
    let mut view = View::default();
    view.asked(&message(number::OPEN, 1, &[b"/full"], &[0; 8])).unwrap();
    let mut over = Vec::new();
    view.answered(&message(number::HANDLE, 1, &[b"h"], &[]), &mut over).unwrap();
    view.asked(&[write(2, b"h", 10), message(number::CLOSE, 3, &[b"h"], &[])].concat()).unwrap();
    view.answered(&[status(2, 4), status(3, OK)].concat(), &mut over).unwrap();
    assert_eq!(over, [opened(b"/full", SftpOutcome::Failed { code: 4 })]);
}

#[test]
fn what_is_not_over_at_the_end_is_told_as_unfinished() {
    let mut view = View::default();
    view.asked(&message(number::OPEN, 1, &[b"/a"], &[0; 8])).unwrap();
    view.answered(&message(number::HANDLE, 1, &[b"h"], &[]), &mut Vec::new()).unwrap();
    view.asked(&message(number::REMOVE, 2, &[b"/b"], &[])).unwrap();
    let left = view.end();
    assert_eq!(
        left,
        [
            opened(b"/a", SftpOutcome::Unfinished),
            done(SftpOperation::Remove, b"/b", None, SftpOutcome::Unfinished),
        ]
    );
}

#[test]
fn what_cannot_be_followed_is_noticed() {
    let lost = |bytes: &[u8]| View::default().asked(bytes).is_err();
    assert!(lost(&[0xff; 8]), "a length of 4 GiB");
    assert!(lost(&[0, 0, 0, 0]), "a message of nothing");
    assert!(lost(&message(99, 1, &[], &[])), "an unknown request");
    assert!(lost(&message(number::OPEN, 1, &[], &[0xff; 8])), "a path that is longer than its message");
    let twice = message(number::REMOVE, 1, &[b"/a"], &[]);
    assert!(lost(&[twice.clone(), twice].concat()), "two requests of one number");
    assert!(View::default().answered(&status(1, OK), &mut Vec::new()).is_err(), "an answer to nothing");
}

#[test]
fn neither_requests_nor_files_pile_up() {
    let mut view = View::default();
    let request = |id| message(16, id, &[b"."], &[]);
    for id in 0..PENDING as u32 {
        view.asked(&request(id)).unwrap();
    }
    assert_eq!(view.asked(&request(u32::MAX)), Err(Lost("too many SFTP requests at once")));
    let mut view = View::default();
    let open = |view: &mut View, id: u32| {
        view.asked(&message(number::OPEN, id, &[b"/a"], &[0; 8])).unwrap();
        view.answered(&message(number::HANDLE, id, &[&id.to_be_bytes()], &[]), &mut Vec::new())
    };
    for id in 0..OPEN as u32 {
        open(&mut view, id).unwrap();
    }
    assert!(open(&mut view, u32::MAX).is_err());
    assert_eq!(view.end().len(), OPEN + 1, "the last one is on record too");
}

#[test]
fn long_paths_are_cut_and_long_messages_take_no_memory() {
    let mut view = View::default();
    view.asked(&message(number::REMOVE, 1, &[&[b'p'; 10_000]], &[])).unwrap();
    view.asked(&write(2, b"h", 200_000)).unwrap();
    assert!(view.requests.head.capacity() <= 2 * HEAD, "{}", view.requests.head.capacity());
    assert_eq!(view.end(), [done(SftpOperation::Remove, &[b'p'; PATH], None, SftpOutcome::Unfinished)]);
}

#[test]
fn names_that_nobody_has_answered_to_are_bounded_by_their_bytes() {
    let mut view = View::default();
    let remove = |id| message(number::REMOVE, id, &[&[b'p'; PATH]], &[]);
    let most = (REMEMBERED / PATH) as u32;
    for id in 0..most {
        view.asked(&remove(id)).unwrap();
    }
    view.answered(&status(0, OK), &mut Vec::new()).unwrap();
    view.asked(&remove(most)).unwrap();
    assert_eq!(view.asked(&remove(most + 1)), Err(Lost("too many SFTP requests at once")));
    assert_eq!(view.end().len(), most as usize, "none that went on is off the record");
}

#[test]
fn names_of_open_files_are_bounded_by_their_bytes_until_they_are_closed() {
    let mut view = View::default();
    let open = |view: &mut View, id: u32| {
        view.asked(&message(number::OPEN, id, &[&[b'p'; 4_000]], &[0; 8]))?;
        view.answered(&message(number::HANDLE, id, &[&id.to_be_bytes()], &[]), &mut Vec::new())
    };
    let opened = (0..).take_while(|id| open(&mut view, *id).is_ok()).count();
    assert_eq!(opened, REMEMBERED / 4_004);
    let mut view = View::default();
    for id in 0..2 * opened as u32 {
        open(&mut view, 2 * id).unwrap();
        view.asked(&message(number::CLOSE, 2 * id + 1, &[&(2 * id).to_be_bytes()], &[])).unwrap();
        view.answered(&status(2 * id + 1, OK), &mut Vec::new()).unwrap();
    }
    assert_eq!(view.remembered, 0);
}

/// Opens `/a` and `/b` as `h` and `i`.
fn two_open_files() -> View {
    let mut view = View::default();
    for (id, path, handle) in [(1, b"/a", b"h"), (2, b"/b", b"i")] {
        view.asked(&message(number::OPEN, id, &[path], &[0; 8])).unwrap();
        view.answered(&message(number::HANDLE, id, &[handle], &[]), &mut Vec::new()).unwrap();
    }
    view
}

#[test]
fn a_handle_that_nobody_has_is_told_as_such() {
    let mut view = two_open_files();
    let mut over = Vec::new();
    view.asked(&message(number::FSETSTAT, 3, &[b"guess"], &[0; 4])).unwrap();
    view.asked(&copy(4, b"h", b"guess")).unwrap();
    view.asked(&message(number::FSETSTAT, 5, &[&[b'x'; 1_000]], &[0; 4])).unwrap();
    view.answered(&[status(3, 4), status(4, OK), status(5, 4)].concat(), &mut over).unwrap();
    let unknown = |done: Done, handle: &[u8]| Done { unknown_handle: Some(handle.to_vec()), ..done };
    let failed = SftpOutcome::Failed { code: 4 };
    assert_eq!(
        over,
        [
            unknown(done(SftpOperation::SetAttributes, b"", None, failed), b"guess"),
            unknown(done(SftpOperation::Copy, b"/a", None, SftpOutcome::Done), b"guess"),
            unknown(done(SftpOperation::SetAttributes, b"", None, failed), &[b'x'; HANDLE + 1]),
        ]
    );
}

#[test]
fn a_handle_that_is_used_before_it_is_known_is_known_when_it_matters() {
    let mut view = View::default();
    view.asked(&message(number::OPEN, 1, &[b"/a"], &[0; 8])).unwrap();
    view.asked(&message(number::FSETSTAT, 2, &[b"h"], &[0; 4])).unwrap();
    let mut over = Vec::new();
    view.answered(&message(number::HANDLE, 1, &[b"h"], &[]), &mut over).unwrap();
    view.answered(&status(2, OK), &mut over).unwrap();
    assert_eq!(over, [done(SftpOperation::SetAttributes, b"/a", None, SftpOutcome::Done)]);
}

/// `copy-data` from one open file to another.
fn copy(id: u32, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut rest = vec![0; 16];
    rest.put_string(to);
    rest.extend([0; 8]);
    message(number::EXTENDED, id, &[b"copy-data", from], &rest)
}

#[test]
fn a_copy_on_the_host_names_both_files() {
    let mut view = two_open_files();
    let mut over = Vec::new();
    view.asked(&copy(3, b"h", b"i")).unwrap();
    view.answered(&status(3, OK), &mut over).unwrap();
    assert_eq!(over, [done(SftpOperation::Copy, b"/a", Some(b"/b"), SftpOutcome::Done)]);
}

#[test]
fn what_a_file_was_opened_for_and_is_to_have_is_told() {
    let mut attributes = Vec::new();
    for number in [15, 0, 7, 1_000, 100, 0o4755, 1_700_000_000, 1_700_000_001] {
        attributes.put_u32(number);
    }
    let all = SftpAttributes {
        size: Some(7),
        owner: Some((1_000, 100)),
        permissions: Some(0o4755),
        times: Some((1_700_000_000, 1_700_000_001)),
    };
    let flags = [&26_u32.to_be_bytes()[..], &attributes].concat();
    let asked = [
        message(number::OPEN, 1, &[b"/a"], &flags),
        message(number::SETSTAT, 2, &[b"/b"], &attributes),
        message(number::FSETSTAT, 3, &[b"h"], &attributes),
        message(number::MKDIR, 4, &[b"/d"], &[0, 0, 0, 4, 0, 0, 1, 0xff]),
        message(number::EXTENDED, 5, &[b"lsetstat@openssh.com", b"/l"], &attributes),
        message(number::CLOSE, 6, &[b"h"], &[]),
        // Cut where its times should be.
        message(number::SETSTAT, 7, &[b"/c"], &[0, 0, 0, 12, 0, 0, 1, 0xff]),
    ];
    let follow = |version: u8| {
        let (mut view, mut over) = (View::default(), Vec::new());
        view.answered(&[0, 0, 0, 5, number::VERSION, 0, 0, 0, version], &mut over).unwrap();
        view.asked(&asked.concat()).unwrap();
        view.answered(&message(number::HANDLE, 1, &[b"h"], &[]), &mut over).unwrap();
        (2..=7).for_each(|id| view.answered(&status(id, OK), &mut over).unwrap());
        over.into_iter().map(|done| (done.operation, done.wanted)).collect::<Vec<_>>()
    };
    let wanted = |attributes| Wanted { flags: None, attributes };
    let mode = SftpAttributes { permissions: Some(0o777), ..SftpAttributes::default() };
    let set = (SftpOperation::SetAttributes, wanted(all));
    assert_eq!(
        follow(3),
        [
            set,
            set,
            (SftpOperation::MakeDirectory, wanted(mode)),
            set,
            (SftpOperation::File, Wanted { flags: Some(26), attributes: all }),
            (SftpOperation::SetAttributes, wanted(mode)),
        ]
    );
    assert!(follow(6).iter().all(|(_, wanted)| *wanted == Wanted::default()), "of a form that is not read");
}

#[test]
fn bytes_of_a_file_that_nobody_has_seen_opened_are_told() {
    let mut view = two_open_files();
    let mut over = Vec::new();
    view.asked(&write(3, b"another", 10)).unwrap();
    view.asked(&message(number::READ, 4, &[b"another"], &[0; 12])).unwrap();
    view.asked(&write(5, b"h", 10)).unwrap();
    view.answered(&[status(3, OK), data(4, 5), status(5, OK)].concat(), &mut over).unwrap();
    let handle = b"another".to_vec();
    assert_eq!(over, [Done::of_unknown(handle.clone(), 0, 10), Done::of_unknown(handle, 5, 0)]);
}

//! What other proxies of MySQL got wrong, and the test that each lesson has here.
//!
//! | lesson | test |
//! |---|---|
//! | bytes behind SSLRequest were read as if they had come through TLS (CVE-2021-3935) | `plaintext_stuffed_behind_an_ssl_request_ends_the_connection` |
//! | the same behind an upstream's greeting (CVE-2021-23222) | `plaintext_behind_the_greeting_breaks_the_tls_handshake` |
//! | a ClientHello that came together with SSLRequest was lost | `a_client_hello_in_the_segment_of_its_ssl_request_is_not_lost` |
//! | a silent client stalled the accept loop, or other logins | `two_hundred_silent_clients_keep_nobody_waiting`, `a_silent_client_is_given_up` |
//! | one version for all targets, before the target was known | `clients_are_greeted_with_the_databases_own_version_or_the_configured_one`, `while_the_upstream_was_never_seen_nobody_is_greeted_with_a_made_up_version` |
//! | every session had thread number 1 | `ids_are_ours_and_no_two_alike`, `an_id_is_free_again_when_its_connection_is_gone` |
//! | KILL reached nobody, or anybody | `only_the_owner_of_a_live_session_kills_it_by_our_number`, `ctrl_c_stops_the_statement_and_not_the_session` |
//! | the password was asked for in clear, which many clients cannot say | `a_client_that_says_its_password_in_clear_is_asked_for_a_scramble`, `each_plugin_is_met_in_its_own_words_and_its_answer_thrown_away` |
//! | a password went out in clear where TLS was only preferred | `an_upstream_without_tls_is_not_spoken_to_where_tls_is_demanded`, `a_password_in_clear_does_not_go_where_somebody_listens` |
//! | caching_sha2_password in full failed at the upstream | `a_full_login_says_the_password_through_tls`, `a_full_login_without_tls_says_nothing_unless_an_unknown_key_is_good_enough` |
//! | RSA by a server leaks its key by time (RUSTSEC-2023-0071) | `nobody_is_given_a_key_of_ours` |
//! | OK came before the upstream was dialled, so that its failure was ERROR 2013 | `an_upstream_that_goes_down_is_told_before_anybody_is_logged_in`, `a_client_hears_mariadbs_own_ok_under_the_number_that_comes_next` |
//! | errors from inside were shown to strangers | `an_error_that_nobody_proved_is_not_repeated`, `a_wrong_password_is_told_as_the_upstreams_trouble_and_never_shown` |
//! | policy compared names otherwise than the database | `names_that_the_upstream_would_read_otherwise_are_refused`, `a_name_in_quotes_is_nobodys`, `a_user_of_another_case_is_another_user` |
//! | names that are too long killed the process, or became somebody else's (CVE-2012-4575, CVE-2015-6817) | `a_user_that_the_upstream_would_take_for_another_is_refused` |
//! | flags were a fixed list, so that clients missed what the database can | `what_the_upstream_can_and_we_understand_is_offered`, `an_upstream_that_lost_what_the_client_was_promised_is_not_used_and_the_next_client_knows` |
//! | unknown commands were answered OK | `no_command_is_answered_ok_by_us`, `what_is_not_known_or_hides_what_it_does_is_refused` |
//! | prepared statements were not forwarded, or not seen | `each_command_has_teleports_name_code_and_fields`, `types_are_remembered_from_one_execute_to_the_next` |
//! | packets of 2^24 - 1 bytes and their multiples ended too early | `a_row_of_sixteen_mebibytes_and_more_is_one_row`, `a_text_over_several_packets_is_hashed_without_their_headers`, `pymysql_sees_no_difference` |
//! | lengths that lie became memory, or messages (RUSTSEC-2024-0363, CVE-2024-43410) | `lengths_that_lie_cost_nothing`, `no_more_is_read_than_the_allowance_however_it_is_cut`, `a_length_that_runs_past_the_end_is_refused` |
//! | compressed bombs | `a_bomb_goes_off_a_buffer_at_a_time`, `what_says_to_hold_another_length_is_refused` |
//! | LOCAL INFILE could not be had, or any file could | `a_file_of_the_clients_is_loaded_only_where_a_role_says_so_and_is_on_record`, `a_hostile_upstream_gets_no_file_that_the_statement_does_not_name` |
//! | COM_CHANGE_USER changed the user that policy had judged | `another_user_is_refused_whoever_it_is`, `mysql2_sees_no_difference` |
//! | COM_BINLOG_DUMP copied what nobody might read | `replication_is_refused_without_the_right_to_it`, `the_binary_log_is_the_same_bytes_every_way` |
//! | a hostile upstream's greeting made the client panic | `a_greeting_cut_short_at_any_byte_never_panics`, `what_is_no_greeting_is_refused`, `what_is_no_mysql_is_not_logged_in_to` |
//! | a target filled the memory before login | `an_upstream_that_floods_the_login_is_left` |
//! | an idle time killed a long query, without a word | `an_idle_session_is_told_why_it_ends_and_a_long_statement_is_not_ended` |
//! | opensrv-mysql read freed memory (opensrv #67) | `scripts/check-arrows.sh`: nothing that is built for users holds it |

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use protocols::mysql::{Capabilities, Mysql};
use protocols::{AcceptError, Client, DialError, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::mysql::{
    FLAGS, MysqlSidecar, OK, RawMysql, SHA2, error, greeting, mysql_facts, packet, read_packet, response,
    send, settings,
};
use crate::support::{Memory, login, never, scripted};

/// A table that names a test which is not there is worth nothing.
#[test]
fn every_lesson_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    let mut folders: Vec<_> = ["protocols", "sidecar", "e2e"]
        .iter()
        .flat_map(|name| ["src", "tests"].map(|part| root.join(name).join(part)))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let table = include_str!("lessons.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut named = 0;
    for line in table {
        for name in line.split('`').skip(1).step_by(2).filter(|name| !name.contains('.')) {
            named += 1;
            assert!(sources.contains(&format!("fn {name}(")), "no test {name}");
        }
    }
    assert!(named > 50, "{named}");
}

/// Puts bytes in front of the first that are written, in one segment.
struct Together {
    front: Option<Vec<u8>>,
    socket: TcpStream,
}

impl AsyncRead for Together {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Together {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let Some(front) = self.front.clone() else { return Pin::new(&mut self.socket).poll_write(cx, bytes) };
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &[&front[..], bytes].concat()))?;
        self.front = None;
        Poll::Ready(Ok(written - front.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_client_hello_in_the_segment_of_its_ssl_request_is_not_lost() {
    let sidecar = MysqlSidecar::start().await;
    let (mut socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
    let client = tokio::spawn(async move {
        read_packet(&mut socket).await.unwrap();
        let front = Some(packet(1, &settings(FLAGS | Capabilities::SSL.flags())));
        let connector = TlsConnector::from(config);
        let mut stream =
            connector.connect("localhost".try_into().unwrap(), Together { front, socket }).await.unwrap();
        send(&mut stream, 2, &response("alice", b"", "", SHA2)).await;
        stream
    });
    assert_eq!(sidecar.accept().await.unwrap().unwrap().login.user, "alice");
    drop(client.await.unwrap());
}

#[tokio::test]
async fn two_hundred_silent_clients_keep_nobody_waiting() {
    let sidecar = MysqlSidecar::start().await;
    let mut silent = Vec::new();
    let request = packet(1, &settings(FLAGS | Capabilities::SSL.flags()));
    for number in 0..200 {
        let mut socket = sidecar.connect().await;
        let accepted = sidecar.socket().await;
        let mysql = sidecar.mysql.clone();
        let waiting = tokio::spawn(async move { Protocol::accept(&*mysql, accepted).await });
        // Nothing; one byte; half a request; a request; a request and half a ClientHello.
        let says: &[&[u8]] =
            &[b"", b"\x20", &request[..20], &request, &[&request[..], b"\x16\x03\x01\x02\0"].concat()];
        socket.write_all(says[number % says.len()]).await.unwrap();
        silent.push((socket, waiting));
    }
    let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
    let client = tokio::spawn(async move {
        let mut client = RawMysql::connect(socket, config).await.unwrap();
        client.send(2, &response("alice", b"", "", SHA2)).await;
        client
    });
    assert_eq!(sidecar.accept().await.unwrap().unwrap().login.user, "alice");
    drop(client.await.unwrap());
    for (_, waiting) in silent {
        assert!(!waiting.is_finished(), "a silent client was given up before its time");
        waiting.abort();
    }
}

/// `caching_sha2_password` without TLS begins with the server's RSA key. There is none here, nor anything that would use it.
#[tokio::test]
async fn nobody_is_given_a_key_of_ours() {
    let sidecar = MysqlSidecar::start().await;
    let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
    let client = tokio::spawn(async move {
        let mut client = RawMysql::connect(socket, config).await.unwrap();
        // "Send me your key", in the place of a scramble.
        client.send(2, &response("alice", b"\x02", "", SHA2)).await;
        client.read().await
    });
    let accepted = sidecar.accept().await.unwrap().unwrap();
    let refusal = protocols::Refusal::new(protocols::RefusalCode::AccessDenied, "no");
    accepted.client.refuse(refusal).await.unwrap();
    let (_, payload) = client.await.unwrap();
    assert_eq!(error(&payload).2, "no");
}

#[tokio::test]
async fn what_the_upstream_can_and_we_understand_is_offered() {
    let sidecar = MysqlSidecar::start().await;
    let mut socket = sidecar.connect().await;
    let accept = tokio::spawn({
        let (mysql, socket): (std::sync::Arc<Mysql>, _) = (sidecar.mysql.clone(), sidecar.socket().await);
        async move { Protocol::accept(&*mysql, socket).await }
    });
    let (_, greeting) = read_packet(&mut socket).await.unwrap();
    drop(socket);
    assert!(accept.await.unwrap().unwrap().is_none());
    let two = |at: usize| u32::from(u16::from_le_bytes([greeting[at], greeting[at + 1]]));
    let offered = Capabilities::new(two(20) | two(25) << 16, 0);
    let able = mysql_facts().capabilities;
    // A second password; and what only clients say (SSL_VERIFY_SERVER_CERT, REMEMBER_OPTIONS) or nobody does.
    let left_out = [28, 29, 30, 31].map(|bit| 1_u32 << bit).iter().fold(0, |all, bit| all | bit);
    let missing = able.flags() & !offered.flags() & !left_out;
    assert_eq!(missing, 0, "{missing:#010x}");
    let needed = Capabilities::MULTI_STATEMENTS | Capabilities::PS_MULTI_RESULTS | Capabilities::LOCAL_FILES;
    assert!(offered.contains(needed | Capabilities::CONNECT_ATTRS | Capabilities::QUERY_ATTRIBUTES));
}

/// Every command byte there is, at an upstream that answers each with an error of its own: OK would be ours.
#[tokio::test]
async fn no_command_is_answered_ok_by_us() {
    let sidecar = MysqlSidecar::start().await;
    let answer = b"\xff\x50\x04#HY000theirs";
    let (endpoint, upstream) = scripted(move |mut socket| async move {
        send(&mut socket, 0, &greeting(mysql_facts().capabilities.without(Capabilities::SSL).flags(), SHA2))
            .await;
        read_packet(&mut socket).await.unwrap();
        send(&mut socket, 2, OK).await;
        let mut forwarded = Vec::new();
        while let Ok((_, payload)) = read_packet(&mut socket).await {
            let kind = payload[0];
            if kind == 1 {
                break;
            }
            forwarded.push(kind);
            // Long data and a close are not answered.
            if ![24, 25].contains(&kind) {
                send(&mut socket, 1, answer).await;
            }
        }
        forwarded
    })
    .await;
    let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
    let client = tokio::spawn(async move {
        let mut client = RawMysql::connect(socket, config).await.unwrap();
        client.send(2, &response("alice", b"", "", SHA2)).await;
        assert_eq!(client.read().await.1[0], 0);
        let mut refused = Vec::new();
        for kind in (0..=255).filter(|kind| ![1, 24, 25].contains(kind)) {
            // Enough content for any of them.
            client.send(0, &[&[kind], &b"a\0\0\0\0\0\0\0\0\0\0\0"[..]].concat()).await;
            let (number, payload) = client.read().await;
            assert_eq!((number, payload[0]), (1, 0xFF), "command {kind}: {}", payload.escape_ascii());
            if error(&payload).2 != "theirs" {
                refused.push(kind);
            }
        }
        client.send(0, b"\x01").await;
        refused
    });
    let accepted = sidecar.accept().await.unwrap().unwrap();
    let session = sidecar.dial(&endpoint, &accepted.login).await.unwrap();
    let _ = accepted.client.relay(session, Memory::default(), never()).await;
    let (refused, forwarded) = (client.await.unwrap(), upstream.await.unwrap());
    assert!(refused.iter().all(|kind| !forwarded.contains(kind)), "{refused:?} {forwarded:?}");
    // Asleep, connect, time, delayed insert, change user, dumps, connect out, daemon, clone, and what nobody knows.
    for kind in [0, 11, 15, 16, 17, 18, 19, 20, 21, 29, 30, 32, 33, 34, 100, 249, 254, 255] {
        assert!(refused.contains(&kind), "{kind}");
    }
    assert!(forwarded.starts_with(&[2, 3, 4]) && forwarded.contains(&14), "{forwarded:?}");
}

/// Lengths of 2^32 and 2^64, in every place of a login and of commands where a client can write one.
#[tokio::test]
async fn lengths_that_lie_cost_nothing() {
    let sidecar = MysqlSidecar::start().await;
    for lie in [
        &b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\xfe\0\0\0\0\x01\0\0\0",
        b"\xfd\xff\xff\xff",
        b"\xff",
        b"\xfb",
    ] {
        let payload = [&settings(FLAGS)[..], b"alice\0", lie, b"scramble\0caching_sha2_password\0"].concat();
        let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
        let client = tokio::spawn(async move {
            let mut client = RawMysql::connect(socket, config).await.unwrap();
            client.send(2, &payload).await;
            error(&client.read().await.1)
        });
        assert!(matches!(sidecar.accept().await, Err(AcceptError::Refused(_))));
        assert_eq!(client.await.unwrap().0, 1835);
    }
}

#[tokio::test]
async fn an_upstream_that_floods_the_login_is_left() {
    let sidecar = MysqlSidecar::start().await;
    let (endpoint, upstream) = scripted(|mut socket| async move {
        send(&mut socket, 0, &greeting(mysql_facts().capabilities.without(Capabilities::SSL).flags(), SHA2))
            .await;
        let mut written = 0_usize;
        for number in 2..=255 {
            let flood = packet(number, &[&[1][..], &vec![b'x'; 60_000]].concat());
            if socket.write_all(&flood).await.is_err() {
                break;
            }
            written += flood.len();
        }
        let _ = socket.read_to_end(&mut Vec::new()).await;
        written
    })
    .await;
    let failed = sidecar.dial(&endpoint, &login()).await.unwrap_err();
    assert!(matches!(failed, DialError::Protocol(_)), "{failed:?}");
    upstream.await.unwrap();
}

//! Who connected to a local port: only processes of the user who runs tsh are served.
//!
//! Linux names the owner of every TCP socket in `/proc/net/tcp`, and in `/proc/net/tcp6` where a program reaches an IPv4
//! address through an IPv6 socket, as Java does. A connection whose other end is not found there, or is another user's,
//! is refused. The answer cannot go stale between accept and here: the two addresses are taken for as long as we hold our
//! end. Other systems do not tell; there, everybody on the machine can use the port while it is
//! open, as with any local forwarding.

use std::net::SocketAddr;

/// Why a local connection is refused.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The other end belongs to somebody else.
    #[error("it belongs to another user of this machine (uid {uid})")]
    OtherUser {
        /// Whose it is.
        uid: u32,
    },
    /// The system does not know the other end.
    #[error("its owner cannot be determined")]
    Unknown,
    /// The table cannot be read.
    #[error("its owner cannot be determined")]
    Table(#[from] std::io::Error),
    /// A task of ours failed.
    #[error("its owner cannot be determined")]
    Task(#[from] tokio::task::JoinError),
}

/// Checks that the process behind `peer`, connected to our `local` address, is ours.
///
/// # Errors
/// [`PeerError`]: do not serve it.
#[cfg(target_os = "linux")]
pub async fn require_same_user(peer: SocketAddr, local: SocketAddr) -> Result<(), PeerError> {
    let owner = tokio::task::spawn_blocking(move || linux::owner(peer, local)).await??;
    judge(owner, nix::unistd::geteuid().as_raw())
}

/// In a user namespace (a container) every user from outside is shown as this one (proc(5), `overflowuid`).
#[cfg(target_os = "linux")]
const EVERYBODY_ELSE: u32 = 65_534;

#[cfg(target_os = "linux")]
fn judge(owner: Option<u32>, ours: u32) -> Result<(), PeerError> {
    match owner {
        None | Some(EVERYBODY_ELSE) => Err(PeerError::Unknown),
        Some(uid) if uid == ours => Ok(()),
        Some(uid) => Err(PeerError::OtherUser { uid }),
    }
}

/// This system does not tell who connected.
///
/// # Errors
/// None here.
#[cfg(not(target_os = "linux"))]
pub async fn require_same_user(_peer: SocketAddr, _local: SocketAddr) -> Result<(), PeerError> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs::File,
        io::{self, BufRead, BufReader},
        net::{Ipv4Addr, SocketAddr},
    };

    /// The state of a socket that is connected and still held by a process. A socket that its process has closed is
    /// listed as root's, so no other state will do.
    const ESTABLISHED: &str = "01";

    /// The kernel lists its sockets piece by piece; one may be passed over while others come and go.
    const LOOKS: usize = 3;

    /// The owner of the socket whose own address is `peer` and whose other end is `local`.
    pub(super) fn owner(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
        for _ in 0..LOOKS {
            for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
                let table = match File::open(table) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    opened => BufReader::new(opened?),
                };
                if let Some(uid) = owner_in(table, peer, local)? {
                    return Ok(Some(uid));
                }
            }
        }
        Ok(None)
    }

    pub(super) fn owner_in(
        table: impl BufRead,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<Option<u32>> {
        let (Some(from), Some(to)) = (hexadecimal(peer), hexadecimal(local)) else { return Ok(None) };
        for line in table.lines() {
            if let Some(uid) = uid_of(&line?, &from, &to) {
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }

    /// proc(5): `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …`
    fn uid_of(line: &str, from: &str, to: &str) -> Option<u32> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let matches = ipv4(fields.next()?) == from && ipv4(fields.next()?) == to;
        if matches && fields.next()? == ESTABLISHED { fields.nth(3)?.parse().ok() } else { None }
    }

    /// An address of either table as the first would show it: `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2) is `a.b.c.d`.
    fn ipv4(address: &str) -> &str {
        let prefix = if cfg!(target_endian = "little") {
            "0000000000000000FFFF0000"
        } else {
            "00000000000000000000FFFF"
        };
        address.strip_prefix(prefix).unwrap_or(address)
    }

    /// The kernel prints the four bytes of an address as one number in its own byte order.
    fn hexadecimal(address: SocketAddr) -> Option<String> {
        let SocketAddr::V4(address) = address else { return None };
        let ip: Ipv4Addr = *address.ip();
        Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEADER: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn row(from: u16, to: u16, state: &str, uid: u32) -> String {
        let ip = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        format!(
            "   1: {ip}:{from:04X} {ip}:{to:04X} {state} 00000000:00000000 00:00000000 00000000 {uid:5}        0 12345 1 0000000000000000 20 4 30 10 -1\n"
        )
    }

    fn owner_in(table: &str) -> Option<u32> {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        linux::owner_in(table.as_bytes(), address(50_000), address(6_000)).ok().flatten()
    }

    #[test]
    fn the_owner_is_that_of_the_clients_end_not_of_ours() {
        let table = [HEADER, &row(6_000, 50_000, "01", 0), &row(50_000, 6_000, "01", 1000)].concat();
        assert_eq!(owner_in(&table), Some(1000));
    }

    #[test]
    fn only_a_user_who_is_told_apart_is_served() {
        assert!(judge(Some(1000), 1000).is_ok());
        assert!(matches!(judge(Some(0), 1000), Err(PeerError::OtherUser { uid: 0 })));
        assert!(matches!(judge(None, 1000), Err(PeerError::Unknown)));
        assert!(matches!(judge(Some(EVERYBODY_ELSE), EVERYBODY_ELSE), Err(PeerError::Unknown)));
    }

    #[test]
    fn a_socket_that_nobody_holds_any_more_has_no_owner() {
        for state in ["04", "05", "06", "08"] {
            assert_eq!(owner_in(&[HEADER, &row(50_000, 6_000, state, 0)].concat()), None);
        }
    }

    #[test]
    fn an_absent_socket_and_a_damaged_table_have_no_owner() {
        assert_eq!(owner_in(HEADER), None);
        assert_eq!(owner_in("garbage\n\n: :"), None);
        assert_eq!(owner_in(&row(50_001, 6_000, "01", 1000)), None);
    }

    #[tokio::test]
    async fn our_own_connection_is_served() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let local = listener.local_addr().unwrap();
        let _client = TcpStream::connect(local).await.unwrap();
        let (_socket, peer) = listener.accept().await.unwrap();
        require_same_user(peer, local).await.unwrap();
    }

    #[tokio::test]
    async fn our_own_connection_through_an_ipv6_socket_is_served() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let local = listener.local_addr().unwrap();
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), local.port()));
        // A machine without IPv6 has no such sockets.
        let Ok(_client) = TcpStream::connect(mapped).await else { return };
        let (_socket, peer) = listener.accept().await.unwrap();
        require_same_user(peer, local).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_already_closed_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let local = listener.local_addr().unwrap();
        drop(TcpStream::connect(local).await.unwrap());
        let (_socket, peer) = listener.accept().await.unwrap();
        assert!(matches!(require_same_user(peer, local).await, Err(PeerError::Unknown)));
    }
}

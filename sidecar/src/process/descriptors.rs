//! Files and sockets: as many as the system allows, and no more clients than those suffice for.
//!
//! Where they run out, what fails first is whoever needs the next one, which may be the audit spool of live sessions. So
//! connections are bounded before that.

use auth::identity::Protocol;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::{admission::Room, config::TargetConfig};

/// For all but clients: spool, recordings on their way to authd, authd, names being looked up; half of it for `/metrics`.
const KEPT: u64 = 128;

/// Descriptors of one connection: the client's and the upstream's; for SSH the recording of a terminal too.
fn of_connection(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::Postgres | Protocol::Mysql => 2,
        Protocol::Ssh => 3,
    }
}

/// The room on each listener that the system's limit leaves, which is raised as far as it may be.
pub(super) fn room(wanted: Room, targets: &[TargetConfig]) -> Room {
    // Where the limit cannot be had, it is found when it is met.
    let limit = raised().unwrap_or(u64::MAX);
    let room = room_within(limit, wanted, targets.iter().map(|target| target.protocol));
    if room.connections < wanted.connections {
        warn!(
            open_files = limit,
            max_connections = room.connections,
            wanted = wanted.connections,
            "the limit of open files leaves room for fewer connections on each listener: raise it, or lower max_connections"
        );
    }
    room
}

/// The limit of open files: the soft one, which is for programs that know no better, raised to the hard one.
fn raised() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

fn room_within(limit: u64, wanted: Room, protocols: impl Iterator<Item = Protocol>) -> Room {
    let of_one_each = protocols.map(of_connection).sum::<u64>().max(1);
    let most = usize::try_from(limit.saturating_sub(KEPT) / of_one_each).unwrap_or(usize::MAX).max(2);
    if wanted.connections <= most {
        return wanted;
    }
    // Whoever is unknown must leave room for who is not.
    let unknown = wanted.unknown.min(most / 2);
    let unknown_per_address = wanted.unknown_per_address.min(unknown);
    Room { connections: most, unknown, unknown_per_address }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Room = Room { connections: 1000, unknown: 400, unknown_per_address: 200 };

    #[test]
    fn what_suffices_is_left_as_it_is() {
        let one = [Protocol::Postgres].into_iter();
        assert_eq!(room_within(KEPT + 2000, WANTED, one), WANTED);
        assert_eq!(room_within(u64::MAX, WANTED, [Protocol::Ssh; 9].into_iter()), WANTED);
    }

    #[test]
    fn listeners_share_what_there_is_and_strangers_get_no_more_than_half_of_it() {
        let three = [Protocol::Postgres, Protocol::Mysql, Protocol::Ssh].into_iter();
        let room = room_within(1024, WANTED, three);
        assert_eq!(room, Room { connections: 128, unknown: 64, unknown_per_address: 64 });
        let nothing = room_within(10, WANTED, [Protocol::Ssh].into_iter());
        assert_eq!(nothing, Room { connections: 2, unknown: 1, unknown_per_address: 1 });
    }
}

//! Room that strangers share: so many in all, and so many of one address, so that nobody can take the whole of it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Room for so many, and for so many of one address.
#[derive(Clone)]
pub(crate) struct Room {
    crowd: Arc<Mutex<Crowd>>,
    all: usize,
    of_one_address: usize,
}

#[derive(Default)]
struct Crowd {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One place; given back when dropped.
pub(crate) struct Place {
    room: Room,
    address: IpAddr,
}

impl Room {
    pub(crate) fn new(all: usize, of_one_address: usize) -> Self {
        Self { crowd: Arc::default(), all, of_one_address }
    }

    /// `None`: no room.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = neighbourhood(address);
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let here = crowd.by_address.get(&address).copied().unwrap_or(0);
        if crowd.all >= self.all || here >= self.of_one_address {
            return None;
        }
        crowd.all += 1;
        crowd.by_address.insert(address, here + 1);
        Some(Place { room: self.clone(), address })
    }
}

/// What is counted as one address: of IPv6 the network of 64 bits, since whoever has one address there has all of them.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => Ipv6Addr::from_bits(long.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut crowd = self.room.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        crowd.all -= 1;
        match crowd.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(crowd.by_address.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_fill_the_room() {
        let room = Room::new(100, 10);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut places: Vec<_> = (0..10).map(|_| room.enter(one).unwrap()).collect();
        assert!(room.enter(one).is_none());
        assert!(room.enter(other).is_some());
        places.pop();
        assert!(room.enter(one).is_some());
        drop(places);
        assert!(room.crowd.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn many_addresses_have_no_more_than_all_of_it() {
        let room = Room::new(2, 1);
        let address = |n| IpAddr::from([192, 0, 2, n]);
        let _places = (room.enter(address(1)).unwrap(), room.enter(address(2)).unwrap());
        assert!(room.enter(address(3)).is_none());
    }

    #[test]
    fn one_ipv6_network_cannot_fill_the_room_with_its_many_addresses() {
        let room = Room::new(100, 10);
        let address = |network: u16, n: usize| -> IpAddr {
            Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, n.try_into().unwrap()).into()
        };
        let _places: Vec<_> = (0..10).map(|n| room.enter(address(1, n)).unwrap()).collect();
        assert!(room.enter(address(1, 10)).is_none());
        assert!(room.enter(address(2, 0)).is_some());
    }
}

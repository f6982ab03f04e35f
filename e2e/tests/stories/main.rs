//! Stories: people, administrators and thieves, with the built programs, from a login to the audit trail. What a single
//! protocol can do is beside, in `postgres`, `mysql` and `ssh`. Every test has a world of its own.
#![cfg(test)]

mod admin;
mod certificates;
mod evidence;
mod forge;
mod habits;
mod hostile;
mod live;
mod mysql;
mod office;
mod page;
mod passkeys;
mod people;
mod rotation;
mod story;
mod tools;
mod unread;
mod upstream;

//! First light: a session certificate opens PostgreSQL, end to end. Every test has a world of its own.
#![cfg(test)]

mod admin;
mod certificates;
mod evidence;
mod forge;
mod hostile;
mod live;
mod mysql;
mod office;
mod page;
mod passkeys;
mod people;
mod story;
mod tools;
mod upstream;
